"""Renewals carried out: bought once each, followed to the vendor's own word, told of, and never without the agent's bounds."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.core.commands import RecordResource, RevokeKey, SetFreeze
from gateway.core.payment import Charge
from gateway.core.problems import Problem
from gateway.core.records import Resource
from gateway.core.renewal import STUCK, Why
from gateway.core.renewal_claim import RenewalClaim
from gateway.core.server import Server, ServerState
from gateway.http.port import NotSent, SentUnknown, UpstreamRequest
from tests.unit.gateway.flow.lease_desk import DAY_MS, FAST, HOUR_MS, REF, TERM_S, Leases, leases_on, leases_opened
from tests.unit.gateway.flow.order_desk import told
from tests.unit.gateway.flow.spend_bed import PRICE_BASE

TERM_MS = TERM_S * 1000
PRESENTED = [("renewal_begun", None)]


@pytest.fixture
async def leases(tmp_path: Path) -> AsyncIterator[Leases]:
    """A shop with slow terms, and USD 100."""
    async with leases_opened(tmp_path) as running:
        yield running


@pytest.fixture
async def minutes(tmp_path: Path) -> AsyncIterator[Leases]:
    """A shop that extends by the minute and destroys, and USD 100."""
    async with leases_opened(tmp_path, FAST, destroys=True) as running:
        yield running


async def renewing(leases: Leases, left_ms: int = 4 * DAY_MS, **changes: Any) -> Server:
    """Return a server whose renewal has just been bought."""
    server = await leases.leased(left_ms, **changes)
    leases.renews()
    await leases.sweep()
    return await leases.now(server)


async def asked(leases: Leases, server: Server, **how: Any) -> Problem:
    """Ask for a renewal that must be refused; return the problem."""
    with pytest.raises(Problem) as caught:
        await leases.renewing.renew(leases.desk.who(), server.id, **how)
    return caught.value


# slow terms


async def test_a_term_is_renewed_once_and_its_claim_is_durable_before_anything_leaves(leases: Leases) -> None:
    """One purchase for one renewal, however often the planner looks."""
    server, seen = await leases.leased(4 * DAY_MS), list[str]()

    def sold(request: UpstreamRequest) -> Any:
        seen.append(leases.bed.store.view.servers[server.id].renewal)
        return told(status="renewing")

    leases.desk.told.orders["shop"] = sold
    for _ in range(3):
        await leases.sweep(HOUR_MS)
    (payment,) = leases.bed.open
    server = await leases.now(server)
    claim = RenewalClaim(server.id, 1, 1, server.expires_at_ms or 0)
    assert seen == [server.renewal] == [claim.text]
    assert (payment.idempotency_key, leases.renewed) == (claim.key, [b'{"units": 1}'])
    assert await leases.told(server) == PRESENTED


async def test_it_is_not_due_before_its_lead_begins(leases: Leases) -> None:
    """Five days before the end, and not an hour earlier."""
    server = await leases.leased(6 * DAY_MS)
    leases.renews()
    await leases.sweep(DAY_MS - HOUR_MS)
    assert not leases.renewed
    await leases.sweep(2 * HOUR_MS)
    assert len(leases.renewed) == 1
    assert (await leases.now(server)).renewals == 1


async def test_it_is_renewed_when_its_money_is_collected_and_the_vendor_has_moved_the_end(leases: Leases) -> None:
    """Neither alone will do; then the warnings of the old term are forgotten."""
    server = await renewing(leases, 2 * DAY_MS)
    await leases.change(server, warned=("balance:0",))
    await leases.sweep(HOUR_MS)
    assert (await leases.now(server)).renewal
    await leases.bed.settle(leases.bed.open[0])
    await leases.sweep(HOUR_MS // 2)
    assert (await leases.now(server)).renewal, "the vendor still shows the old end"
    leases.shows(2 * DAY_MS + TERM_MS)
    await leases.sweep(HOUR_MS // 4)
    server = await leases.now(server)
    assert (server.renewal, server.renewals, server.warned) == ("", 1, ())
    assert ("renewed", None) in await leases.told(server)
    assert await leases.bed.store.contradiction() is None


async def test_money_that_moved_no_end_is_a_task_and_never_paid_twice(leases: Leases) -> None:
    """An hour after the vendor has collected, a human asks why, and the agent is told; it lapses unless the vendor mends it."""
    server = await renewing(leases)
    await leases.bed.settle(leases.bed.open[0])
    await leases.sweep(HOUR_MS // 2)
    assert [kind for kind, _ in await leases.bed.tasks()] == []
    for _ in range(3):
        await leases.sweep(HOUR_MS)
    server = await leases.now(server)
    assert [event for event in await leases.told(server) if event[0] != "warning"] == [
        *PRESENTED,
        ("renewal_failed", "not_applied"),
    ]
    assert [kind for kind, _ in await leases.bed.tasks()] == ["renewal_not_applied"]
    leases.desk.shows(REF, told(server=REF, state="running", expires_at_ms=server.expires_at_ms))
    await leases.sweep(4 * DAY_MS)
    await leases.sweep(HOUR_MS)
    server = await leases.now(server)
    assert (server.state, server.reason, len(leases.renewed)) == (ServerState.LAPSED, Why.FAILED, 1)


async def test_a_dead_renewal_is_bought_again_under_the_next_number(leases: Leases) -> None:
    """Not before its authorization is proven dead (P4); the agent is told in between."""
    server = await renewing(leases)
    (first,) = leases.bed.open
    await leases.sweep(2 * DAY_MS)
    assert len(leases.renewed) == 1
    await leases.bed.bury(first)
    await leases.sweep(HOUR_MS)
    (second,) = leases.bed.open
    server = await leases.now(server)
    assert (first.id != second.id, server.renewals, len(leases.renewed)) == (True, 2, 2)
    assert [event for event in await leases.told(server) if event[0] != "warning"] == [
        *PRESENTED,
        ("renewal_failed", "dead"),
        *PRESENTED,
    ]


async def test_a_renewal_that_hangs_near_the_end_is_stuck_and_told_of_once(leases: Leases) -> None:
    """A day before the end; it stays the only one."""
    server = await renewing(leases)
    for _ in range(3):
        await leases.sweep(DAY_MS + HOUR_MS)
    server = await leases.now(server)
    assert STUCK in server.warned
    assert [kind for kind, _ in await leases.told(server)].count("renewal_stuck") == 1
    assert len(leases.renewed) == 1


async def test_an_end_that_the_agents_own_renewal_has_moved_is_noticed_first(leases: Leases) -> None:
    """What was bought through the proxy is seen before anything is bought here."""
    server = await leases.leased(4 * DAY_MS)
    leases.renews()
    leases.shows(4 * DAY_MS + TERM_MS)
    await leases.sweep()
    assert not leases.renewed
    assert (await leases.now(server)).expires_at_ms == leases.bed.clock.ms + 4 * DAY_MS + TERM_MS


async def test_a_renewal_that_the_agent_has_under_way_is_the_one_that_there_is(leases: Leases) -> None:
    """The store's word on the resource counts for planner and agent alike."""
    server = await leases.leased(4 * DAY_MS)
    leases.renews()
    thing = Resource("shop", REF, "acc_1", "", "box", "active", None, None, None, leases.bed.clock.ms)
    await leases.bed.post(RecordResource(replace(thing, open_renewal="pay_proxied"), leases.bed.clock.ms))
    await leases.sweep()
    assert not leases.renewed
    problem = await asked(leases, server)
    assert (problem.code, problem.extra["payment_id"]) == ("renewal_open", "pay_proxied")


