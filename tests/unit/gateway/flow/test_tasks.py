"""Asking a human: logged, cut, once while it is open, and asked for again when it was closed unmended."""

import asyncio
import random
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import structlog

from gateway.core.commands import CloseTask, Command, Result
from gateway.core.task_kinds import DETAIL_MAX
from gateway.flow.tasks import AGAIN_MS, Tasks
from gateway.ports import Store
from gateway.store.core import StoreBroken
from tests.fakes.clock import SeededEntropy
from tests.fakes.store import InlineStore, memory_database
from tests.unit.gateway.flow.spend_bed import StillClock


async def _at_once(_what: str) -> None:
    return None


@dataclass
class Bed:
    """A store that notes its commits, and what asks in it. Must be made in a running loop."""

    db: sqlite3.Connection = field(default_factory=memory_database)
    clock: StillClock = field(default_factory=StillClock)
    commits: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = InlineStore.over(
            self.db, None, before_commit=self._note, after_commit=_at_once, before_read=_at_once
        )
        self.tasks = self.made_again()

    def made_again(self) -> Tasks:
        """What asks, with an empty memory, as after a restart."""
        return Tasks(self.store, self.clock, SeededEntropy(random.Random(len(self.commits))))

    async def _note(self, what: str) -> None:
        self.commits.append(what)

    def rows(self) -> list[dict[str, Any]]:
        """All tasks, oldest first."""
        return [dict(row) for row in self.db.execute("SELECT * FROM tasks ORDER BY rowid")]


class Door:
    """A store behind a door: nothing is committed before it is open, and the first that come in then may fail."""

    def __init__(self, store: Store, fails: int = 0) -> None:
        self._store, self._fails = store, fails
        self.asked, self.open = 0, asyncio.Event()

    async def post(self, command: Command) -> Result:
        """Commit, or fail."""
        self.asked += 1
        await self.open.wait()
        if self._fails:
            self._fails -= 1
            raise StoreBroken("gone")
        return await self._store.post(command)


@pytest.fixture
async def bed() -> AsyncIterator[Bed]:
    """An empty store."""
    made = Bed()
    yield made
    await made.store.close()
    made.db.close()


async def test_a_task_is_kept_and_logged(bed: Bed) -> None:
    """The operator sees it in the list, and whoever reads the log sees it there."""
    with structlog.testing.capture_logs() as lines:
        await bed.tasks.ask("dispute", "pay_1", "look", "pay_1")
    (row,) = bed.rows()
    assert (row["kind"], row["subject"], row["detail"], row["payment_id"]) == ("dispute", "pay_1", "look", "pay_1")
    assert (row["id"][:5], row["opened_at_ms"]) == ("task_", bed.clock.ms)
    assert lines == [
        {"event": "task.opened", "log_level": "error", "kind": "dispute", "subject": "pay_1", "detail": "look"}
    ]


async def test_a_text_that_is_too_long_is_cut(bed: Bed) -> None:
    """What an endpoint or a vendor makes us say bounds neither the row nor the line."""
    with structlog.testing.capture_logs() as lines:
        await bed.tasks.ask("chain_disagreement", "8453 logs", "x" * (DETAIL_MAX + 1))
    assert [row["detail"] for row in bed.rows()] == ["x" * DETAIL_MAX] == [line["detail"] for line in lines]


async def test_a_repeat_spares_the_store(bed: Bed) -> None:
    """Every call may find the same: within a minute it is one commit, another kind or subject is its own."""
    await asyncio.gather(*(bed.tasks.ask("dispute", "pay_1", "look") for _ in range(100)))
    assert bed.commits == ["OpenTask"]
    await bed.tasks.ask("dispute", "pay_2", "look")
    await bed.tasks.ask("order_lost", "pay_1", "look")
    assert [(row["kind"], row["subject"]) for row in bed.rows()] == [
        *(("dispute", "pay_1"), ("dispute", "pay_2"), ("order_lost", "pay_1"))
    ]


async def test_whoever_asks_the_same_meanwhile_waits_for_the_commit(bed: Bed) -> None:
    """What returns is durable, also for those whose question was asked by another."""
    door = Door(bed.store)
    tasks = Tasks(door, bed.clock, SeededEntropy(random.Random(1)))  # type: ignore[arg-type]
    asking = [asyncio.create_task(tasks.ask("dispute", "pay_1", "look")) for _ in range(3)]
    other = asyncio.create_task(tasks.ask("dispute", "pay_2", "look"))
    await asyncio.sleep(0.01)
    assert door.asked == 2  # another question waits for none
    assert [task.done() for task in asking] == [False, False, False]
    door.open.set()
    await asyncio.gather(other, *asking)
    assert (len(bed.rows()), door.asked) == (2, 2)


async def test_what_could_not_be_asked_is_asked_by_the_next(bed: Bed) -> None:
    """A store that fails, and a caller that goes away, silence nobody: whoever finds it next, or waits already, asks."""
    door = Door(bed.store, fails=1)
    tasks = Tasks(door, bed.clock, SeededEntropy(random.Random(1)))  # type: ignore[arg-type]
    first, second = (asyncio.create_task(tasks.ask("dispute", "pay_1", "look")) for _ in range(2))
    await asyncio.sleep(0.01)
    first.cancel()
    await asyncio.sleep(0.01)
    door.open.set()
    with pytest.raises(StoreBroken):
        await second
    assert bed.rows() == []
    await tasks.ask("dispute", "pay_1", "look")
    assert (first.cancelled(), len(bed.rows()), door.asked) == (True, 1, 3)


async def test_what_is_open_is_not_opened_again(bed: Bed) -> None:
    """After the minute, and after a restart, the store is asked, and nothing is told twice."""
    with structlog.testing.capture_logs() as lines:
        await bed.tasks.ask("dispute", "pay_1", "look")
        bed.clock.ms += AGAIN_MS
        await bed.tasks.ask("dispute", "pay_1", "look again")
        await bed.made_again().ask("dispute", "pay_1", "look again")
    assert len(bed.commits) == 3
    assert ([row["detail"] for row in bed.rows()], len(lines)) == (["look"], 1)


@pytest.mark.parametrize("moved_ms", [AGAIN_MS, -1], ids=["a minute later", "after the clock was set back"])
async def test_what_was_closed_unmended_comes_back(bed: Bed, moved_ms: int) -> None:
    """A human who closed it without mending it is asked again."""
    await bed.tasks.ask("dispute", "pay_1", "look")
    await bed.store.post(CloseTask(bed.rows()[0]["id"], "done", "operator", bed.clock.ms))
    bed.clock.ms += moved_ms
    await bed.tasks.ask("dispute", "pay_1", "look")
    assert [row["closed_at_ms"] is None for row in bed.rows()] == [False, True]


async def test_another_question_about_the_same_thing_is_asked_at_once(bed: Bed) -> None:
    """A second price of what was just decided is news, and waits for no minute."""
    await bed.tasks.ask("price_changed", "vendor rent", "from 1 to 2")
    await bed.store.post(CloseTask(bed.rows()[0]["id"], "approved", "operator", bed.clock.ms))
    await bed.tasks.ask("price_changed", "vendor rent", "from 2 to 9")
    assert [(row["detail"], row["closed_at_ms"] is None) for row in bed.rows()] == [
        *(("from 1 to 2", False), ("from 2 to 9", True))
    ]
