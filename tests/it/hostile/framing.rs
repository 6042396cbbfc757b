//! Request smuggling: ambiguous framing ends the connection. Also pipelining and half-closed connections.

use std::time::{Duration, Instant};

use crate::support::harness::{API_KEY, Client, Request, report, wait_until};

use super::attack::{Attack, assert_rejected, attacker_address, connect_many, is_closed};

/// Headers that delimit the body ambiguously or not at all, with the bytes after the head.
const HEADERS: &[(&str, &str)] = &[
    ("Content-Length: 6\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\nX"),
    ("Transfer-Encoding: chunked\r\nContent-Length: 6\r\n", "0\r\n\r\nX"),
    ("Content-Length: 0\r\nContent-Length: 44\r\n", ""),
    ("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"),
    ("Content-Length: 5, 5\r\n", "hello"),
    ("Content-Length: +1\r\n", "x"),
    ("Content-Length: -1\r\n", ""),
    ("Content-Length: 0x5\r\n", "hello"),
    ("Content-Length: 5 5\r\n", "hello"),
    ("Content-Length: 1e1\r\n", ""),
    ("Content-Length: \u{665}\r\n", ""),
    ("Content-Length:\r\n", ""),
    ("Content-Length : 5\r\n", "hello"),
    ("Content-Length\t: 5\r\n", "hello"),
    ("Content-Length\0: 5\r\n", "hello"),
    ("Content-Length\r\n: 5\r\n", "hello"),
    ("Content-Length: 5\rX: y\r\n", "hello"),
    ("Content-Length: 5\nX: y\r\n", "hello"),
    (" Content-Length: 5\r\n", "hello"),
    ("X-Folded: a\r\n Content-Length: 5\r\n", "hello"),
    ("X-Folded: a\r\n\tb\r\n", ""),
    (": empty\r\n", ""),
    ("no colon\r\n", ""),
    ("Host: y\r\n", ""),
    ("Transfer-Encoding: gzip\r\n", ""),
    ("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"),
    ("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n"),
    ("Transfer-Encoding: identity\r\n", ""),
    ("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"),
    ("Transfer-Encoding: \"chunked\"\r\n", "0\r\n\r\n"),
    ("Transfer-Encoding: chunked;q=1\r\n", "0\r\n\r\n"),
    ("Transfer-Encoding: \u{b}chunked\r\n", "0\r\n\r\n"),
    ("Transfer-Encoding:\r\n", "0\r\n\r\n"),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
];

/// Chunked bodies with invalid syntax, or whose end is ambiguous.
const CHUNKS: &[&str] = &[
    "\r\n0\r\n\r\n",
    "+1\r\nx\r\n0\r\n\r\n",
    "-1\r\nx\r\n0\r\n\r\n",
    "0x1\r\nx\r\n0\r\n\r\n",
    " 1\r\nx\r\n0\r\n\r\n",
    "1\nx\r\n0\r\n\r\n",
    "1\r\r\nx\r\n0\r\n\r\n",
    "1\u{c}\r\nx\r\n0\r\n\r\n",
    "1;a\rb\r\nx\r\n0\r\n\r\n",
    "1;a\nb\r\nx\r\n0\r\n\r\n",
    "1\r\nxy\r\n0\r\n\r\n",
    "1\r\nx\n0\r\n\r\n",
    "2\r\nx\r\n0\r\n\r\n",
    "00000000000000001\r\nx\r\n0\r\n\r\n",
    "10000000000000000\r\n",
    "0\n\r\n",
    "0\r\nX: y\n\r\n",
    "0\r\nX: y\rContent-Length: 5\r\n\r\n",
];

/// Invalid request lines and the status of their responses. A malformed version counts as an unsupported version.
const REQUEST_LINES: &[(&str, u16)] = &[
    ("POST http://x?/api/errors HTTP/1.1", 400),
    ("POST api/errors HTTP/1.1", 400),
    ("CONNECT x:80 HTTP/1.1", 400),
    ("OPTIONS * HTTP/1.1", 400),
    ("(POST) /api/errors HTTP/1.1", 400),
    ("PO\u{e9}ST /api/errors HTTP/1.1", 400),
    ("POST\t/api/errors HTTP/1.1", 400),
    ("POST /api/errors HTTP/1.1 ", 400),
    ("POST /api/errors", 400),
    ("PO ST /api/errors HTTP/1.1", 505),
    ("POST /api/errors  HTTP/1.1", 505),
    ("POST /api/errors http/1.1", 505),
    ("POST /api/errors HTTP/01.1", 505),
];

