//! Export of a service's records to the store that `EXPORT_URL` names.
//!
//! Sends one batch after another from a position in the service's database, and moves the position after the store has
//! accepted a batch. After a crash a batch may be sent again; the ids of records identify duplicates.
//!
//! A record with which the store fails, although it accepts others, is held: the position passes it, and it is retried apart
//! from the others.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;

use super::format::{Format, Record};
use super::http_sink::HttpSink;
use super::pacing::{AfterFailure, Pacing, REQUEST_BYTES_MAX, SuspectRecord};
use super::status::DeliveryStatus;
use crate::background::{Job, StopToken};
use crate::client::{Delivery, OutboundSettings};
use crate::db::{ExportProgress, ReaderPool, RecordExport, Writer, export_progress};
use crate::env::{Env, Variable};
use crate::error::Result;
use crate::records::warning::Warning;

const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum number of records in a batch.
const BATCH_RECORDS_MAX: usize = 200;
/// Number of keys that are read at once. Finding them can take a scan of a table.
const KEYS_MAX: usize = 1_000;
/// Maximum number of held records. Further ones make the export wait.
const HELD_RECORDS_MAX: usize = 20;

/// The settings of the export and the state of its delivery.
#[derive(Debug)]
pub struct Exporter {
    format: Format,
    sink: Option<HttpSink>,
    status: DeliveryStatus,
}

/// A record that is not exported yet.
#[derive(Debug, Clone, Copy)]
pub struct PendingRecord<K> {
    /// The id by which records are ordered.
    pub id: i64,
    /// The key by which its source finds it.
    pub key: K,
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

    /// The key by which a record is found.
    type Key: Copy;

    /// Returns the next records after the id `position`, at most `count`, in order of their ids.
    ///
    /// # Errors
    /// Returns an error if the database cannot be read.
    fn pending(&self, reader: &Connection, position: i64, count: usize) -> Result<Vec<PendingRecord<Self::Key>>>;

    /// Reads records one by one and passes them to `visit` until it breaks; passes `None` for a deleted record.
    ///
    /// # Errors
    /// Returns an error if the database cannot be read.
    fn read(
        &self,
        reader: &Connection,
        keys: &[PendingRecord<Self::Key>],
        format: Format,
        visit: &mut dyn FnMut(Option<Self::Record>) -> Result<ControlFlow<()>>,
    ) -> Result<()>;

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
        let (pacing, suspects) = (Pacing::new(BATCH_RECORDS_MAX), BTreeMap::new());
        let mut sender = Sender { exporter, source, writer, readers, pacing, suspects, accepted: 0, next_probe: 0 };
        let run = Box::new(move |stop: &StopToken| {
            // An error of the database; the writer logs it in detail.
            if let Err(why) = sender.send_pending(stop) {
                log::warn!("export failed, will retry: {why}");
            }
        });
        Some(Job { name: "export", interval: POLL_INTERVAL, run })
    }

    /// Returns the numbers for `/health`; `latest_id` is the id of the newest record. Empty if no export is configured.
    ///
    /// # Errors
    /// Returns an error if the database cannot be read.
    pub fn stats(&self, reader: &Connection, latest_id: i64) -> Result<Vec<ExportStat>> {
        if self.sink.is_none() {
            return Ok(Vec::new());
        }
        let ExportProgress { position, accepted, rejected, missed, held } = export_progress(reader)?;
        let waiting = (latest_id - position).max(0) + held.len() as i64;
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

    /// Returns the warnings for `/health`.
    #[must_use]
    pub fn warnings(&self) -> Vec<Warning> {
        self.status.warnings()
    }
}

/// The job that exports records.
struct Sender<S> {
    exporter: Arc<Exporter>,
    source: Arc<S>,
    writer: Writer,
    readers: ReaderPool,
    pacing: Pacing,
    /// Attempts to send held records, by id.
    suspects: BTreeMap<i64, SuspectRecord>,
    /// Number of requests that the store accepted.
    accepted: u64,
    /// Number of probes that failed since the last success.
    next_probe: usize,
}

