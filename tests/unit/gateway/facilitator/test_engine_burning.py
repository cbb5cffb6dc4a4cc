"""What strangers can make the house burn: once for a payment, a few times for a payer, and a budget for all of them."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from engine_bed import Bed, Payer, bed, collect, many, random_payee

from contracts.codec import Address, checksum, to_hex
from contracts.tokens import BASE_USDC
from gateway.core.commands import OpenAccount
from gateway.core.paid import SellerTerms, Settlement, SettlementState
from gateway.core.paid_commands import PutSeller
from gateway.core.records import AgentAccount
from gateway.facilitator.burning import TIMES_PER_PAYER
from gateway.paid_ports import Exact, Settled
from sandbox.chain import LocalBase

YES = "631626ba7e60e01b60005260206000f3"
"""Answers every isValidSignature with the word that means yes."""

YES_UNLESS_PRICED = "0x3a601457" + YES + "5bfe"
"""The same where gas costs nothing, as in a call; where it costs something, it burns all that there is."""

BURN = "0xfe"
SIGNATURE = b"\x01" * 64 + b"\x1b"


@pytest.fixture
def contract(automine_base: LocalBase) -> Callable[[str], Address]:
    """Return what puts a contract with code and tokens in place."""

    def place(code: str) -> Address:
        address = random_payee()
        automine_base.rpc("anvil_setCode", checksum(address), code)
        automine_base.mint(checksum(address), 1_000_000)
        return address

    return place


def asks(authorizer: Address) -> Exact:
    """Return a payment that nobody's key has signed."""
    made = Payer(b"\x07" * 32).pays(nonce=random_payee() + bytes(12))
    return replace(made, authorization=replace(made.authorization, authorizer=authorizer), signature=SIGNATURE)


async def burnt(it: Bed, exact: Exact) -> Settled:
    """Settle for a contract that says yes until its payment is with the chain, and burns the gas in the block."""
    wallet = checksum(exact.authorization.authorizer)
    it.base.rpc("anvil_setCode", wallet, "0x" + YES)
    it.base.rpc("evm_setAutomine", False)
    waiting = asyncio.create_task(it.settle(exact))
    try:
        await it.until(lambda: waiting.done() or it.base.rpc("txpool_status")["pending"] != "0x0")
    finally:
        it.base.rpc("anvil_setCode", wallet, BURN)
        it.base.rpc("evm_setAutomine", True)
        it.base.mine()
    answer = await waiting
    it.base.rpc("anvil_setCode", wallet, "0x" + YES)
    return answer


def sent(it: Bed) -> int:
    """Return how many transactions the house paid for."""
    return it.count(it.addresses()[0])


async def test_h1_a_wallet_that_looks_at_the_gas_price_sees_the_one_it_will_see(
    automine_base: LocalBase, tmp_path: Path, contract: Callable[[str], Address]
) -> None:
    """A contract that is true when asked and burns in a block is found out by being asked at the block's price."""
    async with bed(automine_base, tmp_path) as it:
        exact = asks(contract(YES_UNLESS_PRICED))
        for _ in range(5):
            answer = await it.settle(exact)
            assert answer.reason == "invalid_exact_evm_payload_signature"
        assert sent(it) == 0


async def test_h1_one_payment_burns_gas_once(
    automine_base: LocalBase, tmp_path: Path, contract: Callable[[str], Address]
) -> None:
    """A top-up that failed in a block is over: brought again, also to the next process, it gets the same answer."""
    async with bed(automine_base, tmp_path) as it:
        exact = asks(contract("0x" + YES))
        first = await burnt(it, exact)
        assert first.reason == "transaction_failed"
        for _ in range(5):
            assert await burnt(it, exact) == first
        await it.close()
        await it.open()
        assert await burnt(it, exact) == first
        assert sent(it) == 1


async def test_h1_fresh_nonces_of_one_wallet_burn_a_few_times_a_day(
    automine_base: LocalBase, tmp_path: Path, contract: Callable[[str], Address]
) -> None:
    """A payer whose payments failed in blocks three times is not sent again; the next day it is."""
    async with bed(automine_base, tmp_path) as it:
        wallet = contract("0x" + YES)
        answers = [await burnt(it, asks(wallet)) for _ in range(TIMES_PER_PAYER + 2)]
        assert [answer.reason for answer in answers] == [
            *["transaction_failed"] * TIMES_PER_PAYER,
            *["invalid_exact_evm_transaction_simulation_failed"] * 2,
        ]
        assert sent(it) == TIMES_PER_PAYER
        it.clock.ahead_ms = 25 * 3_600_000
        later = asks(wallet)
        later = replace(later, authorization=replace(later.authorization, valid_before=2**33))
        assert (await burnt(it, later)).reason == "transaction_failed"


