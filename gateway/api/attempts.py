"""Failed logins by the caller's address: how many in the last minute, and how long to wait after too many.

Must not know keys or vendors.  Theory: a login needs no key, so whoever fails at it is known by an address alone; failures
only are counted, for whoever shares an address (a NAT, a proxy that nobody told us of) with a bad guesser still holds a good
key.
"""

import ipaddress
from typing import Final

from gateway.core.window import SlidingWindow

MAX_FAILURES: Final = 10
WINDOW_MS: Final = 60_000
MAX_ADDRESSES: Final = 4_096

_SITE_BYTES: Final = 8  # of an IPv6 address: whoever has one has all that share its first half


class Attempts:
    """Counts failures in a sliding window. The address that was quiet for longest is forgotten when memory is full."""

    def __init__(self) -> None:
        self._failures = SlidingWindow(MAX_FAILURES, WINDOW_MS, MAX_ADDRESSES)

    def __len__(self) -> int:
        """Return how many addresses are remembered."""
        return len(self._failures)

    def failed(self, address: str | None, now_ms: int) -> int:
        """Count a failure. Returns 0, or the seconds to wait where there were too many already (then it does not count)."""
        site = site_of(address)
        wait_s = self._failures.wait_s(site, now_ms)
        if not wait_s:
            self._failures.count(site, now_ms)
        return wait_s


def site_of(address: str | None) -> bytes:
    """Whom an address stands for; one and the same for what is none, such as a socket file's peer."""
    try:
        parsed = ipaddress.ip_address(address or "")
    except ValueError:
        return b""
    if isinstance(parsed, ipaddress.IPv4Address):
        return parsed.packed
    return parsed.packed[:_SITE_BYTES] if parsed.ipv4_mapped is None else parsed.ipv4_mapped.packed
