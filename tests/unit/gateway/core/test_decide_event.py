"""A vendor's events: news once, pending until handled, found from what they speak of."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.core import commands as c
from gateway.core.commands import Done
from gateway.store.core import StoreCore
from tests.factories import (
    METERED,
    NOW_MS,
    leaves_nothing,
    make_balance,
    make_created,
    make_event,
    make_order,
    open_core,
    post,
    seeded,
)

TAKE = c.TakeEvent(make_event(1))
CLOSE = c.CloseEvent(METERED, "evt_00000001", NOW_MS + 5)


@pytest.fixture
def core() -> StoreCore:
    """A core where acc_1 has srv_0001 at an account vendor, by payment 1."""
    opened = seeded(open_core())
    opened.post([make_balance(), make_order(1), make_created(1)])
    return opened


def rows(core: StoreCore) -> list[tuple[object, ...]]:
    """Return vendor, id and time of handling of every event."""
    query = "SELECT vendor, event_id, handled_at_ms FROM vendor_events ORDER BY vendor, event_id"
    return core.db.execute(query).fetchall()


def test_an_event_is_news_and_in_the_journal(core: StoreCore) -> None:
    """It is pending, and its journal row is found from the payment of the thing that it speaks of (P11)."""
    assert post(core, TAKE) == Done()
    assert core.book.pending_events == {(METERED, "evt_00000001"): make_event(1)}
    assert rows(core) == [(METERED, "evt_00000001", None)]
    kind, payment_id, body = core.db.execute(
        "SELECT kind, payment_id, body FROM journal ORDER BY seq DESC LIMIT 1"
    ).fetchone()
    assert (kind, payment_id) == ("vendor.event", "pay_0001")
    assert json.loads(body) == {
        "kind": "vendor.event",
        "at_ms": NOW_MS + 1_000,
        "payment_id": "pay_0001",
        "vendor": METERED,
        "event_id": "evt_00000001",
        "event": "server.deleted",
        "ref": "srv_0001",
        "state": "destroyed",
        "created_at_ms": NOW_MS,
    }


def test_an_event_about_nobodys_thing_is_taken_too(core: StoreCore) -> None:
    """What it means is for later; it belongs to no payment."""
    assert post(core, c.TakeEvent(make_event(9))) == Done()
    assert core.db.execute("SELECT payment_id FROM journal WHERE kind = 'vendor.event'").fetchall() == [(None,)]


def test_an_event_is_taken_once(core: StoreCore) -> None:
    """P13: neither again in one group, nor later with other contents, nor after it was handled; another vendor's is another."""
    results, _ = core.post([TAKE, TAKE])
    assert results == [Done(), Done(changed=False)]
    later = make_event(1, received_at_ms=NOW_MS + 10**9, ref="srv_0002")
    assert leaves_nothing(core, c.TakeEvent(later)) == Done(changed=False)
    assert post(core, CLOSE) == Done()
    assert leaves_nothing(core, TAKE) == Done(changed=False)
    assert post(core, c.TakeEvent(make_event(1, vendor="other"))) == Done()
    assert rows(core) == [(METERED, "evt_00000001", NOW_MS + 5), ("other", "evt_00000001", None)]


def test_an_event_is_closed_once(core: StoreCore) -> None:
    """Closing what is not pending changes nothing: nothing that never came, nothing of another vendor's, nothing twice."""
    assert leaves_nothing(core, CLOSE) == Done(changed=False)
    results, _ = core.post([TAKE, CLOSE, CLOSE])
    assert results == [Done(), Done(), Done(changed=False)]
    assert core.book.pending_events == {}
    assert leaves_nothing(core, replace(CLOSE, at_ms=9)) == Done(changed=False)
    assert leaves_nothing(core, replace(CLOSE, vendor="other")) == Done(changed=False)


def test_events_outlive_the_process(tmp_path: Path) -> None:
    """P12: what was pending is pending, what was handled is known."""
    core = seeded(open_core(tmp_path))
    core.post([TAKE, CLOSE, c.TakeEvent(make_event(2))])
    core.close()
    again = open_core(tmp_path)
    assert again.book.pending_events == {(METERED, "evt_00000002"): make_event(2)}
    assert leaves_nothing(again, TAKE) == Done(changed=False)
    assert leaves_nothing(again, c.TakeEvent(make_event(2))) == Done(changed=False)
    again.close()
