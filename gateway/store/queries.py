"""The questions that people ask of the books: pages, traces and counts, by name.

Must not know who may ask; callers filter by account.  Theory: pages go by key, never by offset, and nothing sums, so a
page costs the same on the first day and after ten million rows.
"""

from typing import Any

from gateway.core.server import Server
from gateway.store import columns as col
from gateway.store import kept_columns as kept
from gateway.store.paid_columns import INCOMING, REFUNDS, TOPUPS

PAYMENTS_OF_ACCOUNT = (
    f"SELECT {col.PAYMENT_COLUMNS} FROM payments WHERE account_id = :account_id AND id < :before "  # noqa: S608
    "ORDER BY id DESC LIMIT :limit"
)
PAYMENTS = (
    f"SELECT {col.PAYMENT_COLUMNS} FROM payments WHERE id < :before "  # noqa: S608
    "AND (:open = 0 OR charge = 'held') ORDER BY id DESC LIMIT :limit"
)
STATEMENT = (
    "SELECT t.id, t.phase, t.amount_base, t.pending_id, t.payment_id AS subject_id, "
    "(SELECT p.id FROM payments p WHERE p.id = t.payment_id) AS payment_id, t.journal_seq, j.at_ms, j.kind, "
    "d.code AS debit, c.code AS credit FROM transfers t JOIN journal j ON j.seq = t.journal_seq "
    "JOIN ledger_accounts d ON d.id = t.debit_id JOIN ledger_accounts c ON c.id = t.credit_id "
    "WHERE t.agent_id = :account_id AND t.id > :after ORDER BY t.id LIMIT :limit"
)
EVIDENCE_OF_PAYMENT = "SELECT * FROM evidence WHERE payment_id = :payment_id ORDER BY id"
# What was reserved for a payment or a refund (or anything else by its id: nothing), and what closed it.
_RESERVED = (
    "reserved AS (SELECT hold_transfer_id AS id FROM payments WHERE id = :payment_id "
    "UNION ALL SELECT exposure_transfer_id FROM payments WHERE id = :payment_id "
    "UNION ALL SELECT hold_transfer_id FROM refunds WHERE id = :payment_id "
    "UNION ALL SELECT exposure_transfer_id FROM refunds WHERE id = :payment_id), "
    "ends AS (SELECT id FROM reserved "
    "UNION ALL SELECT id FROM transfers WHERE pending_id IN (SELECT id FROM reserved))"
)
# Rows that a reservation or its closing leads to are in no index of their own (verify_named holds them to it).
NAMED_BY_TRANSFERS = ("payment.held", "payment.settled", "payment.captured")
_NAMED = " OR ".join(f"kind = '{kind}'" for kind in NAMED_BY_TRANSFERS)
_UNNAMED = " AND ".join(f"kind <> '{kind}'" for kind in NAMED_BY_TRANSFERS)
JOURNAL_OF_PAYMENT = (
    f"WITH {_RESERVED} SELECT seq, at_ms, kind, body, digest FROM journal WHERE payment_id = :payment_id AND {_UNNAMED} "  # noqa: S608
    "UNION ALL SELECT seq, at_ms, kind, body, digest FROM journal "
    "WHERE seq IN (SELECT t.journal_seq FROM ends JOIN transfers t ON t.id = ends.id) "
    f"AND payment_id = :payment_id AND ({_NAMED}) ORDER BY seq"
)
JOURNAL_PAGE = (
    "SELECT seq, at_ms, kind, payment_id, body, digest FROM journal WHERE seq > :after ORDER BY seq LIMIT :limit"
)
TRANSFERS_OF_PAYMENT = (
    f"WITH {_RESERVED} SELECT t.id, t.phase, t.amount_base, t.pending_id, t.journal_seq, d.code AS debit, c.code AS credit, "  # noqa: S608
    "d.asset FROM (SELECT id FROM ends UNION ALL SELECT id FROM transfers WHERE phase = 0 AND payment_id = :payment_id) f "
    "JOIN transfers t ON t.id = f.id "
    "JOIN ledger_accounts d ON d.id = t.debit_id JOIN ledger_accounts c ON c.id = t.credit_id ORDER BY t.id"
)
ATTEMPTS_OF_PAYMENT = (
    "SELECT a.seq, a.value_base, a.valid_before_s, a.created_at_ms FROM payments p "
    "JOIN attempts a ON a.hold_id = p.hold_transfer_id WHERE p.id = :payment_id ORDER BY a.seq"
)
RESOURCES_OF_ACCOUNT = (
    f"SELECT {col.RESOURCE_COLUMNS} FROM resources WHERE account_id = :account_id AND (vendor, ref) > (:vendor, :ref) "  # noqa: S608
    "ORDER BY vendor, ref LIMIT :limit"
)
METERS = (
    f"SELECT {col.METER_COLUMNS} FROM meters WHERE (:open = 0 OR state <> 'ended') AND id < :before "  # noqa: S608
    "AND (:account_id = '' OR account_id = :account_id) AND (:vendor = '' OR vendor = :vendor) "
    "ORDER BY id DESC LIMIT :limit"
)
TASKS = (
    f"SELECT {col.TASK_COLUMNS} FROM tasks WHERE (:open = 0 OR closed_at_ms IS NULL) AND id < :before "  # noqa: S608
    "ORDER BY id DESC LIMIT :limit"
)
ANY_SIGNED = "SELECT id FROM payments UNION ALL SELECT id FROM refunds LIMIT 1"
OPEN_TASK_COUNT = "SELECT COUNT(*) AS open_tasks FROM tasks WHERE closed_at_ms IS NULL"
KEYS_OF_ACCOUNT = f"SELECT {col.KEY_COLUMNS} FROM api_keys WHERE account_id = :account_id ORDER BY id"  # noqa: S608
ACCOUNTS = "SELECT id, name, created_at_ms FROM agent_accounts WHERE id > :after ORDER BY id LIMIT :limit"
LEDGER_ACCOUNTS = "SELECT * FROM ledger_accounts ORDER BY id"
SPENT = (
    "SELECT a.debits_posted, a.credits_posted, a.debits_pending, (SELECT COALESCE(SUM(r.amount_base), 0) FROM refunds r "
    "WHERE r.account_id = :account_id AND r.state = 'settled') FROM ledger_accounts a WHERE a.code = :code AND a.asset = 'USD'"
)

