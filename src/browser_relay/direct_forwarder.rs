//! Threads that forward reports to the upstreams while the page waits for the response.

use std::sync::Arc;

use super::fair_queue::FairQueue;
use super::forward_budget::{BodyReservation, LARGE_BODY_BYTES};
use super::outbox::Outbox;
use super::upstream::{CONCURRENT_REQUESTS, OutboundRequest, UpstreamKind, UpstreamResult};
use crate::background;
use crate::error::{Error, Result};
use crate::http::{Responder, Response};

/// Maximum small reports that wait for a thread of their upstream; further ones go to the outbox. A project that is alone may
/// use half.
const WAITING_MAX: usize = 128;
/// Maximum large reports that wait for their thread; further ones go to the outbox.
const LARGE_WAITING_MAX: usize = 2;

type Queue = Arc<FairQueue<(OutboundRequest, Responder)>>;

/// Handle of the forwarding threads, which end when it is dropped.
pub(super) struct DirectForwarder {
    /// A queue for each upstream, so that neither waits for the other, in the order of [`UpstreamKind::ALL`].
    small: [Queue; 2],
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
        let small = UpstreamKind::ALL.map(|_| Arc::new(FairQueue::new(CONCURRENT_REQUESTS, WAITING_MAX)));
        let large = Arc::new(FairQueue::new(1, LARGE_WAITING_MAX));
        let forwarder = Self { small, large, outbox };
        for kind in UpstreamKind::ALL {
            for index in 0..CONCURRENT_REQUESTS {
                spawn(&format!("forward-{}-{index}", kind.id()), &forwarder.outbox, &forwarder.small[kind as usize])?;
            }
        }
        spawn("forward-large", &forwarder.outbox, &forwarder.large)?;
        Ok(forwarder)
    }

    /// Queues a report for forwarding, or enqueues it in the outbox if its upstream is down, or if its project has used up
    /// its part of the memory or of the queue. Never blocks.
    pub(super) fn send(&self, request: OutboundRequest, responder: Responder) {
        let may_wait = request.reservation.as_ref().is_some_and(BodyReservation::may_wait_for_upstream);
        if !may_wait || self.outbox.state(request.kind).is_down() {
            return self.outbox.enqueue(request, responder);
        }
        let is_large = request.body.len() > LARGE_BODY_BYTES;
        let queue = if is_large { &self.large } else { &self.small[request.kind as usize] };
        let project = request.project.clone();
        if let Err((request, responder)) = queue.push(&project, (request, responder)) {
            self.outbox.enqueue(request, responder);
        }
    }
}

impl Drop for DirectForwarder {
    fn drop(&mut self) {
        self.small.iter().chain([&self.large]).for_each(|queue| queue.close());
    }
}

fn spawn(name: &str, outbox: &Arc<Outbox>, queue: &Queue) -> Result<()> {
    let (outbox, queue) = (Arc::clone(outbox), Arc::clone(queue));
    let run = move || {
        while let Some((project, (request, responder))) = queue.take() {
            forward(&outbox, request, responder);
            queue.finish(&project);
        }
    };
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
            let body = if status < 300 { request.with_adjusted(body) } else { body };
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
