"""Periods of a metered thing: held ahead, settled in order, and what is beyond them is the house's."""

import json
from dataclasses import replace
from typing import Any

import pytest

from gateway.core import chart
from gateway.core import commands as c
from gateway.core.commands import Done, Refused
from gateway.core.ledger import imbalance
from gateway.core.money import USD
from gateway.core.payment import Axes, Charge, Delivery, Transfer
from gateway.core.records import Meter, MeterState, Payment
from gateway.store.core import StoreBroken, StoreCore
from gateway.store.load import verify_book
from tests.factories import (
    HOUR_MS,
    METERED,
    NOW_MS,
    leaves_nothing,
    ledger_account,
    make_budget,
    make_created,
    make_credit,
    make_key,
    make_meter,
    make_next,
    make_order,
    make_outcome,
    make_purchase,
    make_start,
    open_core,
    post,
    seeded,
)

RATE = 14_700
DAY_MS = 24 * HOUR_MS
FUNDS = 100_000_000
MINUTE_MS = 60_000
# A thing by the minute while it runs: 0.0053 an hour is 88 1/3 millionths a minute.
BY_MINUTES = make_meter(hourly="0.0053", unit_s=60, while_running=True)


@pytest.fixture
def core() -> StoreCore:
    """A core whose acc_1 has USD 100, less the first day of a thing that runs from NOW_MS on."""
    return running(seeded(open_core()))


def running(core: StoreCore, **order: Any) -> StoreCore:
    """Order a thing and have the vendor deliver it."""
    meter = order.get("meter", make_meter())
    start = make_start(hourly=meter.hourly, monthly=meter.monthly, since_ms=meter.created_at_ms)
    core.post([make_order(**order), make_created(metered=start)])
    return core


def meter_of(core: StoreCore) -> Meter:
    """Return the meter, ended or not."""
    found = core.book.meters.get("met_0001")
    if found is not None:
        return found
    cursor = core.db.execute("SELECT * FROM meters WHERE id = 'met_0001'")
    row = dict(zip([d[0] for d in cursor.description], cursor.fetchone(), strict=True))
    return Meter(**{**row, "state": MeterState(row["state"]), "while_running": bool(row["while_running"])})


def agent(core: StoreCore) -> tuple[int, int]:
    """Return available and held of acc_1."""
    account = ledger_account(core.book.ledger, chart.agent("acc_1"), USD)
    return account.available_base, account.reserved_base


def there(core: StoreCore) -> tuple[int, int]:
    """Return what is posted and reserved of the operator's balance at the vendor."""
    account = ledger_account(core.book.ledger, chart.vendor(METERED), chart.vendor_asset(METERED))
    return account.posted_base, account.reserved_base


def loss(core: StoreCore) -> int:
    """Return what the house bore."""
    account = core.book.ledger.find(chart.HOUSE_LOSS, USD)
    return 0 if account is None else account.posted_base


def paid(core: StoreCore, n: int = 1) -> Payment:
    """Return payment n."""
    payment = core.book.payment(f"pay_{n:04}")
    assert payment is not None
    return payment


def bill(n: int = 1, at_ms: int = NOW_MS + DAY_MS) -> c.BillPeriod:
    """Return the bill of the period that payment n holds."""
    return c.BillPeriod(f"pay_{n:04}", at_ms)


def end(ended_at_ms: int, at_ms: int = 0) -> c.EndMeter:
    """Return the confirmed destruction of the thing."""
    return c.EndMeter("met_0001", ended_at_ms, "destroyed", at_ms or ended_at_ms)


def refused(core: StoreCore, command: c.Command) -> str:
    """Post what is refused; return the code, after asserting that nothing changed."""
    result = leaves_nothing(core, command)
    assert isinstance(result, Refused), result
    return result.code


def last_row(core: StoreCore) -> dict[str, Any]:
    """Return the newest journal row."""
    found = core.db.execute("SELECT body FROM journal ORDER BY seq DESC LIMIT 1").fetchone()
    return dict(json.loads(found[0]))


@pytest.fixture(autouse=True)
def _conserved(core: StoreCore) -> Any:
    """P1 and P11 after every test here: nothing is out of balance, and every transfer is explained by its journal row."""
    yield
    assert imbalance(core.book.ledger.accounts()) == {}
    if not core._broken:
        verify_book(core.db)
        query = (
            "SELECT t.id FROM transfers t LEFT JOIN journal j ON j.seq = t.journal_seq "
            "WHERE j.seq IS NULL OR j.payment_id IS NOT t.payment_id"
        )
        assert core.db.execute(query).fetchall() == []