# crashes


async def test_a_renewal_that_was_claimed_and_never_bought_is_bought_after_a_crash(leases: Leases) -> None:
    """The next process finds the claim, and buys under that very one."""
    server = await leases.leased(4 * DAY_MS)
    claim = RenewalClaim(server.id, 1, 1, server.expires_at_ms or 0)
    await leases.change(server, renewal=claim.text, renewals=1)
    after = leases_on(leases.bed)
    after.shows(4 * DAY_MS)
    after.renews()
    await after.sweep()
    (payment,) = leases.bed.open
    assert payment.idempotency_key == claim.key
    assert (await after.now(server)).renewals == 1


async def test_a_claim_that_is_not_wanted_any_more_after_a_crash_is_dropped(leases: Leases) -> None:
    """Nothing is bought for it, and nothing is open."""
    server = await leases.leased(4 * DAY_MS)
    claim = RenewalClaim(server.id, 1, 1, server.expires_at_ms or 0)
    await leases.change(server, renewal=claim.text, renewals=1, auto_renew=False)
    after = leases_on(leases.bed)
    await after.sweep()
    server = await after.now(server)
    assert (server.renewal, leases.bed.open) == ("", [])


async def test_a_renewal_that_was_bought_is_not_bought_again_after_a_crash(leases: Leases) -> None:
    """The next process follows the payment."""
    server = await renewing(leases)
    after = leases_on(leases.bed)
    after.renews()
    for _ in range(3):
        await after.sweep(HOUR_MS)
    assert len(leases.bed.open) == 1
    assert not after.desk.told.sold
    await leases.bed.settle(leases.bed.open[0])
    after.shows(4 * DAY_MS + TERM_MS)
    await after.sweep(HOUR_MS)
    assert (await after.now(server)).renewal == ""


