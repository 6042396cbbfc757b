-- Alerts: shares of projects, one delivery for each channel, and the alerts that a digest lists.

-- sending: within the limits; at least one channel has not finished.
INSERT INTO alert_states (id, name) VALUES (5, 'sending');

-- Ways to send a message. Rows never change and are never deleted.
CREATE TABLE alert_channels (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;
INSERT INTO alert_channels (id, name) VALUES (1, 'postmark'), (2, 'smtp'), (3, 'webhook');

-- Origin of each alert with a subject that is not finished. Its rows are the quota store alert_queue.
CREATE TABLE alert_queue (
    alert_id INTEGER PRIMARY KEY REFERENCES alert_events (id) ON DELETE CASCADE,
    project TEXT NOT NULL,
    key_kind_id INTEGER NOT NULL REFERENCES key_kinds (id),     -- of the key that reported it
    critical INTEGER NOT NULL CHECK (critical IN (0, 1))        -- 1 if the level of the report is critical
) STRICT;
CREATE TRIGGER alert_queue_added AFTER INSERT ON alert_queue BEGIN
    INSERT INTO quota_usage (store, project, key_kind_id, row_count, stored_bytes)
        VALUES ('alert_queue', new.project, new.key_kind_id, 1, 0)
        ON CONFLICT DO UPDATE SET row_count = row_count + 1;
END;
CREATE TRIGGER alert_queue_deleted AFTER DELETE ON alert_queue BEGIN
    UPDATE quota_usage SET row_count = row_count - 1
        WHERE store = 'alert_queue' AND project = old.project AND key_kind_id = old.key_kind_id;
END;

-- Alerts that passed the limits within the last hour. Its rows are the quota store alerts_per_hour.
CREATE TABLE alert_admissions (
    id INTEGER PRIMARY KEY,
    project TEXT NOT NULL,
    key_kind_id INTEGER NOT NULL REFERENCES key_kinds (id),
    admitted_at_s INTEGER NOT NULL CHECK (admitted_at_s >= 0)
) STRICT;
CREATE TRIGGER alert_admissions_added AFTER INSERT ON alert_admissions BEGIN
    INSERT INTO quota_usage (store, project, key_kind_id, row_count, stored_bytes)
        VALUES ('alerts_per_hour', new.project, new.key_kind_id, 1, 0)
        ON CONFLICT DO UPDATE SET row_count = row_count + 1;
END;
CREATE TRIGGER alert_admissions_deleted AFTER DELETE ON alert_admissions BEGIN
    UPDATE quota_usage SET row_count = row_count - 1
        WHERE store = 'alerts_per_hour' AND project = old.project AND key_kind_id = old.key_kind_id;
END;

-- The queue of each channel, and its results for the history.
CREATE TABLE alert_deliveries (
    alert_id INTEGER NOT NULL REFERENCES alert_events (id) ON DELETE CASCADE,
    channel_id INTEGER NOT NULL REFERENCES alert_channels (id),     -- no index, because channels are never deleted
    state_id INTEGER NOT NULL REFERENCES alert_states (id),         -- waiting, sent or failed
    attempts INTEGER NOT NULL CHECK (attempts >= 0),
    queued_at_s INTEGER NOT NULL CHECK (queued_at_s >= 0),
    next_attempt_at_s INTEGER NOT NULL CHECK (next_attempt_at_s >= 0),  -- outdated unless waiting
    reason TEXT,                                                    -- of the last failure; null if there was none
    PRIMARY KEY (alert_id, channel_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX alert_deliveries_by_channel ON alert_deliveries (channel_id, state_id, next_attempt_at_s);

-- Number of alerts that each digest reports.
CREATE TABLE alert_digests (
    alert_id INTEGER PRIMARY KEY REFERENCES alert_events (id) ON DELETE CASCADE,
    alerts INTEGER NOT NULL CHECK (alerts >= 0),
    since_s INTEGER NOT NULL CHECK (since_s >= 0)   -- time of the first of them
) STRICT;

-- Subjects of the alerts that a digest lists. While the table is full, alerts are only counted.
CREATE TABLE held_alerts (
    id INTEGER PRIMARY KEY,
    subject_type_id INTEGER NOT NULL REFERENCES alert_subject_types (id),
    subject_id INTEGER NOT NULL CHECK (subject_id >= 0),
    project TEXT NOT NULL,
    key_kind_id INTEGER NOT NULL REFERENCES key_kinds (id),
    critical INTEGER NOT NULL CHECK (critical IN (0, 1)),
    alerts INTEGER NOT NULL CHECK (alerts > 0),     -- alerts about this subject
    digest_id INTEGER REFERENCES alert_events (id) ON DELETE SET NULL   -- null until a digest lists them
) STRICT;
CREATE INDEX held_alerts_by_digest ON held_alerts (digest_id, subject_type_id, subject_id);
