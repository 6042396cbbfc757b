-- Quotas of the stores of this service, and what isolates its projects from each other.

-- Kind of the key: who can have it. All keys of earlier versions are in web pages.
ALTER TABLE dsn_keys ADD COLUMN key_kind_id INTEGER NOT NULL DEFAULT 2 REFERENCES key_kinds (id);

-- Project and kind of the public key that the request was sent with, and attempts that failed while others succeeded.
ALTER TABLE outbox ADD COLUMN project TEXT NOT NULL DEFAULT '';
ALTER TABLE outbox ADD COLUMN key_kind_id INTEGER NOT NULL DEFAULT 2 REFERENCES key_kinds (id);
ALTER TABLE outbox ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0 CHECK (attempts >= 0);
UPDATE outbox SET project = CASE WHEN json_valid(body) THEN
    coalesce(CAST(json_extract(body, iif(json_type(body) = 'array', '$[0].project', '$.project')) AS TEXT), '') ELSE '' END;
CREATE INDEX outbox_by_project ON outbox (upstream_id, project, id);

-- Requests that were set aside, because the upstream failed to accept them several times while it accepted others. They are
-- delivered again only by hand.
CREATE TABLE dead_letters (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    upstream_id INTEGER NOT NULL REFERENCES upstreams (id),
    project TEXT NOT NULL,
    key_kind_id INTEGER NOT NULL REFERENCES key_kinds (id),
    idempotency_key TEXT NOT NULL,
    body TEXT NOT NULL,                 -- JSON
    client TEXT NOT NULL,               -- IP address of the browser
    created_at_ms INTEGER NOT NULL,     -- arrival of the request
    failed_at_ms INTEGER NOT NULL,      -- last attempt
    attempts INTEGER NOT NULL CHECK (attempts > 0),
    status INTEGER,                     -- HTTP status of the last answer; null if there was none
    reason TEXT NOT NULL                -- the last failure, in one line
) STRICT;
CREATE INDEX dead_letters_by_project ON dead_letters (upstream_id, project, id);

-- The outbox and the dead letters of an upstream are one store. A row counts its body and 200 bytes.
CREATE TRIGGER outbox_usage_added AFTER INSERT ON outbox BEGIN
    INSERT INTO quota_usage (store, project, key_kind_id, row_count, stored_bytes)
        VALUES (iif(new.upstream_id = 1, 'outbox_errors', 'outbox_metrics'), new.project, new.key_kind_id, 1,
                octet_length(new.body) + 200)
        ON CONFLICT DO UPDATE SET row_count = row_count + 1, stored_bytes = stored_bytes + excluded.stored_bytes;
END;
CREATE TRIGGER outbox_usage_removed AFTER DELETE ON outbox BEGIN
    UPDATE quota_usage SET row_count = row_count - 1, stored_bytes = stored_bytes - octet_length(old.body) - 200
        WHERE store = iif(old.upstream_id = 1, 'outbox_errors', 'outbox_metrics') AND project = old.project
            AND key_kind_id = old.key_kind_id;
END;
CREATE TRIGGER dead_letter_usage_added AFTER INSERT ON dead_letters BEGIN
    INSERT INTO quota_usage (store, project, key_kind_id, row_count, stored_bytes)
        VALUES (iif(new.upstream_id = 1, 'outbox_errors', 'outbox_metrics'), new.project, new.key_kind_id, 1,
                octet_length(new.body) + 200)
        ON CONFLICT DO UPDATE SET row_count = row_count + 1, stored_bytes = stored_bytes + excluded.stored_bytes;
END;
CREATE TRIGGER dead_letter_usage_removed AFTER DELETE ON dead_letters BEGIN
    UPDATE quota_usage SET row_count = row_count - 1, stored_bytes = stored_bytes - octet_length(old.body) - 200
        WHERE store = iif(old.upstream_id = 1, 'outbox_errors', 'outbox_metrics') AND project = old.project
            AND key_kind_id = old.key_kind_id;
END;
INSERT INTO quota_usage (store, project, key_kind_id, row_count, stored_bytes)
    SELECT iif(upstream_id = 1, 'outbox_errors', 'outbox_metrics'), project, key_kind_id, count(*),
           sum(octet_length(body) + 200)
    FROM outbox GROUP BY 1, 2, 3;

-- Size of the blocks of each source map.
ALTER TABLE source_maps ADD COLUMN stored_bytes INTEGER NOT NULL DEFAULT 0 CHECK (stored_bytes >= 0);
UPDATE source_maps SET stored_bytes =
    coalesce((SELECT sum(length(data)) FROM map_blocks WHERE map_id = source_maps.id), 0);
CREATE INDEX source_maps_by_project_use ON source_maps (project, used_at_ms);
CREATE TRIGGER source_map_usage_added AFTER INSERT ON source_maps BEGIN
    INSERT INTO quota_usage (store, project, key_kind_id, row_count, stored_bytes)
        VALUES ('source_maps', new.project, 1, 1, new.stored_bytes)
        ON CONFLICT DO UPDATE SET row_count = row_count + 1, stored_bytes = stored_bytes + excluded.stored_bytes;
END;
CREATE TRIGGER source_map_usage_removed AFTER DELETE ON source_maps BEGIN
    UPDATE quota_usage SET row_count = row_count - 1, stored_bytes = stored_bytes - old.stored_bytes
        WHERE store = 'source_maps' AND project = old.project AND key_kind_id = 1;
END;
INSERT INTO quota_usage (store, project, key_kind_id, row_count, stored_bytes)
    SELECT 'source_maps', project, 1, count(*), sum(stored_bytes) FROM source_maps GROUP BY project;
