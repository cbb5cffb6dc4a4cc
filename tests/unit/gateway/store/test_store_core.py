"""The synchronous core on real files: durable or nothing, and the same again after a restart."""

import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.core import commands as c
from gateway.core.book import BookRules, Rows
from gateway.core.commands import Command, Done
from gateway.core.payment import Delivery, Fault
from gateway.core.server import FleetState, HookDeliveryState, ServerState
from gateway.core.view import View
from gateway.store import core as store_core
from gateway.store.core import StoreBroken, StoreCore, connect, migrate
from gateway.store.load import OPEN_METERS, OPEN_PAYMENTS, PENDING_EVENTS, BookBroken, verify_book
from gateway.store.reader import HAS_CHALLENGE, HAS_EVENT, UNPAID
from gateway.store.write import write_rows
from tests.factories import (
    CHAIN_ID,
    HOUR_MS,
    METERED,
    NOW_MS,
    PAYEE,
    VENDOR,
    book_state,
    dump,
    make_account,
    make_answer,
    make_balance,
    make_budget,
    make_created,
    make_credit,
    make_dead,
    make_delivery,
    make_event,
    make_fleet,
    make_float,
    make_hook,
    make_identity,
    make_key,
    make_meter,
    make_next,
    make_order,
    make_outcome,
    make_outflow,
    make_purchase,
    make_quote,
    make_resource,
    make_server,
    make_settled,
    make_snapshot,
    make_ssh_key,
    make_start,
    make_task,
    open_core,
    post,
    seeded,
)

RULES = BookRules(dispute_cap_base={VENDOR: 9_000_000})
SAME = bytes(32)
# A life of everything: groups of commands after which open, closed, disputed and unanswered things stand side by side.
LIFE: list[list[Command]] = [
    [make_purchase(n, fingerprint=SAME, idempotency_key=f"k{n}") for n in (9, 1, 5)],
    [make_outcome(9, answer=make_answer(9), resource=make_resource(9)), make_settled(9)],
    [c.MarkAnswered("pay_0009"), make_purchase(2), make_purchase(3), make_purchase(4)],
    [make_outcome(2, Delivery.REFUSED, fault=Fault.VENDOR), make_settled(2), make_dead(3)],
    [make_outcome(4, Delivery.REFUSED, fault=Fault.VENDOR), make_settled(4)],
    [c.SetFreeze(f"vendor:{VENDOR}", frozen=False, reason="over", by="me", at_ms=NOW_MS)],
    [make_purchase(6, renews=True, resource_ref="srv_0009"), make_outflow(50)],
    [c.SetFreeze("asset:x", frozen=True, reason="drill", by="me", at_ms=NOW_MS), c.OpenTask(make_task())],
    [c.ApprovePayee(VENDOR, CHAIN_ID, PAYEE, "me", NOW_MS), c.ObservePrice(VENDOR, "a", 1, NOW_MS)],
    [c.ApprovePrice(VENDOR, "b", 2, "me", NOW_MS), c.MoveCursor(CHAIN_ID, 7, bytes(32), 1_000)],
    [c.OpenAccount(make_account(2)), c.AddKey(make_key(2, account_id="acc_2", budgets=(make_budget(2),)))],
    [c.Remember("acc_1", "free", SAME, make_answer(payment_id="")), c.RevokeKey("key_2", "acc_2", NOW_MS)],
    [c.UpdateResource(VENDOR, "srv_0009", "stopped", None, NOW_MS + 5), c.CloseTask("task_1", "done", "me", 9)],
    [make_balance(), make_order(21, idempotency_key="m"), make_order(22), make_order(23), make_identity(wallet=PAYEE)],
    [make_created(21, answer=make_answer(21)), make_created(22, metered=make_start(accepted=False))],
    [c.BillPeriod("pay_0021", NOW_MS + 24 * HOUR_MS), make_outcome(23, Delivery.REFUSED), make_order(24)],
    [make_next(25, make_meter(21, seq=1, held_until_ms=NOW_MS + 24 * HOUR_MS)), c.MarkEnding("met_0021", "asked", 1)],
    [c.EndMeter("met_0022", NOW_MS + HOUR_MS, "gone", NOW_MS + HOUR_MS), make_created(24)],
    [c.TakeEvent(make_event(24)), c.TakeEvent(make_event(25)), c.CloseEvent(METERED, "evt_00000025", NOW_MS)],
    [c.CloseEvent(METERED, "evt_00000024", NOW_MS), c.TakeEvent(make_event(26))],
    [c.Put(each, "made", NOW_MS) for each in (make_fleet(), make_quote(), make_server(1), make_server(2), make_hook())],
    [
        c.Put(make_snapshot(), "made", NOW_MS),
        c.Put(make_ssh_key(), "made", NOW_MS),
        c.Put(make_hook(2), "made", NOW_MS),
    ],
    [c.Put(replace(make_server(1), version=2, ref="r", state=ServerState.RUNNING, warned=("day",)), "running", NOW_MS)],
    [c.FanOut(3, (make_delivery(2), make_delivery(3), make_delivery(3, hook=2)))],
    [
        c.Put(replace(make_server(1), version=3, state=ServerState.LOST, ended_at_ms=NOW_MS), "lost", NOW_MS),
        c.Put(replace(make_server(2), version=2, ref="r"), "provisioning", NOW_MS),
        c.Put(replace(make_hook(2), version=2, deleted_at_ms=NOW_MS), "deleted", NOW_MS),
        c.PutDelivery(make_delivery(2, state=HookDeliveryState.DELIVERED, attempts=1, done_at_ms=NOW_MS)),
    ],
    [c.Put(replace(make_fleet(), version=2, state=FleetState.ENDED, ended_at_ms=NOW_MS), "ended", NOW_MS)],
]


