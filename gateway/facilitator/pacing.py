"""When to look for the next block: a chain whose blocks come at a steady pace is left alone until one is near.

Pure: it is told the time and what was seen, and asks nobody. Theory: a look that finds the block that was known costs a question
to a node, most of all questions that a settlement costs; a chain that keeps its pace needs few of them, and one that does not is
looked at as often as the operator wants.
"""

from collections.abc import Callable

__all__ = ["BlockPace"]

STEADY = 2  # one gap is at most so many times the one before: a look may be late by a pause
REST_NUMERATOR, REST_DENOMINATOR = 7, 10  # of a gap, before anybody looks again
GAP_MAX_S = 15.0


class BlockPace:
    """One chain's pace. `poll_s` is the pause between looks where a block is near, or nobody knows."""

    def __init__(self, poll_s: float, now_s: Callable[[], float]) -> None:
        """`now_s` is a clock that never goes back."""
        self._poll_s, self._now_s = poll_s, now_s
        self._number: int | None = None
        self._seen_s: float | None = None  # when that block was first seen; None where it may have been there before
        self._gap_s: float | None = None
        self._steady = False

    def saw(self, number: int, *, waited: bool) -> None:
        """Take the newest block's number. `waited`: the chain was looked at all the time since the one before."""
        if number == self._number:
            return
        now_s = self._now_s()
        if not waited or number - 1 != self._number:
            if waited:  # a block was slept through: whatever was thought of this chain is not so
                self._gap_s, self._steady = None, False
            self._number, self._seen_s = number, None
            return
        if self._seen_s is not None:
            gap_s = now_s - self._seen_s
            before_s, self._gap_s = self._gap_s, gap_s
            alike = before_s is not None and gap_s <= before_s * STEADY and before_s <= gap_s * STEADY
            self._steady = alike and gap_s <= GAP_MAX_S
        self._number, self._seen_s = number, now_s

    def pause_s(self) -> float:
        """Return how long to wait before the next look."""
        if not self._steady or self._gap_s is None or self._seen_s is None:
            return self._poll_s
        near_s = self._seen_s + self._gap_s * REST_NUMERATOR / REST_DENOMINATOR
        return max(self._poll_s, near_s - self._now_s())
