//! Responses: status, headers and body, their serialization, and the only conversion from errors to status codes.

use std::io::Write as _;
use std::sync::atomic::{AtomicI64, Ordering};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;
use tiny_http::StatusCode;

use super::body_source::BodySource;
use super::protocol::body::BodyError;
use super::protocol::error::ProtocolError;
use crate::clock::Timestamp;
use crate::error::Error;

/// Smaller bodies fit into one packet without compression.
const GZIP_BYTES_MIN: usize = 1_400;
/// Minimum seconds between two log lines about a storage failure. A full disk fails every request.
const STORAGE_LOG_INTERVAL_S: u64 = 10;

/// A response. Its body is in memory and therefore at most a few hundred kilobytes, or only its first part is.
pub struct Response {
    status: u16,
    headers: Vec<(&'static str, HeaderValue)>,
    body: Vec<u8>,
    /// The source of the parts after `body`, if it does not end with the first one.
    source: Option<Box<dyn BodySource>>,
}

impl std::fmt::Debug for Response {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let body = String::from_utf8_lossy(&self.body);
        let mut formatter = formatter.debug_struct("Response");
        formatter.field("status", &self.status).field("headers", &self.headers).field("body", &body);
        formatter.field("is_streamed", &self.is_streamed()).finish()
    }
}

/// A header value.
#[derive(Debug)]
enum HeaderValue {
    Fixed(&'static str),
    /// Built at run time, possibly from untrusted input.
    Owned(String),
}

impl Response {
    /// Creates a response with a body of the given media type.
    #[must_use]
    pub fn new(status: u16, content_type: &'static str, body: Vec<u8>) -> Self {
        let headers = vec![
            ("Content-Type", HeaderValue::Fixed(content_type)),
            ("X-Content-Type-Options", HeaderValue::Fixed("nosniff")),
            ("Cache-Control", HeaderValue::Fixed("no-store")),
        ];
        Self { status, headers, body, source: None }
    }

    /// Creates a response in compact JSON.
    #[must_use]
    pub fn json(status: u16, body: &impl Serialize) -> Self {
        match serde_json::to_vec(body) {
            Ok(bytes) => Self::new(status, "application/json", bytes),
            Err(why) => Self::from(Error::Internal(format!("failed to serialize a response: {why}"))),
        }
    }

    /// Creates a response whose body is produced part by part, at the pace of the client. Produces the first part at once: if
    /// it is the only one, the response has a length, and if it fails, the response is the error.
    #[must_use]
    pub fn streamed(status: u16, content_type: &'static str, mut source: impl BodySource + 'static) -> Self {
        let mut body = Vec::new();
        match source.write_part(&mut body) {
            Ok(true) => Self { source: Some(Box::new(source)), ..Self::new(status, content_type, body) },
            Ok(false) => Self::new(status, content_type, body),
            Err(why) => Self::from(why),
        }
    }

    /// Creates a response in plain text.
    #[must_use]
    pub fn text(status: u16, body: String) -> Self {
        Self::new(status, "text/plain; charset=utf-8", body.into_bytes())
    }

    /// Sets a header to a constant value, replacing any value that it has.
    #[must_use]
    pub fn static_header(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.retain(|(existing, _)| *existing != name);
        self.headers.push((name, HeaderValue::Fixed(value)));
        self
    }

    /// Adds a header. A value with control characters is sent as `-`.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: String) -> Self {
        self.headers.push((name, HeaderValue::Owned(value)));
        self
    }

    /// Compresses the body if that is worthwhile. For clients that accept gzip.
    pub(in crate::http) fn gzip(self) -> Self {
        if self.body.len() < GZIP_BYTES_MIN || !self.is_compressible() {
            return self;
        }
        let mut encoder = GzEncoder::new(Vec::with_capacity(self.body.len() / 8), Compression::fast());
        // Writing to a Vec cannot fail; if it did, the response would stay uncompressed.
        match encoder.write_all(&self.body).and_then(|()| encoder.finish()) {
            Ok(body) => Self { body, ..self }.with_gzip_headers(),
            Err(_) => self,
        }
    }

    /// Whether the body has no content coding yet.
    pub(in crate::http) fn is_compressible(&self) -> bool {
        self.headers.iter().all(|(name, _)| *name != "Content-Encoding")
    }

    /// Sets the headers of a body in gzip.
    pub(in crate::http) fn with_gzip_headers(self) -> Self {
        self.static_header("Content-Encoding", "gzip").static_header("Vary", "Accept-Encoding")
    }

    /// Whether further parts follow the body.
    pub(in crate::http) fn is_streamed(&self) -> bool {
        self.source.is_some()
    }

    /// Returns the status code.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Returns the bytes of the body.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    pub(in crate::http) fn into_body(self) -> Vec<u8> {
        self.body
    }

    /// Returns the first part of the body and the source of the further ones.
    pub(in crate::http) fn into_parts(self) -> (Vec<u8>, Option<Box<dyn BodySource>>) {
        (self.body, self.source)
    }

    fn detail(status: u16, sentence: &str) -> Self {
        #[derive(Serialize)]
        struct Detail<'a> {
            detail: &'a str,
        }
        Self::json(status, &Detail { detail: sentence })
    }
}

