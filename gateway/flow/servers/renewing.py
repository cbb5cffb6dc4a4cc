"""Keeping servers for as long as they are wanted, and never longer: the planner's decisions, carried out one by one.

Must not know vendors.  Theory: one server is in one hand at a time, whether the planner or its agent asks, so its renewals
follow one another; what was begun is durable, so a crash only delays it, and every decision is made from facts read anew.
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import structlog

from gateway.core.money import format_amount
from gateway.core.pause import is_over
from gateway.core.problems import Problem
from gateway.core.renewal import (
    LOOK_AGAIN_S,
    OVERDUE,
    SOON_S,
    STUCK,
    Decision,
    Destroy,
    Extension,
    Facts,
    Lapse,
    Overdue,
    Renew,
    Stuck,
    Wait,
    Warn,
    Why,
    decide,
)
from gateway.core.server import Server, ServerState, Wanted
from gateway.core.times import utc_text
from gateway.flow.locks import Locks
from gateway.flow.servers.beside import Beside
from gateway.flow.servers.doing import Doing, require_made
from gateway.flow.servers.renewal_buying import Buying, Caps, Looking
from gateway.flow.servers.renewal_facts import Gathering
from gateway.flow.servers.runner import Who
from gateway.server_ports import Feature

AT_ONCE = 16  # at one vendor: one that is slow keeps no other waiting
DECISIONS_MAX = 5
PATIENCE_S = 1.0  # a sweep waits so long for what it began; the rest goes on by itself
STEPS_MAX = 12
UNDER_WAY_LOOK_S = 2.0
PAUSES_S = (5.0, 15.0, 60.0, 300.0)
LONGEST_PAUSE_MS = int(max(PAUSES_S) * 1000)

log = structlog.get_logger()


class Ending(Protocol):
    """Ends servers."""

    async def end(self, server_id: str, reason: str) -> Server:
        """End a server on the gateway's own account: durable, and asked for until it is confirmed."""
        ...


@dataclass(slots=True)
class _Tries:
    """How often in a row a server could not be attended to, why, and when it is tried again (wall clock)."""

    count: int = 0
    code: str = ""
    due_ms: int = 0


@dataclass(frozen=True, slots=True)
class _Due:
    """When a server of this version is attended to again: when something is due, or because time has passed on a clock."""

    version: int
    due_ms: int  # business time, like `again_ms`
    again_ms: int
    wall_ms: int
    pause_ms: int  # how long that was, on the wall clock


