"""One group's rows of being paid into one open transaction.

Must not know what decided the rows.  Theory: tables are written in the order in which rows may name each other, what is new
is inserted and never replaces anything, so whatever must be unique fails loudly instead of taking another's row.
"""

import sqlite3
from collections.abc import Collection, Mapping

from gateway.core.paid_book import PaidRows
from gateway.store.paid_columns import INCOMING, REFUNDS, RELAYS, SELLERS, SETTLEMENTS, TOPUPS, PaidTable

INSERT_AUTHORIZATION = "INSERT INTO authorizations VALUES (?, ?, ?, ?, ?)"
INSERT_WALLET = "INSERT INTO wallet_accounts VALUES (?, ?, ?)"
PUT_TILL_CURSOR = "INSERT OR REPLACE INTO till_cursors VALUES (?, ?, ?, ?, ?)"
PUT_GRANT = "INSERT INTO grants VALUES (?, ?) ON CONFLICT (account_id) DO UPDATE SET left_base = excluded.left_base"


def write_paid(db: sqlite3.Connection, rows: PaidRows) -> None:
    """Write a group's rows of being paid, and whose the authorizations of all its records are (P13)."""
    if rows.identities:
        owned = [(*identity, owner) for identity, owner in rows.identities.items()]
        db.executemany(INSERT_AUTHORIZATION, owned)
    if rows.wallets:
        bound = [(wallet.address, wallet.account_id, wallet.created_at_ms) for wallet in rows.wallets.values()]
        db.executemany(INSERT_WALLET, bound)
    _put(db, RELAYS, rows.relays, rows.new)
    _put(db, SETTLEMENTS, rows.settlements, rows.new)
    _put(db, TOPUPS, rows.topups, rows.new, rows.token_owners)
    _put(db, INCOMING, rows.incoming, rows.new)
    _put(db, REFUNDS, rows.refunds, rows.new)
    _put(db, SELLERS, rows.sellers, rows.new)
    if rows.till_cursors:
        db.executemany(PUT_TILL_CURSOR, [(*place, *cursor) for place, cursor in rows.till_cursors.items()])
    if rows.grants:
        db.executemany(PUT_GRANT, list(rows.grants.items()))


def _put(
    db: sqlite3.Connection,
    table: PaidTable,
    records: Mapping[str, object],
    new: Collection[str],
    extra: Mapping[str, str] | None = None,
) -> None:
    if not records:
        return
    changed = [table.change(record) for key, record in records.items() if key not in new]
    if changed:
        db.executemany(table.update, changed)
    added = [table.row(record) for key, record in records.items() if key in new]
    if extra is not None:
        added = [(*table.row(record), extra[key]) for key, record in records.items() if key in new]
    if added:
        db.executemany(table.insert, added)
