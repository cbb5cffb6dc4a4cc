"""At most so many of something in any span of a length, for each of many keys.

Must not know what is counted, nor a clock: times are handed in.  Theory: times are kept and not sums, so no edge of a span
lets twice as many through; whoever was quiet for longest is forgotten when memory is full, so memory is bounded by a number
and not by those who ask.
"""

from collections import OrderedDict, deque
from typing import Final

MAX_KEYS: Final = 10_000


class SlidingWindow:
    """Counts times (ms) by key: at most `limit` within `span_ms` of now. Raises ValueError for a limit below 1."""

    def __init__(self, limit: int, span_ms: int, max_keys: int = MAX_KEYS) -> None:
        if limit < 1:
            raise ValueError("a window that lets nothing through counts nothing")
        self._limit, self._span_ms, self._max_keys = limit, span_ms, max_keys
        self._times_ms: OrderedDict[bytes, deque[int]] = OrderedDict()

    def __len__(self) -> int:
        """Return how many keys are remembered."""
        return len(self._times_ms)

    def wait_s(self, key: bytes, now_ms: int) -> int:
        """Return 0 where one more is within the limit, else after how many seconds it is. Counts nothing."""
        times = self._times_ms.get(key)
        if times is None:
            return 0
        self._times_ms.move_to_end(key)  # who goes on asking is not quiet, and so is not forgotten
        while times and not 0 <= now_ms - times[0] < self._span_ms:  # below 0: the clock was set back
            times.popleft()
        return -(-(times[0] + self._span_ms - now_ms) // 1000) if len(times) >= self._limit else 0

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
