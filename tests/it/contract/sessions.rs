//! Browser sessions: a key is exchanged for a cookie with the same permissions. Also the headers of the web UI.

use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Case, assert_cases};
use crate::support::databases::update_file;
use crate::support::harness::{API_KEY, Request, Service, Setup, TEST_TIMEOUT, TempDir, wait_until};

const API_KEYS: &str = "app:ingest:app-key, eye:read:eye-key, ops:admin:ops-key";

/// Exchanges a key for a session and returns the cookie as a browser sends it back.
#[track_caller]
fn sign_in(service: &Service, key: &str) -> String {
    let response = service.send(&Request::new("POST", "/api/session").header("X-API-Key", key)).expect(200);
    response.header("set-cookie").unwrap().split(';').next().unwrap().to_owned()
}

fn with_cookie(cookie: &str, method: &str, path: &str) -> Request {
    Request::new(method, path).without_header("X-API-Key").header("Cookie", cookie)
}

/// Adds the `Origin` of the service's own pages.
fn same_origin(request: Request) -> Request {
    request.header("Origin", "http://localhost")
}

#[test]
fn sign_in_returns_an_http_only_cookie() {
    for (setup, name) in [
        (Setup::error_tracker(), "error-tracker"),
        (Setup::log_viewer(), "log-viewer"),
        (Setup::metrics_collector(), "metrics-collector"),
    ] {
        let service = setup.env("SERVICES", "log-viewer=http://logs.test:5011,metrics-collector=/metrics/").start();
        let response = service.send(&Request::new("POST", "/api/session")).expect(200);
        let cookie = response.header("set-cookie").unwrap().to_owned();
        let (pair, attributes) = cookie.split_once("; ").unwrap();
        let token = pair.strip_prefix(&format!("monlight-{name}=")).unwrap();
        assert!(token.len() == 64 && token.bytes().all(|byte| byte.is_ascii_hexdigit()), "{cookie}");
        assert_eq!(attributes, "Path=/; Max-Age=2592000; HttpOnly; SameSite=Strict");
        let signed_in = json!({ "name": "API_KEY", "admin": true, "service": name,
            "services": [{ "name": "log-viewer", "url": "http://logs.test:5011" }, { "name": "metrics-collector", "url": "/metrics/" }] });
        response.has(signed_in.clone());
        service.send(&with_cookie(pair, "GET", "/api/session")).expect(200).has(signed_in);
        // Behind a TLS proxy, the cookie is marked Secure.
        let request = Request::new("POST", "/api/session").header("X-Forwarded-Proto", "https");
        let cookie = service.send(&request).expect(200).header("set-cookie").unwrap().to_owned();
        assert!(cookie.ends_with("; SameSite=Strict; Secure"), "{cookie}");
        assert!(cookie.starts_with(&format!("__Host-monlight-{name}=")), "{cookie}");
        let pair = cookie.split(';').next().unwrap();
        service.send(&with_cookie(pair, "GET", "/api/session")).expect(200);
        let cases: [Case; 3] = [
            ("without a key", Request::new("POST", "/api/session").without_header("X-API-Key"), 401, Value::Null),
            ("wrong key", Request::new("POST", "/api/session").header("X-API-Key", "no"), 401, Value::Null),
            ("no cookie", Request::get("/api/session").without_header("X-API-Key"), 401, Value::Null),
        ];
        assert_cases(&service, cases);
        assert!(!service.log().concat().contains(token));
    }
}

#[test]
fn displaced_sessions_end_at_once() {
    let data_dir = Arc::new(TempDir::new());
    let start = || Setup::error_tracker().data_dir(&data_dir).start();
    let tracker = start();
    let first = sign_in(&tracker, API_KEY);
    tracker.stop();
    // 999 more sessions of the same key, which expire later.
    let sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 999)
               INSERT INTO sessions (token_sha256, key_sha256, expires_at_ms)
               SELECT randomblob(32), key_sha256, expires_at_ms + 1 FROM sessions, n";
    update_file(&data_dir.path().join("errors.db"), sql);
    let tracker = start();
    tracker.send(&with_cookie(&first, "GET", "/api/errors")).expect(200);
    let second = sign_in(&tracker, API_KEY);
    tracker.send(&with_cookie(&first, "GET", "/api/errors")).expect(401);
    tracker.send(&with_cookie(&second, "GET", "/api/errors")).expect(200);
}

