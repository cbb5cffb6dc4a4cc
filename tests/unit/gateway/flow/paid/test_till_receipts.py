"""What comes in is booked once, by a final block, to whoever it belongs to, and is never lost (P13, P14)."""

from dataclasses import replace

import pytest
from till_rig import EURC, OTHER, OTHER_KEY, OWN, PAYER, STRANGER, TILL, USD, TillRig, name

from contracts.codec import Address
from contracts.tokens import MODERATO_PATHUSD
from gateway.core import commands as c
from gateway.core.paid import ReceiptState, TopUpState, WalletAccount
from gateway.core.paid_commands import BindWallet, PutTopUp
from gateway.flow.paid.deposits import memo_of
from gateway.flow.paid.tills import Till
from gateway.ports import ChainDisagreement, ChainUnavailable

SECOND = Address(b"\x5e" * 20)


async def bind(till: TillRig, address: bytes = PAYER, account_id: str = "acct_bound") -> None:
    """Let a wallet prove itself."""
    result = await till.store.post(
        BindWallet(WalletAccount(address, account_id, till.clock.ms), "wallet", till.clock.ms)
    )
    assert isinstance(result, c.Done)


async def test_an_exact_payment_is_credited_at_finality_and_not_before(till: TillRig) -> None:
    """The balance rises with the final block, by what was ordered, and may be refunded to whoever signed."""
    payment = till.pay()
    order = await till.order(payment)
    tx_hash = till.chain.settle(payment)
    await till.poll(blocks=2)
    assert till.available() == 0
    await till.poll(blocks=1)
    receipt = await till.receipt_of(order)
    assert till.available() == 5 * USD
    assert (receipt.sender, receipt.tx_hash, receipt.refundable, receipt.topup_id) == (PAYER, tx_hash, True, order.id)
    assert receipt.state is ReceiptState.CREDITED
    await till.sound()


async def test_p13_the_same_log_read_again_credits_nothing(till: TillRig) -> None:
    """A crash before the cursor's commit repeats the page: every row of it is there already."""
    await till.paid()
    till.unread()
    await till.poll()
    assert till.available() == 5 * USD
    assert len(till.rows("SELECT * FROM incoming")) == 1
    await till.sound()


async def test_p14_a_payment_that_a_reorg_undoes_is_never_credited(till: TillRig) -> None:
    """What was in a block that is gone was never money."""
    payment = till.pay()
    order = await till.order(payment)
    till.chain.settle(payment)
    till.chain.mine(1)
    await till.receipts.poll()
    till.chain.reorg(1)
    await till.poll()
    assert till.available() == 0
    assert (await till.topup(order)).state is TopUpState.PAYING
    await till.sound()


async def test_p14_one_witness_that_disagrees_makes_it_unknown(till: TillRig) -> None:
    """Nothing is credited, the cursor stays, a task is opened; once they agree it is credited."""
    payment = till.pay()
    await till.order(payment)
    till.chain.settle(payment)
    till.chain.fail("disagreement", methods=["incoming_logs"])
    with pytest.raises(ChainDisagreement):
        await till.poll()
    assert (till.available(), till.tasks()) == (0, ["chain_disagreement"])
    till.chain.heal()
    await till.poll()
    assert till.available() == 5 * USD


async def test_no_answer_is_no_answer(till: TillRig) -> None:
    """A receipt that cannot be had holds the cursor: nothing after it is taken for read."""
    await till.order(till.pay())
    till.chain.settle(till.pay())
    till.chain.fail("unavailable", methods=["receipt"])
    cursor = dict(till.view.till_cursors)
    with pytest.raises(ChainUnavailable):
        await till.poll()
    assert dict(till.view.till_cursors) == cursor
    till.chain.heal()
    await till.poll()
    assert till.available() == 5 * USD


async def test_an_order_that_was_given_up_is_credited_all_the_same(till: TillRig) -> None:
    """A settlement that lands late, after FAILED and EXPIRED, is its order's."""
    payment = till.pay()
    order = await till.order(payment)
    failed = replace(order, state=TopUpState.FAILED, version=2, reason="said so")
    expired = replace(failed, state=TopUpState.EXPIRED, version=3, ended_at_ms=till.clock.ms)
    for later, event in ((failed, "failed"), (expired, "expired")):
        assert isinstance(await till.store.post(PutTopUp(later, event, till.clock.ms)), c.Done)
    till.chain.settle(payment)
    await till.poll()
    assert (await till.topup(order)).state is TopUpState.CREDITED
    assert till.available() == 5 * USD


