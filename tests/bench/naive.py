"""The reference of T7 that has no product around it: a ledger on SQLite FULL, one transaction per step, rows and nothing else.

Reserve: idempotency key, balance check, hold, two entries. Capture: hold, two balances, three entries.
"""

import sqlite3
from pathlib import Path

_SCHEMA = """
CREATE TABLE accounts (id TEXT PRIMARY KEY, available INTEGER NOT NULL CHECK (available >= 0), held INTEGER NOT NULL);
CREATE TABLE holds (id TEXT PRIMARY KEY, idempotency BLOB NOT NULL UNIQUE, account TEXT NOT NULL, amount INTEGER NOT NULL,
  state INTEGER NOT NULL);
CREATE TABLE entries (id INTEGER PRIMARY KEY, account TEXT NOT NULL, hold TEXT NOT NULL, amount INTEGER NOT NULL);
CREATE INDEX entries_account ON entries (account, id);
"""
_ENTRY = "INSERT INTO entries (account, hold, amount) VALUES (?, ?, ?)"


class NaiveLedger:
    """What one would write first."""

    def __init__(self, path: Path, accounts: list[str], balance_base: int) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.executescript(_SCHEMA)
        self._db.execute("BEGIN")
        rows = [(account, balance_base) for account in (*accounts, "held", "revenue")]
        self._db.executemany("INSERT INTO accounts VALUES (?, ?, 0)", rows)
        self._db.execute("COMMIT")

    def reserve(self, hold: str, idempotency: bytes, account: str, amount: int) -> None:
        """Set money aside, durably. Raises ValueError without funds."""
        db = self._db
        db.execute("BEGIN IMMEDIATE")
        available = db.execute("SELECT available FROM accounts WHERE id = ?", (account,)).fetchone()[0]
        if available < amount:
            db.execute("ROLLBACK")
            raise ValueError("insufficient funds")
        db.execute("INSERT INTO holds VALUES (?, ?, ?, ?, 0)", (hold, idempotency, account, amount))
        db.execute(
            "UPDATE accounts SET available = available - ?, held = held + ? WHERE id = ?", (amount, amount, account)
        )
        db.execute(_ENTRY, (account, hold, -amount))
        db.execute(_ENTRY, ("held", hold, amount))
        db.execute("COMMIT")

    def capture(self, hold: str) -> None:
        """Turn what was set aside into revenue, durably."""
        db = self._db
        db.execute("BEGIN IMMEDIATE")
        account, amount = db.execute("SELECT account, amount FROM holds WHERE id = ? AND state = 0", (hold,)).fetchone()
        db.execute("UPDATE holds SET state = 1 WHERE id = ?", (hold,))
        db.execute("UPDATE accounts SET held = held - ? WHERE id = ?", (amount, account))
        db.execute("UPDATE accounts SET available = available + ? WHERE id = 'revenue'", (amount,))
        db.execute(_ENTRY, ("held", hold, -amount))
        db.execute(_ENTRY, ("revenue", hold, amount))
        db.execute(_ENTRY, (account, hold, 0))
        db.execute("COMMIT")

    def close(self) -> None:
        """Close the database."""
        self._db.close()
