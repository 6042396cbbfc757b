//! Alerts of any service: queue, cool-down, hourly limit, digest and history.
//!
//! A service calls [`queue`] in the transaction of the change that the alert reports, so that both are stored or
//! neither. The [`job`] sends queued alerts one at a time, in order. It suppresses an alert during the cool-down of its
//! subject and above the hourly limit; alerts above the limit are combined into at most one digest per hour. Every
//! alert stays in the history with its result.
//!
//! A service creates the tables with [`create_tables`], and implements [`AlertSource`], which renders the messages. This module
//! knows neither the tables of a service nor how its subjects are displayed.

mod alert;
mod commands;
#[cfg(test)]
mod queue_tests;
mod sender;
mod settings;
mod store;

pub use alert::{AlertKind, AlertState, AlertSubject, NewAlert};
pub use commands::queue;
pub use sender::{AlertSource, DigestContent, job};
pub use settings::{AlertSettings, variables};
pub use store::{HistoryEntry, history, suppressed_count};

use rusqlite::Connection;

use crate::error::Result;

/// Creates the tables of the alert queue, as part of the schema of a service that raises alerts.
///
/// # Errors
/// Fails if the database cannot be written.
pub fn create_tables(connection: &Connection) -> Result<()> {
    Ok(connection.execute_batch(include_str!("../../sql/alerting/0100_schema.sql"))?)
}
