"""Unused balance on its way back to whoever paid it in: held first, signed bytes and all, and closed by evidence only.

Must not know how a refund is signed or sent.  Theory: a refund is a payment of the house's to the payer: the account's hold
and the till's exposure are one decision (P2, P7), the receipt that funded it bounds it, operator's credit and loans are never
part of it, and it leaves by the proof of a final block (P5).
"""

from collections.abc import Collection
from dataclasses import replace

from gateway.core import chart
from gateway.core.book import Book
from gateway.core.commands import KEY_USED, Attached, Done, Refused, Result
from gateway.core.decide_close import evidence_content
from gateway.core.money import USD, format_amount
from gateway.core.paid import Incoming, ReceiptState, Refund, RefundState
from gateway.core.paid_book import REFUND
from gateway.core.paid_commands import MoveRefund, OpenRefund
from gateway.core.paid_facts import refund_facts, told, value_refusal
from gateway.core.records import EVERYTHING, Evidence

ARROWS = {
    RefundState.HELD: frozenset({RefundState.SENT, RefundState.SETTLED, RefundState.DEAD}),
    RefundState.SENT: frozenset({RefundState.SENT, RefundState.SETTLED, RefundState.DEAD}),
    RefundState.SETTLED: frozenset[RefundState](),
    RefundState.DEAD: frozenset[RefundState](),
}
PROOFS = {
    RefundState.SENT: frozenset[str](),
    RefundState.SETTLED: frozenset({"refunded"}),
    RefundState.DEAD: frozenset({"unused", "canceled", "failed"}),
}
OPEN_PER_ACCOUNT = 20
PARTS_PER_RECEIPT = 20
REFUNDS_PER_RECEIPT = 40
_FIXED = (
    *("account_id", "key_id", "receipt_id", "amount_base", "chain_id", "token", "asset", "till", "to", "value_base"),
    *("nonce", "valid_before_s", "signature", "client_token", "fingerprint", "created_at_ms", "fee_base"),
    *("hold_transfer_id", "exposure_transfer_id"),
)


def decide_refund(book: Book, command: OpenRefund) -> Result:
    """Hold a refund on the account and of the till, or say why not, or name the one that it repeats.

    Raises ValueError for a refund that is not new, or an authorization that is anybody's already: a bug of the caller's.
    """
    refund = command.refund
    earlier = value_refusal(refund) or _earlier(book, refund)
    if earlier is not None:
        return earlier
    new = (refund.version, refund.state, refund.hold_transfer_id) == (1, RefundState.HELD, 0)
    if not new or book.paid.refund(refund.id) is not None or book.has_authorization(_identity(refund)):
        raise ValueError(f"refund {refund.id} is not a new one")
    receipt = book.paid.incoming(refund.receipt_id)
    if receipt is None or not _is_refundable(receipt, refund):
        return Refused("not_refundable", "only what a wallet signed to fund this account goes back, and to that wallet")
    refusal = stop_of(book, refund) or _bound_refusal(receipt, refund) or _fund_refusal(book, refund)
    refusal = refusal or _number_refusal(book, receipt, refund)
    if refusal is not None:
        return refusal
    refund = _reserve(book, refund)
    book.paid.claim(_identity(refund), refund.id)
    book.paid.put_refund(refund)
    receipt = _refunded(book, receipt, refund.amount_base)
    book.journal(command.at_ms, "refund.held", refund.id, {**refund_facts(refund), **told(refund, receipt)})
    return Done()


def decide_refund_move(book: Book, command: MoveRefund) -> Result:
    """Write down where a refund is. SETTLED and DEAD close it, by evidence, once; the same end again changes nothing.

    Refused with `evidence_mismatch` where the evidence does not fit, or closed something else, and with `frozen` where
    what is held is to leave for the first time while the operator says stop: its end is told all the same. Raises
    ValueError for an event that is not the state, evidence of the wrong kind, or a change of what never changes: a bug
    of the caller's.
    """
    refund, evidence = command.refund, command.evidence
    kept = book.paid.refund(refund.id)
    if kept is None:
        return Refused("not_found", "there is no such refund")
    if command.event != refund.state.value or (evidence is None) != (refund.state is RefundState.SENT):
        raise ValueError(f"{refund.id} is {refund.state} by {command.event}")
    refusal = value_refusal(refund)
    if refusal is not None:
        return refusal
    if any(getattr(kept, name) != getattr(refund, name) for name in _FIXED):
        raise ValueError(f"the terms of {refund.id} never change")
    if kept.ended_at_ms is not None and kept.state is refund.state:
        return Done(changed=False)
    if refund.version != kept.version + 1 or refund.state not in ARROWS[kept.state]:
        return Refused("changed_meanwhile", f"another change of {refund.id} came first; read it again")
    return _close(book, refund, evidence, command) if evidence is not None else _sent(book, kept, refund, command)


