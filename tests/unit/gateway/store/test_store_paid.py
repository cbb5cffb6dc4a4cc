"""The rows of being paid: what the database refuses, what the proof finds, and what the migration keeps."""

import sqlite3
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from gateway.core.paid import RefundState, RelayState, SettlementState, TopUpState
from gateway.core.paid_commands import LendTopUp, PutSeller
from gateway.core.records import HOUSE
from gateway.store import core as store_core
from gateway.store import load_paid, paid_reader, paid_store, queries
from gateway.store.core import StoreCore, connect, migrate
from gateway.store.load import BookBroken, first_contradiction, verify_book
from gateway.store.paid_columns import INCOMING, REFUNDS, RELAYS, SELLERS, SETTLEMENTS, TOPUPS, PaidTable
from gateway.store.reader import ORDER
from tests.factories import NOW_MS, make_evidence, make_identity, make_purchase, open_core, seeded
from tests.paid_factories import (
    Desk,
    book,
    claim,
    credited,
    digest,
    make_incoming,
    make_refund,
    make_relay,
    make_seller,
    make_settlement,
    make_topup,
    make_wallet,
    move,
    moved,
    newer,
    paying,
    put,
    refund,
)

WIDE = 2**256 - 1
TABLES = (SETTLEMENTS, RELAYS, TOPUPS, INCOMING, REFUNDS, SELLERS)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A desk on a file with something of every kind, open and over."""
    opened = Desk(seeded(open_core(tmp_path)))
    opened.post(PutSeller(make_seller(), "operator", NOW_MS), make_purchase(90))
    opened.post(claim(1), claim(2), put(paying(3)), put(paying(4, account_id=None)), put(make_topup(5), "ordered"))
    settlements = [newer(make_settlement(n), state=SettlementState.SENT, relay_id="rly_0001") for n in (1, 2)]
    relay = make_relay(1, "stl_0001", "stl_0002", purpose="batch")
    opened.post(move("sent", relay, *settlements))
    relay = newer(relay, state=RelayState.FINAL, mined_hash=digest("relay 1"), status=1, fee_wei=10**14 + 1)
    final = newer(settlements[0], state=SettlementState.FINAL, tx_hash=digest("relay 1"))
    failed = newer(settlements[1], state=SettlementState.FAILED, reason="reverted", ended_at_ms=NOW_MS + 1)
    opened.post(move("final", relay, final, failed))
    opened.post(claim(3, account_id=HOUSE), move("sent", make_relay(3), newer(make_settlement(3, account_id=HOUSE))))
    opened.post(book(3, topup=credited(paying(3)), refundable=True), book(7))
    opened.post(put(newer(paying(4, account_id=None), account_id="acc_1", state=TopUpState.SEEN), "seen"))
    opened.post(LendTopUp("top_0004", 10**9, 10**9, NOW_MS), book(8, wallet=make_wallet(1), refundable=True))
    opened.post(refund(1, receipt=3), refund(2, receipt=3))
    settled = newer(opened.view.refunds["ref_0001"], state=RefundState.SETTLED)
    opened.post(moved(settled, make_evidence(41, "refunded", payment_id=None, value_base=2_000_000)))
    return opened


# columns


def test_every_field_has_a_column_of_its_own() -> None:
    """Each record's columns are its fields, and the table's columns are these and what is written once."""
    db = open_core().db
    for table in TABLES:
        names = [row[1] for row in db.execute(f"PRAGMA table_info({table.name})")]
        extra = [table.extra] if table.extra else []
        assert sorted([*table.names, *extra]) == sorted(names)
        assert table.names == tuple(each.name for each in fields(table.record))


@pytest.mark.parametrize(
    ("table", "record"),
    [
        (SETTLEMENTS, make_settlement(valid_before_s=WIDE, contract_wallet=True, tx_hash=digest("x"), block_number=7)),
        (RELAYS, newer(make_relay(1, "a", "b"), fee_wei=WIDE, attempts=make_relay(1).attempts * 2, status=0)),
        (TOPUPS, paying(1, raw=b"raw", valid_before_s=WIDE, state=TopUpState.SEEN, lent_base=3, challenge_id="c")),
        (TOPUPS, make_topup(1, account_id=None)),
        (INCOMING, make_incoming(1, refundable=True, note="a note", nonce=None)),
        (REFUNDS, make_refund(1, tx_hash=digest("x"), reason="r", state=RefundState.SENT)),
        (SELLERS, make_seller(gas_budget_wei=WIDE, payees=(bytes(20), b"\x01" * 20), latency_s=0.25)),
    ],
)
def test_records_come_back_whole(table: PaidTable, record: object) -> None:
    """Rows are read as what was written, 256-bit numbers and lists included."""
    assert table.from_row(table.row(record)) == record


# what the database refuses

COPIES = {
    "an authorization claimed twice": (SETTLEMENTS, "stl_0001", {"id": "stl_9"}),
    "an account nonce used twice": (RELAYS, "rly_0001", {"id": "rly_9"}),
    "a client token twice": (TOPUPS, "top_0005", {"id": "top_9"}),
    "a receipt of two orders": (TOPUPS, "top_0003", {"id": "top_9", "client_token": ""}),
    "a log booked twice": (INCOMING, "rcv_0003", {"id": "rcv_9"}),
    "a refund's token twice": (REFUNDS, "ref_0001", {"id": "ref_9"}),
}
FORGERIES = {
    "a payment of two owners": "INSERT INTO authorizations SELECT * FROM authorizations LIMIT 1",
    "a settlement's state that is none": "UPDATE settlements SET state = 'perhaps'",
    "a final settlement without an end": "UPDATE settlements SET ended_at_ms = NULL WHERE state = 'final'",
    "an open settlement with an end": "UPDATE settlements SET ended_at_ms = 1 WHERE state = 'claimed'",
    "a settlement of no transaction": "UPDATE settlements SET relay_id = 'rly_9'",
    "a short nonce": "UPDATE settlements SET nonce = x'00'",
    "no fence": "UPDATE settlements SET fence = 0",
    "a relay's state that is none": "UPDATE relays SET state = 'perhaps'",
    "a final transaction without an end": "UPDATE relays SET ended_at_ms = NULL WHERE state = 'final'",
    "an order of nobody's account": "UPDATE topups SET account_id = 'acc_9'",
    "a credit without a receipt": "UPDATE topups SET receipt_id = NULL WHERE state = 'credited'",
    "a receipt without a credit": "UPDATE topups SET state = 'seen' WHERE state = 'credited'",
    "a credit to nobody": "UPDATE topups SET account_id = NULL WHERE state = 'credited'",
    "a loan that outlasts the order": "UPDATE topups SET ended_at_ms = 1 WHERE lent_base > 0",
    "a loan on nothing": "UPDATE topups SET lent_base = 5 WHERE state = 'open'",
    "a payment without a name": "UPDATE topups SET nonce = NULL WHERE state = 'seen'",
    "half a payment": "UPDATE topups SET payer = NULL WHERE state = 'seen'",
    "an order for nothing": "UPDATE topups SET amount_base = 0",
    "a credit of nobody's account": "UPDATE incoming SET account_id = 'acc_9'",
    "an unclaimed receipt that is somebody's": "UPDATE incoming SET account_id = 'acc_1' WHERE state = 'unclaimed'",
    "a credited receipt that is nobody's": "UPDATE incoming SET account_id = NULL WHERE state = 'credited'",
    "more refunds than there was": "UPDATE incoming SET refunded_base = amount_base + 1",
    "refunds of what goes back nowhere": "UPDATE incoming SET refundable = 0 WHERE refunded_base > 0",
    "a receipt of no order": "UPDATE incoming SET topup_id = 'top_9'",
    "a refund of no receipt": "UPDATE refunds SET receipt_id = 'rcv_9'",
    "a refund of no hold": "UPDATE refunds SET hold_transfer_id = 9999",
    "a settled refund without an end": "UPDATE refunds SET ended_at_ms = NULL WHERE state = 'settled'",
    "an open refund with an end": "UPDATE refunds SET ended_at_ms = 1 WHERE state = 'held'",
    "a wallet twice": "INSERT INTO wallet_accounts SELECT address, 'acc_1', 0 FROM wallet_accounts",
    "a wallet of nobody": "UPDATE wallet_accounts SET account_id = 'acc_9'",
    "a seller of nobody": "UPDATE sellers SET account_id = 'acc_9'",
    "a window of nothing": "UPDATE sellers SET window_s = 0",
    "credit below nothing": "UPDATE grants SET left_base = -1",
    "evidence of another kind": "UPDATE evidence SET kind = 'perhaps'",
    "a challenge twice": "INSERT INTO challenges SELECT * FROM challenges",
}


@pytest.mark.parametrize("what", COPIES)
def test_the_database_keeps_one_of_each(desk: Desk, what: str) -> None:
    """P13 in the schema itself: nothing is what something else is already."""
    table, record_id, changes = COPIES[what]
    record = replace(table.from_row(desk.core.db.execute(table.by_key, (record_id,)).fetchone()), **changes)
    row = table.row(record) + (("acc_1",) if table.extra else ())
    with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
        desk.core.db.execute(table.insert, row)


@pytest.mark.parametrize("what", FORGERIES)
def test_the_database_refuses(desk: Desk, what: str) -> None:
    """What no decision leaves, no row can say."""
    desk.core.post([claim(9), make_identity(1)])
    with pytest.raises(sqlite3.IntegrityError):
        desk.core.db.execute(FORGERIES[what])


# the proof


def test_everything_is_proven_and_a_restart_finds_it(desk: Desk) -> None:
    """P1, P11, P12: the rows agree with journal, evidence and ledger, and loading gives the same book and view."""
    desk.prove()


TAMPERED = {
    "a state that was never told": ("UPDATE topups SET state = 'expired' WHERE id = 'top_0005'", "the journal told"),
    "a version too many": ("UPDATE settlements SET version = version + 1", "the journal told"),
    "a relay that is gone": ("DELETE FROM relays WHERE id = 'rly_0003'", "a record that is gone"),
    "a payment that is another's": ("UPDATE topups SET nonce = zeroblob(32) WHERE id = 'top_0004'", "another's"),
    "a seller's claim that is nobody's": ("DELETE FROM authorizations WHERE payment_id = 'stl_0001'", "a seller's"),
    "a refund's authorization that is nobody's": ("UPDATE refunds SET nonce = zeroblob(32)", "another's"),
    "a receipt of another log": ("UPDATE incoming SET log_index = 99 WHERE id = 'rcv_0003'", "without the log"),
    "a settled refund of another value": ("UPDATE refunds SET value_base = 1 WHERE id = 'ref_0001'", "without the log"),
    "a receipt's evidence removed": ("DELETE FROM evidence WHERE payment_id = 'rcv_0003'", "evidence"),
    "a receipt's evidence moved": ("UPDATE evidence SET log_index = 99 WHERE payment_id = 'rcv_0003'", "its log_index"),
    "a receipt's witnesses": (
        "UPDATE evidence SET witnesses = '[\"me\"]' WHERE payment_id = 'rcv_0008'",
        "its witnesses",
    ),
    "a receipt's block": ("UPDATE evidence SET block_number = 1 WHERE payment_id = 'rcv_0007'", "its block_number"),
    "a refund's evidence removed": ("DELETE FROM evidence WHERE payment_id = 'ref_0001'", "evidence that is gone"),
    "a credit of another amount": ("UPDATE topups SET credited_base = 1 WHERE id = 'top_0003'", "another receipt"),
    "a receipt that forgot a refund": (
        "UPDATE incoming SET refunded_base = 2000000 WHERE id = 'rcv_0003'",
        "another sum",
    ),
    "a refund to a stranger": ('UPDATE refunds SET "to" = zeroblob(20)', "another than the payer"),
    "money that is nobody's any more": ("UPDATE incoming SET amount_base = 1 WHERE id = 'rcv_0007'", "house:unclaimed"),
    "a loan that was forgotten": ("UPDATE topups SET lent_base = 0 WHERE id = 'top_0004'", "house:risk"),
    "a fee that was not booked": ("UPDATE relays SET fee_wei = '9' WHERE id = 'rly_0001'", "not what its transactions"),
    "a fee of another's": ("UPDATE relays SET relayer = zeroblob(20) WHERE id = 'rly_0001'", "gwei|fees"),
    "a wallet of another account": ("UPDATE wallet_accounts SET account_id = 'acc_1'", "wallet 0x.* is kept as acc_1"),
    "a wallet of nobody's": ("DELETE FROM wallet_accounts", "rights that are gone"),
    "a wallet that signed nothing": ("INSERT INTO wallet_accounts VALUES (zeroblob(20), 'acc_1', 1)", "says None"),
    "a seller's budget": ("UPDATE sellers SET gas_budget_wei = '9'", "terms of seller"),
    "a seller's payee": ("UPDATE sellers SET payees = json_array(hex(zeroblob(20)))", "terms of seller"),
    "a seller's terms of another version": ("UPDATE sellers SET version = 2", "terms of seller"),
    "a seller that ended by itself": ("UPDATE sellers SET ended_at_ms = 1", "terms of seller"),
    "a seller that is gone": ("DELETE FROM sellers", "sellers that are gone"),
    "credit that was given to nobody": ("UPDATE grants SET left_base = 0", "operator's credit"),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_the_proof_finds(desk: Desk, tmp_path: Path, what: str) -> None:
    """A row that nobody decided contradicts the journal, the evidence or the ledger."""
    statement, message = TAMPERED[what]
    desk.core.close()
    db = sqlite3.connect(tmp_path / "gateway.db", isolation_level=None)
    assert db.execute(statement).rowcount > 0
    with pytest.raises(BookBroken, match=message):
        verify_book(db)
    db.close()
    assert first_contradiction(tmp_path / "gateway.db") is not None


# look-ups

PLANS = [
    (paid_reader.IDENTITY_OWNER, (1, b"", b"", b""), "PRIMARY KEY"),
    (paid_reader.SETTLEMENT_OF, (1, b"", b"", b""), "sqlite_autoindex_settlements"),
    (paid_reader.RELAY_AT, (1, b"", 1), "sqlite_autoindex_relays"),
    (ORDER, ("a", "t"), "topups_token"),
    (ORDER, ("a", "t"), "sqlite_autoindex_refunds"),
    (load_paid.OPEN_SETTLEMENTS, (), "settlements_open"),
    (load_paid.OPEN_RELAYS, (), "relays_open"),
    (load_paid.OPEN_TOPUPS, (), "topups_open"),
    (load_paid.OPEN_REFUNDS, (), "refunds_open"),
    (load_paid.FUNDERS, (), "incoming_funders"),
    (paid_store.TOPUP_OF, (1, b"", b"", b""), "sqlite_autoindex_topups"),
    (paid_store.TOPUP_OF_HASH, (b"",), "topups_tx"),
    (paid_store.TOPUP_BY_TOKEN, ("a", "t"), "topups_token"),
    (paid_store.INCOMING_OF_LOG, (1, b"", 1), "sqlite_autoindex_incoming"),
    (queries.TOPUPS_OF_ACCOUNT, {"account_id": "a", "before": "~", "limit": 1}, "topups_account"),
    (queries.RECEIPTS_OF_ACCOUNT, {"account_id": "a", "after": "", "limit": 1}, "incoming_account"),
    (queries.UNCLAIMED, {"after": "", "limit": 1}, "incoming_unclaimed"),
    (queries.REFUNDS_OF_ACCOUNT, {"account_id": "a", "before": "~", "limit": 1}, "refunds_account"),
    (queries.GAS_BURNT, {"account_id": "a", "since_ms": 0}, "settlements_burnt"),
]


@pytest.mark.parametrize(("query", "values", "index"), PLANS)
def test_each_question_has_its_index(desk: Desk, query: str, values: Any, index: str) -> None:
    """What is asked while serving, or at every start, is found without reading a table."""
    plan = " ".join(str(row[3]) for row in desk.core.db.execute(f"EXPLAIN QUERY PLAN {query}", values))
    assert index in plan


def traced(core: StoreCore, text: str = "", blob: bytes | None = None, number: int = 0) -> set[str]:
    """Return the records of being paid that something leads to."""
    asked = {"text": text, "blob": blob, "number": number, "limit": 50}
    return {row[0] for row in core.db.execute(queries.PAID_TRACE, asked)}


def test_one_question_leads_to_everything(desk: Desk) -> None:
    """P11: from a transaction, a nonce, an order, a receipt, an account and a journal row."""
    assert traced(desk.core, blob=digest("relay 1")) == {"stl_0001", "rly_0001"}
    assert traced(desk.core, "rly_0001") == {"stl_0001", "stl_0002", "rly_0001"}
    assert traced(desk.core, "stl_0001") == {"stl_0001", "rly_0001"}
    assert traced(desk.core, blob=make_incoming(3).tx_hash) == {"top_0003", "rcv_0003"}
    assert traced(desk.core, "top_0003") == {"top_0003", "rcv_0003"}
    assert traced(desk.core, "rcv_0003") == {"top_0003", "rcv_0003", "ref_0001", "ref_0002"}
    assert traced(desk.core, blob=digest("authorization 4")) == {"top_0004"}
    assert traced(desk.core, blob=digest("refund 1")) == {"ref_0001"}
    assert traced(desk.core, blob=make_evidence(41).tx_hash) == {"ref_0001"}
    row = desk.core.db.execute("SELECT seq FROM journal WHERE kind = 'refund.settled'").fetchone()
    assert traced(desk.core, number=row[0]) == {"ref_0001"}
    assert {"top_0003", "rcv_0003", "ref_0001"} <= traced(desk.core, "acc_1")


def test_every_row_of_a_record_is_found(desk: Desk) -> None:
    """P11: what a refund, a top-up, a receipt or a transaction leads to is what reading the whole table finds."""
    db = desk.core.db
    subjects = {row[0] for row in db.execute("SELECT payment_id FROM transfers UNION SELECT payment_id FROM journal")}
    assert {"ref_0001", "ref_0002", "top_0003", "rcv_0003", "pay_0090"} <= subjects
    for query, table, key in (
        (queries.JOURNAL_OF_PAYMENT, "journal", "seq"),
        (queries.TRANSFERS_OF_PAYMENT, "transfers", "id"),
    ):
        for subject in subjects:
            found = [row[0] for row in db.execute(query, {"payment_id": subject})]
            whole = f"SELECT {key} FROM {table} WHERE payment_id = ? ORDER BY {key}"
            assert found == [row[0] for row in db.execute(whole, (subject,))]


def test_a_trace_of_payments_names_payments_only(desk: Desk) -> None:
    """What an auditor's page asks by a receipt's transaction, a top-up's nonce or its journal row is no payment."""
    for asked in (
        {"blob": make_incoming(3).tx_hash, "number": 0},
        {"blob": digest("authorization 4"), "number": 0},
        {"blob": None, "number": desk.core.book.chain.seq},
    ):
        assert desk.core.db.execute(queries.TRACE, {"text": "", "limit": 9, **asked}).fetchall() == []