# what keeps it from being renewed


async def test_an_empty_balance_is_warned_of_and_lapses_for_that_reason(leases: Leases) -> None:
    """Three warnings, no purchase, and the reason in the record."""
    server = await leases.leased(4 * DAY_MS, max_total_base=2 * PRICE_BASE - 1)
    leases.renews()
    for _ in range(100):
        await leases.sweep(HOUR_MS)
    server = await leases.now(server)
    assert (server.state, server.reason) == (ServerState.LAPSED, Why.MAX_TOTAL)
    assert await leases.told(server) == [("warning", "max_total")] * 3 + [("lapsed", None)]
    assert not leases.renewed


async def test_a_revoked_key_pays_for_nothing(leases: Leases) -> None:
    """The agent is told why nothing is renewed."""
    server = await leases.leased(2 * DAY_MS)
    leases.renews()
    await leases.bed.post(RevokeKey(server.key_id, "acc_1", leases.bed.clock.ms))
    await leases.sweep()
    assert await leases.told(server) == [("warning", "key_revoked")]
    assert not leases.renewed


async def test_a_vendor_that_is_away_is_asked_again_and_again_and_told_of_once(leases: Leases) -> None:
    """Nothing is claimed for it, and it is renewed as soon as it answers."""
    server = await leases.leased(4 * DAY_MS)
    leases.desk.shows(REF, NotSent("connect_failed", "scripted"))
    for _ in range(5):
        await leases.sweep(HOUR_MS)
    assert await leases.told(server) == [("renewal_failed", "vendor_unreachable")]
    leases.shows(3 * DAY_MS)
    leases.renews()
    await leases.sweep(HOUR_MS)
    assert len(leases.renewed) == 1


async def test_a_refusal_that_cost_nothing_leaves_nothing_open(leases: Leases) -> None:
    """A purchase that the account may not make leaves no renewal open."""
    server = await leases.leased(4 * DAY_MS)
    await leases.bed.freeze("vendor:shop")
    await leases.sweep()
    assert (await leases.now(server)).renewal == ""
    assert ("renewal_failed", "frozen") in await leases.told(server)


async def test_an_answer_that_nobody_heard_leaves_the_renewal_open(leases: Leases) -> None:
    """It may have been taken: only the payment's fate ends it."""
    server = await leases.leased(4 * DAY_MS)
    leases.desk.answers("shop", SentUnknown("connection_lost", "scripted"))
    for _ in range(3):
        await leases.sweep(HOUR_MS)
    assert len(leases.bed.open) == 1
    assert (await leases.now(server)).renewal
    await leases.bed.bury(leases.bed.open[0])
    leases.renews()
    await leases.sweep(HOUR_MS)
    assert (await leases.now(server)).renewals == 2


# minutes


