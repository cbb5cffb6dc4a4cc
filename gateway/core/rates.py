"""A vendor's rate limits as data, and the arithmetic of when the next request may leave.

Must not know who waits, or a clock: times are handed in, in milliseconds.  Theory: a sliding window that holds at every
departure holds in every fixed window of the same length too, so it is kept whichever of the two the vendor counts by.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple, Self

from gateway.core.routes import Priority

ANY = "*"
"""The scope of a rate that counts every request of the account."""
AUTH = "auth"
"""The scope of logging in."""
CALLS = "calls"
"""The scope of everything else."""

URGENT_SHARE = 10  # a tenth of each window is for renewals, destructions and creations alone
UNANSWERED_MS = 120_000
SAME_WINDOW_MS = 2_000


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `limit` requests in any `window_s` seconds. It counts the requests of one scope, or of ANY."""

    limit: int
    window_s: int
    scope: str = ANY

    def __post_init__(self) -> None:
        if self.limit < 1 or self.window_s < 1:
            raise ValueError("a rate lets through at least one request in at least one second")


class Lane(NamedTuple):
    """What decides when a request may leave: its scope, and whether it may use the share kept for urgent ones."""

    scope: str
    urgent: bool

    @classmethod
    def of(cls, scope: str, priority: Priority) -> Self:
        """Return the lane of a request."""
        return cls(scope, priority <= Priority.CREATE)


@dataclass(slots=True)
class _Gate:
    """One bound and the departures that it still counts, oldest first."""

    limit: int
    span_ms: int
    scope: str
    ordinary_only: bool = False
    left_at: list[int] = field(default_factory=list)

    def counts(self, lane: Lane) -> bool:
        return self.scope in (lane.scope, ANY) and not (self.ordinary_only and lane.urgent)

    def ready_ms(self) -> int:
        return self.left_at[-self.limit] + self.span_ms if len(self.left_at) >= self.limit else 0

    def take(self, at_ms: int) -> None:
        self.left_at.append(at_ms)
        if self.left_at[0] + self.span_ms <= at_ms:
            self.left_at = [left for left in self.left_at if left + self.span_ms > at_ms]


@dataclass(slots=True)
class _Allowance:
    """What the vendor itself said is left until its window ends."""

    left: int
    until_ms: int


class Windows:
    """The state of one vendor account's limits. Times never go back from call to call.

    `slack_ms` lengthens every window: requests that leave a window apart may arrive closer together.
    """

    def __init__(self, rates: Iterable[Rate], slack_ms: int) -> None:
        self._gates: list[_Gate] = []
        for rate in rates:
            span_ms = rate.window_s * 1000 + slack_ms
            self._gates.append(_Gate(rate.limit, span_ms, rate.scope))
            if kept := rate.limit // URGENT_SHARE:
                self._gates.append(_Gate(rate.limit - kept, span_ms, rate.scope, ordinary_only=True))
        self._one_account = any(gate.scope == ANY for gate in self._gates)
        self.longest_ms = max((gate.span_ms for gate in self._gates), default=0)
        self._stops: dict[str, int] = {}
        self._allowances: dict[tuple[str, int], _Allowance] = {}
        self._unanswered: dict[str, deque[int]] = {}

    def copy(self) -> "Windows":
        """Return a copy to plan on; it forgets which answers are awaited."""
        twin = Windows((), 0)
        twin._gates = [
            _Gate(gate.limit, gate.span_ms, gate.scope, gate.ordinary_only, list(gate.left_at)) for gate in self._gates
        ]
        twin._one_account, twin._stops = self._one_account, dict(self._stops)
        twin._allowances = {key: _Allowance(said.left, said.until_ms) for key, said in self._allowances.items()}
        return twin

    def reach(self, scope: str) -> str:
        """Return how far a refusal of this scope goes: to everything where the vendor counts the account as one."""
        return ANY if self._one_account else scope

    def ready_ms(self, lane: Lane, now_ms: int) -> int:
        """Return the earliest time, not before now, at which a request of this lane may leave."""
        ready = now_ms
        for gate in self._gates:
            if gate.counts(lane):
                ready = max(ready, gate.ready_ms())
        for scope in (ANY, lane.scope):
            ready = max(ready, self._stops.get(scope, 0))
        for (scope, _), said in self._allowances.items():
            if said.left <= 0 and scope in (ANY, lane.scope):
                ready = max(ready, said.until_ms)
        return ready

    def take(self, lane: Lane, at_ms: int) -> None:
        """Note that a request of this lane leaves."""
        for gate in self._gates:
            if gate.counts(lane):
                gate.take(at_ms)
        reach = self.reach(lane.scope)
        self._awaited(reach, at_ms).append(at_ms)
        for key, said in list(self._allowances.items()):
            if said.until_ms <= at_ms:
                del self._allowances[key]
            elif key[0] == reach:
                said.left -= 1

    def give_back(self, lane: Lane, at_ms: int) -> None:
        """Undo `take(lane, at_ms)`: the request did not leave."""
        for gate in self._gates:
            if gate.counts(lane) and at_ms in gate.left_at:
                gate.left_at.remove(at_ms)
        reach = self.reach(lane.scope)
        if at_ms in self._unanswered.get(reach, ()):
            self._unanswered[reach].remove(at_ms)
        for key, said in self._allowances.items():
            if key[0] == reach:
                said.left += 1

    def answered(self, scope: str, now_ms: int) -> None:
        """Note that an answer came: the vendor has counted one more of what had left."""
        awaited = self._awaited(self.reach(scope), now_ms)
        if awaited:
            awaited.popleft()

    def stop(self, scope: str, until_ms: int) -> None:
        """Let nothing that this scope reaches leave before that time."""
        reach = self.reach(scope)
        self._stops[reach] = max(self._stops.get(reach, 0), until_ms)

    def stopped(self, scope: str, now_ms: int) -> bool:
        """Say whether a stop is in force."""
        return self._stops.get(self.reach(scope), 0) > now_ms

    def _awaited(self, reach: str, now_ms: int) -> deque[int]:
        awaited = self._unanswered.setdefault(reach, deque())
        while awaited and awaited[0] + UNANSWERED_MS <= now_ms:  # lost on the way: their answers will not come
            awaited.popleft()
        return awaited

    def allow(self, scope: str, limit: int, left: int, until_ms: int) -> None:
        """Believe the vendor that so many requests of its window (told apart by `limit`) are left until then.

        What has left and is not answered may not be in its figure yet, so it is taken off. Within one window the figure
        only falls: an answer that was overtaken by a later one changes nothing.
        """
        reach = self.reach(scope)
        left -= len(self._unanswered.get(reach, ()))
        if not any(gate.limit == limit for gate in self._gates):
            limit = 0  # a limit that we do not know: a vendor that varies it must not fill our memory
        said = self._allowances.get((reach, limit))
        if said is None or until_ms > said.until_ms + SAME_WINDOW_MS:
            self._allowances[reach, limit] = _Allowance(left, until_ms)
        elif until_ms >= said.until_ms - SAME_WINDOW_MS:
            said.left = min(said.left, left)
