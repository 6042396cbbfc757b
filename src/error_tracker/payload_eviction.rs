//! Eviction of payloads beyond `MAX_DB_MB`: from the project whose payloads are the largest, the oldest reports first.

use rusqlite::{Connection, OptionalExtension as _, Row};

use super::payloads::{OCCURRENCE_SIZE, TEXTS_SIZE, UsageChange, recount};
use super::stores::OCCURRENCES;
use crate::clock::Timestamp;
use crate::db::add_to_counter;
use crate::error::Result;
use crate::quota::{Holder, Measure, Reason, largest_project, record_rejection};
use crate::records::key_kind::KeyKind;

/// Maximum number of reports deleted in one transaction, so that new reports are not delayed.
const DELETE_BATCH_MAX: i64 = 200;
/// One batch deletes at most this fraction (one eighth) of the reports of a project. With few large reports, a full batch
/// would delete the newest together with the oldest.
const DELETE_BATCH_FRACTION: i64 = 8;
/// Maximum number of reports of all projects that one transaction reads to find those of the largest.
const SCAN_MAX: i64 = 5_000;
/// Maximum number of stored positions. Few projects are ever the largest.
const POSITIONS_MAX: i64 = 100;

/// A stored report that is examined.
struct StoredReport {
    id: i64,
    group_id: i64,
    /// Kind of the keys of its group.
    kind: KeyKind,
    bytes: i64,
    /// Whether it belongs to the project, and to browser keys if only these are evicted.
    is_eligible: bool,
}

/// Deletes one batch of payloads, to bring the database below `MAX_DB_MB`: the oldest full reports of the largest project,
/// the texts of groups without reports, and after all reports the oldest hourly counts. Groups and their total counts stay.
///
/// Returns whether there was anything to delete.
pub(super) fn evict_payloads(transaction: &Connection) -> Result<bool> {
    let Some((project, kind)) = largest_project(transaction, &OCCURRENCES, Measure::Bytes)? else {
        return Ok(recount(transaction)? || delete_oldest_hour(transaction)?);
    };
    let from = position(transaction, &project, kind)?;
    let batch = batch_size(transaction, &project)?;
    let (mut evicted, mut last_id, mut scanned) = (Vec::new(), from, 0);
    let mut scan = transaction.prepare_cached(&format!(
        "SELECT o.id, o.group_id, g.key_kind_id, {OCCURRENCE_SIZE}, g.project = ?2 AND g.key_kind_id >= ?3
         FROM error_occurrences o CROSS JOIN error_groups g ON g.id = o.group_id
         WHERE o.id > ?1 ORDER BY o.id LIMIT ?4"
    ))?;
    // All kinds for server keys (1), only that of browsers (2) otherwise.
    let mut rows = scan.query((from, &project, kind.id(), SCAN_MAX))?;
    while let Some(row) = rows.next()? {
        let report = stored_report(row)?;
        (last_id, scanned) = (report.id, scanned + 1);
        if report.is_eligible {
            evicted.push(report);
            if evicted.len() as i64 >= batch {
                break;
            }
        }
    }
    drop(rows);
    if evicted.is_empty() && scanned < SCAN_MAX {
        // The end is reached. Groups that changed their kind of keys can have reports before the position.
        store_position(transaction, &project, kind, 0)?;
        return Ok(from > 0 || recount(transaction)? || delete_oldest_hour(transaction)?);
    }
    delete(transaction, &project, &evicted)?;
    store_position(transaction, &project, kind, last_id)?;
    let count = evicted.len() as u64;
    add_to_counter(transaction, "stripped", count.cast_signed())?;
    record_rejection(transaction, &OCCURRENCES, &project, Reason::Evicted, count, Timestamp::now())?;
    Ok(true)
}

fn stored_report(row: &Row<'_>) -> rusqlite::Result<StoredReport> {
    Ok(StoredReport {
        id: row.get(0)?,
        group_id: row.get(1)?,
        kind: KeyKind::from_id(row.get(2)?),
        bytes: row.get(3)?,
        is_eligible: row.get(4)?,
    })
}

