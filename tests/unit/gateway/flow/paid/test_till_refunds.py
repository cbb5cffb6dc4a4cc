"""What goes back goes to whoever signed it in, once, at most what came in, and by proof only (P2, P3, P4, P6)."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from till_rig import FUNDS, OTHER, OWN, PAYER, STRANGER, TILL, USD, TillRig, crash, name

from contracts.codec import Address, to_hex
from contracts.keccak import keccak256
from contracts.tempo import TempoCharge, TempoTransfer
from contracts.tempo_decode import decode_tempo, read_transfer
from contracts.tokens import MODERATO_PATHUSD
from gateway.core import commands as c
from gateway.core.paid import Incoming, Refund, RefundState, WalletAccount
from gateway.core.paid_commands import BindWallet, OpenRefund
from gateway.core.problems import Problem
from gateway.core.records import HOUSE
from gateway.flow.paid.refunds import Opened
from gateway.flow.paid.returning import Place
from tests.fakes.store import memory_database


async def refused(attempt: Any) -> str:
    """Return the code with which a refund is refused."""
    with pytest.raises(Problem) as caught:
        await attempt
    return caught.value.code


async def ended(till: TillRig, refund: Refund) -> Refund:
    """Return a refund as committed."""
    found = await till.store.refund(refund.id)
    assert found is not None
    return found


async def funds(till: TillRig, owner: Address) -> int:
    """Return what an address holds on chain."""
    return await till.chain.token_balance(till.token, owner, till.chain.newest)


async def test_a_refund_is_held_at_once_and_settled_by_a_final_block(till: TillRig) -> None:
    """The balance falls when it is asked for, the till's when it is final; the payer has it back, in full."""
    receipt = await till.paid()
    before = await funds(till, PAYER)
    refund = await till.refund(receipt)
    assert (refund.state, refund.to, refund.value_base, till.available()) == (RefundState.HELD, PAYER, 5 * USD, 0)
    await till.refunds.sweep()
    assert (await ended(till, refund)).state is RefundState.SENT
    assert till.mark.recorded
    await till.poll()
    done = await ended(till, refund)
    assert (done.state, done.ended_at_ms is not None) == (RefundState.SETTLED, True)
    assert done.tx_hash is not None
    assert await funds(till, PAYER) == before + 5 * USD
    assert (till.booked(), till.engine.account_ids) == (0, {HOUSE})
    await till.sound()


async def test_parts_go_back_until_all_has(till: TillRig) -> None:
    """At most what was funded, however many refunds; nothing asked for is all that is left."""
    receipt = await till.paid()
    await till.refund(receipt, 2 * USD, "a")
    assert await refused(till.refund(receipt, 4 * USD, "b")) == "refund_exceeds_funding"
    rest = await till.refund(receipt, None, "c")
    assert rest.amount_base == 3 * USD
    assert await refused(till.refund(receipt, None, "d")) == "refund_exceeds_funding"
    await till.refunds.sweep()
    await till.poll()
    assert (till.available(), till.booked()) == (0, 0)
    await till.sound()


async def test_p2_fifty_at_once_hold_no_more_than_there_is(till: TillRig) -> None:
    """P2: of fifty refunds of a fifth at once five are held, and the balance is never below zero."""
    receipt = await till.paid()
    attempts = [till.refund(receipt, 1 * USD, f"token {n}") for n in range(50)]
    outcomes = await asyncio.gather(*attempts, return_exceptions=True)
    held = [outcome for outcome in outcomes if isinstance(outcome, Refund)]
    codes = {outcome.code for outcome in outcomes if isinstance(outcome, Problem)}
    assert (len(held), codes, till.available()) == (5, {"refund_exceeds_funding"}, 0)
    await till.refunds.sweep()
    await till.poll()
    await till.sound()


