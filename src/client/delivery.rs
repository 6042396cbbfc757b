//! The result of an attempt to deliver something to another server.

use std::time::Duration;

use super::http_client::{RequestError, Response};

/// Result of one attempt, which decides about the next one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// The server accepted the request.
    Accepted,
    /// The server did not decide about the request, so it is to be repeated later.
    Retry {
        /// The delay that the server asks for in `Retry-After`.
        after: Option<Duration>,
        /// The failure, in one line without secrets.
        reason: String,
    },
    /// The server would reject the same request again.
    Rejected {
        /// The failure, in one line without secrets.
        reason: String,
    },
}

impl Delivery {
    /// Classifies a response by its status: 2xx is accepted; 400, 413 and 422 are rejections of this request. Every other
    /// status is to be retried, because a wrong key, path or proxy can cause it, which someone corrects later.
    #[must_use]
    pub fn from_response(response: &Response) -> Self {
        if response.is_success() {
            return Self::Accepted;
        }
        let reason = response.failure(&response.excerpt());
        if response.is_final() {
            Self::Rejected { reason }
        } else {
            Self::Retry { after: response.retry_after, reason }
        }
    }

    /// Creates a temporary failure without a delay for `reason`.
    #[must_use]
    pub fn retry(reason: impl Into<String>) -> Self {
        Self::Retry { after: None, reason: reason.into() }
    }

    /// Adds the server's name in front of the reason.
    #[must_use]
    pub fn at(self, peer: &str) -> Self {
        match self {
            Self::Accepted => Self::Accepted,
            Self::Retry { after, reason } => Self::Retry { after, reason: format!("{peer}: {reason}") },
            Self::Rejected { reason } => Self::Rejected { reason: format!("{peer}: {reason}") },
        }
    }

    /// Creates a final rejection for `reason`.
    #[must_use]
    pub fn rejected(reason: impl Into<String>) -> Self {
        Self::Rejected { reason: reason.into() }
    }
}

impl From<RequestError> for Delivery {
    fn from(error: RequestError) -> Self {
        Self::retry(error.reason)
    }
}