async def test_h1_many_at_once_of_one_wallet_are_few(
    automine_base: LocalBase, tmp_path: Path, contract: Callable[[str], Address]
) -> None:
    """What is under way counts as if it burnt: the others are told to ask again, and are taken then."""
    async with bed(automine_base, tmp_path) as it:
        wallet = contract("0x" + YES)
        automine_base.rpc("evm_setAutomine", False)
        payments = [asks(wallet) for _ in range(10)]
        waiting = [asyncio.create_task(it.settle(exact)) for exact in payments]
        await it.until(lambda: sum(task.done() for task in waiting) == 10 - TIMES_PER_PAYER)
        assert {task.result().reason for task in waiting if task.done()} == {"unexpected_settle_error"}
        assert len(it.store.view.settlements) == TIMES_PER_PAYER
        automine_base.rpc("evm_setAutomine", True)
        automine_base.mine()
        await asyncio.gather(*waiting)
        assert [(await it.settle(exact)).success for exact in payments] == [True] * 10


async def test_h1_above_the_budget_contract_wallets_and_burners_wait_and_nobody_else(
    automine_base: LocalBase, tmp_path: Path, contract: Callable[[str], Address]
) -> None:
    """The budget of a day is used up: another contract wallet is refused, a key is served, and a human is asked."""
    async with bed(automine_base, tmp_path) as it:
        answer = await burnt(it, asks(contract("0x" + YES)))
        settled = await it.store.settlement(answer.settlement_id or "")
        assert settled is not None
        relay = await it.store.relay(settled.relay_id or "")
        assert relay is not None
        assert relay.fee_wei > 0
        await it.close()
        it.rules = replace(it.rules, house_gas_budget_wei=relay.fee_wei + 1)
        await it.open()
        others = asks(contract("0x" + YES))
        assert (await it.settle(others)).reason == "invalid_exact_evm_transaction_simulation_failed"
        (payer,) = many(1)
        it.fund([payer])
        assert (await it.settle(payer.pays())).success
        assert sent(it) == 2
        assert any(b"gas_burnt" in record.body for record in await it.store.journal(0, 200))


async def test_h1_a_key_that_burnt_gas_is_refused_above_the_budget(automine_base: LocalBase, tmp_path: Path) -> None:
    """A payer who spent the money before our block is served again within the budget, and not above it."""
    async with bed(automine_base, tmp_path) as it:
        payer, other = many(2)
        it.fund([payer, other])
        automine_base.rpc("evm_setAutomine", False)
        waiting = asyncio.create_task(it.settle(payer.pays()))
        relay = await it.in_pool()
        automine_base.rpc("anvil_dropTransaction", to_hex(relay.attempts[0].tx_hash))
        automine_base.rpc("evm_setAutomine", True)
        await asyncio.to_thread(collect, automine_base, payer.pays(1_000_000, random_payee()))
        automine_base.rpc("eth_sendRawTransaction", to_hex(relay.attempts[0].raw))
        assert (await waiting).reason == "transaction_failed"
        it.fund([payer])
        assert (await it.settle(payer.pays())).success
        await it.close()
        it.rules = replace(it.rules, house_gas_budget_wei=1)
        await it.open()
        assert (await it.settle(payer.pays())).reason == "invalid_exact_evm_transaction_simulation_failed"
        assert (await it.settle(other.pays())).success


# M4: what a seller may cost


async def sells(it: Bed, account_id: str, budget_wei: int) -> None:
    """Make an account a seller."""
    now_ms = it.clock.now_ms()
    await it.store.post(OpenAccount(AgentAccount(account_id, account_id, now_ms)))
    await it.store.post(PutSeller(SellerTerms(account_id, budget_wei, 3_600, 0.0, (), now_ms), "test", now_ms))


async def test_m4_a_sellers_contract_wallets_under_way_count_to_its_budget(
    automine_base: LocalBase, tmp_path: Path, contract: Callable[[str], Address]
) -> None:
    """With a budget for less than one more failure one goes at a time; the others are told to ask again, and go then."""
    async with bed(automine_base, tmp_path) as it:
        await sells(it, "acc_seller", 1)
        payments = [asks(contract("0x" + YES)) for _ in range(5)]
        automine_base.rpc("evm_setAutomine", False)
        waiting = [asyncio.create_task(it.settle(exact, account_id="acc_seller")) for exact in payments]
        await it.until(lambda: sum(task.done() for task in waiting) == 4)
        assert {task.result().reason for task in waiting if task.done()} == {"unexpected_settle_error"}
        automine_base.rpc("evm_setAutomine", True)
        automine_base.mine()
        await asyncio.gather(*waiting)
        assert [(await it.settle(exact, account_id="acc_seller")).success for exact in payments] == [True] * 5


async def test_m4_less_than_the_least_is_not_collected_for_sellers(automine_base: LocalBase, tmp_path: Path) -> None:
    """What is worth less than its gas is refused before it is claimed; a top-up has its own bounds."""
    async with bed(automine_base, tmp_path, seller_min_base=1_000) as it:
        await sells(it, "acc_seller", 10**16)
        (payer,) = many(1)
        it.fund([payer])
        assert (await it.settle(payer.pays(999), account_id="acc_seller")).reason == "invalid_payment_requirements"
        assert not it.store.view.settlements
        assert (await it.settle(payer.pays(1_000), account_id="acc_seller")).success
        assert (await it.settle(payer.pays(999))).success


