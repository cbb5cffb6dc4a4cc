"""What a fleet needs next: another server, one less, other shares of its budget, or its end.

Must not know vendors or how a server is ordered.  Theory: every member has a share of the budget as its own `max_total`, so
the sum of what all of them may ever cost, unsettled renewals included, is within the budget whatever happens to them; a
replacement is bought from what is left over, and from nothing else.  `now_ms` is business time, `wall_ms` the records'.
"""

from dataclasses import dataclass
from enum import StrEnum

from gateway.core.pause import has_passed, is_over
from gateway.core.server import FleetState, ServerState

PAUSES_S = (10, 30, 120, 600, 3600)
"""After so many members in a row that never ran, the next one is ordered so much later."""
AVOID_S = 3600
"""A vendor at which a member failed is avoided for so long where another one fits."""
NEAR_END_S = 60
LOOK_AGAIN_S = 30
BROKEN = "its vendor says that it is broken"
FAILED = frozenset({ServerState.FAILED, ServerState.LOST, ServerState.ERROR})


class Part(StrEnum):
    """What a member is to its fleet."""

    SOUND = "sound"  # it runs, or is on its way
    AT_RISK = "at_risk"  # its renewal is stuck: it may be gone soon
    BROKEN = "broken"  # its vendor says so
    LEAVING = "leaving"  # let go, and not ended yet
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Member:
    """One server of a fleet. `committed_base` is captured and held, `share_base` its `max_total`.

    `stoppable`: its vendor destroys on demand. `keep_until_ms` is until when it is kept; `ended_at_ms` is of the records.
    `broken`: it was let go because its vendor said that it is broken, whatever has become of it since.
    """

    id: str
    vendor: str
    part: Part
    committed_base: int
    share_base: int
    keep_until_ms: int | None
    was_ready: bool
    stoppable: bool
    ended_at_ms: int | None = None
    state: ServerState = ServerState.RUNNING
    broken: bool = False

    @property
    def failed(self) -> bool:
        """Whether it ended, or is ending, by its vendor's fault."""
        return self.broken or self.state in FAILED

    @property
    def left_base(self) -> int:
        """What it may still cost."""
        return max(0, self.share_base - self.committed_base)

    @property
    def reserved_base(self) -> int:
        """What the budget must have for it: its share while it is open, what it took once it has ended."""
        return self.committed_base if self.part is Part.ENDED else max(self.share_base, self.committed_base)


@dataclass(frozen=True, slots=True)
class FleetFacts:
    """A fleet with its members, oldest first.

    `refused_due_ms` (records' time): when an order may be tried again that nobody took; `share_refused`: none fits an equal
    share of the budget, so the whole rest is tried.
    """

    now_ms: int
    wall_ms: int
    state: FleetState
    count: int
    until_ms: int
    budget_base: int
    members: tuple[Member, ...]
    refused_due_ms: int = 0
    share_refused: bool = False

    @property
    def free_base(self) -> int:
        """What of the budget no member may take; below zero where it was lowered."""
        return self.budget_base - sum(member.reserved_base for member in self.members)


@dataclass(frozen=True, slots=True)
class Make:
    """Order another member with this share, elsewhere than at these vendors if that is possible."""

    share_base: int
    whole: bool  # it is all that is left
    avoid: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LetGo:
    """Destroy this member, or where its vendor cannot, do not renew it."""

    server_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Align:
    """Keep this member until the fleet's end, for at most this share."""

    server_id: str
    keep_until_ms: int
    share_base: int


@dataclass(frozen=True, slots=True)
class Become:
    """The fleet changes its state."""

    state: FleetState
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Rest:
    """Nothing is to be done before then: by the business clock, and by that of the records."""

    until_ms: int
    wall_ms: int


FleetDecision = Make | LetGo | Align | Become | Rest


def decide_fleet(facts: FleetFacts) -> FleetDecision:
    """Return the next thing to be done for a fleet. Ask again after it is done, until Rest."""
    if facts.state is FleetState.ENDED:
        return _rest(facts)
    if facts.state is FleetState.ENDING or facts.now_ms >= facts.until_ms:
        return _end(facts)
    kept = [m for m in facts.members if m.part in {Part.SOUND, Part.AT_RISK}]
    broken = next((m for m in facts.members if m.part is Part.BROKEN), None)
    if broken is not None:
        return LetGo(broken.id, BROKEN)
    sound = [m for m in kept if m.part is Part.SOUND]
    if len(sound) > facts.count:
        risky = [m for m in kept if m.part is Part.AT_RISK]
        return LetGo((risky or sound)[-1].id, "the fleet has enough servers")
    aligned = _trimmed(facts, short=len(sound) < facts.count) or _aligned(facts, kept)
    if aligned is not None:
        return aligned
    if len(sound) < facts.count:
        return _make(facts, facts.count - len(sound))
    if facts.state is FleetState.EXHAUSTED:
        return Become(FleetState.ACTIVE)
    return _rest(facts)


