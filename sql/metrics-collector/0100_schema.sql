-- Metrics, their series and points, rollups and running totals.
-- Names of columns end in the unit of their values: _ms, _min and _h count milliseconds, minutes and hours since 1970
-- (UTC). Rows of metric_types are never deleted, so references to them need no index.

CREATE TABLE metric_types (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;
INSERT INTO metric_types (id, name) VALUES (1, 'counter'), (2, 'gauge'), (3, 'histogram');

CREATE TABLE metrics (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL CHECK (name <> ''),
    type_id INTEGER NOT NULL REFERENCES metric_types (id),
    project TEXT NOT NULL,              -- empty if none
    rollup_from_h INTEGER,              -- first hour in which metric_minutes and metric_hours contain every point; null
                                        -- until the metric has a second series
    UNIQUE (name, type_id, project)
) STRICT;

-- Series: the points of a metric with the same labels.
CREATE TABLE series (
    id INTEGER PRIMARY KEY,
    metric_id INTEGER NOT NULL REFERENCES metrics (id),
    labels TEXT NOT NULL,               -- JSON object of strings, sorted by label name
    created_at_ms INTEGER NOT NULL CHECK (created_at_ms >= 0),
    UNIQUE (metric_id, labels)
) STRICT;
-- Finds the overflow series, which receive the points over a cardinality limit.
CREATE INDEX series_overflow ON series (metric_id) WHERE labels = '{"overflow":"true"}';

-- Series with the properties of their metrics.
CREATE VIEW series_keys AS
    SELECT s.id, s.metric_id, m.name, t.name AS type, m.project, s.labels, s.created_at_ms, m.rollup_from_h
    FROM series s JOIN metrics m ON m.id = s.metric_id JOIN metric_types t ON t.id = m.type_id;

-- Raw points. Those with an id up to the counter rolled_up are already in the rollup tables. series_id does not reference
-- series: the check would need an index on the table with the most inserts. A series is deleted after its points.
CREATE TABLE points (
    id INTEGER PRIMARY KEY,
    series_id INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    value REAL NOT NULL,
    dropped_labels TEXT                 -- JSON object of labels that are not part of the series; null if there are none
) STRICT;

-- Rollups of each series by minute and by hour. Both are computed from raw points, and each point is added exactly once.
CREATE TABLE series_minutes (
    series_id INTEGER NOT NULL REFERENCES series (id) ON DELETE CASCADE,
    at_min INTEGER NOT NULL,            -- start of the minute
    count INTEGER NOT NULL CHECK (count > 0),
    sum REAL NOT NULL,
    min REAL NOT NULL,
    max REAL NOT NULL,
    last REAL NOT NULL,                 -- value of the latest point
    last_at_ms INTEGER NOT NULL,
    sketch BLOB,                        -- histograms only; see src/metrics_collector/sketch.rs
    p50 REAL,                           -- percentiles: only in rows imported from the original, which have no sketch
    p95 REAL,
    p99 REAL,
    good INTEGER CHECK (good >= 0),     -- Web Vitals only: number of points by rating
    needs_improvement INTEGER CHECK (needs_improvement >= 0),
    poor INTEGER CHECK (poor >= 0),
    PRIMARY KEY (series_id, at_min)
) STRICT, WITHOUT ROWID;

CREATE TABLE series_hours (
    series_id INTEGER NOT NULL REFERENCES series (id) ON DELETE CASCADE,
    at_h INTEGER NOT NULL,              -- start of the hour; the other columns: as in series_minutes
    count INTEGER NOT NULL CHECK (count > 0),
    sum REAL NOT NULL,
    min REAL NOT NULL,
    max REAL NOT NULL,
    last REAL NOT NULL,
    last_at_ms INTEGER NOT NULL,
    sketch BLOB,
    p50 REAL,
    p95 REAL,
    p99 REAL,
    good INTEGER CHECK (good >= 0),
    needs_improvement INTEGER CHECK (needs_improvement >= 0),
    poor INTEGER CHECK (poor >= 0),
    PRIMARY KEY (series_id, at_h)
) STRICT, WITHOUT ROWID;

-- Rollups over all series of a metric, for metrics with metrics.rollup_from_h. Columns: as in series_minutes.
CREATE TABLE metric_minutes (
    metric_id INTEGER NOT NULL REFERENCES metrics (id) ON DELETE CASCADE,
    at_min INTEGER NOT NULL,
    count INTEGER NOT NULL CHECK (count > 0),
    sum REAL NOT NULL,
    min REAL NOT NULL,
    max REAL NOT NULL,
    last REAL NOT NULL,
    last_at_ms INTEGER NOT NULL,
    sketch BLOB,
    p50 REAL,
    p95 REAL,
    p99 REAL,
    good INTEGER CHECK (good >= 0),
    needs_improvement INTEGER CHECK (needs_improvement >= 0),
    poor INTEGER CHECK (poor >= 0),
    PRIMARY KEY (metric_id, at_min)
) STRICT, WITHOUT ROWID;

CREATE TABLE metric_hours (
    metric_id INTEGER NOT NULL REFERENCES metrics (id) ON DELETE CASCADE,
    at_h INTEGER NOT NULL,
    count INTEGER NOT NULL CHECK (count > 0),
    sum REAL NOT NULL,
    min REAL NOT NULL,
    max REAL NOT NULL,
    last REAL NOT NULL,
    last_at_ms INTEGER NOT NULL,
    sketch BLOB,
    p50 REAL,
    p95 REAL,
    p99 REAL,
    good INTEGER CHECK (good >= 0),
    needs_improvement INTEGER CHECK (needs_improvement >= 0),
    poor INTEGER CHECK (poor >= 0),
    PRIMARY KEY (metric_id, at_h)
) STRICT, WITHOUT ROWID;

-- Running totals of each series since its creation, independent of retention. Exported to Prometheus.
CREATE TABLE series_totals (
    series_id INTEGER PRIMARY KEY REFERENCES series (id) ON DELETE CASCADE,
    count INTEGER NOT NULL CHECK (count > 0),
    sum REAL NOT NULL,                  -- of counters without negative deltas, so it never decreases
    last REAL NOT NULL,
    last_at_ms INTEGER NOT NULL,
    sketch BLOB
) STRICT;

-- Running totals of each series as last sent by remote write. Columns: as in series_totals.
CREATE TABLE series_totals_sent (
    series_id INTEGER PRIMARY KEY REFERENCES series (id) ON DELETE CASCADE,
    count INTEGER NOT NULL CHECK (count > 0),
    sum REAL NOT NULL,
    last REAL NOT NULL,
    last_at_ms INTEGER NOT NULL,
    sketch BLOB
) STRICT;

-- Points received from clients in each hour of the last day, by time of arrival.
CREATE TABLE points_received (
    at_h INTEGER PRIMARY KEY,
    points INTEGER NOT NULL CHECK (points >= 0)
) STRICT;

-- rolled_up: id of the last point in the rollup tables. series: number of series. overflowed: points of series over a
-- cardinality limit. clock_corrected: points whose time was replaced by the time of arrival.
-- remote_on: 1 while remote write is on. remote_cursor: id of the last point sent. remote_claimed: id of the last point of
-- the batch being sent, claimed at remote_claimed_at_ms. remote_sample_at_ms: timestamp of the samples sent last.
-- remote_sent and remote_rejected: number of samples sent, and of samples rejected permanently.
INSERT INTO counters (name, value) VALUES ('rolled_up', 0), ('rolled_up_at_ms', 0), ('series', 0), ('overflowed', 0),
    ('clock_corrected', 0), ('remote_on', 0), ('remote_cursor', 0), ('remote_claimed', 0), ('remote_claimed_at_ms', 0),
    ('remote_sample_at_ms', 0), ('remote_sent', 0), ('remote_rejected', 0);

-- For manual queries: points and rollups with readable names and timestamps.
CREATE VIEW metrics_raw AS
    SELECT p.id, strftime('%Y-%m-%dT%H:%M:%fZ', p.at_ms / 1000.0, 'unixepoch') AS timestamp, s.name, s.labels, p.value,
        s.type, s.project
    FROM points p JOIN series_keys s ON s.id = p.series_id;
CREATE VIEW metrics_aggregated AS
    SELECT strftime('%Y-%m-%dT%H:%M:%SZ', m.at_min * 60, 'unixepoch') AS bucket, 'minute' AS resolution, s.name,
        s.labels, m.count, m.sum, m.min, m.max, m.sum / m.count AS avg, s.project
    FROM series_minutes m JOIN series_keys s ON s.id = m.series_id
    UNION ALL
    SELECT strftime('%Y-%m-%dT%H:%M:%SZ', h.at_h * 3600, 'unixepoch'), 'hour', s.name, s.labels, h.count, h.sum,
        h.min, h.max, h.sum / h.count, s.project
    FROM series_hours h JOIN series_keys s ON s.id = h.series_id;
