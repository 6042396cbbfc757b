-- Error groups, their reports, counts and fingerprints.
-- Times end in the unit: _s is seconds and _h is hours since 1970 (UTC). A client may report a time before 1970, which is
-- negative. Lengths are in characters.

-- Tables of names: the values of enumerations. A later migration may add a row, but rows never change and are never
-- deleted; therefore the columns that refer to them have no index.

CREATE TABLE error_levels (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;
INSERT INTO error_levels (id, name) VALUES (1, 'debug'), (2, 'info'), (3, 'warning'), (4, 'error'), (5, 'critical');

-- Program that sent a report.
CREATE TABLE error_sources (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;
INSERT INTO error_sources (id, name) VALUES (1, 'server'), (2, 'browser');

-- Algorithms that compute a fingerprint. original: as the original Monlight does. extended: with a location that the
-- original does not find.
CREATE TABLE fingerprint_algorithms (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;
INSERT INTO fingerprint_algorithms (id, name) VALUES (1, 'original'), (2, 'extended');

-- Error groups, one row for each. Rows are kept small, because lists, counts and substring search scan the table.
CREATE TABLE error_groups (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    fingerprint BLOB NOT NULL CHECK (length(fingerprint) = 16),     -- the API's fingerprint; MD5
    project TEXT NOT NULL,
    exception_type TEXT NOT NULL,
    message TEXT NOT NULL CHECK (length(message) <= 2000),          -- of the first report, truncated
    location TEXT CHECK (length(location) <= 2000),                 -- file:line; null if the traceback has none
    environment TEXT NOT NULL CHECK (length(environment) <= 200),   -- of the latest report, like the next three
    release TEXT CHECK (length(release) <= 200),                    -- null if the report has none
    level_id INTEGER NOT NULL REFERENCES error_levels (id),
    source_id INTEGER NOT NULL REFERENCES error_sources (id),
    count INTEGER NOT NULL CHECK (count > 0),                       -- reports, including those that are not stored
    first_seen_s INTEGER NOT NULL,
    last_seen_s INTEGER NOT NULL CHECK (last_seen_s >= first_seen_s),
    resolved INTEGER NOT NULL DEFAULT 0 CHECK (resolved IN (0, 1)),
    resolved_at_s INTEGER CHECK (resolved = (resolved_at_s IS NOT NULL))    -- null if unresolved
) STRICT;
CREATE INDEX error_groups_by_last_seen ON error_groups (resolved, last_seen_s);
CREATE INDEX error_groups_by_project ON error_groups (project, resolved, last_seen_s);

-- Full message and traceback of each group's first report. The row is deleted when the size limit needs the space.
CREATE TABLE error_texts (
    group_id INTEGER PRIMARY KEY REFERENCES error_groups (id) ON DELETE CASCADE,
    message TEXT,                       -- null unless error_groups.message is truncated
    traceback TEXT NOT NULL
) STRICT;

-- Full-text index of type, message and traceback; rowid is error_texts.group_id. Contentless, because the tables above
-- store the strings. Without positions, which would double its size: phrases are verified against the stored strings.
-- A virtual table cannot have references, so the program deletes its rows together with those of error_texts.
CREATE VIRTUAL TABLE error_search USING fts5 (
    words, content = '', contentless_delete = 1, detail = none, tokenize = 'unicode61'
);

-- Fingerprints of each group. A group may have several, so that an upgrade with better location detection does not
-- split old groups.
CREATE TABLE error_fingerprints (
    project TEXT NOT NULL,
    algorithm_id INTEGER NOT NULL REFERENCES fingerprint_algorithms (id),
    hash BLOB NOT NULL CHECK (length(hash) = 16),   -- MD5
    group_id INTEGER NOT NULL REFERENCES error_groups (id) ON DELETE CASCADE,
    PRIMARY KEY (project, algorithm_id, hash)
) STRICT, WITHOUT ROWID;
CREATE INDEX error_fingerprints_by_group ON error_fingerprints (group_id);

-- The latest reports of each group, in full.
CREATE TABLE error_occurrences (
    id INTEGER PRIMARY KEY,
    group_id INTEGER NOT NULL REFERENCES error_groups (id) ON DELETE CASCADE,
    occurred_at_s INTEGER NOT NULL,     -- by the client's clock, but not after the arrival; the arrival if not reported
    environment TEXT NOT NULL CHECK (length(environment) <= 200),
    release TEXT CHECK (length(release) <= 200),    -- null if not reported, like the columns from request_url to extra
    level_id INTEGER NOT NULL REFERENCES error_levels (id),
    request_url TEXT,
    request_method TEXT,                -- BROWSER for reports of web pages
    request_headers TEXT,               -- a JSON object
    user_id TEXT,
    session_id TEXT CHECK (length(session_id) <= 200),  -- extra.session_id, if it is a string
    extra TEXT,                         -- a JSON object
    message TEXT,                       -- null if equal to the group's
    traceback TEXT                      -- null if equal to the group's
) STRICT;
CREATE INDEX error_occurrences_by_group ON error_occurrences (group_id);
CREATE INDEX error_occurrences_by_session ON error_occurrences (session_id) WHERE session_id IS NOT NULL;

-- Names of environments and releases. Row 0 replaces all names that arrive after the table has reached its limit. The
-- empty name is the release of reports without one.
CREATE TABLE variant_names (
    id INTEGER PRIMARY KEY CHECK (id >= 0),
    name TEXT NOT NULL UNIQUE CHECK (length(name) <= 200)
) STRICT;
INSERT INTO variant_names (id, name) VALUES (0, '(other)');

-- Environments and releases in which each group occurred, for filters.
CREATE TABLE error_variants (
    group_id INTEGER NOT NULL REFERENCES error_groups (id) ON DELETE CASCADE,
    environment_id INTEGER NOT NULL REFERENCES variant_names (id),
    release_id INTEGER NOT NULL REFERENCES variant_names (id),
    last_seen_h INTEGER NOT NULL,
    PRIMARY KEY (group_id, environment_id, release_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX error_variants_by_environment ON error_variants (environment_id, group_id);
CREATE INDEX error_variants_by_release ON error_variants (release_id, group_id);

-- Exact number of reports of each variant by hour, including reports that are no longer stored.
CREATE TABLE hourly_counts (
    group_id INTEGER NOT NULL,
    environment_id INTEGER NOT NULL,
    release_id INTEGER NOT NULL,
    at_h INTEGER NOT NULL,
    count INTEGER NOT NULL CHECK (count > 0),
    PRIMARY KEY (group_id, environment_id, release_id, at_h),
    FOREIGN KEY (group_id, environment_id, release_id)
        REFERENCES error_variants (group_id, environment_id, release_id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- unresolved, resolved: groups. evicted: groups deleted because of MAX_GROUPS. stripped: reports deleted because of
-- MAX_DB_MB.
INSERT INTO counters (name, value) VALUES ('unresolved', 0), ('resolved', 0), ('evicted', 0), ('stripped', 0);
