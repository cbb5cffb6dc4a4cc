"""Asking a human: the one way in which a flow opens a task.

Must not know what the human will do.  Theory: what needs a human is seen again at every look and by every call until it is
mended, so it is asked once while it is open and told to the log when it is asked; the store says whether it is open, and
is itself not bothered with each repeat.
"""

import structlog

from gateway.core.commands import Done, OpenTask
from gateway.core.pause import has_passed
from gateway.core.records import Task
from gateway.core.task_kinds import DETAIL_MAX, TaskKind
from gateway.flow.ids import Ids
from gateway.flow.locks import Locks
from gateway.ports import Clock, Entropy, Store

AGAIN_MS = 60_000

_Question = tuple[TaskKind, str, str]

log = structlog.get_logger()


class Tasks:
    """Opens tasks in a store. What was asked is remembered for a minute, so one that was closed unmended comes back.

    Only the very same words are a repeat: another price of the same thing, after the first was decided, is a new question.
    """

    def __init__(self, store: Store, clock: Clock, entropy: Entropy) -> None:
        self._store, self._clock, self._ids = store, clock, Ids(clock, entropy)
        self._asked_ms: dict[_Question, int] = {}
        self._asking = Locks()

    async def ask(self, kind: TaskKind, subject: str, detail: str, payment_id: str | None = None) -> None:
        """Open a task and log it, once while one of this kind is open on this subject; return when it is durable.

        `detail` must hold no secret; it is cut to DETAIL_MAX characters.
        """
        question = kind, subject, detail[:DETAIL_MAX]
        async with self._asking.of(*question):  # a hundred calls that find it at once ask once
            await self._ask(question, payment_id)

    async def _ask(self, question: _Question, payment_id: str | None) -> None:
        now_ms = self._clock.now_ms()
        self._asked_ms = {
            asked: at_ms for asked, at_ms in self._asked_ms.items() if not has_passed(AGAIN_MS, at_ms, now_ms)
        }
        if question in self._asked_ms:
            return
        kind, subject, detail = question
        task = Task(self._ids.new("task"), kind, subject, detail, now_ms, payment_id)
        result = await self._store.post(OpenTask(task))
        self._asked_ms[question] = now_ms  # after the commit: what could not be asked is asked by whoever finds it next
        if isinstance(result, Done) and result.changed:
            log.error("task.opened", kind=kind, subject=subject, detail=detail)
