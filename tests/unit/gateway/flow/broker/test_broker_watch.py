"""What the account broker waits for goes on after a clock was set back, and what needs two looks begins them anew."""

from types import SimpleNamespace
from typing import Any

from gateway.flow.broker.endings import Endings
from gateway.flow.broker.looking import BUSY_LOOK_S, IDLE_LOOK_S, STRANGER_S, Looking
from gateway.flow.broker.meters import BALANCE_EVERY_S, Meters
from gateway.flow.broker.watch import Memory, Tries, Watch
from tests.unit.gateway.flow.spend_bed import NOW_MS, StillClock

DAY_MS = 86_400_000
PAUSES_S = (5.0, 15.0)


def watch_on(clock: StillClock) -> Watch:
    """Return the memory of one vendor that runs nothing."""

    async def post(_command: object) -> None:
        """Keep nothing."""

    store: Any = SimpleNamespace(view=SimpleNamespace(meters={}), post=post)
    entropy: Any = None
    return Watch(["shop"], store=store, clock=clock, business=clock, entropy=entropy)


def test_tries_have_their_pauses_also_after_the_clock_was_set_back() -> None:
    """Each pause is kept; one that ends later than any pause does is over, and how long it has been tried begins anew."""
    tries = Tries()
    assert tries.take(NOW_MS, PAUSES_S)
    assert not tries.take(NOW_MS + 4_999, PAUSES_S)
    assert tries.take(NOW_MS + 5_000, PAUSES_S)
    assert (tries.first_ms, tries.is_due(NOW_MS + 19_999, PAUSES_S)) == (NOW_MS, False)
    assert tries.take(NOW_MS - DAY_MS, PAUSES_S)
    assert (tries.first_ms, tries.count) == (NOW_MS - DAY_MS, 3)


def test_an_absence_begins_anew_where_the_clock_was_set_back() -> None:
    """P5: two lists, late enough by one clock; a first that is later than now is of another."""
    memory = Memory()
    assert memory.absent_since("met_1", NOW_MS, 7) == memory.absent_since("met_1", NOW_MS + 1, 8) == (NOW_MS, 7)
    assert memory.absent_since("met_1", NOW_MS - DAY_MS, 9) == (NOW_MS - DAY_MS, 9)


def test_lists_are_asked_for_also_after_the_clock_was_set_back() -> None:
    """At their pace before, at once after; and what was hurried for a minute is not hurried for a day."""
    clock, nothing = StillClock(), None
    watch = watch_on(clock)
    looking = Looking(watch, nothing, nothing)  # type: ignore[arg-type]
    memory = watch.memory["shop"]
    memory.looked_ms, memory.hurry_until_ms = NOW_MS, NOW_MS + 60_000
    clock.ms += int(BUSY_LOOK_S * 1000)
    assert looking.is_due("shop")
    clock.ms = NOW_MS - DAY_MS
    assert looking.is_due("shop")
    memory.looked_ms = clock.ms
    clock.ms += int(IDLE_LOOK_S * 1000) - 1
    assert not looking.is_due("shop")
    clock.ms += 1
    assert looking.is_due("shop")


async def test_the_operators_balance_is_read_also_after_the_clock_was_set_back() -> None:
    """At its pace before, at once after."""
    clock, asked = StillClock(), list[int]()

    async def ask(_request: object, _how: object) -> None:
        asked.append(clock.ms)

    desk: Any = SimpleNamespace(ask=ask, vendor=SimpleNamespace(name="shop", balance_request=lambda: "balance"))
    meters: Any = SimpleNamespace(_watch=watch_on(clock))
    for later_ms in (0, int(BALANCE_EVERY_S * 1000) - 1, 1, -DAY_MS):
        clock.ms += later_ms
        await Meters._balance(meters, desk)
    assert asked == [NOW_MS, NOW_MS + 300_000, NOW_MS + 300_000 - DAY_MS]


async def test_a_destruction_is_asked_for_again_after_the_clock_was_set_back() -> None:
    """A promise holds for ten minutes, and not for a day by a clock that was wrong."""
    clock, asked = StillClock(), list[int]()

    async def ask(_request: object, _how: object) -> Any:
        asked.append(clock.ms)
        return SimpleNamespace(status=202)

    async def confirm(_desk: object, _meter: object) -> None:
        """It is still there."""

    vendor = SimpleNamespace(name="shop", ends_on_accept=False, destroy_request=lambda ref: ref)
    endings: Any = SimpleNamespace(_watch=watch_on(clock), confirm=confirm)
    endings.promised = lambda vendor, meter: Endings.promised(endings, vendor, meter)
    desk: Any = SimpleNamespace(vendor=vendor, ask=ask)
    meter: Any = SimpleNamespace(id="met_1", ref="box-1")
    for later_ms, times in ((0, 1), (60_000, 1), (-DAY_MS, 2)):
        clock.ms += later_ms
        await Endings._destroy(endings, desk, meter)
        assert len(asked) == times


async def test_a_stranger_is_told_of_after_a_minute_by_the_clock_that_is_right() -> None:
    """Not at once where the clock was set back since it was first seen, and not only a day later."""
    clock, told, nothing = StillClock(), list[str](), None

    async def resource(_vendor: str, _ref: str) -> None:
        """Nobody's."""

    async def ask(_kind: str, subject: str, _detail: str) -> None:
        told.append(subject)

    watch: Any = watch_on(clock)
    watch.store.resource, watch.tasks = resource, SimpleNamespace(ask=ask)
    looking = Looking(watch, nothing, nothing)  # type: ignore[arg-type]
    vendor: Any = SimpleNamespace(name="shop")
    thing: Any = SimpleNamespace(ref="box-1", name="box-g" + "a" * 16, gone=False)
    for later_ms, times in ((0, 0), (-DAY_MS, 0), (int(STRANGER_S * 1000) - 1, 0), (1, 1)):
        clock.ms += later_ms
        await looking._strangers(vendor, [thing])
        assert len(told) == times
