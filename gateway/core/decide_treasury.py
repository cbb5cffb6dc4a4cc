"""What a wallet really holds: floats that came in, and tokens that left without a payment of ours.

Must not know how balances are read.  Theory: at a final block whose settlements are all booked, the ledger and the chain
must agree to the last unit; more is the operator's capital, less is a task and a frozen wallet.
"""

from gateway.core import chart
from gateway.core.book import Book
from gateway.core.commands import Done, ObserveFloat, RecordOutflow, Result
from gateway.core.decide_close import evidence_content
from gateway.core.records import Freeze, Task


def decide_float(book: Book, command: ObserveFloat) -> Result:
    """Book what came in; for what is missing open a task and freeze the wallet."""
    address_hex = "0x" + command.wallet.hex()
    known = book.ledger.find(chart.wallet(address_hex), command.asset)
    difference = command.balance_base - (0 if known is None else known.posted_base)
    if difference == 0:
        return Done(changed=False)
    wallet = book.account(chart.wallet(address_hex), command.asset)
    content = {
        **evidence_content(command.evidence),
        "wallet": address_hex,
        "asset": command.asset,
        "balance_base": command.balance_base,
        "difference_base": difference,
    }
    if difference > 0:
        book.book(book.ledger.move(wallet, book.account(chart.HOUSE_CAPITAL, command.asset), difference), None)
        book.journal(command.at_ms, "float.received", None, content)
        return Done()
    detail = f"{address_hex} holds {-difference} base units of {command.asset} less than the book says"
    opened = book.put_task(
        Task(command.task_id, "float_missing", f"{address_hex} {command.asset}", detail, command.at_ms)
    )
    bookable = wallet.available_base >= -difference  # else it waits until enough of what is pending has ended
    if not opened and not bookable:
        return Done(changed=False)
    if bookable:
        suspense = book.account(chart.SUSPENSE, command.asset)
        book.book(book.ledger.move(suspense, wallet, -difference), None)
    book.journal(command.at_ms, "float.missing", None, content)
    _freeze_wallet(book, address_hex, detail, command.at_ms)
    return Done()


def decide_outflow(book: Book, command: RecordOutflow) -> Result:
    """Book an unknown collection from a wallet once, open a task and freeze the wallet."""
    evidence = command.evidence
    if evidence.tx_hash is None or evidence.log_index is None or evidence.payment_id is not None:
        raise ValueError("an outflow is proven by a log, and belongs to no payment")
    if book.has_evidence(evidence):
        return Done(changed=False)
    address_hex = "0x" + command.wallet.hex()
    book.put_evidence(evidence)
    wallet = book.account(chart.wallet(address_hex), command.asset)
    if evidence.value_base and wallet.available_base >= evidence.value_base:
        suspense = book.account(chart.SUSPENSE, command.asset)
        book.book(book.ledger.move(suspense, wallet, evidence.value_base), None)
    content = {**evidence_content(evidence), "wallet": address_hex, "asset": command.asset}
    book.journal(command.at_ms, "outflow.unknown", None, content)
    detail = f"{evidence.value_base} base units left {address_hex} by an authorization that the book does not know"
    book.put_task(Task(command.task_id, "unknown_outflow", "0x" + evidence.tx_hash.hex(), detail, command.at_ms))
    _freeze_wallet(book, address_hex, detail, command.at_ms)
    return Done()


def _freeze_wallet(book: Book, address_hex: str, reason: str, at_ms: int) -> None:
    scope = f"wallet:{address_hex}"
    if scope in book.freezes:
        return
    freeze = Freeze(scope, reason, at_ms, "treasury")
    book.freezes[scope] = book.rows.freezes[scope] = freeze
    book.journal(at_ms, "freeze.set", None, {"scope": scope, "reason": reason, "by": freeze.by})