async def test_an_earlier_payment_of_a_reopened_order_is_credited_beside_it(till: TillRig) -> None:
    """Two payments of one order that both land are both the payer's: the order's, and one of its own."""
    first, second = till.pay(1), till.pay(2)
    order = await till.order(first)
    failed = replace(order, state=TopUpState.FAILED, version=2, reason="said so")
    again = replace(failed, state=TopUpState.PAYING, nonce=second.nonce, version=3, reason="")
    for later, event in ((failed, "failed"), (again, "paying")):
        assert isinstance(await till.store.post(PutTopUp(later, event, till.clock.ms)), c.Done)
    till.chain.settle(first, second)
    await till.poll()
    assert till.available() == 10 * USD
    assert [receipt.topup_id for receipt in await till.receipts_of()].count(order.id) == 1
    assert all(receipt.refundable for receipt in await till.receipts_of())
    await till.sound()


@pytest.mark.parametrize("value_base", [4 * USD, 6 * USD])
async def test_another_value_than_ordered_waits_for_the_operator(till: TillRig, value_base: int) -> None:
    """Underpaid or overpaid under the same nonce: unclaimed, with a task; the order is credited nothing, and fails."""
    order = await till.order(till.pay())
    till.chain.settle(till.pay(value_base=value_base))
    await till.poll()
    (found,) = await till.unclaimed()
    assert (found.value_base, till.available(), till.tasks()) == (value_base, 0, ["incoming_unclaimed"])
    assert order.id in found.note
    till.clock.ms += 400_000
    await till.poll()
    ended = await till.topup(order)
    assert (ended.state, ended.reason) == (TopUpState.FAILED, "paid_otherwise")
    assert sorted(till.tasks()) == ["incoming_unclaimed", "paid_otherwise"]
    assert till.rows("SELECT subject FROM tasks WHERE kind = 'paid_otherwise'") == [{"subject": order.id}]
    await till.sound()


async def test_a_payment_that_never_lands_fails_by_proof_only(till: TillRig) -> None:
    """P6: not before a final block is past its window, whatever our clock says."""
    order = await till.order(till.pay())
    late_s = till.chain.newest.time_s + 301
    await till.poll()
    assert (await till.topup(order)).state is TopUpState.PAYING
    till.clock.ms = late_s * 1000
    till.chain.mine(2)
    await till.receipts.poll()
    assert (await till.topup(order)).state is TopUpState.PAYING
    till.clock.ms += 10_000
    await till.poll()
    failed = await till.topup(order)
    assert (failed.state, failed.reason) == (TopUpState.FAILED, "expired_unpaid")
    assert failed.ended_at_ms is not None


async def test_a_signed_payment_without_an_order_is_its_wallets(till: TillRig) -> None:
    """Who has an account is credited; who has none waits for the operator."""
    await bind(till)
    till.chain.settle(till.pay(1), till.pay(2, key=OTHER_KEY))
    await till.poll()
    (mine,) = await till.receipts_of("acct_bound")
    (nobodys,) = await till.unclaimed()
    assert (till.available("acct_bound"), mine.refundable, mine.topup_id) == (5 * USD, True, None)
    assert (nobodys.sender, nobodys.refundable, till.tasks()) == (OTHER, False, ["incoming_unclaimed"])
    await till.sound()


async def test_a_plain_transfer_is_a_proven_wallets_deposit_or_nobodys(till: TillRig) -> None:
    """A deposit is credited and never goes back; a stranger's transfer is unclaimed."""
    await bind(till)
    till.chain.move(till.token, PAYER, TILL, 3 * USD)
    till.chain.move(till.token, STRANGER, TILL, 2 * USD)
    await till.poll()
    (deposit,) = await till.receipts_of("acct_bound")
    assert (till.available("acct_bound"), deposit.refundable) == (3 * USD, False)
    assert [found.sender for found in await till.unclaimed()] == [STRANGER]
    assert PAYER not in till.view.funders


