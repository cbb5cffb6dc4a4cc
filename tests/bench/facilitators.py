"""Three facilitators on one local Base: the gateway as it is run, and the official ones in Python and TypeScript.

Must not know what is measured.  Theory: each has a relayer of its own and is asked over HTTP with the same bodies; only the
gateway wants a key, and only it writes down what it does. The chain is the judge: what moved is counted there.
"""

import itertools
import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from coincurve import PrivateKey

from contracts import batch
from contracts.codec import Address, checksum, parse_address, to_hex
from contracts.eip3009 import Authorization
from contracts.keccak import keccak256
from contracts.signature import address_of, load_key, sign_digest
from contracts.tokens import BASE_USDC
from gateway.cli.operate import call
from gateway.config import load_config
from sandbox.chain import LocalBase
from sandbox.process import sandbox_python
from tests.bench.processes import LOAD_CORE, ROOT, TEST_CORE, Child, pinned
from tests.bench.rig import HOST, work_directory
from wallets.keystore import Keystore
from wallets.secret import Secret

ETHER = 10**18
POCKET_BASE = 10**13
PRICE_BASE = 10_000
PAYERS = 64
WINDOW_S = 240
BLOCK_GAS = 240_000_000
"""Base's own blocks are about as large; anvil's default would hold 350 transactions of one settlement."""
_PASSPHRASE = "bench passphrase"
_SELLER = "bench"

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
allow_plain_http = true
[tokens.base-usdc]
[wallets.main]
address = "{wallet}"
tokens = ["base-usdc"]
max_value = "1"
[relayers.one]
address = "{relayer}"
chains = ["base"]
[facilitator]
tokens = ["base-usdc"]
per_payer_per_minute = 1000000
per_payee_per_minute = 1000000
"""


@dataclass(frozen=True, slots=True)
class Contestant:
    """One running facilitator. `payee` is paid by nobody but through it."""

    child: Child
    base_url: str
    payee: Address
    headers: str = ""

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self.base_url.rpartition(":")[2].partition("/")[0])

    def request(self, verb: str, body: bytes) -> bytes:
        """Return a whole request."""
        path = self.base_url.partition(f"{HOST}:{self.port}")[2]
        head = f"POST {path}/{verb} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n{self.headers}"
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


@dataclass(slots=True)
class Payments:
    """Signs payments, each with a nonce of its own, by payers that take turns."""

    keys: list[tuple[PrivateKey, Address]] = field(default_factory=list)
    numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    def body(self, payee: Address) -> bytes:
        """Return what a seller sends to have one verified or settled."""
        number = next(self.numbers)
        key, payer = self.keys[number % len(self.keys)]
        nonce = keccak256(b"bench %d" % number)
        before_s = int(time.time()) + WINDOW_S
        signed = Authorization(BASE_USDC, payer, payee, PRICE_BASE, 0, before_s, nonce)
        asked = {
            "scheme": "exact",
            "network": "eip155:8453",
            "amount": str(PRICE_BASE),
            "asset": checksum(BASE_USDC.address),
            "payTo": checksum(payee),
            "maxTimeoutSeconds": WINDOW_S,
            "extra": {"name": BASE_USDC.name, "version": BASE_USDC.version},
        }
        terms = {
            "from": checksum(payer),
            "to": checksum(payee),
            "value": str(PRICE_BASE),
            "validAfter": "0",
            "validBefore": str(before_s),
            "nonce": to_hex(nonce),
        }
        payload = {
            "x402Version": 2,
            "resource": {"url": "http://seller.test/weather", "description": "weather", "mimeType": "application/json"},
            "accepted": asked,
            "payload": {"signature": to_hex(sign_digest(key, signed.digest)), "authorization": terms},
        }
        return json.dumps({"x402Version": 2, "paymentPayload": payload, "paymentRequirements": asked}).encode()


@dataclass(frozen=True, slots=True)
class Facilitators:
    """The chain, the gateway's facilitator, and how to start the official ones, each as often as wanted."""

    directory: Path
    base: LocalBase
    payments: Payments
    ours: Contestant

    @contextmanager
    def python(self) -> Iterator[Contestant]:
        """The official one in Python, as it ships."""
        with Child.start(
            ["-m", "tests.bench.official_facilitator", "--config", "-"],
            core=TEST_CORE,
            log=self.directory / "python.log",
            python=sandbox_python(),
            config=self._config(0),
        ) as child:
            yield Contestant(child, child.info["base_url"], _address(b"python's seller"))

    @contextmanager
    def typescript(self, *, tuned: bool) -> Iterator[Contestant]:
        """The official one in TypeScript: as its example ships, or with nonces of its own."""
        program = ROOT / "sandbox" / "sellers" / "facilitator.mjs"
        with Child.start(
            [str(program)],
            core=TEST_CORE,
            log=self.directory / "typescript.log",
            python="node",
            config={**self._config(2 if tuned else 1), "tuned": tuned},
        ) as child:
            yield Contestant(child, child.info["base_url"], _address(b"typescript's seller"))

    def _config(self, index: int) -> dict[str, object]:
        return {"rpc_url": self.base.rpc_url, "relayer_key": self.base.dev_account(index)[1]}


