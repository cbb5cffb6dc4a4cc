"""The view's index of billing periods: every open one by its meter, and nothing else, however it got there."""

from gateway.core import commands as c
from gateway.core.view import View
from tests.factories import HOUR_MS, NOW_MS, make_created, make_next, make_order, make_start, open_core, post, seeded


def ids(view: View) -> list[str]:
    """Return the open periods of the one meter."""
    return [payment.id for payment in view.periods("met_0001")]


def test_periods_are_found_by_meter_until_they_are_settled() -> None:
    """A first period from its order on, the next beside it, and none that was billed; the oldest comes first."""
    core, view = seeded(open_core()), View()
    view.load(core.book)
    assert ids(view) == []
    for command in (make_order(hours=1), make_created(metered=make_start(since_ms=NOW_MS))):
        view.advance(core.post([command])[1])
    view.advance(core.post([make_next(2, core.book.meters["met_0001"], hours=1)])[1])
    assert ids(view) == ["pay_0001", "pay_0002"]
    view.advance(core.post([c.BillPeriod("pay_0001", NOW_MS + HOUR_MS)])[1])
    assert ids(view) == ["pay_0002"]
    view.advance(core.post([c.EndMeter("met_0001", NOW_MS + HOUR_MS, "destroyed", NOW_MS + HOUR_MS)])[1])
    assert (ids(view), view.open_periods) == ([], {})


def test_a_restart_finds_them_again() -> None:
    """What is loaded is what was there, and moves on by itself."""
    core = seeded(open_core())
    post(core, make_order(hours=1))
    view = View()
    view.load(core.book)
    assert ids(view) == ["pay_0001"]
    view.open_periods["met_0001"].clear()
    assert core.book.open_periods["met_0001"]
