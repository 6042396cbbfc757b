//! The interface of a service that raises alerts.

use rusqlite::Connection;

use super::alert::{AlertKind, AlertSubject};
use super::held::HeldAlert;
use crate::db::{ReaderPool, Writer};
use crate::error::Result;
use crate::notify::{Fact, Message};

/// A service that raises alerts: its database, and the text of its messages.
pub trait AlertSource: Send + Sync + 'static {
    /// Returns the reader pool of the database that has the alert tables.
    fn readers(&self) -> &ReaderPool;

    /// Returns the writer of the same database.
    fn writer(&self) -> &Writer;

    /// Renders the message of an alert about `subject`; returns `None` if the subject no longer exists. Links in the
    /// message start with `base_url`, which has no trailing slash.
    ///
    /// # Errors
    /// Returns an error if the database cannot be read.
    fn render(
        &self,
        reader: &Connection,
        kind: AlertKind,
        subject: AlertSubject,
        base_url: &str,
    ) -> Result<Option<Message>>;

    /// Whether `subject` exists.
    ///
    /// # Errors
    /// Returns an error if the database cannot be read.
    fn exists(&self, reader: &Connection, subject: AlertSubject) -> Result<bool>;

    /// Renders the list of a digest. `held` starts with the most important alerts.
    ///
    /// # Errors
    /// Returns an error if the database cannot be read.
    fn summarize(&self, reader: &Connection, held: &[HeldAlert]) -> Result<DigestContent>;
}

/// Part of a digest that the service renders.
#[derive(Debug, Clone)]
pub struct DigestContent {
    /// Facts to append to the number of held alerts.
    pub facts: Vec<Fact>,
    /// Preformatted list of the subjects.
    pub excerpt: String,
}
