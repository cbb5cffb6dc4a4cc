"""Who waits for which settlement, what it has become, and how that is said.

Must not know chains or transactions. Theory: an authorization has one outcome, so whoever asks for it, first, at the same
time or a year later, is told the same one; and what may still land is never told as failed, because whoever hears that
signs anew and pays twice.
"""

import asyncio
from collections.abc import Callable

from gateway.core.paid import Identity, Settlement, SettlementState
from gateway.paid_ports import Settled
from gateway.rails.x402.reasons import Reason

__all__ = ["Told", "answer_of"]

RECENT_MAX = 20_000
_DECIDED = frozenset({SettlementState.MINED, SettlementState.FINAL, SettlementState.FAILED})
_COLLECTED = frozenset({SettlementState.MINED, SettlementState.FINAL})


class Told:
    """The newest version of what is open or ended lately, and the futures of those who wait for it."""

    def __init__(self, recent_max: int = RECENT_MAX) -> None:
        self._recent_max = recent_max
        self._newest: dict[Identity, Settlement] = {}
        self._waiters: dict[str, list[asyncio.Future[Settlement]]] = {}
        self._released = False

    def of(self, identity: Identity) -> Settlement | None:
        """Return the newest version that was told."""
        return self._newest.get(identity)

    def tell(self, settlement: Settlement) -> None:
        """Take a committed version, and wake who waits for an outcome."""
        known = self._newest.get(settlement.identity)
        if known is not None and known.version > settlement.version:
            return
        self._newest.pop(settlement.identity, None)
        self._newest[settlement.identity] = settlement
        self._forget()
        if settlement.state in _DECIDED:
            for waiter in self._waiters.pop(settlement.id, ()):
                if not waiter.done():
                    waiter.set_result(settlement)

    async def wait(self, settlement: Settlement, wait_s: float) -> Settlement:
        """Return its outcome, or how it stands when `wait_s` are over."""
        newest = self._newest.get(settlement.identity, settlement)
        if newest.state in _DECIDED or wait_s <= 0 or self._released:
            return newest
        waiter: asyncio.Future[Settlement] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(settlement.id, []).append(waiter)
        try:
            async with asyncio.timeout(wait_s):
                return await waiter
        except TimeoutError:
            return self._newest.get(settlement.identity, newest)
        finally:
            self._leave(settlement.id, waiter)

    def release(self) -> None:
        """Let everybody go with what is known, from now on: the process ends."""
        self._released = True
        known = {settlement.id: settlement for settlement in self._newest.values()}
        for settlement_id, waiters in list(self._waiters.items()):
            for waiter in waiters:
                if not waiter.done() and settlement_id in known:
                    waiter.set_result(known[settlement_id])

    def _leave(self, settlement_id: str, waiter: "asyncio.Future[Settlement]") -> None:
        waiters = self._waiters.get(settlement_id)
        if waiters is not None and waiter in waiters:
            waiters.remove(waiter)
            if not waiters:
                del self._waiters[settlement_id]

    def _forget(self) -> None:
        """Drop the oldest outcome beyond the most that are kept; what is open stays, and the store knows the rest."""
        if len(self._newest) <= self._recent_max:
            return
        oldest = next((i for i, s in self._newest.items() if s.state in _DECIDED), None)
        if oldest is not None:
            del self._newest[oldest]


def answer_of(settlement: Settlement, network: str, tx_hash_of: Callable[[Settlement], bytes | None]) -> Settled:
    """Return a settlement as it is told; `tx_hash_of` knows the transaction that carries it now."""
    collected = settlement.state in _COLLECTED
    failed = settlement.state is SettlementState.FAILED
    tx_hash = settlement.tx_hash if collected or failed else tx_hash_of(settlement)
    reason = "" if collected else settlement.reason if failed else str(Reason.PENDING)
    return Settled(
        success=collected,
        reason=reason,
        message="" if collected else _MESSAGES.get(reason, ""),
        payer=settlement.authorizer,
        tx_hash=tx_hash,
        network=network,
        amount_base=settlement.value_base,
        settlement_id=settlement.id,
    )


_MESSAGES = {
    str(Reason.PENDING): "it may still land: ask again with the same payment, and sign no other one",
    str(Reason.TRANSACTION_FAILED): "it was in a transaction, and the token did not take it",
    str(Reason.DUPLICATE): "another payload with this authorization's nonce was taken before",
}
