//! Alerts on new and reopened groups. A report queues its alert in its own transaction; one thread sends them, holds
//! back what would be too much, and tells of the rest in a digest. Every alert's fate stays readable.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _};
use serde::Serialize;
use serde_json::value::RawValue;

use super::Tracker;
use super::commands::{hold_alerts, queue_alert};
use super::config::AlertSettings;
use super::report::clip;
use super::store::{self, Detail, Filter, Sort};
use crate::background::{Job, StopToken};
use crate::clock::Timestamp;
use crate::db::Command;
use crate::error::{Error, Result};
use crate::notify::{Delivery, Fact, Message, Notifier};

/// Alerts that `GET /api/alerts` shows.
const HISTORY_MAX: i64 = 100;
/// How often the queue is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);
const DIGEST_GROUPS: i64 = 10;
const TITLE_CHARS_MAX: usize = 120;

/// The thread that sends what waits.
pub(super) fn job(tracker: &Arc<Tracker>, notifier: Notifier, settings: AlertSettings) -> Job {
    let sender = Sender { tracker: Arc::clone(tracker), notifier, settings };
    let run = Box::new(move |pause: &StopToken| {
        // What failed is tried again at the next look; the writer says in the log when the disk is the reason.
        if let Err(why) = sender.look(pause) {
            log::warn!("alerts wait: {why}");
        }
    });
    Job { name: "alerts", interval: LOOK_EVERY, run }
}

struct Sender {
    tracker: Arc<Tracker>,
    notifier: Notifier,
    settings: AlertSettings,
}

/// An alert that waits.
struct Waiting {
    id: i64,
    kind: String,
    error_id: Option<i64>,
}

impl Sender {
    fn look(&self, pause: &StopToken) -> Result<()> {
        while let Some(alert) = self.next()? {
            if pause.stopping() {
                return Ok(());
            }
            self.handle(&alert, pause)?;
        }
        self.digest(pause)
    }

    fn next(&self) -> Result<Option<Waiting>> {
        let reader = self.tracker.core.readers.acquire()?;
        let mut next = reader
            .prepare_cached("SELECT id, kind, error_id FROM alerts WHERE state = 'waiting' ORDER BY id LIMIT 1")?;
        let waiting =
            |row: &rusqlite::Row<'_>| Ok(Waiting { id: row.get(0)?, kind: row.get(1)?, error_id: row.get(2)? });
        Ok(next.query_row([], waiting).optional()?)
    }

    fn handle(&self, alert: &Waiting, pause: &StopToken) -> Result<()> {
        let now = Timestamp::now();
        let Some(error_id) = alert.error_id else {
            return self.send(alert.id, &test_message(&self.settings), pause);
        };
        let reader = self.tracker.core.readers.acquire()?;
        let (recent, this_hour) = recent(&reader, error_id, now, &self.settings)?;
        let found = store::detail(&reader, error_id)?;
        drop(reader);
        match found {
            None => self.finish(alert.id, "held", "the group is gone", now, false),
            Some(_) if recent => self.finish(alert.id, "held", "the group alerted a short while ago", now, false),
            Some(_) if this_hour >= self.settings.per_hour_max => {
                self.finish(alert.id, "held", "over the cap of this hour; counted in the digest", now, true)
            }
            Some(detail) => self.send(alert.id, &message(&detail, &alert.kind, &self.settings), pause),
        }
    }

    fn send(&self, id: i64, message: &Message, pause: &StopToken) -> Result<()> {
        let deliveries = self.notifier.send(message, &|duration| pause.sleep(duration));
        if deliveries.iter().all(|delivery| delivery.outcome.is_err()) && pause.stopping() {
            // It waits for the next start.
            return Ok(());
        }
        let state = log_deliveries(&message.title, &deliveries);
        let detail = serde_json::to_string(&deliveries).map_err(|why| Error::Internal(format!("deliveries: {why}")))?;
        self.tracker.core.writer.run(Finish {
            id,
            state,
            detail,
            now: Timestamp::now(),
            held: false,
            keep: self.keep(),
        })
    }

    fn finish(&self, id: i64, state: &'static str, why: &'static str, now: Timestamp, held: bool) -> Result<()> {
        log::info!("alert {id} is held: {why}");
        let detail = serde_json::json!([why]).to_string();
        self.tracker.core.writer.run(Finish { id, state, detail, now, held, keep: self.keep() })
    }

    /// How long a sent alert must be remembered for the cool-down and for the cap.
    fn keep(&self) -> Duration {
        self.settings.cooldown.max(HOUR)
    }

