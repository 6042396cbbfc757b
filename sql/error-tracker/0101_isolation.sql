-- Quotas of the stores of this service, and what isolates its projects from each other.

-- Kind of the keys that reported a group: browser until a server key reports it.
ALTER TABLE error_groups ADD COLUMN key_kind_id INTEGER NOT NULL DEFAULT 1 REFERENCES key_kinds (id);
UPDATE error_groups SET key_kind_id = 2 WHERE source_id = 2;
CREATE INDEX error_groups_of_browsers ON error_groups (project, last_seen_s) WHERE resolved = 0 AND key_kind_id = 2;

-- Store "groups": unresolved groups, by rows and by their size without the texts of error_texts.
INSERT INTO quota_usage (store, project, key_kind_id, row_count, stored_bytes)
    SELECT 'groups', project, key_kind_id, count(*),
        sum(200 + octet_length(exception_type) + octet_length(message) + ifnull(octet_length(location), 0))
    FROM error_groups WHERE resolved = 0 GROUP BY project, key_kind_id;
CREATE TRIGGER error_groups_inserted AFTER INSERT ON error_groups WHEN new.resolved = 0 BEGIN
    INSERT INTO quota_usage VALUES ('groups', new.project, new.key_kind_id, 1,
            200 + octet_length(new.exception_type) + octet_length(new.message) + ifnull(octet_length(new.location), 0))
        ON CONFLICT DO UPDATE SET row_count = row_count + 1, stored_bytes = stored_bytes + excluded.stored_bytes;
END;
CREATE TRIGGER error_groups_deleted AFTER DELETE ON error_groups WHEN old.resolved = 0 BEGIN
    UPDATE quota_usage SET row_count = row_count - 1, stored_bytes = stored_bytes - (
            200 + octet_length(old.exception_type) + octet_length(old.message) + ifnull(octet_length(old.location), 0))
        WHERE store = 'groups' AND project = old.project AND key_kind_id = old.key_kind_id;
END;
CREATE TRIGGER error_groups_changed AFTER UPDATE OF resolved, key_kind_id ON error_groups
WHEN new.resolved <> old.resolved OR new.key_kind_id <> old.key_kind_id BEGIN
    UPDATE quota_usage SET row_count = row_count - 1, stored_bytes = stored_bytes - (
            200 + octet_length(old.exception_type) + octet_length(old.message) + ifnull(octet_length(old.location), 0))
        WHERE old.resolved = 0 AND store = 'groups' AND project = old.project AND key_kind_id = old.key_kind_id;
    INSERT INTO quota_usage
        SELECT 'groups', new.project, new.key_kind_id, 1,
            200 + octet_length(new.exception_type) + octet_length(new.message) + ifnull(octet_length(new.location), 0)
        WHERE new.resolved = 0
        ON CONFLICT DO UPDATE SET row_count = row_count + 1, stored_bytes = stored_bytes + excluded.stored_bytes;
END;

