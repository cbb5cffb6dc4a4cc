"""What has no index of its own is found all the same, and a book of the schema before stays the same book."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from gateway.core import commands as c
from gateway.core.book import BookRules
from gateway.core.commands import Command, Done
from gateway.core.payment import Delivery, Fault
from gateway.store import core as store_core
from gateway.store import queries
from gateway.store.core import StoreCore, connect
from gateway.store.load import (
    ANSWERS_OF_OPEN,
    OPEN_TRANSFERS,
    UNPAID_ACCOUNTS,
    BookBroken,
    first_contradiction,
    verify_book,
)
from gateway.store.reader import CHARGES, CLAIM, CLAIM_OR_ORDER, HAS_ANSWER, HAS_EVIDENCE
from gateway.store.sqlite import ANSWER, ATTEMPT, CLAIMED
from gateway.store.verify_meters import verify_meters
from gateway.store.verify_tasks import verify_tasks
from tests.factories import (
    HOUR_MS,
    NOW_MS,
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
    make_float,
    make_key,
    make_order,
    make_outcome,
    make_outflow,
    make_purchase,
    make_settled,
    open_core,
    seeded,
)

SCHEMA_BEFORE = 3
RULES = BookRules(dispute_cap_base={VENDOR: 9_000_000})
# Captured, dead after delivery, refunded, disputed, open; a metered thing with a billed and an open period; an outflow.
LIFE: list[list[Command]] = [
    [make_purchase(n, idempotency_key=f"k{n}") for n in (5, 1, 4, 2, 3)],
    [make_outcome(1, answer=make_answer(1)), make_settled(1), c.MarkAnswered("pay_0001")],
    [make_outcome(2, answer=make_answer(2)), make_dead(2), make_outcome(3, answer=make_answer(3))],
    [make_outcome(4, Delivery.REFUSED, fault=Fault.VENDOR), make_settled(4)],
    [make_outcome(5, Delivery.REFUSED, fault=Fault.VENDOR), make_settled(5)],
    [make_balance(), make_order(21), make_order(22), make_created(21), make_created(22)],
    [c.BillPeriod("pay_0021", NOW_MS + 24 * HOUR_MS), make_outflow(50)],
    [c.EndMeter("met_0022", NOW_MS + HOUR_MS, "gone", NOW_MS + HOUR_MS)],
    [c.OpenAccount(make_account(2)), make_credit(2, account_id="acc_2")],
    [c.Remember("acc_1", "free", bytes(32), make_answer(payment_id=""))],
]


@pytest.fixture
def core(tmp_path: Path) -> StoreCore:
    """A core on a file after that life."""
    opened = seeded(open_core(tmp_path, RULES), key=make_key(budgets=(make_budget(limit_base=10**9),)))
    for group in LIFE:
        results, _ = opened.post(group)
        assert all(isinstance(result, Done) for result in results), results
    return opened


@pytest.mark.parametrize(
    ("query", "table"),
    [
        (queries.JOURNAL_OF_PAYMENT, "SELECT seq FROM journal WHERE payment_id = :payment_id ORDER BY seq"),
        (queries.TRANSFERS_OF_PAYMENT, "SELECT id FROM transfers WHERE payment_id = :payment_id ORDER BY id"),
    ],
)
def test_every_row_of_a_payment_is_found(core: StoreCore, query: str, table: str) -> None:
    """P11: what a payment's names lead to is what reading the whole table finds, in order."""
    for (payment_id,) in core.db.execute("SELECT id FROM payments UNION SELECT 'pay_9'").fetchall():
        asked = {"payment_id": payment_id}
        found = [row[0] for row in core.db.execute(query, asked)]
        assert found == [row[0] for row in core.db.execute(table, asked)]
        assert bool(found) == (payment_id != "pay_9")


def test_a_key_leads_to_its_payments(core: StoreCore) -> None:
    """P11: and another account's key, or none, to nothing."""
    asked = {"text": "key_1", "blob": None, "number": 0, "limit": 99}
    payments = {row[0] for row in core.db.execute("SELECT id FROM payments")}
    assert {row[0] for row in core.db.execute(queries.TRACE, asked)} == payments
    assert core.db.execute(queries.TRACE, {**asked, "text": "key_2"}).fetchall() == []


