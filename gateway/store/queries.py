"""The questions that people ask of the books: pages, traces and counts, by name.

Must not know who may ask; callers filter by account.  Theory: pages go by key, never by offset, and nothing sums, so a
page costs the same on the first day and after ten million rows.
"""

from gateway.store import columns as col

PAYMENTS_OF_ACCOUNT = (
    f"SELECT {col.PAYMENT_COLUMNS} FROM payments WHERE account_id = :account_id AND id < :before "  # noqa: S608
    "ORDER BY id DESC LIMIT :limit"
)
PAYMENTS = (
    f"SELECT {col.PAYMENT_COLUMNS} FROM payments WHERE id < :before "  # noqa: S608
    "AND (:open = 0 OR charge = 'held') ORDER BY id DESC LIMIT :limit"
)
STATEMENT = (
    "SELECT t.id, t.phase, t.amount_base, t.pending_id, t.payment_id, t.journal_seq, j.at_ms, j.kind, "
    "d.code AS debit, c.code AS credit FROM transfers t JOIN journal j ON j.seq = t.journal_seq "
    "JOIN ledger_accounts d ON d.id = t.debit_id JOIN ledger_accounts c ON c.id = t.credit_id "
    "WHERE t.agent_id = :account_id AND t.id > :after ORDER BY t.id LIMIT :limit"
)
EVIDENCE_OF_PAYMENT = "SELECT * FROM evidence WHERE payment_id = :payment_id ORDER BY id"
JOURNAL_OF_PAYMENT = "SELECT seq, at_ms, kind, body, digest FROM journal WHERE payment_id = :payment_id ORDER BY seq"
JOURNAL_PAGE = (
    "SELECT seq, at_ms, kind, payment_id, body, digest FROM journal WHERE seq > :after ORDER BY seq LIMIT :limit"
)
TRANSFERS_OF_PAYMENT = (
    "SELECT t.id, t.phase, t.amount_base, t.pending_id, t.journal_seq, d.code AS debit, c.code AS credit, d.asset "
    "FROM transfers t JOIN ledger_accounts d ON d.id = t.debit_id JOIN ledger_accounts c ON c.id = t.credit_id "
    "WHERE t.payment_id = :payment_id ORDER BY t.id"
)
ATTEMPTS_OF_PAYMENT = (
    "SELECT seq, value_base, valid_before_s, created_at_ms FROM attempts WHERE payment_id = :payment_id ORDER BY seq"
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
ANY_PAYMENT = "SELECT id FROM payments LIMIT 1"
OPEN_TASK_COUNT = "SELECT COUNT(*) AS open_tasks FROM tasks WHERE closed_at_ms IS NULL"
KEYS_OF_ACCOUNT = f"SELECT {col.KEY_COLUMNS} FROM api_keys WHERE account_id = :account_id ORDER BY id"  # noqa: S608
ACCOUNTS = "SELECT id, name, created_at_ms FROM agent_accounts WHERE id > :after ORDER BY id LIMIT :limit"
LEDGER_ACCOUNTS = "SELECT * FROM ledger_accounts ORDER BY id"
SPENT = "SELECT debits_posted, credits_posted, debits_pending FROM ledger_accounts WHERE code = :code AND asset = 'USD'"

# P11: from whatever an auditor holds to the payments it belongs to.
TRACE = (
    "SELECT payment_id, 'payment' AS found_as FROM (SELECT id AS payment_id FROM payments WHERE id = :text) "
    "UNION SELECT payment_id, 'transaction' FROM evidence WHERE tx_hash = :blob AND payment_id IS NOT NULL "
    "UNION SELECT payment_id, 'resource' FROM resources WHERE ref = :text AND payment_id <> '' "
    "UNION SELECT p.id, 'resource' FROM resources r JOIN payments p ON p.vendor = r.vendor AND p.resource_ref = r.ref "
    "WHERE r.ref = :text "
    "UNION SELECT payment_id, 'nonce' FROM authorizations a WHERE a.nonce = :blob "
    "UNION SELECT payment_id, 'journal row' FROM journal WHERE seq = :number AND payment_id IS NOT NULL "
    "UNION SELECT id, 'key' FROM payments WHERE key_id = :text "
    "UNION SELECT id, 'account' FROM payments WHERE account_id = :text LIMIT :limit"
)
TRACE_OUTFLOW = "SELECT * FROM evidence WHERE tx_hash = :blob AND payment_id IS NULL"
