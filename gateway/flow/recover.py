"""Finding answers that got lost: after a crash, a cut connection, or a vendor that did not know what it was doing.

Must not know what a purchase costs.  Theory (P5, P12): a presented credential whose outcome nobody saw is shown again,
byte for byte, where the route allows it, at a pace that backs off, until the vendor answers or the window has passed;
then only the chain can say what became of it.
"""

from collections.abc import Mapping

import structlog

from gateway.core.commands import RecordOutcome
from gateway.core.payment import Delivery, Fault, Transfer
from gateway.core.records import Payment
from gateway.flow.heads import Heads
from gateway.flow.present import Presenter
from gateway.flow.spend import Spend
from gateway.ports import Clock, Store, Vendor

PAUSES_S = (0.0, 1.0, 3.0, 10.0, 30.0, 60.0, 120.0, 300.0)

log = structlog.get_logger()


class Recovery:
    """Presents again what has no answer. `sweep` does everything once; jobs call it again and again."""

    def __init__(
        self,
        *,
        store: Store,
        spend: Spend,
        presenter: Presenter,
        vendors: Mapping[str, Vendor],
        heads: Heads,
        clock: Clock,
    ) -> None:
        self._store, self._spend, self._presenter = store, spend, presenter
        self._vendors, self._heads, self._clock = vendors, heads, clock
        self._tries: dict[str, int] = {}
        self._due_ms: dict[str, int] = {}

    async def sweep(self) -> None:
        """Look at every open payment once and present what is due."""
        now_ms = self._clock.now_ms()
        waiting = [p for p in self._store.view.open_payments.values() if self._lost(p)]
        kept = {p.id for p in waiting}
        self._tries = {k: v for k, v in self._tries.items() if k in kept}
        self._due_ms = {k: v for k, v in self._due_ms.items() if k in kept}
        for payment in waiting:
            if payment.axes.delivery is Delivery.NONE:
                payment = await self._interrupted(payment)  # noqa: PLW2901 - the same payment, one step on
            if self._collectable(payment) and now_ms >= self._due_ms.get(payment.id, 0):
                await self._again(payment)

    def _lost(self, payment: Payment) -> bool:
        return (
            payment.axes.delivery in (Delivery.NONE, Delivery.UNKNOWN)
            and payment.axes.transfer in (Transfer.PRESENTED, Transfer.SETTLED)
            and payment.id not in self._spend.presenting
            and not payment.disputed
        )

    def _collectable(self, payment: Payment) -> bool:
        """Past the window a vendor can only refuse, unless it has collected: then it owes an answer."""
        if payment.axes.transfer is Transfer.SETTLED:
            return True
        head = self._heads.get(payment.terms.chain_id)
        chain_s = 0 if head is None else head.time_s
        return max(chain_s, self._clock.now_ms() // 1000) < payment.terms.valid_before_s

    async def _interrupted(self, payment: Payment) -> Payment:
        """Nobody waits for this answer any more: the process that did is gone."""
        command = RecordOutcome(
            payment.id, Delivery.UNKNOWN, Fault.NONE, None, None, None, self._clock.now_ms(), "interrupted"
        )
        await self._store.post(command)
        return self._store.view.open_payments.get(payment.id, payment)

    async def _again(self, payment: Payment) -> None:
        tries = self._tries.get(payment.id, 0) + 1
        self._tries[payment.id] = tries
        pause_s = PAUSES_S[min(tries, len(PAUSES_S) - 1)]
        self._due_ms[payment.id] = self._clock.now_ms() + int(pause_s * 1000)
        vendor = self._vendors.get(payment.vendor)
        if vendor is None:
            return
        outcome = await self._presenter.represent(vendor, payment)
        if outcome is not None and outcome.payment.axes.delivery is Delivery.DELIVERED:
            log.info("payment.found", payment_id=payment.id, vendor=payment.vendor, tries=tries)