    /// Sends one message about everything that was held, at most once an hour.
    fn digest(&self, pause: &StopToken) -> Result<()> {
        let now = Timestamp::now();
        let reader = self.tracker.core.readers.acquire()?;
        let Some(due) = digest_due(&reader, now, &self.settings)? else { return Ok(()) };
        let message = digest_message(&reader, due, &self.settings)?;
        drop(reader);
        let deliveries = self.notifier.send(&message, &|duration| pause.sleep(duration));
        let state = log_deliveries(&message.title, &deliveries);
        let detail = serde_json::to_string(&deliveries).map_err(|why| Error::Internal(format!("deliveries: {why}")))?;
        self.tracker.core.writer.run(Digested { told: due.held, state, detail, now: Timestamp::now() })
    }
}

/// Whether the group alerted within its cool-down, and how many alerts went out within the hour.
fn recent(reader: &Connection, error_id: i64, now: Timestamp, settings: &AlertSettings) -> Result<(bool, i64)> {
    let mut same = reader.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM alerts WHERE error_id = ?1 AND state = 'sent' AND finished_at > ?2)",
    )?;
    let recent = same.query_row((error_id, (now - settings.cooldown).seconds()), |row| row.get(0))?;
    let mut all = reader.prepare_cached(
        "SELECT count(*) FROM alerts WHERE state = 'sent' AND error_id IS NOT NULL AND finished_at > ?1",
    )?;
    Ok((recent, all.query_row([(now - HOUR).seconds()], |row| row.get(0))?))
}

fn log_deliveries(title: &str, deliveries: &[Delivery]) -> &'static str {
    for delivery in deliveries {
        let (channel, attempts) = (delivery.channel, delivery.attempts);
        match &delivery.outcome {
            Ok(()) => log::info!("alert sent by {channel} (attempt {attempts}): {}", one_line(title)),
            Err(why) => log::warn!("alert not sent by {channel} ({attempts} attempts): {}: {why}", one_line(title)),
        }
    }
    if deliveries.iter().any(|delivery| delivery.outcome.is_ok()) { "sent" } else { "failed" }
}

