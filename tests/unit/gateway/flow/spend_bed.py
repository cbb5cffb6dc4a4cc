"""Spending on real parts and one line to a scripted seller: a SqliteStore, a signing wallet, sealed attempts, a still clock.

The line takes the place of the network alone. What chains would tell (heads, evidence) is put in directly, and time passes
when a test says so.
"""

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from contracts.codec import Address, checksum
from contracts.keccak import keccak256
from contracts.signature import address_of, load_key
from contracts.tokens import BASE_SEPOLIA_USDC, BASE_USDC, MODERATO_PATHUSD, Token
from gateway.core import commands as c
from gateway.core.apikeys import new_key
from gateway.core.commands import AccountLimits
from gateway.core.problems import Problem
from gateway.core.records import AgentAccount, ApiKey, Evidence, Payment
from gateway.core.routes import Match, Ownership, Pricing, Represent, Route, Window
from gateway.flow.answers import Answers
from gateway.flow.call import Call, Reply
from gateway.flow.heads import Heads
from gateway.flow.present import Presenter, Surrogates
from gateway.flow.promise import Promiser
from gateway.flow.prove import Prover
from gateway.flow.quote import Quoter
from gateway.flow.recover import Recovery
from gateway.flow.spend import Spend
from gateway.flow.tasks import Tasks
from gateway.http.port import UpstreamRequest, UpstreamResponse
from gateway.ports import Block, ChainUnavailable, Created, Reading, Vendor, VendorTerms
from gateway.store.sqlite import SqliteStore
from gateway.system import SystemEntropy
from gateway.vendors.generic import GenericVendor
from gateway.vendors.surrogate import digest, make_surrogate
from tests.factories import never_frozen
from wallets.guard import Guard, Policy, WalletPolicy
from wallets.sealing import Sealer, derive_key
from wallets.secret import Secret
from wallets.signer import LocalSigner
from wallets.watermark import Watermark

NOW_MS = 1_800_000_000_000
PAYEE = Address(b"\x77" * 20)
SPLIT = Address(b"\x78" * 20)
PAYEES = frozenset({PAYEE, SPLIT})
PRICE_BASE = 250_000
WALLET_KEY = b"\x11" * 32
WALLET = address_of(load_key(WALLET_KEY))
TOKENS = (BASE_USDC, BASE_SEPOLIA_USDC, MODERATO_PATHUSD)
REALM = "shop.test"
LIMITS = AccountLimits(10**12, 10_000, 10_000, 10_000, 86_400_000)
WINDOW_S = 120

_PRICED: dict[str, Any] = {"pricing": Pricing.PRICED, "ceiling_base": 1_000_000, "window": Window(60, WINDOW_S)}
ROUTES = (
    Route("free", ("GET", "POST"), ("free", "{rest*}")),
    Route("make", ("POST",), ("make", "{rest*}"), ownership=Ownership.CREATES),
    Route("server", ("GET",), ("servers", "{ref}"), ownership=Ownership.OWNER, ref_parameter="ref"),
    Route("priced", ("GET", "POST"), ("priced", "{rest*}"), represent=Represent.YES, **_PRICED),
    Route("once", ("POST",), ("once", "{rest*}"), represent=Represent.NO, **_PRICED),
    Route("maybe", ("GET", "POST"), ("maybe", "{rest*}"), **{**_PRICED, "pricing": Pricing.MAYBE}),
)

Answering = Callable[[UpstreamRequest], Awaitable[UpstreamResponse]]


class Shop(GenericVendor):
    """A stranger with declared routes: /make tells of a server that cost nothing."""

    def read(self, match: Match, answer: UpstreamResponse, surrogate: Callable[[str], str]) -> Reading:
        """Read as a stranger's; of /make, take over the server that it names."""
        reading = super().read(match, answer, surrogate)
        if match.route.name != "make" or answer.status != 200:
            return reading
        return replace(reading, created=Created(json.loads(answer.body)["server"], "box", "active", None, None))


