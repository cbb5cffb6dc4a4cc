"""There and back on a real chain: paid through the engine, credited by the receipts, refunded through the engine."""

import asyncio
import time
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from engine_bed import CHAIN, Bed, Horizon, Payer, Randomness, bed, many

from contracts.codec import Address, checksum, to_hex
from contracts.signature import address_of, load_key
from contracts.tokens import BASE_USDC
from gateway.core import chart
from gateway.core.commands import Done, OpenAccount, SetFreeze
from gateway.core.paid import Refund, RefundState, RelayState, SettlementState, TopUp, TopUpState
from gateway.core.paid_commands import PutTopUp
from gateway.flow.heads import Heads
from gateway.flow.paid.crediting import Crediting
from gateway.flow.paid.receipts import Receipts
from gateway.flow.paid.refunds import RefundAsked, RefundParts, Refunds
from gateway.flow.paid.returning import Returning
from gateway.flow.paid.tills import Till
from gateway.operator.registry import operate
from gateway.operator.services import Services
from gateway.paid_ports import Exact
from sandbox.chain import LocalBase
from tests.factories import make_account, never_frozen
from wallets.guard import Guard, Policy, WalletPolicy
from wallets.secret import Secret
from wallets.signer import LocalSigner

TILL_KEY = sha256(b"till").digest()
TILL = address_of(load_key(TILL_KEY))
PRICE = 400_000


class Unmarked(Horizon):
    """A watermark that is not looked at."""

    def record(self, height: int, digest: bytes) -> None:
        """Do nothing."""


@dataclass
class Counter:
    """A till over an engine's bed: to be made again after each restart of it."""

    it: Bed

    def __post_init__(self) -> None:
        parts: dict[str, Any] = {"store": self.it.store, "clock": self.it.clock, "entropy": Randomness()}
        self.heads = Heads()
        self.receipts = Receipts(
            **parts,
            chain=self.it.proof,
            tills=[Till(TILL, (BASE_USDC,))],
            crediting=Crediting(
                **parts, chain=self.it.proof, deposit_of=lambda _token, _moved: None, rates_ppm={}, own=frozenset()
            ),
            returning=Returning(**parts, chain=self.it.proof),
            balances_every_s=0.0,
        )
        policy = WalletPolicy(frozenset({CHAIN}), {BASE_USDC.key: 10**9}, frozenset(), 4_000, refunds=True)
        guard = Guard(Policy({TILL: policy}, frozenset({TILL})), never_frozen, self._may_refund)
        signer = LocalSigner(TILL, Secret(TILL_KEY), guard, Unmarked(), lambda: int(time.time()))
        self.refunds = Refunds(
            **parts,
            heads=self.heads,
            mark=Unmarked(),
            parts=RefundParts({BASE_USDC.key: BASE_USDC}, {TILL: signer}, self.it.engine, {}, {}, 3_600),
        )

    def _may_refund(self, till: Address, to: Address) -> bool:
        return till == TILL and to in self.it.store.view.funders

    async def order(self, exact: Exact, n: int = 1) -> TopUp:
        """Claim a payment for order n of acc_1."""
        auth, now_ms = exact.authorization, self.it.clock.now_ms()
        order = TopUp(
            id=f"top_{n}",
            account_id="acc_1",
            amount_base=auth.value_base,
            pack="",
            client_token="",
            fingerprint=sha256(b"%d" % n).digest(),
            created_at_ms=now_ms,
            expires_at_ms=now_ms + 300_000,
            state=TopUpState.PAYING,
            rail="x402",
            chain_id=CHAIN,
            token=BASE_USDC.address,
            payer=auth.authorizer,
            nonce=auth.nonce,
            value_base=auth.value_base,
            valid_before_s=auth.valid_before,
        )
        assert isinstance(await self.it.store.post(PutTopUp(order, "paying", now_ms)), Done)
        return order

    async def look(self) -> None:
        """Let what is mined become final, and read it."""
        self.it.base.mine(3)
        self.heads.saw(CHAIN, await self.it.proof.head(), await self.it.proof.final())
        await self.receipts.poll()

    async def paid(self, payer: Payer) -> str:
        """Pay an order through the engine; return its receipt's id."""
        exact = payer.pays(PRICE, pay_to=TILL)
        order = await self.order(exact)
        assert (await self.it.settle(exact)).success
        await self.look()
        found = await self.it.store.topup(order.id)
        assert found is not None
        assert found.state is TopUpState.CREDITED
        assert found.receipt_id is not None
        return found.receipt_id

    async def ask(self, receipt_id: str) -> Refund:
        """Ask everything back."""
        return (await self.refunds.open(RefundAsked("acc_1", "key_1", receipt_id, None, None, "one", bytes(32)))).refund

    async def ended(self, refund: Refund) -> Refund:
        """Return a refund as committed."""
        found = await self.it.store.refund(refund.id)
        assert found is not None
        return found


async def traced(it: Bed, refund: Refund) -> dict[str, Any]:
    """Return a refund as `gateway trace` shows it."""
    services = Services(it.store, it.clock, Randomness(), {}, frozenset())
    (shown,) = (await operate(services, "trace", {"what": refund.id}, "test"))["paid"]
    assert isinstance(shown, dict)
    return shown


