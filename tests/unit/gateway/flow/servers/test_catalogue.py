"""Every vendor's plans in one list: asked for once, kept while nobody answers, bought once and by the house alone."""

import asyncio
import contextlib
from pathlib import Path

import pytest

from gateway.core.commands import SetFreeze
from gateway.flow.servers.purse import HOUSE_ACCOUNT
from tests.unit.gateway.flow.servers.catalogue_bed import (
    CREDIT_BASE,
    LITEVPS,
    VPSAGENT,
    VRTX,
    Home,
    Line,
    ProcessEndedError,
    started,
)
from tests.unit.gateway.flow.spend_bed import NOW_MS

DAY_S, PAID_TTL_S = 86_400, 6 * 3600


async def stale(home: Home) -> dict[str, str]:
    """Return why each vendor's plans are not new, by vendor."""
    await home.catalogue.plans()
    return {each.vendor: each.reason for each in home.catalogue.stale()}


async def test_plans_of_every_vendor_stand_in_one_list(tmp_path: Path) -> None:
    """Whoever comes first waits for all; plans are in order, say where they are from, and cost the reader nothing."""
    async with started(tmp_path) as home:
        plans = await home.catalogue.plans()
        assert {plan.vendor for plan in plans} == {"cryptovps", "litevps", "vpsagent", "vrtx"}
        assert [plan.key for plan in plans] == sorted(plan.key for plan in plans)
        small = await home.catalogue.plan("vpsagent/server_small_1mo")
        assert small is not None
        assert (small.term_price, small.as_of_ms) == ("9.99", NOW_MS)
        assert await home.catalogue.plan("vpsagent/none") is None
        assert home.catalogue.stale() == ()
        assert home.store.view.balances["acc_1"].available_base == CREDIT_BASE


async def test_many_who_wait_are_one_question(tmp_path: Path) -> None:
    """Each catalogue is asked for once, and the paid one bought once, whoever waits."""
    async with started(tmp_path) as home:
        await asyncio.gather(*(home.catalogue.plans() for _ in range(20)), home.catalogue.refresh())
        assert home.line.sold == 1
        assert home.line.count(LITEVPS, "/api/pricing") == 1
        assert home.line.count(LITEVPS, "/api/templates") == 1


async def test_nothing_is_asked_again_before_its_time(tmp_path: Path) -> None:
    """Free lists go stale after minutes, the paid one after hours; each is then asked for once more."""
    async with started(tmp_path) as home:
        await home.catalogue.refresh()
        before = len(home.line.seen)
        home.pass_s(299)
        await home.catalogue.refresh()
        assert len(home.line.seen) == before
        home.pass_s(2)
        await home.catalogue.refresh()
        assert home.line.count(LITEVPS) == 4
        assert home.line.sold == 1
        home.pass_s(PAID_TTL_S)
        await home.catalogue.refresh()
        assert home.line.sold == 2


async def test_an_old_list_is_shown_while_a_new_one_comes(tmp_path: Path) -> None:
    """A reader never waits for a vendor that was read before."""
    async with started(tmp_path) as home:
        await home.catalogue.refresh()
        home.pass_s(301)
        home.line.pricing = home.line.pricing[:1]
        assert len([p for p in await home.catalogue.plans() if p.vendor == "litevps"]) == 2
        assert await home.keys_of("litevps") == ["small"]


async def test_a_vendor_that_does_not_answer_holds_up_no_other(tmp_path: Path) -> None:
    """Its plans are missing, and the reason is told; it is asked again later, ever more seldom."""
    async with started(tmp_path, Line(down={LITEVPS})) as home:
        plans = await home.catalogue.plans()
        assert {plan.vendor for plan in plans} == {"cryptovps", "vpsagent", "vrtx"}
        assert "litevps" in await stale(home)
        assert home.catalogue.health("litevps").state == "failing"
        asked = home.line.count(LITEVPS)
        await home.catalogue.refresh()
        assert home.line.count(LITEVPS) == asked
        home.line.down.clear()
        home.pass_s(6)
        assert await home.keys_of("litevps") == ["large", "small"]
        assert await stale(home) == {}
        assert home.catalogue.health("litevps").state == "ok"


async def test_what_a_vendor_said_stands_while_it_is_down(tmp_path: Path) -> None:
    """The last good answer is kept, marked with its age and why; what is a day old is no offer any more."""
    async with started(tmp_path) as home:
        await home.catalogue.refresh()
        home.line.down.add(LITEVPS)
        home.pass_s(301)
        assert await home.keys_of("litevps") == ["large", "small"]
        (old,) = home.catalogue.stale()
        assert (old.vendor, old.as_of_ms) == ("litevps", NOW_MS)
        small = await home.catalogue.plan("litevps/small")
        assert small is not None
        assert not home.catalogue.too_old(small)
        home.pass_s(DAY_S)
        assert home.catalogue.too_old(small)


