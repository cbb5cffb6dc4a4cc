"""Transfers to and from tills through the Chain port, and what is booked of them over a real anvil (P13, P14)."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest
from chain_beds import FUNDS_BASE, PAYEE, AnvilBed, Bed, ScriptedBed, WallClock, anvil_bed, authorization

from contracts.codec import Address, parse_address, to_hex
from contracts.incoming import Moved, read_transfer
from contracts.tokens import BASE_USDC
from gateway.core import commands as c
from gateway.core.paid import TopUp, TopUpState
from gateway.core.paid_commands import PutTopUp
from gateway.flow.paid.crediting import Crediting
from gateway.flow.paid.deposits import Deposits
from gateway.flow.paid.receipts import Receipts
from gateway.flow.paid.returning import Returning
from gateway.flow.paid.tills import Till
from gateway.ports import ChainDisagreement, ChainUnavailable
from gateway.store.load import verify_book
from gateway.system import SystemEntropy
from sandbox.chain import LocalBase
from sandbox.devtoken import Contract
from tests.factories import make_account
from tests.fakes.store import InlineStore, memory_database

if TYPE_CHECKING:
    import sqlite3

NONCE = b"\x0c" * 32
PRICE = 9_990_000


@pytest.fixture(params=["scripted", "anvil"])
async def bed(request: pytest.FixtureRequest) -> AsyncIterator[Bed]:
    """Each implementation in turn."""
    if request.param == "scripted":
        yield ScriptedBed()
        return
    base: LocalBase = request.getfixturevalue("automine_base")
    async with anvil_bed(base) as anvil:
        yield anvil


async def test_a_transfer_is_seen_by_both_its_ends_and_tells_what_was_signed(bed: Bed) -> None:
    """Of the payee and of the payer the same log, whose nonce is what the payer signed; of others nothing."""
    bed.settle(authorization(bed, NONCE))
    bed.mine(2)
    to = (await bed.chain.final()).number
    (came,) = await bed.chain.incoming_logs(BASE_USDC, [PAYEE], 0, to)
    (left,) = await bed.chain.outgoing_logs(BASE_USDC, [bed.wallets[0]], 0, to)
    assert came == left
    receipt = await bed.chain.receipt(came.tx_hash)
    assert receipt is not None
    moved = read_transfer(came, receipt.logs, receipt.status)
    assert moved == Moved(came, bed.wallets[0], PAYEE, PRICE, NONCE, None)
    assert await bed.chain.incoming_logs(BASE_USDC, [Address(b"\x09" * 20)], 0, to) == ()
    assert await bed.chain.outgoing_logs(BASE_USDC, [PAYEE], 0, to) == ()
    assert await bed.chain.incoming_logs(BASE_USDC, [], 0, to) == ()
    assert await bed.chain.outgoing_logs(BASE_USDC, [PAYEE], to, to - 1) == ()


async def test_neither_is_known_of_a_block_that_is_not_there(bed: Bed) -> None:
    """A node that has not got there would answer with nothing, which must not look like nothing happened."""
    far = (await bed.chain.final()).number + 1_000
    for ask in (bed.chain.incoming_logs, bed.chain.outgoing_logs):
        with pytest.raises(ChainUnavailable):
            await ask(BASE_USDC, [PAYEE], 0, far)


async def test_p14_contradicting_endpoints_prove_no_transfer(bed: Bed) -> None:
    """P14: one that hides a transfer makes the question unknown."""
    bed.settle(authorization(bed, NONCE))
    bed.mine(2)
    to = (await bed.chain.final()).number
    bed.contradict()
    for ask in (bed.chain.incoming_logs, bed.chain.outgoing_logs):
        with pytest.raises((ChainDisagreement, ChainUnavailable)):
            await ask(BASE_USDC, [PAYEE], 0, to)


async def at_once(_what: str) -> None:
    """Go on."""


@dataclass
class Shop:
    """A till at PAYEE on an anvil, with a real store."""

    bed: AnvilBed
    base: LocalBase
    db: "sqlite3.Connection"

    def __post_init__(self) -> None:
        self.store = InlineStore.over(self.db, None, before_commit=at_once, after_commit=at_once, before_read=at_once)
        parts: dict[str, Any] = {"store": self.store, "clock": Clock(), "entropy": SystemEntropy()}
        tills = [Till(PAYEE, (BASE_USDC,))]
        deposits = Deposits(store=self.store, tills=tills)
        crediting = Crediting(
            **parts, chain=self.bed.chain, deposit_of=deposits.account_of, rates_ppm={}, own=frozenset()
        )
        returning = Returning(**parts, chain=self.bed.chain)
        self.receipts = Receipts(
            **parts,
            chain=self.bed.chain,
            tills=tills,
            crediting=crediting,
            returning=returning,
            balances_every_s=0.0,
        )

    async def order(self, nonce: bytes, value_base: int = PRICE) -> TopUp:
        """Claim the payment of the bed's first wallet with this nonce for an order of acc_1."""
        now_ms = WallClock().now_ms()
        order = TopUp(
            id=f"top_{nonce.hex()[:8]}",
            account_id="acc_1",
            amount_base=value_base,
            pack="",
            client_token="",
            fingerprint=sha256(nonce).digest(),
            created_at_ms=now_ms,
            expires_at_ms=now_ms + 300_000,
            state=TopUpState.PAYING,
            chain_id=8453,
            token=BASE_USDC.address,
            payer=self.bed.wallets[0],
            nonce=nonce,
            value_base=value_base,
            valid_before_s=now_ms // 1000 + 900,
        )
        assert isinstance(await self.store.post(PutTopUp(order, "paying", now_ms)), c.Done)
        return order

    async def state(self, order: TopUp) -> TopUpState:
        """Return an order's state as committed."""
        found = await self.store.topup(order.id)
        assert found is not None
        return found.state

    @property
    def available(self) -> int:
        """What acc_1 has, in USD base units."""
        return self.store.view.balances["acc_1"].available_base