async def test_a_bare_wallets_order_opens_its_account_once(till: TillRig) -> None:
    """Two orders of one new wallet, one account, both credited to it."""
    first, second = till.pay(1), till.pay(2)
    orders = [await till.order(first, 1, account_id=None), await till.order(second, 2, account_id=None)]
    till.chain.settle(first, second)
    await till.poll()
    account_id = till.view.wallet_accounts[PAYER]
    assert till.available(account_id) == 10 * USD
    assert {(await till.topup(order)).account_id for order in orders} == {account_id}
    await till.sound()


async def test_a_foreign_token_is_kept_for_the_operator(till: TillRig) -> None:
    """What the till does not take is nobody's, even a proven wallet's."""
    await bind(till)
    till.chain.move(EURC, PAYER, TILL, 7 * USD)
    await till.poll()
    (found,) = await till.unclaimed()
    assert (found.asset, found.value_base) == (EURC.asset_id, 7 * USD)
    assert (till.available("acct_bound"), till.booked(EURC)) == (0, 7 * USD)


async def test_our_own_wallets_money_is_the_operators(till: TillRig) -> None:
    """It is capital, no task and nobody's credit."""
    till.chain.move(till.token, OWN, TILL, 9 * USD)
    await till.poll()
    assert [row["state"] for row in till.rows("SELECT state FROM incoming")] == ["capital"]
    assert (till.tasks(), await till.unclaimed()) == ([], [])
    await till.sound()


async def test_a_transfer_of_nothing_says_nothing(till: TillRig) -> None:
    """Anybody may make one, in anybody's name and out of our till."""
    till.chain.move(till.token, PAYER, TILL, 0)
    till.chain.move(till.token, TILL, STRANGER, 0)
    await till.poll()
    assert till.rows("SELECT * FROM incoming") == []
    assert (till.tasks(), dict(till.view.freezes)) == ([], {})


async def test_what_leaves_a_till_without_a_refund_freezes_it(till: TillRig) -> None:
    """It is booked as it is, once, with a task."""
    await till.paid()
    till.chain.move(till.token, TILL, STRANGER, 2 * USD)
    await till.poll()
    assert till.tasks() == ["unknown_outflow"]
    assert list(till.view.freezes) == [f"wallet:0x{TILL.hex()}"]
    till.unread()
    await till.poll()
    assert till.tasks() == ["unknown_outflow"]
    await till.sound()


async def test_a_tokens_rate_rounds_down_and_an_order_gets_what_it_asked_for() -> None:
    """USD 5 were ordered for 10 tokens; a deposit of 3 base units at a half is one."""
    till = await TillRig(rates_ppm={TillRig.token.asset_id: 500_000}).open()
    await bind(till)
    payment = till.pay(value_base=10 * USD)
    await till.order(payment, amount_base=5 * USD)
    till.chain.settle(payment)
    till.chain.move(till.token, PAYER, TILL, 3)
    await till.poll()
    assert (till.available(), till.available("acct_bound")) == (5 * USD, 1)
    await till.sound()
    await till.close()


async def test_a_clock_that_is_set_back_does_not_stop_the_comparing(till: TillRig) -> None:
    """What was to be compared with the book tomorrow by a clock that was wrong is compared by the one that is right."""
    await till.poll()
    till.clock.ms -= 86_400_000
    till.chain.fail("unavailable", methods={"token_balance"})
    with pytest.raises(ChainUnavailable):
        await till.poll()


async def test_money_that_lay_in_the_till_before_is_the_operators(till: TillRig) -> None:
    """A till with a balance from before its first reading is booked as capital, and explains itself."""
    other = TillRig()
    other.chain.move(other.token, STRANGER, TILL, 8 * USD)
    await other.open()
    assert (other.booked(), other.tasks()) == (8 * USD, [])
    await other.close()


async def test_a_first_reading_begins_before_the_oldest_order() -> None:
    """A payment that became final before the first poll is found."""
    till = TillRig()
    till.chain.mine(3)
    await till.open_accounts()
    payment = till.pay()
    order = await till.order(payment)
    till.chain.settle(payment)
    till.chain.mine(30)
    await till.receipts.poll()
    assert (await till.topup(order)).state is TopUpState.CREDITED
    await till.close()