# the next period


def test_the_next_period_is_a_payment_like_any_other(core: StoreCore) -> None:
    """Held ahead for the same owner, delivered and presented from the start, and no request may attach to it."""
    result = post(core, make_next(2, meter_of(core)))
    assert isinstance(result, Done)
    assert result.payment == paid(core, 2)
    assert paid(core, 2).axes == Axes(Delivery.DELIVERED, Transfer.PRESENTED)
    assert (paid(core, 2).answered, paid(core, 2).hold_base) == (True, 24 * RATE)
    assert agent(core) == (FUNDS - 48 * RATE, 48 * RATE)
    assert there(core) == (0, 48 * RATE)
    assert (meter_of(core).seq, meter_of(core).held_until_ms) == (2, NOW_MS + 2 * DAY_MS)
    assert [p.id for p in core.book.held_periods("met_0001")] == ["pay_0001", "pay_0002"]
    again = make_purchase(3, fingerprint=paid(core, 2).fingerprint)
    assert isinstance(post(core, again), Done)


def test_a_period_that_is_held_already_is_no_news(core: StoreCore) -> None:
    """Two loops, or one after a crash, ask for the same period: one hold."""
    meter = meter_of(core)
    post(core, make_next(2, meter))
    assert leaves_nothing(core, make_next(3, meter)) == Done(changed=False)
    later = replace(meter_of(core), held_until_ms=NOW_MS)
    assert leaves_nothing(core, make_next(3, later)) == Done(changed=False)


def test_the_next_period_is_refused_without_overdraft(core: StoreCore) -> None:
    """P2: one base unit too little holds nothing; with it everything is held, and nothing is left."""
    meter = meter_of(core)
    left = FUNDS - 24 * RATE
    assert refused(core, make_next(2, meter, hold_base=left + 1)) == "insufficient_balance"
    assert isinstance(post(core, make_next(2, meter, hold_base=left)), Done)
    assert agent(core) == (0, FUNDS)


def test_what_runs_goes_on_under_a_freeze_and_a_revoked_key(core: StoreCore) -> None:
    """Stopping the holds would not stop the vendor: the costs would be the house's."""
    for scope in ("all", f"vendor:{METERED}", "account:acc_1", f"asset:account:{METERED}"):
        post(core, c.SetFreeze(scope, frozen=True, reason="drill", by="me", at_ms=NOW_MS))
    post(core, c.RevokeKey("key_1", "acc_1", NOW_MS))
    assert isinstance(post(core, make_next(2, meter_of(core))), Done)
    assert isinstance(post(core, bill()), Done)
    assert paid(core).axes.charge is Charge.CAPTURED


def test_periods_count_to_budgets_and_are_not_stopped_by_them() -> None:
    """A budget that runs things is used up by them, and then nothing new begins; its own detail stays readable."""
    first = 24 * RATE
    key = make_key(budgets=(make_budget(limit_base=first, window_s=10**6),))
    core = running(seeded(open_core(), key=key))
    post(core, make_next(2, meter_of(core)))
    assert core.book.budget_uses["bud_1"].used_base == 2 * first
    result = leaves_nothing(core, make_purchase(3, hold_base=1))
    assert isinstance(result, Refused)
    assert (result.code, "has 0.000000 left" in result.detail) == ("budget_exhausted", True)
    post(core, end(NOW_MS + HOUR_MS))  # one hour captured, all else goes back
    assert core.book.budget_uses["bud_1"].used_base == RATE


@pytest.mark.parametrize("state", ["ordered", "ending", "ended"])
def test_only_what_runs_is_held_for(state: str) -> None:
    """No period is added to a thing that may not exist, or that is to go."""
    core = seeded(open_core())
    post(core, make_order())
    if state != "ordered":
        post(core, make_created())
        post(core, c.MarkEnding("met_0001", "asked", NOW_MS))
    if state == "ended":
        post(core, end(NOW_MS + 1))
    assert refused(core, make_next(2, replace(make_meter(), seq=1, held_until_ms=NOW_MS + DAY_MS))) == "not_found"


