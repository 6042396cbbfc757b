-- Recognition of rotated files by their content, and gaps by source.

-- Current file: length and hash of the bytes before the position, because text files often begin with the same line. With
-- length 0 they are unknown.
ALTER TABLE checkpoints ADD COLUMN preceding_bytes INTEGER NOT NULL DEFAULT 0 CHECK (preceding_bytes >= 0);
ALTER TABLE checkpoints ADD COLUMN preceding_hash INTEGER NOT NULL DEFAULT 0;

-- Positions in older files of a source to which programs may still write. The columns are those of checkpoints.
CREATE TABLE replaced_files (
    source_id INTEGER NOT NULL REFERENCES sources (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,            -- in the order of the rotations, from 0
    first_line_bytes INTEGER NOT NULL CHECK (first_line_bytes >= 0),
    first_line_hash INTEGER NOT NULL,
    inode INTEGER NOT NULL,
    offset_bytes INTEGER NOT NULL CHECK (offset_bytes >= 0),
    preceding_bytes INTEGER NOT NULL CHECK (preceding_bytes >= 0),
    preceding_hash INTEGER NOT NULL,
    PRIMARY KEY (source_id, number)
) STRICT, WITHOUT ROWID;

-- Number of times that files of a source were gone or damaged before they could be read, and the last such time, in seconds
-- since 1970; 0 if there was none.
ALTER TABLE sources ADD COLUMN gaps INTEGER NOT NULL DEFAULT 0 CHECK (gaps >= 0);
ALTER TABLE sources ADD COLUMN last_gap_s INTEGER NOT NULL DEFAULT 0;

-- docker-compose 1 renames a container to its short id, '_' and its name before it replaces it. The name without the id is
-- that of the new container, too.
UPDATE sources SET name = substr(name, 14) WHERE length(name) > 13 AND substr(name, 1, 13) = substr(key, 1, 12) || '_';
