"""The seam to what happened: the journal's tellable rows and what became of deliveries, as telling needs them.

Must not know how they are stored.  Theory: events are readings of rows; whoever tells them asks for rows, and for nothing
that could make a second truth.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from gateway.core.events import Row
from gateway.core.server import HookDelivery


class History(Protocol):
    """Reads only. Implemented by gateway.store.told."""

    async def page(self, after: int, until: int, limit: int, account_id: str = "") -> Sequence[Row]:
        """Return at most `limit` tellable rows after one and up to another, of one account or ("") of all of them."""
        ...

    async def row(self, seq: int) -> Row | None:
        """Return one row, of whichever kind; None where the journal has none."""
        ...

    async def hooks_made(self, after: int) -> Mapping[str, int]:
        """Return the endpoints that were made after a row, each with the row of its making."""
        ...

    async def taken_since(self, hook_id: str, since_ms: int) -> bool:
        """Say whether an endpoint took anything at or after a time."""
        ...

    async def done_before(self, before_ms: int) -> bool:
        """Say whether any delivery, to whichever endpoint, was done before a time."""
        ...

    async def deliveries(self, hook_id: str, before: int | None, limit: int) -> Sequence[HookDelivery]:
        """Return an endpoint's deliveries of events before one, the newest event first."""
        ...