async def test_the_same_token_is_the_same_refund(till: TillRig) -> None:
    """Also when nothing is left to give; with another request it is a conflict."""
    receipt = await till.paid()
    first, second = await till.refund(receipt), await till.refund(receipt)
    assert first.id == second.id
    assert await refused(till.refund(receipt, 1 * USD)) == "idempotency_conflict"
    assert len(till.view.refunds) == 1


async def test_what_was_spent_does_not_go_back(till: TillRig) -> None:
    """A refund is of the available balance, as any hold."""
    first, second = await till.paid(1), await till.paid(2, 1 * USD)
    await till.refund(first, None, "a")
    await till.refund(second, None, "b")
    assert till.available() == 0
    credit = c.CreditAccount("acc_1", 9 * USD, "gift", "", "operator", till.clock.ms)
    assert isinstance(await till.store.post(credit), c.Done)
    third = await till.paid(3, 2 * USD)
    assert await refused(till.refund(third, 3 * USD, "c")) == "refund_exceeds_funding"


async def test_operators_credit_never_goes_back(till: TillRig) -> None:
    """Credit that was granted funds no refund, also where a receipt would bear it."""
    receipt = await till.paid()
    await till.refund(receipt, 5 * USD, "a")
    credit = c.CreditAccount("acc_1", 9 * USD, "gift", "", "operator", till.clock.ms)
    assert isinstance(await till.store.post(credit), c.Done)
    await till.refunds.sweep()
    await till.poll()
    assert (till.available(), till.booked()) == (9 * USD, 0)
    assert await refused(till.refund(receipt, 1 * USD, "b")) == "refund_exceeds_funding"


async def test_a_plain_transfers_sender_gets_nothing_back(till: TillRig) -> None:
    """A deposit is credited and is not refundable; neither is another account's receipt, or one that is nobody's."""
    bound = BindWallet(WalletAccount(PAYER, "acct_bound", till.clock.ms), "wallet", till.clock.ms)
    assert isinstance(await till.store.post(bound), c.Done)
    till.chain.move(till.token, PAYER, TILL, 3 * USD)
    till.chain.move(till.token, STRANGER, TILL, 3 * USD)
    await till.poll()
    (deposit,) = await till.receipts_of("acct_bound")
    (unclaimed,) = await till.unclaimed()
    assert await refused(till.refund(deposit)) == "not_found"
    assert await refused(till.refund(unclaimed)) == "not_found"
    asked = replace(await _asked(till, deposit), account_id="acct_bound")
    assert await refused(till.refunds.open(asked)) == "not_refundable"
    assert till.view.refunds == {}


async def test_p8_the_tills_guard_signs_for_funders_only(till: TillRig) -> None:
    """P8: whatever a row says, the signer asks the book whether the address has signed a payment; frozen, it signs nothing."""
    receipt = await till.paid()
    for row in (till.db.execute("SELECT sender FROM incoming").fetchall(),):
        assert row[0][0] == PAYER
    till.db.execute("UPDATE incoming SET sender = ?", (bytes(OTHER),))
    till.db.commit()
    assert await refused(till.refund(receipt)) == "signing_refused"
    (task,) = till.rows("SELECT kind, subject, detail FROM tasks")
    assert (task["kind"], task["subject"]) == ("signing_refused", to_hex(TILL))
    assert task["detail"].startswith("payee_not_allowed: ")
    till.db.execute("UPDATE incoming SET sender = ?", (bytes(PAYER),))
    till.db.commit()
    freeze = c.SetFreeze("all", frozen=True, reason="drill", by="operator", at_ms=till.clock.ms)
    await till.store.post(freeze)
    assert await refused(till.refund(receipt)) == "frozen"
    assert (till.engine.settled, len(till.tasks())) == ([], 1), "a freeze is the operator's own doing, and no task"


