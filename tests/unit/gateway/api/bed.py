"""The agents' side on real parts: aiohttp servers on loopback, a SqliteStore, a signing wallet, and a shop that sells.

The shop is a vendor of its own: an aiohttp server that asks for x402 v1 and takes any well-formed payment header. What
chains would tell (heads, evidence) is put in directly.
"""

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
from aiohttp import web
from yarl import URL

from contracts.codec import Address, checksum
from contracts.signature import address_of, load_key
from contracts.tokens import BASE_USDC
from gateway.api.deps import Accounts, ApiDeps, ApiSettings, Webhooks
from gateway.api.exchange import log_request
from gateway.api.lines import RequestLog
from gateway.api.server import ApiServer, build_api
from gateway.core.apikeys import new_key
from gateway.core.commands import AccountLimits, AddKey, CreditAccount, Done, ObserveFloat, OpenAccount, RecordSettled
from gateway.core.records import AgentAccount, Budget, Evidence, Payment
from gateway.core.routes import Match, Ownership, Pricing, Route
from gateway.flow.answers import Answers
from gateway.flow.heads import Heads
from gateway.flow.present import Presenter, Surrogates
from gateway.flow.promise import Promiser
from gateway.flow.prove import Prover
from gateway.flow.quote import Quoter
from gateway.flow.settle import Sighting
from gateway.flow.spend import Spend
from gateway.flow.tasks import Tasks
from gateway.http.client import HttpUpstream
from gateway.http.egress import EgressRule, Origin
from gateway.http.port import UpstreamResponse
from gateway.ports import Block, Created, Reading, VendorTerms
from gateway.store.sqlite import SqliteStore
from gateway.system import SystemClock, SystemEntropy
from gateway.vendors.generic import GenericVendor
from gateway.vendors.surrogate import digest, make_surrogate
from tests.factories import never_frozen
from wallets.guard import Guard, Policy, WalletPolicy
from wallets.sealing import Sealer, derive_key
from wallets.secret import Secret
from wallets.signer import LocalSigner
from wallets.watermark import Watermark

PAYEE = Address(b"\x77" * 20)
PRICE_BASE = 250_000
WALLET_KEY = b"\x11" * 32
LIMITS = AccountLimits(10**12, 1_000, 1_000, 1_000, 86_400_000)

ROUTES = (
    Route("free", ("GET", "HEAD", "POST"), ("free", "{rest*}"), safe=True),
    Route("secret", ("GET", "POST"), ("secret",), secret=True),
    Route("priced", ("POST",), ("priced",), Pricing.PRICED, ceiling_base=1_000_000, ownership=Ownership.CREATES),
    Route("server", ("GET",), ("servers", "{ref}"), ownership=Ownership.OWNER, ref_parameter="ref"),
    Route("maybe", ("GET", "HEAD", "POST"), ("maybe", "{rest*}"), Pricing.MAYBE, ceiling_base=1_000_000),
)


class Shop(GenericVendor):
    """A vendor with declared routes: `priced` delivers a server."""

    def read(self, match: Match, answer: UpstreamResponse, surrogate: Callable[[str], str]) -> Reading:
        reading = super().read(match, answer, surrogate)
        if match.route.name != "priced" or answer.status != 200:
            return reading
        ref = json.loads(answer.body)["server"]
        return Reading(reading.delivery, reading.fault, reading.body, created=Created(ref, "box", "active", None, None))


@dataclass
class ShopServer:
    """The shop's HTTP side: what it saw, and how it answers. `paid` is set once it got a payment; slow calls wait for `gate`.

    `asked` is set at the first request. With `held` free answers wait for `gate` as well. `more` are headers of a free answer
    beside its own; /free/raw has `raw_disposition` as its Content-Disposition. `garbage` is put on the wire in the place of
    any answer but a challenge.
    """

    seen: list[web.BaseRequest] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    paid: asyncio.Event = field(default_factory=asyncio.Event)
    sold: int = 0
    status: int = 200
    more: dict[str, str] = field(default_factory=lambda: {"Cache-Control": "public"})
    raw_disposition: bytes = b""
    garbage: bytes = b""
    held: bool = False

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.seen.append(request)
        self.asked.set()
        body = await request.content.read()
        self.bodies.append(body)
        path = request.raw_path.partition("?")[0]
        if self.garbage and (path.startswith("/free") or "X-PAYMENT" in request.headers):
            return self._write(request, self.garbage)
        if path == "/free/raw":
            head = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Disposition: " + self.raw_disposition
            return self._write(request, head + b"\r\n\r\n")
        if path.startswith("/maybe/big"):
            return await self._big(request, cut=path.endswith("cut"))
        if path.startswith(("/free", "/secret", "/servers")):
            if self.held:
                await self.gate.wait()
            headers = {"X-Echo": request.raw_path, "Set-Cookie": "a=b", "ETag": '"1"', **self.more}
            return web.Response(body=body or b"free", status=self.status, headers=headers)
        if "X-PAYMENT" not in request.headers:
            asked = base64.b64encode(json.dumps(challenge()).encode()).decode()  # all that a HEAD has
            return web.json_response(challenge(), status=402, headers={"X-Payment-Required": asked})
        self.paid.set()
        if path == "/maybe/slow":
            await self.gate.wait()
        self.sold += 1
        return web.json_response({"server": f"srv-{self.sold}", "body": body.decode("latin-1")}, status=self.status)

    def _write(self, request: web.BaseRequest, raw: bytes) -> web.StreamResponse:
        """Answer past aiohttp, which writes good answers, and their headers in UTF-8 alone."""
        assert request.transport is not None
        request.transport.write(raw)
        request.transport.close()
        return web.StreamResponse()

    async def _big(self, request: web.BaseRequest, *, cut: bool) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(48):
            await response.write(b"x" * 65_536)
        if cut and request.transport is not None:
            request.transport.abort()
            return response
        await response.write_eof()
        return response


