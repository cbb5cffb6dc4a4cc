"""Records as the operator reads them: decimal amounts, RFC 3339 times, hex where bytes are, never a secret.

Must not read or change anything itself.  Theory: one spelling per kind of value, the same that agents see, so that what is
copied from one answer can be pasted into the next question.
"""

import json
from collections.abc import Mapping
from typing import Any

from contracts.codec import Address, checksum, to_hex
from gateway.core.money import format_amount
from gateway.core.payment import Transfer
from gateway.core.records import ApiKey, AuthorizationTerms, Budget, Meter, Payment, PeriodTerms, Resource, Task
from gateway.core.server import Server
from gateway.core.times import utc_text

_BLOBS = frozenset({"block_hash", "tx_hash"})


def when(at_ms: int | None) -> str | None:
    """Return milliseconds since the epoch as RFC 3339 in UTC."""
    return None if at_ms is None else utc_text(at_ms)


def address(raw: bytes) -> str:
    """Return an address with its checksum."""
    return checksum(Address(raw))


def payment(p: Payment) -> dict[str, Any]:
    """Return a payment with its three axes; `value` and `settled` are in the token, the rest in USD."""
    return {
        "id": p.id,
        "account": p.account_id,
        "key": p.key_id,
        "request_id": p.request_id,
        "vendor": p.vendor,
        "route": p.route,
        "method": p.method,
        "path": p.path,
        "resource": p.resource_ref,
        "delivery": p.axes.delivery.value,
        "transfer": p.axes.transfer.value,
        "charge": p.axes.charge.value,
        "fault": p.fault.value,
        "disputed": p.disputed,
        "vendor_status": p.vendor_status,
        "answered": p.answered,
        "hold": format_amount(p.hold_base),
        "captured": format_amount(p.captured_base),
        "kind": p.terms.kind.value,
        "value": format_amount(p.terms.value_base),
        "settled": format_amount(p.settled_base),
        "asset": p.terms.asset,
        **_terms(p.terms),
        "delivery_deadline": when(p.delivery_deadline_ms) if _was_collected(p) else None,
        "created_at": when(p.created_at_ms),
        "closed_at": when(p.closed_at_ms),
    }


def _was_collected(p: Payment) -> bool:
    """Say whether a delivery is owed by a date: before collection its place holds how long one will be waited for."""
    return p.authorization is not None and p.axes.transfer is Transfer.SETTLED


def _terms(terms: AuthorizationTerms | PeriodTerms) -> dict[str, Any]:
    if isinstance(terms, PeriodTerms):
        period = {"meter": terms.meter_id, "period": terms.seq}
        return {**period, "starts_at": when(terms.starts_at_ms), "ends_at": when(terms.ends_at_ms)}
    return {
        "chain_id": terms.chain_id,
        "wallet": address(terms.wallet),
        "pay_to": address(terms.pay_to),
        "splits": [{"pay_to": address(payee), "value": format_amount(value)} for payee, value in terms.splits],
        "highest_fee": format_amount(terms.fee_base),
        "nonce": to_hex(terms.nonce),
        "tx_hash": None if terms.tx_hash is None else to_hex(terms.tx_hash),
        "valid_before": when(terms.valid_before_s * 1000),
    }


def meter(m: Meter) -> dict[str, Any]:
    """Return what is charged by time: `hourly` and `monthly` exactly as agreed, `lost` the house's part of `billed`."""
    return {
        "id": m.id,
        "account": m.account_id,
        "key": m.key_id,
        "vendor": m.vendor,
        "ref": m.ref,
        "kind": m.kind,
        "name": m.label,
        "mark": m.token,
        "state": m.state.value,
        "charged": m.running_since_ms is not None,
        "hourly": m.hourly,
        "monthly": m.monthly,
        "rule": m.rule,
        "held_until": when(m.held_until_ms or None),
        "billed_until": when(m.billed_until_ms or None),
        "billed": format_amount(m.billed_base),
        "lost": format_amount(m.lost_base),
        "warned_at": when(m.warned_at_ms),
        "unfunded_at": when(m.unfunded_at_ms),
        "reason": m.reason,
        "created_at": when(m.created_at_ms),
        "ended_at": when(m.ended_at_ms),
    }