def _sent(book: Book, kept: Refund, refund: Refund, command: MoveRefund) -> Result:
    if refund.ended_at_ms is not None:
        raise ValueError(f"{refund.id} is on its way and has ended")
    refusal = stop_of(book, refund) if kept.state is RefundState.HELD else None
    if refusal is not None:
        return refusal
    book.paid.put_refund(refund)
    book.journal(command.at_ms, "refund.sent", refund.id, {**refund_facts(refund), **told(refund)})
    return Done()


def _close(book: Book, refund: Refund, evidence: Evidence, command: MoveRefund) -> Result:
    evidence = replace(evidence, payment_id=refund.id)
    if evidence.kind not in PROOFS[refund.state] or evidence.chain_id != refund.chain_id:
        raise ValueError(f"{evidence.kind} evidence does not prove that {refund.id} is {refund.state}")
    settled = refund.state is RefundState.SETTLED
    fits = evidence.fee_base <= refund.fee_base and (not settled or evidence.value_base == refund.value_base)
    if book.has_evidence(evidence) or not fits:
        return Refused("evidence_mismatch", "the value is not what was promised, or the log closed something else")
    tx_hash = evidence.tx_hash if settled else refund.tx_hash
    refund = replace(refund, tx_hash=tx_hash, ended_at_ms=command.at_ms)
    book.put_evidence(evidence)
    receipts: tuple[Incoming, ...] = ()
    ends = ((refund.hold_transfer_id, refund.amount_base), (refund.exposure_transfer_id, refund.value_base))
    for transfer_id, moved_base in ends:
        end = book.ledger.post(transfer_id, moved_base) if settled else book.ledger.void(transfer_id)
        book.book(end, refund.id, returns=True)
    _book_fee(book, refund, evidence.fee_base)
    if not settled:
        receipt = book.paid.incoming(refund.receipt_id)
        receipts = () if receipt is None else (_refunded(book, receipt, -refund.amount_base),)
    book.paid.put_refund(refund)
    content = {**evidence_content(evidence), **refund_facts(refund), **told(refund, *receipts)}
    if settled:
        book.journal(command.at_ms, "refund.settled", refund.id, content)
    else:
        book.journal(command.at_ms, "refund.dead", refund.id, content)
    return Done()


def _identity(refund: Refund) -> tuple[int, bytes, bytes, bytes]:
    return refund.chain_id, refund.token, refund.till, refund.nonce


def _earlier(book: Book, refund: Refund) -> Result | None:
    order = book.order(refund.account_id, refund.client_token)
    if order is not None and (order.kind, order.fingerprint) == (REFUND, refund.fingerprint):
        return Attached(order.record_id)
    if order is not None or book.claim(refund.account_id, refund.client_token) is not None:
        return Refused("idempotency_conflict", KEY_USED)
    return None


def _is_refundable(receipt: Incoming, refund: Refund) -> bool:
    whose = receipt.account_id == refund.account_id and receipt.state is ReceiptState.CREDITED
    where = (receipt.chain_id, receipt.token, receipt.asset) == (refund.chain_id, refund.token, refund.asset)
    return whose and where and receipt.refundable and receipt.sender == refund.to


def refund_scopes(refund: Refund) -> tuple[str, ...]:
    """Return what freezes stop a refund, beside those of everything."""
    return f"account:{refund.account_id}", f"asset:{refund.asset}", _till(refund)


def is_stopped(refund: Refund, frozen: Collection[str]) -> bool:
    """Say whether one of these frozen scopes stops a refund."""
    return any(scope in frozen for scope in (*EVERYTHING, *refund_scopes(refund)))


def stop_of(book: Book, refund: Refund) -> Refused | None:
    """Return what an operator's freeze answers to a refund that is about to leave; None where nothing stops it."""
    frozen = book.frozen(refund_scopes(refund))
    if frozen is None:
        return None
    return Refused("frozen", f"the operator has frozen this {frozen.scope.partition(':')[0]}")


