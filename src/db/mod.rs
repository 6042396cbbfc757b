//! SQLite access: open, first start, damage, migrations, writer thread, reader pool, idempotent commands, counters,
//! retention, size limit, vacuum, backup, export cursor.
//!
//! One writer thread commits commands in groups and delivers their outcomes after COMMIT. All other threads use read-only
//! connections. Nothing outside this folder opens a connection.

mod backup;
mod counters;
mod damage;
mod disk;
mod export_cursor;
mod first_start;
mod idempotency;
mod litestream;
mod lock;
mod migrate;
mod open;
mod paths;
mod reader_pool;
#[cfg(test)]
mod replan_harness_tests;
mod retention;
mod sessions;
mod size_limit;
mod substring;
mod vacuum;
mod writer;

pub use backup::{backup, restore};
pub use counters::{add_to_counter, counter, counters, set_counter};
pub use export_cursor::{ExportProgress, RecordExport, export_progress};
pub use idempotency::{ExpireIdempotencyKeys, Idempotent};
pub use migrate::{Migration, OriginalImport, Schema};
#[cfg(any(test, fuzzing))]
pub(crate) use open::in_memory;
#[cfg(test)]
pub(crate) use open::table_of_names;
pub use open::{Database, OpenError, Settings, Synchronous, open, path_problem};
pub use reader_pool::{Reader, ReaderPool};
#[cfg(test)]
pub(crate) use replan_harness_tests::replanned_statements;
pub use retention::{RetentionClock, apply_retention, retention_job};
pub use sessions::{CreateSession, CreatedSession, DeleteSessions, Session, sessions};
pub use size_limit::SizeLimit;
pub use vacuum::vacuum;
pub use writer::{Command, Writer, WriterStats};

use rusqlite::ErrorCode;

use crate::error::Error;

/// Sentence for clients whose query exceeded its time.
pub const QUERY_TIMED_OUT: &str =
    "The query took too long; narrow the time range or the search, or name a project or a container";

/// Errors of SQLite are those of the disk, of the operator, or defects of this program; never of a client.
impl From<rusqlite::Error> for Error {
    fn from(why: rusqlite::Error) -> Self {
        match why.sqlite_error_code() {
            Some(ErrorCode::OperationInterrupted) => Self::Busy(QUERY_TIMED_OUT),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                damage::record_damage(&why.to_string());
                Self::Storage(format!("{why}: the database is damaged; {}", damage::REMEDY))
            }
            Some(
                ErrorCode::DiskFull
                | ErrorCode::ReadOnly
                | ErrorCode::SystemIoFailure
                | ErrorCode::CannotOpen
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::OutOfMemory
                | ErrorCode::PermissionDenied,
            ) => Self::Storage(why.to_string()),
            _ => Self::Internal(format!("database: {why}")),
        }
    }
}
