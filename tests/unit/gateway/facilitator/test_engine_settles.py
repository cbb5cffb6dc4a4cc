"""The engine on a real chain: each payment is collected once, alone or with others, and everybody hears the same of it."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from engine_bed import Bed, bed, collect, many, random_payee

from contracts.codec import checksum
from contracts.signature import sign_digest
from gateway.core.paid import RelayState, SettlementState
from sandbox.chain import LocalBase


async def test_one_payment_fifty_times_at_once_is_one_transfer(automine_base: LocalBase, tmp_path: Path) -> None:
    """The same authorization, fifty times at once: one transfer, fifty equal answers; later too, and after a restart."""
    async with bed(automine_base, tmp_path) as it:
        (payer,) = many(1)
        it.fund([payer])
        exact = payer.pays()
        answers = await it.settle_all([exact] * 50)
        assert answers[0].success
        assert set(answers) == {answers[0]}
        assert await it.settle(exact) == answers[0]
        await it.close()
        await it.open()
        assert await it.settle(exact) == answers[0]
        assert (it.received(), it.count(it.addresses()[0])) == (1_000, 1)


async def test_two_hundred_at_once_share_transactions_and_none_is_lost(local_base: LocalBase, tmp_path: Path) -> None:
    """Two hundred and fifty distinct payments at once go in few transactions and blocks, all of them."""
    async with bed(local_base, tmp_path) as it:
        payers = many(250)
        it.fund(payers)
        answers = await it.settle_all([payer.pays() for payer in payers])
        assert [answer.reason for answer in answers if not answer.success] == []
        assert it.received() == 250 * 1_000
        assert it.count(it.addresses()[0]) <= 6
        blocks = {it.store.view.settlements[a.settlement_id or ""].block_number for a in answers}
        assert len(blocks) <= 2


async def test_without_the_batch_contract_each_goes_alone(local_base: LocalBase, tmp_path: Path) -> None:
    """Where no code stands at the batch's address, every authorization has a transaction of its own, over both lanes."""
    async with bed(local_base, tmp_path, batched=False, relayers=2, in_flight_max=40) as it:
        payers = many(60)
        it.fund(payers)
        answers = await it.settle_all([payer.pays() for payer in payers])
        assert all(answer.success for answer in answers)
        assert len({answer.tx_hash for answer in answers}) == 60
        counts = [it.count(address) for address in it.addresses()]
        assert sum(counts) == 60
        assert min(counts) > 10


async def test_a_bad_neighbour_fails_alone_and_burns_no_gas(local_base: LocalBase, tmp_path: Path) -> None:
    """Of many at once those that the token would refuse are refused, each with its reason; the others are collected."""
    async with bed(local_base, tmp_path) as it:
        payers = many(20)
        it.fund(payers[:16])
        good = [payer.pays() for payer in payers[:15]]
        poor = [payer.pays() for payer in payers[16:18]]
        forged = replace(payers[15].pays(), signature=sign_digest(payers[14]._key, b"\x01" * 32))
        late = payers[15].pays(window_s=-5)
        early = payers[15].pays(valid_after=2**33, valid_before=2**34)
        answers = await it.settle_all([*good, *poor, forged, late, early])
        assert all(answer.success for answer in answers[:15])
        assert [answer.reason for answer in answers[15:]] == [
            *["invalid_exact_evm_insufficient_balance"] * 2,
            "invalid_exact_evm_payload_signature",
            "invalid_exact_evm_payload_authorization_valid_before",
            "invalid_exact_evm_payload_authorization_valid_after",
        ]
        receipts = [local_base.receipt("0x" + (answer.tx_hash or b"").hex()) for answer in answers[:15]]
        assert it.received() == 15 * 1_000
        assert all(len(receipt["logs"]) % 2 == 0 for receipt in receipts)
        sent = [settlement for settlement in it.store.view.settlements.values() if settlement.relay_id]
        assert len(sent) == 15


async def test_a_payer_cannot_have_two_payments_sent_with_the_money_for_one(
    local_base: LocalBase, tmp_path: Path
) -> None:
    """What is on its way is counted: the second is not sent while the first may land, and refused once it has."""
    async with bed(local_base, tmp_path) as it:
        (payer,) = many(1)
        it.fund([payer], 1_500)
        first = asyncio.create_task(it.settle(payer.pays()))
        await it.until(lambda: it.store.view.relays)
        second = await it.settle(payer.pays())
        assert (await first).success
        assert second.reason == "invalid_exact_evm_insufficient_balance"
        assert it.count(it.addresses()[0]) == 1


async def test_another_payload_with_the_same_nonce_is_no_repeat(automine_base: LocalBase, tmp_path: Path) -> None:
    """The same nonce with other terms, or another signature, is refused, and the first keeps its answer."""
    async with bed(automine_base, tmp_path) as it:
        (payer,) = many(1)
        it.fund([payer])
        exact = payer.pays()
        first = await it.settle(exact)
        other = payer.pays(2_000, nonce=exact.authorization.nonce)
        assert (await it.settle(other)).reason == "duplicate_settlement"
        assert await it.settle(exact) == first
        assert it.received() == 1_000


