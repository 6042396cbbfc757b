//! What must hold of requests and bodies whatever their bytes are. Run by `make fuzz`, and on its corpus by the tests.

use std::net::IpAddr;
use std::sync::Arc;

use percent_encoding::{NON_ALPHANUMERIC, percent_encode};

use super::address::{Network, Proxies, canonical, subscriber};
use super::body::{Intake, Trouble, decode};
use super::budget::Budget;
use super::keys::Principal;
use super::message::{Fault, Framing, HEAD_BYTES_MAX, Head, head_end};
use super::origins::AllowedOrigins;
use super::request::{Content, Request};

const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const BODY_BYTES_MAX: usize = 16 * 1024;

/// A request for this path and query; `None` where it cannot be a request's target.
pub(crate) fn request(target: &str) -> Option<Request> {
    let bytes = format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n");
    let end = head_end(bytes.as_bytes(), 0).ok()??;
    let head = Head::parse(bytes.as_bytes().get(..end).filter(|head| head.len() == bytes.len())?).ok()?;
    let (query, principal) = (head.query(), Arc::new(Principal::anonymous()));
    Some(Request { head, params: Vec::new(), query, body: Arc::default(), spooled: None, principal, client: CLIENT })
}

/// Heads: where they end does not depend on how they arrive, and what is read of them is theirs.
pub(crate) fn heads(data: &[u8]) {
    let whole = head_end(data, 0);
    for step in [1, 7, 1 + data.len() / 3] {
        let (mut scanned, mut found) = (0, Ok(None));
        while scanned < data.len() && found == Ok(None) {
            let arrived = (scanned + step).min(data.len());
            found = head_end(&data[..arrived], scanned);
            scanned = arrived;
        }
        assert_eq!(found, whole, "in steps of {step}");
    }
    let Ok(Some(end)) = whole else { return };
    assert!(end <= HEAD_BYTES_MAX);
    let Ok(head) = Head::parse(&data[..end]) else { return };
    assert!(head.path().starts_with('/'), "{:?}", head.path());
    let _ = (head.keep_alive(), head.expects_continue(), head.accepts("gzip"), head.field("cookie"));
    if let Ok(framing) = head.framing() {
        let (lengths, codings) = (head.all("content-length").count(), head.all("transfer-encoding").count());
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
        // Encoded it may be three times as long, which may be too long for a head.
        assert!(again.is_none() && path.len() > HEAD_BYTES_MAX - 64 || again == Some(segments), "{path}");
    }
    let pairs = head.query();
    let query: Vec<String> =
        pairs.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect();
    let target = format!("/?{}", query.join("&"));
    let again = request(&target).map(|request| request.query);
    assert!(again.is_none() && target.len() > HEAD_BYTES_MAX - 64 || again == Some(pairs), "{target}");
}

/// Bodies: chunks that arrive in any pieces make the same, and nothing is more than its limit. The first byte says how
/// the rest is packed: `c` in chunks, `g` by gzip, `d` by deflate.
pub(crate) fn bodies(data: &[u8]) {
    let Some((packing, data)) = data.split_first() else { return };
    match packing {
        b'c' => chunks(data),
        b'g' => packed(data, "gzip"),
        _ => packed(data, "deflate"),
    }
}

/// What was taken of chunks, what is left, and whether that was all; or the fault's status.
type Taken = Result<(Vec<u8>, usize, bool), u16>;

fn chunks(data: &[u8]) {
    let whole = taken(data, data.len().max(1));
    for step in [1, 5, 1 + data.len() / 3] {
        assert_eq!(taken(data, step), whole, "in steps of {step}");
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
        assert_eq!(taken(&again, again.len()), Ok((body, 4, true)));
    }
}

fn taken(data: &[u8], step: usize) -> Taken {
    let mut intake = Intake::new(Framing::Chunked, BODY_BYTES_MAX, None).map_err(|_| 500_u16)?;
    let (mut input, mut arrived) = (Vec::new(), 0);
    while arrived < data.len() && !intake.done() {
        let piece = &data[arrived..data.len().min(arrived + step)];
        arrived += piece.len();
        input.extend_from_slice(piece);
        let used = intake.feed(&input).map_err(|trouble| match trouble {
            Trouble::Fault(Fault { status, .. }) => status,
            Trouble::Error(_) => 413,
        })?;
        input.drain(..used);
        assert!(intake.bytes_in_memory() <= BODY_BYTES_MAX);
    }
    let done = intake.done();
    let Content::Memory(body) = intake.into_content() else { return Err(500) };
    Ok((body, if done { input.len() + data.len() - arrived } else { input.len() }, done))
}

fn packed(data: &[u8], encoding: &str) {
    let unpacked = |bytes_max: usize| {
        let mut charge = Budget::default().charge(CLIENT);
        let content =
            decode(Content::Memory(data.to_vec()), Some(encoding), bytes_max, &mut charge, &std::env::temp_dir());
        match content {
            Ok(Content::Memory(bytes)) => Some(bytes),
            _ => None,
        }
    };
    let Some(bytes) = unpacked(BODY_BYTES_MAX) else { return };
    assert!(bytes.len() <= BODY_BYTES_MAX);
    assert_eq!(unpacked(bytes.len()).as_ref(), Some(&bytes), "exactly the limit");
    if let Some(less) = bytes.len().checked_sub(1) {
        assert_eq!(unpacked(less), None, "one more than the limit");
    }
}

/// Addresses and origins. A line each: trusted networks, the peer, `X-Forwarded-For`, listed origins, an origin, the host.
pub(crate) fn addresses(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut lines = text.split('\n').chain(std::iter::repeat(""));
    let mut line = || lines.next().unwrap_or_default();
    let networks: Vec<Network> = line().split(',').filter_map(Network::parse).collect();
    let peer = line().parse::<IpAddr>().map_or(CLIENT, canonical);
    let forwarded = line();
    let proxies = Proxies::new(networks);
    let client = proxies.client(peer, Some(forwarded));
    assert!(proxies.is_trusted(peer) || client == peer, "a stranger speaks for itself");
    // Whatever a client writes in front of what proxies add changes nothing once a hop is no proxy's.
    let spoofed = proxies.client(peer, Some(&format!("203.0.113.7, {forwarded}")));
    assert!(spoofed == client || proxies.is_trusted(client), "{spoofed} for {client}");
    assert_eq!(subscriber(subscriber(client)), subscriber(client));

    let listed: Vec<String> = line().split(',').map(|origin| origin.trim().to_owned()).collect();
    let (origin, host) = (line(), line());
    let any = listed.iter().any(|origin| origin == "*");
    let Ok(origins) = AllowedOrigins::new(&listed) else { return };
    if origins.matches(origin) {
        assert!(origins.accepts(origin, host));
        let name = origin.split_once("://").map(|(_, name)| name);
        let plain = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.:[]".contains(&byte));
        assert!(any || name.is_some_and(plain), "{origin:?} is no origin");
    }
}
