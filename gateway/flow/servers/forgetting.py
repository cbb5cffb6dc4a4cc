"""Deliveries that were done long ago leave the store, a bounded number at a time.

Must not know what was delivered.  Theory: what became of a delivery is nobody's money and no right; its event is in the
journal for good and can be sent again without it. So it is kept for as long as somebody may still look, and no longer; only
what an endpoint took since the oldest event on its way was made is needed to judge it, and stays.
"""

from typing import Final

from gateway.core.commands import ForgetDeliveries, Refused
from gateway.core.pause import has_passed
from gateway.flow.servers.history import History
from gateway.flow.servers.keeping import Keeping

AT_ONCE: Final = 200  # rows of one commit, which others wait for
PAUSE_MS: Final = 60_000  # after a look that found nothing old


class Forgetting:
    """Forgets deliveries that were done more than `kept_s` ago."""

    def __init__(self, keeping: Keeping, history: History, kept_s: int) -> None:
        self._keeping, self._history, self._kept_ms = keeping, history, kept_s * 1000
        self._looked_at_ms = 0

    async def step(self) -> None:
        """Forget some, where there are any. It is called often, and mostly returns at once."""
        now_ms = self._keeping.clock.now_ms()
        if not has_passed(PAUSE_MS, self._looked_at_ms, now_ms):
            return
        before_ms = self._before_ms(now_ms)
        if not await self._history.done_before(before_ms):
            self._looked_at_ms = now_ms
            return
        result = await self._keeping.store.post(ForgetDeliveries(before_ms, AT_ONCE))
        assert not isinstance(result, Refused), "the store keeps deliveries that nobody asked it to"

    def _before_ms(self, now_ms: int) -> int:
        pending = self._keeping.view.deliveries.values()
        return min(now_ms - self._kept_ms, min((each.created_at_ms for each in pending), default=now_ms))
