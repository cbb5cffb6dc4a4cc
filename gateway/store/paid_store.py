"""What the running service reads of being paid that is not in memory.

Must not know what the rows are for.  Theory: the embedded store's reading connection answers one indexed question at a time;
records come back as they were committed.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from gateway.core.paid import Identity, Incoming, Refund, Relay, SellerTerms, Settlement, TopUp
from gateway.core.view import View
from gateway.store import queries
from gateway.store.paid_columns import INCOMING, REFUNDS, RELAYS, SELLERS, SETTLEMENTS, TOPUPS, PaidTable
from gateway.store.paid_reader import IDENTITY_OWNER, SETTLEMENT_OF

TOPUP_OF = TOPUPS.where(f"id = ({IDENTITY_OWNER})")
TOPUP_OF_HASH = TOPUPS.where("tx_hash = ? ORDER BY id DESC LIMIT 1")
REFUND_BY_TOKEN = REFUNDS.where("account_id = ? AND client_token = ?")
TOPUP_BY_TOKEN = TOPUPS.where("token_owner = ? AND client_token = ? AND client_token <> ''")
INCOMING_OF_LOG = INCOMING.where("chain_id = ? AND tx_hash = ? AND log_index = ?")


class PaidReading(ABC):
    """The reading methods of `gateway.ports.Store` about being paid; the store that mixes them in runs the statements."""

    view: View

    @abstractmethod
    async def _one(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any]) -> tuple[Any, ...] | None:
        """Return a statement's first row, or None."""

    @abstractmethod
    async def _all(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Return a statement's rows."""

    async def settlement(self, settlement_id: str) -> Settlement | None:
        """Return a settlement as committed, open or not."""
        found: Settlement | None = self.view.settlements.get(settlement_id)
        return found or await self._record(SETTLEMENTS, SETTLEMENTS.by_key, (settlement_id,))

    async def settlement_of(self, identity: Identity) -> Settlement | None:
        """Return the settlement of an authorization, open or not."""
        found: Settlement | None = await self._record(SETTLEMENTS, SETTLEMENT_OF, identity)
        return found

    async def relay(self, relay_id: str) -> Relay | None:
        """Return a relayer's transaction, open or not."""
        found: Relay | None = self.view.relays.get(relay_id)
        return found or await self._record(RELAYS, RELAYS.by_key, (relay_id,))

    async def topup(self, topup_id: str) -> TopUp | None:
        """Return an order for credit, open or not."""
        found: TopUp | None = self.view.topups.get(topup_id)
        return found or await self._record(TOPUPS, TOPUPS.by_key, (topup_id,))

    async def topup_of(self, identity: Identity) -> TopUp | None:
        """Return the order that ever claimed a payment with this identity; it may have another payment by now."""
        found: TopUp | None = await self._record(TOPUPS, TOPUP_OF, identity)
        return found

    async def topup_of_hash(self, tx_hash: bytes) -> TopUp | None:
        """Return the newest order whose payment is in this transaction, as far as is known."""
        found: TopUp | None = await self._record(TOPUPS, TOPUP_OF_HASH, (tx_hash,))
        return found

    async def topup_by_token(self, account_id: str | None, client_token: str) -> TopUp | None:
        """Return what was ordered with a client token, by an account or (None) by nobody's wallet."""
        found: TopUp | None = await self._record(TOPUPS, TOPUP_BY_TOKEN, (account_id or "", client_token))
        return found

    async def topups_of(self, account_id: str, before: str, limit: int) -> tuple[TopUp, ...]:
        """Return an account's orders with ids below one, the newest first."""
        asked = {"account_id": account_id, "before": before, "limit": limit}
        return tuple(map(TOPUPS.from_row, await self._all(queries.TOPUPS_OF_ACCOUNT, asked)))

    async def incoming(self, receipt_id: str) -> Incoming | None:
        """Return what came in."""
        found: Incoming | None = await self._record(INCOMING, INCOMING.by_key, (receipt_id,))
        return found

    async def incoming_of_log(self, chain_id: int, tx_hash: bytes, log_index: int) -> Incoming | None:
        """Return what was booked of a log."""
        found: Incoming | None = await self._record(INCOMING, INCOMING_OF_LOG, (chain_id, tx_hash, log_index))
        return found

    async def receipts_of(self, account_id: str, after: str, limit: int) -> tuple[Incoming, ...]:
        """Return what came in for an account, with ids above one, in order."""
        asked = {"account_id": account_id, "after": after, "limit": limit}
        return tuple(map(INCOMING.from_row, await self._all(queries.RECEIPTS_OF_ACCOUNT, asked)))

    async def unclaimed(self, after: str, limit: int) -> tuple[Incoming, ...]:
        """Return what came in and is nobody's, with ids above one, in order."""
        rows = await self._all(queries.UNCLAIMED, {"after": after, "limit": limit})
        return tuple(map(INCOMING.from_row, rows))

    async def refund_by_token(self, account_id: str, client_token: str) -> Refund | None:
        """Return the refund that an account opened with a client token."""
        found: Refund | None = await self._record(REFUNDS, REFUND_BY_TOKEN, (account_id, client_token))
        return found

    async def refund(self, refund_id: str) -> Refund | None:
        """Return a refund, open or not."""
        found: Refund | None = self.view.refunds.get(refund_id)
        return found or await self._record(REFUNDS, REFUNDS.by_key, (refund_id,))

    async def refunds_of(self, account_id: str, before: str = "~", limit: int = 1_000) -> tuple[Refund, ...]:
        """Return an account's refunds with ids below one, the newest first."""
        asked = {"account_id": account_id, "before": before, "limit": limit}
        return tuple(map(REFUNDS.from_row, await self._all(queries.REFUNDS_OF_ACCOUNT, asked)))

    async def seller(self, account_id: str) -> SellerTerms | None:
        """Return the newest terms of a seller, ended or not."""
        found: SellerTerms | None = self.view.sellers.get(account_id)
        return found or await self._record(SELLERS, SELLERS.by_key, (account_id,))

    async def gas_burnt_wei(self, account_id: str, since_ms: int) -> int:
        """Return what transactions burnt on a seller's settlements that failed since then.

        Of a transaction that carried several each bears its share, rounded up.
        """
        rows = await self._all(queries.GAS_BURNT, {"account_id": account_id, "since_ms": since_ms})
        return sum(-(-int(fee_wei) // max(1, carried)) * failed for fee_wei, carried, failed in rows)

    async def burners(self, account_id: str, since_ms: int) -> Mapping[bytes, int]:
        """Return how many of an account's settlements failed for good in transactions since then, by who signed them."""
        return dict(await self._all(queries.BURNERS, {"account_id": account_id, "since_ms": since_ms}))

    async def _record(self, table: PaidTable, statement: str, values: Sequence[Any]) -> Any:  # noqa: ANN401 - the table's record
        row = await self._one(statement, values)
        return None if row is None else table.from_row(row)
