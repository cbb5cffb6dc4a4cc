"""Loading checks what it reads, and the full proof finds what was tampered with."""

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.core import commands as c
from gateway.core.journal import GENESIS, JournalError, digest
from gateway.store.core import StoreCore, connect
from gateway.store.load import BookBroken, verify_book
from tests.factories import (
    HOUR_MS,
    NOW_MS,
    PAYEE,
    make_account,
    make_budget,
    make_dead,
    make_key,
    make_outcome,
    make_purchase,
    make_resource,
    make_settled,
    open_core,
    seeded,
)


@pytest.fixture
def core(tmp_path: Path) -> StoreCore:
    """A core on a file with a captured, a voided and an open payment, and some rights given and taken."""
    opened = seeded(open_core(tmp_path))
    opened.post([make_purchase(n) for n in (1, 2, 3)])
    opened.post([make_outcome(1, resource=make_resource()), make_settled(1), make_dead(2)])
    opened.post(
        [
            c.OpenAccount(make_account(2)),
            c.AddKey(make_key(2, account_id="acc_2", budgets=(make_budget(),))),
            c.RevokeKey("key_2", "acc_2", NOW_MS),
            c.SetFreeze("vendor:other", frozen=True, reason="a look", by="operator", at_ms=NOW_MS),
            c.ApprovePayee("vpsagent", 8453, PAYEE, "operator", NOW_MS),
            c.ApprovePrice("vpsagent", "a box", 5, "operator", NOW_MS),
            c.RecordResource(make_resource(2, account_id="acc_2", payment_id=""), NOW_MS),
        ]
    )
    opened.db.execute("PRAGMA foreign_keys = OFF")
    return opened


def test_an_untouched_book_verifies_to_its_head(core: StoreCore) -> None:
    """The proof ends where the journal in memory ends."""
    assert verify_book(core.db) == (core.book.chain.seq, core.book.chain.head)


