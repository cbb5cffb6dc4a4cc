"""A thing at an account vendor: ordered with its first period, and started or not by the vendor's answer."""

import json
from dataclasses import replace
from typing import Any

import pytest

from gateway.core import chart
from gateway.core import commands as c
from gateway.core.commands import Attached, Done, Refused
from gateway.core.ledger import imbalance
from gateway.core.meter_book import DEARER, UNWANTED
from gateway.core.money import USD
from gateway.core.payment import Axes, Charge, Delivery, Fault, Transfer
from gateway.core.records import Meter, MeterState, Payment
from gateway.store.core import StoreBroken, StoreCore
from gateway.store.load import verify_book
from tests.factories import (
    HOUR_MS,
    METERED,
    NOW_MS,
    leaves_nothing,
    ledger_account,
    make_account,
    make_answer,
    make_budget,
    make_created,
    make_credit,
    make_key,
    make_limits,
    make_meter,
    make_order,
    make_outcome,
    make_purchase,
    make_resource,
    make_settled,
    make_start,
    make_terms,
    open_core,
    post,
    seeded,
)

DAY_HOLD = 24 * 14_700
FUNDS = 100_000_000


@pytest.fixture
def core() -> StoreCore:
    """A core with USD 100 on acc_1."""
    return seeded(open_core())


def agent(core: StoreCore) -> tuple[int, int]:
    """Return available and held of acc_1."""
    account = ledger_account(core.book.ledger, chart.agent("acc_1"), USD)
    return account.available_base, account.reserved_base


def there(core: StoreCore) -> tuple[int, int]:
    """Return what is posted and reserved of the operator's balance at the vendor."""
    account = ledger_account(core.book.ledger, chart.vendor(METERED), chart.vendor_asset(METERED))
    return account.posted_base, account.reserved_base


def paid(core: StoreCore, n: int = 1) -> Payment:
    """Return payment n."""
    payment = core.book.payment(f"pay_{n:04}")
    assert payment is not None
    return payment


def stored(core: StoreCore, n: int = 1) -> dict[str, Any]:
    """Return a meter's row."""
    cursor = core.db.execute("SELECT * FROM meters WHERE id = ?", (f"met_{n:04}",))
    return dict(zip([d[0] for d in cursor.description], cursor.fetchone(), strict=True))


def refused(core: StoreCore, command: c.Command) -> str:
    """Post what is refused; return the code, after asserting that nothing changed."""
    result = leaves_nothing(core, command)
    assert isinstance(result, Refused), result
    return result.code


def test_an_order_holds_its_first_period_and_owes_nothing_yet(core: StoreCore) -> None:
    """Hold, exposure at the vendor, meter and attempt are one commit; the transfer is only prepared (P3)."""
    assert isinstance(post(core, make_order()), Done)
    assert paid(core).axes == Axes(transfer=Transfer.PREPARED)
    assert agent(core) == (FUNDS - DAY_HOLD, DAY_HOLD)
    assert there(core) == (0, DAY_HOLD)
    meter = core.book.meters["met_0001"]
    assert (meter.state, meter.seq, meter.held_until_ms) == (MeterState.ORDERED, 1, NOW_MS + 24 * HOUR_MS)
    assert stored(core)["state"] == "ordered"
    body = json.loads(core.db.execute("SELECT body FROM journal ORDER BY seq DESC LIMIT 1").fetchone()[0])
    assert (body["kind"], body["meter_id"], body["period"]) == ("payment.held", "met_0001", 1)
    assert core.db.execute("SELECT COUNT(*) FROM authorizations").fetchone() == (0,)
    assert core.db.execute("SELECT COUNT(*) FROM attempts").fetchone() == (1,)


def test_an_order_that_the_balance_does_not_cover_is_refused(core: StoreCore) -> None:
    """To the base unit: a create needs its whole first period."""
    assert refused(core, make_order(hold_base=FUNDS + 1)) == "insufficient_balance"
    assert isinstance(post(core, make_order(hold_base=FUNDS)), Done)


