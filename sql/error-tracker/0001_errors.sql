-- Moments are whole seconds since 1970 (UTC), hours are whole hours since 1970.

-- One row a group of alike errors. Narrow on purpose: lists, counts and substring search walk over it.
CREATE TABLE errors (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    fingerprint TEXT NOT NULL,
    project TEXT NOT NULL,
    exception_type TEXT NOT NULL,
    message TEXT NOT NULL,              -- of the first report, cut to 2,000 characters
    location TEXT,                      -- file:line
    environment TEXT NOT NULL,          -- of the latest report, as are release, level and source
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

-- The first report's texts, apart from the narrow rows; absent once the space was needed for newer ones.
CREATE TABLE error_texts (
    error_id INTEGER PRIMARY KEY,
    message TEXT,                       -- only where errors.message is cut
    traceback TEXT NOT NULL
);

-- Words of type, message and traceback. Contentless: the texts stand above. Without positions: they would double the
-- index, and what belongs together is checked against the texts.
CREATE VIRTUAL TABLE error_search USING fts5 (
    words, content = '', contentless_delete = 1, detail = none, tokenize = 'unicode61'
);

-- What leads to a group. More than one may: an upgrade that finds better locations must not split old groups.
CREATE TABLE error_fingerprints (
    project TEXT NOT NULL,
    algorithm INTEGER NOT NULL,         -- 1: as the original computed it; 2: with a location the original did not find
    hash BLOB NOT NULL,                 -- 16 bytes
    error_id INTEGER NOT NULL,
    PRIMARY KEY (project, algorithm, hash)
) WITHOUT ROWID;
CREATE INDEX error_fingerprints_by_error ON error_fingerprints (error_id);

-- The last reports of each group, in full.
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
    session_id TEXT,                    -- extra.session_id, where it is a text
    extra TEXT,                         -- a JSON object
    message TEXT,                       -- null where it is the group's
    traceback TEXT                      -- null where it is the group's
);
CREATE INDEX error_occurrences_by_error ON error_occurrences (error_id);
CREATE INDEX error_occurrences_by_session ON error_occurrences (session_id) WHERE session_id IS NOT NULL;

-- Environments and releases by number; 0 stands for all that came after the table was full.
CREATE TABLE names (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);
INSERT INTO names (id, name) VALUES (0, '(other)');

-- Every report counts here, stored in full or not: exact numbers by hour, environment and release.
CREATE TABLE error_series (
    error_id INTEGER NOT NULL,
    hour INTEGER NOT NULL,
    environment_id INTEGER NOT NULL,
    release_id INTEGER NOT NULL,        -- of the empty name where a report has none
    count INTEGER NOT NULL,
    PRIMARY KEY (error_id, hour, environment_id, release_id)
) WITHOUT ROWID;

-- Where each group was seen, for the filters by environment and release.
CREATE TABLE error_variants (
    error_id INTEGER NOT NULL,
    environment_id INTEGER NOT NULL,
    release_id INTEGER NOT NULL,
    last_hour INTEGER NOT NULL,
    PRIMARY KEY (error_id, environment_id, release_id)
) WITHOUT ROWID;
CREATE INDEX error_variants_by_environment ON error_variants (environment_id, error_id);
CREATE INDEX error_variants_by_release ON error_variants (release_id, error_id);

-- Numbers that would be slow to count.
CREATE TABLE totals (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO totals (name, value) VALUES ('unresolved', 0), ('resolved', 0), ('evicted', 0), ('stripped', 0),
    ('alerts_held', 0), ('alerts_held_since', 0);

-- What became of each alert; waiting ones survive a restart.
CREATE TABLE alerts (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,                 -- new, reopened, digest, test
    error_id INTEGER,
    created_at INTEGER NOT NULL,
    state TEXT NOT NULL,                -- waiting, sent, failed, held (too soon, or over the cap of the hour)
    finished_at INTEGER,
    detail TEXT NOT NULL DEFAULT '[]'   -- JSON: what each channel said, or why it was held
);
CREATE INDEX alerts_waiting ON alerts (id) WHERE state = 'waiting';
CREATE INDEX alerts_by_error ON alerts (error_id, finished_at) WHERE state = 'sent';