def test_a_statement_names_payments_as_payments(desk: Desk) -> None:
    """A top-up's or refund's entry names its subject, and no payment."""
    asked = {"account_id": "acc_1", "after": 0, "limit": 99}
    rows = desk.core.db.execute(queries.STATEMENT, asked).fetchall()
    named = {(row[4], row[5]) for row in rows}
    assert {("pay_0090", "pay_0090"), ("rcv_0003", None), ("top_0004", None), ("ref_0001", None)} <= named


# the migration


def test_evidence_and_credit_survive_the_migration(tmp_path: Path) -> None:
    """A database of the schema before keeps its evidence, row by row, and knows how much of the operator's credit is left."""
    old = connect(tmp_path / "old.db")
    folder = Path(store_core.__file__).parent / "migrations"
    for number in (1, 2):
        step = next(folder.glob(f"{number:04}_*.sql")).read_text(encoding="utf-8")
        old.executescript(f"BEGIN;\n{step}\nPRAGMA user_version = {number};\nCOMMIT;")
    columns = (
        "kind, chain_id, block_number, block_hash, block_time_s, tx_hash, log_index, payment_id, value_base, witnesses, "
        "fee_base"
    )
    rows = [
        (1, "settled", 1, 2, digest("b"), 3, digest("t"), 4, "pay_1", 5, "[]", 0),
        (7, "unused", 1, 2, digest("b"), 3, None, None, "pay_2", 0, "[]", 0),
        (9, "failed", 1, 2, digest("b"), 3, digest("f"), None, "pay_3", 0, "[]", 6),
    ]
    old.executemany(f"INSERT INTO evidence (id, {columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
    for n, (posted, spent) in enumerate([(100, 30), (50, 50)], 1):
        old.execute("INSERT INTO agent_accounts VALUES (?, '', 0)", (f"acc_{n}",))
        old.execute(
            "INSERT INTO ledger_accounts VALUES (?, ?, 'USD', 1, 1, 0, ?, 0, ?)", (n, f"agent:acc_{n}", spent, posted)
        )
    migrate(old)
    assert old.execute(f"SELECT id, {columns} FROM evidence ORDER BY id").fetchall() == rows
    assert old.execute("SELECT * FROM grants").fetchall() == [("acc_1", 70)]
    with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
        old.execute(f"INSERT INTO evidence ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows[0][1:])
    indexes = {row[1] for row in old.execute("PRAGMA index_list(evidence)")}
    assert indexes == {"evidence_log", "evidence_failed", "evidence_payment"}
    assert old.execute("PRAGMA foreign_key_check").fetchall() == []
    old.close()
