"""The tracker: what final blocks prove, page by page, whatever the outage, the crash or the configuration."""

from dataclasses import replace
from typing import Any

import pytest
from settle_rig import ADDRESS, FULL, PRICE, WALLET_HEX, Rig, promised, unused_evidence

from contracts.codec import Address
from contracts.tokens import BASE_USDC, Token
from gateway.chains.logs import LOG_RANGE_MAX
from gateway.core import commands as c
from gateway.core.payment import Axes, Delivery, Transfer
from gateway.core.records import Payment, PeriodTerms
from gateway.flow import booking, collection, settle
from gateway.flow.floats import Watched
from gateway.ports import ChainDisagreement, ChainUnavailable
from gateway.store.load import verify_book
from tests.factories import NOW_MS, make_credit, make_outcome, make_payment


async def test_a_collection_is_booked_when_its_block_is_final(rig: Rig) -> None:
    """Before that it is a sighting for display; then it is evidence, with block, log and witnesses (P14)."""
    payment = await rig.promise()
    tx_hash = rig.chain.settle(rig.authorization(payment))
    rig.chain.mine()
    await rig.tracker.poll()
    assert await rig.transfer() is Transfer.PRESENTED
    sighting = rig.sightings.of(payment)
    assert sighting is not None
    assert sighting.tx_hash == tx_hash
    rig.chain.mine(2)
    await rig.tracker.poll()
    assert await rig.transfer() is Transfer.SETTLED
    (row,) = rig.rows("SELECT * FROM evidence")
    assert (row["kind"], row["tx_hash"], row["payment_id"], row["value_base"]) == (
        "settled",
        tx_hash,
        payment.id,
        PRICE,
    )
    assert rig.booked == await rig.held() == FULL - PRICE
    assert rig.sightings.of(payment) is None
    assert rig.tasks() == []
    verify_book(rig.db)


async def test_unused_past_its_window_is_dead(rig: Rig) -> None:
    """P6: not a second earlier, and only by the time of a final block."""
    payment = await rig.promise()
    rig.clock.ms = promised(payment).valid_before_s * 1000 - 1000
    rig.chain.mine(3)
    assert (await rig.chain.final()).time_s == promised(payment).valid_before_s - 1
    await rig.tracker.poll()
    assert await rig.transfer() is Transfer.PRESENTED
    rig.chain.mine(1)
    await rig.tracker.poll()
    assert await rig.transfer() is Transfer.DEAD
    assert rig.rows("SELECT kind FROM evidence") == [{"kind": "unused"}]


async def test_a_cancellation_is_dead_at_once(rig: Rig) -> None:
    """Its log in a final block needs no waiting."""
    payment = await rig.promise()
    rig.chain.cancel(BASE_USDC, ADDRESS, promised(payment).nonce)
    rig.chain.mine(3)
    await rig.tracker.poll()
    assert await rig.transfer() is Transfer.DEAD
    assert rig.rows("SELECT kind FROM evidence") == [{"kind": "canceled"}]


@pytest.mark.parametrize("proof", ["prove_unused", "prove_cancelled"])
async def test_what_moves_money_is_the_proof_that_is_tested(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, proof: str
) -> None:
    """Where contracts.proof says no, nothing is dead."""
    monkeypatch.setattr(booking if proof == "prove_cancelled" else collection, proof, lambda *_: False)
    payment = await rig.promise()
    if proof == "prove_cancelled":
        rig.chain.cancel(BASE_USDC, ADDRESS, promised(payment).nonce)
    else:
        rig.clock.ms = promised(payment).valid_before_s * 1000
    rig.chain.mine(4)
    await rig.tracker.poll()
    assert await rig.transfer() is Transfer.PRESENTED


# an outage of any length


