//! Alerts that a program of schema version 1 queued during a rollback, in the table `alerts`.

use rusqlite::Connection;

use crate::db::Command;
use crate::error::Result;

/// Moves them into the tables of `alerting`, with new ids, since theirs may be in use by now.
const MOVE: &str = "
    INSERT INTO alert_events (kind, subject_type, subject_id, created_at, state, finished_at, detail)
        SELECT kind, iif(error_id IS NULL, NULL, 'error_group'), error_id, created_at, state, finished_at, detail
        FROM alerts ORDER BY id;
    DELETE FROM alerts;
    UPDATE alert_digest SET
        since = iif(suppressed = 0, (SELECT value FROM totals WHERE name = 'alerts_held_since'), since),
        suppressed = suppressed + (SELECT value FROM totals WHERE name = 'alerts_held');
    UPDATE totals SET value = 0 WHERE name IN ('alerts_held', 'alerts_held_since');
";

/// Moves the alerts, if there are any. Runs at every start, because each rollback can leave some.
pub(super) struct MoveRolledBackAlerts;

impl Command for MoveRolledBackAlerts {
    type Output = ();

    fn apply(self, transaction: &Connection) -> Result<()> {
        let exist: bool = transaction.query_row(
            "SELECT EXISTS (SELECT 1 FROM alerts)
                 OR EXISTS (SELECT 1 FROM totals WHERE name = 'alerts_held' AND value > 0)",
            [],
            |row| row.get(0),
        )?;
        if exist {
            transaction.execute_batch(MOVE)?;
        }
        Ok(())
    }
}
