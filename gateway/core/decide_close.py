"""How a hold ends: the vendor's answer and the chain's proof move the axes, and the table says what follows.

Must not know what proves a settlement: evidence arrives judged.  Theory: every path to the end of a hold goes through
`follow`, so capture, void and refund each have one writer, and a hold closes exactly once (P6, P13).
"""

from gateway.core import chart
from gateway.core.book import DAY_MS, Book
from gateway.core.commands import (
    Done,
    PassDeadline,
    RecordDead,
    RecordOutcome,
    RecordSettled,
    Refused,
    ResolveDispute,
    Result,
)
from gateway.core.meter_book import metered_resource, start_meter
from gateway.core.payment import (
    DELIVERY_MOVES,
    TRANSFER_MOVES,
    Action,
    Charge,
    Delivery,
    DisputeCaps,
    Fault,
    Transfer,
    settle_dispute,
)
from gateway.core.records import BudgetUse, Evidence, Freeze, Payment, Resource, Task
from gateway.core.replacing import replace

NO_CHAIN = "a billing period is settled by its vendor's rule, not by a chain"


def decide_outcome(book: Book, command: RecordOutcome) -> Result:
    """Record what the vendor answered. A worse word about a delivery that is known already changes nothing.

    The first answer to a delivery stays: a later one may lack what the vendor says only once, such as a password.
    """
    payment = book.payment(command.payment_id)
    if payment is None:
        return Refused("not_found", "there is no such payment")
    known = None if command.resource is None else book.resource(command.resource.vendor, command.resource.ref)
    if known is not None and _is_anothers(book, payment, known):
        command = _without_anothers(book, payment, known, command)
    found = command.resource if known is None else None
    if payment.period is not None:
        found = metered_resource(payment.period.meter_id, command.resource, known)
    moved = command.delivery in DELIVERY_MOVES[payment.axes.delivery]
    answers = command.answer is not None and (
        moved or (payment.axes.delivery is command.delivery and not book.has_answer(payment.id))
    )
    if not (moved or answers or found is not None):
        return Done(payment, changed=False)
    if found is not None:
        book.rows.resources[found.vendor, found.ref] = found
        payment = replace(payment, resource_ref=found.ref)
    if moved:
        payment = replace(
            payment,
            axes=payment.axes.deliver(command.delivery),
            fault=command.fault,
            vendor_status=command.vendor_status,
        )
        if payment.period is not None:
            payment = start_meter(book, payment, command)
    if answers and command.answer is not None:
        book.put_answer(payment.id, command.answer)
    book.put_payment(payment)
    content = {
        "delivery": payment.axes.delivery.value,
        "fault": payment.fault.value,
        "vendor_status": payment.vendor_status,
        "resource_ref": payment.resource_ref,
        "note": command.note,
    }
    book.journal(command.at_ms, "payment.outcome", payment.id, content)
    return Done(follow(book, payment, command.at_ms))


def decide_settled(book: Book, command: RecordSettled) -> Result:
    """Record that a final block proves collection. The same proof again changes nothing.

    Refused with `evidence_mismatch` if it does not fit the terms, the log closed something
    else or the payment is closed by another: the caller books such a collection as an outflow, it is never dropped.
    """
    payment = book.payment(command.payment_id)
    if payment is None:
        return Refused("not_found", "there is no such payment")
    if payment.period is not None:
        return Refused("evidence_mismatch", NO_CHAIN)
    evidence = replace(command.evidence, payment_id=payment.id)
    known = book.has_evidence(evidence)
    if known and payment.axes.transfer is Transfer.SETTLED:
        return Done(payment, changed=False)
    if known or payment.axes.transfer is not Transfer.PRESENTED:
        return Refused(
            "evidence_mismatch", f"transfer is {payment.axes.transfer.value}, or the log closed something else"
        )
    if not 0 < evidence.value_base <= payment.terms.value_base or evidence.fee_base > highest_fee(payment):
        return Refused("evidence_mismatch", "the collected value or the fee is not within what was promised")
    return Done(follow(book, settle(book, payment, evidence, command.at_ms), command.at_ms))


def decide_dead(book: Book, command: RecordDead) -> Result:
    """Record that a final block proves the authorization can never be collected; the hold goes back.

    Refused with `evidence_mismatch` if the payment is settled, or the log closed something else.
    """
    payment = book.payment(command.payment_id)
    if payment is None:
        return Refused("not_found", "there is no such payment")
    if payment.period is not None:
        return Refused("evidence_mismatch", NO_CHAIN)
    if payment.axes.transfer is Transfer.DEAD:
        return Done(payment, changed=False)
    evidence = replace(command.evidence, payment_id=payment.id)
    if evidence.fee_base > highest_fee(payment):
        return Refused("evidence_mismatch", "the fee is above what was promised")
    if Transfer.DEAD not in TRANSFER_MOVES[payment.axes.transfer] or book.has_evidence(evidence):
        return Refused(
            "evidence_mismatch", f"transfer is {payment.axes.transfer.value}, or the log closed something else"
        )
    return Done(bury(book, payment, evidence, command.at_ms))


