"""The paying flow on real parts against MPP sellers: store, signer, HTTP client, tracker, and a quorum on a local Tempo.

Only the vendor's module is the test's own: the routes that these tests need, as data. The seller is mppx, in its own
process, and reaches the chain by an endpoint of its own, so that what is broken there is not broken for us.
"""

import asyncio
import contextlib
import secrets
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import requests

from contracts.codec import Address, parse_address, to_hex
from contracts.signature import address_of, load_key
from contracts.tokens import MODERATO_PATHUSD
from gateway.chains.broadcast import RpcBroadcaster
from gateway.chains.finality import Finality
from gateway.chains.quorum import QuorumChain
from gateway.chains.rpc import RpcEndpoint
from gateway.core import commands as c
from gateway.core.apikeys import new_key
from gateway.core.payment import Transfer
from gateway.core.records import AgentAccount, ApiKey, Payment
from gateway.core.routes import Match, Pricing, Route, Window
from gateway.flow.answers import Answers
from gateway.flow.call import Call, Reply
from gateway.flow.credentials import TempoFees
from gateway.flow.floats import Watched
from gateway.flow.heads import Heads
from gateway.flow.present import Presenter, Surrogates
from gateway.flow.promise import Promiser
from gateway.flow.prove import Prover
from gateway.flow.quote import Quoter
from gateway.flow.recover import Recovery
from gateway.flow.settle import Sightings, Tracker
from gateway.flow.spend import Spend
from gateway.flow.tasks import Tasks
from gateway.http.client import HttpUpstream
from gateway.http.egress import EgressRule, Origin
from gateway.http.port import UpstreamRequest, UpstreamResponse
from gateway.ports import VendorTerms
from gateway.store.load import verify_book
from gateway.store.sqlite import SqliteStore
from gateway.system import SystemClock, SystemEntropy
from gateway.vendors.generic import GenericVendor
from gateway.vendors.surrogate import digest
from sandbox.process import SandboxProcess
from sandbox.tempo.chain import LocalTempo
from tests.factories import never_frozen
from wallets.guard import Guard, Policy, WalletPolicy
from wallets.sealing import Sealer
from wallets.secret import Secret
from wallets.signer import LocalSigner
from wallets.watermark import Watermark

TOKEN = MODERATO_PATHUSD
FUNDS_BASE = 20_000_000
REALM = "127.0.0.1"
LIVES_S = 8
PARTNER = "0x000000000000000000000000000000000000beef"
SMALL = b'{"size":"small","region":"nyc1","minutes":60}'
SMALL_BASE = 23_400
LIMITS = c.AccountLimits(10**12, 10_000, 10_000, 10_000, 86_400_000)

_PRICED: dict[str, Any] = {"pricing": Pricing.PRICED, "ceiling_base": 1_000_000, "window": Window(5, 60)}
ROUTES = (
    Route("create", ("POST",), ("v1", "servers"), **_PRICED),
    Route("list", ("GET",), ("v1", "servers"), proof=True),
    Route("delete", ("DELETE",), ("v1", "servers", "{ref}"), proof=True),
    Route("sizes", ("GET",), ("v1", "catalog", "sizes"), proof=True),
)


class Seller(GenericVendor):
    """The vendor as these tests know it: `routes` are those of its document that they use."""

    def __init__(self, origin: str, terms: VendorTerms) -> None:
        super().__init__("drop", origin, terms, ceiling_base=1_000_000)
        self.routes = ROUTES


class Recording:
    """The client, with what left it."""

    def __init__(self, client: HttpUpstream) -> None:
        self._client = client
        self.seen: list[UpstreamRequest] = []

    async def send(self, origin: str, request: UpstreamRequest) -> UpstreamResponse:
        """Send it."""
        self.seen.append(request)
        return await self._client.send(origin, request)

    async def close(self) -> None:
        """Close the client."""
        await self._client.close()

    @property
    def shown(self) -> list[UpstreamRequest]:
        """The requests that carried a credential."""
        return [one for one in self.seen if any(value.startswith("Payment ") for _, value in one.headers)]