STRAYS = {
    "a reservation of another payment": "UPDATE transfers SET payment_id = 'pay_0001' WHERE id = "
    "(SELECT hold_transfer_id FROM payments WHERE id = 'pay_0003')",
    "a closing of another payment": "UPDATE transfers SET payment_id = 'pay_0001' WHERE pending_id = "
    "(SELECT hold_transfer_id FROM payments WHERE id = 'pay_0002')",
    "a reservation that tells of another row": "UPDATE transfers SET journal_seq = 1 WHERE payment_id = 'pay_0003'",
    "a closing that tells of another row": "UPDATE transfers SET journal_seq = 1 WHERE pending_id = "
    "(SELECT hold_transfer_id FROM payments WHERE id = 'pay_0001')",
}


@pytest.mark.parametrize("name", STRAYS)
def test_the_full_proof_finds_what_no_name_leads_to(core: StoreCore, tmp_path: Path, name: str) -> None:
    """A row that an auditor would not be shown is a contradiction, for the command and for the running service."""
    assert core.db.execute(STRAYS[name]).rowcount > 0
    with pytest.raises(BookBroken, match=r"name|another"):
        verify_book(core.db)
    core.close()
    assert first_contradiction(tmp_path / "gateway.db") is not None


RUNS = "WHERE id = 'met_0021'"
METERS = {
    "whose it is": (f"UPDATE meters SET account_id = 'acc_2' {RUNS}", "account_id is acc_2"),
    "whose balance there it uses": (f"UPDATE meters SET vendor = 'another' {RUNS}", "vendor is another"),
    "its rate": (f"UPDATE meters SET hourly = '0.0001' {RUNS}", r"hourly is 0\.0001"),
    "its rule": (f"UPDATE meters SET while_running = 1 {RUNS}", "while_running is True"),
    "its beginning": (f"UPDATE meters SET running_since_ms = running_since_ms + 1 {RUNS}", "running_since_ms"),
    "what it has cost": (f"UPDATE meters SET accrued = '9' {RUNS}", "accrued is 9"),
    "what was billed": (f"UPDATE meters SET billed_base = billed_base + 1 {RUNS}", "billed_base"),
    "what the house bore": ("UPDATE meters SET lost_base = 1 WHERE id = 'met_0022'", "lost_base is 1"),
    "until when it is billed": (f"UPDATE meters SET billed_until_ms = 1 {RUNS}", "billed_until_ms is 1"),
    "until when it is held": (f"UPDATE meters SET held_until_ms = 1 {RUNS}", "held_until_ms is 1"),
    "its periods": (f"UPDATE meters SET seq = 9 {RUNS}", "seq is 9"),
    "its thing": (f"UPDATE meters SET ref = 'another' {RUNS}", "ref is another"),
    "that it ends": (f"UPDATE meters SET state = 'ending' {RUNS}", "state is ending"),
    "that it was warned of": (f"UPDATE meters SET warned_at_ms = 1 {RUNS}", "warned_at_ms is 1"),
    "when it ended": ("UPDATE meters SET ended_at_ms = 1 WHERE id = 'met_0022'", "ended_at_ms is 1"),
    "that it is gone": (f"DELETE FROM meters {RUNS}", "has no row"),
    "that nobody ordered it": (
        (
            "INSERT INTO meters SELECT 'met_9', vendor, account_id, key_id, kind, 'gw-9', label, hourly, monthly, unit_s, rule, "
            "while_running, created_at_ms, state, ref, running_since_ms, accrued, accrued_until_ms, billed_base, lost_base, "
            f"seq, held_until_ms, billed_until_ms, warned_at_ms, unfunded_at_ms, reason, ended_at_ms FROM meters {RUNS}"
        ),
        "no row of the journal",
    ),
}


@pytest.mark.parametrize("what", METERS)
def test_the_full_proof_runs_every_meter_again(core: StoreCore, what: str) -> None:
    """Whatever a meter says that did not follow from what happened to its thing is found."""
    statement, message = METERS[what]
    core.db.execute("PRAGMA foreign_keys = OFF")
    assert core.db.execute(statement).rowcount > 0
    with pytest.raises(BookBroken, match=f"meter met_.*{message}"):
        verify_meters(core.db)
    with pytest.raises(BookBroken):
        verify_book(core.db)