class StillClock:
    """The Clock port: stands still until somebody waits or a test moves it."""

    def __init__(self) -> None:
        self.ms = NOW_MS

    def now_ms(self) -> int:
        """Return milliseconds since the epoch."""
        return self.ms

    async def sleep(self, seconds: float) -> None:
        """Let the time pass at once."""
        self.ms += int(seconds * 1000)
        await asyncio.sleep(0)


@dataclass
class Line:
    """The Upstream port: keeps what was sent to whom, and answers as `answering` says once a request is paid."""

    answering: Answering
    first: Answering | None = None
    seen: list[UpstreamRequest] = field(default_factory=list)
    origins: list[str] = field(default_factory=list)

    async def send(self, origin: str, request: UpstreamRequest) -> UpstreamResponse:
        """A challenge for what is unpaid, the scripted answer for the rest."""
        self.seen.append(request)
        self.origins.append(origin)
        if paid(request):
            return await self.answering(request)
        if self.first is not None:
            return await self.first(request)
        return respond(402, json.dumps(challenge()).encode()) if "/free" not in request.target else respond()

    async def close(self) -> None:
        """Nothing is open."""

    @property
    def presented(self) -> list[UpstreamRequest]:
        """The requests that carried a credential."""
        return [request for request in self.seen if paid(request)]


class Chunks:
    """The rest of a body, as the client hands it over; `closed` once it was given up."""

    def __init__(self, parts: Iterable[bytes]) -> None:
        self.parts, self.closed = parts, False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the parts."""
        for part in self.parts:
            yield part

    async def close(self) -> None:
        """Give up the rest."""
        self.closed = True


class Node:
    """The Broadcaster port: keeps what was sent, and has it in a block with `status` after so many looks."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.status: int | None = 1
        self.looks = 0
        self.late = 0
        self.refuses = False

    async def send_raw(self, raw: bytes) -> None:
        """Take it; say so or not."""
        self.sent.append(raw)
        if self.refuses:
            raise ChainUnavailable("scripted")

    async def seen(self, tx_hash: bytes) -> int | None:
        """Return the status of what was sent under this hash."""
        self.looks += 1
        known = any(keccak256(raw) == tx_hash for raw in self.sent)
        return self.status if known and self.looks > self.late else None


class Hanging:
    """An answering that waits for `gate`, counts what arrived by target, and sets `began` at the first."""

    def __init__(self) -> None:
        self.gate, self.began = asyncio.Event(), asyncio.Event()
        self.arrived: Counter[str] = Counter()

    async def __call__(self, request: UpstreamRequest) -> UpstreamResponse:
        """Wait, then answer."""
        self.arrived[request.target] += 1
        self.began.set()
        await self.gate.wait()
        return respond()


def paid(request: UpstreamRequest) -> bool:
    """Whether a request carries a credential, or a proof of who asks."""
    return any(
        name.lower() in {"x-payment", "payment-authorization"} or value.startswith("Payment ")
        for name, value in request.headers
    )


def respond(status: int = 200, body: bytes = b"thing", **more: Any) -> UpstreamResponse:
    """Return an answer without headers."""
    return UpstreamResponse(status, CIMultiDictProxy(CIMultiDict()), body, **more)


def always(*outcomes: UpstreamResponse | Exception) -> Answering:
    """Return an answering that gives these in order, the last one for ever."""
    left = list(outcomes)

    async def answer(_: UpstreamRequest) -> UpstreamResponse:
        outcome = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return answer


def challenge(*tokens: Token, network: str = "base", **changes: Any) -> dict[str, Any]:
    """Return an x402 v1 challenge of the shop in these tokens, of Base if none is named."""
    networks = {BASE_USDC.chain_id: "base", BASE_SEPOLIA_USDC.chain_id: "base-sepolia"}
    offers = [
        {
            "scheme": "exact",
            "network": networks.get(token.chain_id, network),
            "maxAmountRequired": str(PRICE_BASE),
            "resource": "http://shop.test/thing",
            "description": "",
            "mimeType": "application/json",
            "payTo": checksum(PAYEE),
            "maxTimeoutSeconds": 90,
            "asset": checksum(token.address),
            "extra": {"name": token.name, "version": token.version},
            **changes,
        }
        for token in (tokens or (BASE_USDC,))
    ]
    return {"x402Version": 1, "error": "payment required", "accepts": offers}


