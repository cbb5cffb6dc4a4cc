"""The tracker follows Tempo charges: by memo and by hash, with their fees, and whatever strangers write into our logs."""

from collections.abc import AsyncIterator
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest
from settle_rig import ADDRESS, FULL, PRICE, Rig, promised

from contracts.codec import Address, parse_address
from contracts.tempo import TempoCharge, TempoTransfer
from contracts.tokens import BASE_USDC, Token
from gateway.core.payment import Charge, Transfer
from gateway.core.problems import Problem
from gateway.core.records import Payment, TransferKind
from gateway.flow import collection
from gateway.flow.collection import charge_of
from gateway.flow.floats import Watched
from gateway.flow.unproven import Said, Unproven
from gateway.store.load import verify_book
from tests.factories import NOW_MS

PATH_USD = Token(8453, parse_address("0x20c0000000000000000000000000000000000000"), "pathUSD", "", "", 6, "tip20")
SPONSOR, STRANGER, SPLIT = (Address(bytes([n]) * 20) for n in (0x61, 0x62, 0x63))
MAX_FEE = 40_000
FEE = 1_250


class TempoRig(Rig):
    """The rig on a chain with a TIP-20 beside an EIP-3009 token."""

    async def charge(self, n: int = 1, *, sponsored: bool = False, **changes: Any) -> Payment:
        """Hold, sign and present charge n, which pays its own fee or has a sponsor."""
        terms: dict[str, Any] = {
            "kind": TransferKind.TEMPO,
            "fee_base": 0 if sponsored else MAX_FEE,
            "tx_hash": None if sponsored else sha256(b"charge %d" % n).digest(),
        }
        return await self.promise(n, **(terms | changes))

    def signed(self, payment: Payment) -> TempoCharge:
        """Return what was signed for a payment."""
        terms = promised(payment)
        transfers = charge_of(self.token, terms).transfers
        window, sponsored = terms.valid_before_s, terms.tx_hash is None
        return TempoCharge(self.token, ADDRESS, transfers, window, 10**6, 40 * 10**9, 10**9, sponsored)

    async def take(self, n: int = 1) -> bytes:
        """Let the vendor take charge n in a block that is final at once; return the transaction."""
        payment = await self.payment(n)
        sponsor = SPONSOR if promised(payment).tx_hash is None else None
        tx_hash = self.chain.charge(
            self.signed(payment), fee_base=FEE, tx_hash=promised(payment).tx_hash, sponsor=sponsor
        )
        self.chain.mine(3)
        return tx_hash

    async def let_fail(self, n: int = 1) -> None:
        """Take charge n on a chain that refuses the transfer: only the fee is gone."""
        payment = await self.payment(n)
        dear = replace(self.signed(payment).transfers[0], value_base=10**15)
        signed = replace(self.signed(payment), transfers=(dear,))
        sponsor = SPONSOR if promised(payment).tx_hash is None else None
        self.chain.charge(signed, fee_base=FEE, tx_hash=promised(payment).tx_hash, sponsor=sponsor)
        self.chain.mine(3)

    def expire(self, payment: Payment) -> None:
        """Let a final block be past the window."""
        self.clock.ms = promised(payment).valid_before_s * 1000
        self.chain.mine(4)

    def evidence(self) -> list[tuple[Any, ...]]:
        """Return kind, value and fee of all evidence."""
        return [(row["kind"], row["value_base"], row["fee_base"]) for row in self.rows("SELECT * FROM evidence")]

    async def is_right(self) -> bool:
        """Say whether the book holds what the chain holds, with nothing asked and nothing frozen."""
        verify_book(self.db)
        return self.booked == await self.held() and self.tasks() == [] and not self.frozen


