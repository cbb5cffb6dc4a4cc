"""Finding answers that got lost: after a crash, a cut connection, or a vendor that did not know what it was doing.

Must not know what a purchase costs.  Theory (P5, P12): a presented credential whose outcome nobody saw is shown again,
byte for byte, where the route allows it, at a pace that backs off, until the vendor answers or the window has passed;
then only the chain can say what became of it. Each payment is on its own: one that hangs or fails holds up no other.
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping

import structlog

from gateway.core.commands import MarkAnswered, RecordOutcome
from gateway.core.decide_purchase import scopes
from gateway.core.pause import is_over
from gateway.core.payment import Delivery, Fault, Transfer
from gateway.core.records import EVERYTHING, Payment
from gateway.flow.answers import Answers
from gateway.flow.finding import Finder
from gateway.flow.heads import Heads
from gateway.flow.present import Presenter
from gateway.ports import Clock, Store, Vendor

PAUSES_S = (0.0, 1.0, 3.0, 10.0, 30.0, 60.0, 120.0, 300.0)
LONGEST_PAUSE_MS = int(max(PAUSES_S) * 1000)
PARALLEL_PER_VENDOR = 4
FORGOTTEN_PER_SWEEP = 100

log = structlog.get_logger()


class Recovery:
    """Presents again what has no answer. `sweep` starts what is due; jobs call it again and again."""

    def __init__(
        self,
        *,
        store: Store,
        answers: Answers,
        presenter: Presenter,
        vendors: Mapping[str, Vendor],
        heads: Heads,
        clock: Clock,
        finder: Finder | None = None,
    ) -> None:
        self._store, self._answers, self._presenter = store, answers, presenter
        self._vendors, self._heads, self._clock, self._finder = vendors, heads, clock, finder
        self._tries: dict[str, int] = {}
        self._due_ms: dict[str, int] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._gates: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(PARALLEL_PER_VENDOR))

    async def sweep(self) -> None:
        """Look at every open payment once and start presenting what is due."""
        now_ms = self._clock.now_ms()
        waiting = [p for p in self._store.view.open_payments.values() if self._lost(p)]
        kept = {p.id for p in waiting}
        self._tries = {k: v for k, v in self._tries.items() if k in kept}
        self._due_ms = {k: v for k, v in self._due_ms.items() if k in kept}
        for payment in waiting:
            due = is_over(self._due_ms.get(payment.id, 0), now_ms, LONGEST_PAUSE_MS)
            if due and payment.id not in self._running:
                self._start(payment)
        for payment_id in self._store.view.unanswered.stale(now_ms)[:FORGOTTEN_PER_SWEEP]:
            await self._store.post(MarkAnswered(payment_id))

    async def drain(self, timeout_s: float) -> None:
        """Wait for what is being presented, at most that long."""
        if self._running:
            await asyncio.wait(self._running.values(), timeout=timeout_s)

    def _start(self, payment: Payment) -> None:
        task = asyncio.create_task(self._recover(payment.id), name=f"recover {payment.id}")
        self._running[payment.id] = task
        task.add_done_callback(lambda done: self._ended(payment, done))

    def _ended(self, payment: Payment, done: asyncio.Task[None]) -> None:
        self._running.pop(payment.id, None)
        error = None if done.cancelled() else done.exception()
        if error is not None:
            log.error("recovery.failed", payment_id=payment.id, vendor=payment.vendor, error=type(error).__name__)

    def _lost(self, payment: Payment) -> bool:
        return (
            payment.authorization is not None
            and payment.axes.delivery in (Delivery.NONE, Delivery.UNKNOWN)
            and payment.axes.transfer in (Transfer.PRESENTED, Transfer.SETTLED)
            and payment.id not in self._answers.presenting
            and not payment.disputed
        )

    def _may_present(self, payment: Payment) -> bool:
        """Past the window a vendor can only refuse, unless it has collected: then it owes an answer.

        What is frozen is not handed out again: the vendor may never have seen the credential.
        """
        if payment.axes.transfer is Transfer.SETTLED:
            return True
        if any(scope in self._store.view.freezes for scope in (*EVERYTHING, *scopes(payment))):
            return False
        terms = payment.authorization
        head = None if terms is None else self._heads.get(terms.chain_id)
        chain_s = 0 if head is None else head.time_s
        return terms is not None and max(chain_s, self._clock.now_ms() // 1000) < terms.valid_before_s

    async def _recover(self, payment_id: str) -> None:
        payment = self._store.view.open_payments.get(payment_id)
        if payment is not None and payment.axes.delivery is Delivery.NONE:
            payment = await self._interrupted(payment)
        vendor = None if payment is None else self._vendors.get(payment.vendor)
        if payment is None or vendor is None:
            return
        self._next_try(payment.id)
        async with self._gates[vendor.name]:
            current = self._store.view.open_payments.get(payment_id)
            if current is None or not self._lost(current) or not self._may_present(current):
                return
            outcome = await self._presenter.represent(vendor, current)
            if outcome is None and self._finder is not None:
                await self._finder.find(vendor, current)
        if outcome is not None and outcome.payment.axes.delivery is Delivery.DELIVERED:
            log.info("payment.found", payment_id=payment_id, vendor=vendor.name, tries=self._tries.get(payment_id))

    async def _interrupted(self, payment: Payment) -> Payment:
        """Nobody waits for this answer any more: the process that did is gone."""
        command = RecordOutcome(
            payment.id, Delivery.UNKNOWN, Fault.NONE, None, None, None, self._clock.now_ms(), "interrupted"
        )
        await self._store.post(command)
        return self._store.view.open_payments.get(payment.id, payment)

    def _next_try(self, payment_id: str) -> None:
        tries = self._tries.get(payment_id, 0) + 1
        pause_s = PAUSES_S[min(tries, len(PAUSES_S) - 1)]
        self._tries[payment_id] = tries
        self._due_ms[payment_id] = self._clock.now_ms() + int(pause_s * 1000)
