"""One list of all that runs at an account vendor, compared with what the book says: states, absences, strangers.

Must not know balances or how a thing is ended.  Theory: a list is a sighting; that a thing is on it is news, that it is
not proves nothing before a second whole list, late enough, has not got it either (P5).
"""

from gateway.account_ports import AccountVendor, Thing
from gateway.core.pause import has_passed, is_over
from gateway.core.problems import Problem
from gateway.core.records import Meter, MeterState
from gateway.flow.broker.desk import Desk
from gateway.flow.broker.endings import POLLING, Endings
from gateway.flow.broker.lost import MARK, LostOrders
from gateway.flow.broker.watch import UNKNOWN_STATE, Tries, Watch

BUSY_LOOK_S, CALM_LOOK_S, IDLE_LOOK_S = 5.0, 60.0, 600.0
HURRY_S = 60.0
PAGES_MAX = 100
SHOW_PAUSES_S = (2.0, 4.0, 8.0, 16.0, 30.0)
SHOWS_MAX = 12  # some vendors tell it nowhere that we ask
STRANGER_S = 60.0


class Looking:
    """Looks at every account vendor."""

    def __init__(self, watch: Watch, endings: Endings, lost: LostOrders) -> None:
        self._watch, self._endings, self._lost = watch, endings, lost

    def is_due(self, vendor_name: str) -> bool:
        """Say whether it is time for another list: soon where something is about to change, seldom where nothing runs.

        Seldom, not never: what was made after its order was proven absent, or is missing in a book that was restored from
        an older copy, runs at the house's cost until somebody is told of it.
        """
        memory, meters = self._watch.memory[vendor_name], self._watch.of(vendor_name)
        now_ms = self._watch.clock.now_ms()
        hurries = not is_over(memory.hurry_until_ms, now_ms, int(HURRY_S * 1000))
        busy = hurries or any(self._is_unsettled(meter) for meter in meters)
        every_s = BUSY_LOOK_S if busy else CALM_LOOK_S if meters or memory.strangers else IDLE_LOOK_S
        every_ms = int(every_s * 1000)
        return memory.looked_ms is None or has_passed(every_ms, memory.looked_ms, now_ms)

    def hurry(self, meter: Meter) -> None:
        """Look soon, and again: its agent is doing something with it, and what it costs may depend on its state."""
        if meter.while_running:
            until_ms = self._watch.clock.now_ms() + int(HURRY_S * 1000)
            self._watch.memory[meter.vendor].hurry_until_ms = until_ms

    def _is_unsettled(self, meter: Meter) -> bool:
        if meter.state is not MeterState.RUNNING or meter.unfunded_at_ms is not None:
            return True
        paused = meter.while_running and meter.running_since_ms is None
        return paused or meter.id not in self._watch.memory[meter.vendor].settled

    async def look(self, desk: Desk) -> None:
        """Compare. Raises UpstreamError or Problem when the vendor does not answer, or with what proves nothing."""
        memory, vendor = self._watch.memory[desk.vendor.name], desk.vendor
        memory.looked_ms, asked_ms = self._watch.clock.now_ms(), self._watch.business.now_ms()
        before = {meter.id for meter in self._watch.of(vendor.name)}
        things = await self._listed(desk)
        if things is None:
            raise Problem("vendor_unreachable", f"{vendor.name} answers its list with what proves nothing")
        by_ref = {thing.ref: thing for thing in things}
        for meter in self._watch.of(vendor.name):
            thing = None if meter.ref is None else by_ref.get(meter.ref)
            if thing is not None:
                await self._found(meter, thing, asked_ms)
            elif meter.id in before and meter.state is MeterState.ORDERED:
                await self._lost.find(desk, meter, things, asked_ms)
            elif meter.id in before:  # else this list may be older than the thing
                await self._missing(vendor, meter, asked_ms)
        await self._strangers(vendor, things)
        await self._show_silent(desk, by_ref)

    async def _listed(self, desk: Desk) -> list[Thing] | None:
        """Return everything, or None for a list of which any part is missing or cannot be read."""
        found: list[Thing] = []
        for page in range(1, PAGES_MAX + 1):
            request = desk.vendor.list_request(page)
            if request is None:
                return found
            read = desk.vendor.read_list(await desk.ask(request, POLLING))
            if read is None:
                return None
            found += read[0]
            if not read[1]:
                return found
        return None

    async def _found(self, meter: Meter, thing: Thing, asked_ms: int) -> None:
        if thing.gone:
            await self._watch.ended(meter, "destroyed", asked_ms)
        else:
            await self._watch.observe(meter, thing, asked_ms)

    async def _missing(self, vendor: AccountVendor, meter: Meter, asked_ms: int) -> None:
        """A second list without it, late enough, says that it was gone when the first one was asked for."""
        memory, now_ms = self._watch.memory[vendor.name], self._watch.clock.now_ms()
        first = memory.absent_since(meter.id, now_ms, asked_ms)
        if now_ms - first[0] < vendor.account.absent_after_s * 1000:
            return
        known = None if meter.ref is None else await self._watch.store.resource(vendor.name, meter.ref)
        lapsed_ms = None if known is None else known.expires_at_ms  # it destroyed itself: that is when it ended
        ended_ms = first[1] if lapsed_ms is None else min(first[1], lapsed_ms)
        await self._watch.ended(meter, "absent from two lists", ended_ms)

    async def _strangers(self, vendor: AccountVendor, things: list[Thing]) -> None:
        """A thing with a mark of ours that nobody owns costs the house money: the operator must look.

        It is asked for after a second look: the first one may be older than an end that was confirmed meanwhile.
        """
        memory, now_ms = self._watch.memory[vendor.name], self._watch.clock.now_ms()
        marks, seen = {m.token for m in self._watch.of(vendor.name)}, dict[str, int]()
        for thing in things:
            found = MARK.findall(thing.name)
            if not found or thing.gone or marks.intersection(found):
                continue
            known = await self._watch.store.resource(vendor.name, thing.ref)
            if known is not None and known.meter_id in self._watch.view.meters:
                continue
            seen[thing.ref] = min(memory.strangers.get(thing.ref, now_ms), now_ms)
            if now_ms - seen[thing.ref] >= STRANGER_S * 1000:
                what = f"{thing.ref} runs at {vendor.name} under a mark of ours, and no agent is charged for it"
                await self._watch.tasks.ask("orphaned_thing", f"{vendor.name}/{thing.ref}", f"{what}: destroy it")
        memory.strangers = seen

    async def _show_silent(self, desk: Desk, by_ref: dict[str, Thing]) -> None:
        """Ask for one whose state the list does not tell, until it is one that stays."""
        memory, now_ms = self._watch.memory[desk.vendor.name], self._watch.clock.now_ms()
        for meter in self._watch.of(desk.vendor.name, MeterState.RUNNING):
            thing = by_ref.get(meter.ref or "")
            if thing is None or thing.state != UNKNOWN_STATE or meter.id in memory.settled:
                continue
            tries = memory.settling.setdefault(meter.id, Tries())
            if tries.count < SHOWS_MAX and tries.take(now_ms, SHOW_PAUSES_S):
                await self._endings.confirm(desk, meter)
