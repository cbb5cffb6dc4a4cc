"""What is used on chain and never proven: the operator says what left, and all that the chain shows is held against it."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest
from settle_rig import ADDRESS, FULL, PRICE, Rig, at_once, promised

from contracts.eip3009 import Authorization
from contracts.logs import Log
from contracts.tokens import BASE_USDC, Token
from gateway.core import commands as c
from gateway.core.payment import Charge, Transfer
from gateway.core.problems import Problem
from gateway.core.records import Payment
from gateway.core.view import Balance
from gateway.flow import unproven
from gateway.flow.unproven import Said, Unproven
from gateway.ports import Block, Receipt
from gateway.store.load import verify_book
from tests.factories import make_outcome, make_payment
from tests.fakes.chain import ScriptedChain
from tests.fakes.store import InlineStore, Pause

CREDIT = 100_000_000
UNKNOWN_TX = b"\x99" * 32


def said(charge: Charge = Charge.CAPTURED, left_base: int = PRICE, tx_hash: bytes | None = None) -> Said:
    """Return an operator's words."""
    return Said(charge, left_base, tx_hash, "read in an explorer", "operator")


async def resolve(rig: Rig, what: Said) -> Payment:
    """Say what left for payment 1."""
    speaking = Unproven(store=rig.store, chain=rig.chain, tracker=rig.tracker, clock=rig.clock)
    return await speaking.resolve(make_payment(1).id, what)


async def refused(rig: Rig, what: Said) -> Problem:
    """Say what must be refused; the payment's hold is untouched by it."""
    with pytest.raises(Problem) as caught:
        await resolve(rig, what)
    assert not rig.rows("SELECT 1 FROM journal WHERE kind = 'unproven.resolved'")
    return caught.value


async def mismatched(rig: Rig, value_base: int = 8) -> bytes:
    """Let the nonce of payment 1 be used for a value that we hold no terms for; return the transaction."""
    payment = await rig.promise()
    tx_hash = rig.chain.settle(replace(rig.authorization(payment), value_base=value_base))
    rig.chain.mine(3)
    await rig.poll()
    assert rig.tasks() == ["settlement_mismatch"]
    return tx_hash


async def used_without_log(rig: Rig, authorization: Authorization | None = None) -> bytes:
    """Let payment 1 be collected in blocks whose logs no endpoint gives; return the transaction."""
    payment = await rig.promise()
    rig.chain.hides_logs = True
    tx_hash = rig.chain.settle(authorization or rig.authorization(payment))
    rig.clock.ms = promised(payment).valid_before_s * 1000 - 5000
    rig.chain.mine(3)
    rig.clock.ms = promised(payment).valid_before_s * 1000 + 5000
    rig.chain.mine(4)
    await rig.tracker.poll()
    assert rig.tasks() == ["used_without_log"]
    return tx_hash


def open_tasks(rig: Rig) -> list[str]:
    """Return the kinds of open tasks."""
    return [row["kind"] for row in rig.rows("SELECT kind FROM tasks WHERE closed_at_ms IS NULL")]


def balance(rig: Rig) -> Balance:
    """Return the agent's."""
    return rig.store.view.balances["acc_1"]


async def agrees(rig: Rig) -> bool:
    """Say whether book and chain agree at the next look, with nothing asked and nothing frozen."""
    rig.chain.mine(3)
    await rig.poll()
    verify_book(rig.db)
    return rig.booked == await rig.held() and not open_tasks(rig) and not rig.frozen


@pytest.mark.parametrize(("charge", "pays", "loss"), [(Charge.CAPTURED, 8, 0), (Charge.REFUNDED, 0, 8)])
async def test_what_left_is_borne_as_the_operator_says(rig: Rig, charge: Charge, pays: int, loss: int) -> None:
    """The tokens that really left, the agent's charge or the house's loss, the end of the hold and of the task: one commit."""
    tx_hash = await mismatched(rig)
    before = rig.store.view.journal_seq
    payment = await resolve(rig, said(charge, 8, tx_hash))
    assert (payment.axes.transfer, payment.axes.charge, payment.settled_base) == (Transfer.SETTLED, charge, 8)
    assert balance(rig) == Balance(CREDIT - pays, 0)
    assert rig.posted("house:loss") == loss
    assert rig.booked == FULL - 8
    (evidence,) = rig.rows("SELECT kind, tx_hash, value_base FROM evidence WHERE payment_id IS NOT NULL")
    assert evidence == {"kind": "resolved", "tx_hash": tx_hash, "value_base": 8}
    kinds = [row["kind"] for row in rig.rows(f"SELECT kind FROM journal WHERE seq > {before} ORDER BY seq")]
    assert kinds == ["unproven.resolved", "payment.settled", f"payment.{charge.value}", "task.closed"]
    assert await agrees(rig)


