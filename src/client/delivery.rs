//! The result of an attempt to deliver something to another server.

use std::time::Duration;

use super::http_client::{RequestError, Response};

/// Result of one attempt, which decides about the next one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// The server accepted the request.
    Accepted,
    /// The same request may succeed later.
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
    /// Classifies a response by its status: 2xx is accepted; 408, 429, 5xx and the statuses in `also_retry` are to be
    /// retried; every other status, redirects included, is a rejection.
    #[must_use]
    pub fn from_response(response: &Response, also_retry: &[u16]) -> Self {
        if response.is_success() {
            return Self::Accepted;
        }
        let reason = response.failure(&response.excerpt());
        if response.is_transient() || also_retry.contains(&response.status) {
            Self::Retry { after: response.retry_after, reason }
        } else {
            Self::Rejected { reason }
        }
    }

    /// Creates a temporary failure without a delay for `reason`.
    #[must_use]
    pub fn retry(reason: impl Into<String>) -> Self {
        Self::Retry { after: None, reason: reason.into() }
    }

    /// Creates a final rejection for `reason`.
    #[must_use]
    pub fn rejected(reason: impl Into<String>) -> Self {
        Self::Rejected { reason: reason.into() }
    }
}

impl From<RequestError> for Delivery {
    fn from(error: RequestError) -> Self {
        if error.is_temporary { Self::retry(error.reason) } else { Self::rejected(error.reason) }
    }
}
