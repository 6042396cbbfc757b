//! The services behind the relay, and one POST to one of them.

use std::net::IpAddr;
use std::time::Duration;

use ureq::Agent;

use super::config::Target;
use crate::env::Secret;

const CONNECT_WITHIN: Duration = Duration::from_secs(2);
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Connections that are kept open: one for each thread that posts.
const CONNECTIONS: usize = 16;
/// Both services answer in a few hundred bytes.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// One of the services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Errors,
    Metrics,
}

impl Kind {
    pub(super) const ALL: [Self; 2] = [Self::Errors, Self::Metrics];

    /// As the outbox has it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Errors => "errors",
            Self::Metrics => "metrics",
        }
    }

    /// As people call it.
    pub(super) fn service(self) -> &'static str {
        match self {
            Self::Errors => "error tracker",
            Self::Metrics => "metrics collector",
        }
    }
}

/// A report on its way.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) kind: Kind,
    /// JSON.
    pub(super) body: Vec<u8>,
    /// The same key twice counts once.
    pub(super) idempotency_key: String,
    pub(super) client: IpAddr,
}

/// A service and how it is reached.
#[derive(Debug)]
pub(super) struct Upstream {
    agent: Agent,
    url: String,
    key: Secret,
}

/// What came of a POST.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It was decided, well or not: this is the answer.
    Answered { status: u16, body: Vec<u8> },
    /// Not now: it was not reached, took too long, or said that it cannot.
    Later(String),
    /// Not now from this client, which reports too often.
    TooMany,
    /// It does not take our key, which is the operator's affair.
    Refused(u16),
}

impl Upstream {
    pub(super) fn new(kind: Kind, target: Target) -> Self {
        let config = Agent::config_builder()
            .timeout_connect(Some(CONNECT_WITHIN))
            .timeout_global(Some(ANSWER_WITHIN))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_idle_connections(CONNECTIONS)
            .max_idle_connections_per_host(CONNECTIONS)
            .build();
        let path = match kind {
            Kind::Errors => "/api/errors",
            Kind::Metrics => "/api/metrics",
        };
        Self { agent: config.into(), url: format!("{}{path}", target.url), key: target.key }
    }

    /// Sends a report.
    pub(super) fn post(&self, parcel: &Parcel) -> Outcome {
        let request = self
            .agent
            .post(&self.url)
            .header("Content-Type", "application/json")
            .header("X-API-Key", self.key.reveal())
            .header("Idempotency-Key", &parcel.idempotency_key)
            .header("X-Forwarded-For", parcel.client.to_string());
        let mut response = match request.send(&parcel.body) {
            Ok(response) => response,
            Err(why) => return Outcome::Later(why.to_string()),
        };
        let status = response.status().as_u16();
        match status {
            401 | 403 => Outcome::Refused(status),
            429 => Outcome::TooMany,
            408 | 500.. => Outcome::Later(format!("it answered {status}")),
            _ => match response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec() {
                Ok(body) => Outcome::Answered { status, body },
                Err(why) => Outcome::Later(why.to_string()),
            },
        }
    }
}
