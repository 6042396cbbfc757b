//! Prometheus remote write: sends running totals of counters and histograms and the last values of gauges to another
//! server.
//!
//! Points are sent in the order of arrival, in batches of one sample interval. The running totals are stored together
//! with the id of the last point that the server accepted. Each point therefore counts once, regardless of retries and
//! crashes.
//!
//! A series with which the server fails, although it accepts others, is skipped after a few attempts. Its next sample contains
//! the running total, so only that of a gauge is lost.

mod batch;
mod commands;
mod protocol;
mod repetition;
mod series_names;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::state::Collector;
use crate::background::{Job, StopToken};
use crate::client::Delivery;
use crate::clock::Timestamp;
use crate::db::counter;
use crate::error::Result;
use crate::forward::{AfterFailure, HttpSink, Pacing, REQUEST_BYTES_MAX, SuspectRecord};
use batch::{Batch, BatchSeries, SAMPLE_INTERVAL};
pub(super) use commands::ResetState;
use commands::{ClaimBatch, ClaimRepetition, CommitBatch, StartFromNow};
use protocol::WriteRequest;
use repetition::Repetition;
use series_names::SeriesNames;

const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Number of samples that complete a request.
const SAMPLES_PER_REQUEST: usize = 2_000;

/// Returns the job that sends new points to the server. It retries after a failure.
pub(super) fn job(collector: &Arc<Collector>, sink: HttpSink) -> Job {
    let mut sender = Sender {
        collector: Arc::clone(collector),
        sink,
        pacing: Pacing::new(SAMPLES_PER_REQUEST),
        names: SeriesNames::default(),
        sent_at: Instant::now(),
        progress: BatchProgress::default(),
        repetition: Repetition::default(),
        suspects: HashMap::new(),
        accepted: 0,
        next_probe: 0,
    };
    let run = Box::new(move |stop: &StopToken| {
        if let Err(error) = sender.send_new_points(stop) {
            log::warn!("remote write failed, will retry: cannot read or update the send position: {error}");
        }
    });
    Job { name: "remote-write", interval: POLL_INTERVAL, run }
}

struct Sender {
    collector: Arc<Collector>,
    sink: HttpSink,
    pacing: Pacing,
    names: SeriesNames,
    /// Time at which the last batch was accepted.
    sent_at: Instant,
    progress: BatchProgress,
    repetition: Repetition,
    /// Attempts to send the series with which the server fails, by id. They are kept for later batches.
    suspects: HashMap<i64, SuspectRecord>,
    /// Number of requests that the server accepted.
    accepted: u64,
    /// Number of probes that failed since the last success.
    next_probe: usize,
}

/// Progress within a batch. After a restart, the whole batch is sent again.
#[derive(Debug, Default)]
struct BatchProgress {
    /// Id of the batch's last point.
    last: i64,
    /// Ids of the series that were accepted or rejected.
    done: HashSet<i64>,
    /// A series that was accepted.
    accepted_series: Option<i64>,
    /// Number of samples that were accepted.
    sent: i64,
    /// Number of samples that were rejected.
    rejected: i64,
}

impl Sender {
    /// Sends batches until there is nothing to send, or until the server does not accept one.
    fn send_new_points(&mut self, stop: &StopToken) -> Result<()> {
        let collector = Arc::clone(&self.collector);
        let writer = &collector.core.writer;
        while self.pacing.is_ready() && !stop.stopping() {
            let reader = collector.core.readers.acquire()?;
            if counter(&reader, "remote_on")? == 0 {
                drop(reader);
                writer.run(StartFromNow { now: Timestamp::now() })?;
                continue;
            }
            let is_due = self.sent_at.elapsed() >= SAMPLE_INTERVAL;
            let Some(batch) = Batch::next(&reader, is_due)? else {
                drop(reader);
                return if self.repetition.is_due() { self.repeat_totals(stop) } else { Ok(()) };
            };
            drop(reader);
            if !batch.is_claimed {
                writer.run(ClaimBatch { last: batch.last, now: Timestamp::now() })?;
                // The next iteration reads the claimed batch, whose timestamp depends on the time of the claim.
                continue;
            }
            if !self.send(&batch, stop)? {
                return Ok(());
            }
            let BatchProgress { sent, rejected, .. } = std::mem::take(&mut self.progress);
            let totals = batch.series.into_iter().map(|(id, series)| (id, series.totals)).collect();
            writer.run(CommitBatch { last: batch.last, at: batch.at, totals, sent, rejected })?;
            self.sent_at = Instant::now();
        }
        Ok(())
    }

