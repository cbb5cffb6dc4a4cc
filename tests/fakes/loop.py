"""An event loop without a world: time jumps to the next timer, nothing sleeps, no thread and no socket exists.

Whatever runs on it runs the same way each time: callbacks in the order in which they became ready, timers in the order of
their times. A loop with nothing left to do that was asked to wait says so instead of waiting for ever.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn, TypeVar

__all__ = ["NothingLeftToDo", "VirtualLoop", "run_virtual"]

T = TypeVar("T")


class NothingLeftToDo(RuntimeError):  # noqa: N818 - named for what it says in a traceback
    """Every task waits for something that nobody will do: a deadlock, found at once."""


class VirtualLoop(asyncio.BaseEventLoop):
    """asyncio's own loop, with a selector that has nothing to select from and moves the time instead."""

    def __init__(self) -> None:
        super().__init__()
        self._selector = self
        self._virtual_s = 0.0
        self._clock_resolution = 1e-6

    def time(self) -> float:
        """Return the virtual time in seconds since the loop was made."""
        return self._virtual_s

    def select(self, timeout: float | None) -> list[Any]:
        """Let the time pass that the loop would have waited."""
        if timeout is None:
            raise NothingLeftToDo("every task waits, and no timer will wake one")
        self._virtual_s += max(0.0, timeout)
        return []

    def _process_events(self, event_list: list[Any]) -> None:
        assert not event_list

    def _write_to_self(self) -> None:
        """There is no other thread that could have to wake this one."""

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> NoReturn:  # type: ignore[override]
        """Refuse: a thread would make the run depend on the machine."""
        raise AssertionError(f"{func} would run in a thread")


def run_virtual(main: Callable[[], Awaitable[T]]) -> T:
    """Run a coroutine function to its end on a loop of its own."""

    async def started() -> T:
        return await main()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(started())
