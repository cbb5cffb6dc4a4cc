"""What vendors tell us unasked, looked into: each event makes us ask the vendor about that one thing, sooner.

Must not know how events come in or what signs them.  Theory (P5): an event is a hint that may come twice, late, out of
order or not at all, so only what the vendor answers now counts; of a destruction that the vendor has told of, and answers
404 to as well, there is no doubt left, and the event's own time may say when it was.
"""

import structlog

from gateway.account_ports import AccountVendor
from gateway.core.commands import CloseEvent
from gateway.core.problems import Problem
from gateway.core.records import Meter, VendorEvent
from gateway.flow.broker.desk import Desk
from gateway.flow.broker.endings import Endings, Failure
from gateway.flow.broker.watch import DESTROYED, Tries, Watch
from gateway.http.port import UpstreamError

PAUSES_S = (5.0, 15.0, 60.0, 300.0)
THINGS_AT_ONCE = 50  # asked about in one round: what runs needs its turn as well
FAILURES_AT_ONCE = 3  # a vendor that does not answer is not asked about everything
KEEP_MS = 24 * 3_600_000  # without an answer for so long: lists have told by then, or will

log = structlog.get_logger()


class Events:
    """Looks into every vendor's events."""

    def __init__(self, watch: Watch, endings: Endings) -> None:
        self._watch, self._endings = watch, endings
        self._tries: dict[tuple[str, str], Tries] = {}

    async def follow(self, desk: Desk) -> list[Failure]:
        """Look into a vendor's pending events, the oldest first; return what went wrong with the vendor.

        An event is closed when what it led to is committed: a crash in between makes us look once more.
        """
        vendor, failures, asked = desk.vendor, list[Failure](), 0
        meters = {meter.ref: meter for meter in self._watch.of(vendor.name) if meter.ref is not None}
        for ref, told in self._pending(vendor.name).items():
            meter = _meter_of(vendor, ref, meters)
            if meter is None:  # nobody's, or its end is known
                await self._close(vendor.name, ref, told)
                continue
            if not self._tries.setdefault((vendor.name, ref), Tries()).take(self._watch.clock.now_ms(), PAUSES_S):
                continue
            try:
                if await self._look(desk, meter, told):
                    await self._close(vendor.name, ref, told)
            except (UpstreamError, Problem) as error:
                failures.append(error)
            asked += 1
            if asked == THINGS_AT_ONCE or len(failures) == FAILURES_AT_ONCE:
                break
        return failures

    def _pending(self, vendor_name: str) -> dict[str, list[VendorEvent]]:
        """Return the pending events by what they speak of: one look answers all of them."""
        found: dict[str, list[VendorEvent]] = {}
        events = self._watch.view.events.get(vendor_name, {}).values()
        for event in sorted(events, key=lambda event: (event.created_at_ms, event.event_id)):
            found.setdefault(event.ref, []).append(event)
        return found

    async def _look(self, desk: Desk, meter: Meter, told: list[VendorEvent]) -> bool:
        """Ask the vendor; say whether that was the answer to these events."""
        deleted_ms = next((event.created_at_ms for event in told if event.state == DESTROYED), None)
        thing = await self._endings.confirm(desk, meter, deleted_ms=deleted_ms)
        if thing is not None and (thing.gone or deleted_ms is None):
            return True
        # It says nothing of the thing, or shows still what it has told us is gone: asked again, for a while.
        return max(event.received_at_ms for event in told) + KEEP_MS <= self._watch.clock.now_ms()

    async def _close(self, vendor_name: str, ref: str, told: list[VendorEvent]) -> None:
        for event in told:
            await self._watch.store.post(CloseEvent(vendor_name, event.event_id, self._watch.clock.now_ms()))
        self._tries.pop((vendor_name, ref), None)
        log.info("event.closed", vendor=vendor_name, ref=ref, events=[event.event_id for event in told])


def _meter_of(vendor: AccountVendor, ref: str, meters: dict[str, Meter]) -> Meter | None:
    """Return the meter of the thing that an event names, perhaps in other letters than ours."""
    named = ref if ref in meters else vendor.canonical("server", ref, meters)
    return None if named is None else meters[named]
