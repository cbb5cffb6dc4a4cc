-- The neutral API: servers, what is kept with them, and who is told of what happens. Every row of the first six tables is the
-- newest version of a record of gateway/core/server.py; earlier versions are rows of the journal.

CREATE TABLE fleets (
    id TEXT PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES agent_accounts (id),
    key_id TEXT NOT NULL REFERENCES api_keys (id),
    name TEXT NOT NULL,
    client_token TEXT NOT NULL,
    fingerprint BLOB NOT NULL CHECK (length(fingerprint) = 32),
    sealed_spec BLOB NOT NULL,
    count INTEGER NOT NULL CHECK (count >= 0),
    until_ms INTEGER NOT NULL,
    budget_base INTEGER NOT NULL CHECK (budget_base BETWEEN 0 AND 1000000000000000),
    created_at_ms INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state = 'active' OR state = 'exhausted' OR state = 'ending' OR state = 'ended'),
    reason TEXT NOT NULL,
    made INTEGER NOT NULL CHECK (made >= 0),
    ended_at_ms INTEGER,
    version INTEGER NOT NULL CHECK (version >= 1),
    CHECK ((state = 'ended') = (ended_at_ms IS NOT NULL)),
    UNIQUE (account_id, client_token)
) STRICT;
CREATE INDEX fleets_account ON fleets (account_id, id);
CREATE INDEX fleets_open ON fleets (id) WHERE ended_at_ms IS NULL;

