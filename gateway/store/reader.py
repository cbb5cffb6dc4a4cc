"""What the book asks of committed rows: the SQL behind `gateway.core.book.Reader`.

Must not know what is in memory.  Theory: each question is one indexed look-up, so a decision costs the same at ten
rows and at ten million.
"""

from gateway.core.book import Claim
from gateway.core.kept import Order
from gateway.core.records import Payment, Resource, Task
from gateway.core.server import Kept
from gateway.store import columns as col
from gateway.store.kept_columns import TABLES
from gateway.store.paid_reader import SqlitePaidReader

CLAIM = "SELECT fingerprint, payment_id, at_ms FROM claims WHERE account_id = ? AND idempotency_key = ?"
PAYMENT = f"SELECT {col.PAYMENT_COLUMNS} FROM payments WHERE id = ?"  # noqa: S608 - column names are ours
RESOURCE = f"SELECT {col.RESOURCE_COLUMNS} FROM resources WHERE vendor = ? AND ref = ?"  # noqa: S608
THINGS = f"SELECT {col.RESOURCE_COLUMNS} FROM resources WHERE account_id = ? AND vendor = ? ORDER BY ref"  # noqa: S608
CHARGES = (
    f"SELECT {col.PAYMENT_COLUMNS} FROM payments WHERE account_id = ? AND vendor = ? AND charge = 'captured' "  # noqa: S608
    "AND kind = 'account' "
    "ORDER BY id DESC LIMIT ?"
)
HAS_EVENT = "SELECT 1 FROM vendor_events WHERE vendor = ? AND event_id = ?"
OPEN_TASK = f"SELECT {col.TASK_COLUMNS} FROM tasks WHERE kind = ? AND subject = ? AND closed_at_ms IS NULL"  # noqa: S608
TASK = f"SELECT {col.TASK_COLUMNS} FROM tasks WHERE id = ?"  # noqa: S608
HAS_ANSWER = "SELECT 1 FROM payments p JOIN answers a ON a.hold_id = p.hold_transfer_id WHERE p.id = ?"
HAS_EVIDENCE = "SELECT 1 FROM evidence WHERE chain_id = ? AND tx_hash = ? AND log_index IS ?"
PROOFS = "SELECT kind, log_index IS NOT NULL FROM evidence WHERE payment_id = ? ORDER BY id"
HAS_CHALLENGE = "SELECT 1 FROM challenges WHERE vendor = ? AND challenge_id = ?"
UNPAID = (
    "SELECT COUNT(*) FROM payments WHERE account_id = ? AND closed_at_ms >= ? AND delivery = 'delivered' "
    "AND transfer = 'dead' AND kind <> 'account'"
)
REFUNDED = (
    "SELECT COALESCE(SUM(hold_base), 0) FROM payments WHERE vendor = ? AND account_id = ? AND closed_at_ms >= ? "
    "AND charge = 'refunded'"
)

# What a client token orders: kind, table, whose token it is, and what the table's index of tokens asks for besides.
_ORDERS = (
    ("server", "servers", "account_id", ""),
    ("fleet", "fleets", "account_id", ""),
    ("topup", "topups", "token_owner", " AND client_token <> ''"),
    ("refund", "refunds", "account_id", ""),
)


def ordered_with(selected: str, account: str, token: str) -> str:
    """Return the statement that finds what an account ordered with a client token; `{kind}` in `selected` is its kind."""
    return " UNION ALL ".join(
        f"SELECT {selected.format(kind=kind)} FROM {table} WHERE {owner} = {account} AND client_token = {token}{more}"  # noqa: S608
        for kind, table, owner, more in _ORDERS
    )


ORDER = ordered_with("'{kind}', id, fingerprint, NULL", "?1", "?2")
CLAIM_OR_ORDER = (
    "SELECT NULL, payment_id, fingerprint, at_ms FROM claims WHERE account_id = ?1 AND idempotency_key = ?2 "  # noqa: S608 - ours
    f"UNION ALL {ORDER}"
)


