//! Phases of a connection, and the steps between them.

use super::pending_request::PendingRequest;
use super::unsent_response::StreamedBody;
use super::unsent_response::UnsentResponse;

/// The phase of a connection.
pub(in crate::http) enum Phase {
    /// Before or within a head.
    Head,
    /// Within a body.
    Body(Box<PendingRequest>),
    /// A responder exists for the current request.
    Busy,
    /// The socket has not accepted the whole response yet.
    Sending { writer: UnsentResponse, after: AfterResponse },
    /// Rejected; further input is discarded.
    Lingering { bytes_left: usize },
}

/// The step after a response has been sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum AfterResponse {
    Keep,
    Linger,
    Close,
}

/// The step that the event loop performs next.
pub(in crate::http) enum NextStep {
    /// Wait until the socket is readable.
    Read,
    /// Wait until the socket is writable.
    Write,
    /// Pass the complete request to the worker pool.
    Dispatch(Box<PendingRequest>),
    /// Have the worker pool produce the next part of a response.
    Produce {
        body: Box<StreamedBody>,
        keep_alive: bool,
    },
    /// Shed a request, because all requests together exceed the memory budget.
    OverBudget,
    Close,
}