def test_what_the_operator_has_at_the_vendor_refuses_no_order(core: StoreCore) -> None:
    """The book has seen no deposit there: it is the vendor who says that nothing is left."""
    assert isinstance(post(core, make_order()), Done)
    assert there(core) == (0, DAY_HOLD)


@pytest.mark.parametrize("scope", ["all", f"vendor:{METERED}", "account:acc_1", f"asset:account:{METERED}"])
def test_an_order_is_stopped_by_a_freeze(core: StoreCore, scope: str) -> None:
    """Nothing new is begun where the operator has stopped it."""
    post(core, c.SetFreeze(scope, frozen=True, reason="drill", by="me", at_ms=NOW_MS))
    assert refused(core, make_order()) == "frozen"


def test_an_order_needs_a_key_and_room_in_its_budgets(core: StoreCore) -> None:
    """A revoked key begins nothing, and a budget stops a beginning."""
    post(core, c.AddKey(make_key(2, budgets=(make_budget(limit_base=DAY_HOLD - 1),))))
    mine = make_meter(key_id="key_2")
    assert refused(core, make_order(meter=mine)) == "budget_exhausted"
    post(core, c.RevokeKey("key_1", "acc_1", NOW_MS))
    assert refused(core, make_order()) == "key_revoked"


def test_the_things_of_an_account_at_a_vendor_are_capped(core: StoreCore) -> None:
    """Things count while they exist, each vendor's and account's apart; open payments do not count for them."""
    limits = make_limits(metered_per_vendor=2, open_payments_per_vendor=0)
    assert isinstance(post(core, make_order(1, limits=limits)), Done)
    assert isinstance(post(core, make_order(2, limits=limits)), Done)
    assert refused(core, make_order(3, limits=limits)) == "too_many_open_payments"
    elsewhere = make_meter(4, vendor="litevps")
    assert isinstance(post(core, make_order(4, meter=elsewhere, limits=limits)), Done)
    post(core, make_outcome(1, Delivery.REFUSED))
    assert isinstance(post(core, make_order(3, limits=limits)), Done)
    assert core.book.meter_count("acc_1", METERED) == 2


def test_a_repeated_order_attaches_to_the_first(core: StoreCore) -> None:
    """By its key or by what it asks for: the same request does not order twice."""
    post(core, make_order(1, idempotency_key="k"))
    again = make_order(2, fingerprint=make_order(1).payment.fingerprint, idempotency_key="k")
    assert leaves_nothing(core, again) == Attached("pay_0001")


@pytest.mark.parametrize(
    "wrong",
    [
        replace(make_order(), meter=None),
        replace(make_purchase(1), meter=make_meter()),
        replace(make_order(), payment=replace(make_order().payment, axes=Axes(transfer=Transfer.PRESENTED))),
        replace(make_order(), meter=make_meter(2)),
        replace(make_order(), meter=make_meter(vendor="litevps")),
        replace(make_order(), meter=make_meter(account_id="acc_2")),
        replace(make_order(), meter=make_meter(key_id="key_2")),
        replace(make_order(), meter=make_meter(state=MeterState.RUNNING)),
        make_order(meter=make_meter(seq=1)),
        replace(make_order(), meter=make_meter(hourly="free")),
        replace(make_order(), payment=replace(make_order().payment, hold_base=DAY_HOLD + 1)),
    ],
    ids=str,
)
def test_an_order_that_contradicts_itself_stops_the_store(core: StoreCore, wrong: c.Purchase) -> None:
    """A first period comes with its own new meter, a dollar for a dollar: anything else is a bug."""
    with pytest.raises(StoreBroken) as caught:
        post(core, wrong)
    assert isinstance(caught.value.__cause__, ValueError)