async def test_the_balance_is_compared_again_afterwards(rig: Rig) -> None:
    """What held the comparison up is gone: what comes in is booked, and what is missing is noticed."""
    await mismatched(rig)
    rig.chain.fund(BASE_USDC, ADDRESS, 5)
    rig.chain.mine(3)
    await rig.poll()
    assert rig.booked == FULL  # nothing is looked at while it is open
    await resolve(rig, said(left_base=8))
    assert await agrees(rig)
    assert rig.booked == FULL - 8 + 5
    rig.chain._chain[-1].state.balances[BASE_USDC.address, ADDRESS] -= 7
    await rig.poll()
    assert open_tasks(rig) == ["float_missing"]


async def test_the_chains_figure_binds_the_word(rig: Rig) -> None:
    """Evidence wins: more or less than the transaction shows is refused, and so is another transaction."""
    await mismatched(rig)
    for left_base in (0, 7, 9):
        assert (await refused(rig, said(Charge.REFUNDED, left_base))).code == "bad_resolution"
    assert (await refused(rig, said(left_base=8, tx_hash=UNKNOWN_TX))).code == "bad_resolution"
    assert balance(rig) == Balance(CREDIT - PRICE, PRICE)


async def test_what_left_beyond_the_promise_is_asked_apart(rig: Rig) -> None:
    """A nonce that took more than was signed for it is charged up to the promise; the rest is missing, loudly."""
    await mismatched(rig, PRICE + 5)
    assert (await refused(rig, said(left_base=PRICE + 5))).code == "bad_resolution"
    await resolve(rig, said(left_base=PRICE))
    assert balance(rig) == Balance(CREDIT - PRICE, 0)
    await rig.poll()
    assert open_tasks(rig) == ["float_missing"]
    assert rig.frozen
    assert rig.booked == await rig.held() == FULL - PRICE - 5
    verify_book(rig.db)


async def test_a_collection_whose_receipt_never_comes_is_ended_with_its_log(rig: Rig) -> None:
    """The log is the evidence, so that nothing else is ever closed by it; only its value is a word."""
    await rig.promise()
    tx_hash = await rig.collect()
    rig.chain.hides_receipts = True
    await rig.tracker.poll()
    assert rig.tasks() == ["settlement_without_receipt"]
    await resolve(rig, said())
    assert [row["tx_hash"] for row in rig.rows("SELECT tx_hash FROM evidence WHERE kind = 'resolved'")] == [tx_hash]
    assert await agrees(rig)
    rig.chain.hides_receipts = False
    seq = rig.store.view.journal_seq
    rig.rewind()
    assert await agrees(rig)
    assert rig.store.view.journal_seq == seq


async def test_what_can_be_proven_is_never_ended_by_a_word(rig: Rig) -> None:
    """The proof is tried once more first: it is booked as what it is, and the operator is told so."""
    await rig.promise()
    await rig.collect()
    rig.chain.hides_receipts = True
    await rig.tracker.poll()
    rig.chain.hides_receipts = False
    await rig.store.post(make_outcome(1))
    problem = await refused(rig, said(Charge.REFUNDED, 1))
    assert (problem.code, "settled" in problem.detail) == ("not_unproven", True)
    assert (await rig.payment()).axes.charge is Charge.CAPTURED
    assert [row["kind"] for row in rig.rows("SELECT kind FROM evidence")] == ["settled"]
    verify_book(rig.db)


async def test_the_transaction_that_the_operator_names_may_be_the_proof(rig: Rig) -> None:
    """Where no log is found, the receipt that a human found is searched for it."""
    tx_hash = await used_without_log(rig)
    assert (await refused(rig, said(tx_hash=tx_hash))).code == "not_unproven"
    assert await rig.transfer() is Transfer.SETTLED
    assert [row["kind"] for row in rig.rows("SELECT kind FROM evidence")] == ["settled"]
    await rig.poll()
    assert rig.booked == await rig.held() == FULL - PRICE
    verify_book(rig.db)