class Clock(WallClock):
    """The wall clock, as the port has it."""

    async def sleep(self, seconds: float) -> None:
        """Nothing here waits."""
        raise AssertionError(seconds)


@pytest.fixture
async def shop(automine_base: LocalBase) -> AsyncIterator[Shop]:
    """The till, its first blocks read."""
    db = memory_database()
    async with anvil_bed(automine_base) as anvil:
        made = Shop(anvil, automine_base, db)
        await made.store.post(c.OpenAccount(make_account()))
        await made.receipts.poll()
        yield made
        await made.store.close()
    db.close()


async def test_p14_a_real_payment_is_credited_when_final_and_lost_in_a_reorg(shop: Shop) -> None:
    """One order is paid and stays, another's block is replaced: the one is credited, the other never was."""
    kept, lost = await shop.order(b"\x01" * 32), await shop.order(b"\x02" * 32)
    shop.bed.settle(authorization(shop.bed, b"\x01" * 32))
    shop.bed.mine(3)
    await shop.receipts.poll()
    assert (await shop.state(kept), shop.available) == (TopUpState.CREDITED, PRICE)
    shop.bed.settle(authorization(shop.bed, b"\x02" * 32))
    shop.bed.reorg(1)
    shop.bed.mine(3)
    await shop.receipts.poll()
    assert (await shop.state(lost), shop.available) == (TopUpState.PAYING, PRICE)
    verify_book(shop.db)


async def test_p14_a_witness_that_hides_the_payment_makes_it_unknown(shop: Shop) -> None:
    """No credit and a task while they contradict each other; the credit comes when they agree, once."""
    order = await shop.order(NONCE)
    shop.bed.settle(authorization(shop.bed, NONCE))
    shop.bed.mine(3)
    shop.bed.nodes[1].rewrite = lambda method, _params, result: [] if method == "eth_getLogs" else result
    with pytest.raises(ChainDisagreement):
        await shop.receipts.poll()
    assert (await shop.state(order), shop.available) == (TopUpState.PAYING, 0)
    shop.bed.nodes[1].rewrite = None
    for _ in range(2):
        shop.bed.mine()
        await shop.receipts.poll()
    assert (await shop.state(order), shop.available) == (TopUpState.CREDITED, PRICE)
    verify_book(shop.db)


async def test_a_plain_transfer_of_a_strangers_is_kept_for_the_operator(shop: Shop) -> None:
    """A real transfer, unsigned by any authorization."""
    data = Contract.load("DevUSDC").call("transfer(address,uint256)", to_hex(PAYEE), FUNDS_BASE)
    shop.base.receipt(shop.base.send(to_hex(BASE_USDC.address), data, sender=shop.base.dev_account(0)[0]))
    shop.bed.mine(3)
    await shop.receipts.poll()
    (found,) = await shop.store.unclaimed("", 10)
    assert (found.value_base, found.sender) == (FUNDS_BASE, parse_address(shop.base.dev_account(0)[0]))
    assert (shop.available, found.refundable) == (0, False)
    verify_book(shop.db)