def _bound_refusal(receipt: Incoming, refund: Refund) -> Refused | None:
    """At most what was funded and not refunded, in USD and (in proportion) in the token."""
    left_base = receipt.amount_base - receipt.refunded_base
    most_value_base = receipt.value_base * refund.amount_base // max(1, receipt.amount_base)
    if refund.amount_base > left_base or refund.value_base > most_value_base:
        return Refused("refund_exceeds_funding", f"{format_amount(left_base)} of this payment can still go back")
    return None


def _number_refusal(book: Book, receipt: Incoming, refund: Refund) -> Refused | None:
    """Each refund costs the house gas, or the till its fee: so no dust, not many of one payment, and not many at once.

    All that is left of a payment may always be asked for, within twice as many: no part of it strands for its number.
    """
    all_of_it = refund.amount_base == receipt.amount_base - receipt.refunded_base
    least_base = book.rules.refund_min_base
    # What was ordered was as much as an order takes; dust that was sent without one is spent here, and not sent about.
    if refund.amount_base < least_base and not (all_of_it and _worth_it(receipt, least_base)):
        detail = f"at least {format_amount(least_base)} goes back at once, or all that is left of a payment"
        return Refused("not_refundable", detail)
    count = book.paid.refund_count(receipt.id)
    if count >= (REFUNDS_PER_RECEIPT if all_of_it else PARTS_PER_RECEIPT):
        detail = f"a payment goes back in at most {PARTS_PER_RECEIPT} parts; ask for all that is left, or the operator"
        return Refused("not_refundable", detail)
    if sum(each.account_id == refund.account_id for each in book.paid.refunds.values()) >= OPEN_PER_ACCOUNT:
        return Refused("too_many_open_payments", f"{OPEN_PER_ACCOUNT} refunds of this account are on their way")
    return None


def _worth_it(receipt: Incoming, least_base: int) -> bool:
    return receipt.topup_id is not None or receipt.amount_base >= least_base


def _fund_refusal(book: Book, refund: Refund) -> Refused | None:
    agent = book.ledger.find(chart.agent(refund.account_id), USD)
    available = 0 if agent is None else agent.available_base
    if agent is None or available < refund.amount_base:
        detail = f"available {format_amount(available)}, needed {format_amount(refund.amount_base)}"
        return Refused("insufficient_balance", detail)
    # What is on hold for purchases is spent of the operator's credit first: whether it is captured or voided, this is enough.
    paid = book.paid
    elses_base = sum(of.get(refund.account_id, 0) for of in (paid.grants, paid.lent, paid.returning))
    paid_in = agent.posted_base - elses_base
    if paid_in < refund.amount_base:
        rest = format_amount(max(0, paid_in))
        return Refused("not_refundable", f"{rest} of the balance was paid in and is final; the rest is the operator's")
    till = book.ledger.find(_till(refund), refund.asset)
    if till is None or till.available_base < refund.value_base + refund.fee_base:
        return Refused("till_short", "the operator's till cannot cover this refund now; ask again later")
    return None


def _till(refund: Refund) -> str:
    return chart.wallet("0x" + refund.till.hex())


def _reserve(book: Book, refund: Refund) -> Refund:
    agent, till = book.account(chart.agent(refund.account_id)), book.account(_till(refund), refund.asset)
    fx_usd, fx_token = book.account(chart.fx(refund.asset)), book.account(chart.fx(refund.asset), refund.asset)
    hold = book.book(book.ledger.reserve(agent, fx_usd, refund.amount_base), refund.id)
    exposure = book.book(book.ledger.reserve(fx_token, till, refund.value_base + refund.fee_base), refund.id)
    return replace(refund, hold_transfer_id=hold.id, exposure_transfer_id=exposure.id)


def _book_fee(book: Book, refund: Refund, fee_base: int) -> None:
    """P7: what the till itself paid for the transaction, also for one that failed, is the house's; the exposure covered it."""
    if fee_base:
        fees, till = book.account(chart.HOUSE_FEES, refund.asset), book.account(_till(refund), refund.asset)
        book.book(book.ledger.move(fees, till, fee_base), refund.id)


def _refunded(book: Book, receipt: Incoming, change_base: int) -> Incoming:
    """Count what goes back of a receipt, or has come back to the account."""
    left = receipt.refunded_base + change_base
    receipt = replace(receipt, refunded_base=left, version=receipt.version + 1)
    book.paid.put_incoming(receipt)
    return receipt