class SqliteReader(SqlitePaidReader):
    """The reader over one connection; used only where that connection is."""

    def claim(self, account_id: str, idempotency_key: str) -> Claim | None:
        """Return the claim on an account's idempotency key."""
        row = self._db.execute(CLAIM, (account_id, idempotency_key)).fetchone()
        return None if row is None else Claim(*row)

    def payment(self, payment_id: str) -> Payment | None:
        """Return a payment."""
        row = self._db.execute(PAYMENT, (payment_id,)).fetchone()
        return None if row is None else col.payment_from(row)

    def resource(self, vendor: str, ref: str) -> Resource | None:
        """Return a vendor's resource."""
        row = self._db.execute(RESOURCE, (vendor, ref)).fetchone()
        return None if row is None else col.resource_from(row)

    def open_task(self, kind: str, subject: str) -> Task | None:
        """Return the open task of this kind on this subject."""
        row = self._db.execute(OPEN_TASK, (kind, subject)).fetchone()
        return None if row is None else col.task_from(row)

    def task(self, task_id: str) -> Task | None:
        """Return a task."""
        row = self._db.execute(TASK, (task_id,)).fetchone()
        return None if row is None else col.task_from(row)

    def has_answer(self, payment_id: str) -> bool:
        """Say whether the payment's answer is kept."""
        return self._db.execute(HAS_ANSWER, (payment_id,)).fetchone() is not None

    def credit(self, reference: str) -> tuple[str, int] | None:
        """Return account and amount of the credit with this reference."""
        row = self._db.execute(
            "SELECT account_id, amount_base FROM credits WHERE reference = ?", (reference,)
        ).fetchone()
        return None if row is None else (row[0], row[1])

    def has_evidence(self, chain_id: int, tx_hash: bytes, log_index: int | None) -> bool:
        """Say whether this log was booked, or without an index this failed transaction."""
        return self._db.execute(HAS_EVIDENCE, (chain_id, tx_hash, log_index)).fetchone() is not None

    def proofs(self, payment_id: str) -> list[tuple[str, bool]]:
        """Return the kind of each piece of evidence of a payment, and whether it names a log."""
        return [(kind, bool(named)) for kind, named in self._db.execute(PROOFS, (payment_id,))]

    def has_challenge(self, vendor: str, challenge_id: str) -> bool:
        """Say whether a challenge of this vendor was answered before."""
        return self._db.execute(HAS_CHALLENGE, (vendor, challenge_id)).fetchone() is not None

    def has_event(self, vendor: str, event_id: str) -> bool:
        """Say whether an event of this vendor was taken before."""
        return self._db.execute(HAS_EVENT, (vendor, event_id)).fetchone() is not None

    def unpaid_deliveries(self, account_id: str, since_ms: int) -> int:
        """Count the account's payments that were delivered and died since then."""
        return int(self._db.execute(UNPAID, (account_id, since_ms)).fetchone()[0])

    def refunded_base(self, vendor: str, account_id: str, since_ms: int) -> int:
        """Sum what the house bore for this vendor and account since then."""
        return int(self._db.execute(REFUNDED, (vendor, account_id, since_ms)).fetchone()[0])

    def kept(self, kind: str, record_id: str) -> Kept | None:
        """Return a record of the neutral API."""
        table = TABLES[kind]
        row = self._db.execute(table.by_id, (record_id,)).fetchone()
        return None if row is None else table.record(row)

    def order(self, account_id: str, client_token: str) -> Order | None:
        """Return what an account ordered with this client token."""
        row = self._db.execute(ORDER, (account_id, client_token)).fetchone()
        return None if row is None else Order(*row[:3])

    def claim_or_order(self, account_id: str, idempotency_key: str) -> Claim | Order | None:
        """Return what an account's idempotency key stands for, whichever of the two."""
        row = self._db.execute(CLAIM_OR_ORDER, (account_id, idempotency_key)).fetchone()
        if row is None:
            return None
        kind, record_id, fingerprint, at_ms = row
        return Claim(fingerprint, record_id, at_ms) if kind is None else Order(kind, record_id, fingerprint)