async def test_a_cancellation_that_nobody_saw_gives_the_hold_back(rig: Rig) -> None:
    """Used without a transfer is called off: nothing left, so nobody pays, and nobody can be made to."""
    payment = await rig.promise()
    rig.chain.hides_logs = True
    rig.chain.cancel(BASE_USDC, ADDRESS, promised(payment).nonce)
    rig.clock.ms = promised(payment).valid_before_s * 1000 + 5000
    rig.chain.mine(4)
    await rig.tracker.poll()
    assert (await refused(rig, said(Charge.CAPTURED, 0))).code == "bad_resolution"
    ended = await resolve(rig, said(Charge.REFUNDED, 0))
    assert (ended.axes.transfer, ended.axes.charge) == (Transfer.DEAD, Charge.VOIDED)
    assert balance(rig) == Balance(CREDIT, 0)
    assert await agrees(rig)


async def test_a_log_that_turns_up_afterwards_is_taken_once(rig: Rig) -> None:
    """P13: it is the payment's own and moves nothing again; one more of the same nonce is a second collection."""
    tx_hash = await used_without_log(rig)
    rig.chain.hides_receipts = True
    await resolve(rig, said(tx_hash=tx_hash))
    assert rig.rows("SELECT tx_hash FROM evidence WHERE kind = 'resolved'") == [{"tx_hash": None}]
    assert await agrees(rig)
    rig.chain.hides_logs = rig.chain.hides_receipts = False
    for _ in range(2):
        rig.rewind()
        assert await agrees(rig)
    late = rig.rows("SELECT kind, tx_hash, value_base FROM evidence WHERE tx_hash IS NOT NULL")
    assert late == [{"kind": "late", "tx_hash": tx_hash, "value_base": PRICE}]
    assert rig.posted("suspense") == 0
    rig.chain._chain[-1].state.used.clear()
    rig.chain.settle(replace(rig.authorization(await rig.payment()), valid_before=2**40))
    rig.chain.mine(3)
    await rig.poll()
    assert (open_tasks(rig), rig.frozen, rig.posted("suspense")) == (["evidence_mismatch"], True, PRICE)
    verify_book(rig.db)


@pytest.mark.parametrize("left_base", [PRICE - 1, 0])
async def test_a_log_that_says_otherwise_is_not_passed_over(rig: Rig, left_base: int) -> None:
    """What was said wrongly shows twice: in the balance at the next look, and in a task when the log is there."""
    await used_without_log(rig)
    rig.chain.hides_receipts = True
    await resolve(rig, said(Charge.REFUNDED, left_base))
    await rig.poll()
    assert open_tasks(rig) == ["float_missing"]
    assert rig.booked == await rig.held() == FULL - PRICE
    rig.chain.hides_logs = rig.chain.hides_receipts = False
    rig.rewind()
    await rig.poll()
    assert sorted(open_tasks(rig)) == ["evidence_mismatch", "float_missing"]
    assert rig.booked == await rig.held()
    assert rig.posted("suspense") == 0
    verify_book(rig.db)


async def test_too_much_said_comes_back_as_the_houses(rig: Rig) -> None:
    """A word above the truth leaves the wallet with more than the book: the next look finds it, and the log asks."""
    payment = await rig.promise()
    other = replace(rig.authorization(payment), value_base=8)
    rig.chain.hides_logs = rig.chain.hides_receipts = True
    rig.chain.settle(other)
    rig.chain.mine()
    rig.clock.ms = promised(payment).valid_before_s * 1000 + 5000
    rig.chain.mine(4)
    await rig.tracker.poll()
    await resolve(rig, said(Charge.CAPTURED, 10))
    assert await agrees(rig)
    assert rig.posted("house:capital") == -FULL - 2
    rig.chain.hides_logs = rig.chain.hides_receipts = False
    rig.rewind()
    await rig.poll()
    assert open_tasks(rig) == ["evidence_mismatch"]
    verify_book(rig.db)


async def test_a_proof_that_comes_at_the_same_moment_is_no_outflow(rig: Rig) -> None:
    """The tracker holds the log while the operator's word is committed: the log is the payment's, nothing is frozen."""
    tx_hash = await used_without_log(rig)
    payment = await rig.payment()
    receipt = await ScriptedChain.receipt(rig.chain, tx_hash)
    assert receipt is not None
    rig.chain.hides_receipts = True
    await resolve(rig, said())
    rig.chain.hides_receipts = False
    await rig.tracker._booker.collected(BASE_USDC, payment, promised(payment), receipt.logs[0])
    assert await agrees(rig)
    assert [row["kind"] for row in rig.rows("SELECT kind FROM evidence ORDER BY id")][-1] == "late"