def test_two_things_never_share_a_vendors_mark(core: StoreCore) -> None:
    """The mark in the vendor's own name finds one thing: a second meter with it must not take the first one's place."""
    post(core, make_order(1))
    with pytest.raises(StoreBroken):
        post(core, make_order(2, meter=make_meter(2, token="gw-0001")))
    assert core.db.execute("SELECT id FROM meters").fetchall() == [("met_0001",)]


# the vendor's answer


def test_delivery_starts_the_meter_and_the_vendors_claim(core: StoreCore) -> None:
    """From now on the period is presented, the meter runs at the vendor's rate, and the thing is its owner's."""
    post(core, make_order())
    cheaper = make_start(hourly="0.0120", kind="vps", since_ms=NOW_MS + 500)
    result = post(core, make_created(metered=cheaper, answer=make_answer(), at_ms=NOW_MS + 900))
    assert isinstance(result, Done)
    assert paid(core).axes == Axes(Delivery.DELIVERED, Transfer.PRESENTED)
    assert paid(core).resource_ref == "srv_0001"
    meter = core.book.meters["met_0001"]
    assert (meter.state, meter.ref, meter.hourly, meter.kind) == (MeterState.RUNNING, "srv_0001", "0.0120", "vps")
    assert meter.running_since_ms == NOW_MS + 500
    resource = core.book.resource(METERED, "srv_0001")
    assert resource is not None
    assert (resource.meter_id, resource.account_id) == ("met_0001", "acc_1")
    assert agent(core) == (FUNDS - DAY_HOLD, DAY_HOLD)
    assert leaves_nothing(core, make_created(metered=cheaper, at_ms=NOW_MS + 900)) == Done(paid(core), changed=False)


@pytest.mark.parametrize(
    ("told_ms", "since_ms"), [(0, NOW_MS), (-5, NOW_MS), (NOW_MS - 1, NOW_MS), (NOW_MS + 10, NOW_MS + 10)]
)
def test_a_vendors_clock_never_charges_before_the_order(core: StoreCore, told_ms: int, since_ms: int) -> None:
    """Seconds told as milliseconds would be fifty years of hours."""
    post(core, make_order())
    post(core, make_created(metered=make_start(since_ms=told_ms), at_ms=NOW_MS + 900))
    assert core.book.meters["met_0001"].running_since_ms == since_ms


def test_a_thing_that_is_not_charged_yet_has_no_beginning(core: StoreCore) -> None:
    """A vendor that charges only what runs says so: it exists, and nothing is owed."""
    post(core, make_order())
    post(core, make_created(metered=make_start(since_ms=None)))
    assert core.book.meters["met_0001"].running_since_ms is None


def test_delivery_without_a_word_on_charges_costs_what_was_quoted(core: StoreCore) -> None:
    """No thing is ever without a meter that runs: then it is charged from the order on."""
    post(core, make_order())
    post(core, make_created(metered=None, at_ms=NOW_MS + 900))
    meter = core.book.meters["met_0001"]
    assert (meter.state, meter.hourly, meter.running_since_ms) == (MeterState.RUNNING, "0.0147", NOW_MS)


def test_a_refused_order_gives_everything_back(core: StoreCore) -> None:
    """The vendor said no: the hold is void, the meter has ended before it began, and its place is free."""
    post(core, make_order(idempotency_key="k"))
    post(core, make_outcome(1, Delivery.REFUSED, fault=Fault.VENDOR, note="no stock"))
    assert paid(core).axes == Axes(Delivery.REFUSED, Transfer.PREPARED, Charge.VOIDED)
    assert paid(core).reclaimable
    assert (agent(core), there(core)) == ((FUNDS, 0), (0, 0))
    assert (core.book.meters, core.book.open_periods) == ({}, {})
    assert (stored(core)["state"], stored(core)["reason"]) == ("ended", "no stock")
    again = make_order(2, idempotency_key="k", fingerprint=paid(core).fingerprint)
    assert isinstance(post(core, again), Done)