@pytest.fixture
async def tempo() -> AsyncIterator[TempoRig]:
    """A tracker with a funded wallet."""
    rig = TempoRig(token=PATH_USD, watched=(Watched(ADDRESS, PATH_USD), Watched(ADDRESS, BASE_USDC)))
    rig.chain.fund(PATH_USD, SPONSOR, FULL)
    await rig.open()
    yield rig
    await rig.store.close()
    rig.db.close()


# collected


async def test_a_charge_is_booked_with_its_fee_when_its_block_is_final(tempo: TempoRig) -> None:
    """A sighting at first; then settled with value and fee, long before the end of the window, and the fee is the house's."""
    payment = await tempo.charge()
    tx_hash = tempo.chain.charge(tempo.signed(payment), fee_base=FEE, tx_hash=promised(payment).tx_hash)
    tempo.chain.mine()
    await tempo.tracker.poll()
    sighting = tempo.sightings.of(payment)
    assert sighting is not None
    assert (sighting.tx_hash, await tempo.transfer()) == (tx_hash, Transfer.PRESENTED)
    tempo.chain.mine(2)
    await tempo.tracker.poll()
    assert tempo.chain.newest.time_s < promised(payment).valid_before_s
    assert (await tempo.transfer(), tempo.evidence()) == (Transfer.SETTLED, [("settled", PRICE, FEE)])
    assert tempo.posted("house:fees") == FEE
    assert tempo.booked == FULL - PRICE - FEE
    assert await tempo.is_right()


async def test_a_sponsored_charge_is_found_by_its_memo(tempo: TempoRig) -> None:
    """Its hash was not known to us, and its fee is not ours."""
    await tempo.charge(sponsored=True)
    tx_hash = await tempo.take()
    await tempo.tracker.poll()
    assert tempo.evidence() == [("settled", PRICE, 0)]
    assert tempo.rows("SELECT tx_hash FROM evidence") == [{"tx_hash": tx_hash}]
    assert await tempo.is_right()


async def test_splits_are_part_of_their_charge(tempo: TempoRig) -> None:
    """All that the payees got is the value, and a split with a memo of its own is no outflow."""
    payment = await tempo.charge(splits=((SPLIT, 5), (STRANGER, 7)))
    primary, first, second = tempo.signed(payment).transfers
    assert primary.value_base == PRICE - 12
    transfers = (primary, TempoTransfer(first.to, first.value_base, b"\x0d" * 32), second)
    signed = replace(tempo.signed(payment), transfers=transfers)
    tempo.chain.charge(signed, fee_base=FEE, tx_hash=promised(payment).tx_hash)
    tempo.chain.mine(3)
    await tempo.tracker.poll()
    assert tempo.evidence() == [("settled", PRICE, FEE)]
    assert await tempo.is_right()


async def test_both_kinds_of_token_live_on_one_chain(tempo: TempoRig) -> None:
    """An authorization and a charge of one wallet, each followed in its own way."""
    await tempo.charge(1)
    tempo.chain.fund(BASE_USDC, ADDRESS, PRICE)
    tempo.chain.mine(3)
    await tempo.tracker.poll()
    tempo.token = BASE_USDC
    await tempo.promise(2)
    await tempo.collect(2)
    tempo.token = PATH_USD
    await tempo.take(1)
    await tempo.tracker.poll()
    assert {await tempo.transfer(n) for n in (1, 2)} == {Transfer.SETTLED}
    assert tempo.evidence() == [("settled", PRICE, 0), ("settled", PRICE, FEE)] or tempo.evidence() == [
        ("settled", PRICE, FEE),
        ("settled", PRICE, 0),
    ]
    assert tempo.tasks() == []


async def test_a_replay_is_silent(tempo: TempoRig) -> None:
    """P13: settled and failed charges are read again after a crash, and change nothing."""
    await tempo.charge(1)
    await tempo.charge(2)
    await tempo.take(1)
    await tempo.let_fail(2)
    await tempo.tracker.poll()
    await tempo.poll()
    seq = tempo.store.view.journal_seq
    tempo.rewind()
    tempo.chain.mine()
    tempo.restart()
    await tempo.tracker.poll()
    assert tempo.store.view.journal_seq == seq
    assert await tempo.is_right()


