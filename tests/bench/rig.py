"""A whole gateway as it is run, with a real local chain, the paid server behind it and a funded agent.

Must not know what is measured.  Theory: `gateway serve` in a process of its own, from a configuration file, in its
default log format; only limits and intervals are set so that they do not stand in a benchmark's way.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from contracts.codec import Address, checksum
from contracts.signature import address_of, load_key
from gateway.cli.operate import call
from gateway.config import load_config
from sandbox.chain import LocalBase
from tests.bench.processes import LOAD_CORE, ROOT, TEST_CORE, Child, pinned
from wallets.keystore import Keystore
from wallets.secret import Secret

HOST = "127.0.0.1"
FLOAT_BASE = 10**13
CREDIT = "1000000"
_PASSPHRASE = "bench passphrase"

_CONFIG = """
data_dir = "{directory}"
[server]
port = 0
[keystore]
passphrase = "env:BENCH_PASSPHRASE"
[chains.base]
chain_id = 8453
rpc = ["{rpc}"]
evidence_quorum = 1
poll_s = {poll_s}
allow_plain_http = true
[tokens.base-usdc]
[wallets.main]
address = "{wallet}"
tokens = ["base-usdc"]
max_value = "1"
[vendors.seller]
kind = "x402"
base_url = "http://{host}:{port}"
wallet = "main"
tokens = ["base-usdc"]
payees = ["{payee}"]
ceiling = "0.01"
allow_private = true
allow_plain_http = true
max_connections = 128
[vendors.seller.routes."/paid"]
window_min_s = {window_s}
window_max_s = {window_s}
[limits]
exposure_per_account = "1000000"
open_payments_per_vendor = 1000000
calls_per_vendor = 4096
unpaid_deliveries = 1000000
"""


@dataclass(frozen=True, slots=True)
class Rig:
    """What a section drives. `private_key` is the wallet's own, for the client that pays without the gateway."""

    directory: Path
    base: LocalBase
    seller: Child
    gateway: Child
    gateway_port: int
    api_key: str
    private_key: str

    def free(self, _number: int) -> bytes:
        """Return a request for the free document through the gateway."""
        return self._request("/proxy/seller/free", "")

    def paid(self, number: int) -> bytes:
        """Return a request that costs money through the gateway; each number is a purchase of its own."""
        return self._request(f"/proxy/seller/paid?n={number}", f"Idempotency-Key: bench-{number}\r\n")

    def _request(self, target: str, more: str) -> bytes:
        head = f"GET {target} HTTP/1.1\r\nHost: {HOST}\r\nAccept: */*\r\nX-Api-Key: {self.api_key}\r\n{more}\r\n"
        return head.encode()


@contextmanager
def work_directory() -> Iterator[Path]:
    """Make a directory on the checkout's own file system, since /tmp may be memory, and remove it at the end."""
    build = ROOT / ".build"
    build.mkdir(exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="bench-", dir=build))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def rig(*, poll_s: float = 30, window_s: int = 3600, keep: bool = False) -> Iterator[Rig]:
    """Start everything; end everything. `keep`: the seller keeps what it was paid, for somebody to collect."""
    with ExitStack() as stack:
        stack.enter_context(pinned(LOAD_CORE))
        directory = stack.enter_context(work_directory())
        base = stack.enter_context(LocalBase.start(block_time_s=1))
        payee = base.dev_account(11)[0]
        wallet, private_key = _wallet(directory)
        base.mint(checksum(wallet), FLOAT_BASE)
        base.mine(4)  # the float must be final before the gateway's first look at it
        seller = stack.enter_context(
            Child.start(
                ["-m", "tests.bench.paid_server"],
                core=LOAD_CORE,
                log=directory / "seller.log",
                config={"pay_to": payee, "keep": keep},
            )
        )
        os.environ["BENCH_PASSPHRASE"] = _PASSPHRASE
        path = directory / "gateway.toml"
        path.write_text(
            _CONFIG.format(
                directory=directory,
                rpc=base.rpc_url,
                poll_s=poll_s,
                wallet=checksum(wallet),
                host=HOST,
                port=seller.info["port"],
                payee=payee,
                window_s=window_s,
            )
        )
        gateway = stack.enter_context(
            Child.start(
                ["-m", "gateway", "--config", str(path), "serve"], core=TEST_CORE, log=directory / "gateway.log"
            )
        )
        port = int(str(gateway.info["base_url"]).rpartition(":")[2])
        yield Rig(directory, base, seller, gateway, port, _agent(path), private_key)


def _wallet(directory: Path) -> tuple[Address, str]:
    passphrase = Secret(_PASSPHRASE)
    keystore = Keystore(directory / "keystore")
    keystore.create(passphrase, scrypt_n=2**14)
    secret = os.urandom(32)
    keystore.add_wallet(passphrase, Secret(secret))
    return address_of(load_key(secret)), "0x" + secret.hex()


def _agent(path: Path) -> str:
    config = load_config(path, os.environ)
    call(config, "account_open", {"account": "bench", "name": "Bench"})
    call(config, "account_credit", {"account": "bench", "amount": CREDIT, "reference": "bench"})
    made = call(config, "key_new", {"account": "bench"})
    return str(made["secret"])