def decide_deadline(book: Book, command: PassDeadline) -> Result:
    """Apply the dispute rule to a collected payment whose delivery was not found in time."""
    payment = book.payment(command.payment_id)
    if payment is None:
        return Refused("not_found", "there is no such payment")
    waiting = payment.axes.action is Action.AWAIT_DELIVERY and command.at_ms >= payment.delivery_deadline_ms
    if not waiting or payment.disputed:
        return Done(payment, changed=False)
    return Done(_dispute(book, replace(payment, fault=Fault.VENDOR), command.at_ms))


def decide_resolution(book: Book, command: ResolveDispute) -> Result:
    """Close a held dispute as the operator says. Only a collected, disputed hold may be closed by hand."""
    payment = book.payment(command.payment_id)
    if payment is None:
        return Refused("not_found", "there is no such payment")
    if not payment.disputed or payment.axes.charge is not Charge.HELD:
        return Refused("not_disputed", "this payment is not a held dispute")
    if command.charge not in (Charge.CAPTURED, Charge.REFUNDED):
        return Refused("bad_resolution", "a dispute ends captured or refunded")
    book.journal(command.at_ms, "dispute.resolved", payment.id, {"charge": command.charge.value, "by": command.by})
    return Done(close(book, payment, command.charge, command.at_ms))


def settle(book: Book, payment: Payment, evidence: Evidence, at_ms: int) -> Payment:
    """Book that a payment was collected; what becomes of its hold is the caller's to say. Return the payment as it is then."""
    payment = replace(
        payment,
        axes=payment.axes.transferred(Transfer.SETTLED),
        settled_base=evidence.value_base,
        # From here on the vendor owes the delivery, however long it took to collect.
        delivery_deadline_ms=at_ms + payment.delivery_deadline_ms - payment.created_at_ms,
    )
    book.put_evidence(evidence)
    book.put_payment(payment)
    _post_exposure(book, payment, evidence.value_base)
    _book_fee(book, payment, evidence.fee_base)
    book.journal(at_ms, "payment.settled", payment.id, evidence_content(evidence))
    return payment


def bury(book: Book, payment: Payment, evidence: Evidence, at_ms: int) -> Payment:
    """Book that a payment can never be collected, and give its hold back. Return the payment as it is then."""
    payment = replace(payment, axes=payment.axes.transferred(Transfer.DEAD))
    book.put_evidence(evidence)
    book.put_payment(payment)
    book.journal(at_ms, "payment.dead", payment.id, evidence_content(evidence))
    closed = follow(book, payment, at_ms)
    if evidence.fee_base:
        _book_fee(book, closed, evidence.fee_base)  # after the exposure is free again, which covered it
        book.journal(at_ms, "payment.fee", payment.id, evidence_content(evidence))
    return closed


def evidence_content(evidence: Evidence) -> dict[str, object]:
    """Return a piece of evidence as the journal writes it."""
    return {
        "evidence": evidence.kind,
        "chain_id": evidence.chain_id,
        "block_number": evidence.block_number,
        "block_hash": "0x" + evidence.block_hash.hex(),
        "block_time_s": evidence.block_time_s,
        "tx_hash": None if evidence.tx_hash is None else "0x" + evidence.tx_hash.hex(),
        "log_index": evidence.log_index,
        "value_base": evidence.value_base,
        "fee_base": evidence.fee_base,
        "witnesses": list(evidence.witnesses),
    }


def _is_anothers(book: Book, payment: Payment, known: Resource) -> bool:
    """P9, and P13: one thing is one account's, and is charged by one meter."""
    charged = payment.period is not None and known.meter_id not in (None, payment.period.meter_id)
    return known.account_id != payment.account_id or (charged and known.meter_id in book.meters)


def _without_anothers(book: Book, payment: Payment, known: Resource, command: RecordOutcome) -> RecordOutcome:
    """P9: a vendor that hands one account's thing to another has delivered nothing that we can pass on."""
    whose = "another account" if known.account_id != payment.account_id else "another purchase of the account"
    detail = f"{payment.vendor} gave {payment.id} the resource {known.ref}, which {whose} bought"
    # An id of its own: what is collected for the same payment may still become a dispute.
    task_id, subject = f"task_{payment.id}_conflict", f"{payment.vendor}/{known.ref}"
    book.put_task(Task(task_id, "resource_conflict", subject, detail, command.at_ms, payment.id))
    return replace(command, delivery=Delivery.UNKNOWN, fault=Fault.NONE, answer=None, resource=None, metered=None)


def follow(book: Book, payment: Payment, at_ms: int) -> Payment:
    """Do what the table asks for now; return the payment as it is then."""
    action = payment.axes.action
    if action is Action.CAPTURE:
        return close(book, payment, Charge.CAPTURED, at_ms)
    if action is Action.VOID:
        return close(book, payment, Charge.VOIDED, at_ms)
    if action is Action.DISPUTE and not payment.disputed:
        return _dispute(book, payment, at_ms)
    return payment


