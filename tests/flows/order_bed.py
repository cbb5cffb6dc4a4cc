"""The neutral API's orders in front of running account vendors, in a gateway whose process may end at any step."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.core.kept import SERVER
from gateway.core.plan import Billing, Need, Plan, Source
from gateway.core.records import Meter
from gateway.core.server import Candidate, Quote, Server, ServerState, Wanted
from gateway.core.spec import ServerSpec
from gateway.flow.servers.acting import Acting
from gateway.flow.servers.doing import Doing
from gateway.flow.servers.keeping import Keeping
from gateway.flow.servers.ordering import NewServer, Ordering
from gateway.flow.servers.quoting import Choice
from gateway.flow.servers.runner import Runner, Who
from gateway.flow.servers.seeing import Seeing
from gateway.flow.servers.snapshots import Snapshots
from gateway.server_ports import ServerVendor
from gateway.system import SystemEntropy
from gateway.vendor_servers import make_servers
from sandbox.litevps.catalog import PLANS as LITEVPS_PLANS
from tests.flows.broker_bed import DATA_KEY, Bed, FrailStore
from wallets.sealing import Sealer

MICRO = LITEVPS_PLANS[1]
PLANS: Mapping[str, Plan] = {
    "cryptovps": Plan(
        "cryptovps", "vc2-1c-1gb", "Micro", Billing.HOURLY, "0.0075", Source.DOCUMENT, None, regions=("ams",)
    ),
    "litevps": Plan("litevps", MICRO.id, MICRO.name, Billing.PER_MINUTE, "0.01", Source.API, 0),
    "vrtx": Plan("vrtx", "1", "One", Billing.HOURLY, "0.01", Source.API, 0, regions=("6",)),
}
FIRST_CHARGE_MAX_BASE = 5_000_000


class Ways:
    """The Choosing and the Plans port: the vendors that a test names, in this order."""

    def __init__(self, kinds: tuple[str, ...]) -> None:
        self._kinds = kinds

    async def choose(self, who: Who, asked: ServerSpec) -> Choice:
        """One plan of each."""
        found = [PLANS[kind] for kind in self._kinds]
        candidates = (
            Candidate(plan.vendor, plan.id, plan.regions[0] if plan.regions else "", FIRST_CHARGE_MAX_BASE)
            for plan in found
        )
        return Choice(tuple(candidates), tuple(found), ())

    async def take(self, account_id: str, quote_id: str) -> tuple[Quote, dict[str, Any]]:
        """No test buys with a quote here."""
        raise AssertionError(quote_id)

    async def plan(self, key: str) -> Plan | None:
        """The plan of that vendor."""
        return PLANS[key.partition("/")[0]]

    async def refs(
        self, who: Who, vendor: ServerVendor, key_ids: tuple[str, ...], *, max_charge_base: int | None = None
    ) -> tuple[str, ...]:
        """No test installs keys here."""
        return ()


@dataclass
class Orders:
    """Everything, running in one process."""

    bed: Bed
    keeping: Keeping
    seeing: Seeing
    ordering: Ordering
    acting: Acting
    kinds: tuple[str, ...]
    tasks: list[asyncio.Task[Any]] = field(default_factory=list)

    async def who(self, account: str = "acc_1") -> Who:
        """An account's key on a request."""
        key = next(k for k in self.keeping.view.keys_by_id.values() if k.account_id == account)
        return Who(key, "req_order_bed")

    async def create(self, token: str = "token-1", account: str = "acc_1") -> Server:
        """Order, or find what was ordered."""
        new = NewServer(token, token.encode().ljust(32, b"."), ServerSpec(Need()), name="box-1")
        return await self.ordering.create(await self.who(account), new)

    async def turn(self, seconds: float = 0.0) -> None:
        """Let time pass, and do once what the background does."""
        self.bed.advance(seconds)
        await self.ordering.resume()
        await self.ordering.drain(10.0)
        for kind in self.kinds:
            await self.bed.sweep(kind)
        await self.acting.sweep()
        await self.seeing.sweep()
        await self.seeing.drain(10.0)
        await self.bed.settled()

    async def latest(self, server_id: str) -> Server:
        """A server as committed."""
        return await self.keeping.latest(server_id)

    async def all(self) -> list[Server]:
        """Every server that was ever kept."""
        rows = await self.bed.store.query("SELECT id FROM servers ORDER BY id")
        found = [await self.bed.store.record(SERVER, row["id"]) for row in rows]
        return [each for each in found if isinstance(each, Server)]

    async def until(self, server_id: str, *states: ServerState, turns: int = 40, seconds: float = 20.0) -> Server:
        """Let time pass until a server is in one of these states."""
        server = await self.latest(server_id)
        for _ in range(turns):
            if server.state in states:
                return server
            await self.turn(seconds)
            server = await self.latest(server_id)
        raise AssertionError(f"{server} never was {states}")

    async def destroy(self, server_id: str) -> Server:
        """Destroy a server, to its end."""
        server = await self.latest(server_id)
        if server.open and server.wanted is Wanted.KEPT:
            await self.acting.destroy(await self.who(), server_id)
        return await self.until(server_id, ServerState.DESTROYED)


@contextlib.asynccontextmanager
async def orders_on(bed: Bed, *kinds: str) -> AsyncIterator[Orders]:
    """Put the neutral API's orders on a running bed; `kinds` are the vendors that orders go to, in this order."""
    store: Any = FrailStore(bed.store, bed.crash)
    keeping = Keeping(store, Sealer(DATA_KEY), bed.clock, bed.clock, SystemEntropy())
    runner = Runner(_NoSpend(), bed.side.broker, {}, bed.side.vendors)
    servers = {name: made for name, vendor in bed.side.vendors.items() if (made := make_servers(vendor)) is not None}

    async def meter_of(meter_id: str) -> Meter | None:
        return await bed.store.meter(meter_id)

    seeing, doing, ways = Seeing(keeping, runner, servers, meter_of), Doing(keeping, runner, servers), Ways(kinds)
    ordering = Ordering(
        keeping=keeping,
        runner=runner,
        replays=bed.answers,
        vendors=servers,
        choosing=ways,
        plans=ways,
        keys=ways,
        seeing=seeing,
    )
    acting = Acting(doing, seeing, Snapshots(doing, seeing, ordering))
    try:
        yield Orders(bed, keeping, seeing, ordering, acting, kinds)
    finally:
        here = asyncio.current_task()
        left = [
            task for task in asyncio.all_tasks() if task is not here and _is_ours(task, dead=bed.crash.dead.is_set())
        ]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


def _is_ours(task: "asyncio.Task[Any]", *, dead: bool) -> bool:
    """Whether a task is of these use cases; of a process that has ended, of any of the gateway's."""
    code = getattr(task.get_coro(), "cr_code", None)
    place = "" if code is None else code.co_filename
    return f"gateway/flow/{'' if dead else 'servers/'}" in place


class _NoSpend:
    """No vendor here asks for its money with a 402."""

    async def run(self, call: object) -> Any:
        """Never called."""
        raise AssertionError(call)
