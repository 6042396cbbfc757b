//! HTTP connections: keep-alive, pipelining, HTTP/1.0, IPv6, limits per address, and rejection of ambiguous requests.

use serde_json::json;

use super::{post_report, unique_report};
use crate::support::harness::{API_KEY, Request, Response, Service, Setup};

/// Sends bytes on a new connection and reads `count` responses. Returns them and whether the server then closed the
/// connection without sending more.
fn exchange(service: &Service, bytes: impl AsRef<[u8]>, count: usize) -> (Vec<Response>, bool) {
    let mut client = service.connect();
    client.write(bytes.as_ref());
    let responses = (0..count).map(|_| client.read_response()).collect();
    client.socket().shutdown(std::net::Shutdown::Write).unwrap();
    (responses, client.closes_without_data())
}

#[test]
fn connections_are_kept_alive_until_closed() {
    let service = Setup::error_tracker().start();
    let mut client = service.connect();
    for _ in 0..3 {
        let response = client.send(&post_report(&unique_report())).expect(201);
        assert_eq!(response.header("connection"), Some("keep-alive"));
        client.send(&Request::get("/api/errors/999")).expect(404);
        client.send(&Request::get("/api/errors").without_header("X-API-Key")).expect(401);
        assert!(client.send(&Request::new("HEAD", "/api/errors")).expect(200).body.is_empty());
    }
    let last = client.send(&Request::get("/health").header("Connection", "close")).expect(200);
    assert_eq!(last.header("connection"), Some("close"));
    assert!(client.closes_without_data());
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let service = Setup::error_tracker().start();
    let report = post_report(&unique_report());
    let get = Request::get("/api/errors/1");
    let requests = [report.bytes(), report.bytes(), get.bytes(), Request::get("/api/nothing").bytes(), report.bytes()];
    let (responses, closed) = exchange(&service, requests.concat(), 5);
    assert_eq!(responses.iter().map(|response| response.status).collect::<Vec<_>>(), [201, 200, 200, 404, 200]);
    assert_eq!(responses[2].json()["count"], 2);
    assert_eq!(responses[4].json()["count"], 3);
    assert!(closed);
}

#[test]
fn head_returns_the_headers_of_get_without_a_body() {
    let service = Setup::error_tracker().start();
    service.post("/api/errors", &unique_report()).expect(201);
    for path in ["/api/errors", "/api/errors/1", "/api/projects", "/api/alerts", "/api/errors/2"] {
        let (get, head) = (service.get(path), service.send(&Request::new("HEAD", path)));
        assert_eq!((head.status, head.body.len()), (get.status, 0), "{path}");
        for header in ["content-type", "content-length", "cache-control"] {
            assert_eq!(head.header(header), get.header(header), "{path} {header}");
        }
    }
}

#[test]
fn expect_100_continue_is_answered_before_the_body() {
    let service = Setup::error_tracker().start();
    let report = unique_report().to_string();
    let head = |length: usize, key: &str| {
        let fields = format!("Host: x\r\nX-API-Key: {key}\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n");
        format!("POST /api/errors HTTP/1.1\r\n{fields}")
    };
    let mut client = service.connect();
    client.write(head(report.len(), API_KEY).as_bytes());
    client.read_response().expect(100);
    client.write(report.as_bytes());
    client.read_response().expect(201);
    for (length, key, status) in [(262_145, API_KEY, 413), (10, "wrong", 401)] {
        let mut client = service.connect();
        client.write(head(length, key).as_bytes());
        client.read_response().expect(status);
    }
}

#[test]
fn http_1_0_clients_are_supported() {
    let service = Setup::error_tracker().start();
    let get = |fields: &str| format!("GET /api/projects HTTP/1.0\r\nX-API-Key: {API_KEY}\r\n{fields}\r\n");
    let mut old = service.connect();
    old.write(get("").as_bytes());
    assert_eq!(old.read_response().expect(200).header("connection"), Some("close"));
    assert!(old.closes_without_data());
    let keep_alive = get("Connection: keep-alive\r\n");
    let (responses, _) = exchange(&service, format!("{keep_alive}{keep_alive}"), 2);
    assert!(
        responses.iter().all(|response| response.status == 200 && response.header("connection") == Some("keep-alive"))
    );
}

