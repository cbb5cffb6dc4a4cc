"""Our facilitator on a real chain, in front of an engine that does what it is told: for what is decided before the engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from contracts.codec import Address, parse_address
from gateway.chains.relay import RpcRelayChain
from gateway.chains.rpc import RpcEndpoint
from gateway.core.paid import Identity, Settlement, SettlementState
from gateway.facilitator.local import LocalFacilitator
from gateway.facilitator.verify import Reach, Verifier
from gateway.paid_ports import Exact, Rejected, RelayChain, Settled
from gateway.system import SystemClock
from tests.unit.gateway.facilitator.payments_bed import TOKENS, Sent

if TYPE_CHECKING:
    from sandbox.chain import LocalBase

RELAYER = Address(b"\x77" * 20)
GAS = 200_000
TX_HASH = b"\x99" * 32


class ToldEngine:
    """The port `Engine`: keeps what it was asked, and answers that it is done. `known` is what it knows from before."""

    def __init__(self) -> None:
        self.asked: list[tuple[Exact, str, float]] = []
        self.known: dict[Identity, Settlement] = {}
        self.error: Exception | None = None
        self.answer: Settled | None = None

    async def settle(self, exact: Exact, account_id: str, wait_s: float) -> Settled:
        self.asked.append((exact, account_id, wait_s))
        if self.error is not None:
            raise self.error
        if self.answer is not None:
            return self.answer
        terms = exact.authorization
        return Settled(True, "", "", terms.authorizer, TX_HASH, exact.network, terms.value_base, "stl_1")

    def find(self, identity: Identity) -> Settlement | None:
        return self.known.get(identity)


@dataclass
class Bed:
    """Everything. `kept` is what the store knows of settlements that ended long ago."""

    facilitator: LocalFacilitator
    verifier: Verifier
    engine: ToldEngine
    kept: dict[Identity, Settlement] = field(default_factory=dict)

    async def reason(self, sent: Sent) -> str:
        """Return why a payment is not valid, "" where it is."""
        found = await self.facilitator.verify(sent.version, sent.payload, sent.requirements)
        return found.reason if isinstance(found, Rejected) else ""

    async def settle(self, sent: Sent, account_id: str = "acc_1") -> Settled:
        """Have it settled."""
        return await self.facilitator.settle(sent.version, sent.payload, sent.requirements, account_id)


def bed_on(chain: RelayChain, *, window_max_s: int = 0) -> Bed:
    """Return the facilitator on a chain."""
    engine = ToldEngine()
    kept: dict[Identity, Settlement] = {}

    async def settlement_of(identity: Identity) -> Settlement | None:
        return kept.get(identity)

    reaches = {chain.chain_id: Reach(chain, (RELAYER,))}
    verifier = Verifier(TOKENS, reaches, engine.find, SystemClock(), gas=GAS, window_max_s=window_max_s)
    return Bed(LocalFacilitator(verifier, engine, settlement_of, max_wait_s=45.0), verifier, engine, kept)


def relay_chain(base: LocalBase) -> tuple[RpcRelayChain, RpcEndpoint]:
    """Return the local Base as relayers see it, and what is to be closed."""
    endpoint = RpcEndpoint(base.rpc_url)
    return RpcRelayChain([endpoint], 8453), endpoint


def settlement(exact: Exact, state: SettlementState, *, ended_at_ms: int | None = None, reason: str = "") -> Settlement:
    """Return the record of a payment that was claimed before."""
    terms = exact.authorization
    return Settlement(
        id="stl_1",
        account_id="acc_1",
        chain_id=terms.token.chain_id,
        token=terms.token.address,
        authorizer=terms.authorizer,
        nonce=terms.nonce,
        pay_to=terms.pay_to,
        value_base=terms.value_base,
        valid_after_s=terms.valid_after,
        valid_before_s=terms.valid_before,
        signature=exact.signature,
        contract_wallet=False,
        created_at_ms=1,
        state=state,
        reason=reason,
        ended_at_ms=ended_at_ms,
    )


def address(text: str) -> Address:
    """Return an address's bytes."""
    return parse_address(text)
