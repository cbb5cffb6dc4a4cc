"""Actions, snapshots and SSH keys of the neutral API, in front of running vendors: account vendors, or dropmpp."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

from aiohttp import web
from drop_shop import VENDOR, Shop

from gateway.api.server import ApiServer, build_api
from gateway.core.records import Meter
from gateway.core.server import Candidate, Server, ServerState, Snapshot
from gateway.flow.servers.acting import Acting
from gateway.flow.servers.doing import Doing
from gateway.flow.servers.keeping import Keeping
from gateway.flow.servers.keys import Keys
from gateway.flow.servers.placing import NewServer
from gateway.flow.servers.runner import Runner, Who
from gateway.flow.servers.seeing import Seeing
from gateway.flow.servers.snapshots import Snapshots
from gateway.system import SystemClock, SystemEntropy
from gateway.vendor_servers import make_servers
from tests.flows.broker_bed import Bed
from tests.flows.order_bed import Orders, orders_on


@dataclass
class Acts:
    """The use cases, wired as the service wires them."""

    keeping: Keeping
    seeing: Seeing
    doing: Doing
    snapshots: Snapshots
    acting: Acting
    keys: Keys

    def who(self, account: str = "acc_1") -> Who:
        """An account's key on a request."""
        key = next(k for k in self.keeping.view.keys_by_id.values() if k.account_id == account)
        return Who(key, self.keeping.new_id("req"))

    async def latest(self, server: Server) -> Server:
        """A server as committed."""
        return await self.keeping.latest(server.id)

    async def journal(self, *kinds: str) -> list[str]:
        """Return which of these kinds of rows there are, in order."""
        rows = await self.keeping.store.query("SELECT kind FROM journal ORDER BY seq")
        return [row["kind"] for row in rows if row["kind"] in kinds]

    async def snapshots_of(self, server: Server) -> tuple[Snapshot, ...]:
        """Every record of a server's snapshots."""
        return await self.keeping.store.snapshots_of_server(server.id)


@dataclass
class AccountActs(Acts):
    """At vendors that know us by an account."""

    orders: Orders

    @property
    def bed(self) -> Bed:
        """The gateway."""
        return self.orders.bed

    async def running(self, token: str = "token-1", account: str = "acc_1") -> Server:
        """Order a server, and let the time pass until it runs."""
        server = await self.orders.create(token, account)
        return await self.orders.until(server.id, ServerState.RUNNING)


@contextlib.asynccontextmanager
async def acts_on(bed: Bed, kind: str) -> AsyncIterator[AccountActs]:
    """Put the use cases on a running bed; orders go to one vendor."""
    async with orders_on(bed, kind) as orders:
        servers = {
            name: made for name, vendor in bed.side.vendors.items() if (made := make_servers(vendor)) is not None
        }
        doing = Doing(orders.keeping, Runner(_NoOrders(), bed.side.broker, {}, bed.side.vendors), servers)
        snapshots = Snapshots(doing, orders.seeing, orders.ordering)
        acting = Acting(doing, orders.seeing, snapshots)
        yield AccountActs(orders.keeping, orders.seeing, doing, snapshots, acting, Keys(doing), orders)


@dataclass
class Serving:
    """The API in front of the use cases."""

    url: str
    api: ApiServer


@contextlib.asynccontextmanager
async def served(acts: AccountActs) -> AsyncIterator[Serving]:
    """Serve the use cases over HTTP. Of the neutral API only what acts on servers is there."""
    parts = ("keeping", "seeing", "doing", "snapshots", "acting", "keys")
    neutral: Any = SimpleNamespace(servers=acts.doing.vendors, **{name: getattr(acts, name) for name in parts})
    neutral.ordering, neutral.catalogue = acts.orders.ordering, None
    api = build_api(replace(acts.bed.api.api.deps, neutral=neutral))
    runner = web.ServerRunner(api, shutdown_timeout=0.2)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        yield Serving(f"http://{host}:{port}", api)
    finally:
        await runner.cleanup()


@dataclass
class DropActs(Acts):
    """At dropmpp. `server` makes one through the proxy, and the record that an order would have left."""

    shop: Shop

    async def server(self, account: str = "acc_1", *, max_total_base: int | None = None) -> Server:
        """Return a new server that is up."""
        ref, keeping = await self.shop.server(account), self.keeping
        now_ms, server_id = keeping.clock.now_ms(), keeping.new_id("srv")
        server = Server(
            id=server_id,
            account_id=account,
            key_id=self.who(account).key.id,
            name="box-1",
            client_token=server_id,
            fingerprint=bytes(32),
            sealed_spec=keeping.seal("spec", server_id, {}),
            candidates=(Candidate(VENDOR, "small", "nyc1", 100_000),),
            created_at_ms=now_ms,
            as_of_ms=now_ms,
            vendor=VENDOR,
            plan="small",
            region="nyc1",
            ref=ref,
            state=ServerState.PROVISIONING,
            max_total_base=max_total_base,
        )
        await keeping.place(server, "ordered")
        return await self.seeing.look(server_id)


@contextlib.asynccontextmanager
async def drop_acts(shop: Shop) -> AsyncIterator[DropActs]:
    """Put the use cases on a desk at dropmpp. A second one on the same desk is the next process."""
    desk, clock = shop.desk, SystemClock()
    vendor = make_servers(desk.vendor)
    assert vendor is not None
    keeping = Keeping(desk.store, desk.spend._presenter._sealer, clock, clock, SystemEntropy())
    runner = Runner(desk.spend, None, {VENDOR: desk.vendor}, {})

    async def meter_of(meter_id: str) -> Meter | None:
        return await desk.store.meter(meter_id)

    doing, seeing = Doing(keeping, runner, {VENDOR: vendor}), Seeing(keeping, runner, {VENDOR: vendor}, meter_of)
    snapshots = Snapshots(doing, seeing, _NoOrders())
    yield DropActs(keeping, seeing, doing, snapshots, Acting(doing, seeing, snapshots), Keys(doing), shop)
    await doing.drain(5.0)
    await seeing.drain(5.0)


class _NoOrders:
    """Nothing here is ordered, and no account vendor asks for its money with a 402."""

    async def place(self, who: Who, new: NewServer) -> tuple[Server, bool]:
        """Never called."""
        raise AssertionError((who, new))

    async def run(self, call: object) -> Any:
        """Never called."""
        raise AssertionError(call)
