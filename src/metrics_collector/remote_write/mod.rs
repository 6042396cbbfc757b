//! Prometheus remote write: sends running totals of counters and histograms and the last values of gauges to another
//! server.
//!
//! Points are sent in the order of arrival, in batches of one sample interval. The running totals are stored together
//! with the id of the last point that the server accepted. Each point therefore counts once, regardless of retries and
//! crashes.

mod batch;
mod commands;
mod protocol;
mod series_names;

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::state::Collector;
use crate::background::{Job, StopToken};
use crate::client::{Backoff, Delivery};
use crate::clock::Timestamp;
use crate::db::{Writer, counter};
use crate::error::Result;
use crate::forward::{HttpSink, new_backoff};
use batch::{Batch, SAMPLE_INTERVAL};
pub(super) use commands::ResetState;
use commands::{ClaimBatch, CommitBatch, StartFromNow};
use protocol::WriteRequest;
use series_names::SeriesNames;

const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Number of samples that complete a request. A sample has about 200 bytes before compression.
const SAMPLES_PER_REQUEST: usize = 2_000;

/// Returns the job that sends new points to the server. It retries after a failure.
pub(super) fn job(collector: &Arc<Collector>, sink: HttpSink) -> Job {
    let (backoff, names, sent_at) = (new_backoff(), SeriesNames::default(), Instant::now());
    let mut sender = Sender { collector: Arc::clone(collector), sink, backoff, names, sent_at };
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
    backoff: Backoff,
    names: SeriesNames,
    /// Time at which the last batch was accepted.
    sent_at: Instant,
}

impl Sender {
    /// Sends batches until there is nothing to send, or until the server does not accept one.
    fn send_new_points(&mut self, stop: &StopToken) -> Result<()> {
        let collector = Arc::clone(&self.collector);
        let writer = &collector.core.writer;
        while self.backoff.is_ready(Instant::now()) && !stop.stopping() {
            let reader = collector.core.readers.acquire()?;
            if counter(&reader, "remote_on")? == 0 {
                drop(reader);
                writer.run(StartFromNow { now: Timestamp::now() })?;
                continue;
            }
            let is_due = self.sent_at.elapsed() >= SAMPLE_INTERVAL;
            let Some(batch) = Batch::next(&reader, is_due)? else { return Ok(()) };
            drop(reader);
            if !batch.is_claimed {
                writer.run(ClaimBatch { last: batch.last, now: Timestamp::now() })?;
                // The next iteration reads the claimed batch, whose timestamp depends on the time of the claim.
                continue;
            }
            if !self.send(batch, writer)? {
                return Ok(());
            }
            self.sent_at = Instant::now();
        }
        Ok(())
    }

    /// Sends a batch and records it as sent. Returns whether the server accepted or permanently rejected all of it.
    fn send(&mut self, batch: Batch, writer: &Writer) -> Result<bool> {
        let (mut sent, mut rejected) = (0, 0);
        let mut request = WriteRequest::default();
        let mut series = batch.series.iter().peekable();
        while let Some((id, (key, totals))) = series.next() {
            let (name, labeled_key) = {
                let reader = self.collector.core.readers.acquire()?;
                self.names.get(&reader, *id, key)?
            };
            request.add(&name, labeled_key.as_ref().unwrap_or(key), totals, batch.at);
            if series.peek().is_some() && request.samples() < SAMPLES_PER_REQUEST {
                continue;
            }
            let samples = i64::try_from(request.samples()).unwrap_or(i64::MAX);
            match self.sink.post(&protocol::HEADERS, &std::mem::take(&mut request).compress()?) {
                Delivery::Accepted => sent += samples,
                Delivery::Rejected { reason } => {
                    log::warn!("remote write: the server rejected {samples} samples, skipping them: {reason}");
                    rejected += samples;
                }
                Delivery::Retry { after, reason } => {
                    self.backoff.record_failure(Instant::now(), after);
                    self.collector.remote.failed(reason);
                    return Ok(false);
                }
            }
        }
        self.backoff.reset();
        self.collector.remote.recovered();
        let totals = batch.series.into_iter().map(|(id, (_, totals))| (id, totals)).collect();
        writer.run(CommitBatch { last: batch.last, at: batch.at, totals, sent, rejected })?;
        Ok(true)
    }
}
