//! Threads that forward reports to the upstreams while the page waits for the response.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::outbox::Outbox;
use super::upstream::{CONCURRENT_REQUESTS, OutboundRequest, UpstreamResult};
use crate::background;
use crate::error::{Error, Result};
use crate::http::{Responder, Response};

/// Maximum reports that wait for a thread; further ones go to the outbox.
const QUEUE_MAX: usize = 64;

/// Handle of the forwarding threads, which end when it is dropped.
pub(super) struct DirectForwarder {
    queue: Sender<(OutboundRequest, Responder)>,
    outbox: Arc<Outbox>,
}

impl DirectForwarder {
    /// Starts the forwarding threads, which share one queue. They wait for the upstreams, so that no worker has to.
    ///
    /// # Errors
    /// Fails if the system refuses a thread.
    pub(super) fn start(outbox: Arc<Outbox>) -> Result<Self> {
        let (queue, requests) = bounded(QUEUE_MAX);
        for index in 0..CONCURRENT_REQUESTS {
            let outbox = Arc::clone(&outbox);
            let requests: Receiver<(OutboundRequest, Responder)> = requests.clone();
            let run = move || requests.iter().for_each(|(request, responder)| forward(&outbox, request, responder));
            background::spawn_critical(&format!("forward-{index}"), run)
                .map_err(|why| Error::Internal(format!("cannot start a forwarding thread: {why}")))?;
        }
        Ok(Self { queue, outbox })
    }

    /// Queues a report for forwarding, or enqueues it in the outbox if its upstream is down or all threads are busy.
    /// Never blocks.
    pub(super) fn send(&self, request: OutboundRequest, responder: Responder) {
        if self.outbox.is_down(request.kind) {
            return self.outbox.enqueue(request, responder);
        }
        if let Err(TrySendError::Full((request, responder)) | TrySendError::Disconnected((request, responder))) =
            self.queue.try_send((request, responder))
        {
            self.outbox.enqueue(request, responder);
        }
    }
}

/// Forwards a report and sends the upstream's response to the page, or enqueues the report.
fn forward(outbox: &Outbox, request: OutboundRequest, responder: Responder) {
    let kind = request.kind;
    // Another thread may have found the upstream down while this report was queued.
    if outbox.is_down(kind) {
        return outbox.enqueue(request, responder);
    }
    match outbox.upstream(kind).post(&request) {
        UpstreamResult::Responded { status, body } => {
            responder.send(Response::new(status, "application/json", body));
        }
        UpstreamResult::Unavailable(why) => {
            log::debug!("forwarder: the {} is unavailable: {why}; reports go to the outbox", kind.service());
            outbox.set_down(kind, true);
            outbox.enqueue(request, responder);
        }
        // The upstream is up, so other clients must not be sent to the outbox.
        UpstreamResult::RateLimited => outbox.enqueue(request, responder),
        UpstreamResult::KeyRejected(status) => {
            let service = kind.service();
            log::error!("forwarder: the {service} rejected the relay's API key: HTTP {status}; responding 502");
            responder.send(Error::Upstream(format!("The {service} rejected the relay's API key")).into());
        }
    }
}
