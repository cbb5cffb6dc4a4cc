"""Taking Tempo payments of orders, on the real store: claimed before they are sent, sent until they are mined or dead."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from contracts.codec import Address
from contracts.keccak import keccak256
from contracts.tempo import TempoCharge
from contracts.tempo_decode import decode_tempo, read_transfer
from contracts.tokens import MODERATO_PATHUSD
from gateway.core.commands import Command, Refused, Result
from gateway.core.paid import TopUp, TopUpState
from gateway.core.problems import Problem
from gateway.core.view import View
from gateway.flow.paid.mpp import NOT_RECEIVED, RAIL, REVERTED, SHORT, UNUSED, Claimed, TempoTopUps
from gateway.flow.paid.mpp_seller import MppSeller, TempoTaken
from gateway.flow.paid.orders import OrderTerms
from gateway.ports import ChainDisagreement, ChainUnavailable
from gateway.rails.mpp.credential import charge_payload
from gateway.rails.mpp.issuing import Seal
from gateway.store.sqlite import SqliteStore
from tests.fakes.chain import Move, ScriptedChain
from tests.unit.gateway.flow.test_mpp_seller import (
    BODY,
    NOW_S,
    ORDER,
    REALM,
    SECRET,
    TILL,
    TILLS,
    WALLET,
    Counting,
    Now,
    asked,
    charge,
    shown,
    signed,
)

AWAY = Address(b"\x0a" * 20)
CHAIN = MODERATO_PATHUSD.chain_id
PRICE_BASE = 5_000_000
KEYLESS = replace(ORDER, account_id=None)
OTHER = replace(KEYLESS, id="top_2")


class Died(BaseException):
    """The process ends here."""


@dataclass
class Crash:
    """Ends the process at its n-th step."""

    at: int | None = None
    steps: list[str] = field(default_factory=list)

    def step(self, what: str) -> None:
        """Go on, or never."""
        self.steps.append(what)
        if len(self.steps) == self.at:
            raise Died(what)


class FrailStore:
    """The store, with a crash before and after each commit."""

    def __init__(self, store: SqliteStore, crash: Crash) -> None:
        self.store, self._crash = store, crash

    @property
    def view(self) -> View:
        return self.store.view

    async def topup(self, topup_id: str) -> TopUp | None:
        return await self.store.topup(topup_id)

    async def topup_of_hash(self, tx_hash: bytes) -> TopUp | None:
        return await self.store.topup_of_hash(tx_hash)

    async def post(self, command: Command) -> Result:
        self._crash.step(f"before {command!r}"[:60])
        result = await self.store.post(command)
        self._crash.step(f"after {command!r}"[:60])
        return result


class Wire:
    """The Broadcaster over the scripted chain. `lose` says what happens to the next calls: "before" or "after"."""

    def __init__(self, bed: "Bed") -> None:
        self._bed = bed
        self.sent: list[bytes] = []
        self.lose: list[str] = []
        self.divert: Address | None = None
        self.drained = False  # the payer moves what it has away while its payment is on the way
        self.mining = True

    async def send_raw(self, raw: bytes) -> None:
        """P3: whatever leaves is durable, bytes and all."""
        transaction = decode_tempo(raw)
        kept = await self._bed.store.topup_of_hash(transaction.tx_hash)
        assert kept is not None
        assert kept.raw == raw
        self._bed.crash.step("before sending")
        self.sent.append(raw)
        loss = self.lose.pop(0) if self.lose else ""
        if loss != "before":
            self._land(raw)
        self._bed.crash.step("after sending")
        if loss:
            raise ChainUnavailable(loss)

    def _land(self, raw: bytes) -> None:
        transaction, chain = decode_tempo(raw), self._bed.chain
        if self.drained:
            held_base = chain._chain[-1].state.balances[MODERATO_PATHUSD.address, WALLET]
            chain.move(MODERATO_PATHUSD, WALLET, AWAY, max(0, held_base - 2_000))
        if self.divert is not None:
            chain._send(Move(MODERATO_PATHUSD.address, WALLET, self.divert, PRICE_BASE), transaction.tx_hash)
        else:
            assert transaction.valid_before is not None
            known = TempoCharge(
                MODERATO_PATHUSD,
                transaction.sender,
                tuple(map(read_transfer, transaction.calls)),
                transaction.valid_before,
                transaction.gas,
                transaction.max_fee_per_gas,
                transaction.max_priority_fee_per_gas,
                sponsored=False,
            )
            chain.charge(known, tx_hash=transaction.tx_hash)
        if self.mining:
            chain.mine()

    async def seen(self, tx_hash: bytes) -> int | None:
        """What a node says of the newest block."""
        mined = (receipt for block in self._bed.chain._chain for receipt in block.receipts)
        return next((receipt.status for receipt in mined if receipt.tx_hash == tx_hash), None)


@dataclass
class Bed:
    """A seller with a book, a chain and a wallet that has 20 dollars."""

    home: Path
    clock: Now
    chain: ScriptedChain
    store: SqliteStore
    seller: MppSeller
    crash: Crash = field(default_factory=Crash)
    wire: Wire = field(init=False)
    rail: TempoTopUps = field(init=False)

    def __post_init__(self) -> None:
        self.wire = Wire(self)
        self.start()

    def start(self, **changes: Any) -> None:
        """Make the flow anew, as a process does that starts."""
        store: Any = FrailStore(self.store, self.crash)
        chains, wires = {CHAIN: self.chain}, {CHAIN: self.wire}
        parts = {"chains": chains, "broadcasters": wires, "clock": self.clock, "wait_s": 1.0} | changes
        self.rail = TempoTopUps(store=store, **parts)

    async def restart(self) -> None:
        """End and begin again, on the same file."""
        await self.store.close()
        self.store, self.crash = await SqliteStore.open(self.home / "gateway.db"), Crash()
        self.start()

    def pay(self, order: OrderTerms = KEYLESS, **changes: Any) -> TempoTaken:
        """Sign for a challenge of an order, as a stock client does."""
        offer = asked(self.seller, order)[0]
        taken = self.seller.take(
            shown(self.seller, offer, charge_payload(signed(charge(offer, **changes)))), BODY, order.pack
        )
        assert isinstance(taken, TempoTaken)
        return taken

    async def take(self, taken: TempoTaken, order: OrderTerms | None = None) -> TopUp | Refused:
        """Take it."""
        result = await self.claim(taken, order)
        return result if isinstance(result, Refused) else result.topup

    async def claim(self, taken: TempoTaken, order: OrderTerms | None = None) -> Claimed | Refused:
        """Take it, and be told who claimed it."""
        return await self.rail.take((order or taken.order).opened("", b"\x01" * 32, self.clock.now_ms()), taken)

    def pass_time(self, seconds: int) -> None:
        """Let the clock and the chain go on."""
        self.clock.ms += seconds * 1000
        self.chain.mine()

    async def sweep(self) -> None:
        """Sweep when everything has its turn again."""
        self.clock.ms += 2_000
        await self.rail.sweep(CHAIN)

    @property
    def received(self) -> int:
        """What the till has."""
        state = self.chain._chain[-1].state
        return state.balances.get((MODERATO_PATHUSD.address, TILL), 0)


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Bed]]]:
    """Beds; a block is final `final_lag` blocks later."""
    made: list[Bed] = []

    async def bed(name: str = "bed", final_lag: int = 0, funds_base: int = 20_000_000) -> Bed:
        home, clock = tmp_path / name, Now()
        home.mkdir()
        chain = ScriptedChain(
            clock, chain_id=CHAIN, final_lag=final_lag, balances={(MODERATO_PATHUSD, WALLET): funds_base}
        )
        store = await SqliteStore.open(home / "gateway.db")
        seller = MppSeller(seal=Seal([SECRET]), realm=REALM, tills=TILLS, clock=clock, entropy=Counting())
        made.append(Bed(home, clock, chain, store, seller))
        return made[-1]

    yield bed
    for one in made:
        assert await one.store.contradiction() is None
        await one.store.close()


def kept(result: TopUp | Refused) -> TopUp:
    """It was not refused."""
    assert isinstance(result, TopUp), result
    return result


async def test_a_payment_is_claimed_sent_and_seen(make: Any) -> None:
    """One row with the whole identity and the bytes, one debit, SEEN; credited by nobody here."""
    bed = await make()
    taken = bed.pay()
    topup = kept(await bed.take(taken))
    assert (topup.state, topup.rail, topup.version) == (TopUpState.SEEN, RAIL, 2)
    assert topup.identity == (CHAIN, MODERATO_PATHUSD.address, WALLET, taken.transaction.tx_hash)
    assert (topup.tx_hash, topup.raw) == (taken.transaction.tx_hash, taken.transaction.raw)
    assert (topup.value_base, topup.valid_before_s) == (PRICE_BASE, NOW_S + 25)
    assert (topup.challenge_id, topup.credited_base, topup.receipt_id) == (taken.presented.challenge_id, 0, None)
    assert (bed.received, len(bed.wire.sent)) == (PRICE_BASE, 1)


async def test_the_same_credential_again_has_the_same_answer(make: Any) -> None:
    """Nothing is sent a second time, also when the challenge is long over; whoever shows another's payment is not told of it."""
    bed = await make()
    taken = bed.pay()
    first = kept(await bed.take(taken))
    assert kept(await bed.take(taken)) == first
    presented, other = taken.presented, bed.pay(OTHER)
    bed.pass_time(10_000)
    for same in (presented, replace(presented, payload={}), replace(presented, external_id="")):
        assert await bed.rail.known(same) == first
    thief = replace(other.presented, payload=presented.payload)
    for strange in (other.presented, thief, replace(presented, payload={}, external_id="")):
        assert await bed.rail.known(strange) is None
    await bed.sweep()
    assert (bed.received, len(bed.wire.sent)) == (PRICE_BASE, 1)


