//! Fuzz targets for request heads, bodies and addresses. `make fuzz` runs them; the tests run them on the corpus.

use std::net::IpAddr;
use std::sync::Arc;

use percent_encoding::{NON_ALPHANUMERIC, percent_encode};

use super::middleware::client_address::{TrustedProxies, canonical, rate_limit_key};
use super::middleware::cors::AllowedOrigins;
use super::middleware::keys::Principal;
use super::middleware::routing::IdempotencySource;
use super::protocol::body::{BodyError, BodyReader, BodyStorage};
use super::protocol::content_coding::decode;
use super::protocol::error::ProtocolError;
use super::protocol::head::{Framing, HEAD_BYTES_MAX, Head, find_head_end};
use super::request::Request;
use crate::ip_network::IpNetwork;

const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const BODY_BYTES_MAX: usize = 16 * 1024;

/// Returns a `GET` request for this target, or `None` if it is not a valid target.
pub(crate) fn request(target: &str) -> Option<Request> {
    let bytes = format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n");
    let end = find_head_end(bytes.as_bytes(), 0).ok()??;
    let head = Head::parse(bytes.as_bytes().get(..end).filter(|head| head.len() == bytes.len())?).ok()?;
    let (query, principal) = (head.query(), Arc::new(Principal::anonymous()));
    Some(Request {
        head,
        params: Vec::new(),
        query,
        body: Arc::default(),
        spooled: None,
        principal,
        client: CLIENT,
        idempotency: IdempotencySource::None,
    })
}

/// Checks that the end of a head does not depend on how its bytes arrive, and that its parts survive encoding again.
pub(crate) fn heads(data: &[u8]) {
    let whole = find_head_end(data, 0);
    for step in [1, 7, 1 + data.len() / 3] {
        let (mut scanned, mut found) = (0, Ok(None));
        while scanned < data.len() && found == Ok(None) {
            let arrived = (scanned + step).min(data.len());
            found = find_head_end(&data[..arrived], scanned);
            scanned = arrived;
        }
        assert_eq!(found, whole, "in steps of {step}");
    }
    let Ok(Some(end)) = whole else { return };
    assert!(end <= HEAD_BYTES_MAX);
    let Ok(head) = Head::parse(&data[..end]) else { return };
    assert!(head.path().starts_with('/'), "{:?}", head.path());
    let _ = (head.keep_alive(), head.expects_continue(), head.accepts("gzip"), head.header("cookie"));
    if let Ok(framing) = head.framing() {
        let (lengths, codings) = (head.headers("content-length").count(), head.headers("transfer-encoding").count());
        let expected = match framing {
            Framing::None => (0, 0),
            Framing::Length(_) => (1, 0),
            Framing::Chunked => (0, 1),
        };
        assert_eq!((lengths, codings), expected, "{framing:?}");
    }
    let encoded = |text: &str| percent_encode(text.as_bytes(), NON_ALPHANUMERIC).to_string();
    if let Some(segments) = head.segments() {
        let path: String = segments.iter().map(|segment| format!("/{}", encoded(segment))).collect();
        let again = request(&path).and_then(|request| request.head.segments());
        // Percent-encoding may triple the length, which may exceed the limit for a head.
        assert!(again.is_none() && path.len() > HEAD_BYTES_MAX - 64 || again == Some(segments), "{path}");
    }
    let pairs = head.query();
    let query: Vec<String> =
        pairs.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect();
    let target = format!("/?{}", query.join("&"));
    let again = request(&target).map(|request| request.query);
    assert!(again.is_none() && target.len() > HEAD_BYTES_MAX - 64 || again == Some(pairs), "{target}");
}

/// Checks that the split of chunked input does not change the body, and that no body exceeds its limit. The first byte
/// selects the format of the rest: `c` for chunked, `g` for gzip, any other for deflate.
pub(crate) fn bodies(data: &[u8]) {
    let Some((format, data)) = data.split_first() else { return };
    match format {
        b'c' => chunks(data),
        b'g' => compressed(data, "gzip"),
        _ => compressed(data, "deflate"),
    }
}

/// The decoded body, the number of unread bytes, and whether the body is complete; or the status of the error.
type Decoded = Result<(Vec<u8>, usize, bool), u16>;

