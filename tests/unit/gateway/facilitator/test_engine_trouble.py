"""The engine when the chain is slow, dear, reorganised or used by others: nothing is lost, nothing is collected twice."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from engine_bed import CHAIN, ETHER, GWEI, PAYEE, RULES, Randomness, bed, collect, many, random_payee

from contracts import batch
from contracts.codec import checksum, to_hex
from gateway.chains.relay import RpcRelayChain
from gateway.chains.rpc import Limits, RpcEndpoint
from gateway.core.commands import OpenAccount
from gateway.core.paid import RelayState, SellerTerms, SettlementState
from gateway.core.paid_commands import PutSeller
from gateway.core.problems import Problem
from gateway.core.records import AgentAccount
from gateway.facilitator.engine import NotDeployed
from gateway.operator.registry import operate
from gateway.operator.services import Relaying, Services
from sandbox.chain import LocalBase


def hold(base: LocalBase) -> None:
    """Let the chain take transactions and make no blocks."""
    base.rpc("evm_setAutomine", False)


async def test_a_slow_chain_is_pending_with_the_hash_and_then_the_same_payment(
    automine_base: LocalBase, tmp_path: Path
) -> None:
    """No block in time is settlement_pending with the transaction's hash; asked again, the answer is that transaction."""
    async with bed(automine_base, tmp_path) as it:
        (payer,) = many(1)
        it.fund([payer])
        hold(automine_base)
        exact = payer.pays()
        asking = asyncio.create_task(it.settle(exact, 5.0))
        await it.in_pool()
        answer = await asking
        assert (answer.success, answer.reason) == (False, "settlement_pending")
        assert answer.tx_hash is not None
        automine_base.mine()
        again = await it.settle(exact)
        assert (again.success, again.tx_hash) == (True, answer.tx_hash)
        assert it.received() == 1_000


async def test_a_stuck_transaction_is_replaced_under_its_own_nonce(automine_base: LocalBase, tmp_path: Path) -> None:
    """When the base fee passes what was offered, the same nonce is signed again for more, and collected once."""
    async with bed(automine_base, tmp_path, replace_after_s=0.3) as it:
        payers = many(3)
        it.fund(payers)
        hold(automine_base)
        waiting = [asyncio.create_task(it.settle(payer.pays())) for payer in payers]
        relay = await it.in_pool()
        dear = 4 * relay.attempts[0].max_fee_wei
        automine_base.rpc("anvil_setNextBlockBaseFeePerGas", hex(dear))
        automine_base.mine()
        assert not any(task.done() for task in waiting)
        automine_base.rpc("anvil_setNextBlockBaseFeePerGas", hex(dear))
        it.sweep_always()
        await it.until(lambda: it.store.view.relays[relay.id].attempts[-1].max_fee_wei > dear)
        newest = it.store.view.relays[relay.id].attempts[-1]
        await it.until(lambda: automine_base.rpc("eth_getTransactionByHash", to_hex(newest.tx_hash)))
        automine_base.rpc("anvil_setNextBlockBaseFeePerGas", hex(dear))
        automine_base.mine()
        answers = await asyncio.gather(*waiting)
        kept = await it.store.relay(relay.id)
        assert kept is not None
        assert {answer.tx_hash for answer in answers} == {kept.mined_hash}
        assert kept.mined_hash != relay.attempts[0].tx_hash
        for older, newer in zip(kept.attempts, kept.attempts[1:], strict=False):
            assert newer.max_fee_wei * 8 >= older.max_fee_wei * 9
            assert newer.priority_fee_wei * 8 >= older.priority_fee_wei * 9
        assert (it.received(), it.count(it.addresses()[0])) == (3_000, 1)


async def test_nothing_is_sent_above_the_fee_cap(automine_base: LocalBase, tmp_path: Path) -> None:
    """While gas costs more than the operator pays, claims wait; what is pending without a hash was not sent."""
    async with bed(automine_base, tmp_path, fee_cap_wei=3 * GWEI) as it:
        (payer,) = many(1)
        it.fund([payer])
        automine_base.rpc("anvil_setNextBlockBaseFeePerGas", hex(20 * GWEI))
        automine_base.mine()
        exact = payer.pays()
        answer = await it.settle(exact, 0.5)
        assert (answer.reason, answer.tx_hash) == ("settlement_pending", None)
        automine_base.rpc("anvil_setNextBlockBaseFeePerGas", hex(GWEI))
        automine_base.mine()
        it.sweep_always()
        assert (await it.settle(exact)).success
        assert it.count(it.addresses()[0]) == 1