class Crash(Exception):  # noqa: N818 - it stands for the power going off
    """The process ends here."""


class CrashingCore(StoreCore):
    """A core whose commit is cut where `crash` says."""

    crash: Callable[["CrashingCore", Rows], None] | None = None

    def _commit(self, rows: Rows) -> None:
        if self.crash is None:
            super()._commit(rows)
        else:
            type(self).crash(self, rows)  # type: ignore[misc]


def before_rows(_: CrashingCore, __: Rows) -> None:
    """Crash between the decision and its first row."""
    raise Crash


def before_commit(core: CrashingCore, rows: Rows) -> None:
    """Crash when every row is written and none is committed."""
    write_rows(core.db, rows)
    raise Crash


@pytest.mark.parametrize("at", range(len(LIFE) + 1))
def test_a_restart_finds_the_same_book_and_view(tmp_path: Path, at: int) -> None:
    """After each group of a life, what is loaded from disk is deeply equal to what was in memory."""
    core = seeded(open_core(tmp_path, RULES), key=make_key(budgets=(make_budget(limit_base=10**9),)))
    view = View()
    view.load(core.book)
    for group in LIFE[:at]:
        results, step = core.post(group)
        assert all(isinstance(r, Done) for r in results), results
        view.advance(step)
    state, end = book_state(core.book), verify_book(core.db)
    core.close()
    again = open_core(tmp_path, RULES)
    assert book_state(again.book) == state
    assert verify_book(again.db) == end == (again.book.chain.seq, again.book.chain.head)
    loaded = View()
    loaded.load(again.book)
    assert loaded == view
    assert post(again, make_credit(99)) == Done()
    again.close()


