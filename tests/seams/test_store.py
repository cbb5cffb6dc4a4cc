"""The Store port: one suite on the embedded store with its thread and file, and on the simulation's inline store."""

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import structlog

from gateway.core import commands as c
from gateway.core.book import Rows
from gateway.core.commands import Attached, Command, Done, Refused, Result
from gateway.core.paid import ReceiptState, RelayState, SettlementState, TopUpState
from gateway.core.paid_commands import MoveTillCursor, PutSeller
from gateway.core.payment import Charge, Delivery, Transfer
from gateway.core.server import ServerState
from gateway.core.view import Balance, Step, View
from gateway.ports import ServerCost
from gateway.store.core import StoreBroken, StoreCore, connect
from gateway.store.load import verify_book
from gateway.store.sqlite import SqliteStore, StoreInUse
from tests.factories import (
    ASSET,
    NOW_MS,
    TOKEN,
    VENDOR,
    WALLET,
    make_account,
    make_answer,
    make_attempt,
    make_credit,
    make_delivery,
    make_event,
    make_fleet,
    make_float,
    make_hook,
    make_key,
    make_outcome,
    make_purchase,
    make_quote,
    make_resource,
    make_server,
    make_settled,
    make_snapshot,
    make_ssh_key,
)
from tests.fakes.store import InlineStore, copy_of, memory_database
from tests.paid_factories import (
    RELAYER,
    TILL,
    book,
    claim,
    credited,
    digest,
    make_relay,
    make_seller,
    make_settlement,
    make_topup,
    make_wallet,
    move,
    newer,
    paying,
    put,
    refund,
)

SEEDS: list[Command] = [
    c.OpenAccount(make_account()),
    c.AddKey(make_key()),
    make_credit(amount_base=450_000_000),
    make_float(10_000_000_000),
]


@dataclass
class Bed:
    """A store, and a look at its disk that owes nothing to it."""

    store: SqliteStore
    disk: Callable[[], sqlite3.Connection]
    reopen: Callable[[], Awaitable[SqliteStore]]


async def at_once(_what: str) -> None:
    """Do not wait."""


async def other_tasks_first(_what: str) -> None:
    """Let other tasks run, as a thread would."""
    await asyncio.sleep(0)


def over(db: sqlite3.Connection) -> InlineStore:
    """Return an inline store that lets other tasks run around each commit."""
    return InlineStore.over(
        db, None, before_commit=other_tasks_first, after_commit=other_tasks_first, before_read=at_once
    )


@pytest.fixture(params=["sqlite", "inline"])
async def bed(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bed]:
    """A store with a funded account that covers fifty purchases of USD 9, and a wallet that covers many more."""
    opened: list[SqliteStore] = []
    database = memory_database()
    path = tmp_path / "gateway.db"

    async def start() -> SqliteStore:
        opened.append(over(database) if request.param == "inline" else await SqliteStore.open(path))
        return opened[-1]

    async def reopen() -> SqliteStore:
        await opened[-1].close()
        return await start()

    def disk() -> sqlite3.Connection:
        return copy_of(database) if request.param == "inline" else connect(path, read_only=True)

    store = await start()
    for command in SEEDS:
        await store.post(command)
    yield Bed(store, disk, reopen)
    with contextlib.suppress(StoreBroken, ZeroDivisionError):  # what a test broke on purpose
        await opened[-1].close()


def count(db: sqlite3.Connection, table: str) -> int:
    """Return the number of rows, and close the connection."""
    found = int(db.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0])
    db.close()
    return found


async def test_two_hundred_concurrent_purchases_on_a_balance_for_fifty(bed: Bed) -> None:
    """Exactly fifty holds are made, the others are refused, nobody owes, and the disk says the same (P2)."""
    results = await asyncio.gather(*(bed.store.post(make_purchase(n)) for n in range(1, 201)))
    done = [r for r in results if isinstance(r, Done)]
    refused = [r.code for r in results if isinstance(r, Refused)]
    assert (len(done), refused) == (50, ["insufficient_balance"] * 150)
    assert bed.store.view.balances["acc_1"] == Balance(0, 450_000_000)
    assert bed.store.view.wallets["0x" + WALLET.hex(), ASSET].held_base == 450_000_000
    disk = bed.disk()
    lowest = "SELECT MIN(credits_posted - debits_posted - debits_pending) FROM ledger_accounts WHERE floored AND side"
    assert disk.execute(lowest).fetchone()[0] == 0
    verify_book(disk)
    assert count(disk, "payments") == 50


