-- Quotas of series and of metric names, which isolate projects from each other.

-- The kind of the key with which a series or a metric was created. Series of browsers have had the label source=browser.
ALTER TABLE series ADD COLUMN key_kind_id INTEGER NOT NULL DEFAULT 1 REFERENCES key_kinds (id);
ALTER TABLE metrics ADD COLUMN key_kind_id INTEGER NOT NULL DEFAULT 1 REFERENCES key_kinds (id);
UPDATE series SET key_kind_id = 2 WHERE json_valid(labels) AND json_extract(labels, '$.source') = 'browser';
UPDATE metrics SET key_kind_id = 2 WHERE EXISTS (SELECT 1 FROM series WHERE metric_id = metrics.id)
    AND NOT EXISTS (SELECT 1 FROM series WHERE metric_id = metrics.id AND key_kind_id = 1);
-- Finds the metrics of a project, and the projects in alphabetical order.
CREATE INDEX metrics_by_project ON metrics (project);

-- The name in the form that Prometheus accepts; null until the service has computed it. Finds metrics in the order of /federate.
ALTER TABLE metrics ADD COLUMN prometheus_name TEXT;
CREATE INDEX metrics_by_prometheus_name ON metrics (type_id, prometheus_name);

-- Number of series of each metric by the kind of key, which MAX_SERIES_PER_METRIC limits, without overflow series.
ALTER TABLE metrics ADD COLUMN server_series INTEGER NOT NULL DEFAULT 0;
ALTER TABLE metrics ADD COLUMN browser_series INTEGER NOT NULL DEFAULT 0;
UPDATE metrics SET
    server_series = (SELECT count(*) FROM series
        WHERE metric_id = metrics.id AND key_kind_id = 1 AND labels <> '{"overflow":"true"}'),
    browser_series = (SELECT count(*) FROM series
        WHERE metric_id = metrics.id AND key_kind_id = 2 AND labels <> '{"overflow":"true"}');

-- The store `series` counts series and the bytes of their labels. Overflow series do not count: there is at most one for each
-- metric, and it must exist when the store is full.
INSERT INTO quota_usage (store, project, key_kind_id, row_count, stored_bytes)
    SELECT 'series', m.project, s.key_kind_id, count(*), sum(octet_length(s.labels))
    FROM series s JOIN metrics m ON m.id = s.metric_id WHERE s.labels <> '{"overflow":"true"}'
    GROUP BY m.project, s.key_kind_id;
CREATE TRIGGER series_added AFTER INSERT ON series WHEN new.labels <> '{"overflow":"true"}' BEGIN
    UPDATE metrics SET server_series = server_series + (new.key_kind_id = 1),
        browser_series = browser_series + (new.key_kind_id <> 1) WHERE id = new.metric_id;
    INSERT INTO quota_usage (store, project, key_kind_id, row_count, stored_bytes)
        SELECT 'series', project, new.key_kind_id, 1, octet_length(new.labels) FROM metrics WHERE id = new.metric_id
        ON CONFLICT (store, project, key_kind_id) DO UPDATE SET
            row_count = row_count + 1, stored_bytes = stored_bytes + excluded.stored_bytes;
END;
CREATE TRIGGER series_deleted AFTER DELETE ON series WHEN old.labels <> '{"overflow":"true"}' BEGIN
    UPDATE metrics SET server_series = server_series - (old.key_kind_id = 1),
        browser_series = browser_series - (old.key_kind_id <> 1) WHERE id = old.metric_id;
    UPDATE quota_usage SET row_count = row_count - 1, stored_bytes = stored_bytes - octet_length(old.labels)
        WHERE store = 'series' AND key_kind_id = old.key_kind_id
            AND project = (SELECT project FROM metrics WHERE id = old.metric_id);
END;

-- The store `metric_names` counts metrics and the bytes of their names and projects.
INSERT INTO quota_usage (store, project, key_kind_id, row_count, stored_bytes)
    SELECT 'metric_names', project, key_kind_id, count(*), sum(octet_length(name) + octet_length(project))
    FROM metrics GROUP BY project, key_kind_id;
CREATE TRIGGER metrics_added AFTER INSERT ON metrics BEGIN
    INSERT INTO quota_usage (store, project, key_kind_id, row_count, stored_bytes)
        VALUES ('metric_names', new.project, new.key_kind_id, 1, octet_length(new.name) + octet_length(new.project))
        ON CONFLICT (store, project, key_kind_id) DO UPDATE SET
            row_count = row_count + 1, stored_bytes = stored_bytes + excluded.stored_bytes;
END;
CREATE TRIGGER metrics_deleted AFTER DELETE ON metrics BEGIN
    UPDATE quota_usage SET row_count = row_count - 1,
        stored_bytes = stored_bytes - octet_length(old.name) - octet_length(old.project)
        WHERE store = 'metric_names' AND project = old.project AND key_kind_id = old.key_kind_id;
END;

-- The store `rollups` counts the rows of series_minutes and series_hours. Rollups count their new rows, because triggers would
-- cost too much.
INSERT INTO quota_usage (store, project, key_kind_id, row_count, stored_bytes)
    SELECT 'rollups', m.project, s.key_kind_id, count(*), 0
    FROM (SELECT series_id FROM series_minutes UNION ALL SELECT series_id FROM series_hours) r
        JOIN series s ON s.id = r.series_id JOIN metrics m ON m.id = s.metric_id
    GROUP BY m.project, s.key_kind_id;
