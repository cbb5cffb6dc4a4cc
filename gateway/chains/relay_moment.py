"""Questions of one moment that go to the chain together: which addresses have code, what authorizations would do.

Must not know who asks or what for. Theory: a call over the network costs a node and us as much for one question as for
two hundred, so whatever is asked within two milliseconds shares one eth_call; each answer is the one that its question
alone would have got, and where a node cannot answer them together they are asked one by one.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

__all__ = ["CODE_SIZES", "Moment"]

Q = TypeVar("Q")
A = TypeVar("A")

CODE_SIZES = bytes.fromhex("602138038060215f395f5b81811015601d5780513b8152602001600a565b505ff3")
"""Creation code that answers, for each word with an address after it, with a word of how much code stands there.

It copies what follows it to memory, puts EXTCODESIZE in the place of each word, and returns that."""


@dataclass(slots=True)
class _Open(Generic[Q, A]):
    asked: list[tuple[Q, asyncio.Future[A]]] = field(default_factory=list)


class Moment(Generic[Q, A]):
    """Collects questions for `window_s` and hands them, at most `most` at a time, to `answer`.

    `answer` returns one answer a question, in order; what it raises goes to all who asked.
    """

    def __init__(self, answer: Callable[[Sequence[Q]], Awaitable[Sequence[A]]], window_s: float, most: int) -> None:
        self._answer, self._window_s, self._most = answer, window_s, most
        self._open: _Open[Q, A] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def ask(self, question: Q) -> A:
        """Return the answer to one question."""
        if self._open is None:
            self._open = _Open()
            asyncio.get_running_loop().call_later(self._window_s, self._flush)
        waiter: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self._open.asked.append((question, waiter))
        return await waiter

    def _flush(self) -> None:
        moment, self._open = self._open, None
        asked = [] if moment is None else moment.asked
        for start in range(0, len(asked), self._most):
            task = asyncio.create_task(self._settle(asked[start : start + self._most]), name="relay questions")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _settle(self, asked: Sequence[tuple[Q, asyncio.Future[A]]]) -> None:
        (outcome,) = await asyncio.gather(self._answer([question for question, _ in asked]), return_exceptions=True)
        for place, (_, waiter) in enumerate(asked):
            if waiter.done():  # whoever asked has given up
                continue
            if isinstance(outcome, BaseException):
                waiter.set_exception(outcome)
            else:
                waiter.set_result(outcome[place])
