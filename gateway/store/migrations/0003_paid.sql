-- Being paid: settlements and the transactions that carry them, orders for credit, receipts, refunds, sellers. Every row of the
-- first five tables is the newest version of a record of gateway/core/paid.py; earlier versions are rows of the journal. Wei,
-- and what may be as large as the chain's 256 bits, are decimal text.

-- An authorization's identity has one owner for ever (P13): its row in `authorizations` names a payment, a top-up, a refund, or
-- the settlement of a seller's. Settlements of the house's own top-ups and refunds have the identity of what they settle.

CREATE TABLE settlements (
    id TEXT PRIMARY KEY,
    account_id TEXT NOT NULL,
    chain_id INTEGER NOT NULL,
    token BLOB NOT NULL CHECK (length(token) = 20),
    authorizer BLOB NOT NULL CHECK (length(authorizer) = 20),
    nonce BLOB NOT NULL CHECK (length(nonce) = 32),
    pay_to BLOB NOT NULL CHECK (length(pay_to) = 20),
    value_base INTEGER NOT NULL CHECK (value_base BETWEEN 0 AND 1000000000000000),
    valid_after_s TEXT NOT NULL,
    valid_before_s TEXT NOT NULL,
    signature BLOB NOT NULL,
    contract_wallet INTEGER NOT NULL CHECK (contract_wallet IN (0, 1)),
    created_at_ms INTEGER NOT NULL,
    state TEXT NOT NULL
        CHECK (state = 'claimed' OR state = 'sent' OR state = 'mined' OR state = 'final' OR state = 'failed'),
    relay_id TEXT REFERENCES relays (id) DEFERRABLE INITIALLY DEFERRED,
    tx_hash BLOB CHECK (length(tx_hash) = 32),
    block_number INTEGER,
    reason TEXT NOT NULL,
    fence INTEGER NOT NULL CHECK (fence >= 1),
    version INTEGER NOT NULL CHECK (version >= 1),
    ended_at_ms INTEGER,
    CHECK (state <> 'final' OR ended_at_ms IS NOT NULL),
    CHECK (ended_at_ms IS NULL OR state = 'final' OR state = 'failed'),
    UNIQUE (chain_id, token, authorizer, nonce)
) STRICT;
CREATE INDEX settlements_open ON settlements (id) WHERE state = 'claimed' OR state = 'sent' OR state = 'mined';
CREATE INDEX settlements_account ON settlements (account_id, id);
CREATE INDEX settlements_tx ON settlements (tx_hash) WHERE tx_hash IS NOT NULL;
CREATE INDEX settlements_relay ON settlements (relay_id) WHERE relay_id IS NOT NULL;
CREATE INDEX settlements_burnt ON settlements (account_id, ended_at_ms) WHERE state = 'failed' AND relay_id IS NOT NULL;

CREATE TABLE relays (
    id TEXT PRIMARY KEY,
    chain_id INTEGER NOT NULL,
    relayer BLOB NOT NULL CHECK (length(relayer) = 20),
    account_nonce INTEGER NOT NULL CHECK (account_nonce >= 0),
    purpose TEXT NOT NULL,
    settlement_ids TEXT NOT NULL,
    gas INTEGER NOT NULL CHECK (gas >= 0),
    attempts TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state = 'sent' OR state = 'mined' OR state = 'final' OR state = 'lost'),
    mined_hash BLOB CHECK (length(mined_hash) = 32),
    block_number INTEGER,
    status INTEGER,
    fee_wei TEXT NOT NULL,
    version INTEGER NOT NULL CHECK (version >= 1),
    ended_at_ms INTEGER,
    CHECK ((state = 'final' OR state = 'lost') = (ended_at_ms IS NOT NULL)),
    UNIQUE (chain_id, relayer, account_nonce)
) STRICT;
CREATE INDEX relays_open ON relays (id) WHERE state = 'sent' OR state = 'mined';
CREATE INDEX relays_tx ON relays (mined_hash) WHERE mined_hash IS NOT NULL;

