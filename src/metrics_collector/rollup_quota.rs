//! Share of each project in the rollup tables. When the database is full, the largest project loses its oldest rows, and when the
//! disk is almost full, its minutes are no longer stored.

use std::collections::HashMap;

use rusqlite::Connection;

use crate::clock::Timestamp;
use crate::error::Result;
use crate::quota::{Bounds, Holder, Measure, Reason, Room, Store, add_usage, largest_project, record_rejection};
use crate::records::key_kind::KeyKind;

/// Rows of series in the rollup tables. `MAX_DB_MB` bounds them together with everything else.
pub(super) const ROLLUPS: Store =
    Store { name: "rollups", warning: "rollups_not_kept", bounds: Bounds { rows_max: u64::MAX, bytes_max: u64::MAX } };

/// Changes of one rollup to the share of each project.
pub(super) struct RollupQuota {
    /// The project whose minutes are not stored, because the disk is almost full.
    largest_project: Option<String>,
    room: Room,
    added_rows: HashMap<(String, KeyKind), i64>,
    /// Points without minutes, by project.
    points_without_minutes: HashMap<String, u64>,
}

impl RollupQuota {
    /// Starts a rollup with this room on the disk.
    pub(super) fn new(transaction: &Connection, room: Room) -> Result<Self> {
        let largest = match room {
            Room::Enough => None,
            Room::Low | Room::VeryLow => largest_project(transaction, &ROLLUPS, Measure::Rows)?,
        };
        let largest_project = largest.map(|(project, _)| project);
        let (added_rows, points_without_minutes) = (HashMap::new(), HashMap::new());
        Ok(Self { largest_project, room, added_rows, points_without_minutes })
    }

    /// Whether minutes of a project are stored.
    pub(super) fn stores_minutes(&self, project: &str) -> bool {
        match self.room {
            Room::Enough => true,
            Room::Low => self.largest_project.as_deref() != Some(project),
            Room::VeryLow => false,
        }
    }

    /// Counts new rows of a series.
    pub(super) fn count_rows(&mut self, project: &str, kind: KeyKind, rows: i64) {
        *self.added_rows.entry((project.to_owned(), kind)).or_default() += rows;
    }

    /// Counts points whose minutes are not stored.
    pub(super) fn count_points_without_minutes(&mut self, project: &str, points: u64) {
        *self.points_without_minutes.entry(project.to_owned()).or_default() += points;
    }

    /// Stores the counts.
    pub(super) fn record(self, transaction: &Connection, now: Timestamp) -> Result<()> {
        for ((project, kind), rows) in &self.added_rows {
            add_usage(transaction, &ROLLUPS, Holder { project, kind: *kind }, *rows, 0)?;
        }
        for (project, points) in &self.points_without_minutes {
            record_rejection(transaction, &ROLLUPS, project, Reason::DiskFull, *points, now)?;
        }
        Ok(())
    }
}

/// Returns the projects and kinds of keys with rows.
pub(super) fn holders(transaction: &Connection) -> Result<Vec<(String, KeyKind)>> {
    let mut read = transaction.prepare_cached("SELECT project, key_kind_id FROM quota_usage WHERE store = ?1")?;
    let holder = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, KeyKind::from_id(row.get(1)?)));
    Ok(read.query_map([ROLLUPS.name], holder)?.collect::<rusqlite::Result<_>>()?)
}

/// Counts all rows again, after an import.
pub(super) fn recount(transaction: &Connection) -> Result<()> {
    transaction.execute("DELETE FROM quota_usage WHERE store = ?1", [ROLLUPS.name])?;
    transaction.execute(
        "INSERT INTO quota_usage (store, project, key_kind_id, row_count, stored_bytes)
             SELECT ?1, m.project, s.key_kind_id, count(*), 0
             FROM (SELECT series_id FROM series_minutes UNION ALL SELECT series_id FROM series_hours) r
                 JOIN series s ON s.id = r.series_id JOIN metrics m ON m.id = s.metric_id
             GROUP BY m.project, s.key_kind_id",
        [ROLLUPS.name],
    )?;
    Ok(())
}
