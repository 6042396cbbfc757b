//! Sources of logs in the database, with their names and metadata.

use rusqlite::{Connection, OptionalExtension as _, Row};

use super::enumerations::{SourceKind, source_kind_number};
use crate::clock::Timestamp;
use crate::error::Result;
use crate::text::replace_control_chars;

/// Host of all sources that exist so far: the host of the log viewer.
const LOCAL_HOST: &str = "";

/// Maximum number of stored sources. Each has a few hundred bytes in memory while they are listed.
const SOURCES_MAX: i64 = 5_000;
/// Maximum number of sources with gaps that a warning names.
const GAP_NAMES_MAX: i64 = 5;
/// Maximum length of a name or a label, in bytes.
const NAME_BYTES_MAX: usize = 128;

/// A source: a container, or a text file that is shown like one.
#[derive(Debug, Clone)]
pub(super) struct Source {
    /// Docker's container ID, or `file:` and the name.
    pub(super) key: String,
    /// Name that the API calls `container`.
    pub(super) name: String,
    /// Image of the container; empty if unknown, like the two fields below.
    pub(super) image: String,
    /// Compose project.
    pub(super) project: String,
    /// Compose service.
    pub(super) service: String,
}

/// Returns the names and row IDs of all sources, in this order.
pub(super) fn source_names(connection: &Connection) -> Result<Vec<(String, i64)>> {
    let mut read = connection.prepare_cached("SELECT name, id FROM sources")?;
    let mut names: Vec<(String, i64)> =
        read.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<rusqlite::Result<_>>()?;
    names.sort_unstable();
    Ok(names)
}

/// Reads a source; `None` if it was deleted.
pub(super) fn read_source(connection: &Connection, id: i64) -> Result<Option<Source>> {
    let mut read = connection.prepare_cached("SELECT key, name, image, project, service FROM sources WHERE id = ?1")?;
    let source = |row: &Row<'_>| {
        Ok(Source {
            key: row.get(0)?,
            name: row.get(1)?,
            image: row.get(2)?,
            project: row.get(3)?,
            service: row.get(4)?,
        })
    };
    Ok(read.query_row([id], source).optional()?)
}

/// Returns how often files of a source were gone or damaged before they could be read.
pub(super) fn gaps_of(connection: &Connection, id: i64) -> Result<i64> {
    let mut read = connection.prepare_cached("SELECT gaps FROM sources WHERE id = ?1")?;
    Ok(read.query_row([id], |row| row.get(0)).optional()?.unwrap_or(0))
}

/// Returns whether a source of this host has a row.
pub(super) fn source_exists(connection: &Connection, key: &str) -> Result<bool> {
    let mut exists = connection.prepare_cached("SELECT 1 FROM sources WHERE host = ?1 AND key = ?2")?;
    Ok(exists.exists((LOCAL_HOST, key))?)
}

/// Deletes the source that was added first of those without entries, except those in `keep`, if there are
/// [`SOURCES_MAX`]. Returns whether there is room for another one.
pub(super) fn make_room_for_source(transaction: &Connection, keep: &[i64]) -> Result<bool> {
    let count: i64 = transaction.query_row("SELECT count(*) FROM sources", [], |row| row.get(0))?;
    if count < SOURCES_MAX {
        return Ok(true);
    }
    let mut read = transaction.prepare_cached(
        "SELECT id FROM sources WHERE NOT EXISTS (SELECT 1 FROM entry_counts WHERE source_id = sources.id) ORDER BY id",
    )?;
    let mut unused = read.query_map([], |row| row.get::<_, i64>(0))?;
    let Some(id) = unused.find(|id| id.as_ref().is_ok_and(|id| !keep.contains(id))) else { return Ok(false) };
    transaction.prepare_cached("DELETE FROM sources WHERE id = ?1")?.execute([id?])?;
    Ok(true)
}

/// Returns a name from outside without control characters and with at most [`NAME_BYTES_MAX`] bytes.
pub(super) fn clean_name(name: &str) -> String {
    let mut name = replace_control_chars(name);
    name.truncate(name.floor_char_boundary(NAME_BYTES_MAX));
    name
}

/// Inserts a source of this host, or updates the row with its key, unless its name is unknown. Returns the row ID.
pub(super) fn upsert_source(
    transaction: &Connection,
    kind: SourceKind,
    source: &Source,
    is_named: bool,
) -> Result<i64> {
    let Source { key, name, image, project, service } = source;
    let mut upsert = transaction.prepare_cached(
        "INSERT INTO sources (kind_id, host, key, name, image, project, service) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (host, key) DO UPDATE SET
             name = iif(?8, ?4, name), image = iif(?8, ?5, image), project = iif(?8, ?6, project),
             service = iif(?8, ?7, service)
         RETURNING id",
    )?;
    let values = (source_kind_number(kind), LOCAL_HOST, key, name, image, project, service, is_named);
    Ok(upsert.query_row(values, |row| row.get(0))?)
}

/// Adds to the number of times that files of a source were gone or damaged before they could be read.
pub(super) fn add_gaps(transaction: &Connection, id: i64, gaps: i64, now: Timestamp) -> Result<()> {
    let mut add = transaction.prepare_cached("UPDATE sources SET gaps = gaps + ?2, last_gap_s = ?3 WHERE id = ?1")?;
    add.execute((id, gaps, now.ms().div_euclid(1_000)))?;
    Ok(())
}

/// Gaps of all sources in a period.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RecentGaps {
    /// Number of sources.
    pub(super) sources: u64,
    /// Names of the first sources, at most [`GAP_NAMES_MAX`].
    pub(super) names: Vec<String>,
}

/// Returns the sources whose last gap was after a time.
pub(super) fn recent_gaps(connection: &Connection, since: Timestamp) -> Result<RecentGaps> {
    let since_s = since.ms().div_euclid(1_000);
    let mut count = connection.prepare_cached("SELECT count(*) FROM sources WHERE last_gap_s > ?1")?;
    let sources: i64 = count.query_row([since_s], |row| row.get(0))?;
    let mut read = connection
        .prepare_cached("SELECT DISTINCT name FROM sources WHERE last_gap_s > ?1 ORDER BY last_gap_s DESC LIMIT ?2")?;
    let names = read.query_map((since_s, GAP_NAMES_MAX), |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    Ok(RecentGaps { sources: sources.unsigned_abs(), names })
}