async def test_a_long_outage_is_read_page_by_page(rig: Rig) -> None:
    """H5: no question is wider than what endpoints answer, no block is left out, and every page moves the cursor."""
    assert collection.PAGE_BLOCKS <= LOG_RANGE_MAX
    await rig.promise()
    await rig.collect()
    start = rig.store.view.cursors[8453][0] + 1
    rig.chain.ranges.clear()
    rig.chain.mine(2 * collection.PAGE_BLOCKS + 100)
    await rig.tracker.poll()
    assert await rig.transfer() is Transfer.SETTLED
    final = await rig.chain.final()
    assert rig.store.view.cursors[8453] == (final.number, final.hash, final.time_s)
    assert len(rig.chain.ranges) == 3
    assert rig.chain.ranges[0][0] == start
    assert rig.chain.ranges[-1][1] == final.number
    for (_, end), (following, _) in zip(rig.chain.ranges, rig.chain.ranges[1:], strict=False):
        assert following == end + 1


async def test_what_was_read_before_a_failure_is_not_read_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cursor stands at the last whole page, with that block's own hash and time, and the next poll goes on there."""
    monkeypatch.setattr(collection, "PAGE_BLOCKS", 10)
    start = rig.store.view.cursors[8453][0] + 1
    rig.chain.mine(35)
    rig.chain.fail("unavailable", methods=["block"], calls=None)
    with pytest.raises(ChainUnavailable):
        await rig.tracker.poll()
    assert rig.store.view.cursors[8453][0] == start - 1
    rig.chain.heal()
    asked = 0

    async def later(method: str) -> None:
        nonlocal asked
        asked += method == "payment_logs"
        if asked == 3:
            raise ChainUnavailable("gone")

    rig.chain._before_answer = later
    with pytest.raises(ChainUnavailable):
        await rig.tracker.poll()
    rig.chain._before_answer = None
    at = await rig.chain.block(start + 19)
    assert rig.store.view.cursors[8453] == (at.number, at.hash, at.time_s)
    rig.chain.ranges.clear()
    await rig.tracker.poll()
    assert rig.chain.ranges[0][0] == start + 20


