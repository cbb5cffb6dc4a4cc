"""What is bought once stays bought once: numbers, marks, changed wishes, caps, and errors that hide no other."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.core.commands import SetFreeze
from gateway.core.problems import Problem
from gateway.core.renewal import NOT_APPLIED
from gateway.core.server import Server, Wanted
from gateway.flow.servers.runner import Who
from gateway.http.port import UpstreamRequest, UpstreamResponse
from tests.unit.gateway.flow.lease_desk import DAY_MS, HOUR_MS, REF, TERM_S, Leases, leases_opened
from tests.unit.gateway.flow.order_desk import told
from tests.unit.gateway.flow.spend_bed import PRICE_BASE

TERM_MS = TERM_S * 1000


@pytest.fixture
async def leases(tmp_path: Path) -> AsyncIterator[Leases]:
    """A shop with slow terms, and USD 100."""
    async with leases_opened(tmp_path) as running:
        yield running


async def refused(leases: Leases, server: Server, **how: Any) -> Problem:
    """Ask for a renewal that must be refused; return the problem."""
    with pytest.raises(Problem) as caught:
        await leases.renewing.renew(leases.desk.who(), server.id, **how)
    return caught.value


async def settled(leases: Leases, moved_ms: int) -> None:
    """Let the renewal under way be collected, and the vendor show its end so far from now."""
    await leases.bed.settle(leases.bed.open[0])
    leases.shows(moved_ms)
    await leases.sweep(HOUR_MS // 4)


# paid, and not applied


async def not_applied(leases: Leases) -> Server:
    """Return a server whose renewal was paid for, and whose end has not moved an hour later."""
    server = await leases.leased(4 * DAY_MS)
    leases.renews()
    await leases.sweep()
    await leases.bed.settle(leases.bed.open[0])
    await leases.sweep(HOUR_MS + 1)
    return await leases.now(server)


async def test_one_payment_that_moved_nothing_is_the_last_one_unasked(leases: Leases) -> None:
    """The mark is durable, and no hour of the days that are left buys a second time."""
    server = await not_applied(leases)
    assert (server.renewal, server.warned[-1]) == ("", NOT_APPLIED)
    for _ in range(60):
        await leases.sweep(HOUR_MS)
    assert len(leases.renewed) == 1
    assert [kind for kind, _ in await leases.bed.tasks()] == ["renewal_not_applied"]


async def test_its_agent_may_buy_it_again_and_an_end_that_moves_lifts_the_mark(leases: Leases) -> None:
    """An explicit request is the agent's own word; the planner is back once the end has moved."""
    server = await not_applied(leases)
    await leases.renewing.renew(leases.desk.who(), server.id)
    assert len(leases.renewed) == 2
    await settled(leases, 4 * DAY_MS + TERM_MS)
    server = await leases.now(server)
    assert (server.renewal, server.warned) == ("", ())
    await leases.sweep(TERM_MS)
    assert len(leases.renewed) == 3


# numbers


async def test_a_number_that_was_given_is_nobody_elses_whatever_the_planner_does(leases: Leases) -> None:
    """The planner's purchase was dropped and made again while the agent's request waited: each is bought once."""
    server = await leases.leased(4 * DAY_MS)
    number = await leases.renewing.reserve(leases.desk.who(), server.id)
    leases.renews()
    await leases.sweep()
    assert len(leases.renewed) == 1, "the planner's"
    assert (await refused(leases, server, number=number)).code == "renewal_open"
    await settled(leases, 4 * DAY_MS + TERM_MS)
    for _ in range(2):
        bought = await leases.renewing.renew(leases.desk.who(), server.id, number=number)
        assert bought.renewal.split(" ")[2] == str(number)
    assert len(leases.renewed) == 2, "the agent's, that a 409 did not swallow"
    await settled(leases, 4 * DAY_MS + 2 * TERM_MS)
    assert (await leases.renewing.renew(leases.desk.who(), server.id, number=number)).renewal == ""
    assert len(leases.renewed) == 2


async def test_a_number_whose_purchase_was_dropped_is_bought_under_itself_and_once(leases: Leases) -> None:
    """The planner's next attempt has another number, so the agent's own retry finds its own."""
    server = await leases.leased(20 * DAY_MS)
    first = await leases.renewing.reserve(leases.desk.who(), server.id)
    await leases.bed.freeze("vendor:shop")
    assert (await refused(leases, server, number=first)).code == "frozen"
    second = await leases.renewing.reserve(leases.desk.who(), server.id)
    assert second > first
    await leases.bed.post(SetFreeze("vendor:shop", frozen=False, reason="", by="me", at_ms=leases.bed.clock.ms))
    leases.renews()
    who = leases.desk.who()
    await asyncio.gather(*(leases.renewing.renew(who, server.id, number=first) for _ in range(3)))
    assert len(leases.renewed) == 1
    await settled(leases, 20 * DAY_MS + TERM_MS)
    await leases.renewing.renew(who, server.id, number=first, units=2)
    assert len(leases.renewed) == 1