async def test_a_gap_is_filled_so_that_what_comes_after_it_is_mined(automine_base: LocalBase, tmp_path: Path) -> None:
    """A nonce that was given out and never used is used up by an empty transaction."""
    async with bed(automine_base, tmp_path) as it:
        payers = many(2)
        it.fund(payers)
        (lane,) = it.engine._works[CHAIN].lanes.lanes
        lane.given.discard(lane.allocate())
        waiting = asyncio.create_task(it.settle(payers[0].pays()))
        await it.until(lambda: it.store.view.relays)
        assert not waiting.done()
        it.sweep_always()
        assert (await waiting).success
        assert (await it.settle(payers[1].pays())).success
        assert any(b'"gap"' in record.body for record in await it.store.journal(0, 200))
        assert it.count(it.addresses()[0]) == 3


async def test_whoever_is_first_with_our_payment_has_settled_it(automine_base: LocalBase, tmp_path: Path) -> None:
    """A stranger submits what we are submitting: ours fails, and the answer is success with the stranger's transaction."""
    async with bed(automine_base, tmp_path) as it:
        payers = many(3)
        it.fund(payers)
        hold(automine_base)
        payments = [payer.pays() for payer in payers]
        waiting = [asyncio.create_task(it.settle(exact)) for exact in payments]
        relay = await it.in_pool()
        automine_base.rpc("anvil_dropTransaction", to_hex(relay.attempts[0].tx_hash))
        automine_base.rpc("evm_setAutomine", True)
        theirs = await asyncio.to_thread(collect, automine_base, payments[1])
        automine_base.rpc("eth_sendRawTransaction", to_hex(relay.attempts[0].raw))
        answers = await asyncio.gather(*waiting)
        assert [answer.success for answer in answers] == [True, True, True]
        assert [answer.tx_hash for answer in answers] == [relay.attempts[0].tx_hash, theirs, relay.attempts[0].tx_hash]
        assert it.received() == 3_000
        it.sweep_always()
        automine_base.mine(3)
        await it.until(lambda: not it.store.view.settlements and not it.store.view.relays)
        kept = await it.store.settlement_of(payments[1].authorization.key)
        assert kept is not None
        assert (kept.state, kept.tx_hash) == (SettlementState.FINAL, theirs)


async def test_what_the_token_refused_in_a_block_has_failed_for_good(automine_base: LocalBase, tmp_path: Path) -> None:
    """A payer who spends the money before our block costs us gas once: transaction_failed, for it alone, and for ever."""
    async with bed(automine_base, tmp_path) as it:
        payers = many(3)
        it.fund(payers)
        hold(automine_base)
        payments = [payer.pays() for payer in payers]
        waiting = [asyncio.create_task(it.settle(exact)) for exact in payments]
        relay = await it.in_pool()
        automine_base.rpc("anvil_dropTransaction", to_hex(relay.attempts[0].tx_hash))
        automine_base.rpc("evm_setAutomine", True)
        everything = replace(payers[1].pays(1_000_000, random_payee()))
        await asyncio.to_thread(collect, automine_base, everything)
        automine_base.rpc("eth_sendRawTransaction", to_hex(relay.attempts[0].raw))
        answers = await asyncio.gather(*waiting)
        assert [answer.reason for answer in answers] == ["", "transaction_failed", ""]
        it.fund([payers[1]])
        assert await it.settle(payments[1]) == answers[1]
        assert (it.received(), it.count(it.addresses()[0])) == (2_000, 1)
        assert (await it.settle(payers[1].pays())).success


async def test_a_block_that_is_gone_takes_its_settlements_back_and_they_are_mined_again(
    local_base: LocalBase, tmp_path: Path
) -> None:
    """After a reorganisation what was mined is sent again, the same bytes, and closes in the end, collected once."""
    async with bed(local_base, tmp_path) as it:
        payers = many(4)
        it.fund(payers)
        payments = [payer.pays() for payer in payers]
        first = await it.settle_all(payments)
        assert all(answer.success for answer in first)
        local_base.reorg(1)
        assert it.received() == 0
        it.sweep_always()
        await it.until(lambda: it.received() == 4_000)
        await it.until(lambda: not it.store.view.settlements and not it.store.view.relays)
        assert [(await it.settle(exact)).tx_hash for exact in payments] == [answer.tx_hash for answer in first]
        kinds = [record.kind for record in await it.store.journal(0, 500)]
        assert "settlement.reorged" in kinds


