-- Quotas of the stores of this service, and what isolates its projects from each other.

-- Records before the position of export_cursor that were not forwarded yet, because the other system fails with them. They
-- are retried apart from the others and skipped after a few attempts. The record itself may have been deleted meanwhile.
CREATE TABLE export_held (
    record_id INTEGER PRIMARY KEY       -- id of the record, as in export_cursor.last_id
) STRICT;

-- Maximum time by which the id of an entry is behind its time, rounded up. Times far in the future, which a wrong clock wrote,
-- count as the time of arrival in the id only.
ALTER TABLE segments ADD COLUMN id_lag_ms INTEGER NOT NULL DEFAULT 0 CHECK (id_lag_ms >= 0);
