"""Whether a purchase may be made: claim, freeze, budgets, caps and funds, then hold and exposure together.

Must not know prices or vendors' rules: what is asked for was already checked against them.  Theory: every check comes
before the first change, so a refusal costs nothing, and the agent's hold and the wallet's exposure are two reservations
of one decision: neither exists without the other.
"""

from dataclasses import replace

from gateway.core import chart
from gateway.core.book import Book, Claim
from gateway.core.commands import Attached, Done, Purchase, Refused, Result
from gateway.core.money import USD, format_amount
from gateway.core.payment import Axes, Transfer
from gateway.core.records import BudgetUse, Payment

PLACED = Axes(transfer=Transfer.PRESENTED)


def scopes(payment: Payment) -> tuple[str, ...]:
    """Return the freeze scopes that cover a payment."""
    return (
        f"vendor:{payment.vendor}",
        f"account:{payment.account_id}",
        f"wallet:0x{payment.terms.wallet.hex()}",
        f"asset:{payment.terms.asset}",
    )


def decide_purchase(book: Book, command: Purchase) -> Result:
    """Reserve the money for a purchase, or say why not, or name the purchase that it repeats.

    Raises ValueError for a payment id in use or other axes than PLACED: a bug of the caller's, not an answer.
    """
    payment = command.payment
    earlier = _earlier(book, payment, command.at_ms)
    if earlier is not None:
        return earlier
    if payment.axes != PLACED or payment.id in book.open_payments or payment.id in book.rows.payments:
        raise ValueError(
            f"payment {payment.id} is not a new one, or not presented: what it signed could not be followed"
        )
    refusal = (
        _right_refusal(book, payment)
        or _cap_refusal(book, command)
        or _renewal_refusal(book, payment)
        or _budget_refusal(book, payment)
        or _fund_refusal(book, payment)
    )
    if refusal is not None:
        return refusal
    return Done(_place(book, command))


def _earlier(book: Book, payment: Payment, at_ms: int) -> Result | None:
    key = payment.idempotency_key
    if key is not None:
        claim = book.claim(payment.account_id, key)
        if claim is not None and claim.fingerprint != payment.fingerprint:
            return Refused("idempotency_conflict", "this Idempotency-Key was used for another request; take a new one")
        if claim is not None and claim.payment_id is None:
            return Refused(
                "idempotency_conflict", "this Idempotency-Key has an answer that cost nothing; take a new one"
            )
        if claim is not None and claim.payment_id is not None:
            earlier = book.payment(claim.payment_id)
            if earlier is None or not earlier.reclaimable:
                return Attached(claim.payment_id)
    open_id = book.unanswered.find(payment.account_id, payment.fingerprint, key, payment.created_at_ms)
    if open_id is None:
        return None
    if key is not None:
        book.rows.claims[payment.account_id, key] = Claim(payment.fingerprint, open_id, at_ms)
    return Attached(open_id)


def _right_refusal(book: Book, payment: Payment) -> Refused | None:
    frozen = book.frozen(scopes(payment))
    if frozen is not None:
        # The reason may speak of other accounts, and of the treasury (P9): it is for the operator.
        return Refused("frozen", f"the operator has frozen this {frozen.scope.partition(':')[0]}")
    key = book.keys.get(payment.key_id)
    if key is None or key.revoked_at_ms is not None or key.account_id != payment.account_id:
        return Refused("key_revoked", "this API key is no longer valid")
    return None


def _cap_refusal(book: Book, command: Purchase) -> Refused | None:
    payment, limits = command.payment, command.limits
    if book.open_count.get((payment.account_id, payment.vendor), 0) >= limits.open_payments_per_vendor:
        detail = (
            f"{limits.open_payments_per_vendor} payments to {payment.vendor} are open already; wait for one to close"
        )
        return Refused("too_many_open_payments", detail)
    terms = payment.terms
    exposed = book.exposure_base.get((payment.account_id, terms.wallet, terms.asset), 0)
    if exposed + payment.hold_base > limits.exposure_base:
        detail = f"this account's open payments may not exceed {format_amount(limits.exposure_base)} on one wallet"
        return Refused("exposure_capped", detail)
    since_ms = command.at_ms - limits.unpaid_window_ms
    if book.unpaid_deliveries(payment.account_id, since_ms) >= limits.unpaid_deliveries:
        detail = f"{limits.unpaid_deliveries} deliveries to this account were never collected by the vendor; ask the operator"
        return Refused("unpaid_delivery_limit", detail)
    return None


