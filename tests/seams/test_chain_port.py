"""The Chain port on both implementations: in memory, and by quorum over a real anvil (P5, P6, P14)."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING

import pytest
from chain_beds import FUNDS_BASE, PAYEE, Bed, ScriptedBed, anvil_bed, authorization

from contracts.logs import AuthorizationUsed, decode_authorization_canceled, decode_authorization_used
from contracts.proof import Settled, prove_cancelled, prove_settlement, prove_unused
from contracts.tokens import BASE_USDC
from gateway.ports import Block, ChainDisagreement, ChainUnavailable

if TYPE_CHECKING:
    from sandbox.chain import LocalBase

NONCE, OTHER = b"\x0a" * 32, b"\x0b" * 32

EVIDENCE: dict[str, Callable[[Bed, Block], Awaitable[object]]] = {
    "final": lambda bed, at: bed.chain.final(),
    "block": lambda bed, at: bed.chain.block(at.number),
    "payment_logs": lambda bed, at: bed.chain.payment_logs(BASE_USDC, bed.wallets, 0, at.number),
    "authorization_used": lambda bed, at: bed.chain.authorization_used(BASE_USDC, bed.wallets[0], NONCE, at),
    "token_balance": lambda bed, at: bed.chain.token_balance(BASE_USDC, bed.wallets[0], at),
}


@pytest.fixture(params=["scripted", "anvil"])
async def bed(request: pytest.FixtureRequest) -> AsyncIterator[Bed]:
    """Each implementation in turn."""
    if request.param == "scripted":
        yield ScriptedBed()
        return
    base: LocalBase = request.getfixturevalue("automine_base")
    async with anvil_bed(base) as anvil:
        yield anvil


async def _logs(bed: Bed, to_block: int) -> list[object]:
    logs = await bed.chain.payment_logs(BASE_USDC, bed.wallets, 0, to_block)
    return [decode_authorization_used(log) or decode_authorization_canceled(log) for log in logs]


async def test_a_settlement_is_evidence_only_once_its_block_is_final(bed: Bed) -> None:
    """Before finality the final range holds no log; after it, the log and its receipt prove exactly these terms."""
    terms = authorization(bed, NONCE)
    tx_hash = bed.settle(terms)
    assert await _logs(bed, (await bed.chain.final()).number) == []
    bed.mine(2)
    final = await bed.chain.final()
    (used,) = await bed.chain.payment_logs(BASE_USDC, bed.wallets, 0, final.number)
    receipt = await bed.chain.receipt(tx_hash)
    assert receipt is not None
    proof = prove_settlement(terms, used, receipt.logs, receipt.status)
    assert proof == Settled(terms)
    assert (used.tx_hash, receipt.block.hash) == (tx_hash, used.block_hash)
    assert len(bed.chain.witnesses) == 2


async def test_a_sighting_comes_before_finality(bed: Bed) -> None:
    """The newest blocks show the settlement at once, for display."""
    tx_hash = bed.settle(authorization(bed, NONCE))
    (seen,) = await bed.chain.sightings(BASE_USDC, bed.wallets, 0)
    assert seen.tx_hash == tx_hash
    assert await bed.chain.sightings(BASE_USDC, [], 0) == ()
    assert await bed.chain.sightings(BASE_USDC, bed.wallets, seen.block_number + 1) == ()


async def test_a_settlement_lost_in_a_reorg_leaves_no_evidence(bed: Bed) -> None:
    """After the fork is gone there is no log, no receipt and no used nonce, and the final block past the window kills it."""
    terms = authorization(bed, NONCE)
    tx_hash = bed.settle(terms)
    assert len(await bed.chain.sightings(BASE_USDC, bed.wallets, 0)) == 1
    bed.reorg(1)
    bed.mine(3)
    final = await bed.chain.final()
    assert await _logs(bed, final.number) == []
    assert await bed.chain.receipt(tx_hash) is None
    used = await bed.chain.authorization_used(BASE_USDC, terms.authorizer, NONCE, final)
    assert not used
    assert prove_unused(final.time_s, final.time_s, used)
    assert await bed.chain.token_balance(BASE_USDC, PAYEE, final) == 0


async def test_cancelled_and_used_are_told_apart_by_logs_only(bed: Bed) -> None:
    """The state is true for both; the logs, in order, say which is which."""
    bed.cancel(bed.wallets[0], OTHER)
    bed.settle(authorization(bed, NONCE))
    bed.mine(2)
    final = await bed.chain.final()
    for nonce in (NONCE, OTHER):
        assert await bed.chain.authorization_used(BASE_USDC, bed.wallets[0], nonce, final)
    cancelled, used = await bed.chain.payment_logs(BASE_USDC, bed.wallets, 0, final.number)
    assert prove_cancelled(BASE_USDC.address, bed.wallets[0], OTHER, cancelled)
    assert not prove_cancelled(BASE_USDC.address, bed.wallets[0], NONCE, used)
    assert decode_authorization_used(used) == AuthorizationUsed(bed.wallets[0], NONCE)


async def test_state_and_balances_are_those_of_exactly_the_block_asked_for(bed: Bed) -> None:
    """The block before a settlement still has the nonce unused and the money in the wallet."""
    before = await bed.chain.head()
    bed.settle(authorization(bed, NONCE, value_base=7))
    after = await bed.chain.head()
    wallet = bed.wallets[0]
    states = [await bed.chain.authorization_used(BASE_USDC, wallet, NONCE, at) for at in (before, after)]
    assert states == [False, True]
    assert await bed.chain.token_balance(BASE_USDC, wallet, before) == FUNDS_BASE
    assert await bed.chain.token_balance(BASE_USDC, wallet, after) == FUNDS_BASE - 7
    assert await bed.chain.token_balance(BASE_USDC, PAYEE, after) == 7


async def test_only_the_wallets_and_blocks_asked_for_are_answered(bed: Bed) -> None:
    """Logs of other wallets and of blocks outside the range do not appear; no wallets is no logs, not everybody's."""
    bed.settle(authorization(bed, NONCE, wallet=0))
    first = await bed.chain.head()
    bed.settle(authorization(bed, OTHER, wallet=1))
    head = await bed.chain.head()
    one = await bed.chain.payment_logs(BASE_USDC, bed.wallets[1:], 0, head.number)
    assert [decode_authorization_used(log) for log in one] == [AuthorizationUsed(bed.wallets[1], OTHER)]
    assert await _logs(bed, first.number) == [AuthorizationUsed(bed.wallets[0], NONCE)]
    assert await bed.chain.payment_logs(BASE_USDC, [], 0, head.number) == ()
    assert await bed.chain.payment_logs(BASE_USDC, bed.wallets, head.number + 1, head.number) == ()


