"""Fixed windows: so many requests in so many seconds for one key. Real time, because clients wait in real time.

Pushing business time forward ages the windows too, so that tests need not sit a minute out. Requests that are refused
do not count. It must not know what a key stands for.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass


@dataclass(slots=True)
class _Window:
    ends_at: float
    used: int


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a key stands in one limit's window."""

    limit: int
    remaining: int
    resets_in_s: int
    refused: bool


class Limit:
    """`limit` requests per `window_s` and key; 0 is no limit."""

    def __init__(self, limit: int, window_s: float) -> None:
        self.limit = limit
        self._window_s = window_s
        self._windows: dict[str, _Window] = {}

    def look(self, key: str) -> Standing:
        """Where the key stands, without counting anything."""
        now = time.monotonic()
        window = self._windows.get(key)
        if window is None or now >= window.ends_at:
            return Standing(self.limit, self.limit, math.ceil(self._window_s), refused=False)
        remaining = max(0, self.limit - window.used)
        refused = self.limit > 0 and remaining == 0
        return Standing(self.limit, remaining, max(1, math.ceil(window.ends_at - now)), refused=refused)

    def count(self, key: str) -> None:
        """Count one request; the first opens a window."""
        now = time.monotonic()
        window = self._windows.get(key)
        if window is None or now >= window.ends_at:
            window = self._windows[key] = _Window(now + self._window_s, 0)
        window.used += 1

    def admit(self, key: str) -> Standing:
        """Count one request unless the window is full; `refused` says so."""
        standing = self.look(key)
        if not standing.refused:
            self.count(key)
        return standing

    def age(self, by_ms: int) -> None:
        """Make every window that much older."""
        for window in self._windows.values():
            window.ends_at -= by_ms / 1000

    def forget(self) -> None:
        """Open all windows."""
        self._windows.clear()
