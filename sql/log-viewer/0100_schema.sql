-- Timestamps are nanoseconds since 1970 (UTC); minutes are minutes since 1970 (UTC).

-- Log sources: Docker containers and the files in LOG_FILES.
CREATE TABLE containers (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,           -- container id, or file: and the name in LOG_FILES
    name TEXT NOT NULL,
    image TEXT NOT NULL,                -- empty if unknown, like project and service
    project TEXT NOT NULL,              -- of docker compose
    service TEXT NOT NULL
);
CREATE INDEX containers_name ON containers (name);

-- Checkpoint of each source: the position up to which its log is stored.
CREATE TABLE cursors (
    container_id INTEGER PRIMARY KEY,
    version INTEGER NOT NULL,           -- incremented by each change, so that batches are stored in order
    file_bytes INTEGER NOT NULL,        -- current file: length of its first line; 0: identified by inode alone
    file_hash INTEGER NOT NULL,         -- current file: hash of its first line
    inode INTEGER NOT NULL,
    offset INTEGER NOT NULL,            -- bytes of the current file that were read
    before_bytes INTEGER NOT NULL,      -- previous file: length of its first line; 0 if none
    before_hash INTEGER NOT NULL,
    pending BLOB NOT NULL,              -- lines that were read but not stored, because their entry may continue
    newest INTEGER NOT NULL,            -- latest timestamp read
    out_id INTEGER NOT NULL,            -- id of the latest stdout entry
    err_id INTEGER NOT NULL             -- id of the latest stderr entry
);

-- Ring of segments. Entries are appended to the newest segment; when it is full, the oldest one is cleared and reused.
CREATE TABLE segments (
    slot INTEGER PRIMARY KEY,
    round INTEGER NOT NULL,             -- generation: higher is newer; 0 if empty
    entries INTEGER NOT NULL,
    bytes INTEGER NOT NULL,             -- total size of the messages
    first_id INTEGER NOT NULL,
    last_id INTEGER NOT NULL,
    last_arrival INTEGER NOT NULL
);
INSERT INTO segments (slot, round, entries, bytes, first_id, last_id, last_arrival) VALUES
    (0, 0, 0, 0, 0, 0, 0), (1, 0, 0, 0, 0, 0, 0), (2, 0, 0, 0, 0, 0, 0), (3, 0, 0, 0, 0, 0, 0), (4, 0, 0, 0, 0, 0, 0),
    (5, 0, 0, 0, 0, 0, 0), (6, 0, 0, 0, 0, 0, 0), (7, 0, 0, 0, 0, 0, 0), (8, 0, 0, 0, 0, 0, 0), (9, 0, 0, 0, 0, 0, 0),
    (10, 0, 0, 0, 0, 0, 0);

-- Entry counts by segment, minute, source and level, for totals and histograms.
CREATE TABLE entry_counts (
    slot INTEGER NOT NULL,
    minute INTEGER NOT NULL,
    container_id INTEGER NOT NULL,
    level INTEGER NOT NULL,             -- 0 DEBUG to 4 CRITICAL
    entries INTEGER NOT NULL,
    PRIMARY KEY (slot, minute, container_id, level)
) WITHOUT ROWID;

INSERT INTO counters (name, value) VALUES ('arrivals', 0), ('stored_at', 0), ('gaps', 0);

