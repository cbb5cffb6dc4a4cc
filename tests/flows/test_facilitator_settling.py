"""A seller's payment through verifier, engine, store and chain: collected once, told alike, and no gas for what must fail."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from settling_bed import SettlingBed, settling_on

from contracts.codec import parse_address
from sandbox.devtoken import Contract
from tests.unit.gateway.facilitator.payments_bed import OTHER, PAY_TO, Draft, Sent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from sandbox.chain import LocalBase

USED = "invalid_exact_evm_nonce_already_used"
SIGNATURE = "invalid_exact_evm_payload_signature"
SIMULATION = "invalid_exact_evm_transaction_simulation_failed"
BALANCE = "invalid_exact_evm_insufficient_balance"
OWNER, STRANGER = "0x" + "b1" * 32, "0x" + "b3" * 32


@pytest.fixture
async def bed(local_base: LocalBase, tmp_path: Path) -> AsyncIterator[SettlingBed]:
    """The real thing on a chain of its own, with a block each second."""
    async with settling_on(local_base, tmp_path) as running:
        yield running


@pytest.fixture
def payer(bed: SettlingBed) -> Draft:
    """A payment of somebody who has the money."""
    who, key = bed.base.dev_account(2)
    bed.base.mint(who, 1_000_000)
    return Draft(key)


def collect(bed: SettlingBed, sent: Sent) -> str:
    """Have somebody else collect a payment; return the transaction's hash."""
    terms = sent.authorization
    words = (terms["from"], terms["to"], int(terms["value"]), 0, int(terms["validBefore"]), terms["nonce"])
    call = "transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,bytes)"
    data = Contract.load("DevUSDC").call(call, *words, sent.signature)
    return str(bed.base.receipt(bed.base.send(bed.base.token_address, data))["transactionHash"])


@pytest.mark.parametrize("version", [1, 2])
async def test_a_payment_is_collected_once_and_told_alike_for_ever(
    bed: SettlingBed, payer: Draft, version: int
) -> None:
    """Twenty at once and one later: one transfer, one transaction, equal answers, and not valid a second time."""
    sent = payer.sign(version)
    before = bed.base.balance_of(PAY_TO), bed.transactions()
    assert await bed.verify(sent) == ""
    answers = await asyncio.gather(*(bed.settle(sent) for _ in range(20)))
    assert len(set(answers)) == 1
    (found,) = set(answers)
    assert (found.success, found.reason, found.amount_base) == (True, "", 10_000)
    assert found.tx_hash is not None
    assert bed.base.receipt("0x" + found.tx_hash.hex())["from"] == bed.relayer.lower()
    assert (bed.base.balance_of(PAY_TO), bed.transactions()) == (before[0] + 10_000, before[1] + 1)
    assert await bed.verify(sent) == USED
    assert await bed.settle(sent) == found


async def test_a_contract_wallet_s_payment_is_collected(bed: SettlingBed) -> None:
    """With both signatures, by the overload that takes them."""
    at = "0x" + "c4" * 20
    keys = [Draft(key).sign(2).authorization["from"] for key in (OWNER, STRANGER)]
    bed.base.place_contract_wallet(at, *keys)
    bed.base.mint(at, 1_000_000)
    found = await bed.settle(Draft(OWNER, sender=at, cosigner=STRANGER).sign(2))
    assert (found.success, found.reason) == (True, "")
    assert bed.base.balance_of(PAY_TO) == 10_000


async def test_another_payload_with_the_same_nonce_is_a_duplicate(bed: SettlingBed, payer: Draft) -> None:
    """Signed by the same key for another window: the first has the nonce, and the second gets no transaction."""
    first = payer.sign(2)
    assert (await bed.settle(first)).success
    sent = bed.transactions()
    found = await bed.settle(payer.change(valid_for_s=90).sign(2))
    assert (found.success, found.reason, found.tx_hash) == (False, "duplicate_settlement", None)
    assert bed.transactions() == sent


async def _poor(bed: SettlingBed, payer: Draft) -> Sent:
    return Draft(STRANGER).sign(2)


async def _paused(bed: SettlingBed, payer: Draft) -> Sent:
    bed.base.set_paused(True)
    return payer.sign(1)


async def _barred_payer(bed: SettlingBed, payer: Draft) -> Sent:
    sent = payer.sign(2)
    bed.base.set_blacklisted(sent.authorization["from"])
    return sent


async def _barred_payee(bed: SettlingBed, payer: Draft) -> Sent:
    bed.base.set_blacklisted(PAY_TO)
    return payer.sign(1)


async def _denied(bed: SettlingBed, payer: Draft) -> Sent:
    at = "0x" + "c5" * 20
    bed.base.place_contract_wallet(at, Draft(OWNER).sign(2).authorization["from"])
    bed.base.mint(at, 1_000_000)
    return Draft(STRANGER, sender=at).sign(2)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_poor, BALANCE),
        (_paused, SIMULATION),
        (_barred_payer, SIMULATION),
        (_barred_payee, SIMULATION),
        (_denied, SIGNATURE),
    ],
)
async def test_what_the_chain_would_refuse_costs_no_gas(
    bed: SettlingBed, payer: Draft, make: object, reason: str
) -> None:
    """The same reason from verify and settle, and no transaction."""
    assert callable(make)
    sent = await make(bed, payer)
    before = bed.transactions()
    assert await bed.verify(sent) == reason
    found = await bed.settle(sent)
    assert (found.success, found.reason, found.tx_hash) == (False, reason, None)
    assert bed.transactions() == before


async def test_what_another_collected_is_no_second_transaction(bed: SettlingBed, payer: Draft) -> None:
    """A payment that was front-run is found where it is, and counts; verify says that it is used."""
    sent = payer.sign(2)
    tx_hash = collect(bed, sent)
    before = bed.transactions()
    assert await bed.verify(sent) == USED
    found = await bed.settle(sent)
    assert bed.transactions() == before
    assert (found.success, found.tx_hash) == (True, bytes.fromhex(tx_hash[2:]))


async def test_a_seller_is_bound_to_its_payees(bed: SettlingBed, payer: Draft) -> None:
    """Where its terms name some; and whoever is no seller collects nothing."""
    await bed.terms(payees=(parse_address(OTHER),))
    before = bed.transactions()
    assert not (await bed.settle(payer.sign(2))).success
    assert not (await bed.settle(payer.change(nonce="0x" + "12" * 32).sign(2), "acc_9")).success
    assert bed.transactions() == before
    await bed.terms(payees=(parse_address(PAY_TO),))
    assert (await bed.settle(payer.change(nonce="0x" + "13" * 32).sign(2))).success