fn chunks(data: &[u8]) {
    let whole = decode_chunks(data, data.len().max(1));
    for step in [1, 5, 1 + data.len() / 3] {
        assert_eq!(decode_chunks(data, step), whole, "in steps of {step}");
    }
    let Ok((body, left, done)) = whole else { return };
    assert!(body.len() <= BODY_BYTES_MAX && body.len() + left <= data.len());
    if done {
        let mut again = format!("{:x}\r\n", body.len()).into_bytes();
        if !body.is_empty() {
            again.extend_from_slice(&body);
            again.extend_from_slice(b"\r\n0\r\n");
        }
        again.extend_from_slice(b"\r\nNEXT");
        assert_eq!(decode_chunks(&again, again.len()), Ok((body, 4, true)));
    }
}

fn decode_chunks(data: &[u8], step: usize) -> Decoded {
    let mut reader = BodyReader::new(Framing::Chunked, BODY_BYTES_MAX, None).map_err(|_| 500_u16)?;
    let (mut input, mut arrived) = (Vec::new(), 0);
    while arrived < data.len() && !reader.is_done() {
        let piece = &data[arrived..data.len().min(arrived + step)];
        arrived += piece.len();
        input.extend_from_slice(piece);
        let used = reader.feed(&input).map_err(|error| match error {
            BodyError::Protocol(ProtocolError { status, .. }) => status,
            BodyError::Rejected(_) => 413,
        })?;
        input.drain(..used);
        assert!(reader.bytes_in_memory() <= BODY_BYTES_MAX);
    }
    let done = reader.is_done();
    let BodyStorage::Memory(body) = reader.into_storage() else { return Err(500) };
    Ok((body, if done { input.len() + data.len() - arrived } else { input.len() }, done))
}

fn compressed(data: &[u8], encoding: &str) {
    let decoded = |bytes_max: usize| {
        let mut unlimited = |_| Ok(());
        let content = decode(
            BodyStorage::Memory(data.to_vec()),
            Some(encoding),
            bytes_max,
            &mut unlimited,
            &std::env::temp_dir(),
        );
        match content {
            Ok(BodyStorage::Memory(bytes)) => Some(bytes),
            _ => None,
        }
    };
    let Some(bytes) = decoded(BODY_BYTES_MAX) else { return };
    assert!(bytes.len() <= BODY_BYTES_MAX);
    assert_eq!(decoded(bytes.len()).as_ref(), Some(&bytes), "a limit equal to the size");
    if let Some(less) = bytes.len().checked_sub(1) {
        assert_eq!(decoded(less), None, "a limit one byte below the size");
    }
}

/// Checks client addresses and origins. The input has one line each: trusted networks, the peer, `X-Forwarded-For`,
/// allowed origins, an origin, the host.
pub(crate) fn addresses(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut lines = text.split('\n').chain(std::iter::repeat(""));
    let mut line = || lines.next().unwrap_or_default();
    let networks: Vec<IpNetwork> = line().split(',').filter_map(IpNetwork::parse).collect();
    let peer = line().parse::<IpAddr>().map_or(CLIENT, canonical);
    let forwarded = line();
    let proxies = TrustedProxies::new(networks);
    let client = proxies.client(peer, Some(forwarded));
    assert!(proxies.is_trusted(peer) || client == peer, "the header of an untrusted peer is ignored");
    // Addresses in front of the first untrusted hop have no effect.
    let spoofed = proxies.client(peer, Some(&format!("203.0.113.7, {forwarded}")));
    assert!(spoofed == client || proxies.is_trusted(client), "{spoofed} for {client}");
    assert_eq!(rate_limit_key(rate_limit_key(client)), rate_limit_key(client));

    let listed: Vec<String> = line().split(',').map(|origin| origin.trim().to_owned()).collect();
    let (origin, host) = (line(), line());
    let any = listed.iter().any(|origin| origin == "*");
    let Ok(origins) = AllowedOrigins::new(&listed) else { return };
    if origins.matches(origin) {
        assert!(origins.accepts(origin, host));
        let name = origin.split_once("://").map(|(_, name)| name);
        let plain = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.:[]".contains(&byte));
        assert!(any || name.is_some_and(plain), "{origin:?} is not an origin");
    }
}