async def test_a_list_that_cannot_be_read_is_a_task_once(tmp_path: Path) -> None:
    """The plans that were read before stay; a human is asked, once."""
    async with started(tmp_path) as home:
        await home.catalogue.refresh()
        home.line.pricing = {"plans": "none"}
        for _ in range(3):
            home.pass_s(1000)
            assert await home.keys_of("litevps") == ["large", "small"]
        assert (await stale(home))["litevps"] == "the catalogue of litevps cannot be read"
        assert await home.tasks() == [("catalogue_unreadable", "litevps")]


async def test_a_bought_list_that_cannot_be_read_is_not_bought_again(tmp_path: Path) -> None:
    """Money does not make it readable: it is asked for again when its time is over."""
    async with started(tmp_path, Line(catalog={"no": "list"})) as home:
        for _ in range(4):
            await home.catalogue.refresh()
            home.pass_s(1000)
        assert home.line.sold == 1
        assert "vpsagent" in await stale(home)
        home.line.catalog = Line().catalog
        home.pass_s(PAID_TTL_S)
        assert await home.keys_of("vpsagent") == ["sandbox_1h", "server_small_1mo"]
        assert home.line.sold == 2


async def test_a_part_that_a_vendor_does_not_have_is_done_without(tmp_path: Path) -> None:
    """A location that has gone leaves the list; what does not exist is not asked for again before its time."""
    async with started(tmp_path) as home:
        await home.catalogue.refresh()
        plan = await home.catalogue.plan("vrtx/7")
        assert plan is not None
        assert plan.regions == ("sydney-1", "frankfurt-6")
        asked = home.line.count(VRTX)
        await home.catalogue.refresh()
        assert home.line.count(VRTX) == asked
        home.line.templates_at.discard(1)
        home.pass_s(301)
        await home.catalogue.refresh()
        plan = await home.catalogue.plan("vrtx/7")
        assert plan is not None
        assert plan.regions == ("frankfurt-6",)
        assert await stale(home) == {}


async def test_a_part_that_cannot_be_told_now_is_kept(tmp_path: Path) -> None:
    """Trouble is no proof that a location has gone: it stays, and the vendor's plans are told to be old."""
    async with started(tmp_path) as home:
        await home.catalogue.refresh()
        home.line.broken_at.add(1)
        home.pass_s(301)
        await home.catalogue.refresh()
        plan = await home.catalogue.plan("vrtx/7")
        assert plan is not None
        assert plan.regions == ("sydney-1", "frankfurt-6")
        assert set(await stale(home)) == {"vrtx"}


# the house's money


async def test_the_house_pays_from_its_own_account(tmp_path: Path) -> None:
    """It is opened once, credited with what is needed, and the payment is on record like an agent's."""
    async with started(tmp_path) as home:
        await home.catalogue.refresh()
        (payment,) = await home.house_payments()
        assert (payment["vendor"], payment["hold_base"]) == ("vpsagent", 10_000)
        assert payment["idempotency_key"].startswith("catalogue vpsagent ")
        assert home.store.view.balances[HOUSE_ACCOUNT].available_base == 0
        home.pass_s(PAID_TTL_S + 1)
        await home.catalogue.refresh()
        assert len(await home.house_payments()) == 2
        assert await home.store.contradiction() is None


async def test_a_day_has_a_budget(tmp_path: Path) -> None:
    """Beyond it nothing is bought: the old list stays and says why; the next day it is bought again."""
    settings = '[catalogue]\npaid_ttl_s = 3600\npaid_budget_per_day = "0.025"'
    async with started(tmp_path, settings=settings) as home:
        for _ in range(5):
            await home.catalogue.refresh()
            home.pass_s(3601)
        assert home.line.sold == 2
        assert "budget" in (await stale(home))["vpsagent"]
        assert await home.keys_of("vpsagent") == ["sandbox_1h", "server_small_1mo"]
        home.pass_s(DAY_S)
        await home.catalogue.refresh()
        assert home.line.sold == 3
        assert "vpsagent" not in await stale(home)


async def test_a_dearer_catalogue_is_not_paid(tmp_path: Path) -> None:
    """The challenge is held against the approved price as any other (P8), and a human is asked."""
    async with started(tmp_path, Line(catalog_base=15_000)) as home:
        assert await home.keys_of("vpsagent") == []
        assert home.line.sold == 0
        assert ("price_changed", "vpsagent/catalog") in await home.tasks()


async def test_an_agents_own_purchase_is_its_own(tmp_path: Path) -> None:
    """Who buys the catalogue through the proxy pays for it, and neither is attached to the other."""
    async with started(tmp_path) as home:
        await home.catalogue.refresh()
        reply = await home.agent_buys("/catalog")
        assert (reply.charge_base, home.line.sold) == (10_000, 2)
        assert home.store.view.balances["acc_1"].available_base == CREDIT_BASE - 10_000
        assert len(await home.house_payments()) == 1