@dataclass
class Desk:
    """Everything, running, for one seller; acc_1 has USD 100 and the wallet FUNDS_BASE of pathUSD."""

    tempo: LocalTempo
    process: SandboxProcess
    database: Path
    store: SqliteStore
    wire: Recording
    spend: Spend
    answers: Answers
    recovery: Recovery
    tracker: Tracker
    vendor: Seller
    key: ApiKey
    wallet: Address
    asked: int = 0

    def call(self, method: str, path: str, body: bytes = b"", **changes: Any) -> Call:
        """Return a call of acc_1."""
        match: Match | None = self.vendor.match(method, path)
        assert match is not None, path
        self.asked += 1
        headers = (("Content-Type", "application/json"),) if body else ()
        call = Call(self.key, f"req_{self.asked}", self.vendor, match, method, path, headers, body)
        return replace(call, **changes)

    async def run(self, method: str, path: str, body: bytes = b"", **changes: Any) -> Reply:
        """Run a call, whose answer reaches the agent."""
        reply = await self.spend.run(self.call(method, path, body, **changes))
        if reply.delivered is not None:
            await reply.delivered()
        return reply

    async def payment(self, payment_id: str | None) -> Payment:
        """Return a payment as committed."""
        found = await self.store.payment(payment_id or "")
        assert found is not None
        return found

    @property
    def open(self) -> list[Payment]:
        """The open payments."""
        return list(self.store.view.open_payments.values())

    async def until(self, done: Callable[[], bool], within_s: float = 40.0) -> None:
        """Let the tracker look until something is so."""
        async with asyncio.timeout(within_s):
            while not done():
                await self.tracker.poll()
                await asyncio.sleep(0.2)

    async def followed(self, within_s: float = 20.0) -> None:
        """Let the tracker look until the chain has told what became of every payment."""

        def told() -> bool:
            return all(p.axes.transfer is not Transfer.PRESENTED for p in self.open)

        await self.until(told, within_s)

    def fault(self, kind: str, route: str = "*", **parameters: Any) -> None:
        """Let the seller misbehave."""
        body = {"kind": kind, "route": route, **parameters}
        answer = requests.post(self.process.admin_url + "/admin/faults", json=body, timeout=10)
        assert answer.status_code == 200, answer.text

    def state(self) -> Any:
        """Return all that the seller knows."""
        return requests.get(self.process.admin_url + "/admin/state", timeout=10).json()

    @property
    def pay_to(self) -> str:
        """Where the seller is paid."""
        return str(self.process.info["pay_to"])

    def income(self) -> int:
        """Return what the seller's address holds."""
        return self.tempo.balance_of(self.pay_to)

    def debits(self) -> list[Any]:
        """Return the wallet's transfers with a memo."""
        return self.tempo.memo_transfers(sender=to_hex(self.wallet))

    def rows(self, sql: str) -> list[dict[str, Any]]:
        """Return rows of the database, once its books are seen to be right."""
        with contextlib.closing(sqlite3.connect(self.database)) as db:
            db.row_factory = sqlite3.Row
            verify_book(db)
            return [dict(row) for row in db.execute(sql)]

    def tasks(self) -> list[tuple[str, str]]:
        """Return kind and subject of every task."""
        return [(row["kind"], row["subject"]) for row in self.rows("SELECT kind, subject FROM tasks ORDER BY id")]

    def balanced(self) -> bool:
        """Say whether the book has what the chain has, with nothing set aside."""
        balance = self.store.view.wallets[to_hex(self.wallet), TOKEN.asset_id]
        return (balance.available_base, balance.held_base) == (self.tempo.balance_of(to_hex(self.wallet)), 0)


