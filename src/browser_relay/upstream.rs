//! The services behind the relay, and one POST to one of them.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ureq::Agent;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};

use super::config::Target;
use crate::env::Secret;

const CONNECT_WITHIN: Duration = Duration::from_secs(2);
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Each connection has two of them; ureq's own measure is 128 KiB.
const BUFFER_BYTES: usize = 16 * 1024;
/// How long the addresses of a service's name are good for.
const ADDRESSES_KEPT: Duration = Duration::from_secs(10);
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
    /// A service that is posted to over so many connections at once.
    pub(super) fn new(kind: Kind, target: Target, connections: usize) -> Self {
        let config = Agent::config_builder()
            .timeout_connect(Some(CONNECT_WITHIN))
            .timeout_global(Some(ANSWER_WITHIN))
            .http_status_as_error(false)
            .max_redirects(0)
            .input_buffer_size(BUFFER_BYTES)
            .output_buffer_size(BUFFER_BYTES)
            .max_idle_connections(connections)
            .max_idle_connections_per_host(connections)
            .build();
        let path = match kind {
            Kind::Errors => "/api/errors",
            Kind::Metrics => "/api/metrics",
        };
        let agent = Agent::with_parts(config, DefaultConnector::default(), Addresses::default());
        Self { agent, url: format!("{}{path}", target.url), key: target.key }
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

/// Looks the service's name up now and then. Asked for every request, ureq's own resolver starts a thread each time.
#[derive(Debug, Default)]
struct Addresses {
    resolver: DefaultResolver,
    known: Mutex<Option<(Instant, Vec<SocketAddr>)>>,
}

impl Resolver for Addresses {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, addresses)) = known.filter(|(since, _)| since.elapsed() < ADDRESSES_KEPT) {
            let mut found = self.empty();
            addresses.into_iter().for_each(|address| found.push(address));
            return Ok(found);
        }
        let found = self.resolver.resolve(uri, config, timeout)?;
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), found.to_vec()));
        Ok(found)
    }
}