async def test_a_token_that_left_the_configuration_is_followed_to_the_end(tempo: TempoRig) -> None:
    """What was promised is followed as what it is, also when nobody names the token any more."""
    await tempo.charge(1)
    second = await tempo.charge(2, sponsored=True)
    await tempo.take(1)
    tempo.watched = ()
    tempo.restart()
    await tempo.tracker.poll()
    tempo.expire(second)
    await tempo.tracker.poll()
    assert [await tempo.transfer(n) for n in (1, 2)] == [Transfer.SETTLED, Transfer.DEAD]
    assert await tempo.is_right()


# dead


@pytest.mark.parametrize("sponsored", [True, False])
async def test_p6_nothing_on_chain_past_its_window_is_dead(tempo: TempoRig, sponsored: bool) -> None:  # noqa: FBT001 - a case
    """P6: not a second earlier, and only by the time of a final block."""
    payment = await tempo.charge(sponsored=sponsored)
    tempo.clock.ms = promised(payment).valid_before_s * 1000 - 1000
    tempo.chain.mine(3)
    assert (await tempo.chain.final()).time_s == promised(payment).valid_before_s - 1
    await tempo.tracker.poll()
    assert await tempo.transfer() is Transfer.PRESENTED
    tempo.chain.mine()
    await tempo.tracker.poll()
    assert (await tempo.transfer(), tempo.evidence()) == (Transfer.DEAD, [("unused", 0, 0)])
    assert await tempo.is_right()


async def test_p7_a_failed_charge_is_dead_and_its_fee_is_no_shortage(tempo: TempoRig) -> None:
    """P7: the fee that left without a log that is followed is booked when the balance shows it, before any alarm."""
    payment = await tempo.charge()
    await tempo.let_fail()
    await tempo.tracker.poll()
    assert tempo.chain.newest.time_s < promised(payment).valid_before_s
    assert (await tempo.transfer(), tempo.evidence()) == (Transfer.DEAD, [("failed", 0, FEE)])
    (row,) = tempo.rows("SELECT tx_hash, log_index, payment_id FROM evidence")
    assert row == {"tx_hash": promised(payment).tx_hash, "log_index": None, "payment_id": payment.id}
    assert tempo.posted("house:fees") == FEE
    await tempo.poll()
    assert tempo.booked == FULL - FEE
    assert await tempo.is_right()


async def test_p7_a_failed_charge_is_found_at_the_end_of_its_window(tempo: TempoRig) -> None:
    """P7: where no balance is looked at, the judgement by time asks for the receipt."""
    payment = await tempo.charge()
    await tempo.let_fail()
    tempo.watched = ()
    tempo.restart()
    await tempo.tracker.poll()
    assert await tempo.transfer() is Transfer.PRESENTED
    tempo.expire(payment)
    await tempo.tracker.poll()
    assert (await tempo.transfer(), tempo.evidence()) == (Transfer.DEAD, [("failed", 0, FEE)])
    assert await tempo.is_right()


async def test_a_sponsors_failure_costs_us_nothing(tempo: TempoRig) -> None:
    """Its transaction is unknown to us: the charge is dead when its window is over."""
    payment = await tempo.charge(sponsored=True)
    await tempo.let_fail()
    await tempo.tracker.poll()
    assert await tempo.transfer() is Transfer.PRESENTED
    tempo.expire(payment)
    await tempo.tracker.poll()
    assert tempo.evidence() == [("unused", 0, 0)]
    assert await tempo.is_right()


