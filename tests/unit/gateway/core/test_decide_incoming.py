"""What came in: booked once whoever it is for, credited to whoever it is of, and resolved by an operator where it is nobody's."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from gateway.core import chart
from gateway.core.commands import Attached, CloseTask, Done, OpenAccount, RecordOutflow, SetFreeze
from gateway.core.paid import ReceiptState, TopUpState
from gateway.core.paid_commands import BindWallet, LendTopUp, ResolveIncoming
from gateway.store.core import StoreBroken
from tests.factories import ASSET, NOW_MS, make_account, make_outflow, make_purchase, make_terms, open_core, seeded
from tests.paid_factories import (
    AMOUNT,
    PAYER,
    TILL,
    Desk,
    book,
    credited,
    digest,
    make_topup,
    make_wallet,
    newer,
    paying,
    put,
)

FUNDS = 100_000_000  # the operator's credit
FLOAT = 1_000_000_000  # the operator's tokens in the spending wallet
TILL_CODE = chart.wallet("0x" + TILL.hex())


@pytest.fixture
def desk() -> Iterator[Desk]:
    """A desk whose rows are proven after each test."""
    opened = Desk(seeded(open_core()))
    yield opened
    if opened.core._broken is None:
        opened.prove()


def resolve(receipt: int = 1, account_id: str | None = "acc_1") -> ResolveIncoming:
    """Return the operator's decision on a receipt."""
    return ResolveIncoming(f"rcv_{receipt:04}", account_id, "mail of monday", "operator", NOW_MS + 9_000)


def the_task(desk: Desk, receipt: int = 1) -> str | None:
    """Return the kind of the open task about a receipt."""
    task = desk.core.book.reader.open_task("incoming_unclaimed", f"rcv_{receipt:04}")
    return None if task is None else task.id


# whose it is


def test_the_payment_of_an_order_credits_its_account(desk: Desk) -> None:
    """Tokens to the till, dollars to the account, receipt and order naming each other, in one row of the journal."""
    desk.post(put(paying(1)))
    assert desk.post(book(1, topup=credited(paying(1)), refundable=True)) == Done()
    assert desk.available() == FUNDS + AMOUNT
    assert (desk.posted(TILL_CODE, ASSET), desk.posted(chart.fx(ASSET), ASSET)) == (AMOUNT, AMOUNT)
    assert desk.posted(chart.fx(ASSET)) == -AMOUNT
    assert desk.view.topups == {}
    assert desk.view.funders == {PAYER}
    order, receipt = desk.core.book.paid.topup("top_0001"), desk.core.book.paid.incoming("rcv_0001")
    assert order is not None
    assert receipt is not None
    assert (order.state, order.receipt_id, order.credited_base) == (TopUpState.CREDITED, "rcv_0001", AMOUNT)
    assert (receipt.state, receipt.account_id, receipt.topup_id) == (ReceiptState.CREDITED, "acc_1", "top_0001")
    assert desk.kinds(1) == ["topup.credited"]
    assert desk.last()["records"] == {"rcv_0001": [1, "credited"], "top_0001": [2, "credited"]}


def test_one_log_is_booked_once(desk: Desk) -> None:
    """P13: again, in the same group, under another id, for another order: nothing changes."""
    desk.post(put(paying(1)), put(paying(2)))
    results, step = desk.core.post([book(1, topup=credited(paying(1))), book(1, topup=credited(paying(2)))])
    desk.view.advance(step)
    assert results == [Done(), Done(changed=False)]
    again = book(1, id="rcv_other", account_id="acc_1")
    assert desk.post(again) == Done(changed=False)
    assert desk.available() == FUNDS + AMOUNT
    assert desk.core.book.paid.topup("top_0002").state is TopUpState.PAYING  # type: ignore[union-attr]