async def test_p6_a_refund_that_never_lands_gives_its_hold_back(till: TillRig) -> None:
    """P6: whatever the engine says, only a final block past its window frees the hold, and the rest may go back then."""
    receipt = await till.paid()
    refund = await till.refund(receipt)
    till.engine.refuses = "insufficient_funds"
    await till.refunds.sweep()
    await till.poll()
    assert ((await ended(till, refund)).state, till.available()) == (RefundState.SENT, 0)
    till.clock.ms = (refund.valid_before_s - 1) * 1000
    till.chain.mine(2)
    await till.receipts.poll()
    assert till.available() == 0
    till.clock.ms += 2_000
    await till.poll()
    dead = await ended(till, refund)
    assert (dead.state, till.available(), till.booked()) == (RefundState.DEAD, 5 * USD, 5 * USD)
    till.engine.refuses = ""
    await till.refund(receipt, None, "again")
    await till.refunds.sweep()
    await till.poll()
    assert till.booked() == 0
    await till.sound()


async def test_p4_what_is_sent_again_is_the_same_and_lands_once(till: TillRig) -> None:
    """P4: sweeps repeat the same bytes; the chain takes them once."""
    receipt = await till.paid()
    await till.refund(receipt)
    for _ in range(4):
        await till.refunds.sweep()
        till.clock.ms += 20_000
    assert len({(exact.authorization.nonce, exact.signature) for exact in till.engine.settled}) == 1
    assert len(till.engine.settled) > 1
    await till.poll()
    assert till.booked() == 0
    assert till.tasks() == []
    await till.sound()


async def test_a_clock_that_is_set_back_does_not_stop_the_sending(till: TillRig) -> None:
    """What was to be sent again tomorrow by a clock that was wrong is sent again by the one that is right."""
    receipt = await till.paid()
    till.engine.refuses = "relayer_busy"
    await till.refund(receipt)
    await till.refunds.sweep()
    till.engine.refuses = ""
    await till.refunds.sweep()
    assert len(till.engine.settled) == 1
    till.clock.ms -= 86_400_000
    await till.refunds.sweep()
    assert len(till.engine.settled) == 2
    await till.poll()
    assert till.booked() == 0
    await till.sound()


async def test_a_refund_of_an_order_goes_by_its_id(till: TillRig) -> None:
    """An order's receipt is found by it; another account's order is not there."""
    receipt = await till.paid()
    asked = replace(await _asked(till, receipt), receipt_id=None, topup_id=receipt.topup_id)
    assert await refused(till.refunds.open(replace(asked, account_id="acc_2"))) == "not_found"
    assert (await till.refunds.open(asked)).refund.receipt_id == receipt.id


async def test_a_till_that_is_gone_refunds_nothing(till: TillRig) -> None:
    """Its key is needed, and it is said."""
    receipt = await till.paid()
    till.refunds._parts = replace(till.refunds._parts, signers={})
    assert await refused(till.refund(receipt)) == "not_refundable"


async def test_a_repeat_is_answered_whatever_stands_in_the_way_by_now(till: TillRig) -> None:
    """The refund that was opened is told again with its till gone; another request under its key is a conflict then too."""
    receipt = await till.paid()
    asked = await _asked(till, receipt)
    first = await till.refunds.open(asked)
    assert not first.repeated
    parts = till.refunds._parts
    till.refunds._parts = replace(parts, signers={})
    assert await till.refunds.open(asked) == Opened(first.refund, repeated=True)
    other = replace(asked, fingerprint=bytes(32))
    with pytest.raises(Problem, match="idempotency_conflict") as told:
        await till.refunds.open(other)
    till.refunds._parts = parts
    second = replace(first.refund, id="ref_2", fingerprint=other.fingerprint)
    result = await till.store.post(OpenRefund(second, till.clock.now_ms()))
    assert result == c.Refused(told.value.code, told.value.detail)


