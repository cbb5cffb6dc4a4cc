"""One gateway process that pays four stock sellers, two chains below them, and what the chains and the book say of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
from e2e_agent import Agent, eventually
from e2e_config import PASSPHRASE_VARIABLE
from e2e_gateway import GatewayHome
from stalls import VALID_S, Openings, base_endpoint

from gateway.store.load import verify_book
from sandbox.chain import LocalBase
from sandbox.tempo.chain import LocalTempo

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from e2e_gateway import Gateway
    from stalls import Stall

    from sandbox.tempo.shim import Shim

FLOAT_BASE = 1_000_000_000
WITNESSES = 3  # two must agree, so one may fail or lie
STUCK_S = 1.5  # longer than a block, and than any fault that only delays
TIMEOUT = aiohttp.ClientTimeout(total=150)
TRANSFER = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
AUTHORIZATION_USED = "0x98de503528ee59b575ef0c0a2576a82497bfc029a5685b209e9ec333479b10a5"

CONFIG = """
data_dir = "{directory}"
[server]
port = 0
shutdown_timeout_s = 5
[keystore]
passphrase = "env:{passphrase}"
[chains.base]
chain_id = 8453
rpc = {base}
evidence_quorum = 2
poll_s = 0.25
allow_plain_http = true
[chains.tempo]
chain_id = 42431
rpc = {tempo}
evidence_quorum = 2
poll_s = 0.25
payment_valid_for_s = {valid_s}
allow_plain_http = true
[tokens.base-usdc]
[tokens.moderato-pathusd]
[wallets.main]
address = "{wallet}"
tokens = ["base-usdc", "moderato-pathusd"]
max_value = "1"
[limits]
exposure_per_account = "1000"
open_payments_per_vendor = 1000
calls_per_vendor = 1000
unpaid_deliveries = 1000
{vendors}
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """What an agent got."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def payment_id(self) -> str | None:
        """The payment that the answer speaks of, good or bad."""
        named = self.headers.get("X-Payment-Id")
        return named if named is not None else json.loads(self.body).get("payment_id")


@dataclass(frozen=True, slots=True)
class Market:
    """Everything. `witnesses` are the endpoints that the gateway itself reads, by chain."""

    base: LocalBase
    tempo: LocalTempo
    stalls: Mapping[str, Stall]
    witnesses: Mapping[str, Sequence[Shim]]
    home: GatewayHome
    gateway: Gateway

    def agent(self, credit: str = "100") -> Agent:
        """Return a new account with credit and a key."""
        return Agent.open(self.gateway, credit)

    def debits(self, name: str) -> list[str]:
        """Return what the chain itself knows each payment to a seller by: the memo, or the authorization's nonce."""
        stall, wallet = self.stalls[name], self.home.wallet
        if stall.of.chain == "tempo":
            return [moved.memo for moved in self.tempo.memo_transfers(sender=wallet, recipient=stall.payee)]
        used = self._base_logs(AUTHORIZATION_USED, wallet)
        moved = {log["transactionHash"] for log in self._base_logs(TRANSFER, wallet, stall.payee)}
        return [log["topics"][2] for log in used if log["transactionHash"] in moved]

    def income_base(self, name: str) -> int:
        """Return what a seller's address holds."""
        stall = self.stalls[name]
        if stall.of.chain == "tempo":
            return self.tempo.balance_of(stall.payee)
        return self.base.balance_of(stall.payee)

    def payments(self, name: str) -> list[dict[str, Any]]:
        """Return the book's rows of every payment to a seller, `nonce` as 0x text."""
        with contextlib.closing(sqlite3.connect(f"file:{self.home.database}?mode=ro", uri=True)) as db:
            db.row_factory = sqlite3.Row
            rows = [dict(row) for row in db.execute("SELECT * FROM payments WHERE vendor = ?", (name,))]
        return [{**row, "nonce": "0x" + row["nonce"].hex()} for row in rows]

    def verify_book(self) -> None:
        """Prove the book as it is on disk (P1, the journal included)."""
        with contextlib.closing(sqlite3.connect(f"file:{self.home.database}?mode=ro", uri=True)) as db:
            verify_book(db)

    def wait_told(self, *names: str, within_s: float = 120) -> None:
        """Wait until the chain has told what became of every payment to these sellers."""

        def told() -> bool:
            return all(row["transfer"] in ("settled", "dead") for name in names for row in self.payments(name))

        eventually(told, within_s=within_s, what=f"the end of every payment to {', '.join(names)}", pause_s=0.3)

    def _base_logs(self, topic: str, *parties: str) -> list[dict[str, Any]]:
        padded = ["0x" + party.removeprefix("0x").lower().rjust(64, "0") for party in parties]
        wanted = {"address": self.base.token_address, "fromBlock": "0x0", "toBlock": "latest"}
        found: list[dict[str, Any]] = self.base.rpc("eth_getLogs", {**wanted, "topics": [topic, *padded]})
        return found