class Renewing:
    """The use case. `sweep` is called again and again; jobs do that."""

    def __init__(self, *, doing: Doing, seeing: Looking, ending: Ending, gathering: Gathering) -> None:
        self._keeping, self._doing = doing.keeping, doing
        self._seeing, self._ending, self._gathering = seeing, ending, gathering
        self._buying = Buying(self._keeping, doing, seeing)
        self._locks = Locks()
        self._gates: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(AT_ONCE))
        self._dues: dict[str, _Due] = {}
        self._tries: dict[str, _Tries] = {}
        self._beside = Beside()

    # the planner

    async def sweep(self) -> None:
        """Attend to every server that is due (a loop's body). Raises what went wrong in this or an earlier sweep, once.

        Several errors are raised as one group: none hides another.
        """
        servers = self._keeping.view.servers
        for known in (self._dues, self._tries):
            for server_id in [each for each in known if each not in servers]:
                del known[server_id]
        for server in list(servers.values()):
            if self._is_due(server):
                self._beside.go(server.id, server.vendor, partial(self._attend, server))
        await self._beside.wait(PATIENCE_S)

    async def drain(self, timeout_s: float) -> None:
        """Wait for what is under way, at most that long."""
        await self._beside.drain(timeout_s)

    def _is_due(self, server: Server) -> bool:
        if server.wanted is not Wanted.KEPT or server.vendor not in self._doing.vendors:
            return False  # of a vendor that is configured no more nobody can ask for anything
        due = self._dues.get(server.id)
        if due is None or due.version != server.version:
            return True
        passed = self._keeping.business.now_ms() >= min(due.due_ms, due.again_ms)
        return passed or is_over(due.wall_ms, self._keeping.clock.now_ms(), due.pause_ms)

    async def _attend(self, server: Server) -> None:
        # The lock first: whoever waits for one server must not stand in the way of the others.
        async with self._locks.of(server.id), self._gates[server.vendor]:
            server = await self._keeping.latest(server.id)
            if not server.open or server.wanted is not Wanted.KEPT:
                return
            tries, wait = self._tries.setdefault(server.id, _Tries()), self._soon()
            try:
                wait = await self._steps(server, tries)
            except Problem as problem:
                wait = await self._failed(server.id, tries, problem)
            finally:  # whatever else went wrong is heard by the loop, and is no reason to hurry
                self._rest(server.id, wait, tries)

    def _rest(self, server_id: str, wait: Wait, tries: _Tries) -> None:
        server = self._keeping.view.servers.get(server_id)
        if server is None:
            return
        again_s = SOON_S if wait.hindered else LOOK_AGAIN_S
        again_ms = self._keeping.business.now_ms() + again_s * 1000
        look_s = min(again_s, UNDER_WAY_LOOK_S) if server.renewal else again_s
        now_ms = self._keeping.clock.now_ms()
        wall_ms = now_ms + int(look_s * 1000)
        if not is_over(tries.due_ms, now_ms, LONGEST_PAUSE_MS):
            wall_ms = max(wall_ms, tries.due_ms)
        self._dues[server_id] = _Due(server.version, wait.until_ms, again_ms, wall_ms, wall_ms - now_ms)

    async def _steps(self, server: Server, tries: _Tries) -> Wait:
        """Do one thing after another until there is nothing more to do; return until when."""
        looked = False
        for _ in range(STEPS_MAX):
            under_way, server = server.renewal, await self._follow(server)
            if under_way and not server.renewal:
                tries.count, tries.code = 0, ""
            facts = await self._gathering.facts(server, failing=tries.count > 0)
            decision = decide(facts)
            if isinstance(decision, Wait):
                return decision
            if isinstance(decision, Renew | Lapse) and not looked:
                if not is_over(tries.due_ms, self._keeping.clock.now_ms(), LONGEST_PAUSE_MS):
                    return self._soon()
                looked, server = True, await self._seeing.look(server.id)
            else:
                server = await self._do(server, facts, decision)
                if isinstance(decision, Renew):
                    tries.count, tries.code = 0, ""
            if not server.open or server.wanted is not Wanted.KEPT:
                break
        return self._soon()

    def _soon(self) -> Wait:
        return Wait(self._keeping.business.now_ms() + SOON_S * 1000, hindered=True)

    async def _do(self, server: Server, facts: Facts, decision: Decision) -> Server:
        match decision:
            case Renew():
                begun = await self._buying.begin(self._who(server), server, decision.units, Caps(_most_base(facts)))
                return begun or await self._keeping.latest(server.id)
            case Destroy():
                log.info("server.ending", server_id=server.id, reason=decision.reason)
                return await self._ending.end(server.id, decision.reason)
            case Warn():
                said = {"warning": decision.why.value, "due_at_ms": decision.ends_at_ms}
                return await self._warn(server, decision.kind, "warning", said)
            case Overdue():
                return await self._overdue(server, decision.ends_at_ms)
            case Stuck():
                stuck = {"said": decision.detail, "due_at_ms": server.expires_at_ms, "attempt": server.renewals}
                return await self._warn(server, STUCK, "renewal_stuck", stuck)
            case Lapse():
                return await self._lapse(server, decision.reason)
            case Wait():
                return server

    async def _warn(self, server: Server, kind: str, event: str, said: Mapping[str, object]) -> Server:
        def warned(now: Server) -> Server | None:
            if kind in now.warned or not now.open:
                return None
            return replace(now, warned=(*now.warned, kind))

        log.warning("server.warned", warning_event=event, server_id=server.id, account_id=server.account_id, **said)
        return await self._keeping.change(server.id, warned, event, **said)

    async def _overdue(self, server: Server, ends_ms: int) -> Server:
        detail = (
            f"{server.vendor} should have ended {server.ref} at {utc_text(ends_ms)}, and it is charged all the same"
        )
        await self._keeping.tasks.ask("not_ended", f"{server.vendor}/{server.ref}", detail)
        return await self._warn(server, OVERDUE, "warning", {"warning": Why.TEMPLATE.value, "due_at_ms": ends_ms})

    async def _lapse(self, server: Server, reason: str) -> Server:
        now_ms = self._keeping.clock.now_ms()

        def lapsed(now: Server) -> Server | None:
            if not now.open or now.renewal or now.expires_at_ms != server.expires_at_ms:
                return None
            return replace(now, state=ServerState.LAPSED, reason=reason, as_of_ms=now_ms, ended_at_ms=now_ms)

        return await self._keeping.change(server.id, lapsed, "lapsed")

    # the renewal under way

    async def _follow(self, server: Server) -> Server:
        """Go on with the renewal under way: see whether it is over, or ask for it again where it was never bought."""
        if not server.renewal:
            return server
        if await self._buying.is_bought(server):
            return await self._buying.follow(server, slow=self._gathering.is_slow(server))
        # A crash came between its claim and its purchase. It is bought now if it still would be.
        facts = await self._gathering.facts(replace(server, renewal=""))
        if isinstance(decide(facts), Renew):
            return await self._buying.resume(self._who(server), server, Caps(_most_base(facts)))
        return await self._buying.drop(server, "not_wanted")

    def _who(self, server: Server) -> Who:
        """Whoever ordered it pays for it."""
        return Who(self._keeping.view.keys_by_id[server.key_id], self._keeping.new_id("req"))

    async def _failed(self, server_id: str, tries: _Tries, problem: Problem) -> Wait:
        """Note that a server could not be attended to; return until when it is left alone."""
        now_ms = self._keeping.clock.now_ms()
        pause_s = PAUSES_S[min(tries.count, len(PAUSES_S) - 1)]
        news = tries.code != problem.code
        tries.count, tries.code, tries.due_ms = tries.count + 1, problem.code, now_ms + int(pause_s * 1000)
        log.warning("server.not_renewed", server_id=server_id, code=problem.code, tries=tries.count)
        server = await self._keeping.latest(server_id)
        if news and server.open and not server.renewal and problem.code != "renewal_open":
            said = {"warning": problem.code, "said": problem.detail, "due_at_ms": server.expires_at_ms}
            await self._keeping.change(server_id, _unchanged, "renewal_failed", **said)
        return Wait(self._keeping.business.now_ms() + int(pause_s * 1000), hindered=True)

    # asked for by an agent

    async def renew(
        self,
        who: Who,
        server_id: str,
        *,
        units: int | None = None,
        until_ms: int | None = None,
        number: int | None = None,
        max_charge_base: int | None = None,
    ) -> Server:
        """Buy time for an account's server now: so many units, or as many as last until then (business time); else one.

        `number` (of `reserve`) makes it the server's renewal of that number and no other: what was bought under it is not
        bought again, and what was not, is. Raises Problem, before anything is kept: not_found, capability_missing,
        scope_missing, server_ended, server_not_ready, renewal_open (naming its payment), max_total_reached, bad_request
        naming `units` or `until`; also price_above_max_charge, unpaid, and what the vendor's call raises.
        """
        server = await self._allowed(who, server_id)
        return await self._doing.whole(self._renew(who, server.id, units, until_ms, number, max_charge_base))

    async def reserve(self, who: Who, server_id: str) -> int:
        """Return a number for one renewal that an agent asks for, its own for good. Raises Problem as `renew`."""
        server = await self._allowed(who, server_id)
        require_made(server)
        return await self._buying.reserve(server)

    async def _allowed(self, who: Who, server_id: str) -> Server:
        server = await self._keeping.server(who.account_id, server_id)
        self._doing.require(server.vendor, Feature.RENEW)
        self._doing.require_scope(who, server.vendor)
        return server

    async def _renew(
        self,
        who: Who,
        server_id: str,
        units: int | None,
        until_ms: int | None,
        number: int | None,
        max_charge_base: int | None,
    ) -> Server:
        async with self._locks.of(server_id):
            server = await self._keeping.latest(server_id)
            if number is not None and await self._buying.was_bought(server, number):
                return server
            server = await self._follow(server)
            if number is not None and await self._buying.was_bought(server, number):
                return server  # begun before a crash, and bought only now
            for _ in range(DECISIONS_MAX):
                require_made(server)
                server = await self._seeing.look(server.id)
                require_made(server)
                facts = await self._gathering.facts(server)
                if facts.renewal_open:
                    raise await self._open_already(server)
                caps = Caps(_most_base(facts), max_charge_base, asked=True)
                count = _units(server, facts, units, until_ms)
                begun = await self._buying.begin(who, server, count, caps, number=number)
                if begun is not None:
                    return begun
                server = await self._keeping.latest(server_id)
            raise Problem("internal", "this server changes faster than it can be renewed")

    async def _open_already(self, server: Server) -> Problem:
        resource = await self._keeping.store.resource(server.vendor, server.ref or "")
        payment_id = await self._buying.payment_id(server)
        if payment_id is None and resource is not None:
            payment_id = resource.open_renewal
        extra = {} if payment_id is None else {"payment_id": payment_id}
        return Problem(
            "renewal_open", "a renewal of this server is open; wait until it is settled or dead", extra=extra
        )


