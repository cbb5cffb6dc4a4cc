"""Credit ahead of finality: a loan of the house to orders whose payment is in a block, within the operator's caps.

Must not know how a payment was seen.  Theory (P6, P14): what is in a block may still be undone, so until a final block
proves it the house bears the risk and not the books of others; the book decides every loan by the caps, and the receipt
pays it back before it credits anybody.
"""

import structlog

from gateway.core.commands import Done, Refused
from gateway.core.paid import TopUp, TopUpState
from gateway.core.paid_commands import LendTopUp
from gateway.ports import Clock, Store

log = structlog.get_logger()


class Lending:
    """Lends to what is seen. `cap_base` is of all loans together, `account_cap_base` of one account's, in USD; 0 is none."""

    def __init__(self, *, store: Store, clock: Clock, cap_base: int, account_cap_base: int) -> None:
        self._store, self._clock = store, clock
        self._cap_base, self._account_cap_base = cap_base, account_cap_base

    async def sweep(self) -> None:
        """Lend to every order that waits for finality, the oldest first, as far as the caps go."""
        left_base = self._cap_base - sum(order.lent_base for order in self._store.view.topups.values())
        for order in sorted(self._waiting(), key=lambda order: order.id):
            if order.amount_base <= left_base and await self.lend(order.id):
                left_base -= order.amount_base

    async def lend(self, topup_id: str) -> bool:
        """Lend to one order, and say whether it is credited now; the book refuses what is above a cap, or not seen."""
        if not (self._cap_base and self._account_cap_base):
            return False
        now_ms = self._clock.now_ms()
        result = await self._store.post(LendTopUp(topup_id, self._cap_base, self._account_cap_base, now_ms))
        if isinstance(result, Refused):
            return False
        if isinstance(result, Done) and result.changed:
            log.info("topup.lent", topup=topup_id)
        return True

    def _waiting(self) -> list[TopUp]:
        """An account that nobody has opened yet borrows nothing: it opens when the payment is final.

        Orders above what one account may borrow are not asked about: the book would refuse each of them each time.
        """
        return [
            order
            for order in self._store.view.topups.values()
            if order.state is TopUpState.SEEN
            and order.account_id is not None
            and not order.lent_base
            and order.amount_base <= self._account_cap_base
        ]
