"""Calls under one Idempotency-Key, one at a time: a repeat that comes while the first is under way waits for its answer.

Must not know vendors or money.  Theory: what a request has done is written down when it is done, so a repeat that is faster
than that would do it once more; and clients repeat just then, when an answer is slow.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from gateway.core.commands import key_used


@dataclass(slots=True)
class _Line:
    """Who stands in line under one key: all for the same request. `standing` counts who has the turn, too."""

    fingerprint: bytes
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    standing: int = 0


class Turns:
    """One object for every call of an event loop."""

    def __init__(self) -> None:
        self._lines: dict[tuple[str, str], _Line] = {}

    @contextlib.asynccontextmanager
    async def take(self, account_id: str, key: str, fingerprint: bytes) -> AsyncIterator[None]:
        """Hold an account's key for the length of a block, after everybody who came before.

        Raises Problem("idempotency_conflict") at once where they asked for something else.
        """
        place = account_id, key
        line = self._lines.setdefault(place, _Line(fingerprint))
        if line.fingerprint != fingerprint:
            raise key_used()
        line.standing += 1
        try:
            async with line.turn:
                yield
        finally:
            line.standing -= 1
            if not line.standing:
                del self._lines[place]
