"""Two clocks: the real one, which payment windows obey, and the business one, which tests may push forward.

Terms, expiry and grace are business time. It must not be asked for anything that the chain or the SDK judges.
"""

from __future__ import annotations

import time


class Clock:
    """Unix milliseconds; the business clock is the real one plus an offset that only grows."""

    def __init__(self, offset_ms: int = 0) -> None:
        self.offset_ms = offset_ms

    def real_ms(self) -> int:
        """Wall-clock time."""
        return time.time_ns() // 1_000_000

    def business_ms(self) -> int:
        """Time as billing sees it."""
        return self.real_ms() + self.offset_ms

    def advance(self, by_ms: int) -> None:
        """Push business time forward; raises ValueError for a step back."""
        if by_ms < 0:
            raise ValueError("business time only goes forward")
        self.offset_ms += by_ms