@pytest.mark.parametrize(
    "changes",
    [
        {"axes": Axes(transfer=Transfer.PREPARED)},
        {"axes": Axes(transfer=Transfer.PRESENTED)},
        {"account_id": "acc_2"},
        {"key_id": "key_2"},
        {"vendor": "litevps"},
        {"id": "pay_0001"},
    ],
    ids=str,
)
def test_a_period_that_is_not_the_meters_stops_the_store(core: StoreCore, changes: dict[str, Any]) -> None:
    """Another's money, or another payment's id, is a bug and never a hold."""
    with pytest.raises(StoreBroken):
        post(core, make_next(2, meter_of(core), **changes))


# the bill


def test_a_period_is_billed_what_the_tariff_says(core: StoreCore) -> None:
    """Twenty-four started hours: captured, settled at the vendor, closed, and in the journal with its reckoning."""
    result = post(core, bill())
    assert isinstance(result, Done)
    assert result.payment == paid(core)
    assert paid(core).axes == Axes(Delivery.DELIVERED, Transfer.SETTLED, Charge.CAPTURED)
    assert (paid(core).captured_base, paid(core).settled_base) == (24 * RATE, 24 * RATE)
    assert (agent(core), there(core), loss(core)) == ((FUNDS - 24 * RATE, 0), (-24 * RATE, 0), 0)
    assert (meter_of(core).billed_base, meter_of(core).billed_until_ms) == (24 * RATE, NOW_MS + DAY_MS)
    rows = [json.loads(r[0]) for r in core.db.execute("SELECT body FROM journal WHERE kind = 'meter.billed'")]
    assert [(r["owed_in_all_base"], r["charged_base"]) for r in rows] == [(24 * RATE, 24 * RATE)]


def test_billing_twice_changes_nothing(core: StoreCore) -> None:
    """A second loop, or the first after a crash, finds it done."""
    post(core, bill())
    assert leaves_nothing(core, bill()) == Done(paid(core), changed=False)


def test_a_bill_takes_the_earlier_periods_along(core: StoreCore) -> None:
    """Periods are settled in order, each at its own part, whichever is asked for."""
    post(core, make_next(2, meter_of(core), hours=1))
    post(core, make_next(3, meter_of(core), hours=5))
    post(core, bill(3, NOW_MS + DAY_MS + 6 * HOUR_MS))
    assert [paid(core, n).captured_base for n in (1, 2, 3)] == [24 * RATE, RATE, 5 * RATE]
    assert core.book.held_periods("met_0001") == []
    kinds = core.db.execute("SELECT payment_id FROM journal WHERE kind = 'meter.billed' ORDER BY seq").fetchall()
    assert kinds == [("pay_0001",), ("pay_0002",), ("pay_0003",)]


def test_what_is_no_period_has_no_bill(core: StoreCore) -> None:
    """Neither an unknown payment nor one on chain."""
    post(core, make_purchase(2))
    assert refused(core, bill(9)) == "not_found"
    assert refused(core, bill(2)) == "not_found"


def test_a_bill_waits_for_the_truth_about_the_create() -> None:
    """P5: a thing that may not exist is not charged, however old its period is."""
    core = seeded(open_core())
    post(core, make_order())
    post(core, make_outcome(1, Delivery.UNKNOWN))
    assert leaves_nothing(core, bill(at_ms=NOW_MS + 9 * DAY_MS)) == Done(paid(core), changed=False)


def test_a_period_beyond_its_hold_is_the_houses_loss() -> None:
    """P2: the agent pays the hold and no more; the rest is billed to the house, once, and not asked for again."""
    core = running(seeded(open_core()), hold_base=20 * RATE)
    post(core, bill())
    assert (paid(core).captured_base, loss(core)) == (20 * RATE, 4 * RATE)
    assert (meter_of(core).billed_base, meter_of(core).lost_base) == (24 * RATE, 4 * RATE)
    assert there(core) == (-24 * RATE, 0)
    post(core, make_next(2, meter_of(core)))
    post(core, bill(2, NOW_MS + 2 * DAY_MS))
    assert (paid(core, 2).captured_base, loss(core)) == (24 * RATE, 4 * RATE)


def test_a_period_in_which_nothing_ran_goes_back() -> None:
    """A free period is void, not a charge of nothing."""
    core = seeded(open_core())
    core.post([make_order(meter=BY_MINUTES), make_created(metered=make_start(hourly="0.0053", since_ms=None))])
    post(core, bill())
    assert paid(core).axes == Axes(Delivery.DELIVERED, Transfer.DEAD, Charge.VOIDED)
    assert (agent(core), there(core)) == ((FUNDS, 0), (0, 0))
    assert core.book.unpaid_deliveries("acc_1", 0) == 0


