"""One account's share of a vendor's attention: how many of its calls may be under way there at once (design 6).

Must not know connections.  Theory: connections to a vendor are shared by all accounts, so whoever holds them all starves
everybody else; a share is taken before the vendor is asked and kept until the answer has been read to its end.
"""

from collections import defaultdict
from collections.abc import AsyncIterator

from gateway.core.problems import Problem
from gateway.http.port import BodyStream


class Slots:
    """Counts calls by account and vendor."""

    def __init__(self) -> None:
        self._taken: defaultdict[tuple[str, str], int] = defaultdict(int)

    def take(self, account_id: str, vendor: str, limit: int) -> "Slot":
        """Take a slot. Raises Problem("too_many_calls") when the account has them all."""
        place = (account_id, vendor)
        if self._taken[place] >= limit:
            raise Problem("too_many_calls", f"{limit} calls of this account to {vendor} are under way")
        self._taken[place] += 1
        return Slot(self._taken, place)


class Slot:
    """One call's place. Give it back once; giving it back again does nothing."""

    def __init__(self, taken: defaultdict[tuple[str, str], int], place: tuple[str, str]) -> None:
        self._taken, self._place, self._held = taken, place, True

    def give_back(self) -> None:
        """Let another call have it."""
        if not self._held:
            return
        self._held = False
        self._taken[self._place] -= 1
        if not self._taken[self._place]:
            del self._taken[self._place]


class SlottedStream:
    """The rest of an answer that keeps its call's slot until it is read or closed."""

    def __init__(self, rest: BodyStream, slot: Slot) -> None:
        self._rest, self._slot = rest, slot

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Return the chunks of the answer."""
        try:
            async for chunk in self._rest:
                yield chunk
        finally:
            self._slot.give_back()

    async def close(self) -> None:
        """Close the answer and give the slot back."""
        try:
            await self._rest.close()
        finally:
            self._slot.give_back()