async def test_fifty_copies_at_once_are_one_payment(make: Any) -> None:
    """P13: one row, one debit, fifty equal answers, of which one is the first."""
    bed = await make()
    taken = bed.pay()
    answers = await asyncio.gather(*(bed.claim(taken) for _ in range(50)))
    claimed = [answer for answer in answers if isinstance(answer, Claimed)]
    assert len(claimed) == len(answers)
    assert {each.topup.state for each in claimed} == {TopUpState.SEEN}
    assert {each.topup.tx_hash for each in claimed} == {taken.transaction.tx_hash}
    assert [each.repeated for each in claimed].count(False) == 1
    assert (bed.received, len(bed.store.view.topups)) == (PRICE_BASE, 1)


async def test_a_second_payment_of_an_order_is_refused_unsent(make: Any) -> None:
    """Another transaction for the same order, of the same or another challenge: `topup_taken`, before it leaves."""
    bed = await make()
    first, second = bed.pay(), bed.pay()
    bed.wire.lose = ["before"]
    assert kept(await bed.take(first)).state is TopUpState.PAYING
    for state in (TopUpState.PAYING, TopUpState.SEEN):
        refused = await bed.take(second)
        assert isinstance(refused, Refused), state
        assert refused.code == "topup_taken"
        await bed.sweep()
        await bed.sweep()
    assert {decode_tempo(raw).tx_hash for raw in bed.wire.sent} == {first.transaction.tx_hash}


