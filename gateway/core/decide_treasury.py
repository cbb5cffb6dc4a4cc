"""What a wallet really holds: floats that came in, and tokens that left without a payment of ours.

Must not know how balances are read.  Theory: at a final block whose settlements are all booked, the ledger and the chain
must agree to the last unit; more is what was missing before or else the operator's capital, less is a task and a frozen
wallet.  What left by a known log is proven and stays in suspense; what is merely missing may turn up again.
"""

from dataclasses import replace

from gateway.core import chart
from gateway.core.book import Book
from gateway.core.commands import Done, ObserveFloat, RecordOutflow, Result
from gateway.core.decide_close import evidence_content
from gateway.core.decide_inventory import ask_about_inventory
from gateway.core.decide_unproven import take_late_log
from gateway.core.money import MAX_AMOUNT_BASE
from gateway.core.records import Freeze, Task


def decide_float(book: Book, command: ObserveFloat) -> Result:
    """Make the book follow the chain: book what came in; for what is missing open a task and freeze the wallet.

    A balance above what the ledger can count is followed up to that, with a task: it must never stop the store.
    """
    address_hex = "0x" + command.wallet.hex()
    known = book.ledger.find(chart.wallet(address_hex), command.asset)
    balance_base = min(command.balance_base, MAX_AMOUNT_BASE)
    asked = command.balance_base > MAX_AMOUNT_BASE and _ask_about_excess(book, command, address_hex)
    difference = balance_base - (0 if known is None else known.posted_base)
    content: dict[str, object] = {
        **evidence_content(replace(command.evidence, value_base=balance_base)),
        "wallet": address_hex,
        "asset": command.asset,
        "balance_base": balance_base,
        "difference_base": difference,
    }
    if difference > 0:
        return _book_surplus(book, command, address_hex, difference, content)
    if difference < 0:
        return _book_shortage(book, command, address_hex, -difference, content)
    return Done(changed=asked)


def decide_outflow(book: Book, command: RecordOutflow) -> Result:
    """Book a collection from a wallet that no payment explains, once; open a task and freeze the wallet.

    With a payment's id it is a collection that contradicts what was proven of that payment before, or the log of one that
    was ended without it.
    """
    evidence = command.evidence
    if evidence.tx_hash is None or evidence.log_index is None or evidence.payment_id is not None:
        raise ValueError("an outflow is proven by a log, and belongs to no payment")
    if book.has_evidence(evidence):
        return Done(changed=False)
    late = take_late_log(book, command)
    if late is not None:
        return late
    told_base, subject = evidence.value_base, "0x" + evidence.tx_hash.hex()
    evidence = replace(evidence, value_base=min(told_base, MAX_AMOUNT_BASE))
    address_hex = "0x" + command.wallet.hex()
    book.put_evidence(evidence)
    # What is promised cannot be booked away; the next look at the balance finds what was not.
    wallet = book.account(chart.wallet(address_hex), command.asset)
    booked_base = min(evidence.value_base, wallet.available_base)
    if booked_base:
        suspense = book.account(chart.SUSPENSE, command.asset)
        book.book(book.ledger.move(suspense, wallet, booked_base), command.payment_id)
    content = {**evidence_content(evidence), "wallet": address_hex, "asset": command.asset, "booked_base": booked_base}
    book.journal(command.at_ms, "outflow.unknown", command.payment_id, content)
    left = f"{told_base} base units of {command.asset} left {address_hex}"
    if command.payment_id is None:
        detail = f"{left} by an authorization that the book does not know"
        task = Task(command.task_id, "unknown_outflow", subject, detail, command.at_ms)
    else:
        detail = f"{left} against what was proven of {command.payment_id} before"
        task = Task(command.task_id, "evidence_mismatch", subject, detail, command.at_ms, command.payment_id)
    book.put_task(task)
    _freeze_wallet(book, address_hex, detail, command.at_ms)
    return Done()


def _book_surplus(
    book: Book, command: ObserveFloat, address_hex: str, surplus_base: int, content: dict[str, object]
) -> Result:
    """What was missing is found again first (a settlement proven late puts it there); the rest is capital."""
    wallet = book.account(chart.wallet(address_hex), command.asset)
    missing = book.ledger.find(chart.suspense(address_hex), command.asset)
    found_base = 0 if missing is None else min(surplus_base, missing.posted_base)
    if missing is not None and found_base:
        book.book(book.ledger.move(wallet, missing, found_base), None)
    if surplus_base > found_base:
        capital = book.account(chart.HOUSE_CAPITAL, command.asset)
        book.book(book.ledger.move(wallet, capital, surplus_base - found_base), None)
    book.journal(command.at_ms, "float.received", None, {**content, "found_again_base": found_base})
    ask_about_inventory(book, command.asset, f"{command.task_id}_cap", command.at_ms)
    return Done()


def _book_shortage(
    book: Book, command: ObserveFloat, address_hex: str, short_base: int, content: dict[str, object]
) -> Result:
    """Book what is not promised; the rest waits until promises have ended, and until then nothing more is promised."""
    wallet = book.account(chart.wallet(address_hex), command.asset)
    booked_base = min(short_base, wallet.available_base)
    if booked_base:
        suspense = book.account(chart.suspense(address_hex), command.asset)
        book.book(book.ledger.move(suspense, wallet, booked_base), None)
    known = book.ledger.find(chart.suspense(address_hex), command.asset)
    waiting_base = short_base - booked_base
    missing_base = waiting_base + (0 if known is None else known.posted_base)
    detail = (
        f"{missing_base} base units of {command.asset} are missing from {address_hex}; "
        f"{waiting_base} of them are promised and not yet booked"
    )
    subject = f"{address_hex} {command.asset}"
    task_id, told = _tell(book, Task(command.task_id, "float_missing", subject, detail, command.at_ms))
    frozen = _freeze_wallet(book, address_hex, detail, command.at_ms)
    if not (booked_base or told or frozen):
        return Done(changed=False)
    content = {
        **content,
        "booked_base": booked_base,
        "waiting_base": waiting_base,
        "task_id": task_id,
        "detail": detail,
    }
    book.journal(command.at_ms, "float.missing", None, content)
    return Done()


def _ask_about_excess(book: Book, command: ObserveFloat, address_hex: str) -> bool:
    detail = (
        f"{address_hex} holds {command.balance_base} base units of {command.asset}; the ledger counts no more than "
        f"{MAX_AMOUNT_BASE} of one asset in a wallet, and ignores the rest"
    )
    subject = f"{address_hex} {command.asset}"
    return book.put_task(Task(command.task_id, "float_too_large", subject, detail, command.at_ms))


def _tell(book: Book, task: Task) -> tuple[str | None, bool]:
    """Open a task, or give the one that is open the newer detail; return the id of whichever, and whether anything changed."""
    known = book.open_task(task.kind, task.subject)
    if known is None:
        return (task.id, True) if book.put_task(task) else (None, False)
    if known.detail == task.detail:
        return known.id, False
    book.rows.tasks[known.id] = replace(known, detail=task.detail)
    return known.id, True


def _freeze_wallet(book: Book, address_hex: str, reason: str, at_ms: int) -> bool:
    scope = f"wallet:{address_hex}"
    if scope in book.freezes:
        return False
    freeze = Freeze(scope, reason, at_ms, "treasury")
    book.freezes[scope] = book.rows.freezes[scope] = freeze
    book.journal(at_ms, "freeze.set", None, {"scope": scope, "reason": reason, "by": freeze.by})
    return True