@contextlib.contextmanager
def open_market(directory: Path) -> Iterator[Market]:
    """Start the chains, the sellers at the same time, and the gateway, which knows of them what its configuration says."""
    with contextlib.ExitStack() as stack:
        base = stack.enter_context(LocalBase.start(block_time_s=1))
        tempo = stack.enter_context(LocalTempo.start())
        stalls = Openings(base, tempo, stack).all()
        witnesses = {
            "base": [stack.enter_context(base_endpoint(base)) for _ in range(WITNESSES)],
            "tempo": [tempo.another_endpoint() for _ in range(WITNESSES)],
        }
        home = GatewayHome(directory / "gateway")
        base.mint(home.wallet, FLOAT_BASE)
        tempo.fund({home.wallet: FLOAT_BASE})
        home.config.write_text(
            CONFIG.format(
                directory=home.directory,
                passphrase=PASSPHRASE_VARIABLE,
                wallet=home.wallet,
                valid_s=VALID_S,
                vendors="".join(stall.block() for stall in stalls.values()),
                **{chain: json.dumps([shim.url for shim in shims]) for chain, shims in witnesses.items()},
            )
        )
        gateway = stack.enter_context(home.start())
        yield Market(base, tempo, stalls, witnesses, home, gateway)


async def buy(agent: Agent, name: str, keys: Sequence[str], path: str = "/weather") -> list[Answer]:
    """Ask a seller for something priced, once for each idempotency key, all at the same time."""
    method, connector = ("POST" if path == "/echo" else "GET"), aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=TIMEOUT) as session:

        async def call(key: str) -> Answer:
            headers = {"Authorization": f"Bearer {agent.key}", "Idempotency-Key": key}
            url = f"{agent.gateway.base_url}/proxy/{name}{path}"
            body = {"for": key} if method == "POST" else None
            async with session.request(method, url, headers=headers, params={"for": key}, json=body) as answer:
                return Answer(answer.status, answer.headers.copy(), await answer.read())

        return await asyncio.gather(*(call(key) for key in keys))


@contextlib.contextmanager
def mended(base: LocalBase) -> Iterator[None]:
    """Do what the operators of PyPI x402's facilitator must.

    It gives a nonce away before it knows that its transaction was sent; one that was not leaves a gap, behind which every
    later one waits for good. Whoever has that key fills the gap, once it is plain that nothing else will.
    """
    ended = threading.Event()

    def mend() -> None:
        stuck: dict[str, tuple[str, float]] = {}
        while not ended.wait(0.2):
            queued = base.rpc("txpool_content")["queued"]
            counts = {address: base.rpc("eth_getTransactionCount", address, "pending") for address in queued}
            now = time.monotonic()
            stuck = {
                address: stuck[address] if stuck.get(address, ("", 0.0))[0] == count else (count, now)
                for address, count in counts.items()
            }
            for address, (_, since) in stuck.items():
                if now - since > STUCK_S:
                    base.rpc("eth_sendTransaction", {"from": address, "to": address})

    thread = threading.Thread(target=mend, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
