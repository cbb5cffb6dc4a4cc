"""What a wallet really holds: floats and unknown outflows."""

import json
from dataclasses import replace

import pytest

from gateway.core import chart
from gateway.core.commands import CloseTask, Done, Refused, SetFreeze
from gateway.core.ledger import imbalance
from gateway.core.money import MAX_AMOUNT_BASE
from gateway.store.core import StoreBroken, StoreCore
from gateway.store.load import verify_book
from tests.factories import (
    ASSET,
    NOW_MS,
    WALLET,
    leaves_nothing,
    ledger_account,
    make_dead,
    make_float,
    make_outflow,
    make_purchase,
    make_settled,
    open_core,
    post,
    seeded,
)

WALLET_HEX = "0x" + WALLET.hex()
MISSING = chart.suspense(WALLET_HEX)
FULL = 1_000_000_000


@pytest.fixture
def core() -> StoreCore:
    """A core whose wallet holds 1000 tokens, 9 of them exposed."""
    opened = seeded(open_core())
    opened.post([make_purchase(1)])
    return opened


def posted(core: StoreCore, code: str) -> int:
    """Return an account's posted balance in the token."""
    account = core.book.ledger.find(code, ASSET)
    return 0 if account is None else account.posted_base


def frozen(core: StoreCore) -> bool:
    """Whether the wallet is frozen."""
    return f"wallet:{WALLET_HEX}" in core.book.freezes


def test_what_came_in_is_the_operators_capital(core: StoreCore) -> None:
    """A higher balance is booked once, with its evidence in the journal."""
    post(core, make_float(FULL + 5, 2))
    assert posted(core, chart.wallet(WALLET_HEX)) == posted(core, chart.HOUSE_CAPITAL) * -1 == FULL + 5
    body = json.loads(core.db.execute("SELECT body FROM journal ORDER BY seq DESC LIMIT 1").fetchone()[0])
    assert (body["kind"], body["difference_base"], body["balance_base"]) == ("float.received", 5, FULL + 5)
    assert leaves_nothing(core, make_float(FULL + 5, 3)) == Done(changed=False)


def test_an_empty_unknown_wallet_is_no_news(core: StoreCore) -> None:
    """Looking at a wallet that holds nothing opens no account."""
    assert leaves_nothing(core, make_float(0, 2, wallet=b"\x09" * 20)) == Done(changed=False)


def test_what_is_missing_freezes_the_wallet_and_asks_a_human(core: StoreCore) -> None:
    """A lower balance goes to suspense, the wallet is frozen, and a task is open; the same look again is no news."""
    post(core, make_float(FULL - 7, 2))
    assert posted(core, chart.wallet(WALLET_HEX)) == FULL - 7
    assert posted(core, MISSING) == 7
    assert frozen(core)
    task = core.book.task("task_float_2")
    assert task is not None
    assert task.detail.startswith(f"7 base units of {ASSET} are missing from {WALLET_HEX}; 0 of them")
    assert leaves_nothing(core, make_float(FULL - 7, 3)) == Done(changed=False)
    refused = leaves_nothing(core, make_purchase(2))
    assert isinstance(refused, Refused)
    assert refused.code == "frozen"


def test_more_that_is_missing_is_booked_while_the_task_is_open(core: StoreCore) -> None:
    """The book follows the chain although the human has not answered yet; one task is enough."""
    post(core, make_float(FULL - 7, 2))
    post(core, make_float(FULL - 10, 3))
    assert posted(core, chart.wallet(WALLET_HEX)) == FULL - 10
    (detail,) = (row[0] for row in core.db.execute("SELECT detail FROM tasks"))
    assert detail.startswith("10 base units")
    assert leaves_nothing(core, make_float(FULL - 10, 4)) == Done(changed=False)