TASKS = {
    "its kind": ("UPDATE tasks SET kind = 'dispute'", "kind is 'dispute'"),
    "its subject": ("UPDATE tasks SET subject = 'another'", "subject is 'another'"),
    "its words": ("UPDATE tasks SET detail = 'nothing to see' WHERE kind <> 'float_missing'", "detail is 'nothing"),
    "the newest words about a float": (
        "UPDATE tasks SET detail = 'nothing' WHERE kind = 'float_missing'",
        "detail is 'nothing'",
    ),
    "its payment": ("UPDATE tasks SET payment_id = 'pay_0001'", "payment_id is 'pay_0001'"),
    "its time": ("UPDATE tasks SET opened_at_ms = 1", "opened_at_ms is 1"),
    "its end": ("UPDATE tasks SET closed_at_ms = 1, resolution = 'done' WHERE closed_at_ms IS NULL", "closed_at_ms"),
    "what was answered": ("UPDATE tasks SET resolution = 'done' WHERE closed_at_ms > 0", "resolution is 'done'"),
    "that it was asked": ("DELETE FROM tasks WHERE closed_at_ms IS NULL", "has no row"),
    "that nobody asked": ("INSERT INTO tasks SELECT id || '_', 'a', 'b', 'c', 1, NULL, 1, 'd' FROM tasks", "no row of"),
}


@pytest.mark.parametrize("what", TASKS)
def test_the_full_proof_holds_tasks_to_what_was_asked(core: StoreCore, what: str) -> None:
    """A question to a human is neither reworded, nor answered, nor taken away by hand."""
    statement, message = TASKS[what]
    core.post([make_float(10**6, 60), c.CloseTask("task_out_50", "it was us", "operator", NOW_MS + 1)])
    core.post([make_float(10**5, 61)])
    verify_book(core.db)
    assert core.db.execute(statement).rowcount > 0
    with pytest.raises(BookBroken, match=f"task task_.*{message}"):
        verify_tasks(core.db)
    with pytest.raises(BookBroken):
        verify_book(core.db)


def test_a_float_that_was_told_of_by_an_older_version_is_no_contradiction(core: StoreCore) -> None:
    """Rows that do not say which task they reword leave its words unproven, and everything else of it proven."""
    core.post([make_float(10**6, 60)])
    core.db.execute(
        "UPDATE journal SET body = CAST(json_remove(CAST(body AS TEXT), '$.task_id', '$.detail') AS BLOB) "
        "WHERE kind = 'float.missing'"
    )
    core.db.execute("UPDATE tasks SET detail = 'in other words' WHERE kind = 'float_missing'")
    verify_tasks(core.db)
    core.db.execute("UPDATE tasks SET subject = 'another' WHERE kind = 'float_missing'")
    with pytest.raises(BookBroken, match="subject"):
        verify_tasks(core.db)


OUTFLOW = "WHERE kind = 'outflow'"
EVIDENCE = {
    "an outflow's value": (f"UPDATE evidence SET value_base = 1 {OUTFLOW}", "its value_base is 1"),
    "an outflow's transaction": (f"UPDATE evidence SET tx_hash = zeroblob(32) {OUTFLOW}", "its tx_hash"),
    "an outflow's log": (f"UPDATE evidence SET log_index = 9 {OUTFLOW}", "its log_index"),
    "an outflow's block": (f"UPDATE evidence SET block_hash = zeroblob(32) {OUTFLOW}", "its block_hash"),
    "an outflow's witnesses": (f"UPDATE evidence SET witnesses = '[]' {OUTFLOW}", "its witnesses"),
    "an outflow that a payment explains": (f"UPDATE evidence SET payment_id = 'pay_0003' {OUTFLOW}", "its subject"),
    "an outflow that is gone": (f"DELETE FROM evidence {OUTFLOW}", "evidence that is gone"),
    "a log that nobody has seen": (
        (
            "INSERT INTO evidence SELECT id + 1, kind, chain_id, block_number, block_hash, block_time_s, randomblob(32), "
            f"log_index, payment_id, value_base, witnesses, fee_base FROM evidence {OUTFLOW}"
        ),
        "no row of the journal",
    ),
}


@pytest.mark.parametrize("name", EVIDENCE)
def test_the_full_proof_holds_evidence_to_what_was_told_of_it(core: StoreCore, name: str) -> None:
    """P14: what was seen on a chain stays what the journal says was seen, and nothing is beside it."""
    statement, message = EVIDENCE[name]
    verify_book(core.db)
    assert core.db.execute(statement).rowcount > 0
    with pytest.raises(BookBroken, match=message):
        verify_book(core.db)


