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
INSERT INTO totals (name, value) VALUES ('whole_up_to', -1);
