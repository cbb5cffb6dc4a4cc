"""The scripted chain's own promises, on which simulations rely; what it shares with a real chain is in tests/seams."""

from dataclasses import dataclass

import pytest

from contracts.codec import Address, to_hex
from contracts.eip3009 import Authorization
from contracts.logs import Log, parse_log
from contracts.proof import Settled, prove_settlement
from contracts.tempo import TempoCharge, TempoTransfer
from contracts.tempo_proof import TempoSettled, prove_tempo_charge, tempo_fee_base
from contracts.tokens import BASE_USDC, MODERATO_PATHUSD
from gateway.ports import Block, Chain, ChainDisagreement, ChainUnavailable
from tests.fakes.chain import ScriptedChain

WALLET, PAYEE = Address(b"\x01" * 20), Address(b"\x02" * 20)
START_S = 1_800_000_000


@dataclass
class Hands:
    """A clock that a test moves."""

    now_s: int = START_S

    def now_ms(self) -> int:
        """Return milliseconds since the epoch."""
        return self.now_s * 1000


def terms(nonce: int, value_base: int = 5, valid_before: int = START_S + 900) -> Authorization:
    """Return an authorization of the wallet."""
    return Authorization(BASE_USDC, WALLET, PAYEE, value_base, 0, valid_before, nonce.to_bytes(32, "big"))


def chain(clock: Hands, **options: object) -> ScriptedChain:
    """Return a chain on which the wallet has ten units."""
    made: ScriptedChain = ScriptedChain(clock, balances={(BASE_USDC, WALLET): 10}, **options)  # type: ignore[arg-type]
    port: Chain = made
    assert port.chain_id == 8453
    return made


async def test_equal_scripts_make_equal_chains() -> None:
    """Hashes depend on the seed and on what happened, and on nothing else."""

    async def play(seed: bytes) -> tuple[Block, tuple[Log, ...]]:
        played = chain(Hands(), seed=seed)
        played.settle(terms(1))
        played.mine(3)
        return await played.final(), await played.sightings(BASE_USDC, [WALLET], 0)

    assert await play(b"one") == await play(b"one")
    assert await play(b"one") != await play(b"two")


async def test_authorizations_of_one_transaction_are_all_or_none() -> None:
    """A batch has consecutive logs that prove each settlement; if one cannot be collected, none is."""
    subject = chain(Hands())
    batch = [terms(1), terms(2)]
    good, bad = subject.settle(*batch), subject.settle(terms(3), terms(1))
    subject.mine()
    receipt, failed = await subject.receipt(good), await subject.receipt(bad)
    assert receipt is not None
    assert failed is not None
    assert (failed.status, failed.logs) == (0, ())
    used = await subject.sightings(BASE_USDC, [WALLET], 0)
    assert [log.log_index for log in receipt.logs] == [0, 1, 2, 3]
    for auth, log in zip(batch, used, strict=True):
        proof = prove_settlement(auth, log, receipt.logs, receipt.status)
        assert isinstance(proof, Settled)
        assert proof.authorization == auth
    assert not await subject.authorization_used(BASE_USDC, WALLET, terms(3).nonce, subject.newest)


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        (terms(1, 10), 1),
        (terms(1, 11), 0),
        (terms(1, valid_before=START_S + 1), 0),
        (terms(1, valid_before=START_S + 2), 1),
    ],
)
async def test_the_token_decides_when_the_block_is_mined(authorization: Authorization, status: int) -> None:
    """Balance and the strict window are checked against the block that includes the transaction."""
    subject = chain(Hands())
    tx_hash = subject.settle(authorization)
    assert await subject.receipt(tx_hash) is None
    assert subject.mine().time_s == START_S + 1
    receipt = await subject.receipt(tx_hash)
    assert receipt is not None
    assert receipt.status == status


async def test_logs_read_as_a_nodes() -> None:
    """Every log survives the way through JSON-RPC and the strict reader unchanged."""
    subject = chain(Hands())
    subject.fund(BASE_USDC, WALLET, 1)
    tx_hash = subject.settle(terms(1))
    subject.mine()
    receipt = await subject.receipt(tx_hash)
    assert receipt is not None
    for log in receipt.logs:
        raw = {
            "address": to_hex(log.address),
            "topics": [to_hex(topic) for topic in log.topics],
            "data": to_hex(log.data),
            "blockNumber": hex(log.block_number),
            "blockHash": to_hex(log.block_hash),
            "transactionHash": to_hex(log.tx_hash),
            "logIndex": hex(log.log_index),
        }
        assert parse_log(raw) == log
    assert [log.log_index for log in receipt.logs] == [1, 2]


async def test_blocks_follow_the_clock() -> None:
    """With a block time the chain is never behind the clock, and a leap costs a few blocks, not one a second."""
    clock = Hands()
    subject = chain(clock, block_time_s=2, final_lag=3)
    tx_hash = subject.settle(terms(1))
    clock.now_s += 5
    assert (await subject.head()) == subject.newest
    assert (subject.newest.number, subject.newest.time_s) == (2, START_S + 4)
    assert await subject.receipt(tx_hash) is not None
    clock.now_s += 100_000
    final = await subject.final()
    assert subject.newest.number == 7
    assert clock.now_s - final.time_s <= 10