@pytest.mark.parametrize("crash", [before_rows, before_commit])
def test_a_crash_before_commit_leaves_the_disk_as_it_was(
    tmp_path: Path, crash: Callable[[CrashingCore, Rows], None]
) -> None:
    """Decided and not committed is not done: the core is broken for good, the disk unchanged, a restart goes on."""
    core = open_core(tmp_path, core=CrashingCore)
    seeded(core)
    disk, state = dump(core), book_state(core.book)
    CrashingCore.crash = crash
    try:
        with pytest.raises(StoreBroken) as caught:
            core.post([make_purchase(1), make_credit(2)])
    finally:
        CrashingCore.crash = None
    assert isinstance(caught.value.__cause__, Crash)
    assert not core.db.in_transaction
    assert dump(core) == disk
    for _ in range(2):
        with pytest.raises(StoreBroken, match="stopped after an earlier failure"):
            core.post([make_credit(3)])
    assert dump(core) == disk
    core.close()
    again = open_core(tmp_path)
    assert book_state(again.book) == state
    assert isinstance(post(again, make_purchase(1)), Done)
    again.close()


def test_a_crash_after_commit_has_happened(tmp_path: Path) -> None:
    """If the process dies when COMMIT has returned, a restart knows the purchase although nobody was told."""
    core = seeded(open_core(tmp_path, core=CrashingCore))

    def after_commit(self: CrashingCore, rows: Rows) -> None:
        StoreCore._commit(self, rows)
        raise Crash

    CrashingCore.crash = after_commit
    try:
        with pytest.raises(StoreBroken):
            core.post([make_purchase(1)])
    finally:
        CrashingCore.crash = None
    core.close()
    again = open_core(tmp_path)
    assert set(again.book.open_payments) == {"pay_0001"}
    again.close()


def test_a_decision_that_raises_breaks_the_store(tmp_path: Path) -> None:
    """A bug in a decision costs the whole group and the process, never half a group."""
    core = seeded(open_core(tmp_path))
    disk = dump(core)
    with pytest.raises(StoreBroken):
        core.post([make_purchase(1), make_credit(2, amount_base=0)])
    assert dump(core) == disk
    with pytest.raises(StoreBroken):
        core.post([])
    core.close()


def test_a_group_is_durable_for_other_connections_when_post_returns(tmp_path: Path) -> None:
    """Whoever opens the file then finds every row of the group."""
    core = seeded(open_core(tmp_path))
    core.post([make_purchase(1), make_purchase(2)])
    other = connect(tmp_path / "gateway.db", read_only=True)
    assert other.execute("SELECT COUNT(*) FROM payments").fetchone() == (2,)
    with pytest.raises(sqlite3.OperationalError):
        other.execute("DELETE FROM payments")
    other.close()
    core.close()


def test_the_connection_keeps_the_stores_promises(tmp_path: Path) -> None:
    """Every commit is synced in full, in WAL, with foreign keys on."""
    core = open_core(tmp_path)
    pragma = {
        name: core.db.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous", "foreign_keys")
    }
    assert pragma == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
    core.close()


# the database's own backstops


@pytest.fixture
def core(tmp_path: Path) -> StoreCore:
    """A core on a file with one open payment."""
    opened = seeded(open_core(tmp_path))
    opened.post([make_purchase(1)])
    return opened


@pytest.mark.parametrize(
    ("code", "side"),
    [("agent:acc_1", "debits_posted"), ("agent:acc_1", "debits_pending"), ("wallet:%", "credits_pending")],
)
def test_a_forged_overdraft_trips_a_check(core: StoreCore, code: str, side: str) -> None:
    """Even if memory were wrong, the database takes no balance below zero (P2, P7), and a trip is a crash."""
    account = next(a for a in core.book.ledger.accounts() if a.code.startswith(code.rstrip("%")))
    disk = dump(core)
    setattr(account, side, getattr(account, side) + 10**12)
    core.book.rows.accounts[account.id] = account
    with pytest.raises(StoreBroken) as caught:
        core.post([])
    assert isinstance(caught.value.__cause__, sqlite3.IntegrityError)
    assert dump(core) == disk


