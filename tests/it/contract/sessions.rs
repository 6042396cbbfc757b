//! People in browsers: a key is shown once and exchanged for a cookie, which is good for what the key is good for.

use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Case, assert_cases};
use crate::harness::{API_KEY, Request, Service, Setup, TEST_TIMEOUT, TempDir, wait_until};

const API_KEYS: &str = "app:ingest:app-key, eye:read:eye-key, ops:admin:ops-key";

/// The cookie that a key is exchanged for, as a browser sends it back.
#[track_caller]
fn sign_in(service: &Service, key: &str) -> String {
    let response = service.send(&Request::new("POST", "/api/session").header("X-API-Key", key)).expect(200);
    response.header("set-cookie").unwrap().split(';').next().unwrap().to_owned()
}

fn with(cookie: &str, method: &str, path: &str) -> Request {
    Request::new(method, path).without_header("X-API-Key").header("Cookie", cookie)
}

/// As a page of the service itself asks.
fn own(request: Request) -> Request {
    request.header("Origin", "http://localhost")
}

#[test]
fn a_key_is_exchanged_for_a_cookie_that_no_script_reads() {
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
        service.send(&with(pair, "GET", "/api/session")).expect(200).has(signed_in);
        // Behind a proxy that speaks TLS.
        let request = Request::new("POST", "/api/session").header("X-Forwarded-Proto", "https");
        let cookie = service.send(&request).expect(200).header("set-cookie").unwrap().to_owned();
        assert!(cookie.ends_with("; SameSite=Strict; Secure"), "{cookie}");
        let cases: [Case; 3] = [
            ("without a key", Request::new("POST", "/api/session").without_header("X-API-Key"), 401, Value::Null),
            ("a wrong key", Request::new("POST", "/api/session").header("X-API-Key", "no"), 401, Value::Null),
            ("nobody", Request::get("/api/session").without_header("X-API-Key"), 401, Value::Null),
        ];
        assert_cases(&service, cases);
        assert!(!service.log().concat().contains(token));
    }
}

#[test]
fn a_cookie_is_good_for_what_its_key_is_good_for() {
    let tracker = Setup::error_tracker().env("API_KEYS", API_KEYS).start();
    let report = json!({ "project": "shop", "exception_type": "E", "message": "", "traceback": "" });
    tracker.send(&Request::post("/api/errors", &report)).expect(201);
    tracker.send(&Request::new("POST", "/api/session").header("X-API-Key", "app-key")).expect(403);
    let [all, eye, ops] = [API_KEY, "eye-key", "ops-key"].map(|key| sign_in(&tracker, key));
    tracker.send(&with(&eye, "GET", "/api/session")).expect(200).has(json!({ "name": "eye", "admin": false }));
    let resolve = |cookie: &str| with(cookie, "POST", "/api/errors/1/resolve");
    let elsewhere = json!("must come from this service's own pages");
    let cases: [Case; 15] = [
        ("read", with(&eye, "GET", "/api/errors"), 200, Value::Null),
        ("among others", with(&format!("a=b; {eye}; c=d"), "GET", "/api/errors"), 200, Value::Null),
        ("read may not change", own(resolve(&eye)), 403, json!("lacks the scope")),
        ("admin", own(resolve(&ops)), 200, Value::Null),
        ("all", own(resolve(&all)), 200, Value::Null),
        ("all may report", own(with(&all, "POST", "/api/errors")).body(report.to_string()), 200, Value::Null),
        ("no origin", resolve(&ops), 403, elsewhere.clone()),
        ("another origin", resolve(&ops).header("Origin", "http://evil.test"), 403, elsewhere.clone()),
        ("another port", resolve(&ops).header("Origin", "http://localhost:81"), 403, elsewhere.clone()),
        ("no origin at all", resolve(&ops).header("Origin", "null"), 403, elsewhere.clone()),
        ("said by the browser", resolve(&ops).header("Sec-Fetch-Site", "same-origin"), 200, Value::Null),
        ("another site", own(resolve(&ops)).header("Sec-Fetch-Site", "same-site"), 403, elsewhere),
        ("not the token", with("monlight-error-tracker=0000", "GET", "/api/errors"), 401, Value::Null),
        (
            "another service's",
            with(&all.replace("error-tracker", "log-viewer"), "GET", "/api/errors"),
            401,
            Value::Null,
        ),
        ("a wrong key beside it", with(&all, "GET", "/api/errors").header("X-API-Key", "no"), 401, Value::Null),
    ];
    assert_cases(&tracker, cases);
}

#[test]
fn sessions_outlive_a_restart_and_end_with_their_key() {
    let folder = Arc::new(TempDir::new());
    let start = |keys: &str| Setup::error_tracker().data_dir(&folder).env("API_KEYS", keys).start();
    let tracker = start(API_KEYS);
    let [eye, ops] = ["eye-key", "ops-key"].map(|key| sign_in(&tracker, key));
    tracker.kill();
    // The cookie itself is nowhere in the files.
    let token = eye.split_once('=').unwrap().1.as_bytes();
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(token.len()).any(|window| window == token));
    }
    let tracker = start("eye:read:eye-key, ops:admin:another-key");
    tracker.send(&with(&eye, "GET", "/api/errors")).expect(200);
    tracker.send(&with(&ops, "GET", "/api/errors")).expect(401);
}