CREATE TABLE topups (
    id TEXT PRIMARY KEY,
    account_id TEXT REFERENCES agent_accounts (id),
    -- Whose client token it is: of the account that ordered ('' for nobody), whoever is credited in the end.
    token_owner TEXT NOT NULL,
    amount_base INTEGER NOT NULL CHECK (amount_base BETWEEN 1 AND 1000000000000000),
    pack TEXT NOT NULL,
    client_token TEXT NOT NULL,
    fingerprint BLOB NOT NULL CHECK (length(fingerprint) = 32),
    created_at_ms INTEGER NOT NULL,
    expires_at_ms INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (
        state = 'open' OR state = 'paying' OR state = 'seen' OR state = 'credited' OR state = 'failed' OR state = 'expired'
    ),
    rail TEXT NOT NULL,
    chain_id INTEGER,
    token BLOB CHECK (length(token) = 20),
    payer BLOB CHECK (length(payer) = 20),
    nonce BLOB CHECK (length(nonce) = 32),
    value_base INTEGER CHECK (value_base BETWEEN 0 AND 1000000000000000),
    valid_before_s TEXT,
    settlement_id TEXT REFERENCES settlements (id),
    challenge_id TEXT,
    raw BLOB,
    tx_hash BLOB CHECK (length(tx_hash) = 32),
    receipt_id TEXT REFERENCES incoming (id) DEFERRABLE INITIALLY DEFERRED,
    credited_base INTEGER NOT NULL CHECK (credited_base BETWEEN 0 AND 1000000000000000),
    lent_base INTEGER NOT NULL CHECK (lent_base BETWEEN 0 AND 1000000000000000),
    reason TEXT NOT NULL,
    version INTEGER NOT NULL CHECK (version >= 1),
    ended_at_ms INTEGER,
    CHECK ((state = 'credited') = (receipt_id IS NOT NULL)),
    CHECK (state <> 'credited' OR (account_id IS NOT NULL AND ended_at_ms IS NOT NULL)),
    CHECK (ended_at_ms IS NULL OR lent_base = 0),
    CHECK (lent_base = 0 OR state = 'seen' OR state = 'paying'),
    CHECK (state <> 'paying' OR nonce IS NOT NULL),
    CHECK (
        (nonce IS NULL) = (chain_id IS NULL) AND (nonce IS NULL) = (token IS NULL) AND (nonce IS NULL) = (payer IS NULL)
    )
) STRICT;
CREATE UNIQUE INDEX topups_token ON topups (token_owner, client_token) WHERE client_token <> '';
CREATE UNIQUE INDEX topups_receipt ON topups (receipt_id) WHERE receipt_id IS NOT NULL;
CREATE INDEX topups_open ON topups (id) WHERE ended_at_ms IS NULL;
CREATE INDEX topups_account ON topups (account_id, id) WHERE account_id IS NOT NULL;
CREATE INDEX topups_tx ON topups (tx_hash) WHERE tx_hash IS NOT NULL;

CREATE TABLE incoming (
    id TEXT PRIMARY KEY,
    chain_id INTEGER NOT NULL,
    token BLOB NOT NULL CHECK (length(token) = 20),
    asset TEXT NOT NULL,
    till BLOB NOT NULL CHECK (length(till) = 20),
    sender BLOB NOT NULL CHECK (length(sender) = 20),
    value_base INTEGER NOT NULL CHECK (value_base BETWEEN 1 AND 1000000000000000),
    tx_hash BLOB NOT NULL CHECK (length(tx_hash) = 32),
    log_index INTEGER NOT NULL CHECK (log_index >= 0),
    block_number INTEGER NOT NULL,
    block_time_s INTEGER NOT NULL,
    nonce BLOB,
    at_ms INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state = 'credited' OR state = 'unclaimed' OR state = 'capital' OR state = 'returned'),
    account_id TEXT REFERENCES agent_accounts (id),
    topup_id TEXT REFERENCES topups (id) DEFERRABLE INITIALLY DEFERRED,
    amount_base INTEGER NOT NULL CHECK (amount_base BETWEEN 0 AND 1000000000000000),
    refunded_base INTEGER NOT NULL CHECK (refunded_base BETWEEN 0 AND amount_base),
    refundable INTEGER NOT NULL CHECK (refundable IN (0, 1)),
    note TEXT NOT NULL,
    version INTEGER NOT NULL CHECK (version >= 1),
    CHECK ((state = 'credited') = (account_id IS NOT NULL)),
    CHECK (refunded_base = 0 OR refundable = 1),
    UNIQUE (chain_id, tx_hash, log_index)
) STRICT;
CREATE INDEX incoming_account ON incoming (account_id, id) WHERE account_id IS NOT NULL;
CREATE INDEX incoming_unclaimed ON incoming (id) WHERE state = 'unclaimed';
CREATE INDEX incoming_funders ON incoming (sender) WHERE refundable = 1 AND state = 'credited';
CREATE INDEX incoming_tx ON incoming (tx_hash);