async def test_only_what_is_used_and_asked_about_may_be_ended(rig: Rig) -> None:
    """An authorization that may still be collected, a task that somebody closed, a payment that is over: all refused."""
    await rig.promise()
    await rig.poll()
    assert (await refused(rig, said())).code == "not_unproven"
    rig.chain.settle(replace(rig.authorization(await rig.payment()), value_base=8))
    rig.chain.mine(3)
    await rig.tracker.poll()
    (task,) = rig.rows("SELECT id FROM tasks")
    await rig.store.post(c.CloseTask(task["id"], "too early", "operator", rig.clock.ms))
    assert (await refused(rig, said(left_base=8))).code == "not_unproven"
    await rig.poll()
    await resolve(rig, said(left_base=8))
    with pytest.raises(Problem, match="not_unproven"):
        await resolve(rig, said(left_base=8))
    with pytest.raises(Problem, match="not_found"):
        await Unproven(store=rig.store, chain=rig.chain, tracker=rig.tracker, clock=rig.clock).resolve(
            "pay_none", said()
        )


@pytest.mark.parametrize("trouble", ["unavailable", "disagreement"])
async def test_a_chain_that_does_not_answer_ends_nothing(rig: Rig, trouble: str) -> None:
    """P14: without the quorum's word that it is used there is nothing to decide on."""
    await mismatched(rig)
    rig.chain.fail(trouble, calls=None)  # type: ignore[arg-type]
    assert (await refused(rig, said(left_base=8))).code == "not_ready"
    rig.chain.heal()
    await resolve(rig, said(left_base=8))
    assert await agrees(rig)


