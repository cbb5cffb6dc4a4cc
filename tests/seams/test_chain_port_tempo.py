"""The Chain port for TIP-20 tokens on both implementations: in memory, and by quorum over a real local Tempo (P5 to P7)."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace

import pytest
from tempo_beds import FUNDS_BASE, PAYEE, TOKEN, Bed, RealTempo, ScriptedTempo, charge, tempo_bed

from contracts.codec import Address, parse_address
from contracts.logs import Log, TransferWithMemo, decode_transfer_with_memo
from contracts.tempo import TempoCharge, TempoTransfer
from contracts.tempo_proof import TempoSettled, prove_tempo_charge, tempo_fee_base
from contracts.tokens import MODERATO_PATHUSD
from gateway.chains.startup import TokenMismatch, verify_tokens
from gateway.ports import Block, ChainDisagreement, ChainUnavailable, Receipt
from sandbox.tempo.chain import LocalTempo

SPLIT = Address(b"\x52" * 20)
UNKNOWN = b"\x77" * 32


@pytest.fixture(scope="module")
def local_tempo() -> Iterator[LocalTempo]:
    """One chain for this file."""
    with LocalTempo.start() as chain:
        yield chain


@pytest.fixture
async def real(local_tempo: LocalTempo) -> AsyncIterator[RealTempo]:
    """The real one."""
    async with tempo_bed(local_tempo) as bed:
        yield bed


@pytest.fixture(params=["scripted", "tempo"])
def bed(request: pytest.FixtureRequest) -> Bed:
    """Each implementation in turn."""
    if request.param == "scripted":
        return ScriptedTempo()
    found: Bed = request.getfixturevalue("real")
    return found


async def _proven(bed: Bed, due: TempoCharge, tx_hash: bytes) -> tuple[TempoSettled, Block]:
    final = await bed.settled(tx_hash)
    logs = await bed.chain.payment_logs(TOKEN, [bed.wallet], 0, final.number, due.memo)
    receipt = await bed.chain.receipt(tx_hash, final)
    assert receipt is not None
    assert [log.tx_hash for log in logs] == [tx_hash]
    proof = prove_tempo_charge(due.terms, logs[0], receipt.logs, receipt.status)
    assert isinstance(proof, TempoSettled), proof
    return proof, await bed.chain.block(logs[0].block_number)


async def test_a_charge_is_found_by_memo_and_proven_by_its_receipt(bed: Bed) -> None:
    """Payee, splits and fee are in the receipt under the hash that was known, and the balance says the same."""
    due = charge(bed, TempoTransfer(SPLIT, 5), TempoTransfer(PAYEE, 7, b"\x0d" * 32))
    before = await bed.chain.final()
    tx_hash = bed.take(due)
    assert tx_hash == bed.known_hash(due)
    proof, at = await _proven(bed, due, tx_hash)
    assert 0 < proof.fee_base <= due.max_fee_base
    assert await bed.chain.token_balance(TOKEN, bed.wallet, before) == FUNDS_BASE
    assert await bed.chain.token_balance(TOKEN, bed.wallet, at) == FUNDS_BASE - due.amount_base - proof.fee_base
    assert len(bed.chain.witnesses) == 2


async def test_a_sponsored_charge_costs_the_wallet_no_fee(bed: Bed) -> None:
    """It is found by its memo alone, under a hash of the sponsor's making."""
    due = charge(bed, sponsored=True)
    proof, _ = await _proven(bed, due, bed.take(due))
    assert proof.fee_base == 0
    final = await bed.chain.final()
    assert await bed.chain.token_balance(TOKEN, bed.wallet, final) == FUNDS_BASE - due.amount_base


async def test_p7_a_failed_charge_has_a_receipt_with_its_fee_and_no_memo(bed: Bed) -> None:
    """P7: beyond the balance; what the wallet lost is what the receipt says, and it is never taken again."""
    due = charge(bed, value_base=FUNDS_BASE + 1)
    tx_hash = bed.take(due)
    final = await bed.settled(tx_hash)
    receipt = await bed.chain.receipt(tx_hash, final)
    assert receipt is not None
    assert (receipt.tx_hash, receipt.status) == (bed.known_hash(due), 0)
    fee_base = tempo_fee_base(bed.wallet, TOKEN.address, receipt.logs)
    assert 0 < fee_base <= due.max_fee_base
    assert await bed.chain.payment_logs(TOKEN, [bed.wallet], 0, final.number, due.memo) == ()
    assert await bed.chain.token_balance(TOKEN, bed.wallet, final) == FUNDS_BASE - fee_base


async def test_a_charge_that_nobody_took_is_in_no_block(bed: Bed) -> None:
    """No log of its memo and no receipt, as of a final block."""
    due = charge(bed)
    final = await bed.chain.final()
    assert await bed.chain.payment_logs(TOKEN, [bed.wallet], 0, final.number, due.memo) == ()
    assert await bed.chain.receipt(bed.known_hash(due), final) is None


async def test_a_sighting_of_a_charge(bed: Bed) -> None:
    """The newest blocks show it, to this wallet's reader only."""
    tx_hash = bed.take(charge(bed))
    (seen,) = await bed.chain.sightings(TOKEN, [bed.wallet], 0)
    assert seen.tx_hash == tx_hash
    assert await bed.chain.sightings(TOKEN, [SPLIT], 0) == ()


