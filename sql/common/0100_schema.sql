-- Tables that every service has. src/db/ creates them before the service's own tables.

-- schema_version: 100 is schema 1.0, and each later migration adds 1. oldest_reader: the schema version of the oldest
-- program that can still use the file.
CREATE TABLE _meta (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Named numbers, which replace counting rows. Each service inserts its own.
CREATE TABLE counters (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Results of commands with an idempotency key, which a repeated request receives again.
CREATE TABLE idempotency_keys (
    principal TEXT NOT NULL,            -- name of the API key
    key TEXT NOT NULL CHECK (length(key) BETWEEN 1 AND 64),
    created_at_ms INTEGER NOT NULL CHECK (created_at_ms >= 0),
    result TEXT NOT NULL,               -- JSON
    PRIMARY KEY (principal, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at_ms);

-- Sessions of the web UI.
CREATE TABLE sessions (
    token_sha256 BLOB PRIMARY KEY CHECK (length(token_sha256) = 32),    -- of the cookie
    key_sha256 BLOB NOT NULL CHECK (length(key_sha256) = 32),           -- of the API key that created the session
    expires_at_ms INTEGER NOT NULL CHECK (expires_at_ms >= 0)
) STRICT, WITHOUT ROWID;

-- Position up to which records were forwarded to another system: one row, or none while forwarding is off.
CREATE TABLE export_cursor (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    last_id INTEGER NOT NULL,           -- id of the last forwarded record
    accepted INTEGER NOT NULL CHECK (accepted >= 0),    -- records by outcome
    rejected INTEGER NOT NULL CHECK (rejected >= 0),
    missed INTEGER NOT NULL CHECK (missed >= 0)         -- deleted before they were forwarded
) STRICT;
