//! Alert values: kind, state, subject, and the reasons for suppression.

use std::fmt;

use rusqlite::ToSql;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef};
use serde::{Serialize, Serializer};

use crate::clock::Timestamp;

/// Event that an alert reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlertKind {
    /// The subject occurred for the first time.
    New,
    /// A resolved subject occurred again.
    Reopened,
    /// Summary of the alerts above the hourly limit.
    Digest,
    /// Requested by a user to check the channels.
    Test,
}

/// Progress of an alert from the queue to its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlertState {
    /// In the queue.
    Waiting,
    /// Delivered by at least one channel.
    Sent,
    /// Rejected by all channels, or not delivered in all attempts.
    Failed,
    /// Not sent, for a `Suppression` reason; named `held` in the API.
    Suppressed,
}

/// Object that an alert is about, with its id in the database of the service. The cool-down counts per subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlertSubject {
    /// An error group of the error tracker.
    ErrorGroup(i64),
}

/// An alert to be queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewAlert {
    /// Event to report.
    pub kind: AlertKind,
    /// Object of the event; `None` for a test. An alert without a subject has no cool-down and no hourly limit.
    pub subject: Option<AlertSubject>,
    /// Time of the event.
    pub created_at: Timestamp,
}

/// Reason why an alert is not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Suppression {
    /// The subject was deleted while the alert was waiting.
    SubjectDeleted,
    /// An alert about the same subject was sent within the cool-down.
    CoolDown,
    /// The hourly limit is reached.
    HourlyLimit,
}

impl AlertKind {
    pub(super) const ALL: [Self; 4] = [Self::New, Self::Reopened, Self::Digest, Self::Test];

    /// Returns the id in `alert_kinds`.
    fn id(self) -> i64 {
        match self {
            Self::New => 1,
            Self::Reopened => 2,
            Self::Digest => 3,
            Self::Test => 4,
        }
    }

    /// Returns the name in the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Reopened => "reopened",
            Self::Digest => "digest",
            Self::Test => "test",
        }
    }
}

impl AlertState {
    pub(super) const ALL: [Self; 4] = [Self::Waiting, Self::Sent, Self::Failed, Self::Suppressed];

    /// Returns the id in `alert_states`.
    fn id(self) -> i64 {
        match self {
            Self::Waiting => 1,
            Self::Sent => 2,
            Self::Failed => 3,
            Self::Suppressed => 4,
        }
    }

    /// Returns the name in the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Sent => "sent",
            Self::Failed => "failed",
            Self::Suppressed => "held",
        }
    }
}

impl AlertSubject {
    /// Id of the type `error_group` in `alert_subject_types`.
    pub(super) const ERROR_GROUP: i64 = 1;

    /// Returns the value of the column `subject_type_id`.
    pub(super) fn type_id(self) -> i64 {
        match self {
            Self::ErrorGroup(_) => Self::ERROR_GROUP,
        }
    }

    /// Returns the value of the column `subject_id`.
    pub(super) fn id(self) -> i64 {
        match self {
            Self::ErrorGroup(id) => id,
        }
    }

    /// Reads the columns `subject_type_id` and `subject_id`, which are the columns `first` and `first + 1` of `row`.
    pub(super) fn from_row(row: &rusqlite::Row<'_>, first: usize) -> rusqlite::Result<Option<Self>> {
        match row.get(first)? {
            None => Ok(None),
            Some(Self::ERROR_GROUP) => Ok(Some(Self::ErrorGroup(row.get(first + 1)?))),
            Some(unknown) => Err(rusqlite::Error::IntegralValueOutOfRange(first, unknown)),
        }
    }
}

/// Writes `error group 5`.
impl fmt::Display for AlertSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ErrorGroup(id) => write!(f, "error group {id}"),
        }
    }
}

impl Suppression {
    /// Whether the next digest includes the alert.
    pub(super) fn is_in_digest(self) -> bool {
        self == Self::HourlyLimit
    }

    /// Describes the reason for the history and the log.
    pub(super) fn describe(self, subject: AlertSubject) -> String {
        match self {
            Self::SubjectDeleted => format!("{subject} no longer exists"),
            Self::CoolDown => format!("{subject} alerted less than ALERT_COOLDOWN seconds ago"),
            Self::HourlyLimit => "ALERT_MAX_PER_HOUR is reached; included in the next digest".to_owned(),
        }
    }
}

/// Returns the value of `all` that has the id in `stored`.
fn from_id<T: Copy>(stored: ValueRef<'_>, all: &[T], id: fn(T) -> i64) -> FromSqlResult<T> {
    let stored = stored.as_i64()?;
    all.iter().copied().find(|value| id(*value) == stored).ok_or(FromSqlError::OutOfRange(stored))
}

impl FromSql for AlertKind {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        from_id(value, &Self::ALL, Self::id)
    }
}

impl FromSql for AlertState {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        from_id(value, &Self::ALL, Self::id)
    }
}

impl ToSql for AlertKind {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.id().into())
    }
}

impl ToSql for AlertState {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.id().into())
    }
}

impl Serialize for AlertKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl Serialize for AlertState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::super::create_tables;
    use super::*;
    use crate::db::{Schema, in_memory, table_of_names};

    const SCHEMA: Schema = Schema { application_id: 1, create: create_tables, migrations: &[], import: None };

    #[test]
    fn ids_agree_with_the_tables_of_names() {
        in_memory(SCHEMA, |connection| {
            let expected = AlertKind::ALL.map(|kind| (kind.id(), kind.name().to_owned()));
            assert_eq!(table_of_names(connection, "alert_kinds")?, expected);
            let expected = AlertState::ALL.map(|state| (state.id(), state.name().to_owned()));
            assert_eq!(table_of_names(connection, "alert_states")?, expected);
            let expected = [(AlertSubject::ERROR_GROUP, "error_group".to_owned())];
            assert_eq!(table_of_names(connection, "alert_subject_types")?, expected);
            Ok(())
        });
    }
}
