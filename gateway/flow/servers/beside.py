"""Work beside a loop: one task for each thing, few at once at each place, and a loop that waits for none of them long.

Must not know what the work is.  Theory: a loop that waits for all that it began is as slow as the slowest vendor; beside
it, whoever is slow is waited for by nobody but the things that are at the same place, a vendor most often.
"""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

Work = Coroutine[Any, Any, object]
Begin = Callable[[Work], "asyncio.Task[Any]"]


class Beside:
    """What one loop has begun, at most `at_once` at each place, any number without it.

    `begin` starts a task; where nobody else waits for those at the end of the process, `drain` does.
    """

    def __init__(self, begin: Begin = asyncio.create_task, at_once: int | None = None) -> None:
        self._begin, self._at_once = begin, at_once
        self._gates: dict[str, asyncio.Semaphore] = {}
        self._tasks: dict[str, asyncio.Task[Any]] = {}
        self._broken: list[BaseException] = []

    def is_under_way(self, name: str) -> bool:
        """Say whether a thing's work has begun and is not over."""
        return name in self._tasks

    def go(self, name: str, place: str, work: Callable[[], Work]) -> None:
        """Begin a thing's work, unless it is under way already."""
        if name in self._tasks:
            return
        task = self._tasks[name] = self._begin(self._work(place, work))
        task.add_done_callback(partial(self._ended, name))

    async def wait(self, patience_s: float) -> None:
        """Wait for what is under way, at most that long. Raises what went wrong in it, or earlier, once.

        Several errors are raised as one group: none hides another.
        """
        await self.drain(patience_s)
        broken, self._broken = self._broken, []
        if len(broken) > 1:
            raise BaseExceptionGroup("several went wrong", broken)
        if broken:
            raise broken[0]

    async def drain(self, timeout_s: float) -> None:
        """Wait for what is under way, at most that long. What went wrong is for the next `wait` to raise."""
        if self._tasks:
            await asyncio.wait(list(self._tasks.values()), timeout=timeout_s)

    async def _work(self, place: str, work: Callable[[], Work]) -> None:
        if self._at_once is None:
            await work()
            return
        async with self._gates.setdefault(place, asyncio.Semaphore(self._at_once)):
            await work()

    def _ended(self, name: str, done: "asyncio.Task[Any]") -> None:
        self._tasks.pop(name, None)
        error = None if done.cancelled() else done.exception()
        if error is not None:
            self._broken.append(error)