def challenge(**changes: Any) -> dict[str, Any]:
    """Return an x402 v1 challenge of the shop."""
    offer = {
        "scheme": "exact",
        "network": "base",
        "maxAmountRequired": str(PRICE_BASE),
        "resource": "http://shop.test/thing",
        "description": "",
        "mimeType": "application/json",
        "payTo": checksum(PAYEE),
        "maxTimeoutSeconds": 120,
        "asset": checksum(BASE_USDC.address),
        "extra": {"name": BASE_USDC.name, "version": BASE_USDC.version},
        **changes,
    }
    return {"x402Version": 1, "error": "payment required", "accepts": [offer]}


@dataclass
class Bed:
    """Everything, running. `url` is the gateway's, `key` an unlimited key of `acc_1`."""

    store: SqliteStore
    server: ApiServer
    answers: Answers
    shop: ShopServer
    heads: Heads
    sealer: Sealer
    url: str
    key: str
    client: aiohttp.ClientSession
    reasons: list[str]
    sightings: dict[str, Sighting]
    broken: list[str]

    def auth(self, key: str | None = None, **headers: str) -> dict[str, str]:
        """Return headers with a key."""
        return {"Authorization": f"Bearer {key or self.key}", **{k.replace("_", "-"): v for k, v in headers.items()}}

    async def new_key(self, *scopes: str, account_id: str = "acc_1", budgets: tuple[Budget, ...] = ()) -> str:
        """Add a key as the operator does; return its text."""
        made = new_key(account_id, "test", scopes, budgets, SystemClock().now_ms(), SystemEntropy().bytes)
        assert isinstance(await self.store.post(AddKey(made.key)), Done)
        return made.text.reveal()

    async def ask(self, method: str, path: str, key: str | None = None, **more: Any) -> "Got":
        """Send one request with a key; `headers` are added to it."""
        headers = {**self.auth(key), **more.pop("headers", {})}
        return await self.bare(method, path, headers=headers, **more)

    async def bare(self, method: str, path: str, **more: Any) -> "Got":
        """Send one request as it is."""
        url = more.pop("url", self.url)
        target = URL(url + path, encoded=True)
        async with self.client.request(method, target, allow_redirects=False, **more) as answer:
            return Got(answer.status, answer.headers, await answer.read())

    async def wire(self, request: bytes) -> bytes:
        """Send bytes on a connection of their own; return all that comes back. The request must close it."""
        host, _, port = self.url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(request)
        try:
            return await reader.read()
        finally:
            writer.close()

    async def get_raw(self, target: str) -> bytes:
        """GET a target exactly as it is written, with the key."""
        head = f"GET {target} HTTP/1.1\r\nHost: x\r\nX-Api-Key: {self.key}\r\nConnection: close\r\n\r\n"
        return await self.wire(head.encode("latin-1"))

    async def settle(self, payment_id: str) -> None:
        """Prove that a payment was collected."""
        payment = await self.store.payment(payment_id)
        assert payment is not None
        result = await self.store.post(RecordSettled(payment_id, evidence(payment), SystemClock().now_ms()))
        assert isinstance(result, Done)


@dataclass(frozen=True)
class Got:
    """An answer, read whole."""

    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The problem's code."""
        assert self.headers["Content-Type"] == "application/problem+json", (self.status, self.body)
        return str(self.json["code"])


def evidence(payment: Payment) -> Evidence:
    """Return proof that a payment was collected in full."""
    return Evidence(
        kind="settled",
        chain_id=payment.terms.chain_id,
        block_number=120,
        block_hash=b"\x0b" * 32,
        block_time_s=1_800_000_000,
        witnesses=("one", "two"),
        tx_hash=payment.terms.nonce,
        log_index=3,
        payment_id=payment.id,
        value_base=payment.terms.value_base,
    )


class _Watched:
    """Makes a listener whose port is free again at the end."""

    def __init__(self, runner: web.ServerRunner) -> None:
        self.runner = runner

    async def __aenter__(self) -> str:
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", 0)
        await site.start()
        host, port = self.runner.addresses[0][:2]
        return f"http://{host}:{port}"

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.runner.cleanup()

    @classmethod
    def of(cls, server: web.Server) -> Self:
        return cls(web.ServerRunner(server, shutdown_timeout=1.0))


