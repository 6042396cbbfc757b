//! Clients for the services behind the relay.

use std::net::IpAddr;
use std::time::Duration;

use serde_json::{Map, Value};

use super::forward_budget::BodyReservation;
use crate::client::{ClientSettings, Endpoint, HttpClient, OutboundSettings, Response, URL_RULE};
use crate::env::Env;
use crate::records::key_kind::{KEY_KIND_HEADER, KeyKind};

/// Number of requests that the relay sends to one upstream at the same time, of which one project gets at most two thirds. The
/// more there are, the more reports an upstream flushes to its disk with one commit.
pub(super) const CONCURRENT_REQUESTS: usize = 12;
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

    /// Returns the kind with this id in the table `upstreams`.
    pub(super) fn from_id(id: i64) -> Self {
        if id == Self::Errors.id() { Self::Errors } else { Self::Metrics }
    }

    /// Returns the name of the service in messages and in the table `upstreams`.
    pub(super) fn service(self) -> &'static str {
        match self {
            Self::Errors => "error tracker",
            Self::Metrics => "metrics collector",
        }
    }

    /// Returns the URL at which the service listens by default.
    fn example_url(self) -> &'static str {
        match self {
            Self::Errors => "http://localhost:5010",
            Self::Metrics => "http://localhost:5012",
        }
    }

    /// Returns the maximum size of a body in bytes: the default `MAX_BODY_SIZE` of the service.
    pub(super) fn body_bytes_max(self) -> usize {
        match self {
            Self::Errors => 256 * 1024,
            Self::Metrics => 512 * 1024,
        }
    }
}

/// A report that the relay forwards.
#[derive(Debug)]
pub(super) struct OutboundRequest {
    pub(super) kind: UpstreamKind,
    /// Project and kind of the public key that the report was sent with.
    pub(super) project: String,
    pub(super) key_kind: KeyKind,
    /// The body as JSON.
    pub(super) body: Vec<u8>,
    /// Identifies the report: the upstream stores it once, however often it is sent.
    pub(super) idempotency_key: String,
    pub(super) client: IpAddr,
    /// Names of the page's fields whose value was repaired, truncated or dropped, for the response to the page.
    pub(super) adjusted: Vec<&'static str>,
    /// Memory that the body occupies, until it is dropped; `None` for the one report that each delivery job reads from the
    /// outbox.
    pub(super) reservation: Option<BodyReservation>,
}

impl OutboundRequest {
    /// Adds the names of the adjusted fields to the JSON of a response.
    pub(super) fn with_adjusted(&self, response: Vec<u8>) -> Vec<u8> {
        if self.adjusted.is_empty() {
            return response;
        }
        let Ok(mut members) = serde_json::from_slice::<Map<String, Value>>(&response) else { return response };
        // The upstream may have adjusted others.
        if let Value::Array(names) = members.entry("adjusted").or_insert_with(|| Value::Array(Vec::new())) {
            names.extend(self.adjusted.iter().map(|name| Value::from(*name)));
        }
        Value::Object(members).to_string().into_bytes()
    }
}

/// A connection pool for one service.
#[derive(Debug)]
pub(super) struct Upstream {
    client: HttpClient,
}

/// The result of one POST.
#[derive(Debug)]
pub(super) enum UpstreamResult {
    /// The upstream decided about the report with 2xx, 400, 413 or 422; status and body are the response for the browser.
    Responded { status: u16, body: Vec<u8> },
    /// The upstream limits this client's rate (429); other clients are not affected.
    RateLimited,
    /// Anything else. The report must be delivered later.
    Failed(UpstreamFailure),
}

/// The reason why a report must be delivered later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UpstreamFailure {
    /// The HTTP status; `None` if the upstream did not respond.
    pub(super) status: Option<u16>,
    /// One line without secrets.
    pub(super) reason: String,
}

impl UpstreamFailure {
    /// Whether the upstream rejects the relay's key, which only the operator can correct.
    pub(super) fn is_key_rejected(&self) -> bool {
        matches!(self.status, Some(401 | 403))
    }
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
            env.error(url_name, format_args!("{URL_RULE} {}", kind.example_url()));
            unused()
        });
        let key =
            env.required_foreign_secret(key_name, &format!("a key of the {} with the scope ingest", kind.service()));
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
            (KEY_KIND_HEADER, request.key_kind.name()),
        ];
        match self.client.post(&headers, &request.body) {
            Ok(response) => classify(response),
            Err(error) => UpstreamResult::Failed(UpstreamFailure { status: None, reason: error.reason }),
        }
    }
}

/// Classifies a response. Only 2xx, 400, 413 and 422 come from a service that has looked at the report; a proxy or a wrong
/// setting causes all others.
fn classify(response: Response) -> UpstreamResult {
    let failed = |reason: String| UpstreamResult::Failed(UpstreamFailure { status: Some(response.status), reason });
    match response.status {
        429 => UpstreamResult::RateLimited,
        200..300 if !response.is_complete => failed("the response is too long or broke off".to_owned()),
        status if response.is_success() || response.is_final() => {
            let body = if response.is_complete {
                response.body
            } else {
                format!(r#"{{"detail":"The upstream service rejected the report: HTTP {status}"}}"#).into_bytes()
            };
            UpstreamResult::Responded { status, body }
        }
        _ => failed(response.failure("")),
    }
}
