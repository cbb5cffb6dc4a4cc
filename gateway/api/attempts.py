"""Failed logins by peer address: how many in the last minute, and how long to wait after too many.

Must not know keys or vendors.  Theory: a login needs no key, so whoever fails at it is known by an address alone; failures
only are counted, for whoever shares an address (a NAT, a proxy before us) with a bad guesser still holds a good key.
"""

import ipaddress
from collections import OrderedDict, deque
from typing import Final

MAX_FAILURES: Final = 10
WINDOW_MS: Final = 60_000
MAX_ADDRESSES: Final = 4_096

_SITE_BYTES: Final = 8  # of an IPv6 address: whoever has one has all that share its first half


class Attempts:
    """Counts failures in a sliding window. The address that was quiet for longest is forgotten when memory is full."""

    def __init__(
        self, max_failures: int = MAX_FAILURES, window_ms: int = WINDOW_MS, max_addresses: int = MAX_ADDRESSES
    ) -> None:
        self._max_failures, self._window_ms, self._max_addresses = max_failures, window_ms, max_addresses
        self._failures: OrderedDict[bytes, deque[int]] = OrderedDict()

    def __len__(self) -> int:
        """Return how many addresses are remembered."""
        return len(self._failures)

    def failed(self, address: str | None, now_ms: int) -> int:
        """Count a failure. Returns 0, or the seconds to wait where there were too many already (then it does not count)."""
        site = site_of(address)
        times = self._failures.setdefault(site, deque())
        self._failures.move_to_end(site)
        while times and not 0 <= now_ms - times[0] < self._window_ms:  # below 0: the clock was set back
            times.popleft()
        if len(times) >= self._max_failures:
            return -(-(times[0] + self._window_ms - now_ms) // 1000)
        times.append(now_ms)
        if len(self._failures) > self._max_addresses:
            self._failures.popitem(last=False)
        return 0


def site_of(address: str | None) -> bytes:
    """Whom an address stands for; one and the same for what is none, such as a socket file's peer."""
    try:
        parsed = ipaddress.ip_address(address or "")
    except ValueError:
        return b""
    if isinstance(parsed, ipaddress.IPv4Address):
        return parsed.packed
    return parsed.packed[:_SITE_BYTES] if parsed.ipv4_mapped is None else parsed.ipv4_mapped.packed