async def test_one_memo_is_told_from_the_others(bed: Bed) -> None:
    """Without a memo all of the wallet's come, in order; with one, its own; what the wallet received is not among them."""
    first, second = charge(bed), charge(bed)
    hashes = [bed.take(due) for due in (first, second)]
    final = await bed.settled(hashes[-1])
    found = await bed.chain.payment_logs(TOKEN, [bed.wallet], 0, final.number)
    assert [log.tx_hash for log in found] == hashes
    (only,) = await bed.chain.payment_logs(TOKEN, [bed.wallet], 0, final.number, second.memo)
    assert only == found[1]
    assert await bed.chain.payment_logs(TOKEN, [PAYEE], 0, final.number, second.memo) == ()
    assert await bed.chain.payment_logs(TOKEN, [], 0, final.number, second.memo) == ()
    assert await bed.chain.payment_logs(TOKEN, [bed.wallet], only.block_number + 1, final.number) == ()


async def test_anybody_can_write_a_memo_into_our_logs_with_nothing(bed: Bed) -> None:
    """The chain lets a stranger move zero out of any account: the log is there, and only its value tells."""
    due = charge(bed)
    bed.note(bed.wallet, due.memo)
    final = await bed.chain.final()
    (forged,) = await bed.chain.payment_logs(TOKEN, [bed.wallet], 0, final.number, due.memo)
    assert decode_transfer_with_memo(forged) == TransferWithMemo(bed.wallet, PAYEE, 0, due.memo)
    assert await bed.chain.token_balance(TOKEN, bed.wallet, final) == FUNDS_BASE


async def test_a_receipt_as_of_a_block_that_nobody_has_is_unknown(bed: Bed) -> None:
    """Else a node that has not got there would make "none" of what it has not seen."""
    tx_hash = bed.take(charge(bed))
    final = await bed.settled(tx_hash)
    ahead = Block(final.number + 1_000, UNKNOWN, final.time_s)
    for at in (ahead, replace(final, hash=UNKNOWN)):
        for asked in (tx_hash, UNKNOWN):
            with pytest.raises(ChainUnavailable):
                await bed.chain.receipt(asked, at)


Question = Callable[[Bed, Block, bytes], Awaitable[Receipt | tuple[Log, ...] | None]]
EVIDENCE: dict[str, Question] = {
    "payment_logs": lambda bed, at, _: bed.chain.payment_logs(TOKEN, [bed.wallet], 0, at.number),
    "receipt": lambda bed, at, tx_hash: bed.chain.receipt(tx_hash, at),
}


@pytest.mark.parametrize("question", EVIDENCE)
async def test_without_agreement_a_charge_is_unknown(bed: Bed, question: str) -> None:
    """Silence is unavailable, a lie is a disagreement; neither is "no such payment"."""
    tx_hash = bed.take(charge(bed))
    final = await bed.settled(tx_hash)
    bed.contradict()
    with pytest.raises((ChainDisagreement, ChainUnavailable)):
        await EVIDENCE[question](bed, final, tx_hash)
    bed.break_down()
    with pytest.raises((ChainDisagreement, ChainUnavailable)):
        await EVIDENCE[question](bed, final, tx_hash)


async def test_p14_an_endpoint_that_lags_does_not_call_a_charge_unused(real: RealTempo) -> None:
    """P14: two endpoints that are both behind know no receipt; that is no proof that there is none."""
    tx_hash = real.take(charge(real))
    final = await real.settled(tx_hash)
    for node in real.nodes:
        node.lag = 30
    assert await real.chain.receipt(tx_hash) is None
    with pytest.raises(ChainUnavailable, match="has no block"):
        await real.chain.receipt(tx_hash, final)
    with pytest.raises(ChainUnavailable, match="has no block"):
        await real.chain.payment_logs(TOKEN, [real.wallet], 0, final.number)


async def test_configured_tip20_tokens_are_checked_against_their_contract(real: RealTempo) -> None:
    """Six decimals and dollars pass without a signing domain; no code and another currency are named."""
    await verify_tokens(real.chain, [MODERATO_PATHUSD])
    nowhere = replace(MODERATO_PATHUSD, address=parse_address("0x20c00000000000000000000000000000000000ff"))
    with pytest.raises(TokenMismatch, match=r"token pathUSD .* code: ") as caught:
        await verify_tokens(real.chain, [nowhere])
    assert caught.value.field == "code"
    euro = "0x" + (32).to_bytes(32, "big").hex() + (3).to_bytes(32, "big").hex() + b"EUR".ljust(32, b"\0").hex()
    for selector, (field, answer) in {
        "0x313ce567": ("decimals", "0x" + (18).to_bytes(32, "big").hex()),
        "0xe5a6b10f": ("currency", euro),
    }.items():
        for node in real.nodes:
            node.rewrite = lambda method, params, found, selector=selector, answer=answer: (
                answer if method == "eth_call" and params[0]["data"] == selector else found
            )
        with pytest.raises(TokenMismatch, match=field):
            await verify_tokens(real.chain, [MODERATO_PATHUSD])