def test_what_is_promised_is_not_booked_away(core: StoreCore) -> None:
    """M6: of a shortage beyond what is free the book takes what is free at once, and the rest once promises have died."""
    post(core, make_float(5_000_000, 2))
    wallet = ledger_account(core.book.ledger, chart.wallet(WALLET_HEX), ASSET)
    assert (wallet.posted_base, wallet.available_base) == (9_000_000, 0)
    assert frozen(core)
    task = core.book.task("task_float_2")
    assert task is not None
    assert "4000000 of them are promised and not yet booked" in task.detail
    assert leaves_nothing(core, make_float(5_000_000, 3)) == Done(changed=False)
    post(core, make_dead(1))
    post(core, make_float(5_000_000, 4))
    assert posted(core, chart.wallet(WALLET_HEX)) == 5_000_000
    assert posted(core, MISSING) == FULL - 5_000_000
    task = core.book.task("task_float_2")
    assert task is not None
    assert task.detail.startswith(f"{FULL - 5_000_000} base units")
    assert "; 0 of them" in task.detail
    verify_book(core.db)


@pytest.mark.parametrize("balance_base", [FULL - 7, 5_000_000])
def test_a_wallet_that_is_still_short_is_frozen_again(core: StoreCore, balance_base: int) -> None:
    """M6: an operator who lifts the freeze without mending anything finds it back at the next look, task open or not."""
    post(core, make_float(balance_base, 2))
    post(core, SetFreeze(f"wallet:{WALLET_HEX}", frozen=False, reason="", by="operator", at_ms=NOW_MS))
    assert not frozen(core)
    short = balance_base if balance_base < 9_000_000 else balance_base - 1
    post(core, make_float(short, 3))
    assert frozen(core)


def test_a_settlement_proven_late_does_not_make_capital(core: StoreCore) -> None:
    """M6: the shortage that it explains was booked as missing, so the surplus that it leaves is that, found again."""
    post(core, make_float(FULL - 9_000_000, 2))
    assert posted(core, MISSING) == 9_000_000
    post(core, make_settled(1))
    post(core, make_float(FULL - 9_000_000, 3))
    assert posted(core, MISSING) == 0
    assert posted(core, chart.wallet(WALLET_HEX)) == FULL - 9_000_000
    assert posted(core, chart.HOUSE_CAPITAL) == -FULL
    post(core, make_float(FULL, 4))
    assert posted(core, chart.HOUSE_CAPITAL) == -FULL - 9_000_000
    verify_book(core.db)


def test_a_surplus_clears_what_is_missing_first_and_is_capital_beyond(core: StoreCore) -> None:
    """What was proven to have left is not found again by a deposit; what is missing in another wallet neither."""
    post(core, make_float(50, 2, wallet=b"\x09" * 20))
    post(core, make_float(40, 3, wallet=b"\x09" * 20))
    post(core, make_outflow(9, value_base=100))
    post(core, make_float(FULL - 107, 4))
    post(core, make_float(FULL - 100 + 20, 5))
    assert posted(core, MISSING) == 0
    assert posted(core, chart.SUSPENSE) == 100
    assert posted(core, chart.suspense("0x" + "09" * 20)) == 10
    assert posted(core, chart.HOUSE_CAPITAL) == -FULL - 50 - 20
    body = json.loads(core.db.execute("SELECT body FROM journal ORDER BY seq DESC LIMIT 1").fetchone()[0])
    assert (body["kind"], body["difference_base"], body["found_again_base"]) == ("float.received", 27, 7)
    verify_book(core.db)


def test_a_balance_above_the_bound_is_followed_to_the_bound(core: StoreCore) -> None:
    """An absurd balance never stops the store: a task says what is ignored, once."""
    post(core, make_float(2**256 - 1, 2))
    assert posted(core, chart.wallet(WALLET_HEX)) == MAX_AMOUNT_BASE
    task = core.book.task("task_float_2")
    assert task is not None
    assert (task.kind, str(2**256 - 1) in task.detail) == ("float_too_large", True)
    assert leaves_nothing(core, make_float(2**256 - 1, 3)) == Done(changed=False)
    assert not frozen(core)
    post(core, make_float(FULL, 4))
    assert posted(core, chart.wallet(WALLET_HEX)) == FULL
    verify_book(core.db)


def test_a_second_loss_after_the_task_is_closed_opens_another(core: StoreCore) -> None:
    """A closed task does not swallow the next one."""
    post(core, make_float(FULL - 7, 2))
    post(core, CloseTask("task_float_2", "found", "operator", NOW_MS))
    post(core, make_float(FULL - 8, 3))
    assert core.book.task("task_float_3") is not None


