-- Rounding errors of sums: the sum is sum + sum_rest, and sum alone is its nearest 64-bit number.

ALTER TABLE series_minutes ADD COLUMN sum_rest REAL NOT NULL DEFAULT 0.0;
ALTER TABLE series_hours ADD COLUMN sum_rest REAL NOT NULL DEFAULT 0.0;
ALTER TABLE metric_minutes ADD COLUMN sum_rest REAL NOT NULL DEFAULT 0.0;
ALTER TABLE metric_hours ADD COLUMN sum_rest REAL NOT NULL DEFAULT 0.0;
ALTER TABLE series_totals ADD COLUMN sum_rest REAL NOT NULL DEFAULT 0.0;
ALTER TABLE series_totals_sent ADD COLUMN sum_rest REAL NOT NULL DEFAULT 0.0;

-- Names with letters or digits that are not ASCII have another form in Prometheus, which the service computes at its start.
UPDATE metrics SET prometheus_name = NULL WHERE name GLOB '*[^ -~]*';