def _units(server: Server, facts: Facts, units: int | None, until_ms: int | None) -> int:
    """Return how many units an agent asks for. Raises Problem."""
    extension, ends_ms = facts.extension, facts.expires_at_ms
    if server.until_reason or extension is None or ends_ms is None:
        raise Problem(
            "server_not_ready", "nothing extends the time of this server, or nobody knows yet until when it is"
        )
    unit_ms = extension.unit_s * 1000
    if until_ms is not None:
        units = -(-(until_ms - ends_ms) // unit_ms)
        if units < 1:
            raise Problem("bad_request", f"it is paid for until {utc_text(ends_ms)} already", "until")
    field = "units" if until_ms is None else "until"
    count = extension.min_units if units is None else units
    if not extension.min_units <= count <= extension.max_units:
        limits = f"from {extension.min_units} to {extension.max_units}"
        raise Problem("bad_request", f"units are {limits} at once, each of {extension.unit_s} s; not {count}", field)
    if server.keep_until_ms is not None and ends_ms + (count - 1) * unit_ms >= server.keep_until_ms:
        raise Problem("bad_request", f"keep_until is {utc_text(server.keep_until_ms)}; move it first", field)
    _require_covered(facts, extension, count)
    return count


def _require_covered(facts: Facts, extension: Extension, count: int) -> None:
    cost_base, most_base = extension.cost_base(count), _most_base(facts)
    if most_base is not None and (cost_base or 1) > most_base:
        costs = "" if cost_base is None else f", {format_amount(cost_base)} needed"
        raise Problem("max_total_reached", f"max_total leaves {format_amount(most_base)}{costs}")


def _most_base(facts: Facts) -> int | None:
    """Return the most that the next renewal may cost; None for no limit but the balance."""
    return None if facts.max_total_base is None else max(0, facts.max_total_base - facts.committed_base)


def _unchanged(server: Server) -> Server | None:
    return server if server.open else None
