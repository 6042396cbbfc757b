-- Alerts of one service. Every service that raises alerts adds this file to its migrations. Timestamps are seconds
-- since 1970 (UTC).

-- Queue and history: waiting alerts, which survive a restart, and the latest finished ones.
CREATE TABLE alert_events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,                 -- new, reopened, digest, test
    subject_type TEXT,                  -- error_group; null for digests and tests
    subject_id INTEGER,                 -- id in the service's table of that type; null like subject_type
    created_at INTEGER NOT NULL,
    state TEXT NOT NULL,                -- waiting, sent, failed, held (suppressed by the cool-down or the hourly limit)
    finished_at INTEGER,                -- null while waiting
    detail TEXT NOT NULL DEFAULT '[]'   -- JSON: result of each channel, or the reason for suppression
);
CREATE INDEX alert_events_waiting ON alert_events (id) WHERE state = 'waiting';
CREATE INDEX alert_events_by_subject ON alert_events (subject_type, subject_id, finished_at) WHERE state = 'sent';

-- Alerts to be reported in the next digest. Exactly one row.
CREATE TABLE alert_digest (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    suppressed INTEGER NOT NULL,        -- alerts since the last digest that were not sent
    since INTEGER NOT NULL              -- time of the first of them; outdated if there are none
);
INSERT INTO alert_digest (id, suppressed, since) VALUES (1, 0, 0);