def test_an_unknown_order_keeps_its_hold_until_it_is_found(core: StoreCore) -> None:
    """P5: a create without an answer is not failed; a list that shows the thing starts it late."""
    post(core, make_order())
    post(core, make_outcome(1, Delivery.UNKNOWN, metered=make_start()))
    assert paid(core).axes == Axes(Delivery.UNKNOWN, Transfer.PREPARED)
    assert core.book.meters["met_0001"].state is MeterState.ORDERED
    assert agent(core) == (FUNDS - DAY_HOLD, DAY_HOLD)
    post(core, make_created(metered=make_start(since_ms=NOW_MS + 5), at_ms=NOW_MS + HOUR_MS))
    assert core.book.meters["met_0001"].state is MeterState.RUNNING


def test_an_unknown_order_that_is_proven_absent_costs_nothing(core: StoreCore) -> None:
    """Absence is a refusal, with its proof as the reason."""
    post(core, make_order())
    post(core, make_outcome(1, Delivery.UNKNOWN))
    post(core, make_outcome(1, Delivery.REFUSED, note="absent from two lists"))
    assert paid(core).axes.charge is Charge.VOIDED
    assert agent(core) == (FUNDS, 0)
    assert stored(core)["reason"] == "absent from two lists"


def test_what_appears_after_its_hold_went_back_is_a_task(core: StoreCore) -> None:
    """A vendor that made the absent thing after all has it at nobody's cost: a human must know."""
    post(core, make_order())
    post(core, make_outcome(1, Delivery.REFUSED))
    post(core, make_created())
    assert paid(core).axes == Axes(Delivery.DELIVERED, Transfer.PREPARED, Charge.VOIDED)
    assert core.book.meters == {}
    task = core.book.task("task_pay_0001_late")
    assert task is not None
    assert (task.kind, "srv_0001" in task.detail) == ("delivered_after_refusal", True)
    assert agent(core) == (FUNDS, 0)


@pytest.mark.parametrize("delivery", [Delivery.DELIVERED, Delivery.REFUSED])
def test_what_is_dearer_than_quoted_is_the_houses_from_the_first_moment(core: StoreCore, delivery: Delivery) -> None:
    """The hold goes back at once, the thing is to be ended, and its whole cost is the house's loss."""
    post(core, make_order())
    dear = make_start(hourly="9.5", accepted=False)
    post(core, make_created(delivery=delivery, metered=dear))
    assert paid(core).axes.charge is Charge.VOIDED
    assert (agent(core), there(core)) == ((FUNDS, 0), (0, 0))
    meter = core.book.meters["met_0001"]
    assert (meter.state, meter.reason, meter.ref) == (MeterState.ENDING, DEARER, "srv_0001")
    post(core, c.EndMeter("met_0001", NOW_MS + 90 * 60_000, "destroyed", NOW_MS + 2 * HOUR_MS))
    assert agent(core) == (FUNDS, 0)
    assert (stored(core)["billed_base"], stored(core)["lost_base"]) == (19_000_000, 19_000_000)
    assert ledger_account(core.book.ledger, chart.HOUSE_LOSS, USD).posted_base == 19_000_000
    assert there(core) == (-19_000_000, 0)
    assert imbalance(core.book.ledger.accounts()) == {}
    verify_book(core.db)


def test_what_exists_though_it_was_refused_is_ended_at_the_houses_cost(core: StoreCore) -> None:
    """A create that failed half-way leaves something that is charged: the agent did not get it."""
    post(core, make_order())
    post(core, make_created(delivery=Delivery.REFUSED))
    meter = core.book.meters["met_0001"]
    assert (meter.state, meter.reason) == (MeterState.ENDING, UNWANTED)
    assert agent(core) == (FUNDS, 0)


def test_a_rate_that_cannot_be_meant_stops_the_store_before_it_bills(core: StoreCore) -> None:
    """Callers read a vendor's rates before they are recorded; a bill must not be what finds a bad one."""
    post(core, make_order())
    with pytest.raises(StoreBroken):
        post(core, make_created(metered=make_start(hourly="1e9")))


