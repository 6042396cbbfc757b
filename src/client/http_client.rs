//! Blocking HTTP client for one endpoint. Follows no redirects.

use std::fmt;
use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ureq::unversioned::transport::{ConnectProxyConnector, Connector as _, TcpConnector};
use ureq::{Agent, Error, Proxy, ProxyProtocol};

use super::absolute_form::{AbsoluteFormConnector, Rewrite};
use super::early_response::EarlyResponseConnector;
use super::endpoint::Endpoint;
use super::redact::Redactor;
use super::resolver::CachingResolver;
use super::roots::TrustedRoots;
use super::tls::TlsConnector;
use crate::text;

/// Size of each of the two buffers of a connection; ureq's default is 128 KiB.
const BUFFER_BYTES: usize = 16 * 1024;
/// Maximum length of the excerpt of a response that a reason contains.
const EXCERPT_MAX_UNITS: usize = 300;
const USER_AGENT: &str = concat!("monlight/", env!("CARGO_PKG_VERSION"));

/// Limits of a client.
#[derive(Debug, Clone, Copy)]
pub struct ClientSettings {
    /// Maximum time to establish a connection, including TLS and the proxy.
    pub connect_timeout: Duration,
    /// Maximum time from name resolution to the end of the response.
    pub exchange_timeout: Duration,
    /// Maximum number of idle connections that are kept for the next requests; 0 closes each connection after one
    /// request.
    pub idle_connections_max: usize,
    /// Maximum number of bytes of a response body that are read.
    pub response_bytes_max: usize,
}

/// Sends requests to one endpoint, over TLS for `https` and through a proxy if the settings say so.
pub struct HttpClient {
    agent: Agent,
    endpoint: Endpoint,
    response_bytes_max: usize,
    redactor: Arc<Redactor>,
    /// The host of the endpoint, and of the proxy if there is one, as reasons name it.
    peer: String,
}

/// A response of any status.
#[derive(Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The delay in `Retry-After`, if that is a number of seconds.
    pub retry_after: Option<Duration>,
    /// The start of the body, at most [`ClientSettings::response_bytes_max`] bytes.
    pub body: Vec<u8>,
    /// Whether `body` is the complete body. It is not if the body is too long or the connection broke.
    pub is_complete: bool,
    redactor: Arc<Redactor>,
}

/// The reason why a request got no response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestError {
    /// The host and the failure, in one line without secrets.
    pub reason: String,
}

impl HttpClient {
    pub(super) fn new(
        endpoint: Endpoint,
        settings: ClientSettings,
        roots: Arc<TrustedRoots>,
        proxy: Option<Proxy>,
    ) -> Self {
        let host = endpoint.url.host().unwrap_or_default();
        let peer = match &proxy {
            Some(proxy) => format!("{host} via proxy {}:{}", proxy.host(), proxy.port()),
            None => host.to_owned(),
        };
        let password = proxy.as_ref().and_then(Proxy::password).map(str::to_owned);
        let redactor = Arc::new(Redactor::new(endpoint.secrets.iter().cloned().chain(password)));
        let agent = new_agent(&endpoint, settings, roots, proxy);
        Self { agent, endpoint, response_bytes_max: settings.response_bytes_max, redactor, peer }
    }

    /// Posts `body` with `headers` in addition to those of the endpoint.
    ///
    /// # Errors
    /// Returns an error if there is no response: the connection, TLS or the proxy failed, or the time was exceeded.
    pub fn post(&self, headers: &[(&str, &str)], body: &[u8]) -> Result<Response, RequestError> {
        let request = self.agent.post(&self.endpoint.url);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let request = self.endpoint.headers.iter().fold(request, |request, (name, value)| request.header(name, value));
        let response = request.send(body).map_err(|error| self.request_error(&error))?;
        let status = response.status().as_u16();
        let retry_after = response.headers().get("retry-after");
        let retry_after = retry_after.and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let mut body = Vec::new();
        // One byte more than the limit shows whether the body is longer.
        let reader = response.into_body().into_reader();
        let outcome = reader.take(self.response_bytes_max as u64 + 1).read_to_end(&mut body);
        let is_complete = outcome.is_ok() && body.len() <= self.response_bytes_max;
        body.truncate(self.response_bytes_max);
        Ok(Response {
            status,
            retry_after: retry_after.map(Duration::from_secs),
            body,
            is_complete,
            redactor: Arc::clone(&self.redactor),
        })
    }