CREATE TABLE refunds (
    id TEXT PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES agent_accounts (id),
    key_id TEXT NOT NULL,
    receipt_id TEXT NOT NULL REFERENCES incoming (id),
    amount_base INTEGER NOT NULL CHECK (amount_base BETWEEN 1 AND 1000000000000000),
    chain_id INTEGER NOT NULL,
    token BLOB NOT NULL CHECK (length(token) = 20),
    asset TEXT NOT NULL,
    till BLOB NOT NULL CHECK (length(till) = 20),
    "to" BLOB NOT NULL CHECK (length("to") = 20),
    value_base INTEGER NOT NULL CHECK (value_base BETWEEN 1 AND 1000000000000000),
    nonce BLOB NOT NULL CHECK (length(nonce) = 32),
    valid_before_s TEXT NOT NULL,
    signature BLOB NOT NULL,
    client_token TEXT NOT NULL,
    fingerprint BLOB NOT NULL CHECK (length(fingerprint) = 32),
    created_at_ms INTEGER NOT NULL,
    fee_base INTEGER NOT NULL CHECK (fee_base BETWEEN 0 AND 1000000000000000),
    state TEXT NOT NULL CHECK (state = 'held' OR state = 'sent' OR state = 'settled' OR state = 'dead'),
    settlement_id TEXT REFERENCES settlements (id),
    tx_hash BLOB CHECK (length(tx_hash) = 32),
    hold_transfer_id INTEGER NOT NULL REFERENCES transfers (id),
    exposure_transfer_id INTEGER NOT NULL REFERENCES transfers (id),
    reason TEXT NOT NULL,
    version INTEGER NOT NULL CHECK (version >= 1),
    ended_at_ms INTEGER,
    CHECK ((state = 'settled' OR state = 'dead') = (ended_at_ms IS NOT NULL)),
    UNIQUE (account_id, client_token)
) STRICT;
CREATE INDEX refunds_open ON refunds (id) WHERE ended_at_ms IS NULL;
CREATE INDEX refunds_account ON refunds (account_id, id);
CREATE INDEX refunds_receipt ON refunds (receipt_id);
CREATE INDEX refunds_tx ON refunds (tx_hash) WHERE tx_hash IS NOT NULL;

CREATE TABLE wallet_accounts (
    address BLOB PRIMARY KEY CHECK (length(address) = 20),
    account_id TEXT NOT NULL REFERENCES agent_accounts (id),
    created_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX wallet_accounts_account ON wallet_accounts (account_id);

CREATE TABLE sellers (
    account_id TEXT PRIMARY KEY REFERENCES agent_accounts (id),
    gas_budget_wei TEXT NOT NULL,
    window_s INTEGER NOT NULL CHECK (window_s >= 1),
    latency_s REAL NOT NULL CHECK (latency_s >= 0),
    payees TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    version INTEGER NOT NULL CHECK (version >= 1),
    ended_at_ms INTEGER
) STRICT;

-- Up to which final block every transfer of a token to and from a till is booked. A till that leaves the configuration keeps
-- its cursor, so that it is read from there when it comes back.
CREATE TABLE till_cursors (
    chain_id INTEGER NOT NULL,
    till BLOB NOT NULL CHECK (length(till) = 20),
    token BLOB NOT NULL CHECK (length(token) = 20),
    block_number INTEGER NOT NULL,
    block_hash BLOB NOT NULL CHECK (length(block_hash) = 32),
    PRIMARY KEY (chain_id, till, token)
) STRICT, WITHOUT ROWID;

-- Operator's credit that is not spent yet: it is spent first, and never goes back on chain. Before this schema nothing but
-- such credit ever funded an account.
CREATE TABLE grants (
    account_id TEXT PRIMARY KEY REFERENCES agent_accounts (id),
    left_base INTEGER NOT NULL CHECK (left_base >= 0)
) STRICT;
INSERT INTO grants
SELECT substr(code, 7), credits_posted - debits_posted FROM ledger_accounts
WHERE code LIKE 'agent:%' AND asset = 'USD' AND credits_posted > debits_posted;

-- Evidence also proves what came in, what went back, and what an operator returned: the same table, the same uniqueness.
ALTER TABLE evidence RENAME TO evidence_before_paid;
DROP INDEX evidence_log;
DROP INDEX evidence_failed;
DROP INDEX evidence_payment;
DROP INDEX evidence_tx;
CREATE TABLE evidence (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL CHECK (
        kind = 'settled' OR kind = 'canceled' OR kind = 'unused' OR kind = 'failed' OR kind = 'outflow'
        OR kind = 'received' OR kind = 'refunded' OR kind = 'returned'
    ),
    chain_id INTEGER NOT NULL,
    block_number INTEGER NOT NULL,
    block_hash BLOB NOT NULL CHECK (length(block_hash) = 32),
    block_time_s INTEGER NOT NULL,
    tx_hash BLOB CHECK (tx_hash IS NULL OR length(tx_hash) = 32),
    log_index INTEGER,
    -- The payment, the receipt or the refund that it closes.
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
FROM evidence_before_paid;
DROP TABLE evidence_before_paid;
CREATE UNIQUE INDEX evidence_log ON evidence (chain_id, tx_hash, log_index) WHERE tx_hash IS NOT NULL;
CREATE UNIQUE INDEX evidence_failed ON evidence (chain_id, tx_hash) WHERE kind = 'failed';
CREATE UNIQUE INDEX evidence_payment ON evidence (payment_id) WHERE payment_id IS NOT NULL;
CREATE INDEX evidence_tx ON evidence (tx_hash) WHERE tx_hash IS NOT NULL;
