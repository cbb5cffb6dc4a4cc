"""What the book asks of committed rows about being paid: the SQL behind `gateway.core.paid_book.PaidReader`.

Must not know what is in memory.  Theory: each question is one indexed look-up, so a decision costs the same at ten rows and
at ten million.
"""

import sqlite3
from collections.abc import Sequence
from typing import Any

from gateway.core.paid import Identity, Incoming, Refund, Relay, SellerTerms, Settlement, TopUp
from gateway.core.paid_book import RelayPlace
from gateway.store.paid_columns import INCOMING, REFUNDS, RELAYS, SELLERS, SETTLEMENTS, TOPUPS, PaidTable

IDENTITY = "chain_id = ? AND token = ? AND authorizer = ? AND nonce = ?"
IDENTITY_OWNER = f"SELECT payment_id FROM authorizations WHERE {IDENTITY}"  # noqa: S608 - the condition is ours
SETTLEMENT_OF = SETTLEMENTS.where(IDENTITY)
REFUND_COUNT = "SELECT count(*) FROM refunds WHERE receipt_id = ?"
RELAY_AT = RELAYS.where("chain_id = ? AND relayer = ? AND account_nonce = ?")


class SqlitePaidReader:
    """The reader over one connection; used only where that connection is."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def identity_owner(self, identity: Identity) -> str | None:
        """Return the id of what an authorization belongs to."""
        row = self._db.execute(IDENTITY_OWNER, identity).fetchone()
        return None if row is None else str(row[0])

    def settlement(self, settlement_id: str) -> Settlement | None:
        """Return a settlement."""
        found: Settlement | None = self._record(SETTLEMENTS, SETTLEMENTS.by_key, (settlement_id,))
        return found

    def settlement_of(self, identity: Identity) -> Settlement | None:
        """Return the settlement of an authorization."""
        found: Settlement | None = self._record(SETTLEMENTS, SETTLEMENT_OF, identity)
        return found

    def relay(self, relay_id: str) -> Relay | None:
        """Return a relayer's transaction."""
        found: Relay | None = self._record(RELAYS, RELAYS.by_key, (relay_id,))
        return found

    def relay_at(self, place: RelayPlace) -> Relay | None:
        """Return what used an account nonce of a relayer."""
        found: Relay | None = self._record(RELAYS, RELAY_AT, place)
        return found

    def topup(self, topup_id: str) -> TopUp | None:
        """Return an order for credit."""
        found: TopUp | None = self._record(TOPUPS, TOPUPS.by_key, (topup_id,))
        return found

    def incoming(self, receipt_id: str) -> Incoming | None:
        """Return what came in."""
        found: Incoming | None = self._record(INCOMING, INCOMING.by_key, (receipt_id,))
        return found

    def refund(self, refund_id: str) -> Refund | None:
        """Return a refund."""
        found: Refund | None = self._record(REFUNDS, REFUNDS.by_key, (refund_id,))
        return found

    def refund_count(self, receipt_id: str) -> int:
        """Return how many refunds of a receipt were ever opened; they are few, because the book bounds them."""
        return int(self._db.execute(REFUND_COUNT, (receipt_id,)).fetchone()[0])

    def seller(self, account_id: str) -> SellerTerms | None:
        """Return the newest terms of a seller, ended or not."""
        found: SellerTerms | None = self._record(SELLERS, SELLERS.by_key, (account_id,))
        return found

    def _record(self, table: PaidTable, statement: str, values: Sequence[Any]) -> Any:  # noqa: ANN401 - the table's record
        row = self._db.execute(statement, values).fetchone()
        return None if row is None else table.from_row(row)
