-- Moments are milliseconds since 1970 (UTC).

-- What pages hold. A key is never removed, so that what it sent can be told by its number.
CREATE TABLE dsn_keys (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    public_key TEXT NOT NULL UNIQUE,
    project TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    active INTEGER NOT NULL DEFAULT 1
);

-- What an upstream could not take yet, in the order it came.
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    upstream TEXT NOT NULL,             -- errors or metrics
    idempotency_key TEXT NOT NULL,      -- a second delivery changes nothing
    body TEXT NOT NULL,
    created_at INTEGER NOT NULL
);
CREATE INDEX outbox_upstream ON outbox (upstream, id);

CREATE TABLE totals (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO totals (name, value) VALUES ('outbox_bytes', 0), ('outbox_dropped', 0), ('outbox_refused', 0);