def test_a_month_of_periods_is_one_bill() -> None:
    """744 hours at 88 1/3 millionths a minute: daily bills add up to the vendor's own month, to the base unit."""
    always = replace(BY_MINUTES, while_running=False)
    core = running(seeded(open_core()), meter=always)
    for n in range(2, 32):
        post(core, make_next(n, meter_of(core)))
        post(core, bill(n - 1, meter_of(core).held_until_ms))
    post(core, end(NOW_MS + 31 * DAY_MS))
    assert meter_of(core).billed_base == 744 * 5300
    assert agent(core) == (FUNDS - 744 * 5300, 0)
    assert loss(core) == 0


# pauses


def test_only_running_time_is_charged() -> None:
    """Ten minutes, a pause, and five more: fifteen minutes, rounded up once."""
    core = running(seeded(open_core()), meter=BY_MINUTES)
    post(core, c.RunMeter("met_0001", running=False, since_ms=NOW_MS + 10 * MINUTE_MS, at_ms=NOW_MS + 11 * MINUTE_MS))
    assert last_row(core)["kind"] == "meter.changed"
    assert (last_row(core)["running"], last_row(core)["since_ms"]) == (False, NOW_MS + 10 * MINUTE_MS)
    post(core, c.RunMeter("met_0001", running=True, since_ms=NOW_MS + HOUR_MS, at_ms=NOW_MS + HOUR_MS))
    post(core, end(NOW_MS + HOUR_MS + 5 * MINUTE_MS))
    assert (meter_of(core).billed_base, meter_of(core).lost_base) == (1325, 0)
    assert paid(core).captured_base == 1325


def test_a_change_that_is_none_is_not_written() -> None:
    """What runs is started again for nothing, also by a list that says so every minute."""
    core = running(seeded(open_core()), meter=BY_MINUTES)
    on = c.RunMeter("met_0001", running=True, since_ms=NOW_MS + 5, at_ms=NOW_MS + 5)
    assert leaves_nothing(core, on) == Done(changed=False)
    assert leaves_nothing(core, replace(on, meter_id="met_0009")) == Done(changed=False)
    off = replace(on, running=False)
    post(core, off)
    assert leaves_nothing(core, off) == Done(changed=False)


def test_a_destruction_that_was_accepted_stops_the_charges(core: StoreCore) -> None:
    """A vendor that charges for existing stops when it takes the order to destroy: the clock of the wall has no say."""
    post(core, c.MarkEnding("met_0001", "agent", 5))
    post(core, c.RunMeter("met_0001", running=False, since_ms=NOW_MS + 90 * MINUTE_MS, at_ms=5))
    post(core, c.EndMeter("met_0001", NOW_MS + 5 * HOUR_MS, "destroyed", 5))
    assert (meter_of(core).billed_base, loss(core)) == (2 * RATE, 0)


def test_an_order_does_not_run() -> None:
    """What may not exist is started by its delivery alone."""
    core = seeded(open_core())
    post(core, make_order(meter=BY_MINUTES))
    on = c.RunMeter("met_0001", running=True, since_ms=NOW_MS + 5, at_ms=NOW_MS + 5)
    assert leaves_nothing(core, on) == Done(changed=False)


def test_a_change_bills_the_periods_that_were_over_before_it() -> None:
    """A stop that is heard before the last period's bill belongs to the next one: each pays its own part."""
    core = running(seeded(open_core()), meter=BY_MINUTES, hours=1)
    post(core, make_next(2, meter_of(core), hours=1))
    stop = NOW_MS + HOUR_MS + 10 * MINUTE_MS
    post(core, c.RunMeter("met_0001", running=False, since_ms=stop, at_ms=stop))
    assert paid(core).captured_base == 5300
    post(core, bill(2, NOW_MS + 2 * HOUR_MS))
    assert (paid(core, 2).captured_base, loss(core)) == (884, 0)  # seventy minutes are 6183.3