async def test_two_payments_of_an_order_at_once_are_one(make: Any) -> None:
    """Whichever is claimed first is taken; the other is refused and never sent."""
    bed = await make(funds_base=100_000_000)
    answers = await asyncio.gather(*(bed.take(bed.pay()) for _ in range(10)))
    assert sorted(type(answer).__name__ for answer in answers) == ["Refused"] * 9 + ["TopUp"]
    assert {answer.code for answer in answers if isinstance(answer, Refused)} == {"topup_taken"}
    assert (bed.received, len(bed.wire.sent)) == (PRICE_BASE, 1)


async def test_an_order_under_another_name_is_what_is_kept(make: Any) -> None:
    """A challenge may pay the order that an Idempotency-Key stands for: its next version, of the same amount."""
    bed = await make()
    bed.wire.lose = ["before"] * 9
    first = bed.pay()
    kept(await bed.take(first))
    bed.pass_time(60)
    await bed.sweep()
    failed = await bed.store.topup("top_1")
    assert failed is not None
    assert failed.state is TopUpState.FAILED
    following = replace(failed, expires_at_ms=failed.expires_at_ms + 60_000, version=failed.version + 1)
    dearer = bed.pay(replace(OTHER, amount_base=PRICE_BASE + 1), valid_before=NOW_S + 300)
    refused = await bed.rail.take(following, dearer)
    assert isinstance(refused, Refused)
    assert refused.code == "idempotency_conflict"
    bed.wire.lose = []
    second = bed.pay(OTHER, valid_before=NOW_S + 300)
    claimed = await bed.rail.take(following, second)
    assert isinstance(claimed, Claimed)
    taken = claimed.topup
    assert not claimed.repeated
    assert (taken.id, taken.state, taken.expires_at_ms) == ("top_1", TopUpState.SEEN, following.expires_at_ms)
    assert await bed.rail.known(second.presented) == taken
    assert await bed.store.topup("top_2") is None