@pytest.mark.parametrize("state", [TopUpState.OPEN, TopUpState.FAILED, TopUpState.EXPIRED])
def test_a_payment_that_lands_late_is_credited_all_the_same(desk: Desk, state: TopUpState) -> None:
    """Whatever the order said meanwhile, and also when it has ended."""
    desk.post(put(paying(1)))
    ended = None if state is TopUpState.OPEN else NOW_MS
    given_up = newer(paying(1), state=state, ended_at_ms=ended)
    desk.post(put(given_up, "expired"))
    assert desk.post(book(1, topup=credited(given_up))) == Done()
    assert desk.available() == FUNDS + AMOUNT


def test_an_order_may_begin_with_its_credit(desk: Desk) -> None:
    """What was paid before a row of the order was written is an order on the spot."""
    assert desk.post(book(1, topup=paying(1, state=TopUpState.CREDITED))) == Done()
    assert desk.available() == FUNDS + AMOUNT
    assert desk.refused(put(paying(2, payment=1))) == "payment_reused"


def test_an_order_is_credited_once(desk: Desk) -> None:
    """A second log cannot pay it again, nor can an old version of it, nor a payment that another order has."""
    desk.post(put(paying(1)), put(paying(2)))
    desk.post(book(1, topup=credited(paying(1))))
    order = desk.core.book.paid.topup("top_0001")
    assert desk.refused(book(2, topup=credited(order))) == "changed_meanwhile"  # type: ignore[arg-type]
    assert desk.refused(book(2, topup=credited(newer(paying(2))))) == "changed_meanwhile"
    assert desk.refused(book(2, topup=paying(3, payment=2, state=TopUpState.CREDITED))) == "payment_reused"
    assert desk.post(book(2, account_id="acc_1", note="a second payment")) == Done()
    assert desk.available() == FUNDS + 2 * AMOUNT


def test_a_deposit_credits_the_account_that_it_names(desk: Desk) -> None:
    """Without an order too; its row tells the account."""
    assert desk.post(book(1, account_id="acc_1")) == Done()
    assert desk.available() == FUNDS + AMOUNT
    assert desk.kinds(1) == ["incoming.credited"]
    assert desk.view.funders == set()


@pytest.mark.parametrize("account_id", [None, "acc_9"])
def test_what_is_nobodys_is_kept_for_whoever_claims_it(desk: Desk, account_id: str | None) -> None:
    """Without an account, or with one that does not exist, it is booked as owed, and a task is opened."""
    assert desk.post(book(1, account_id=account_id)) == Done()
    assert (desk.posted(chart.HOUSE_UNCLAIMED), desk.available()) == (-AMOUNT, FUNDS)
    assert desk.posted(TILL_CODE, ASSET) == AMOUNT
    assert the_task(desk) == "task_in_1"
    assert desk.kinds(2) == ["incoming.unclaimed", "task.opened"]


def test_an_order_of_nobodys_keeps_waiting_when_its_payment_is_nobodys(desk: Desk) -> None:
    """Money without an account is never an order's end: an operator decides."""
    order = paying(1, account_id=None)
    desk.post(put(order))
    assert desk.post(book(1, topup=credited(order))) == Done()
    assert desk.posted(chart.HOUSE_UNCLAIMED) == -AMOUNT
    assert desk.view.topups == {"top_0001": order}


def test_what_the_operator_sends_himself_is_capital(desk: Desk) -> None:
    """It is no liability: tokens against the house's capital."""
    desk.post(book(1, state=ReceiptState.CAPITAL))
    assert (desk.posted(TILL_CODE, ASSET), desk.posted(chart.fx(ASSET), ASSET)) == (AMOUNT, 0)
    assert desk.posted(chart.HOUSE_UNCLAIMED) == 0
    assert the_task(desk) is None


@pytest.mark.parametrize("scope", ["all", "account:acc_1", f"asset:{ASSET}", TILL_CODE])
def test_a_freeze_stops_no_credit(desk: Desk, scope: str) -> None:
    """P13: received money is never unbooked."""
    desk.post(SetFreeze(scope, frozen=True, reason="drill", by="operator", at_ms=NOW_MS))
    desk.post(put(paying(1)))
    assert desk.post(book(1, topup=credited(paying(1)))) == Done()
    assert desk.available() == FUNDS + AMOUNT


