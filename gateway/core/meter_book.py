"""How a vendor's answer to a create starts a meter, or ends it before it began.

Must not know tariffs' arithmetic or what a destruction is.  Theory: under transfer kind `account` nothing is owed before
the vendor says that the thing exists, so a create that was refused, or proven absent, never ran and costs nothing; what
exists and is not as agreed is the house's cost until it is gone.
"""

from dataclasses import replace

from gateway.core.book import Book
from gateway.core.commands import MeterStart, RecordOutcome
from gateway.core.meter import run, tariff_of
from gateway.core.payment import Delivery, Transfer
from gateway.core.records import Meter, MeterState, Payment, Resource, Task

DEARER = "dearer_than_quoted"
UNWANTED = "exists_though_refused"


def metered_resource(meter_id: str, resource: Resource | None, known: Resource | None) -> Resource | None:
    """Return what a create brought as its owner's, charged by its meter; None for what the book has so already."""
    if resource is None or (known is not None and known.meter_id == meter_id):
        return None
    return replace(resource, meter_id=meter_id)


def start_meter(book: Book, payment: Payment, command: RecordOutcome) -> Payment:
    """Apply a create's outcome to its meter; return the payment as the vendor's claim on the period stands then.

    Raises TariffError for rates that cannot be meant: the caller has judged them.
    """
    meter = None if payment.period is None else book.meters.get(payment.period.meter_id)
    delivery = payment.axes.delivery
    if meter is None and delivery is Delivery.DELIVERED:
        _ask_about(book, payment, command)
    if meter is None or meter.state is not MeterState.ORDERED or delivery is Delivery.UNKNOWN:
        return payment
    if command.metered is None and delivery is Delivery.REFUSED:
        book.put_meter(replace(meter, state=MeterState.ENDED, ended_at_ms=command.at_ms, reason=command.note))
        book.journal(command.at_ms, "meter.never_began", payment.id, {"meter_id": meter.id})
        return payment
    start = command.metered or MeterStart(meter.hourly, meter.monthly, meter.kind, meter.created_at_ms)
    accepted = start.accepted and delivery is Delivery.DELIVERED
    ref = payment.resource_ref if command.resource is None else command.resource.ref
    meter = _started(meter, ref, start)
    if not accepted:
        reason = UNWANTED if start.accepted else DEARER
        meter = replace(meter, state=MeterState.ENDING, reason=reason, held_until_ms=0)
    book.put_meter(meter)
    book.journal(command.at_ms, "meter.started", payment.id, _content(meter))
    if delivery is Delivery.REFUSED:  # the table gives the hold back
        return payment
    # What was not agreed to is not the agent's to pay: its hold goes back now, the house bears what the thing costs.
    return replace(payment, axes=payment.axes.transferred(Transfer.PRESENTED if accepted else Transfer.DEAD))


def _started(meter: Meter, ref: str | None, start: MeterStart) -> Meter:
    meter = replace(
        meter, state=MeterState.RUNNING, ref=ref, hourly=start.hourly, monthly=start.monthly, kind=start.kind
    )
    tariff_of(meter)
    if start.since_ms is None:
        return meter
    # A vendor's clock, or a unit that it changed, must not charge for years before the order.
    return run(meter, max(meter.created_at_ms, start.since_ms))


def _ask_about(book: Book, payment: Payment, command: RecordOutcome) -> None:
    """A thing that was proven absent, and its hold given back, is there all the same: nobody pays for it."""
    ref = command.resource.ref if command.resource is not None else payment.resource_ref
    detail = f"{payment.vendor} has {ref} of {payment.id} after all, which was refused or absent before: end it there"
    task_id = f"task_{payment.id}_late"
    book.put_task(Task(task_id, "delivered_after_refusal", payment.id, detail, command.at_ms, payment.id))


def _content(meter: Meter) -> dict[str, object]:
    return {
        "meter_id": meter.id,
        "ref": meter.ref,
        "meter_kind": meter.kind,
        "hourly": meter.hourly,
        "monthly": meter.monthly,
        "rule": meter.rule,
        "unit_s": meter.unit_s,
        "while_running": meter.while_running,
        "since_ms": meter.running_since_ms,
        "state": meter.state.value,
        "reason": meter.reason,
    }
