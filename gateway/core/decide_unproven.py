"""The end of a payment that the chain calls used and that no log will ever prove, as the operator says what left for it.

Must not know how it was looked for.  Theory (P5, P6): a used authorization can never be collected again, so the only question
left is what it took, and only while a task asks a human for that may a human answer. The answer is marked as such for ever,
and a log that turns up all the same is held against it: it moves nothing a second time (P13), and a difference is a task.
"""

from dataclasses import replace

from gateway.core.book import Book
from gateway.core.commands import Done, RecordOutflow, Refused, ResolveUnproven, Result
from gateway.core.decide_close import NO_CHAIN, bury, close, evidence_content, highest_fee, settle
from gateway.core.money import MAX_AMOUNT_BASE
from gateway.core.payment import Charge, Transfer
from gateway.core.records import Payment, Task, TransferKind
from gateway.core.task_kinds import TaskKind

ASKED: tuple[TaskKind, ...] = ("settlement_mismatch", "settlement_without_receipt", "used_without_log")
"""The tasks that ask what a payment took."""

_ENDS = (Charge.CAPTURED, Charge.REFUNDED)


def decide_unproven(book: Book, command: ResolveUnproven) -> Result:
    """Book what left for a payment as the operator says, end its hold, and close the tasks that asked: one commit.

    Nothing that left gives the hold back. Raises ValueError for evidence of another kind or chain: a bug of the caller's.
    """
    payment = book.payment(command.payment_id)
    if payment is None:
        return Refused("not_found", "there is no such payment")
    terms = payment.authorization
    if terms is None:
        return Refused("not_unproven", NO_CHAIN)
    tasks = [task for kind in ASKED if (task := book.open_task(kind, payment.id)) is not None]
    if payment.axes.transfer is not Transfer.PRESENTED or not tasks:
        return Refused("not_unproven", f"transfer is {payment.axes.transfer.value}, or no task asks what left for it")
    evidence = replace(command.evidence, payment_id=payment.id)
    if evidence.kind != "resolved" or evidence.chain_id != terms.chain_id:
        raise ValueError(f"{evidence.kind} evidence of chain {evidence.chain_id} does not end {payment.id}")
    refusal = _amount_refusal(payment, command)
    if refusal is not None:
        return refusal
    if terms.kind is TransferKind.TEMPO and evidence.block_time_s < terms.valid_before_s:
        return Refused("not_unproven", "its window has not passed: what was signed may still be collected")
    if book.has_evidence(evidence):
        return Refused("evidence_mismatch", "the log closed something else")
    content = {
        "charge": command.charge.value,
        "left_base": evidence.value_base + evidence.fee_base,
        "said_tx": None if command.said_tx is None else "0x" + command.said_tx.hex(),
        "resolution": command.words,
        "by": command.by,
    }
    book.journal(command.at_ms, "unproven.resolved", payment.id, content)
    if evidence.value_base:
        ended = close(book, settle(book, payment, evidence, command.at_ms), command.charge, command.at_ms)
    else:
        ended = bury(book, payment, evidence, command.at_ms)
    for task in tasks:
        book.close_task(task, command.words, command.by, command.at_ms)
    return Done(ended)


def take_late_log(book: Book, command: RecordOutflow) -> Result | None:
    """Take the log of a payment that was ended without one, once: it is no second collection. None where it is none such.

    Tokens are not moved: what the operator said did, and what differs from it the wallet's balance has shown.
    """
    payment = None if command.payment_id is None else book.payment(command.payment_id)
    if payment is None or not book.lacks_its_log(payment.id):
        return None
    told_base = command.evidence.value_base
    counted_base = min(told_base, MAX_AMOUNT_BASE)  # whatever a log says, it must never stop the store
    evidence = replace(command.evidence, kind="late", payment_id=payment.id, value_base=counted_base)
    book.put_evidence(evidence)
    book.journal(command.at_ms, "payment.late_log", payment.id, evidence_content(evidence))
    # What is said of an outflow includes the network's fee, no more than was promised: but none where nothing was to have left.
    slack_base = highest_fee(payment) if payment.settled_base else 0
    if not 0 <= told_base - payment.settled_base <= slack_base:
        detail = (
            f"{payment.settled_base} base units left for {payment.id}, as the operator said; the log that has turned up "
            f"says {told_base}"
        )
        book.put_task(
            Task(command.task_id, "evidence_mismatch", payment.id, detail, command.at_ms, payment_id=payment.id)
        )
    return Done()


def _amount_refusal(payment: Payment, command: ResolveUnproven) -> Refused | None:
    value_base, fee_base = command.evidence.value_base, command.evidence.fee_base
    if command.charge not in _ENDS:
        return Refused("bad_resolution", "what left is borne by the agent (captured) or by the house (refunded)")
    if not value_base and command.charge is Charge.CAPTURED:
        return Refused("bad_resolution", "where nothing left for the vendor nobody pays: it ends refunded")
    if not (0 <= value_base <= payment.terms.value_base and 0 <= fee_base <= highest_fee(payment)):
        return Refused(
            "bad_resolution", "no more than was promised leaves for a payment; what is missing beyond it is asked apart"
        )
    return None
