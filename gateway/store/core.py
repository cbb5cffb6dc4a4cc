"""The synchronous heart of the SQLite store: open, migrate, load, and commit groups of decisions.

Must not know asyncio; it runs wherever its caller runs it, in aiosqlite's thread or inline in the simulation.  Theory: a
group of commands is decided one after another in memory and written in one transaction at synchronous=FULL, and nobody
learns a result before COMMIT has returned; if anything raises in between, memory is ahead of the disk, the core is
broken for good and the process must end (restart loads what is durable).
"""

import sqlite3
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import TypeVar

from gateway.core.book import Book, BookRules, Rows
from gateway.core.commands import Command, Result
from gateway.core.decide import apply
from gateway.core.view import Step, step_of
from gateway.store.load import load_book
from gateway.store.reader import SqliteReader
from gateway.store.write import write_rows

BUSY_TIMEOUT_MS = 5_000
# Memory stays flat however large the database grows: what is not in this cache is in the kernel's, a system call away.
PAGE_CACHE_KIB = 8_192
# A group dirties the same few index pages again and again; copying them back four times as seldom costs a 16 MiB log.
CHECKPOINT_PAGES = 4_096


_Bound = TypeVar("_Bound", None, bytes)


class StoreBroken(RuntimeError):  # noqa: N818 - named for what the operator reads
    """A commit failed half-way or a decision raised: memory may be ahead of the disk. Stop and start again."""


def connect(path: Path | str, *, read_only: bool = False) -> sqlite3.Connection:
    """Open the database with the settings that the store's promises rest on."""
    # Without these, Python's sqlite3 looks for an adapter of every None and every bytes that it binds, and finds none.
    sqlite3.register_adapter(type(None), _as_it_is)
    sqlite3.register_adapter(bytes, _as_it_is)
    db = sqlite3.connect(str(path), isolation_level=None, check_same_thread=False, cached_statements=256)
    db.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    db.execute(f"PRAGMA cache_size = -{PAGE_CACHE_KIB}")
    if read_only:
        db.execute("PRAGMA query_only = ON")
        return db
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    db.execute("PRAGMA foreign_keys = ON")
    return db


def _as_it_is(value: _Bound) -> _Bound:
    return value


def migrate(db: sqlite3.Connection) -> int:
    """Bring the schema up to date, each numbered step in a transaction of its own; return its version."""
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    folder = resources.files("gateway.store").joinpath("migrations")
    steps = sorted((entry for entry in folder.iterdir() if entry.name[:4].isdigit()), key=lambda entry: entry.name)
    if version > len(steps):
        raise StoreBroken(f"the database has schema {version}, this program knows {len(steps)}: use a newer program")
    for number, step in enumerate(steps, 1):
        if number > version:
            script = step.read_text(encoding="utf-8")
            db.executescript(f"BEGIN;\n{script}\nPRAGMA user_version = {number};\nCOMMIT;")
    return len(steps)


class StoreCore:
    """One open database and the book over it. Not thread-safe: one caller at a time."""

    def __init__(self, db: sqlite3.Connection, rules: BookRules | None = None) -> None:
        self.db = db
        migrate(db)
        self.book = Book(SqliteReader(db), rules)
        load_book(db, self.book)
        self._broken: BaseException | None = None

    def post(self, commands: Sequence[Command]) -> tuple[list[Result], Step]:
        """Decide and commit a group; return each command's result in order and what became durable.

        Raises StoreBroken, now and for ever after, if anything goes wrong: refusals are results, not errors.
        """
        if self._broken is not None:
            raise StoreBroken("the store stopped after an earlier failure") from self._broken
        try:
            self.db.execute("BEGIN IMMEDIATE")  # before deciding, so that what decisions read takes its locks once
            results = [apply(self.book, command) for command in commands]
            rows = self.book.take_rows()
            step = step_of(rows)
            self._commit(rows)
        except BaseException as error:
            self._broken = error
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            raise StoreBroken(f"a group of {len(commands)} commands failed: {type(error).__name__}") from error
        return results, step

    def _commit(self, rows: Rows) -> None:
        write_rows(self.db, rows)
        self.db.execute("COMMIT")

    def close(self) -> None:
        """Close the connection."""
        self.db.close()
