"""The operating system's clock and randomness, behind the ports.

Must not know who uses them.  Theory: time and chance enter through exactly one door each, so the simulation can replace
both.
"""

import asyncio
import os
import time


class SystemClock:
    """The wall clock."""

    def now_ms(self) -> int:
        """Return milliseconds since the epoch."""
        return time.time_ns() // 1_000_000

    async def sleep(self, seconds: float) -> None:
        """Return after about that long."""
        await asyncio.sleep(seconds)


class SystemEntropy:
    """The kernel's randomness."""

    def bytes(self, count: int) -> bytes:
        """Return unpredictable bytes."""
        return os.urandom(count)
