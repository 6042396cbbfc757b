-- Everything a series has had, as far as it was sent on to a server that keeps metrics for longer.
CREATE TABLE remote (
    series_id INTEGER PRIMARY KEY,
    count INTEGER NOT NULL,
    sum REAL NOT NULL,                  -- as in cumulative, as all that follow
    last REAL NOT NULL,
    last_at INTEGER NOT NULL,
    sketch BLOB
);

-- The last point that was sent (-1: nothing is sent on), the last one of what is being sent and when that was decided,
-- the moment that what was sent last says it is of, and how many samples were sent, and refused for good.
INSERT INTO totals (name, value) VALUES ('remote_cursor', -1), ('remote_claimed', -1), ('remote_claimed_at', 0),
    ('remote_at', 0), ('remote_sent', 0), ('remote_refused', 0);
