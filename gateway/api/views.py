"""Records as the API shows them: decimal strings, RFC 3339 times, hex with 0x.

Must not know who asks or where the records come from.  Theory: bytes and base units inside, text at this one door, so no
two answers spell the same fact differently.
"""

from collections.abc import Mapping
from typing import Any

from contracts.codec import Address, checksum
from gateway.api import examples
from gateway.api.schemas import ADDRESS, AMOUNT, FLAG, HASH, INTEGER, TEXT, TIME, choice, maybe, named, record, several
from gateway.core.money import format_amount
from gateway.core.payment import Charge, Delivery, Fault, Transfer
from gateway.core.records import ApiKey, BudgetUse, Payment, Resource, TransferKind
from gateway.core.times import utc_text

_PAYMENT = record(
    id=TEXT,
    created_at=TIME,
    closed_at=maybe(TIME),
    vendor=TEXT,
    route=TEXT,
    method=TEXT,
    path=TEXT,
    key_id=TEXT,
    request_id=TEXT,
    idempotency_key=maybe(TEXT),
    delivery=choice(*Delivery),
    transfer=choice(*Transfer),
    charge=choice(*Charge),
    fault=choice(*Fault),
    vendor_status=maybe(INTEGER),
    disputed=FLAG,
    hold=AMOUNT,
    captured=AMOUNT,
    resource=maybe(record(vendor=TEXT, ref=TEXT)),
    kind=choice(*TransferKind),
    authorization=maybe(
        record(
            chain_id=INTEGER,
            token=ADDRESS,
            asset=TEXT,
            wallet=ADDRESS,
            pay_to=ADDRESS,
            splits=several(record(pay_to=ADDRESS, value=AMOUNT)),
            nonce=HASH,
            value=AMOUNT,
            settled=AMOUNT,
            valid_before=TIME,
            signed_at_block=INTEGER,
        )
    ),
    period=maybe(
        record(meter=TEXT, period=INTEGER, asset=TEXT, value=AMOUNT, settled=AMOUNT, starts_at=TIME, ends_at=TIME)
    ),
)
PAYMENT = named("Payment", _PAYMENT, examples.PAYMENT)
_RESOURCE = record(
    vendor=TEXT,
    ref=TEXT,
    kind=TEXT,
    state=TEXT,
    expires_at=maybe(TIME),
    as_of=TIME,
    payment_id=maybe(TEXT),
    open_renewal=maybe(TEXT),
)
RESOURCE = named("Resource", _RESOURCE, examples.RESOURCE)
BUDGET = record(
    id=TEXT,
    limit=AMOUNT,
    used=AMOUNT,
    window_s=INTEGER,
    vendor=maybe(TEXT),
    route=maybe(TEXT),
    window_ends_at=maybe(TIME),
)
_KEY = record(
    id=TEXT, name=TEXT, scopes=several(TEXT), budgets=several(BUDGET), created_at=TIME, revoked_at=maybe(TIME)
)
KEY = named("Key", _KEY, examples.KEY)


def time_or_none(at_ms: int | None) -> str | None:
    """Return a time that may be missing."""
    return None if at_ms is None else utc_text(at_ms)


def hex_or_none(value: bytes | None) -> str | None:
    """Return bytes that may be missing as 0x and hex."""
    return None if value is None else "0x" + value.hex()


def payment_view(payment: Payment) -> dict[str, Any]:
    """Return a payment: its three axes, its amounts, and what was promised on chain."""
    resource = None if payment.resource_ref is None else {"vendor": payment.vendor, "ref": payment.resource_ref}
    return {
        "id": payment.id,
        "created_at": utc_text(payment.created_at_ms),
        "closed_at": time_or_none(payment.closed_at_ms),
        "vendor": payment.vendor,
        "route": payment.route,
        "method": payment.method,
        "path": payment.path,
        "key_id": payment.key_id,
        "request_id": payment.request_id,
        "idempotency_key": payment.idempotency_key,
        "delivery": payment.axes.delivery.value,
        "transfer": payment.axes.transfer.value,
        "charge": payment.axes.charge.value,
        "fault": payment.fault.value,
        "vendor_status": payment.vendor_status,
        "disputed": payment.disputed,
        "hold": format_amount(payment.hold_base),
        "captured": format_amount(payment.captured_base),
        "resource": resource,
        "kind": payment.terms.kind.value,
        "authorization": _authorization(payment),
        "period": _period(payment),
    }


def _authorization(payment: Payment) -> dict[str, Any] | None:
    terms = payment.authorization
    if terms is None:
        return None
    splits = [{"pay_to": checksum(Address(payee)), "value": format_amount(value)} for payee, value in terms.splits]
    return {
        "chain_id": terms.chain_id,
        "token": checksum(Address(terms.token)),
        "asset": terms.asset,
        "wallet": checksum(Address(terms.wallet)),
        "pay_to": checksum(Address(terms.pay_to)),
        "splits": splits,
        "nonce": hex_or_none(terms.nonce),
        "value": format_amount(terms.value_base),
        "settled": format_amount(payment.settled_base),
        "valid_before": utc_text(terms.valid_before_s * 1000),
        "signed_at_block": terms.signed_at_block,
    }


def _period(payment: Payment) -> dict[str, Any] | None:
    terms = payment.period
    if terms is None:
        return None
    return {
        "meter": terms.meter_id,
        "period": terms.seq,
        "asset": terms.asset,
        "value": format_amount(terms.value_base),
        "settled": format_amount(payment.settled_base),
        "starts_at": utc_text(terms.starts_at_ms),
        "ends_at": utc_text(terms.ends_at_ms),
    }


def resource_view(resource: Resource) -> dict[str, Any]:
    """Return a resource; its secret stays where it is."""
    return {
        "vendor": resource.vendor,
        "ref": resource.ref,
        "kind": resource.kind,
        "state": resource.state,
        "expires_at": time_or_none(resource.expires_at_ms),
        "as_of": utc_text(resource.as_of_ms),
        "payment_id": resource.payment_id or None,
        "open_renewal": resource.open_renewal,
    }


def key_view(key: ApiKey, uses: Mapping[str, BudgetUse], now_ms: int) -> dict[str, Any]:
    """Return a key without anything that opens a door; budgets with what their current window has used."""
    budgets = []
    for budget in key.budgets:
        use = uses.get(budget.id)
        ends_ms = None if use is None else use.window_started_at_ms + budget.window_s * 1000
        running = use is not None and ends_ms is not None and now_ms < ends_ms
        budgets.append(
            {
                "id": budget.id,
                "limit": format_amount(budget.limit_base),
                "used": format_amount(use.used_base if use is not None and running else 0),
                "window_s": budget.window_s,
                "vendor": budget.vendor,
                "route": budget.route,
                "window_ends_at": time_or_none(ends_ms if running else None),
            }
        )
    return {
        "id": key.id,
        "name": key.name,
        "scopes": list(key.scopes),
        "budgets": budgets,
        "created_at": utc_text(key.created_at_ms),
        "revoked_at": time_or_none(key.revoked_at_ms),
    }
