-- Timestamps are seconds since 1970 (UTC); hours are hours since 1970 (UTC).

-- Error groups, one row for each. Rows are kept small, because lists, counts and substring search scan the table.
CREATE TABLE errors (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    fingerprint TEXT NOT NULL,
    project TEXT NOT NULL,
    exception_type TEXT NOT NULL,
    message TEXT NOT NULL,              -- of the first report, truncated to 2,000 characters
    location TEXT,                      -- file:line
    environment TEXT NOT NULL,          -- of the latest report, like release, level and source
    release TEXT,
    level TEXT NOT NULL,
    source TEXT NOT NULL,               -- browser or server
    count INTEGER NOT NULL,
    first_seen INTEGER NOT NULL,
    last_seen INTEGER NOT NULL,
    resolved INTEGER NOT NULL DEFAULT 0,
    resolved_at INTEGER
);
CREATE INDEX errors_by_last_seen ON errors (resolved, last_seen);
CREATE INDEX errors_by_project ON errors (project, resolved, last_seen);

-- Full message and traceback of each group's first report. The row is deleted when the size limit needs the space.
CREATE TABLE error_texts (
    error_id INTEGER PRIMARY KEY,
    message TEXT,                       -- null unless errors.message is truncated
    traceback TEXT NOT NULL
);

-- Full-text index of type, message and traceback. Contentless, because the tables above store the strings. Without
-- positions, which would double its size: phrases are verified against the stored strings.
CREATE VIRTUAL TABLE error_search USING fts5 (
    words, content = '', contentless_delete = 1, detail = none, tokenize = 'unicode61'
);

-- Fingerprints of each group. A group may have several, so that an upgrade with better location detection does not
-- split old groups.
CREATE TABLE error_fingerprints (
    project TEXT NOT NULL,
    algorithm INTEGER NOT NULL,         -- 1: as in the original; 2: with a location that the original does not find
    hash BLOB NOT NULL,                 -- MD5, 16 bytes
    error_id INTEGER NOT NULL,
    PRIMARY KEY (project, algorithm, hash)
) WITHOUT ROWID;
CREATE INDEX error_fingerprints_by_error ON error_fingerprints (error_id);

-- The latest reports of each group, in full.
CREATE TABLE error_occurrences (
    id INTEGER PRIMARY KEY,
    error_id INTEGER NOT NULL,
    timestamp INTEGER NOT NULL,
    environment TEXT NOT NULL,
    release TEXT,
    level TEXT NOT NULL,
    request_url TEXT,
    request_method TEXT,
    request_headers TEXT,               -- a JSON object
    user_id TEXT,
    session_id TEXT,                    -- extra.session_id, if it is a string
    extra TEXT,                         -- a JSON object
    message TEXT,                       -- null if equal to the group's
    traceback TEXT                      -- null if equal to the group's
);
CREATE INDEX error_occurrences_by_error ON error_occurrences (error_id);
CREATE INDEX error_occurrences_by_session ON error_occurrences (session_id) WHERE session_id IS NOT NULL;

-- Environment and release names. Row 0 replaces all names that arrive after the table has reached its limit.
CREATE TABLE names (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);
INSERT INTO names (id, name) VALUES (0, '(other)');

-- Exact report counts by hour, environment and release, including reports that are no longer stored.
CREATE TABLE error_series (
    error_id INTEGER NOT NULL,
    hour INTEGER NOT NULL,
    environment_id INTEGER NOT NULL,
    release_id INTEGER NOT NULL,        -- the row of the empty name if the report has no release
    count INTEGER NOT NULL,
    PRIMARY KEY (error_id, hour, environment_id, release_id)
) WITHOUT ROWID;

-- Environments and releases in which each group occurred, for filters.
CREATE TABLE error_variants (
    error_id INTEGER NOT NULL,
    environment_id INTEGER NOT NULL,
    release_id INTEGER NOT NULL,
    last_hour INTEGER NOT NULL,
    PRIMARY KEY (error_id, environment_id, release_id)
) WITHOUT ROWID;
CREATE INDEX error_variants_by_environment ON error_variants (environment_id, error_id);
CREATE INDEX error_variants_by_release ON error_variants (release_id, error_id);

-- Counters.
INSERT INTO counters (name, value) VALUES ('unresolved', 0), ('resolved', 0), ('evicted', 0), ('stripped', 0);