async def test_a_failed_transaction_has_a_receipt_and_no_logs(bed: Bed) -> None:
    """An authorization submitted after its window costs gas and moves nothing."""
    tx_hash = bed.settle(authorization(bed, NONCE, window_s=-60))
    receipt = await bed.chain.receipt(tx_hash)
    assert receipt is not None
    assert (receipt.status, receipt.logs) == (0, ())
    assert await _logs(bed, receipt.block.number) == []


async def test_the_second_collection_of_one_nonce_fails(bed: Bed) -> None:
    """The chain itself makes a second collection impossible (P4)."""
    terms = authorization(bed, NONCE)
    outcomes = [await bed.chain.receipt(bed.settle(terms)) for _ in range(2)]
    assert [receipt.status for receipt in outcomes if receipt] == [1, 0]


async def test_finality_moves_forward_with_the_chain(bed: Bed) -> None:
    """The final block is behind the head and grows with it."""
    finals: list[Block] = []
    for _ in range(3):
        finals.append(await bed.chain.final())
        assert finals[-1].number < (await bed.chain.head()).number
        bed.mine()
    assert [block.number - finals[0].number for block in finals] == [0, 1, 2]


async def test_a_final_block_that_changes_is_a_disagreement(bed: Bed) -> None:
    """Evidence may rest on the old block, so nothing is decided until a human has looked."""
    await bed.chain.final()
    bed.reorg(5)
    with pytest.raises(ChainDisagreement, match="final block"):
        await bed.chain.final()


async def test_a_block_is_that_of_its_height(bed: Bed) -> None:
    """An older final block is answered with its own hash and time; one that nobody has is unknown."""
    final = await bed.chain.final()
    bed.mine(3)
    assert await bed.chain.block(final.number) == final
    older = await bed.chain.block(final.number - 1)
    assert older.number == final.number - 1
    assert older.time_s <= final.time_s
    with pytest.raises(ChainUnavailable):
        await bed.chain.block(final.number + 50)


async def test_a_final_block_that_changed_is_no_answer(bed: Bed) -> None:
    """A cursor must not rest on a block that was final with another hash."""
    final = await bed.chain.final()
    bed.reorg(5)
    with pytest.raises(ChainDisagreement, match="final block"):
        await bed.chain.block(final.number)


async def test_a_block_that_nobody_has_is_unknown(bed: Bed) -> None:
    """A block of the future, or of another fork, is never answered with nothing, unused or zero."""
    head = await bed.chain.head()
    ahead = Block(head.number + 50, b"\x77" * 32, head.time_s)
    for block in (ahead, Block(head.number, b"\x77" * 32, head.time_s)):
        with pytest.raises(ChainUnavailable):
            await bed.chain.authorization_used(BASE_USDC, bed.wallets[0], NONCE, block)
        with pytest.raises(ChainUnavailable):
            await bed.chain.token_balance(BASE_USDC, bed.wallets[0], block)
    with pytest.raises(ChainUnavailable):
        await bed.chain.payment_logs(BASE_USDC, bed.wallets, 0, ahead.number)
    assert await bed.chain.receipt(b"\x77" * 32) is None


@pytest.mark.parametrize("question", EVIDENCE)
async def test_without_endpoints_everything_is_unknown(bed: Bed, question: str) -> None:
    """Silence is ChainUnavailable on every question of evidence."""
    at = await bed.chain.head()
    bed.break_down()
    with pytest.raises(ChainUnavailable):
        await EVIDENCE[question](bed, at)


@pytest.mark.parametrize("question", EVIDENCE)
async def test_contradicting_endpoints_are_a_disagreement(bed: Bed, question: str) -> None:
    """One lie makes the answer unknown, and names the question and both endpoints."""
    at = await bed.chain.head()
    bed.contradict()
    with pytest.raises(ChainDisagreement) as caught:
        await EVIDENCE[question](bed, at)
    assert len(caught.value.answers) == 2
