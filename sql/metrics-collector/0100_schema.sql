-- Timestamps are milliseconds since 1970 (UTC); minutes and hours are counted since 1970 (UTC).

-- Series: a metric name, a type, a project and sorted labels.
CREATE TABLE series (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    type TEXT NOT NULL,                 -- counter, gauge, histogram
    project TEXT NOT NULL,              -- empty if none
    labels TEXT NOT NULL,               -- JSON object, sorted by label name
    created_at INTEGER NOT NULL,
    UNIQUE (name, type, project, labels)
);

-- Raw points. Those with an id up to the counter rolled_up are already in the rollup tables.
CREATE TABLE points (
    id INTEGER PRIMARY KEY,
    series_id INTEGER NOT NULL,
    at INTEGER NOT NULL,
    value REAL NOT NULL,
    dropped TEXT                        -- JSON object of labels that are not part of the series
);

-- Rollup tables by minute and by hour. Both are computed from raw points, and each point is added exactly once.
CREATE TABLE minutes (
    series_id INTEGER NOT NULL,
    bucket INTEGER NOT NULL,
    count INTEGER NOT NULL,
    sum REAL NOT NULL,
    min REAL NOT NULL,
    max REAL NOT NULL,
    last REAL NOT NULL,
    last_at INTEGER NOT NULL,
    sketch BLOB,                        -- histograms only; see src/metrics_collector/sketch.rs
    p50 REAL,                           -- only in rows imported from the original, which have no sketch
    p95 REAL,
    p99 REAL,
    good INTEGER,                       -- web vitals only: points by rating
    needs_improvement INTEGER,
    poor INTEGER,
    PRIMARY KEY (series_id, bucket)
) WITHOUT ROWID;

CREATE TABLE hours (
    series_id INTEGER NOT NULL,
    bucket INTEGER NOT NULL,
    count INTEGER NOT NULL,
    sum REAL NOT NULL,
    min REAL NOT NULL,
    max REAL NOT NULL,
    last REAL NOT NULL,
    last_at INTEGER NOT NULL,
    sketch BLOB,
    p50 REAL,
    p95 REAL,
    p99 REAL,
    good INTEGER,
    needs_improvement INTEGER,
    poor INTEGER,
    PRIMARY KEY (series_id, bucket)
) WITHOUT ROWID;

-- Running totals of each series since its creation, independent of retention. Exported to Prometheus.
CREATE TABLE cumulative (
    series_id INTEGER PRIMARY KEY,
    count INTEGER NOT NULL,
    sum REAL NOT NULL,                  -- of counters without negative deltas, so it never decreases
    last REAL NOT NULL,
    last_at INTEGER NOT NULL,
    sketch BLOB
);

INSERT INTO counters (name, value) VALUES ('rolled_up', 0), ('rolled_up_at', 0), ('series', 0), ('overflowed', 0),
    ('clock_corrected', 0);

-- For manual queries: points and rollups with readable names and timestamps.
CREATE VIEW metrics_raw AS
    SELECT p.id, strftime('%Y-%m-%dT%H:%M:%fZ', p.at / 1000.0, 'unixepoch') AS timestamp, s.name, s.labels, p.value,
        s.type, s.project
    FROM points p JOIN series s ON s.id = p.series_id;
CREATE VIEW metrics_aggregated AS
    SELECT strftime('%Y-%m-%dT%H:%M:%SZ', m.bucket * 60, 'unixepoch') AS bucket, 'minute' AS resolution, s.name,
        s.labels, m.count, m.sum, m.min, m.max, m.sum / m.count AS avg, s.project
    FROM minutes m JOIN series s ON s.id = m.series_id
    UNION ALL
    SELECT strftime('%Y-%m-%dT%H:%M:%SZ', h.bucket * 3600, 'unixepoch'), 'hour', s.name, s.labels, h.count, h.sum,
        h.min, h.max, h.sum / h.count, s.project
    FROM hours h JOIN series s ON s.id = h.series_id;

-- Points received from clients in each hour of the last day, by time of arrival.
CREATE TABLE received (
    hour INTEGER PRIMARY KEY,
    points INTEGER NOT NULL
);

-- Finds the overflow series, which receive the points over a cardinality limit.
CREATE INDEX series_overflow ON series (name) WHERE labels = '{"overflow":"true"}';

-- Metric rollups: aggregates over all series of a metric. A metric that has had more than one series has rows in the
-- rollup tables with its negated id as series_id. They contain every point from from_hour on.
CREATE TABLE metrics (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    type TEXT NOT NULL,
    project TEXT NOT NULL,
    from_hour INTEGER NOT NULL,
    UNIQUE (name, type, project)
);

-- Id of the last point in the metric rollups. If it is not rolled_up, a version without metric rollups has run since.
INSERT INTO counters (name, value) VALUES ('whole_up_to', -1);

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
INSERT INTO counters (name, value) VALUES ('remote_cursor', -1), ('remote_claimed', -1), ('remote_claimed_at', 0),
    ('remote_at', 0), ('remote_sent', 0), ('remote_refused', 0);