def terms(payees: frozenset[bytes] = frozenset({PAYEE}), limits: AccountLimits = LIMITS) -> VendorTerms:
    """Return what the operator allows the shop."""
    return VendorTerms(WALLET, TOKENS, payees, 0, {}, 60, 600, limits)


def shop(name: str = "shop", **changes: Any) -> Shop:
    """Return the shop as the gateway knows it."""
    vendor = Shop(name, f"https://{name}.test", terms(**changes), ceiling_base=1_000_000)
    vendor.routes = ROUTES
    return vendor


@dataclass
class Bed:
    """Everything, running; acc_1 has USD 100 and acc_2 as well."""

    store: SqliteStore
    line: Line
    clock: StillClock
    watermark: Watermark
    guard: Guard
    signer: LocalSigner
    sealer: Sealer
    heads: Heads
    presenter: Presenter
    answers: Answers
    spend: Spend
    recovery: Recovery
    vendors: dict[str, Vendor]
    keys: dict[str, ApiKey]
    node: Node

    def call(self, path: str, method: str = "POST", body: bytes = b"", /, **changes: Any) -> Call:
        """Return a call of acc_1; `vendor` and `account` name others."""
        vendor = self.vendors[changes.pop("vendor", "shop")]
        match = vendor.match(method, path.partition("?")[0])
        assert match is not None, path
        key = self.keys[changes.pop("account", "acc_1")]
        call = Call(key, f"req_{len(self.line.seen)}", vendor, match, method, path, (), body)
        return replace(call, **changes)

    async def run(self, path: str, method: str = "POST", body: bytes = b"", /, **changes: Any) -> Reply:
        """Run a call."""
        return await self.spend.run(self.call(path, method, body, **changes))

    async def buy(self, path: str = "/priced/x", /, **changes: Any) -> Payment:
        """Run a call that pays and whose answer reaches the agent; return the payment."""
        reply = await self.run(path, **changes)
        assert reply.payment_id is not None
        await self.told(reply)
        return await self.payment(reply.payment_id)

    async def told(self, reply: Reply) -> None:
        """Let the agent have the whole answer, and the store know."""
        assert reply.delivered is not None
        await reply.delivered()
        await self.answers.drain(5.0)

    async def refused(self, path: str, method: str = "POST", body: bytes = b"", /, **changes: Any) -> Problem:
        """Run a call that must be refused; return the problem."""
        with pytest.raises(Problem) as caught:
            await self.run(path, method, body, **changes)
        return caught.value

    async def payment(self, payment_id: str) -> Payment:
        """Return a payment as committed."""
        found = await self.store.payment(payment_id)
        assert found is not None
        return found

    @property
    def open(self) -> list[Payment]:
        """The open payments, oldest first."""
        return list(self.store.view.open_payments.values())

    async def post(self, command: c.Command) -> c.Done:
        """Post a command that is done."""
        result = await self.store.post(command)
        assert isinstance(result, c.Done), result
        return result

    async def settle(self, payment: Payment, value_base: int | None = None) -> None:
        """Prove that a payment was collected."""
        value = payment.terms.value_base if value_base is None else value_base
        proof = replace(evidence(payment, "settled"), tx_hash=payment.terms.nonce, log_index=1, value_base=value)
        await self.post(c.RecordSettled(payment.id, proof, self.clock.ms))

    async def bury(self, payment: Payment) -> None:
        """Prove that a payment can never be collected."""
        await self.post(c.RecordDead(payment.id, evidence(payment, "unused"), self.clock.ms))

    async def freeze(self, scope: str, reason: str = "drill") -> None:
        """Stop a scope."""
        await self.post(c.SetFreeze(scope, frozen=True, reason=reason, by="me", at_ms=self.clock.ms))

    async def tasks(self) -> list[tuple[str, str]]:
        """Return kind and subject of every task."""
        return [(row["kind"], row["subject"]) for row in await self.store.query("SELECT kind, subject FROM tasks")]

    async def sweep(self) -> None:
        """Let recovery look once, and wait for what it starts."""
        await self.recovery.sweep()
        await self.recovery.drain(5.0)


