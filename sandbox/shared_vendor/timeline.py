"""Business time and what is due on it: charges, states, expiries, retries, each at its exact moment and in order.

Tests push it forward; nothing real waits for it. It must not know what its events do. Theory: everything that a vendor
does by itself is an event in a heap, so a jump of a month plays exactly what a month would have.
"""

from __future__ import annotations

import heapq
import itertools
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

MS = 1000
MINUTE_MS = 60 * MS
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS


def real_ms() -> int:
    """Wall-clock time, Unix milliseconds."""
    return time.time_ns() // 1_000_000


def parse_time(text: str) -> int:
    """Unix milliseconds of an RFC 3339 time; raises ValueError for one without an offset."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"a time needs its offset: {text}")
    return round(moment.timestamp() * MS)


class Timeline:
    """A clock that runs at `rate` business seconds a second (0: stands still) and can be pushed forward, never back."""

    def __init__(self, start_ms: int | None = None, rate: float = 1.0) -> None:
        self._real_from = real_ms()
        self._business_from = self._real_from if start_ms is None else start_ms
        self._rate = rate
        self._order = itertools.count()
        self._due: list[tuple[int, int, Callable[[], None]]] = []
        self._playing_ms: int | None = None
        self._on_jump: list[Callable[[int], None]] = []

    def now_ms(self) -> int:
        """Business time; while an event plays, that event's time."""
        if self._playing_ms is not None:
            return self._playing_ms
        return self._business_from + int((real_ms() - self._real_from) * self._rate)

    def at(self, when_ms: int, act: Callable[[], None]) -> None:
        """Call `act` once business time reaches `when_ms`; an event that is no longer wanted must notice so itself."""
        heapq.heappush(self._due, (when_ms, next(self._order), act))

    def after(self, delay_s: float, act: Callable[[], None]) -> None:
        """Call `act` so many business seconds from now."""
        self.at(self.now_ms() + round(delay_s * MS), act)

    def on_jump(self, act: Callable[[int], None]) -> None:
        """Tell `act` the milliseconds of every push: real-time windows shorten by as much."""
        self._on_jump.append(act)

    def advance(self, by_ms: int) -> None:
        """Push business time forward and play what came due; raises ValueError for a step back."""
        if by_ms < 0:
            raise ValueError("business time only goes forward")
        self._business_from += by_ms
        for act in self._on_jump:
            act(by_ms)
        self.play()

    def set_rate(self, rate: float) -> None:
        """Run at another speed from now on; raises ValueError for a negative one."""
        if rate < 0:
            raise ValueError("business time only goes forward")
        self._business_from, self._real_from = self.now_ms(), real_ms()
        self._rate = rate

    def play(self) -> None:
        """Play every event that is due, in order of time and then of scheduling."""
        if self._playing_ms is not None:
            return
        until = self.now_ms()
        try:
            while self._due and self._due[0][0] <= until:
                when_ms, _, act = heapq.heappop(self._due)
                self._playing_ms = when_ms
                act()
        finally:
            self._playing_ms = None

    def forget(self) -> None:
        """Drop everything that was to come."""
        self._due.clear()


def iso(at_ms: int, *, suffix: str = "Z", millis: bool = False) -> str:
    """RFC 3339 in UTC, as vendors write it: `suffix` Z or +00:00, with or without milliseconds."""
    moment = datetime.fromtimestamp(at_ms / MS, UTC)
    text = moment.strftime("%Y-%m-%dT%H:%M:%S")
    return text + (f".{at_ms % MS:03d}" if millis else "") + suffix
