"""Who goes next, and when: the order of those that wait for a vendor, and the times that its limits give them.

Must not know how anybody waits.  Theory: a request counts as `AGE_MS` older for each step of priority, so the more urgent
goes first, yet nothing waits for ever; inside a priority agents take turns, the one that went longest ago first.
"""

import heapq
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from gateway.core.rates import Lane, Windows
from gateway.core.routes import Priority

AGE_MS = 5_000


@dataclass(slots=True)
class Place:
    """One request's place in the queue. `number` counts arrivals; times are milliseconds."""

    number: int
    scope: str
    priority: Priority
    account_id: str
    arrived_ms: int
    deadline_ms: int

    @property
    def lane(self) -> Lane:
        """What decides when it may leave."""
        return Lane.of(self.scope, self.priority)


P = TypeVar("P", bound=Place)


def line_up(waiting: Iterable[P], turns: Mapping[str, int]) -> list[P]:
    """Return the places in the order in which they are served; `turns` says when each agent last went (a count).

    Promises: inside a priority an agent's k-th request waits for the others' k-th at most; a request that has waited
    AGE_MS longer for each step of priority goes before one that is more urgent.
    """
    levels: dict[Priority, list[tuple[int, int, int, P]]] = {}
    seen: Counter[tuple[Priority, str]] = Counter()
    for place in waiting:
        agent = (place.priority, place.account_id)
        key = (seen[agent], turns.get(place.account_id, -1), place.number, place)
        levels.setdefault(place.priority, []).append(key)
        seen[agent] += 1
    for level in levels.values():
        level.sort(key=lambda key: key[:3])
    oldest = {priority: _oldest_from([key[3] for key in level]) for priority, level in levels.items()}
    heads = [(oldest[priority][0] + priority * AGE_MS, priority, 0) for priority in levels]
    heapq.heapify(heads)
    order = []
    while heads:
        _, priority, index = heapq.heappop(heads)
        order.append(levels[priority][index][3])
        if index + 1 < len(levels[priority]):
            heapq.heappush(heads, (oldest[priority][index + 1] + priority * AGE_MS, priority, index + 1))
    return order


def plan(order: Iterable[P], windows: Windows, now_ms: int) -> list[tuple[int, P]]:
    """Return when each would leave if nothing else came, earliest first; what would miss its deadline takes no room."""
    windows, began_ms = windows.copy(), now_ms
    lanes: dict[Lane, deque[tuple[int, P]]] = {}
    for index, place in enumerate(order):
        lanes.setdefault(place.lane, deque()).append((index, place))
    times = []
    while lanes:
        at_ms, _, lane = min((windows.ready_ms(lane, now_ms), queue[0][0], lane) for lane, queue in lanes.items())
        _, place = lanes[lane].popleft()
        times.append((at_ms, place))
        if at_ms <= max(place.deadline_ms, began_ms):
            windows.take(lane, at_ms)
            now_ms = at_ms
        if not lanes[lane]:
            del lanes[lane]
    return times


def _oldest_from(places: list[P]) -> list[int]:
    """Return, for each index, when the oldest of the places from there on arrived."""
    oldest = [place.arrived_ms for place in places]
    for index in range(len(oldest) - 2, -1, -1):
        oldest[index] = min(oldest[index], oldest[index + 1])
    return oldest
