"""Our facilitator with its real engine, store and signer on a local Base: all that a payment goes through but HTTP."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from contracts.batch import SETTLE, batch_address
from contracts.calls import TRANSFER_BYTES, TRANSFER_VRS
from contracts.codec import checksum
from contracts.signature import address_of, load_key
from contracts.tokens import BASE_USDC
from gateway.chains.finality import Finality
from gateway.chains.quorum import QuorumChain
from gateway.chains.relay import RpcRelayChain
from gateway.chains.rpc import RpcEndpoint
from gateway.core.commands import Done, OpenAccount
from gateway.core.paid import SellerTerms
from gateway.core.paid_commands import PutSeller
from gateway.core.records import AgentAccount
from gateway.facilitator.desk import DeskParts, Relayer, Rules
from gateway.facilitator.engine import SettlementEngine
from gateway.facilitator.local import LocalFacilitator
from gateway.facilitator.verify import Reach, Verifier
from gateway.paid_ports import Rejected, Settled
from gateway.store.sqlite import SqliteStore
from gateway.system import SystemClock, SystemEntropy
from tests.factories import never_frozen
from tests.unit.gateway.facilitator.payments_bed import TOKENS
from wallets.guard import CallKey, Guard, Policy, WalletPolicy
from wallets.secret import Secret
from wallets.signer import LocalSigner
from wallets.watermark import Watermark

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from sandbox.chain import LocalBase
    from tests.unit.gateway.facilitator.payments_bed import Sent

RELAYER_KEY = b"\x71" * 32
RULES = Rules(linger_s=0.0, poll_s=0.05)
ETHER = 10**18


@dataclass
class SettlingBed:
    """Everything, running. `seller` is the account whose terms allow it to settle."""

    base: LocalBase
    store: SqliteStore
    engine: SettlementEngine
    facilitator: LocalFacilitator
    relayer: str
    seller: str = "acc_1"

    async def verify(self, sent: Sent) -> str:
        """Return why a payment is not valid, "" where it is."""
        found = await self.facilitator.verify(sent.version, sent.payload, sent.requirements)
        return found.reason if isinstance(found, Rejected) else ""

    async def settle(self, sent: Sent, account_id: str = "") -> Settled:
        """Have a payment collected for a seller."""
        account = account_id or self.seller
        return await self.facilitator.settle(sent.version, sent.payload, sent.requirements, account)

    def transactions(self) -> int:
        """Return how many transactions the relayer has ever sent, those in no block yet included."""
        return int(self.base.rpc("eth_getTransactionCount", self.relayer, "pending"), 16)

    async def terms(self, **changes: Any) -> None:
        """Change the seller's terms."""
        kept = await self.store.seller(self.seller)
        terms = {"gas_budget_wei": 10**15, "window_s": 3_600, "latency_s": 0.0, "payees": (), "created_at_ms": 1}
        version = 1 if kept is None else kept.version + 1
        made = SellerTerms(account_id=self.seller, version=version, **{**terms, **changes})
        assert isinstance(await self.store.post(PutSeller(made, "test", SystemClock().now_ms())), Done)


def relayer_signer(watermark: Watermark) -> LocalSigner:
    """Return a relayer's signer: it may call the token and the batch contract, carry no ether, and pay some gas."""
    address = address_of(load_key(RELAYER_KEY))
    calls = {
        CallKey(8453, BASE_USDC.address, TRANSFER_VRS): 0,
        CallKey(8453, BASE_USDC.address, TRANSFER_BYTES): 0,
        CallKey(8453, batch_address(), SETTLE): 0,
        CallKey(8453, address, b""): 0,
    }
    policy = WalletPolicy(frozenset({8453}), {}, frozenset(), 0, calls=calls, max_fee_wei=ETHER)
    guard = Guard(Policy({address: policy}, frozenset({address})), never_frozen)
    return LocalSigner(address, Secret(RELAYER_KEY), guard, watermark, lambda: SystemClock().now_ms() // 1000)


@contextlib.asynccontextmanager
async def settling_on(base: LocalBase, directory: Path) -> AsyncIterator[SettlingBed]:
    """Start it, with a relayer that has ether, and stop it."""
    clock, entropy = SystemClock(), SystemEntropy()
    async with contextlib.AsyncExitStack() as stack:
        store = await SqliteStore.open(directory / "gateway.db")
        stack.push_async_callback(store.close)
        assert isinstance(await store.post(OpenAccount(AgentAccount("acc_1", "a seller", clock.now_ms()))), Done)
        watermark = Watermark.create(directory / "watermark")
        stack.callback(watermark.close)
        signer = relayer_signer(watermark)
        relayer = checksum(signer.address)
        base.rpc("anvil_setBalance", relayer, hex(ETHER))
        proof = QuorumChain([RpcEndpoint(base.rpc_url)], chain_id=8453, finality=Finality(), quorum=1)
        stack.push_async_callback(proof.close)
        endpoint = RpcEndpoint(base.rpc_url)
        stack.push_async_callback(endpoint.close)
        chain = RpcRelayChain([endpoint], 8453)
        parts = DeskParts(chain, proof, [BASE_USDC], [Relayer(signer, 0, 0)])
        engine = SettlementEngine(store=store, desks=[parts], rules=RULES, clock=clock, entropy=entropy)
        engine.start()
        stack.push_async_callback(engine.drain, 2.0)
        sweeping = asyncio.create_task(_sweep(engine))
        stack.callback(sweeping.cancel)
        verifier = Verifier(TOKENS, {8453: Reach(chain, (signer.address,))}, engine.find, clock, gas=200_000)
        facilitator = LocalFacilitator(verifier, engine, store.settlement_of, max_wait_s=20.0)
        bed = SettlingBed(base, store, engine, facilitator, relayer)
        await bed.terms()
        yield bed


async def _sweep(engine: SettlementEngine) -> None:
    while True:
        await asyncio.sleep(0.3)
        await engine.sweep()