def _dispute(book: Book, payment: Payment, at_ms: int) -> Payment:
    day_started_ms = at_ms - at_ms % DAY_MS
    spent = book.refunded_base(payment.vendor, payment.account_id, day_started_ms)
    caps = DisputeCaps(book.rules.dispute_cap_base.get(payment.vendor, 0), spent)
    charge = settle_dispute(payment.fault, payment.hold_base, caps)
    if charge is Charge.CAPTURED:
        detail = f"{payment.vendor} refused {payment.id} with {payment.vendor_status} and collected for it all the same"
        book.put_task(Task(f"task_{payment.id}", "charged_refusal", payment.vendor, detail, at_ms, payment.id))
    if charge is not Charge.HELD:
        return close(book, payment, charge, at_ms)
    payment = replace(payment, disputed=True)
    book.put_payment(payment)
    book.journal(at_ms, "dispute.held", payment.id, {"vendor": payment.vendor, "hold_base": payment.hold_base})
    reason = f"collected payment {payment.id} without delivery, beyond the dispute cap"
    freeze = Freeze(f"vendor:{payment.vendor}", reason, at_ms, "dispute rule")
    if freeze.scope not in book.freezes:
        book.freezes[freeze.scope] = book.rows.freezes[freeze.scope] = freeze
        book.journal(at_ms, "freeze.set", payment.id, {"scope": freeze.scope, "reason": reason, "by": freeze.by})
    detail = f"{payment.vendor} collected {payment.hold_base} base units for {payment.id} and did not deliver"
    book.put_task(Task(f"task_{payment.id}", "dispute", payment.id, detail, at_ms, payment.id))
    return payment


def close(book: Book, payment: Payment, charge: Charge, at_ms: int) -> Payment:
    """End a hold, once. Return the payment as it is then."""
    captured = _end_hold(book, payment, charge)
    closed = replace(
        payment,
        axes=payment.axes.charged(charge),
        captured_base=captured,
        closed_at_ms=at_ms,
        # Where nothing was answered nothing ever will be: the same request may buy again.
        answered=payment.answered or not book.has_answer(payment.id),
    )
    book.put_payment(closed)
    _release_budget(book, payment, payment.hold_base - captured, at_ms)
    if closed.renews and closed.resource_ref is not None:
        resource = book.resource(closed.vendor, closed.resource_ref)
        if resource is not None and resource.open_renewal == closed.id:
            book.rows.resources[resource.vendor, resource.ref] = replace(resource, open_renewal=None)
    content = {"charge": charge.value, "captured_base": captured, "hold_base": payment.hold_base}
    book.journal(at_ms, f"payment.{charge.value}", payment.id, content)
    return closed


def _end_hold(book: Book, payment: Payment, charge: Charge) -> int:
    owed_base = _owed(payment)
    if charge is Charge.CAPTURED:
        book.book(book.ledger.post(payment.hold_transfer_id, owed_base), payment.id)
        return owed_base
    book.book(book.ledger.void(payment.hold_transfer_id), payment.id)
    if charge is Charge.REFUNDED:
        loss, fx = book.account(chart.HOUSE_LOSS), book.account(chart.fx(payment.terms.asset))
        book.book(book.ledger.move(loss, fx, owed_base), payment.id)
    elif book.ledger.reservation(payment.exposure_transfer_id) is not None:
        book.book(book.ledger.void(payment.exposure_transfer_id), payment.id)
    return 0


def highest_fee(payment: Payment) -> int:
    """Return the most that the wallet itself may have paid for the transaction, in the token."""
    terms = payment.authorization
    return 0 if terms is None else terms.fee_base


def _owed(payment: Payment) -> int:
    """Return the USD that the collected tokens cost, in proportion to the hold, never more than the hold."""
    value_base = payment.terms.value_base
    return min(payment.hold_base, -(-payment.hold_base * payment.settled_base // value_base))


def _post_exposure(book: Book, payment: Payment, value_base: int) -> None:
    """The wallet's side of a settlement does not wait for the agent's: the tokens are gone, whoever pays for them."""
    book.book(book.ledger.post(payment.exposure_transfer_id, value_base), payment.id)


def _book_fee(book: Book, payment: Payment, fee_base: int) -> None:
    """P7: what the wallet itself paid for the transaction, also for one that failed, is the house's."""
    if fee_base:
        asset = payment.terms.asset
        fees, payer = book.account(chart.HOUSE_FEES, asset), book.account(payment.terms.source, asset)
        book.book(book.ledger.move(fees, payer, fee_base), payment.id)


def _release_budget(book: Book, payment: Payment, unspent_base: int, at_ms: int) -> None:
    if not unspent_base:
        return
    key = book.keys.get(payment.key_id)
    for budget in key.budgets if key is not None else ():
        use = book.budget_use(budget, at_ms)
        if budget.covers(payment.vendor, payment.route) and payment.created_at_ms >= use.window_started_at_ms:
            left = max(0, use.used_base - unspent_base)
            book.put_budget_use(BudgetUse(use.budget_id, use.window_started_at_ms, left))
