"""How often something may be done in an hour, by whoever it is done for, in memory.

Must not know what is counted.  Theory: times are kept and not sums, so no edge of an hour lets twice as many through; whoever
was quiet for longest is forgotten when memory is full, so memory is bounded by a number and not by those who ask.
"""

from collections import OrderedDict, deque
from typing import Final

HOUR_MS: Final = 3_600_000
MAX_KEYS: Final = 10_000


class Hourly:
    """At most `limit` in any hour for each key."""

    def __init__(self, limit: int, max_keys: int = MAX_KEYS) -> None:
        self._limit, self._max_keys = limit, max_keys
        self._times_ms: OrderedDict[bytes, deque[int]] = OrderedDict()

    def __len__(self) -> int:
        """Return how many keys are remembered."""
        return len(self._times_ms)

    def wait_s(self, key: bytes, now_ms: int) -> int:
        """Return 0 where one more is within the limit, else after how many seconds it is. Counts nothing."""
        times = self._times_ms.get(key)
        while times and not 0 <= now_ms - times[0] < HOUR_MS:  # below 0: the clock was set back
            times.popleft()
        return -(-(times[0] + HOUR_MS - now_ms) // 1000) if times and len(times) >= self._limit else 0

    def count(self, key: bytes, now_ms: int) -> None:
        """Count one."""
        self._times_ms.setdefault(key, deque(maxlen=self._limit)).append(now_ms)
        self._times_ms.move_to_end(key)
        if len(self._times_ms) > self._max_keys:
            self._times_ms.popitem(last=False)

    def uncount(self, key: bytes) -> None:
        """Take the last one back: nothing was done."""
        times = self._times_ms.get(key)
        if times:
            times.pop()