async def test_nothing_expires_before_the_last_page_is_booked(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A collection on a later page comes before the judgement by time: the state is not even asked for."""
    monkeypatch.setattr(collection, "PAGE_BLOCKS", 10)
    asked: list[str] = []

    async def note(method: str) -> None:
        asked.append(method)

    payment = await rig.promise()
    rig.chain.mine(30)
    await rig.collect()
    rig.clock.ms = promised(payment).valid_before_s * 1000 + 5000
    rig.chain.mine(30)
    rig.chain._before_answer = note
    await rig.tracker.poll()
    assert await rig.transfer() is Transfer.SETTLED
    assert "authorization_used" not in asked


async def test_the_wider_search_is_paged_too(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that the cursor has passed is looked for since the signature, in pages, once the window is over."""
    monkeypatch.setattr(collection, "PAGE_BLOCKS", 10)
    rig.chain.widest = 10
    payment = await rig.promise()
    rig.chain.mine(25)
    await rig.collect()
    rig.chain.mine(25)
    rig.chain.hides_logs = True
    await rig.tracker.poll()
    rig.chain.hides_logs = False
    rig.clock.ms = promised(payment).valid_before_s * 1000 + 61_000
    rig.chain.mine(4)
    rig.chain.ranges.clear()
    await rig.tracker.poll()
    assert await rig.transfer() is Transfer.SETTLED
    assert (promised(payment).signed_at_block, promised(payment).signed_at_block + 9) in rig.chain.ranges


async def test_without_a_cursor_reading_starts_at_the_first_open_signature(rig: Rig) -> None:
    """A store without a cursor finds what its open payments promised."""
    await rig.promise()
    await rig.collect()
    del rig.store.view.cursors[8453]
    rig.chain.mine(100)
    rig.restart()
    await rig.tracker.poll()
    assert await rig.transfer() is Transfer.SETTLED


# proofs against the book


async def test_a_collection_of_a_dead_payment_is_booked_as_an_outflow(rig: Rig) -> None:
    """M5: the money is gone, so the book says so, with the log as evidence, a frozen wallet and a task on the payment."""
    payment = await rig.promise()
    await rig.store.post(c.RecordDead(payment.id, unused_evidence(1, 6), rig.clock.now_ms()))
    tx_hash = await rig.collect()
    await rig.tracker.poll()
    assert await rig.transfer() is Transfer.DEAD
    outflow = rig.rows("SELECT * FROM evidence WHERE kind = 'outflow'")
    assert [(row["tx_hash"], row["value_base"]) for row in outflow] == [(tx_hash, PRICE)]
    assert rig.frozen
    (task,) = rig.rows("SELECT * FROM tasks")
    assert (task["kind"], task["payment_id"]) == ("evidence_mismatch", payment.id)
    assert task["subject"] == "0x" + tx_hash.hex()
    assert payment.id in {row["payment_id"] for row in rig.rows("SELECT * FROM journal WHERE kind = 'outflow.unknown'")}
    assert rig.booked == await rig.held()
    assert rig.posted("suspense") == PRICE
    verify_book(rig.db)


async def test_a_dead_payments_nonce_used_with_other_terms_is_an_outflow(rig: Rig) -> None:
    """Whatever was paid to whom, it left the wallet: the book takes the value from the chain."""
    payment = await rig.promise()
    await rig.store.post(c.RecordDead(payment.id, unused_evidence(1, 6), rig.clock.now_ms()))
    rig.chain.settle(replace(rig.authorization(payment), value_base=8))
    rig.chain.mine(3)
    await rig.tracker.poll()
    assert rig.tasks() == ["evidence_mismatch"]
    assert rig.posted("suspense") == 8
    assert rig.booked == await rig.held()


async def test_a_payment_that_was_decided_meanwhile_is_not_settled_twice(rig: Rig) -> None:
    """A proof that comes to a book which has just decided otherwise is booked as an outflow, not dropped."""
    payment = await rig.promise()
    tx_hash = await rig.collect()
    await rig.store.post(c.RecordDead(payment.id, unused_evidence(1, 6), rig.clock.now_ms()))
    receipt = await rig.chain.receipt(tx_hash)
    assert receipt is not None
    await rig.tracker._booker.collected(BASE_USDC, payment, promised(payment), receipt.logs[0])
    assert rig.tasks() == ["evidence_mismatch"]
    assert rig.booked == await rig.held()


async def test_a_second_collection_of_one_payment_is_booked_as_an_outflow(rig: Rig) -> None:
    """A token that forgets its nonces takes twice: one fact closes the payment, the other one is an outflow (P13)."""
    await rig.promise()
    await rig.collect()
    await rig.tracker.poll()
    rig.chain._chain[-1].state.used.clear()
    await rig.collect()
    await rig.tracker.poll()
    assert [row["kind"] for row in rig.rows("SELECT kind FROM evidence ORDER BY id")] == ["settled", "outflow"]
    assert rig.tasks() == ["evidence_mismatch"]
    assert rig.booked == await rig.held() == FULL - 2 * PRICE


async def test_a_replay_is_silent(rig: Rig) -> None:
    """After a crash before the cursor's commit everything is read again, and changes nothing."""
    await rig.promise(1)
    await rig.promise(2)
    await rig.promise(3)
    await rig.collect(1)
    rig.chain.cancel(BASE_USDC, ADDRESS, promised(await rig.payment(2)).nonce)
    payment = await rig.payment(3)
    await rig.store.post(c.RecordDead(payment.id, unused_evidence(3, 6), rig.clock.now_ms()))
    await rig.collect(3)
    await rig.tracker.poll()
    seq, tasks = rig.store.view.journal_seq, rig.tasks()
    rig.rewind()
    rig.chain.mine()
    rig.restart()
    await rig.tracker.poll()
    assert (rig.store.view.journal_seq, rig.tasks()) == (seq, tasks)


async def test_an_unknown_collection_is_an_outflow(rig: Rig) -> None:
    """A signature that the book never saw: a leaked key, or what an older copy of the database forgot."""
    payment = await rig.promise()
    rig.chain.settle(rig.authorization(payment))
    rig.chain.settle(replace(rig.authorization(payment), value_base=40, nonce=b"\x66" * 32))
    rig.chain.mine(3)
    await rig.tracker.poll()
    assert await rig.transfer() is Transfer.SETTLED
    assert rig.tasks() == ["unknown_outflow"]
    assert rig.posted("suspense") == 40
    assert rig.booked == await rig.held()
    assert rig.frozen


class Looks(dict[str, Payment]):
    """Open payments that count how often somebody goes through all of them."""

    count = 0

    def values(self) -> Any:
        self.count += 1
        return super().values()


async def test_a_crowd_of_collections_is_not_searched_for_each_of_them(rig: Rig) -> None:
    """After an outage thousands may be open and collected: what a log tells of is found by its name, not among all."""
    looks = []
    await rig.store.post(make_credit(2, amount_base=1_000_000_000))
    for crowd in (range(1, 4), range(4, 44)):
        for n in crowd:
            await rig.promise(n, value_base=1_000)
            rig.chain.settle(rig.authorization(await rig.payment(n)))
        rig.chain.mine(3)
        view = rig.store.view
        view.open_payments = counted = Looks(view.open_payments)
        await rig.tracker.poll()
        assert {await rig.transfer(n) for n in crowd} == {Transfer.SETTLED}
        looks.append(counted.count)
    assert looks[0] == looks[1]


# what was seen and proves nothing yet


async def test_a_collection_without_a_receipt_is_no_shortage(rig: Rig) -> None:
    """M6: while it is unresolved the balance is not looked at, also after a restart; then it settles, and all agrees."""
    payment = await rig.promise()
    await rig.collect()
    rig.chain.hides_receipts = True
    await rig.tracker.poll()
    assert rig.tasks() == ["settlement_without_receipt"]
    for _ in range(2):
        assert (await rig.transfer(), rig.frozen, rig.booked) == (Transfer.PRESENTED, False, FULL)
        rig.restart()
        await rig.poll()
    assert rig.posted(f"suspense:{WALLET_HEX}") == 0
    rig.chain.hides_receipts = False
    await rig.poll()
    assert rig.clock.ms < promised(payment).valid_before_s * 1000
    assert await rig.transfer() is Transfer.SETTLED
    await rig.poll()
    assert rig.booked == await rig.held() == FULL - PRICE
    assert rig.posted("house:capital") == -FULL
    assert not rig.frozen


async def test_a_clock_that_is_set_back_does_not_stop_the_tracker(rig: Rig) -> None:
    """P12: what is unresolved is tried again, and balances are looked at, although their times are hours away now."""
    rig.float_every_s = 60.0
    rig.restart()
    await rig.poll()
    await rig.promise()
    await rig.collect()
    rig.chain.hides_receipts = True
    await rig.tracker.poll()
    assert rig.tasks() == ["settlement_without_receipt"]
    rig.chain.hides_receipts = False
    rig.chain.fund(rig.token, ADDRESS, 5)
    rig.clock.ms -= 7_200_000
    rig.chain.mine(3)
    await rig.tracker.poll()
    assert await rig.transfer() is Transfer.SETTLED
    rig.chain.mine()
    await rig.tracker.poll()
    assert rig.booked == await rig.held() == FULL - PRICE + 5


async def test_a_collection_with_other_terms_stays_open_and_is_no_shortage(rig: Rig) -> None:
    """The nonce was used for something that we hold no terms for: a human looks, the hold and the book stay."""
    payment = await rig.promise()
    rig.chain.settle(replace(rig.authorization(payment), value_base=8))
    rig.chain.mine(3)
    for _ in range(3):
        await rig.poll()
    assert rig.tasks() == ["settlement_mismatch"]
    assert (await rig.transfer(), rig.frozen, rig.booked) == (Transfer.PRESENTED, False, FULL)


async def test_an_unresolved_payment_is_tried_again_once_a_minute(rig: Rig) -> None:
    """Not at every poll: an answer that never comes must not cost a search each second."""
    await rig.promise()
    await rig.collect()
    rig.chain.hides_receipts = True
    await rig.tracker.poll()
    asked = rig.chain.receipts_asked
    for _ in range(3):
        rig.chain.mine()
        await rig.tracker.poll()
    assert rig.chain.receipts_asked == asked
    await rig.poll()
    assert rig.chain.receipts_asked == asked + 1


async def test_used_without_any_log_asks_a_human(rig: Rig) -> None:
    """The state alone is no payment, and no death either."""
    payment = await rig.promise()
    rig.chain.hides_logs = True
    await rig.collect()
    rig.clock.ms = promised(payment).valid_before_s * 1000 + 5000
    rig.chain.mine(4)
    await rig.tracker.poll()
    assert (await rig.transfer(), rig.tasks()) == (Transfer.PRESENTED, ["used_without_log"])
    rig.chain.hides_logs = False
    await rig.poll()
    assert await rig.transfer() is Transfer.SETTLED


# what comes in and what is missing


async def test_a_float_that_came_in_is_capital(rig: Rig) -> None:
    """Tokens that the operator sent are booked with the block as evidence."""
    rig.chain.fund(BASE_USDC, ADDRESS, 5)
    rig.chain.mine(3)
    await rig.tracker.poll()
    assert rig.booked == FULL + 5 == -rig.posted("house:capital")


async def test_what_left_without_a_log_freezes_the_wallet(rig: Rig) -> None:
    """A plain transfer with a stolen key shows in the balance alone."""
    rig.chain._chain[-1].state.balances[BASE_USDC.address, ADDRESS] = FULL - 7
    rig.chain.mine(3)
    await rig.tracker.poll()
    assert rig.tasks() == ["float_missing"]
    assert rig.frozen
    assert rig.posted(f"suspense:{WALLET_HEX}") == 7
    assert rig.booked == FULL - 7


async def test_a_balance_beyond_counting_stops_nothing(rig: Rig) -> None:
    """A token whose supply somebody made absurd is followed to the bound; the store lives and the tracker goes on."""
    rig.chain.fund(BASE_USDC, ADDRESS, 2**255)
    rig.chain.mine(3)
    await rig.tracker.poll()
    await rig.poll()
    assert rig.tasks() == ["float_too_large"]
    assert rig.booked == 10**15
    assert not rig.store.broken


# what is not configured any more


async def test_a_wallet_and_token_that_left_the_configuration_are_followed_to_the_end() -> None:
    """M10: what was promised is followed as long as it may be collected."""
    token = Token(8453, Address(b"\x0c" * 20), "OLD", "Old Dollar", "1", 6)
    rig = await Rig(token=token, watched=(Watched(ADDRESS, token),)).open()
    await rig.promise(1)
    second = await rig.promise(2)
    await rig.collect(1)
    rig.watched = ()
    rig.restart()
    await rig.tracker.poll()
    assert await rig.transfer(1) is Transfer.SETTLED
    rig.clock.ms = promised(second).valid_before_s * 1000
    rig.chain.mine(4)
    await rig.tracker.poll()
    assert await rig.transfer(2) is Transfer.DEAD
    assert rig.tasks() == []
    await rig.store.close()
    rig.db.close()


# who is told


async def test_a_disagreement_is_one_task(rig: Rig) -> None:
    """M11: endpoints that contradict each other are an alert at the first poll, and not a second one at the next block."""
    rig.chain.fail("disagreement", methods=["payment_logs"])
    for _ in range(3):
        rig.chain.mine()
        with pytest.raises(ChainDisagreement):
            await rig.tracker.poll()
    (task,) = rig.rows("SELECT * FROM tasks")
    assert task["kind"] == "chain_disagreement"
    assert task["subject"].startswith("8453 payment_logs")
    assert "scripted-a" in task["detail"]


async def test_a_disagreement_about_one_payment_is_told_and_stops_no_other(rig: Rig) -> None:
    """Whichever of many questions at once it was, it surfaces by itself, and what else was proven is booked."""
    for n in range(1, 5):
        await rig.promise(n)
        await rig.collect(n)
    rig.chain.fail("disagreement", methods=["receipt"], calls=1)
    with pytest.raises(ChainDisagreement):
        await rig.tracker.poll()
    assert rig.tasks() == ["chain_disagreement"]
    transfers = [await rig.transfer(n) for n in range(1, 5)]
    assert sorted(transfers) == [Transfer.PRESENTED, *[Transfer.SETTLED] * 3]
    await rig.tracker.poll()
    assert {await rig.transfer(n) for n in range(1, 5)} == {Transfer.SETTLED}


@pytest.mark.parametrize(
    ("what", "question"),
    [
        ("payment logs 100 to 200", "payment logs"),
        ("final block 7 changed", "final block"),
        ("receipt 0xab12", "receipt"),
        ("head", "head"),
        ("eth_x: odd", "eth_x: odd"),
    ],
)
def test_a_disagreements_question_does_not_change_with_the_block(what: str, question: str) -> None:
    """Else a lying endpoint would open a task a block."""
    assert ChainDisagreement(what, {}).question == question


async def test_a_chain_counts_as_read_when_everything_is_booked(rig: Rig) -> None:
    """A poll that fails after its first answer does not count, although it has seen the head."""
    before = rig.heads.read_at_ms(8453)
    assert before == rig.clock.now_ms()
    rig.clock.ms += 5_000
    rig.chain.mine(3)
    rig.chain.fail("unavailable", methods=["payment_logs"], calls=1)
    with pytest.raises(ChainUnavailable):
        await rig.tracker.poll()
    assert rig.heads.get(8453) == rig.chain.newest
    assert rig.heads.read_at_ms(8453) == before
    await rig.tracker.poll()
    assert rig.heads.read_at_ms(8453) == rig.clock.now_ms()


async def test_sightings_of_another_chain_stay(rig: Rig) -> None:
    """Trackers share one board; each wipes its own part only."""
    sighting = settle.Sighting(b"\x01" * 32, 5)
    rig.sightings.by_identity[1, b"", b"", b""] = sighting
    await rig.poll()
    assert list(rig.sightings.by_identity.values()) == [sighting]


async def test_a_deadline_that_passed_asks_the_dispute_rule(rig: Rig) -> None:
    """Collected and never found delivered: the rule decides, by the clock."""
    await rig.promise()
    await rig.store.post(make_outcome(1, Delivery.UNKNOWN))
    await rig.collect()
    await rig.tracker.poll()
    payment = await rig.payment()
    assert not payment.disputed
    rig.clock.ms = payment.delivery_deadline_ms
    await rig.tracker.poll()
    assert (await rig.payment()).disputed


async def test_a_billing_period_is_none_of_the_trackers_business(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a vendor's account settles is neither looked for on chain, nor judged by time, nor disputed by a deadline."""
    terms = PeriodTerms("vrtx", "mtr_1", 0, PRICE, NOW_MS, NOW_MS + 1)
    for n, transfer in ((8, Transfer.PRESENTED), (9, Transfer.SETTLED)):
        axes = Axes(Delivery.UNKNOWN, transfer)
        payment = make_payment(n, terms=terms, axes=axes, delivery_deadline_ms=NOW_MS)
        rig.store.view.open_payments[payment.id] = payment
        assert rig.sightings.of(payment) is None
    posted: list[c.Command] = []
    post = rig.store.post

    async def noted(command: c.Command) -> c.Result:
        posted.append(command)
        return await post(command)

    monkeypatch.setattr(rig.store, "post", noted)
    await rig.poll()
    assert [type(command) for command in posted] == [c.MoveCursor, c.ObserveFloat]