def test_no_amount_stops_the_store(desk: Desk) -> None:
    """More than the ledger counts is booked up to that, dust moves tokens only, and nothing is nothing."""
    assert desk.post(book(1, value_base=2**200, amount_base=2**200)) == Done()
    assert desk.posted(TILL_CODE, ASSET) == 10**15
    assert desk.post(book(2, value_base=1, amount_base=0, account_id="acc_1")) == Done()
    assert (desk.posted(TILL_CODE, ASSET), desk.available()) == (10**15 + 1, FUNDS)
    assert desk.post(book(3, value_base=0, amount_base=0)) == Done(changed=False)


def test_less_than_was_lent_is_made_up_by_the_account_or_the_house(desk: Desk) -> None:
    """An order that brings less than the loan on it leaves the rest to the account's balance, else to the house."""
    from_account = _lent(desk, 1)
    desk.post(book(1, topup=credited(from_account), amount_base=AMOUNT - 1_000_000))
    assert (desk.available(), desk.posted(chart.HOUSE_RISK)) == (FUNDS + AMOUNT - 1_000_000, 0)
    lent = _lent(desk, 2)
    all_of_it = desk.available()
    desk.post(make_purchase(1, hold_base=all_of_it, terms=make_terms(1, value_base=all_of_it)))
    desk.post(book(2, topup=credited(lent), amount_base=AMOUNT - 1_000_000))
    assert (desk.available(), desk.posted(chart.HOUSE_RISK), desk.posted(chart.HOUSE_LOSS)) == (0, 0, 1_000_000)
    assert desk.core.book.reader.open_task("loan_lost", "top_0002") is not None


def _lent(desk: Desk, n: int) -> Any:
    desk.post(put(paying(n)), put(newer(paying(n), state=TopUpState.SEEN), "seen"))
    desk.post(LendTopUp(f"top_{n:04}", 10**12, 10**12, NOW_MS))
    return desk.view.topups[f"top_{n:04}"]


@pytest.mark.parametrize(
    "change", [{"kind": "settled"}, {"log_index": 7}, {"chain_id": 1}, {"tx_hash": digest("other")}]
)
def test_evidence_of_something_else_proves_nothing(desk: Desk, change: dict[str, Any]) -> None:
    """P14: a receipt that names another log than its evidence is a bug, and stops the store."""
    command = book(1)
    with pytest.raises(StoreBroken):
        desk.post(replace(command, evidence=replace(command.evidence, **change)))


def test_a_receipts_id_is_its_own(desk: Desk) -> None:
    """Two logs cannot be one receipt."""
    desk.post(book(1))
    with pytest.raises(StoreBroken):
        desk.post(book(2, id="rcv_0001"))


def test_a_tills_log_is_no_outflow_twice(desk: Desk) -> None:
    """P13: one log closes one thing, whichever kind of evidence it is."""
    desk.post(book(1))
    seen = make_outflow(1)
    assert desk.post(RecordOutflow(TILL, ASSET, seen.evidence, "task_out", NOW_MS)) == Done(changed=False)


# wallets


def test_a_bare_wallets_payment_opens_its_account(desk: Desk) -> None:
    """The account, its binding, the order and the credit are one commit."""
    order = paying(1, account_id=None)
    desk.post(put(order))
    wallet = make_wallet(1)
    paid = replace(credited(order), account_id=wallet.account_id)
    assert desk.post(book(1, topup=paid, wallet=wallet, refundable=True)) == Done()
    assert desk.view.wallet_accounts == {PAYER: "acct_w1"}
    assert (desk.available("acct_w1"), desk.available()) == (AMOUNT, FUNDS)
    assert desk.kinds(3) == ["account.opened", "wallet.bound", "topup.credited"]


