"""How often one payer may be asked about, and one payee be settled for: a bucket for each, in memory.

Must not know requests or answers. Theory: every question costs a call to a chain and every settlement gas, whoever is behind
it; a bucket that refills lets a burst through and bounds the mean, and a full one is forgotten, so memory is bounded by
those who asked in the last minute, and by a number beyond that.
"""

from collections import OrderedDict
from collections.abc import Callable

MINUTE_S = 60
MAX_KEYS = 100_000


class PerMinute:
    """At most `limit` in a minute for each key, all of them at once if need be.

    `now_s` is a clock; one that goes back gives nobody more. At `max_keys` the one asked about longest ago is forgotten.
    """

    def __init__(self, limit: int, now_s: Callable[[], int], max_keys: int = MAX_KEYS) -> None:
        self._limit, self._now_s, self._max_keys = limit, now_s, max_keys
        # key -> (left, at); what is left is counted in sixtieths, so that each second adds a whole number.
        self._buckets: OrderedDict[bytes, tuple[int, int]] = OrderedDict()

    def take(self, key: bytes) -> int | None:
        """Count one. Return None where it is within the limit, else after how many seconds one would be."""
        now_s, full = self._now_s(), self._limit * MINUTE_S
        left, at_s = self._buckets.get(key, (full, now_s))
        left = min(full, left + max(0, now_s - at_s) * self._limit)
        taken = left >= MINUTE_S
        self._buckets[key] = (left - MINUTE_S if taken else left, now_s)
        self._buckets.move_to_end(key)
        self._forget(now_s)
        return None if taken else -(-(MINUTE_S - left) // self._limit)

    def _forget(self, now_s: int) -> None:
        """Drop the eldest that are full again, or too many: at most two a call, so that no call pays for many."""
        for _ in range(2):
            key, (_, at_s) = next(iter(self._buckets.items()))
            if len(self._buckets) <= self._max_keys and now_s - at_s < MINUTE_S:
                return
            del self._buckets[key]