def server(s: Server) -> dict[str, Any]:
    """Return a server of the neutral API without what only its owner may read."""
    return {
        "id": s.id,
        "account": s.account_id,
        "key": s.key_id,
        "name": s.name,
        "vendor": s.vendor,
        "plan": s.plan,
        "region": s.region,
        "ref": s.ref,
        "state": s.state.value,
        "wanted": s.wanted.value,
        "reason": s.reason,
        "fleet": s.fleet_id,
        "quote": s.quote_id,
        "payment": s.payment_id,
        "expires_at": when(s.expires_at_ms),
        "keep_until": when(s.keep_until_ms),
        "auto_renew": s.auto_renew,
        "renewal": s.renewal or None,
        "created_at": when(s.created_at_ms),
        "ended_at": when(s.ended_at_ms),
        "version": s.version,
    }


def evidence(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of evidence."""
    shown = {name: to_hex(value) if name in _BLOBS and value is not None else value for name, value in row.items()}
    shown.pop("value_base")
    shown.pop("fee_base")
    shown.pop("block_time_s")
    return {
        **shown,
        "block_time": when(row["block_time_s"] * 1000),
        "value": format_amount(row["value_base"]),
        "fee": format_amount(row["fee_base"]),
        "witnesses": json.loads(row["witnesses"]),
    }


def journal_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a journal row, its content unpacked."""
    content = json.loads(row["body"])
    payment_id = content.pop("payment_id")
    kind, at_ms = content.pop("kind"), content.pop("at_ms")
    return {
        "seq": row["seq"],
        "at": when(at_ms),
        "kind": kind,
        "payment": payment_id,
        "content": content,
        "digest": to_hex(row["digest"]),
    }


def transfer(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a ledger transfer of a payment."""
    phase = ("direct", "pending", "post", "void")[row["phase"]]
    return {
        "id": row["id"],
        "phase": phase,
        "debit": row["debit"],
        "credit": row["credit"],
        "asset": row["asset"],
        "amount": format_amount(row["amount_base"]),
        "closes": row["pending_id"],
        "journal_seq": row["journal_seq"],
    }


def attempt(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a signed credential's outline; the credential itself stays sealed."""
    return {
        "seq": row["seq"],
        "value": format_amount(row["value_base"]),
        "valid_before": when(row["valid_before_s"] * 1000),
        "created_at": when(row["created_at_ms"]),
    }


def task(t: Task) -> dict[str, Any]:
    """Return a task."""
    return {
        "id": t.id,
        "kind": t.kind,
        "subject": t.subject,
        "detail": t.detail,
        "payment": t.payment_id,
        "opened_at": when(t.opened_at_ms),
        "closed_at": when(t.closed_at_ms),
        "resolution": t.resolution,
    }


def budget(b: Budget) -> str:
    """Return a budget as it is written on the command line."""
    where = "" if b.vendor is None else f"@{b.vendor}" + ("" if b.route is None else f"/{b.route}")
    return f"{format_amount(b.limit_base)}/{b.window_s}s{where}"


def key(k: ApiKey) -> dict[str, Any]:
    """Return an API key without anything that could be used as one."""
    return {
        "id": k.id,
        "account": k.account_id,
        "name": k.name,
        "scopes": list(k.scopes),
        "budgets": [budget(b) for b in k.budgets],
        "created_at": when(k.created_at_ms),
        "revoked_at": when(k.revoked_at_ms),
    }


def resource(r: Resource) -> dict[str, Any]:
    """Return a vendor's resource without its credential."""
    return {
        "vendor": r.vendor,
        "ref": r.ref,
        "account": r.account_id,
        "payment": r.payment_id,
        "kind": r.kind,
        "state": r.state,
        "expires_at": when(r.expires_at_ms),
        "as_of": when(r.as_of_ms),
        "open_renewal": r.open_renewal,
    }
