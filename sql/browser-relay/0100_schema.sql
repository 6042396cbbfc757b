-- Public keys, waiting requests and source maps of the browser relay.
-- Times are milliseconds since 1970 (UTC).

-- Public keys that web pages send. Rows are deactivated and never deleted, so that an id always refers to the same key.
CREATE TABLE dsn_keys (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    public_key TEXT NOT NULL UNIQUE,
    project TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,     -- 0 if the original stored no valid time
    active INTEGER NOT NULL DEFAULT 1 CHECK (active IN (0, 1))
) STRICT;

-- Services that the relay forwards to. A later migration may add a row, but rows never change and are never deleted.
CREATE TABLE upstreams (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;
INSERT INTO upstreams (id, name) VALUES (1, 'error tracker'), (2, 'metrics collector');

-- Requests that are waiting for delivery to an upstream, in order of arrival.
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    upstream_id INTEGER NOT NULL REFERENCES upstreams (id),
    idempotency_key TEXT NOT NULL,      -- lets the upstream ignore a repeated delivery
    body TEXT NOT NULL,                 -- JSON
    client TEXT NOT NULL,               -- IP address of the browser, to which the upstream applies its rate limit
    created_at_ms INTEGER NOT NULL CHECK (created_at_ms >= 0)
) STRICT;
CREATE INDEX outbox_by_upstream ON outbox (upstream_id, id);

-- outbox_waiting: rows. outbox_bytes: their estimated size. outbox_dropped: requests deleted because the outbox was full.
-- outbox_refused: requests that an upstream rejected.
INSERT INTO counters (name, value) VALUES ('outbox_waiting', 0), ('outbox_bytes', 0), ('outbox_dropped', 0),
    ('outbox_refused', 0);

-- Contents of the source maps. A row without a source map is an upload in progress; those left by a crash are deleted at
-- the next start. Ids are never reused, because lookups are cached by id.
CREATE TABLE map_contents (
    id INTEGER PRIMARY KEY AUTOINCREMENT
) STRICT;

-- Uploaded source maps. A new upload with the same project, release and file URL replaces the row.
CREATE TABLE source_maps (
    id INTEGER PRIMARY KEY REFERENCES map_contents (id) ON DELETE CASCADE,
    project TEXT NOT NULL,
    release TEXT NOT NULL,
    file_url TEXT NOT NULL,             -- as given in the upload
    file_name TEXT NOT NULL,            -- last path segment of file_url, without .map
    uploaded_at_ms INTEGER NOT NULL,
    used_at_ms INTEGER NOT NULL,        -- time of the last resolved frame, or of the upload
    mappings INTEGER NOT NULL CHECK (mappings >= 0),    -- number of mappings
    UNIQUE (project, release, file_url)
) STRICT;
CREATE INDEX source_maps_by_file_name ON source_maps (project, release, file_name);
CREATE INDEX source_maps_by_use ON source_maps (used_at_ms);

-- Kinds of blocks. A later migration may add a row, but rows never change and are never deleted.
CREATE TABLE map_block_kinds (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;
INSERT INTO map_block_kinds (id, name) VALUES (1, 'mappings'), (2, 'source URLs'), (3, 'names'), (4, 'source chunks');

-- Contents of the source maps in blocks of about 4 KB. A block is stored under the key of its first item, so a lookup
-- reads the block with the greatest key that is not above the requested key:
--   SELECT key, data FROM map_blocks WHERE map_id = ? AND kind_id = ? AND key <= ? ORDER BY key DESC LIMIT 1
-- Each transaction deletes the blocks of one map, whose size is limited by MAX_SOURCE_MAP_SIZE.
CREATE TABLE map_blocks (
    id INTEGER PRIMARY KEY,
    map_id INTEGER NOT NULL REFERENCES map_contents (id) ON DELETE CASCADE,
    kind_id INTEGER NOT NULL REFERENCES map_block_kinds (id),    -- no index, because kinds are never deleted
    key INTEGER NOT NULL CHECK (key >= 0),  -- by kind: generated line and column; index; index; source and line
    data BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX map_blocks_by_key ON map_blocks (map_id, kind_id, key);
