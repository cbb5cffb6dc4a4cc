"""How records become rows and rows become records; nothing else knows the columns' order.

Must not know when anything is written.  Theory: one pair of functions per record, so that what is read back equals what
was written, field by field.
"""

import json
import sqlite3
from typing import Any

from gateway.core.payment import Axes, Charge, Delivery, Fault, Transfer
from gateway.core.records import ApiKey, AuthorizationTerms, Budget, Payment, Resource, Task

PAYMENT_COLUMNS = (
    "id, account_id, key_id, request_id, vendor, route, method, path, fingerprint, idempotency_key, represent, "
    "chain_id, token, asset, wallet, pay_to, nonce, value_base, valid_before_s, signed_at_block, hold_base, "
    "created_at_ms, delivery_deadline_ms, resource_ref, renews, delivery, transfer, charge, fault, vendor_status, "
    "settled_base, captured_base, hold_transfer_id, exposure_transfer_id, answered, disputed, closed_at_ms"
)
RESOURCE_COLUMNS = (
    "vendor, ref, account_id, payment_id, kind, state, surrogate_digest, sealed_secret, expires_at_ms, as_of_ms, "
    "open_renewal"
)
TASK_COLUMNS = "id, kind, subject, detail, opened_at_ms, payment_id, closed_at_ms, resolution"
KEY_COLUMNS = "id, account_id, digest, name, scopes, budgets, created_at_ms, revoked_at_ms"


def payment_row(p: Payment) -> tuple[Any, ...]:
    """Return a payment's row."""
    t = p.terms
    return (
        p.id,
        p.account_id,
        p.key_id,
        p.request_id,
        p.vendor,
        p.route,
        p.method,
        p.path,
        p.fingerprint,
        p.idempotency_key,
        p.represent,
        t.chain_id,
        t.token,
        t.asset,
        t.wallet,
        t.pay_to,
        t.nonce,
        t.value_base,
        t.valid_before_s,
        t.signed_at_block,
        p.hold_base,
        p.created_at_ms,
        p.delivery_deadline_ms,
        p.resource_ref,
        int(p.renews),
        p.axes.delivery.value,
        p.axes.transfer.value,
        p.axes.charge.value,
        p.fault.value,
        p.vendor_status,
        p.settled_base,
        p.captured_base,
        p.hold_transfer_id,
        p.exposure_transfer_id,
        int(p.answered),
        int(p.disputed),
        p.closed_at_ms,
    )


def payment_change(p: Payment) -> tuple[Any, ...]:
    """Return the columns of a payment that may change after it was placed, and its id."""
    return (
        p.resource_ref,
        p.delivery_deadline_ms,
        p.axes.delivery.value,
        p.axes.transfer.value,
        p.axes.charge.value,
        p.fault.value,
        p.vendor_status,
        p.settled_base,
        p.captured_base,
        int(p.answered),
        int(p.disputed),
        p.closed_at_ms,
        p.id,
    )


def payment_from(row: sqlite3.Row | tuple[Any, ...]) -> Payment:
    """Return the payment that a row of PAYMENT_COLUMNS holds."""
    r = tuple(row)
    terms = AuthorizationTerms(
        chain_id=r[11],
        token=r[12],
        asset=r[13],
        wallet=r[14],
        pay_to=r[15],
        nonce=r[16],
        value_base=r[17],
        valid_before_s=r[18],
        signed_at_block=r[19],
    )
    return Payment(
        id=r[0],
        account_id=r[1],
        key_id=r[2],
        request_id=r[3],
        vendor=r[4],
        route=r[5],
        method=r[6],
        path=r[7],
        fingerprint=r[8],
        idempotency_key=r[9],
        represent=r[10],
        terms=terms,
        hold_base=r[20],
        created_at_ms=r[21],
        delivery_deadline_ms=r[22],
        resource_ref=r[23],
        renews=bool(r[24]),
        axes=Axes(Delivery(r[25]), Transfer(r[26]), Charge(r[27])),
        fault=Fault(r[28]),
        vendor_status=r[29],
        settled_base=r[30],
        captured_base=r[31],
        hold_transfer_id=r[32],
        exposure_transfer_id=r[33],
        answered=bool(r[34]),
        disputed=bool(r[35]),
        closed_at_ms=r[36],
    )


def resource_row(r: Resource) -> tuple[Any, ...]:
    """Return a resource's row."""
    return (
        r.vendor,
        r.ref,
        r.account_id,
        r.payment_id,
        r.kind,
        r.state,
        r.surrogate_digest,
        r.sealed_secret,
        r.expires_at_ms,
        r.as_of_ms,
        r.open_renewal,
    )


def resource_from(row: sqlite3.Row | tuple[Any, ...]) -> Resource:
    """Return the resource that a row of RESOURCE_COLUMNS holds."""
    return Resource(*tuple(row))


def task_row(t: Task) -> tuple[Any, ...]:
    """Return a task's row."""
    return (t.id, t.kind, t.subject, t.detail, t.opened_at_ms, t.payment_id, t.closed_at_ms, t.resolution)


def task_from(row: sqlite3.Row | tuple[Any, ...]) -> Task:
    """Return the task that a row of TASK_COLUMNS holds."""
    return Task(*tuple(row))


def key_row(k: ApiKey) -> tuple[Any, ...]:
    """Return a key's row."""
    budgets = [[b.id, b.limit_base, b.window_s, b.vendor, b.route] for b in k.budgets]
    return (
        k.id,
        k.account_id,
        k.digest,
        k.name,
        json.dumps(k.scopes),
        json.dumps(budgets),
        k.created_at_ms,
        k.revoked_at_ms,
    )


def key_from(row: sqlite3.Row | tuple[Any, ...]) -> ApiKey:
    """Return the key that a row of KEY_COLUMNS holds."""
    r = tuple(row)
    budgets = tuple(Budget(*b) for b in json.loads(r[5]))
    return ApiKey(r[0], r[1], r[2], r[3], tuple(json.loads(r[4])), budgets, r[6], r[7])