@pytest.mark.parametrize(
    ("query", "values", "indexes"),
    [
        (OPEN_TRANSFERS, (), ("payments_open", "transfers_closing")),
        (ANSWERS_OF_OPEN, (), ("payments_open",)),
        (UNPAID_ACCOUNTS, (), ("payments_unpaid",)),
        (CLAIM, ("a", "k"), ("PRIMARY KEY",)),
        (CLAIMED, {"account_id": "a", "key": "k"}, ("PRIMARY KEY",)),
        (CLAIM_OR_ORDER, ("a", "k"), ("PRIMARY KEY", "topups_token", "sqlite_autoindex_refunds")),
        (HAS_ANSWER, ("p",), ("sqlite_autoindex_payments_1", "rowid=?")),
        (ANSWER, ("p",), ("sqlite_autoindex_payments_1", "rowid=?")),
        (ATTEMPT, ("p",), ("sqlite_autoindex_payments_1", "PRIMARY KEY (hold_id=?)")),
        (HAS_EVIDENCE, (1, b"", 1), ("evidence_log (tx_hash=? AND chain_id=? AND log_index=?)",)),
        (CHARGES, ("a", "v", 1), ("payments_charged",)),
        (queries.TRACE_OUTFLOW, {"blob": b""}, ("evidence_log",)),
        (queries.JOURNAL_OF_PAYMENT, {"payment_id": "p"}, ("journal_payment", "transfers_closing", "rowid=?")),
        (queries.TRANSFERS_OF_PAYMENT, {"payment_id": "p"}, ("transfers_direct", "transfers_closing", "rowid=?")),
        (queries.ATTEMPTS_OF_PAYMENT, {"payment_id": "p"}, ("sqlite_autoindex_payments_1", "PRIMARY KEY (hold_id=?)")),
    ],
)
def test_each_question_has_its_index(core: StoreCore, query: str, values: Any, indexes: tuple[str, ...]) -> None:
    """What is asked while serving, or at every start, reads no table through."""
    plan = [str(row[3]) for row in core.db.execute(f"EXPLAIN QUERY PLAN {query}", values)]
    for index in indexes:
        assert index in " ".join(plan)
    tables = {row[0] for row in core.db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    scans = [step.split() for step in plan if step.startswith("SCAN") and "INDEX" not in step]
    assert [words for words in scans if words[1] in tables or words[1] in {"p", "t", "a"}] == []


def test_a_book_of_the_schema_before_is_the_same_book(core: StoreCore, tmp_path: Path) -> None:
    """Every row survives the migration where it belongs, and the book that is loaded from them is deeply equal."""
    disk, state, end = dump(core), book_state(core.book), verify_book(core.db)
    core.close()
    old = connect(tmp_path / "old.db")
    steps = sorted((Path(store_core.__file__).parent / "migrations").glob("[0-9]*.sql"))[:SCHEMA_BEFORE]
    for number, step in enumerate(steps, 1):
        old.executescript(f"BEGIN;\n{step.read_text(encoding='utf-8')}\nPRAGMA user_version = {number};\nCOMMIT;")
    old.execute("PRAGMA foreign_keys = OFF")
    old.execute("ATTACH ? AS new", (str(tmp_path / "gateway.db"),))
    for table in disk:
        names = ", ".join(f'"{row[1]}"' for row in old.execute(f"PRAGMA main.table_info({table})"))
        old.execute(f"INSERT INTO main.{table} ({names}) SELECT {names} FROM new.{table}")
    old.execute("DETACH new")
    old.execute("PRAGMA foreign_keys = ON")
    again = StoreCore(old, RULES)
    assert dump(again) == disk
    assert {len(rows) > 0 for table, rows in disk.items() if table in {"claims", "attempts", "answers", "grants"}} == {
        True
    }
    assert book_state(again.book) == state
    assert verify_book(again.db) == end
    assert again.db.execute("PRAGMA foreign_key_check").fetchall() == []
    again.close()


def test_a_payment_has_one_attempt_and_one_answer(core: StoreCore) -> None:
    """A second one of a payment's hold fails loudly."""
    for table in ("attempts", "answers"):
        with pytest.raises(sqlite3.IntegrityError):
            core.db.execute(f"INSERT INTO {table} SELECT * FROM {table} LIMIT 1")
