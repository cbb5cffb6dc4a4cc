"""What the operator has at a vendor that charges an account."""

import json
from typing import Any

import pytest

from gateway.core import chart
from gateway.core import commands as c
from gateway.core.commands import Command, Done
from gateway.core.ledger import imbalance
from gateway.core.money import MAX_AMOUNT_BASE
from gateway.store.core import StoreCore
from gateway.store.load import verify_book
from tests.factories import (
    HOUR_MS,
    METERED,
    NOW_MS,
    leaves_nothing,
    ledger_account,
    make_balance,
    make_created,
    make_meter,
    make_next,
    make_order,
    make_outcome,
    open_core,
    post,
    seeded,
)

ASSET = chart.vendor_asset(METERED)
CENT = 10_000
DAY_HOLD = 24 * 14_700
FULL = 50_000_000


@pytest.fixture
def core() -> Any:
    """A core that saw USD 50 at the vendor; in the end its books are whole."""
    opened = seeded(open_core())
    post(opened, make_balance(FULL))
    yield opened
    assert imbalance(opened.book.ledger.accounts()) == {}
    verify_book(opened.db)


def posted(core: StoreCore, code: str) -> int:
    """Return an account's posted balance in the vendor's asset."""
    account = core.book.ledger.find(code, ASSET)
    return 0 if account is None else account.posted_base


def there(core: StoreCore) -> tuple[int, int, int]:
    """Return what the books have at the vendor, what is in suspense there, and the operator's capital."""
    vendor, missing = posted(core, chart.vendor(METERED)), posted(core, chart.vendor_suspense(METERED))
    return vendor, missing, -posted(core, chart.HOUSE_CAPITAL)


def last_row(core: StoreCore) -> dict[str, Any]:
    """Return the newest journal row."""
    found = core.db.execute("SELECT body FROM journal ORDER BY seq DESC LIMIT 1").fetchone()
    return dict(json.loads(found[0]))


def drifts(core: StoreCore) -> list[str]:
    """Return the details of the open tasks about this vendor's balance."""
    query = "SELECT detail FROM tasks WHERE kind = 'vendor_balance_drift' AND closed_at_ms IS NULL"
    return [row[0] for row in core.db.execute(query)]


def bill_the_first_day(core: StoreCore) -> None:
    """Run a thing for a day and settle it."""
    core.post([make_order(), make_created(), c.BillPeriod("pay_0001", NOW_MS + 24 * HOUR_MS)])


def test_the_first_look_is_the_operators_capital(core: StoreCore) -> None:
    """What is there when we first look was paid in by the operator."""
    assert there(core) == (FULL, 0, FULL)
    assert (last_row(core)["kind"], last_row(core)["amount_base"]) == ("vendor.deposit", FULL)
    assert core.book.vendor_balances == {METERED: (FULL, NOW_MS)}


def test_an_empty_account_is_seen_without_a_deposit() -> None:
    """Nothing there is news once, and no money."""
    core = seeded(open_core())
    assert post(core, make_balance(0)) == Done()
    assert core.book.vendor_balances == {METERED: (0, NOW_MS)}
    assert core.book.ledger.find(chart.vendor(METERED), ASSET) is None
    assert leaves_nothing(core, make_balance(0)) == Done(changed=False)


@pytest.mark.parametrize("noise", [0, 1, -1, CENT, -CENT])
def test_noise_is_no_news(core: StoreCore, noise: int) -> None:
    """A float's last digits are neither deposit nor charge, and cost no row."""
    assert leaves_nothing(core, make_balance(FULL + noise)) == Done(changed=False)


def test_a_deposit_is_booked_to_the_base_unit(core: StoreCore) -> None:
    """Beyond noise, what the books cannot explain was paid in."""
    post(core, make_balance(FULL + CENT + 1))
    assert there(core) == (FULL + CENT + 1, 0, FULL + CENT + 1)
    assert last_row(core)["amount_base"] == CENT + 1


def test_a_decline_that_holds_explain_is_followed_and_not_booked(core: StoreCore) -> None:
    """Vendors charge the hour when it starts, we when the period ends: in between less is there than is posted."""
    core.post([make_order(), make_created()])
    assert post(core, make_balance(FULL - 20 * CENT)) == Done()
    assert core.book.vendor_balances[METERED][0] == FULL - 20 * CENT
    assert (there(core), drifts(core)) == ((FULL, 0, FULL), [])