    /// Sends the totals of live series without new points again.
    fn repeat_totals(&mut self, stop: &StopToken) -> Result<()> {
        let now = Timestamp::now();
        let last_point = now - self.collector.retention.minutes..now - SAMPLE_INTERVAL;
        let at = self.collector.core.writer.run(ClaimRepetition { now })?;
        self.repetition.start();
        while !stop.stopping() {
            let reader = self.collector.core.readers.acquire()?;
            let series = self.repetition.next_series(&reader, last_point.clone())?;
            drop(reader);
            let Some((&last_id, _)) = series.last_key_value() else {
                self.repetition.finish();
                return Ok(());
            };
            let ids: Vec<i64> = series.keys().copied().filter(|id| !self.suspects.contains_key(id)).collect();
            if ids.is_empty() {
                self.repetition.passed(last_id, 0);
                continue;
            }
            let (request, count) = self.build_request(&series, at, &ids)?;
            self.repetition.passed(ids[count - 1], request.samples());
            match self.sink.post(&protocol::HEADERS, &request.compress()?) {
                Delivery::Accepted => self.pacing.accepted(),
                // Nothing is lost: the next batch contains the totals.
                Delivery::Rejected { reason } => {
                    log::debug!("remote write: the server rejected repeated totals: {reason}");
                }
                Delivery::Retry { after, reason } => {
                    self.collector.remote.failed(reason);
                    self.pacing.wait(after);
                    return Ok(());
                }
            }
            self.collector.remote.recovered();
        }
        Ok(())
    }