# Being paid. Receipts in order; orders and refunds the newest first.
TOPUPS_OF_ACCOUNT = TOPUPS.where("account_id = :account_id AND id < :before ORDER BY id DESC LIMIT :limit")
RECEIPTS_OF_ACCOUNT = INCOMING.where("account_id = :account_id AND id > :after ORDER BY id LIMIT :limit")
UNCLAIMED = INCOMING.where("state = 'unclaimed' AND id > :after ORDER BY id LIMIT :limit")
REFUNDS_OF_ACCOUNT = REFUNDS.where("account_id = :account_id AND id < :before ORDER BY id DESC LIMIT :limit")
SELLERS = (
    "SELECT account_id, gas_budget_wei, window_s, latency_s, payees, created_at_ms, version, ended_at_ms FROM sellers "
    "WHERE account_id > :after ORDER BY account_id LIMIT :limit"
)
GAS_BURNT = (
    "SELECT r.fee_wei, json_array_length(r.settlement_ids), COUNT(*) FROM settlements s JOIN relays r ON r.id = s.relay_id "
    "WHERE s.account_id = :account_id AND s.state = 'failed' AND s.relay_id IS NOT NULL AND s.ended_at_ms >= :since_ms "
    "GROUP BY r.id"
)
BURNERS = (
    "SELECT authorizer, COUNT(*) FROM settlements WHERE account_id = :account_id AND state = 'failed' "
    "AND relay_id IS NOT NULL AND ended_at_ms >= :since_ms GROUP BY authorizer"
)

# P11: from whatever an auditor holds (an id, a hash, a nonce, an address) to the records of being paid that it belongs to.
PAID_TRACE = (
    "SELECT id, 'settlement' AS found_as FROM settlements WHERE id = :text OR relay_id = :text "
    "OR id IN (SELECT id FROM settlements WHERE tx_hash = :blob) "
    "UNION SELECT id, 'relay' FROM relays WHERE id = :text OR id IN (SELECT id FROM relays WHERE mined_hash = :blob) "
    "UNION SELECT s.relay_id, 'relay' FROM settlements s WHERE s.id = :text AND s.relay_id IS NOT NULL "
    "UNION SELECT id, 'topup' FROM topups WHERE id = :text OR receipt_id = :text OR account_id = :text "
    "OR id IN (SELECT id FROM topups WHERE tx_hash = :blob) "
    "UNION SELECT id, 'receipt' FROM incoming WHERE id = :text OR account_id = :text "
    "OR id IN (SELECT id FROM incoming WHERE tx_hash = :blob) "
    "UNION SELECT i.id, 'receipt' FROM topups t JOIN incoming i ON i.id = t.receipt_id WHERE t.id = :text "
    "UNION SELECT id, 'refund' FROM refunds WHERE id = :text OR receipt_id = :text OR account_id = :text "
    "OR id IN (SELECT id FROM refunds WHERE tx_hash = :blob) "
    "UNION SELECT payment_id, 'nonce' FROM authorizations WHERE nonce = :blob "
    "AND NOT EXISTS (SELECT 1 FROM payments p WHERE p.id = payment_id) "
    "UNION SELECT payment_id, 'journal row' FROM journal WHERE seq = :number AND payment_id IS NOT NULL "
    "AND NOT EXISTS (SELECT 1 FROM payments p WHERE p.id = payment_id) LIMIT :limit"
)

