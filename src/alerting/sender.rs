//! Background job that sends queued alerts and digests.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;

use super::alert::{AlertKind, AlertState, AlertSubject, Suppression};
use super::commands::{FinishAlert, RecordDigest};
use super::settings::AlertSettings;
use super::store::{self, PendingAlert, PendingDigest};
use crate::background::{Job, StopToken};
use crate::clock::Timestamp;
use crate::db::{ReaderPool, Writer};
use crate::error::{Error, Result};
use crate::notify::{ChannelResult, Fact, Message, Notifier};
use crate::text::replace_control_chars;

const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Period of the hourly limit, for which sent alerts must be kept.
const HOUR: Duration = Duration::from_secs(3_600);

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

    /// Renders the part of a digest that only the service knows: the subjects with events since `since`.
    ///
    /// # Errors
    /// Returns an error if the database cannot be read.
    fn summarize(&self, reader: &Connection, since: Timestamp) -> Result<DigestContent>;
}

/// Part of a digest that the service renders.
#[derive(Debug, Clone)]
pub struct DigestContent {
    /// Facts to append to the number of suppressed alerts.
    pub facts: Vec<Fact>,
    /// Preformatted list of the most important subjects.
    pub excerpt: String,
}

/// Returns the job that sends the alerts of `source` through all channels of `notifier`.
pub fn job<S: AlertSource>(source: Arc<S>, notifier: Notifier, settings: AlertSettings) -> Job {
    let sender = AlertSender { source, notifier, settings };
    let run = Box::new(move |stop: &StopToken| {
        if let Err(error) = sender.send_pending(stop) {
            log::warn!("alerts: delivery failed, will retry: {error}");
        }
    });
    Job { name: "alerts", interval: POLL_INTERVAL, run }
}

/// Decision about a waiting alert.
enum Decision {
    Send(Message),
    Suppress(Suppression),
}

struct AlertSender<S> {
    source: Arc<S>,
    notifier: Notifier,
    settings: AlertSettings,
}

impl<S: AlertSource> AlertSender<S> {
    /// Processes the queue until it is empty, then sends the digest if one is due.
    fn send_pending(&self, stop: &StopToken) -> Result<()> {
        while let Some(alert) = self.next_waiting()? {
            if stop.stopping() {
                return Ok(());
            }
            self.process(&alert, stop)?;
        }
        self.send_digest(stop)
    }

    fn next_waiting(&self) -> Result<Option<PendingAlert>> {
        store::next_waiting(&*self.source.readers().acquire()?)
    }

    fn process(&self, alert: &PendingAlert, stop: &StopToken) -> Result<()> {
        let Some(subject) = alert.subject else {
            return self.send(alert.id, &test_message(&self.settings), stop);
        };
        match self.decide(alert.kind, subject)? {
            Decision::Send(message) => self.send(alert.id, &message, stop),
            Decision::Suppress(reason) => self.suppress(alert.id, subject, reason),
        }
    }

    fn decide(&self, kind: AlertKind, subject: AlertSubject) -> Result<Decision> {
        let (reader, now) = (self.source.readers().acquire()?, Timestamp::now());
        let Some(message) = self.source.render(&reader, kind, subject, &self.settings.base_url)? else {
            return Ok(Decision::Suppress(Suppression::SubjectDeleted));
        };
        Ok(if store::is_cooling_down(&reader, subject, now, &self.settings)? {
            Decision::Suppress(Suppression::CoolDown)
        } else if store::sent_in_last_hour(&reader, now)? >= self.settings.per_hour_max {
            Decision::Suppress(Suppression::HourlyLimit)
        } else {
            Decision::Send(message)
        })
    }

    fn send(&self, id: i64, message: &Message, stop: &StopToken) -> Result<()> {
        let deliveries = self.notifier.send(message, &|duration| stop.sleep(duration));
        if deliveries.iter().all(|delivery| delivery.outcome.is_err()) && stop.stopping() {
            // The alert stays in the queue and is sent after the next start.
            return Ok(());
        }
        let (state, detail) = record_deliveries(&message.title, &deliveries)?;
        self.finish(id, state, detail, false)
    }

    fn suppress(&self, id: i64, subject: AlertSubject, reason: Suppression) -> Result<()> {
        let description = reason.describe(subject);
        log::info!("alert {id} suppressed: {description}");
        let detail = serde_json::json!([description]).to_string();
        self.finish(id, AlertState::Suppressed, detail, reason.is_in_digest())
    }

    fn finish(&self, id: i64, state: AlertState, detail: String, in_digest: bool) -> Result<()> {
        let keep_sent = self.settings.cooldown.max(HOUR);
        self.source.writer().run(FinishAlert { id, state, detail, now: Timestamp::now(), in_digest, keep_sent })
    }

    fn send_digest(&self, stop: &StopToken) -> Result<()> {
        let reader = self.source.readers().acquire()?;
        let Some(digest) = store::due_digest(&reader, Timestamp::now(), &self.settings)? else { return Ok(()) };
        let content = self.source.summarize(&reader, digest.since)?;
        drop(reader);
        let message = digest_message(digest, content, &self.settings);
        let deliveries = self.notifier.send(&message, &|duration| stop.sleep(duration));
        let (state, detail) = record_deliveries(&message.title, &deliveries)?;
        let record = RecordDigest { suppressed: digest.suppressed, state, detail, now: Timestamp::now() };
        self.source.writer().run(record)
    }
}

/// Logs the result of each channel; returns the state of the alert and the results as JSON.
fn record_deliveries(title: &str, deliveries: &[ChannelResult]) -> Result<(AlertState, String)> {
    // A title contains text from reports, and a line break in it would forge a log line.
    let title = replace_control_chars(title);
    for ChannelResult { channel, attempts, outcome } in deliveries {
        match outcome {
            Ok(()) => log::info!("alert sent by {channel} (attempt {attempts}): {title}"),
            Err(reason) => log::warn!(
                "alerts: delivery by {channel} failed after {attempts} attempts: {reason}; giving up on: {title}"
            ),
        }
    }
    let sent = deliveries.iter().any(|delivery| delivery.outcome.is_ok());
    let detail = serde_json::to_string(deliveries)
        .map_err(|error| Error::Internal(format!("cannot serialize the results of an alert: {error}")))?;
    Ok((if sent { AlertState::Sent } else { AlertState::Failed }, detail))
}

fn test_message(settings: &AlertSettings) -> Message {
    Message {
        event: "test",
        title: "[monlight] Test alert".into(),
        facts: vec![Fact {
            key: "message",
            label: "Message",
            value: "Alerts of this installation are delivered.".into(),
        }],
        excerpt: String::new(),
        link: Some(settings.base_url.clone()),
    }
}

fn digest_message(digest: PendingDigest, content: DigestContent, settings: &AlertSettings) -> Message {
    let PendingDigest { suppressed, since } = digest;
    let mut facts = vec![
        Fact { key: "held", label: "Alerts not sent", value: suppressed.to_string() },
        Fact { key: "since", label: "Since", value: since.to_string() },
    ];
    facts.extend(content.facts);
    Message {
        event: "digest",
        title: format!("[monlight] {suppressed} more alerts since {since}"),
        facts,
        excerpt: content.excerpt,
        link: Some(settings.base_url.clone()),
    }
}