async def test_an_outage_of_many_pages_is_caught_up_with_once() -> None:
    """Page by page, each with its cursor; payments on both ends are credited."""
    till = await TillRig().open()
    first, last = till.pay(1), till.pay(2, valid_before=till.clock.ms // 1000 + 90_000)
    await till.order(first, 1)
    await till.order(last, 2)
    till.chain.settle(first)
    till.chain.mine(4_100)
    till.chain.settle(last)
    await till.poll()
    assert till.available() == 10 * USD
    await till.close()


async def test_on_tempo_the_transaction_names_the_order_and_the_memo_the_deposit() -> None:
    """An order is matched by hash and payer, a deposit by the account's memo, and another's memo is nobody's."""
    till = await TillRig(token=MODERATO_PATHUSD, foreign=(), final_lag=0).open()
    tx_hash = till.chain.move(till.token, PAYER, TILL, 5 * USD, name("charge"))
    till.chain.move(till.token, STRANGER, TILL, 2 * USD, memo_of("acc_2"))
    till.chain.move(till.token, STRANGER, TILL, 1 * USD, memo_of("acc_9"))
    order = await till.order_of_transaction(tx_hash, 5 * USD)
    await till.poll(blocks=1)
    receipt = await till.receipt_of(order)
    assert (till.available(), till.available("acc_2")) == (5 * USD, 2 * USD)
    assert (receipt.refundable, receipt.nonce) == (True, name("charge"))
    (deposit,) = await till.receipts_of("acc_2")
    assert not deposit.refundable
    assert [found.value_base for found in await till.unclaimed()] == [1 * USD]
    await till.sound()
    await till.close()


async def test_lending_keeps_its_caps_and_is_paid_back() -> None:
    """P6: what is seen is credited early within the caps, and finality pays the house, not the account again."""
    till = await TillRig(lend=(6 * USD, 6 * USD)).open()
    orders = []
    for n in (1, 2):
        payment = till.pay(n)
        order = await till.order(payment, n)
        till.chain.settle(payment)
        seen = replace(order, state=TopUpState.SEEN, version=2)
        await till.store.post(PutTopUp(seen, "seen", till.clock.ms))
        orders.append(order)
    await till.lending.sweep()
    await till.lending.sweep()
    assert till.available() == 5 * USD
    assert [(await till.topup(order)).lent_base for order in orders] == [5 * USD, 0]
    await till.poll()
    assert till.available() == 10 * USD
    await till.sound()
    await till.close()


async def test_nothing_is_lent_without_a_cap(till: TillRig) -> None:
    """The default is no loan."""
    order = await till.order(till.pay())
    await till.store.post(PutTopUp(replace(order, state=TopUpState.SEEN, version=2), "seen", till.clock.ms))
    await till.lending.sweep()
    assert not await till.lending.lend(order.id)
    assert till.available() == 0


async def test_a_till_that_comes_back_is_read_from_where_it_was_left(till: TillRig) -> None:
    """M5: what came to it while it was not configured is booked, and the cursor of another till does not pass it."""
    await till.paid()
    await _configure(till, Till(SECOND, (till.token,)))
    till.chain.settle(till.pay(2))
    till.chain.move(till.token, STRANGER, TILL, 3 * USD)
    await till.poll()
    assert till.booked() == 5 * USD
    await bind(till)
    await _configure(till, Till(SECOND, (till.token,)), Till(TILL, (till.token,)))
    await till.poll()
    assert (till.booked(), till.available("acct_bound")) == (13 * USD, 5 * USD)
    assert [found.value_base for found in await till.unclaimed()] == [3 * USD]
    assert len({cursor[0] for place, cursor in till.view.till_cursors.items() if place[2] == till.token.address}) == 1
    await till.sound()


async def test_a_till_that_is_added_is_read_from_before_its_oldest_order(till: TillRig) -> None:
    """M5: a payment that came to it before it was first read is its order's, and no capital of the operator's."""
    payment = till.pay(pay_to=SECOND)
    order = await till.order(payment)
    till.chain.settle(payment)
    await till.poll(blocks=9)
    assert (await till.topup(order)).state is TopUpState.PAYING
    await _configure(till, Till(TILL, (till.token,)), Till(SECOND, (till.token,)))
    await till.poll()
    assert (await till.receipt_of(order)).till == SECOND


async def _configure(till: TillRig, *tills: Till) -> None:
    await till.store.close()
    till.tills = tills
    till.restart()