async def test_m4_whoever_asks_again_answers_for_the_gas(automine_base: LocalBase, tmp_path: Path) -> None:
    """What failed for one seller before it was sent and is settled for another is the other's."""
    async with bed(automine_base, tmp_path) as it:
        await sells(it, "acc_one", 10**16)
        await sells(it, "acc_two", 10**16)
        (payer,) = many(1)
        exact = payer.pays()
        assert not (await it.settle(exact, account_id="acc_one")).success
        it.fund([payer])
        answer = await it.settle(exact, account_id="acc_two")
        kept = await it.store.settlement(answer.settlement_id or "")
        assert kept is not None
        assert (answer.success, kept.account_id) == (True, "acc_two")


# M1: claims that nothing sends


async def ended(it: Bed, exact: Exact) -> Settlement:
    """Return a settlement as committed, once it has an end."""

    async def of() -> Settlement | None:
        return await it.store.settlement_of(exact.authorization.key)

    kept = await of()
    for _ in range(400):
        if kept is not None and kept.ended_at_ms is not None:
            return kept
        await it.engine.sweep()
        await asyncio.sleep(0.05)
        kept = await of()
    raise AssertionError(f"it has no end: {kept}")


async def pass_by(it: Bed, exact: Exact) -> None:
    """Let an authorization's time pass, in final blocks too."""
    it.base.set_next_block_time(exact.authorization.valid_before + 60)
    it.base.mine(3)
    it.clock.ahead_ms += (exact.authorization.valid_before + 60) * 1000 - it.clock.now_ms()
    await asyncio.sleep(0.2)


@pytest.mark.parametrize("paid", [False, True])
async def test_m1_a_claim_without_a_relayer_ends_when_a_final_block_is_too_late_for_it(
    automine_base: LocalBase, tmp_path: Path, *, paid: bool
) -> None:
    """No relayer has gas: whoever was told "pending" hears that it failed, or that somebody else collected it."""
    async with bed(automine_base, tmp_path) as it:
        (payer,) = many(1)
        it.fund([payer])
        automine_base.rpc("anvil_setBalance", checksum(it.addresses()[0]), hex(0))
        await it.engine.sweep()
        exact = payer.pays(window_s=60)
        assert (await it.settle(exact, 0.3)).reason == "settlement_pending"
        theirs = await asyncio.to_thread(collect, automine_base, exact) if paid else None
        await pass_by(it, exact)
        kept = await ended(it, exact)
        state = SettlementState.FINAL if paid else SettlementState.FAILED
        reason = "" if paid else "invalid_exact_evm_payload_authorization_valid_before"
        assert (kept.state, kept.tx_hash, kept.reason) == (state, theirs, reason)
        assert (await it.settle(exact)).success is paid


async def test_m1_a_claim_in_a_token_that_is_configured_no_more_ends(automine_base: LocalBase, tmp_path: Path) -> None:
    """A restart without the token leaves no claim behind for ever."""
    async with bed(automine_base, tmp_path) as it:
        (payer,) = many(1)
        it.fund([payer])
        automine_base.rpc("anvil_setBalance", checksum(it.addresses()[0]), hex(0))
        await it.engine.sweep()
        exact = payer.pays(window_s=60)
        assert (await it.settle(exact, 0.3)).reason == "settlement_pending"
        await it.close()
        it.tokens = (replace(BASE_USDC, address=random_payee()),)
        await it.open()
        await pass_by(it, exact)
        assert (await ended(it, exact)).state is SettlementState.FAILED


async def test_m1_a_payment_that_somebody_else_collected_in_time_is_not_told_as_failed(
    automine_base: LocalBase, tmp_path: Path
) -> None:
    """A relayer with gas comes back after the time of a claim that was collected meanwhile: it was paid."""
    async with bed(automine_base, tmp_path) as it:
        (payer,) = many(1)
        it.fund([payer])
        balance = automine_base.rpc("eth_getBalance", checksum(it.addresses()[0]), "latest")
        automine_base.rpc("anvil_setBalance", checksum(it.addresses()[0]), hex(0))
        await it.engine.sweep()
        exact = payer.pays(window_s=60)
        waiting = asyncio.create_task(it.settle(exact))
        await it.until(lambda: it.store.view.settlements)
        theirs = await asyncio.to_thread(collect, automine_base, exact)
        await pass_by(it, exact)
        automine_base.rpc("anvil_setBalance", checksum(it.addresses()[0]), balance)
        (works,) = it.engine._works.values()
        await works.lanes.look_at_balance(works.lanes.lanes[0])
        works.submitter.wake()
        answer = await waiting
        assert (answer.success, answer.tx_hash) == (True, theirs)
