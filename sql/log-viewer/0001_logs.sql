-- Moments are nanoseconds since 1970 (UTC); minutes are whole ones since 1970.

-- Who logs: Docker's containers, and the files named in LOG_FILES.
CREATE TABLE containers (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,           -- Docker's id, or file: and the name given in LOG_FILES
    name TEXT NOT NULL,
    image TEXT NOT NULL,                -- empty where there is none, as the two below
    project TEXT NOT NULL,              -- of compose
    service TEXT NOT NULL
);
CREATE INDEX containers_name ON containers (name);

-- How far each container is read.
CREATE TABLE cursors (
    container_id INTEGER PRIMARY KEY,
    version INTEGER NOT NULL,           -- goes up with each change, so that no batch can be stored without the one before
    file_bytes INTEGER NOT NULL,        -- the file, by the length and the hash of its first line, and by its inode; 0 is
    file_hash INTEGER NOT NULL,         -- by its inode alone
    inode INTEGER NOT NULL,
    offset INTEGER NOT NULL,            -- in it
    before_bytes INTEGER NOT NULL,      -- the file before it, likewise; 0 when there was none
    before_hash INTEGER NOT NULL,
    pending BLOB NOT NULL,              -- lines that were read and are not stored, since more could belong to them
    newest INTEGER NOT NULL,            -- the latest moment read
    out_id INTEGER NOT NULL,            -- of the latest entries
    err_id INTEGER NOT NULL
);

-- The ring: entries go into one segment until it is full, then into the one that has waited longest, which is emptied.
CREATE TABLE segments (
    slot INTEGER PRIMARY KEY,
    round INTEGER NOT NULL,             -- the higher the newer; 0 when empty
    entries INTEGER NOT NULL,
    bytes INTEGER NOT NULL,             -- of messages
    first_id INTEGER NOT NULL,
    last_id INTEGER NOT NULL,
    last_arrival INTEGER NOT NULL
);
INSERT INTO segments (slot, round, entries, bytes, first_id, last_id, last_arrival) VALUES
    (0, 0, 0, 0, 0, 0, 0), (1, 0, 0, 0, 0, 0, 0), (2, 0, 0, 0, 0, 0, 0), (3, 0, 0, 0, 0, 0, 0), (4, 0, 0, 0, 0, 0, 0),
    (5, 0, 0, 0, 0, 0, 0), (6, 0, 0, 0, 0, 0, 0), (7, 0, 0, 0, 0, 0, 0), (8, 0, 0, 0, 0, 0, 0), (9, 0, 0, 0, 0, 0, 0),
    (10, 0, 0, 0, 0, 0, 0);

-- How many entries of each segment a container has by minute and level: totals and histograms come from here.
CREATE TABLE counters (
    slot INTEGER NOT NULL,
    minute INTEGER NOT NULL,
    container_id INTEGER NOT NULL,
    level INTEGER NOT NULL,             -- 0 DEBUG to 4 CRITICAL
    entries INTEGER NOT NULL,
    PRIMARY KEY (slot, minute, container_id, level)
) WITHOUT ROWID;

CREATE TABLE totals (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO totals (name, value) VALUES ('arrivals', 0), ('stored_at', 0), ('gaps', 0);

-- The entries. The id is the moment since 2026 in steps of 1/4096 ms, or the next that is free, times 5, and the level:
-- so the order of ids is the order of time in all segments together, and an entry's minute and level are known without
-- looking at it.
-- Arrival counts entries as they come. A stream is 0 for stdout, 1 for stderr.
-- The index of a segment has no copy of the texts and no lengths; it is emptied whole, never row by row.
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
-- What one batch has added stays as it is until there are sixteen such parts. To merge them by fours, as FTS5 does by
-- itself, writes everything once more.
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
-- Always empty: whether a search is FTS5's syntax is tried here.
CREATE VIRTUAL TABLE search_syntax USING fts5 (message, content = '', columnsize = 0, tokenize = 'unicode61');

-- The same by hand, with names and moments that a person can read.
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
