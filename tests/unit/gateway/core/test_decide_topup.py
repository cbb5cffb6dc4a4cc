"""Orders for credit: one payment each, each payment one order's, and what the house lends on them."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from gateway.core import chart
from gateway.core.commands import Attached, Done, OpenAccount, Put, Remember, SetFreeze
from gateway.core.paid import SettlementState, TopUp, TopUpState
from gateway.core.paid_commands import LendTopUp
from gateway.core.records import HOUSE
from gateway.store.core import StoreBroken
from tests.factories import (
    NOW_MS,
    make_account,
    make_answer,
    make_purchase,
    make_server,
    make_terms,
    open_core,
    seeded,
)
from tests.paid_factories import AMOUNT, Desk, book, claim, credited, digest, make_topup, newer, paying, put, refund

OPEN, PAYING, SEEN, FAILED, EXPIRED = (
    TopUpState.OPEN,
    TopUpState.PAYING,
    TopUpState.SEEN,
    TopUpState.FAILED,
    TopUpState.EXPIRED,
)
FUNDS = 100_000_000  # the operator's credit
ROOM = 10**12


@pytest.fixture
def desk() -> Iterator[Desk]:
    """A desk whose rows are proven after each test."""
    opened = Desk(seeded(open_core()))
    yield opened
    if opened.core._broken is None:
        opened.prove()


def lend(n: int = 1, cap: int = ROOM, own: int = ROOM) -> LendTopUp:
    """Return the loan on order n."""
    return LendTopUp(f"top_{n:04}", cap, own, NOW_MS + 1_500)


def seen(desk: Desk, n: int = 1, **changes: Any) -> TopUp:
    """Take a payment for order n and see it in a block; return the order."""
    order = paying(n, **changes)
    desk.post(put(order))
    order = newer(order, state=SEEN, tx_hash=digest("tx"))
    assert desk.post(put(order, "seen")) == Done()
    return order


# orders


def test_an_order_is_kept_from_its_payment_on(desk: Desk) -> None:
    """It begins when a payment is claimed for it, and leaves the memory when nothing can land any more."""
    order = paying(1)
    assert desk.post(put(order)) == Done()
    assert desk.view.topups == {"top_0001": order}
    order = newer(order, state=FAILED, reason="expired unused", ended_at_ms=NOW_MS)
    assert desk.post(put(order, "failed")) == Done()
    assert desk.view.topups == {}
    assert desk.last()["reason"] == "expired unused"
    assert desk.available() == FUNDS


def test_the_same_payment_for_the_same_order_again_attaches(desk: Desk) -> None:
    """A client that asks again with what it has signed gets its own order, at whatever stage that is."""
    desk.post(put(paying(1)))
    assert desk.post(put(paying(1))) == Attached("top_0001")
    desk.post(put(newer(paying(1), state=SEEN), "seen"))
    assert desk.post(put(paying(1))) == Attached("top_0001")


def test_a_second_payment_for_an_order_is_refused_before_it_settles(desk: Desk) -> None:
    """Another identity, on this rail or another, is `topup_taken` as long as the first may land or has."""
    desk.post(put(paying(1)))
    assert desk.refused(put(paying(1, payment=2))) == "topup_taken"
    assert desk.refused(put(newer(paying(1, payment=2, rail="mpp_evm")))) == "topup_taken"
    order = newer(paying(1), state=SEEN)
    desk.post(put(order, "seen"))
    assert desk.refused(put(newer(order, nonce=digest("another")))) == "topup_taken"
    desk.post(book(1, topup=credited(order)))
    assert desk.refused(put(paying(1, payment=2))) == "topup_taken"


def test_two_payments_at_once_for_one_order_take_one(desk: Desk) -> None:
    """Both are in one group, and the first of them has the order."""
    results, step = desk.core.post([put(paying(1, payment=1)), put(paying(1, payment=2))])
    desk.view.advance(step)
    assert results[0] == Done()
    assert results[1].code == "topup_taken"  # type: ignore[union-attr]


def test_an_order_whose_payment_failed_may_have_another(desk: Desk) -> None:
    """And the first payment stays this order's for ever: no other order can have it (P13)."""
    desk.post(put(paying(1)))
    failed = newer(paying(1), state=FAILED, reason="dead")
    desk.post(put(failed, "failed"))
    again = newer(failed, state=PAYING, nonce=digest("authorization 7"))
    assert desk.post(put(again)) == Done()
    assert desk.refused(put(paying(2, payment=1))) == "payment_reused"
    assert desk.refused(put(paying(2, payment=7))) == "payment_reused"
    back = newer(newer(again, state=FAILED), state=PAYING, nonce=digest("authorization 1"))
    desk.post(put(newer(again, state=FAILED), "failed"))
    assert desk.post(put(back)) == Done()


