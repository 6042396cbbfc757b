-- Tables of one segment. The program runs this file once for each of the eleven segments, with the number instead of {n}.

-- id = ticks * 8 + level. Ticks are units of 1/256 ms since 1970 (UTC); if a tick is taken, the next free one is used. So
-- ids are in order of time across all segments, but an id can be ahead of the entry's time. In the id only, a time before
-- 1970 is 1970-01-01, and a time from 2109 on is 2109-01-01. Ids are below 2^53, the limit of exact integers in JavaScript.
-- source_id and stream_id have no REFERENCES: with one, SQLite clears the table row by row instead of freeing its pages
-- (measured: 12 % more CPU time and 19 % more bytes written per line), and one to sources would need an index. A source is
-- deleted only if entry_counts, which refers to it, has no row for it.
CREATE TABLE segment_{n} (
    id INTEGER PRIMARY KEY CHECK (id BETWEEN 1 AND 9007199254740991),
    ingest_seq INTEGER NOT NULL,        -- number of the entry in the order of ingestion, from 1
    at_ns INTEGER NOT NULL,             -- time of the entry's first line
    source_id INTEGER NOT NULL,         -- in sources
    stream_id INTEGER NOT NULL,         -- in streams
    message TEXT NOT NULL               -- as written, without the final newline; at most 1 MiB and a note
) STRICT;
-- The index stores neither the messages nor column sizes. A segment is cleared as a whole, never row by row, so nothing
-- cascades to the index.
CREATE VIRTUAL TABLE search_{n} USING fts5 (message, content = '', columnsize = 0, tokenize = 'unicode61');
-- Disable automerge: index parts are merged only when there are sixteen. FTS5's default, merging four at a time, writes
-- all data once more.
INSERT INTO search_{n} (search_{n}, rank) VALUES ('automerge', 0);
INSERT INTO segments (id) VALUES ({n});