async def test_minutes_are_extended_at_once_and_end_when_they_are_not_wanted(minutes: Leases) -> None:
    """The answer's own end counts, before any proof; at keep_until it is destroyed."""
    server = await minutes.leased(HOUR_MS // 4, keep_until_ms=minutes.bed.clock.ms + 3 * HOUR_MS)
    minutes.desk.answers("shop", minutes.box(3 * HOUR_MS))
    await minutes.sweep()
    server = await minutes.now(server)
    assert json.loads(minutes.renewed[0]) == {"units": 165}
    await minutes.sweep(60_000)
    server = await minutes.now(server)
    assert (server.renewal, (server.expires_at_ms or 0) >= (server.keep_until_ms or 1)) == ("", True)
    assert minutes.bed.open[0].axes.charge is Charge.HELD
    minutes.shows(2 * HOUR_MS)
    await minutes.sweep(3 * HOUR_MS)
    assert minutes.endings.ended == [(server.id, Why.KEEP_UNTIL)]
    assert len(minutes.renewed) == 1


async def test_a_lost_answer_to_an_extension_is_found_by_looking(minutes: Leases) -> None:
    """The vendor's own word on the end tells that it was done."""
    server = await minutes.leased(HOUR_MS // 4)
    minutes.desk.answers("shop", SentUnknown("connection_lost", "scripted"))
    await minutes.sweep()
    assert (await minutes.now(server)).renewal
    minutes.shows(6 * HOUR_MS)
    await minutes.sweep(60_000)
    server = await minutes.now(server)
    assert (server.renewal, len(minutes.renewed)) == ("", 1)


# asked for


async def test_an_agent_buys_time_now_and_shares_the_one_renewal_with_the_planner(leases: Leases) -> None:
    """So many units, or as many as last until a time; a second one is refused and names the payment of the first."""
    server = await leases.leased(20 * DAY_MS)
    leases.renews()
    until_ms = (server.expires_at_ms or 0) + TERM_MS + 1
    server = await leases.renewing.renew(leases.desk.who(), server.id, until_ms=until_ms)
    assert leases.renewed == [b'{"units": 2}']
    problem = await asked(leases, server, units=1)
    assert (problem.code, problem.extra) == ("renewal_open", {"payment_id": leases.bed.open[0].id})
    await leases.sweep(17 * DAY_MS)
    assert len(leases.renewed) == 1


async def test_a_repeated_request_is_the_renewal_of_its_number(leases: Leases) -> None:
    """What has begun is not begun again, not even when it is over; what was refused may be tried again."""
    server = await leases.leased(20 * DAY_MS)
    await leases.bed.freeze("vendor:shop")
    assert (await asked(leases, server, number=1)).code == "frozen"
    await _thaw(leases)
    leases.renews()
    await asyncio.gather(
        *(leases.renewing.renew(leases.desk.who(), server.id, number=1) for _ in range(3)),
    )
    await leases.bed.settle(leases.bed.open[0])
    leases.shows(20 * DAY_MS + TERM_MS)
    await leases.sweep(HOUR_MS)
    await leases.renewing.renew(leases.desk.who(), server.id, number=1)
    assert len(leases.renewed) == 1


@pytest.mark.parametrize(
    ("changes", "how", "code", "field"),
    [
        ({"max_total_base": 2 * PRICE_BASE - 1}, {}, "max_total_reached", None),
        ({}, {"units": 13}, "bad_request", "units"),
        ({}, {"until_ms": 1}, "bad_request", "until"),
        ({"keep_until_ms": 1_800_000_000_000 + DAY_MS}, {"units": 1}, "bad_request", "units"),
        ({"until_reason": "template"}, {}, "server_not_ready", None),
    ],
)
async def test_what_an_agent_cannot_buy_is_refused_before_anything_is_begun(
    leases: Leases, changes: dict[str, Any], how: dict[str, Any], code: str, field: str | None
) -> None:
    """Its own bounds and the vendor's hold for it as for the planner."""
    server = await leases.leased(20 * DAY_MS, **changes)
    problem = await asked(leases, server, **how)
    assert (problem.code, problem.field) == (code, field)
    assert (await leases.now(server)).renewals == 0


async def test_only_its_owner_renews_a_server_and_only_where_there_is_something_to_renew(leases: Leases) -> None:
    """P9; what has ended stays ended."""
    server = await leases.leased(DAY_MS)
    with pytest.raises(Problem) as foreign:
        await leases.renewing.renew(leases.desk.who("acc_2"), server.id)
    assert foreign.value.code == "not_found"
    await leases.endings.end(server.id, "drill")
    assert (await asked(leases, server)).code == "server_ended"


async def test_a_bug_in_one_servers_attendance_is_heard_and_stops_no_other(leases: Leases) -> None:
    """The loop reports it once, and goes on."""
    server = await leases.leased(4 * DAY_MS)
    leases.desk.shows(REF, ValueError("a bug"))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a bug"):
        await leases.sweep()
    leases.shows(4 * DAY_MS)
    leases.renews()
    await leases.sweep(HOUR_MS)
    assert (await leases.now(server)).renewals == 1


async def _thaw(leases: Leases) -> None:
    await leases.bed.post(SetFreeze("vendor:shop", frozen=False, reason="", by="me", at_ms=leases.bed.clock.ms))


def test_a_claim_reads_back_and_nothing_else_is_one() -> None:
    """The text is the key of the purchase and says everything about it."""
    claim = RenewalClaim("srv_1", 2, 3, 4)
    assert RenewalClaim.read(claim.text) == claim
    assert RenewalClaim.read("") is None
    with pytest.raises(ValueError, match="no claim"):
        RenewalClaim.read("renew srv_1 2")


async def test_a_clock_that_is_set_back_does_not_stop_a_renewal(leases: Leases) -> None:
    """What was to be tried in ten minutes by a clock that was wrong is tried by the one that is right."""
    await leases.leased(2 * DAY_MS)
    leases.desk.shows(REF, NotSent("connect_failed", "scripted"))
    await leases.sweep()
    leases.shows(2 * DAY_MS)
    leases.renews()
    await leases.sweep()
    assert not leases.renewed
    await leases.sweep(-600_000)
    assert len(leases.renewed) == 1
