//! Clients that take their time.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{Client, Request, Service, Setup, report};

use super::siege::{Siege, crowd, readable, stranger};

/// A report with so many bytes to spare.
fn large(bytes: usize) -> Request {
    let mut large = report("large");
    large["extra"] = json!({ "padding": "x".repeat(bytes) });
    Request::post("/api/errors", &large)
}

/// Sends one byte on each connection, then waits, until the time is over.
fn drip(clients: &mut [Client], pause: Duration, lasting: Duration) {
    let until = Instant::now() + lasting;
    while Instant::now() < until {
        for client in &mut *clients {
            client.write(b"x");
        }
        std::thread::sleep(pause);
    }
}

#[test]
fn heads_that_drip_take_a_connection_each_and_nothing_else() {
    Siege::lay().withstands(|tracker| {
        let mut clients = crowd(tracker, 200, 8);
        for (n, client) in clients.iter_mut().enumerate() {
            client.write([&b"GET /health HTTP/1.1\r\nHost: x\r\nX-Slow: "[..], b"P", b"POST /api/errors HTTP"][n % 3]);
        }
        drip(&mut clients, Duration::from_millis(100), Duration::from_secs(3));
        assert!(!clients.iter().any(readable), "they have ten seconds");
        clients
    });
}

#[test]
fn bodies_that_drip_hold_no_more_than_a_share() {
    Siege::lay().withstands(|tracker| {
        for (key, addresses) in [(true, 1), (true, 64), (false, 1), (false, 64)] {
            let request = if key { large(200_000) } else { large(200_000).without_header("X-API-Key") };
            let bytes = request.bytes();
            let mut clients = crowd(tracker, 64, addresses);
            for client in &mut clients {
                // More together than may be in flight at once.
                client.write(&bytes[..100_000]);
            }
            drip(&mut clients, Duration::from_secs(1), Duration::from_secs(2));
            let statuses: Vec<u16> = clients
                .iter_mut()
                .filter(|client| readable(client))
                .map(|client| client.read_response().status)
                .collect();
            let refused = if key { 503 } else { 401 };
            assert!(statuses.iter().all(|status| *status == refused), "{statuses:?}");
            // A share of 2 MiB for one address, 4 MiB for all.
            let held = clients.len() - statuses.len();
            let most = match (key, addresses) {
                (false, _) => 0,
                (true, 1) => 20,
                (true, _) => 41,
            };
            assert!(held <= most, "{held} bodies are held");
        }
    });
}

/// What keeps a connection from ever finishing a request, and what becomes of it.
struct Trickle {
    name: &'static str,
    /// Whether a request was answered on the connection before.
    kept: bool,
    begin: Vec<u8>,
    again: &'static [u8],
    ends_after_s: f64,
    /// `None` where the connection is closed without a word.
    status: Option<u16>,
}

/// Not a siege: it lasts as long as the longest deadline, beside the sieges.
#[test]
fn no_trickle_renews_a_deadline() {
    let head = |name, begin: &[u8], again, status| {
        let begin = begin.into();
        Trickle { name, kept: false, begin, again, ends_after_s: 10., status }
    };
    let body = |name, begin: &[u8], again| Trickle { ends_after_s: 30., ..head(name, begin, again, Some(408)) };
    let kept = |trickle| Trickle { kept: true, ..trickle };
    let declared = large(100_000).bytes();
    let chunked = Request::new("POST", "/api/errors").header("Transfer-Encoding", "chunked").bytes();
    let chunked = |more: &str| [&chunked, more.as_bytes()].concat();
    let trickles = [
        head("a connection without a byte", b"", b"", None),
        head("a head", b"GET /health HTTP/1.1\r\nHost: x\r\nX-Slow: ", b"x", Some(408)),
        head("a TLS handshake", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\xa5", Some(408)),
        head("empty lines", b"\r\n", b"\r\n", None),
        head("half empty lines", b"\r", b"\n\r", Some(408)),
        kept(head("a head on a kept connection", b"G", b"E", Some(408))),
        kept(head("empty lines on a kept connection", b"\r\n", b"\r\n", None)),
        body("a body", &declared[..1_000], b"x"),
        body("chunks", &chunked(""), b"1\r\nx\r\n"),
        body("a chunk's line", &chunked("1;"), b"x"),
        body("trailers", &chunked("0\r\n"), b"A: b\r\n"),
        kept(body("a body on a kept connection", &declared[..1_000], b"x")),
    ];
    let tracker = Setup::error_tracker().start();
    std::thread::scope(|scope| {
        for (n, trickle) in trickles.iter().enumerate() {
            let tracker = &tracker;
            scope.spawn(move || trickle.ends_in_time(tracker, stranger(n)));
        }
    });
}

impl Trickle {
    fn ends_in_time(&self, tracker: &Service, from: [u8; 4]) {
        let Self { name, .. } = self;
        let mut client = tracker.connect_from(from).unwrap();
        if self.kept {
            client.send(&Request::get("/health")).expect(200);
        }
        let begun = Instant::now();
        client.write(&self.begin);
        while !readable(&client) {
            assert!(begun.elapsed().as_secs_f64() < self.ends_after_s + 2., "{name} goes on and on");
            client.write(self.again);
            std::thread::sleep(Duration::from_millis(500));
        }
        let lasted_s = begun.elapsed().as_secs_f64();
        assert!(lasted_s > self.ends_after_s - 0.5, "{name} ended after {lasted_s} s");
        match self.status {
            Some(status) => assert_eq!(client.read_response().status, status, "{name}"),
            None => assert!(client.closes_without_data(), "{name}"),
        }
    }
}