async def test_a_claim_that_a_crash_left_unbought_is_bought_when_its_agent_asks_again(leases: Leases) -> None:
    """That it was begun is no answer: nothing had been paid for."""
    server = await leases.leased(20 * DAY_MS)
    number = await leases.renewing.reserve(leases.desk.who(), server.id)
    text = f"renew {server.id} {number} 1 {server.expires_at_ms}"
    await leases.change(server, renewal=text)
    leases.renews()
    after = await leases.renewing.renew(leases.desk.who(), server.id, number=number)
    assert (after.renewal, len(leases.renewed)) == (text, 1)


# what is changed meanwhile


@pytest.mark.parametrize(
    "changes",
    [
        {"wanted": Wanted.DESTROYED},
        {"auto_renew": False},
        {"keep_until_ms": 1_800_000_000_000},
        {"max_total_base": PRICE_BASE},
    ],
)
async def test_a_wish_that_changes_between_the_decision_and_the_claim_is_kept_to(
    leases: Leases, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was decided from older facts is decided anew, and nothing is bought against the newer ones."""
    server = await leases.leased(4 * DAY_MS)
    leases.renews()
    change, meddled = leases.desk.keeping.change, list[str]()

    async def meddling(server_id: str, update: Any, event: str, **detail: Any) -> Server:
        if event == "renewal_begun" and not meddled:
            meddled.append(event)
            await change(server_id, lambda now: replace(now, **changes), "changed")
        return await change(server_id, update, event, **detail)

    monkeypatch.setattr(leases.desk.keeping, "change", meddling)
    await leases.sweep()
    server = await leases.now(server)
    assert (meddled, server.renewal, leases.renewed) == (["renewal_begun"], "", [])


# caps and scopes


async def test_a_price_above_the_agents_own_cap_is_refused_unpaid(leases: Leases) -> None:
    """The lower of both limits counts, and the one that stood in the way is named."""
    server = await leases.leased(20 * DAY_MS)
    leases.renews()
    problem = await refused(leases, server, max_charge_base=PRICE_BASE - 1)
    assert (problem.code, leases.renewed, (await leases.now(server)).renewal) == ("price_above_max_charge", [], "")
    await leases.renewing.renew(leases.desk.who(), server.id, max_charge_base=PRICE_BASE)
    assert len(leases.renewed) == 1


async def test_a_price_that_max_total_does_not_leave_is_called_that(leases: Leases) -> None:
    """Where no price list had told it before."""
    server = await leases.leased(20 * DAY_MS, max_total_base=2 * PRICE_BASE - 1)
    leases.prices.known = False
    leases.renews()
    assert (await refused(leases, server)).code == "max_total_reached"
    assert (await refused(leases, server, max_charge_base=2 * PRICE_BASE)).code == "max_total_reached"
    assert (await refused(leases, server, max_charge_base=1)).code == "price_above_max_charge"
    assert not leases.renewed


async def test_a_key_without_the_vendors_scope_changes_nothing(leases: Leases) -> None:
    """Neither a number nor a claim is kept for it."""
    server = await leases.leased(20 * DAY_MS)
    who = leases.desk.who()
    other = Who(replace(who.key, scopes=("proxy:other",)), who.request_id)
    for asking in (leases.renewing.renew(other, server.id), leases.renewing.reserve(other, server.id)):
        with pytest.raises(Problem) as caught:
            await asking
        assert caught.value.code == "scope_missing"
    assert await leases.now(server) == server


# one server's trouble


async def test_a_vendor_that_is_configured_no_more_troubles_no_sweep(leases: Leases) -> None:
    """Its servers are left alone; an agent is told that nothing can be done there."""
    server = await leases.leased(4 * DAY_MS)
    del leases.desk.rentals["shop"]
    await leases.sweep()
    assert not leases.renewing._beside.is_under_way(server.id)
    assert (await refused(leases, server)).code == "capability_missing"


async def test_errors_of_several_servers_are_all_heard_and_none_is_hurried(leases: Leases) -> None:
    """One group of both, and not at every sweep again."""
    await leases.leased(4 * DAY_MS)
    leases.desk.answers("shop", leases.box(4 * DAY_MS, "box-2"))
    await leases.desk.order("token-2", auto_renew=True)
    for ref in (REF, "box-2"):
        leases.desk.shows(ref, ValueError(ref))
    with pytest.raises(BaseExceptionGroup) as caught:
        await leases.sweep()
    assert sorted(str(error) for error in caught.value.exceptions) == [REF, "box-2"]
    await leases.sweep()
    with pytest.raises(BaseExceptionGroup):
        await leases.sweep(61_000)


async def test_who_waits_for_one_server_keeps_no_other_waiting(leases: Leases) -> None:
    """A purchase that takes long holds its own server's lock; another server at the vendor is attended to."""
    server = await leases.leased(4 * DAY_MS)
    leases.desk.answers("shop", leases.box(4 * DAY_MS, "box-2"))
    await leases.desk.order("token-2", auto_renew=True)
    leases.desk.shows("box-2", leases.box(4 * DAY_MS, "box-2"))
    leases.renewing._gates["shop"] = asyncio.Semaphore(1)
    held, asked = leases.renewing._locks.of(server.id), list[str]()

    def sold(request: UpstreamRequest) -> UpstreamResponse:
        asked.append(request.target)
        return told(status="renewing")

    leases.desk.told.orders["shop"] = sold
    async with held:
        await leases.renewing.sweep()
    assert [target for target in asked if target.startswith("/priced/renew")] == ["/priced/renew/box-2"]