def _renewal_refusal(book: Book, payment: Payment) -> Refused | None:
    if not payment.renews or payment.resource_ref is None:
        return None
    resource = book.resource(payment.vendor, payment.resource_ref)
    if resource is None or resource.account_id != payment.account_id:
        return Refused("not_found", "there is no such resource")
    if resource.open_renewal is not None:
        detail = (
            f"a renewal of this resource is open: payment {resource.open_renewal}; wait until it is settled or dead"
        )
        return Refused("renewal_open", detail)
    return None


def _budget_refusal(book: Book, payment: Payment) -> Refused | None:
    for budget in book.keys[payment.key_id].budgets:
        if not budget.covers(payment.vendor, payment.route):
            continue
        left = budget.limit_base - book.budget_use(budget, payment.created_at_ms).used_base
        if payment.hold_base > left:
            detail = f"the key's budget has {format_amount(left)} left in this window, {format_amount(payment.hold_base)} needed"
            return Refused("budget_exhausted", detail)
    return None


def _fund_refusal(book: Book, payment: Payment) -> Refused | None:
    agent = book.ledger.find(chart.agent(payment.account_id), USD)
    available = 0 if agent is None else agent.available_base
    if available < payment.hold_base:
        detail = (
            f"available {format_amount(available)}, needed {format_amount(payment.hold_base)}; top up and ask again"
        )
        return Refused("insufficient_balance", detail)
    wallet = book.ledger.find(chart.wallet("0x" + payment.terms.wallet.hex()), payment.terms.asset)
    if wallet is None or wallet.available_base < payment.terms.value_base:
        return Refused("wallet_exhausted", "the operator's wallet cannot cover this purchase now; ask again later")
    return None


def _place(book: Book, command: Purchase) -> Payment:
    from_agent = book.account(chart.agent(command.payment.account_id))
    asset = command.payment.terms.asset
    wallet = book.account(chart.wallet("0x" + command.payment.terms.wallet.hex()), asset)
    fx_usd, fx_token = book.account(chart.fx(asset)), book.account(chart.fx(asset), asset)
    payment_id = command.payment.id
    hold = book.book(book.ledger.reserve(from_agent, fx_usd, command.payment.hold_base), payment_id)
    exposure = book.book(book.ledger.reserve(fx_token, wallet, command.payment.terms.value_base), payment_id)
    payment = replace(command.payment, hold_transfer_id=hold.id, exposure_transfer_id=exposure.id)
    for budget in book.keys[payment.key_id].budgets:
        if budget.covers(payment.vendor, payment.route):
            use = book.budget_use(budget, payment.created_at_ms)
            used = use.used_base + payment.hold_base
            book.put_budget_use(BudgetUse(use.budget_id, use.window_started_at_ms, used))
    if payment.idempotency_key is not None:
        book.rows.claims[payment.account_id, payment.idempotency_key] = Claim(
            payment.fingerprint, payment_id, command.at_ms
        )
    if payment.renews and payment.resource_ref is not None:
        _mark_renewal(book, payment)
    book.put_payment(payment, new=True)
    book.rows.attempts.append(command.attempt)
    book.journal(command.at_ms, "payment.held", payment_id, _content(payment))
    return payment


def _mark_renewal(book: Book, payment: Payment) -> None:
    resource = book.resource(payment.vendor, payment.resource_ref or "")
    if resource is not None:
        book.rows.resources[resource.vendor, resource.ref] = replace(resource, open_renewal=payment.id)


def _content(payment: Payment) -> dict[str, object]:
    terms = payment.terms
    return {
        "account_id": payment.account_id,
        "key_id": payment.key_id,
        "request_id": payment.request_id,
        "vendor": payment.vendor,
        "route": payment.route,
        "method": payment.method,
        "path": payment.path,
        "fingerprint": payment.fingerprint.hex(),
        "hold_base": payment.hold_base,
        "asset": terms.asset,
        "wallet": "0x" + terms.wallet.hex(),
        "pay_to": "0x" + terms.pay_to.hex(),
        "nonce": "0x" + terms.nonce.hex(),
        "value_base": terms.value_base,
        "valid_before_s": terms.valid_before_s,
        "signed_at_block": terms.signed_at_block,
        "resource_ref": payment.resource_ref,
        "hold_transfer_id": payment.hold_transfer_id,
        "exposure_transfer_id": payment.exposure_transfer_id,
    }
