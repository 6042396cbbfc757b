//! Outbox: stores the reports that an upstream cannot accept now, and delivers them later.
//!
//! A report is delivered at least once, always with the same idempotency key, so the upstream does not count it twice. The
//! oldest report is delivered first. A rate-limited client does not delay the reports of others.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::commands::{EnqueueOutbox, RemoveFromOutbox};
use super::store;
use super::upstream::{OutboundRequest, Upstream, UpstreamKind, UpstreamResult};
use crate::background::{Job, StopToken};
use crate::client::Backoff;
use crate::clock::Timestamp;
use crate::db::{ReaderPool, Writer, vacuum};
use crate::error::Result;
use crate::http::{Responder, Response};

/// Minimum time between two passes over the outbox.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// Delay after the first failed delivery; it doubles with each further failure.
const BACKOFF_MIN: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// The outbox and the upstreams that it delivers to.
pub(super) struct Outbox {
    upstreams: [Upstream; 2],
    writer: Writer,
    readers: ReaderPool,
    bytes_max: i64,
    /// Set while an upstream is unavailable. New reports are then enqueued without an attempt. As soon as the
    /// upstream responds, new reports overtake the waiting ones; otherwise the outbox would never drain under load.
    down: [AtomicBool; 2],
    /// Wakes the delivery job of an upstream. One pending message is enough.
    wakeups: [(Sender<()>, Receiver<()>); 2],
}

/// Result of a pass over the outbox.
enum PassResult {
    Empty,
    MayHaveItems,
}

impl Outbox {
    /// Creates an outbox of at most `bytes_max` bytes. `upstreams` are in the order of [`UpstreamKind::ALL`].
    pub(super) fn new(upstreams: [Upstream; 2], writer: Writer, readers: ReaderPool, bytes_max: i64) -> Self {
        let (down, wakeups) = (Default::default(), [bounded(1), bounded(1)]);
        Self { upstreams, writer, readers, bytes_max, down, wakeups }
    }

    /// Returns the jobs that deliver the stored reports. Each upstream has its own job, so that neither waits for the
    /// other.
    pub(super) fn jobs(outbox: &Arc<Self>) -> Vec<Job> {
        let job = |kind: UpstreamKind| {
            let outbox = Arc::clone(outbox);
            let mut backoff = Backoff::new(BACKOFF_MIN, BACKOFF_MAX);
            let run = Box::new(move |stop: &StopToken| match outbox.deliver(kind, &mut backoff, stop) {
                Ok(PassResult::Empty) => {
                    // The interval of the job follows the wakeup, so many wakeups do not cause more passes.
                    let _ = stop.wait_for(&outbox.wakeups[kind as usize].1);
                }
                Ok(PassResult::MayHaveItems) => {}
                Err(why) => log::warn!("outbox: reading or vacuuming the database failed: {why}; will retry"),
            });
            let name = match kind {
                UpstreamKind::Errors => "outbox-errors",
                UpstreamKind::Metrics => "outbox-metrics",
            };
            Job { name, interval: POLL_INTERVAL, run }
        };
        UpstreamKind::ALL.map(job).into()
    }

    pub(super) fn upstream(&self, kind: UpstreamKind) -> &Upstream {
        &self.upstreams[kind as usize]
    }

    pub(super) fn is_down(&self, kind: UpstreamKind) -> bool {
        self.down[kind as usize].load(Ordering::Relaxed)
    }

    pub(super) fn set_down(&self, kind: UpstreamKind, down: bool) {
        self.down[kind as usize].store(down, Ordering::Relaxed);
    }

    /// Stores a report and then sends the response 202.
    pub(super) fn enqueue(&self, request: OutboundRequest, responder: Responder) {
        let wakeup = self.wakeups[request.kind as usize].0.clone();
        let enqueue = EnqueueOutbox { request, bytes_max: self.bytes_max, now: Timestamp::now() };
        self.writer.submit(enqueue, move |outcome| {
            // Also wakes the job if the write failed, because only the job detects that the upstream has recovered. If the
            // channel is full, a wakeup is already pending.
            let _ = wakeup.try_send(());
            responder.send(match outcome {
                Ok(()) => Response::new(202, "application/json", br#"{"status":"queued"}"#.to_vec()),
                Err(why) => why.into(),
            });
        });
    }

    /// Delivers the reports for an upstream, oldest first, until none is left or the upstream fails. Skips the reports of
    /// rate-limited clients.
    ///
    /// A delivered report is removed asynchronously. If the process ends before that, the report is delivered again with
    /// the same idempotency key, which changes nothing.
    fn deliver(&self, kind: UpstreamKind, backoff: &mut Backoff, stop: &StopToken) -> Result<PassResult> {
        if !backoff.is_ready(Instant::now()) {
            return Ok(PassResult::MayHaveItems);
        }
        let (mut last_id, mut rate_limited) = (0, HashSet::new());
        while !stop.stopping() {
            let Some(item) = store::next_outbox_item(&*self.readers.acquire()?, kind, last_id)? else { break };
            last_id = item.id;
            if rate_limited.contains(&item.request.client) {
                continue;
            }
            let status = match self.upstream(kind).post(&item.request) {
                UpstreamResult::Responded { status, .. } => status,
                UpstreamResult::RateLimited => {
                    rate_limited.insert(item.request.client);
                    continue;
                }
                UpstreamResult::Unavailable(why) => {
                    self.set_down(kind, true);
                    record_failure(backoff, kind, &why);
                    return Ok(PassResult::MayHaveItems);
                }
                UpstreamResult::KeyRejected(status) => {
                    record_failure(backoff, kind, &format!("HTTP {status}, the relay's API key is rejected"));
                    return Ok(PassResult::MayHaveItems);
                }
            };
            self.set_down(kind, false);
            let is_accepted = (200..300).contains(&status);
            if !is_accepted {
                log::warn!("outbox: the {} rejected a report: HTTP {status}; it is dropped", kind.service());
            }
            self.writer.submit(RemoveFromOutbox { id: item.id, is_accepted }, |outcome| {
                if let Err(why) = outcome {
                    log::warn!("outbox: removing a delivered report failed: {why}; it will be delivered again");
                }
            });
        }
        self.set_down(kind, false);
        backoff.reset();
        if !rate_limited.is_empty() {
            backoff.delay_until(Instant::now() + BACKOFF_MIN);
        }
        if last_id == 0 {
            return Ok(PassResult::Empty);
        }
        // A report whose removal failed is still stored, and only another pass finds it.
        vacuum(&self.writer, || !stop.stopping())?;
        Ok(PassResult::MayHaveItems)
    }
}

/// Delays the next delivery. Logs only the first failure of a series.
fn record_failure(backoff: &mut Backoff, kind: UpstreamKind, why: &str) {
    if !backoff.is_failing() {
        log::warn!("outbox: delivery to the {} failed, will retry: {why}", kind.service());
    }
    backoff.record_failure(Instant::now(), None);
}
