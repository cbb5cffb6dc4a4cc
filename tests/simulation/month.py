"""Thirty days of a mixed fleet: servers at all five billing models, agents who change their minds, outages, sudden deaths.

The clock is driven: it ticks every few seconds while anything is about to change, and every few minutes while nothing is,
and everything that the gateway does in the background it does at a tick. What became of it is judged in `promises_month`.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from contracts.tokens import BASE_USDC
from gateway.config import VendorKind, parse_config
from gateway.core import commands as c
from gateway.core import fleet_plan
from gateway.core.login import Credentials
from gateway.core.plan import Need
from gateway.core.problems import Problem
from gateway.core.records import AgentAccount, ApiKey
from gateway.core.server import ORDERED, FleetState, ServerState, Wanted
from gateway.core.spec import ServerSpec
from gateway.flow.broker import looking, meters
from gateway.flow.servers import renewing, seeing
from gateway.flow.servers.fleets import NewFleet
from gateway.flow.servers.placing import NewServer
from gateway.flow.servers.runner import Who
from gateway.server_ports import Feature
from gateway.vendor_credentials import VendorSecrets
from tests.fakes.chain import ScriptedChain
from tests.fakes.clock import EPOCH_MS
from tests.simulation.accounts import ScriptedLiteVps, ScriptedVrtx
from tests.simulation.cryptovps import ScriptedCryptoVps
from tests.simulation.minutes import ScriptedDropMpp
from tests.simulation.plan import CONFIG, Plan
from tests.simulation.process import Died, Process
from tests.simulation.rentals import InlineTill, LastingVpsAgent
from tests.simulation.world import FINAL_LAG, World, _address
from wallets.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gateway.core.server import Server
    from gateway.flow.servers.neutral import Neutral
    from gateway.jobs.loops import Loops
    from gateway.ports import ServerCost

__all__ = ["DAY_S", "MonthWorld", "Tenant", "month_plan"]

HOUR_S, DAY_S = 3600.0, 86_400.0
BUSY_STEP_S, CALM_STEP_S = 10.0, 580.0
OUTAGE_MOST_S = 900.0
SETTLE_STEPS = 150
OPEN_MOST, FLEETS_MOST = 4, 1
# How often the gateway looks at what stays as it is: it finds nothing, a hundred thousand times a month.
LOOKS = (
    (seeing, "CALM_LOOK_S", 6 * HOUR_S),
    (looking, "CALM_LOOK_S", HOUR_S / 3),
    (meters, "BALANCE_EVERY_S", 6 * HOUR_S),
    (renewing, "LOOK_AGAIN_S", 2 * HOUR_S),
    (fleet_plan, "LOOK_AGAIN_S", int(HOUR_S)),
)
CHANGING = ORDERED | {ServerState.PROVISIONING, ServerState.DESTROYING, ServerState.REBOOTING}
WAYS = ("vpsagent/server_small_1mo", "dropmpp/small", "cryptovps/vc2-1c-1gb", "litevps/nano", "vrtx/1")
SANDBOX = "vpsagent/sandbox_6h"
RUNNING_MEMBERS = (
    "SELECT s.vendor, s.ref FROM servers s JOIN fleets f ON f.id = s.fleet_id WHERE s.state = 'running' "
    "AND s.wanted = 'kept' AND f.state = 'active' AND f.until_ms > ?"
)
FIRST = ("vpsagent/server_small_1mo", "dropmpp/small")


def month_plan(seed: int, days: int = 30) -> Plan:
    """Return the plan of a month; `things` are its days."""
    return Plan(
        seed=seed,
        agents=3,
        things=days,
        crash_chance=0.0001,
        crashes_max=5,
        downtime_s=120.0,
        operator=False,
        capital_base=10_000_000_000,
        credit_base=400_000_000,
    )


class MonthScript:
    """Which faults strike: outages as planned, and now and then an answer that is lost."""

    def __init__(self, world: MonthWorld, rng: random.Random) -> None:
        self._world, self._rng, self._over = world, rng, False

    def take(self, stage: str, server: str, intent: str) -> str:
        """Return the fault that strikes, or ''."""
        if self._over:
            return ""
        if stage == "wire" and self._world.is_away(server):
            return "not_sent" if self._rng.random() < 0.8 else "lost"
        if stage == "reply" and self._rng.random() < 0.01:
            return "dropped"
        return ""

    def end(self) -> None:
        """From now on nothing goes wrong."""
        self._over = True


class MonthProcess(Process):
    """A life in which everything in the background waits for the world's ticks."""

    def work(self, loops: Loops) -> None:
        """Begin with what goes on in the background."""
        loops._pause = self.world.pause  # type: ignore[method-assign,attr-defined] - the clock is driven
        loops.start()


