"""What every account vendor is made of: its clock, its faults, the record of what was asked of it.

A vendor's machine inherits this and adds its books. It speaks no HTTP.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from sandbox.shared_vendor.faults import Faults
from sandbox.shared_vendor.limiter import Limit
from sandbox.shared_vendor.timeline import MS, Timeline, parse_time, real_ms

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sandbox.shared_vendor.config import BaseConfig
    from sandbox.shared_vendor.faults import Kind

REQUESTS_KEPT = 500


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it arrived, and what it was told; credentials are not kept."""

    at_real_ms: int
    at_ms: int
    route: str
    method: str
    path: str
    headers: dict[str, str]
    body: str
    account: str | None
    status: int


class SandboxVendor:
    """One vendor's common parts. `origin` is set once the public port is known."""

    def __init__(self, config: BaseConfig, routes: Iterable[str], kinds: Mapping[str, Kind]) -> None:
        start = None if config.clock_start is None else parse_time(config.clock_start)
        self.origin = ""
        self.timeline = Timeline(start, config.clock_rate)
        self.faults = Faults(routes, kinds)
        for fault in config.faults:
            self.faults.add(fault)
        self._limits: list[Limit] = []
        self.calls: Counter[str] = Counter()
        self.requests: deque[Asked] = deque(maxlen=REQUESTS_KEPT)

    def limit(self, requests: int, window_s: float) -> Limit:
        """A rate limit whose windows age when business time jumps; 0 requests is no limit."""
        made = Limit(requests, window_s)
        self._limits.append(made)
        self.timeline.on_jump(made.age)
        return made

    def open_windows(self) -> None:
        """Forget what the rate limits counted."""
        for limit in self._limits:
            limit.forget()

    def shown_ms(self, at_ms: int) -> int:
        """A business time as answers show it: off by the `skew` fault."""
        fault = self.faults.take("skew")
        return at_ms if fault is None else at_ms + round(fault["by_s"] * MS)

    def note(self, asked: Asked) -> None:
        """Remember a request."""
        self.calls[f"{asked.route} {asked.status}"] += 1
        self.requests.append(asked)

    def common_state(self) -> dict[str, Any]:
        """What /admin/state says of every vendor."""
        return {
            "real_ms": real_ms(),
            "business_ms": self.timeline.now_ms(),
            "calls": dict(self.calls),
            "faults": self.faults.active(),
        }

    def asked(self) -> list[dict[str, Any]]:
        """The last requests, oldest first."""
        return [asdict(asked) for asked in self.requests]

    def reset_common(self) -> None:
        """Forget faults, requests and everything that was to come; business time stays."""
        self.faults.clear()
        self.timeline.forget()
        self.open_windows()
        self.calls.clear()
        self.requests.clear()

    async def close(self) -> None:
        """End what runs beside the requests."""
