"""Whether a purchase may be made: claim, freeze, budgets, caps and funds, then hold and exposure together.

Must not know prices or vendors' rules: what is asked for was already checked against them.  Theory: every check comes
before the first change, so a refusal costs nothing, and the agent's hold and the wallet's exposure are two reservations
of one decision: neither exists without the other.
"""

from gateway.core import chart
from gateway.core.book import Book, Claim
from gateway.core.commands import KEY_USED, Attached, Done, Purchase, Refused, Result
from gateway.core.kept import Order
from gateway.core.meter import tariff_of
from gateway.core.money import USD, format_amount
from gateway.core.payment import Axes, Transfer
from gateway.core.records import (
    AuthorizationTerms,
    BudgetUse,
    Meter,
    MeterState,
    Payment,
    PeriodTerms,
    TransferKind,
)
from gateway.core.replacing import replace

PLACED = Axes(transfer=Transfer.PRESENTED)
PLACED_METERED = Axes(transfer=Transfer.PREPARED)


def scopes(payment: Payment) -> tuple[str, ...]:
    """Return the freeze scopes that cover a payment."""
    common = (f"vendor:{payment.vendor}", f"account:{payment.account_id}", f"asset:{payment.terms.asset}")
    return common if payment.authorization is None else (*common, payment.terms.source)


def decide_purchase(book: Book, command: Purchase) -> Result:
    """Reserve the money for a purchase, or say why not, or name the purchase that it repeats.

    Raises ValueError for a payment id in use, other axes than PLACED, or a meter that is not the payment's: a bug of the
    caller's, not an answer.
    """
    payment = command.payment
    earlier = _earlier(book, payment, command.at_ms)
    if earlier is not None:
        return earlier
    placed = PLACED if command.meter is None else PLACED_METERED
    if payment.axes != placed or payment.id in book.open_payments or payment.id in book.rows.payments:
        raise ValueError(
            f"payment {payment.id} is not a new one, or not presented: what it signed could not be followed"
        )
    _check_meter(book, command)
    refusal = (
        _right_refusal(book, payment)
        or _novelty_refusal(book, command)
        or _cap_refusal(book, command)
        or _renewal_refusal(book, payment)
        or _budget_refusal(book, payment)
        or _fund_refusal(book, payment)
    )
    if refusal is not None:
        return refusal
    return Done(_place(book, command))


def _check_meter(book: Book, command: Purchase) -> None:
    payment, period, meter = command.payment, command.payment.period, command.meter
    if period is None and meter is None:
        return
    if period is None or meter is None or meter.id in book.meters or meter.state is not MeterState.ORDERED:
        raise ValueError(f"payment {payment.id}: a first period comes with a new meter, and nothing else does")
    tariff_of(meter)
    if period.seq != 1 or not fits(payment, meter):
        raise ValueError(f"payment {payment.id} is not the first period of {meter.id}")


def fits(payment: Payment, meter: Meter) -> bool:
    """Say whether a payment is a period of this meter: same owner, vendor and key, and a dollar for a dollar."""
    period = payment.period
    if period is None:
        return False
    whose = (payment.account_id, payment.key_id, payment.vendor, period.vendor, period.meter_id)
    same = whose == (meter.account_id, meter.key_id, meter.vendor, meter.vendor, meter.id)
    return same and period.value_base == payment.hold_base and period.ends_at_ms > period.starts_at_ms


def _earlier(book: Book, payment: Payment, at_ms: int) -> Result | None:
    key = payment.idempotency_key
    if key is not None:
        claim = book.claim_or_order(payment.account_id, key)
        if isinstance(claim, Order):
            return Refused("idempotency_conflict", "this Idempotency-Key ordered a server or a fleet; take a new one")
        if claim is not None and claim.fingerprint != payment.fingerprint:
            return Refused("idempotency_conflict", KEY_USED)
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


def _novelty_refusal(book: Book, command: Purchase) -> Refused | None:
    """P13: a challenge is answered once, and a name on chain is one payment's, also where the seller chooses it."""
    payment, challenge_id = command.payment, command.challenge_id
    repeated = challenge_id is not None and book.has_challenge(payment.vendor, challenge_id)
    terms = payment.authorization
    taken = command.prescribed and terms is not None and book.has_authorization(terms.identity)
    if repeated or taken:
        return Refused("challenge_repeated", f"{payment.vendor} sent a challenge that was answered before")
    return None


