"""Whose turn it is at one endpoint: what is due to it, in which order attempts may begin.

Must not know how anything is sent, nor who waits for the clock.  Theory: events about one record stand in a line, in the
journal's order, and one does not begin while an earlier one of its line is under way or about to be; lines go side by side.
What waits is let on by the end of an attempt, one for each, so a line that waits always has an attempt before it that ends.
"""

import bisect
import heapq
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from gateway.core.pause import is_over
from gateway.core.server import HookDelivery
from gateway.core.webhook import PAUSES_S, RETRY_AFTER_MAX_S

LONGEST_PAUSE_MS: Final = 2 * max(*PAUSES_S, RETRY_AFTER_MAX_S) * 1000  # with room for the jitter
HELD_UP_MS: Final = 10_000  # an attempt that comes sooner than that goes first: the first retry does, later ones do not


@dataclass(slots=True)
class _Line:
    """The events about one record that were not taken yet, and those of them that were due and had to wait; both ascending."""

    pending: list[int] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)


class Turns:
    """What is due to an endpoint. `pending` are all pending deliveries as the store has them, by endpoint and journal row."""

    def __init__(self, hook_id: str, pending: Mapping[tuple[str, int], HookDelivery]) -> None:
        self._hook_id, self._pending = hook_id, pending
        self._due: list[tuple[int, int]] = []  # (due_at_ms, event_seq): a heap; what is no longer true may stay in it
        self._lines: dict[str, _Line] = {}
        self._line_of: dict[int, str] = {}
        self._flying: set[int] = set()

    def __len__(self) -> int:
        """How many were not taken yet."""
        return len(self._line_of)

    @property
    def flying(self) -> int:
        """How many attempts are under way."""
        return len(self._flying)

    def is_flying(self, seq: int) -> bool:
        """Say whether an attempt of this event is under way."""
        return seq in self._flying

    def put(self, seq: int) -> None:
        """Take up a delivery that is pending, for its first attempt or for another."""
        delivery = self._pending.get((self._hook_id, seq))
        if delivery is not None:
            subject = self._line_of.setdefault(seq, delivery.subject)
            _insert(self._lines.setdefault(subject, _Line()).pending, seq)
            heapq.heappush(self._due, (delivery.due_at_ms, seq))

    def begin(self, now_ms: int) -> HookDelivery | None:
        """Return the delivery whose turn it is, under way until it has `landed`; None where nothing may begin now."""
        while self._due and is_over(self._due[0][0], now_ms, LONGEST_PAUSE_MS):
            due_at_ms, seq = heapq.heappop(self._due)
            delivery = self._pending.get((self._hook_id, seq))
            known = seq in self._line_of and seq not in self._flying
            if delivery is None or delivery.due_at_ms != due_at_ms or not known:
                continue
            line = self._lines[self._line_of[seq]]
            if not self._is_held_up(line, seq, now_ms):
                self._flying.add(seq)
                return delivery
            _insert(line.waiting, seq)
        return None

    def landed(self, seq: int) -> None:
        """End an attempt: its event is done, or stands in its line again; one that waited in the line is let on."""
        self._flying.discard(seq)
        subject = self._line_of.pop(seq)
        line = self._lines[subject]
        line.pending.remove(seq)
        self._let_on(line)
        if not line.pending:
            del self._lines[subject]
        self.put(seq)

    def clear(self) -> list[int]:
        """Forget whatever is not under way, and return it."""
        left = [seq for seq in self._line_of if seq not in self._flying]
        self._due.clear()
        for seq in left:
            subject = self._line_of.pop(seq)
            line = self._lines[subject]
            line.pending.remove(seq)
            line.waiting.clear()
            if not line.pending:
                del self._lines[subject]
        return left

    def _is_held_up(self, line: _Line, seq: int, now_ms: int) -> bool:
        """Say whether an earlier one of the line is under way, or will be before long: hours are not waited for."""
        for earlier in line.pending:
            if earlier >= seq:
                return False
            if earlier in self._flying:
                return True
            delivery = self._pending.get((self._hook_id, earlier))
            if delivery is not None and delivery.due_at_ms <= now_ms + HELD_UP_MS:
                return True
        return False

    def _let_on(self, line: _Line) -> None:
        """Let the earliest that waits try its turn again: whatever becomes of it, its end lets the next one on."""
        while line.waiting:
            seq = line.waiting.pop(0)
            delivery = self._pending.get((self._hook_id, seq))
            if delivery is not None and seq not in self._flying:
                heapq.heappush(self._due, (delivery.due_at_ms, seq))
                return


def _insert(ascending: list[int], seq: int) -> None:
    at = bisect.bisect_left(ascending, seq)
    if at == len(ascending) or ascending[at] != seq:
        ascending.insert(at, seq)
