"""A till on a real local Tempo: a deposit by memo, an order by its transaction, and a refund that pays its own fee (P7, P13)."""

import time
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest
from tempo_beds import TOKEN, RealTempo, tempo_bed

from contracts.codec import Address, to_hex
from contracts.signature import address_of, load_key
from contracts.tempo import TempoCharge, TempoTransfer
from gateway.chains.broadcast import RpcBroadcaster
from gateway.chains.rpc import RpcEndpoint
from gateway.core import commands as c
from gateway.core.paid import RefundState, TopUp, TopUpState
from gateway.core.paid_commands import PutTopUp
from gateway.flow.heads import Heads
from gateway.flow.paid.crediting import Crediting
from gateway.flow.paid.deposits import Deposits, memo_of
from gateway.flow.paid.receipts import Receipts
from gateway.flow.paid.refunds import RefundAsked, RefundParts, Refunds
from gateway.flow.paid.returning import Returning
from gateway.flow.paid.tills import Till
from gateway.store.load import verify_book
from gateway.system import SystemClock, SystemEntropy
from sandbox.tempo.chain import LocalTempo
from tests.factories import make_account, never_frozen
from tests.fakes.store import InlineStore, memory_database
from wallets.guard import Guard, Policy, WalletPolicy
from wallets.secret import Secret
from wallets.signer import LocalSigner

if TYPE_CHECKING:
    import sqlite3

USD = 1_000_000


@pytest.fixture
async def bed() -> AsyncIterator[RealTempo]:
    """A real Tempo behind two nodes."""
    with LocalTempo.start() as tempo:
        async with tempo_bed(tempo) as made:
            yield made


async def at_once(_what: str) -> None:
    """Go on."""


class Unmarked:
    """A watermark that is not looked at."""

    def record(self, height: int, digest: bytes) -> None:
        """Do nothing."""

    def note_valid_before(self, valid_before: int) -> None:
        """Do nothing."""


class Shop:
    """A till, its store, and the loops that look after it."""

    def __init__(self, bed: RealTempo, db: "sqlite3.Connection", broadcaster: RpcBroadcaster) -> None:
        self.bed, key = bed, sha256(time.time_ns().to_bytes(8, "big")).digest()
        self.till = address_of(load_key(key))
        self.store = InlineStore.over(db, None, before_commit=at_once, after_commit=at_once, before_read=at_once)
        self.heads = Heads()
        parts: dict[str, Any] = {"store": self.store, "clock": SystemClock(), "entropy": SystemEntropy()}
        tills = [Till(self.till, (TOKEN,))]
        deposits = Deposits(store=self.store, tills=tills)
        self.receipts = Receipts(
            **parts,
            chain=bed.chain,
            tills=tills,
            crediting=Crediting(
                **parts, chain=bed.chain, deposit_of=deposits.account_of, rates_ppm={}, own=frozenset()
            ),
            returning=Returning(**parts, chain=bed.chain),
            balances_every_s=0.0,
        )
        ceilings = {TOKEN.key: 10**9}
        policy = WalletPolicy(frozenset({TOKEN.chain_id}), ceilings, frozenset(), 60, max_fee_base=50_000, refunds=True)
        guard = Guard(Policy({self.till: policy}, frozenset({self.till})), never_frozen, self._may_refund)
        signer = LocalSigner(self.till, Secret(key), guard, Unmarked(), lambda: int(time.time()))
        self.refunds = Refunds(
            **parts,
            heads=self.heads,
            mark=Unmarked(),
            parts=RefundParts({TOKEN.key: TOKEN}, {self.till: signer}, None, {TOKEN.chain_id: broadcaster}, {}, 3_600),
        )

    def _may_refund(self, _till: Address, to: Address) -> bool:
        return to in self.store.view.funders

    def pay(self, value_base: int, memo: bytes) -> TempoCharge:
        """Return what the bed's wallet signs to pay the till."""
        return TempoCharge(
            token=TOKEN,
            wallet=self.bed.wallet,
            transfers=(TempoTransfer(self.till, value_base, memo),),
            valid_before=int(time.time()) + 25,
            gas=1_000_000,
            max_fee_per_gas=40 * 10**9,
            max_priority_fee_per_gas=10**9,
            sponsored=False,
        )

    async def order(self, charge: TempoCharge) -> TopUp:
        """Claim a transaction for an order of acc_1, before it is sent."""
        now_ms = SystemClock().now_ms()
        order = TopUp(
            id="top_1",
            account_id="acc_1",
            amount_base=charge.amount_base,
            pack="",
            client_token="",
            fingerprint=bytes(32),
            created_at_ms=now_ms,
            expires_at_ms=now_ms + 300_000,
            state=TopUpState.PAYING,
            rail="mpp_tempo",
            chain_id=TOKEN.chain_id,
            token=TOKEN.address,
            payer=self.bed.wallet,
            nonce=self.bed.known_hash(charge),
            value_base=charge.amount_base,
            valid_before_s=charge.valid_before,
        )
        assert isinstance(await self.store.post(PutTopUp(order, "paying", now_ms)), c.Done)
        return order

    async def look(self, tx_hash: bytes) -> None:
        """Wait for a transaction's block to be final, and read it."""
        await self.bed.settled(tx_hash)
        self.heads.saw(TOKEN.chain_id, await self.bed.chain.head(), await self.bed.chain.final())
        await self.receipts.poll()

    async def held(self, owner: Address) -> int:
        """Return what somebody holds at the newest final block."""
        return await self.bed.chain.token_balance(TOKEN, owner, await self.bed.chain.final())

    @property
    def booked(self) -> int:
        """What the book says that the till holds."""
        return self.store.view.wallets[to_hex(self.till), TOKEN.asset_id].available_base

    def available(self, account_id: str) -> int:
        """What an account has, in USD base units."""
        return self.store.view.balances[account_id].available_base


async def test_paid_by_transaction_deposited_by_memo_and_refunded_with_its_fee(bed: RealTempo) -> None:
    """Everything a till does on Tempo, on a real one: the book agrees with the chain to the last unit."""
    db = memory_database()
    endpoint = RpcEndpoint(bed.tempo.rpc_url)
    shop = Shop(bed, db, RpcBroadcaster([endpoint], TOKEN.chain_id))
    for n in (1, 2):
        await shop.store.post(c.OpenAccount(make_account(n)))
    await shop.receipts.poll()
    payment = shop.pay(2 * USD, b"\xaa" * 32)
    order = await shop.order(payment)
    bed.take(payment)
    await shop.look(bed.take(shop.pay(1 * USD, memo_of("acc_2"))))
    paid = await shop.store.topup(order.id)
    assert paid is not None
    assert paid.receipt_id is not None
    assert (shop.available("acc_1"), shop.available("acc_2"), shop.booked) == (2 * USD, 1 * USD, 3 * USD)
    before = await shop.held(bed.wallet)
    refund, _ = await shop.refunds.open(RefundAsked("acc_1", "key_1", paid.receipt_id, None, None, "one", bytes(32)))
    await shop.refunds.sweep()
    assert refund.tx_hash is not None
    await shop.look(refund.tx_hash)
    done = await shop.store.refund(refund.id)
    assert done is not None
    assert done.state is RefundState.SETTLED
    assert await shop.held(bed.wallet) == before + 2 * USD
    assert 0 < 1 * USD - shop.booked <= refund.fee_base
    assert shop.booked == await shop.held(shop.till)
    assert [dict(row) for row in db.execute("SELECT kind FROM tasks")] == []
    verify_book(db)
    await shop.store.close()
    await endpoint.close()
    db.close()
