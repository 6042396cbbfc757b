//! Requests as handlers see them: path and query parameters, headers, the whole body, and the principal.

use std::fs::File;
use std::net::IpAddr;
use std::sync::Arc;

use super::middleware::admission::carries_key;
use super::middleware::keys::Principal;
use super::middleware::routing::{IdempotencySource, Params};
use super::middleware::sessions::{Digest, Sessions};
use super::protocol::head::Head;
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::records::key_kind::{KEY_KIND_HEADER, KeyKind};

/// Maximum length of an idempotency key, in characters.
const IDEMPOTENCY_KEY_CHARS_MAX: usize = 64;

/// A request whose body has arrived and is decoded.
#[derive(Debug)]
pub struct Request {
    pub(in crate::http) head: Head,
    pub(in crate::http) params: Params,
    pub(in crate::http) query: Vec<(String, String)>,
    pub(in crate::http) body: Arc<Vec<u8>>,
    pub(in crate::http) spooled: Option<File>,
    pub(in crate::http) principal: Arc<Principal>,
    pub(in crate::http) client: IpAddr,
    pub(in crate::http) idempotency: IdempotencySource,
}

impl Request {
    /// Returns the path segment in place of `{name}`; empty if the route has no such segment.
    #[must_use]
    pub fn param(&self, name: &str) -> &str {
        self.params.iter().find(|(param, _)| *param == name).map_or("", |(_, value)| value.as_str())
    }

    /// Returns the id in place of `{name}`, at least 1.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the segment is not a positive integer.
    pub fn id(&self, name: &str) -> Result<i64> {
        let id = self.param(name).parse().ok().filter(|id| *id > 0);
        id.ok_or_else(|| Error::NotFound(format!("Not found: {name} must be a positive integer")))
    }

    /// Returns the first value of a query parameter, unless it is empty.
    #[must_use]
    pub fn query(&self, name: &str) -> Option<&str> {
        let pair = self.query.iter().find(|(param, _)| param == name);
        pair.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// Returns an integer query parameter, clamped to `range`, or `default` if it is not an integer.
    #[must_use]
    pub fn query_number(&self, name: &str, default: i64, range: std::ops::RangeInclusive<i64>) -> i64 {
        let parsed = self.query(name).and_then(|text| text.trim().parse::<i128>().ok());
        let number = parsed.map_or(default, |number| {
            // Clamped as i128, so that numbers beyond i64 do not count as invalid.
            let clamped = number.clamp(i128::from(*range.start()), i128::from(*range.end()));
            i64::try_from(clamped).unwrap_or(default)
        });
        number.clamp(*range.start(), *range.end())
    }

    /// Returns a timestamp from the query, or `None` if the parameter is missing or empty.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the value is not a timestamp in RFC 3339.
    pub fn query_time(&self, name: &str) -> Result<Option<Timestamp>> {
        let Some(text) = self.query(name) else { return Ok(None) };
        let timestamp = Timestamp::parse(text);
        timestamp.map(Some).ok_or_else(|| Error::field(name, "must be a time such as 2026-01-31T12:00:00Z"))
    }

    /// Returns the bytes of the first header of this name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.head.headers(name).next()
    }

    /// Returns the key that identifies a repeated request, if the route has a source for one and the client sent one.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the key is not 1 to 64 characters of UTF-8.
    pub fn idempotency_key(&self) -> Result<Option<String>> {
        let value = match self.idempotency {
            IdempotencySource::None => None,
            IdempotencySource::Header => self.header("idempotency-key"),
        };
        let Some(value) = value else { return Ok(None) };
        let key = std::str::from_utf8(value).ok();
        match key.filter(|key| (1..=IDEMPOTENCY_KEY_CHARS_MAX).contains(&key.chars().count())) {
            Some(key) => Ok(Some(key.to_owned())),
            None => Err(Error::Invalid("Header 'Idempotency-Key' must be 1-64 characters of UTF-8".into())),
        }
    }

    /// Whether the client accepts responses in this content coding.
    #[must_use]
    pub fn accepts(&self, coding: &str) -> bool {
        self.head.accepts(coding)
    }

    /// Whether the client reached the service, or the first proxy in front of it, over HTTPS. A client can forge this.
    #[must_use]
    pub fn is_https(&self) -> bool {
        let first = self.header("x-forwarded-proto").and_then(|protocols| protocols.split(|byte| *byte == b',').next());
        first.is_some_and(|protocol| protocol.trim_ascii().eq_ignore_ascii_case(b"https"))
    }

    /// Returns the token digest of the open session that the request's cookies name, if any.
    #[must_use]
    pub fn session_token_digest(&self, sessions: &Sessions) -> Option<Digest> {
        sessions.authenticate(&self.head).map(|(token, _)| token)
    }

    /// Whether the request carries a key in a header, which takes precedence over a session.
    #[must_use]
    pub fn carries_key(&self) -> bool {
        carries_key(&self.head)
    }

    /// Returns the body; empty on routes that spool it.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Returns the body without copying it, for use after the request ends.
    #[must_use]
    pub fn shared_body(&self) -> Arc<Vec<u8>> {
        Arc::clone(&self.body)
    }

    /// Returns the anonymous file that holds the body, at its first byte, on routes that spool it.
    #[must_use]
    pub fn spooled(&self) -> Option<&File> {
        self.spooled.as_ref()
    }

    /// Returns the principal that the key or session authenticated.
    #[must_use]
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// Returns the kind of the key that the telemetry in this request was sent with. A service that forwards telemetry of a
    /// browser key says so in [`KEY_KIND_HEADER`].
    #[must_use]
    pub fn key_kind(&self) -> KeyKind {
        if names_browser(self.head.headers(KEY_KIND_HEADER)) { KeyKind::Browser } else { self.principal.kind() }
    }

    /// Returns the client's address, behind trusted proxies.
    #[must_use]
    pub fn client(&self) -> IpAddr {
        self.client
    }

    /// Returns the method and the path, for the log.
    #[must_use]
    pub fn line(&self) -> String {
        format!("{} {}", self.head.method(), self.head.path())
    }
}

/// Whether one of the values of [`KEY_KIND_HEADER`] is `browser`. The header only takes rights away, so any of them counts; a
/// proxy may have joined several headers with commas.
fn names_browser<'a>(values: impl Iterator<Item = &'a [u8]>) -> bool {
    let mut kinds = values.flat_map(|value| value.split(|byte| *byte == b','));
    kinds.any(|kind| kind.trim_ascii().eq_ignore_ascii_case(KeyKind::Browser.name().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_browser_of_the_key_kind_counts() {
        for (lines, expected) in [
            ("", false),
            ("X-Monlight-Key-Kind: server\r\n", false),
            ("X-Monlight-Key-Kind: Browser\r\n", true),
            ("X-Monlight-Key-Kind: server\r\nX-Monlight-Key-Kind: browser\r\n", true),
            ("X-Monlight-Key-Kind: browser\r\nx-monlight-key-kind: server\r\n", true),
            ("X-Monlight-Key-Kind: server, browser\r\n", true),
            ("X-Monlight-Key-Kind: no-browser\r\n", false),
        ] {
            let text = format!("POST /api/errors HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
            let head = Head::parse(text.as_bytes()).unwrap();
            assert_eq!(names_browser(head.headers(KEY_KIND_HEADER)), expected, "{lines}");
        }
    }
}