def test_an_unknown_outflow_is_booked_once(core: StoreCore) -> None:
    """A collection that no payment explains goes to suspense with its log, freezes the wallet and asks a human."""
    outflow = make_outflow(9, value_base=40)
    results, _ = core.post([outflow, outflow])
    assert results == [Done(), Done(changed=False)]
    assert posted(core, chart.wallet(WALLET_HEX)) == FULL - 40
    assert posted(core, chart.SUSPENSE) == 40
    assert frozen(core)
    assert leaves_nothing(core, outflow) == Done(changed=False)
    assert leaves_nothing(core, make_float(FULL - 40, 2)) == Done(changed=False)
    verify_book(core.db)


def test_a_cancel_that_nobody_ordered_is_an_alarm_without_money(core: StoreCore) -> None:
    """An unknown authorization that was cancelled moves nothing, but somebody holds the key."""
    post(core, make_outflow(9, value_base=0))
    assert posted(core, chart.SUSPENSE) == 0
    assert frozen(core)


@pytest.mark.parametrize("value_base", [FULL - 1, 2**255])
def test_an_outflow_larger_than_what_is_free_waits_for_the_float(core: StoreCore, value_base: int) -> None:
    """The books never go below what is promised; the next look at the balance finds the rest once promises died."""
    post(core, make_outflow(9, value_base=value_base))
    assert posted(core, chart.wallet(WALLET_HEX)) == 9_000_000
    assert posted(core, chart.SUSPENSE) == FULL - 9_000_000
    assert frozen(core)
    task = core.book.task("task_out_9")
    assert task is not None
    assert task.detail.startswith(f"{value_base} base units")
    core.post([make_dead(1), make_float(1, 2)])
    assert posted(core, chart.wallet(WALLET_HEX)) == 1
    assert imbalance(core.book.ledger.accounts()) == {}


def test_a_collection_against_a_proof_is_booked_and_names_its_payment(core: StoreCore) -> None:
    """M5: the log is evidence, the money is in suspense, and task and journal lead to the payment (P11, P13)."""
    post(core, make_dead(1))
    outflow = replace(make_outflow(9, value_base=40), payment_id="pay_0001")
    assert post(core, outflow) == Done()
    assert leaves_nothing(core, outflow) == Done(changed=False)
    assert posted(core, chart.SUSPENSE) == 40
    task = core.book.task("task_out_9")
    assert task is not None
    assert (task.kind, task.payment_id) == ("evidence_mismatch", "pay_0001")
    rows = core.db.execute("SELECT payment_id FROM journal WHERE kind = 'outflow.unknown'").fetchall()
    assert rows == [("pay_0001",)]
    assert frozen(core)
    verify_book(core.db)


@pytest.mark.parametrize("changes", [{"tx_hash": None, "log_index": None}, {"payment_id": "pay_0001"}], ids=str)
def test_an_outflow_without_a_log_of_its_own_is_a_bug(core: StoreCore, changes: dict[str, object]) -> None:
    """What is no log, or belongs to a payment, is not booked as an outflow."""
    with pytest.raises(StoreBroken):
        core.post([make_outflow(9, **changes)])


def test_two_assets_of_one_wallet_are_two_accounts(core: StoreCore) -> None:
    """What is missing in one asset does not hide what is missing in another."""
    other = "EURC@8453"
    post(core, make_float(100, 2, asset=other))
    core.post([make_float(FULL - 1, 3), make_float(90, 4, asset=other)])
    account = ledger_account(core.book.ledger, chart.wallet(WALLET_HEX), other)
    assert account.posted_base == 90
    assert posted(core, chart.wallet(WALLET_HEX)) == FULL - 1
    subjects = {row[0] for row in core.db.execute("SELECT subject FROM tasks")}
    assert subjects == {f"{WALLET_HEX} {ASSET}", f"{WALLET_HEX} {other}"}


def test_a_freeze_is_set_once(core: StoreCore) -> None:
    """A wallet that is frozen stays frozen for its first reason."""
    post(core, make_float(FULL - 7, 2))
    reason = core.book.freezes[f"wallet:{WALLET_HEX}"].reason
    post(core, replace(make_outflow(9), at_ms=NOW_MS + 1))
    assert core.book.freezes[f"wallet:{WALLET_HEX}"].reason == reason
