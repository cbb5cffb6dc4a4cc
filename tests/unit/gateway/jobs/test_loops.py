"""Loops: they outlive what they call, and tell how they are."""

import asyncio
from collections.abc import Awaitable, Callable

from gateway.flow.servers.beside import Beside
from gateway.jobs.loops import Loop, Loops
from gateway.store.core import StoreBroken
from tests.fakes.loop import run_virtual


async def _nothing() -> None:
    return None


def _loops(function: Callable[[], Awaitable[object]], on_broken: Callable[[], None] = lambda: None) -> Loops:
    return Loops([Loop("work", function, 1.0)], on_broken)


def test_a_loop_goes_on_at_its_pace() -> None:
    """It calls, pauses and calls again until it is stopped."""
    at: list[float] = []

    async def work() -> None:
        at.append(asyncio.get_running_loop().time())

    async def play() -> None:
        loops = _loops(work)
        loops.start()
        await asyncio.sleep(2.5)
        await loops.stop(1.0)
        await asyncio.sleep(5)

    run_virtual(play)
    assert at == [0.0, 1.0, 2.0]


def test_a_failure_is_an_alert_and_a_later_try() -> None:
    """M11: it is unhealthy while it fails, its last success grows older, and it recovers by itself."""
    fails = False

    async def work() -> None:
        if fails:
            raise RuntimeError("the chain is away")

    async def play() -> None:
        nonlocal fails
        loops = _loops(work)
        assert loops.states() == []
        loops.start()
        assert [(s.name, s.healthy, s.success_age_s) for s in loops.states()] == [("work", False, 0.0)]
        await asyncio.sleep(0.5)
        (state,) = loops.states()
        assert (state.healthy, state.success_age_s) == (True, 0.5)
        fails = True
        await asyncio.sleep(30)
        (state,) = loops.states()
        assert (state.healthy, state.success_age_s) == (False, 30.5)
        fails = False
        await asyncio.sleep(61)
        (state,) = loops.states()
        assert state.healthy
        assert state.success_age_s < 2
        await loops.stop(1.0)

    run_virtual(play)


def test_a_loop_that_never_succeeded_grows_old_from_its_start() -> None:
    """A tracker that is dead from the beginning shows as well."""

    async def work() -> None:
        raise RuntimeError("never")

    async def play() -> None:
        loops = _loops(work)
        loops.start()
        await asyncio.sleep(40)
        (state,) = loops.states()
        assert (state.healthy, state.success_age_s) == (False, 40.0)
        await loops.stop(1.0)

    run_virtual(play)


def test_a_call_that_hangs_grows_old() -> None:
    """Healthy says how the last call ended; the age says that none has since."""
    first = True

    async def work() -> None:
        nonlocal first
        if not first:
            await asyncio.Event().wait()
        first = False

    async def play() -> None:
        loops = _loops(work)
        loops.start()
        await asyncio.sleep(100)
        (state,) = loops.states()
        assert (state.healthy, state.success_age_s) == (True, 100.0)
        await loops.stop(1.0)

    run_virtual(play)


def test_a_broken_store_ends_the_process() -> None:
    """Nothing can be recorded any more: the loop says so and ends."""
    told: list[str] = []

    async def work() -> None:
        raise StoreBroken("gone")

    async def play() -> None:
        loops = _loops(work, lambda: told.append("broken"))
        loops.start()
        await asyncio.sleep(10)
        assert [state.healthy for state in loops.states()] == [False]
        await loops.stop(1.0)

    run_virtual(play)
    assert told == ["broken"]


def test_a_store_that_broke_beside_other_failures_ends_the_process() -> None:
    """What works on many things at once raises all that went wrong as one group, perhaps of groups."""
    told: list[str] = []

    async def work() -> None:
        raise ExceptionGroup("all", [ValueError("a"), ExceptionGroup("some", [StoreBroken("gone")])])

    async def play() -> None:
        loops = _loops(work, lambda: told.append("broken"))
        loops.start()
        await asyncio.sleep(10)
        assert [state.healthy for state in loops.states()] == [False]
        await loops.stop(1.0)

    run_virtual(play)
    assert told == ["broken"]


def test_many_failures_at_once_are_an_alert_and_a_later_try() -> None:
    """A group without a broken store ends nothing."""
    calls = 0
    told: list[str] = []

    async def work() -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ExceptionGroup("all", [ValueError("a"), RuntimeError("b")])

    async def play() -> None:
        loops = _loops(work, lambda: told.append("broken"))
        loops.start()
        await asyncio.sleep(10)
        assert [state.healthy for state in loops.states()] == [True]
        await loops.stop(1.0)

    run_virtual(play)
    assert told == []


def test_a_store_that_breaks_under_many_works_ends_the_process() -> None:
    """Design 5: as it is raised by what a loop has begun beside itself."""
    told: list[str] = []

    async def broken() -> None:
        raise StoreBroken("gone")

    async def play() -> None:
        beside = Beside()

        async def turn() -> None:
            for name in ("one", "two"):
                beside.go(name, "shop", broken)
            await beside.wait(1.0)

        loops = _loops(turn, lambda: told.append("broken"))
        loops.start()
        await asyncio.sleep(10)
        await loops.stop(1.0)

    run_virtual(play)
    assert told == ["broken"]


def test_stopping_before_the_start_does_nothing() -> None:
    """A start that fails half-way can be cleaned up."""

    async def play() -> None:
        await _loops(_nothing).stop(1.0)

    run_virtual(play)