async def test_concurrent_repeats_of_one_purchase_make_one_hold(bed: Bed) -> None:
    """Whatever arrives under one Idempotency-Key at once is one purchase; the others attach to it."""
    fingerprint = make_purchase(1).payment.fingerprint
    purchases = [make_purchase(n, idempotency_key="k", fingerprint=fingerprint) for n in range(1, 41)]
    results = await asyncio.gather(*map(bed.store.post, purchases))
    assert [r for r in results if isinstance(r, Attached)] == [Attached("pay_0001")] * 39
    assert bed.store.view.balances["acc_1"].held_base == 9_000_000


async def test_a_result_is_told_only_when_it_is_durable(bed: Bed) -> None:
    """Whoever has a result finds its rows through a connection of his own (P3)."""

    async def buy(n: int) -> None:
        assert isinstance(await bed.store.post(make_purchase(n)), Done)
        disk = bed.disk()
        assert disk.execute("SELECT charge FROM payments WHERE id = ?", (f"pay_{n:04}",)).fetchone()[0] == Charge.HELD
        disk.close()
        assert f"pay_{n:04}" in bed.store.view.open_payments

    await asyncio.gather(*(buy(n) for n in range(1, 21)))


async def test_order_is_kept(bed: Bed) -> None:
    """Commands are decided in the order in which they were posted, across groups as well."""
    steps: list[Command] = []
    for n in range(1, 40):
        steps += [
            make_purchase(n),
            make_outcome(n, answer=make_answer(n)),
            make_settled(n),
            c.MarkAnswered(f"pay_{n:04}"),
        ]
    results = await asyncio.gather(*map(bed.store.post, steps))
    assert all(isinstance(r, Done) and r.changed for r in results)
    disk = bed.disk()
    kinds = [row[0] for row in disk.execute("SELECT kind FROM journal WHERE payment_id = 'pay_0039' ORDER BY seq")]
    assert kinds == ["payment.held", "payment.outcome", "payment.settled", "payment.captured"]
    held = [row[0] for row in disk.execute("SELECT payment_id FROM journal WHERE kind = 'payment.held' ORDER BY seq")]
    assert held == sorted(held)
    disk.close()


async def test_a_cancelled_waiter_stops_nobody_and_its_command_still_counts(bed: Bed) -> None:
    """Giving up waiting is not taking back: the command is committed, and everybody else is told."""
    tasks = [asyncio.create_task(bed.store.post(make_purchase(n))) for n in range(1, 11)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(r) for r in results] == [asyncio.CancelledError, Done] * 5
    assert isinstance(await bed.store.post(make_purchase(11)), Done)
    assert len(bed.store.view.open_payments) == 11
    assert count(bed.disk(), "payments") == 11


async def test_an_exception_in_a_waiter_stops_nobody(bed: Bed) -> None:
    """What a waiter does with its result is its own affair."""

    async def fail(n: int) -> None:
        await bed.store.post(make_purchase(n))
        raise ZeroDivisionError

    results = await asyncio.gather(*(fail(n) for n in range(1, 6)), return_exceptions=True)
    assert [type(r) for r in results] == [ZeroDivisionError] * 5
    assert isinstance(await bed.store.post(make_purchase(6)), Done)
    assert not bed.store.broken


async def test_a_restart_finds_the_same_view(bed: Bed) -> None:
    """What the view showed before is what it shows after."""
    commands: Sequence[Command] = [
        make_purchase(1, idempotency_key="k"),
        make_outcome(1, answer=make_answer(), resource=make_resource()),
        make_settled(1),
        make_purchase(2),
        make_outcome(2, Delivery.UNKNOWN),
        c.SetFreeze("vendor:x", frozen=True, reason="drill", by="me", at_ms=NOW_MS),
    ]
    for command in commands:
        await bed.store.post(command)
    before = bed.store.view
    again = await bed.reopen()
    assert again.view == before
    assert set(again.view.open_payments) == {"pay_0002"}


async def test_an_event_is_taken_once_however_often_it_comes(bed: Bed) -> None:
    """P13: sent twenty times at once it is news once; it is pending until it is closed, and known for ever, restarts or not."""
    event = make_event(1)
    results = await asyncio.gather(*(bed.store.post(c.TakeEvent(event)) for _ in range(20)))
    assert sorted(r.changed for r in results if isinstance(r, Done)) == [False] * 19 + [True]
    again = await bed.reopen()
    assert again.view.events == {event.vendor: {event.event_id: event}}
    assert await again.post(c.CloseEvent(event.vendor, event.event_id, NOW_MS)) == Done()
    assert await again.post(c.CloseEvent(event.vendor, event.event_id, NOW_MS)) == Done(changed=False)
    assert again.view.events == {}
    last = await bed.reopen()
    assert await last.post(c.TakeEvent(event)) == Done(changed=False)
    assert last.view.events == {}
    assert count(bed.disk(), "vendor_events") == 1