-- Environments and releases that each project uses, by the time of their last use. A name that is evicted is deleted, and
-- what was counted for it is added to "(other)".
CREATE TABLE project_names (
    project TEXT NOT NULL,
    is_release INTEGER NOT NULL CHECK (is_release IN (0, 1)),   -- 0: an environment
    name_id INTEGER NOT NULL REFERENCES variant_names (id) ON DELETE CASCADE,
    key_kind_id INTEGER NOT NULL REFERENCES key_kinds (id),     -- browser until a server key uses the name
    name_bytes INTEGER NOT NULL CHECK (name_bytes >= 0),
    last_used_s INTEGER NOT NULL,       -- up to a minute old
    PRIMARY KEY (project, is_release, name_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX project_names_by_name ON project_names (name_id);
CREATE INDEX project_names_by_use ON project_names (project, key_kind_id, last_used_s, name_id);
INSERT INTO project_names
    SELECT used.project, used.is_release, used.name_id, used.key_kind_id, octet_length(n.name), used.last_used_s
    FROM (
        SELECT g.project, 0 AS is_release, v.environment_id AS name_id, min(g.key_kind_id) AS key_kind_id,
            max(v.last_seen_h) * 3600 AS last_used_s
        FROM error_variants v JOIN error_groups g ON g.id = v.group_id GROUP BY g.project, v.environment_id
        UNION ALL
        SELECT g.project, 1, v.release_id, min(g.key_kind_id), max(v.last_seen_h) * 3600
        FROM error_variants v JOIN error_groups g ON g.id = v.group_id GROUP BY g.project, v.release_id
    ) used JOIN variant_names n ON n.id = used.name_id
    WHERE n.id > 0 AND n.name <> '';

-- Store "names": the rows of project_names, by rows and bytes.
INSERT INTO quota_usage (store, project, key_kind_id, row_count, stored_bytes)
    SELECT 'names', project, key_kind_id, count(*), sum(name_bytes) FROM project_names GROUP BY project, key_kind_id;
CREATE TRIGGER project_names_inserted AFTER INSERT ON project_names BEGIN
    INSERT INTO quota_usage VALUES ('names', new.project, new.key_kind_id, 1, new.name_bytes)
        ON CONFLICT DO UPDATE SET row_count = row_count + 1, stored_bytes = stored_bytes + excluded.stored_bytes;
END;
CREATE TRIGGER project_names_deleted AFTER DELETE ON project_names BEGIN
    UPDATE quota_usage SET row_count = row_count - 1, stored_bytes = stored_bytes - old.name_bytes
        WHERE store = 'names' AND project = old.project AND key_kind_id = old.key_kind_id;
END;
CREATE TRIGGER project_names_changed AFTER UPDATE OF key_kind_id ON project_names
WHEN new.key_kind_id <> old.key_kind_id BEGIN
    UPDATE quota_usage SET row_count = row_count - 1, stored_bytes = stored_bytes - old.name_bytes
        WHERE store = 'names' AND project = old.project AND key_kind_id = old.key_kind_id;
    INSERT INTO quota_usage VALUES ('names', new.project, new.key_kind_id, 1, new.name_bytes)
        ON CONFLICT DO UPDATE SET row_count = row_count + 1, stored_bytes = stored_bytes + excluded.stored_bytes;
END;

-- Kind of the key whose report began an hour.
ALTER TABLE hourly_counts ADD COLUMN key_kind_id INTEGER NOT NULL DEFAULT 1 REFERENCES key_kinds (id);

-- Store "hourly_counts": the rows of this table. When a group is deleted, its project is unknown by the time its hours are
-- deleted, so they are subtracted before.
INSERT INTO quota_usage (store, project, key_kind_id, row_count, stored_bytes)
    SELECT 'hourly_counts', g.project, c.key_kind_id, count(*), 0
    FROM error_groups g JOIN hourly_counts c ON c.group_id = g.id GROUP BY g.project, c.key_kind_id;
CREATE TRIGGER hourly_counts_inserted AFTER INSERT ON hourly_counts BEGIN
    INSERT INTO quota_usage
        SELECT 'hourly_counts', project, new.key_kind_id, 1, 0 FROM error_groups WHERE id = new.group_id
        ON CONFLICT DO UPDATE SET row_count = row_count + 1;
END;
CREATE TRIGGER hourly_counts_deleted AFTER DELETE ON hourly_counts BEGIN
    UPDATE quota_usage SET row_count = row_count - 1
        WHERE store = 'hourly_counts' AND key_kind_id = old.key_kind_id
            AND project = (SELECT project FROM error_groups WHERE id = old.group_id);
END;
CREATE TRIGGER error_groups_hours_deleted BEFORE DELETE ON error_groups BEGIN
    UPDATE quota_usage SET row_count = row_count - (
            SELECT count(*) FROM hourly_counts c
            WHERE c.group_id = old.id AND c.key_kind_id = quota_usage.key_kind_id)
        WHERE store = 'hourly_counts' AND project = old.project;
END;

-- Store "occurrences": the rows of error_occurrences, by the size of them and of the texts of their groups. It is charged to
-- the kind of keys of the group. The program counts it, because triggers would slow down each report; src/error_tracker/
-- payloads.rs has the same expressions. Only what is deleted with its group is counted here.
INSERT INTO quota_usage (store, project, key_kind_id, row_count, stored_bytes)
    SELECT 'occurrences', project, key_kind_id, sum(row_count), sum(stored_bytes) FROM (
        SELECT g.project, g.key_kind_id, 1 AS row_count,
            200 + ifnull(octet_length(o.message), 0) + ifnull(octet_length(o.traceback), 0)
                + ifnull(octet_length(o.extra), 0) + ifnull(octet_length(o.request_headers), 0) AS stored_bytes
        FROM error_occurrences o JOIN error_groups g ON g.id = o.group_id
        UNION ALL
        SELECT g.project, g.key_kind_id, 0, ifnull(octet_length(t.message), 0) + octet_length(t.traceback)
        FROM error_texts t JOIN error_groups g ON g.id = t.group_id
    ) GROUP BY project, key_kind_id HAVING sum(row_count) > 0;
CREATE VIEW group_payloads AS
    SELECT g.id AS group_id,
        (SELECT count(*) FROM error_occurrences o WHERE o.group_id = g.id) AS row_count,
        (SELECT ifnull(sum(
                200 + ifnull(octet_length(o.message), 0) + ifnull(octet_length(o.traceback), 0)
                    + ifnull(octet_length(o.extra), 0) + ifnull(octet_length(o.request_headers), 0)), 0)
            FROM error_occurrences o WHERE o.group_id = g.id)
            + (SELECT ifnull(sum(ifnull(octet_length(t.message), 0) + octet_length(t.traceback)), 0)
                FROM error_texts t WHERE t.group_id = g.id) AS stored_bytes
    FROM error_groups g;
CREATE TRIGGER error_groups_payloads_deleted BEFORE DELETE ON error_groups BEGIN
    UPDATE quota_usage SET
            row_count = quota_usage.row_count - p.row_count, stored_bytes = quota_usage.stored_bytes - p.stored_bytes
        FROM group_payloads p
        WHERE p.group_id = old.id AND store = 'occurrences' AND project = old.project AND key_kind_id = old.key_kind_id;
END;
CREATE TRIGGER error_groups_payloads_moved AFTER UPDATE OF key_kind_id ON error_groups
WHEN new.key_kind_id <> old.key_kind_id BEGIN
    UPDATE quota_usage SET
            row_count = quota_usage.row_count - p.row_count, stored_bytes = quota_usage.stored_bytes - p.stored_bytes
        FROM group_payloads p
        WHERE p.group_id = old.id AND store = 'occurrences' AND project = old.project AND key_kind_id = old.key_kind_id;
    INSERT INTO quota_usage
        SELECT 'occurrences', new.project, new.key_kind_id, p.row_count, p.stored_bytes FROM group_payloads p
            WHERE p.group_id = new.id AND p.row_count > 0
        ON CONFLICT DO UPDATE SET
            row_count = row_count + excluded.row_count, stored_bytes = stored_bytes + excluded.stored_bytes;
END;

-- Position up to which the size limit has deleted the occurrences of a project, so that the next eviction continues there.
CREATE TABLE eviction_positions (
    project TEXT NOT NULL,
    key_kind_id INTEGER NOT NULL REFERENCES key_kinds (id),     -- browser: only of groups that browser keys reported
    last_id INTEGER NOT NULL,           -- in error_occurrences
    PRIMARY KEY (project, key_kind_id)
) STRICT, WITHOUT ROWID;

-- Records before the position of export_cursor that were not forwarded yet, because the other system fails with them. They
-- are retried apart from the others and skipped after a few attempts. The record itself may have been deleted meanwhile.
CREATE TABLE export_held (
    record_id INTEGER PRIMARY KEY       -- id of the record, as in export_cursor.last_id
) STRICT;