    /// Sends the series of a batch that are not done. Returns whether all are done.
    fn send(&mut self, batch: &Batch, stop: &StopToken) -> Result<bool> {
        if self.progress.last != batch.last {
            self.progress = BatchProgress { last: batch.last, ..BatchProgress::default() };
        }
        while let Some(pending) = self.pending(batch) {
            if stop.stopping() || !self.send_next(batch, &pending)? {
                return Ok(false);
            }
        }
        // Others were sent before, which shows whether the server is up.
        let suspects: Vec<i64> = batch.series.keys().copied().filter(|id| !self.progress.done.contains(id)).collect();
        for id in suspects {
            if !self.suspects.get(&id).is_some_and(SuspectRecord::is_due) || !self.retry(batch, id)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Returns the series that are neither done nor suspected; `None` if there are none.
    fn pending(&self, batch: &Batch) -> Option<Vec<i64>> {
        let is_pending = |id: &i64| !self.progress.done.contains(id) && !self.suspects.contains_key(id);
        let pending: Vec<i64> = batch.series.keys().copied().filter(is_pending).collect();
        (!pending.is_empty()).then_some(pending)
    }

    /// Sends the first of these series. Returns `false` if the server may be down.
    fn send_next(&mut self, batch: &Batch, ids: &[i64]) -> Result<bool> {
        let (request, count) = self.build_request(&batch.series, batch.at, ids)?;
        match self.post(&request, &ids[..count])? {
            Delivery::Accepted => {}
            Delivery::Rejected { .. } if count > 1 => self.pacing.split(count),
            Delivery::Rejected { reason } => self.skip(ids[0], request.samples(), reason),
            Delivery::Retry { after, reason } => match self.pacing.after_failure(count, after) {
                AfterFailure::Split => self.pacing.split(count),
                AfterFailure::Probe if self.probe(batch, &ids[1..])? => {
                    log::warn!("remote write: the server fails with series {}, will retry it later: {reason}", ids[0]);
                    self.suspects.insert(ids[0], SuspectRecord::new(1, self.accepted));
                    self.collector.remote.stuck(self.suspects.len());
                }
                AfterFailure::Probe | AfterFailure::Wait => {
                    self.collector.remote.failed(reason);
                    self.pacing.wait(after);
                    return Ok(false);
                }
            },
        }
        Ok(true)
    }

    /// Sends a series with which the server failed before. Returns `false` if it is to be sent again later.
    fn retry(&mut self, batch: &Batch, id: i64) -> Result<bool> {
        let (request, _) = self.build_request(&batch.series, batch.at, &[id])?;
        match self.post(&request, &[id])? {
            Delivery::Accepted => {
                self.suspects.remove(&id);
                self.collector.remote.stuck(self.suspects.len());
            }
            Delivery::Rejected { reason } => {
                self.suspects.remove(&id);
                self.collector.remote.stuck(self.suspects.len());
                self.skip(id, request.samples(), reason);
            }
            Delivery::Retry { reason, .. } => {
                let is_passed = self.suspects.get(&id).is_some_and(|suspect| suspect.has_been_passed(self.accepted));
                if !is_passed {
                    self.probe(batch, &[])?;
                }
                if !self.suspects.get_mut(&id).is_some_and(|suspect| suspect.failed(self.accepted)) {
                    return Ok(false);
                }
                // It stays a suspect, so that in later batches one attempt is enough.
                self.skip(id, request.samples(), reason);
            }
        }
        Ok(true)
    }

    /// Returns whether the server accepts another series: one that it has accepted in this batch, or else one of `others`. A
    /// repeated sample is identical to the first.
    fn probe(&mut self, batch: &Batch, others: &[i64]) -> Result<bool> {
        let other = (!others.is_empty()).then(|| others[self.next_probe % others.len()]);
        self.next_probe += 1;
        let Some(id) = self.progress.accepted_series.or(other) else { return Ok(false) };
        let (request, _) = self.build_request(&batch.series, batch.at, &[id])?;
        Ok(self.post(&request, &[id])? == Delivery::Accepted)
    }

    /// Builds a request with the first of these series that fit, at least one. Returns their number. `at` is in ms since 1970.
    fn build_request(
        &mut self,
        series: &BTreeMap<i64, BatchSeries>,
        at: i64,
        ids: &[i64],
    ) -> Result<(WriteRequest, usize)> {
        let reader = self.collector.core.readers.acquire()?;
        let (mut request, mut count) = (WriteRequest::default(), 0);
        for id in &ids[..ids.len().min(self.pacing.records_max())] {
            let Some(series) = series.get(id) else { continue };
            let BatchSeries { key, totals, .. } = series;
            let (name, labeled_key) = self.names.get(&reader, *id, key)?;
            let before = request.mark();
            request.add(&name, labeled_key.as_ref().unwrap_or(key), totals, series.sample_times(at));
            if request.bytes() > REQUEST_BYTES_MAX && count > 0 {
                request.truncate(before);
                break;
            }
            count += 1;
            if request.samples() >= SAMPLES_PER_REQUEST {
                break;
            }
        }
        Ok((request, count))
    }

    /// Posts a request with the samples of these series, and records that the server responded.
    fn post(&mut self, request: &WriteRequest, ids: &[i64]) -> Result<Delivery> {
        let delivery = self.sink.post(&protocol::HEADERS, &request.compress()?);
        match delivery {
            Delivery::Accepted => {
                self.accepted += 1;
                self.next_probe = 0;
                self.pacing.accepted();
                self.collector.remote.recovered();
                self.progress.accepted_series = ids.first().copied();
                // A probe can repeat a series.
                if !ids.iter().all(|id| self.progress.done.contains(id)) {
                    self.progress.sent += request.samples() as i64;
                    self.progress.done.extend(ids);
                }
            }
            Delivery::Rejected { .. } => {
                self.pacing.answered();
                self.collector.remote.recovered();
            }
            Delivery::Retry { .. } => {}
        }
        Ok(delivery)
    }

    /// Skips the samples of a series in this batch.
    fn skip(&mut self, id: i64, samples: usize, reason: String) {
        self.collector.remote.rejected(samples, "samples", reason);
        self.progress.rejected += samples as i64;
        self.progress.done.insert(id);
    }
}
