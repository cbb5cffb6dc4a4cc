"""One group of rows into one open transaction.

Must not know what decided the rows.  Theory: a table's rows go in together, in the order that its references need, so a
group of a thousand decisions costs a dozen statements.
"""

import json
import sqlite3
from functools import lru_cache
from typing import Any

from gateway.core.book import Claim, Rows
from gateway.core.payment import Charge
from gateway.core.records import Payment
from gateway.store import columns as col
from gateway.store.kept_columns import DELIVERY_COLUMNS, TABLES, delivery_row
from gateway.store.write_paid import write_paid

_MARKS = ", ".join("?" * len(col.PAYMENT_COLUMNS.split(",")))
_RESOURCE_MARKS = ", ".join("?" * len(col.RESOURCE_COLUMNS.split(",")))
_METER_MARKS = ", ".join("?" * len(col.METER_COLUMNS.split(",")))
_METER_CHANGE = ", ".join(f"{name} = excluded.{name}" for name in col.METER_COLUMNS.split(", ")[1:])

INSERT_LEDGER_ACCOUNT = "INSERT INTO ledger_accounts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
UPDATE_LEDGER_ACCOUNT = (
    "UPDATE ledger_accounts SET debits_pending = ?, debits_posted = ?, credits_pending = ?, credits_posted = ? "
    "WHERE id = ?"
)
INSERT_TRANSFER = "INSERT INTO transfers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
INSERT_JOURNAL = "INSERT INTO journal VALUES (?, ?, ?, ?, ?, ?)"
INSERT_PAYMENT = f"INSERT INTO payments ({col.PAYMENT_COLUMNS}) VALUES ({_MARKS})"  # noqa: S608 - column names are ours
UPDATE_PAYMENT = (
    "UPDATE payments SET resource_ref = ?, delivery_deadline_ms = ?, "
    "delivery = ?, transfer = ?, charge = ?, fault = ?, vendor_status = ?, "
    "settled_base = ?, captured_base = ?, answered = ?, disputed = ?, closed_at_ms = ? WHERE id = ?"
)
# A payment that is open and whose agent waits was so before: what the index of those is made of stays untouched.
UPDATE_OPEN_PAYMENT = (
    "UPDATE payments SET resource_ref = ?, delivery_deadline_ms = ?, delivery = ?, transfer = ?, fault = ?, "
    "vendor_status = ?, settled_base = ?, disputed = ? WHERE id = ?"
)
INSERT_ATTEMPT = "INSERT INTO attempts VALUES (?, ?, ?, ?, ?, ?, ?)"
PUT_CLAIM = "INSERT OR REPLACE INTO claims VALUES (?, ?, ?, ?, ?, ?, ?)"
PUT_ANSWER = "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?)"
INSERT_EVIDENCE = (
    "INSERT INTO evidence (kind, chain_id, block_number, block_hash, block_time_s, tx_hash, log_index, payment_id, "
    "value_base, witnesses, fee_base) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
PUT_RESOURCE = f"INSERT OR REPLACE INTO resources ({col.RESOURCE_COLUMNS}) VALUES ({_RESOURCE_MARKS})"  # noqa: S608
PUT_TASK = (
    f"INSERT INTO tasks ({col.TASK_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?) "  # noqa: S608
    "ON CONFLICT (id) DO UPDATE SET detail = excluded.detail, closed_at_ms = excluded.closed_at_ms, "
    "resolution = excluded.resolution"
)
PUT_KEY = (
    "INSERT INTO api_keys VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET revoked_at_ms = "
    "excluded.revoked_at_ms"
)
PUT_BUDGET_USE = "INSERT OR REPLACE INTO budget_uses VALUES (?, ?, ?)"
PUT_FREEZE = "INSERT OR REPLACE INTO freezes VALUES (?, ?, ?, ?)"
DELETE_FREEZE = "DELETE FROM freezes WHERE scope = ?"
INSERT_PAYEE = "INSERT INTO payees VALUES (?, ?, ?, ?)"
PUT_PRICE = "INSERT OR REPLACE INTO prices VALUES (?, ?, ?, ?, ?)"
# Not OR REPLACE: a second meter with a vendor's token must fail, and never take the first one's row.
PUT_METER = (
    f"INSERT INTO meters ({col.METER_COLUMNS}) VALUES ({_METER_MARKS}) ON CONFLICT (id) DO UPDATE SET {_METER_CHANGE}"  # noqa: S608
)
PUT_VENDOR_BALANCE = "INSERT OR REPLACE INTO vendor_balances VALUES (?, ?, ?)"
INSERT_CHALLENGE = "INSERT INTO challenges VALUES (?, ?, ?)"
INSERT_EVENT = "INSERT INTO vendor_events VALUES (?, ?, ?, ?, ?, ?, ?, NULL)"
CLOSE_EVENT = "UPDATE vendor_events SET handled_at_ms = ? WHERE vendor = ? AND event_id = ?"
PUT_CURSOR = "INSERT OR REPLACE INTO cursors VALUES (?, ?, ?, ?)"
FREE_REF = "UPDATE servers SET ref = NULL WHERE id = ?"
_DELIVERY_MARKS = ", ".join("?" * len(DELIVERY_COLUMNS.split(",")))
PUT_DELIVERY = f"INSERT OR REPLACE INTO hook_deliveries ({DELIVERY_COLUMNS}) VALUES ({_DELIVERY_MARKS})"  # noqa: S608
FORGET_DELIVERIES = (
    "DELETE FROM hook_deliveries WHERE (hook_id, event_seq) IN (SELECT hook_id, event_seq FROM hook_deliveries "
    "WHERE done_at_ms < ? ORDER BY done_at_ms, hook_id, event_seq LIMIT ?)"
)
PUT_TOLD = "INSERT OR REPLACE INTO told VALUES (1, ?)"


def write_rows(db: sqlite3.Connection, rows: Rows) -> None:
    """Write a group. Any sqlite3 error means that memory and disk disagree: the caller must stop the process."""
    _rights(db, rows)
    _ledger(db, rows)
    _payments(db, rows)
    _seen(db, rows)
    _kept(db, rows)
    write_paid(db, rows.paid)
    if rows.journal:
        db.executemany(INSERT_JOURNAL, [(r.seq, r.at_ms, r.kind, r.payment_id, r.body, r.digest) for r in rows.journal])


def _rights(db: sqlite3.Connection, rows: Rows) -> None:
    if rows.agent_accounts:
        accounts = [(a.id, a.name, a.created_at_ms) for a in rows.agent_accounts]
        db.executemany("INSERT INTO agent_accounts VALUES (?, ?, ?)", accounts)
    if rows.references:
        db.executemany("INSERT INTO credits VALUES (?, ?, ?)", [(r, *credit) for r, credit in rows.references.items()])
    if rows.keys:
        db.executemany(PUT_KEY, [col.key_row(k) for k in rows.keys.values()])
    if rows.budget_uses:
        uses = [(u.budget_id, u.window_started_at_ms, u.used_base) for u in rows.budget_uses.values()]
        db.executemany(PUT_BUDGET_USE, uses)
    for scope, freeze in rows.freezes.items():
        if freeze is None:
            db.execute(DELETE_FREEZE, (scope,))
        else:
            db.execute(PUT_FREEZE, (scope, freeze.reason, freeze.at_ms, freeze.by))
    if rows.payees:
        db.executemany(INSERT_PAYEE, rows.payees)


def _ledger(db: sqlite3.Connection, rows: Rows) -> None:
    new = [rows.accounts[i] for i in sorted(rows.new_accounts)]
    if new:
        values = [
            (
                a.id,
                a.code,
                a.asset,
                int(a.side),
                int(a.floored),
                a.debits_pending,
                a.debits_posted,
                a.credits_pending,
                a.credits_posted,
            )
            for a in new
        ]
        db.executemany(INSERT_LEDGER_ACCOUNT, values)
    changed = [
        (a.debits_pending, a.debits_posted, a.credits_pending, a.credits_posted, a.id)
        for a in rows.accounts.values()
        if a.id not in rows.new_accounts
    ]
    if changed:
        db.executemany(UPDATE_LEDGER_ACCOUNT, changed)
    if rows.transfers:
        transfers = [
            (t.id, int(t.phase), t.debit_id, t.credit_id, t.amount_base, t.pending_id, payment_id, seq, owner)
            for t, payment_id, seq, owner in rows.transfers
        ]
        db.executemany(INSERT_TRANSFER, transfers)


def _payments(db: sqlite3.Connection, rows: Rows) -> None:
    # Changes first: a renewal that ends in this group makes room for the next one of the same resource.
    changed = [p for p in rows.payments.values() if p.id not in rows.new_payments]
    others = [col.payment_change(p) for p in changed if not _waits(p)]
    if others:
        db.executemany(UPDATE_PAYMENT, others)
    still_open = [col.open_payment_change(p) for p in changed if _waits(p)]
    if still_open:
        db.executemany(UPDATE_OPEN_PAYMENT, still_open)
    new = [p for p in rows.payments.values() if p.id in rows.new_payments]
    if new:
        db.executemany(INSERT_PAYMENT, [col.payment_row(p) for p in new])
    if rows.attempts:
        attempts = [
            (
                rows.payments[a.payment_id].hold_transfer_id,
                a.payment_id,
                a.seq,
                a.value_base,
                a.valid_before_s,
                a.sealed_request,
                a.created_at_ms,
            )
            for a in rows.attempts
        ]
        db.executemany(INSERT_ATTEMPT, attempts)
    if rows.answers:
        answers = [
            (rows.payments[payment_id].hold_transfer_id, payment_id, a.status, a.sealed, a.at_ms)
            for payment_id, a in rows.answers.items()
        ]
        db.executemany(PUT_ANSWER, answers)
    if rows.claims:
        db.executemany(PUT_CLAIM, [_claim_row(place, claim, rows) for place, claim in rows.claims.items()])


def _waits(payment: Payment) -> bool:
    return payment.axes.charge is Charge.HELD and not payment.answered


def _claim_row(place: tuple[str, str], claim: Claim, rows: Rows) -> tuple[Any, ...]:
    kept = rows.remembered.get(place)
    answer = (None, None) if kept is None else (kept.status, kept.sealed)
    return (*place, claim.fingerprint, claim.payment_id, *answer, claim.at_ms)


@lru_cache(maxsize=1_024)  # the endpoints of a chain agree in few constellations
def _witnesses_text(witnesses: tuple[str, ...]) -> str:
    return json.dumps(witnesses)


def _seen(db: sqlite3.Connection, rows: Rows) -> None:
    if rows.evidence:
        evidence = [
            (
                e.kind,
                e.chain_id,
                e.block_number,
                e.block_hash,
                e.block_time_s,
                e.tx_hash,
                e.log_index,
                e.payment_id,
                e.value_base,
                _witnesses_text(e.witnesses),
                e.fee_base,
            )
            for e in rows.evidence
        ]
        db.executemany(INSERT_EVIDENCE, evidence)
    if rows.resources:
        db.executemany(PUT_RESOURCE, [col.resource_row(r) for r in rows.resources.values()])
    if rows.tasks:
        db.executemany(PUT_TASK, [col.task_row(t) for t in rows.tasks.values()])
    if rows.prices:
        prices = [
            (vendor, item, p.observed_base, p.observed_at_ms, p.approved_base)
            for (vendor, item), p in rows.prices.items()
        ]
        db.executemany(PUT_PRICE, prices)
    if rows.cursors:
        db.executemany(PUT_CURSOR, [(chain_id, *cursor) for chain_id, cursor in rows.cursors.items()])
    if rows.meters:
        db.executemany(PUT_METER, [col.meter_row(m) for m in rows.meters.values()])
    if rows.vendor_balances:
        balances = [(vendor, *seen) for vendor, seen in rows.vendor_balances.items()]
        db.executemany(PUT_VENDOR_BALANCE, balances)
    if rows.challenges:
        db.executemany(INSERT_CHALLENGE, [(*place, at_ms) for place, at_ms in rows.challenges.items()])
    if rows.events:
        db.executemany(INSERT_EVENT, [col.event_row(event) for event in rows.events.values()])
    if rows.closed_events:
        db.executemany(CLOSE_EVENT, [(at_ms, *place) for place, at_ms in rows.closed_events.items()])


def _kept(db: sqlite3.Connection, rows: Rows) -> None:
    if rows.freed_refs:  # first: another server of this group may have taken what one gave up
        db.executemany(FREE_REF, [(server_id,) for server_id in rows.freed_refs])
    for kind, table in TABLES.items():
        records = rows.kept(kind)
        if records:
            db.executemany(table.put, [table.row(record) for record in records.values()])
    if rows.forgotten_deliveries is not None:  # first: one of them may be made again in this group
        db.execute(FORGET_DELIVERIES, rows.forgotten_deliveries)
    if rows.deliveries:
        db.executemany(PUT_DELIVERY, [delivery_row(delivery) for delivery in rows.deliveries.values()])
    if rows.told_seq is not None:
        db.execute(PUT_TOLD, (rows.told_seq,))
