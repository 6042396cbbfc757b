//! Delivery of the reports in the outbox.
//!
//! A pass takes one report of each project in turn, the oldest first, so that no project waits for the backlog of another.
//! A report that fails while others succeed is skipped, tried again after growing delays, and set aside after five attempts.
//! While nothing succeeds, the upstream is down and no attempt counts; a pass then tries the oldest report and a few others,
//! because the oldest may be the only one that fails. A rate-limited client does not delay the reports of others.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::outbox::Outbox;
use super::outbox_commands::{RecordFailedAttempt, RemoveFromOutbox};
use super::outbox_store::{self, OutboxItem};
use super::upstream::{UpstreamFailure, UpstreamKind, UpstreamResult};
use crate::background::{Job, StopToken};
use crate::client::Backoff;
use crate::clock::Timestamp;
use crate::db::vacuum;
use crate::error::Result;

/// Delay after a pass without success; it doubles with each further one.
const BACKOFF_MIN: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// Failures without a success between them after which a pass ends.
const FAILURES_IN_A_ROW_MAX: usize = 3;
/// Failures of one project after which a pass leaves its other reports alone.
const FAILURES_OF_PROJECT_MAX: usize = 3;
/// Delay of a report that failed while others succeeded; each further one is four times as long.
const RETRY_DELAY: Duration = Duration::from_secs(2);
const RETRY_DELAY_MAX: Duration = Duration::from_secs(600);
/// Maximum failing reports that are remembered. Beyond it, their delays end early.
const FAILING_MAX: usize = 10_000;

