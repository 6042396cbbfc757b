//! Clients for the services behind the relay.

use std::net::IpAddr;
use std::time::Duration;

use crate::client::{ClientSettings, Endpoint, HttpClient, OutboundSettings, URL_RULE};
use crate::env::Env;

/// Number of requests that the relay sends at the same time. The more there are, the more reports an upstream flushes to
/// its disk with one commit.
pub(super) const CONCURRENT_REQUESTS: usize = 8;
const CLIENT_SETTINGS: ClientSettings = ClientSettings {
    connect_timeout: Duration::from_secs(2),
    exchange_timeout: Duration::from_secs(5),
    idle_connections_max: CONCURRENT_REQUESTS,
    // Both services respond with a few hundred bytes.
    response_bytes_max: 64 * 1024,
};

/// A service behind the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum UpstreamKind {
    Errors,
    Metrics,
}

impl UpstreamKind {
    pub(super) const ALL: [Self; 2] = [Self::Errors, Self::Metrics];

    /// Returns the id in the table `upstreams`, which must never change.
    pub(super) fn id(self) -> i64 {
        match self {
            Self::Errors => 1,
            Self::Metrics => 2,
        }
    }

    /// Returns the name of the service in messages and in the table `upstreams`.
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
    client: HttpClient,
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
    /// Reads the URL and the key of a service. Reports errors to `env`.
    pub(super) fn from_env(env: &mut Env<'_>, outbound: &OutboundSettings, kind: UpstreamKind) -> Self {
        let (url_name, key_name, path) = match kind {
            UpstreamKind::Errors => ("ERROR_TRACKER_URL", "ERROR_TRACKER_API_KEY", "/api/errors"),
            UpstreamKind::Metrics => ("METRICS_COLLECTOR_URL", "METRICS_COLLECTOR_API_KEY", "/api/metrics"),
        };
        let url = env.string(url_name).unwrap_or_default();
        // After an error the service does not start, whatever the endpoint is.
        let unused = || Endpoint::parse("http://localhost/").expect("this URL is valid");
        let endpoint = Endpoint::parse(&format!("{}{path}", url.trim().trim_end_matches('/'))).unwrap_or_else(|| {
            env.error(url_name, format_args!("{URL_RULE} http://localhost:5010"));
            unused()
        });
        let key = env.required_secret(key_name);
        let endpoint = endpoint.with_secret_header("x-api-key", key.reveal()).unwrap_or_else(|| {
            env.error(key_name, "must not contain control characters");
            unused()
        });
        Self { client: outbound.client(env, endpoint, CLIENT_SETTINGS) }
    }

    /// Posts one report to the service.
    pub(super) fn post(&self, request: &OutboundRequest) -> UpstreamResult {
        let headers = [
            ("Content-Type", "application/json"),
            ("Idempotency-Key", &request.idempotency_key),
            ("X-Forwarded-For", &request.client.to_string()),
        ];
        let response = match self.client.post(&headers, &request.body) {
            Ok(response) => response,
            Err(error) => return UpstreamResult::Unavailable(error.reason),
        };
        match response.status {
            status @ (401 | 403) => UpstreamResult::KeyRejected(status),
            429 => UpstreamResult::RateLimited,
            _ if response.is_transient() => UpstreamResult::Unavailable(response.failure("")),
            _ if !response.is_complete => {
                UpstreamResult::Unavailable("the response is too long or broke off".to_owned())
            }
            status => UpstreamResult::Responded { status, body: response.body },
        }
    }
}
