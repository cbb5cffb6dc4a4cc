"""The inventory cap in the book: which claims it refuses, what it never stops, and whom it asks."""

from collections.abc import Iterator

import pytest

from gateway.core import chart
from gateway.core.book import BookRules
from gateway.core.commands import Attached, CloseTask, Done
from gateway.core.inventory import InventoryCap
from gateway.core.paid import TopUpState
from gateway.core.paid_commands import ResolveIncoming
from gateway.core.records import Task
from tests.factories import ASSET, CHAIN_ID, NOW_MS, TOKEN, WALLET, make_float, open_core, seeded
from tests.paid_factories import AMOUNT, PAYER, TILL, Desk, book, credited, digest, newer, paying, put

HELD = 1_000_000_000  # the wallet's float
KIND = "inventory_above_cap"


def capped(room_base: int) -> Desk:
    """Return a desk with so much room above the wallet's float."""
    place = (CHAIN_ID, TOKEN)
    rules = BookRules(inventory_caps={place: InventoryCap(place, ASSET, HELD + room_base)})
    return Desk(seeded(open_core(rules=rules)))


@pytest.fixture
def desk() -> Iterator[Desk]:
    """Room for two top-ups and a unit less than a third; its rows are proven after each test."""
    opened = capped(3 * AMOUNT - 1)
    yield opened
    opened.prove()


def task(desk: Desk) -> Task | None:
    """Return the open task."""
    return desk.core.book.reader.open_task(KIND, ASSET)


def test_a_payment_that_would_pass_the_cap_is_not_claimed(desk: Desk) -> None:
    """P1: with what is held and under way; what is refused leaves nothing, and its payment is nobody's."""
    assert desk.post(put(paying(1))) == Done()
    assert desk.post(put(paying(2))) == Done()
    assert desk.refused(put(paying(3))) == "inventory_capped"
    assert desk.post(put(paying(4, payment=3, value_base=AMOUNT - 1))) == Done()
    assert desk.refused(put(paying(5, value_base=1))) == "inventory_capped"


def test_payments_claimed_in_one_group_count_for_each_other(desk: Desk) -> None:
    """Decisions follow one another, committed or not: of ten at once the first two have the room."""
    results, step = desk.core.post([put(paying(n)) for n in range(1, 11)])
    desk.view.advance(step)
    assert results[:2] == [Done(), Done()]
    assert {result.code for result in results[2:]} == {"inventory_capped"}  # type: ignore[union-attr]


def test_another_token_has_no_part_in_it(desk: Desk) -> None:
    """A token without a cap is taken without end."""
    for n in range(1, 11):
        assert desk.post(put(paying(n, token=b"\x42" * 20))) == Done()
    assert desk.post(put(paying(11))) == Done()


def test_what_is_under_way_goes_its_way(desk: Desk) -> None:
    """No step of a claimed payment is refused, however full it has become meanwhile, nor the same payment again."""
    order = paying(1)
    desk.post(put(order))
    desk.post(make_float(HELD + 10 * AMOUNT))
    assert task(desk) is not None
    order = newer(order, state=TopUpState.SEEN, tx_hash=digest("tx"))
    assert desk.post(put(order, "seen")) == Done()
    assert desk.post(put(paying(1))) == Attached("top_0001")
    order = newer(order, state=TopUpState.PAYING)
    assert desk.post(put(order)) == Done()
    assert desk.post(book(1, topup=credited(order))) == Done()
    assert desk.available() == 100_000_000 + AMOUNT


def test_an_order_that_failed_asks_anew(desk: Desk) -> None:
    """Its end frees the room; another's claim may have taken it when it is paid again."""
    first = paying(1)
    for n in (1, 2):
        desk.post(put(paying(n)))
    failed = newer(first, state=TopUpState.FAILED, reason="dead")
    desk.post(put(failed, "failed"))
    assert desk.post(put(paying(3))) == Done()
    again = newer(failed, state=TopUpState.PAYING, reason="")
    assert desk.refused(put(again)) == "inventory_capped"
    desk.post(put(newer(paying(3), state=TopUpState.FAILED), "failed"))
    assert desk.post(put(again)) == Done()


def test_a_credit_takes_the_room_that_its_claim_had(desk: Desk) -> None:
    """Neither counted twice nor lost between claim and block: what two orders leave is as before."""
    for n in (1, 2):
        desk.post(put(paying(n)))
        desk.post(book(n, topup=credited(paying(n))))
        assert task(desk) is None
    assert desk.refused(put(paying(3))) == "inventory_capped"
    assert desk.post(put(paying(4, value_base=AMOUNT - 1))) == Done()


def test_what_comes_in_all_the_same_is_booked_and_asked_about_once(desk: Desk) -> None:
    """P13: a deposit is its account's, what nobody knows is nobody's, capital is the house's; one task tells of all."""
    big = 4 * AMOUNT
    assert desk.post(book(1, account_id="acc_1", value_base=big, amount_base=big)) == Done()
    assert desk.available() == 100_000_000 + big
    asked = task(desk)
    assert asked is not None
    assert asked.detail == f"1020.000000 of {ASSET} lie in wallets and tills, above the cap of 1014.999999"
    assert desk.kinds(2) == ["incoming.credited", "task.opened"]
    assert desk.post(book(2, value_base=1, amount_base=1)) == Done()  # nobody's: a task of its own
    assert desk.core.book.reader.open_task("incoming_unclaimed", "rcv_0002") is not None
    assert desk.posted(chart.wallet("0x" + TILL.hex()), ASSET) == big + 1
    assert task(desk) == asked
    assert desk.post(ResolveIncoming("rcv_0002", None, "ours", "op", NOW_MS)) == Done()


def test_a_closed_task_comes_back_with_the_next_money(desk: Desk) -> None:
    """As long as there is too much; below the cap nobody is asked."""
    desk.post(make_float(HELD + 3 * AMOUNT))
    asked = task(desk)
    assert asked is not None
    assert desk.kinds(2) == ["float.received", "task.opened"]
    desk.post(CloseTask(asked.id, "raised soon", "op", NOW_MS))
    assert task(desk) is None
    desk.post(book(1, account_id="acc_1", value_base=1, amount_base=1))
    assert task(desk) not in {None, asked}


def test_what_left_makes_room(desk: Desk) -> None:
    """What is proven to have gone from a wallet may come in again."""
    for n in (1, 2):
        desk.post(put(paying(n)))
    assert desk.refused(put(paying(3))) == "inventory_capped"
    desk.post(make_float(HELD - 1))
    assert desk.posted(chart.wallet("0x" + WALLET.hex()), ASSET) == HELD - 1
    assert desk.post(put(paying(3))) == Done()


def test_a_cap_of_nothing_takes_nothing() -> None:
    """And it does not refuse what is no claim."""
    desk = capped(-HELD)
    assert desk.refused(put(paying(1, value_base=1))) == "inventory_capped"
    assert desk.refused(put(paying(2, payer=PAYER))) == "inventory_capped"
    assert desk.post(book(1, account_id="acc_1")) == Done()
    assert task(desk) is not None
    desk.prove()