async def test_reading_finds_what_was_posted(bed: Bed) -> None:
    """Payment, attempt, answer, claim, resource and named statements answer from what is committed; nothing is None."""
    store = bed.store
    await store.post(make_purchase(1, idempotency_key="k"))
    held = await store.payment("pay_0001")
    assert held is not None
    assert (held.axes.transfer, held.axes.charge) == (Transfer.PRESENTED, Charge.HELD)
    assert await store.attempt("pay_0001") == make_attempt()
    assert await store.answer("pay_0001") is None
    await store.post(make_outcome(1, answer=make_answer(), resource=make_resource()))
    await store.post(make_settled(1))
    closed = await store.payment("pay_0001")
    assert closed is not None
    assert (closed.axes.charge, closed.captured_base) == (Charge.CAPTURED, 9_000_000)
    assert await store.answer("pay_0001") == make_answer()
    assert await store.resource(VENDOR, "srv_0001") == make_resource()
    claimed = await store.claimed("acc_1", "k")
    assert claimed is not None
    assert (claimed.fingerprint, claimed.payment_id, claimed.answer) == (held.fingerprint, "pay_0001", None)
    await store.post(c.Remember("acc_1", "free", bytes(32), make_answer(payment_id="")))
    free = await store.claimed("acc_1", "free")
    assert free is not None
    assert (free.payment_id, free.answer) == (None, make_answer(payment_id=""))
    rows = await store.query("SELECT id, hold_base FROM payments WHERE vendor = ?", (VENDOR,))
    assert [dict(row) for row in rows] == [{"id": "pay_0001", "hold_base": 9_000_000}]
    missing: list[Any] = [
        await store.payment("x"),
        await store.attempt("x"),
        await store.answer("x"),
        await store.claimed("acc_1", "x"),
        await store.resource(VENDOR, "x"),
    ]
    assert missing == [None] * 5


# the neutral API's records

RUNNING = replace(
    make_server(1, fleet_id="flt_0001", quote_id="quo_0001"),
    version=2,
    state=ServerState.RUNNING,
    ref="srv_0001",
    payment_id="pay_0001",
)
LOST = replace(make_server(2), version=2, state=ServerState.LOST, ended_at_ms=NOW_MS)
KEPT: list[Command] = [
    c.Put(make_quote(), "made", NOW_MS),
    c.Put(make_fleet(), "created", NOW_MS),
    c.Put(make_server(1, fleet_id="flt_0001", quote_id="quo_0001"), "ordered", NOW_MS),
    c.Put(make_server(2), "ordered", NOW_MS),
    c.Put(make_snapshot(1), "created", NOW_MS),
    c.Put(make_snapshot(2), "created", NOW_MS),
    c.Put(make_ssh_key(1), "added", NOW_MS),
    c.Put(make_ssh_key(2), "added", NOW_MS),
    c.Put(replace(make_ssh_key(2), version=2, deleted_at_ms=NOW_MS), "deleted", NOW_MS),
    c.Put(make_hook(), "created", NOW_MS),
    make_purchase(1, idempotency_key="create srv_0001 0"),
    make_outcome(1, resource=make_resource(1)),
    make_settled(1),
    make_purchase(2, renews=True, resource_ref="srv_0001"),
    c.Put(RUNNING, "running", NOW_MS),
    c.Put(LOST, "lost", NOW_MS),
    c.FanOut(5, (make_delivery(4), make_delivery(5))),
]