/// Returns the number of reports to delete at once.
fn batch_size(transaction: &Connection, project: &str) -> Result<i64> {
    let mut select =
        transaction.prepare_cached("SELECT sum(row_count) FROM quota_usage WHERE store = ?1 AND project = ?2")?;
    let stored: Option<i64> = select.query_row((OCCURRENCES.name, project), |row| row.get(0))?;
    Ok((stored.unwrap_or(0) / DELETE_BATCH_FRACTION).clamp(1, DELETE_BATCH_MAX))
}

/// Deletes reports, and the texts of groups that have no further ones.
fn delete(transaction: &Connection, project: &str, reports: &[StoredReport]) -> Result<()> {
    let mut delete = transaction.prepare_cached("DELETE FROM error_occurrences WHERE id = ?1")?;
    let mut has_reports =
        transaction.prepare_cached("SELECT EXISTS (SELECT 1 FROM error_occurrences WHERE group_id = ?1)")?;
    let mut texts_size =
        transaction.prepare_cached(&format!("SELECT {TEXTS_SIZE} FROM error_texts t WHERE t.group_id = ?1"))?;
    for kind in [KeyKind::Server, KeyKind::Browser] {
        let mut change = UsageChange::default();
        let of_kind = || reports.iter().filter(|report| report.kind == kind);
        for report in of_kind() {
            delete.execute([report.id])?;
            change.subtract(1, report.bytes);
        }
        let mut groups: Vec<i64> = of_kind().map(|report| report.group_id).collect();
        groups.sort_unstable();
        groups.dedup();
        for group in groups {
            if has_reports.query_row([group], |row| row.get::<_, bool>(0))? {
                continue;
            }
            let bytes: Option<i64> = texts_size.query_row([group], |row| row.get(0)).optional()?;
            change.subtract(0, bytes.unwrap_or(0));
            transaction.prepare_cached("DELETE FROM error_texts WHERE group_id = ?1")?.execute([group])?;
            transaction.prepare_cached("DELETE FROM error_search WHERE rowid = ?1")?.execute([group])?;
        }
        change.record(transaction, Holder { project, kind })?;
    }
    Ok(())
}

/// Returns the id up to which the reports of a project were deleted or are not eligible.
fn position(transaction: &Connection, project: &str, kind: KeyKind) -> Result<i64> {
    let mut select =
        transaction.prepare_cached("SELECT last_id FROM eviction_positions WHERE project = ?1 AND key_kind_id = ?2")?;
    Ok(select.query_row((project, kind.id()), |row| row.get(0)).optional()?.unwrap_or(0))
}

fn store_position(transaction: &Connection, project: &str, kind: KeyKind, last_id: i64) -> Result<()> {
    let mut update = transaction
        .prepare_cached("UPDATE eviction_positions SET last_id = ?3 WHERE project = ?1 AND key_kind_id = ?2")?;
    if update.execute((project, kind.id(), last_id))? == 0 {
        let mut clear = transaction
            .prepare_cached("DELETE FROM eviction_positions WHERE (SELECT count(*) FROM eviction_positions) >= ?1")?;
        clear.execute([POSITIONS_MAX])?;
        let mut insert = transaction
            .prepare_cached("INSERT INTO eviction_positions (project, key_kind_id, last_id) VALUES (?1, ?2, ?3)")?;
        insert.execute((project, kind.id(), last_id))?;
    }
    Ok(())
}

fn delete_oldest_hour(transaction: &Connection) -> Result<bool> {
    let oldest: Option<i64> = transaction.query_row("SELECT min(at_h) FROM hourly_counts", [], |row| row.get(0))?;
    match oldest {
        Some(hour) => Ok(transaction.execute("DELETE FROM hourly_counts WHERE at_h <= ?1", [hour])? > 0),
        None => Ok(false),
    }
}
