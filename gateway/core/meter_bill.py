"""How a held period of a metered thing is settled, and who bears what is beyond it.

Must not know why it is settled now.  Theory: what is owed in all, less what was billed before, is this period's; up to its
hold the agent pays and beyond that the house does, so `billed_base` ends as exactly what was owed (P2).
"""

from dataclasses import replace

from gateway.core import chart
from gateway.core.book import Book
from gateway.core.decide_close import follow
from gateway.core.meter import owed_base
from gateway.core.payment import Charge, Transfer
from gateway.core.records import Meter, Payment


def bill_over(book: Book, meter: Meter, until_ms: int, at_ms: int) -> Meter:
    """Settle every held period that was over by then, in order, each at what was owed when it ended.

    One that was held of late, for a time before the newest pause, cannot be told from what follows it: it pays towards
    what was owed at that pause, and the periods after it the rest, before anything is a loss.
    """
    for payment in book.held_periods(meter.id):
        period = payment.period
        if period is None or period.ends_at_ms > until_ms:
            continue
        total_base = owed_base(meter, period.ends_at_ms)
        meter = settle(book, replace(meter, billed_until_ms=period.ends_at_ms), payment, total_base, at_ms)
        if period.ends_at_ms >= meter.accrued_until_ms:
            meter = lose(book, meter, total_base - meter.billed_base, at_ms)
    return meter


def settle(book: Book, meter: Meter, payment: Payment, total_base: int, at_ms: int) -> Meter:
    """Charge a period what is owed in all and not billed yet, at most its hold; the caller decides who bears the rest."""
    charge_base = min(max(0, total_base - meter.billed_base), payment.hold_base)
    content: dict[str, object] = {
        "meter_id": meter.id,
        "hourly": meter.hourly,
        "rule": meter.rule,
        "owed_in_all_base": total_base,
        "billed_before_base": meter.billed_base,
        "charged_base": charge_base,
    }
    end = Transfer.SETTLED if charge_base else Transfer.DEAD
    payment = replace(payment, axes=payment.axes.transferred(end), settled_base=charge_base)
    book.put_payment(payment)
    if charge_base:
        book.book(book.ledger.post(payment.exposure_transfer_id, charge_base), payment.id)
    book.journal(at_ms, "meter.billed", payment.id, content)
    meter = book.put_meter(replace(meter, billed_base=meter.billed_base + charge_base))
    closed = follow(book, payment, at_ms)
    if closed.axes.charge is Charge.HELD:
        raise AssertionError(f"a billed period stayed on hold: {closed.id}")
    return meter


def lose(book: Book, meter: Meter, amount_base: int, at_ms: int) -> Meter:
    """P2: what a thing cost beyond what was held is the house's loss; nothing happens for nothing."""
    if amount_base <= 0:
        return meter
    asset = chart.vendor_asset(meter.vendor)
    house, fx_usd = book.account(chart.HOUSE_LOSS), book.account(chart.fx(asset))
    fx_token, vendor = book.account(chart.fx(asset), asset), book.account(chart.vendor(meter.vendor), asset)
    book.book(book.ledger.move(house, fx_usd, amount_base), None)
    book.book(book.ledger.move(fx_token, vendor, amount_base), None)
    content = {"meter_id": meter.id, "ref": meter.ref, "account_id": meter.account_id, "amount_base": amount_base}
    book.journal(at_ms, "meter.lost", None, content)
    billed, lost = meter.billed_base + amount_base, meter.lost_base + amount_base
    return book.put_meter(replace(meter, billed_base=billed, lost_base=lost))