/// The records of a request.
struct Batch<R> {
    records: Vec<R>,
    /// Number of keys that were read, including those of deleted records.
    keys: usize,
}

impl<S: RecordSource> Sender<S> {
    /// Sends batches until none is pending, the store is unavailable or the service stops.
    fn send_pending(&mut self, stop: &StopToken) -> Result<()> {
        while self.pacing.is_ready() && !stop.stopping() {
            let (mut progress, pending) = self.next_pending()?;
            self.retry_held(&mut progress)?;
            if pending.is_empty() {
                if progress.held.is_empty() {
                    self.exporter.status.caught_up();
                }
                return Ok(());
            }
            let mut rest = pending.as_slice();
            while !rest.is_empty() && self.pacing.is_ready() && !stop.stopping() {
                let done = self.send_next(&mut progress, rest)?;
                rest = &rest[done..];
            }
        }
        Ok(())
    }

    /// Reads the progress and what is to be sent next.
    fn next_pending(&self) -> Result<(ExportProgress, Vec<PendingRecord<S::Key>>)> {
        let reader = self.readers.acquire()?;
        let snapshot = reader.unchecked_transaction()?;
        let mut progress = export_progress(&snapshot)?;
        let latest_id = self.source.latest_id(&snapshot)?;
        // Ids may restart below the position after all records with higher ids were deleted.
        progress.position = progress.position.min(latest_id);
        progress.held.retain(|id| *id <= latest_id);
        let pending = self.source.pending(&snapshot, progress.position, KEYS_MAX)?;
        drop(snapshot);
        drop(reader);
        self.exporter.status.stuck(progress.held.len());
        if pending.is_empty() && latest_id > progress.position {
            self.advance(&mut progress, latest_id, 0)?;
        }
        Ok((progress, pending))
    }

    /// Sends the first records of `pending`. Returns the number of keys that are done, 0 after a failure.
    fn send_next(&mut self, progress: &mut ExportProgress, pending: &[PendingRecord<S::Key>]) -> Result<usize> {
        let batch = self.read_batch(&pending[..pending.len().min(self.pacing.records_max())])?;
        let count = batch.records.len();
        let delivery = if count == 0 { Delivery::Accepted } else { self.post(&batch.records)? };
        match delivery {
            Delivery::Accepted => progress.accepted += count as i64,
            Delivery::Rejected { .. } if count > 1 => {
                self.pacing.split(count);
                return Ok(0);
            }
            Delivery::Rejected { reason } => self.reject(progress, reason),
            Delivery::Retry { after, reason } => {
                match self.pacing.after_failure(count, after) {
                    AfterFailure::Split => {
                        self.pacing.split(count);
                        return Ok(0);
                    }
                    AfterFailure::Probe => {
                        let done = self.probe(progress, pending, &reason)?;
                        if done > 0 {
                            return Ok(done);
                        }
                    }
                    AfterFailure::Wait => {}
                }
                self.exporter.status.failed(reason);
                self.pacing.wait(after);
                return Ok(0);
            }
        }
        self.advance(progress, pending[batch.keys - 1].id, count)?;
        Ok(batch.keys)
    }

    /// Sends another record than the first one, with which the store fails. If the store accepts it, the records before it are
    /// held. Returns the number of keys that are done then; 0 if the store may be down.
    fn probe(
        &mut self,
        progress: &mut ExportProgress,
        pending: &[PendingRecord<S::Key>],
        reason: &str,
    ) -> Result<usize> {
        let candidates = (pending.len() - 1).min(HELD_RECORDS_MAX.saturating_sub(progress.held.len()));
        if candidates == 0 {
            return Ok(0);
        }
        // Other records may be poison too, so that each probe takes the next one.
        let index = 1 + self.next_probe % candidates;
        self.next_probe += 1;
        let batch = self.read_batch(&pending[index..=index])?;
        if batch.records.is_empty() || self.post(&batch.records)? != Delivery::Accepted {
            return Ok(0);
        }
        self.next_probe = 0;
        for record in &pending[..index] {
            log::warn!("export: the server fails with record {}, will retry it later: {reason}", record.id);
            self.suspects.insert(record.id, SuspectRecord::new(1, self.accepted));
            progress.held.push(record.id);
        }
        progress.accepted += 1;
        self.advance(progress, pending[index].id, index + 1)?;
        Ok(index + 1)
    }

