//! Error responses: status, JSON body with one `detail`, and headers.

use std::time::Duration;

use serde_json::json;

use super::{Case, assert_cases, post_report, post_report_bytes, unique_report};
use crate::support::harness::{Client, Request, Response, Setup, wait_until};

#[test]
fn unknown_paths_return_404_and_require_a_key_under_api() {
    let service = Setup::error_tracker().start();
    let get = Request::get;
    let without_key = |path| Request::get(path).without_header("X-API-Key");
    let (key, nothing, no_error) =
        (json!("A valid API key"), json!("No such endpoint"), json!("Error group 7 not found"));
    let cases: [Case; 15] = [
        ("under /api/ without a key", without_key("/api/nothing"), 401, key.clone()),
        ("/api itself without a key", without_key("/api"), 401, key.clone()),
        ("under /api/ with a key", get("/api/nothing"), 404, nothing.clone()),
        ("elsewhere without a key", without_key("/nothing"), 404, nothing.clone()),
        ("elsewhere with a key", get("/nothing"), 404, nothing.clone()),
        ("a file that is not part of the UI", without_key("/app.js.map"), 404, nothing.clone()),
        ("trailing slash", get("/api/errors/"), 404, nothing.clone()),
        ("double slash", get("//api/errors"), 404, nothing.clone()),
        ("different case", get("/API/errors"), 404, nothing.clone()),
        ("dot segments are not resolved", get("/api/../api/errors"), 404, nothing.clone()),
        ("escaped slash is not a separator", get("/api%2Ferrors"), 404, nothing),
        ("unknown ID", get("/api/errors/7"), 404, no_error),
        ("invalid ID", get("/api/errors/seven"), 404, json!("id must be a positive integer")),
        ("UTF-8 in the path", get("/api/errors/%C3%BC"), 404, json!("id must be a positive integer")),
        ("invalid UTF-8 in the path", get("/api/errors/%FF"), 400, json!("The path must be UTF-8")),
    ];
    assert_cases(&service, cases);
}

#[test]
fn method_not_allowed_lists_allowed_methods() {
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

/// Asserts the headers that every error response has.
fn assert_error_headers(response: &Response) {
    assert_eq!(response.header("content-type"), Some("application/json"), "{response:?}");
    assert_eq!(response.header("cache-control"), Some("no-store"), "{response:?}");
    assert_eq!(response.header("x-content-type-options"), Some("nosniff"), "{response:?}");
    assert_eq!(response.header("content-length"), Some(response.body.len().to_string().as_str()), "{response:?}");
}

#[test]
fn error_responses_explain_the_problem() {
    let service = Setup::error_tracker().env("API_KEYS", "eye:read:eye").start();
    let unknown_key = Request::get("/api/errors").header("X-API-Key", "no");
    let cases: [Case; 8] = [
        ("invalid JSON", post_report_bytes("{"), 400, json!("The body is not JSON: line 1, column 1")),
        ("unknown key", unknown_key, 401, json!("A valid API key is required in X-API-Key or Authorization: Bearer")),
        (
            "missing scope",
            post_report(&unique_report()).header("X-API-Key", "eye"),
            403,
            json!("This key lacks the scope 'ingest'"),
        ),
        ("unknown ID", Request::get("/api/errors/1"), 404, json!("Error group 1 not found")),
        (
            "wrong method",
            Request::new("PUT", "/api/errors"),
            405,
            json!("Method not allowed; allowed: POST, GET, HEAD"),
        ),
        ("too large", post_report_bytes(vec![b' '; 262_145]), 413, json!("The body exceeds 262144 bytes")),
        (
            "unsupported coding",
            post_report(&unique_report()).header("Content-Encoding", "br"),
            415,
            json!("gzip, deflate or identity"),
        ),
        (
            "alerts not configured",
            Request::new("POST", "/api/test-alert"),
            503,
            json!("Alerts need ALERT_WEBHOOK_URL, or"),
        ),
    ];
    for (_, request, status, _) in &cases {
        assert_error_headers(&service.send(request).expect(*status));
    }
    assert_cases(&service, cases);
}

#[test]
fn too_many_concurrent_request_bytes_return_503_with_retry_after() {
    let service = Setup::error_tracker().start();
    let bytes = post_report_bytes(vec![b' '; 250_000]).bytes();
    let mut clients: Vec<Client> = (0..9).map(|_| service.connect()).collect();
    for client in &mut clients {
        client.write(&bytes[..bytes.len() - 1]);
    }
    let has_response = |client: &Client| {
        client.socket().set_nonblocking(true).unwrap();
        let readable = client.socket().peek(&mut [0]).is_ok();
        client.socket().set_nonblocking(false).unwrap();
        readable
    };
    let rejected = wait_until(|| clients.iter().position(has_response)).expect("nine bodies of 250 KB exceed 2 MiB");
    let response = clients
        .remove(rejected)
        .read_response()
        .expect(503)
        .has_detail("Too many concurrent request bytes from this client");
    assert_eq!(response.header("retry-after"), Some("1"));
    service.connect_from([127, 0, 0, 2]).unwrap().send(&post_report(&unique_report())).expect(201);
    for client in &mut clients {
        client.write(b" ");
        client.read_response().expect(400);
    }
}

#[test]
fn incomplete_head_times_out_with_408() {
    let service = Setup::error_tracker().start();
    let mut slow = service.connect();
    slow.socket().set_read_timeout(Some(Duration::from_secs(15))).unwrap();
    slow.write(b"GET /health HTTP/1.1\r\nHost: x\r\n");
    assert_error_headers(
        &slow.read_response().expect(408).has_detail("Timeout: the head of the request took too long to arrive"),
    );
    assert!(slow.closes_without_data());
}
