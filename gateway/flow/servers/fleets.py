"""Fleets: so many servers of one need, kept alive until a time for at most a budget, whichever vendors they are at.

Must not know vendors.  Theory: a fleet only orders, lets go and sets bounds; every member is a server like any other, which
the renewal planner keeps until the fleet's end within its share.  The number of an order is durable before it is made,
so no crash orders one member twice.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from typing import Protocol

import structlog

from gateway.core.commands import key_used
from gateway.core.fleet_plan import (
    BROKEN,
    LOOK_AGAIN_S,
    Align,
    Become,
    FleetDecision,
    FleetFacts,
    LetGo,
    Make,
    Member,
    Part,
    Rest,
    decide_fleet,
)
from gateway.core.pause import is_over
from gateway.core.problems import Problem
from gateway.core.renewal import STUCK, Why
from gateway.core.server import ORDERED, Fleet, FleetState, Server, ServerState, Wanted
from gateway.core.spec import ServerSpec
from gateway.flow.locks import Locks
from gateway.flow.servers.beside import Beside
from gateway.flow.servers.keeping import CHANGES_MAX, Keeping, bumped
from gateway.flow.servers.placing import NewServer
from gateway.flow.servers.renewing import Ending
from gateway.flow.servers.runner import Who
from gateway.server_ports import Feature, ServerVendor

SPEC = "spec"
AT_ONCE = 8
EVERYWHERE = ""  # a fleet is at no one vendor: all of them share the gate
PATIENCE_S = 1.0
STEPS_MAX = 400
REFUSED_PAUSES_S = (10, 30, 120, 600)
UNFIT = frozenset({"no_plan_fits", "max_total_reached"})
NAME_MAX = 63

log = structlog.get_logger()


class Orders(Protocol):
    """Creates servers."""

    async def create(self, who: Who, new: NewServer) -> Server:
        """Keep an order and begin to fulfil it. Raises Problem where nothing was bought."""
        ...


@dataclass(frozen=True, slots=True)
class NewFleet:
    """What is asked for. `fingerprint` is of the request: the same `client_token` with another one is another order."""

    client_token: str
    fingerprint: bytes
    name: str
    count: int
    spec: ServerSpec
    until_ms: int
    budget_base: int


@dataclass(frozen=True, slots=True)
class FleetSight:
    """A fleet with every server that was ever ordered for it, the oldest first, and what they cost together."""

    fleet: Fleet
    servers: tuple[Server, ...]
    spec: ServerSpec
    captured_base: int
    held_base: int


@dataclass(slots=True)
class _Memory:
    """What a fleet's orders came to lately; a restart forgets it, and only tries again sooner."""

    refused: int = 0
    refused_due_ms: int = 0
    share_refused: bool = False


@dataclass(frozen=True, slots=True)
class _Due:
    """When a fleet that stands like this is looked at again, by either clock."""

    stand: tuple[object, ...]
    business_ms: int
    wall_ms: int