FORGERIES = {
    "a second authorization of the same identity": "INSERT INTO authorizations "
    "SELECT chain_id, token, authorizer, nonce, 'x' FROM authorizations",
    "a hold closed twice": "INSERT INTO transfers SELECT 100 + n, 3, debit_id, credit_id, amount_base, id, payment_id, 1, "
    "agent_id FROM transfers, (SELECT 1 AS n UNION SELECT 2) WHERE phase = 1 AND agent_id IS NOT NULL",
    "a closing that closes nothing": "INSERT INTO transfers VALUES (100, 2, 1, 2, 5, NULL, NULL, 1, NULL)",
    "a transfer of nothing": "INSERT INTO transfers VALUES (100, 0, 1, 2, 0, NULL, NULL, 1, NULL)",
    "a transfer to itself": "INSERT INTO transfers VALUES (100, 0, 1, 1, 5, NULL, NULL, 1, NULL)",
    "a transfer from nowhere": "INSERT INTO transfers VALUES (100, 0, 99, 1, 5, NULL, NULL, 1, NULL)",
    "a capture without settlement": "UPDATE payments SET charge = 'captured', closed_at_ms = 1",
    "a closed charge without a time": "UPDATE payments SET charge = 'voided'",
    "a capture above the hold": "UPDATE payments SET captured_base = hold_base + 1",
    "a settlement above the promise": "UPDATE payments SET settled_base = value_base + 1",
    "a state that is none": "UPDATE payments SET delivery = 'perhaps'",
    "a payment of nobody": "UPDATE payments SET account_id = 'acc_9'",
    "a payment without its hold": "UPDATE payments SET hold_transfer_id = 99",
    "a journal row twice": "INSERT INTO journal SELECT * FROM journal",
    "text where an amount belongs": "UPDATE payments SET hold_base = 'nine'",
    "a short hash": "INSERT INTO evidence VALUES (1, 'settled', 1, 1, x'00', 1, NULL, NULL, NULL, 0, '[]', 0)",
    "a log without its index": "INSERT INTO evidence VALUES "
    "(1, 'settled', 1, 1, zeroblob(32), 1, zeroblob(32), NULL, NULL, 0, '[]', 0)",
    "a log twice": "INSERT INTO evidence SELECT n, 'outflow', 1, 1, zeroblob(32), 1, zeroblob(32), 1, NULL, 0, '[]', 0 FROM "
    "(SELECT 1 AS n UNION SELECT 2)",
    "two proofs of one payment": "INSERT INTO evidence "
    "SELECT n, 'unused', 1, 1, zeroblob(32), 1, NULL, NULL, 'pay_0001', 0, '[]', 0 FROM (SELECT 1 AS n UNION SELECT 2)",
    "two open tasks of a kind": "INSERT INTO tasks SELECT 't' || n, 'k', 's', '', 1, NULL, NULL, NULL FROM "
    "(SELECT 1 AS n UNION SELECT 2)",
    "a key of nobody": "UPDATE api_keys SET account_id = 'acc_9'",
    "a credit to nobody": "UPDATE credits SET account_id = 'acc_9'",
    "an authorization without a nonce": "UPDATE payments SET nonce = NULL",
    "an authorization without a window": "UPDATE payments SET valid_before_s = NULL",
    "an authorization without a wallet": "UPDATE payments SET wallet = NULL",
    "a fee below nothing": "UPDATE payments SET fee_base = -1",
    "a kind that is none": "UPDATE payments SET kind = 'cash'",
    "a period of no meter": "UPDATE payments SET kind = 'account', chain_id = NULL, token = NULL, wallet = NULL, "
    "pay_to = NULL, nonce = NULL",
    "a period that signs": "UPDATE payments SET kind = 'account', meter_id = 'm', period = 1, starts_at_ms = 1, ends_at_ms = 2",
    "an authorization with a period": "UPDATE payments SET meter_id = 'm', period = 1, starts_at_ms = 1, ends_at_ms = 2",
    "an event twice": "INSERT INTO vendor_events SELECT 'v', 'e', 'k', 'r', 's', n, n, NULL FROM "
    "(SELECT 1 AS n UNION SELECT 2)",
    "a reference twice": "INSERT INTO credits SELECT * FROM credits",
}