def test_a_wallet_has_one_account(desk: Desk) -> None:
    """Two payments at once open one: the second is credited there, whatever it would have opened."""
    orders = [paying(n, account_id=None) for n in (1, 2)]
    desk.post(*(put(order) for order in orders))
    commands = [book(n, topup=credited(orders[n - 1]), wallet=make_wallet(n)) for n in (1, 2)]
    results, step = desk.core.post(commands)
    desk.view.advance(step)
    assert results == [Done(), Done()]
    assert desk.available("acct_w1") == 2 * AMOUNT
    assert "acct_w2" not in desk.view.agent_accounts


def test_an_account_whose_id_is_taken_is_not_opened(desk: Desk) -> None:
    """Then the money is kept for whoever claims it."""
    desk.post(book(1, wallet=make_wallet(1, account_id="acc_1")))
    assert (desk.posted(chart.HOUSE_UNCLAIMED), desk.view.wallet_accounts) == (-AMOUNT, {})


def test_a_wallet_opens_its_account_by_its_key_once(desk: Desk) -> None:
    """Whoever proves the key again attaches to the account that it has."""
    command = BindWallet(make_wallet(1), "a wallet", NOW_MS)
    assert desk.post(command) == Done()
    assert desk.post(BindWallet(make_wallet(2), "a wallet", NOW_MS)) == Attached("acct_w1")
    assert desk.available("acct_w1") == 0
    assert desk.refused(BindWallet(make_wallet(1, address=b"x"), "", NOW_MS)) == "bad_request"
    assert (
        desk.refused(BindWallet(make_wallet(1, address=bytes(20), account_id="acc_1"), "", NOW_MS)) == "account_exists"
    )


# the operator decides


def test_what_is_nobodys_is_given_to_an_account_once(desk: Desk) -> None:
    """The account has it, the task is closed, and a second decision changes nothing or is refused."""
    desk.post(OpenAccount(make_account(2)), book(1))
    assert desk.post(resolve(1)) == Done()
    assert (desk.posted(chart.HOUSE_UNCLAIMED), desk.available(), the_task(desk)) == (0, FUNDS + AMOUNT, None)
    assert desk.post(resolve(1)) == Done(changed=False)
    assert desk.refused(resolve(1, None)) == "changed_meanwhile"
    assert desk.refused(resolve(1, "acc_2")) == "changed_meanwhile"


def test_what_is_nobodys_becomes_capital(desk: Desk) -> None:
    """The liability and the exchange are undone: tokens against capital."""
    desk.post(book(1))
    assert desk.post(resolve(1, None)) == Done()
    assert (desk.posted(chart.HOUSE_UNCLAIMED), desk.posted(chart.fx(ASSET)), desk.posted(chart.fx(ASSET), ASSET)) == (
        0,
        0,
        0,
    )
    assert (desk.posted(TILL_CODE, ASSET), desk.posted(chart.HOUSE_CAPITAL, ASSET)) == (AMOUNT, -FLOAT - AMOUNT)
    assert desk.post(resolve(1, None)) == Done(changed=False)


def test_a_decision_needs_a_receipt_and_an_account(desk: Desk) -> None:
    """And a note that can be written; dust that is worth nothing is resolved like the rest."""
    desk.post(book(1), book(2, value_base=1, amount_base=0))
    assert desk.refused(resolve(9)) == "not_found"
    assert desk.refused(resolve(1, "acc_9")) == "not_found"
    assert desk.refused(replace(resolve(1), note="\ud800")) == "bad_request"
    desk.post(CloseTask("task_in_2", "seen", "operator", NOW_MS))
    assert desk.post(resolve(2)) == Done()
    desk.post(book(3, account_id="acc_1"))
    assert desk.refused(resolve(3, None)) == "changed_meanwhile"


def test_an_orders_account_is_the_one_that_is_credited(desk: Desk) -> None:
    """P9: a caller that would credit another account's order elsewhere is a bug."""
    desk.post(OpenAccount(make_account(2)), put(make_topup(1), "ordered"))
    with pytest.raises(StoreBroken):
        desk.post(book(1, topup=newer(make_topup(1), account_id="acc_2")))
