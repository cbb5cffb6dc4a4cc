-- The first schema. Amounts are base units (1e-6) and at most 10^15; hashes, addresses and nonces are blobs; times are
-- milliseconds unless the name says otherwise. Rows of transfers, journal, attempts and evidence are never changed.
-- Checks of three words and more are written with OR: SQLite builds a b-tree for every row that it tests against a longer IN.

CREATE TABLE ledger_accounts (
    id INTEGER PRIMARY KEY,
    code TEXT NOT NULL,
    asset TEXT NOT NULL,
    side INTEGER NOT NULL CHECK (side IN (0, 1)),
    floored INTEGER NOT NULL CHECK (floored IN (0, 1)),
    debits_pending INTEGER NOT NULL CHECK (debits_pending >= 0),
    debits_posted INTEGER NOT NULL CHECK (debits_posted >= 0),
    credits_pending INTEGER NOT NULL CHECK (credits_pending >= 0),
    credits_posted INTEGER NOT NULL CHECK (credits_posted >= 0),
    UNIQUE (code, asset),
    -- P2 and P7: the backstop. A trip is a bug and stops the process.
    CHECK (floored = 0 OR side = 0 OR credits_posted - debits_posted - debits_pending >= 0),
    CHECK (floored = 0 OR side = 1 OR debits_posted - credits_posted - credits_pending >= 0)
) STRICT;

CREATE TABLE transfers (
    id INTEGER PRIMARY KEY,
    phase INTEGER NOT NULL CHECK (phase BETWEEN 0 AND 3),
    debit_id INTEGER NOT NULL REFERENCES ledger_accounts (id),
    credit_id INTEGER NOT NULL REFERENCES ledger_accounts (id),
    amount_base INTEGER NOT NULL CHECK (amount_base BETWEEN 1 AND 1000000000000000),
    pending_id INTEGER CHECK ((pending_id IS NULL) = (phase < 2)),
    payment_id TEXT,
    journal_seq INTEGER NOT NULL,
    agent_id TEXT,
    CHECK (debit_id <> credit_id)
) STRICT;
-- A reservation is closed once.
CREATE UNIQUE INDEX transfers_closing ON transfers (pending_id) WHERE pending_id IS NOT NULL;
CREATE INDEX transfers_statement ON transfers (agent_id, id) WHERE agent_id IS NOT NULL;
CREATE INDEX transfers_payment ON transfers (payment_id) WHERE payment_id IS NOT NULL;

CREATE TABLE journal (
    seq INTEGER PRIMARY KEY,
    at_ms INTEGER NOT NULL,
    kind TEXT NOT NULL,
    payment_id TEXT,
    body BLOB NOT NULL,
    digest BLOB NOT NULL CHECK (length(digest) = 32)
) STRICT;
CREATE INDEX journal_payment ON journal (payment_id) WHERE payment_id IS NOT NULL;