#[test]
fn cookie_has_the_permissions_of_its_key() {
    let tracker = Setup::error_tracker().env("API_KEYS", API_KEYS).start();
    let report = json!({ "project": "shop", "exception_type": "E", "message": "", "traceback": "" });
    tracker.send(&Request::post("/api/errors", &report)).expect(201);
    tracker.send(&Request::new("POST", "/api/session").header("X-API-Key", "app-key")).expect(403);
    let [all, eye, ops] = [API_KEY, "eye-key", "ops-key"].map(|key| sign_in(&tracker, key));
    tracker.send(&with_cookie(&eye, "GET", "/api/session")).expect(200).has(json!({ "name": "eye", "admin": false }));
    let resolve = |cookie: &str| with_cookie(cookie, "POST", "/api/errors/1/resolve");
    let wrong_origin = json!("must come from this service's own pages");
    let cases: [Case; 15] = [
        ("read", with_cookie(&eye, "GET", "/api/errors"), 200, Value::Null),
        ("among other cookies", with_cookie(&format!("a=b; {eye}; c=d"), "GET", "/api/errors"), 200, Value::Null),
        ("read may not resolve", same_origin(resolve(&eye)), 403, json!("lacks the scope")),
        ("admin", same_origin(resolve(&ops)), 200, Value::Null),
        ("all", same_origin(resolve(&all)), 200, Value::Null),
        (
            "all may report",
            same_origin(with_cookie(&all, "POST", "/api/errors")).body(report.to_string()),
            200,
            Value::Null,
        ),
        ("no Origin header", resolve(&ops), 403, wrong_origin.clone()),
        ("another origin", resolve(&ops).header("Origin", "http://evil.test"), 403, wrong_origin.clone()),
        ("another port", resolve(&ops).header("Origin", "http://localhost:81"), 403, wrong_origin.clone()),
        ("null origin", resolve(&ops).header("Origin", "null"), 403, wrong_origin.clone()),
        ("Sec-Fetch-Site: same-origin", resolve(&ops).header("Sec-Fetch-Site", "same-origin"), 200, Value::Null),
        (
            "Sec-Fetch-Site: same-site",
            same_origin(resolve(&ops)).header("Sec-Fetch-Site", "same-site"),
            403,
            wrong_origin,
        ),
        ("wrong token", with_cookie("monlight-error-tracker=0000", "GET", "/api/errors"), 401, Value::Null),
        (
            "cookie of another service",
            with_cookie(&all.replace("error-tracker", "log-viewer"), "GET", "/api/errors"),
            401,
            Value::Null,
        ),
        ("cookie and a wrong key", with_cookie(&all, "GET", "/api/errors").header("X-API-Key", "no"), 401, Value::Null),
    ];
    assert_cases(&tracker, cases);
}

#[test]
fn sessions_cannot_create_sessions() {
    let tracker = Setup::error_tracker().start();
    let cookie = sign_in(&tracker, API_KEY);
    let request = same_origin(with_cookie(&cookie, "POST", "/api/session"));
    tracker.send(&request).expect(403).has_detail("A session cannot create sessions; send the API key");
    tracker.send(&request.header("X-API-Key", API_KEY)).expect(200);
}

