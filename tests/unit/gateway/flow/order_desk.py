"""Ordering and looking on real parts before scripted shops that rent out servers: what they say is a test's to decide.

Each shop sells at /priced/rent (a credential may be shown again) and tells of a server at /free/{ref}.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from gateway.core.plan import Billing, Need, Plan, Source
from gateway.core.problems import Problem
from gateway.core.records import Meter, Payment
from gateway.core.server import Candidate, Quote, Server, ServerState
from gateway.core.spec import ServerSpec
from gateway.flow.servers.keeping import Keeping
from gateway.flow.servers.ordering import NewServer, Ordering, PlacingSettings
from gateway.flow.servers.quoting import Choice
from gateway.flow.servers.runner import Runner, Who
from gateway.flow.servers.seeing import Seeing
from gateway.http.port import UpstreamRequest, UpstreamResponse
from gateway.server_ports import Action, Ask, CatalogueAsk, Feature, Features, Heard, Order, ServerVendor, Sight
from gateway.system import SystemEntropy
from tests.unit.gateway.flow.spend_bed import PRICE_BASE, Bed, challenge, opened, respond
from wallets.secret import Secret

NOTHING: Mapping[str, Any] = MappingProxyType({})
SHOPS = ("shop", "other")
Saying = Callable[[UpstreamRequest], UpstreamResponse | Exception]


def plan_at(vendor: str) -> Plan:
    """Return the one plan of a shop."""
    return Plan(vendor, "small", "Small", Billing.TERM, "0.01", Source.DOCUMENT, None, regions=("ams",))


async def advanced(ordering: Ordering, server_id: str) -> Server:
    """Go on with an order as far as it goes now, and return it as it is then."""
    await asyncio.shield(ordering.start(server_id))
    return await ordering._keeping.latest(server_id)


def features(*, followed: bool = False, lists: bool = False, keys: bool = False) -> Features:
    """Return what a shop can do."""
    does: dict[Feature, Any] = dict.fromkeys(Feature, "no")
    does[Feature.LIST] = "yes" if lists else "no"
    does[Feature.SSH_KEYS] = "yes" if keys else "no"
    return Features(does, Billing.TERM, 3600, 120, "nothing", "on_success", followed=followed)


class Rental:
    """A shop's translation; implements ServerVendor."""

    catalogue: tuple[CatalogueAsk, ...] = ()

    def __init__(self, name: str, features: Features, path: str = "/priced/rent") -> None:
        self.name, self.features, self.path = name, features, path

    def plans(self, answers: Mapping[str, bytes], now_ms: int) -> tuple[Plan, ...]:
        """Its one plan."""
        return (plan_at(self.name),)

    def create(self, order: Order) -> Ask:
        """The request that rents; no server may be called localhost."""
        if order.name == "localhost":
            raise Problem("input_refused", f"{self.name} takes no localhost", "name")
        body = {"plan": order.plan, "name": order.name, "region": order.region, "keys": list(order.ssh_keys)}
        return Ask("POST", self.path, json.dumps(body).encode())

    def made(self, status: int, body: bytes) -> Sight | None:
        """What a whole answer shows."""
        return None if status != 200 else _sight(body)

    def ask(
        self, action: Action, ref: str, access: Mapping[str, Secret[str]], parameters: Mapping[str, Any] = NOTHING
    ) -> Ask:
        """The request that shows."""
        return Ask("GET", f"/free/{ref}")

    def hear(self, action: Action, ref: str, status: int, body: bytes) -> Heard:
        """What the answer shows; that it is gone where the shop does not know it."""
        if status == 404:
            return Heard(False, Sight(ref, ServerState.LOST))
        return Heard(status == 200, _sight(body))

    def listed(self, body: bytes) -> tuple[Sight, ...] | None:
        """All that a list shows."""
        return tuple(filter(None, (_sight(json.dumps(each).encode()) for each in json.loads(body))))

    def list_ask(self) -> Ask | None:
        """The request that lists."""
        return Ask("GET", "/free/list")


def _sight(body: bytes) -> Sight | None:
    try:
        said = json.loads(body)
    except ValueError:
        return None
    if not isinstance(said, dict) or "server" not in said:
        return None
    state = None if "state" not in said else ServerState(said["state"])
    access = {name: Secret(text) for name, text in said.get("access", {}).items()}
    return Sight(
        said["server"],
        state,
        said.get("word", said.get("state", "")),
        address=said.get("address", ""),
        expires_at_ms=said.get("expires_at_ms"),
        access=access,
    )


def told(**said: Any) -> UpstreamResponse:
    """Return an answer with a document."""
    return respond(200, json.dumps(said).encode())


@dataclass
class Told:
    """What the shops say: to a paid order by shop, and of a server by its ref."""

    orders: dict[str, Saying] = field(default_factory=dict)
    servers: dict[str, Saying] = field(default_factory=dict)
    sold: list[tuple[str, bytes]] = field(default_factory=list)  # shop and body of each paid order that arrived
    looks: list[str] = field(default_factory=list)