def test_what_was_billed_stays_billed() -> None:
    """A stop or a start that is told of late counts from the last bill on."""
    core = running(seeded(open_core()), meter=BY_MINUTES, hours=1)
    post(core, make_next(2, meter_of(core), hours=1))
    later = NOW_MS + HOUR_MS + 5
    post(core, bill(1, later))
    post(core, c.RunMeter("met_0001", running=False, since_ms=NOW_MS, at_ms=later))
    assert meter_of(core).accrued_until_ms == NOW_MS + HOUR_MS
    post(core, c.RunMeter("met_0001", running=True, since_ms=later, at_ms=later))
    assert meter_of(core).running_since_ms == later
    post(core, end(later))
    assert (meter_of(core).billed_base, loss(core)) == (5300, 0)


def test_periods_that_are_held_after_a_pause_pay_for_the_time_before_it() -> None:
    """Money came late: two hours ran unheld and stopped; what the late holds cover is no loss."""
    core = running(seeded(open_core()), meter=BY_MINUTES, hours=1)
    stop = NOW_MS + 3 * HOUR_MS
    post(core, c.RunMeter("met_0001", running=False, since_ms=stop, at_ms=stop))
    for n in (2, 3):
        post(core, make_next(n, meter_of(core), hours=1))
        post(core, bill(n, stop))
    assert loss(core) == 0
    assert sum(paid(core, n).captured_base for n in (1, 2, 3)) == meter_of(core).billed_base == 3 * 5300


# the end


def test_an_end_in_the_middle_gives_the_rest_back(core: StoreCore) -> None:
    """Ninety minutes are two started hours; what is held beyond them is the agent's again."""
    result = post(core, end(NOW_MS + 90 * MINUTE_MS))
    assert result == Done()
    assert paid(core).captured_base == 2 * RATE
    assert (agent(core), there(core), loss(core)) == ((FUNDS - 2 * RATE, 0), (-2 * RATE, 0), 0)
    meter = meter_of(core)
    assert (meter.state, meter.ended_at_ms, meter.reason) == (MeterState.ENDED, NOW_MS + 90 * MINUTE_MS, "destroyed")
    assert (meter.billed_base, meter.running_since_ms) == (2 * RATE, None)
    assert "met_0001" not in core.book.meters
    body = last_row(core)
    assert (body["kind"], body["billed_base"], body["lost_base"]) == ("meter.ended", 2 * RATE, 0)


def test_an_end_settles_every_period_that_is_held(core: StoreCore) -> None:
    """The one that is over at its own part, the one that it falls in at what it cost, the one ahead at nothing."""
    post(core, make_next(2, meter_of(core)))
    post(core, make_next(3, meter_of(core)))
    post(core, end(NOW_MS + DAY_MS + HOUR_MS))
    assert [paid(core, n).captured_base for n in (1, 2, 3)] == [24 * RATE, RATE, 0]
    assert paid(core, 3).axes.charge is Charge.VOIDED
    assert agent(core) == (FUNDS - 25 * RATE, 0)


def test_an_end_before_the_period_began_costs_nothing(core: StoreCore) -> None:
    """Destroyed in the moment in which it began, by clocks that differ: it ended no earlier than it was ordered."""
    post(core, end(NOW_MS - 5, NOW_MS + 5))
    assert (paid(core).axes.charge, agent(core)) == (Charge.VOIDED, (FUNDS, 0))
    assert meter_of(core).ended_at_ms == NOW_MS


def test_an_end_after_unheld_periods_is_the_houses_loss(core: StoreCore) -> None:
    """P2: two days that nobody could hold are not the agent's debt."""
    post(core, bill())
    post(core, end(NOW_MS + 3 * DAY_MS))
    assert (agent(core), there(core), loss(core)) == (
        (FUNDS - 24 * RATE, 0),
        (-72 * RATE, 0),
        48 * RATE,
    )
    assert (meter_of(core).billed_base, meter_of(core).lost_base) == (72 * RATE, 48 * RATE)


def test_an_end_with_an_unbilled_period_behind_it_loses_only_what_is_beyond(core: StoreCore) -> None:
    """The first day is still held and is charged whole; the second was not held."""
    post(core, end(NOW_MS + 2 * DAY_MS))
    assert (paid(core).captured_base, loss(core)) == (24 * RATE, 24 * RATE)


def test_a_period_ahead_does_not_pay_for_the_one_before_it() -> None:
    """P2 for each period by itself: what the first one's hold lacked is not taken from the next one's."""
    core = running(seeded(open_core()), hold_base=RATE)
    post(core, make_next(2, meter_of(core)))
    post(core, end(NOW_MS + 5 * HOUR_MS))
    assert (paid(core).captured_base, paid(core, 2).axes.charge) == (RATE, Charge.VOIDED)
    assert (agent(core), loss(core)) == ((FUNDS - RATE, 0), 4 * RATE)