/// Control characters come from strangers and would break a log's lines.
fn one_line(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

fn message(detail: &Detail, kind: &str, settings: &AlertSettings) -> Message {
    let group = &detail.summary;
    let (event, word) = if kind == "reopened" { ("error.reopened", "Reopened") } else { ("error.new", "New") };
    let title = format!("[{}] {word}: {}: {}", group.project, group.exception_type, group.message);
    let fact = |key, label, value: String| Fact { key, label, value };
    let mut facts = vec![
        fact("project", "Project", group.project.clone()),
        fact("exception_type", "Type", group.exception_type.clone()),
        fact("message", "Message", group.message.clone()),
        fact("environment", "Environment", group.environment.clone()),
        fact("count", "Count", group.count.to_string()),
        fact("first_seen", "First seen", group.first_seen.to_string()),
        fact("last_seen", "Last seen", group.last_seen.to_string()),
    ];
    let optional = [("location", "Location", &group.location), ("release", "Release", &group.release)];
    facts.extend(optional.into_iter().filter_map(|(key, label, value)| Some(fact(key, label, value.clone()?))));
    Message {
        event,
        title: clip(&one_line(&title), TITLE_CHARS_MAX).into_owned(),
        facts,
        excerpt: detail.traceback.clone(),
        link: Some(format!("{}/?id={}", settings.base_url, group.id)),
    }
}

fn test_message(settings: &AlertSettings) -> Message {
    let told = "This is what alerts of this installation look like.".to_owned();
    Message {
        event: "test",
        title: "[monlight] Test alert".into(),
        facts: vec![Fact { key: "message", label: "Message", value: told }],
        excerpt: String::new(),
        link: Some(settings.base_url.clone()),
    }
}

/// What a digest has to tell.
#[derive(Debug, Clone, Copy)]
struct Due {
    held: i64,
    since: Timestamp,
}

fn digest_due(reader: &Connection, now: Timestamp, settings: &AlertSettings) -> Result<Option<Due>> {
    let totals = store::totals(reader)?;
    let total = |wanted: &str| totals.iter().find(|(name, _)| name == wanted).map_or(0, |(_, value)| *value);
    let (held, since) = (total("alerts_held"), Timestamp::from_ms(total("alerts_held_since").saturating_mul(1_000)));
    if held == 0 || now < since + settings.digest_delay {
        return Ok(None);
    }
    let mut last =
        reader.prepare_cached("SELECT EXISTS (SELECT 1 FROM alerts WHERE kind = 'digest' AND finished_at > ?1)")?;
    let told_this_hour: bool = last.query_row([(now - HOUR).seconds()], |row| row.get(0))?;
    Ok((!told_this_hour).then_some(Due { held, since }))
}

fn digest_message(reader: &Connection, due: Due, settings: &AlertSettings) -> Result<Message> {
    let filter = Filter { since: Some(due.since), sort: Sort::Count, ..Filter::default() };
    let page = store::list(reader, &filter, DIGEST_GROUPS, 0)?;
    let line = |group: &store::Summary| {
        let message = clip(&one_line(&group.message), TITLE_CHARS_MAX).into_owned();
        format!("{:>8}  {}  {}: {message}", group.count, group.project, group.exception_type)
    };
    let loudest: Vec<String> = page.errors.iter().map(line).collect();
    let fact = |key, label, value: String| Fact { key, label, value };
    Ok(Message {
        event: "digest",
        title: format!("[monlight] {} more alerts since {}", due.held, due.since),
        facts: vec![
            fact("held", "Alerts not sent", due.held.to_string()),
            fact("since", "Since", due.since.to_string()),
            fact("groups", "Groups seen since", page.total.to_string()),
        ],
        excerpt: format!("The loudest of them:\n{}", loudest.join("\n")),
        link: Some(settings.base_url.clone()),
    })
}

/// Notes what became of an alert, and forgets what is older than the history.
struct Finish {
    id: i64,
    state: &'static str,
    detail: String,
    now: Timestamp,
    /// Whether it counts for the digest.
    held: bool,
    keep: Duration,
}

impl Command for Finish {
    type Output = ();

    fn apply(self, transaction: &Connection) -> Result<()> {
        let mut finish =
            transaction.prepare_cached("UPDATE alerts SET state = ?2, detail = ?3, finished_at = ?4 WHERE id = ?1")?;
        finish.execute((self.id, self.state, &self.detail, self.now.seconds()))?;
        if self.held {
            hold_alerts(transaction, 1, self.now)?;
        }
        let mut forget = transaction.prepare_cached(
            "DELETE FROM alerts WHERE state <> 'waiting' AND id <= (SELECT max(id) FROM alerts) - ?1
                 AND NOT (state = 'sent' AND finished_at > ?2)",
        )?;
        forget.execute((HISTORY_MAX, (self.now - self.keep).seconds()))?;
        Ok(())
    }
}

/// Notes a digest. One that reached nobody leaves its count for the next.
struct Digested {
    told: i64,
    state: &'static str,
    detail: String,
    now: Timestamp,
}

impl Command for Digested {
    type Output = ();

    fn apply(self, transaction: &Connection) -> Result<()> {
        transaction.execute(
            "INSERT INTO alerts (kind, created_at, state, finished_at, detail) VALUES ('digest', ?1, ?2, ?1, ?3)",
            (self.now.seconds(), self.state, &self.detail),
        )?;
        if self.state == "sent" {
            transaction.execute("UPDATE totals SET value = value - ?1 WHERE name = 'alerts_held'", [self.told])?;
            let since = "UPDATE totals SET value = ?1 WHERE name = 'alerts_held_since'";
            transaction.execute(since, [self.now.seconds()])?;
        }
        Ok(())
    }
}

/// Queues an alert that says nothing but that alerts work.
pub(super) struct QueueTest {
    /// When it was asked for.
    pub(super) now: Timestamp,
}

/// The test alert waits to be sent.
#[derive(Debug, Serialize)]
pub(super) struct Queued {
    status: &'static str,
}

impl Command for QueueTest {
    type Output = Queued;

    fn apply(self, transaction: &Connection) -> Result<Queued> {
        queue_alert(transaction, "test", None, self.now)?;
        Ok(Queued { status: "queued" })
    }
}

/// One alert and what became of it.
#[derive(Debug, Serialize)]
pub(super) struct Entry {
    id: i64,
    kind: String,
    error_id: Option<i64>,
    /// What the group is of; `None` where there is none any more.
    project: Option<String>,
    exception_type: Option<String>,
    created_at: Timestamp,
    state: String,
    finished_at: Option<Timestamp>,
    detail: Box<RawValue>,
}

/// The last alerts, newest first.
pub(super) fn history(reader: &Connection) -> Result<Vec<Entry>> {
    let mut read = reader.prepare_cached(
        "SELECT a.id, kind, error_id, created_at, state, finished_at, detail, project, exception_type FROM alerts a
             LEFT JOIN errors e ON e.id = a.error_id ORDER BY a.id DESC LIMIT ?1",
    )?;
    let moment = |seconds: i64| Timestamp::from_ms(seconds.saturating_mul(1_000));
    let entry = |row: &rusqlite::Row<'_>| {
        let detail: String = row.get(6)?;
        Ok(Entry {
            id: row.get(0)?,
            kind: row.get(1)?,
            error_id: row.get(2)?,
            project: row.get(7)?,
            exception_type: row.get(8)?,
            created_at: moment(row.get(3)?),
            state: row.get(4)?,
            finished_at: row.get::<_, Option<i64>>(5)?.map(moment),
            detail: RawValue::from_string(detail).map_err(|why| {
                rusqlite::Error::FromSqlConversionFailure(6, rusqlite::types::Type::Text, Box::new(why))
            })?,
        })
    };
    Ok(read.query_map([HISTORY_MAX], entry)?.collect::<rusqlite::Result<_>>()?)
}