class Ways:
    """The Choosing port: says what a test says."""

    def __init__(self) -> None:
        self.candidates: tuple[Candidate, ...] = tuple(
            Candidate(name, "small", "ams", 2 * PRICE_BASE) for name in SHOPS
        )
        self.quotes: dict[str, tuple[Quote, dict[str, Any]]] = {}
        self.chosen = 0

    async def choose(self, who: Who, asked: ServerSpec) -> Choice:
        """The candidates."""
        self.chosen += 1
        return Choice(self.candidates, (), ())

    async def take(self, account_id: str, quote_id: str) -> tuple[Quote, dict[str, Any]]:
        """A quote."""
        return self.quotes[quote_id]


class Shelves:
    """The Plans port."""

    async def plan(self, key: str) -> Plan | None:
        """The shop's plan."""
        return plan_at(key.partition("/")[0])


class Ring:
    """The KeyRefs port: a vendor's id of a key is made of both names."""

    async def refs(
        self, who: Who, vendor: ServerVendor, key_ids: tuple[str, ...], *, max_charge_base: int | None = None
    ) -> tuple[str, ...]:
        """The ids."""
        return tuple(f"{vendor.name}:{key_id}" for key_id in key_ids)


@dataclass
class Desk:
    """Everything, running."""

    bed: Bed
    told: Told
    ways: Ways
    rentals: dict[str, ServerVendor]
    keeping: Keeping
    seeing: Seeing
    ordering: Ordering

    def who(self, account: str = "acc_1") -> Who:
        """An account's key on a request."""
        return Who(self.bed.keys[account], "req_test_1")

    def new(self, token: str = "token-1", **changes: Any) -> NewServer:
        """An order of whatever can be had."""
        return replace(NewServer(token, token.encode().ljust(32, b"."), ServerSpec(Need())), **changes)

    async def order(self, token: str = "token-1", **changes: Any) -> Server:
        """Place an order, follow it as far as it goes now, and return the server."""
        server = await self.ordering.create(self.who(), self.new(token, **changes))
        return await advanced(self.ordering, server.id)

    async def now(self, server: Server) -> Server:
        """A server as it is committed, once nothing moves."""
        await self.ordering.drain(5.0)
        await self.seeing.drain(5.0)
        return await self.keeping.latest(server.id)

    def answers(self, shop: str, *said: UpstreamResponse | Exception) -> None:
        """Let a shop say these to paid orders, one after the other, and the last for ever."""
        left = list(said)
        self.told.orders[shop] = lambda _: left.pop(0) if len(left) > 1 else left[0]

    def shows(self, ref: str, said: UpstreamResponse | Exception) -> None:
        """Let the shops say this of a server from now on."""
        self.told.servers[ref] = lambda _: said

    @property
    def payment(self) -> Payment:
        """The one open payment."""
        (payment,) = self.bed.open
        return payment

    async def events(self, server: Server) -> list[str]:
        """What happened to a server, in order."""
        rows = await self.bed.store.query("SELECT kind, body FROM journal WHERE kind LIKE 'server.%' ORDER BY seq")
        return [row["kind"].partition(".")[2] for row in rows if json.loads(row["body"])["server_id"] == server.id]


@contextlib.asynccontextmanager
async def desk_opened(directory: Path, *, settings: PlacingSettings | None = None, **can: bool) -> AsyncIterator[Desk]:
    """Start everything on a store in this directory."""
    async with opened(directory) as bed:
        desk = desk_on(bed, settings=settings, **can)
        yield desk
        await desk.ordering.drain(5.0)
        await desk.seeing.drain(5.0)


def desk_on(bed: Bed, *, settings: PlacingSettings | None = None, **can: bool) -> Desk:
    """Return a desk on running parts: another one on the same parts is the next process."""
    said = Told()

    async def paid(request: UpstreamRequest) -> UpstreamResponse:
        shop = bed.line.origins[-1].removeprefix("https://").removesuffix(".test")
        body = request.body if isinstance(request.body, bytes) else b""
        said.sold.append((shop, body))
        return _said(said.orders[shop](request))

    async def unpaid(request: UpstreamRequest) -> UpstreamResponse:
        if not request.target.startswith("/free/"):
            return respond(402, json.dumps(challenge()).encode())
        ref = request.target.removeprefix("/free/")
        said.looks.append(ref)
        return _said(said.servers[ref](request))

    bed.line.answering, bed.line.first = paid, unpaid
    keeping = Keeping(bed.store, bed.sealer, bed.clock, bed.clock, SystemEntropy())
    runner = Runner(bed.spend, None, bed.vendors, {})
    rentals: dict[str, ServerVendor] = {name: Rental(name, features(**can)) for name in SHOPS}
    ways = Ways()

    async def meter_of(meter_id: str) -> Meter | None:
        return await bed.store.meter(meter_id)

    seeing = Seeing(keeping, runner, rentals, meter_of)
    ordering = Ordering(
        keeping=keeping,
        runner=runner,
        replays=bed.answers,
        vendors=rentals,
        choosing=ways,
        plans=Shelves(),
        keys=Ring(),
        seeing=seeing,
        settings=settings,
    )
    return Desk(bed, said, ways, rentals, keeping, seeing, ordering)


def _said(outcome: UpstreamResponse | Exception) -> UpstreamResponse:
    if isinstance(outcome, Exception):
        raise outcome
    return outcome
