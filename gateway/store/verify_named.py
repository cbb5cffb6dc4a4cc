"""The proof that whatever belongs to a payment or a refund is found from it, where no index of its own leads there (P11).

Must not know what the rows mean.  Theory: a payment names its two reservations, a closing names its reservation, and both name
their row of the journal; so what these names lead to is complete if nothing of its kind is beside them.
"""

import sqlite3

from gateway.store.broken import BookBroken
from gateway.store.queries import NAMED_BY_TRANSFERS

_KINDS = ", ".join(f"'{kind}'" for kind in NAMED_BY_TRANSFERS)
STRAYS = (
    (
        "transfer {} is a reservation that its payment or refund does not name",
        (
            "SELECT t.id FROM transfers t LEFT JOIN payments p ON p.id = t.payment_id LEFT JOIN refunds r ON r.id = t.payment_id "
            "WHERE t.phase = 1 AND coalesce(t.id IN (p.hold_transfer_id, p.exposure_transfer_id), 0) = 0 "
            "AND coalesce(t.id IN (r.hold_transfer_id, r.exposure_transfer_id), 0) = 0 LIMIT 1"
        ),
    ),
    (
        "transfer {} closes a reservation of another payment",
        "SELECT c.id FROM transfers c JOIN transfers t ON t.id = c.pending_id WHERE c.payment_id IS NOT t.payment_id LIMIT 1",
    ),
    (
        "journal row {} tells of a reservation, and none names it",
        (
            f"SELECT j.seq FROM journal j LEFT JOIN payments p ON p.id = j.payment_id WHERE j.kind IN ({_KINDS}) "  # noqa: S608 - ours
            "AND NOT EXISTS (SELECT 1 FROM transfers t WHERE t.id IN (p.hold_transfer_id, p.exposure_transfer_id) "
            "AND t.journal_seq = j.seq) "
            "AND NOT EXISTS (SELECT 1 FROM transfers c WHERE c.pending_id IN (p.hold_transfer_id, p.exposure_transfer_id) "
            "AND c.journal_seq = j.seq) LIMIT 1"
        ),
    ),
)


def verify_named(db: sqlite3.Connection) -> None:
    """Look for what no name leads to. Raises BookBroken naming the first. Reads everything."""
    for what, statement in STRAYS:
        row = db.execute(statement).fetchone()
        if row is not None:
            raise BookBroken(what.format(row[0]))
