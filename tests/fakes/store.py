"""The real store without its thread: SqliteStore's own committer, book and statements, run inline on a virtual loop.

The database is a connection in memory that outlives the store, as a file outlives a process: opening a second store on
the same connection is a restart. `before` and `after` are awaited around every commit, so that a scheduler can delay,
interleave or kill there; what was not committed then never was.
"""

import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from gateway.core.book import BookRules
from gateway.store.core import StoreCore, connect
from gateway.store.sqlite import SqliteStore

__all__ = ["InlineStore", "Pause", "copy_of", "memory_database"]

T = TypeVar("T")
Pause = Callable[[str], Awaitable[None]]
"""Awaited with what is about to happen, or has: the commands of a group, '' for a reading."""


def memory_database() -> sqlite3.Connection:
    """Return an empty database, with the settings of the real one."""
    db = connect(":memory:")
    db.row_factory = sqlite3.Row
    return db


def copy_of(db: sqlite3.Connection) -> sqlite3.Connection:
    """Return a backup: a database with the same rows that changes on its own."""
    twin = memory_database()
    db.backup(twin)
    return twin


class _Inline:
    """Stands where the store has aiosqlite's thread: `run` calls the function here and now."""

    def __init__(self, db: sqlite3.Connection, before: Pause, after: Pause) -> None:
        self._conn, self._before, self._after = db, before, after

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        """Return the function's result."""
        commands = arguments[0] if arguments and isinstance(arguments[0], list) else ()
        what = "+".join(sorted({type(command).__name__ for command in commands}))
        await self._before(what)
        result = function(*arguments)
        await self._after(what)
        return result

    async def close(self) -> None:
        """Leave the connection open: it is the disk."""


class InlineStore(SqliteStore):
    """The Store port over one database in memory. Open it with `over`, in the loop that uses it."""

    @classmethod
    def over(
        cls,
        db: sqlite3.Connection,
        rules: BookRules | None,
        *,
        before_commit: Pause,
        after_commit: Pause,
        before_read: Pause,
    ) -> "InlineStore":
        """Load the book from the database and start the committer."""

        async def at_once(_what: str) -> None:
            return None

        writer = _Inline(db, before_commit, after_commit)
        reader = _Inline(db, before_read, at_once)
        return cls(Path("memory"), StoreCore(db, rules), writer, reader, -1)  # type: ignore[arg-type]

    async def close(self) -> None:
        """Commit what is queued; the database stays."""
        self._closing = True
        self._wake.set()
        await self._committer