async def test_money_goes_there_and_back_through_one_engine(local_base: LocalBase, tmp_path: Path) -> None:
    """The payer has what it had, the till nothing, the account nothing; and each authorization was collected once."""
    async with bed(local_base, tmp_path) as it:
        (payer,) = many(1)
        it.fund([payer])
        await it.store.post(OpenAccount(make_account()))
        counter = Counter(it)
        await counter.look()
        refund = await counter.ask(await counter.paid(payer))
        assert it.store.view.balances["acc_1"].available_base == 0
        assert "settlement_id" not in await traced(it, refund)
        await counter.refunds.sweep()
        await it.until(lambda: it.received(payer.address) == 1_000_000)
        await counter.look()
        done = await counter.ended(refund)
        assert done.state is RefundState.SETTLED
        assert it.received(TILL) == 0
        await it.until(lambda: not [s for s in it.store.view.settlements.values() if s.state is SettlementState.SENT])
        settlement = await it.store.settlement_of((CHAIN, BASE_USDC.address, TILL, refund.nonce))
        assert settlement is not None
        assert settlement.state in {SettlementState.MINED, SettlementState.FINAL}
        assert settlement.tx_hash == done.tx_hash
        assert (await traced(it, refund))["settlement_id"] == settlement.id
        assert await it.store.contradiction() is None


async def test_p12_a_refund_that_was_sent_when_the_process_died_comes_back_once(
    local_base: LocalBase, tmp_path: Path
) -> None:
    """Killed after the engine took it: the next process finds it, and the payer has its money once."""
    async with bed(local_base, tmp_path) as it:
        (payer,) = many(1)
        it.fund([payer])
        await it.store.post(OpenAccount(make_account()))
        counter = Counter(it)
        await counter.look()
        refund = await counter.ask(await counter.paid(payer))
        await counter.refunds.sweep()
        await it.kill()
        await it.open()
        counter = Counter(it)
        await counter.refunds.sweep()
        await it.until(lambda: it.received(payer.address) == 1_000_000)
        await counter.refunds.sweep()
        await counter.look()
        assert (await counter.ended(refund)).state is RefundState.SETTLED
        assert (it.received(payer.address), it.received(TILL)) == (1_000_000, 0)
        assert await it.store.contradiction() is None


async def test_p8_a_refund_that_was_claimed_does_not_leave_while_it_is_frozen(
    local_base: LocalBase, tmp_path: Path
) -> None:
    """Frozen between claim and transaction: it waits, also for the next process, others go on; lifted, it lands once."""
    async with bed(local_base, tmp_path, linger_s=1.0) as it:
        payer, other = many(2)
        it.fund([payer, other])
        await it.store.post(OpenAccount(make_account()))
        counter = Counter(it)
        await counter.look()
        refund = await counter.ask(await counter.paid(payer))
        freeze = SetFreeze(chart.wallet("0x" + TILL.hex()), frozen=True, reason="drill", by="operator", at_ms=1)
        await counter.refunds.sweep()
        await it.store.post(freeze)
        assert (await it.settle(other.pays())).success, "what is not stopped is not held up, in the same load"
        await it.kill()
        await it.open()
        assert (await it.settle(other.pays())).success
        await it.engine.sweep()
        settlement = await it.store.settlement_of((CHAIN, BASE_USDC.address, TILL, refund.nonce))
        assert settlement is not None
        assert (settlement.state, it.received(TILL)) == (SettlementState.CLAIMED, PRICE)
        await it.store.post(replace(freeze, frozen=False))
        await it.until(lambda: it.received(payer.address) == 1_000_000)
        counter = Counter(it)
        await counter.look()
        assert (await counter.ended(refund)).state is RefundState.SETTLED
        assert await it.store.contradiction() is None


async def test_a_refund_that_cost_gas_and_failed_is_tried_again(automine_base: LocalBase, tmp_path: Path) -> None:
    """Our own till signed it: a payer who could not receive in that block gets the money from the next transaction."""
    async with bed(automine_base, tmp_path, house_gas_budget_wei=0) as it:
        (payer,) = many(1)
        it.fund([payer])
        await it.store.post(OpenAccount(make_account()))
        counter = Counter(it)
        await counter.look()
        await counter.ask(await counter.paid(payer))
        automine_base.rpc("evm_setAutomine", False)
        await counter.refunds.sweep()
        await it.until(lambda: [r for r in it.store.view.relays.values() if r.state is RelayState.SENT])
        (relay,) = [r for r in it.store.view.relays.values() if r.state is RelayState.SENT]
        await it.until(lambda: automine_base.rpc("eth_getTransactionByHash", to_hex(relay.attempts[0].tx_hash)))
        automine_base.rpc("anvil_dropTransaction", to_hex(relay.attempts[0].tx_hash))
        automine_base.rpc("evm_setAutomine", True)
        await asyncio.to_thread(automine_base.set_blacklisted, checksum(payer.address))
        automine_base.rpc("eth_sendRawTransaction", to_hex(relay.attempts[0].raw))
        await it.until(lambda: relay.id not in it.store.view.relays or it.store.view.relays[relay.id].status == 0)
        await asyncio.to_thread(automine_base.set_blacklisted, checksum(payer.address), False)
        it.clock.ahead_ms = 16_000  # it is asked about again after a while
        await counter.refunds.sweep()
        await it.until(lambda: it.received(payer.address) == 1_000_000)
        assert it.received(TILL) == 0