async def _asked(till: TillRig, receipt: Incoming) -> Any:
    from_rig: list[Any] = []

    async def keep(asked: Any) -> Any:
        from_rig.append(asked)
        return Opened(None, repeated=False)  # type: ignore[arg-type]

    real = till.refunds.open
    till.refunds.open = keep  # type: ignore[method-assign]
    await till.refund(receipt)
    till.refunds.open = real  # type: ignore[method-assign]
    return from_rig[0]


class Killed(Exception):  # noqa: N818 - what happens
    """The process ends here."""


@pytest.mark.parametrize("step", range(12))
async def test_p12_a_crash_at_any_commit_sends_it_back_once(step: int) -> None:
    """P12: killed before or after any commit of asking, sending and proving: after a restart it ends once, and adds up."""
    till = await TillRig().open()
    receipt = await till.paid()
    commits = 0
    blocked = asyncio.Event()

    async def die(_what: str) -> None:
        nonlocal commits
        if commits == step:
            blocked.set()
            await asyncio.Event().wait()
        commits += 1

    await till.store.close()
    till.before_commit = till.after_commit = die
    till.restart()

    async def life() -> None:
        await till.refund(receipt)
        await till.refunds.sweep()
        await till.poll()

    task = asyncio.ensure_future(life())
    waiting = asyncio.ensure_future(blocked.wait())
    await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
    killed = blocked.is_set()
    waiting.cancel()
    await crash(task)
    if killed:
        await crash(till.store._committer)
    else:
        await till.store.close()
    till.before_commit = till.after_commit = _go_on
    till.restart()
    again = await till.refund(receipt)
    for _ in range(3):
        till.clock.ms += 20_000
        await till.refunds.sweep()
        await till.poll()
    assert (await ended(till, again)).state is RefundState.SETTLED
    assert await funds(till, PAYER) == FUNDS
    assert (till.available(), till.booked(), till.tasks()) == (0, 0, [])
    await till.sound()
    await till.close()


async def _go_on(_what: str) -> None:
    """Go on."""


FEE = 1_250


class TempoPool:
    """A broadcaster that hands what the till signed to the scripted chain."""

    def __init__(self) -> None:
        self.till: TillRig | None = None
        self.sent: list[bytes] = []
        self.drops = False

    async def send_raw(self, raw: bytes) -> None:
        self.sent.append(raw)
        if self.drops or self.till is None or self.sent.count(raw) > 1:
            return
        transaction = decode_tempo(raw)
        assert transaction.sender == TILL
        charge = TempoCharge(
            token=self.till.token,
            wallet=TILL,
            transfers=(read_transfer(transaction.calls[0]),),
            valid_before=transaction.valid_before or 0,
            gas=transaction.gas,
            max_fee_per_gas=transaction.max_fee_per_gas,
            max_priority_fee_per_gas=transaction.max_priority_fee_per_gas,
            sponsored=False,
        )
        self.till.chain.charge(charge, fee_base=FEE, tx_hash=keccak256(raw))

    async def seen(self, tx_hash: bytes) -> int | None:
        """Nothing is asked here."""
        return None


async def _tempo(pool: TempoPool, ours: frozenset[Place] = frozenset()) -> tuple[TillRig, Incoming]:
    till = TillRig(
        token=MODERATO_PATHUSD,
        foreign=(),
        final_lag=0,
        broadcasters={MODERATO_PATHUSD.chain_id: pool},
        ours=ours,
        db=memory_database(),
    )
    pool.till = till
    await till.open()
    till.chain.move(till.token, OWN, TILL, 1 * USD)
    tx_hash = till.chain.move(till.token, PAYER, TILL, 5 * USD, name("charge"))
    order = await till.order_of_transaction(tx_hash, 5 * USD)
    await till.poll(blocks=1)
    return till, await till.receipt_of(order)


