//! Counts of reports by hour, environment and release.
//!
//! The hourly counts are a bounded store that does not evict: beyond a share, a report is only counted in the total of its
//! group. The names of environments and releases are a bounded store that evicts, see `name_eviction.rs`.

use rusqlite::{Connection, OptionalExtension as _, Row};

use super::name_eviction::{NameKind, OTHER, evict_names};
use super::stores::HOURLY_COUNTS;
use crate::clock::Timestamp;
use crate::error::Result;
use crate::quota::{Holder, Usage, check, record_rejection, total_usage};
use crate::records::key_kind::KeyKind;

/// Seconds after which the time of the last use of a name is stored again.
const USE_INTERVAL_S: u64 = 60;
/// Number of reports of a group after which a report that only increments a count also updates the last use of its names.
const USE_CHECK_REPORTS: i64 = 16;

/// Reports to add to the count of an hour, an environment and a release.
pub(super) struct ReportCount<'a> {
    pub(super) group_id: i64,
    /// Number of reports of the group, including this one.
    pub(super) reports: i64,
    /// Project of the group, and kind of the key.
    pub(super) holder: Holder<'a>,
    pub(super) environment: &'a str,
    /// Empty if the report names none.
    pub(super) release: &'a str,
    /// Hours since 1970.
    pub(super) hour: i64,
    /// Time of arrival.
    pub(super) now: Timestamp,
}

/// A name that is stored already.
struct StoredName {
    id: i64,
    /// Kind of the key and last use by the project; `None` if the project does not use the name.
    used: Option<(KeyKind, i64)>,
}

impl ReportCount<'_> {
    /// Counts one report. If its project has no room for a further hourly count, only the rejection is recorded.
    pub(super) fn add(&self, transaction: &Connection) -> Result<()> {
        if self.reports % USE_CHECK_REPORTS != 0 {
            let names = stored_id(transaction, self.environment)?.zip(stored_id(transaction, self.release)?);
            if let Some(names) = names
                && self.increment(transaction, names)?
            {
                return Ok(());
            }
        }
        let environment = self.intern(transaction, NameKind::Environment, self.environment, OTHER)?;
        let release = self.intern(transaction, NameKind::Release, self.release, environment)?;
        if self.increment(transaction, (environment, release))? {
            return Ok(());
        }
        let Holder { project, kind } = self.holder;
        // While the store is mostly empty, nobody can exceed a share.
        let is_mostly_empty = total_usage(transaction, &HOURLY_COUNTS)?.rows < HOURLY_COUNTS.bounds.rows_max / 5;
        let added = Usage { rows: 1, bytes: 0 };
        let refusal = if is_mostly_empty { None } else { check(transaction, &HOURLY_COUNTS, self.holder, added)? };
        if let Some(reason) = refusal {
            return record_rejection(transaction, &HOURLY_COUNTS, project, reason, 1, self.now);
        }
        let mut upsert = transaction.prepare_cached(
            "INSERT INTO error_variants (group_id, environment_id, release_id, last_seen_h) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO UPDATE SET last_seen_h = max(last_seen_h, ?4)",
        )?;
        upsert.execute((self.group_id, environment, release, self.hour))?;
        let mut insert = transaction.prepare_cached(
            "INSERT INTO hourly_counts (group_id, environment_id, release_id, at_h, count, key_kind_id)
             VALUES (?1, ?2, ?3, ?4, 1, ?5)",
        )?;
        insert.execute((self.group_id, environment, release, self.hour, kind.id()))?;
        Ok(())
    }

    /// Increments the count of a variant in the hour. Returns whether it exists.
    fn increment(&self, transaction: &Connection, (environment, release): (i64, i64)) -> Result<bool> {
        let mut update = transaction.prepare_cached(
            "UPDATE hourly_counts SET count = count + 1
             WHERE group_id = ?1 AND environment_id = ?2 AND release_id = ?3 AND at_h = ?4",
        )?;
        Ok(update.execute((self.group_id, environment, release, self.hour))? > 0)
    }

    /// Returns the id of a name that the project uses now, and stores a new one. `kept` is another name that must not be
    /// evicted for it.
    fn intern(&self, transaction: &Connection, name_kind: NameKind, name: &str, kept: i64) -> Result<i64> {
        let Holder { project, kind } = self.holder;
        let is_release = name_kind == NameKind::Release;
        let mut lookup = transaction.prepare_cached(
            "SELECT n.id, p.key_kind_id, p.last_used_s
             FROM variant_names n
                 LEFT JOIN project_names p ON p.project = ?2 AND p.is_release = ?3 AND p.name_id = n.id
             WHERE n.name = ?1",
        )?;
        let stored = |row: &Row<'_>| {
            let (kind, used_s): (Option<i64>, Option<i64>) = (row.get(1)?, row.get(2)?);
            Ok(StoredName { id: row.get(0)?, used: kind.map(KeyKind::from_id).zip(used_s) })
        };
        let found = lookup.query_row((name, project, is_release), stored).optional()?;
        let (id, now_s) = (found.as_ref().map(|name| name.id), self.now.seconds());
        // Reports without a release have an empty one, which is not a name that anybody chose.
        if let Some(id) = id.filter(|id| *id == OTHER || name.is_empty()) {
            return Ok(id);
        }
        if let Some(StoredName { id, used: Some((used_kind, used_s)) }) = found {
            if used_s.abs_diff(now_s) >= USE_INTERVAL_S || used_kind > kind {
                let mut update = transaction.prepare_cached(
                    "UPDATE project_names SET last_used_s = ?4, key_kind_id = min(key_kind_id, ?5)
                     WHERE project = ?1 AND is_release = ?2 AND name_id = ?3",
                )?;
                update.execute((project, is_release, id, now_s, kind.id()))?;
            }
            return Ok(id);
        }
        let id = match id {
            Some(id) => id,
            None => transaction.prepare_cached("INSERT INTO variant_names (name) VALUES (?1)")?.insert([name])?,
        };
        if !name.is_empty() {
            let mut insert = transaction.prepare_cached(
                "INSERT INTO project_names (project, is_release, name_id, key_kind_id, name_bytes, last_used_s)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?;
            insert.execute((project, is_release, id, kind.id(), name.len() as i64, now_s))?;
            evict_names(transaction, [id, kept], self.now)?;
        }
        Ok(id)
    }
}

/// Returns the id of a name; `None` if it is not stored.
fn stored_id(transaction: &Connection, name: &str) -> Result<Option<i64>> {
    let mut lookup = transaction.prepare_cached("SELECT id FROM variant_names WHERE name = ?1")?;
    Ok(lookup.query_row([name], |row| row.get(0)).optional()?)
}