def test_a_charge_that_comes_back_is_no_deposit(core: StoreCore) -> None:
    """A create that the vendor took money for and gave back: the balance falls and rises inside what is held."""
    core.post([make_order(), make_balance(FULL - DAY_HOLD), make_outcome(1)])
    post(core, make_balance(FULL))
    assert there(core) == (FULL, 0, FULL)


def test_a_deposit_while_things_run_is_booked_whole_in_the_end(core: StoreCore) -> None:
    """What they cost since their last bill hides as much of the deposit until that bill is settled."""
    core.post([make_order(), make_created()])
    post(core, make_balance(FULL + 10_000_000 - DAY_HOLD))
    assert there(core)[2] == FULL + 10_000_000 - DAY_HOLD
    post(core, c.BillPeriod("pay_0001", NOW_MS + 24 * HOUR_MS))
    post(core, make_balance(FULL + 10_000_000 - DAY_HOLD, at_ms=NOW_MS + 24 * HOUR_MS))
    assert there(core) == (FULL + 10_000_000 - DAY_HOLD, 0, FULL + 10_000_000)


def test_what_the_vendor_took_beyond_its_tariff_is_a_task(core: StoreCore) -> None:
    """More than the drift is missing although every hold is counted: suspense, a task, and the books follow."""
    bill_the_first_day(core)
    short = 1_000_001
    at_drift = make_balance(FULL - DAY_HOLD - short + 1)
    post(core, at_drift)
    assert drifts(core) == []
    assert post(core, make_balance(FULL - DAY_HOLD - short)) == Done()
    assert there(core) == (FULL - DAY_HOLD - short, short, FULL)
    assert len(drifts(core)) == 1
    assert "1.000001 less" in drifts(core)[0]


def test_a_drift_is_told_once_and_booked_as_it_grows(core: StoreCore) -> None:
    """The same balance again is no news; a second shortage is booked under the same task."""
    post(core, make_balance(FULL - 2_000_000))
    assert leaves_nothing(core, make_balance(FULL - 2_000_000, 2)) == Done(changed=False)
    post(core, make_balance(FULL - 4_000_000, 3))
    assert there(core) == (FULL - 4_000_000, 4_000_000, FULL)
    assert len(drifts(core)) == 1


def test_open_periods_count_to_the_last_unit_before_a_drift(core: StoreCore) -> None:
    """The band reaches down to all that is held: two periods ahead are no drift."""
    core.post([make_order(), make_created()])
    post(core, make_next(2, core.book.meters["met_0001"]))
    post(core, make_balance(FULL - 2 * DAY_HOLD - 1_000_000))
    assert drifts(core) == []
    post(core, make_balance(FULL - 2 * DAY_HOLD - 1_000_001))
    assert len(drifts(core)) == 1


def test_what_was_missing_is_found_again_before_anything_is_capital(core: StoreCore) -> None:
    """The vendor gives back, and the operator pays in: suspense is cleared first."""
    core.post([make_balance(FULL - 3_000_000), make_balance(FULL + 1_000_000)])
    assert there(core) == (FULL + 1_000_000, 0, FULL + 1_000_000)
    assert (last_row(core)["amount_base"], last_row(core)["found_again_base"]) == (4_000_000, 3_000_000)


def test_a_balance_below_zero_is_followed(core: StoreCore) -> None:
    """A vendor that is owed says so."""
    post(core, make_balance(-5_000_000))
    assert there(core) == (-5_000_000, FULL + 5_000_000, FULL)
    assert "-5.000000" in drifts(core)[0]


@pytest.mark.parametrize("told", [10**30, -(10**30)])
def test_a_nonsense_balance_never_stops_the_store(core: StoreCore, told: int) -> None:
    """Beyond what the ledger counts it is cut."""
    assert post(core, make_balance(told)) == Done()
    assert abs(core.book.vendor_balances[METERED][0]) == MAX_AMOUNT_BASE
    post(core, make_balance(FULL))


def test_vendors_are_apart(core: StoreCore) -> None:
    """What is at one vendor is no other's."""
    elsewhere = make_balance(7_000_000, vendor="litevps")
    commands: list[Command] = [elsewhere, make_order(meter=make_meter(vendor="litevps"))]
    core.post(commands)
    assert there(core) == (FULL, 0, FULL)
    other = ledger_account(core.book.ledger, chart.vendor("litevps"), chart.vendor_asset("litevps"))
    assert (other.posted_base, other.reserved_base) == (7_000_000, DAY_HOLD)
