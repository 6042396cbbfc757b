//! Parser for request heads: where a head ends, its request line and headers, and how its body is framed.

use std::ops::Range;

use percent_encoding::percent_decode;
use tiny_http::Method;

use super::error::{ProtocolError, malformed};

/// Maximum size of the request line and all headers together, in bytes. A larger head is answered with 431.
pub(in crate::http) const HEAD_BYTES_MAX: usize = 16 * 1024;
const HEADERS_MAX: usize = 100;

/// A parsed request head: the received bytes and the ranges of its parts.
#[derive(Debug)]
pub(in crate::http) struct Head {
    bytes: Box<[u8]>,
    method: Method,
    path: Range<usize>,
    query: Range<usize>,
    /// The ranges of each header's name and value.
    headers: Vec<(Range<usize>, Range<usize>)>,
    http_10: bool,
}

/// Framing of the body that follows a head (RFC 9112, section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum Framing {
    /// No body follows.
    None,
    /// Exactly this many bytes follow.
    Length(u64),
    /// Chunks follow.
    Chunked,
}

/// Returns the length of the head in `input` including its empty line, or `None` while it is incomplete.
///
/// Skips the first `scanned` bytes, in which an earlier call found no end.
///
/// # Errors
/// Fails if a line ends with LF alone, if the head exceeds [`HEAD_BYTES_MAX`], or if the client starts HTTP/2.
pub(in crate::http) fn find_head_end(input: &[u8], scanned: usize) -> Result<Option<usize>, ProtocolError> {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n";
    if input.starts_with(PREFACE) {
        return Err(ProtocolError { status: 505, detail: "This server supports HTTP/1.1 only" });
    }
    for at in scanned..input.len() {
        if input[at] != b'\n' {
            continue;
        }
        if at == 0 || input[at - 1] != b'\r' {
            return Err(malformed("Lines must end with CR LF"));
        }
        if at >= 3 && &input[at - 3..=at] == b"\r\n\r\n" {
            let end = at + 1;
            return if end > HEAD_BYTES_MAX { Err(head_too_large()) } else { Ok(Some(end)) };
        }
    }
    if input.len() > HEAD_BYTES_MAX { Err(head_too_large()) } else { Ok(None) }
}

fn head_too_large() -> ProtocolError {
    ProtocolError { status: 431, detail: "The request line and headers exceed 16384 bytes" }
}

impl Head {
    /// Parses a complete head, whose end [`find_head_end`] has found.
    ///
    /// # Errors
    /// Fails if the head is not valid HTTP/1.0 or HTTP/1.1, has over 100 headers, or lacks exactly one `Host`.
    pub(in crate::http) fn parse(bytes: &[u8]) -> Result<Self, ProtocolError> {
        let mut bytes: Box<[u8]> = bytes.into();
        lower_minor_version(&mut bytes);
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(&bytes) {
            Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
            Ok(_) => return Err(malformed("The request head is incomplete")),
            Err(httparse::Error::Version) => {
                return Err(ProtocolError { status: 505, detail: "This server supports HTTP/1.1 only" });
            }
            Err(httparse::Error::TooManyHeaders) => {
                return Err(ProtocolError { status: 431, detail: "Too many headers" });
            }
            Err(_) => return Err(malformed("The request head is not valid HTTP/1.1")),
        }
        let method =
            request.method.and_then(|name| name.parse().ok()).ok_or(malformed("The method must be a token"))?;
        let range_of = |part: &[u8]| {
            let start = part.as_ptr() as usize - bytes.as_ptr() as usize;
            start..start + part.len()
        };
        let target = range_of(request.path.unwrap_or_default().as_bytes());
        let (path, query) = split_target(&bytes, target)?;
        let headers =
            request.headers.iter().map(|header| (range_of(header.name.as_bytes()), range_of(header.value))).collect();
        let http_10 = request.version == Some(0);
        let head = Self { method, path, query, headers, http_10, bytes };
        if !http_10 && head.headers("host").count() != 1 {
            return Err(malformed("An HTTP/1.1 request must have exactly one Host header"));
        }
        Ok(head)
    }

    /// Returns the memory that the head takes, in bytes.
    pub(in crate::http) fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Returns the request's method.
    pub(in crate::http) fn method(&self) -> &Method {
        &self.method
    }

    /// Returns the path's segments, or `None` if one is not UTF-8.
    ///
    /// The path is split at its slashes before it is percent-decoded, so `%2F` is part of a segment.
    pub(in crate::http) fn segments(&self) -> Option<Vec<String>> {
        let path = self.bytes.get(self.path.clone())?;
        let decode = |raw: &[u8]| percent_decode(raw).decode_utf8().ok().map(std::borrow::Cow::into_owned);
        path.split(|byte| *byte == b'/').skip(1).map(decode).collect()
    }

    /// Returns the path without percent-decoding, for the log.
    pub(in crate::http) fn path(&self) -> &str {
        std::str::from_utf8(&self.bytes[self.path.clone()]).unwrap_or_default()
    }

    /// Returns the name-value pairs of the query in their order, percent-decoded, with `+` as a space. Bytes that are not
    /// UTF-8 become U+FFFD.
    pub(in crate::http) fn query(&self) -> Vec<(String, String)> {
        let decode = |raw: &[u8]| {
            let spaced: Vec<u8> = raw.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
            percent_decode(&spaced).decode_utf8_lossy().into_owned()
        };
        let pair = |raw: &[u8]| {
            let at = raw.iter().position(|byte| *byte == b'=').unwrap_or(raw.len());
            (decode(&raw[..at]), decode(raw.get(at + 1..).unwrap_or_default()))
        };
        self.bytes[self.query.clone()].split(|byte| *byte == b'&').filter(|raw| !raw.is_empty()).map(pair).collect()
    }