    /// Retries held records that are due, up to the first one that fails.
    fn retry_held(&mut self, progress: &mut ExportProgress) -> Result<()> {
        for id in progress.held.clone() {
            let accepted = self.accepted;
            // After a start, the attempts are counted anew.
            if !self.suspects.entry(id).or_insert_with(|| SuspectRecord::new(0, accepted)).is_due() {
                continue;
            }
            let key = self.source.pending(&*self.readers.acquire()?, id - 1, 1)?;
            let batch = match key.first() {
                Some(record) if record.id == id => self.read_batch(&key)?,
                _ => Batch { records: Vec::new(), keys: 0 },
            };
            let delivery = if batch.records.is_empty() { None } else { Some(self.post(&batch.records)?) };
            match delivery {
                None => {
                    progress.missed += 1;
                    self.exporter.status.missed(1);
                }
                Some(Delivery::Accepted) => progress.accepted += 1,
                Some(Delivery::Rejected { reason }) => self.reject(progress, reason),
                Some(Delivery::Retry { reason, .. }) => {
                    if !self.suspects.get_mut(&id).is_some_and(|suspect| suspect.failed(accepted)) {
                        return Ok(());
                    }
                    self.reject(progress, reason);
                }
            }
            progress.held.retain(|held| *held != id);
            self.suspects.remove(&id);
            self.store(progress)?;
        }
        Ok(())
    }

    /// Reads the first records of `keys` that fit into one request, at least one if any still exists.
    fn read_batch(&self, keys: &[PendingRecord<S::Key>]) -> Result<Batch<S::Record>> {
        let format = self.exporter.format;
        let (mut batch, mut bytes) = (Batch { records: Vec::new(), keys: 0 }, 0);
        self.source.read(&*self.readers.acquire()?, keys, format, &mut |record| {
            if let Some(record) = record {
                bytes += format.encoded_bytes(&record)?;
                if bytes > REQUEST_BYTES_MAX && !batch.records.is_empty() {
                    return Ok(ControlFlow::Break(()));
                }
                batch.records.push(record);
            }
            batch.keys += 1;
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(batch)
    }

    /// Posts records, and records that the store responded.
    fn post(&mut self, records: &[S::Record]) -> Result<Delivery> {
        let Exporter { format, sink, status } = &*self.exporter;
        let Some(sink) = sink else { return Ok(Delivery::retry("no server is configured")) };
        let delivery = sink.post(&format.headers(), &format.body(records)?);
        match delivery {
            Delivery::Accepted => {
                self.accepted += 1;
                self.pacing.accepted();
                status.recovered();
            }
            Delivery::Rejected { .. } => {
                self.pacing.answered();
                status.recovered();
            }
            Delivery::Retry { .. } => {}
        }
        Ok(delivery)
    }

    /// Skips a record that the store rejects.
    fn reject(&self, progress: &mut ExportProgress, reason: String) {
        progress.rejected += 1;
        self.exporter.status.rejected(1, "records", reason);
    }

    /// Moves the position to `last_id`, after `done` records were sent, held or rejected. The others were deleted.
    fn advance(&self, progress: &mut ExportProgress, last_id: i64, done: usize) -> Result<()> {
        // Records that were deleted before the first export were never due.
        let missed = if progress.position == 0 { 0 } else { (last_id - progress.position - done as i64).max(0) };
        progress.missed += missed;
        self.exporter.status.missed(missed.unsigned_abs());
        progress.position = last_id;
        self.store(progress)
    }

    fn store(&self, progress: &ExportProgress) -> Result<()> {
        self.exporter.status.stuck(progress.held.len());
        self.writer.run(RecordExport { progress: Some(progress.clone()) })
    }
}