def _end(facts: FleetFacts) -> FleetDecision:
    if facts.state is not FleetState.ENDING:
        return Become(FleetState.ENDING, "its time is over")
    open_ones = [m for m in facts.members if m.part is not Part.ENDED]
    wanted = next((m for m in open_ones if m.part is not Part.LEAVING), None)
    if wanted is not None:
        return LetGo(wanted.id, "the fleet ends")
    # A term that nobody can stop runs out by itself: nothing more is to be done about it.
    return _rest(facts) if any(m.stoppable for m in open_ones) else Become(FleetState.ENDED)


def _trimmed(facts: FleetFacts, *, short: bool) -> Align | None:
    """Take what it has not used from a member that is to be replaced: what is on hold for it stays counted."""
    for member in facts.members:
        stays = member.part is Part.LEAVING and not member.stoppable
        if member.left_base and (stays or (short and member.part is Part.AT_RISK)):
            return Align(member.id, facts.until_ms, member.committed_base)
    return None


def _aligned(facts: FleetFacts, kept: list[Member]) -> Align | None:
    """Return the change that a moved end or budget asks for, one member at a time."""
    late = next((m for m in kept if m.keep_until_ms != facts.until_ms), None)
    if late is not None:
        return Align(late.id, facts.until_ms, late.share_base)
    free_base = facts.free_base
    if free_base < 0:
        richest = max(kept, key=lambda m: (m.left_base, m.id), default=None)
        if richest is not None and richest.left_base:
            return Align(richest.id, facts.until_ms, richest.share_base - min(richest.left_base, -free_base))
    sound = [m for m in kept if m.part is Part.SOUND]
    if len(sound) >= facts.count and free_base > 0:
        poorest = min(kept, key=lambda m: (m.left_base, m.id))
        part_base = free_base // len(kept)
        if part_base and poorest.left_base * 2 < free_base:
            return Align(poorest.id, facts.until_ms, poorest.share_base + part_base)
    return None


def _make(facts: FleetFacts, missing: int) -> FleetDecision:
    due_ms = max(facts.refused_due_ms, _calm_ms(facts.members))
    waits = not is_over(due_ms, facts.wall_ms, PAUSES_S[-1] * 1000)
    if waits or facts.now_ms >= facts.until_ms - NEAR_END_S * 1000:
        return _rest(facts, due_ms)
    free_base = max(0, facts.free_base)
    whole = facts.share_refused or missing == 1
    share_base = free_base if whole else free_base // missing
    if not share_base:
        if facts.state is FleetState.EXHAUSTED:
            return _rest(facts)
        return Become(FleetState.EXHAUSTED, "its budget is used up")
    return Make(share_base, whole, _avoided(facts))


def _calm_ms(members: tuple[Member, ...]) -> int:
    """Return until when no other member is ordered: members that never ran, one after another, slow the next one down."""
    failed = 0
    for member in reversed(members):
        if member.was_ready or member.part is not Part.ENDED:
            break
        failed += 1
    if not failed:
        return 0
    return (members[-1].ended_at_ms or 0) + PAUSES_S[min(failed, len(PAUSES_S)) - 1] * 1000


def _avoided(facts: FleetFacts) -> tuple[str, ...]:
    lately = [
        m
        for m in facts.members
        if m.failed and (m.ended_at_ms is None or not has_passed(AVOID_S * 1000, m.ended_at_ms, facts.wall_ms))
    ]
    failed = {m.vendor for m in (*lately, *(m for m in facts.members if m.part is Part.AT_RISK))}
    return tuple(sorted(failed))


def _rest(facts: FleetFacts, wall_ms: int = 0) -> Rest:
    soon_ms = facts.wall_ms + LOOK_AGAIN_S * 1000
    return Rest(facts.until_ms, wall_ms if facts.wall_ms < wall_ms < soon_ms else soon_ms)
