//! Sends what a service stores on to somewhere else, one batch after the other, from a mark in its own database. A batch
//! is noted as sent once it was taken, so after a crash it may be sent again: each record has an id by which its second
//! copy is known.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::start_error::StartError;
use super::state::State;
use super::stats::{Stat, StatValue};
use crate::background::{Job, StopToken};
use crate::db::{Database, ExportProgress, RecordExport, export_progress};
use crate::env::{Env, Variable};
use crate::error::Result;
use crate::export::{Backoff, Format, Outcome, Record, Target, Trouble};

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Settings of the export, and how it goes.
#[derive(Debug)]
pub struct Export {
    format: Format,
    target: Option<Target>,
    trouble: Trouble,
}

/// Records that are next: at most a few hundred.
#[derive(Debug)]
pub struct Outgoing<R> {
    /// In order.
    pub records: Vec<R>,
    /// The number of the last one.
    pub last: i64,
}

/// A service whose records are sent on. Each has a number, higher than those before.
pub trait RecordSource: State {
    /// What is sent.
    type Record: Record;
    /// Its settings.
    fn export(&self) -> &Export;
    /// The records after a number.
    ///
    /// # Errors
    /// When the database cannot be read.
    fn after(&self, reader: &Connection, mark: i64, format: Format) -> Result<Outgoing<Self::Record>>;
    /// The number of the newest one.
    ///
    /// # Errors
    /// When the database cannot be read.
    fn newest(&self, reader: &Connection) -> Result<i64>;
}

impl Export {
    /// The rows of its table.
    #[must_use]
    pub fn variables() -> Vec<Variable> {
        vec![
            Variable::plain("EXPORT_URL", "", "Where everything is sent on to, as of VictoriaLogs, Loki or ClickHouse"),
            Variable::plain("EXPORT_FORMAT", "jsonl", "As what: jsonl (a JSON object a line), loki or clickhouse"),
            Variable::secret(
                "EXPORT_HEADERS",
                "Headers sent there, 'Name: value', one a line or with semicolons between them",
            ),
        ]
    }

    /// Reads its settings; what is wrong is noted in `env`. ClickHouse is told of a table where the URL names none.
    pub fn read(env: &mut Env<'_>, table: &str) -> Self {
        let format = Format::read(env);
        let target = Target::read(env, "EXPORT_URL", "EXPORT_HEADERS");
        let target = target.map(|target| if format == Format::ClickHouse { target.inserting(table) } else { target });
        Self { format, target, trouble: Trouble::of("the export") }
    }

    /// Where nothing is sent on, nothing is kept for it.
    ///
    /// # Errors
    /// [`StartError::Start`] when the database refuses.
    pub fn prepare(&self, database: &Database) -> std::result::Result<(), StartError> {
        if self.target.is_some() {
            return Ok(());
        }
        let forgotten = database.writer.run(RecordExport { progress: None });
        forgotten.map_err(|why| StartError::Start(format!("cannot start: {why}")))
    }

    /// The job that sends, if anything is to be sent.
    pub fn job<S: RecordSource>(state: &Arc<S>) -> Option<Job> {
        state.export().target.as_ref()?;
        let (state, mut backoff) = (Arc::clone(state), Backoff::default());
        let run = Box::new(move |pause: &StopToken| {
            // What fails now is done at the next look; the writer says in the log when the disk is the reason.
            if let Err(why) = look(&*state, &mut backoff, pause) {
                log::warn!("the export waits: {why}");
            }
        });
        Some(Job { name: "export", interval: LOOK_EVERY, run })
    }

    /// What `/health` tells of it.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn facts<S: RecordSource>(state: &S, reader: &Connection) -> Result<Vec<Stat>> {
        let export = state.export();
        if export.target.is_none() {
            return Ok(Vec::new());
        }
        let ExportProgress { position, sent, refused, missed } = export_progress(reader)?;
        let waiting = (state.newest(reader)? - position).max(0);
        let lag_s = if waiting > 0 { export.trouble.lag_s() } else { 0 };
        Ok([
            ("export_sent", "Records that were sent on", sent),
            ("export_refused", "Records that were refused for good", refused),
            ("export_missed", "Records that were gone before they could be sent", missed),
            ("export_waiting", "Records that wait to be sent", waiting),
            ("export_lag_seconds", "Seconds since none waited", lag_s),
        ]
        .map(|(name, help, count)| Stat { name, help, value: StatValue::Count(count) })
        .into())
    }

    /// That nothing was taken for a while, and why.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        self.trouble.warning()
    }
}

/// Sends all that waits, or as much as is taken.
fn look<S: RecordSource>(state: &S, backoff: &mut Backoff, pause: &StopToken) -> Result<()> {
    let (core, Export { format, target: Some(target), trouble }) = (state.core(), state.export()) else {
        return Ok(());
    };
    while backoff.is_over(Instant::now()) && !pause.stopping() {
        let (known, next) = {
            let reader = core.readers.acquire()?;
            let mut known = export_progress(&reader)?;
            // Numbers may begin again below the mark when all that had higher ones is gone.
            known.position = known.position.min(state.newest(&reader)?);
            (known, state.after(&reader, known.position, *format)?)
        };
        if next.last <= known.position {
            trouble.is_level();
            return Ok(());
        }
        let count = i64::try_from(next.records.len()).unwrap_or(i64::MAX);
        // What was gone before anything was sent on was nobody's to send.
        let missed = if known == ExportProgress::default() { 0 } else { next.last - known.position - count };
        let mut now = ExportProgress { position: next.last, missed: known.missed + missed, ..known };
        if !next.records.is_empty() {
            match target.post(&format.headers(), &format.body(&next.records)?) {
                Outcome::Taken => now.sent += count,
                Outcome::Refused(why) => {
                    log::warn!("the export of {count} records is refused: {why}");
                    now.refused += count;
                }
                Outcome::Later(why, wait) => {
                    backoff.failed(Instant::now(), wait);
                    trouble.note(why);
                    return Ok(());
                }
            }
        }
        backoff.succeeded();
        trouble.is_over();
        core.writer.run(RecordExport { progress: Some(now) })?;
    }
    Ok(())
}
