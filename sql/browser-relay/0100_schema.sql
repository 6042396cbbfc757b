-- Timestamps are milliseconds since 1970 (UTC).

-- Public keys that web pages send. Rows are deactivated and never deleted, so that an id always refers to the same key.
CREATE TABLE dsn_keys (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    public_key TEXT NOT NULL UNIQUE,
    project TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    active INTEGER NOT NULL DEFAULT 1
);

-- Requests that are waiting for delivery to an upstream service, in order of arrival.
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    upstream TEXT NOT NULL,             -- errors or metrics
    idempotency_key TEXT NOT NULL,      -- lets the upstream ignore a repeated delivery
    body TEXT NOT NULL,
    client TEXT NOT NULL,               -- address of the browser, to which the upstream applies its rate limit
    created_at INTEGER NOT NULL
);
CREATE INDEX outbox_upstream ON outbox (upstream, id);

INSERT INTO counters (name, value) VALUES ('outbox_waiting', 0), ('outbox_bytes', 0), ('outbox_dropped', 0),
    ('outbox_refused', 0);

-- Uploaded source maps. A new upload with the same project, release and file URL replaces the row.
CREATE TABLE source_maps (
    id INTEGER PRIMARY KEY,
    project TEXT NOT NULL,
    release TEXT NOT NULL,
    file_url TEXT NOT NULL,             -- as given in the upload
    file_name TEXT NOT NULL,            -- last path segment of file_url, without .map
    uploaded_at INTEGER NOT NULL,
    used_at INTEGER NOT NULL,           -- time of the last resolved frame, or of the upload
    mappings INTEGER NOT NULL,
    UNIQUE (project, release, file_url)
);
CREATE INDEX source_maps_name ON source_maps (project, release, file_name);
CREATE INDEX source_maps_used ON source_maps (used_at);

-- Uploads in progress. The id becomes the id of the source map. Rows left by a crash are deleted with their blocks
-- at the next start.
CREATE TABLE map_uploads (
    id INTEGER PRIMARY KEY AUTOINCREMENT
);

-- Contents of the source maps in blocks of about 4 KB. A block is stored under the key of its first item, so a lookup
-- reads the block with the greatest key that is not above the requested key:
--   SELECT key, bytes FROM map_blocks WHERE map_id = ? AND kind = ? AND key <= ? ORDER BY key DESC LIMIT 1
CREATE TABLE map_blocks (
    id INTEGER PRIMARY KEY,
    map_id INTEGER NOT NULL,
    kind INTEGER NOT NULL,              -- 0 mappings, 1 sources, 2 names, 3 source contents
    key INTEGER NOT NULL,               -- by kind: generated line and column; index; index; source and line
    bytes BLOB NOT NULL
);
CREATE UNIQUE INDEX map_blocks_key ON map_blocks (map_id, kind, key);