#[test]
fn server_listens_on_ipv6() {
    for listen in ["::1", "[::1]"] {
        let service = Setup::error_tracker().env("LISTEN_ADDR", listen).start();
        assert!(service.address.is_ipv6(), "{}", service.address);
        let report = post_report(&unique_report()).header("Host", &service.address.to_string());
        service.send(&report).expect(201).has(json!({ "id": 1 }));
    }
}

#[test]
fn trusted_proxies_may_exceed_the_connection_limit_per_address() {
    for (trusted, oldest_stays) in [("", false), ("127.0.0.1", true)] {
        let setup = Setup::error_tracker().env("MAX_CONNECTIONS_PER_ADDRESS", 2);
        let service = setup.env("TRUSTED_PROXIES", trusted).start();
        let mut clients: Vec<_> = (0..3).map(|_| service.connect()).collect();
        let health = Request::get("/health").bytes();
        for (index, client) in clients.iter_mut().enumerate().rev() {
            client.write(&health);
            let answered = client.try_read_response().is_some_and(|response| response.status == 200);
            assert_eq!(answered, index > 0 || oldest_stays, "connection {index}, TRUSTED_PROXIES={trusted}");
        }
    }
}

#[test]
fn ambiguous_requests_are_rejected() {
    let service = Setup::error_tracker().start();
    let get = |head: &str| format!("GET /health HTTP/1.1\r\n{head}\r\n");
    let long = get(&format!("Host: x\r\nX-Long: {}\r\n", "x".repeat(16_384)));
    let cases = [
        ("valid", get("Host: x\r\n"), 200, ""),
        ("absolute URL", "GET http://x/health HTTP/1.1\r\nHost: x\r\n\r\n".into(), 200, ""),
        ("upgrade to HTTP/2", get("Host: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n"), 200, ""),
        ("leading empty line", format!("\r\n{}", get("Host: x\r\n")), 200, ""),
        ("no Host", get(""), 400, "exactly one Host"),
        ("two Hosts", get("Host: x\r\nHost: y\r\n"), 400, "exactly one Host"),
        (
            "two lengths",
            get("Host: x\r\nContent-Length: 0\r\nContent-Length: 0\r\n"),
            400,
            "Content-Length must occur at most once",
        ),
        ("a signed length", get("Host: x\r\nContent-Length: +0\r\n"), 400, "Content-Length must be a number"),
        ("non-numeric length", get("Host: x\r\nContent-Length: abc\r\n"), 400, "Content-Length must be a number"),
        (
            "length and chunks",
            get("Host: x\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n"),
            400,
            "must not be combined",
        ),
        ("an unknown coding", get("Host: x\r\nTransfer-Encoding: gzip\r\n"), 400, "Transfer-Encoding must be chunked"),
        ("bare line feeds", "GET /health HTTP/1.1\nHost: x\n\n".into(), 400, "CR LF"),
        ("space before the colon", get("Host : x\r\n"), 400, "not valid HTTP/1.1"),
        ("no path", "GET * HTTP/1.1\r\nHost: x\r\n\r\n".into(), 400, "must be a path"),
        ("another expectation", get("Host: x\r\nExpect: cookies\r\n"), 417, "100-continue"),
        ("a head of 16 KiB", long, 431, "16384 bytes"),
        ("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), 505, "HTTP/1.1"),
        ("noise", "\u{16}\u{3}\u{1}\r\n\r\n".into(), 400, "not valid HTTP/1.1"),
    ];
    for (name, bytes, status, detail) in cases {
        let (responses, closed) = exchange(&service, bytes, 1);
        let response = responses[0].clone();
        assert_eq!(response.status, status, "{name}: {}", response.text());
        assert!(closed, "{name}");
        if status != 200 {
            response.has_detail(detail);
        }
    }
}
