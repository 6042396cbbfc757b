//! Security and caching headers of all responses.

use crate::support::harness::{Request, Service, Setup};

const PAGE_HEADERS: [(&str, &str); 6] = [
    ("x-content-type-options", "nosniff"),
    (
        "content-security-policy",
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cache-control", "no-cache"),
];

/// Starts all services; the flag tells whether the service has a web UI.
fn services() -> [(Service, bool); 4] {
    let nowhere = std::net::SocketAddr::from(([127, 0, 0, 1], 9));
    [
        (Setup::error_tracker().start(), true),
        (Setup::log_viewer().start(), true),
        (Setup::metrics_collector().start(), true),
        (Setup::browser_relay(nowhere, nowhere).start(), false),
    ]
}

#[test]
fn pages_forbid_foreign_scripts_and_framing() {
    for (service, has_page) in services() {
        let files: &[&str] = if has_page { &["/", "/app.js", "/theme.js", "/app.css", "/icon.svg"] } else { &[] };
        for path in files {
            let response = service.send(&Request::get(path).without_header("X-API-Key"));
            for (name, value) in PAGE_HEADERS {
                assert_eq!(response.header(name), Some(value), "{path}: {name}");
            }
        }
    }
}

#[test]
fn api_responses_are_not_cached_or_sniffed() {
    for (service, _) in services() {
        let without_key = |path| Request::get(path).without_header("X-API-Key");
        for request in [
            Request::get("/health"),
            Request::get("/metrics"),
            Request::get("/api/session"),
            Request::get("/api/nothing"),
            without_key("/api/nothing"),
            without_key("/nothing"),
            Request::new("PUT", "/health"),
        ] {
            let request_line = String::from_utf8_lossy(&request.bytes()).lines().next().unwrap_or_default().to_owned();
            let response = service.send(&request);
            assert_eq!(response.header("x-content-type-options"), Some("nosniff"), "{request_line}");
            assert_eq!(response.header("cache-control"), Some("no-store"), "{request_line}");
            let content_type = response.header("content-type").unwrap_or_default();
            assert!(
                content_type.starts_with("application/json") || content_type.starts_with("text/plain"),
                "{request_line}: {content_type}"
            );
        }
    }
}
