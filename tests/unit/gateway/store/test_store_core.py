"""The synchronous core on real files: durable or nothing, and the same again after a restart."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.core import commands as c
from gateway.core.book import BookRules, Rows
from gateway.core.commands import Command, Done
from gateway.core.payment import Delivery, Fault
from gateway.core.view import View
from gateway.store import core as store_core
from gateway.store.core import StoreBroken, StoreCore, connect, migrate
from gateway.store.load import verify_book
from gateway.store.write import write_rows
from tests.factories import (
    CHAIN_ID,
    NOW_MS,
    PAYEE,
    VENDOR,
    book_state,
    dump,
    make_account,
    make_answer,
    make_budget,
    make_credit,
    make_dead,
    make_float,
    make_key,
    make_outcome,
    make_outflow,
    make_purchase,
    make_resource,
    make_settled,
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
    [c.MarkAnswered("pay_0009", NOW_MS), make_purchase(2), make_purchase(3), make_purchase(4)],
    [make_outcome(2, Delivery.REFUSED, fault=Fault.VENDOR), make_settled(2), make_dead(3)],
    [make_outcome(4, Delivery.REFUSED, fault=Fault.VENDOR), make_settled(4)],
    [c.SetFreeze(f"vendor:{VENDOR}", frozen=False, reason="over", by="me", at_ms=NOW_MS)],
    [make_purchase(6, renews=True, resource_ref="srv_0009"), make_outflow(50)],
    [c.SetFreeze("asset:x", frozen=True, reason="drill", by="me", at_ms=NOW_MS), c.OpenTask(make_task())],
    [c.ApprovePayee(VENDOR, CHAIN_ID, PAYEE, "me", NOW_MS), c.ObservePrice(VENDOR, "a", 1, NOW_MS)],
    [c.ApprovePrice(VENDOR, "b", 2, "me", NOW_MS), c.MoveCursor(CHAIN_ID, 7, bytes(32), 1_000, NOW_MS)],
    [c.OpenAccount(make_account(2)), c.AddKey(make_key(2, account_id="acc_2", budgets=(make_budget(2),)))],
    [c.Remember("acc_1", "free", SAME, make_answer(payment_id="")), c.RevokeKey("key_2", "acc_2", NOW_MS)],
    [c.UpdateResource(VENDOR, "srv_0009", "stopped", None, NOW_MS + 5), c.CloseTask("task_1", "done", "me", 9)],
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


def before_begin(_: CrashingCore, __: Rows) -> None:
    """Crash between the decision and the transaction."""
    raise Crash


def before_rows(core: CrashingCore, _: Rows) -> None:
    """Crash in an empty transaction."""
    core.db.execute("BEGIN IMMEDIATE")
    raise Crash


def before_commit(core: CrashingCore, rows: Rows) -> None:
    """Crash when every row is written and none is committed."""
    core.db.execute("BEGIN IMMEDIATE")
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


@pytest.mark.parametrize("crash", [before_begin, before_rows, before_commit])
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
    "a short hash": "INSERT INTO evidence VALUES (1, 'settled', 1, 1, x'00', 1, NULL, NULL, NULL, 0, '[]')",
    "a log without its index": "INSERT INTO evidence VALUES "
    "(1, 'settled', 1, 1, zeroblob(32), 1, zeroblob(32), NULL, NULL, 0, '[]')",
    "a log twice": "INSERT INTO evidence SELECT n, 'outflow', 1, 1, zeroblob(32), 1, zeroblob(32), 1, NULL, 0, '[]' FROM "
    "(SELECT 1 AS n UNION SELECT 2)",
    "two proofs of one payment": "INSERT INTO evidence "
    "SELECT n, 'unused', 1, 1, zeroblob(32), 1, NULL, NULL, 'pay_0001', 0, '[]' FROM (SELECT 1 AS n UNION SELECT 2)",
    "two open tasks of a kind": "INSERT INTO tasks SELECT 't' || n, 'k', 's', '', 1, NULL, NULL, NULL FROM "
    "(SELECT 1 AS n UNION SELECT 2)",
    "a key of nobody": "UPDATE api_keys SET account_id = 'acc_9'",
    "a credit to nobody": "UPDATE credits SET account_id = 'acc_9'",
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