def _cap_refusal(book: Book, command: Purchase) -> Refused | None:
    payment, limits = command.payment, command.limits
    place = (payment.account_id, payment.vendor)
    if command.meter is not None and book.meter_count(*place) >= limits.metered_per_vendor:
        detail = f"{limits.metered_per_vendor} things of yours run at {payment.vendor} already; end one first"
        return Refused("too_many_open_payments", detail)
    if command.meter is None and book.open_count.get(place, 0) >= limits.open_payments_per_vendor:
        detail = (
            f"{limits.open_payments_per_vendor} payments to {payment.vendor} are open already; wait for one to close"
        )
        return Refused("too_many_open_payments", detail)
    terms = payment.terms
    exposed = book.exposure_base.get((payment.account_id, terms.source, terms.asset), 0)
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
            # Periods of what runs count and are not stopped, so a budget may be used beyond its limit.
            rest = format_amount(max(0, left))
            detail = f"the key's budget has {rest} left in this window, {format_amount(payment.hold_base)} needed"
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
    if payment.authorization is None:
        return None  # what the operator has at the vendor is the vendor's to refuse, and an alert
    wallet = book.ledger.find(payment.terms.source, payment.terms.asset)
    if wallet is None or wallet.available_base < payment.terms.reserve_base:
        return Refused("wallet_exhausted", "the operator's wallet cannot cover this purchase now; ask again later")
    return None


def _place(book: Book, command: Purchase) -> Payment:
    payment = reserve(book, command.payment)
    if payment.idempotency_key is not None:
        book.rows.claims[payment.account_id, payment.idempotency_key] = Claim(
            payment.fingerprint, payment.id, command.at_ms
        )
    if payment.renews and payment.resource_ref is not None:
        _mark_renewal(book, payment)
    if command.challenge_id is not None:
        book.rows.challenges[payment.vendor, command.challenge_id] = command.at_ms
    book.put_payment(payment, new=True)
    book.rows.attempts.append(command.attempt)
    if command.meter is not None and payment.period is not None:
        book.put_meter(replace(command.meter, seq=payment.period.seq, held_until_ms=payment.period.ends_at_ms))
    book.journal(command.at_ms, "payment.held", payment.id, content_of(payment))
    return payment


def reserve(book: Book, payment: Payment) -> Payment:
    """Set the agent's hold and the payer's exposure aside, and count it to the key's budgets; funds were checked."""
    terms = payment.terms
    fx = chart.fx(terms.asset)
    from_agent, payer = book.account(chart.agent(payment.account_id)), book.account(terms.source, terms.asset)
    fx_usd, fx_token = book.account(fx), book.account(fx, terms.asset)
    hold = book.book(book.ledger.reserve(from_agent, fx_usd, payment.hold_base), payment.id)
    exposure = book.book(book.ledger.reserve(fx_token, payer, terms.reserve_base), payment.id)
    for budget in book.keys[payment.key_id].budgets:
        if budget.covers(payment.vendor, payment.route):
            use = book.budget_use(budget, payment.created_at_ms)
            used = use.used_base + payment.hold_base
            book.put_budget_use(BudgetUse(use.budget_id, use.window_started_at_ms, used))
    return replace(payment, hold_transfer_id=hold.id, exposure_transfer_id=exposure.id)


def _mark_renewal(book: Book, payment: Payment) -> None:
    resource = book.resource(payment.vendor, payment.resource_ref or "")
    if resource is not None:
        book.rows.resources[resource.vendor, resource.ref] = replace(resource, open_renewal=payment.id)


def content_of(payment: Payment) -> dict[str, object]:
    """Return a new payment as the journal writes it."""
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
        "asset": payment.terms.asset,
        "value_base": payment.terms.value_base,
        "resource_ref": payment.resource_ref,
        "hold_transfer_id": payment.hold_transfer_id,
        "exposure_transfer_id": payment.exposure_transfer_id,
        **_terms_content(payment.terms),
    }


def _terms_content(terms: AuthorizationTerms | PeriodTerms) -> dict[str, object]:
    if isinstance(terms, PeriodTerms):
        return {
            "meter_id": terms.meter_id,
            "period": terms.seq,
            "starts_at_ms": terms.starts_at_ms,
            "ends_at_ms": terms.ends_at_ms,
        }
    content: dict[str, object] = {
        "wallet": "0x" + terms.wallet.hex(),
        "pay_to": "0x" + terms.pay_to.hex(),
        "nonce": "0x" + terms.nonce.hex(),
        "valid_before_s": terms.valid_before_s,
        "signed_at_block": terms.signed_at_block,
    }
    if terms.kind is TransferKind.EIP3009:
        return content
    return content | {
        "transfer_kind": terms.kind.value,  # `kind` is the journal's own word for the row
        "fee_base": terms.fee_base,
        "splits": [["0x" + payee.hex(), value_base] for payee, value_base in terms.splits],
        "tx_hash": None if terms.tx_hash is None else "0x" + terms.tx_hash.hex(),
    }
