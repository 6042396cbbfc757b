//! Alert values: kind, state, subject, and the reasons for suppression.

use std::fmt;

use rusqlite::ToSql;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef};
use serde::{Serialize, Serializer};

use crate::clock::Timestamp;
use crate::quota::Reason;
use crate::records::key_kind::KeyKind;

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
    /// In the queue, not checked against the limits yet.
    Waiting,
    /// Delivered by all channels.
    Sent,
    /// Not delivered by at least one channel, which rejected it or was unavailable for too long.
    Failed,
    /// Not sent, for a `Suppression` reason; named `held` in the API.
    Suppressed,
    /// Within the limits, and in the queue of at least one channel; named `waiting` in the API.
    Sending,
}

/// Object that an alert is about, with its id in the database of the service. The cool-down counts per subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlertSubject {
    /// An error group of the error tracker.
    ErrorGroup(i64),
}

/// An alert to be queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewAlert<'a> {
    /// Event to report.
    pub kind: AlertKind,
    /// Object of the event.
    pub subject: AlertSubject,
    /// Project and key that caused the event.
    pub origin: Origin<'a>,
    /// Time of the event.
    pub created_at: Timestamp,
}

/// Cause of an alert, which decides about its share of the queue and of the hourly limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin<'a> {
    /// Project of the subject.
    pub project: &'a str,
    /// Kind of the key that reported the event.
    pub key_kind: KeyKind,
    /// Whether the report is critical.
    pub is_critical: bool,
}

/// Reason why an alert is not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Suppression {
    /// The subject was deleted while the alert was waiting.
    SubjectDeleted,
    /// An alert about the same subject was sent within the cool-down.
    CoolDown,
    /// The project has used its share of the hourly limit. The next digest lists the alert.
    HourlyLimit(Reason),
    /// A critical alert of the same project took its place. The next digest lists the alert.
    Displaced,
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
    pub(super) const ALL: [Self; 5] = [Self::Waiting, Self::Sent, Self::Failed, Self::Suppressed, Self::Sending];

    /// Returns the id in `alert_states`.
    fn id(self) -> i64 {
        match self {
            Self::Waiting => 1,
            Self::Sent => 2,
            Self::Failed => 3,
            Self::Suppressed => 4,
            Self::Sending => 5,
        }
    }

    /// Returns the name in the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Waiting | Self::Sending => "waiting",
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
        let type_id: Option<i64> = row.get(first)?;
        type_id.map(|type_id| Self::from_columns(type_id, row.get(first + 1)?, first)).transpose()
    }

    /// Converts the values of `subject_type_id`, which is the column `index`, and `subject_id`.
    pub(super) fn from_columns(type_id: i64, id: i64, index: usize) -> rusqlite::Result<Self> {
        match type_id {
            Self::ERROR_GROUP => Ok(Self::ErrorGroup(id)),
            unknown => Err(rusqlite::Error::IntegralValueOutOfRange(index, unknown)),
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

impl Origin<'_> {
    /// Whether a server reported something critical. Anybody can send a critical report with a browser key.
    pub(super) fn is_critical_of_server(self) -> bool {
        self.is_critical && self.key_kind == KeyKind::Server
    }
}

impl Suppression {
    /// Describes the reason for the history and the log.
    pub(super) fn describe(self, subject: AlertSubject) -> String {
        match self {
            Self::SubjectDeleted => format!("{subject} no longer exists"),
            Self::CoolDown => format!("{subject} alerted less than ALERT_COOLDOWN seconds ago"),
            Self::HourlyLimit(reason) => {
                format!("ALERT_MAX_PER_HOUR: {}; listed in the next digest", reason.explanation())
            }
            Self::Displaced => "a critical alert took its place; listed in the next digest".to_owned(),
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
    use super::super::queue_tests::SCHEMA;
    use super::*;
    use crate::db::{in_memory, table_of_names};

    #[test]
    fn ids_agree_with_the_tables_of_names() {
        in_memory(SCHEMA, |connection| {
            let expected = AlertKind::ALL.map(|kind| (kind.id(), kind.name().to_owned()));
            assert_eq!(table_of_names(connection, "alert_kinds")?, expected);
            let expected = AlertState::ALL.map(|state| {
                let name = if state == AlertState::Sending { "sending" } else { state.name() };
                (state.id(), name.to_owned())
            });
            assert_eq!(table_of_names(connection, "alert_states")?, expected);
            let expected = [(AlertSubject::ERROR_GROUP, "error_group".to_owned())];
            assert_eq!(table_of_names(connection, "alert_subject_types")?, expected);
            Ok(())
        });
    }
}
