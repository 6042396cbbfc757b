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
    client TEXT NOT NULL,               -- the address it came from, which the upstream's limits count
    created_at INTEGER NOT NULL
);
CREATE INDEX outbox_upstream ON outbox (upstream, id);

CREATE TABLE totals (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO totals (name, value) VALUES ('outbox_waiting', 0), ('outbox_bytes', 0), ('outbox_dropped', 0),
    ('outbox_refused', 0);

-- Uploaded source maps. One of the same project, release and file replaces the one before.
CREATE TABLE source_maps (
    id INTEGER PRIMARY KEY,
    project TEXT NOT NULL,
    release TEXT NOT NULL,
    file_url TEXT NOT NULL,             -- as it was uploaded
    file_name TEXT NOT NULL,            -- the name of the file in it; see src/browser_relay/maps/urls.rs
    uploaded_at INTEGER NOT NULL,
    used_at INTEGER NOT NULL,           -- when a frame was last mapped by it, or it was uploaded
    mappings INTEGER NOT NULL,
    UNIQUE (project, release, file_url)
);
CREATE INDEX source_maps_name ON source_maps (project, release, file_name);
CREATE INDEX source_maps_used ON source_maps (used_at);

-- Uploads that are being converted. One gives its number to the map; those of a process that died are removed with
-- their blocks at the next start.
CREATE TABLE map_uploads (
    id INTEGER PRIMARY KEY AUTOINCREMENT
);

-- What is in them, in blocks of about 4 KB; see src/browser_relay/maps/mod.rs. The block that has an answer is the one
-- with the greatest key that is not above the question's:
--   SELECT key, bytes FROM map_blocks WHERE map_id = ? AND kind = ? AND key <= ? ORDER BY key DESC LIMIT 1
CREATE TABLE map_blocks (
    id INTEGER PRIMARY KEY,
    map_id INTEGER NOT NULL,
    kind INTEGER NOT NULL,              -- 0 mappings, 1 sources, 2 names, 3 contents
    key INTEGER NOT NULL,               -- generated line and column, index, index, or source and line
    bytes BLOB NOT NULL
);
CREATE UNIQUE INDEX map_blocks_key ON map_blocks (map_id, kind, key);
