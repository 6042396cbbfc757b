//! What goes with every response to keep browsers from doing more with it than was meant.

use crate::harness::{Request, Service, Setup};

const PAGE: [(&str, &str); 6] = [
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

/// Each service, and whether it has an interface.
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
fn pages_run_nothing_of_others_and_stand_in_no_frame() {
    for (service, has_page) in services() {
        let files: &[&str] = if has_page { &["/", "/app.js", "/theme.js", "/app.css", "/icon.svg"] } else { &[] };
        for path in files {
            let response = service.send(&Request::get(path).without_header("X-API-Key"));
            for (name, value) in PAGE {
                assert_eq!(response.header(name), Some(value), "{path}: {name}");
            }
        }
    }
}

#[test]
fn what_is_stored_is_kept_by_no_cache_and_taken_for_nothing_else() {
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
            let what = String::from_utf8_lossy(&request.bytes()).lines().next().unwrap_or_default().to_owned();
            let response = service.send(&request);
            assert_eq!(response.header("x-content-type-options"), Some("nosniff"), "{what}");
            assert_eq!(response.header("cache-control"), Some("no-store"), "{what}");
            let kind = response.header("content-type").unwrap_or_default();
            assert!(kind.starts_with("application/json") || kind.starts_with("text/plain"), "{what}: {kind}");
        }
    }
}