def evidence(payment: Payment, kind: str) -> Evidence:
    """Return evidence about a payment."""
    chain_id = payment.terms.chain_id
    return Evidence(kind, chain_id, 120, b"\x0b" * 32, NOW_MS // 1000, ("one", "two"), payment_id=payment.id)


async def fund(store: SqliteStore) -> dict[str, ApiKey]:
    """Open two accounts with USD 100 and a key each, and fill the wallet; return the keys by account."""
    keys: dict[str, ApiKey] = {}
    for account_id in ("acc_1", "acc_2"):
        keys[account_id] = new_key(account_id, "test", ("proxy",), (), NOW_MS, SystemEntropy().bytes).key
        await store.post(c.OpenAccount(AgentAccount(account_id, account_id, NOW_MS)))
        await store.post(c.CreditAccount(account_id, 100_000_000, f"credit {account_id}", "", "test", NOW_MS))
        await store.post(c.AddKey(keys[account_id]))
    for token in TOKENS:
        seen = Evidence("balance", token.chain_id, 90, b"\x03" * 32, NOW_MS // 1000, ("one", "two"), value_base=10**9)
        await store.post(c.ObserveFloat(WALLET, token.asset_id, 10**9, seen, f"task_{token.chain_id}", NOW_MS))
    return keys


@contextlib.asynccontextmanager
async def opened(directory: Path) -> AsyncIterator[Bed]:
    """Start everything on a store in this directory."""
    clock, entropy, line = StillClock(), SystemEntropy(), Line(always(respond()))
    data_key = Secret(b"\x22" * 32)
    async with contextlib.AsyncExitStack() as stack:
        store = await SqliteStore.open(directory / "gateway.db")
        stack.push_async_callback(store.close)
        keys = await fund(store)
        watermark = Watermark.create(directory / "watermark")
        stack.callback(watermark.close)
        ceilings = dict.fromkeys((token.key for token in TOKENS), 10**9)
        chain_ids = frozenset(token.chain_id for token in TOKENS)
        realms = frozenset((chain_id, REALM) for chain_id in chain_ids)
        policy = WalletPolicy(chain_ids, ceilings, PAYEES, 3_600, realms=realms, max_fee_base=100_000)
        guard = Guard(Policy({WALLET: policy}, frozenset({WALLET})), never_frozen)
        signer = LocalSigner(WALLET, Secret(WALLET_KEY), guard, watermark, lambda: clock.ms // 1000)
        heads, sealer = Heads(), Sealer(data_key)
        for token in TOKENS:
            heads.saw(token.chain_id, Block(110, b"\x01" * 32, NOW_MS // 1000), Block(100, b"\x02" * 32, 1))
        surrogate_key = derive_key(data_key, "surrogate")
        surrogates = Surrogates(lambda vendor, real: make_surrogate(surrogate_key, vendor, real), digest)
        signers = {bytes(WALLET): signer}
        node = Node()
        presenter = Presenter(store, line, sealer, surrogates, clock, {MODERATO_PATHUSD.chain_id: node})
        answers = Answers(store=store, sealer=sealer, watermark=watermark, clock=clock)
        tasks = Tasks(store, clock, entropy)
        spend = Spend(
            store=store,
            upstream=line,
            quoter=Quoter(store.view, frozenset({WALLET}), clock),
            promiser=Promiser(signers, heads, sealer, clock, entropy),
            presenter=presenter,
            prover=Prover(store=store, upstream=line, signers=signers, watermark=watermark, tasks=tasks, clock=clock),
            answers=answers,
            tasks=tasks,
            clock=clock,
        )
        vendors: dict[str, Vendor] = {name: shop(name) for name in ("shop", "other")}
        recovery = Recovery(
            store=store, answers=answers, presenter=presenter, vendors=vendors, heads=heads, clock=clock
        )
        yield Bed(
            *(store, line, clock, watermark, guard, signer, sealer, heads),
            *(presenter, answers, spend, recovery, vendors, keys, node),
        )
        await recovery.drain(5.0)
        await answers.drain(5.0)