def test_a_payment_is_one_orders(desk: Desk) -> None:
    """P13: in one group, and over commits."""
    results, step = desk.core.post([put(paying(1)), put(paying(2, payment=1))])
    desk.view.advance(step)
    assert results[1].code == "payment_reused"  # type: ignore[union-attr]
    assert desk.refused(put(paying(3, payment=1))) == "payment_reused"


def test_our_own_wallets_payments_are_no_top_ups(desk: Desk) -> None:
    """P13: what pays a vendor pays no till."""
    desk.post(make_purchase(1))
    terms = make_terms(1)
    same = {"token": terms.token, "payer": terms.wallet, "nonce": terms.nonce}
    assert desk.refused(put(paying(1, **same))) == "payment_reused"


def test_a_sellers_settlement_is_no_top_up(desk: Desk) -> None:
    """What somebody else asked us to collect is his, wherever it is paid to."""
    desk.post(claim(1))
    assert desk.refused(put(paying(1))) == "payment_reused"
    assert desk.refused(put(paying(1, settlement_id="stl_0001"))) == "payment_reused"


def test_a_settlement_of_the_house_is_the_orders_that_names_it(desk: Desk) -> None:
    """A top-up through our own facilitator has a settlement with the same identity, and says so."""
    desk.post(claim(1, account_id=HOUSE))
    assert desk.refused(put(paying(1))) == "payment_reused"
    assert desk.post(put(paying(1, settlement_id="stl_0001"))) == Done()
    desk.post(put(paying(2)))
    desk.post(claim(2, account_id=HOUSE))
    assert desk.post(put(newer(paying(2), settlement_id="stl_0002"))) == Done()
    assert desk.core.book.paid.settlement("stl_0002").state is SettlementState.CLAIMED  # type: ignore[union-attr]


# client tokens


def test_a_client_token_is_one_orders_of_its_account(desk: Desk) -> None:
    """The same request attaches, another one conflicts, and another account's tokens are its own."""
    desk.post(OpenAccount(make_account(2)))
    desk.post(put(make_topup(1), "ordered"))
    same = {"client_token": "topup 1", "fingerprint": digest("topup 1")}
    assert desk.post(put(make_topup(2, **same), "ordered")) == Attached("top_0001")
    assert desk.refused(put(make_topup(2, client_token="topup 1"), "ordered")) == "idempotency_conflict"
    assert desk.post(put(make_topup(3, account_id="acc_2", **same), "ordered")) == Done()
    assert desk.post(put(make_topup(4, account_id=None, **same), "ordered")) == Done()
    assert desk.post(put(make_topup(5, account_id=None, **same), "ordered")) == Attached("top_0004")
    results, step = desk.core.post([put(make_topup(n, client_token="t", fingerprint=digest("t"))) for n in (6, 7)])
    desk.view.advance(step)
    assert results == [Done(), Attached("top_0006")]
    for n in (8, 9):
        assert desk.post(put(make_topup(n, client_token=""), "ordered")) == Done()


