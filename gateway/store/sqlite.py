"""The embedded store: SQLite behind the `Store` port, with grouped commits.

Must not know what the commands mean.  Theory: whatever arrives while one group is being committed becomes the next
group, so a lone command costs one fsync and a thousand concurrent ones cost one fsync too; waiters are told one by one,
and none of them can stop the committer.
"""

import asyncio
import contextlib
import fcntl
import os
import sqlite3
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite
import structlog

from gateway.core.book import BookRules
from gateway.core.commands import Command, Result
from gateway.core.journal import Record
from gateway.core.kept import SERVER
from gateway.core.records import Answer, Attempt, Meter, Payment, Resource
from gateway.core.server import Fleet, Kept, Server, Snapshot, SshKey
from gateway.core.view import Listener, Step, View
from gateway.ports import ClaimedAnswer, ServerCost
from gateway.store import columns as col
from gateway.store import queries
from gateway.store.core import StoreBroken, StoreCore, connect
from gateway.store.kept_columns import TABLES
from gateway.store.load import first_contradiction
from gateway.store.paid_store import PaidReading
from gateway.store.reader import CHARGES, PAYMENT, RESOURCE, THINGS, ordered_with

GROUP_MAX = 1_024

_T = TypeVar("_T")

log = structlog.get_logger()

PAYMENT_OF = (
    f"SELECT {col.PAYMENT_COLUMNS} FROM payments WHERE id = (SELECT payment_id FROM authorizations "  # noqa: S608
    "WHERE chain_id = ? AND token = ? AND authorizer = ? AND nonce = ?)"
)
ATTEMPT = (
    "SELECT a.payment_id, a.seq, a.value_base, a.valid_before_s, a.sealed_request, a.created_at_ms FROM payments p "
    "JOIN attempts a ON a.hold_id = p.hold_transfer_id WHERE p.id = ? ORDER BY a.seq DESC LIMIT 1"
)
METER = f"SELECT {col.METER_COLUMNS} FROM meters WHERE id = ?"  # noqa: S608
ANSWER = (
    "SELECT a.payment_id, a.status, a.sealed, a.at_ms FROM payments p JOIN answers a ON a.hold_id = p.hold_transfer_id "
    "WHERE p.id = ?"
)
# A client token is an Idempotency-Key too: what it ordered has no answer here, and is no other request's.
CLAIMED = (
    "SELECT fingerprint, payment_id, status, sealed, at_ms FROM claims "  # noqa: S608 - names are ours
    "WHERE account_id = :account_id AND idempotency_key = :key UNION ALL "
    + ordered_with("fingerprint, NULL, NULL, NULL, created_at_ms", ":account_id", ":key")
)


class StoreInUse(RuntimeError):  # noqa: N818 - named for what the operator reads
    """Another process owns this database. There is one owner of balances at a time."""


class _Thread(aiosqlite.Connection):
    """aiosqlite's connection, opened to run a whole function in its thread: one hop for a whole group."""

    _ending: asyncio.Future[object] | None = None

    async def opened(self) -> None:
        """Open it. Raises what opening raises, after the thread has ended: one that outlives its loop complains of it."""
        try:
            await self
        except BaseException:
            if self._ending is not None:
                await self._ending
            raise

    def stop(self) -> asyncio.Future[object] | None:
        """Ask the thread to end, and remember what tells that it has; aiosqlite does so unheard where opening fails."""
        self._ending = super().stop()
        return self._ending

    async def run(self, function: Callable[..., _T], *arguments: object) -> _T:
        """Return the function's result."""
        return await self._execute(function, *arguments)  # type: ignore[no-any-return,no-untyped-call]


