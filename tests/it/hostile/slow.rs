//! Slow clients: heads and bodies that arrive byte by byte, and the deadlines that end them.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::harness::{Client, Request, Service, Setup, report};

use super::attack::{Attack, attacker_address, connect_many, has_data};

/// Returns a report with `bytes` bytes of padding.
fn padded_report(bytes: usize) -> Request {
    let mut large = report("large");
    large["extra"] = json!({ "padding": "x".repeat(bytes) });
    Request::post("/api/errors", &large)
}

/// Sends one byte per connection and interval until `duration` is over.
fn drip(clients: &mut [Client], interval: Duration, duration: Duration) {
    let until = Instant::now() + duration;
    while Instant::now() < until {
        for client in &mut *clients {
            client.write(b"x");
        }
        std::thread::sleep(interval);
    }
}

#[test]
fn slow_heads_occupy_only_their_connections() {
    Attack::start().assert_survives(|tracker| {
        let mut clients = connect_many(tracker, 200, 8);
        for (n, client) in clients.iter_mut().enumerate() {
            client.write([&b"GET /health HTTP/1.1\r\nHost: x\r\nX-Slow: "[..], b"P", b"POST /api/errors HTTP"][n % 3]);
        }
        drip(&mut clients, Duration::from_millis(100), Duration::from_secs(3));
        assert!(!clients.iter().any(has_data), "a connection ended before its ten seconds");
        clients
    });
}

#[test]
fn slow_bodies_are_limited_to_the_memory_budget() {
    Attack::start().assert_survives(|tracker| {
        for (key, addresses) in [(true, 1), (true, 64), (false, 1), (false, 64)] {
            let request = if key { padded_report(200_000) } else { padded_report(200_000).without_header("X-API-Key") };
            let bytes = request.bytes();
            let mut clients = connect_many(tracker, 64, addresses);
            for client in &mut clients {
                // Together more than the memory budget.
                client.write(&bytes[..100_000]);
            }
            drip(&mut clients, Duration::from_secs(1), Duration::from_secs(2));
            let statuses: Vec<u16> = clients
                .iter_mut()
                .filter(|client| has_data(client))
                .map(|client| client.read_response().status)
                .collect();
            let rejected = if key { 503 } else { 401 };
            assert!(statuses.iter().all(|status| *status == rejected), "{statuses:?}");
            // The budget is 2 MiB per address and 4 MiB in total.
            let pending = clients.len() - statuses.len();
            let pending_max = match (key, addresses) {
                (false, _) => 0,
                (true, 1) => 20,
                (true, _) => 41,
            };
            assert!(pending <= pending_max, "{pending} bodies are pending, at most {pending_max} fit the budget");
        }
    });
}

/// Slow input that never completes a request, and its expected end.
struct Trickle {
    name: &'static str,
    /// Whether the connection has completed a request before.
    reused: bool,
    begin: Vec<u8>,
    again: &'static [u8],
    ends_after_s: f64,
    /// Status of the error response; `None` if the connection is closed without one.
    status: Option<u16>,
}

/// Runs without the attack harness, in parallel with the attacks, because it lasts as long as the longest deadline.
#[test]
fn trickling_input_does_not_extend_deadlines() {
    let head = |name, begin: &[u8], again, status| {
        let begin = begin.into();
        Trickle { name, reused: false, begin, again, ends_after_s: 10., status }
    };
    let body = |name, begin: &[u8], again| Trickle { ends_after_s: 30., ..head(name, begin, again, Some(408)) };
    let reused = |trickle| Trickle { reused: true, ..trickle };
    let with_length = padded_report(100_000).bytes();
    let chunked = Request::new("POST", "/api/errors").header("Transfer-Encoding", "chunked").bytes();
    let chunked = |more: &str| [&chunked, more.as_bytes()].concat();
    let trickles = [
        head("no input", b"", b"", None),
        head("head", b"GET /health HTTP/1.1\r\nHost: x\r\nX-Slow: ", b"x", Some(408)),
        head("TLS handshake", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\xa5", Some(408)),
        head("empty lines", b"\r\n", b"\r\n", None),
        head("incomplete empty lines", b"\r", b"\n\r", Some(408)),
        reused(head("head on a reused connection", b"G", b"E", Some(408))),
        reused(head("empty lines on a reused connection", b"\r\n", b"\r\n", None)),
        body("body with a length", &with_length[..1_000], b"x"),
        body("chunks", &chunked(""), b"1\r\nx\r\n"),
        body("chunk size line", &chunked("1;"), b"x"),
        body("trailers", &chunked("0\r\n"), b"A: b\r\n"),
        reused(body("body on a reused connection", &with_length[..1_000], b"x")),
    ];
    let tracker = Setup::error_tracker().start();
    std::thread::scope(|scope| {
        for (n, trickle) in trickles.iter().enumerate() {
            let tracker = &tracker;
            scope.spawn(move || trickle.assert_ends_in_time(tracker, attacker_address(n)));
        }
    });
}

impl Trickle {
    fn assert_ends_in_time(&self, tracker: &Service, source: [u8; 4]) {
        let Self { name, .. } = self;
        let mut client = tracker.connect_from(source).unwrap();
        if self.reused {
            client.send(&Request::get("/health")).expect(200);
        }
        let started = Instant::now();
        client.write(&self.begin);
        while !has_data(&client) {
            assert!(started.elapsed().as_secs_f64() < self.ends_after_s + 2., "{name} is still open");
            client.write(self.again);
            std::thread::sleep(Duration::from_millis(500));
        }
        let lasted_s = started.elapsed().as_secs_f64();
        assert!(lasted_s > self.ends_after_s - 0.5, "{name} ended after {lasted_s} s");
        match self.status {
            Some(status) => assert_eq!(client.read_response().status, status, "{name}"),
            None => assert!(client.closes_without_data(), "{name}"),
        }
    }
}
