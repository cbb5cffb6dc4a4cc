"""Time and chance as the ports ask for them, from the virtual loop and from a seed."""

import asyncio
import random

__all__ = ["EPOCH_MS", "SeededEntropy", "SkewedClock", "VirtualClock"]

EPOCH_MS = 1_800_000_000_000


class VirtualClock:
    """The Clock port over the running loop's own time; milliseconds start at EPOCH_MS."""

    def now_ms(self) -> int:
        """Return milliseconds since the epoch."""
        return EPOCH_MS + int(asyncio.get_running_loop().time() * 1000)

    def now_s(self) -> int:
        """Return whole seconds since the epoch."""
        return self.now_ms() // 1000

    async def sleep(self, seconds: float) -> None:
        """Let that much virtual time pass."""
        await asyncio.sleep(seconds)


class SkewedClock:
    """Another machine's clock: ours, and so many seconds more."""

    def __init__(self, clock: VirtualClock, ahead_s: int) -> None:
        self._clock, self._ahead_ms = clock, ahead_s * 1000

    def now_ms(self) -> int:
        """Return milliseconds since the epoch, by that clock."""
        return self._clock.now_ms() + self._ahead_ms


class SeededEntropy:
    """The Entropy port from a seed."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def bytes(self, count: int) -> bytes:
        """Return the next bytes."""
        return self._rng.randbytes(count)
