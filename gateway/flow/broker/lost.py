"""Orders whose answer was lost: found again by their mark, or proven never to have made anything.

Must not know periods.  Theory (P4, P5): an order leaves once; what became of it is told by two whole lists, late enough
apart, or by a thing that carries its mark. A thing without a mark is an order's only where nothing else can be meant.
"""

import re

import structlog

from gateway.account_ports import AccountVendor, Thing
from gateway.core.commands import RecordOutcome
from gateway.core.payment import Delivery, Fault
from gateway.core.records import Meter, MeterState, Payment
from gateway.core.routes import Retry
from gateway.flow.answers import Answers
from gateway.flow.broker.desk import Desk
from gateway.flow.broker.endings import POLLING
from gateway.flow.broker.order import Orders
from gateway.flow.broker.watch import Watch

MARK = re.compile(r"g[a-z2-7]{16}", re.ASCII)
CLOCKS_APART_MS = 60_000
ORDER_TAKES_MS = 600_000  # what an order makes is made so soon after it

log = structlog.get_logger()


class LostOrders:
    """Finds lost orders at every account vendor."""

    def __init__(self, watch: Watch, orders: Orders, answers: Answers) -> None:
        self._watch, self._orders, self._answers = watch, orders, answers

    async def find(self, desk: Desk, meter: Meter, things: list[Thing], asked_ms: int) -> None:
        """Look for what an order made on a whole list. Raises UpstreamError or Problem when the vendor does not answer."""
        payment = self._payment(meter)
        if payment is None or payment.id in self._answers.presenting:
            return
        if payment.axes.delivery is Delivery.NONE:
            await self._record(payment, Delivery.UNKNOWN, Fault.NONE, "interrupted")
        memory, now_ms = self._watch.memory[desk.vendor.name], self._watch.clock.now_ms()
        thing, is_absent = await self._made(desk.vendor, payment, meter, things)
        if thing is not None:
            memory.absent_ms.pop(meter.id, None)
            answer = await desk.ask(desk.vendor.show_request(thing.ref), POLLING)
            await self._orders.found(desk, payment, meter, answer)
        elif not is_absent:
            memory.absent_ms.pop(meter.id, None)
        else:
            first = memory.absent_since(meter.id, now_ms, asked_ms)
            if now_ms - first[0] >= desk.vendor.account.absent_after_s * 1000:
                memory.forget(meter.id)
                await self._record(payment, Delivery.REFUSED, Fault.VENDOR, "absent from two lists")
                log.info("order.absent", payment_id=payment.id, vendor=desk.vendor.name)

    async def _record(self, payment: Payment, delivery: Delivery, fault: Fault, note: str) -> None:
        now_ms = self._watch.clock.now_ms()
        await self._watch.store.post(RecordOutcome(payment.id, delivery, fault, None, None, None, now_ms, note))

    async def _made(
        self, vendor: AccountVendor, payment: Payment, meter: Meter, things: list[Thing]
    ) -> tuple[Thing | None, bool]:
        """Return what an order made, and else whether the list says that it made nothing."""
        marked = next((thing for thing in things if meter.token in thing.name), None)
        match = vendor.match(payment.method, payment.path.partition("?")[0])
        if marked is not None or match is None or match.route.retry is not Retry.NEVER:
            return marked, marked is None
        fitting = [t for t in things if _may_be(t, meter) and not self._is_anothers(t, meter)]
        unowned = [t for t in fitting if await self._is_nobodys(vendor, t)]
        if not unowned:
            return None, True
        rivals = [other for other in self._unmarked(vendor) if any(_may_be(t, other) for t in unowned)]
        if len(unowned) == len(rivals) == 1 and unowned[0].created_at_ms is not None:
            return unowned[0], False
        # Whose is whose cannot be told: nothing is decided, and absence not either.
        refs = ", ".join(thing.ref for thing in unowned)
        detail = f"{payment.id} may have made one of {refs}: no order names them. Destroy them, and it is given back"
        await self._watch.tasks.ask("order_lost", payment.id, detail, payment.id)
        return None, False

    def _is_anothers(self, thing: Thing, meter: Meter) -> bool:
        """P9: a mark names its order before the book knows what that made. A copy may bear the mark of its own source."""
        marks = set(MARK.findall(thing.name))
        others = (m for m in self._watch.of(meter.vendor) if m.token in marks and m.id != meter.id)
        return any(m.state is MeterState.ORDERED or m.account_id != meter.account_id for m in others)

    async def _is_nobodys(self, vendor: AccountVendor, thing: Thing) -> bool:
        return await self._watch.store.resource(vendor.name, thing.ref) is None

    def _unmarked(self, vendor: AccountVendor) -> list[Meter]:
        """Return the orders under way whose things carry no mark."""
        found = []
        for meter in self._watch.of(vendor.name, MeterState.ORDERED):
            payment = self._payment(meter)
            match = None if payment is None else vendor.match(payment.method, payment.path.partition("?")[0])
            if match is not None and match.route.retry is Retry.NEVER:
                found.append(meter)
        return found

    def _payment(self, meter: Meter) -> Payment | None:
        """Return the order's payment: its first period."""
        return next(iter(self._watch.view.periods(meter.id)), None)


def _may_be(thing: Thing, meter: Meter) -> bool:
    """Say whether an order can have made a thing: of its kind, and at its time. What stood there before is not its."""
    if thing.gone or thing.plan not in ("", meter.kind):
        return False
    made_ms = thing.created_at_ms
    from_ms = meter.created_at_ms
    return made_ms is None or from_ms - CLOCKS_APART_MS <= made_ms <= from_ms + ORDER_TAKES_MS