CREATE TABLE agent_accounts (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE credits (
    reference TEXT PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES agent_accounts (id),
    amount_base INTEGER NOT NULL
) STRICT;

CREATE TABLE api_keys (
    id TEXT PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES agent_accounts (id),
    digest BLOB NOT NULL UNIQUE CHECK (length(digest) = 32),
    name TEXT NOT NULL,
    scopes TEXT NOT NULL,
    budgets TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    revoked_at_ms INTEGER
) STRICT;

CREATE TABLE budget_uses (
    budget_id TEXT PRIMARY KEY,
    window_started_at_ms INTEGER NOT NULL,
    used_base INTEGER NOT NULL CHECK (used_base >= 0)
) STRICT;

-- delivery: none -> delivered | refused | unknown; transfer: none -> prepared -> presented -> settled | dead;
-- charge: held -> captured | voided | refunded. The arrows are gateway/core/payment.py's.
CREATE TABLE payments (
    id TEXT PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES agent_accounts (id),
    key_id TEXT NOT NULL REFERENCES api_keys (id),
    request_id TEXT NOT NULL,
    vendor TEXT NOT NULL,
    route TEXT NOT NULL,
    method TEXT NOT NULL,
    path TEXT NOT NULL,
    fingerprint BLOB NOT NULL CHECK (length(fingerprint) = 32),
    idempotency_key TEXT,
    represent TEXT NOT NULL CHECK (represent = 'yes' OR represent = 'no' OR represent = 'unknown'),
    -- Terms: of an authorization on chain, or of a billing period at a vendor that charges an account.
    kind TEXT NOT NULL CHECK (kind = 'eip3009' OR kind = 'tempo' OR kind = 'account'),
    asset TEXT NOT NULL,
    value_base INTEGER NOT NULL CHECK (value_base BETWEEN 1 AND 1000000000000000),
    chain_id INTEGER,
    token BLOB CHECK (length(token) = 20),
    wallet BLOB CHECK (length(wallet) = 20),
    pay_to BLOB CHECK (length(pay_to) = 20),
    nonce BLOB CHECK (length(nonce) = 32),
    valid_before_s INTEGER,
    signed_at_block INTEGER,
    fee_base INTEGER,
    splits TEXT,
    tx_hash BLOB CHECK (length(tx_hash) = 32),
    meter_id TEXT,
    period INTEGER,
    starts_at_ms INTEGER,
    ends_at_ms INTEGER,
    hold_base INTEGER NOT NULL CHECK (hold_base BETWEEN 1 AND 1000000000000000),
    created_at_ms INTEGER NOT NULL,
    delivery_deadline_ms INTEGER NOT NULL,
    resource_ref TEXT,
    renews INTEGER NOT NULL CHECK (renews IN (0, 1)),
    delivery TEXT NOT NULL
        CHECK (delivery = 'none' OR delivery = 'delivered' OR delivery = 'refused' OR delivery = 'unknown'),
    transfer TEXT NOT NULL
        CHECK (transfer = 'none' OR transfer = 'prepared' OR transfer = 'presented' OR transfer = 'settled' OR transfer = 'dead'),
    charge TEXT NOT NULL CHECK (charge = 'held' OR charge = 'captured' OR charge = 'voided' OR charge = 'refunded'),
    fault TEXT NOT NULL CHECK (fault = 'none' OR fault = 'agent' OR fault = 'vendor'),
    vendor_status INTEGER,
    settled_base INTEGER NOT NULL CHECK (settled_base BETWEEN 0 AND value_base),
    captured_base INTEGER NOT NULL CHECK (captured_base BETWEEN 0 AND hold_base),
    hold_transfer_id INTEGER NOT NULL REFERENCES transfers (id),
    exposure_transfer_id INTEGER NOT NULL REFERENCES transfers (id),
    answered INTEGER NOT NULL CHECK (answered IN (0, 1)),
    disputed INTEGER NOT NULL CHECK (disputed IN (0, 1)),
    closed_at_ms INTEGER,
    CHECK ((kind = 'account') = (meter_id IS NOT NULL AND period IS NOT NULL AND ends_at_ms > starts_at_ms)),
    CHECK (kind <> 'account' OR (chain_id IS NULL AND token IS NULL AND wallet IS NULL AND pay_to IS NULL AND nonce IS NULL)),
    CHECK (
        kind = 'account'
        OR (
            chain_id IS NOT NULL AND token IS NOT NULL AND wallet IS NOT NULL AND pay_to IS NOT NULL AND nonce IS NOT NULL
            AND valid_before_s IS NOT NULL AND signed_at_block IS NOT NULL AND fee_base >= 0
        )
    ),
    CHECK ((charge = 'held') = (closed_at_ms IS NULL)),
    CHECK (charge <> 'captured' OR transfer = 'settled')
) STRICT;
CREATE INDEX payments_account ON payments (account_id, id);
CREATE INDEX payments_open ON payments (id) WHERE charge = 'held' OR answered = 0;
CREATE INDEX payments_unpaid ON payments (account_id, closed_at_ms) WHERE delivery = 'delivered' AND transfer = 'dead' AND kind <> 'account';
CREATE INDEX payments_refunded ON payments (vendor, account_id, closed_at_ms) WHERE charge = 'refunded';
CREATE INDEX payments_resource ON payments (vendor, resource_ref) WHERE resource_ref IS NOT NULL;
CREATE INDEX payments_key ON payments (key_id, id);
-- One charge per billing period.
CREATE UNIQUE INDEX payments_period ON payments (meter_id, period) WHERE meter_id IS NOT NULL;
-- One renewal of a resource may be open at a time.
CREATE UNIQUE INDEX payments_renewal ON payments (vendor, resource_ref) WHERE renews = 1 AND charge = 'held';

-- P13: an authorization's identity on chain, whatever it pays for.
CREATE TABLE authorizations (
    chain_id INTEGER NOT NULL,
    token BLOB NOT NULL,
    authorizer BLOB NOT NULL,
    nonce BLOB NOT NULL,
    payment_id TEXT NOT NULL,
    PRIMARY KEY (chain_id, token, authorizer, nonce)
) STRICT, WITHOUT ROWID;

CREATE TABLE attempts (
    payment_id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    value_base INTEGER NOT NULL,
    valid_before_s INTEGER NOT NULL,
    sealed_request BLOB NOT NULL,
    created_at_ms INTEGER NOT NULL,
    PRIMARY KEY (payment_id, seq)
) STRICT;

-- An idempotency key of an account: a purchase's, or (payment_id null) one whose answer is kept here.
CREATE TABLE claims (
    account_id TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    fingerprint BLOB NOT NULL,
    payment_id TEXT,
    status INTEGER,
    sealed BLOB,
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (account_id, idempotency_key)
) STRICT;

CREATE TABLE answers (
    payment_id TEXT PRIMARY KEY,
    status INTEGER NOT NULL,
    sealed BLOB NOT NULL,
    at_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE evidence (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind = 'settled' OR kind = 'canceled' OR kind = 'unused' OR kind = 'failed' OR kind = 'outflow'),
    chain_id INTEGER NOT NULL,
    block_number INTEGER NOT NULL,
    block_hash BLOB NOT NULL CHECK (length(block_hash) = 32),
    block_time_s INTEGER NOT NULL,
    tx_hash BLOB CHECK (tx_hash IS NULL OR length(tx_hash) = 32),
    log_index INTEGER,
    payment_id TEXT,
    value_base INTEGER NOT NULL,
    witnesses TEXT NOT NULL,
    fee_base INTEGER NOT NULL CHECK (fee_base >= 0),
    -- A failed transaction has no log that could say so: it is its own evidence.
    CHECK ((tx_hash IS NULL) = (log_index IS NULL AND kind != 'failed')),
    CHECK (kind != 'failed' OR log_index IS NULL)
) STRICT;
CREATE UNIQUE INDEX evidence_log ON evidence (chain_id, tx_hash, log_index) WHERE tx_hash IS NOT NULL;
CREATE UNIQUE INDEX evidence_failed ON evidence (chain_id, tx_hash) WHERE kind = 'failed';
CREATE UNIQUE INDEX evidence_payment ON evidence (payment_id) WHERE payment_id IS NOT NULL;
CREATE INDEX evidence_tx ON evidence (tx_hash) WHERE tx_hash IS NOT NULL;

CREATE TABLE resources (
    vendor TEXT NOT NULL,
    ref TEXT NOT NULL,
    account_id TEXT NOT NULL REFERENCES agent_accounts (id),
    payment_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    surrogate_digest BLOB,
    sealed_secret BLOB,
    expires_at_ms INTEGER,
    as_of_ms INTEGER NOT NULL,
    open_renewal TEXT,
    label TEXT NOT NULL,
    meter_id TEXT,
    plan TEXT NOT NULL,
    PRIMARY KEY (vendor, ref)
) STRICT;
CREATE INDEX payments_charged ON payments (account_id, vendor, id) WHERE charge = 'captured';
CREATE INDEX resources_account ON resources (account_id, vendor, ref);
CREATE INDEX resources_ref ON resources (ref);

CREATE TABLE tasks (
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail TEXT NOT NULL,
    opened_at_ms INTEGER NOT NULL,
    payment_id TEXT,
    closed_at_ms INTEGER,
    resolution TEXT
) STRICT;
CREATE UNIQUE INDEX tasks_open ON tasks (kind, subject) WHERE closed_at_ms IS NULL;

CREATE TABLE freezes (
    scope TEXT PRIMARY KEY,
    reason TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    by_whom TEXT NOT NULL
) STRICT;

CREATE TABLE payees (
    vendor TEXT NOT NULL,
    chain_id INTEGER NOT NULL,
    pay_to BLOB NOT NULL,
    approved_at_ms INTEGER NOT NULL,
    PRIMARY KEY (vendor, chain_id, pay_to)
) STRICT;

CREATE TABLE prices (
    vendor TEXT NOT NULL,
    item TEXT NOT NULL,
    observed_base INTEGER,
    observed_at_ms INTEGER,
    approved_base INTEGER,
    PRIMARY KEY (vendor, item)
) STRICT;

CREATE TABLE cursors (
    chain_id INTEGER PRIMARY KEY,
    block_number INTEGER NOT NULL,
    block_hash BLOB NOT NULL,
    block_time_s INTEGER NOT NULL
) STRICT;

-- What a thing at an account vendor has cost so far (gateway/core/meter.py); rates and the exact cost are text.
CREATE TABLE meters (
    id TEXT PRIMARY KEY,
    vendor TEXT NOT NULL,
    account_id TEXT NOT NULL REFERENCES agent_accounts (id),
    key_id TEXT NOT NULL REFERENCES api_keys (id),
    kind TEXT NOT NULL,
    token TEXT NOT NULL,
    label TEXT NOT NULL,
    hourly TEXT NOT NULL,
    monthly TEXT,
    unit_s INTEGER NOT NULL,
    rule TEXT NOT NULL,
    while_running INTEGER NOT NULL CHECK (while_running IN (0, 1)),
    created_at_ms INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state = 'ordered' OR state = 'running' OR state = 'ending' OR state = 'ended'),
    ref TEXT,
    running_since_ms INTEGER,
    accrued TEXT NOT NULL,
    accrued_until_ms INTEGER NOT NULL,
    billed_base INTEGER NOT NULL CHECK (billed_base >= 0),
    lost_base INTEGER NOT NULL CHECK (lost_base BETWEEN 0 AND billed_base),
    seq INTEGER NOT NULL,
    held_until_ms INTEGER NOT NULL,
    billed_until_ms INTEGER NOT NULL,
    warned_at_ms INTEGER,
    unfunded_at_ms INTEGER,
    reason TEXT NOT NULL,
    ended_at_ms INTEGER,
    CHECK ((state = 'ended') = (ended_at_ms IS NOT NULL)),
    UNIQUE (vendor, token)
) STRICT;
CREATE INDEX meters_open ON meters (id) WHERE state <> 'ended';
CREATE INDEX meters_account ON meters (account_id, id);

CREATE TABLE vendor_balances (
    vendor TEXT PRIMARY KEY,
    balance_base INTEGER NOT NULL,
    at_ms INTEGER NOT NULL
) STRICT;

-- P13: a challenge that a proof of identity answered is never answered again.
CREATE TABLE challenges (
    vendor TEXT NOT NULL,
    challenge_id TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (vendor, challenge_id)
) STRICT, WITHOUT ROWID;

-- P13: an event is taken once, however often a vendor sends it. It is pending until it is handled.
CREATE TABLE vendor_events (
    vendor TEXT NOT NULL,
    event_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    ref TEXT NOT NULL,
    state TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    received_at_ms INTEGER NOT NULL,
    handled_at_ms INTEGER,
    PRIMARY KEY (vendor, event_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX vendor_events_pending ON vendor_events (vendor) WHERE handled_at_ms IS NULL;
