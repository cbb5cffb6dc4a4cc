"""How often callers without a key may put us to work that a chain has to do: each of them, and all of them together.

Must not know routes or payments.  Theory: an account answers for what its keys ask and an address answers for nothing, so
whoever has no key shares one bucket, of which each address gets a part; callers with a key are never held up by it. A question
that costs no call to a chain is not counted.
"""

from typing import Final

from gateway.api.attempts import site_of
from gateway.core.problems import Problem
from gateway.facilitator.limits import PerMinute

PER_SITE: Final = 300
FOR_ALL: Final = 3_000
_ALL: Final = b"*"


class Keyless:
    """The two buckets, for a minute each. One object for all routes."""

    def __init__(self, per_site: int = PER_SITE, for_all: int = FOR_ALL) -> None:
        self._at_s = 0
        self._per_site, self._for_all = (PerMinute(limit, lambda: self._at_s) for limit in (per_site, for_all))

    def count(self, address: str | None, now_ms: int) -> None:
        """Count one question of a caller without a key, by the caller's address (`callers`).

        Raises Problem("too_many_calls") with the seconds to wait. What its address may not ask is not counted for all.
        """
        self._at_s = now_ms // 1000
        wait_s = self._per_site.take(site_of(address))
        if wait_s is None:
            wait_s = self._for_all.take(_ALL)
        if wait_s is not None:
            detail = "too many requests without a key: nothing was done; wait as long as Retry-After says, or use a key"
            raise Problem("too_many_calls", detail, extra={"retry_after_s": wait_s})