async def test_records_of_the_neutral_api_are_found_by_their_ids_before_and_after_a_restart(bed: Bed) -> None:
    """Open or over, each is read as it was kept; the view holds what is open, and again so from disk."""
    for command in KEPT:
        assert await bed.store.post(command) == Done() or not isinstance(command, c.Put | c.FanOut)
    before, store = bed.store.view, bed.store
    for restarted in (False, True):
        store = await bed.reopen() if restarted else store
        assert store.view == before
        assert (store.view.servers, store.view.fleets) == ({"srv_0001": RUNNING}, {"flt_0001": make_fleet()})
        assert (set(store.view.hooks), set(store.view.deliveries)) == (
            {"hook_0001"},
            {("hook_0001", 4), ("hook_0001", 5)},
        )
        assert store.view.told_seq == 5
        assert (await store.server("srv_0001"), await store.server("srv_0002")) == (RUNNING, LOST)
        assert await store.record("server", "srv_0002") == LOST
        assert await store.record("quote", "quo_0001") == make_quote()
        assert await store.record("snapshot", "snp_0001") == make_snapshot()
        assert await store.record("fleet", "flt_0001") == make_fleet()
        assert await store.record("hook", "hook_0001") == make_hook()
        assert await store.servers_of_fleet(make_fleet()) == (RUNNING,)
        assert await store.snapshots_of_server("srv_0001") == (make_snapshot(1), make_snapshot(2))
        assert await store.ssh_keys("acc_1") == (make_ssh_key(1),)
        missing: list[Any] = [await store.server("x"), await store.record("quote", "x")]
        assert missing == [None] * 2
    verify_book(bed.disk())


async def test_what_a_server_cost_and_what_renewed_it_are_read_as_committed(bed: Bed) -> None:
    """Its order is captured and its renewal held; the server that was lost cost nothing."""
    for command in KEPT:
        await bed.store.post(command)
    assert await bed.store.server_cost(RUNNING) == ServerCost(9_000_000, 9_000_000)
    assert await bed.store.server_cost(LOST) == ServerCost(0, 0)
    assert [payment.id for payment in await bed.store.renewals(RUNNING, 5)] == ["pay_0002"]
    assert await bed.store.renewals(LOST, 5) == ()


async def test_the_journal_is_read_row_by_row(bed: Bed) -> None:
    """From any row on, as many as are asked for, each as it was sealed."""
    for command in KEPT:
        await bed.store.post(command)
    rows = await bed.store.journal(0, 1_000)
    assert [row.seq for row in rows] == list(range(1, bed.store.view.journal_seq + 1))
    assert rows[-1].digest == bed.store.view.journal_head
    assert await bed.store.journal(3, 2) == rows[3:5]


async def test_a_client_token_is_an_idempotency_key_in_use(bed: Bed) -> None:
    """Whoever asks what a key stands for is told of orders too: another request's key is refused before it acts."""
    for command in KEPT[:3]:
        await bed.store.post(command)
    for order in (make_server(1), make_fleet(1)):
        claimed = await bed.store.claimed("acc_1", order.client_token)
        assert claimed is not None
        assert (claimed.fingerprint, claimed.payment_id, claimed.answer) == (order.fingerprint, None, None)
        assert await bed.store.claimed("acc_2", order.client_token) is None


async def test_concurrent_repeats_of_one_order_make_one_server(bed: Bed) -> None:
    """Whatever arrives under one client token at once is one order; the others are told of it."""
    same = {"client_token": "once", "fingerprint": bytes(32)}
    results = await asyncio.gather(
        *(bed.store.post(c.Put(make_server(n, **same), "ordered", NOW_MS)) for n in range(1, 41))
    )
    assert results == [Done(), *[Attached("srv_0001")] * 39]
    assert count(bed.disk(), "servers") == 1


async def test_of_two_changes_of_one_version_one_is_kept(bed: Bed) -> None:
    """However many flows move a server at once, none undoes what it has not seen."""
    await bed.store.post(c.Put(make_server(1), "ordered", NOW_MS))
    changes = [c.Put(replace(make_server(1), version=2, name=str(n)), "changed", NOW_MS) for n in range(20)]
    results = await asyncio.gather(*map(bed.store.post, changes))
    assert results[0] == Done()
    assert [r.code for r in results[1:] if isinstance(r, Refused)] == ["changed_meanwhile"] * 19
    assert bed.store.view.servers["srv_0001"].name == "0"


async def test_a_listener_hears_of_each_step_once_the_view_shows_it(bed: Bed) -> None:
    """It is called in the order of the commits, before whoever posted goes on, and no more once it has left."""
    heard: list[tuple[int, bool]] = []

    def listen(step: Step) -> None:
        heard.extend((len(heard), name in bed.store.view.servers) for name in step.rows.servers)

    bed.store.view.listeners.add(listen)
    for n in (1, 2, 3):
        await bed.store.post(c.Put(make_server(n), "ordered", NOW_MS))
        assert heard == [(i, True) for i in range(n)]
    bed.store.view.listeners.discard(listen)
    await bed.store.post(c.Put(make_server(4), "ordered", NOW_MS))
    assert len(heard) == 3


