//! Payloads: the latest reports of each group in full, and the message and the traceback of its first report. Their size is
//! counted by project, so that the size limit and a full disk take from the largest project first.

use std::borrow::Cow;

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::enumerations::level_id;
use super::search::index_text;
use super::stores::OCCURRENCES;
use crate::clock::Timestamp;
use crate::error::Result;
use crate::quota::Holder;
use crate::records::report::Report;
use crate::text::truncate_chars;

/// Maximum number of reports of each group that are stored in full.
pub(super) const OCCURRENCES_MAX: i64 = 5;
/// Length to which the message of a group is truncated in lists, in characters.
const MESSAGE_CHARS_MAX: usize = 2_000;
/// Size that each stored report is counted with, in addition to its texts. The schema has the same number.
const OCCURRENCE_BYTES: usize = 200;
/// SQL expression of the counted size of a stored report `o`. It reads no text, because a row begins with their lengths.
pub(super) const OCCURRENCE_SIZE: &str = "200 + ifnull(octet_length(o.message), 0)
    + ifnull(octet_length(o.traceback), 0) + ifnull(octet_length(o.extra), 0) + ifnull(octet_length(o.request_headers), 0)";
/// SQL expression of the counted size of the texts `t` of a group.
pub(super) const TEXTS_SIZE: &str = "ifnull(octet_length(t.message), 0) + octet_length(t.traceback)";

/// A change of what a project has stored.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct UsageChange {
    pub(super) rows: i64,
    pub(super) bytes: i64,
}

impl UsageChange {
    /// Subtracts something that was deleted.
    pub(super) fn subtract(&mut self, rows: i64, bytes: i64) {
        self.rows -= rows;
        self.bytes -= bytes;
    }

    /// Adds the change to the usage of a project. The kind is that of its group.
    pub(super) fn record(self, transaction: &Connection, holder: Holder<'_>) -> Result<()> {
        // In a storm, a report often replaces one of the same size.
        if self == Self::default() {
            return Ok(());
        }
        let mut update = transaction.prepare_cached(
            "UPDATE quota_usage SET row_count = row_count + ?4, stored_bytes = stored_bytes + ?5
             WHERE store = ?1 AND project = ?2 AND key_kind_id = ?3",
        )?;
        let parameters = (OCCURRENCES.name, holder.project, holder.kind.id(), self.rows, self.bytes);
        if update.execute(parameters)? == 0 && self.rows > 0 {
            let mut insert = transaction.prepare_cached("INSERT INTO quota_usage VALUES (?1, ?2, ?3, ?4, ?5)")?;
            insert.execute(parameters)?;
        }
        Ok(())
    }
}

/// Stores a report of a group in full, and deletes the oldest beyond [`OCCURRENCES_MAX`]. `count` is the number of reports of
/// the group, and the kind of `holder` that of the group.
pub(super) fn store_report(
    transaction: &Connection,
    group_id: i64,
    holder: Holder<'_>,
    at: Timestamp,
    report: &Report,
    count: i64,
) -> Result<()> {
    let mut change = insert_occurrence(transaction, group_id, at, report)?;
    if count > OCCURRENCES_MAX {
        delete_older_occurrences(transaction, group_id, &mut change)?;
    }
    change.record(transaction, holder)
}

/// Stores a report. Message and traceback are stored only if they differ from the group's.
fn insert_occurrence(transaction: &Connection, id: i64, at: Timestamp, report: &Report) -> Result<UsageChange> {
    let mut bytes = OCCURRENCE_BYTES;
    let (message, traceback) = match compare_with_group_texts(transaction, id, report)? {
        None => {
            bytes += insert_texts(transaction, id, &report.exception_type, &report.message, &report.traceback)?;
            // The row of the group has the message of its first report, which may differ if the size limit has deleted
            // the texts since.
            let first: String = transaction
                .prepare_cached("SELECT message FROM error_groups WHERE id = ?1")?
                .query_row([id], |row| row.get(0))?;
            let differs = first != list_message(&report.message);
            (differs.then_some(report.message.as_str()), None)
        }
        Some((equal_message, equal_traceback)) => (
            (!equal_message).then_some(report.message.as_str()),
            (!equal_traceback).then_some(report.traceback.as_str()),
        ),
    };
    let mut insert = transaction.prepare_cached(
        "INSERT INTO error_occurrences (group_id, occurred_at_s, environment, release, level_id, request_url,
             request_method, request_headers, user_id, session_id, extra, message, traceback)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
    )?;
    insert.execute(params![
        id,
        at.seconds(),
        report.environment,
        report.release,
        level_id(report.level),
        report.request_url,
        report.request_method,
        report.request_headers,
        report.user_id,
        report.session_id,
        report.extra,
        message,
        traceback
    ])?;
    let texts = [message, traceback, report.extra.as_deref(), report.request_headers.as_deref()];
    bytes += texts.into_iter().flatten().map(str::len).sum::<usize>();
    Ok(UsageChange { rows: 1, bytes: bytes as i64 })
}