/// Minimum time between two passes over the outbox.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Returns the jobs that deliver the stored reports. Each upstream has its own job, so that neither waits for the other.
pub(super) fn jobs(outbox: &Arc<Outbox>) -> Vec<Job> {
    let job = |kind: UpstreamKind| {
        let outbox = Arc::clone(outbox);
        let mut delivery = Delivery::new(Arc::clone(&outbox), kind);
        let run = Box::new(move |stop: &StopToken| match delivery.run(stop) {
            Ok(PassResult::Empty) => {
                // The interval of the job follows the wakeup, so many wakeups do not cause more passes.
                let _ = stop.wait_for(outbox.wakeups(kind));
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

/// Result of a pass over the outbox.
enum PassResult {
    Empty,
    MayHaveItems,
}

/// Delivery to one upstream, owned by its job.
struct Delivery {
    outbox: Arc<Outbox>,
    kind: UpstreamKind,
    backoff: Backoff,
    /// Reports whose last attempt failed, by id.
    failing: HashMap<i64, FailingReport>,
    /// Project with which the next pass starts, so that failing reports of some projects do not hide the others.
    first_project: String,
    /// The report that was tried last in addition to the oldest one while nothing succeeded.
    probed_id: i64,
}

/// A report whose last attempt failed.
struct FailingReport {
    /// Number of reports that the upstream had decided about by then.
    successes: u64,
    /// Failures while others succeeded.
    confirmed: u32,
    next_attempt: Instant,
}

/// The reports of one project in a pass.
struct ProjectQueue {
    project: String,
    /// Id of the last report that was looked at.
    after: i64,
    failures: usize,
    is_done: bool,
}

/// State of one pass.
#[derive(Default)]
struct Pass {
    queues: Vec<ProjectQueue>,
    rate_limited: HashSet<IpAddr>,
    has_succeeded: bool,
    failures_in_a_row: usize,
    /// Reports that failed since the last success.
    unconfirmed: Vec<i64>,
}

impl Pass {
    fn is_over(&self) -> bool {
        self.failures_in_a_row >= FAILURES_IN_A_ROW_MAX || self.queues.iter().all(|queue| queue.is_done)
    }
}

impl Delivery {
    fn new(outbox: Arc<Outbox>, kind: UpstreamKind) -> Self {
        let backoff = Backoff::new(BACKOFF_MIN, BACKOFF_MAX);
        Self { outbox, kind, backoff, failing: HashMap::new(), first_project: String::new(), probed_id: 0 }
    }

    /// Delivers the stored reports until none is left, the upstream fails or the service stops.
    ///
    /// # Errors
    /// Fails if the database cannot be read or vacuumed.
    fn run(&mut self, stop: &StopToken) -> Result<PassResult> {
        if !self.backoff.is_ready(Instant::now()) {
            return Ok(PassResult::MayHaveItems);
        }
        let mut pass = Pass { queues: self.queues()?, ..Pass::default() };
        while !pass.is_over() && !stop.stopping() {
            for index in 0..pass.queues.len() {
                let may_go_on = pass.failures_in_a_row < FAILURES_IN_A_ROW_MAX && !stop.stopping();
                if may_go_on && !pass.queues[index].is_done {
                    self.deliver_next(&mut pass, index)?;
                }
            }
        }
        self.finish(&pass);
        if pass.queues.is_empty() {
            return Ok(PassResult::Empty);
        }
        if pass.has_succeeded {
            // A report whose removal failed is still stored, and only another pass finds it.
            vacuum(&self.outbox.writer, || !stop.stopping())?;
        }
        Ok(PassResult::MayHaveItems)
    }

    /// Returns a queue for each project with stored reports, starting with another project than the last time.
    fn queues(&mut self) -> Result<Vec<ProjectQueue>> {
        let mut projects = outbox_store::waiting_projects(&*self.outbox.readers.acquire()?, self.kind)?;
        let first = projects.iter().position(|project| *project > self.first_project).unwrap_or(0);
        projects.rotate_left(first);
        self.first_project = projects.first().cloned().unwrap_or_default();
        let queue = |project| ProjectQueue { project, after: 0, failures: 0, is_done: false };
        Ok(projects.into_iter().map(queue).collect())
    }

    /// Tries to deliver the next report of a project.
    fn deliver_next(&mut self, pass: &mut Pass, index: usize) -> Result<()> {
        let Some(item) = self.next_item(pass, index)? else {
            pass.queues[index].is_done = true;
            return Ok(());
        };
        pass.queues[index].after = item.id;
        match self.outbox.post(&item.request) {
            UpstreamResult::Responded { status, .. } => {
                pass.queues[index].failures = 0;
                self.record_delivery(pass, item.id, status);
            }
            UpstreamResult::RateLimited => {
                pass.rate_limited.insert(item.request.client);
            }
            UpstreamResult::Failed(failure) => self.record_failure(pass, index, &item, failure),
        }
        Ok(())
    }

    /// Returns the next report of a project that may be tried now.
    fn next_item(&mut self, pass: &mut Pass, index: usize) -> Result<Option<OutboxItem>> {
        let queue = &mut pass.queues[index];
        // While nothing succeeds, every pass tries another report besides the oldest one.
        let is_probe = !pass.has_succeeded && queue.failures > 0;
        if is_probe {
            queue.after = queue.after.max(self.probed_id);
        }
        let (reader, now) = (self.outbox.readers.acquire()?, Instant::now());
        while let Some((id, client)) = outbox_store::next_outbox_id(&reader, self.kind, &queue.project, queue.after)? {
            queue.after = id;
            let is_delayed = self.failing.get(&id).is_some_and(|failing| failing.next_attempt > now);
            if is_delayed || pass.rate_limited.contains(&client) {
                continue;
            }
            if is_probe {
                self.probed_id = id;
            }
            // Another command may have removed it.
            if let Some(item) = outbox_store::outbox_item(&reader, self.kind, id)? {
                return Ok(Some(item));
            }
        }
        if is_probe {
            self.probed_id = 0;
        }
        Ok(None)
    }

    /// Removes a report that the upstream has decided about.
    ///
    /// The report is removed asynchronously. If the process ends before that, it is delivered again with the same
    /// idempotency key, which changes nothing.
    fn record_delivery(&mut self, pass: &mut Pass, id: i64, status: u16) {
        let kind = self.kind;
        let is_accepted = (200..300).contains(&status);
        if !is_accepted {
            self.outbox.count_rejected();
            log::warn!("outbox: the {} rejected a report: HTTP {status}; it is dropped", kind.service());
        }
        self.outbox.state(kind).record_success(kind);
        self.failing.remove(&id);
        let log_outcome = |outcome| {
            if let Err(why) = outcome {
                log::warn!("outbox: removing a delivered report failed: {why}; it will be delivered again");
            }
        };
        let remove = RemoveFromOutbox { id, is_accepted };
        let is_first = !std::mem::replace(&mut pass.has_succeeded, true);
        pass.failures_in_a_row = 0;
        if is_first && !pass.unconfirmed.is_empty() {
            // The upstream may have recovered in between, so the older reports are tried again before newer ones. This
            // report must be gone by then.
            log_outcome(self.outbox.writer.run(remove));
            pass.unconfirmed.clear();
            for queue in pass.queues.iter_mut().filter(|queue| queue.failures > 0) {
                (queue.after, queue.failures, queue.is_done) = (0, 0, false);
            }
            return;
        }
        self.outbox.writer.submit(remove, log_outcome);
        for id in pass.unconfirmed.drain(..) {
            if let Some(failing) = self.failing.get_mut(&id) {
                failing.next_attempt = Instant::now() + retry_delay(failing.confirmed);
            }
        }
    }

    /// Records a failed attempt, and sets the report aside if it has failed too often while others succeeded.
    fn record_failure(&mut self, pass: &mut Pass, index: usize, item: &OutboxItem, failure: UpstreamFailure) {
        let (kind, id) = (self.kind, item.id);
        let state = self.outbox.state(kind);
        let successes = state.successes();
        let previous = self.failing.get(&id);
        state.record_failure(kind, &failure, previous.is_none());
        let queue = &mut pass.queues[index];
        queue.failures += 1;
        queue.is_done |= queue.failures >= FAILURES_OF_PROJECT_MAX;
        // Others succeeded since the previous attempt, so this one fails because of the report and not of the upstream.
        let is_confirmed = previous.is_some_and(|previous| successes > previous.successes);
        let confirmed = previous.map_or(0, |previous| previous.confirmed) + u32::from(is_confirmed);
        let now = Instant::now();
        let next_attempt = if is_confirmed { now + retry_delay(confirmed) } else { now };
        if self.failing.len() >= FAILING_MAX {
            self.failing.clear();
        }
        self.failing.insert(id, FailingReport { successes, confirmed, next_attempt });
        if !is_confirmed {
            pass.failures_in_a_row += 1;
            pass.unconfirmed.push(id);
            return;
        }
        let UpstreamFailure { status, reason } = failure;
        let bounds = self.outbox.bounds;
        let record = RecordFailedAttempt { id, status, reason: reason.clone(), bounds, now: Timestamp::now() };
        match self.outbox.writer.run(record) {
            Ok(false) => {}
            Ok(true) => {
                self.failing.remove(&id);
                log::warn!(
                    "outbox: a report failed repeatedly at the {} while others succeeded: {reason}; it becomes a dead letter",
                    kind.service()
                );
            }
            Err(why) => log::warn!("outbox: recording a failed attempt failed: {why}; the report will be tried again"),
        }
    }

    /// Decides when the next pass starts, and whether new reports are forwarded directly.
    fn finish(&mut self, pass: &Pass) {
        if pass.failures_in_a_row > 0 {
            self.backoff.record_failure(Instant::now(), None);
            return;
        }
        self.outbox.state(self.kind).try_directly();
        self.backoff.reset();
        if !pass.rate_limited.is_empty() {
            self.backoff.delay_until(Instant::now() + BACKOFF_MIN);
        }
    }
}

/// Returns the delay of a report after this number of confirmed failures.
fn retry_delay(confirmed: u32) -> Duration {
    RETRY_DELAY.saturating_mul(4u32.saturating_pow(confirmed.saturating_sub(1))).min(RETRY_DELAY_MAX)
}
