//! SQLite as this house uses it: one writer thread that commits in groups and answers after COMMIT, read-only
//! connections for everyone else, and migrations that a rollback survives.
//!
//! Nothing outside this folder opens a connection that can write.

mod backup;
mod export_cursor;
mod idempotency;
mod lock;
mod migrate;
mod open;
mod reader_pool;
mod sessions;
mod vacuum;
mod writer;

pub use backup::{backup, restore};
pub use export_cursor::{ExportProgress, RecordExport, export_progress};
pub use idempotency::{ExpireKeys, Idempotent};
pub use migrate::{Import, Migration, Schema};
#[cfg(any(test, fuzzing))]
pub(crate) use open::in_memory;
pub use open::{Database, Settings, Synchronous, open};
pub use reader_pool::{Reader, ReaderPool};
pub use sessions::{CreateSession, DeleteSessions, Session, sessions};
pub use vacuum::vacuum;
pub use writer::{Command, Limit, Writer, WriterStats};

use rusqlite::ErrorCode;

use crate::error::Error;

/// What SQLite complains of is the disk's or the operator's affair, or a defect of ours; never a client's.
impl From<rusqlite::Error> for Error {
    fn from(why: rusqlite::Error) -> Self {
        match why.sqlite_error_code() {
            Some(ErrorCode::OperationInterrupted) => Self::Busy("The query took too long; narrow it"),
            Some(
                ErrorCode::DiskFull
                | ErrorCode::ReadOnly
                | ErrorCode::SystemIoFailure
                | ErrorCode::CannotOpen
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase
                | ErrorCode::OutOfMemory
                | ErrorCode::PermissionDenied,
            ) => Self::Storage(why.to_string()),
            _ => Self::Internal(format!("database: {why}")),
        }
    }
}
