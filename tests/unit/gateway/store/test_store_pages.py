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
