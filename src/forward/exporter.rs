//! Export of a service's records to the store that `EXPORT_URL` names.
//!
//! Sends one batch after another from a position in the service's database, and moves the position after the store has
//! accepted a batch. After a crash a batch may be sent again; the ids of records identify duplicates.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::format::{Format, Record};
use super::http_sink::{HttpSink, new_backoff};
use super::status::DeliveryStatus;
use crate::background::{Job, StopToken};
use crate::client::{Backoff, Delivery, OutboundSettings};
use crate::db::{ExportProgress, ReaderPool, RecordExport, Writer, export_progress};
use crate::env::{Env, Variable};
use crate::error::Result;
use crate::records::warning::Warning;

const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The settings of the export and the state of its delivery.
#[derive(Debug)]
pub struct Exporter {
    format: Format,
    sink: Option<HttpSink>,
    status: DeliveryStatus,
}

/// Consecutive records, at most a few hundred.
#[derive(Debug)]
pub struct RecordBatch<R> {
    /// The records in order of their ids.
    pub records: Vec<R>,
    /// The id of the last record. It may be higher than that if records in between were deleted.
    pub last_id: i64,
}

/// One number about the export, for `/health` and `/metrics`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExportStat {
    /// The name in `/health`.
    pub name: &'static str,
    /// One line of description.
    pub help: &'static str,
    /// The value.
    pub value: i64,
}

/// The stored records of a service. A newer record has a higher id.
pub trait RecordSource: Send + Sync + 'static {
    /// The type of the records.
    type Record: Record;

    /// Returns the next records after the id `position`.
    ///
    /// # Errors
    /// Returns an error if the database cannot be read.
    fn records_after(&self, reader: &Connection, position: i64, format: Format) -> Result<RecordBatch<Self::Record>>;

    /// Returns the id of the newest record, 0 if there is none.
    ///
    /// # Errors
    /// Returns an error if the database cannot be read.
    fn latest_id(&self, reader: &Connection) -> Result<i64>;
}

impl Exporter {
    /// Returns the variables that [`Exporter::from_env`] reads, in the order of `--help`.
    #[must_use]
    pub fn variables() -> Vec<Variable> {
        vec![
            Variable::plain(
                "EXPORT_URL",
                "",
                "HTTP endpoint that receives a copy of all records (VictoriaLogs, Loki or ClickHouse)",
            ),
            Variable::plain(
                "EXPORT_FORMAT",
                "jsonl",
                "Payload format: jsonl (one JSON object per line), loki or clickhouse",
            ),
            Variable::secret("EXPORT_HEADERS", "HTTP headers for EXPORT_URL, one 'Name: value' per line"),
        ]
    }

    /// Reads the settings and reports errors to `env`. `table` is the table for ClickHouse if the URL names none.
    pub fn from_env(env: &mut Env<'_>, outbound: &OutboundSettings, table: &str) -> Self {
        let format = Format::from_env(env);
        let insert_table = (format == Format::ClickHouse).then_some(table);
        let sink = HttpSink::from_env(env, outbound, ["EXPORT_URL", "EXPORT_HEADERS"], insert_table);
        Self { format, sink, status: DeliveryStatus::new("export") }
    }

    /// Deletes the stored position if no export is configured, so that an export in the future starts with all records.
    ///
    /// # Errors
    /// Returns an error if the database cannot be written.
    pub fn reset_if_disabled(&self, writer: &Writer) -> Result<()> {
        if self.sink.is_some() { Ok(()) } else { writer.run(RecordExport { progress: None }) }
    }

    /// Returns the job that exports the records of `source`; `None` if no export is configured.
    #[must_use]
    pub fn job<S: RecordSource>(self: &Arc<Self>, source: Arc<S>, writer: Writer, readers: ReaderPool) -> Option<Job> {
        self.sink.as_ref()?;
        let exporter = Arc::clone(self);
        let mut backoff = new_backoff();
        let run = Box::new(move |stop: &StopToken| {
            // An error of the database; the writer logs it in detail.
            if let Err(why) = exporter.send_pending(&*source, &writer, &readers, &mut backoff, stop) {
                log::warn!("export failed, will retry: {why}");
            }
        });
        Some(Job { name: "export", interval: POLL_INTERVAL, run })
    }

    /// Sends batches until none is pending, the store is unavailable or the service stops.
    fn send_pending<S: RecordSource>(
        &self,
        source: &S,
        writer: &Writer,
        readers: &ReaderPool,
        backoff: &mut Backoff,
        stop: &StopToken,
    ) -> Result<()> {
        let Some(sink) = &self.sink else { return Ok(()) };
        while backoff.is_ready(Instant::now()) && !stop.stopping() {
            let (progress, batch) = {
                let reader = readers.acquire()?;
                let mut progress = export_progress(&reader)?;
                // Ids may restart below the position after all records with higher ids were deleted.
                progress.position = progress.position.min(source.latest_id(&reader)?);
                (progress, source.records_after(&reader, progress.position, self.format)?)
            };
            if batch.last_id <= progress.position {
                self.status.caught_up();
                return Ok(());
            }
            let count = i64::try_from(batch.records.len()).unwrap_or(i64::MAX);
            // Records that were deleted before the first export were never due.
            let is_first = progress == ExportProgress::default();
            let missed = if is_first { 0 } else { batch.last_id - progress.position - count };
            let mut next = ExportProgress { position: batch.last_id, missed: progress.missed + missed, ..progress };
            if !batch.records.is_empty() {
                match sink.post(&self.format.headers(), &self.format.body(&batch.records)?) {
                    Delivery::Accepted => next.accepted += count,
                    Delivery::Rejected { reason } => {
                        log::warn!("export: the server rejected {count} records, skipping them: {reason}");
                        next.rejected += count;
                    }
                    Delivery::Retry { after, reason } => {
                        backoff.record_failure(Instant::now(), after);
                        self.status.failed(reason);
                        return Ok(());
                    }
                }
            }
            backoff.reset();
            self.status.recovered();
            writer.run(RecordExport { progress: Some(next) })?;
        }
        Ok(())
    }

    /// Returns the numbers for `/health`; `latest_id` is the id of the newest record. Empty if no export is configured.
    ///
    /// # Errors
    /// Returns an error if the database cannot be read.
    pub fn stats(&self, reader: &Connection, latest_id: i64) -> Result<Vec<ExportStat>> {
        if self.sink.is_none() {
            return Ok(Vec::new());
        }
        let ExportProgress { position, accepted, rejected, missed } = export_progress(reader)?;
        let waiting = (latest_id - position).max(0);
        let lag_seconds = if waiting > 0 { self.status.lag_seconds() } else { 0 };
        Ok([
            ("export_sent", "Records that the export server has accepted.", accepted),
            ("export_refused", "Records that the export server has rejected.", rejected),
            ("export_missed", "Records deleted before they were exported.", missed),
            ("export_waiting", "Records that are not exported yet.", waiting),
            ("export_lag_seconds", "Seconds since all records were exported.", lag_seconds),
        ]
        .map(|(name, help, value)| ExportStat { name, help, value })
        .into())
    }

    /// Returns a warning for `/health` if the export has failed for a while.
    #[must_use]
    pub fn warning(&self) -> Option<Warning> {
        self.status.warning()
    }
}