#[test]
fn other_cookies_of_the_same_name_lock_nobody_out() {
    let tracker = Setup::error_tracker().start();
    let cookie = sign_in(&tracker, API_KEY);
    let (name, _) = cookie.split_once('=').unwrap();
    let wrong = "0".repeat(64);
    for cookies in [
        format!("{name}=xx; {cookie}"),
        format!("{name}={wrong}; {name}={wrong}; {cookie}; {name}={wrong}"),
        format!("__Host-{name}={wrong}; {cookie}"),
        format!("{name}={wrong}; __Host-{cookie}"),
    ] {
        tracker.send(&with_cookie(&cookies, "GET", "/api/errors")).expect(200);
        let sign_out =
            same_origin(with_cookie(&cookies, "DELETE", "/api/session")).header("Origin", "http://evil.test");
        tracker.send(&sign_out).expect(403);
    }
    let sign_out = same_origin(with_cookie(&format!("{name}={wrong}; {cookie}"), "DELETE", "/api/session"));
    tracker.send(&sign_out).expect(200);
    tracker.send(&with_cookie(&cookie, "GET", "/api/errors")).expect(401);
}

#[test]
fn https_is_recognized_behind_proxies() {
    let tracker = Setup::error_tracker().start();
    for (protocols, is_https) in
        [("https", true), ("HTTPS", true), ("https, http", true), ("http", false), ("http, https", false), ("", false)]
    {
        let request = Request::new("POST", "/api/session").header("X-Forwarded-Proto", protocols);
        let cookie = tracker.send(&request).expect(200).header("set-cookie").unwrap().to_owned();
        assert_eq!(cookie.contains("; Secure"), is_https, "{protocols}");
    }
}

#[test]
fn sessions_survive_a_restart_and_end_when_their_key_is_removed() {
    let data_dir = Arc::new(TempDir::new());
    let start = |keys: &str| Setup::error_tracker().data_dir(&data_dir).env("API_KEYS", keys).start();
    let tracker = start(API_KEYS);
    let [eye, ops] = ["eye-key", "ops-key"].map(|key| sign_in(&tracker, key));
    tracker.kill();
    // The token is not stored in plain text.
    let token = eye.split_once('=').unwrap().1.as_bytes();
    for entry in std::fs::read_dir(data_dir.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(token.len()).any(|window| window == token));
    }
    let tracker = start("eye:read:eye-key, ops:admin:another-key");
    tracker.send(&with_cookie(&eye, "GET", "/api/errors")).expect(200);
    tracker.send(&with_cookie(&ops, "GET", "/api/errors")).expect(401);
}

#[test]
fn sign_out_ends_one_session_and_admin_can_end_all() {
    let tracker = Setup::error_tracker().env("API_KEYS", API_KEYS).start();
    let [first, second, ops] = ["eye-key", "eye-key", "ops-key"].map(|key| sign_in(&tracker, key));
    tracker.send(&with_cookie(&first, "DELETE", "/api/session")).expect(403);
    let response = tracker.send(&same_origin(with_cookie(&first, "DELETE", "/api/session"))).expect(200);
    assert!(response.header("set-cookie").unwrap().starts_with("monlight-error-tracker=; Path=/; Max-Age=0;"));
    tracker.send(&with_cookie(&first, "GET", "/api/errors")).expect(401);
    tracker.send(&with_cookie(&second, "GET", "/api/errors")).expect(200);
    // A request with a key has no session to end.
    tracker.send(&Request::new("DELETE", "/api/session")).expect(404);
    tracker.send(&same_origin(with_cookie(&second, "DELETE", "/api/sessions"))).expect(403);
    tracker.send(&same_origin(with_cookie(&ops, "DELETE", "/api/sessions"))).expect(200);
    for cookie in [second, ops] {
        tracker.send(&with_cookie(&cookie, "GET", "/api/errors")).expect(401);
    }
}