    /// Returns the first header of this name, if it is UTF-8.
    pub(in crate::http) fn header(&self, name: &str) -> Option<&str> {
        self.headers(name).next().and_then(|value| std::str::from_utf8(value).ok())
    }

    /// Returns the values of all headers of this name, in their order.
    pub(in crate::http) fn headers<'a, 'n>(&'a self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        let is_named = move |(header, _): &&(Range<usize>, Range<usize>)| {
            self.bytes[header.clone()].eq_ignore_ascii_case(name.as_bytes())
        };
        self.headers.iter().filter(is_named).map(|(_, value)| &self.bytes[value.clone()])
    }

    /// Returns how the body is framed (RFC 9112, section 6.3).
    ///
    /// # Errors
    /// Fails on everything that two implementations could read differently, because request smuggling relies on such
    /// differences: repeated or malformed lengths, a length beside a transfer coding, and unknown transfer codings.
    pub(in crate::http) fn framing(&self) -> Result<Framing, ProtocolError> {
        let mut lengths = self.headers("content-length");
        let length = lengths.next();
        if lengths.next().is_some() {
            return Err(malformed("Content-Length must occur at most once"));
        }
        let mut codings = self.headers("transfer-encoding");
        if let Some(coding) = codings.next() {
            if length.is_some() {
                return Err(malformed("Content-Length and Transfer-Encoding must not be combined"));
            }
            if self.http_10 || codings.next().is_some() || !coding.eq_ignore_ascii_case(b"chunked") {
                return Err(malformed("Transfer-Encoding must be chunked"));
            }
            return Ok(Framing::Chunked);
        }
        let Some(digits) = length else { return Ok(Framing::None) };
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return Err(malformed("Content-Length must be a number"));
        }
        // A number that overflows 64 bits exceeds every limit.
        let digits = std::str::from_utf8(digits).unwrap_or_default();
        Ok(Framing::Length(digits.parse().unwrap_or(u64::MAX)))
    }

    /// Whether the client's version of HTTP supports chunked responses.
    pub(in crate::http) fn supports_chunked(&self) -> bool {
        !self.http_10
    }

    /// Whether the client accepts responses in this content coding (RFC 9110, section 12.5.3).
    pub(in crate::http) fn accepts(&self, coding: &str) -> bool {
        let mut items = self.headers("accept-encoding").flat_map(|value| value.split(|byte| *byte == b','));
        items.any(|item| {
            let mut parts = item.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
            let is_named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(coding.as_bytes()));
            // A weight of zero, with up to three decimals, excludes the coding.
            let has_zero_weight = |part: &[u8]| {
                let weight = part.strip_prefix(b"q=").or_else(|| part.strip_prefix(b"Q="));
                weight.is_some_and(|weight| weight.iter().all(|byte| b"0.".contains(byte)))
            };
            is_named && !parts.any(has_zero_weight)
        })
    }

    /// Whether the connection stays open after the response (RFC 9112, section 9.3).
    pub(in crate::http) fn keep_alive(&self) -> bool {
        let mut options = self.headers("connection").flat_map(|value| value.split(|byte| *byte == b','));
        let mut has_option = |name: &[u8]| options.any(|option| option.trim_ascii().eq_ignore_ascii_case(name));
        if self.http_10 { has_option(b"keep-alive") } else { !has_option(b"close") }
    }

    /// Returns whether the client waits for `100 Continue` before it sends the body.
    ///
    /// # Errors
    /// Fails with status 417 on any other expectation.
    pub(in crate::http) fn expects_continue(&self) -> Result<bool, ProtocolError> {
        match self.headers("expect").next() {
            None => Ok(false),
            Some(value) if value.eq_ignore_ascii_case(b"100-continue") => Ok(!self.http_10),
            Some(_) => Err(ProtocolError { status: 417, detail: "Expect must be 100-continue" }),
        }
    }
}

/// Changes the version of a request line from HTTP/1.2 to HTTP/1.9 into HTTP/1.1: a server answers with the highest version
/// that it supports (RFC 9110, section 6.2).
fn lower_minor_version(head: &mut [u8]) {
    let Some(end) = head.windows(2).position(|pair| pair == b"\r\n") else { return };
    if let Some((minor, before)) = head[..end].split_last_mut()
        && before.ends_with(b" HTTP/1.")
        && (b'2'..=b'9').contains(minor)
    {
        *minor = b'1';
    }
}

/// Splits a request target (`/path?query` or `http://host/path?query`) into the ranges of its path and query.
fn split_target(bytes: &[u8], target: Range<usize>) -> Result<(Range<usize>, Range<usize>), ProtocolError> {
    let text = &bytes[target.clone()];
    let absolute = [b"http://".as_slice(), b"https://"]
        .into_iter()
        .find(|scheme| text.len() >= scheme.len() && text[..scheme.len()].eq_ignore_ascii_case(scheme));
    let skipped = match absolute {
        // A slash after a question mark belongs to the query; such a target has no path.
        Some(scheme) => match text[scheme.len()..].iter().position(|byte| b"/?#".contains(byte)) {
            Some(at) if text[scheme.len() + at] == b'/' => scheme.len() + at,
            _ => return Err(malformed("The request target must have a path")),
        },
        None if text.first() == Some(&b'/') => 0,
        None => return Err(malformed("The request target must be a path")),
    };
    let start = target.start + skipped;
    let question = bytes[start..target.end].iter().position(|byte| *byte == b'?');
    Ok(match question {
        Some(at) => (start..start + at, start + at + 1..target.end),
        None => (start..target.end, target.end..target.end),
    })
}

#[cfg(test)]
#[path = "head_tests.rs"]
mod tests;