@contextlib.asynccontextmanager
async def tempo_desk(
    tempo: LocalTempo,
    process: SandboxProcess,
    directory: Path,
    *,
    payees: Iterable[str] = (),
    lives_s: int = LIVES_S,
    **terms: Any,
) -> AsyncIterator[Desk]:
    """Start everything for a seller; `payees` may be paid besides it, `lives_s` is what is signed for.

    `terms` change what the operator allows.
    """
    clock, entropy = SystemClock(), SystemEntropy()
    private = Secret(secrets.token_bytes(32))
    wallet = address_of(load_key(private.reveal()))
    tempo.fund({to_hex(wallet): FUNDS_BASE})
    payable = frozenset(parse_address(each) for each in (process.info["pay_to"], *payees))
    allowed = VendorTerms(wallet, (TOKEN,), payable, 0, {}, 60, 600, LIMITS, ("mpp",), frozenset({REALM}))
    vendor = Seller(process.base_url, replace(allowed, **terms))
    async with contextlib.AsyncExitStack() as stack:
        endpoints = [RpcEndpoint(tempo.another_endpoint().url) for _ in range(2)]
        chain = QuorumChain(endpoints, chain_id=TOKEN.chain_id, finality=Finality.parse("finalized"))
        await stack.enter_async_context(chain)
        store = await SqliteStore.open(directory / "gateway.db")
        stack.push_async_callback(store.close)
        key = await _fund(store)
        watermark = Watermark.create(directory / "watermark")
        stack.callback(watermark.close)
        rule = EgressRule(
            Origin.parse(process.base_url), allow_private=True, allow_plain_http=True, max_connections=128
        )
        wire = Recording(HttpUpstream([rule]))
        stack.push_async_callback(wire.close)
        heads, sealer = Heads(), Sealer(Secret(b"\x22" * 32))
        tracker = Tracker(
            store=store,
            chain=chain,
            watched=[Watched(wallet, TOKEN)],
            heads=heads,
            sightings=Sightings(),
            clock=clock,
            entropy=entropy,
            float_every_s=0.0,
        )
        await tracker.poll()
        realms = frozenset({(TOKEN.chain_id, REALM)})
        policy = WalletPolicy(
            frozenset({TOKEN.chain_id}), {TOKEN.key: 10**9}, payable, 60, realms=realms, max_fee_base=100_000
        )
        guard = Guard(Policy({wallet: policy}, frozenset({wallet})), never_frozen)
        signers = {bytes(wallet): LocalSigner(wallet, private, guard, watermark, lambda: clock.now_ms() // 1000)}
        surrogates = Surrogates(lambda _vendor, real: real, digest)
        broadcasters = {TOKEN.chain_id: RpcBroadcaster(endpoints, TOKEN.chain_id)}
        presenter = Presenter(store, wire, sealer, surrogates, clock, broadcasters)
        answers = Answers(store=store, sealer=sealer, watermark=watermark, clock=clock)
        fees = {TOKEN.chain_id: TempoFees(valid_for_s=lives_s)}
        tasks = Tasks(store, clock, entropy)
        spend = Spend(
            store=store,
            upstream=wire,
            quoter=Quoter(store.view, frozenset({wallet}), clock),
            promiser=Promiser(signers, heads, sealer, clock, entropy, fees),
            presenter=presenter,
            prover=Prover(store=store, upstream=wire, signers=signers, watermark=watermark, tasks=tasks, clock=clock),
            answers=answers,
            tasks=tasks,
            clock=clock,
        )
        recovery = Recovery(
            store=store, answers=answers, presenter=presenter, vendors={"drop": vendor}, heads=heads, clock=clock
        )
        yield Desk(
            *(tempo, process, directory / "gateway.db", store, wire, spend, answers, recovery, tracker, vendor, key),
            wallet,
        )
        await recovery.drain(5.0)
        await answers.drain(5.0)


async def _fund(store: SqliteStore) -> ApiKey:
    now_ms = SystemClock().now_ms()
    key = new_key("acc_1", "test", ("proxy",), (), now_ms, SystemEntropy().bytes).key
    for command in (
        c.OpenAccount(AgentAccount("acc_1", "acc_1", now_ms)),
        c.CreditAccount("acc_1", 100_000_000, "credit", "", "test", now_ms),
        c.AddKey(key),
    ):
        assert isinstance(await store.post(command), c.Done)
    return key
