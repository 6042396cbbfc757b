//! Threads that forward reports to the upstreams while the page waits for the response.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::forward_budget::LARGE_BODY_BYTES;
use super::outbox::Outbox;
use super::upstream::{CONCURRENT_REQUESTS, OutboundRequest, UpstreamResult};
use crate::background;
use crate::error::{Error, Result};
use crate::http::{Responder, Response};

/// Maximum small reports that wait for a thread; further ones go to the outbox.
const QUEUE_MAX: usize = 64;
/// Maximum large reports that wait for their thread; further ones go to the outbox.
const LARGE_QUEUE_MAX: usize = 1;

type Queue = Sender<(OutboundRequest, Responder)>;

/// Handle of the forwarding threads, which end when it is dropped.
pub(super) struct DirectForwarder {
    small: Queue,
    /// Queue of one thread, so that large bodies never occupy the threads for small ones.
    large: Queue,
    outbox: Arc<Outbox>,
}

impl DirectForwarder {
    /// Starts the forwarding threads. They wait for the upstreams, so that no worker has to.
    ///
    /// # Errors
    /// Fails if the system refuses a thread.
    pub(super) fn start(outbox: Arc<Outbox>) -> Result<Self> {
        let (small, requests) = bounded(QUEUE_MAX);
        for index in 0..CONCURRENT_REQUESTS {
            spawn(&format!("forward-{index}"), &outbox, &requests)?;
        }
        let (large, requests) = bounded(LARGE_QUEUE_MAX);
        spawn("forward-large", &outbox, &requests)?;
        Ok(Self { small, large, outbox })
    }

    /// Queues a report for forwarding, or enqueues it in the outbox if its upstream is down or all threads are busy.
    /// Never blocks.
    pub(super) fn send(&self, request: OutboundRequest, responder: Responder) {
        if self.outbox.state(request.kind).is_down() {
            return self.outbox.enqueue(request, responder);
        }
        let queue = if request.body.len() > LARGE_BODY_BYTES { &self.large } else { &self.small };
        if let Err(TrySendError::Full((request, responder)) | TrySendError::Disconnected((request, responder))) =
            queue.try_send((request, responder))
        {
            self.outbox.enqueue(request, responder);
        }
    }
}

fn spawn(name: &str, outbox: &Arc<Outbox>, requests: &Receiver<(OutboundRequest, Responder)>) -> Result<()> {
    let (outbox, requests) = (Arc::clone(outbox), requests.clone());
    let run = move || requests.iter().for_each(|(request, responder)| forward(&outbox, request, responder));
    background::spawn_critical(name, run)
        .map_err(|why| Error::Internal(format!("cannot start a forwarding thread: {why}")))?;
    Ok(())
}

/// Forwards a report and sends the upstream's response to the page, or enqueues the report.
fn forward(outbox: &Outbox, request: OutboundRequest, responder: Responder) {
    let kind = request.kind;
    // Another thread may have found the upstream down while this report was queued.
    if outbox.state(kind).is_down() {
        return outbox.enqueue(request, responder);
    }
    match outbox.post(&request) {
        UpstreamResult::Responded { status, body } => {
            outbox.state(kind).record_success(kind);
            responder.send(Response::new(status, "application/json", body));
        }
        // The upstream is up, so other clients must not be sent to the outbox.
        UpstreamResult::RateLimited => outbox.enqueue(request, responder),
        UpstreamResult::Failed(failure) => {
            outbox.state(kind).record_failure(kind, &failure, true);
            outbox.enqueue(request, responder);
        }
    }
}