# The neutral API. Newest first, each page from below the last id of the one before; "" and 0 do not narrow.
SERVERS_OF_ACCOUNT = (
    f"SELECT {kept.SERVER_COLUMNS} FROM servers WHERE account_id = :account_id AND id < :before "  # noqa: S608
    "AND (:open = 0 OR ended_at_ms IS NULL) AND (:state = '' OR state = :state) AND (:vendor = '' OR vendor = :vendor) "
    "AND (:fleet_id = '' OR fleet_id = :fleet_id) ORDER BY id DESC LIMIT :limit"
)
SERVERS = (
    f"SELECT {kept.SERVER_COLUMNS} FROM servers WHERE (:open = 0 OR ended_at_ms IS NULL) AND id < :before "  # noqa: S608
    "AND (:account_id = '' OR account_id = :account_id) AND (:vendor = '' OR vendor = :vendor) "
    "ORDER BY id DESC LIMIT :limit"
)
SERVERS_OF_FLEET = f"SELECT {kept.SERVER_COLUMNS} FROM servers WHERE fleet_id = :fleet_id ORDER BY id"  # noqa: S608
QUOTE = f"SELECT {kept.QUOTE_COLUMNS} FROM quotes WHERE id = :id AND account_id = :account_id"  # noqa: S608
SNAPSHOTS_OF_ACCOUNT = (
    f"SELECT {kept.SNAPSHOT_COLUMNS} FROM snapshots WHERE account_id = :account_id AND id < :before "  # noqa: S608
    "ORDER BY id DESC LIMIT :limit"
)
SNAPSHOTS_OF_SERVER = (
    f"SELECT {kept.SNAPSHOT_COLUMNS} FROM snapshots WHERE server_id = :server_id AND account_id = :account_id "  # noqa: S608
    "AND id < :before ORDER BY id DESC LIMIT :limit"
)
SNAPSHOTS_DUE = (
    f"SELECT {kept.SNAPSHOT_COLUMNS} FROM snapshots WHERE state = 'pending' "  # noqa: S608
    "OR (state IN ('available', 'unknown') AND expires_at_ms <= :at_ms) ORDER BY id"
)
ALL_SNAPSHOTS_OF_SERVER = f"SELECT {kept.SNAPSHOT_COLUMNS} FROM snapshots WHERE server_id = :server_id ORDER BY id"  # noqa: S608
SSH_KEYS_OF_ACCOUNT = (
    f"SELECT {kept.SSH_KEY_COLUMNS} FROM ssh_keys WHERE account_id = :account_id AND deleted_at_ms IS NULL "  # noqa: S608
    "AND id < :before ORDER BY id DESC LIMIT :limit"
)
ALL_SSH_KEYS_OF_ACCOUNT = (
    f"SELECT {kept.SSH_KEY_COLUMNS} FROM ssh_keys WHERE account_id = :account_id AND deleted_at_ms IS NULL ORDER BY id"  # noqa: S608
)
FLEETS_OF_ACCOUNT = (
    f"SELECT {kept.FLEET_COLUMNS} FROM fleets WHERE account_id = :account_id AND id < :before "  # noqa: S608
    "ORDER BY id DESC LIMIT :limit"
)
RENEWALS_OF = (
    f"SELECT {col.PAYMENT_COLUMNS} FROM payments WHERE vendor = :vendor AND resource_ref = :ref "  # noqa: S608
    "AND (renews = 1 OR (idempotency_key > 'renew ' AND idempotency_key < 'renew!')) "  # a claim of the planner's
    "AND meter_id IS NULL AND account_id = :account_id AND id < :before ORDER BY id DESC LIMIT :limit"
)