async def test_p13_one_transaction_pays_for_one_order(make: Any) -> None:
    """Were the same bytes taken for another order, the store refuses them."""
    bed = await make()
    taken = bed.pay()
    kept(await bed.take(taken))
    refused = await bed.take(replace(taken, order=OTHER))
    assert isinstance(refused, Refused)
    assert refused.code == "payment_reused"
    assert len(bed.wire.sent) == 1


# what goes wrong on the way


async def test_what_no_node_takes_is_sent_again(make: Any) -> None:
    """PAYING while nobody knows; the sweep sends the same bytes, and sees them; never others."""
    bed = await make()
    bed.wire.lose = ["before", "before"]
    taken = bed.pay()
    assert kept(await bed.take(taken)).state is TopUpState.PAYING
    await bed.sweep()
    assert bed.received == 0
    await bed.sweep()
    await bed.sweep()
    topup = await bed.store.topup("top_1")
    assert topup is not None
    assert (topup.state, bed.received) == (TopUpState.SEEN, PRICE_BASE)
    assert bed.wire.sent == [taken.transaction.raw] * 3


async def test_an_answer_that_is_lost_loses_nothing(make: Any) -> None:
    """The node took it and said nothing: it is seen all the same."""
    bed = await make()
    bed.wire.lose = ["after"]
    assert kept(await bed.take(bed.pay())).state is TopUpState.SEEN


async def test_a_block_that_is_slow(make: Any) -> None:
    """PAYING after the wait; a repeat of the credential waits again, and has it when it is there."""
    bed = await make()
    bed.wire.mining = False
    taken = bed.pay()
    assert kept(await bed.take(taken)).state is TopUpState.PAYING
    bed.chain.mine()
    assert kept(await bed.take(taken)).state is TopUpState.SEEN
    assert bed.received == PRICE_BASE


async def test_p6_it_is_dead_when_a_final_block_past_its_end_does_not_have_it(make: Any) -> None:
    """Not when our clock says so, and not at a block that may still be replaced; then another may be paid."""
    bed = await make(final_lag=2)
    bed.wire.lose = ["before"] * 10
    taken = bed.pay()
    kept(await bed.take(taken))
    bed.clock.ms += 60_000
    for blocks, state in ((1, TopUpState.PAYING), (1, TopUpState.PAYING), (1, TopUpState.FAILED)):
        bed.chain.mine(blocks)
        await bed.sweep()
        topup = await bed.store.topup("top_1")
        assert topup is not None
        assert topup.state is state
    assert (topup.reason, topup.ended_at_ms) == (UNUSED, None)
    again = await bed.take(replace(taken, transaction=replace(taken.transaction, tx_hash=b"\x09" * 32)))
    assert isinstance(again, Refused)
    assert again.code == "challenge_used"
    assert kept(await bed.take(taken)).state is TopUpState.FAILED
    bed.wire.lose = []
    second = kept(await bed.take(bed.pay(valid_before=NOW_S + 300)))
    assert (second.state, second.reason, bed.received) == (TopUpState.SEEN, "", PRICE_BASE)


async def test_one_that_fails_on_chain_is_failed_once_that_is_final(make: Any) -> None:
    """On Tempo at once, where a block is final later then; nothing was moved but the payer's fee."""
    bed = await make("quick")
    bed.wire.drained = True
    topup = kept(await bed.take(bed.pay()))
    assert (topup.state, topup.reason, bed.received) == (TopUpState.FAILED, REVERTED, 0)
    slow = await make("slow", final_lag=2)
    slow.wire.drained = True
    assert kept(await slow.take(slow.pay())).state is TopUpState.PAYING
    slow.chain.mine(2)
    await slow.sweep()
    found = await slow.store.topup("top_1")
    assert found is not None
    assert (found.state, found.reason) == (TopUpState.FAILED, REVERTED)


async def test_a_chain_that_does_not_answer_proves_nothing(make: Any) -> None:
    """P5: a failure that one node tells of is unknown until the quorum has it; the sweep says that it could not look."""
    bed = await make()
    bed.wire.drained = True
    bed.chain.fail("disagreement", methods=["final", "receipt"])
    assert kept(await bed.take(bed.pay())).state is TopUpState.PAYING
    with pytest.raises(ChainDisagreement):
        await bed.sweep()
    bed.chain.heal()
    bed.chain.fail("unavailable")
    with pytest.raises(ChainUnavailable):
        await bed.sweep()
    bed.chain.heal()
    await bed.sweep()
    topup = await bed.store.topup("top_1")
    assert topup is not None
    assert topup.state is TopUpState.FAILED