    fn request_error(&self, error: &Error) -> RequestError {
        let what = match error {
            error if is_tls(error) => {
                let why = error.to_string();
                let hint =
                    if why.contains("UnknownIssuer") { " (CA_FILE can name the root that it needs)" } else { "" };
                format!("TLS failed: {why}{hint}")
            }
            Error::Timeout(limit) => format!("timed out ({limit})"),
            Error::Io(why) => why.to_string(),
            error => error.to_string(),
        };
        let reason = self.redactor.redact(&format!("{}: {what}", self.peer));
        RequestError { reason: text::one_line(&reason, EXCERPT_MAX_UNITS) }
    }

    /// Returns the host of the endpoint, and of the proxy if there is one.
    #[must_use]
    pub fn peer(&self) -> &str {
        &self.peer
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HttpClient").field(&self.peer).finish()
    }
}

/// Whether a TLS handshake failed. rustls passes its errors on as `InvalidData`.
fn is_tls(error: &Error) -> bool {
    match error {
        Error::Io(why) => why.kind() == std::io::ErrorKind::InvalidData,
        Error::Tls(_) => true,
        _ => false,
    }
}

fn new_agent(endpoint: &Endpoint, settings: ClientSettings, roots: Arc<TrustedRoots>, proxy: Option<Proxy>) -> Agent {
    let url = &endpoint.url;
    let is_plain = url.scheme_str() == Some("http");
    // An HTTP proxy receives requests for `http` targets in absolute form; everything else is tunneled with CONNECT.
    let (absolute_form, tunnel) = match proxy {
        Some(proxy) if is_plain && proxy.protocol() == ProxyProtocol::Http => (Some(proxy), None),
        proxy => (None, proxy),
    };
    // A connection that rewrites its request line carries one request.
    let idle_connections_max = if absolute_form.is_some() { 0 } else { settings.idle_connections_max };
    let config = Agent::config_builder()
        .proxy(tunnel)
        .timeout_connect(Some(settings.connect_timeout))
        .timeout_global(Some(settings.exchange_timeout))
        .http_status_as_error(false)
        // ureq would follow a POST with a GET without a body, which some servers answer with 200.
        .max_redirects(0)
        .max_idle_connections(idle_connections_max)
        .max_idle_connections_per_host(idle_connections_max)
        .max_response_header_size(BUFFER_BYTES)
        .input_buffer_size(BUFFER_BYTES)
        .output_buffer_size(BUFFER_BYTES)
        .user_agent(USER_AGENT)
        .build();
    let rewrite = absolute_form.as_ref().map(|proxy| {
        let authority = url.authority().map(ureq::http::uri::Authority::as_str).unwrap_or_default();
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let user = proxy.username().is_some() || proxy.password().is_some();
        let credentials = user.then(|| {
            let pair = format!("{}:{}", proxy.username().unwrap_or_default(), proxy.password().unwrap_or_default());
            format!("Basic {}", BASE64_STANDARD.encode(pair))
        });
        Rewrite { origin: format!("http://{host}"), credentials }
    });
    let connector =
        ().chain(ConnectProxyConnector::default())
            .chain(TcpConnector::default())
            .chain(EarlyResponseConnector)
            .chain(TlsConnector { roots })
            .chain(AbsoluteFormConnector { rewrite });
    Agent::with_parts(config, connector, CachingResolver::new(absolute_form.map(|proxy| proxy.uri().clone())))
}

impl Response {
    /// Whether the status is 2xx.
    #[must_use]
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Whether the server rejects this request for good: 400, 413 or 422.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self.status, 400 | 413 | 422)
    }

    /// Whether the status says that the same request may succeed later: 408, 429 or 5xx.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self.status, 408 | 429 | 500..)
    }

    /// Returns the start of the body as one line without secrets.
    #[must_use]
    pub fn excerpt(&self) -> String {
        self.redact(&String::from_utf8_lossy(&self.body))
    }

    /// Returns a part of the response as one line without secrets.
    #[must_use]
    pub fn redact(&self, part: &str) -> String {
        text::one_line(&self.redactor.redact(part), EXCERPT_MAX_UNITS)
    }

    /// Returns the status and `detail` as the reason of a failure. `detail` must not contain secrets.
    #[must_use]
    pub fn failure(&self, detail: &str) -> String {
        match (self.status, detail) {
            (300..400, _) => format!("HTTP {}: redirects are not followed", self.status),
            (status, "") => format!("HTTP {status}"),
            (status, detail) => format!("HTTP {status}: {detail}"),
        }
    }
}