/// The only conversion from errors to status codes and sentences for clients.
impl From<Error> for Response {
    fn from(error: Error) -> Self {
        let sentence = error.to_string();
        let status = match &error {
            Error::Invalid(_) => 400,
            Error::Unauthorized(_) => 401,
            Error::Forbidden(_) => 403,
            Error::NotFound(_) => 404,
            Error::MethodNotAllowed(allow) => return Self::detail(405, &sentence).header("Allow", allow.clone()),
            Error::Timeout(_) => 408,
            Error::TooLarge { .. } | Error::TooLargeToForward(_) => 413,
            Error::Unsupported(_) => 415,
            Error::TooMany { retry_after_s } => {
                return Self::detail(429, &sentence).header("Retry-After", retry_after_s.to_string());
            }
            Error::Busy(_) => return Self::detail(503, &sentence).header("Retry-After", "1".into()),
            Error::Storage(why) => {
                log_storage_failure(why);
                let sentence = "The database is unavailable (see the service's log); nothing was stored; retry later";
                return Self::detail(503, sentence).header("Retry-After", "5".into());
            }
            Error::Upstream(_) => 502,
            Error::NotConfigured(_) => 503,
            Error::Internal(why) => {
                log::error!("http: request failed: {why}");
                return Self::detail(500, "Internal error; see the service's log");
            }
        };
        Self::detail(status, &sentence)
    }
}

fn log_storage_failure(why: &str) {
    static LAST_LOGGED_S: AtomicI64 = AtomicI64::new(0);
    let now_s = Timestamp::now().seconds();
    if LAST_LOGGED_S.load(Ordering::Relaxed).abs_diff(now_s) >= STORAGE_LOG_INTERVAL_S {
        LAST_LOGGED_S.store(now_s, Ordering::Relaxed);
        log::error!("http: request failed: {why}; clients are asked to retry");
    }
}

impl From<ProtocolError> for Response {
    fn from(error: ProtocolError) -> Self {
        Self::detail(error.status, error.detail)
    }
}

impl From<BodyError> for Response {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::Protocol(error) => error.into(),
            BodyError::Rejected(error) => error.into(),
        }
    }
}

impl From<crate::error::Result<Response>> for Response {
    fn from(result: crate::error::Result<Response>) -> Self {
        result.unwrap_or_else(Self::from)
    }
}

/// Framing of a response's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum BodyFraming {
    /// `Content-Length`.
    Length,
    /// `Transfer-Encoding: chunked` (RFC 9112, section 7.1).
    Chunked,
    /// The end of the connection, for HTTP/1.0 clients.
    Close,
}

/// Returns the serialized head of a response. A value that would end its line is replaced with `-`.
pub(in crate::http) fn write_head(
    response: &Response,
    now: Timestamp,
    framing: BodyFraming,
    keep_alive: bool,
) -> Vec<u8> {
    let status = StatusCode(response.status());
    let mut head = Vec::with_capacity(256);
    let out = &mut head;
    // Writing to a Vec cannot fail.
    let _ = write!(out, "HTTP/1.1 {} {}\r\n", status.0, status.default_reason_phrase());
    write_date(out, now);
    let has_no_body = status.0 < 200 || status.0 == 204 || status.0 == 304;
    match framing {
        BodyFraming::Length if !has_no_body => {
            let _ = write!(out, "Content-Length: {}\r\n", response.body().len());
        }
        BodyFraming::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        BodyFraming::Length | BodyFraming::Close => {}
    }
    for (name, value) in &response.headers {
        let value = match value {
            HeaderValue::Fixed(text) => text,
            HeaderValue::Owned(text) if text.bytes().any(|byte| byte.is_ascii_control()) => "-",
            HeaderValue::Owned(text) => text.as_str(),
        };
        let _ = write!(out, "{name}: {value}\r\n");
    }
    let _ = write!(out, "Connection: {}\r\n\r\n", if keep_alive { "keep-alive" } else { "close" });
    head
}

/// Appends the header `Date: Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, section 5.6.7).
fn write_date(out: &mut Vec<u8>, at: Timestamp) {
    const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let at = at.calendar();
    // Writing to a Vec cannot fail.
    let _ = write!(
        out,
        "Date: {}, {:02} {} {:04} {:02}:{:02}:{:02} GMT\r\n",
        DAYS[usize::from(at.weekday().number_days_from_monday())],
        at.day(),
        MONTHS[usize::from(u8::from(at.month())) - 1],
        at.year(),
        at.hour(),
        at.minute(),
        at.second()
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_values_cannot_inject_headers() {
        let response = Response::text(200, "x".into()).header("X-Name", "a\r\nSet-Cookie: b".into());
        let head =
            String::from_utf8(write_head(&response, Timestamp::from_ms(784_111_777_000), BodyFraming::Length, true))
                .unwrap();
        assert!(head.contains("X-Name: -\r\n"), "{head}");
        assert!(head.contains("Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"), "{head}");
    }
}