@dataclass
class Tenant:
    """One account's agent; a poor one runs out of money, a rich one never does."""

    world: MonthWorld
    account_id: str
    rng: random.Random
    rich: bool
    servers: list[str] = field(default_factory=list)
    fleets: list[str] = field(default_factory=list)
    longest_keep_ms: dict[str, int] = field(default_factory=dict)
    renewed: set[str] = field(default_factory=set)
    orders: int = 0

    async def live(self, days: int) -> None:
        """Take a first box of every kind that is bought in advance, then do something a few times a day."""
        ends_s = days * DAY_S
        for plan in FIRST:
            await self.world.do(self, partial(self._order, plan=plan, keep_s=1.5 * ends_s))
        while (left_s := ends_s - asyncio.get_running_loop().time()) > DAY_S:
            await asyncio.sleep(min(left_s, self.rng.expovariate(1 / (0.5 * DAY_S))))
            await self.world.do(self, self._something)

    async def _something(self, neutral: Neutral, who: Who) -> None:
        draw, open_ones = self.rng.random(), self._open(neutral)
        if draw < 0.5 or not open_ones:
            if len(open_ones) < OPEN_MOST:
                await self._order(neutral, who)
        elif draw < 0.7:
            await self._change(neutral, self.rng.choice(open_ones))
        elif draw < 0.8:
            await self._renew(neutral, who, self.rng.choice(open_ones))
        elif draw < 0.9:
            await self._destroy(neutral, who, self.rng.choice(open_ones))
        elif self.rich and len(self.fleets) < FLEETS_MOST:
            await self._fleet(neutral, who)

    def _open(self, neutral: Neutral) -> list[Server]:
        view = neutral.keeping.view
        return [view.servers[each] for each in self.servers if each in view.servers]

    async def _order(self, neutral: Neutral, who: Who, plan: str = "", keep_s: float = 0.0) -> None:
        rng, now_ms = self.rng, self.world.clock.now_ms()
        self.orders += 1
        plan = plan or (SANDBOX if rng.random() < 0.1 else rng.choice(WAYS))
        kept = bool(keep_s) or rng.random() < 0.7
        keep_s = keep_s or rng.uniform(0.5 * HOUR_S, 12 * DAY_S)
        keep_until_ms = now_ms + int(keep_s * 1000) if kept else None
        image = "hour-box" if plan == "litevps/nano" and rng.random() < 0.2 else None
        new = NewServer(
            client_token=f"{self.account_id}-{self.orders}",
            fingerprint=sha256(f"{self.account_id} {self.orders}".encode()).digest(),
            spec=ServerSpec(Need(plan=plan, image=image, sandbox=True)),
            name=f"box-{self.account_id}-{self.orders}",
            keep_until_ms=keep_until_ms,
            auto_renew=kept or rng.random() < 0.7,
            max_total_base=rng.randrange(200_000, 30_000_000) if rng.random() < 0.3 and keep_s < 13 * DAY_S else None,
        )
        self.world.note(f"{self.account_id} orders {plan} until {keep_until_ms}")
        server = await neutral.ordering.create(who, new)
        self.servers.append(server.id)
        if keep_until_ms is not None:
            self.longest_keep_ms[server.id] = keep_until_ms

    async def _change(self, neutral: Neutral, server: Server) -> None:
        keep_ms = self.world.clock.now_ms() + int(self.rng.uniform(HOUR_S, 8 * DAY_S) * 1000)

        def changed(now: Server) -> Server | None:
            if not now.open or now.wanted is Wanted.DESTROYED:
                return None
            return replace(now, keep_until_ms=keep_ms, auto_renew=True)

        self.longest_keep_ms[server.id] = max(keep_ms, self.longest_keep_ms.get(server.id, 0))
        await neutral.keeping.change(server.id, changed, "changed")

    async def _renew(self, neutral: Neutral, who: Who, server: Server) -> None:
        if server.keep_until_ms is None and neutral.servers[server.vendor].features.renew is not None:
            self.renewed.add(server.id)
            await neutral.renewing.renew(who, server.id)

    async def _destroy(self, neutral: Neutral, who: Who, server: Server) -> None:
        if neutral.servers[server.vendor].features.can(Feature.DESTROY):
            await neutral.acting.destroy(who, server.id)

    async def _fleet(self, neutral: Neutral, who: Who) -> None:
        number, rng = len(self.fleets) + 1, self.rng
        until_ms = self.world.clock.now_ms() + int(rng.uniform(0.5 * DAY_S, 6 * DAY_S) * 1000)
        vendors = tuple(rng.sample(["dropmpp", "cryptovps", "litevps"], 2))
        new = NewFleet(
            client_token=f"{self.account_id}-fleet-{number}",
            fingerprint=sha256(f"{self.account_id} fleet {number}".encode()).digest(),
            name=f"fleet-{self.account_id}-{number}",
            count=rng.randint(1, 3),
            spec=ServerSpec(Need(vendors=vendors)),
            until_ms=until_ms,
            budget_base=rng.randrange(500_000, 20_000_000),
        )
        fleet, _ = await neutral.fleets.create(who, new)
        self.fleets.append(fleet.id)

    async def leave(self, neutral: Neutral, who: Who) -> None:
        """Let everything go."""
        for server in self._open(neutral):
            if server.state in ORDERED or neutral.servers[server.vendor].features.can(Feature.DESTROY):
                if server.wanted is Wanted.KEPT:
                    await neutral.acting.destroy(who, server.id)
            else:
                await neutral.keeping.change(server.id, _unwanted, "changed")
        for fleet_id in self.fleets:
            await neutral.fleets.end(self.account_id, fleet_id)