#[test]
fn sign_out_closes_open_tail_streams() {
    let viewer = Setup::log_viewer().start();
    let [first, second] = [API_KEY, API_KEY].map(|key| sign_in(&viewer, key));
    let open_tail = |cookie: &str| {
        let mut socket = std::net::TcpStream::connect(viewer.address).unwrap();
        socket.write_all(&with_cookie(cookie, "GET", "/api/logs/tail").bytes()).unwrap();
        socket.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        socket
    };
    let (mut closing, mut open) = (open_tail(&first), open_tail(&second));
    let mut buffer = [0; 512];
    assert!(open.read(&mut buffer).unwrap() > 0 && String::from_utf8_lossy(&buffer).contains("200 OK"));
    viewer.send(&same_origin(with_cookie(&first, "DELETE", "/api/session"))).expect(200);
    // A heartbeat could arrive within a long read timeout, so each read is short.
    closing.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let mut received = Vec::new();
    let closed = wait_until(|| {
        // Ends with a timeout or at the end of the stream; `received` has the bytes in both cases.
        let _ = closing.read_to_end(&mut received);
        String::from_utf8_lossy(&received).contains("event: close").then_some(())
    });
    assert!(closed.is_some(), "{}", String::from_utf8_lossy(&received));
    // The stream of the other session stays open, although no event arrives.
    open.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
    let outcome = loop {
        match open.read(&mut buffer) {
            Ok(0) => break "closed",
            Ok(_) => {}
            Err(_) => break "timed out",
        }
    };
    assert_eq!(outcome, "timed out");
}

#[test]
fn sessions_have_their_own_rate_limit() {
    let tracker = Setup::error_tracker().env("RATE_LIMIT", 8).start();
    let cookie = sign_in(&tracker, API_KEY);
    for _ in 0..20 {
        tracker.send(&with_cookie(&cookie, "GET", "/api/session")).expect(200);
    }
    let mut client = tracker.connect();
    let accepted =
        (0..1_000).take_while(|_| client.send(&with_cookie(&cookie, "GET", "/api/session")).status == 200).count();
    assert_eq!(accepted, 580);
    // Further sessions of the same key raise the limit of the address only four times.
    let mut accepted_of_further_session = || {
        let another = sign_in(&tracker, API_KEY);
        (0..1_000).take_while(|_| client.send(&with_cookie(&another, "GET", "/api/session")).status == 200).count()
    };
    assert_eq!(std::array::from_fn(|_| accepted_of_further_session()), [600, 600, 600, 0]);
    // Requests of a session do not count toward the limit of its address.
    for _ in 0..3 {
        tracker.get("/api/errors").expect(200);
    }
    tracker.get("/api/errors").expect(429);
}

#[test]
fn web_ui_is_public_cacheable_and_self_contained() {
    let tracker = Setup::error_tracker().env("RATE_LIMIT", 1).start();
    for (path, content_type, part) in [
        ("/", "text/html; charset=utf-8", "<title>Errors"),
        ("/app.js", "text/javascript; charset=utf-8", "api/session"),
        ("/theme.js", "text/javascript; charset=utf-8", "theme"),
        ("/app.css", "text/css; charset=utf-8", "color-scheme"),
        ("/icon.svg", "image/svg+xml", "<svg"),
    ] {
        // Assets need no key and are not rate limited.
        let response = tracker.send(&Request::get(path).without_header("X-API-Key")).expect(200);
        assert!(response.text().contains(part), "{path}");
        for (name, value) in [
            ("content-type", content_type),
            ("cache-control", "no-cache"),
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "same-origin"),
        ] {
            assert_eq!(response.header(name), Some(value), "{path}");
        }
        let policy = response.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'self';") && !policy.contains("unsafe"), "{policy}");
        let tag = response.header("etag").unwrap().to_owned();
        let cached = tracker.send(&Request::get(path).header("If-None-Match", &tag)).expect(304);
        assert_eq!((cached.header("etag"), cached.body.len()), (Some(&*tag), 0));
        tracker.send(&Request::get(path).header("If-None-Match", "\"other\"")).expect(200);
        assert!(!response.text().contains("http://") || path == "/icon.svg" || path == "/app.js", "{path}");
    }
}

#[test]
fn invalid_service_urls_are_rejected() {
    for services in ["logs", "logs=javascript:alert(1)", "logs=//evil.test", "=http://logs.test", "logs=http://a\"b"] {
        let (code, output) = Setup::error_tracker().env("SERVICES", services).run_to_exit();
        assert!(code == Some(2) && output.contains("SERVICES: '"), "{code:?}: {output}");
    }
}