@pytest.mark.parametrize("name", FORGERIES)
def test_the_database_refuses(core: StoreCore, name: str) -> None:
    """What no decision may leave, no row can hold."""
    with pytest.raises(sqlite3.IntegrityError):
        core.db.execute(FORGERIES[name])


def test_two_open_renewals_of_a_resource_cannot_be_stored(core: StoreCore) -> None:
    """The database backs the rule that one renewal is open at a time."""
    core.post([make_purchase(2), make_purchase(3)])
    core.db.execute("UPDATE payments SET renews = 1, resource_ref = 'srv' WHERE id = 'pay_0002'")
    with pytest.raises(sqlite3.IntegrityError):
        core.db.execute("UPDATE payments SET renews = 1, resource_ref = 'srv' WHERE id = 'pay_0003'")


def test_an_authorization_pays_for_one_purchase(core: StoreCore) -> None:
    """The same nonce under another payment is a bug that the database stops, with nothing kept (P13)."""
    disk = dump(core)
    with pytest.raises(StoreBroken) as caught:
        core.post([make_purchase(2, terms=make_purchase(1).payment.terms)])
    assert isinstance(caught.value.__cause__, sqlite3.IntegrityError)
    assert dump(core) == disk


METER_FORGERIES = {
    "a period twice": "UPDATE payments SET meter_id = 'met_0021', period = 1 WHERE kind = 'account'",
    "a period without an end": "UPDATE payments SET ends_at_ms = starts_at_ms WHERE kind = 'account'",
    "a mark twice": "UPDATE meters SET token = 'same'",
    "a meter of nobody": "UPDATE meters SET account_id = 'acc_9'",
    "a meter of no key": "UPDATE meters SET key_id = 'key_9'",
    "a meter that ended at no time": "UPDATE meters SET state = 'ended'",
    "a meter that ended and runs": "UPDATE meters SET ended_at_ms = 1",
    "a state that is none": "UPDATE meters SET state = 'lost'",
    "a loss beyond the bill": "UPDATE meters SET lost_base = billed_base + 1",
    "a challenge twice": "INSERT INTO challenges SELECT * FROM challenges",
}


@pytest.mark.parametrize("name", METER_FORGERIES)
def test_the_database_refuses_of_meters(core: StoreCore, name: str) -> None:
    """What no decision may leave of metered things and proofs, no row can hold."""
    core.post([make_order(21), make_order(22), make_created(21), make_identity()])
    with pytest.raises(sqlite3.IntegrityError):
        core.db.execute(METER_FORGERIES[name])


@pytest.mark.parametrize("forgery", ["DELETE FROM meters", "UPDATE meters SET state = 'ended', ended_at_ms = 1"])
def test_a_held_period_without_its_meter_is_not_trusted(tmp_path: Path, forgery: str) -> None:
    """Nobody would ever settle it: the book does not load."""
    core = seeded(open_core(tmp_path))
    post(core, make_order(21))
    core.db.execute(forgery)
    core.close()
    with pytest.raises(BookBroken, match="met_0021"):
        open_core(tmp_path)


def test_what_a_purchase_asks_of_the_disk_has_not_grown(core: StoreCore) -> None:
    """A purchase on chain is one row each of payment, authorization, attempt, journal, and two reservations."""
    said: list[str] = []
    core.db.set_trace_callback(said.append)
    core.post([make_purchase(2)])
    core.db.set_trace_callback(None)
    writes = [text.split(" ")[0] + " " + text.split(" ")[2] for text in said if text.startswith("INSERT")]
    assert sorted(writes) == [
        "INSERT attempts",
        "INSERT authorizations",
        "INSERT journal",
        "INSERT payments",
        "INSERT transfers",
        "INSERT transfers",
    ]
    assert sum(text.startswith("UPDATE") for text in said) == 4  # agent, wallet, and both sides of the exchange