async def test_a_nonce_that_somebody_else_used_loses_the_transaction_and_not_the_payment(
    automine_base: LocalBase, tmp_path: Path
) -> None:
    """The relayer's key was used elsewhere: the payment goes in another transaction, and the lost one is closed as lost."""
    async with bed(automine_base, tmp_path) as it:
        (payer,) = many(1)
        it.fund([payer])
        hold(automine_base)
        waiting = asyncio.create_task(it.settle(payer.pays()))
        relay = await it.in_pool()
        automine_base.rpc("anvil_dropTransaction", to_hex(relay.attempts[0].tx_hash))
        automine_base.rpc("evm_setAutomine", True)
        own = checksum(it.addresses()[0])
        automine_base.rpc("eth_sendTransaction", {"from": own, "to": own, "value": "0x0", "gas": hex(21_000)})
        automine_base.mine(3)
        it.sweep_always()
        await asyncio.sleep(0.3)
        automine_base.mine(4)
        answer = await waiting
        assert answer.success
        assert answer.tx_hash != relay.attempts[0].tx_hash
        automine_base.mine(4)
        await it.until(lambda: relay.id not in it.store.view.relays)
        kept = await it.store.relay(relay.id)
        assert kept is not None
        assert kept.state is RelayState.LOST
        assert it.received() == 1_000