-- Log entries and their full-text indexes, one pair of tables for each segment.
-- id = ticks * 5 + level. Ticks are units of 1/4096 ms since 2026 (UTC); if a tick is taken, the next free one is used.
-- So ids are in order of time across all segments, and an id alone gives the minute and the level.
-- arrival is a sequence number in order of ingestion. stream is 0 for stdout, 1 for stderr.
-- The indexes store neither the messages nor column sizes. A segment is cleared as a whole, never row by row.
CREATE TABLE segment_0 (id INTEGER PRIMARY KEY, arrival INT, at INT, container_id INT, stream INT, message TEXT);
CREATE VIRTUAL TABLE search_0 USING fts5 (message, content = '', columnsize = 0, tokenize = 'unicode61');
CREATE TABLE segment_1 (id INTEGER PRIMARY KEY, arrival INT, at INT, container_id INT, stream INT, message TEXT);
CREATE VIRTUAL TABLE search_1 USING fts5 (message, content = '', columnsize = 0, tokenize = 'unicode61');
CREATE TABLE segment_2 (id INTEGER PRIMARY KEY, arrival INT, at INT, container_id INT, stream INT, message TEXT);
CREATE VIRTUAL TABLE search_2 USING fts5 (message, content = '', columnsize = 0, tokenize = 'unicode61');
CREATE TABLE segment_3 (id INTEGER PRIMARY KEY, arrival INT, at INT, container_id INT, stream INT, message TEXT);
CREATE VIRTUAL TABLE search_3 USING fts5 (message, content = '', columnsize = 0, tokenize = 'unicode61');
CREATE TABLE segment_4 (id INTEGER PRIMARY KEY, arrival INT, at INT, container_id INT, stream INT, message TEXT);
CREATE VIRTUAL TABLE search_4 USING fts5 (message, content = '', columnsize = 0, tokenize = 'unicode61');
CREATE TABLE segment_5 (id INTEGER PRIMARY KEY, arrival INT, at INT, container_id INT, stream INT, message TEXT);
CREATE VIRTUAL TABLE search_5 USING fts5 (message, content = '', columnsize = 0, tokenize = 'unicode61');
CREATE TABLE segment_6 (id INTEGER PRIMARY KEY, arrival INT, at INT, container_id INT, stream INT, message TEXT);
CREATE VIRTUAL TABLE search_6 USING fts5 (message, content = '', columnsize = 0, tokenize = 'unicode61');
CREATE TABLE segment_7 (id INTEGER PRIMARY KEY, arrival INT, at INT, container_id INT, stream INT, message TEXT);
CREATE VIRTUAL TABLE search_7 USING fts5 (message, content = '', columnsize = 0, tokenize = 'unicode61');
CREATE TABLE segment_8 (id INTEGER PRIMARY KEY, arrival INT, at INT, container_id INT, stream INT, message TEXT);
CREATE VIRTUAL TABLE search_8 USING fts5 (message, content = '', columnsize = 0, tokenize = 'unicode61');
CREATE TABLE segment_9 (id INTEGER PRIMARY KEY, arrival INT, at INT, container_id INT, stream INT, message TEXT);
CREATE VIRTUAL TABLE search_9 USING fts5 (message, content = '', columnsize = 0, tokenize = 'unicode61');
CREATE TABLE segment_10 (id INTEGER PRIMARY KEY, arrival INT, at INT, container_id INT, stream INT, message TEXT);
CREATE VIRTUAL TABLE search_10 USING fts5 (message, content = '', columnsize = 0, tokenize = 'unicode61');
-- Disable automerge: index parts are merged only when there are sixteen. FTS5's default, merging four at a time, writes
-- all data once more.
INSERT INTO search_0 (search_0, rank) VALUES ('automerge', 0);
INSERT INTO search_1 (search_1, rank) VALUES ('automerge', 0);
INSERT INTO search_2 (search_2, rank) VALUES ('automerge', 0);
INSERT INTO search_3 (search_3, rank) VALUES ('automerge', 0);
INSERT INTO search_4 (search_4, rank) VALUES ('automerge', 0);
INSERT INTO search_5 (search_5, rank) VALUES ('automerge', 0);
INSERT INTO search_6 (search_6, rank) VALUES ('automerge', 0);
INSERT INTO search_7 (search_7, rank) VALUES ('automerge', 0);
INSERT INTO search_8 (search_8, rank) VALUES ('automerge', 0);
INSERT INTO search_9 (search_9, rank) VALUES ('automerge', 0);
INSERT INTO search_10 (search_10, rank) VALUES ('automerge', 0);
-- Always empty. Used to check whether a query is valid FTS5 syntax.
CREATE VIRTUAL TABLE search_syntax USING fts5 (message, content = '', columnsize = 0, tokenize = 'unicode61');

-- For manual queries: all entries with readable names and timestamps.
CREATE VIEW log_entries AS
    SELECT e.id, strftime('%Y-%m-%dT%H:%M:%S', e.at / 1000000000, 'unixepoch')
            || printf('.%09dZ', e.at % 1000000000) AS timestamp,
        c.name AS container, CASE e.stream WHEN 0 THEN 'stdout' ELSE 'stderr' END AS stream,
        CASE (e.id % 5 + 5) % 5 WHEN 0 THEN 'DEBUG' WHEN 1 THEN 'INFO' WHEN 2 THEN 'WARNING' WHEN 3 THEN 'ERROR'
            ELSE 'CRITICAL' END AS level,
        e.message
    FROM (
        SELECT * FROM segment_0 UNION ALL SELECT * FROM segment_1 UNION ALL SELECT * FROM segment_2
        UNION ALL SELECT * FROM segment_3 UNION ALL SELECT * FROM segment_4 UNION ALL SELECT * FROM segment_5
        UNION ALL SELECT * FROM segment_6 UNION ALL SELECT * FROM segment_7 UNION ALL SELECT * FROM segment_8
        UNION ALL SELECT * FROM segment_9 UNION ALL SELECT * FROM segment_10
    ) e JOIN containers c ON c.id = e.container_id;