async def test_a_listener_that_raises_is_told_of_and_stops_nobody(bed: Bed) -> None:
    """The others are called, the committer goes on, and the loop's handler has the error."""
    loop, told, heard = asyncio.get_running_loop(), list[BaseException](), list[Step]()

    def fail(_: Step) -> None:
        raise ZeroDivisionError

    loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
    bed.store.view.listeners.add(fail)
    bed.store.view.listeners.add(heard.append)
    for n in (1, 2):
        assert await bed.store.post(c.Put(make_server(n), "ordered", NOW_MS)) == Done()
    loop.set_exception_handler(None)
    assert [type(error) for error in told] == [ZeroDivisionError] * 2
    assert [list(step.rows.servers) for step in heard] == [["srv_0001"], ["srv_0002"]]
    assert not bed.store.broken


async def test_a_listener_may_leave_while_it_is_told(bed: Bed) -> None:
    """One that leaves at its first step, and takes another with it, changes nothing for the rest."""
    listeners, heard = bed.store.view.listeners, list[str]()

    def once(_: Step) -> None:
        heard.append("once")
        listeners.discard(once)
        listeners.discard(never)

    def never(_: Step) -> None:
        heard.append("never")

    def always(_: Step) -> None:
        heard.append("always")

    for each in (once, never, always):
        listeners.add(each)
    for n in (1, 2):
        await bed.store.post(c.Put(make_server(n), "ordered", NOW_MS))
    assert heard == ["once", "always", "always"]
    assert (len(listeners), always in listeners, once in listeners) == (1, True, False)


async def test_a_bug_breaks_the_store_for_everybody_and_for_good(bed: Bed) -> None:
    """If a decision raises, all who wait are told, nothing of the group is kept, and no later post is taken."""
    before = count(bed.disk(), "journal")
    wrong = make_credit(2, amount_base=0)
    results = await asyncio.gather(
        *(bed.store.post(command) for command in (make_purchase(1), wrong, make_purchase(2))), return_exceptions=True
    )
    assert [type(r) for r in results] == [StoreBroken] * 3
    assert bed.store.broken
    for n in (3, 4):
        with pytest.raises(StoreBroken):
            await bed.store.post(make_purchase(n))
    assert count(bed.disk(), "journal") == before
    with pytest.raises(StoreBroken):
        await asyncio.shield(bed.store._committer)


