"""Our own facilitator: verifies with the chain's newest state, and hands what is good to the engine that collects it.

Must not know HTTP, keys or who may ask. Theory: verifying promises nothing and changes nothing, so settling verifies again;
and a payment that was claimed once is never judged a second time but gets the first answer, for the window that it was
signed for may have passed since, and the money has moved all the same.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from contracts.codec import Address, checksum
from contracts.networks import Network
from gateway.core.paid import Identity, Settlement
from gateway.facilitator.verify import Verifier, may_claim_again
from gateway.paid_ports import Engine, Exact, FacilitatorUnknown, Json, Rejected, Settled
from gateway.ports import ChainUnavailable
from gateway.rails.x402.reasons import Reason
from gateway.rails.x402.wire import clean_text

EXACT = "exact"
FAMILY = "eip155:*"
MAX_NETWORK_CHARS = 64


class LocalFacilitator:
    """The port `Facilitator`, on chains that we send to ourselves.

    `settlement_of` returns what was ever claimed for an authorization, from the store. `max_wait_s` is how long a settlement
    is waited for before the answer is settlement_pending.
    """

    def __init__(
        self,
        verifier: Verifier,
        engine: Engine,
        settlement_of: Callable[[Identity], Awaitable[Settlement | None]],
        *,
        max_wait_s: float,
    ) -> None:
        self._verifier, self._engine, self._settlement_of = verifier, engine, settlement_of
        self._max_wait_s = max_wait_s

    def read(self, version: object, payload: object, requirements: object) -> Exact | Rejected:
        """Return the payment as it says itself, or why it is none (checks 1 to 9). Asks nobody."""
        return self._verifier.read(version, payload, requirements)

    async def verify(self, version: int, payload: Json, requirements: Json) -> Rejected | Address:
        """See `Facilitator.verify`."""
        exact = self.read(version, payload, requirements)
        return exact if isinstance(exact, Rejected) else await self.verify_exact(exact)

    async def verify_exact(self, exact: Exact) -> Rejected | Address:
        """Return the payer of a payment that was read, if it could be collected now. Raises FacilitatorUnknown."""
        try:
            return await self._verifier.verify(exact) or exact.authorization.authorizer
        except ChainUnavailable as error:
            raise FacilitatorUnknown(f"the chain does not answer: {error}") from error

    async def settle(self, version: int, payload: Json, requirements: Json, account_id: str) -> Settled:
        """See `Facilitator.settle`."""
        exact = self.read(version, payload, requirements)
        if isinstance(exact, Rejected):
            return refused(exact, requirements)
        return await self.settle_exact(exact, account_id)

    async def settle_exact(self, exact: Exact, account_id: str) -> Settled:
        """Have a payment that was read collected, or return what became of it before.

        Raises FacilitatorUnknown. Of a failure without a transaction's hash nothing was sent, but for settlement_pending:
        that one is claimed, waits for its turn, and may still be sent.
        """
        known = self._engine.find(exact.authorization.key)
        if known is None or may_claim_again(known):
            try:
                wrong = await self._verifier.before_claim(exact)
            except ChainUnavailable:
                # Nothing was claimed and so nothing was sent: this much is known.
                wrong = Rejected(Reason.SETTLE_UNKNOWN, "the chain does not answer", exact.authorization.authorizer)
            if wrong is not None and not await self._is_decided(known, exact.authorization.key):
                return _failed(wrong, exact.network)
        try:
            return await self._engine.settle(exact, account_id, self._max_wait_s)
        except ChainUnavailable as error:
            raise FacilitatorUnknown(f"the chain does not answer: {error}") from error

    async def supported(self) -> Json:
        """Return what GET /supported answers: both versions, under version 1 names only chains that are served."""
        chain_ids = sorted({chain_id for chain_id, _ in self._verifier.tokens})
        kinds: list[dict[str, Any]] = []
        for network in map(Network, chain_ids):
            kinds.append({"x402Version": 2, "scheme": EXACT, "network": network.caip2})
            if network.v1_name is not None:
                kinds.append({"x402Version": 1, "scheme": EXACT, "network": network.v1_name})
        reaches = self._verifier.reaches
        signers = sorted({checksum(each) for chain_id in chain_ids for each in reaches[chain_id].relayers})
        return {"kinds": kinds, "extensions": [], "signers": {FAMILY: signers}}

    async def _is_decided(self, known: Settlement | None, identity: Identity) -> bool:
        """Say whether it was claimed before, long ago perhaps: what is good goes to the engine, which finds that itself."""
        if known is None:
            known = await self._settlement_of(identity)
        return known is not None and not may_claim_again(known)


def refused(rejected: Rejected, requirements: object) -> Settled:
    """Return the answer to a settlement of what is no payment; the network is repeated as it was asked for."""
    network = requirements.get("network") if isinstance(requirements, dict) else None
    return _failed(rejected, clean_text(network, MAX_NETWORK_CHARS) if isinstance(network, str) else "")


def _failed(rejected: Rejected, network: str) -> Settled:
    return Settled(False, rejected.reason, rejected.message, rejected.payer, None, network)
