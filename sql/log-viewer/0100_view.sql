-- For manual queries: all entries with readable names and timestamps. The program puts the union of the segments' tables
-- instead of {entries}.
CREATE VIEW log_entries AS
    SELECT e.id,
        strftime('%Y-%m-%dT%H:%M:%S', (e.at_ns - e.fraction_ns) / 1000000000, 'unixepoch')
            || printf('.%09dZ', e.fraction_ns) AS timestamp,
        (SELECT name FROM sources WHERE id = e.source_id) AS container,
        (SELECT name FROM streams WHERE id = e.stream_id) AS stream,
        (SELECT name FROM levels WHERE id = e.id % 8) AS level,
        e.message
    FROM (
        -- The remainder of a negative number is negative.
        SELECT *, (at_ns % 1000000000 + 1000000000) % 1000000000 AS fraction_ns FROM ({entries})
    ) e;