async def test_a_failing_view_leaves_nobody_waiting(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever ends the committer, those who wait are told that the store stopped."""

    def fail(_: View, __: Step) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(View, "advance", fail)
    async with asyncio.timeout(30):
        results = await asyncio.gather(*(bed.store.post(make_purchase(n)) for n in (1, 2)), return_exceptions=True)
    assert [type(r) for r in results] == [StoreBroken] * 2
    assert bed.store.broken
    with pytest.raises(ZeroDivisionError):
        await asyncio.shield(bed.store._committer)


async def test_closing_commits_what_is_queued(bed: Bed) -> None:
    """Who posted before the end is answered; who posts after it is not taken."""
    tasks = [asyncio.create_task(bed.store.post(make_purchase(n))) for n in range(1, 31)]
    await asyncio.sleep(0)
    again = await bed.reopen()
    assert all(isinstance(r, Done) for r in await asyncio.gather(*tasks))
    assert len(again.view.open_payments) == 30
    with pytest.raises(StoreBroken, match="closed"):
        await bed.store.post(make_purchase(99))


# what only the file has


class FullDisk(StoreCore):
    """A core whose disk fills up when it is told to."""

    full = False

    def _commit(self, rows: Rows) -> None:
        if self.full:
            raise sqlite3.OperationalError("database or disk is full")
        super()._commit(rows)


async def test_a_full_disk_stops_the_store_and_a_restart_goes_on(tmp_path: Path) -> None:
    """A failed commit is told as unknown, later posts are refused, closing works, and the file is as it was."""
    path = tmp_path / "gateway.db"
    store = await SqliteStore.open(path, core=FullDisk)
    for command in SEEDS:
        await store.post(command)
    core = store._core
    assert isinstance(core, FullDisk)
    core.full = True
    with structlog.testing.capture_logs() as logs:
        with pytest.raises(StoreBroken):
            await store.post(make_purchase(1))
        await asyncio.sleep(0)
    core.full = False
    (stopped,) = (entry for entry in logs if entry["event"] == "store.stopped")  # the one place that says why
    assert (stopped["log_level"], stopped["error"]) == ("critical", "OperationalError")
    assert "disk is full" in repr(stopped["exc_info"].__cause__)
    with pytest.raises(StoreBroken):
        await store.post(make_purchase(1))
    await store.close()
    again = await SqliteStore.open(path)
    assert again.view.open_payments == {}
    assert isinstance(await again.post(make_purchase(1)), Done)
    await again.close()


async def test_a_database_has_one_owner(tmp_path: Path) -> None:
    """A second opener is turned away until the first has closed, by whatever name; balances have one owner (P2)."""
    path = tmp_path / "gateway.db"
    store = await SqliteStore.open(path)
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "linked.db"
    link.symlink_to(path)
    for name in (path, link):
        with pytest.raises(StoreInUse):
            await SqliteStore.open(name)
    assert isinstance(await store.post(c.OpenAccount(make_account())), Done)
    await store.close()
    again = await SqliteStore.open(path)
    assert "acc_1" in again.view.agent_accounts
    await again.close()


async def test_who_asks_for_a_proof_while_one_runs_is_told_what_it_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proof reads everything: asking again, or giving up, starts no second one."""
    begun, under_way, go_on = list[Path](), threading.Event(), threading.Event()

    def slow(path: Path, _called_off: Callable[[], bool]) -> str | None:
        begun.append(path)
        under_way.set()
        go_on.wait(10)
        return "row 7"

    monkeypatch.setattr("gateway.store.sqlite.first_contradiction", slow)
    store = await SqliteStore.open(tmp_path / "gateway.db")
    gone = asyncio.create_task(store.contradiction())
    assert await asyncio.to_thread(under_way.wait, 10)
    gone.cancel()
    again = asyncio.create_task(store.contradiction())
    await asyncio.sleep(0.01)
    go_on.set()
    assert (await again, len(begun)) == ("row 7", 1)
    assert (await store.contradiction(), len(begun)) == ("row 7", 2)
    await store.close()


async def test_closing_calls_a_proof_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However large the books are, Ctrl-C and a stop of the service wait for a proof no longer than its next question."""
    under_way = threading.Event()

    def endless(db: sqlite3.Connection) -> None:
        under_way.set()
        db.execute("WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n").fetchone()

    monkeypatch.setattr("gateway.store.load.PROOFS", (endless,))
    store = await SqliteStore.open(tmp_path / "gateway.db")
    asked = asyncio.create_task(store.contradiction())
    assert await asyncio.to_thread(under_way.wait, 10)
    async with asyncio.timeout(10):
        await store.close()
    with pytest.raises(StoreBroken, match="before the proof was done"):
        await asked


async def test_a_database_that_cannot_be_opened_is_let_go(tmp_path: Path) -> None:
    """A newer schema is refused with its reason, and neither lock nor thread stays behind."""
    path = tmp_path / "gateway.db"
    await (await SqliteStore.open(path)).close()
    db = connect(path)
    known = db.execute("PRAGMA user_version").fetchone()[0]
    db.execute("PRAGMA user_version = 999")
    db.close()
    for _ in range(2):
        with pytest.raises(StoreBroken, match="use a newer program"):
            await SqliteStore.open(path)
    db = connect(path)
    db.execute(f"PRAGMA user_version = {known}")
    db.close()
    await (await SqliteStore.open(path)).close()


async def test_only_the_owner_may_read_the_file(tmp_path: Path) -> None:
    """Database and lock are the operator's alone."""
    path = tmp_path / "data" / "gateway.db"
    store = await SqliteStore.open(path)
    await store.post(c.OpenAccount(make_account()))
    modes = {p.name: oct(p.stat().st_mode & 0o777) for p in path.parent.iterdir()}
    names = ("gateway.db", "gateway.db-shm", "gateway.db-wal", "gateway.db.lock")
    assert modes == dict.fromkeys(names, "0o600")
    await store.close()


async def test_concurrent_posts_share_commits(tmp_path: Path) -> None:
    """A thousand commands at once cost a few commits, a lone one costs one."""

    class Counting(StoreCore):
        commits = 0

        def _commit(self, rows: Rows) -> None:
            Counting.commits += 1
            super()._commit(rows)

    store = await SqliteStore.open(tmp_path / "gateway.db", core=Counting)
    await store.post(c.OpenAccount(make_account()))
    assert Counting.commits == 1
    results: list[Result] = await asyncio.gather(*(store.post(make_credit(n)) for n in range(1_000)))
    assert all(isinstance(r, Done) for r in results)
    assert Counting.commits <= 5
    await store.close()


# being paid


async def test_one_authorization_claimed_two_hundred_times_is_one(bed: Bed) -> None:
    """P13 under concurrency: one claim, and everybody else attaches to it."""
    results = await asyncio.gather(*(bed.store.post(claim(1, id=f"stl_{n:04}")) for n in range(1, 201)))
    assert [r for r in results if isinstance(r, Done)] == [Done()]
    assert [r for r in results if isinstance(r, Attached)] == [Attached("stl_0001")] * 199
    assert await bed.store.settlement_of(make_settlement(1).identity) == make_settlement(1)
    assert count(bed.disk(), "settlements") == 1


async def test_one_payment_for_many_orders_and_one_order_with_many_payments(bed: Bed) -> None:
    """P13 under concurrency: a payment is one order's, and an order has one payment."""
    results = await asyncio.gather(*(bed.store.post(put(paying(n, payment=1))) for n in range(1, 31)))
    assert [r.code for r in results if isinstance(r, Refused)] == ["payment_reused"] * 29
    results = await asyncio.gather(*(bed.store.post(put(paying(99, payment=n))) for n in range(50, 80)))
    assert [r.code for r in results if isinstance(r, Refused)] == ["topup_taken"] * 29
    assert set(bed.store.view.topups) == {"top_0001", "top_0099"}


async def test_a_log_that_is_booked_by_everybody_is_credited_once(bed: Bed) -> None:
    """P13 under concurrency, and over a restart."""
    await bed.store.post(put(paying(1)))
    commands = [book(1, id=f"rcv_{n:04}", topup=credited(paying(1))) for n in range(1, 21)]
    results = await asyncio.gather(*map(bed.store.post, commands))
    assert [r.changed for r in results if isinstance(r, Done)] == [True, *[False] * 19]
    store = await bed.reopen()
    assert await store.post(commands[5]) == Done(changed=False)
    assert store.view.balances["acc_1"].available_base == 455_000_000
    disk = bed.disk()
    verify_book(disk)
    disk.close()


async def test_concurrent_refunds_and_purchases_never_overdraw(bed: Bed) -> None:
    """P2: the balance, the receipt and the till bound them all together."""
    await bed.store.post(book(1, account_id="acc_1", refundable=True))
    commands: list[Command] = [command for n in range(1, 61) for command in (refund(n), make_purchase(n))]
    results = await asyncio.gather(*map(bed.store.post, commands))
    assert sum(isinstance(r, Done) for r in results[::2]) == 2
    assert sum(isinstance(r, Done) for r in results[1::2]) == 50
    assert bed.store.view.balances["acc_1"] == Balance(1_000_000, 454_000_000)
    disk = bed.disk()
    verify_book(disk)
    disk.close()


async def test_a_restart_finds_the_same_view_of_being_paid(bed: Bed) -> None:
    """What the view showed before is what it shows after, of every kind of record."""
    sent = newer(make_settlement(1), state=SettlementState.SENT, relay_id="rly_0001")
    for command in (
        claim(1),
        claim(2),
        move("sent", make_relay(1), sent),
        put(paying(3)),
        put(make_topup(4), "ordered"),
        book(5, account_id="acc_1", refundable=True),
        book(6, wallet=make_wallet(1)),
        refund(1, receipt=5),
        PutSeller(make_seller(), "operator", NOW_MS),
        MoveTillCursor(8453, ((TILL, TOKEN),), 77, digest("77")),
    ):
        assert isinstance(await bed.store.post(command), Done)
    before = bed.store.view
    after = (await bed.reopen()).view
    assert before == after
    assert set(after.settlements) == {"stl_0001", "stl_0002"}
    assert (set(after.relays), set(after.topups), set(after.refunds)) == (
        {"rly_0001"},
        {"top_0003", "top_0004"},
        {"ref_0001"},
    )
    assert after.till_cursors == {(8453, TILL, TOKEN): (77, digest("77"))}


async def test_records_of_being_paid_are_read_open_or_over(bed: Bed) -> None:
    """By id, by what is unique about them, and by their account, page by page."""
    store = bed.store
    await store.post(claim(1))
    relay = make_relay(1)
    await store.post(move("sent", relay, newer(make_settlement(1), state=SettlementState.SENT, relay_id=relay.id)))
    assert await store.relay(relay.id) == relay
    failed = newer(store.view.settlements["stl_0001"], state=SettlementState.FAILED, ended_at_ms=NOW_MS)
    await store.post(move("failed", newer(relay, state=RelayState.FINAL, fee_wei=900), failed))
    assert await store.settlement("stl_0001") == await store.settlement_of(failed.identity) == failed
    kept = await store.relay(relay.id)
    assert kept is not None
    assert (kept.state, kept.relayer, kept.fee_wei) == (RelayState.FINAL, RELAYER, 900)

    order = paying(2, tx_hash=digest("tempo"))
    await store.post(put(order))
    assert await store.topup_of_hash(digest("tempo")) == await store.topup("top_0002") == order
    await store.post(book(2, topup=credited(order), refundable=True))
    paid = await store.topup_of(order.identity or (0, b"", b"", b""))
    assert paid is not None
    assert (paid.state, paid.receipt_id) == (TopUpState.CREDITED, "rcv_0002")
    assert await store.topup_by_token("acc_1", "topup 2") == paid
    assert await store.topup_by_token(None, "topup 2") is None
    assert await store.topups_of("acc_1", "~", 10) == (paid,)

    for n in (3, 4):
        await store.post(book(n, account_id="acc_1"))
        await store.post(book(n + 10))
    receipt = await store.incoming("rcv_0003")
    assert receipt is not None
    assert receipt.state is ReceiptState.CREDITED
    assert await store.incoming_of_log(8453, receipt.tx_hash, receipt.log_index) == receipt
    assert [r.id for r in await store.receipts_of("acc_1", "rcv_0002", 1)] == ["rcv_0003"]
    assert [r.id for r in await store.unclaimed("", 10)] == ["rcv_0013", "rcv_0014"]
    assert [r.id for r in await store.unclaimed("rcv_0013", 10)] == ["rcv_0014"]

    await store.post(refund(1, receipt=2))
    known = await store.refund("ref_0001")
    assert known is not None
    assert known == store.view.refunds["ref_0001"]
    assert await store.refund_by_token(known.account_id, known.client_token) == known
    assert await store.refund_by_token("acc_2", known.client_token) is None
    assert [r.id for r in await store.refunds_of("acc_1")] == ["ref_0001"]
    ended = newer(make_seller(), ended_at_ms=NOW_MS)
    await store.post(PutSeller(make_seller(), "operator", NOW_MS))
    await store.post(PutSeller(ended, "operator", NOW_MS))
    assert await store.seller("acc_1") == ended
    found = await store.claimed("acc_1", "refund 1")
    assert found is not None
    assert (found.fingerprint, found.payment_id, found.answer) == (digest("refund 1"), None, None)
    for missing in (store.settlement("x"), store.relay("x"), store.topup("x"), store.incoming("x"), store.refund("x")):
        assert await missing is None


async def test_a_seller_bears_his_share_of_what_failed(bed: Bed) -> None:
    """Gas of transactions that carried a failed settlement of his, divided by what they carried, since a time."""
    for n in (1, 2, 3):
        await bed.store.post(claim(n))
    both = make_relay(1, "stl_0001", "stl_0002", purpose="batch")
    sent = [newer(make_settlement(n), state=SettlementState.SENT, relay_id=f"rly_000{1 + n // 3}") for n in (1, 2, 3)]
    await bed.store.post(move("sent", both, *sent[:2]))
    await bed.store.post(move("sent", make_relay(2, "stl_0003"), sent[2]))
    assert await bed.store.gas_burnt_wei("acc_1", 0) == 0
    failed = newer(sent[1], state=SettlementState.FAILED, ended_at_ms=NOW_MS)
    good = newer(sent[0], state=SettlementState.FINAL)
    await bed.store.post(move("final", newer(both, state=RelayState.FINAL, fee_wei=10**20 + 1), good, failed))
    alone = newer(sent[2], state=SettlementState.FAILED, ended_at_ms=NOW_MS + 5)
    await bed.store.post(move("failed", newer(make_relay(2, "stl_0003"), state=RelayState.FINAL, fee_wei=7), alone))
    assert await bed.store.gas_burnt_wei("acc_1", 0) == 10**20 // 2 + 1 + 7
    assert await bed.store.gas_burnt_wei("acc_1", NOW_MS + 1) == 7
    assert await bed.store.gas_burnt_wei("acc_2", 0) == 0
    assert await bed.store.burners("acc_1", 0) == {failed.authorizer: 2}
    assert await bed.store.burners("acc_1", NOW_MS + 1) == {failed.authorizer: 1}
    assert await bed.store.burners("acc_2", 0) == {}
