-- Sources of logs, their checkpoints, and the entries in a ring of segments.
-- Times are since 1970 (UTC), in the unit of the column's suffix: _ns nanoseconds, _min minutes. They may be negative.
-- Rows of the enumerations source_kinds, streams and levels are never deleted, so columns that refer to them have no index.

CREATE TABLE source_kinds (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;
INSERT INTO source_kinds (id, name) VALUES (1, 'Docker container'), (2, 'text file');

CREATE TABLE streams (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE           -- as Docker and the API spell it
) STRICT;
INSERT INTO streams (id, name) VALUES (1, 'stdout'), (2, 'stderr');

-- An id of a log entry has 8 places for its level, of which 0, 6 and 7 are free for levels below and above these.
CREATE TABLE levels (
    id INTEGER PRIMARY KEY CHECK (id BETWEEN 0 AND 7),
    name TEXT NOT NULL UNIQUE           -- as in the API
) STRICT;
INSERT INTO levels (id, name) VALUES (1, 'DEBUG'), (2, 'INFO'), (3, 'WARNING'), (4, 'ERROR'), (5, 'CRITICAL');

-- Everything that writes logs.
CREATE TABLE sources (
    id INTEGER PRIMARY KEY CHECK (id > 0),
    kind_id INTEGER NOT NULL REFERENCES source_kinds (id),
    host TEXT NOT NULL,                 -- host on which the source runs; empty: the host of the log viewer
    key TEXT NOT NULL,                  -- id of the container, or 'file:' and the name in LOG_FILES
    name TEXT NOT NULL,                 -- the API's container
    image TEXT NOT NULL,                -- image of the container; empty if unknown, like project and service
    project TEXT NOT NULL,              -- of Docker Compose
    service TEXT NOT NULL,              -- of Docker Compose
    UNIQUE (host, key)
) STRICT;

-- Checkpoint of each source: the position up to which its log is stored. It is written together with the entries.
-- Hashes and the inode are 64-bit patterns, so they can be negative here.
CREATE TABLE checkpoints (
    source_id INTEGER PRIMARY KEY REFERENCES sources (id) ON DELETE CASCADE,
    version INTEGER NOT NULL CHECK (version > 0),   -- incremented by each change, so that batches are stored in order
    -- Current file: length and hash of its first line. With length 0 the inode alone identifies the file.
    first_line_bytes INTEGER NOT NULL CHECK (first_line_bytes >= 0),
    first_line_hash INTEGER NOT NULL,
    inode INTEGER NOT NULL,
    offset_bytes INTEGER NOT NULL CHECK (offset_bytes >= 0),        -- bytes of the current file that were read
    -- Previous file: length and hash of its first line; length 0 if there was none.
    previous_first_line_bytes INTEGER NOT NULL CHECK (previous_first_line_bytes >= 0),
    previous_first_line_hash INTEGER NOT NULL,
    pending_lines BLOB NOT NULL,        -- lines that were read but not stored, because their entry may continue
    newest_ns INTEGER NOT NULL,         -- latest time of a line
    -- By stream: id of the last entry, 0 if there is none; and the latest time of an entry since the clock was set back.
    stdout_last_id INTEGER NOT NULL CHECK (stdout_last_id >= 0),
    stdout_newest_ns INTEGER NOT NULL,
    stderr_last_id INTEGER NOT NULL CHECK (stderr_last_id >= 0),
    stderr_newest_ns INTEGER NOT NULL
) STRICT;

-- Ring of segments. Entries are appended to the newest segment; when it is full, the oldest one is cleared and reused.
-- The rows are never deleted. Each segment has the tables of 0100_segment.sql.
CREATE TABLE segments (
    id INTEGER PRIMARY KEY,             -- suffix of the segment's tables
    generation INTEGER NOT NULL DEFAULT 0 CHECK (generation >= 0),  -- higher is newer; 0 if empty
    entries INTEGER NOT NULL DEFAULT 0 CHECK (entries >= 0),
    message_bytes INTEGER NOT NULL DEFAULT 0 CHECK (message_bytes >= 0),
    -- Bounds of the entries. All are 0 in an empty segment.
    first_id INTEGER NOT NULL DEFAULT 0 CHECK (first_id >= 0),
    last_id INTEGER NOT NULL DEFAULT 0 CHECK (last_id >= 0),
    oldest_ns INTEGER NOT NULL DEFAULT 0,
    newest_ns INTEGER NOT NULL DEFAULT 0,
    last_ingest_seq INTEGER NOT NULL DEFAULT 0 CHECK (last_ingest_seq >= 0),
    -- Maximum time by which the id of an entry is ahead of its time, rounded up.
    id_lead_ms INTEGER NOT NULL DEFAULT 0 CHECK (id_lead_ms >= 0)
) STRICT;

-- Entry counts by segment, minute of the entries' time, source and level, for totals and histograms. Those of a segment are
-- deleted when it is cleared, not by a cascade, because its row stays.
CREATE TABLE entry_counts (
    segment_id INTEGER NOT NULL REFERENCES segments (id),
    at_min INTEGER NOT NULL,
    source_id INTEGER NOT NULL REFERENCES sources (id),
    level_id INTEGER NOT NULL REFERENCES levels (id),
    entries INTEGER NOT NULL CHECK (entries > 0),
    PRIMARY KEY (segment_id, at_min, source_id, level_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX entry_counts_by_source ON entry_counts (source_id);

-- ingested: number of entries that were ever stored. last_ingest_ms: time of the last stored batch, 0 if there was none.
-- missed_rotations: number of times that rotated files were gone or damaged before they could be read.
INSERT INTO counters (name, value) VALUES ('ingested', 0), ('last_ingest_ms', 0), ('missed_rotations', 0);

-- Always empty. Used to check whether a query is valid FTS5 syntax.
CREATE VIRTUAL TABLE search_syntax USING fts5 (message, content = '', columnsize = 0, tokenize = 'unicode61');
