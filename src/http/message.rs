//! HTTP/1.1 requests as bytes (RFC 9112): where a head ends, what it says, how its body is framed, and chunks. Pure: no
//! sockets, no clock, nothing of this program's routes.

use std::ops::Range;

use percent_encoding::percent_decode;
use tiny_http::Method;

/// The most a request line and its fields may take together, in bytes; beyond it the answer is 431.
pub(super) const HEAD_BYTES_MAX: usize = 16 * 1024;
const FIELDS_MAX: usize = 100;
/// A chunk's size line with its extensions.
const CHUNK_LINE_BYTES_MAX: usize = 256;
const TRAILER_BYTES_MAX: usize = 8 * 1024;

/// Bytes that are not the HTTP this server speaks: the status to answer with, and one sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) status: u16,
    pub(super) detail: &'static str,
}

const fn malformed(detail: &'static str) -> Fault {
    Fault { status: 400, detail }
}

/// A request's head: the bytes as they came, and where its parts lie in them.
#[derive(Debug)]
pub(super) struct Head {
    bytes: Box<[u8]>,
    method: Method,
    path: Range<usize>,
    query: Range<usize>,
    fields: Vec<(Range<usize>, Range<usize>)>,
    http_10: bool,
}

/// How the body after a head is delimited (RFC 9112, section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// No body follows.
    None,
    /// Exactly this many bytes follow.
    Length(u64),
    /// Chunks follow.
    Chunked,
}

