"""Who waits for an account's events while they happen: each with a bounded queue of its own.

Must not know the journal or how events leave.  Theory: whoever reads more slowly than things happen is let go, not waited
for and not remembered; the journal has what it missed, and its last event's id says from where.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from gateway.core.events import Event
from gateway.core.problems import Problem

QUEUE_MAX: Final = 1_000

Matches = Callable[[Event], bool]


class Listener:
    """One who waits. `since` is the journal row up to which everything was told before it came."""

    def __init__(self, account_id: str, matches: Matches, since: int) -> None:
        self.account_id, self.matches, self.since = account_id, matches, since
        self._queue: deque[Event] = deque()
        self._news = asyncio.Event()
        self._over = False

    def hear(self, event: Event) -> None:
        """Take an event; one too many ends it all."""
        if self._over or not self.matches(event):
            return
        if len(self._queue) >= QUEUE_MAX:
            self.end()
            return
        self._queue.append(event)
        self._news.set()

    def end(self) -> None:
        """Tell no more; what is queued can still be read."""
        self._over = True
        self._news.set()

    @property
    def over(self) -> bool:
        """Whether nothing will come any more."""
        return self._over and not self._queue

    async def next(self, timeout_s: float) -> Event | None:
        """Return the next event; None when none came in time, or none will come any more."""
        if not self._queue and not self._over:
            try:
                async with asyncio.timeout(timeout_s):
                    await self._news.wait()
            except TimeoutError:
                return None
        event = self._queue.popleft() if self._queue else None
        if not self._queue and not self._over:
            self._news.clear()
        return event


class Listening:
    """Everybody who waits, by account."""

    def __init__(self, per_account: int) -> None:
        self._per_account = per_account
        self._by_account: dict[str, set[Listener]] = {}
        self._closed = False

    @property
    def anybody(self) -> bool:
        """Whether anybody waits."""
        return bool(self._by_account)

    def join(self, account_id: str, matches: Matches, since: int) -> Listener:
        """Begin to wait; call `leave` at the end. Raises Problem: too_many_calls, shutting_down."""
        if self._closed:
            raise Problem("shutting_down", "this gateway is about to stop")
        own = self._by_account.get(account_id, set())
        if len(own) >= self._per_account:
            raise Problem("too_many_calls", f"an account has at most {self._per_account} event streams at once")
        listener = Listener(account_id, matches, since)
        self._by_account[account_id] = own | {listener}
        return listener

    def leave(self, listener: Listener) -> None:
        """Stop waiting."""
        left = self._by_account.get(listener.account_id, set()) - {listener}
        if left:
            self._by_account[listener.account_id] = left
        else:
            self._by_account.pop(listener.account_id, None)

    def tell(self, event: Event) -> None:
        """Hand an event to those of its account."""
        for listener in self._by_account.get(event.account_id, ()):
            listener.hear(event)

    def close(self) -> None:
        """Let everybody go, and nobody in."""
        self._closed = True
        for own in self._by_account.values():
            for listener in own:
                listener.end()