def test_client_tokens_are_idempotency_keys(desk: Desk) -> None:
    """What an account's key stands for elsewhere it does not stand for here, and the other way round."""
    desk.post(make_purchase(1, idempotency_key="a"), Put(make_server(1, client_token="b"), "ordered", NOW_MS))
    desk.post(put(make_topup(1, client_token="c"), "ordered"))
    for token in ("a", "b"):
        assert desk.refused(put(make_topup(2, client_token=token), "ordered")) == "idempotency_conflict"
        assert desk.refused(refund(1, client_token=token)) == "idempotency_conflict"
    assert desk.refused(make_purchase(2, idempotency_key="c")) == "idempotency_conflict"
    assert desk.refused(Put(make_server(2, client_token="c"), "ordered", NOW_MS)) == "idempotency_conflict"
    assert desk.refused(Remember("acc_1", "c", digest("x"), make_answer(1))) == "idempotency_conflict"


def test_a_token_of_nobodys_stays_so_when_an_account_is_credited(desk: Desk) -> None:
    """A wallet's order may have the token of the account that it opens: neither stands in the other's way."""
    same = {"client_token": "t", "fingerprint": digest("t")}
    desk.post(put(make_topup(1, **same), "ordered"), put(paying(2, account_id=None, **same)))
    desk.post(put(newer(paying(2, account_id=None, **same), account_id="acc_1")))
    assert desk.post(put(make_topup(3, account_id=None, **same), "ordered")) == Attached("top_0002")
    assert desk.post(put(make_topup(3, **same), "ordered")) == Attached("top_0001")


# versions


def test_an_old_version_changes_nothing(desk: Desk) -> None:
    """Two flows that read the same order cannot undo each other; what has ended stays so."""
    desk.post(put(make_topup(1), "ordered"))
    desk.post(put(newer(paying(1))))
    assert desk.refused(put(newer(make_topup(1), state=EXPIRED), "expired")) == "changed_meanwhile"
    assert desk.refused(put(newer(newer(newer(paying(1)), state=SEEN)), "seen")) == "changed_meanwhile"
    assert desk.refused(put(newer(make_topup(7)), "ordered")) == "changed_meanwhile"
    desk.post(put(make_topup(2), "ordered"))
    ended = newer(make_topup(2), state=EXPIRED, ended_at_ms=NOW_MS)
    desk.post(put(ended, "expired"))
    assert desk.refused(put(newer(ended, state=OPEN, ended_at_ms=None), "reopened")) == "changed_meanwhile"


def test_an_order_is_of_an_account_that_exists(desk: Desk) -> None:
    """P9: nobody orders for an account that is not there."""
    assert desk.refused(put(make_topup(1, account_id="acc_9"), "ordered")) == "not_found"


@pytest.mark.parametrize(
    "change", [{"client_token": "\ud800"}, {"amount_base": 10**16}, {"nonce": bytes(70_000)}, {"payer": b""}]
)
def test_what_no_row_can_hold_is_refused(desk: Desk, change: dict[str, Any]) -> None:
    """A stranger's text or number must not stop the store."""
    assert desk.refused(put(paying(1, **change))) == "bad_request"


@pytest.mark.parametrize(
    ("order", "event"),
    [
        (make_topup(1), "sold"),
        (make_topup(1, state=TopUpState.CREDITED), "ordered"),
        (make_topup(1, state=PAYING), "paying"),
        (make_topup(1, ended_at_ms=NOW_MS), "ordered"),
        (make_topup(1, lent_base=1), "ordered"),
        (make_topup(1, credited_base=1), "ordered"),
        (make_topup(1, receipt_id="rcv_1"), "ordered"),
        (newer(make_topup(2), amount_base=1), "ordered"),
        (newer(make_topup(2), client_token="other"), "ordered"),
        (newer(make_topup(2), account_id=None), "ordered"),
    ],
)
def test_nobody_credits_or_rewrites_an_order_by_keeping_it(desk: Desk, order: TopUp, event: str) -> None:
    """A caller that contradicts the record is a bug, and stops the store."""
    desk.post(put(make_topup(2), "ordered"))
    with pytest.raises(StoreBroken):
        desk.post(put(order, event))


# loans