async def test_a_poor_relayer_is_not_used_and_a_human_is_asked(automine_base: LocalBase, tmp_path: Path) -> None:
    """A lane below its floor stays empty, the others carry everything, and a task names the relayer."""
    async with bed(automine_base, tmp_path, relayers=2) as it:
        payers = many(3)
        it.fund(payers)
        automine_base.rpc("anvil_setBalance", checksum(it.addresses()[0]), hex(ETHER // 2000))
        await it.engine.sweep()
        for payer in payers:
            assert (await it.settle(payer.pays())).success
        assert [it.count(address) for address in it.addresses()] == [0, 3]
        assert any(b"relayer_low" in record.body for record in await it.store.journal(0, 200))


async def test_an_endpoint_that_does_not_answer_loses_nothing(automine_base: LocalBase, tmp_path: Path) -> None:
    """A dead endpoint beside a good one is passed over; where all are dead, the claim waits and goes when one is back."""
    async with bed(automine_base, tmp_path) as it:
        payers = many(2)
        it.fund(payers)
        dead = RpcEndpoint("http://127.0.0.1:9", Limits(attempts=1, connect_s=0.2, attempt_s=0.2, call_s=0.3))
        await it.close()
        await it.open(relay=RpcRelayChain([dead, it.endpoint], CHAIN))
        assert (await it.settle(payers[0].pays())).success
        assert it.received() == 1_000
        await dead.close()


async def test_a_seller_settles_for_its_payees_and_within_its_gas_budget(
    automine_base: LocalBase, tmp_path: Path
) -> None:
    """A seller without terms, for another payee, or beyond its budget is refused before anything is claimed."""
    async with bed(automine_base, tmp_path) as it:
        payers = many(3)
        it.fund(payers)
        now_ms = it.clock.now_ms()
        await it.store.post(OpenAccount(AgentAccount("acc_seller", "seller", now_ms)))
        exact = payers[0].pays()
        assert (await it.settle(exact, account_id="acc_seller")).reason == "invalid_payment_requirements"
        terms = SellerTerms("acc_seller", 0, 3_600, 0.0, (bytes(PAYEE),), now_ms)
        await it.store.post(PutSeller(terms, "test", now_ms))
        stranger = payers[0].pays(pay_to=random_payee())
        assert (await it.settle(stranger, account_id="acc_seller")).reason == "invalid_payment_requirements"
        assert not it.store.view.settlements
        hold(automine_base)
        waiting = asyncio.create_task(it.settle(exact, account_id="acc_seller"))
        relay = await it.in_pool()
        automine_base.rpc("anvil_dropTransaction", to_hex(relay.attempts[0].tx_hash))
        automine_base.rpc("evm_setAutomine", True)
        await asyncio.to_thread(collect, automine_base, payers[0].pays(1_000_000, random_payee()))
        automine_base.rpc("eth_sendRawTransaction", to_hex(relay.attempts[0].raw))
        assert (await waiting).reason == "transaction_failed"
        await asyncio.sleep(1.1)
        refused = await it.settle(payers[1].pays(), account_id="acc_seller")
        assert (refused.success, refused.settlement_id) == (False, None)
        assert "gas budget" in refused.message


async def test_the_batch_contract_is_deployed_by_a_relayer_once(automine_base: LocalBase, tmp_path: Path) -> None:
    """`deploy` puts the code at its address and says by which transaction; a second time there is nothing to do."""
    async with bed(automine_base, tmp_path, batched=False) as it:
        tx_hash = await it.engine.deploy(CHAIN)
        assert tx_hash is not None
        code = automine_base.rpc("eth_getCode", checksum(batch.batch_address()), "latest")
        assert code == to_hex(batch.runtime_code())
        await asyncio.sleep(0)
        assert it.store.view.relays
        assert {relay.purpose for relay in it.store.view.relays.values()} == {"deploy"}
        await it.close()
        it.relay = RpcRelayChain([it.endpoint], CHAIN)
        await it.open()
        assert await it.engine.deploy(CHAIN) is None
        assert RULES.batch_size == 100


async def test_what_keeps_the_batch_contract_from_being_deployed_is_said_with_figures(
    automine_base: LocalBase, tmp_path: Path
) -> None:
    """Which relayer cannot send and why, or what gas costs; each with what an operator, and no agent, does about it."""
    async with bed(automine_base, tmp_path, batched=False, fee_cap_wei=3 * GWEI, in_flight_max=1) as it:
        relayer = it.addresses()[0]

        async def said() -> tuple[str, str]:
            relaying = Relaying([("one", CHAIN, relayer)], {CHAIN: it.relay}, it.engine, batch.batch_address())
            services = Services(it.store, it.clock, Randomness(), {}, frozenset(), relaying=relaying)
            with pytest.raises(Problem) as refused:
                await operate(services, "batches_deploy", {"chain_id": CHAIN}, "test")
            document = refused.value.document()
            assert (document["title"], document["status"]) == ("The batch contract was not put up", 503)
            return document["detail"], document["remedy"]

        automine_base.rpc("anvil_setNextBlockBaseFeePerGas", hex(20 * GWEI))
        automine_base.mine()
        dear, remedy = await said()
        assert f"chain {CHAIN} asks " in dear
        assert f"the most that is paid is {3 * GWEI} (fee_cap_gwei)" in dear
        assert "raise fee_cap_gwei" in remedy
        automine_base.rpc("anvil_setNextBlockBaseFeePerGas", hex(GWEI))
        automine_base.mine()

        automine_base.rpc("anvil_setBalance", checksum(relayer), hex(7))
        await it.engine.sweep()
        poor, remedy = await said()
        assert poor == f"{CHAIN} {checksum(relayer)} has 7 wei; below {it.floor_wei} (floor_ether) it is not used"
        assert "send it ether" in remedy
        automine_base.rpc("anvil_setBalance", checksum(relayer), hex(ETHER))
        await it.engine.sweep()

        (payer,) = many(1)
        it.fund([payer])
        hold(automine_base)
        waiting = asyncio.create_task(it.settle(payer.pays()))
        await it.in_pool()
        lane = it.engine._works[CHAIN].lanes.lanes[0]
        await it.until(lambda: not lane.reserved)  # while it is handed over it counts as one that is being made, too
        full, remedy = await said()
        assert full == f"{CHAIN} {checksum(relayer)} has 1 of at most 1 transactions (in_flight_max) in no block yet"
        assert "wait until" in remedy
        automine_base.mine()
        assert (await waiting).success

        with pytest.raises(NotDeployed, match=r"0x[0-9a-f]{64} of .* was sent, and is in no block after 0 s"):
            await it.engine.deploy(CHAIN, 0.1)
        automine_base.mine()
        await it.until(lambda: it.count(relayer) == 2)
        await it.close()
        it.relay = RpcRelayChain([it.endpoint], CHAIN)  # it knows for some seconds that there was no code
        await it.open()
        assert await it.engine.deploy(CHAIN) is None


async def test_without_the_deployer_nothing_is_sent(automine_base: LocalBase, tmp_path: Path) -> None:
    """A call of an address without code succeeds and does nothing: it is not paid for, and not told as done."""
    deployer, _ = batch.deployment()
    automine_base.rpc("anvil_setCode", checksum(deployer), "0x")
    async with bed(automine_base, tmp_path, batched=False) as it:
        with pytest.raises(NotDeployed, match=f"no contract at {checksum(deployer)}") as refused:
            await it.engine.deploy(CHAIN)
        assert "deployment proxy" in refused.value.remedy
        assert (it.count(it.addresses()[0]), dict(it.store.view.relays)) == (0, {})
