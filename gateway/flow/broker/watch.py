"""What the parts that follow running things share: their meters, what a restart may forget, and how an end is committed.

Must not know how a vendor is asked.  Theory: all that counts is in the book; what is kept here are waits, and first
sightings that want a second one: forgotten, they begin anew, which costs time and never a wrong decision (P5, P12).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import structlog

from gateway.account_ports import Thing
from gateway.core.commands import Done, EndMeter, RunMeter, UpdateResource
from gateway.core.pause import is_over
from gateway.core.records import Meter, MeterState
from gateway.core.view import View
from gateway.flow.ids import Ids
from gateway.flow.tasks import Tasks
from gateway.ports import Clock, Entropy, Store

UNKNOWN_STATE = "unknown"
DESTROYING, DESTROYED = "destroying", "destroyed"

log = structlog.get_logger()


@dataclass(slots=True)
class Tries:
    """How often something was asked for, when it was first, and from when on it may be again (wall clock)."""

    count: int = 0
    due_ms: int = 0
    first_ms: int = 0

    def is_due(self, now_ms: int, pauses_s: tuple[float, ...]) -> bool:
        """Say whether it may be asked for; `pauses_s` are those that `take` is given."""
        return is_over(self.due_ms, now_ms, int(max(pauses_s) * 1000))

    def take(self, now_ms: int, pauses_s: tuple[float, ...]) -> bool:
        """Say whether it is due, and if so count a try; the pause after try n is the nth, at last the last."""
        if not self.is_due(now_ms, pauses_s):
            return False
        self.first_ms = min(self.first_ms or now_ms, now_ms)  # later than now by a clock that was set back
        self.due_ms = now_ms + int(pauses_s[min(self.count, len(pauses_s) - 1)] * 1000)
        self.count += 1
        return True


@dataclass(slots=True)
class Memory:
    """What a restart may forget of one vendor, by meter but for `strangers`, which are by ref."""

    looked_ms: int | None = None
    hurry_until_ms: int = 0
    balance_ms: int | None = None
    absent_ms: dict[str, tuple[int, int]] = field(default_factory=dict)  # wall, business time of the first list without
    destroying: dict[str, Tries] = field(default_factory=dict)
    stopping: dict[str, Tries] = field(default_factory=dict)
    accepted_ms: dict[str, int] = field(default_factory=dict)  # when its destruction was last promised
    seen_ms: dict[str, int] = field(default_factory=dict)  # business time of the last look that showed it
    settled: set[str] = field(default_factory=set)  # those whose state will not change by itself
    settling: dict[str, Tries] = field(default_factory=dict)
    strangers: dict[str, int] = field(default_factory=dict)

    def absent_since(self, meter_id: str, now_ms: int, asked_ms: int) -> tuple[int, int]:
        """Return the wall and business time of the first list without it; a clock that was set back begins anew."""
        first = self.absent_ms.get(meter_id)
        if first is None or first[0] > now_ms:
            first = self.absent_ms[meter_id] = now_ms, asked_ms
        return first

    def forget(self, meter_id: str) -> None:
        """It has ended."""
        for table in (self.absent_ms, self.destroying, self.stopping, self.accepted_ms, self.seen_ms, self.settling):
            table.pop(meter_id, None)
        self.settled.discard(meter_id)


class Watch:
    """The meters of every account vendor. `clock` is for waits, `business` is the time by which vendors bill."""

    def __init__(
        self, vendors: Iterable[str], *, store: Store, clock: Clock, business: Clock, entropy: Entropy
    ) -> None:
        self.store, self.clock, self.business = store, clock, business
        self.tasks, self.ids = Tasks(store, clock, entropy), Ids(clock, entropy)
        self.memory = {name: Memory() for name in vendors}

    @property
    def view(self) -> View:
        """The committed state."""
        return self.store.view

    def of(self, vendor: str, *states: MeterState) -> list[Meter]:
        """Return a vendor's meters in these states, in any where none is named."""
        return [m for m in self.view.meters.values() if m.vendor == vendor and (not states or m.state in states)]

    def current(self, meter: Meter) -> Meter | None:
        """Return a meter as it is now; None once it has ended."""
        return self.view.meters.get(meter.id)

    async def observe(self, meter: Meter, thing: Thing, seen_ms: int) -> None:
        """Take over what an answer says of a thing that exists. `seen_ms`: business time when it was asked for."""
        now = self.current(meter)
        if now is None:
            return
        memory, known = self.memory[meter.vendor], await self.store.resource(meter.vendor, thing.ref)
        memory.seen_ms[meter.id] = max(seen_ms, memory.seen_ms.get(meter.id, seen_ms))
        memory.absent_ms.pop(meter.id, None)
        state = None if thing.state == UNKNOWN_STATE else thing.state  # what shows no state takes none away
        self._note_settled(memory, meter, state or (UNKNOWN_STATE if known is None else known.state))
        if known is None or (now.state is MeterState.ENDING and known.state == DESTROYING):
            return  # its destruction was promised: that it is still shown, and how, changes nothing
        changed = state not in (None, known.state) or thing.expires_at_ms not in (None, known.expires_at_ms)
        if changed:
            await self.store.post(
                UpdateResource(meter.vendor, thing.ref, state, thing.expires_at_ms, self.clock.now_ms())
            )
        if thing.charged is not None and thing.charged != (now.running_since_ms is not None):
            await self.store.post(RunMeter(meter.id, thing.charged, seen_ms, self.clock.now_ms()))
        if thing.charged is False:
            memory.stopping.pop(meter.id, None)

    async def ended(self, meter: Meter, how: str, ended_ms: int) -> None:
        """Commit that a thing does not exist any more, and until when it was charged."""
        if meter.ref is not None:  # first: a crash in between is then an end that is confirmed once more
            await self.store.post(UpdateResource(meter.vendor, meter.ref, DESTROYED, None, self.clock.now_ms()))
        result = await self.store.post(EndMeter(meter.id, ended_ms, how, self.clock.now_ms()))
        if isinstance(result, Done) and result.changed:
            log.info("meter.ended", meter_id=meter.id, vendor=meter.vendor, ref=meter.ref, how=how)
        self.memory[meter.vendor].forget(meter.id)

    def _note_settled(self, memory: Memory, meter: Meter, state: str) -> None:
        if state in (UNKNOWN_STATE, "provisioning", DESTROYING):
            memory.settled.discard(meter.id)
        else:
            memory.settled.add(meter.id)
            memory.settling.pop(meter.id, None)