#[test]
fn ambiguous_framing_ends_the_connection() {
    let post = |fields: &str| format!("POST /api/errors HTTP/1.1\r\nHost: x\r\nX-API-Key: {API_KEY}\r\n{fields}\r\n");
    let chunked = post("Transfer-Encoding: chunked\r\n");
    let plain = post("");
    let malformed = [
        chunked.replacen("HTTP/1.1", "HTTP/1.0", 1),
        plain.replace("\r\n", "\n"),
        plain.replacen("\r\n", "\n", 1),
        plain.replacen("\r\n", "\r", 1),
        plain.replacen("Host: x\r\n", "", 1),
        format!("\n\n{plain}"),
        format!("\r{plain}"),
        format!(" {plain}"),
        format!("{}{plain}", "\r\n".repeat(6)),
    ];
    Attack::start().assert_survives(|tracker| {
        for (fields, body) in HEADERS {
            assert_rejected(tracker, (post(fields) + body).as_bytes(), 400);
        }
        for chunks in CHUNKS {
            assert_rejected(tracker, (chunked.clone() + chunks).as_bytes(), 400);
        }
        for (line, status) in REQUEST_LINES {
            assert_rejected(tracker, format!("{line}\r\nHost: x\r\n\r\n").as_bytes(), *status);
        }
        for request in &malformed {
            assert_rejected(tracker, request.as_bytes(), 400);
        }
    });
}

#[test]
fn pipelined_requests_are_answered_on_half_closed_connections() {
    let requests = [
        (Request::post("/api/errors", &report("pipelined")), &[201, 200][..]),
        (Request::get("/api/nothing"), &[404]),
        (Request::new("PUT", "/api/errors"), &[405]),
        (Request::get("/api/errors/999999"), &[404]),
        (Request::post("/api/errors", &report("pipelined")), &[200]),
        (Request::get("/health").without_header("X-API-Key"), &[200]),
        (Request::get("/api/errors").without_header("X-API-Key"), &[401]),
        (Request::new("POST", "/api/errors").body("no json"), &[400]),
        (Request::get("/api/projects"), &[200]),
    ];
    let all: Vec<u8> = requests.iter().flat_map(|(request, _)| request.bytes()).collect();
    let read_responses = |client: &mut Client| {
        for (request, expected) in &requests {
            let status = client.read_response().status;
            let line = String::from_utf8_lossy(&request.bytes()[..30]).into_owned();
            assert!(expected.contains(&status), "status {status}, expected {expected:?}: {line}");
        }
    };
    Attack::start().assert_survives(|tracker| {
        let mut clients = connect_many(tracker, 100, 4);
        for client in &mut clients {
            client.write(&all.repeat(4));
        }
        for client in &mut clients {
            (0..4).for_each(|_| read_responses(client));
        }
        // Sends one byte per write.
        let mut client = tracker.connect_from(attacker_address(1)).unwrap();
        for byte in all.chunks(1) {
            client.write(byte);
        }
        read_responses(&mut client);
        // Closes the sending side after the last request: the server sends all responses and then closes.
        for mut client in connect_many(tracker, 32, 4) {
            client.write(&all);
            client.socket().shutdown(std::net::Shutdown::Write).unwrap();
            read_responses(&mut client);
            let started = Instant::now();
            assert!(client.closes_without_data() && started.elapsed() < Duration::from_secs(2));
        }
        // Closes the sending side within a request: the server closes without a response.
        for cut in [1, 20, requests[0].0.bytes().len() - 1] {
            let mut client = tracker.connect_from(attacker_address(1)).unwrap();
            client.write(&all[..cut]);
            client.socket().shutdown(std::net::Shutdown::Write).unwrap();
            assert!(wait_until(|| is_closed(&client).then_some(())).is_some(), "{cut}");
        }
    });
}