async def test_trouble_with_one_payment_does_not_hold_up_the_others(make: Any) -> None:
    """The sweep looks at all of them, and says then that it could not see one."""
    bed = await make()
    bed.wire.lose = ["before", "before"]
    first, second = bed.pay(), bed.pay(OTHER)
    kept(await bed.take(first))
    kept(await bed.take(second))
    for _ in range(2):
        bed.chain.fail("disagreement", methods=["receipt"], calls=1)
        with pytest.raises(ChainDisagreement):
            await bed.sweep()
    topup = await bed.store.topup("top_2")
    assert topup is not None
    assert topup.state is TopUpState.SEEN


async def test_success_is_not_receipt(make: Any) -> None:
    """TIP-1028: a transaction may succeed and its money end with a guard. Then the order is not paid."""
    bed = await make()
    bed.wire.divert = Address(b"\xb1\x0c" + bytes(18))
    assert kept(await bed.take(bed.pay())).state is TopUpState.SEEN
    await bed.sweep()
    topup = await bed.store.topup("top_1")
    assert topup is not None
    assert (topup.state, topup.reason) == (TopUpState.FAILED, NOT_RECEIVED)


async def test_a_block_that_is_replaced_is_paid_again_by_the_same_bytes(make: Any) -> None:
    """SEEN is no promise: the sweep sends what a reorganisation took out."""
    bed = await make(final_lag=2)
    taken = bed.pay()
    assert kept(await bed.take(taken)).state is TopUpState.SEEN
    bed.chain.reorg(1)
    assert bed.received == 0
    await bed.sweep()
    assert (bed.received, bed.wire.sent) == (PRICE_BASE, [taken.transaction.raw] * 2)


async def test_a_chain_that_is_no_longer_configured(make: Any) -> None:
    """Nothing can be sent: the order stays PAYING for the start that can; other chains' sweeps leave it alone."""
    bed = await make()
    bed.wire.lose = ["before"]
    taken = bed.pay()
    assert kept(await bed.take(taken)).state is TopUpState.PAYING
    bed.start(broadcasters={}, chains={1: bed.chain})
    assert kept(await bed.take(taken)).state is TopUpState.PAYING
    await bed.rail.sweep(1)
    with pytest.raises(Problem) as refused:
        await bed.take(bed.pay(OTHER))
    assert refused.value.code == "facilitator_unavailable"
    assert await bed.store.topup("top_2") is None
    bed.start()
    await bed.sweep()
    await bed.sweep()
    topup = await bed.store.topup("top_1")
    assert topup is not None
    assert topup.state is TopUpState.SEEN


# what costs a payer nothing


async def test_nothing_is_claimed_for_who_has_nothing(make: Any) -> None:
    """Neither the price nor, beyond it, the most that the fee may be: no row, and nothing is sent."""
    fee_base = 40_000
    for name, funds_base in (("bare", 0), ("short", PRICE_BASE - 1), ("fee", PRICE_BASE + fee_base - 1)):
        bed = await make(name, funds_base=funds_base)
        refused = await bed.take(bed.pay(gas=1_000_000, max_fee_per_gas=40 * 10**9))
        assert isinstance(refused, Refused)
        assert refused.code == SHORT
        assert (await bed.store.topup("top_1"), bed.wire.sent) == (None, [])
    bed = await make("enough", funds_base=PRICE_BASE + fee_base)
    assert kept(await bed.take(bed.pay(gas=1_000_000, max_fee_per_gas=40 * 10**9))).state is TopUpState.SEEN


async def test_the_same_money_is_not_claimed_twice(make: Any) -> None:
    """A wallet signs as often as it likes: what its other payments under way take is not there, until they are over."""
    bed = await make(funds_base=PRICE_BASE + 4_000_000)
    bed.wire.lose = ["before"]
    first, second = bed.pay(), bed.pay(OTHER)
    kept(await bed.take(first))
    with pytest.raises(Problem) as refused:
        await bed.take(second)
    assert refused.value.code == "too_many_open_payments"
    assert await bed.store.topup("top_2") is None
    assert kept(await bed.take(first)).state is TopUpState.SEEN