@contextmanager
def facilitators() -> Iterator[Facilitators]:
    """Start chain and gateway; end everything."""
    with ExitStack() as stack:
        stack.enter_context(pinned(LOAD_CORE))
        directory = stack.enter_context(work_directory())
        base = stack.enter_context(LocalBase.start(block_time_s=1))
        payments = Payments([(key, address_of(key)) for key in (_key(b"payer %d" % n) for n in range(PAYERS))])
        wallet, relayer = _keystore(directory)
        _prepare(base, payments, wallet, relayer)
        os.environ["BENCH_PASSPHRASE"] = _PASSPHRASE
        path = directory / "gateway.toml"
        path.write_text(
            _CONFIG.format(directory=directory, rpc=base.rpc_url, wallet=checksum(wallet), relayer=checksum(relayer))
        )
        gateway = stack.enter_context(
            Child.start(
                ["-m", "gateway", "--config", str(path), "serve"], core=TEST_CORE, log=directory / "gateway.log"
            )
        )
        url = f"{gateway.info['base_url']}/facilitator"
        ours = Contestant(gateway, url, _address(b"our seller"), f"X-Api-Key: {_seller(path)}\r\n")
        yield Facilitators(directory, base, payments, ours)


def _prepare(base: LocalBase, payments: Payments, wallet: Address, relayer: Address) -> None:
    base.rpc("evm_setBlockGasLimit", hex(BLOCK_GAS))
    payees = [_address(text) for text in (b"python's seller", b"typescript's seller", b"our seller")]
    # Payees hold the token already, as sellers do: a first payment would cost more than all others.
    base.fund({checksum(each): POCKET_BASE for each in (*(payer for _, payer in payments.keys), *payees, wallet)})
    base.rpc("anvil_setBalance", checksum(relayer), hex(1000 * ETHER))
    to, data = batch.deployment()
    deploy = {"from": base.relayer, "to": checksum(to), "data": to_hex(data), "gas": hex(batch.TRANSACTION_GAS_MAX)}
    tx_hash = base.rpc("eth_sendTransaction", deploy)
    base.mine(4)  # the wallet's float must be final before the gateway's first look at it
    base.receipt(tx_hash)


def _keystore(directory: Path) -> tuple[Address, Address]:
    passphrase, keystore = Secret(_PASSPHRASE), Keystore(directory / "keystore")
    keystore.create(passphrase, scrypt_n=2**14)
    return keystore.new_wallet(passphrase), keystore.new_wallet(passphrase)


def _seller(path: Path) -> str:
    config = load_config(path, os.environ)
    call(config, "account_open", {"account": _SELLER, "name": "Bench"})
    call(config, "sellers_set", {"account": _SELLER, "gas_budget": "1000"})
    return str(call(config, "key_new", {"account": _SELLER, "scopes": ["settle"]})["secret"])


def _key(text: bytes) -> PrivateKey:
    return load_key(keccak256(text))


def _address(text: bytes) -> Address:
    return parse_address("0x" + keccak256(text)[:20].hex())
