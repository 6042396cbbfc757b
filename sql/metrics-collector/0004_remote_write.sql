-- Running totals of each series as last sent by remote write.
CREATE TABLE remote (
    series_id INTEGER PRIMARY KEY,
    count INTEGER NOT NULL,
    sum REAL NOT NULL,                  -- this and the following columns: as in cumulative
    last REAL NOT NULL,
    last_at INTEGER NOT NULL,
    sketch BLOB
);

-- remote_cursor: id of the last point sent; -1 if remote write is off. remote_claimed: id of the last point of the
-- batch being sent. remote_claimed_at: when that batch was created. remote_at: timestamp of the samples sent last.
-- remote_sent and remote_refused: number of samples sent, and of samples rejected permanently.
INSERT INTO totals (name, value) VALUES ('remote_cursor', -1), ('remote_claimed', -1), ('remote_claimed_at', 0),
    ('remote_at', 0), ('remote_sent', 0), ('remote_refused', 0);