class MonthWorld(World):
    """The world in which it happens."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.lifetime_s = (self.plan.things + 30) * DAY_S
        self.drop_payee = _address("dropmpp")
        text = CONFIG.with_name("month.toml").read_text(encoding="utf-8")
        text = text.replace("WALLET", "0x" + self.wallet.hex()).replace("DROPMPP_PAYEE", "0x" + self.drop_payee.hex())
        text = text.replace("VPSAGENT_PAYEE", "0x" + self.first_payee.hex())
        config = parse_config(text, {"SIMULATION": "x"}, directory=CONFIG.parent)
        drop = replace(config.vendors["dropmpp"], kind=VendorKind.DROPMPP)
        self.config = replace(config, vendors={**config.vendors, "dropmpp": drop})
        self.vendor_secrets = {
            "cryptovps": VendorSecrets(Credentials("ops@example.com", Secret("a-password"))),
            "litevps": VendorSecrets(Credentials("", Secret("vtk_0123456789abcdef"))),
            "vrtx": VendorSecrets(Credentials("", Secret("vrtx-token-0123456789"))),
        }
        self.script = MonthScript(self, random.Random(f"faults {self.plan.seed}"))  # type: ignore[assignment]
        self.tenants: list[Tenant] = []
        self.outages: list[tuple[str, float, float]] = []
        self.downtimes: list[tuple[float, float]] = []
        self.credits_base: dict[str, int] = {}
        self.costs: dict[str, ServerCost] = {}
        self.taken: set[tuple[str, str]] = set()  # things that their vendor lost
        self.told: Counter[str] = Counter()
        self.ended: set[tuple[str, str]] = set()  # vendor and state of every server
        self.settled_ms = 0
        self.ticks = self.busy = 0

    def _build(self) -> None:
        self.chain = ScriptedChain(
            self.clock,
            final_lag=FINAL_LAG,
            balances={(BASE_USDC, self.wallet): self.plan.capital_base},
            seed=str(self.plan.seed).encode(),
        )
        self.chain.mine()
        chance = self._chance["vendor"]
        till = InlineTill(
            name="vpsagent",
            pay_to=self.first_payee,
            other_payee=self.second_payee,
            chain=self.chain,
            clock=self.clock,
            script=self.script,
            rng=chance,
            spawn=self.spawn,
            on_shown=self._on_shown,
        )
        self.vpsagent = LastingVpsAgent(till, self.clock, chance)
        self.dropmpp = ScriptedDropMpp("dropmpp.invalid", self.drop_payee, self.chain, self.clock, chance)
        self.cryptovps = ScriptedCryptoVps(self.clock, chance, self.script)
        self.litevps = ScriptedLiteVps(self.clock, chance, self.script)
        self.vrtx = ScriptedVrtx(self.clock, chance, self.script)
        self.tills = (till,)  # type: ignore[assignment] - one seller less than elsewhere
        everyone: tuple[Any, ...] = (self.vpsagent, self.dropmpp, self.cryptovps, self.litevps, self.vrtx)
        self.servers = {f"https://{server.name}.invalid": server for server in everyone}
        self._ticked = asyncio.get_running_loop().create_future()
        self._nudged = asyncio.Event()
        self._plan_outages([server.name for server in everyone])

    def _plan_outages(self, names: list[str]) -> None:
        rng = self._chance["events"]
        for name in names:
            for _ in range(rng.randint(2, 5)):
                start_s = rng.uniform(DAY_S, self.plan.things * DAY_S)
                self.outages.append((name, start_s, start_s + rng.uniform(30, OUTAGE_MOST_S)))

    def is_away(self, name: str) -> bool:
        """Say whether a vendor cannot be reached now."""
        now_s = asyncio.get_running_loop().time()
        return any(each == name and start_s <= now_s < end_s for each, start_s, end_s in self.outages)

    def disturbed(self, name: str, from_ms: int, until_ms: int) -> bool:
        """Say whether a vendor or the gateway was away between these times, or shortly before."""
        spans = [(start, end) for each, start, end in self.outages if each == name] + self.downtimes
        from_s, until_s = (from_ms - EPOCH_MS) / 1000 - OUTAGE_MOST_S, (until_ms - EPOCH_MS) / 1000
        return any(start_s <= until_s and end_s >= from_s for start_s, end_s in spans)

    async def play(self) -> None:
        """Live, settle, stop; the gateway looks less often at what does not change."""
        with contextlib.ExitStack() as seldom:
            for module, name, seconds in LOOKS:
                seldom.enter_context(patch.object(module, name, seconds))
            await super().play()

    def delay_s(self) -> float | None:
        """Return how long the next port call waits: mostly not at all, for there are a million of them."""
        drawn = self._chance["delay"].random()
        return None if drawn < 0.95 else (drawn - 0.95) * 0.2

    # the driven clock

    async def pause(self, seconds: float) -> None:
        """Wait for the first tick after so many seconds."""
        loop = asyncio.get_running_loop()
        due_s = loop.time() + seconds
        while True:
            await asyncio.shield(self._ticked)
            if loop.time() >= due_s:
                return

    async def _mine(self) -> None:
        """Tick: a block, and everybody's turn; then not again before something can have changed."""
        loop = asyncio.get_running_loop()
        while True:
            self._nudged.clear()
            step_s = self._step_s()
            self.busy += step_s <= BUSY_STEP_S
            try:
                async with asyncio.timeout(step_s):
                    await self._nudged.wait()
                await asyncio.sleep(BUSY_STEP_S)
            except TimeoutError:
                pass
            self.ticks += 1
            self.chain.mine()
            ticked, self._ticked = self._ticked, loop.create_future()
            ticked.set_result(None)

    def _step_s(self) -> float:
        """Return how long nothing is to be done, as far as the gateway itself knows."""
        process = self.process
        if process is None or process.gateway is None:
            return BUSY_STEP_S
        neutral = process.gateway.neutral
        view, now_ms = neutral.keeping.view, self.clock.now_ms()
        if any(s.state in CHANGING or s.wanted is Wanted.DESTROYED for s in view.servers.values() if self._acts(s)):
            return BUSY_STEP_S
        if any(fleet.state is FleetState.ENDING for fleet in view.fleets.values()):
            return BUSY_STEP_S
        dues = [due.due_ms for due in neutral.renewing._dues.values()]
        dues += [due.business_ms for due in neutral.fleets._dues.values()]
        next_ms = min(dues, default=now_ms + 10**9)
        return min(CALM_STEP_S, max(BUSY_STEP_S, (next_ms - now_ms) / 1000 + 0.001))

    def _acts(self, server: Server) -> bool:
        """Say whether something can come of hurrying: a payment that is waited for takes its time."""
        return server.state is not ServerState.ORDER_UNKNOWN

    async def _keep_alive(self) -> None:
        """Start the gateway again whenever it is gone."""
        loop = asyncio.get_running_loop()
        while True:
            self.processes += 1
            process = MonthProcess(self, self.processes)
            self.note(f"PROCESS {process.number} starts")
            started_s = loop.time()
            try:
                self.process = process
                await process.start()
                if self.downtimes:
                    self.downtimes[-1] = (self.downtimes[-1][0], loop.time())
                await asyncio.shield(process.death)
            except Died:
                pass
            self.process = None
            self.crashes += 1
            died_s = loop.time() if process.gateway is not None else started_s
            await process.bury()
            await asyncio.sleep(self._chance["events"].uniform(0.1, self.plan.downtime_s))
            self.downtimes.append((died_s, loop.time() + 60))

    # people

    async def live(self) -> None:
        """Open the accounts, and let everybody do as they like for a month."""
        for number in range(self.plan.agents):
            rich = number < self.plan.agents - 1
            account_id = f"acc{number}"
            await self._open(account_id, self.plan.credit_base if rich else 14_000_000)
            self.tenants.append(Tenant(self, account_id, random.Random(f"tenant {number} {self.plan.seed}"), rich))
        await self.until(self._has_plans)
        losing = self.spawn(self._lose())
        await asyncio.gather(*(tenant.live(self.plan.things) for tenant in self.tenants))
        losing.cancel()

    async def _lose(self) -> None:
        """Let a vendor lose a member of a fleet now and then."""
        rng = self._chance["events"]
        while True:
            await asyncio.sleep(rng.uniform(0.2 * DAY_S, DAY_S))
            boxes = [*self.cryptovps.boxes.values(), *self.litevps.machines.values()]
            members = {row["ref"]: row["vendor"] for row in self.rows(RUNNING_MEMBERS, self.clock.now_ms() + 7_200_000)}
            lost = [box for box in boxes if box.ref in members and box.deleted_ms is None]
            if lost:
                box = rng.choice(lost)
                box.deleted_ms = self.clock.now_ms()
                self.taken.add((members[box.ref], box.ref))
                self.note(f"LOST {box.ref} at {members[box.ref]}")

    def _has_plans(self) -> bool:
        process = self.process
        if process is None or process.gateway is None:
            return False
        shelves = process.gateway.neutral.catalogue._shelves
        return bool(shelves) and all(shelf.plans for shelf in shelves.values())

    async def _open(self, account_id: str, credit_base: int) -> None:
        now_ms, key_id = self.clock.now_ms(), f"key-{account_id}"
        digest = sha256(key_id.encode()).digest()
        await self.operator.do(c.OpenAccount(AgentAccount(account_id, account_id, now_ms)))
        await self.operator.do(c.AddKey(ApiKey(key_id, account_id, digest, key_id, ("proxy", "read"), (), now_ms)))
        await self.operator.credit(account_id, credit_base)
        self.credits_base[account_id] = credit_base

    async def do(self, tenant: Tenant, work: Callable[[Neutral, Who], Awaitable[None]]) -> None:
        """Let an agent do one thing at the gateway that runs; it does not ask again when it is told no."""
        process = self.process
        if process is None or process.gateway is None:
            return
        neutral = process.gateway.neutral
        key = neutral.keeping.view.keys_by_id[f"key-{tenant.account_id}"]

        async def begun() -> None:
            await work(neutral, Who(key, self.next_id("req")))

        try:
            await process.run(begun())
        except Problem as problem:
            self.note(f"{tenant.account_id} is told {problem.code}: {problem.detail}")
        except Died:
            self.note(f"{tenant.account_id}: connection lost")
        self._nudged.set()

    async def settle(self) -> None:
        """Let everything go, and every payment come to its end."""
        self.note(f"SETTLE after {self.ticks} ticks, of them {self.busy} in haste")
        self.over = True
        self.script.end()
        self.outages = [each for each in self.outages if each[1] < asyncio.get_running_loop().time()]
        for tenant in self.tenants:
            await self.do(tenant, tenant.leave)
        for _ in range(SETTLE_STEPS):
            await asyncio.sleep(1800.0)
            if self.process is not None and self.process.gateway is not None and self._is_settled():
                break
        else:
            self.violation(f"liveness: not settled: {self._unsettled()}")
        self.settled_ms = self.clock.now_ms()
        await self._read_costs()

    @property
    def was_disturbed(self) -> bool:
        """Whether anybody was ever away."""
        return bool(self.outages or self.downtimes)

    @property
    def first_ends_ms(self) -> dict[str, int]:
        """When each rental would have ended without a renewal."""
        return self.vpsagent.first_ends_ms

    def _is_settled(self) -> bool:
        return not self._unsettled()

    def _unsettled(self) -> list[str]:
        view = self.gateway().parts.store.view
        stoppable = [s.id for s in view.servers.values() if s.vendor != "vpsagent"]
        return [*view.open_payments, *view.meters, *stoppable]

    async def _read_costs(self) -> None:
        store = self.gateway().parts.store
        self.told = Counter(row["kind"] for row in self.rows("SELECT kind FROM journal"))
        self.ended = {(row["vendor"], row["state"]) for row in self.rows("SELECT vendor, state FROM servers")}
        for row in self.rows("SELECT id FROM servers"):
            server = await store.server(row["id"])
            assert server is not None
            self.costs[server.id] = await store.server_cost(server)


def _unwanted(server: Server) -> Server | None:
    return replace(server, auto_renew=False) if server.open else None