async def test_the_same_money_is_not_claimed_by_many_at_once(make: Any) -> None:
    """Asked about together, one of them is told that it is there."""
    bed = await make(funds_base=PRICE_BASE + 4_000_000)
    found = await asyncio.gather(bed.take(bed.pay()), bed.take(bed.pay(OTHER)), return_exceptions=True)
    (refused,) = [each for each in found if isinstance(each, Problem)]
    assert refused.code == "too_many_open_payments"
    (taken,) = [each for each in found if isinstance(each, TopUp)]
    assert taken.state is TopUpState.SEEN


async def test_a_chain_that_is_silent_about_a_balance_takes_nothing(make: Any) -> None:
    """Unknown is not enough for a row; the same transaction is taken when the chain is back."""
    bed = await make()
    taken = bed.pay()
    bed.chain.fail("unavailable", methods=["token_balance"])
    with pytest.raises(Problem) as refused:
        await bed.take(taken)
    assert refused.value.code == "facilitator_unavailable"
    assert (await bed.store.topup("top_1"), bed.wire.sent) == (None, [])
    bed.chain.heal()
    assert kept(await bed.take(taken)).state is TopUpState.SEEN


async def test_what_never_lands_is_looked_at_ever_less_often(make: Any) -> None:
    """A sweep a second asks for each payment when its turn comes, and again as soon as its end has passed."""
    bed = await make()
    bed.wire.lose = ["before"] * 99
    kept(await bed.take(bed.pay()))
    looks, sent = [], len(bed.wire.sent)
    for second in range(30):
        bed.clock.ms += 1_000
        bed.chain.mine()
        await bed.rail.sweep(CHAIN)
        if len(bed.wire.sent) > sent:
            looks.append(second)
            sent = len(bed.wire.sent)
    assert looks == [0, 1, 3, 8, 18]
    topup = await bed.store.topup("top_1")
    assert topup is not None
    assert topup.state is TopUpState.FAILED


async def test_a_clock_that_is_set_back_does_not_stop_the_looking(make: Any) -> None:
    """What was to be looked at tomorrow by a clock that was wrong is looked at by the one that is right."""
    bed = await make()
    bed.wire.lose = ["before"] * 2
    kept(await bed.take(bed.pay()))
    await bed.rail.sweep(CHAIN)
    bed.clock.ms -= 86_400_000
    await bed.rail.sweep(CHAIN)
    bed.chain.mine()
    topup = await bed.store.topup("top_1")
    assert topup is not None
    assert (len(bed.wire.sent), (await bed.rail.follow(topup)).state) == (3, TopUpState.SEEN)


async def test_one_slow_answer_holds_up_no_other(make: Any) -> None:
    """The payments of a sweep are looked at together."""
    bed = await make()
    bed.wire.lose = ["before", "before"]
    kept(await bed.take(bed.pay()))
    kept(await bed.take(bed.pay(OTHER)))
    both, plain = asyncio.Barrier(2), bed.chain.receipt

    async def receipt(*asked: Any) -> Any:
        await both.wait()
        return await plain(*asked)

    bed.chain.receipt = receipt
    async with asyncio.timeout(30):
        await bed.sweep()
    assert bed.received == 2 * PRICE_BASE


# P12


@pytest.mark.parametrize("loss", ["", "before", "after"])
async def test_p12_crash_at_every_step(make: Any, loss: str) -> None:
    """Wherever the process ends: with the payer asking again or not, one debit at most, and none without its row."""
    for at in range(1, 40):
        bed = await make(f"{loss}{at}")
        taken = bed.pay()
        bed.crash.at, bed.wire.lose = at, [loss]
        bed.start()
        try:
            await bed.take(taken)
            await bed.sweep()
            crashed = False
        except Died:
            crashed = True
        await bed.restart()
        claimed = await bed.store.topup("top_1")
        assert (claimed is not None) or not bed.wire.sent
        for _ in range(3):  # one that is lost, one that lands, one that sees it
            await bed.sweep()
        if claimed is not None:  # the payer need not come back
            topup = await bed.store.topup("top_1")
            assert topup is not None
            assert (topup.state, bed.received) == (TopUpState.SEEN, PRICE_BASE)
        kept(await bed.take(taken))
        for _ in range(3):
            await bed.sweep()
        assert kept(await bed.take(taken)).state is TopUpState.SEEN
        assert bed.received == PRICE_BASE
        assert {keccak256(raw) for raw in bed.wire.sent} == {taken.transaction.tx_hash}
        if not crashed:
            assert at > 6
            return
    pytest.fail("the story never came to its end")
