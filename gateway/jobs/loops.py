"""Loops that must not die: each calls one function at its pace, backs off while it fails, and stops when asked.

Must not know what the functions do.  Theory: a background failure is an alert and a later try, never a silent end; only
a broken store ends the process, because then nothing can be recorded any more.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from gateway.store.core import StoreBroken

BACKOFF_MAX_S = 60.0
BACKOFF_GROWTH = 2.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Loop:
    """A function to call, and the pause after each call."""

    name: str
    function: Callable[[], Awaitable[object]]
    pause_s: float


@dataclass(frozen=True, slots=True)
class LoopState:
    """How a loop is: whether its last call succeeded, and how long ago one last did (before the first: the start)."""

    name: str
    healthy: bool
    success_age_s: float


class Loops:
    """Runs loops until `stop`, and tells how they are."""

    def __init__(self, loops: list[Loop], on_broken: Callable[[], None]) -> None:
        self._loops, self._on_broken = loops, on_broken
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()
        self._healthy = {loop.name: False for loop in loops}
        self._succeeded_s: dict[str, float] = {}

    def start(self) -> None:
        """Start every loop."""
        self._succeeded_s = {loop.name: _now_s() for loop in self._loops}
        self._tasks = [asyncio.create_task(self._run(loop), name=f"loop {loop.name}") for loop in self._loops]

    def states(self) -> list[LoopState]:
        """Return every loop's state; before `start`, none."""
        now_s = _now_s()
        return [LoopState(name, self._healthy[name], now_s - at_s) for name, at_s in self._succeeded_s.items()]

    async def stop(self, timeout_s: float) -> None:
        """Let each finish the call that it is in, at most that long, then cancel."""
        self._stopping.set()
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=timeout_s)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    async def _run(self, loop: Loop) -> None:
        failures = 0
        while not self._stopping.is_set():
            try:
                await loop.function()
            except Exception as error:  # noqa: BLE001 - a loop outlives what its function raises
                failures += 1
                self._healthy[loop.name] = False
                if _is_broken(error):
                    log.critical("loop.store_broken", loop=loop.name)
                    self._on_broken()
                    return
                _report(loop.name, failures, error)
            else:
                failures = 0
                self._healthy[loop.name] = True
                self._succeeded_s[loop.name] = _now_s()
            await self._pause(min(BACKOFF_MAX_S, loop.pause_s * BACKOFF_GROWTH ** min(failures, 10)))

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return


def _now_s() -> float:
    return asyncio.get_running_loop().time()


def _is_broken(error: Exception) -> bool:
    """Say whether the store broke, also as one of several things that went wrong in one call."""
    if isinstance(error, ExceptionGroup):
        return error.subgroup(StoreBroken) is not None
    return isinstance(error, StoreBroken)


def _report(name: str, failures: int, error: Exception) -> None:
    inner = error.exceptions[0] if isinstance(error, ExceptionGroup) else error
    log.warning("loop.failed", loop=name, failures=failures, error=type(inner).__name__, detail=str(inner)[:300])