/// Looks for the end of a head in `input`, of which `scanned` bytes were seen before without finding one.
/// Answers the head's length with its empty line, or `None` while it is incomplete.
pub(super) fn head_end(input: &[u8], scanned: usize) -> Result<Option<usize>, Fault> {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n";
    if input.starts_with(PREFACE) {
        return Err(Fault { status: 505, detail: "This server speaks HTTP/1.1" });
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

fn head_too_large() -> Fault {
    Fault { status: 431, detail: "The request line and headers may take at most 16384 bytes" }
}

impl Head {
    /// Reads a complete head, as [`head_end`] delimits it.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        let bytes: Box<[u8]> = bytes.into();
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut request = httparse::Request::new(&mut fields);
        match request.parse(&bytes) {
            Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
            Ok(_) => return Err(malformed("The head is incomplete")),
            Err(httparse::Error::Version) => return Err(Fault { status: 505, detail: "This server speaks HTTP/1.1" }),
            Err(httparse::Error::TooManyHeaders) => return Err(Fault { status: 431, detail: "Too many headers" }),
            Err(_) => return Err(malformed("The head is not HTTP/1.1")),
        }
        let method = request.method.and_then(|name| name.parse().ok()).ok_or(malformed("The method is not a token"))?;
        let within = |part: &[u8]| {
            let start = part.as_ptr() as usize - bytes.as_ptr() as usize;
            start..start + part.len()
        };
        let target = within(request.path.unwrap_or_default().as_bytes());
        let (path, query) = split_target(&bytes, target)?;
        let fields = request.headers.iter().map(|field| (within(field.name.as_bytes()), within(field.value))).collect();
        let http_10 = request.version == Some(0);
        let head = Self { method, path, query, fields, http_10, bytes };
        if !http_10 && head.all("host").count() != 1 {
            return Err(malformed("An HTTP/1.1 request carries exactly one Host"));
        }
        Ok(head)
    }

    /// Bytes of memory it takes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn method(&self) -> &Method {
        &self.method
    }

    /// The path's segments, split at the slashes the client wrote and percent-decoded afterwards, so that `%2F` is
    /// part of a name. `None` when one is not UTF-8.
    pub(super) fn segments(&self) -> Option<Vec<String>> {
        let path = self.bytes.get(self.path.clone())?;
        let decode = |raw: &[u8]| percent_decode(raw).decode_utf8().ok().map(std::borrow::Cow::into_owned);
        path.split(|byte| *byte == b'/').skip(1).map(decode).collect()
    }

    /// The path as it came, for the log.
    pub(super) fn path(&self) -> &str {
        std::str::from_utf8(&self.bytes[self.path.clone()]).unwrap_or_default()
    }

    /// The query's pairs in their order, percent-decoded, `+` being a space. What is not UTF-8 shows as U+FFFD.
    pub(super) fn query(&self) -> Vec<(String, String)> {
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

    /// The first field of this name, when it is UTF-8.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.all(name).next().and_then(|value| std::str::from_utf8(value).ok())
    }

    /// Every field of this name, in order.
    pub(super) fn all<'a, 'n>(&'a self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        let named = move |(field, _): &&(Range<usize>, Range<usize>)| {
            self.bytes[field.clone()].eq_ignore_ascii_case(name.as_bytes())
        };
        self.fields.iter().filter(named).map(|(_, value)| &self.bytes[value.clone()])
    }

    /// How the body is delimited. Everything two parties could read differently is refused (RFC 9112, section 6.3;
    /// request smuggling lives on such differences).
    pub(super) fn framing(&self) -> Result<Framing, Fault> {
        let mut lengths = self.all("content-length");
        let length = lengths.next();
        if lengths.next().is_some() {
            return Err(malformed("Content-Length stands twice"));
        }
        let mut codings = self.all("transfer-encoding");
        if let Some(coding) = codings.next() {
            if length.is_some() {
                return Err(malformed("Content-Length and Transfer-Encoding exclude each other"));
            }
            if self.http_10 || codings.next().is_some() || !coding.eq_ignore_ascii_case(b"chunked") {
                return Err(malformed("The only Transfer-Encoding understood is chunked"));
            }
            return Ok(Framing::Chunked);
        }
        let Some(digits) = length else { return Ok(Framing::None) };
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return Err(malformed("Content-Length must be a number"));
        }
        // More digits than 64 bits hold are still a number, and larger than any limit.
        let digits = std::str::from_utf8(digits).unwrap_or_default();
        Ok(Framing::Length(digits.parse().unwrap_or(u64::MAX)))
    }

    /// Whether the client's version of HTTP has chunks.
    pub(super) fn knows_chunks(&self) -> bool {
        !self.http_10
    }

    /// Whether the client understands answers in this coding (RFC 9110, section 12.5.3).
    pub(super) fn accepts(&self, coding: &str) -> bool {
        let mut items = self.all("accept-encoding").flat_map(|value| value.split(|byte| *byte == b','));
        items.any(|item| {
            let mut parts = item.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
            let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(coding.as_bytes()));
            // A weight of zero, with up to three decimals, means: anything but this.
            let refused = |part: &[u8]| {
                let weight = part.strip_prefix(b"q=").or_else(|| part.strip_prefix(b"Q="));
                weight.is_some_and(|weight| weight.iter().all(|byte| b"0.".contains(byte)))
            };
            named && !parts.any(refused)
        })
    }

    /// Whether the client wants the connection kept after the answer (RFC 9112, section 9.3).
    pub(super) fn keep_alive(&self) -> bool {
        let mut options = self.all("connection").flat_map(|value| value.split(|byte| *byte == b','));
        let mut listed = |wanted: &[u8]| options.any(|option| option.trim_ascii().eq_ignore_ascii_case(wanted));
        if self.http_10 { listed(b"keep-alive") } else { !listed(b"close") }
    }

    /// Whether the client waits for `100 Continue` before it sends the body; any other expectation is a fault.
    pub(super) fn expects_continue(&self) -> Result<bool, Fault> {
        match self.all("expect").next() {
            None => Ok(false),
            Some(value) if value.eq_ignore_ascii_case(b"100-continue") => Ok(!self.http_10),
            Some(_) => Err(Fault { status: 417, detail: "The only expectation understood is 100-continue" }),
        }
    }
}