async def test_on_tempo_one_expiring_transaction_goes_back() -> None:
    """It is stored raw, its hash known, its memo the refund's own; the same bytes go out until it is final."""
    pool = TempoPool()
    till, receipt = await _tempo(pool)
    refund = await till.refund(receipt)
    assert refund.tx_hash == keccak256(refund.signature)
    assert refund.valid_before_s - till.chain.newest.time_s <= 30
    await till.refunds.sweep()
    await till.refunds.sweep()
    assert pool.sent == [refund.signature] * 2
    await till.poll(blocks=1)
    assert (await ended(till, refund)).state is RefundState.SETTLED
    assert (till.booked(), till.tasks()) == (1 * USD - FEE, [])
    till.unread()
    await till.poll(blocks=1)
    assert till.tasks() == []
    await till.sound()
    await till.close()


async def test_on_tempo_what_was_never_mined_is_dead_after_its_window() -> None:
    """Then, and not before, may another one be made."""
    pool = TempoPool()
    pool.drops = True
    till, receipt = await _tempo(pool)
    refund = await till.refund(receipt)
    await till.refunds.sweep()
    await till.poll(blocks=1)
    assert till.available() == 0
    till.clock.ms = refund.valid_before_s * 1000
    await till.poll(blocks=1)
    assert ((await ended(till, refund)).state, till.available()) == (RefundState.DEAD, 5 * USD)
    await till.sound()
    await till.close()


async def test_on_tempo_a_refund_that_failed_costs_its_fee_and_nothing_else() -> None:
    """P7: somebody empties the till first; the refund fails on chain, its fee is booked once, its hold goes back."""
    pool = TempoPool()
    till, receipt = await _tempo(pool)
    refund = await till.refund(receipt)
    till.chain.move(till.token, TILL, STRANGER, 2 * USD)
    await till.refunds.sweep()
    await till.poll(blocks=1)
    dead = await ended(till, refund)
    assert (dead.state, dead.reason, till.available()) == (RefundState.DEAD, "its transaction failed", 5 * USD)
    assert till.booked() == 4 * USD - FEE
    assert set(till.tasks()) == {"unknown_outflow", "float_missing"}
    till.unread()
    await till.poll(blocks=1)
    assert till.booked() == 4 * USD - FEE
    assert await refused(till.refund(receipt, None, "again")) == "frozen"
    await till.sound()
    await till.close()


async def test_on_tempo_a_refund_beside_something_else_pays_no_second_fee() -> None:
    """One transaction with a refund in it and a transfer to a wallet of ours: two facts, one fee."""
    till, receipt = await _tempo(TempoPool(), frozenset({(OWN, MODERATO_PATHUSD.address)}))
    refund = await till.refund(receipt, 2 * USD)
    transfers = (TempoTransfer(OWN, 1 * USD, name("else")), TempoTransfer(Address(refund.to), 2 * USD, refund.nonce))
    window_s = till.clock.ms // 1000 + 25
    till.chain.charge(TempoCharge(till.token, TILL, transfers, window_s, 10**6, 40 * 10**9, 10**9, False), fee_base=FEE)
    await till.poll(blocks=1)
    assert (await ended(till, refund)).state is RefundState.SETTLED
    assert (till.booked(), till.tasks()) == (3 * USD - FEE, ["till_moved"])
    assert till.rows("SELECT sum(fee_base) AS fee_base FROM evidence") == [{"fee_base": FEE}]
    await till.sound()
    await till.close()


async def test_on_tempo_a_till_without_a_fee_refunds_nothing() -> None:
    """P7: the fee is part of what the till must be able to lose."""
    pool = TempoPool()
    till, receipt = await _tempo(pool)
    other = await till.refund(receipt, 4 * USD, "a")
    assert other.fee_base > 0
    till.chain.move(till.token, TILL, STRANGER, 1 * USD)
    await till.poll(blocks=1)
    lift = c.SetFreeze(f"wallet:0x{TILL.hex()}", frozen=False, reason="drill", by="operator", at_ms=till.clock.ms)
    await till.store.post(lift)
    assert await refused(till.refund(receipt, 1 * USD, "b")) == "till_short"
    await till.close()
