//! What this program answers: a status, headers, a body, and how its head is written. Every error becomes one here, in
//! one conversion.

use std::io::Write as _;
use std::sync::atomic::{AtomicI64, Ordering};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;
use tiny_http::StatusCode;

use super::message::Fault;
use crate::clock::Timestamp;
use crate::error::Error;

/// Answers of fewer bytes fit into one packet as they are.
const PACKED_BYTES_MIN: usize = 1_400;

/// An answer. Its body is in memory, so it is at most a few hundred kilobytes.
#[derive(Debug)]
pub struct Response {
    status: u16,
    headers: Vec<(&'static str, Value)>,
    body: Vec<u8>,
}

/// A header's value: written in this program, or made from something a stranger may have sent.
#[derive(Debug)]
pub(super) enum Value {
    Fixed(&'static str),
    Made(String),
}

impl Response {
    /// An answer with a body of the given media type.
    #[must_use]
    pub fn new(status: u16, content_type: &'static str, body: Vec<u8>) -> Self {
        let headers = vec![
            ("Content-Type", Value::Fixed(content_type)),
            ("X-Content-Type-Options", Value::Fixed("nosniff")),
            ("Cache-Control", Value::Fixed("no-store")),
        ];
        Self { status, headers, body }
    }

    /// An answer in compact JSON.
    #[must_use]
    pub fn json(status: u16, body: &impl Serialize) -> Self {
        match serde_json::to_vec(body) {
            Ok(bytes) => Self::new(status, "application/json", bytes),
            Err(why) => Self::from(Error::Internal(format!("an answer cannot be written as JSON: {why}"))),
        }
    }

    /// An answer in plain text.
    #[must_use]
    pub fn text(status: u16, body: String) -> Self {
        Self::new(status, "text/plain; charset=utf-8", body.into_bytes())
    }

    /// Adds a header whose value is fixed, or puts it in the place of the one there is.
    #[must_use]
    pub fn static_header(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.retain(|(set, _)| *set != name);
        self.headers.push((name, Value::Fixed(value)));
        self
    }

    /// Adds a header whose value is made at run time; control characters in it are not sent.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: String) -> Self {
        self.headers.push((name, Value::Made(value)));
        self
    }

    /// The same in fewer bytes, for a client that understands gzip, where that is worth the work.
    pub(super) fn packed(self) -> Self {
        if self.body.len() < PACKED_BYTES_MIN || self.headers.iter().any(|(name, _)| *name == "Content-Encoding") {
            return self;
        }
        let mut packer = GzEncoder::new(Vec::with_capacity(self.body.len() / 8), Compression::fast());
        // Writing to a Vec cannot fail; if it did, the answer would go out as it is.
        match packer.write_all(&self.body).and_then(|()| packer.finish()) {
            Ok(body) => {
                Self { body, ..self }.static_header("Content-Encoding", "gzip").static_header("Vary", "Accept-Encoding")
            }
            Err(_) => self,
        }
    }

    /// The status code.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The body's bytes.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    pub(super) fn into_body(self) -> Vec<u8> {
        self.body
    }

    pub(super) fn headers(&self) -> impl Iterator<Item = (&'static str, &Value)> {
        self.headers.iter().map(|(name, value)| (*name, value))
    }

    fn detail(status: u16, sentence: &str) -> Self {
        #[derive(Serialize)]
        struct Detail<'a> {
            detail: &'a str,
        }
        Self::json(status, &Detail { detail: sentence })
    }
}

/// The one place where errors become statuses and sentences for the outside.
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
            Error::TooLarge { .. } => 413,
            Error::Unsupported(_) => 415,
            Error::TooMany { retry_after_s } => {
                return Self::detail(429, &sentence).header("Retry-After", retry_after_s.to_string());
            }
            Error::Busy(_) => return Self::detail(503, &sentence).header("Retry-After", "1".into()),
            Error::Storage(why) => {
                log_storage(why);
                let sentence = "The database cannot be used at the moment (see the service's log); nothing was stored";
                return Self::detail(503, sentence).header("Retry-After", "5".into());
            }
            Error::Upstream(_) => 502,
            Error::NotConfigured(_) => 503,
            Error::Internal(why) => {
                log::error!("{why}");
                return Self::detail(500, "Internal error; the service's log says more");
            }
        };
        Self::detail(status, &sentence)
    }
}

/// A full disk fails every request; one line in ten seconds says so as well as thousands.
fn log_storage(why: &str) {
    static LAST_LOGGED_S: AtomicI64 = AtomicI64::new(0);
    let now_s = Timestamp::now().seconds();
    if LAST_LOGGED_S.load(Ordering::Relaxed).abs_diff(now_s) >= 10 {
        LAST_LOGGED_S.store(now_s, Ordering::Relaxed);
        log::error!("{why}");
    }
}

impl From<Fault> for Response {
    fn from(fault: Fault) -> Self {
        Self::detail(fault.status, fault.detail)
    }
}

impl From<crate::error::Result<Response>> for Response {
    fn from(answer: crate::error::Result<Response>) -> Self {
        answer.unwrap_or_else(Self::from)
    }
}

/// How a client knows where an answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// By its length.
    Length,
    /// By a last chunk (RFC 9112, section 7.1).
    Chunk,
    /// By the end of the connection, for those who do not know chunks.
    Close,
}

/// Writes the head of an answer. A value that would break out of its line is replaced, never written.
pub(super) fn write_head(response: &Response, now: Timestamp, end: End, keep_alive: bool) -> Vec<u8> {
    let status = StatusCode(response.status());
    let mut head = Vec::with_capacity(256);
    let out = &mut head;
    // Writing to a Vec cannot fail.
    let _ = write!(out, "HTTP/1.1 {} {}\r\n", status.0, status.default_reason_phrase());
    let _ = write!(out, "Date: {}\r\n", http_date(now));
    let bodiless = status.0 < 200 || status.0 == 204 || status.0 == 304;
    match end {
        End::Length if !bodiless => {
            let _ = write!(out, "Content-Length: {}\r\n", response.body().len());
        }
        End::Chunk => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        End::Length | End::Close => {}
    }
    for (name, value) in response.headers() {
        let value = match value {
            Value::Fixed(text) => text,
            Value::Made(text) if text.bytes().any(|byte| byte.is_ascii_control()) => "-",
            Value::Made(text) => text.as_str(),
        };
        let _ = write!(out, "{name}: {value}\r\n");
    }
    let _ = write!(out, "Connection: {}\r\n\r\n", if keep_alive { "keep-alive" } else { "close" });
    head
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, section 5.6.7).
fn http_date(at: Timestamp) -> String {
    const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let at = at.calendar();
    format!(
        "{}, {:02} {} {:04} {:02}:{:02}:{:02} GMT",
        DAYS[usize::from(at.weekday().number_days_from_monday())],
        at.day(),
        MONTHS[usize::from(u8::from(at.month())) - 1],
        at.year(),
        at.hour(),
        at.minute(),
        at.second()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_cannot_break_out_of_its_header() {
        let response = Response::text(200, "x".into()).header("X-Name", "a\r\nSet-Cookie: b".into());
        let head =
            String::from_utf8(write_head(&response, Timestamp::from_ms(784_111_777_000), End::Length, true)).unwrap();
        assert!(head.contains("X-Name: -\r\n"), "{head}");
        assert!(head.contains("Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"), "{head}");
    }
}