/// Splits `/path?query`, `http://host/path?query` into path and query; a fragment is not sent by clients.
fn split_target(bytes: &[u8], target: Range<usize>) -> Result<(Range<usize>, Range<usize>), Fault> {
    let text = &bytes[target.clone()];
    let absolute = [b"http://".as_slice(), b"https://"]
        .into_iter()
        .find(|scheme| text.len() >= scheme.len() && text[..scheme.len()].eq_ignore_ascii_case(scheme));
    let skipped = match absolute {
        // A slash behind a question mark is part of the query, and there is no path.
        Some(scheme) => match text[scheme.len()..].iter().position(|byte| b"/?#".contains(byte)) {
            Some(at) if text[scheme.len() + at] == b'/' => scheme.len() + at,
            _ => return Err(malformed("The request target has no path")),
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

/// Takes chunks apart as their bytes arrive (RFC 9112, section 7.1). Extensions and trailers are read and dropped.
#[derive(Debug, Default)]
pub(super) struct ChunkDecoder {
    state: ChunkState,
    trailer_bytes: usize,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum ChunkState {
    #[default]
    Size,
    Data(u64),
    DataEnd,
    Trailer,
    Done,
}

impl ChunkDecoder {
    /// Moves what it can from `input` to `sink`, answers how many bytes of `input` are used up; the rest is to be
    /// offered again with what comes after it. Once [`ChunkDecoder::done`], nothing more is taken.
    pub(super) fn decode<E: From<Fault>>(
        &mut self,
        input: &[u8],
        mut sink: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<usize, E> {
        let mut used = 0;
        loop {
            let rest = &input[used..];
            match self.state {
                ChunkState::Done => return Ok(used),
                ChunkState::Data(left) => {
                    let take = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    if take == 0 {
                        return Ok(used);
                    }
                    sink(&rest[..take])?;
                    used += take;
                    let left = left - take as u64;
                    self.state = if left == 0 { ChunkState::DataEnd } else { ChunkState::Data(left) };
                }
                ChunkState::DataEnd => {
                    if rest.len() < 2 {
                        return Ok(used);
                    }
                    if &rest[..2] != b"\r\n" {
                        return Err(malformed("A chunk does not end where its size says").into());
                    }
                    used += 2;
                    self.state = ChunkState::Size;
                }
                ChunkState::Size => {
                    let Some(line) = line(rest, CHUNK_LINE_BYTES_MAX)? else { return Ok(used) };
                    used += line.len() + 2;
                    let size = chunk_size(line)?;
                    self.state = if size == 0 { ChunkState::Trailer } else { ChunkState::Data(size) };
                }
                ChunkState::Trailer => {
                    let Some(line) = line(rest, TRAILER_BYTES_MAX)? else { return Ok(used) };
                    used += line.len() + 2;
                    self.trailer_bytes += line.len() + 2;
                    if self.trailer_bytes > TRAILER_BYTES_MAX {
                        return Err(malformed("The trailers are too large").into());
                    }
                    if line.is_empty() {
                        self.state = ChunkState::Done;
                    }
                }
            }
        }
    }

    pub(super) fn done(&self) -> bool {
        self.state == ChunkState::Done
    }

    /// Bytes that the current chunk lacks.
    pub(super) fn expected_bytes(&self) -> u64 {
        if let ChunkState::Data(left) = self.state { left } else { 0 }
    }
}

/// The first line of `rest` without its CR LF, `None` while it is incomplete. A CR or LF alone, at which others may see
/// a line end, is a fault.
fn line(rest: &[u8], bytes_max: usize) -> Result<Option<&[u8]>, Fault> {
    let end = rest.iter().take(bytes_max + 1).position(|byte| *byte == b'\n');
    let line = end.and_then(|at| rest[..at].strip_suffix(b"\r"));
    match (end, line) {
        (_, Some(line)) if !line.contains(&b'\r') => Ok(Some(line)),
        (Some(_), _) => Err(malformed("Lines must end with CR LF")),
        (None, _) if rest.len() > bytes_max => Err(malformed("A chunk's line is too long")),
        (None, _) => Ok(None),
    }
}

fn chunk_size(line: &[u8]) -> Result<u64, Fault> {
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
    let blanks = digits.iter().rev().take_while(|byte| b" \t".contains(byte)).count();
    let digits = &digits[..digits.len() - blanks];
    if digits.is_empty() || digits.len() > 16 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(malformed("A chunk's size must be a hexadecimal number"));
    }
    let text = std::str::from_utf8(digits).unwrap_or_default();
    u64::from_str_radix(text, 16).map_err(|_| malformed("A chunk's size must be a hexadecimal number"))
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