def test_a_loan_is_repaid_by_the_credit(desk: Desk) -> None:
    """What the house lends ahead of finality it has back when the final block has come; the account has it once."""
    order = seen(desk)
    assert desk.post(lend(1)) == Done()
    assert (desk.available(), desk.posted(chart.HOUSE_RISK)) == (FUNDS + AMOUNT, AMOUNT)
    assert desk.view.topups["top_0001"].lent_base == AMOUNT
    assert desk.post(lend(1)) == Done(changed=False)
    assert desk.refused(book(1, topup=credited(order))) == "changed_meanwhile"
    assert desk.post(book(1, topup=credited(desk.view.topups["top_0001"]))) == Done()
    assert (desk.available(), desk.posted(chart.HOUSE_RISK)) == (FUNDS + AMOUNT, 0)
    assert (desk.last()["repaid_base"], desk.core.book.paid.lent) == (AMOUNT, {})


def test_the_house_lends_within_its_caps(desk: Desk) -> None:
    """Altogether, and to one account; what was repaid may be lent again."""
    desk.post(OpenAccount(make_account(2)))
    for n in (1, 2):
        seen(desk, n)
    seen(desk, 3, account_id="acc_2")
    assert desk.refused(lend(1, cap=AMOUNT - 1)) == "risk_cap"
    assert desk.refused(lend(1, own=AMOUNT - 1)) == "risk_cap"
    assert desk.refused(lend(1, cap=0, own=0)) == "risk_cap"
    assert desk.post(lend(1, 2 * AMOUNT, AMOUNT)) == Done()
    assert desk.refused(lend(2, 2 * AMOUNT, AMOUNT)) == "risk_cap"
    assert desk.post(lend(3, 2 * AMOUNT, AMOUNT)) == Done()
    assert desk.refused(lend(2, 2 * AMOUNT, 2 * AMOUNT)) == "risk_cap"
    desk.post(book(1, topup=credited(desk.view.topups["top_0001"])))
    assert desk.post(lend(2, 2 * AMOUNT, AMOUNT)) == Done()


def test_nothing_is_lent_on_what_nobody_has_seen_or_to_who_is_frozen(desk: Desk) -> None:
    """A payment that is in no block, an order of nobody's, an unknown one, and a frozen account."""
    desk.post(put(paying(1)))
    assert desk.refused(lend(1)) == "changed_meanwhile"
    seen(desk, 2, account_id=None)
    assert desk.refused(lend(2)) == "changed_meanwhile"
    assert desk.refused(lend(9)) == "not_found"
    seen(desk, 3)
    desk.post(SetFreeze("account:acc_1", frozen=True, reason="drill", by="operator", at_ms=NOW_MS))
    assert desk.refused(lend(3)) == "frozen"


@pytest.mark.parametrize("spent", [0, 98_000_000, 105_000_000])
def test_a_loan_on_a_payment_that_never_lands_is_taken_back(desk: Desk, spent: int) -> None:
    """What the account still has goes back to the house; the rest is the house's loss and a task, never a debt (P2)."""
    order = seen(desk)
    desk.post(lend(1))
    if spent:
        desk.post(make_purchase(1, hold_base=spent, terms=make_terms(1, value_base=spent)))
    failed = replace(newer(order), version=4, state=FAILED, lent_base=AMOUNT, ended_at_ms=NOW_MS, reason="reorged")
    assert desk.post(put(failed, "failed")) == Done()
    lost = max(0, spent - FUNDS)
    assert desk.posted(chart.HOUSE_LOSS) == lost
    assert (desk.posted(chart.HOUSE_RISK), desk.available()) == (0, FUNDS - spent + lost)
    task = desk.core.book.reader.open_task("loan_lost", "top_0001")
    assert (task is not None) == bool(lost)
    assert "top_0001" not in desk.view.topups


def test_a_loan_outlasts_a_reorganisation(desk: Desk) -> None:
    """Back from a block to its way: the payment may still land, and the loan stays."""
    seen(desk)
    desk.post(lend(1))
    back = newer(desk.view.topups["top_0001"], state=PAYING, tx_hash=None)
    assert desk.post(put(back)) == Done()
    assert desk.posted(chart.HOUSE_RISK) == AMOUNT
