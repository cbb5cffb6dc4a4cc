"""The engine when what it stands on gives way in flight: gas, endpoints, the batch contract, time, the payer's own word.

Each shows the same of its fault: a claim is durable, no payment is collected twice, what is told in the end is what the chain
says, gas that was lost is on the books, and a human is asked where nobody else can help.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from engine_bed import CHAIN, ETHER, Bed, Payer, Randomness, bed, many

from contracts.batch import batch_address
from contracts.codec import Address, checksum, to_hex
from gateway.chains.finality import Finality
from gateway.chains.quorum import QuorumChain
from gateway.chains.relay import RpcRelayChain
from gateway.chains.rpc import Limits, RpcEndpoint
from gateway.core.paid import Relay, RelayState, SettlementState
from gateway.core.records import HOUSE
from gateway.facilitator.desk import DeskParts
from gateway.facilitator.engine import SettlementEngine
from gateway.ports import ChainUnavailable
from gateway.store.core import StoreBroken
from gateway.store.sqlite import SqliteStore
from sandbox.chain import LocalBase
from tests.fakes.rpc_server import FaultyNode
from tests.sandbox.token_payer import sign_message

if TYPE_CHECKING:
    from gateway.paid_ports import Settled

ONCE = Limits(attempts=1, connect_s=5.0, attempt_s=10.0, call_s=20.0)


# ---- gas -------------------------------------------------------------------------------------------------------------


async def test_another_relayer_carries_on_for_one_that_runs_dry_in_flight(
    automine_base: LocalBase, tmp_path: Path
) -> None:
    """Its batch was dropped for want of gas: the payments go once more, by the other; its own nonce is used up later."""
    async with bed(automine_base, tmp_path, relayers=2, replace_after_s=0.3) as it:
        payers, waiting, dry = await in_flight(it, 3)
        automine_base.rpc("anvil_setBalance", checksum(dry.relayer), "0x1")
        release(it)
        it.sweep_always()
        answers = await asyncio.gather(*waiting)
        hashes = {answer.tx_hash for answer in answers}
        assert [answer.success for answer in answers] == [True] * 3
        assert hashes.isdisjoint({attempt.tx_hash for attempt in dry.attempts})
        assert await tasks(it) == ["relayer_low"]

        # A node that kept its transaction brings it when there is gas again: it collects nothing, and is paid for.
        automine_base.rpc("anvil_setBalance", checksum(dry.relayer), hex(ETHER))
        with contextlib.suppress(ValueError):  # the engine itself may have been faster, with nothing in it
            automine_base.rpc("eth_sendRawTransaction", to_hex(dry.attempts[0].raw))
        await it.until(lambda: it.count(it.addresses()[it.addresses().index(dry.relayer)]) == 1)
        assert {answer.tx_hash for answer in await it.settle_all([payer.paid for payer in payers])} == hashes
        await closed(it)
        assert it.received() == 3_000
        await books_hold(it)


async def test_a_payment_waits_for_the_only_relayer_to_have_gas_again(automine_base: LocalBase, tmp_path: Path) -> None:
    """Nobody else can send it: it is pending, also after a restart, a human is asked, and it goes when there is gas."""
    async with bed(automine_base, tmp_path, replace_after_s=0.3) as it:
        (payer,), waiting, dry = await in_flight(it, 1)
        automine_base.rpc("anvil_setBalance", checksum(dry.relayer), "0x1")
        release(it)
        it.sweep_always()
        await it.until(lambda: states(it) == [SettlementState.CLAIMED])
        for task in waiting:
            task.cancel()
        assert await tasks(it) == ["relayer_low"]
        await it.kill()
        await it.open()
        told = await it.settle(payer.paid, 0.3)
        assert (told.success, told.reason, it.received()) == (False, "settlement_pending", 0)
        automine_base.rpc("anvil_setBalance", checksum(dry.relayer), hex(ETHER))
        it.sweep_always()
        assert (await it.settle(payer.paid)).success
        await closed(it)
        assert it.received() == 1_000
        await books_hold(it)


# ---- the batch contract ----------------------------------------------------------------------------------------------

FOREIGN = {
    "returns nothing": "0x00",
    "reverts": "0x60006000fd",
    "wastes all gas": "0xfe",
    "says one": "0x600160005260206000f3",
}


@pytest.mark.parametrize("code", FOREIGN.values(), ids=FOREIGN)
async def test_foreign_code_at_the_batch_address_is_never_sent_anything(
    automine_base: LocalBase, tmp_path: Path, code: str
) -> None:
    """What is not our contract is found out before anything leaves: each payment goes alone, and a human is told."""
    automine_base.rpc("anvil_setCode", checksum(batch_address()), code)
    async with bed(automine_base, tmp_path, batched=False) as it:
        payers = [paying(payer) for payer in many(4)]
        it.fund([each.payer for each in payers])
        with structlog.testing.capture_logs() as lines:
            answers = await it.settle_all([each.paid for each in payers])
        assert [answer.success for answer in answers] == [True] * 4
        assert len({answer.tx_hash for answer in answers}) == 4
        assert [line["kind"] for line in lines if line["event"] == "task.opened"] == ["batch_unusable"]
        relays = [await it.store.relay(relay_id) for relay_id in await relay_ids(it)]
        assert {relay.purpose for relay in relays if relay is not None} == {"single"}
        assert await tasks(it) == ["batch_unusable"]
        assert await it.settle_all([each.paid for each in payers]) == answers
        it.sweep_always()
        await closed(it)
        assert (it.received(), it.count(it.addresses()[0])) == (4_000, 4)
        await books_hold(it)


async def test_a_batch_call_that_is_not_answered_once_accuses_nobody(automine_base: LocalBase, tmp_path: Path) -> None:
    """A busy node refuses a heavy call now and then: it is asked again, and the payments go together."""
    async with bed(automine_base, tmp_path, linger_s=0.2) as it:
        payers = [paying(payer) for payer in many(4)]
        it.fund([each.payer for each in payers])
        call, refused = it.relay.call, 0

        async def busy(sender: Address, to: Address, data: bytes, *rest: Any) -> bytes:
            nonlocal refused
            if to == batch_address() and not refused:
                refused += 1
                raise ChainUnavailable("HTTP 429")
            return await call(sender, to, data, *rest)

        it.relay.call = busy  # type: ignore[method-assign]
        answers = await it.settle_all([each.paid for each in payers])
        assert ([answer.success for answer in answers], refused) == ([True] * 4, 1)
        assert len({answer.tx_hash for answer in answers}) == 1
        assert await tasks(it) == []


# ---- the endpoints ---------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def behind_one_endpoint(base: LocalBase, folder: Path) -> AsyncIterator[tuple[Bed, FaultyNode]]:
    """Open a bed whose only way to the chain can be cut."""
    async with FaultyNode(base.rpc_url) as node, bed(base, folder) as it:
        endpoint = RpcEndpoint(node.url, ONCE)
        await it.close()
        it.relay = RpcRelayChain([endpoint], CHAIN)
        it.proof = QuorumChain([endpoint], chain_id=CHAIN, finality=Finality(), quorum=1)
        await it.open()
        try:
            yield it, node
        finally:
            node.down = False
            await it.stop_sweeping()
            await endpoint.close()


async def test_nothing_is_claimed_while_no_endpoint_answers(automine_base: LocalBase, tmp_path: Path) -> None:
    """Whether a contract signed is not known, so nothing is: no row, no answer about the payment; and later it goes."""
    async with behind_one_endpoint(automine_base, tmp_path) as (it, node):
        one = paying(many(1)[0])
        it.fund([one.payer])
        node.down = True
        with pytest.raises(ChainUnavailable):
            await it.settle(one.paid, 0.5)
        assert not it.store.view.settlements
        node.down = False
        assert (await it.settle(one.paid)).success
        assert it.received() == 1_000


async def test_a_chain_that_does_not_answer_hides_no_broken_store(automine_base: LocalBase, tmp_path: Path) -> None:
    """Whoever sweeps must hear of both: the one is tried again, the other ends the process."""
    async with bed(automine_base, tmp_path) as it:
        it.low_wei = 10**30  # so that each look at a relayer's gas asks a human, which is written down
        nobody, relayer = RpcEndpoint("http://127.0.0.1:9", ONCE), [it.relayer(it.keys[0])]
        elsewhere = QuorumChain([nobody], chain_id=84532, finality=Finality(), quorum=1)
        far = DeskParts(RpcRelayChain([nobody], 84532), elsewhere, (), relayer)
        near = DeskParts(it.relay, it.proof, it.tokens, relayer)
        engine = SettlementEngine(
            store=it.store, desks=(far, near), rules=it.rules, clock=it.clock, entropy=Randomness()
        )
        engine.start()
        with pytest.raises(ChainUnavailable):
            await engine.sweep()
        await it.store.close()
        with pytest.raises(ExceptionGroup) as told:
            await engine.sweep()
        assert [type(error) for error in told.value.exceptions] == [ChainUnavailable, StoreBroken]
        await engine.drain(1.0)
        await nobody.close()
        it.store = await SqliteStore.open(it.path)  # for the bed to close


CUTS = {
    "before the simulation is answered": "eth_call",
    "after the transaction was taken": "eth_sendRawTransaction",
    "before the receipt is told": "eth_getTransactionReceipt",
}


@pytest.mark.parametrize("method", CUTS.values(), ids=CUTS)
async def test_all_endpoints_down_in_the_midst_of_it_leave_it_pending_and_then_collected_once(
    automine_base: LocalBase, tmp_path: Path, method: str
) -> None:
    """Cut off at any step, also from its own answer: the claim stands, nothing is said to have failed, and it ends once."""
    async with behind_one_endpoint(automine_base, tmp_path) as (it, node):
        one = paying(many(1)[0])
        it.fund([one.payer])

        def cut(asked: str, _params: list[Any], result: Any) -> Any:
            node.down = node.down or asked == method
            return None if node.down else result

        node.rewrite = cut
        told = await it.settle(one.paid, 1.0)
        assert (told.success, told.reason) == (False, "settlement_pending")
        assert states(it) in ([SettlementState.CLAIMED], [SettlementState.SENT])
        it.sweep_always()
        assert (await it.settle(one.paid, 0.5)).reason == "settlement_pending"
        node.rewrite, node.down = None, False
        assert (await it.settle(one.paid)).success
        await closed(it)
        assert (it.received(), it.count(it.addresses()[0])) == (1_000, 1)
        await books_hold(it)


# ---- time ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alive", [1, 0])
async def test_what_expires_before_its_replacement_is_mined_is_not_in_it(
    automine_base: LocalBase, tmp_path: Path, alive: int
) -> None:
    """A batch is stuck until some windows have closed: those end for good, blamed on nobody, and the rest is collected."""
    async with bed(automine_base, tmp_path, replace_after_s=0.3) as it:
        short, long = [paying(payer, 60) for payer in many(2)], [paying(payer) for payer in many(alive, b"long")]
        payers = [*short, *long]
        it.fund([each.payer for each in payers])
        automine_base.rpc("evm_setAutomine", False)
        waiting = [asyncio.create_task(it.settle(each.paid)) for each in payers]
        relay = await it.in_pool()
        dear = 4 * relay.attempts[0].max_fee_wei
        automine_base.rpc("anvil_setNextBlockBaseFeePerGas", hex(dear))
        automine_base.set_time(short[0].paid.authorization.valid_before + 5)
        it.clock.ahead_ms = 65_000
        it.sweep_always()
        await it.until(lambda: replaced_in_pool(it, relay.id, dear))
        automine_base.rpc("anvil_setNextBlockBaseFeePerGas", hex(dear))
        automine_base.mine()
        answers = await asyncio.gather(*waiting)
        late = "invalid_exact_evm_payload_authorization_valid_before"
        assert [answer.reason for answer in answers] == [late, late, *[""] * alive]
        assert not any(it.used(each.paid) for each in short)
        assert await it.settle_all([each.paid for each in payers]) == answers
        await closed(it)
        assert (it.received(), it.count(it.addresses()[0])) == (1_000 * alive, 1)
        assert dict(await it.store.burners(HOUSE, 0)) == {}  # they were in no block: nobody's gas was burnt on them
        await books_hold(it)


async def test_what_expires_and_is_mined_all_the_same_has_burnt_gas(automine_base: LocalBase, tmp_path: Path) -> None:
    """The first form of a stuck batch is mined late, with what has expired in it: refused by the token, and counted."""
    async with bed(automine_base, tmp_path, replace_after_s=3600) as it:
        short, long = paying(many(1)[0], 60), paying(many(1, b"long")[0])
        it.fund([short.payer, long.payer])
        automine_base.rpc("evm_setAutomine", False)
        waiting = [asyncio.create_task(it.settle(each.paid)) for each in (short, long)]
        await it.in_pool()
        automine_base.set_time(short.paid.authorization.valid_before + 5)
        assert [answer.reason for answer in await asyncio.gather(*waiting)] == ["transaction_failed", ""]
        assert dict(await it.store.burners(HOUSE, 0)) == {bytes(short.payer.address): 1}
        await burnt_is(it, 1, of=2)
        it.sweep_always()
        await closed(it)
        assert (it.received(), it.count(it.addresses()[0])) == (1_000, 1)
        await books_hold(it)


# ---- the payer's own word --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 3])
async def test_an_authorization_that_is_cancelled_in_flight_ends_as_used_and_burns_gas_once(
    automine_base: LocalBase, tmp_path: Path, count: int
) -> None:
    """Called off between simulation and block: never paid, over for good, its gas counted against its signer alone."""
    async with bed(automine_base, tmp_path) as it:
        payers, waiting, relay = await in_flight(it, count)
        automine_base.rpc("anvil_dropTransaction", to_hex(relay.attempts[0].tx_hash))
        release(it)
        await asyncio.to_thread(cancel, automine_base, payers[0])
        automine_base.rpc("eth_sendRawTransaction", to_hex(relay.attempts[0].raw))
        answers = await asyncio.gather(*waiting)
        assert [answer.success for answer in answers] == [False, *[True] * (count - 1)]
        assert answers[0].reason == "invalid_exact_evm_nonce_already_used"
        assert answers[0].tx_hash == relay.attempts[0].tx_hash  # where its gas went
        assert dict(await it.store.burners(HOUSE, 0)) == {bytes(payers[0].payer.address): 1}
        await burnt_is(it, 1, of=count)
        await it.kill()
        await it.open()
        assert await it.settle_all([each.paid for each in payers]) == answers
        it.sweep_always()
        await closed(it)
        assert (it.received(), it.count(it.addresses()[0])) == (1_000 * (count - 1), 1)
        await books_hold(it)


async def test_gas_is_counted_also_where_the_verdict_comes_after_the_transaction_is_final(
    automine_base: LocalBase, tmp_path: Path
) -> None:
    """Nobody could say what became of a payment until its transaction was closed: it ends for good, and answers for the gas."""
    async with bed(automine_base, tmp_path) as it:
        (one,), (waiting,), relay = await in_flight(it, 1)
        ask = it.relay.authorization_used

        async def silent(*_: Any) -> bool:
            raise ChainUnavailable("this question is not answered")

        it.relay.authorization_used = silent  # type: ignore[method-assign]
        automine_base.rpc("anvil_dropTransaction", to_hex(relay.attempts[0].tx_hash))
        release(it)
        await asyncio.to_thread(cancel, automine_base, one)
        automine_base.rpc("eth_sendRawTransaction", to_hex(relay.attempts[0].raw))
        it.sweep_always()
        async with asyncio.timeout(60):
            while it.store.view.relays:
                automine_base.mine()
                await asyncio.sleep(0.05)
        assert states(it) == [SettlementState.SENT]
        it.relay.authorization_used = ask  # type: ignore[method-assign]
        answer = await waiting
        assert (answer.success, answer.tx_hash) == (False, relay.attempts[0].tx_hash)
        assert dict(await it.store.burners(HOUSE, 0)) == {bytes(one.payer.address): 1}
        final = await it.store.relay(relay.id)
        assert final is not None
        assert await it.store.gas_burnt_wei(HOUSE, 0) == final.fee_wei > 0
        assert await it.settle(one.paid) == answer
        assert (it.received(), it.count(it.addresses()[0])) == (0, 1)
        await books_hold(it)


# ---- what they share -------------------------------------------------------------------------------------------------


class paying:  # noqa: N801 - reads as a word: a payer with the payment that it signed
    """A payer and one payment of it."""

    def __init__(self, payer: Payer, window_s: int = 600) -> None:
        self.payer, self.paid = payer, payer.pays(window_s=window_s)


async def in_flight(it: Bed, count: int) -> tuple[list[paying], list["asyncio.Task[Settled]"], Relay]:
    """Fund that many payers and settle for each, until one transaction with all of them is with the chain, in no block."""
    payers = [paying(payer) for payer in many(count)]
    it.fund([each.payer for each in payers])
    it.base.rpc("evm_setAutomine", False)
    waiting = [asyncio.create_task(it.settle(each.paid)) for each in payers]
    relay = await it.in_pool()
    assert len(relay.settlement_ids) == count
    return payers, waiting, relay


def replaced_in_pool(it: Bed, relay_id: str, fee_wei: int) -> bool:
    """Say whether the newest form of a transaction offers that much, and is with the chain."""
    newest = it.store.view.relays[relay_id].attempts[-1]
    at_chain = it.base.rpc("eth_getTransactionByHash", to_hex(newest.tx_hash))
    return newest.max_fee_wei > fee_wei and at_chain is not None


def release(it: Bed) -> None:
    """Let the chain make blocks again, the first one now."""
    it.base.mine()
    it.base.rpc("evm_setAutomine", True)


def cancel(base: LocalBase, each: paying) -> None:
    """Call a payment off in a block, as its payer may."""
    terms = each.paid.authorization
    authorizer, nonce = checksum(terms.authorizer), to_hex(terms.nonce)
    signature = sign_message("CancelAuthorization", to_hex(each.payer.secret), authorizer, nonce)
    base.cancel_authorization(authorizer, nonce, signature)


def states(it: Bed) -> list[SettlementState]:
    """Return how what is open stands."""
    return [settlement.state for settlement in it.store.view.settlements.values()]


async def tasks(it: Bed) -> list[str]:
    """Return what humans are asked."""
    return [
        row["kind"] for row in await it.store.query("SELECT kind FROM tasks WHERE closed_at_ms IS NULL ORDER BY id")
    ]


async def relay_ids(it: Bed) -> list[str]:
    """Return every transaction that was ever made."""
    return [row["id"] for row in await it.store.query("SELECT id FROM relays ORDER BY id")]


async def closed(it: Bed) -> None:
    """Let what is mined become final, while somebody sweeps, until nothing is open."""
    async with asyncio.timeout(60):
        while it.store.view.settlements or it.store.view.relays:
            it.base.mine()
            await asyncio.sleep(0.1)


async def burnt_is(it: Bed, failed: int, *, of: int) -> None:
    """A failed payment's part of its transaction's fee is what counts as burnt."""
    (relay,) = it.store.view.relays.values()
    assert relay.fee_wei > 0
    assert await it.store.gas_burnt_wei(HOUSE, 0) == failed * -(-relay.fee_wei // of)


async def books_hold(it: Bed) -> None:
    """Every wei that the relayers paid is the house's, and nothing contradicts itself."""
    relays = [await it.store.relay(each) for each in await relay_ids(it)]
    assert all(relay is not None and relay.state is RelayState.FINAL for relay in relays)
    paid_gwei = sum(-(-relay.fee_wei // 10**9) for relay in relays if relay is not None)
    (row,) = await it.store.query("SELECT debits_posted AS gwei FROM ledger_accounts WHERE code = 'house:fees'")
    assert row["gwei"] == paid_gwei > 0
    assert await it.store.contradiction() is None
