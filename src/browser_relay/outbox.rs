//! Outbox: stores the reports that an upstream cannot accept now, until a delivery job delivers them.
//!
//! A report is delivered at least once, always with the same idempotency key, so the upstream does not count it twice.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::forward_budget::LARGE_BODY_BYTES;
use super::outbox_commands::{EnqueueOutbox, OutboxBounds};
use super::upstream::{OutboundRequest, Upstream, UpstreamKind, UpstreamResult};
use super::upstream_state::UpstreamState;
use crate::clock::Timestamp;
use crate::db::{ReaderPool, Writer};
use crate::http::{Responder, Response};

/// The outbox and the upstreams that it delivers to.
pub(super) struct Outbox {
    upstreams: [Upstream; 2],
    states: [UpstreamState; 2],
    pub(super) writer: Writer,
    pub(super) readers: ReaderPool,
    pub(super) bounds: OutboxBounds,
    /// Held while a large body is sent, so that there is one at a time.
    large_body: Mutex<()>,
    /// Reports from the outbox that an upstream has rejected since the start of the service.
    pub(super) rejected: AtomicU64,
    /// Wakes the delivery job of an upstream. One pending message is enough.
    wakeups: [(Sender<()>, Receiver<()>); 2],
}

impl Outbox {
    /// Creates an outbox. `upstreams` are in the order of [`UpstreamKind::ALL`].
    pub(super) fn new(upstreams: [Upstream; 2], writer: Writer, readers: ReaderPool, bounds: OutboxBounds) -> Self {
        Self {
            upstreams,
            states: Default::default(),
            writer,
            readers,
            bounds,
            large_body: Mutex::default(),
            rejected: AtomicU64::default(),
            wakeups: [bounded(1), bounded(1)],
        }
    }

    /// Returns the channel that receives a message when a report was stored for an upstream.
    pub(super) fn wakeups(&self, kind: UpstreamKind) -> &Receiver<()> {
        &self.wakeups[kind as usize].1
    }

    /// Returns what is known about an upstream.
    pub(super) fn state(&self, kind: UpstreamKind) -> &UpstreamState {
        &self.states[kind as usize]
    }

    /// Posts a report to its upstream. Waits while another large body is sent if this one is large.
    pub(super) fn post(&self, request: &OutboundRequest) -> UpstreamResult {
        let is_large = request.body.len() > LARGE_BODY_BYTES;
        let _guard = is_large.then(|| self.large_body.lock().unwrap_or_else(PoisonError::into_inner));
        self.upstreams[request.kind as usize].post(request)
    }

    /// Stores a report and then sends the response 202.
    pub(super) fn enqueue(&self, request: OutboundRequest, responder: Responder) {
        let wakeup = self.wakeups[request.kind as usize].0.clone();
        let queued = request.with_adjusted(br#"{"status":"queued"}"#.to_vec());
        let enqueue = EnqueueOutbox { request, bounds: self.bounds, now: Timestamp::now() };
        self.writer.submit(enqueue, move |outcome| {
            // Also wakes the job if the write failed, because only the job detects that the upstream has recovered. If the
            // channel is full, a wakeup is already pending.
            let _ = wakeup.try_send(());
            responder.send(match outcome {
                Ok(()) => Response::new(202, "application/json", queued),
                Err(why) => why.into(),
            });
        });
    }

    /// Wakes the delivery job of an upstream.
    pub(super) fn wake(&self, kind: UpstreamKind) {
        // If the channel is full, a wakeup is already pending.
        let _ = self.wakeups[kind as usize].0.try_send(());
    }

    /// Counts a report from the outbox that its upstream rejected.
    pub(super) fn count_rejected(&self) {
        self.rejected.fetch_add(1, Ordering::Relaxed);
    }
}
