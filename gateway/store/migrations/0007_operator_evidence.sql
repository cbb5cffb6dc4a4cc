-- Evidence of three more kinds: `resolved` (the chain says used, and the operator said what left), `late` (the log of it, which
-- turned up afterwards) and `moved` (from a till of ours to a wallet of ours). A check cannot be changed, so the table is copied.
ALTER TABLE evidence RENAME TO evidence_before_operators;
DROP INDEX evidence_log;
DROP INDEX evidence_failed;
DROP INDEX evidence_payment;
CREATE TABLE evidence (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL CHECK (
        kind = 'settled' OR kind = 'canceled' OR kind = 'unused' OR kind = 'failed' OR kind = 'outflow'
        OR kind = 'received' OR kind = 'refunded' OR kind = 'returned'
        OR kind = 'resolved' OR kind = 'late' OR kind = 'moved'
    ),
    chain_id INTEGER NOT NULL,
    block_number INTEGER NOT NULL,
    block_hash BLOB NOT NULL CHECK (length(block_hash) = 32),
    block_time_s INTEGER NOT NULL,
    tx_hash BLOB CHECK (tx_hash IS NULL OR length(tx_hash) = 32),
    log_index INTEGER,
    -- The payment, the receipt or the refund that it closes; of a `late` one the payment that was closed without it.
    payment_id TEXT,
    value_base INTEGER NOT NULL,
    witnesses TEXT NOT NULL,
    fee_base INTEGER NOT NULL CHECK (fee_base >= 0),
    -- A failed transaction has no log that could say so: it is its own evidence.
    CHECK ((tx_hash IS NULL) = (log_index IS NULL AND kind != 'failed')),
    CHECK (kind != 'failed' OR log_index IS NULL)
) STRICT;
INSERT INTO evidence (
    id, kind, chain_id, block_number, block_hash, block_time_s, tx_hash, log_index, payment_id, value_base, witnesses, fee_base
)
SELECT
    id, kind, chain_id, block_number, block_hash, block_time_s, tx_hash, log_index, payment_id, value_base, witnesses, fee_base
FROM evidence_before_operators;
DROP TABLE evidence_before_operators;
CREATE UNIQUE INDEX evidence_log ON evidence (tx_hash, chain_id, log_index) WHERE tx_hash IS NOT NULL;
CREATE UNIQUE INDEX evidence_failed ON evidence (chain_id, tx_hash) WHERE kind = 'failed';
-- One thing closes a payment, a receipt or a refund, and one log may turn up later that should have.
CREATE UNIQUE INDEX evidence_payment ON evidence (payment_id, (kind = 'late')) WHERE payment_id IS NOT NULL;
-- The transaction that an operator named leads to the payment that was ended so, whether or not evidence names it as well.
CREATE INDEX journal_said ON journal (json_extract(CAST(body AS TEXT), '$.said_tx')) WHERE kind = 'unproven.resolved';
