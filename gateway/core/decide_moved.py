"""Money that went from a till of ours to a wallet or till of ours without an order of ours: booked as it is, and told.

Must not know who moved it.  Theory: the house's own tokens changed their place and nobody's credit changed, so what leaves the
till is capital taken out of it, as what comes in at the other end is capital put in; each end is booked by its own reading of
the chain, in either order, and both together leave the house what it had. Who has a till's key is for a human to know.
"""

from dataclasses import replace

from gateway.core import chart
from gateway.core.book import Book
from gateway.core.commands import Done, Result
from gateway.core.decide_close import evidence_content
from gateway.core.money import MAX_AMOUNT_BASE
from gateway.core.paid_commands import RecordMoved
from gateway.core.records import Task


def decide_moved(book: Book, command: RecordMoved) -> Result:
    """Book what left a till for another place of ours, once per log, with the fee that the till paid; open a task.

    What is promised to refunds cannot be booked away; the next look at the till's balance finds what was not. Raises
    ValueError for evidence of something else: a bug of the caller's.
    """
    evidence = command.evidence
    if evidence.kind != "moved" or evidence.log_index is None or evidence.payment_id is not None:
        raise ValueError("what was moved is proven by a log, and belongs to no payment")
    if book.has_evidence(evidence):
        return Done(changed=False)
    counted = {name: min(getattr(evidence, name), MAX_AMOUNT_BASE) for name in ("value_base", "fee_base")}
    evidence = replace(evidence, **counted)
    book.put_evidence(evidence)
    till_hex, to_hex = "0x" + command.till.hex(), "0x" + command.to.hex()
    booked_base = _take(book, command, chart.HOUSE_CAPITAL, evidence.value_base)
    fee_base = _take(book, command, chart.HOUSE_FEES, evidence.fee_base)
    content = {
        "till": till_hex,
        "to": to_hex,
        "asset": command.asset,
        "booked_base": booked_base,
        "paid_base": fee_base,
    }
    book.journal(command.at_ms, "till.moved", None, {**evidence_content(evidence), **content})
    detail = (
        f"{evidence.value_base} base units of {command.asset} went from the till {till_hex} to {to_hex}, which is ours too, "
        "and the gateway has sent nothing: whoever did it has the till's key"
    )
    subject = "0x" + (evidence.tx_hash or b"").hex()
    book.put_task(Task(command.task_id, "till_moved", subject, detail, command.at_ms))
    return Done()


def _take(book: Book, command: RecordMoved, code: str, amount_base: int) -> int:
    till = book.account(chart.wallet("0x" + command.till.hex()), command.asset)
    booked_base = max(0, min(amount_base, till.available_base))
    if booked_base:
        book.book(book.ledger.move(book.account(code, command.asset), till, booked_base), None)
    return booked_base
