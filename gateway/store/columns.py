"""How records become rows and rows become records; nothing else knows the columns' order.

Must not know when anything is written.  Theory: one pair of functions per record, so that what is read back equals what
was written, field by field. The neutral API's records have theirs in kept_columns.
"""

import json
import sqlite3
from typing import Any

from gateway.core.payment import Axes, Charge, Delivery, Fault, Transfer
from gateway.core.records import (
    ApiKey,
    AuthorizationTerms,
    Budget,
    Meter,
    MeterState,
    Payment,
    PeriodTerms,
    Resource,
    Task,
    TransferKind,
    VendorEvent,
)
from gateway.store import kept_columns as kept

PAYMENT_COLUMNS = (
    "id, account_id, key_id, request_id, vendor, route, method, path, fingerprint, idempotency_key, represent, "
    "kind, asset, value_base, chain_id, token, wallet, pay_to, nonce, valid_before_s, signed_at_block, fee_base, "
    "splits, tx_hash, meter_id, period, starts_at_ms, ends_at_ms, hold_base, "
    "created_at_ms, delivery_deadline_ms, resource_ref, renews, delivery, transfer, charge, fault, vendor_status, "
    "settled_base, captured_base, hold_transfer_id, exposure_transfer_id, answered, disputed, closed_at_ms"
)
RESOURCE_COLUMNS = (
    "vendor, ref, account_id, payment_id, kind, state, surrogate_digest, sealed_secret, expires_at_ms, as_of_ms, "
    "open_renewal, label, meter_id, plan"
)
METER_COLUMNS = (
    "id, vendor, account_id, key_id, kind, token, label, hourly, monthly, unit_s, rule, while_running, created_at_ms, "
    "state, ref, running_since_ms, accrued, accrued_until_ms, billed_base, lost_base, seq, held_until_ms, billed_until_ms, "
    "warned_at_ms, unfunded_at_ms, reason, ended_at_ms"
)
EVENT_COLUMNS = "vendor, event_id, kind, ref, state, created_at_ms, received_at_ms"
TASK_COLUMNS = "id, kind, subject, detail, opened_at_ms, payment_id, closed_at_ms, resolution"
KEY_COLUMNS = "id, account_id, digest, name, scopes, budgets, created_at_ms, revoked_at_ms"


server_from, quote_from, snapshot_from = kept.server_from, kept.quote_from, kept.snapshot_from
ssh_key_from, fleet_from = kept.ssh_key_from, kept.fleet_from
hook_from, delivery_from = kept.hook_from, kept.delivery_from

_NO_AUTHORIZATION = (None,) * 10
_NO_PERIOD = (None,) * 4
_METER_FIELDS = METER_COLUMNS.split(", ")
_KINDS = {kind.value: kind for kind in TransferKind}


def payment_row(p: Payment) -> tuple[Any, ...]:
    """Return a payment's row."""
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
        *_terms_row(p.terms),
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


def _terms_row(t: AuthorizationTerms | PeriodTerms) -> tuple[Any, ...]:
    head = (t.kind.value, t.asset, t.value_base)
    if isinstance(t, PeriodTerms):
        return (*head, *_NO_AUTHORIZATION, t.meter_id, t.seq, t.starts_at_ms, t.ends_at_ms)
    splits = json.dumps([[payee.hex(), value_base] for payee, value_base in t.splits]) if t.splits else None
    return (
        *head,
        t.chain_id,
        t.token,
        t.wallet,
        t.pay_to,
        t.nonce,
        t.valid_before_s,
        t.signed_at_block,
        t.fee_base,
        splits,
        t.tx_hash,
        *_NO_PERIOD,
    )


def _terms_from(vendor: str, r: tuple[Any, ...]) -> AuthorizationTerms | PeriodTerms:
    if r[0] == TransferKind.ACCOUNT:
        return PeriodTerms(
            vendor=vendor, meter_id=r[13], seq=r[14], value_base=r[2], starts_at_ms=r[15], ends_at_ms=r[16]
        )
    splits = () if r[11] is None else tuple((bytes.fromhex(payee), value) for payee, value in json.loads(r[11]))
    return AuthorizationTerms(
        chain_id=r[3],
        token=r[4],
        asset=r[1],
        wallet=r[5],
        pay_to=r[6],
        nonce=r[7],
        value_base=r[2],
        valid_before_s=r[8],
        signed_at_block=r[9],
        kind=_KINDS[r[0]],
        fee_base=r[10],
        splits=splits,
        tx_hash=r[12],
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


def open_payment_change(p: Payment) -> tuple[Any, ...]:
    """Return the columns that may change of a payment while it is open and its agent waits, and its id."""
    return (
        p.resource_ref,
        p.delivery_deadline_ms,
        p.axes.delivery.value,
        p.axes.transfer.value,
        p.fault.value,
        p.vendor_status,
        p.settled_base,
        int(p.disputed),
        p.id,
    )


def payment_from(row: sqlite3.Row | tuple[Any, ...]) -> Payment:
    """Return the payment that a row of PAYMENT_COLUMNS holds."""
    r = tuple(row)
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
        terms=_terms_from(r[4], r[11:28]),
        hold_base=r[28],
        created_at_ms=r[29],
        delivery_deadline_ms=r[30],
        resource_ref=r[31],
        renews=bool(r[32]),
        axes=Axes(Delivery(r[33]), Transfer(r[34]), Charge(r[35])),
        fault=Fault(r[36]),
        vendor_status=r[37],
        settled_base=r[38],
        captured_base=r[39],
        hold_transfer_id=r[40],
        exposure_transfer_id=r[41],
        answered=bool(r[42]),
        disputed=bool(r[43]),
        closed_at_ms=r[44],
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
        r.label,
        r.meter_id,
        r.plan,
    )


def resource_from(row: sqlite3.Row | tuple[Any, ...]) -> Resource:
    """Return the resource that a row of RESOURCE_COLUMNS holds."""
    return Resource(*tuple(row))


def meter_row(m: Meter) -> tuple[Any, ...]:
    """Return a meter's row."""
    return (
        m.id,
        m.vendor,
        m.account_id,
        m.key_id,
        m.kind,
        m.token,
        m.label,
        m.hourly,
        m.monthly,
        m.unit_s,
        m.rule,
        int(m.while_running),
        m.created_at_ms,
        m.state.value,
        m.ref,
        m.running_since_ms,
        m.accrued,
        m.accrued_until_ms,
        m.billed_base,
        m.lost_base,
        m.seq,
        m.held_until_ms,
        m.billed_until_ms,
        m.warned_at_ms,
        m.unfunded_at_ms,
        m.reason,
        m.ended_at_ms,
    )


def meter_from(row: sqlite3.Row | tuple[Any, ...]) -> Meter:
    """Return the meter that a row of METER_COLUMNS holds."""
    fields = dict(zip(_METER_FIELDS, tuple(row), strict=True))
    fields["while_running"], fields["state"] = bool(fields["while_running"]), MeterState(fields["state"])
    return Meter(**fields)


def event_row(e: VendorEvent) -> tuple[Any, ...]:
    """Return the row of an event that is not handled yet, without that column."""
    return (e.vendor, e.event_id, e.kind, e.ref, e.state, e.created_at_ms, e.received_at_ms)


def event_from(row: sqlite3.Row | tuple[Any, ...]) -> VendorEvent:
    """Return the event that a row of EVENT_COLUMNS holds."""
    return VendorEvent(*tuple(row))


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
