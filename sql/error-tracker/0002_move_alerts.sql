-- Moves the alerts into the tables of sql/alerting/. The table `alerts` and its two counters stay, empty, because
-- programs of schema version 1 use them: they start on this database with an empty queue and no history. What they queue is
-- moved at the next start, by src/error_tracker/rolled_back_alerts.rs.
INSERT INTO alert_events (id, kind, subject_type, subject_id, created_at, state, finished_at, detail)
    SELECT id, kind, iif(error_id IS NULL, NULL, 'error_group'), error_id, created_at, state, finished_at, detail
    FROM alerts;
DELETE FROM alerts;

UPDATE alert_digest SET suppressed = (SELECT value FROM totals WHERE name = 'alerts_held'),
    since = (SELECT value FROM totals WHERE name = 'alerts_held_since');
UPDATE totals SET value = 0 WHERE name IN ('alerts_held', 'alerts_held_since');