/// Returns whether the message and whether the traceback of a report equal those of its group, which are compared without
/// a copy; `None` if the size limit has deleted the group's texts.
fn compare_with_group_texts(transaction: &Connection, id: i64, report: &Report) -> Result<Option<(bool, bool)>> {
    let mut read = transaction.prepare_cached(
        "SELECT coalesce(t.message, g.message), t.traceback
         FROM error_texts t JOIN error_groups g ON g.id = t.group_id WHERE t.group_id = ?1",
    )?;
    let equals = |row: &Row<'_>| {
        Ok((row.get_ref(0)?.as_str()? == report.message, row.get_ref(1)?.as_str()? == report.traceback))
    };
    Ok(read.query_row([id], equals).optional()?)
}

/// Stores the message and the traceback of a group, and adds them to the full-text index. Returns their counted size.
pub(super) fn insert_texts(
    transaction: &Connection,
    id: i64,
    exception_type: &str,
    message: &str,
    traceback: &str,
) -> Result<usize> {
    let full_message = matches!(list_message(message), Cow::Owned(_)).then_some(message);
    let mut insert =
        transaction.prepare_cached("INSERT INTO error_texts (group_id, message, traceback) VALUES (?1, ?2, ?3)")?;
    insert.execute((id, full_message, traceback))?;
    let mut index = transaction.prepare_cached("INSERT INTO error_search (rowid, words) VALUES (?1, ?2)")?;
    index.execute((id, index_text(exception_type, message, traceback)))?;
    Ok(full_message.map_or(0, str::len) + traceback.len())
}

/// Truncates a message to the length that lists show.
pub(super) fn list_message(message: &str) -> Cow<'_, str> {
    truncate_chars(message, MESSAGE_CHARS_MAX)
}

fn delete_older_occurrences(transaction: &Connection, group_id: i64, change: &mut UsageChange) -> Result<()> {
    let mut select = transaction.prepare_cached(&format!(
        "SELECT o.id, {OCCURRENCE_SIZE} FROM error_occurrences o WHERE o.group_id = ?1
         ORDER BY o.id DESC LIMIT -1 OFFSET ?2"
    ))?;
    let rows =
        select.query_map((group_id, OCCURRENCES_MAX), |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))?;
    let older = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    for (id, bytes) in older {
        transaction.prepare_cached("DELETE FROM error_occurrences WHERE id = ?1")?.execute([id])?;
        change.subtract(1, bytes);
    }
    Ok(())
}

/// Counts the stored payloads of all projects again if their number differs from what is stored: after an import, and after an
/// older version has used the database. Returns whether it differed.
pub(super) fn recount(transaction: &Connection) -> Result<bool> {
    let mut counts = transaction.prepare_cached(
        "SELECT (SELECT count(*) FROM error_occurrences),
             (SELECT ifnull(sum(row_count), 0) FROM quota_usage WHERE store = ?1)",
    )?;
    let (stored, counted): (i64, i64) = counts.query_row([OCCURRENCES.name], |row| Ok((row.get(0)?, row.get(1)?)))?;
    if stored == counted {
        return Ok(false);
    }
    transaction.execute("DELETE FROM quota_usage WHERE store = ?1", [OCCURRENCES.name])?;
    transaction.execute(
        "INSERT INTO quota_usage (store, project, key_kind_id, row_count, stored_bytes)
             SELECT ?1, g.project, g.key_kind_id, sum(p.row_count), sum(p.stored_bytes)
             FROM error_groups g JOIN group_payloads p ON p.group_id = g.id
             GROUP BY g.project, g.key_kind_id HAVING sum(p.row_count) > 0",
        [OCCURRENCES.name],
    )?;
    Ok(true)
}
