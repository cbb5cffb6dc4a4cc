"""What metered things cost their agents, period by period: hold the next, settle the last, end.

Must not know vendors or clocks.  Theory: a period is a payment like any other (hold, settle, capture), so the meter adds
no second set of states; what a thing costs beyond what is held is the house's loss, never the account's debt (P2).
"""

from dataclasses import replace

from gateway.core import chart
from gateway.core import commands as c
from gateway.core.book import Book
from gateway.core.commands import Done, Refused, Result
from gateway.core.decide_purchase import content_of, fits, reserve
from gateway.core.meter import owed_base, pause, run
from gateway.core.meter_bill import bill_over, lose, settle
from gateway.core.money import USD, format_amount
from gateway.core.payment import Axes, Delivery, Transfer
from gateway.core.records import MeterState

HELD = Axes(Delivery.DELIVERED, Transfer.PRESENTED)


def decide_period(book: Book, command: c.OpenPeriod) -> Result:
    """Hold a meter's next period. A period that is open already is no news; freezes and budgets do not end what runs.

    Raises ValueError for a payment that is not a period of this meter: a bug of the caller's.
    """
    payment, period = command.payment, command.payment.period
    meter = None if period is None else book.meters.get(period.meter_id)
    if period is None or meter is None or meter.state is not MeterState.RUNNING:
        return Refused("not_found", "there is no such running meter")
    if period.seq != meter.seq + 1 or period.starts_at_ms != meter.held_until_ms:
        return Done(changed=False)
    if payment.axes != HELD or not fits(payment, meter) or book.payment(payment.id) is not None:
        raise ValueError(f"{payment.id} is not a new period {period.seq} of {meter.id}, which runs")
    agent = book.ledger.find(chart.agent(payment.account_id), USD)
    available = 0 if agent is None else agent.available_base
    if available < payment.hold_base:
        detail = f"available {format_amount(available)}, the next period needs {format_amount(payment.hold_base)}"
        return Refused("insufficient_balance", detail)
    # Nobody asked for it: no key claims it, and no request of the agent's may attach to it.
    payment = reserve(book, replace(payment, answered=True, idempotency_key=None))
    book.put_payment(payment, new=True)
    held = replace(meter, seq=period.seq, held_until_ms=period.ends_at_ms, warned_at_ms=None, unfunded_at_ms=None)
    book.put_meter(held)
    book.journal(command.at_ms, "payment.held", payment.id, content_of(payment))
    return Done(payment)


def decide_bill(book: Book, command: c.BillPeriod) -> Result:
    """Settle a period, and those before it, at what the tariff says they cost until their end."""
    payment = book.payment(command.payment_id)
    if payment is None or payment.period is None:
        return Refused("not_found", "there is no such billing period")
    meter = book.meters.get(payment.period.meter_id)
    if meter is None or payment.axes != HELD:
        return Done(payment, changed=False)
    bill_over(book, meter, payment.period.ends_at_ms, command.at_ms)
    return Done(book.payment(payment.id))


def decide_run(book: Book, command: c.RunMeter) -> Result:
    """Start or stop the charges of a thing. What was billed stays billed: a change that is told of late counts from there."""
    meter = book.meters.get(command.meter_id)
    if meter is None or meter.state is MeterState.ORDERED:
        return Done(changed=False)
    change = run if command.running else pause
    since_ms = max(command.since_ms, meter.billed_until_ms)
    if change(meter, since_ms) == meter:
        return Done(changed=False)
    # A period that was over by then is owed what it cost until its own end, not until this change.
    meter = book.put_meter(change(bill_over(book, meter, since_ms, command.at_ms), since_ms))
    changed_at_ms = meter.running_since_ms if command.running else meter.accrued_until_ms
    content = {"meter_id": meter.id, "running": command.running, "since_ms": changed_at_ms}
    book.journal(command.at_ms, "meter.changed", None, content)
    return Done()


def decide_ending(book: Book, command: c.MarkEnding) -> Result:
    """Note that a thing is to be destroyed, until that is confirmed. The first reason stays."""
    meter = book.meters.get(command.meter_id)
    if meter is None or meter.state is not MeterState.RUNNING:
        return Done(changed=False)
    book.put_meter(replace(meter, state=MeterState.ENDING, reason=command.reason))
    content = {"meter_id": meter.id, "ref": meter.ref, "reason": command.reason}
    book.journal(command.at_ms, "meter.ending", None, content)
    return Done()


def decide_end(book: Book, command: c.EndMeter) -> Result:
    """Settle what a thing cost until its destruction, give back what is held beyond it, and book the rest as loss.

    What was billed stays billed: an end that is told of late, for a time before that, takes nothing back.
    """
    meter = book.meters.get(command.meter_id)
    if meter is None or meter.state is MeterState.ORDERED:
        return Done(changed=False)
    ended_at_ms = max(command.ended_at_ms, meter.billed_until_ms, meter.accrued_until_ms)
    meter = bill_over(book, meter, ended_at_ms, command.at_ms)
    meter = pause(meter, ended_at_ms)
    total_base = owed_base(meter, ended_at_ms)
    for payment in book.held_periods(meter.id):
        meter = settle(book, meter, payment, total_base, command.at_ms)
        meter = lose(book, meter, total_base - meter.billed_base, command.at_ms)
    meter = lose(book, meter, total_base - meter.billed_base, command.at_ms)
    reason = meter.reason or command.how
    book.put_meter(replace(meter, state=MeterState.ENDED, ended_at_ms=ended_at_ms, reason=reason))
    content = {
        "meter_id": meter.id,
        "ref": meter.ref,
        "ended_at_ms": ended_at_ms,
        "how": command.how,
        "reason": reason,
        "billed_base": meter.billed_base,
        "lost_base": meter.lost_base,
    }
    book.journal(command.at_ms, "meter.ended", None, content)
    return Done()


def decide_warning(book: Book, command: c.WarnMeter) -> Result:
    """Note once, until the next period is held, that a thing's balance runs out, or has run out."""
    meter = book.meters.get(command.meter_id)
    if meter is None or meter.state is not MeterState.RUNNING:
        return Done(changed=False)
    if (meter.unfunded_at_ms if command.unfunded else meter.warned_at_ms) is not None:
        return Done(changed=False)
    if command.unfunded:
        kind, meter = "meter.unfunded", replace(meter, unfunded_at_ms=command.at_ms)
    else:
        kind, meter = "meter.warned", replace(meter, warned_at_ms=command.at_ms)
    book.put_meter(meter)
    content = {"meter_id": meter.id, "ref": meter.ref, "held_until_ms": meter.held_until_ms}
    book.journal(command.at_ms, kind, None, content)
    return Done()
