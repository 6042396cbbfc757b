//! What refusals look like: their status, one sentence in JSON, and the headers that belong to them.

use std::time::Duration;

use serde_json::json;

use super::{Case, assert_cases, post_report, post_report_bytes, unique_report};
use crate::harness::{Client, Request, Response, Setup, wait_until};

#[test]
fn unknown_paths() {
    let service = Setup::error_tracker().start();
    let get = Request::get;
    let anybody = |path| Request::get(path).without_header("X-API-Key");
    let (key, nothing, no_error) =
        (json!("A valid API key"), json!("nothing at this path"), json!("There is no error 7"));
    let cases: [Case; 15] = [
        ("under /api/ without a key", anybody("/api/nothing"), 401, key.clone()),
        ("/api itself without a key", anybody("/api"), 401, key.clone()),
        ("under /api/ with one", get("/api/nothing"), 404, nothing.clone()),
        ("elsewhere without a key", anybody("/nothing"), 404, nothing.clone()),
        ("elsewhere with one", get("/nothing"), 404, nothing.clone()),
        ("a file beside the interface's", anybody("/app.js.map"), 404, nothing.clone()),
        ("a slash too many", get("/api/errors/"), 404, nothing.clone()),
        ("a slash too many in front", get("//api/errors"), 404, nothing.clone()),
        ("other letters", get("/API/errors"), 404, nothing.clone()),
        ("dots are nothing special", get("/api/../api/errors"), 404, nothing.clone()),
        ("an escaped slash is part of a name", get("/api%2Ferrors"), 404, nothing),
        ("an id that is not there", get("/api/errors/7"), 404, no_error),
        ("an id that cannot be", get("/api/errors/seven"), 404, json!("with that id")),
        ("UTF-8 in a path", get("/api/errors/%C3%BC"), 404, json!("with that id")),
        ("what is not UTF-8 in a path", get("/api/errors/%FF"), 400, json!("The path must be UTF-8")),
    ];
    assert_cases(&service, cases);
}

#[test]
fn a_path_with_other_methods_names_them() {
    let service = Setup::error_tracker().start();
    for (method, path, allow) in [
        ("DELETE", "/api/errors", "POST, GET, HEAD"),
        ("OPTIONS", "/api/errors", "POST, GET, HEAD"),
        ("POST", "/api/errors/1", "GET, HEAD"),
        ("GET", "/api/errors/1/resolve", "POST"),
        ("PUT", "/api/projects", "GET, HEAD"),
        ("HEAD", "/api/test-alert", "POST"),
        ("BREW", "/api/alerts", "GET, HEAD"),
        ("POST", "/metrics", "GET, HEAD"),
        ("PATCH", "/health", "GET, HEAD"),
    ] {
        let response = service.send(&Request::new(method, path)).expect(405);
        assert_eq!(response.header("allow"), Some(allow), "{method} {path}");
        if method != "HEAD" {
            response.has_detail(allow);
        }
    }
    service.send(&Request::new("DELETE", "/api/errors").without_header("X-API-Key")).expect(401);
}

/// What else stands in a refusal's head.
fn headers_of_a_refusal(response: &Response) {
    assert_eq!(response.header("content-type"), Some("application/json"), "{response:?}");
    assert_eq!(response.header("cache-control"), Some("no-store"), "{response:?}");
    assert_eq!(response.header("x-content-type-options"), Some("nosniff"), "{response:?}");
    assert_eq!(response.header("content-length"), Some(response.body.len().to_string().as_str()), "{response:?}");
}

#[test]
fn each_refusal_has_a_sentence_to_act_on() {
    let service = Setup::error_tracker().env("API_KEYS", "eye:read:eye").start();
    let stranger = Request::get("/api/errors").header("X-API-Key", "no");
    let cases: [Case; 8] = [
        ("no JSON", post_report_bytes("{"), 400, json!("The body is not JSON: line 1, column 1")),
        ("unknown key", stranger, 401, json!("A valid API key is required in X-API-Key or Authorization: Bearer")),
        (
            "other scope",
            post_report(&unique_report()).header("X-API-Key", "eye"),
            403,
            json!("This key lacks the scope 'ingest'"),
        ),
        ("unknown id", Request::get("/api/errors/1"), 404, json!("There is no error 1")),
        ("other method", Request::new("PUT", "/api/errors"), 405, json!("This path responses only POST, GET, HEAD")),
        ("too large", post_report_bytes(vec![b' '; 262_145]), 413, json!("The body may be at most 262144 bytes")),
        (
            "coded",
            post_report(&unique_report()).header("Content-Encoding", "br"),
            415,
            json!("gzip, deflate or identity"),
        ),
        ("not set up", Request::new("POST", "/api/test-alert"), 503, json!("Alerts need ALERT_WEBHOOK_URL, or")),
    ];
    for (_, request, status, _) in &cases {
        headers_of_a_refusal(&service.send(request).expect(*status));
    }
    assert_cases(&service, cases);
}

#[test]
fn a_client_with_too_many_bytes_in_flight_is_told_when_to_come_back() {
    let service = Setup::error_tracker().start();
    let bytes = post_report_bytes(vec![b' '; 250_000]).bytes();
    let mut clients: Vec<Client> = (0..9).map(|_| service.connect()).collect();
    for client in &mut clients {
        client.write(&bytes[..bytes.len() - 1]);
    }
    let answered = |client: &Client| {
        client.socket().set_nonblocking(true).unwrap();
        let answered = client.socket().peek(&mut [0]).is_ok();
        client.socket().set_nonblocking(false).unwrap();
        answered
    };
    let refused = wait_until(|| clients.iter().position(answered)).expect("nine of 250 KB are more than 2 MiB");
    let response = clients.remove(refused).read_response().expect(503).has_detail("too many bytes in flight");
    assert_eq!(response.header("retry-after"), Some("1"));
    service.connect_from([127, 0, 0, 2]).unwrap().send(&post_report(&unique_report())).expect(201);
    for client in &mut clients {
        client.write(b" ");
        client.read_response().expect(400);
    }
}

#[test]
fn a_head_that_does_not_arrive_is_given_up() {
    let service = Setup::error_tracker().start();
    let mut slow = service.connect();
    slow.socket().set_read_timeout(Some(Duration::from_secs(15))).unwrap();
    slow.write(b"GET /health HTTP/1.1\r\nHost: x\r\n");
    headers_of_a_refusal(
        &slow.read_response().expect(408).has_detail("The head of the request took too long to arrive"),
    );
    assert!(slow.closes_without_data());
}
