"""Work beside a loop: one task for each thing, few at once at each vendor, and a loop that waits for none of them long.

Must not know what the work is.  Theory: a loop that waits for all that it began is as slow as the slowest vendor; beside
it, whoever is slow is waited for by nobody but the things that are at the same vendor.
"""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

Work = Coroutine[Any, Any, object]
Begin = Callable[[Work], "asyncio.Task[Any]"]


class Beside:
    """What one loop has begun. `begin` starts a task that somebody else keeps and waits for at the end of the process."""

    def __init__(self, begin: Begin, at_once: int) -> None:
        self._begin, self._at_once = begin, at_once
        self._gates: dict[str, asyncio.Semaphore] = {}
        self._tasks: dict[str, asyncio.Task[Any]] = {}
        self._broken: list[BaseException] = []

    def is_under_way(self, name: str) -> bool:
        """Say whether a thing's work has begun and is not over."""
        return name in self._tasks

    def go(self, name: str, vendor_name: str, work: Callable[[], Work]) -> None:
        """Begin a thing's work, unless it is under way already."""
        if name in self._tasks:
            return
        task = self._tasks[name] = self._begin(self._work(vendor_name, work))
        task.add_done_callback(partial(self._ended, name))

    async def wait(self, patience_s: float) -> None:
        """Wait for what is under way, at most that long. Raises what went wrong in it, or earlier, once."""
        if self._tasks:
            await asyncio.wait(list(self._tasks.values()), timeout=patience_s)
        if self._broken:
            raise self._broken.pop(0)

    async def _work(self, vendor_name: str, work: Callable[[], Work]) -> None:
        async with self._gates.setdefault(vendor_name, asyncio.Semaphore(self._at_once)):
            await work()

    def _ended(self, name: str, done: "asyncio.Task[Any]") -> None:
        self._tasks.pop(name, None)
        error = None if done.cancelled() else done.exception()
        if error is not None:
            self._broken.append(error)
