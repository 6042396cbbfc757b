//! Alerts about error groups: their messages, and their history in the API.

use rusqlite::Connection;
use serde::Serialize;
use serde_json::value::RawValue;

use super::digest::digest_content;
use super::state::Tracker;
use super::store::{self, Detail};
use crate::alerting::{
    self, AlertKind, AlertSource, AlertState, AlertSubject, ChannelDelivery, DigestContent, HeldAlert,
};
use crate::clock::Timestamp;
use crate::db::{ReaderPool, Writer};
use crate::error::Result;
use crate::notify::{Fact, Message};
use crate::text::{replace_control_chars, truncate_chars};

const TITLE_CHARS_MAX: usize = 120;

impl AlertSource for Tracker {
    fn readers(&self) -> &ReaderPool {
        &self.core.readers
    }

    fn writer(&self) -> &Writer {
        &self.core.writer
    }

    fn render(
        &self,
        reader: &Connection,
        kind: AlertKind,
        subject: AlertSubject,
        base_url: &str,
    ) -> Result<Option<Message>> {
        let AlertSubject::ErrorGroup(id) = subject;
        Ok(store::detail(reader, id)?.map(|detail| message(detail, kind, base_url)))
    }

    fn exists(&self, reader: &Connection, subject: AlertSubject) -> Result<bool> {
        let AlertSubject::ErrorGroup(id) = subject;
        Ok(store::project_and_type(reader, id)?.is_some())
    }

    fn summarize(&self, reader: &Connection, held: &[HeldAlert]) -> Result<DigestContent> {
        digest_content(reader, held)
    }
}

fn message(detail: Detail, kind: AlertKind, base_url: &str) -> Message {
    let group = detail.summary;
    let (event, word) = match kind {
        AlertKind::Reopened => ("error.reopened", "Reopened"),
        AlertKind::New | AlertKind::Digest | AlertKind::Test => ("error.new", "New"),
    };
    let title = format!("[{}] {word}: {}: {}", group.project, group.exception_type, group.message);
    let fact = |key, label, value| Fact { key, label, value };
    let mut facts = vec![
        fact("project", "Project", group.project),
        fact("exception_type", "Type", group.exception_type),
        fact("message", "Message", group.message),
        fact("environment", "Environment", group.environment),
        fact("count", "Count", group.count.to_string()),
        fact("first_seen", "First seen", group.first_seen.to_string()),
        fact("last_seen", "Last seen", group.last_seen.to_string()),
    ];
    let optional = [("location", "Location", group.location), ("release", "Release", group.release)];
    facts.extend(optional.into_iter().filter_map(|(key, label, value)| Some(fact(key, label, value?))));
    Message {
        event,
        title: truncate_chars(&replace_control_chars(&title), TITLE_CHARS_MAX).into_owned(),
        facts,
        excerpt: detail.traceback,
        link: Some(format!("{base_url}/?id={}", group.id)),
    }
}

/// An alert with its result, as the API returns it.
#[derive(Debug, Serialize)]
pub(super) struct AlertEntry {
    id: i64,
    kind: AlertKind,
    error_id: Option<i64>,
    /// Project of the group; `None` if there is no group or if it was deleted.
    project: Option<String>,
    exception_type: Option<String>,
    created_at: Timestamp,
    state: AlertState,
    finished_at: Option<Timestamp>,
    detail: Box<RawValue>,
    deliveries: Vec<ChannelDelivery>,
}

/// Returns the last 100 alerts, newest first.
pub(super) fn history(reader: &Connection) -> Result<Vec<AlertEntry>> {
    let snapshot = reader.unchecked_transaction()?;
    let entry = |entry: alerting::HistoryEntry| {
        let error_id = entry.subject.map(|AlertSubject::ErrorGroup(id)| id);
        let label = error_id.map(|id| store::project_and_type(&snapshot, id)).transpose()?.flatten();
        let (project, exception_type) = label.unzip();
        Ok(AlertEntry {
            id: entry.id,
            kind: entry.kind,
            error_id,
            project,
            exception_type,
            created_at: entry.created_at,
            state: entry.state,
            finished_at: entry.finished_at,
            detail: entry.detail,
            deliveries: entry.deliveries,
        })
    };
    alerting::history(&snapshot)?.into_iter().map(entry).collect()
}