def shop_vendor(origin: str, wallet: bytes, name: str = "shop") -> Shop:
    """Return the shop as the gateway knows it."""
    terms = VendorTerms(wallet, (BASE_USDC,), frozenset({PAYEE}), 0, {}, 60, 600, LIMITS)
    vendor = Shop(name, origin, terms, ceiling_base=1_000_000)
    vendor.routes = ROUTES
    return vendor


@contextlib.asynccontextmanager
async def opened(
    directory: Path,
    settings: ApiSettings | None = None,
    request_log: RequestLog = log_request,
    accounts: Callable[[SqliteStore], Accounts] | None = None,
    webhooks: Webhooks | None = None,
) -> AsyncIterator[Bed]:
    """Start everything; `acc_1` has 10 USD, `acc_2` as well. `accounts` makes the vendors that know us by an account."""
    clock, entropy = SystemClock(), SystemEntropy()
    data_key = Secret(b"\x22" * 32)
    wallet = address_of(load_key(WALLET_KEY))
    shop = ShopServer()
    async with contextlib.AsyncExitStack() as stack:
        origin = await stack.enter_async_context(
            _Watched.of(web.Server(shop.handle, access_log=None, auto_decompress=False))
        )
        store = await SqliteStore.open(directory / "gateway.db")
        stack.push_async_callback(store.close)
        await _fund(store, wallet)
        watermark = Watermark.create(directory / "watermark")
        stack.callback(watermark.close)
        upstream = HttpUpstream([EgressRule(Origin.parse(origin), allow_private=True, allow_plain_http=True)])
        stack.push_async_callback(upstream.close)
        policy = WalletPolicy(frozenset({8453}), {BASE_USDC.key: 10**9}, frozenset({PAYEE}), 3_600)
        guard = Guard(Policy({wallet: policy}, frozenset({wallet})), never_frozen)
        signer = LocalSigner(wallet, Secret(WALLET_KEY), guard, watermark, lambda: clock.now_ms() // 1000)
        heads, sealer = Heads(), Sealer(data_key)
        heads.saw(8453, Block(110, b"\x01" * 32, clock.now_ms() // 1000), Block(100, b"\x02" * 32, 1_800_000_000))
        surrogate_key = derive_key(data_key, "surrogate")
        surrogates = Surrogates(lambda vendor, real: make_surrogate(surrogate_key, vendor, real), digest)
        answers = Answers(store=store, sealer=sealer, watermark=watermark, clock=clock)
        tasks = Tasks(store, clock, entropy)
        spend = Spend(
            store=store,
            upstream=upstream,
            quoter=Quoter(store.view, frozenset({wallet}), clock),
            promiser=Promiser({wallet: signer}, heads, sealer, clock, entropy),
            presenter=Presenter(store, upstream, sealer, surrogates, clock),
            prover=Prover(
                store=store, upstream=upstream, signers={wallet: signer}, watermark=watermark, tasks=tasks, clock=clock
            ),
            answers=answers,
            tasks=tasks,
            clock=clock,
        )
        reasons: list[str] = []
        sightings: dict[str, Sighting] = {}
        broken: list[str] = []
        deps = ApiDeps(
            store=store,
            spend=spend,
            vendors={"shop": shop_vendor(origin, wallet), "other": shop_vendor(origin, wallet, "other")},
            heads=heads,
            sealer=sealer,
            clock=clock,
            entropy=entropy,
            sightings=lambda payment: sightings.get(payment.id),
            ready=lambda: list(reasons),
            on_broken=lambda: broken.append("stop"),
            accounts=None if accounts is None else accounts(store),
            webhooks=webhooks,
            request_log=request_log,
            settings=settings or ApiSettings(),
        )
        api = build_api(deps)
        url = await stack.enter_async_context(_Watched.of(api))
        client = await stack.enter_async_context(aiohttp.ClientSession())
        bed = Bed(store, api, answers, shop, heads, sealer, url, "", client, reasons, sightings, broken)
        bed.key = await bed.new_key("proxy", "read", "keys")
        yield bed
        shop.gate.set()
        await api.drain(5.0)
        await answers.drain(5.0)


async def _fund(store: SqliteStore, wallet: Address) -> None:
    now_ms = SystemClock().now_ms()
    for account_id in ("acc_1", "acc_2"):
        await store.post(OpenAccount(AgentAccount(account_id, account_id, now_ms)))
        await store.post(CreditAccount(account_id, 10_000_000, f"credit {account_id}", "", "test", now_ms))
    seen = Evidence("balance", 8453, 90, b"\x03" * 32, 1_800_000_000, ("one", "two"), value_base=10**9)
    await store.post(ObserveFloat(wallet, BASE_USDC.asset_id, 10**9, seen, "task_1", now_ms))