async def test_several_failures_and_a_deposit_at_once_are_told_apart(tempo: TempoRig) -> None:
    """Each fee is its own payment's; what is left over when all are booked is the deposit."""
    for n in (1, 2, 3):
        await tempo.charge(n)
    await tempo.let_fail(1)
    await tempo.let_fail(3)
    tempo.chain.fund(PATH_USD, ADDRESS, 70)
    tempo.chain.mine(3)
    await tempo.tracker.poll()
    assert [await tempo.transfer(n) for n in (1, 2, 3)] == [Transfer.DEAD, Transfer.PRESENTED, Transfer.DEAD]
    assert tempo.booked == FULL - 2 * FEE + 70
    assert await tempo.is_right()


async def test_the_search_ends_with_the_window(tempo: TempoRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a long outage only blocks that may hold the charge are asked about."""
    monkeypatch.setattr(collection, "PAGE_BLOCKS", 10)
    payment = await tempo.charge(valid_before_s=NOW_MS // 1000 + 30)
    tempo.chain.mine(300)
    await tempo.tracker.poll()
    assert await tempo.transfer() is Transfer.DEAD
    start = promised(payment).signed_at_block
    again = [found for found in tempo.chain.ranges if (found[0] - start) % 10 == 0 and found[0] < start + 300]
    assert again[-1][1] - start < 60


# what is not what it looks like


async def test_anybody_may_write_our_memo_with_nothing_in_it(tempo: TempoRig) -> None:
    """A stranger's transferFromWithMemo of zero neither settles, nor hides the real log, nor keeps alive what is dead."""
    first = await tempo.charge(1)
    second = await tempo.charge(2, sponsored=True)
    for payment in (first, second):
        tempo.chain.note(PATH_USD, ADDRESS, STRANGER, promised(payment).nonce)
    tempo.chain.note(PATH_USD, ADDRESS, STRANGER, b"\x66" * 32)
    tempo.chain.mine(3)
    await tempo.tracker.poll()
    assert {await tempo.transfer(n) for n in (1, 2)} == {Transfer.PRESENTED}
    assert await tempo.is_right()
    await tempo.take(1)
    await tempo.tracker.poll()
    tempo.expire(second)
    await tempo.tracker.poll()
    assert [await tempo.transfer(n) for n in (1, 2)] == [Transfer.SETTLED, Transfer.DEAD]
    assert await tempo.is_right()


async def test_another_transaction_with_our_memo_settles_nothing(tempo: TempoRig) -> None:
    """Signed by our key and not known to the book: a human looks, the hold stays, and its own transaction still settles."""
    payment = await tempo.charge()
    other = replace(tempo.signed(payment), valid_before=promised(payment).valid_before_s + 1)
    tempo.chain.charge(other, fee_base=FEE)
    tempo.chain.mine(3)
    await tempo.tracker.poll()
    assert (await tempo.transfer(), tempo.tasks()) == (Transfer.PRESENTED, ["settlement_mismatch"])
    assert not tempo.frozen
    await tempo.take()
    await tempo.tracker.poll()
    assert await tempo.transfer() is Transfer.SETTLED


async def test_of_two_transactions_with_our_memo_the_search_finds_our_own(tempo: TempoRig) -> None:
    """A log that was lost is not hidden by the other one, which came first."""
    payment = await tempo.charge()
    other = replace(tempo.signed(payment), valid_before=promised(payment).valid_before_s + 1)
    tempo.chain.charge(other, fee_base=FEE)
    tempo.chain.mine(3)
    await tempo.tracker.poll()
    tempo.chain.hides_logs = True
    await tempo.take()
    await tempo.tracker.poll()
    tempo.chain.hides_logs = False
    assert await tempo.transfer() is Transfer.PRESENTED
    await tempo.poll()
    assert (await tempo.transfer(), tempo.evidence()) == (Transfer.SETTLED, [("settled", PRICE, FEE)])


async def test_an_unknown_charge_is_one_outflow_with_all_that_it_took(tempo: TempoRig) -> None:
    """A leaked key: value, splits and fee of its transaction are one fact, and the wallet is frozen."""
    payment = await tempo.charge()
    transfers = (
        TempoTransfer(STRANGER, 40, b"\x66" * 32),
        TempoTransfer(STRANGER, 30, b"\x67" * 32),
        TempoTransfer(STRANGER, 2),
    )
    tempo.chain.charge(replace(tempo.signed(payment), transfers=transfers), fee_base=FEE)
    tempo.chain.mine(3)
    await tempo.tracker.poll()
    assert tempo.tasks() == ["unknown_outflow"]
    assert tempo.frozen
    assert tempo.evidence() == [("outflow", 72 + FEE, 0)]
    assert tempo.booked == await tempo.held() == FULL - 72 - FEE
    assert await tempo.transfer() is Transfer.PRESENTED


async def test_a_plain_transfer_shows_in_the_balance(tempo: TempoRig) -> None:
    """Without a memo there is no log that is followed; the balance tells."""
    tempo.chain._chain[-1].state.balances[PATH_USD.address, ADDRESS] = FULL - 7
    tempo.chain.mine(3)
    await tempo.tracker.poll()
    assert tempo.tasks() == ["float_missing"]
    assert tempo.frozen


async def test_a_log_that_was_lost_is_found_in_the_receipt(tempo: TempoRig) -> None:
    """The hash is known, so what eth_getLogs has lost is no shortage and not dead: the receipt settles it."""
    payment = await tempo.charge()
    tempo.chain.hides_logs = True
    await tempo.take()
    await tempo.tracker.poll()
    assert (await tempo.transfer(), tempo.tasks(), tempo.frozen) == (Transfer.PRESENTED, ["used_without_log"], False)
    await tempo.poll()
    assert (await tempo.transfer(), tempo.evidence()) == (Transfer.SETTLED, [("settled", PRICE, FEE)])
    assert tempo.chain.newest.time_s < promised(payment).valid_before_s
    assert tempo.booked == await tempo.held()


async def test_a_charge_in_a_block_that_is_not_final_is_not_missed_in_the_balance(tempo: TempoRig) -> None:
    """Money that comes in while a charge is on its way is booked, and the charge waits for its own block."""
    await tempo.charge()
    tempo.chain.fund(PATH_USD, ADDRESS, 5)
    tempo.chain.mine()
    payment = await tempo.payment()
    tempo.chain.charge(tempo.signed(payment), fee_base=FEE, tx_hash=promised(payment).tx_hash)
    tempo.chain.mine(2)
    await tempo.tracker.poll()
    assert (await tempo.transfer(), tempo.booked, tempo.tasks()) == (Transfer.PRESENTED, FULL + 5, [])
    tempo.chain.mine(2)
    await tempo.tracker.poll()
    assert await tempo.transfer() is Transfer.SETTLED
    assert await tempo.is_right()


# what nothing proves


async def _said(tempo: TempoRig, left_base: int, tx_hash: bytes | None = None) -> Payment:
    unproven = Unproven(store=tempo.store, chain=tempo.chain, tracker=tempo.tracker, clock=tempo.clock)
    said = Said(Charge.CAPTURED, left_base, tx_hash, "seen in an explorer", "operator")
    return await unproven.resolve("pay_0001", said)


async def test_a_charge_that_no_proof_fits_ends_as_said_once_its_window_is_over(tempo: TempoRig) -> None:
    """P6: while another transaction with its memo may have been taken, the signed one is alive; then value and fee are parted."""
    payment = await tempo.charge()
    tempo.chain.charge(tempo.signed(payment), fee_base=FEE, tx_hash=sha256(b"another").digest())
    tempo.chain.mine(3)
    await tempo.poll()
    assert tempo.tasks() == ["settlement_mismatch"]
    with pytest.raises(Problem, match="not_unproven"):
        await _said(tempo, PRICE + FEE)
    tempo.expire(payment)
    await tempo.poll()
    with pytest.raises(Problem, match="bad_resolution"):
        await _said(tempo, PRICE)
    ended = await _said(tempo, PRICE + FEE)
    assert (ended.axes.charge, ended.settled_base, ended.captured_base) == (Charge.CAPTURED, PRICE, PRICE)
    assert tempo.posted("house:fees") == FEE
    assert tempo.evidence() == [("resolved", PRICE, FEE)]
    await tempo.poll()
    assert tempo.booked == await tempo.held() == FULL - PRICE - FEE
    assert not tempo.frozen
    verify_book(tempo.db)


async def test_a_fee_beyond_the_promise_is_not_the_payments(tempo: TempoRig) -> None:
    """The network took more than was signed for: the payment bears what was promised, the wallet misses the rest, loudly."""
    payment = await tempo.charge()
    tempo.chain.charge(tempo.signed(payment), fee_base=MAX_FEE + 7, tx_hash=promised(payment).tx_hash)
    tempo.chain.mine(3)
    tempo.expire(payment)
    await tempo.poll()
    assert tempo.tasks() == ["settlement_mismatch"]
    await _said(tempo, PRICE + MAX_FEE)
    assert tempo.evidence() == [("resolved", PRICE, MAX_FEE)]
    await tempo.poll()
    assert tempo.tasks() == ["settlement_mismatch", "float_missing"]
    assert tempo.booked == await tempo.held()
    verify_book(tempo.db)


async def test_more_than_the_payees_were_promised_is_not_the_payments(tempo: TempoRig) -> None:
    """Its own transaction moved more than was signed for: value and fee are bound each by its own promise, and can be said."""
    payment = await tempo.charge()
    signed = tempo.signed(payment)
    dear = replace(signed.transfers[0], value_base=PRICE + 5)
    tempo.chain.charge(replace(signed, transfers=(dear,)), fee_base=FEE, tx_hash=promised(payment).tx_hash)
    tempo.chain.mine(3)
    tempo.expire(payment)
    await tempo.poll()
    assert tempo.tasks() == ["settlement_mismatch"]
    for left_base in (PRICE, PRICE + FEE - 1, PRICE + 5 + FEE, PRICE + MAX_FEE):
        with pytest.raises(Problem, match="bad_resolution"):
            await _said(tempo, left_base)
    await _said(tempo, PRICE + FEE)
    assert tempo.evidence() == [("resolved", PRICE, FEE)]
    await tempo.poll()
    assert tempo.tasks() == ["settlement_mismatch", "float_missing"]
    assert tempo.booked == await tempo.held()
    verify_book(tempo.db)


async def test_another_charges_transaction_is_no_word_about_this_one(tempo: TempoRig) -> None:
    """On Tempo its memo or its hash names a transaction's payment; one with neither is not this charge's."""
    payment = await tempo.charge()
    await tempo.charge(2)
    tempo.chain.hides_logs = True
    other = await tempo.take(2)
    plain = tempo.chain.move(PATH_USD, ADDRESS, STRANGER, 7)
    own = replace(tempo.signed(payment).transfers[0], memo=b"\x0e" * 32)
    charge = replace(tempo.signed(payment), transfers=(own,))
    signed = tempo.chain.charge(charge, fee_base=FEE, tx_hash=promised(payment).tx_hash)
    tempo.chain.mine(3)
    tempo.expire(payment)
    await tempo.tracker.poll()
    assert "used_without_log" in tempo.tasks()
    for tx_hash, whose in ((other, ": it is the transaction of pay_0002"), (plain, "")):
        with pytest.raises(Problem, match="bad_resolution") as caught:
            await _said(tempo, 7, tx_hash)
        assert caught.value.detail.endswith(f"did not take it{whose}")
    ended = await _said(tempo, PRICE + FEE, signed)
    assert (ended.settled_base, tempo.evidence()[-1]) == (PRICE, ("resolved", PRICE, FEE))