async def test_a_reorg_can_bring_transactions_back() -> None:
    """Undone transactions are gone, or wait for the next block; heights and times stay, hashes change."""
    subject = chain(Hands())
    lost = subject.settle(terms(1))
    before = subject.mine()
    subject.reorg(1)
    assert (subject.newest.number, subject.newest.time_s) == (before.number, before.time_s)
    assert subject.newest.hash != before.hash
    again = subject.settle(terms(2))
    subject.mine()
    subject.reorg(1, resend=True)
    assert await subject.receipt(again) is None
    subject.mine()
    assert await subject.receipt(again) is not None
    assert await subject.receipt(lost) is None


async def test_finality_breaks_only_when_told_to() -> None:
    """A reorg as deep as the lag leaves the final block; a deeper one is refused."""
    subject = chain(Hands(), final_lag=2)
    subject.mine(6)
    final = await subject.final()
    subject.reorg(2)
    assert await subject.final() == final
    for depth in (0, 3, 50):
        with pytest.raises(ValueError, match="block"):
            subject.reorg(depth)


async def test_trouble_is_for_the_methods_and_calls_that_the_script_names() -> None:
    """It ends by itself after so many calls, or by `heal`."""
    subject = chain(Hands())
    subject.fail("unavailable", methods=["head"], calls=2)
    for _ in range(2):
        with pytest.raises(ChainUnavailable):
            await subject.head()
    assert await subject.head() == await subject.final()
    subject.fail("disagreement")
    for _ in range(3):
        with pytest.raises(ChainDisagreement):
            await subject.final()
    subject.heal()
    await subject.final()


async def test_the_scheduler_is_asked_before_each_answer() -> None:
    """What happens there is seen by the answer, so that races can be scripted."""
    asked: list[str] = []

    async def before(method: str) -> None:
        asked.append(method)
        subject.mine()

    subject = chain(Hands(), before_answer=before)
    assert (await subject.head()).number == 1
    assert asked == ["head"]


def tempo(clock: Hands, **options: object) -> ScriptedChain:
    """Return a Tempo on which wallet and payee have a hundred units each."""
    funds = {(MODERATO_PATHUSD, owner): 100 for owner in (WALLET, PAYEE)}
    return ScriptedChain(clock, chain_id=42431, balances=funds, **options)  # type: ignore[arg-type]


def charge(value_base: int = 30, valid_before: int = START_S + 900, *, sponsored: bool = False) -> TempoCharge:
    """Return a charge of the wallet."""
    transfers = (TempoTransfer(PAYEE, value_base, b"\x0e" * 32), TempoTransfer(Address(b"\x04" * 20), 5))
    return TempoCharge(MODERATO_PATHUSD, WALLET, transfers, valid_before, 1, 10**12, 0, sponsored)


async def test_a_tempo_charge_is_taken_once_and_pays_its_fee() -> None:
    """Under the hash that was given, with a receipt that proves it; the second time no block takes it."""
    subject = tempo(Hands())
    known = subject.charge(charge(), fee_base=1, tx_hash=b"\x77" * 32)
    again = subject.charge(charge(), fee_base=1)
    subject.mine()
    receipt = await subject.receipt(known, subject.newest)
    assert (known, await subject.receipt(again)) == (b"\x77" * 32, None)
    assert receipt is not None
    (found,) = await subject.payment_logs(MODERATO_PATHUSD, [WALLET], 0, 1, b"\x0e" * 32)
    proof = prove_tempo_charge(charge().terms, found, receipt.logs, receipt.status)
    assert isinstance(proof, TempoSettled)
    assert proof.fee_base == 1
    assert await subject.token_balance(MODERATO_PATHUSD, WALLET, subject.newest) == 64


async def test_a_tempo_charge_that_fails_leaves_its_fee_only() -> None:
    """A sponsor's fee is the sponsor's, and a failure uses the charge up."""
    subject = tempo(Hands())
    own, other = charge(200), charge(201, sponsored=True)
    hashes = [subject.charge(own, fee_base=3), subject.charge(other, fee_base=4, sponsor=PAYEE)]
    again = subject.charge(own, fee_base=3)
    subject.mine()
    found = [await subject.receipt(tx_hash) for tx_hash in hashes]
    assert [receipt.status for receipt in found if receipt is not None] == [0, 0]
    fees = [tempo_fee_base(WALLET, MODERATO_PATHUSD.address, receipt.logs) for receipt in found if receipt is not None]
    assert fees == [3, 0]
    assert await subject.receipt(again) is None
    balances = [await subject.token_balance(MODERATO_PATHUSD, owner, subject.newest) for owner in (WALLET, PAYEE)]
    assert balances == [97, 96]
    assert await subject.payment_logs(MODERATO_PATHUSD, [WALLET], 0, 1) == ()


@pytest.mark.parametrize(("due", "fee_base"), [(charge(valid_before=START_S + 1), 1), (charge(), 101)])
async def test_a_tempo_charge_that_no_block_may_hold_leaves_nothing(due: TempoCharge, fee_base: int) -> None:
    """Past its window, or without the money for its fee, it is not even a failure."""
    subject = tempo(Hands())
    tx_hash = subject.charge(due, fee_base=fee_base)
    subject.mine()
    assert await subject.receipt(tx_hash) is None
    assert await subject.token_balance(MODERATO_PATHUSD, WALLET, subject.newest) == 100