CREATE TABLE quotes (
    id TEXT PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES agent_accounts (id),
    vendor TEXT NOT NULL,
    plan TEXT NOT NULL,
    region TEXT NOT NULL,
    first_charge_max_base INTEGER NOT NULL CHECK (first_charge_max_base BETWEEN 0 AND 1000000000000000),
    document TEXT NOT NULL,
    sealed_spec BLOB NOT NULL,
    created_at_ms INTEGER NOT NULL,
    expires_at_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE servers (
    id TEXT PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES agent_accounts (id),
    key_id TEXT NOT NULL REFERENCES api_keys (id),
    name TEXT NOT NULL,
    client_token TEXT NOT NULL,
    fingerprint BLOB NOT NULL CHECK (length(fingerprint) = 32),
    sealed_spec BLOB NOT NULL,
    candidates TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    as_of_ms INTEGER NOT NULL,
    vendor TEXT NOT NULL,
    plan TEXT NOT NULL,
    region TEXT NOT NULL,
    tried INTEGER NOT NULL CHECK (tried >= 0),
    state TEXT NOT NULL CHECK (
        state = 'ordering' OR state = 'order_unknown' OR state = 'provisioning' OR state = 'running'
        OR state = 'stopping' OR state = 'stopped' OR state = 'starting' OR state = 'rebooting'
        OR state = 'suspended' OR state = 'grace' OR state = 'error' OR state = 'unknown'
        OR state = 'destroying' OR state = 'destroyed' OR state = 'lapsed' OR state = 'failed' OR state = 'lost'
    ),
    wanted TEXT NOT NULL CHECK (wanted IN ('kept', 'destroyed')),
    reason TEXT NOT NULL,
    quote_id TEXT REFERENCES quotes (id),
    fleet_id TEXT REFERENCES fleets (id),
    ref TEXT,
    payment_id TEXT,
    address TEXT NOT NULL,
    image TEXT NOT NULL,
    sealed_access BLOB,
    expires_at_ms INTEGER,
    until_reason TEXT NOT NULL,
    keep_until_ms INTEGER,
    auto_renew INTEGER NOT NULL CHECK (auto_renew IN (0, 1)),
    max_total_base INTEGER CHECK (max_total_base BETWEEN 0 AND 1000000000000000),
    renewal TEXT NOT NULL,
    renewals INTEGER NOT NULL CHECK (renewals >= 0),
    warned TEXT NOT NULL,
    ready_at_ms INTEGER,
    ended_at_ms INTEGER,
    version INTEGER NOT NULL CHECK (version >= 1),
    -- A server that has ended says when: what is open is found by that.
    CHECK (
        (state = 'destroyed' OR state = 'lapsed' OR state = 'failed' OR state = 'lost') = (ended_at_ms IS NOT NULL)
    ),
    UNIQUE (account_id, client_token)
) STRICT;
CREATE INDEX servers_account ON servers (account_id, id);
CREATE INDEX servers_open ON servers (id) WHERE ended_at_ms IS NULL;
-- A vendor's thing is at most one open server's.
CREATE UNIQUE INDEX servers_ref_open ON servers (vendor, ref) WHERE ref IS NOT NULL AND ended_at_ms IS NULL;
CREATE INDEX servers_ref ON servers (vendor, ref) WHERE ref IS NOT NULL;
CREATE INDEX servers_fleet ON servers (fleet_id, id) WHERE fleet_id IS NOT NULL;
CREATE INDEX servers_payment ON servers (payment_id) WHERE payment_id IS NOT NULL;

CREATE TABLE snapshots (
    id TEXT PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES agent_accounts (id),
    server_id TEXT NOT NULL REFERENCES servers (id),
    vendor TEXT NOT NULL,
    ref TEXT NOT NULL,
    name TEXT NOT NULL,
    state TEXT NOT NULL CHECK (
        state = 'pending' OR state = 'available' OR state = 'error' OR state = 'expired' OR state = 'deleted'
        OR state = 'unknown'
    ),
    created_at_ms INTEGER NOT NULL,
    as_of_ms INTEGER NOT NULL,
    expires_at_ms INTEGER,
    size_gib TEXT NOT NULL,
    version INTEGER NOT NULL CHECK (version >= 1)
) STRICT;
CREATE INDEX snapshots_account ON snapshots (account_id, id);
CREATE INDEX snapshots_server ON snapshots (server_id, id);

CREATE TABLE ssh_keys (
    id TEXT PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES agent_accounts (id),
    name TEXT NOT NULL,
    public_key TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    installed TEXT NOT NULL,
    deleted_at_ms INTEGER,
    version INTEGER NOT NULL CHECK (version >= 1)
) STRICT;
CREATE INDEX ssh_keys_account ON ssh_keys (account_id, id);

CREATE TABLE hooks (
    id TEXT PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES agent_accounts (id),
    url TEXT NOT NULL,
    sealed_secret BLOB NOT NULL,
    events TEXT NOT NULL,
    description TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    disabled_reason TEXT NOT NULL,
    deleted_at_ms INTEGER,
    version INTEGER NOT NULL CHECK (version >= 1)
) STRICT;
CREATE INDEX hooks_account ON hooks (account_id, id);
CREATE INDEX hooks_open ON hooks (id) WHERE deleted_at_ms IS NULL;

-- One event on its way to one endpoint: the journal row that it reads, and what became of it.
CREATE TABLE hook_deliveries (
    hook_id TEXT NOT NULL REFERENCES hooks (id),
    event_seq INTEGER NOT NULL,
    account_id TEXT NOT NULL REFERENCES agent_accounts (id),
    state TEXT NOT NULL CHECK (state = 'pending' OR state = 'delivered' OR state = 'given_up'),
    attempts INTEGER NOT NULL CHECK (attempts >= 0),
    due_at_ms INTEGER NOT NULL,
    created_at_ms INTEGER NOT NULL,
    last_status INTEGER,
    last_error TEXT NOT NULL,
    done_at_ms INTEGER,
    PRIMARY KEY (hook_id, event_seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX hook_deliveries_pending ON hook_deliveries (hook_id) WHERE state = 'pending';

-- Up to which row the journal was read for whom it concerns.
CREATE TABLE told (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    seq INTEGER NOT NULL CHECK (seq >= 0)
) STRICT;

-- What a server costs: its charges by the thing, without the periods of its meter (those are summed there), and what is held.
CREATE INDEX payments_thing ON payments (vendor, resource_ref) WHERE resource_ref IS NOT NULL AND meter_id IS NULL;
CREATE INDEX payments_held_periods ON payments (meter_id) WHERE meter_id IS NOT NULL AND charge = 'held';