def test_an_end_that_is_told_of_late_takes_nothing_back(core: StoreCore) -> None:
    """The vendor's word for a time that was billed already does not undo the bill."""
    post(core, make_next(2, meter_of(core)))
    post(core, bill())
    post(core, end(NOW_MS + HOUR_MS, NOW_MS + DAY_MS + HOUR_MS))
    assert meter_of(core).ended_at_ms == NOW_MS + DAY_MS
    assert (paid(core).captured_base, paid(core, 2).axes.charge) == (24 * RATE, Charge.VOIDED)


def test_ending_twice_or_what_never_began_changes_nothing(core: StoreCore) -> None:
    """A destruction is confirmed once; an order ends by being refused or absent."""
    post(core, end(NOW_MS + HOUR_MS))
    assert leaves_nothing(core, end(NOW_MS + 2 * HOUR_MS)) == Done(changed=False)
    post(core, make_order(2))
    never = c.EndMeter("met_0002", NOW_MS + HOUR_MS, "gone", NOW_MS + HOUR_MS)
    assert leaves_nothing(core, never) == Done(changed=False)


def test_a_gap_is_paid_by_whoever_tops_up_in_time(core: StoreCore) -> None:
    """A period that could not be held is held once money came, from where the last one ended: no loss."""
    half_held = make_next(2, meter_of(core), at_ms=NOW_MS + DAY_MS + 5 * HOUR_MS)
    post(core, bill())
    post(core, half_held)
    post(core, end(NOW_MS + DAY_MS + 6 * HOUR_MS))
    assert (agent(core), loss(core)) == ((FUNDS - 30 * RATE, 0), 0)


# wishes and warnings


def test_the_first_reason_for_an_end_stays(core: StoreCore) -> None:
    """Whoever asked first is the reason, in the row and at the end."""
    assert post(core, c.MarkEnding("met_0001", "agent", NOW_MS)) == Done()
    assert last_row(core)["kind"] == "meter.ending"
    assert leaves_nothing(core, c.MarkEnding("met_0001", "unfunded", NOW_MS + 5)) == Done(changed=False)
    post(core, end(NOW_MS + HOUR_MS))
    assert meter_of(core).reason == "agent"
    assert leaves_nothing(core, c.MarkEnding("met_0001", "late", NOW_MS)) == Done(changed=False)


def test_what_is_ending_is_billed_on(core: StoreCore) -> None:
    """A destruction that is not confirmed yet costs the agent what it held, and the house the rest."""
    post(core, c.MarkEnding("met_0001", "agent", NOW_MS))
    post(core, bill())
    assert paid(core).captured_base == 24 * RATE
    post(core, end(NOW_MS + DAY_MS + HOUR_MS))
    assert loss(core) == RATE


@pytest.mark.parametrize(("unfunded", "kind"), [(False, "meter.warned"), (True, "meter.unfunded")])
def test_a_warning_is_given_once_until_money_came(core: StoreCore, unfunded: bool, kind: str) -> None:  # noqa: FBT001
    """One warning and one notice a shortage; the next period that is held ends it."""
    warn = c.WarnMeter("met_0001", unfunded, NOW_MS + 5)
    assert post(core, warn) == Done()
    assert (last_row(core)["kind"], last_row(core)["held_until_ms"]) == (kind, NOW_MS + DAY_MS)
    assert leaves_nothing(core, replace(warn, at_ms=NOW_MS + 9)) == Done(changed=False)
    assert post(core, c.WarnMeter("met_0001", not unfunded, NOW_MS + 6)) == Done()
    core.post([make_credit(2), make_next(2, meter_of(core))])
    assert (meter_of(core).warned_at_ms, meter_of(core).unfunded_at_ms) == (None, None)
    assert post(core, replace(warn, at_ms=NOW_MS + 20)) == Done()


def test_nobody_is_warned_about_what_does_not_run(core: StoreCore) -> None:
    """Not of what is ending, nor of what nobody knows."""
    post(core, c.MarkEnding("met_0001", "agent", NOW_MS))
    for meter_id in ("met_0001", "met_0009"):
        assert leaves_nothing(core, c.WarnMeter(meter_id, unfunded=False, at_ms=NOW_MS)) == Done(changed=False)