class Fleets:
    """The use case. `sweep` is called again and again; jobs do that."""

    def __init__(
        self,
        *,
        keeping: Keeping,
        ordering: Orders,
        ending: Ending,
        vendors: Mapping[str, ServerVendor],
        per_account: int,
    ) -> None:
        self._keeping, self._ordering, self._ending, self._vendors = keeping, ordering, ending, vendors
        self._per_account = per_account
        self._locks, self._beside = Locks(), Beside(at_once=AT_ONCE)
        self._memories: dict[str, _Memory] = {}
        self._dues: dict[str, _Due] = {}

    # asked for by an agent

    async def create(self, who: Who, new: NewFleet) -> tuple[Fleet, bool]:
        """Keep a fleet; its servers are ordered by `sweep`. Return it, and whether it is an earlier order's.

        Raises Problem: idempotency_conflict, bad_request for a time that is over or too many fleets.
        """
        claimed = await self._keeping.store.claimed(who.account_id, new.client_token)
        if claimed is None:
            self._require_room(who, new)
        elif claimed.fingerprint != new.fingerprint:
            raise key_used()
        fleet_id = self._keeping.new_id("flt")
        fleet = Fleet(
            id=fleet_id,
            account_id=who.account_id,
            key_id=who.key.id,
            name=new.name or fleet_id.replace("_", "-").lower(),
            client_token=new.client_token,
            fingerprint=new.fingerprint,
            sealed_spec=self._keeping.seal(SPEC, fleet_id, new.spec.to_document()),
            count=new.count,
            until_ms=new.until_ms,
            budget_base=new.budget_base,
            created_at_ms=self._keeping.clock.now_ms(),
        )
        kept_id = await self._keeping.place(fleet, "created", count=new.count, until_ms=new.until_ms)
        return await self.fleet(who.account_id, kept_id), kept_id != fleet_id

    def _require_room(self, who: Who, new: NewFleet) -> None:
        if new.until_ms <= self._keeping.business.now_ms():
            raise Problem("bad_request", "until is over already", "until")
        need = new.spec.need
        named = {*need.vendors, *need.not_vendors, *([] if need.plan is None else [need.plan.partition("/")[0]])}
        if unknown := sorted(named - self._vendors.keys()):
            field = "plan" if need.plan is not None else "need/vendors"
            raise Problem("bad_request", f"no vendor of the neutral API has the name {', '.join(unknown)}", field)
        own = sum(1 for fleet in self._keeping.view.fleets.values() if fleet.account_id == who.account_id)
        if own >= self._per_account:
            raise Problem("bad_request", f"an account has at most {self._per_account} fleets at once; end one")

    async def fleet(self, account_id: str, fleet_id: str) -> Fleet:
        """Return an account's fleet, ended or not. Raises Problem("not_found")."""
        found = self._keeping.view.fleets.get(fleet_id) or await self._keeping.store.record("fleet", fleet_id)
        if not isinstance(found, Fleet) or found.account_id != account_id:
            raise Problem("not_found", "there is no such fleet of yours")
        return found

    async def see(self, fleet: Fleet) -> FleetSight:
        """Return a fleet with all that it ever had."""
        servers = await self._keeping.store.servers_of_fleet(fleet)
        costs = [await self._keeping.store.server_cost(server) for server in servers]
        spec = ServerSpec.from_document(self._keeping.open(SPEC, fleet.id, fleet.sealed_spec))
        captured_base, held_base = sum(c.captured_base for c in costs), sum(c.held_base for c in costs)
        return FleetSight(fleet, servers, spec, captured_base, held_base)

    async def patch(
        self,
        account_id: str,
        fleet_id: str,
        *,
        count: int | None = None,
        until_ms: int | None = None,
        budget_base: int | None = None,
    ) -> Fleet:
        """Change what a fleet is kept at; None leaves it. Raises Problem: not_found, server_ended, bad_request."""
        fleet = await self.fleet(account_id, fleet_id)
        if until_ms is not None and until_ms <= self._keeping.business.now_ms():
            raise Problem("bad_request", "until is over already; DELETE ends the fleet now", "until")

        def changed(now: Fleet) -> Fleet | None:
            if now.state in {FleetState.ENDING, FleetState.ENDED}:
                raise Problem("server_ended", "the fleet has ended, or is ending")
            after = replace(
                now,
                count=now.count if count is None else count,
                until_ms=now.until_ms if until_ms is None else until_ms,
                budget_base=now.budget_base if budget_base is None else budget_base,
            )
            return None if after == now else after

        said = {"count": count, "until_ms": until_ms, "budget_base": budget_base}
        return await self._change(fleet, changed, "changed", **{k: v for k, v in said.items() if v is not None})

    async def end(self, account_id: str, fleet_id: str) -> Fleet:
        """End a fleet: `sweep` destroys its servers. One that is ending or has ended stays as it is. Raises Problem."""
        fleet = await self.fleet(account_id, fleet_id)
        return await self._become(fleet, FleetState.ENDING, "its agent ended it")

    # keeping

    async def sweep(self) -> None:
        """Attend to every fleet that is due (a loop's body). Raises what went wrong in this or an earlier sweep, once."""
        fleets = self._keeping.view.fleets
        for known in (self._memories, self._dues):
            for fleet_id in [each for each in known if each not in fleets]:
                del known[fleet_id]
        for fleet in list(fleets.values()):
            if self._is_due(fleet):
                self._beside.go(fleet.id, EVERYWHERE, partial(self._attend, fleet.id))
        await self._beside.wait(PATIENCE_S)

    async def drain(self, timeout_s: float) -> None:
        """Wait for what is under way, at most that long."""
        await self._beside.drain(timeout_s)

    def _is_due(self, fleet: Fleet) -> bool:
        due = self._dues.get(fleet.id)
        if due is None or due.stand != self._stand(fleet):
            return True
        now_ms = self._keeping.clock.now_ms()
        return self._keeping.business.now_ms() >= due.business_ms or is_over(due.wall_ms, now_ms, LOOK_AGAIN_S * 1000)

    def _stand(self, fleet: Fleet) -> tuple[object, ...]:
        """Return what changes whenever the fleet or one of its open servers does."""
        own = [s for s in self._keeping.view.servers.values() if s.fleet_id == fleet.id]
        return (fleet.version, *((server.id, server.version) for server in own))

    async def _attend(self, fleet_id: str) -> None:
        async with self._locks.of(fleet_id):
            memory = self._memories.setdefault(fleet_id, _Memory())
            for _ in range(STEPS_MAX):
                fleet = self._keeping.view.fleets.get(fleet_id)
                if fleet is None:
                    return
                stand = self._stand(fleet)
                decision = decide_fleet(await self._facts(fleet, memory))
                if isinstance(decision, Rest):
                    self._dues[fleet_id] = _Due(stand, decision.until_ms, decision.wall_ms)
                    return
                await self._do(fleet, memory, decision)

    async def _facts(self, fleet: Fleet, memory: _Memory) -> FleetFacts:
        members = [await self._member(server) for server in await self._keeping.store.servers_of_fleet(fleet)]
        return FleetFacts(
            now_ms=self._keeping.business.now_ms(),
            wall_ms=self._keeping.clock.now_ms(),
            state=fleet.state,
            count=fleet.count,
            until_ms=fleet.until_ms,
            budget_base=fleet.budget_base,
            members=tuple(members),
            refused_due_ms=memory.refused_due_ms,
            share_refused=memory.share_refused,
        )

    async def _member(self, server: Server) -> Member:
        cost = await self._keeping.store.server_cost(server)
        vendor = self._vendors.get(server.vendor)
        return Member(
            id=server.id,
            vendor=server.vendor,
            part=part_of(server),
            committed_base=cost.captured_base + cost.held_base,
            share_base=server.max_total_base or 0,
            keep_until_ms=server.keep_until_ms,
            was_ready=server.ready_at_ms is not None,
            stoppable=server.state in ORDERED or (vendor is not None and vendor.features.can(Feature.DESTROY)),
            ended_at_ms=server.ended_at_ms,
            state=server.state,
            broken=server.reason == BROKEN,
        )

    async def _do(self, fleet: Fleet, memory: _Memory, decision: FleetDecision) -> None:
        match decision:
            case Make():
                await self._make(fleet, memory, decision)
            case LetGo():
                await self._let_go(decision)
            case Align():
                await self._align(decision)
            case Become():
                await self._become(fleet, decision.state, decision.reason)
            case Rest():
                pass

    async def _make(self, fleet: Fleet, memory: _Memory, make: Make) -> None:
        # Read before anything is committed: one that cannot be read would commit a number at every sweep, for ever.
        spec = ServerSpec.from_document(self._keeping.open(SPEC, fleet.id, fleet.sealed_spec))
        number = fleet.made + 1
        fleet = await self._change(
            fleet, lambda now: replace(now, made=number) if now.made < number else None, "ordering", made=number
        )
        for_s = max(60, (fleet.until_ms - self._keeping.business.now_ms()) // 1000)
        spec = replace(spec, need=replace(spec.need, for_s=for_s))
        who = Who(self._keeping.view.keys_by_id[fleet.key_id], self._keeping.new_id("req"))
        try:
            try:
                server = await self._order(who, fleet, number, _elsewhere(spec, make.avoid), make.share_base)
            except Problem as problem:
                if not make.avoid or problem.code not in UNFIT:
                    raise
                server = await self._order(who, fleet, number, spec, make.share_base)
        except Problem as problem:
            await self._refused(fleet, memory, make, problem)
            return
        memory.refused, memory.refused_due_ms, memory.share_refused = 0, 0, False
        log.info("fleet.ordered", fleet_id=fleet.id, server_id=server.id, number=number)
        if fleet.state is FleetState.EXHAUSTED:
            await self._become(fleet, FleetState.ACTIVE)

    async def _order(self, who: Who, fleet: Fleet, number: int, spec: ServerSpec, share_base: int) -> Server:
        token = f"fleet {fleet.id} {number}"
        new = NewServer(
            client_token=token,
            fingerprint=sha256(token.encode()).digest(),
            spec=spec,
            name=member_name(fleet.name, number),
            keep_until_ms=fleet.until_ms,
            auto_renew=True,
            max_total_base=share_base,
            fleet_id=fleet.id,
        )
        return await self._ordering.create(who, new)

    async def _refused(self, fleet: Fleet, memory: _Memory, make: Make, problem: Problem) -> None:
        """Nothing was ordered: the budget may not cover it, or nobody has it now."""
        log.warning("fleet.refused", fleet_id=fleet.id, code=problem.code)
        if problem.code in UNFIT and not make.whole:
            memory.share_refused = True
            return
        pause_s = REFUSED_PAUSES_S[min(memory.refused, len(REFUSED_PAUSES_S) - 1)]
        memory.refused, memory.refused_due_ms = memory.refused + 1, self._keeping.clock.now_ms() + pause_s * 1000
        if problem.code in UNFIT:
            await self._become(fleet, FleetState.EXHAUSTED, f"what is left covers no other server: {problem.detail}")

    async def _let_go(self, decision: LetGo) -> None:
        server = await self._keeping.latest(decision.server_id)
        vendor = self._vendors.get(server.vendor)
        if server.state in ORDERED or (vendor is not None and vendor.features.can(Feature.DESTROY)):
            await self._ending.end(server.id, decision.reason)
            return
        await self._keeping.change(server.id, _unrenewed, "let_go", said=decision.reason)

    async def _align(self, decision: Align) -> None:
        def aligned(now: Server) -> Server | None:
            wanted = (decision.keep_until_ms, decision.share_base)
            if not now.open or (now.keep_until_ms, now.max_total_base) == wanted:
                return None
            return replace(now, keep_until_ms=decision.keep_until_ms, max_total_base=decision.share_base)

        await self._keeping.change(decision.server_id, aligned, "changed")

    async def _become(self, fleet: Fleet, state: FleetState, reason: str = "") -> Fleet:
        def become(now: Fleet) -> Fleet | None:
            over = now.state is FleetState.ENDED or (now.state is FleetState.ENDING and state is not FleetState.ENDED)
            if over or now.state is state:
                return None
            ended_ms = self._keeping.clock.now_ms() if state is FleetState.ENDED else None
            why = now.reason if state is FleetState.ENDED else reason
            return replace(now, state=state, reason=why, ended_at_ms=ended_ms)

        return await self._change(fleet, become, state.value)

    async def _change(
        self, fleet: Fleet, update: Callable[[Fleet], Fleet | None], event: str, **detail: object
    ) -> Fleet:
        """Apply a change to a fleet as it is now, as `Keeping.change` does to a server."""
        for _ in range(CHANGES_MAX):
            before = await self.fleet(fleet.account_id, fleet.id)
            after = update(before)
            if after is None:
                return before
            after = bumped(after, before.version)
            if await self._keeping.put(after, event, **detail):
                return after
        raise Problem("internal", "this fleet changes faster than it can be changed")


def part_of(server: Server) -> Part:
    """Return what a server is to its fleet. One whose auto_renew was taken away is let go, whoever did it."""
    if not server.open:
        return Part.ENDED
    if server.wanted is Wanted.DESTROYED or not server.auto_renew:
        return Part.LEAVING
    if server.state is ServerState.ERROR:
        return Part.BROKEN
    risky = STUCK in server.warned or any(kind.partition(":")[0] == Why.FAILED for kind in server.warned)
    return Part.AT_RISK if risky or server.state is ServerState.GRACE else Part.SOUND


def member_name(name: str, number: int) -> str:
    """Return the name of a fleet's member: what every vendor takes, and unlike its siblings'."""
    tail = f"-{number}"
    return name[: NAME_MAX - len(tail)].rstrip("-") + tail


def _elsewhere(spec: ServerSpec, avoid: tuple[str, ...]) -> ServerSpec:
    excluded = tuple(sorted({*spec.need.not_vendors, *avoid}))
    return replace(spec, need=replace(spec.need, not_vendors=excluded))


def _unrenewed(server: Server) -> Server | None:
    return replace(server, auto_renew=False) if server.open and server.auto_renew else None
