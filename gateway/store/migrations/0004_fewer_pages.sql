-- What a purchase leaves, on fewer pages: a commit's cost is its pages in the log and what the disk takes to sync them. Tables
-- whose key had an index beside them hold their rows in it; what other rows already lead to has no index of its own.

-- A purchase's claim is small, and looked up and written by its key alone.
ALTER TABLE claims RENAME TO claims_before;
CREATE TABLE claims (
    account_id TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    fingerprint BLOB NOT NULL,
    payment_id TEXT,
    status INTEGER,
    sealed BLOB,
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (account_id, idempotency_key)
) STRICT, WITHOUT ROWID;
INSERT INTO claims SELECT account_id, idempotency_key, fingerprint, payment_id, status, sealed, at_ms FROM claims_before;
DROP TABLE claims_before;

-- Sealed requests and answers lie in the order of their payments' holds, found through the payment: neighbours share a page.
ALTER TABLE attempts RENAME TO attempts_before;
CREATE TABLE attempts (
    hold_id INTEGER NOT NULL,
    payment_id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    value_base INTEGER NOT NULL,
    valid_before_s INTEGER NOT NULL,
    sealed_request BLOB NOT NULL,
    created_at_ms INTEGER NOT NULL,
    PRIMARY KEY (hold_id, seq)
) STRICT, WITHOUT ROWID;
INSERT INTO attempts
SELECT p.hold_transfer_id, a.payment_id, a.seq, a.value_base, a.valid_before_s, a.sealed_request, a.created_at_ms
FROM attempts_before a JOIN payments p ON p.id = a.payment_id;
DROP TABLE attempts_before;

ALTER TABLE answers RENAME TO answers_before;
CREATE TABLE answers (
    hold_id INTEGER PRIMARY KEY,
    payment_id TEXT NOT NULL,
    status INTEGER NOT NULL,
    sealed BLOB NOT NULL,
    at_ms INTEGER NOT NULL
) STRICT;
INSERT INTO answers
SELECT p.hold_transfer_id, a.payment_id, a.status, a.sealed, a.at_ms FROM answers_before a JOIN payments p ON p.id = a.payment_id;
DROP TABLE answers_before;

ALTER TABLE grants RENAME TO grants_before;
CREATE TABLE grants (
    account_id TEXT PRIMARY KEY REFERENCES agent_accounts (id),
    left_base INTEGER NOT NULL CHECK (left_base >= 0)
) STRICT, WITHOUT ROWID;
INSERT INTO grants SELECT account_id, left_base FROM grants_before;
DROP TABLE grants_before;

-- A key is one account's, whose payments have an index.
DROP INDEX payments_key;
-- What is open, in the order in which it was decided: the order in which it is loaded.
DROP INDEX payments_open;
CREATE INDEX payments_open ON payments (hold_transfer_id) WHERE charge = 'held' OR answered = 0;
-- Charges are listed for vendors that charge an account.
DROP INDEX payments_charged;
CREATE INDEX payments_charged ON payments (account_id, vendor, id) WHERE charge = 'captured' AND kind = 'account';

-- A payment and a refund name the two reservations behind them, and these their closings; only moves at once need an index.
DROP INDEX transfers_payment;
CREATE INDEX transfers_direct ON transfers (payment_id) WHERE phase = 0 AND payment_id IS NOT NULL;
-- And the rows of the journal that tell of a reservation are named by it.
DROP INDEX journal_payment;
CREATE INDEX journal_payment ON journal (payment_id)
WHERE payment_id IS NOT NULL AND kind <> 'payment.held' AND kind <> 'payment.settled' AND kind <> 'payment.captured';

-- One index says that a log is evidence once, and finds what a transaction proves.
DROP INDEX evidence_tx;
DROP INDEX evidence_log;
CREATE UNIQUE INDEX evidence_log ON evidence (tx_hash, chain_id, log_index) WHERE tx_hash IS NOT NULL;
