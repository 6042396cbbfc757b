//! Size limit of a database, and the exception for databases that were larger when the default limit was introduced.

use rusqlite::{Connection, OptionalExtension as _};

use crate::error::Result;
use crate::records::warning::Warning;

/// Key in `_meta` of the size of the database at its first start with the default limit, in bytes. While it is missing,
/// the default has not been applied yet.
const FIRST_SIZE: &str = "size_at_default_limit_bytes";

/// The size limit of the database file.
#[derive(Debug, Clone, Copy)]
pub struct SizeLimit {
    /// Maximum size of the pages in use, in bytes.
    pub bytes_max: u64,
    /// Whether the operator has not chosen it.
    pub is_default: bool,
    /// Deletes some of the oldest data that can be spared. Returns whether there was any.
    pub evict: fn(&Connection) -> Result<bool>,
}

/// Returns the limit to enforce. If the database was larger than the default at its first start with it, its size at
/// that time is the limit, so that nothing is deleted that the operator did not agree to, and a warning says so.
///
/// # Errors
/// Fails if the database cannot be read or written.
pub(super) fn resolve(
    connection: &Connection,
    limit: Option<SizeLimit>,
) -> Result<(Option<SizeLimit>, Option<Warning>)> {
    let sql = "SELECT CAST(value AS INTEGER) FROM _meta WHERE key = ?1";
    let first_size: Option<i64> = connection.query_row(sql, [FIRST_SIZE], |row| row.get(0)).optional()?;
    let Some(limit) = limit.filter(|limit| limit.is_default) else {
        // If the operator's choice is removed later, the default begins anew.
        if first_size.is_some() {
            connection.execute("DELETE FROM _meta WHERE key = ?1", [FIRST_SIZE])?;
        }
        return Ok((limit, None));
    };
    let first_size = match first_size {
        Some(bytes) => bytes.unsigned_abs(),
        None => {
            let bytes = file_bytes(connection)?;
            connection.execute("INSERT INTO _meta (key, value) VALUES (?1, ?2)", (FIRST_SIZE, bytes.to_string()))?;
            bytes
        }
    };
    if first_size <= limit.bytes_max {
        return Ok((Some(limit), None));
    }
    let (size_mb, default_mb) = (first_size.div_ceil(1_000_000), limit.bytes_max / 1_000_000);
    let message = format!(
        "The database has {size_mb} MB, more than the default of MAX_DB_MB, {default_mb} MB. It is kept and does not grow \
         further. Set MAX_DB_MB to choose a limit; a smaller one deletes the oldest data"
    );
    log::warn!("db: {message}");
    let warning = Warning::new("database_over_max", size_mb, &message);
    Ok((Some(SizeLimit { bytes_max: first_size, ..limit }), Some(warning)))
}

fn file_bytes(connection: &Connection) -> Result<u64> {
    let sql = "SELECT (page_count - freelist_count) * page_size
               FROM pragma_page_count, pragma_freelist_count, pragma_page_size";
    Ok(connection.query_row(sql, [], |row| row.get::<_, i64>(0))?.unsigned_abs())
}