@pytest.mark.parametrize(
    ("query", "values", "index"),
    [
        (UNPAID, ("acc_1", 0), "payments_unpaid"),
        (HAS_CHALLENGE, ("v", "c"), "PRIMARY KEY"),
        (HAS_EVENT, ("v", "e"), "PRIMARY KEY"),
        (PENDING_EVENTS, (), "vendor_events_pending"),
        (OPEN_METERS, (), "meters_open"),
        (OPEN_PAYMENTS, (), "payments_open"),
    ],
)
def test_each_question_has_its_index(core: StoreCore, query: str, values: tuple[object, ...], index: str) -> None:
    """What is asked for every purchase, or at every start, is found without reading a table."""
    plan = " ".join(str(row[3]) for row in core.db.execute(f"EXPLAIN QUERY PLAN {query}", values))
    assert index in plan


# migrations


def schema(db: sqlite3.Connection) -> list[tuple[str, str]]:
    """Return name and definition of everything in the database."""
    return db.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()


def test_a_fresh_schema_equals_a_migrated_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Applying the steps one start at a time gives the schema that applying them all at once gives."""
    fresh = sqlite3.connect(":memory:", isolation_level=None)
    count = migrate(fresh)
    steps = sorted((Path(store_core.__file__).parent / "migrations").glob("[0-9]*.sql"))
    assert [int(step.name[:4]) for step in steps] == list(range(1, count + 1))
    path = tmp_path / "old.db"
    for number, step in enumerate(steps, 1):
        old = sqlite3.connect(path, isolation_level=None)
        old.executescript(f"BEGIN;\n{step.read_text(encoding='utf-8')}\nPRAGMA user_version = {number};\nCOMMIT;")
        old.close()
        resumed = sqlite3.connect(":memory:", isolation_level=None)
        with sqlite3.connect(path) as source:
            source.backup(resumed)
        source.close()
        assert migrate(resumed) == count
        assert schema(resumed) == schema(fresh)


def test_migrating_again_changes_nothing(tmp_path: Path) -> None:
    """A database that is up to date is left alone."""
    core = seeded(open_core(tmp_path))
    disk = dump(core)
    assert migrate(core.db) == core.db.execute("PRAGMA user_version").fetchone()[0]
    assert dump(core) == disk
    core.close()


def test_a_newer_database_is_refused(tmp_path: Path) -> None:
    """An older program never touches what a newer one wrote."""
    core = seeded(open_core(tmp_path))
    disk = dump(core)
    core.db.execute("PRAGMA user_version = 999")
    core.close()
    with pytest.raises(StoreBroken, match=r"schema 999, .* use a newer program"):
        open_core(tmp_path)
    db = connect(tmp_path / "gateway.db")
    assert db.execute("SELECT COUNT(*) FROM journal").fetchone()[0] == len(disk["journal"])
    db.close()


def test_all_tables_are_strict() -> None:
    """SQLite keeps no text where an integer belongs."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    migrate(db)
    tables = db.execute(
        "SELECT name, strict FROM pragma_table_list WHERE schema = 'main' AND type = 'table'"
    ).fetchall()
    assert len(tables) > 10
    assert [name for name, strict in tables if not strict and not name.startswith("sqlite_")] == []


def test_empty_groups_are_allowed(tmp_path: Path) -> None:
    """A group of nothing commits nothing."""
    core = seeded(open_core(tmp_path))
    disk = dump(core)
    assert core.post([])[0] == []
    assert dump(core) == disk
    core.close()


def test_a_float_survives_as_integers_of_any_size(tmp_path: Path) -> None:
    """The largest amount goes in and comes back."""
    core = open_core(tmp_path)
    core.post([make_float(10**15)])
    core.close()
    again = open_core(tmp_path)
    assert max(a.debits_posted for a in again.book.ledger.accounts()) == 10**15
    again.close()
