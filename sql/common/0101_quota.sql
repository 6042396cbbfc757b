-- Tables of src/quota/, which every service has.

-- Kinds of keys by which telemetry is sent.
CREATE TABLE key_kinds (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;
INSERT INTO key_kinds (id, name) VALUES (1, 'server'), (2, 'browser');

-- What each project keeps in a bounded store. Triggers of the stored tables keep it up to date, so it also counts rows that
-- are deleted by a reference. A project without rows has no entry.
CREATE TABLE quota_usage (
    store TEXT NOT NULL,                -- name of the store
    project TEXT NOT NULL,              -- empty if none
    key_kind_id INTEGER NOT NULL REFERENCES key_kinds (id),
    row_count INTEGER NOT NULL,
    stored_bytes INTEGER NOT NULL,
    PRIMARY KEY (store, project, key_kind_id)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER quota_usage_empty AFTER UPDATE ON quota_usage WHEN new.row_count <= 0 BEGIN
    DELETE FROM quota_usage WHERE store = new.store AND project = new.project AND key_kind_id = new.key_kind_id;
END;

-- Sums of quota_usage over all projects, so that a decision takes the same time for any number of projects. The store
-- "occurrences" has none: each report changes its usage, and nothing asks for its sum.
CREATE TABLE quota_totals (
    store TEXT PRIMARY KEY,
    row_count INTEGER NOT NULL,
    stored_bytes INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TRIGGER quota_usage_inserted AFTER INSERT ON quota_usage WHEN new.store <> 'occurrences' BEGIN
    INSERT INTO quota_totals VALUES (new.store, new.row_count, new.stored_bytes)
        ON CONFLICT DO UPDATE SET row_count = row_count + excluded.row_count,
            stored_bytes = stored_bytes + excluded.stored_bytes;
END;
CREATE TRIGGER quota_usage_updated AFTER UPDATE ON quota_usage WHEN new.store <> 'occurrences' BEGIN
    UPDATE quota_totals SET row_count = row_count + new.row_count - old.row_count,
            stored_bytes = stored_bytes + new.stored_bytes - old.stored_bytes
        WHERE store = new.store;
END;
CREATE TRIGGER quota_usage_deleted AFTER DELETE ON quota_usage WHEN old.store <> 'occurrences' BEGIN
    UPDATE quota_totals SET row_count = row_count - old.row_count, stored_bytes = stored_bytes - old.stored_bytes
        WHERE store = old.store;
END;

-- Data that a quota rejected, folded or evicted, by project and reason.
CREATE TABLE quota_rejections (
    store TEXT NOT NULL,
    project TEXT NOT NULL,
    reason TEXT NOT NULL,
    rejected INTEGER NOT NULL CHECK (rejected > 0),
    since_s INTEGER NOT NULL,           -- start of the period that is counted
    last_at_s INTEGER NOT NULL,
    PRIMARY KEY (store, project, reason)
) STRICT, WITHOUT ROWID;
CREATE INDEX quota_rejections_by_age ON quota_rejections (last_at_s);