async def polling(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> tuple[asyncio.Task[None], asyncio.Event]:
    """Let a poll wait for the wallet's balance, and return it with what lets it go on."""
    reached, on = asyncio.Event(), asyncio.Event()
    ask = rig.chain.token_balance

    async def slow(token: Token, owner: bytes, at: Block) -> int:
        reached.set()
        await on.wait()
        return await ask(token, owner, at)

    monkeypatch.setattr(rig.chain, "token_balance", slow)
    rig.clock.ms += 61_000
    rig.chain.mine()
    poll = asyncio.create_task(rig.tracker.poll())
    await reached.wait()
    return poll, on


@pytest.mark.parametrize("value_base", [PRICE, 8])
async def test_a_balance_is_never_compared_with_a_newer_book(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, value_base: int
) -> None:
    """A poll asks for the balance of one block while the operator speaks of a later one: neither invents nor misses tokens."""
    payment = await rig.promise()
    await rig.poll()
    poll, on = await polling(rig, monkeypatch)
    rig.chain.settle(replace(rig.authorization(payment), value_base=value_base))
    rig.chain.mine(3)
    word = asyncio.create_task(resolve(rig, said(left_base=value_base)))
    for _ in range(50):
        await asyncio.sleep(0)
    assert await rig.transfer() is Transfer.PRESENTED
    on.set()
    await poll
    if value_base == PRICE:
        with pytest.raises(Problem, match="not_unproven"):
            await word
    else:
        assert (await word).settled_base == value_base
    assert await agrees(rig)
    assert rig.booked == FULL - value_base
    assert len(rig.rows("SELECT 1 FROM journal WHERE kind = 'float.received'")) == 1  # the one that the rig begins with


async def test_a_chain_that_is_read_for_long_keeps_nobody_waiting(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator is told to ask again; once the poll is over the word counts, and the next poll is not held up by it."""
    await mismatched(rig)
    await rig.promise(2)
    rig.tracker._booker.unresolved.clear()
    monkeypatch.setattr(unproven, "TURN_S", 0.01)
    poll, on = await polling(rig, monkeypatch)
    assert (await refused(rig, said(left_base=8))).code == "not_ready"
    on.set()
    await poll
    await resolve(rig, said(left_base=8))
    assert await agrees(rig)


async def test_another_payments_transaction_is_no_word_about_this_one(rig: Rig) -> None:
    """What shows another authorization, or failed, took nothing for this one: its figure binds nothing, and its name is told."""
    await used_without_log(rig)
    second = replace(rig.authorization(await rig.promise(2)), valid_before=2**40)
    others = rig.chain.settle(second)
    strangers = rig.chain.settle(replace(second, nonce=b"\x55" * 32, value_base=7))
    failed = rig.chain.settle(second)
    rig.chain.mine(3)
    for tx_hash, owner in ((others, "pay_0002"), (strangers, ""), (failed, "")):
        problem = await refused(rig, said(left_base=7, tx_hash=tx_hash))
        assert (problem.code, problem.field) == ("bad_resolution", "tx")
        assert problem.detail.endswith(f"did not take it{owner and ': it is the transaction of ' + owner}")
    assert await rig.transfer() is Transfer.PRESENTED
    assert balance(rig) == Balance(CREDIT - 2 * PRICE, 2 * PRICE)


async def test_what_a_transaction_took_for_others_did_not_leave_for_this_one(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One transaction for two payments, where the token hides which transfer is this one's: what the other took is left out."""
    first, second = await rig.promise(1), await rig.promise(2)
    rig.chain.settle(rig.authorization(second), replace(rig.authorization(first), value_base=8))
    show(
        rig,
        monkeypatch,
        lambda logs: (*logs[:3], replace(logs[2], log_index=3, topics=()), replace(logs[3], log_index=4)),
    )
    rig.chain.mine(3)
    await rig.poll()
    assert (await rig.transfer(1), await rig.transfer(2)) == (Transfer.PRESENTED, Transfer.SETTLED)
    assert "at most 0.000008" in (await refused(rig, said(left_base=9))).detail
    await resolve(rig, said(left_base=8))
    assert await agrees(rig)


async def test_transfers_that_cannot_be_read_bind_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token that writes them in a shape of its own leaves the word, up to what was promised."""
    payment = await rig.promise()
    rig.chain.settle(replace(rig.authorization(payment), value_base=8))
    show(rig, monkeypatch, lambda logs: (logs[0], replace(logs[1], data=b"")))
    rig.chain.mine(3)
    await rig.poll()
    assert (await refused(rig, said(left_base=PRICE + 1))).code == "bad_resolution"
    await resolve(rig, said(left_base=8))
    assert await agrees(rig)


def show(rig: Rig, monkeypatch: pytest.MonkeyPatch, change: Callable[[tuple[Log, ...]], tuple[Log, ...]]) -> None:
    """Let receipts show their logs as changed."""
    ask = rig.chain.receipt

    async def changed(tx_hash: bytes, at: Block | None = None) -> Receipt | None:
        receipt = await ask(tx_hash, at)
        return None if receipt is None else replace(receipt, logs=change(receipt.logs))

    monkeypatch.setattr(rig.chain, "receipt", changed)


def reopen(rig: Rig, *, before: Pause = at_once, after: Pause = at_once) -> None:
    """Start another process on the same database."""
    rig.store = InlineStore.over(rig.db, None, before_commit=before, after_commit=after, before_read=at_once)
    rig.restart()


@pytest.mark.parametrize("committed", [False, True])
async def test_a_kill_at_its_commit_leaves_none_of_it_or_all(rig: Rig, *, committed: bool) -> None:
    """P12: tokens, hold and task end together; before the commit all is as it was, and the operator may say it again."""
    await mismatched(rig)
    reached, never = asyncio.Event(), asyncio.Event()

    async def die(what: str) -> None:
        if what == "ResolveUnproven":
            reached.set()
            await never.wait()

    reopen(rig, after=die) if committed else reopen(rig, before=die)
    dying = asyncio.create_task(resolve(rig, said(left_base=8)))
    await reached.wait()
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)
    rig.store._committer.cancel()
    await asyncio.gather(rig.store._committer, return_exceptions=True)
    reopen(rig)
    verify_book(rig.db)
    if committed:
        assert (await rig.transfer(), open_tasks(rig)) == (Transfer.SETTLED, [])
        with pytest.raises(Problem, match="not_unproven"):
            await resolve(rig, said(left_base=8))
    else:
        assert (await rig.transfer(), open_tasks(rig)) == (Transfer.PRESENTED, ["settlement_mismatch"])
        assert balance(rig) == Balance(CREDIT - PRICE, PRICE)
        await resolve(rig, said(left_base=8))
    assert balance(rig) == Balance(CREDIT - 8, 0)
    assert await agrees(rig)