async def test_a_restart_does_not_buy_again(tmp_path: Path) -> None:
    """The next start finds the purchase by its claim, also across the border of two claims; its age is its true age."""
    line = Line()
    async with started(tmp_path, line) as home:
        lead_s = PAID_TTL_S - 60 - NOW_MS // 1000 % PAID_TTL_S  # a minute before the next claim's time begins
        home.pass_s(lead_s)
        await home.catalogue.refresh()
        bought_ms, clock = NOW_MS // 1000 * 1000 + lead_s * 1000, home.clock
    clock.ms += 120_000
    async with started(tmp_path, line, clock=clock) as home:
        plans = await home.catalogue.plans()
        assert line.sold == 1
        assert {plan.as_of_ms for plan in plans if plan.vendor == "vpsagent"} == {bought_ms}
        home.pass_s(PAID_TTL_S)
        await home.catalogue.refresh()
        assert line.sold == 2


async def test_after_a_start_without_money_the_old_list_stands(tmp_path: Path) -> None:
    """What was bought days ago is found again, and told to be old."""
    line = Line()
    async with started(tmp_path, line) as home:
        await home.catalogue.refresh()
        clock = home.clock
    clock.ms += 2 * DAY_S * 1000
    settings = '[catalogue]\npaid_budget_per_day = "0.005"'
    async with started(tmp_path, line, clock=clock, settings=settings) as home:
        assert await home.keys_of("vpsagent") == ["sandbox_1h", "server_small_1mo"]
        assert line.sold == 1
        assert "budget" in (await stale(home))["vpsagent"]


@pytest.mark.parametrize("step", ["OpenAccount", "AddKey", "CreditAccount", "Purchase", "RecordOutcome"])
async def test_a_crash_buys_nothing_twice(tmp_path: Path, step: str) -> None:
    """P12: wherever the process ends, the next one has the catalogue for one payment and at most one credit."""
    line = Line()
    async with started(tmp_path, line, ends_at=step) as home:
        with contextlib.suppress(ProcessEndedError):
            await home.catalogue.refresh()
        clock, shown_before = home.clock, line.sold
    async with started(tmp_path, line, clock=clock) as home:
        for _ in range(3):
            await home.gateway.recovery.sweep()
            await home.gateway.recovery.drain(5.0)
            await home.catalogue.refresh()
            home.pass_s(1000)
        assert await home.keys_of("vpsagent") == ["sandbox_1h", "server_small_1mo"]
        assert len(await home.house_payments()) == 1
        assert line.sold <= shown_before + 1  # the same credential may be shown again: it is collected once (P4)
        credited = await home.rows("SELECT reference FROM credits WHERE reference LIKE 'catalogue vpsagent %'")
        assert len(credited) == 1
        assert await home.store.contradiction() is None


# health


async def test_a_frozen_vendor_is_failing_whatever_it_says(tmp_path: Path) -> None:
    """A freeze tells that there is one and since when, never the operator's reason (P10)."""
    async with started(tmp_path) as home:
        await home.catalogue.refresh()
        assert home.catalogue.health("vpsagent").state == "ok"
        assert home.catalogue.health("cryptovps").state == "unknown"
        frozen_ms = home.clock.ms
        await home.store.post(SetFreeze("vendor:vpsagent", frozen=True, reason="fraud?", by="me", at_ms=frozen_ms))
        health = home.catalogue.health("vpsagent")
        assert (health.state, health.since_ms) == ("failing", frozen_ms)
        assert "fraud" not in health.reason


async def test_a_vendor_whose_chain_is_not_read_is_failing(tmp_path: Path) -> None:
    """Nothing can be paid there while nobody knows the chain's time."""
    async with started(tmp_path) as home:
        await home.catalogue.refresh()
        home.clock.ms += 3_600_000
        health = home.catalogue.health("vpsagent")
        assert (health.state, health.since_ms) == ("failing", NOW_MS)
        assert "8453" in health.reason
        assert home.catalogue.health("litevps").state == "ok"


async def test_what_failed_while_no_chain_was_read_is_tried_again_once_one_is(tmp_path: Path) -> None:
    """As after a start, when the first catalogues are asked for before the chain: the vendor is not to blame for that."""
    async with started(tmp_path, Line(down={VPSAGENT})) as home:
        home.clock.ms += 3_600_000
        assert await home.keys_of("vpsagent") == []
        home.line.down.clear()
        assert await home.keys_of("vpsagent") == []  # nothing is different yet
        home.saw_chain()
        assert await home.keys_of("vpsagent") == ["sandbox_1h", "server_small_1mo"]
        assert await stale(home) == {}


async def test_asking_for_health_asks_no_vendor(tmp_path: Path) -> None:
    """It is told from what is known."""
    async with started(tmp_path, Line(down={VPSAGENT, LITEVPS})) as home:
        assert home.catalogue.health("vpsagent").state == "unknown"
        assert home.line.seen == []


async def test_a_clock_that_is_set_back_does_not_stop_the_asking(tmp_path: Path) -> None:
    """Neither of what was answered, nor of what was not."""
    async with started(tmp_path, Line(down={LITEVPS})) as home:
        await home.catalogue.refresh()
        home.line.down.clear()
        counts = home.line.count(LITEVPS), home.line.count(VRTX)
        home.pass_s(-3600)
        await home.catalogue.refresh()
        assert await home.keys_of("litevps") == ["large", "small"]
        assert (home.line.count(LITEVPS) > counts[0], home.line.count(VRTX) > counts[1]) == (True, True)