#[test]
fn who_signs_out_is_signed_out_and_an_admin_ends_all() {
    let tracker = Setup::error_tracker().env("API_KEYS", API_KEYS).start();
    let [one, other, ops] = ["eye-key", "eye-key", "ops-key"].map(|key| sign_in(&tracker, key));
    tracker.send(&with(&one, "DELETE", "/api/session")).expect(403);
    let response = tracker.send(&own(with(&one, "DELETE", "/api/session"))).expect(200);
    assert!(response.header("set-cookie").unwrap().starts_with("monlight-error-tracker=; Path=/; Max-Age=0;"));
    tracker.send(&with(&one, "GET", "/api/errors")).expect(401);
    tracker.send(&with(&other, "GET", "/api/errors")).expect(200);
    // Who comes with a key has no session that could be meant.
    tracker.send(&Request::new("DELETE", "/api/session")).expect(404);
    tracker.send(&own(with(&other, "DELETE", "/api/sessions"))).expect(403);
    tracker.send(&own(with(&ops, "DELETE", "/api/sessions"))).expect(200);
    for cookie in [other, ops] {
        tracker.send(&with(&cookie, "GET", "/api/errors")).expect(401);
    }
}

#[test]
fn who_is_signed_out_hears_no_more_lines() {
    let viewer = Setup::log_viewer().start();
    let [mine, other] = [API_KEY, API_KEY].map(|key| sign_in(&viewer, key));
    let listen = |cookie: &str| {
        let mut socket = std::net::TcpStream::connect(viewer.address).unwrap();
        socket.write_all(&with(cookie, "GET", "/api/logs/tail").bytes()).unwrap();
        socket.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        socket
    };
    let (mut ended, mut open) = (listen(&mine), listen(&other));
    let mut begun = [0; 512];
    assert!(open.read(&mut begun).unwrap() > 0 && String::from_utf8_lossy(&begun).contains("200 OK"));
    viewer.send(&own(with(&mine, "DELETE", "/api/session"))).expect(200);
    // A heartbeat comes sooner than patience ends, so each look is short.
    ended.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let mut said = Vec::new();
    let closed = wait_until(|| {
        // Nothing for now, or the end; what there is of it is in `said` either way.
        let _ = ended.read_to_end(&mut said);
        String::from_utf8_lossy(&said).contains("event: close").then_some(())
    });
    assert!(closed.is_some(), "{}", String::from_utf8_lossy(&said));
    // The other one goes on: it is not over when its client has nothing to hear.
    open.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
    let heard = loop {
        match open.read(&mut begun) {
            Ok(0) => break "the end",
            Ok(_) => {}
            Err(_) => break "nothing",
        }
    };
    assert_eq!(heard, "nothing");
}

#[test]
fn a_session_has_a_rate_of_its_own() {
    let tracker = Setup::error_tracker().env("RATE_LIMIT", 5).start();
    let cookie = sign_in(&tracker, API_KEY);
    for _ in 0..20 {
        tracker.send(&with(&cookie, "GET", "/api/session")).expect(200);
    }
    let mut client = tracker.connect();
    let admitted = (0..1_000).take_while(|_| client.send(&with(&cookie, "GET", "/api/session")).status == 200).count();
    assert_eq!(admitted, 580);
    // What a session asked for did not count against its address.
    for _ in 0..4 {
        tracker.get("/api/errors").expect(200);
    }
    tracker.get("/api/errors").expect(429);
}

#[test]
fn the_interface_loads_nothing_from_elsewhere_and_is_shown_in_no_frame() {
    let tracker = Setup::error_tracker().env("RATE_LIMIT", 1).start();
    for (path, content_type, part) in [
        ("/", "text/html; charset=utf-8", "<title>Errors"),
        ("/app.js", "text/javascript; charset=utf-8", "api/session"),
        ("/theme.js", "text/javascript; charset=utf-8", "theme"),
        ("/app.css", "text/css; charset=utf-8", "color-scheme"),
        ("/icon.svg", "image/svg+xml", "<svg"),
    ] {
        // Without a key, and without being counted.
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
        let again = tracker.send(&Request::get(path).header("If-None-Match", &tag)).expect(304);
        assert_eq!((again.header("etag"), again.body.len()), (Some(&*tag), 0));
        tracker.send(&Request::get(path).header("If-None-Match", "\"other\"")).expect(200);
        assert!(!response.text().contains("http://") || path == "/icon.svg" || path == "/app.js", "{path}");
    }
}

#[test]
fn links_to_other_services_cannot_be_scripts() {
    for services in ["logs", "logs=javascript:alert(1)", "logs=//evil.test", "=http://logs.test", "logs=http://a\"b"] {
        let (code, said) = Setup::error_tracker().env("SERVICES", services).run_to_exit();
        assert!(code == Some(2) && said.contains("SERVICES has '"), "{code:?}: {said}");
    }
}