async def test_what_failed_before_it_was_sent_may_be_tried_again(automine_base: LocalBase, tmp_path: Path) -> None:
    """A payer without money gets it, and the same payment is collected, under the next fence; after a restart too."""
    async with bed(automine_base, tmp_path) as it:
        (payer,) = many(1)
        exact = payer.pays()
        assert (await it.settle(exact)).reason == "invalid_exact_evm_insufficient_balance"
        await it.close()
        await it.open()
        assert (await it.settle(exact)).reason == "invalid_exact_evm_insufficient_balance"
        it.fund([payer])
        assert (await it.settle(exact)).success
        assert it.engine.find(exact.authorization.key).fence == 3
        assert it.received() == 1_000


async def test_a_payment_used_before_it_was_brought_to_us_is_not_paid_again(
    automine_base: LocalBase, tmp_path: Path
) -> None:
    """An authorization that was used long ago bought something then: it is refused, for good, and nothing is sent."""
    async with bed(automine_base, tmp_path) as it:
        (payer,) = many(1)
        it.fund([payer])
        exact = payer.pays()
        collect(automine_base, exact)
        it.clock.ahead_ms = 17_000
        answer = await it.settle(exact)
        assert (answer.success, answer.reason) == (False, "invalid_exact_evm_nonce_already_used")
        assert it.count(it.addresses()[0]) == 0
        assert await it.settle(exact) == answer


async def test_our_clock_may_be_some_seconds_ahead_of_the_chains(automine_base: LocalBase, tmp_path: Path) -> None:
    """Collected by another transaction right after the claim, by a block whose clock says before it: it was paid."""
    async with bed(automine_base, tmp_path) as it:
        (payer,) = many(1)
        it.fund([payer])
        exact = payer.pays()
        theirs = collect(automine_base, exact)
        it.clock.ahead_ms = 8_000
        answer = await it.settle(exact)
        assert (answer.success, answer.tx_hash) == (True, theirs)
        assert it.count(it.addresses()[0]) == 0


async def test_a_contract_wallet_settles_alone(automine_base: LocalBase, tmp_path: Path) -> None:
    """A contract's payment goes through the token's bytes overload, in a transaction of its own."""
    async with bed(automine_base, tmp_path) as it:
        owner, *others = many(6)
        wallet = random_payee()
        automine_base.place_contract_wallet(checksum(wallet), checksum(owner.address))
        it.fund(others)
        automine_base.mint(checksum(wallet), 5_000)
        template = owner.pays()
        auth = replace(template.authorization, authorizer=wallet)
        exact = replace(template, authorization=auth, signature=sign_digest(owner._key, auth.digest))
        answers = await it.settle_all([exact, *(other.pays() for other in others)])
        assert all(answer.success for answer in answers)
        assert answers[0].tx_hash not in {answer.tx_hash for answer in answers[1:]}
        assert (
            it.store.view.relays[it.store.view.settlements[answers[0].settlement_id or ""].relay_id or ""].purpose
            == "single"
        )


async def test_final_blocks_close_settlements_and_book_the_fee(local_base: LocalBase, tmp_path: Path) -> None:
    """Once a quorum holds the block final, settlement and transaction are over and the relayer's gas is booked."""
    async with bed(local_base, tmp_path) as it:
        (payer,) = many(1)
        it.fund([payer])
        answer = await it.settle(payer.pays())
        it.sweep_always()
        await it.until(lambda: not it.store.view.settlements)
        await it.until(lambda: not it.store.view.relays)
        kept = await it.store.settlement(answer.settlement_id or "")
        assert kept is not None
        relay = await it.store.relay(kept.relay_id or "")
        assert relay is not None
        assert (kept.state, relay.state) == (SettlementState.FINAL, RelayState.FINAL)
        receipt = local_base.receipt("0x" + (answer.tx_hash or b"").hex())
        assert relay.fee_wei == int(receipt["gasUsed"], 16) * int(receipt["effectiveGasPrice"], 16)
        assert await it.store.contradiction() is None


async def made(it: Bed, table: str, count: int) -> None:
    """Wait until so many are written down."""
    async with asyncio.timeout(40):
        while len(await it.store.query(f"SELECT id FROM {table}")) < count:  # noqa: ASYNC110 - a store tells nobody
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("latency_s", [0.0, 6.0])
async def test_patience_gathers_company(local_base: LocalBase, tmp_path: Path, latency_s: float) -> None:
    """With an age for batches, payments that come one after the other share a transaction; without, they do not wait."""
    async with bed(local_base, tmp_path, batch_age_s=latency_s) as it:
        payers = many(4)
        it.fund(payers)
        tasks = []
        for count, payer in enumerate(payers, 1):
            tasks.append(asyncio.create_task(it.settle(payer.pays())))
            await made(it, "settlements" if latency_s else "relays", count)
        answers = await asyncio.gather(*tasks)
        assert all(answer.success for answer in answers)
        assert it.count(it.addresses()[0]) == (1 if latency_s else 4)
