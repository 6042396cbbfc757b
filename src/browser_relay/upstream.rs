//! Clients for the services behind the relay.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ureq::Agent;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};

use super::config::UpstreamConfig;
use crate::env::Secret;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(5);
/// Size of each of a connection's two buffers. The default of ureq is 128 KiB.
const BUFFER_BYTES: usize = 16 * 1024;
/// Age up to which resolved addresses are reused.
const ADDRESS_AGE_MAX: Duration = Duration::from_secs(10);
/// Maximum size of a response. Both services respond with a few hundred bytes.
const RESPONSE_BYTES_MAX: u64 = 64 * 1024;

/// A service behind the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum UpstreamKind {
    Errors,
    Metrics,
}

impl UpstreamKind {
    pub(super) const ALL: [Self; 2] = [Self::Errors, Self::Metrics];

    /// Returns the name in the table `outbox`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Errors => "errors",
            Self::Metrics => "metrics",
        }
    }

    /// Returns the name of the service in messages.
    pub(super) fn service(self) -> &'static str {
        match self {
            Self::Errors => "error tracker",
            Self::Metrics => "metrics collector",
        }
    }
}

/// A report that the relay forwards.
#[derive(Debug)]
pub(super) struct OutboundRequest {
    pub(super) kind: UpstreamKind,
    /// The body as JSON.
    pub(super) body: Vec<u8>,
    /// Identifies the report: the upstream stores it once, however often it is sent.
    pub(super) idempotency_key: String,
    pub(super) client: IpAddr,
}

/// A connection pool for one service.
#[derive(Debug)]
pub(super) struct Upstream {
    agent: Agent,
    url: String,
    key: Secret,
}

/// The result of one POST.
#[derive(Debug)]
pub(super) enum UpstreamResult {
    /// The upstream decided the request; status and body are the response for the browser.
    Responded { status: u16, body: Vec<u8> },
    /// The upstream did not respond, timed out, or responded 408 or 5xx; the reason is one line without secrets.
    Unavailable(String),
    /// The upstream limits this client's rate (429); other clients are not affected.
    RateLimited,
    /// The upstream rejects the relay's key (401 or 403), which only the operator can correct.
    KeyRejected(u16),
}

impl Upstream {
    /// Creates a client that keeps up to `connections` connections open.
    pub(super) fn new(kind: UpstreamKind, config: UpstreamConfig, connections: usize) -> Self {
        let agent_config = Agent::config_builder()
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_global(Some(EXCHANGE_TIMEOUT))
            .http_status_as_error(false)
            .max_redirects(0)
            .input_buffer_size(BUFFER_BYTES)
            .output_buffer_size(BUFFER_BYTES)
            .max_idle_connections(connections)
            .max_idle_connections_per_host(connections)
            .build();
        let path = match kind {
            UpstreamKind::Errors => "/api/errors",
            UpstreamKind::Metrics => "/api/metrics",
        };
        let agent = Agent::with_parts(agent_config, DefaultConnector::default(), CachingResolver::default());
        Self { agent, url: format!("{}{path}", config.url), key: config.key }
    }

    /// Posts a report and classifies the response.
    pub(super) fn post(&self, outbound: &OutboundRequest) -> UpstreamResult {
        let request = self
            .agent
            .post(&self.url)
            .header("Content-Type", "application/json")
            .header("X-API-Key", self.key.reveal())
            .header("Idempotency-Key", &outbound.idempotency_key)
            .header("X-Forwarded-For", outbound.client.to_string());
        let mut response = match request.send(&outbound.body) {
            Ok(response) => response,
            Err(why) => return UpstreamResult::Unavailable(why.to_string()),
        };
        let status = response.status().as_u16();
        match status {
            401 | 403 => UpstreamResult::KeyRejected(status),
            429 => UpstreamResult::RateLimited,
            408 | 500.. => UpstreamResult::Unavailable(format!("HTTP {status}")),
            _ => match response.body_mut().with_config().limit(RESPONSE_BYTES_MAX).read_to_vec() {
                Ok(body) => UpstreamResult::Responded { status, body },
                Err(why) => UpstreamResult::Unavailable(why.to_string()),
            },
        }
    }
}

/// Caches the addresses of a service's host. The resolver of ureq starts a thread for each lookup.
#[derive(Debug, Default)]
struct CachingResolver {
    resolver: DefaultResolver,
    cached: Mutex<Option<(Instant, Vec<SocketAddr>)>>,
}

impl Resolver for CachingResolver {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, addresses)) = cached.filter(|(resolved_at, _)| resolved_at.elapsed() < ADDRESS_AGE_MAX) {
            let mut resolved = self.empty();
            addresses.into_iter().for_each(|address| resolved.push(address));
            return Ok(resolved);
        }
        let resolved = self.resolver.resolve(uri, config, timeout)?;
        *self.cached.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), resolved.to_vec()));
        Ok(resolved)
    }
}
