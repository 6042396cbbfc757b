//! State of an upstream as the last attempts showed it.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::upstream::{UpstreamFailure, UpstreamKind};

/// Failures of different reports without a success between them after which an upstream that responds counts as down. One
/// report alone can be the cause of its failures.
const FAILURES_UNTIL_DOWN: u32 = 3;

/// State of an upstream, which all threads that send to it update.
#[derive(Debug, Default)]
pub(super) struct UpstreamState {
    /// Set while the upstream is down. New reports are then enqueued without an attempt. As soon as the upstream responds,
    /// new reports overtake the waiting ones; otherwise the outbox would never drain under load.
    is_down: AtomicBool,
    /// Failures of different reports since the last success.
    failures: AtomicU32,
    /// Decided reports since the start of the service.
    successes: AtomicU64,
    last_failure: Mutex<Option<UpstreamFailure>>,
}

impl UpstreamState {
    pub(super) fn is_down(&self) -> bool {
        self.is_down.load(Ordering::Relaxed)
    }

    /// Makes new reports be forwarded directly again.
    pub(super) fn try_directly(&self) {
        self.is_down.store(false, Ordering::Relaxed);
    }

    /// Returns the number of reports that the upstream has decided about.
    pub(super) fn successes(&self) -> u64 {
        self.successes.load(Ordering::Relaxed)
    }

    /// Returns the last failure, or `None` after a success.
    pub(super) fn last_failure(&self) -> Option<UpstreamFailure> {
        self.last_failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Records that the upstream decided about a report.
    pub(super) fn record_success(&self, kind: UpstreamKind) {
        self.successes.fetch_add(1, Ordering::Relaxed);
        self.failures.store(0, Ordering::Relaxed);
        self.is_down.store(false, Ordering::Relaxed);
        if self.last_failure.lock().unwrap_or_else(PoisonError::into_inner).take().is_some() {
            log::info!("outbox: the {} accepts reports again", kind.service());
        }
    }

    /// Records a failed attempt. `is_first` says whether it is the first of this report. Logs only the first of a series.
    pub(super) fn record_failure(&self, kind: UpstreamKind, failure: &UpstreamFailure, is_first: bool) {
        // Without a response, each further report would make its page wait for the timeout.
        let is_silent = failure.status.is_none();
        if is_first && (self.failures.fetch_add(1, Ordering::Relaxed) + 1 >= FAILURES_UNTIL_DOWN || is_silent) {
            self.is_down.store(true, Ordering::Relaxed);
        }
        let previous = self.last_failure.lock().unwrap_or_else(PoisonError::into_inner).replace(failure.clone());
        if previous.is_none_or(|previous| previous.status != failure.status) {
            let (service, reason) = (kind.service(), &failure.reason);
            let hint = if failure.is_key_rejected() { "; it rejects the relay's API key" } else { "" };
            log::warn!("outbox: delivery to the {service} failed, will retry: {reason}{hint}");
        }
    }
}
