"""Fleets carried out: ordered once each, replaced within the budget, let go at the end, and the same after a crash."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.core.plan import Need
from gateway.core.problems import Problem
from gateway.core.renewal import STUCK
from gateway.core.server import Fleet, FleetState, Server, ServerState
from gateway.core.spec import ServerSpec
from gateway.flow.servers.fleets import NewFleet, member_name
from gateway.http.port import UpstreamRequest
from tests.unit.gateway.flow.lease_desk import DAY_MS, FAST, HOUR_MS, Leases, leases_on, leases_opened
from tests.unit.gateway.flow.spend_bed import NOW_MS, PRICE_BASE, respond

UNTIL_MS = NOW_MS + DAY_MS
USD = 1_000_000


@pytest.fixture
async def leases(tmp_path: Path) -> AsyncIterator[Leases]:
    """Two shops that destroy on demand, and USD 100."""
    async with leases_opened(tmp_path, FAST, destroys=True) as running:
        sells(running)
        yield running


@pytest.fixture
async def terms(tmp_path: Path) -> AsyncIterator[Leases]:
    """Two shops with terms that nobody can end, and USD 100."""
    async with leases_opened(tmp_path) as running:
        sells(running)
        yield running


def sells(leases: Leases) -> None:
    """Let both shops make whatever is ordered."""

    def made(request: UpstreamRequest) -> Any:
        ref = f"box-{len(leases.desk.told.sold)}"
        leases.shows(DAY_MS * 2, ref)
        return leases.box(DAY_MS * 2, ref)

    leases.desk.told.orders |= {"shop": made, "other": made}


def new(token: str = "fleet-1", **changes: Any) -> NewFleet:
    """Return an order of two servers until tomorrow for four dollars."""
    fleet = NewFleet(token, token.encode().ljust(32, b"."), "web", 2, ServerSpec(Need()), UNTIL_MS, 4 * USD)
    return replace(fleet, **changes)


async def begun(leases: Leases, **changes: Any) -> Fleet:
    """Return a fleet whose servers run."""
    fleet, _ = await leases.fleets.create(leases.desk.who(), new(**changes))
    await turn(leases)
    return await leases.fleets.fleet("acc_1", fleet.id)


async def turn(leases: Leases, later_ms: int = 0) -> None:
    """Let time pass, and everybody do what is due."""
    leases.bed.clock.ms += later_ms
    for _ in range(3):
        await leases.fleets.sweep()
        await leases.fleets.drain(5.0)
        await leases.desk.ordering.resume()
        await leases.desk.ordering.drain(5.0)
        await leases.bed.answers.drain(5.0)


async def members(leases: Leases, fleet: Fleet) -> list[Server]:
    """Return every server that was ever ordered for a fleet."""
    return list((await leases.fleets.see(fleet)).servers)


async def fate(leases: Leases, server: Server, state: ServerState) -> None:
    """Let a server end, or break."""

    def update(now: Server) -> Server:
        ended = leases.bed.clock.ms if state is not ServerState.ERROR else None
        return replace(now, state=state, ended_at_ms=ended)

    await leases.desk.keeping.change(server.id, update, state.value)


async def test_a_fleet_orders_its_servers_once_each_within_equal_shares(leases: Leases) -> None:
    """As many as wanted, each kept until its end for its share of the budget; looking again orders no more."""
    fleet = await begun(leases)
    for _ in range(3):
        await turn(leases, HOUR_MS)
    own = await members(leases, fleet)
    assert [(s.state, s.max_total_base, s.keep_until_ms, s.auto_renew) for s in own] == [
        (ServerState.RUNNING, 2 * USD, UNTIL_MS, True)
    ] * 2
    assert sorted(s.name for s in own) == ["web-1", "web-2"]
    assert len(leases.bed.open) == 2
    sight = await leases.fleets.see(await leases.fleets.fleet("acc_1", fleet.id))
    assert (sight.fleet.made, sight.captured_base, sight.held_base) == (2, 0, 2 * PRICE_BASE)


async def test_the_same_order_again_is_the_same_fleet(leases: Leases) -> None:
    """Its token stands for it for good; with another request it stands for nothing."""
    first, earlier = await leases.fleets.create(leases.desk.who(), new())
    again, replayed = await leases.fleets.create(leases.desk.who(), new())
    assert (earlier, replayed, again.id) == (False, True, first.id)
    with pytest.raises(Problem) as conflict:
        await leases.fleets.create(leases.desk.who(), new(fingerprint=b"x" * 32))
    assert conflict.value.code == "idempotency_conflict"


async def test_what_cannot_be_kept_is_refused(leases: Leases) -> None:
    """A time that is over, and more fleets than an account may have."""
    with pytest.raises(Problem) as over:
        await leases.fleets.create(leases.desk.who(), new(until_ms=leases.bed.clock.ms))
    assert over.value.field == "until"
    for number in range(3):
        await leases.fleets.create(leases.desk.who(), new(f"fleet-{number}"))
    with pytest.raises(Problem, match="at most 3"):
        await leases.fleets.create(leases.desk.who(), new("fleet-4"))


async def test_a_lost_member_is_replaced_from_what_it_left(leases: Leases) -> None:
    """The new one's share is what the budget still has; the lost one's cost stays spent."""
    fleet = await begun(leases)
    first, _ = await members(leases, fleet)
    await fate(leases, first, ServerState.LOST)
    await turn(leases, HOUR_MS)
    *_, third = await members(leases, fleet)
    assert third.state is ServerState.RUNNING
    assert third.max_total_base == 2 * USD - PRICE_BASE
    assert (await leases.fleets.fleet("acc_1", fleet.id)).made == 3


async def test_a_broken_member_is_destroyed_and_replaced(leases: Leases) -> None:
    """Its vendor says that it is broken."""
    fleet = await begun(leases)
    first, _ = await members(leases, fleet)
    await fate(leases, first, ServerState.ERROR)
    await turn(leases, HOUR_MS)
    assert [server_id for server_id, _ in leases.endings.ended] == [first.id]
    assert sum(s.open for s in await members(leases, fleet)) == 2


async def test_a_stuck_renewal_counts_against_the_budget_until_it_is_over(terms: Leases) -> None:
    """Its replacement is bought from what nobody can collect; when it comes good, one too many is not renewed."""
    fleet = await begun(terms, budget_base=9 * USD)
    first, _ = await members(terms, fleet)
    await terms.change(first, warned=(STUCK,))
    await turn(terms, HOUR_MS)
    own = await members(terms, fleet)
    assert len(own) == 3
    assert sum(s.max_total_base or 0 for s in own) <= 9 * USD
    await terms.change(first, warned=())
    await turn(terms, HOUR_MS)
    assert sum(s.auto_renew for s in await members(terms, fleet)) == 2
    assert not terms.endings.ended


async def test_a_budget_that_covers_no_server_is_exhausted_until_it_is_raised(leases: Leases) -> None:
    """One of two where a share is too small for either; then the agent pays more, and gets the other one."""
    leases.desk.ways.candidates = leases.desk.ways.candidates[:1]
    fleet = await begun(leases, budget_base=3 * PRICE_BASE)
    assert fleet.state is FleetState.EXHAUSTED
    assert len(await members(leases, fleet)) == 1
    await leases.fleets.patch("acc_1", fleet.id, budget_base=10 * PRICE_BASE)
    await turn(leases, HOUR_MS)
    fleet = await leases.fleets.fleet("acc_1", fleet.id)
    assert (fleet.state, len(await members(leases, fleet))) == (FleetState.ACTIVE, 2)


async def test_a_changed_fleet_changes_its_members(leases: Leases) -> None:
    """A later end reaches them; a smaller count lets one go."""
    fleet = await begun(leases)
    await leases.fleets.patch("acc_1", fleet.id, until_ms=UNTIL_MS + DAY_MS, count=1)
    await turn(leases, HOUR_MS)
    own = await members(leases, fleet)
    assert [s.keep_until_ms for s in own if s.open] == [UNTIL_MS + DAY_MS]
    assert len(leases.endings.ended) == 1


async def test_at_its_end_everything_is_destroyed(leases: Leases) -> None:
    """And so when its agent ends it; then nothing more is ordered for it."""
    fleet = await begun(leases)
    await turn(leases, DAY_MS + HOUR_MS)
    fleet = await leases.fleets.fleet("acc_1", fleet.id)
    assert (fleet.state, fleet.reason, len(leases.endings.ended)) == (FleetState.ENDED, "its time is over", 2)
    with pytest.raises(Problem) as ended:
        await leases.fleets.patch("acc_1", fleet.id, count=3)
    assert ended.value.code == "server_ended"
    assert (await leases.fleets.end("acc_1", fleet.id)).state is FleetState.ENDED


async def test_what_nobody_can_destroy_is_not_renewed(terms: Leases) -> None:
    """The fleet has ended; its terms run out by themselves."""
    fleet = await begun(terms)
    await terms.fleets.end("acc_1", fleet.id)
    await turn(terms, HOUR_MS)
    fleet = await terms.fleets.fleet("acc_1", fleet.id)
    assert fleet.state is FleetState.ENDED
    assert [(s.open, s.auto_renew) for s in await members(terms, fleet)] == [(True, False)] * 2


async def test_a_crash_between_number_and_order_buys_nothing_twice(leases: Leases) -> None:
    """The number is spent; the next process orders under the next one, and only as many as are wanted."""
    fleet, _ = await leases.fleets.create(leases.desk.who(), new())
    await leases.desk.keeping.put(replace(fleet, made=1, version=fleet.version + 1), "ordering", made=1)
    after = leases_on(leases.bed, FAST, destroys=True)
    sells(after)
    await turn(after)
    fleet = await after.fleets.fleet("acc_1", fleet.id)
    assert (fleet.made, len(await members(after, fleet)), len(leases.bed.open)) == (3, 2, 2)


async def test_orders_that_fail_are_made_less_and_less_often(leases: Leases) -> None:
    """A vendor that refuses everything is not asked without a pause, and nothing is spent on it."""
    leases.desk.told.orders |= {"shop": lambda _: respond(503), "other": lambda _: respond(503)}
    leases.desk.ways.candidates = leases.desk.ways.candidates[:1]
    fleet = await begun(leases, count=1)
    for payment in list(leases.bed.open):
        await leases.bed.bury(payment)
    for _ in range(4):
        await turn(leases, 1_000)
    assert len(await members(leases, fleet)) <= 2


async def test_a_clock_that_was_set_back_keeps_no_fleet_waiting(leases: Leases) -> None:
    """Neither the pause after a refusal nor the next look lies a day ahead then."""
    ways, leases.desk.ways.candidates = leases.desk.ways.candidates, ()
    fleet = await begun(leases)
    leases.desk.ways.candidates = ways
    await turn(leases)
    assert await members(leases, fleet) == []
    await turn(leases, -DAY_MS)
    assert await members(leases, fleet) != [], "it is ordered, whatever is signed while chain and clock differ by a day"


async def test_a_fleet_is_its_accounts_own(leases: Leases) -> None:
    """P9."""
    fleet = await begun(leases)
    for asked in (leases.fleets.fleet, leases.fleets.end):
        with pytest.raises(Problem) as foreign:
            await asked("acc_2", fleet.id)
        assert foreign.value.code == "not_found"


def test_members_names_fit_every_vendor() -> None:
    """However long the fleet's own name is."""
    assert member_name("web", 3) == "web-3"
    long = member_name("a" * 61 + "-b", 12)
    assert (len(long) <= 63, long.endswith("a-12")) == (True, True)


async def test_nothing_is_told_of_an_order_that_no_plan_fits(leases: Leases) -> None:
    """The fleet says so itself, and tries again later."""
    leases.desk.ways.candidates = ()
    fleet = await begun(leases)
    assert (fleet.state, fleet.reason[:20]) == (FleetState.EXHAUSTED, "what is left covers ")
    assert not await members(leases, fleet)