# The payments of one server: of its thing at the vendor, of each order that was tried for it (their claims are named after
# the server; "!" is what follows " "), and the one that it names itself. A meter stands for its periods.
_PAID_FOR_SERVER = (
    "SELECT id FROM payments WHERE vendor = :vendor AND resource_ref = :ref AND meter_id IS NULL AND account_id = :account_id "
    "UNION SELECT payment_id FROM claims WHERE account_id = :account_id AND payment_id IS NOT NULL "
    "AND idempotency_key > 'create ' || :server_id || ' ' AND idempotency_key < 'create ' || :server_id || '!' "
    "UNION SELECT id FROM payments WHERE id = :payment_id AND account_id = :account_id"
)
SERVER_COST = (
    f"WITH paid AS (SELECT p.* FROM payments p WHERE p.id IN ({_PAID_FOR_SERVER})), "  # noqa: S608
    "metered AS (SELECT id FROM meters WHERE account_id = :account_id AND id IN ("
    "SELECT meter_id FROM paid WHERE meter_id IS NOT NULL "
    "UNION SELECT meter_id FROM resources WHERE vendor = :vendor AND ref = :ref)) "
    "SELECT (SELECT COALESCE(SUM(captured_base), 0) FROM paid WHERE meter_id IS NULL) "
    "+ (SELECT COALESCE(SUM(billed_base - lost_base), 0) FROM meters WHERE id IN metered) AS captured_base, "
    "(SELECT COALESCE(SUM(hold_base), 0) FROM paid WHERE meter_id IS NULL AND charge = 'held') "
    "+ (SELECT COALESCE(SUM(hold_base), 0) FROM payments WHERE meter_id IN metered AND charge = 'held') AS held_base"
)


def cost_parameters(server: Server) -> dict[str, Any]:
    """Return what SERVER_COST asks of a server."""
    return {
        "account_id": server.account_id,
        "server_id": server.id,
        "vendor": server.vendor,
        "ref": server.ref,
        "payment_id": server.payment_id,
    }


SERVERS_NAMED = "SELECT id FROM servers WHERE id = :text OR fleet_id = :text ORDER BY id LIMIT :limit"

# P11: from a payment to the servers that it was made for: those that name it, whose thing it paid, whose order it was.
SERVERS_OF_PAYMENT = (
    "SELECT id, account_id FROM servers WHERE id IN ("
    "SELECT id FROM servers WHERE payment_id = :payment_id "
    "UNION SELECT s.id FROM payments p JOIN servers s ON s.vendor = p.vendor AND s.ref = p.resource_ref "
    "AND s.account_id = p.account_id WHERE p.id = :payment_id "
    "UNION SELECT s.id FROM payments p JOIN servers s ON s.account_id = p.account_id AND s.id = "
    "substr(p.idempotency_key, 8, instr(substr(p.idempotency_key, 8), ' ') - 1) "
    "WHERE p.id = :payment_id AND p.idempotency_key LIKE 'create %') ORDER BY id"
)

# P11: from whatever an auditor holds to the payments it belongs to.
TRACE = (
    "SELECT payment_id, 'payment' AS found_as FROM (SELECT id AS payment_id FROM payments WHERE id = :text) "
    "UNION SELECT e.payment_id, 'transaction' FROM evidence e JOIN payments p ON p.id = e.payment_id WHERE e.tx_hash = :blob "
    "UNION SELECT payment_id, 'said transaction' FROM journal WHERE kind = 'unproven.resolved' "
    "AND json_extract(CAST(body AS TEXT), '$.said_tx') = '0x' || lower(hex(:blob)) "
    "UNION SELECT payment_id, 'resource' FROM resources WHERE ref = :text AND payment_id <> '' "
    "UNION SELECT p.id, 'resource' FROM resources r JOIN payments p ON p.vendor = r.vendor AND p.resource_ref = r.ref "
    "WHERE r.ref = :text "
    "UNION SELECT a.payment_id, 'nonce' FROM authorizations a JOIN payments p ON p.id = a.payment_id WHERE a.nonce = :blob "
    "UNION SELECT j.payment_id, 'journal row' FROM journal j JOIN payments p ON p.id = j.payment_id WHERE j.seq = :number "
    "UNION SELECT payment_id, 'server' FROM servers WHERE (id = :text OR fleet_id = :text) AND payment_id IS NOT NULL "
    "UNION SELECT p.id, 'server' FROM servers s JOIN payments p ON p.vendor = s.vendor AND p.resource_ref = s.ref "
    "AND p.account_id = s.account_id WHERE s.id = :text OR s.fleet_id = :text "
    "UNION SELECT c.payment_id, 'server' FROM servers s JOIN claims c ON c.account_id = s.account_id "
    "AND c.idempotency_key > 'create ' || s.id || ' ' AND c.idempotency_key < 'create ' || s.id || '!' "
    "AND c.payment_id IS NOT NULL WHERE s.id = :text OR s.fleet_id = :text "
    "UNION SELECT p.id, 'key' FROM api_keys k JOIN payments p ON p.account_id = k.account_id AND p.key_id = k.id "
    "WHERE k.id = :text "
    "UNION SELECT id, 'account' FROM payments WHERE account_id = :text LIMIT :limit"
)
TRACE_OUTFLOW = "SELECT * FROM evidence WHERE tx_hash = :blob AND payment_id IS NULL"
