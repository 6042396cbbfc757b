-- Alerts of one service. Every service that raises alerts creates these tables. Times are seconds since 1970 (UTC).

-- Tables of names: the values of enumerations. A later migration may add a row, but rows never change and are never
-- deleted.

CREATE TABLE alert_kinds (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;
INSERT INTO alert_kinds (id, name) VALUES (1, 'new'), (2, 'reopened'), (3, 'digest'), (4, 'test');

-- held: suppressed by the cool-down or the hourly limit.
CREATE TABLE alert_states (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;
INSERT INTO alert_states (id, name) VALUES (1, 'waiting'), (2, 'sent'), (3, 'failed'), (4, 'held');

CREATE TABLE alert_subject_types (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;
INSERT INTO alert_subject_types (id, name) VALUES (1, 'error_group');

-- Queue and history: waiting alerts, which survive a restart, and the latest finished ones.
CREATE TABLE alert_events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind_id INTEGER NOT NULL REFERENCES alert_kinds (id),           -- no index, because kinds are never deleted
    subject_type_id INTEGER REFERENCES alert_subject_types (id),    -- null for digests and tests
    -- Id in the service's table of that type; null like the type. It is not a reference, because the history outlives its
    -- subjects.
    subject_id INTEGER CHECK (subject_id >= 0),
    created_at_s INTEGER NOT NULL CHECK (created_at_s >= 0),
    state_id INTEGER NOT NULL REFERENCES alert_states (id),
    finished_at_s INTEGER CHECK (finished_at_s >= 0),               -- null while waiting
    detail TEXT NOT NULL DEFAULT '[]',  -- JSON array: result of each channel, or the reason for suppression
    CHECK ((subject_type_id IS NULL) = (subject_id IS NULL))
) STRICT;
CREATE INDEX alert_events_by_state ON alert_events (state_id, finished_at_s);
CREATE INDEX alert_events_by_subject ON alert_events (subject_type_id, subject_id, state_id, finished_at_s);

-- Alerts to be reported in the next digest. Exactly one row.
CREATE TABLE alert_digest (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    suppressed INTEGER NOT NULL CHECK (suppressed >= 0),    -- alerts since the last digest that were not sent
    since_s INTEGER NOT NULL CHECK (since_s >= 0)           -- time of the first of them; outdated if there are none
) STRICT;
INSERT INTO alert_digest (id, suppressed, since_s) VALUES (1, 0, 0);