def test_a_create_that_answers_with_anothers_thing_starts_nothing(core: StoreCore) -> None:
    """P9: what another account owns is neither delivered nor charged; the hold stays until the truth is known."""
    core.post([c.OpenAccount(make_account(2)), c.AddKey(make_key(2, account_id="acc_2"))])
    post(core, make_credit(2, account_id="acc_2"))
    theirs = make_meter(2, account_id="acc_2", key_id="key_2")
    post(core, make_order(2, meter=theirs))
    post(core, make_created(2, resource=make_resource(1, vendor=METERED, account_id="acc_2")))
    post(core, make_order(1))
    post(core, make_created(1))
    assert paid(core).axes == Axes(Delivery.UNKNOWN, Transfer.PREPARED)
    assert core.book.meters["met_0001"].state is MeterState.ORDERED
    assert core.book.task("task_pay_0001_conflict") is not None


def test_one_thing_is_charged_by_one_meter(core: StoreCore) -> None:
    """P13: a second create of the same account that answers with the first one's thing is not charged for it."""
    for n in (1, 2):
        post(core, make_order(n))
    post(core, make_created(1))
    post(core, make_created(2, resource=make_resource(1, vendor=METERED)))
    assert paid(core, 2).axes == Axes(Delivery.UNKNOWN, Transfer.PREPARED)
    assert core.book.meters["met_0002"].state is MeterState.ORDERED
    task = core.book.task("task_pay_0002_conflict")
    assert task is not None
    assert "another purchase of the account" in task.detail


def test_a_thing_that_a_list_told_of_first_gets_its_meter(core: StoreCore) -> None:
    """The list came before the answer: the thing is the account's already, and from now on metered."""
    post(core, make_order())
    post(core, c.RecordResource(make_resource(1, vendor=METERED, payment_id=""), NOW_MS))
    post(core, make_created())
    resource = core.book.resource(METERED, "srv_0001")
    assert resource is not None
    assert (resource.meter_id, resource.payment_id) == ("met_0001", "pay_0001")
    assert paid(core).resource_ref == core.book.meters["met_0001"].ref == "srv_0001"


def test_a_chain_cannot_settle_or_end_a_period(core: StoreCore) -> None:
    """A period is the vendor's bill: evidence from a chain does not fit it."""
    post(core, make_order())
    post(core, make_created())
    settled = make_settled(1, value_base=1)
    assert refused(core, settled) == "evidence_mismatch"
    assert refused(core, c.RecordDead("pay_0001", settled.evidence, NOW_MS)) == "evidence_mismatch"


def test_a_payment_on_chain_has_no_meter(core: StoreCore) -> None:
    """What an answer says of charges by the hour means nothing where a wallet paid."""
    post(core, make_purchase(1))
    post(core, make_outcome(1, metered=make_start()))
    assert (core.book.meters, paid(core).axes.transfer) == ({}, Transfer.PRESENTED)
    assert paid(core).terms == make_terms()


def test_the_book_loads_meters_in_every_state(tmp_path: Any) -> None:
    """Ordered, running, ending: all that has not ended is found again after a restart, and nothing else."""
    core = seeded(open_core(tmp_path))
    core.post([make_order(n) for n in (1, 2, 3, 4)])
    core.post([make_created(2), make_created(3, metered=make_start(accepted=False)), make_outcome(4, Delivery.REFUSED)])
    meters, periods = dict(core.book.meters), dict(core.book.open_periods)
    core.close()
    again = open_core(tmp_path)
    assert {m.id: m.state.value for m in again.book.meters.values()} == {
        "met_0001": "ordered",
        "met_0002": "running",
        "met_0003": "ending",
    }
    assert (again.book.meters, again.book.open_periods) == (meters, periods)
    assert all(isinstance(m, Meter) for m in again.book.meters.values())
    assert again.book.meter_count("acc_1", METERED) == 3
    again.close()
