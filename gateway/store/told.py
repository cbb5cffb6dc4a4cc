"""The journal as events are read from it: pages of the rows that may be told, with whose payment or meter each is about.

Must not know who is told.  Theory: what is asked goes by row number and looks at a bounded stretch, so a page costs the same
on the first day and after ten million rows; which rows concern an account is decided by the reading, and only narrowed here.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from gateway.core.events import RECORDS, TOLD, Owner, Row
from gateway.core.server import HookDelivery
from gateway.ports import Store
from gateway.store import kept_columns as col

_KINDS = ", ".join(f"'{kind}'" for kind in sorted(TOLD))
_RECORDS = " OR ".join(f"j.kind GLOB '{record}.*'" for record in RECORDS)
_OF_PAYMENTS = ", ".join(f"'{kind}'" for kind in sorted(TOLD) if kind.partition(".")[0] in {"payment", "dispute"})
_ROWS = (
    "SELECT j.seq, j.at_ms, j.kind, j.payment_id, j.body, "
    "COALESCE(p.account_id, m.account_id) AS account_id, COALESCE(p.vendor, m.vendor) AS vendor, "
    "p.route, COALESCE(p.key_id, m.key_id) AS key_id, p.request_id FROM journal j "
    "LEFT JOIN payments p ON p.id = j.payment_id "
    "LEFT JOIN meters m ON j.kind IN ('meter.warned', 'meter.unfunded') "
    "AND m.id = json_extract(CAST(j.body AS TEXT), '$.meter_id') "
)
_TOLD = f"{_ROWS}WHERE j.seq > :after AND j.seq <= :until AND (j.kind IN ({_KINDS}) OR {_RECORDS}) "
_PAID = (  # asked in the index of the account's own payments, which few pages hold: most rows are of others' payments
    "EXISTS (SELECT 1 FROM payments o INDEXED BY payments_account WHERE o.account_id = :account_id AND o.id = j.payment_id)"
)
_METERED = (
    "(j.kind IN ('meter.warned', 'meter.unfunded') AND EXISTS (SELECT 1 FROM meters n "
    "WHERE n.account_id = :account_id AND n.id = json_extract(CAST(j.body AS TEXT), '$.meter_id')))"
)
TELLABLE = f"{_TOLD}ORDER BY j.seq LIMIT :limit"
# Whose a row is, is found out before anything is read of its payment; and no body is looked through for its payment's owner.
TELLABLE_OF_ACCOUNT = (
    f"{_TOLD}AND CASE WHEN j.kind IN ({_OF_PAYMENTS}) THEN {_PAID} "
    f"ELSE instr(j.body, :named) > 0 OR {_PAID} OR {_METERED} END ORDER BY j.seq LIMIT :limit"
)
ONE = f"{_ROWS}WHERE j.seq = :seq"
HOOKS_MADE = "SELECT seq, body FROM journal WHERE seq > :after AND kind = 'hook.created' ORDER BY seq"
DELIVERIES = (
    f"SELECT {col.DELIVERY_COLUMNS} FROM hook_deliveries WHERE hook_id = :hook_id AND event_seq < :before "  # noqa: S608
    "ORDER BY event_seq DESC LIMIT :limit"
)
# The newest first: an endpoint that takes anything has taken some of these.
TAKEN = (
    "SELECT 1 AS taken FROM hook_deliveries WHERE hook_id = :hook_id AND state = 'delivered' AND done_at_ms >= :since_ms "
    "ORDER BY event_seq DESC LIMIT 1"
)
DONE = "SELECT 1 AS done FROM hook_deliveries WHERE done_at_ms < :before_ms LIMIT 1"
EVERY_SEQ: Final = 2**62


class TellableJournal:
    """What the use cases read of the journal and of deliveries (gateway.flow.servers.telling.History)."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def page(self, after: int, until: int, limit: int, account_id: str = "") -> list[Row]:
        """Return at most `limit` tellable rows after one and up to another, of one account or ("") of all of them."""
        asked: dict[str, Any] = {"after": after, "until": until, "limit": limit}
        if account_id:
            asked |= {"account_id": account_id, "named": _named(account_id)}
        rows = await self._store.query(TELLABLE_OF_ACCOUNT if account_id else TELLABLE, asked)
        return [_row(row) for row in rows]

    async def row(self, seq: int) -> Row | None:
        """Return one row, of whichever kind; None where the journal has none."""
        rows = await self._store.query(ONE, {"seq": seq})
        return _row(rows[0]) if rows else None

    async def hooks_made(self, after: int) -> dict[str, int]:
        """Return the endpoints that were made after a row, each with the row of its making."""
        rows = await self._store.query(HOOKS_MADE, {"after": after})
        return {json.loads(row["body"])["hook_id"]: row["seq"] for row in rows}

    async def taken_since(self, hook_id: str, since_ms: int) -> bool:
        """Say whether an endpoint took anything at or after a time."""
        return bool(await self._store.query(TAKEN, {"hook_id": hook_id, "since_ms": since_ms}))

    async def done_before(self, before_ms: int) -> bool:
        """Say whether any delivery was done before a time."""
        return bool(await self._store.query(DONE, {"before_ms": before_ms}))

    async def deliveries(self, hook_id: str, before: int | None, limit: int) -> list[HookDelivery]:
        """Return an endpoint's deliveries of events before one, the newest event first."""
        asked = {"hook_id": hook_id, "before": EVERY_SEQ if before is None else before, "limit": limit}
        return [col.delivery_from(tuple(row.values())) for row in await self._store.query(DELIVERIES, asked)]


def _named(account_id: str) -> bytes:
    """Return how canonical JSON names an account: no text in it can hold these bytes, for its quotes are escaped."""
    return b'"account_id":' + json.dumps(account_id).encode("ascii")


def _row(row: Mapping[str, Any]) -> Row:
    owner = None
    if row["account_id"] is not None:
        names = (row["account_id"], row["vendor"], row["route"] or "", row["key_id"], row["request_id"] or "")
        owner = Owner(*names)
    return Row(row["seq"], row["at_ms"], row["kind"], row["payment_id"], json.loads(row["body"]), owner)