class SqliteStore(PaidReading):
    """One database file with its one owner. Open it with `open`, in the event loop that uses it."""

    def __init__(self, path: Path, core: StoreCore, writer: _Thread, reader: _Thread, lock: int) -> None:
        self.path, self.view = path, View()
        self.view.load(core.book)
        self._core, self._writer, self._reader, self._lock = core, writer, reader, lock
        self._queue: deque[tuple[Command, asyncio.Future[Result]]] = deque()
        self._wake = asyncio.Event()
        self._closing = False
        self._proof: asyncio.Task[str | None] | None = None
        self._committer = asyncio.create_task(self._commit_groups(), name="store committer")
        self._committer.add_done_callback(_report_end)

    @classmethod
    async def open(cls, path: Path, rules: BookRules | None = None, core: type[StoreCore] = StoreCore) -> "SqliteStore":
        """Open or create the database and load its book. Raises StoreInUse, StoreBroken, BookBroken."""
        lock = _take_lock(path)
        writer: _Thread | None = None
        try:
            opened: list[StoreCore] = []

            def connect_writer() -> sqlite3.Connection:
                opened.append(core(connect(path), rules))
                return opened[0].db

            writer = _Thread(connect_writer, 64)
            await writer.opened()
            reader = _Thread(lambda: _rows(connect(path, read_only=True)), 64)
            await reader.opened()
        except BaseException:
            if writer is not None:
                await writer.close()
            os.close(lock)
            raise
        return cls(path, opened[0], writer, reader, lock)

    async def post(self, command: Command) -> Result:
        """Decide and commit; returns only when durable. Raises StoreBroken if the process must end."""
        if self._closing:
            raise StoreBroken("the store is closed")
        if self._committer.done():
            raise StoreBroken("the store stopped after an earlier failure")
        waiter: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._queue.append((command, waiter))
        self._wake.set()
        return await waiter

    @property
    def broken(self) -> bool:
        """Whether the committer has stopped: nothing can be decided any more and the process must end."""
        return self._committer.done() and not self._closing

    async def _commit_groups(self) -> None:
        group: list[tuple[Command, asyncio.Future[Result]]] = []
        try:
            while not (self._closing and not self._queue):
                await self._wake.wait()
                self._wake.clear()
                while self._queue:
                    count = min(len(self._queue), GROUP_MAX)
                    group = [self._queue.popleft() for _ in range(count)]
                    results, step = await self._writer.run(self._core.post, [command for command, _ in group])
                    self._tell(group, results, step)
        finally:
            self._fail(group)  # whatever ended the committer: nobody may wait for one that is gone

    def _tell(self, group: list[tuple[Command, asyncio.Future[Result]]], results: list[Result], step: Step) -> None:
        self.view.advance(step)
        loop = asyncio.get_running_loop()
        for listener in self.view.listeners:  # each by itself: one that raises is the loop's to log, and stops nobody
            loop.call_soon(self._call, listener, step)
        for (_, waiter), result in zip(group, results, strict=True):
            if not waiter.done():  # a waiter that was cancelled has still had its command committed
                waiter.set_result(result)

    def _call(self, listener: Listener, step: Step) -> None:
        if listener in self.view.listeners:  # it may have stopped listening meanwhile
            listener(step)

    def _fail(self, group: list[tuple[Command, asyncio.Future[Result]]]) -> None:
        for _, waiter in (*group, *self._queue):
            if not waiter.done():
                waiter.set_exception(StoreBroken("the store stopped; a restart will know what was committed"))
        self._queue.clear()

    # reading

    async def _one(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any]) -> tuple[Any, ...] | None:
        def fetch(db: sqlite3.Connection) -> tuple[Any, ...] | None:
            row = db.execute(sql, parameters).fetchone()
            return None if row is None else tuple(row)

        return await self._reader.run(fetch, self._reader._conn)  # noqa: SLF001 - our own subclass's connection

    async def _all(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any]) -> list[tuple[Any, ...]]:
        def fetch(db: sqlite3.Connection) -> list[tuple[Any, ...]]:
            return [tuple(row) for row in db.execute(sql, parameters)]

        return await self._reader.run(fetch, self._reader._conn)  # noqa: SLF001 - our own subclass's connection

    async def payment(self, payment_id: str) -> Payment | None:
        """Return a payment as committed."""
        held = self.view.open_payments.get(payment_id)
        if held is not None:
            return held
        row = await self._one(PAYMENT, (payment_id,))
        return None if row is None else col.payment_from(row)

    async def payment_of(self, identity: tuple[int, bytes, bytes, bytes]) -> Payment | None:
        """Return the payment whose authorization this is."""
        row = await self._one(PAYMENT_OF, identity)
        return None if row is None else col.payment_from(row)

    async def journal_digest(self, seq: int) -> bytes | None:
        """Return the digest of a journal row."""
        row = await self._one("SELECT digest FROM journal WHERE seq = ?", (seq,))
        return None if row is None else bytes(row[0])

    async def attempt(self, payment_id: str) -> Attempt | None:
        """Return the payment's newest attempt."""
        row = await self._one(ATTEMPT, (payment_id,))
        return None if row is None else Attempt(*row)

    async def answer(self, payment_id: str) -> Answer | None:
        """Return the stored answer of a payment."""
        row = await self._one(ANSWER, (payment_id,))
        return None if row is None else Answer(*row)

    async def claimed(self, account_id: str, idempotency_key: str) -> ClaimedAnswer | None:
        """Return what an idempotency key stands for."""
        row = await self._one(CLAIMED, {"account_id": account_id, "key": idempotency_key})
        if row is None:
            return None
        kept = None if row[2] is None else Answer("", row[2], row[3], row[4])
        return ClaimedAnswer(row[0], row[1], kept)

    async def resource(self, vendor: str, ref: str) -> Resource | None:
        """Return a vendor's resource."""
        row = await self._one(RESOURCE, (vendor, ref))
        return None if row is None else col.resource_from(row)

    async def things(self, account_id: str, vendor: str) -> tuple[Resource, ...]:
        """Return everything that an account owns at a vendor, by ref."""
        return tuple(map(col.resource_from, await self._all(THINGS, (account_id, vendor))))

    async def charges(self, account_id: str, vendor: str, limit: int) -> tuple[Payment, ...]:
        """Return an account's newest captured payments at a vendor, newest first."""
        return tuple(map(col.payment_from, await self._all(CHARGES, (account_id, vendor, limit))))

    async def meter(self, meter_id: str) -> Meter | None:
        """Return a meter as committed, ended or not."""
        live = self.view.meters.get(meter_id)
        row = None if live is not None else await self._one(METER, (meter_id,))
        return live if row is None else col.meter_from(row)

    async def server(self, server_id: str) -> Server | None:
        """Return a server as committed, open or not."""
        found = self.view.servers.get(server_id) or await self.record(SERVER, server_id)
        return found if isinstance(found, Server) else None

    async def record(self, kind: str, record_id: str) -> Kept | None:
        """Return a record of the neutral API as committed."""
        table = TABLES[kind]
        row = await self._one(table.by_id, (record_id,))
        return None if row is None else table.record(row)

    async def server_cost(self, server: Server) -> ServerCost:
        """Return what a server has cost and what is held for it."""
        row = await self._one(queries.SERVER_COST, queries.cost_parameters(server))
        return ServerCost(0, 0) if row is None else ServerCost(*row)

    async def renewals(self, server: Server, limit: int) -> tuple[Payment, ...]:
        """Return the newest payments that renewed a server, newest first."""
        asked = {
            "account_id": server.account_id,
            "vendor": server.vendor,
            "ref": server.ref,
            "before": "~",
            "limit": limit,
        }
        return tuple(map(col.payment_from, await self._all(queries.RENEWALS_OF, asked)))

    async def servers_of_fleet(self, fleet: Fleet) -> tuple[Server, ...]:
        """Return every server that was ordered for a fleet, by id."""
        return tuple(map(col.server_from, await self._all(queries.SERVERS_OF_FLEET, {"fleet_id": fleet.id})))

    async def snapshots_of_server(self, server_id: str) -> tuple[Snapshot, ...]:
        """Return every snapshot that was made of a server, by id."""
        rows = await self._all(queries.ALL_SNAPSHOTS_OF_SERVER, {"server_id": server_id})
        return tuple(map(col.snapshot_from, rows))

    async def snapshots_due(self, at_ms: int) -> tuple[Snapshot, ...]:
        """Return every snapshot that is pending or whose time is over by then."""
        rows = await self._all(queries.SNAPSHOTS_DUE, {"at_ms": at_ms})
        return tuple(map(col.snapshot_from, rows))

    async def ssh_keys(self, account_id: str) -> tuple[SshKey, ...]:
        """Return an account's SSH keys that were not deleted, by id."""
        rows = await self._all(queries.ALL_SSH_KEYS_OF_ACCOUNT, {"account_id": account_id})
        return tuple(map(col.ssh_key_from, rows))

    async def journal(self, after: int, limit: int) -> tuple[Record, ...]:
        """Return journal rows after a sequence number, in order."""
        rows = await self._all(queries.JOURNAL_PAGE, {"after": after, "limit": limit})
        return tuple(Record(*row) for row in rows)

    async def query(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> Sequence[Mapping[str, Any]]:
        """Run one of the named statements of gateway.store.queries on the reading connection."""

        def fetch(db: sqlite3.Connection) -> list[dict[str, Any]]:
            return [dict(row) for row in db.execute(sql, parameters)]

        return await self._reader.run(fetch, self._reader._conn)  # noqa: SLF001 - our own subclass's connection

    async def contradiction(self) -> str | None:
        """Prove every row but for the journal's digests, on a connection and in a thread of its own.

        It reads the whole database: whoever asks meanwhile is told what this one finds, and only closing the store calls
        it off. Raises StoreBroken then.
        """
        if self._proof is None or self._proof.done():
            self._proof = asyncio.create_task(
                asyncio.to_thread(first_contradiction, self.path, lambda: self._closing), name="proof of the books"
            )
        try:
            return await asyncio.shield(self._proof)
        except sqlite3.OperationalError as error:
            if self._closing:
                raise StoreBroken("the store was closed before the proof was done") from error
            raise

    async def close(self) -> None:
        """Commit what is queued and close."""
        self._closing = True
        self._wake.set()
        try:
            with contextlib.suppress(StoreBroken):
                await asyncio.shield(self._committer)  # a caller that gives up closing must not cut a commit
            if self._proof is not None:
                await asyncio.gather(
                    self._proof, return_exceptions=True
                )  # whoever asked for it is told; nobody else has to be
        finally:
            await self._writer.close()
            await self._reader.close()
            os.close(self._lock)


def _report_end(committer: "asyncio.Task[None]") -> None:
    """Say why it ended: whoever waits is told only that it did, and whether the disk or a bug of ours is why is not the same."""
    error = None if committer.cancelled() else committer.exception()
    if error is not None:
        log.critical("store.stopped", error=type(error.__cause__ or error).__name__, exc_info=error)


def _rows(db: sqlite3.Connection) -> sqlite3.Connection:
    db.row_factory = sqlite3.Row
    return db


def _take_lock(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    real = path.resolve()  # SQLite follows links too: whatever name it is opened by, it has one owner
    lock = os.open(real.with_name(real.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise StoreInUse(f"{path} is in use by another process") from None
    return lock