OPEN = "id = 'pay_0003'"
HOLD = "(SELECT hold_transfer_id FROM payments WHERE id = 'pay_0003')"
POSTED = "(SELECT id FROM transfers WHERE phase = 2 ORDER BY id LIMIT 1)"
TAMPERINGS = {
    # a balance that its transfers do not explain
    "a balance raised": "UPDATE ledger_accounts SET credits_posted = credits_posted + 1 WHERE code = 'agent:acc_1'",
    "a loss hidden in another account": "UPDATE ledger_accounts SET debits_posted = debits_posted + 5 "
    "WHERE code = 'fx:USDC@8453' AND asset = 'USD'",
    "a hold forgotten": "UPDATE ledger_accounts SET debits_pending = 0 WHERE code = 'agent:acc_1'",
    "an exposure forgotten": "UPDATE ledger_accounts SET credits_pending = 0 WHERE code LIKE 'wallet:%'",
    "an account removed": "DELETE FROM ledger_accounts WHERE code = 'house:credit'",
    # transfers that do not add up
    "a transfer's amount": "UPDATE transfers SET amount_base = amount_base - 1 WHERE id = 1",
    "a transfer removed": "DELETE FROM transfers WHERE id = 1",
    "a reservation removed": f"DELETE FROM transfers WHERE id = {HOLD}",
    "the reservation of a closing removed": "DELETE FROM transfers WHERE id = "
    f"(SELECT pending_id FROM transfers WHERE id = {POSTED})",
    "a closing removed": f"DELETE FROM transfers WHERE id = {POSTED}",
    "a closing above its reservation": f"UPDATE transfers SET amount_base = amount_base + 1 WHERE id = {POSTED}",
    "a closing sent elsewhere": "UPDATE transfers SET debit_id = "
    f"(SELECT id FROM ledger_accounts WHERE code = 'house:credit') WHERE id = {POSTED}",
    "a transfer turned round": "UPDATE transfers SET debit_id = credit_id, credit_id = debit_id WHERE id = 1",
    "a transfer added": "INSERT INTO transfers VALUES (999, 0, 1, 2, 5, NULL, NULL, 1, NULL)",
    # the journal
    "a journal body": "UPDATE journal SET body = "
    "CAST(replace(CAST(body AS TEXT), 'pilot', 'pilfer') AS BLOB) WHERE kind = 'account.credited'",
    "a journal digest": "UPDATE journal SET digest = zeroblob(32) WHERE seq = 3",
    "a journal row removed": "DELETE FROM journal WHERE seq = 3",
    "the first journal row removed": "DELETE FROM journal WHERE seq = 1",
    "a journal row's kind": "UPDATE journal SET kind = 'nothing.happened' WHERE seq = 3",
    "a journal row's payment": "UPDATE journal SET payment_id = 'pay_0002' WHERE payment_id = 'pay_0001'",
    "a journal row's time": "UPDATE journal SET at_ms = at_ms + 1 WHERE seq = 3",
    # payments that are not what the journal tells
    "a hold that names less": f"UPDATE payments SET hold_base = 1 WHERE {OPEN}",
    "an exposure that names less": f"UPDATE payments SET value_base = 1 WHERE {OPEN}",
    "a payment's window": f"UPDATE payments SET valid_before_s = 1 WHERE {OPEN}",
    "a payment's payee": f"UPDATE payments SET pay_to = zeroblob(20) WHERE {OPEN}",
    "a payment's nonce": f"UPDATE payments SET nonce = zeroblob(32) WHERE {OPEN}",
    "a payment's owner": "UPDATE payments SET account_id = 'acc_2' WHERE id = 'pay_0001'",
    "a payment's key": "UPDATE payments SET key_id = 'key_2' WHERE id = 'pay_0001'",
    "a payment's answer": f"UPDATE payments SET delivery = 'refused' WHERE {OPEN}",
    "a payment's thing": "UPDATE payments SET resource_ref = 'another' WHERE id = 'pay_0001'",
    "a payment called dead": f"UPDATE payments SET transfer = 'dead' WHERE {OPEN}",
    "a payment called refunded": "UPDATE payments SET charge = 'refunded' WHERE id = 'pay_0001'",
    "a payment called captured": "UPDATE payments SET charge = 'captured', transfer = 'settled' WHERE id = 'pay_0002'",
    "a payment's captured amount": "UPDATE payments SET captured_base = 1 WHERE id = 'pay_0001'",
    "a payment's collected amount": "UPDATE payments SET settled_base = 1 WHERE id = 'pay_0001'",
    "a payment's end": "UPDATE payments SET closed_at_ms = 1 WHERE id = 'pay_0001'",
    "a payment removed": "DELETE FROM payments WHERE id = 'pay_0002'",
    "a payment's authorization": "DELETE FROM authorizations WHERE payment_id = 'pay_0003'",
    "a payment's evidence removed": "DELETE FROM evidence WHERE payment_id = 'pay_0001'",
    "a payment's transaction": "UPDATE evidence SET tx_hash = zeroblob(32) WHERE payment_id = 'pay_0001'",
    "a payment's witnesses": "UPDATE evidence SET witnesses = '[\"somebody\"]' WHERE payment_id = 'pay_0002'",
    # rights that nobody gave
    "a right: an account": "INSERT INTO agent_accounts VALUES ('acc_9', 'nobody', 1)",
    "a right: a key of another account": "UPDATE api_keys SET account_id = 'acc_2' WHERE id = 'key_1'",
    "a right: a key's scopes": "UPDATE api_keys SET scopes = '[\"admin\"]' WHERE id = 'key_1'",
    "a right: a revoked key": "UPDATE api_keys SET revoked_at_ms = NULL WHERE id = 'key_2'",
    "a right: another text of a key": "UPDATE api_keys SET digest = randomblob(32) WHERE id = 'key_1'",
    "a right: scopes that cannot be read": "UPDATE api_keys SET scopes = 'all' WHERE id = 'key_1'",
    "a right: a budget that cannot be read": "UPDATE api_keys SET budgets = '[[1]]' WHERE id = 'key_1'",
    "a payment's witnesses that cannot be read": "UPDATE evidence SET witnesses = 'me' WHERE payment_id = 'pay_0001'",
    "a right: a key's budget": "UPDATE api_keys SET budgets = '[]' WHERE id = 'key_2'",
    "a right: a budget's name": "UPDATE api_keys SET budgets = replace(budgets, 'bud_1', 'bud_2') WHERE id = 'key_2'",
    "a right: a key's name": "UPDATE api_keys SET name = 'mine' WHERE id = 'key_1'",
    "a right: a key's time": "UPDATE api_keys SET created_at_ms = 1 WHERE id = 'key_1'",
    "a right: a key revoked by nobody": "UPDATE api_keys SET revoked_at_ms = 1 WHERE id = 'key_1'",
    "a right: a key that is gone": "DELETE FROM api_keys WHERE id = 'key_2'",
    "a right: a key that nobody added": "INSERT INTO api_keys "
    "VALUES ('key_9', 'acc_1', zeroblob(32), 'mine', '[\"proxy\"]', '[]', 1, NULL)",
    "a right: a credit's reference": "DELETE FROM credits",
    "a right: a freeze removed": "DELETE FROM freezes",
    "a right: a freeze added": "INSERT INTO freezes VALUES ('all', 'malice', 1, 'nobody')",
    "a right: a payee": "INSERT INTO payees VALUES ('vpsagent', 8453, zeroblob(20), 1)",
    "a right: a price": "UPDATE prices SET approved_base = 1",
    "a right: another's bought thing": "UPDATE resources SET account_id = 'acc_2' WHERE payment_id <> ''",
    "a right: another's free thing": "UPDATE resources SET account_id = 'acc_1' WHERE payment_id = ''",
}
# What a look at the open book alone cannot see: it needs the whole history.
ONLY_BY_FULL_PROOF = {
    name
    for name in TAMPERINGS
    if name.startswith(
        ("a journal", "the first journal", "a transfer", "the reservation of", "a closing", "a payment", "a right")
    )
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_the_full_proof_finds(core: StoreCore, name: str) -> None:
    """Every tampering is named by the proof, as the store's own error."""
    assert core.db.execute(TAMPERINGS[name]).rowcount > 0
    with pytest.raises((BookBroken, JournalError)):
        verify_book(core.db)


@pytest.mark.parametrize("name", sorted(set(TAMPERINGS) - ONLY_BY_FULL_PROOF))
def test_loading_refuses(core: StoreCore, tmp_path: Path, name: str) -> None:
    """A book whose balances and open payments contradict each other does not even start."""
    core.db.execute(TAMPERINGS[name])
    core.close()
    with pytest.raises(BookBroken):
        open_core(tmp_path)


def test_loading_reads_what_is_open_in_the_order_it_was_decided(tmp_path: Path) -> None:
    """Of two unanswered purchases of one thing the older one comes first, whatever their ids say."""
    core = seeded(open_core(tmp_path))
    first = make_purchase(9, idempotency_key="a")
    core.post([first, make_purchase(1, idempotency_key="b", fingerprint=first.payment.fingerprint)])
    core.close()
    again = open_core(tmp_path)
    assert again.book.unanswered.find("acc_1", first.payment.fingerprint, None, NOW_MS) == "pay_0009"
    again.close()


def test_a_deadline_that_moved_is_found_moved(tmp_path: Path) -> None:
    """A payment that was collected late waits as long after a restart as it would have waited without one."""
    core = seeded(open_core(tmp_path))
    core.post([make_purchase(1)])
    core.post([replace(make_settled(1), at_ms=NOW_MS + 7 * HOUR_MS)])
    core.close()
    again = open_core(tmp_path)
    assert again.book.open_payments["pay_0001"].delivery_deadline_ms == NOW_MS + 8 * HOUR_MS
    again.close()


def test_a_read_only_connection_can_prove_the_book(core: StoreCore, tmp_path: Path) -> None:
    """An auditor needs no right to write."""
    reader = connect(tmp_path / "gateway.db", read_only=True)
    assert verify_book(reader) == (core.book.chain.seq, core.book.chain.head)
    reader.close()


OLD_KEY = """UPDATE journal SET body = CAST(json_remove(CAST(body AS TEXT), '$.digest', '$.budget_ids', '$.name') AS BLOB)
WHERE kind = 'key.added'"""


def seal(db: sqlite3.Connection) -> None:
    """Give every row of the journal the digest that its body has now, as if it had been written so."""
    head = GENESIS
    for seq, body in db.execute("SELECT seq, body FROM journal ORDER BY seq").fetchall():
        head = digest(seq, head, body)
        db.execute("UPDATE journal SET digest = ? WHERE seq = ?", (head, seq))


def test_a_key_of_an_older_version_is_proven_as_far_as_its_row_goes(core: StoreCore) -> None:
    """Rows that do not tell a key's digest are no contradiction; what they tell is held against it as ever."""
    core.db.execute(OLD_KEY)
    seal(core.db)
    verify_book(core.db)
    core.db.execute("UPDATE api_keys SET budgets = '[]' WHERE id = 'key_2'")
    with pytest.raises(BookBroken, match="key_2: its budgets"):
        verify_book(core.db)
