//! Contract of the browser relay: public keys, CORS, forwarding to the error tracker and the metrics collector, and the
//! API for keys.

use std::io::Read as _;

use serde_json::{Value, json};

use super::{assert_cases, contains_subset};
use crate::support::harness::{PUBLIC_KEY, Request, Response, Service, Setup, wait_until};
use crate::support::receiver::HttpReceiver;

pub(super) const ERRORS: &str = "/api/browser/errors";
pub(super) const METRICS: &str = "/api/browser/metrics";
const SHOP: &str = "https://shop.example";

/// Running relay with its two upstreams.
pub(super) struct RelayEnv {
    pub(super) tracker: Service,
    pub(super) collector: Service,
    pub(super) relay: Service,
}

impl RelayEnv {
    pub(super) fn start(configure: impl FnOnce(Setup) -> Setup) -> Self {
        // The default drops the label `session_id`, which these tests inspect.
        let collector = Setup::metrics_collector().env("ROLLUP_DROP_LABELS", "other").start();
        let tracker = Setup::error_tracker().start();
        let relay = configure(Setup::browser_relay(tracker.address, collector.address)).start();
        Self { tracker, collector, relay }
    }

    /// Returns the only error group of the tracker.
    #[track_caller]
    pub(super) fn only_error(&self) -> Value {
        let errors = self.tracker.get("/api/errors").expect(200).json();
        assert_eq!(errors["total"], 1, "{errors}");
        self.tracker.get(&format!("/api/errors/{}", errors["errors"][0]["id"])).expect(200).json()
    }
}

pub(super) fn browser_error(message: &str) -> Value {
    json!({
        "type": "TypeError",
        "message": message,
        "stack": format!("TypeError: {message}\n    at add (https://shop.example/app.js:1:2)"),
        "url": "https://shop.example/cart?item=7",
        "user_agent": "Mozilla/5.0",
        "session_id": "s-1",
        "environment": "staging",
        "context": { "user_id": "u-42", "level": "warning" },
    })
}

fn point() -> Value {
    json!({ "metrics": [{ "name": "clicks", "type": "counter", "value": 1 }] })
}

/// Returns the labels of the only point of a metric in the collector.
#[track_caller]
fn stored_labels(collector: &Service, name: &str) -> Value {
    let database = rusqlite::Connection::open(collector.data_dir.path().join("metrics.db")).unwrap();
    let sql = "SELECT labels FROM metrics_raw WHERE name = ?1";
    let labels: String = database.query_row(sql, [name], |row| row.get(0)).unwrap();
    serde_json::from_str(&labels).unwrap()
}

#[test]
fn browser_errors_are_forwarded_to_the_tracker() {
    let env = RelayEnv::start(|setup| setup);
    let body = browser_error("x is undefined");
    env.relay.send(&Request::from_browser(ERRORS, &body)).expect(201).has(json!({ "status": "created", "id": 1 }));
    env.relay
        .send(&Request::from_browser(ERRORS, &body))
        .expect(200)
        .has(json!({ "status": "incremented", "count": 2 }));
    let group = env.only_error();
    let expected = json!({
        "project": "shop", "exception_type": "TypeError", "message": "x is undefined", "source": "browser",
        "environment": "staging", "traceback": body["stack"],
        "occurrences": [{}, {
            "request_url": "https://shop.example/cart?item=7", "request_method": "BROWSER", "user_id": "u-42",
            "session_id": "s-1",
            "extra": { "user_agent": "Mozilla/5.0", "session_id": "s-1", "context": body["context"] },
        }],
    });
    assert!(contains_subset(&group, &expected), "{group} should contain {expected}");
}

#[test]
fn browser_metrics_get_labels_that_pages_cannot_override() {
    let env = RelayEnv::start(|setup| setup);
    let body = json!({
        "url": "https://shop.example/cart?item=7", "session_id": "s-1",
        "metrics": [
            { "name": "clicks", "type": "counter", "value": 2, "labels": { "project": "blog", "source": "server" } },
            { "name": "web_vitals_lcp", "type": "histogram", "value": 1200.5, "labels": { "page": "/mine" } },
        ],
    });
    env.relay.send(&Request::from_browser(METRICS, &body)).expect(202).has(json!({ "status": "accepted", "count": 2 }));
    // The SDK of the original Monlight sends only metrics, with the page as a label.
    let only_metrics =
        json!({ "metrics": [{ "name": "vitals", "type": "histogram", "value": 1, "labels": { "page": "/mine" } }] });
    env.relay.send(&Request::from_browser(METRICS, &only_metrics)).expect(202);
    assert_eq!(env.collector.get("/api/projects").expect(200).json(), json!({ "projects": ["shop"] }));
    let expected = json!({ "project": "shop", "source": "browser", "page": "/cart", "session_id": "s-1" });
    assert_eq!(stored_labels(&env.collector, "clicks"), expected);
    assert_eq!(stored_labels(&env.collector, "web_vitals_lcp"), expected);
    let expected = json!({ "project": "shop", "source": "browser", "page": "/mine" });
    assert_eq!(stored_labels(&env.collector, "vitals"), expected);
}

#[test]
fn metrics_of_environments_and_releases_are_told_apart() {
    let env = RelayEnv::start(|setup| setup);
    for (environment, lcp) in [("prod", 100.0), ("staging", 9_000.0)] {
        let item =
            json!({ "name": "web_vitals_lcp", "type": "histogram", "value": lcp, "labels": { "page": "/user/7" } });
        let body = json!({ "metrics": [item, item], "environment": environment, "release": "1.4.2" });
        env.relay.send(&Request::from_browser(METRICS, &body)).expect(202).has(json!({ "status": "accepted" }));
    }
    let vitals =
        |query: &str| env.collector.get(&format!("/api/dashboard{query}")).expect(200).json()["web_vitals"].clone();
    for (environment, lcp) in [("prod", 100.0), ("staging", 9_000.0)] {
        for _ in 0..2 {
            let vitals = vitals(&format!("?labels=environment:{environment},release:1.4.2"));
            assert_eq!(
                (&vitals["summary"]["lcp"]["p75"], &vitals["summary"]["lcp"]["count"]),
                (&json!(lcp), &json!(2))
            );
            assert_eq!(vitals["timeseries"][0]["count"], 2, "{vitals}");
            let page = json!({ "page": "/user/:id", "lcp": lcp, "page_views": 2 });
            assert!(contains_subset(&vitals["by_page"], &json!([page])), "{vitals}");
        }
    }
    assert_eq!(vitals("")["summary"]["lcp"]["count"], 4);
    assert_eq!(vitals("?labels=environment:test"), Value::Null);
    env.collector.get("/api/dashboard?labels=environment").expect(400).has_detail("labels");
}

#[test]
fn reports_require_an_active_public_key() {
    let env = RelayEnv::start(|setup| setup);
    let without_key = Request::from_browser(ERRORS, &browser_error("e")).without_header("X-Monlight-Key");
    let with_key = |key: &str| without_key.clone().header("X-Monlight-Key", key);
    let key_in_url = |key: &str| {
        Request::from_browser(&format!("{ERRORS}?key={key}"), &browser_error("e")).without_header("X-Monlight-Key")
    };
    assert_cases(
        &env.relay,
        [
            ("no key", without_key.clone(), 401, json!("X-Monlight-Key")),
            ("an unknown key", with_key("ffffffffffffffffffffffffffffffff"), 401, json!("valid public key")),
            ("a malformed key", with_key("' OR 1=1 --"), 401, Value::Null),
            ("truncated key", with_key(&PUBLIC_KEY[..31]), 401, Value::Null),
            ("an empty key", with_key(""), 401, Value::Null),
            ("an unknown key in the URL", key_in_url("ffffffffffffffffffffffffffffffff"), 401, Value::Null),
            (
                "the admin key, which is not a public key",
                without_key.clone().header("X-API-Key", crate::support::harness::API_KEY),
                401,
                Value::Null,
            ),
            ("key in the header", with_key(PUBLIC_KEY), 201, Value::Null),
            ("key in the URL, as beacons send it", key_in_url(PUBLIC_KEY), 200, Value::Null),
        ],
    );
    // A public key allows nothing but reports.
    for (method, path) in [
        ("GET", "/api/dsn-keys"),
        ("POST", "/api/dsn-keys"),
        ("DELETE", "/api/dsn-keys/1"),
        ("GET", "/api/source-maps"),
        ("POST", "/api/source-maps"),
        ("GET", "/api/source-maps/verify"),
        ("DELETE", "/api/source-maps/1"),
        ("GET", "/api/outbox/dead-letters"),
        ("GET", "/api/outbox/dead-letters/1"),
        ("POST", "/api/outbox/dead-letters/1/retry"),
        ("DELETE", "/api/outbox/dead-letters/1"),
        ("GET", "/api/quota"),
        ("GET", "/metrics"),
        ("GET", "/api/nothing"),
    ] {
        let request = Request::new(method, path).header("X-API-Key", PUBLIC_KEY).header("X-Monlight-Key", PUBLIC_KEY);
        env.relay.send(&request).expect(401);
    }
    env.relay.send(&Request::new("GET", ERRORS).header("X-Monlight-Key", PUBLIC_KEY)).expect(405);
}

#[test]
fn public_keys_can_be_created_listed_and_deactivated() {
    let env = RelayEnv::start(|setup| setup.env("API_KEYS", "eye:read:r,ops:admin:a"));
    let relay = &env.relay;
    let created = relay.post("/api/dsn-keys", &json!({ "project": "blog" })).expect(201).json();
    let key = created["public_key"].as_str().unwrap().to_owned();
    assert!(created["id"] == 2 && created["project"] == "blog" && key.len() == 32, "{created}");
    assert!(key.bytes().all(|byte| byte.is_ascii_hexdigit()), "{key}");
    let list = relay.get("/api/dsn-keys").expect(200).json();
    let expected = json!({ "keys": [
        { "id": 1, "public_key": PUBLIC_KEY, "project": "shop", "active": true },
        { "id": 2, "public_key": key, "project": "blog", "active": true },
    ] });
    assert!(
        contains_subset(&list, &expected) && list["keys"][0]["created_at"].as_str().unwrap().ends_with('Z'),
        "{list}"
    );
    let report = Request::from_browser(ERRORS, &browser_error("e")).header("X-Monlight-Key", &key);
    relay.send(&report).expect(201);
    assert_eq!(env.only_error()["project"], "blog");
    let delete = |id: &str| Request::new("DELETE", &format!("/api/dsn-keys/{id}"));
    assert_cases(
        relay,
        [
            ("deactivated", delete("2"), 200, json!({ "status": "deactivated" })),
            ("already deactivated", delete("2"), 200, json!({ "status": "deactivated" })),
            ("deactivated key", report.clone(), 401, Value::Null),
            ("unknown ID", delete("99"), 404, json!("Public key 99 not found")),
            ("invalid ID", delete("x"), 404, Value::Null),
            ("no project", Request::post("/api/dsn-keys", &json!({})), 400, json!("'project' is required")),
            ("empty project", Request::post("/api/dsn-keys", &json!({ "project": "" })), 400, json!("1-100")),
            (
                "project too long",
                Request::post("/api/dsn-keys", &json!({ "project": "p".repeat(101) })),
                400,
                json!("1-100"),
            ),
            (
                "project with a line break",
                Request::post("/api/dsn-keys", &json!({ "project": "a\nb" })),
                400,
                json!("control"),
            ),
            (
                "read-only key",
                Request::post("/api/dsn-keys", &json!({ "project": "p" })).header("X-API-Key", "r"),
                403,
                json!("admin"),
            ),
            ("admin key", Request::get("/api/dsn-keys").header("X-API-Key", "a"), 200, Value::Null),
        ],
    );
    assert_eq!(relay.get("/api/dsn-keys").expect(200).json()["keys"][1]["active"], false);
    // A deactivated key stays deactivated after a restart, even if DSN_KEYS still contains it.
    relay.send(&delete("1")).expect(200);
    let data_dir = std::sync::Arc::clone(&relay.data_dir);
    let RelayEnv { tracker, collector, relay } = env;
    drop(relay);
    let relay = Setup::browser_relay(tracker.address, collector.address).data_dir(&data_dir).start();
    relay.send(&Request::from_browser(ERRORS, &browser_error("e"))).expect(401);
    relay.send(&Request::from_browser(ERRORS, &browser_error("e")).header("X-Monlight-Key", &key)).expect(401);
}

#[test]
fn browser_reports_are_validated_and_truncated() {
    let env = RelayEnv::start(|setup| setup);
    let page = |path, body: &str| Request::from_browser(path, &Value::Null).body(body);
    let item = |item: &str| page(METRICS, &format!("{{\"metrics\":[{item}]}}"));
    assert_cases(
        &env.relay,
        [
            ("invalid JSON", page(ERRORS, "nonsense"), 400, json!("not JSON")),
            ("empty body", page(ERRORS, ""), 400, json!("empty")),
            ("not an object", page(ERRORS, "[]"), 400, json!("object")),
            ("no message", page(ERRORS, r#"{"type":"E","stack":"s"}"#), 400, json!("'message' is required")),
            ("invalid message", page(ERRORS, r#"{"message":{}}"#), 400, json!("'message'")),
            ("invalid type", page(ERRORS, r#"{"message":"m","type":5}"#), 400, json!("'type'")),
            ("invalid UTF-8", page(ERRORS, "").body(b"{\"message\":\"\xff\"}"), 400, json!("UTF-8")),
            ("only a message", page(ERRORS, r#"{"message":"m"}"#), 201, Value::Null),
            ("no metrics", page(METRICS, "{}"), 400, json!("'metrics' must be an array")),
            ("empty list", page(METRICS, r#"{"metrics":[]}"#), 400, json!("1-1000 items")),
            ("no name", item(r#"{"type":"counter","value":1}"#), 400, json!("Item 0: field 'name'")),
            (
                "name too long",
                item(&format!(r#"{{"name":"{}","type":"counter","value":1}}"#, "n".repeat(201))),
                400,
                json!("1-200"),
            ),
            ("unknown type", item(r#"{"name":"n","type":"timer","value":1}"#), 400, json!("'type'")),
            ("value is not a number", item(r#"{"name":"n","type":"gauge","value":"1"}"#), 400, json!("'value'")),
            ("infinite value", item(r#"{"name":"n","type":"gauge","value":1e999}"#), 400, Value::Null),
            (
                "nested labels",
                item(r#"{"name":"n","type":"gauge","value":1,"labels":{"a":{}}}"#),
                202,
                json!({ "count": 1, "adjusted": ["labels"] }),
            ),
            (
                "invalid timestamp",
                item(r#"{"name":"n","type":"gauge","value":1,"timestamp":"now"}"#),
                202,
                json!({ "count": 1, "adjusted": ["timestamp"] }),
            ),
            (
                "one invalid item of two",
                item(r#"{"name":"n","type":"gauge","value":1},{"name":"n","type":"timer","value":1}"#),
                202,
                json!({ "count": 1, "adjusted": ["metrics"] }),
            ),
        ],
    );
    let long = json!({ "message": "m", "type": "T".repeat(500), "url": format!("https://a/{}", "u".repeat(5_000)) });
    let id = env.relay.send(&Request::from_browser(ERRORS, &long)).expect(201).id();
    let group = env.tracker.get(&format!("/api/errors/{id}")).expect(200).json();
    assert_eq!(group["exception_type"].as_str().unwrap().len(), 200);
    assert!(group["occurrences"][0]["request_url"].as_str().unwrap().len() <= 2_000);
    let huge = json!({ "message": "m".repeat(70_000) });
    env.relay.send(&Request::from_browser(ERRORS, &huge)).expect(413).has_detail("exceeds 65536 bytes");
}

#[test]
fn odd_values_of_a_page_do_not_cost_the_report() {
    let env = RelayEnv::start(|setup| setup);
    let deep = format!("{}1{}", "[".repeat(100), "]".repeat(100));
    let rows = [
        (r#""context":{"user_id":{"id":7,"email":"a@example.com"}}"#, "user_id", "/user_id", json!("7")),
        (r#""context":{"user_id":true}"#, "user_id", "/user_id", json!("true")),
        (r#""context":[]"#, "context", "/extra/context", Value::Null),
        (&format!(r#""context":{{"a":1,"deep":{deep}}}"#), "context", "/extra/context/a", json!(1)),
        (r#""release":142"#, "release", "/release", json!("142")),
        (r#""url":5"#, "url", "/request_url", json!("5")),
        (r#""fingerprint":{}"#, "fingerprint", "/message", json!("m")),
        (r#""message":"a\u0000b\ud800""#, "message", "/message", json!("a\u{fffd}b\u{fffd}")),
        (r#""stack":{}"#, "stack", "/traceback", json!("")),
    ];
    for (index, (members, adjusted, field, stored)) in rows.iter().enumerate() {
        let body = format!(r#"{{"type":"Odd{index}","message":"m",{members}}}"#);
        let response = env.relay.send(&Request::from_browser(ERRORS, &Value::Null).body(body)).expect(201);
        assert_eq!(response.json()["adjusted"], json!([adjusted]), "{members}");
        let group = env.tracker.get(&format!("/api/errors/{}", response.id())).expect(200).json();
        let found = group["occurrences"][0].pointer(field).unwrap_or(&Value::Null);
        assert_eq!(found, stored, "{members}");
    }
    for timestamp in [json!("2015-01-01T00:00:00Z"), json!("2037-01-01T00:00:00Z"), json!(1_769_860_800_000_i64)] {
        let body = json!({ "type": format!("Clock {timestamp}"), "message": "m", "timestamp": timestamp });
        let response = env.relay.send(&Request::from_browser(ERRORS, &body)).expect(201);
        response.json()["adjusted"].as_array().filter(|names| **names == ["timestamp"]).expect("the time is named");
    }
    let recent = format!("/api/errors?since={}", super::minutes_ago(5));
    env.tracker.get(&recent).expect(200).has(json!({ "total": rows.len() + 3 }));
}

#[test]
fn level_of_a_page_becomes_the_level_of_its_report() {
    let env = RelayEnv::start(|setup| setup);
    for (level, stored) in [
        (json!("info"), "info"),
        (json!("warning"), "warning"),
        (json!("critical"), "critical"),
        (json!("fatal"), "critical"),
        (json!("loud"), "error"),
        (json!(3), "error"),
    ] {
        let body = json!({ "type": format!("Level {level}"), "message": "m", "context": { "level": level } });
        let response = env.relay.send(&Request::from_browser(ERRORS, &body)).expect(201);
        assert_eq!(response.json().get("adjusted"), None, "{level}");
        env.tracker.get(&format!("/api/errors/{}", response.id())).expect(200).has(json!({ "level": stored }));
    }
    env.tracker.get("/api/errors?level=warning").expect(200).has(json!({ "total": 1 }));
}

#[test]
fn idempotency_key_of_a_page_makes_a_report_count_once() {
    let env = RelayEnv::start(|setup| setup);
    let other = env.relay.post("/api/dsn-keys", &json!({ "project": "blog" })).expect(201).json();
    let report = Request::from_browser(ERRORS, &browser_error("e")).header("Idempotency-Key", "page-1");
    for _ in 0..3 {
        env.relay.send(&report).expect(201);
    }
    assert_eq!(env.only_error()["count"], 1);
    // The same key from another project is a different key.
    env.relay.send(&report.header("X-Monlight-Key", other["public_key"].as_str().unwrap())).expect(201);
    let with_member = |key: &str| {
        let mut body = browser_error("e");
        body["idempotency_key"] = json!(key);
        Request::from_browser(ERRORS, &body)
    };
    env.relay.send(&with_member("page-1")).expect(201);
    for _ in 0..2 {
        env.relay.send(&with_member("page-2")).expect(200).has(json!({ "count": 2 }));
    }
    env.relay.send(&with_member("page-2").header("Idempotency-Key", "page-3")).expect(200).has(json!({ "count": 3 }));
    env.relay.send(&with_member("")).expect(200).has(json!({ "count": 4 }));
    // As in the upstream services, the limit counts characters, and keys must be UTF-8.
    let with_idempotency_key =
        |key: &str| Request::from_browser(ERRORS, &browser_error("e")).header("Idempotency-Key", key);
    env.relay.send(&with_idempotency_key(&"k".repeat(65))).expect(400).has_detail("Idempotency-Key");
    env.relay.send(&with_idempotency_key(&"ü".repeat(64))).expect(200);
    let mut latin = with_idempotency_key("k\u{1}k").bytes();
    latin.iter_mut().filter(|byte| **byte == 1).for_each(|byte| *byte = 0xFC);
    let mut client = env.relay.connect();
    client.write(&latin);
    client.read_response().expect(400).has_detail("must be 1-64 characters of UTF-8");
}

/// Returns the CORS headers and `Vary` of a response.
fn cors_headers(response: &Response) -> [Option<&str>; 4] {
    ["access-control-allow-origin", "access-control-allow-credentials", "access-control-expose-headers", "vary"]
        .map(|name| response.header(name))
}

fn preflight(path: &str, origin: &str) -> Request {
    Request::new("OPTIONS", path)
        .without_header("X-API-Key")
        .header("Origin", origin)
        .header("Access-Control-Request-Method", "POST")
        .header("Access-Control-Request-Headers", "content-type,x-monlight-key")
}

#[test]
fn listed_origins_get_cors_headers_on_all_responses() {
    let env = RelayEnv::start(|setup| setup.env("CORS_ORIGINS", "https://shop.example, https://*.example.com"));
    let relay = &env.relay;
    for origin in [SHOP, "https://a.example.com", "https://a.b.example.com"] {
        let cors = [Some(origin), Some("true"), Some("Retry-After"), Some("Origin")];
        for path in [ERRORS, METRICS, "/api/browser/metrics?key=whatever"] {
            let response = relay.send(&preflight(path, origin));
            assert_eq!((response.status, cors_headers(&response)), (204, cors), "{origin} {path}");
            assert_eq!(response.header("access-control-allow-methods"), Some("POST, OPTIONS"));
            let headers = Some("Content-Type, X-Monlight-Key, Idempotency-Key");
            assert_eq!(response.header("access-control-allow-headers"), headers);
            assert_eq!(response.header("access-control-max-age"), Some("86400"));
        }
        // Pages can read error responses too.
        let send = |request: Request| relay.send(&request.header("Origin", origin));
        for (request, status) in [
            (Request::from_browser(METRICS, &point()), 202),
            (Request::from_browser(METRICS, &json!({})), 400),
            (Request::from_browser(METRICS, &point()).header("X-Monlight-Key", "x"), 401),
            (Request::from_browser(METRICS, &point()).header("Content-Length", "70000"), 413),
            (Request::new("PUT", METRICS), 405),
        ] {
            let response = send(request);
            assert_eq!((response.status, cors_headers(&response)), (status, cors), "{origin}");
        }
    }
}

#[test]
fn other_origins_are_rejected_without_cors_headers() {
    let env = RelayEnv::start(|setup| setup.env("CORS_ORIGINS", "https://shop.example,https://*.example.com"));
    let relay = &env.relay;
    let no_cors = [None, None, None, Some("Origin")];
    for origin in [
        "https://evil.example",
        "http://shop.example",
        "https://shop.example:8443",
        "https://shop.example.evil",
        "https://evilexample.com",
        "https://example.com",
        "https://evil.com/.example.com",
        "null",
        "*",
    ] {
        let response = relay.send(&preflight(ERRORS, origin));
        assert_eq!((response.status, cors_headers(&response)), (204, no_cors), "{origin}");
        let response = relay.send(&Request::from_browser(ERRORS, &browser_error("e")).header("Origin", origin));
        assert_eq!((response.status, cors_headers(&response)), (403, no_cors), "{origin}");
        response.has_detail("CORS_ORIGINS");
    }
    assert_eq!(env.tracker.get("/api/errors").expect(200).json()["total"], 0);
    // The relay's own origin is accepted, and so are programs, which send no origin.
    let same_origin = Request::from_browser(ERRORS, &browser_error("e"))
        .header("Host", "relay.example")
        .header("Origin", "https://relay.example");
    relay.send(&same_origin).expect(201);
    let response = relay.send(&Request::from_browser(ERRORS, &browser_error("e"))).expect(200);
    assert_eq!(cors_headers(&response), no_cors);
    // Admin endpoints never send CORS headers.
    for path in ["/api/dsn-keys", "/api/source-maps", "/health"] {
        let response = relay.send(&Request::get(path).header("Origin", SHOP)).expect(200);
        assert_eq!(cors_headers(&response), [None; 4], "{path}");
    }
    relay.send(&preflight("/api/dsn-keys", SHOP)).expect(401);
    // The operator sees which pages are rejected, and everybody else only how many requests.
    let health = relay.get("/health").expect(200).json();
    let rejected = health["warnings"].as_array().unwrap().iter().filter(|warning| warning["code"] == "origin_rejected");
    let named = |origin: &str| {
        let names_origin = |warning: &&Value| warning["message"].as_str().unwrap().contains(&format!("{origin} were"));
        rejected.clone().find(names_origin).map(|warning| warning["count"].clone())
    };
    assert_eq!((named("https://evil.example"), named("null")), (Some(json!(2)), Some(json!(2))), "{health}");
    assert_eq!((rejected.clone().count(), named(SHOP)), (9, None), "{health}");
    let public = relay.send(&Request::get("/health").without_header("X-API-Key")).expect(200).json();
    assert_eq!(public["warnings"], json!([{ "code": "origin_rejected", "count": 18 }]));
}

#[test]
fn any_page_may_report_but_not_read_without_cors_origins() {
    let env = RelayEnv::start(|setup| setup);
    let response = env
        .relay
        .send(&Request::from_browser(ERRORS, &browser_error("e")).header("Origin", "https://anywhere.example"));
    assert_eq!((response.status, cors_headers(&response)), (201, [None, None, None, Some("Origin")]));
    let any_origin = RelayEnv::start(|setup| setup.env("CORS_ORIGINS", "*"));
    let response = any_origin.relay.send(&Request::from_browser(ERRORS, &browser_error("e")).header("Origin", "null"));
    assert_eq!((response.status, response.header("access-control-allow-origin")), (201, Some("null")));
}

#[test]
fn json_body_is_accepted_with_any_media_type() {
    let env = RelayEnv::start(|setup| setup);
    for media_type in
        ["text/plain", "text/plain;charset=UTF-8", "application/json", "application/x-www-form-urlencoded"]
    {
        let request = Request::from_browser(&format!("{METRICS}?key={PUBLIC_KEY}"), &point());
        env.relay.send(&request.without_header("X-Monlight-Key").header("Content-Type", media_type)).expect(202);
    }
}

#[test]
fn reports_wait_while_the_upstream_rejects_the_key_of_the_relay() {
    let env = RelayEnv::start(|setup| setup.env("ERROR_TRACKER_API_KEY", "wrong"));
    let mut report = browser_error("e");
    report["context"]["user_id"] = json!({ "id": 7 });
    let response = env.relay.send(&Request::from_browser(ERRORS, &report)).expect(202);
    assert_eq!(response.json(), json!({ "status": "queued", "adjusted": ["user_id"] }));
    env.relay.send(&Request::from_browser(METRICS, &point())).expect(202).has(json!({ "status": "accepted" }));
    // Without an idle database connection, /health has the last figures.
    let health = wait_until(|| Some(env.relay.get("/health").json()).filter(|health| health["warnings"].is_array()));
    let health = health.expect("/health has a warning");
    let warning = &health["warnings"][0];
    assert_eq!((&warning["code"], &warning["count"]), (&json!("upstream_rejects_key"), &json!(1)), "{health}");
    assert!(warning["message"].as_str().unwrap().contains("error tracker failed: HTTP 401"), "{health}");
    let public = || env.relay.send(&Request::get("/health").without_header("X-API-Key")).expect(200).json();
    let warnings = json!([{ "code": "upstream_rejects_key", "count": 1 }]);
    wait_until(|| (public()["warnings"] == warnings && public()["status"] == "ok").then_some(())).expect("a warning");
    // With the right key, the report is delivered.
    let data_dir = env.relay.kill();
    let relay = Setup::browser_relay(env.tracker.address, env.collector.address).data_dir(&data_dir).start();
    wait_until(|| (relay.health_number("outbox_waiting") == 0).then_some(())).expect("the report is delivered");
    assert_eq!(env.tracker.get("/api/errors").expect(200).json()["total"], 1);
}

#[test]
fn public_keys_have_a_kind_that_the_upstreams_learn() {
    let upstream = HttpReceiver::start(&["503 Busy", "503 Busy"]);
    let server_key = "0123456789abcdef0123456789abcdef";
    let setup = |keys: String| Setup::browser_relay(upstream.address, upstream.address).env("DSN_KEYS", keys);
    let relay = setup(format!("shop:{PUBLIC_KEY},blog:{server_key}:server")).start();
    let created = relay.post("/api/dsn-keys", &json!({ "project": "a:b", "kind": "server" })).expect(201).json();
    assert_eq!(created["kind"], "server");
    relay.post("/api/dsn-keys", &json!({ "project": "p" })).expect(201).has(json!({ "kind": "browser" }));
    relay.post("/api/dsn-keys", &json!({ "project": "p", "kind": "root" })).expect(400).has_detail("browser or server");
    let kinds = |relay: &Service, query: &str| -> Vec<Value> {
        let list = relay.get(&format!("/api/dsn-keys{query}")).expect(200).has(json!({ "total": 4 })).json();
        list["keys"].as_array().unwrap().iter().map(|key| key["kind"].clone()).collect()
    };
    assert_eq!(kinds(&relay, ""), ["browser", "server", "server", "browser"]);
    assert_eq!(kinds(&relay, "?limit=2&offset=1"), ["server", "server"]);
    // Two reports go through the outbox, the others are forwarded directly.
    let report = |key: &str| Request::from_browser(METRICS, &point()).header("X-Monlight-Key", key);
    relay.send(&report(PUBLIC_KEY)).expect(202);
    relay.send(&report(server_key)).expect(202);
    wait_until(|| (relay.health_number("outbox_waiting") == 0).then_some(())).expect("the reports are delivered");
    relay.send(&report(PUBLIC_KEY)).expect(204);
    relay.send(&report(server_key)).expect(204);
    let kinds_sent: Vec<String> = upstream
        .requests()
        .iter()
        .map(|(head, body)| {
            let head = head.to_lowercase();
            let kind = head.lines().find_map(|line| line.strip_prefix("x-monlight-key-kind: ")).unwrap_or_default();
            format!("{kind} {}", serde_json::from_str::<Value>(body).unwrap()[0]["project"])
        })
        .collect();
    assert_eq!(kinds_sent.len(), 6, "{kinds_sent:?}");
    assert!(kinds_sent.iter().all(|sent| sent == "browser \"shop\"" || sent == "server \"blog\""), "{kinds_sent:?}");
    // The settings can change the kind of an existing key.
    let data_dir = relay.kill();
    let relay = setup(format!("shop:{PUBLIC_KEY}:server,blog:{server_key}")).data_dir(&data_dir).start();
    assert_eq!(kinds(&relay, ""), ["server", "server", "server", "browser"]);
}

#[test]
fn reports_that_the_upstream_would_reject_for_their_size_are_rejected_at_once() {
    let env = RelayEnv::start(|setup| setup);
    let long = "\u{1F600}".repeat(199);
    let batch = |items: usize, long: &str| {
        let items = vec![json!({ "name": "a", "type": "gauge", "value": 1 }); items];
        json!({ "metrics": items, "url": format!("https://x/{long}"), "session_id": long })
    };
    let response = env.relay.send(&Request::from_browser(METRICS, &batch(1_000, &long))).expect(413);
    response.has_detail("send fewer metrics");
    env.relay.send(&Request::from_browser(METRICS, &batch(200, &long))).expect(202).has(json!({ "count": 200 }));
    let session = "0123456789abcdef0123456789abcdef";
    env.relay.send(&Request::from_browser(METRICS, &batch(1_000, session))).expect(202).has(json!({ "count": 1_000 }));
}

#[test]
fn invalid_relay_settings_are_reported_by_name() {
    let nowhere = ([127, 0, 0, 1], 1).into();
    for (name, value, part) in [
        ("ADMIN_API_KEY", "", "ADMIN_API_KEY"),
        ("ERROR_TRACKER_URL", "localhost:5010", "ERROR_TRACKER_URL: must be an absolute http(s) URL"),
        ("METRICS_COLLECTOR_URL", "localhost", "must be an absolute http(s) URL, for example http://localhost:5012"),
        (
            "METRICS_COLLECTOR_API_KEY",
            "",
            "METRICS_COLLECTOR_API_KEY: required; set it to a key of the metrics collector",
        ),
        (
            "ERROR_TRACKER_API_KEY",
            "",
            "ERROR_TRACKER_API_KEY: required; set it to a key of the error tracker with the scope",
        ),
        ("DSN_KEYS", "shop:tooshort", "DSN_KEYS: must be a comma-separated list of project:key"),
        ("DSN_KEYS", "shop:00112233445566778899aabbccddeeff:root", "kind browser or server"),
        ("CORS_ORIGINS", "shop.example", "'shop.example' is not an origin"),
        ("CORS_ORIGINS", &vec!["https://a.example"; 33].join(","), "32"),
        ("MAX_SOURCE_MAP_SIZE", "12", "MAX_SOURCE_MAP_SIZE"),
        ("RETENTION_DAYS", "0", "RETENTION_DAYS"),
    ] {
        let (code, output) = Setup::browser_relay(nowhere, nowhere).env(name, value).run_to_exit();
        assert!(code == Some(2) && output.contains(part), "{name}={value}: {code:?} {output}");
    }
}

#[test]
fn browser_sdk_is_served_to_all_origins_in_all_codings() {
    let nowhere = ([127, 0, 0, 1], 1).into();
    let relay = Setup::browser_relay(nowhere, nowhere).env("CORS_ORIGINS", "https://shop.example").start();
    let download = |coding: &str| {
        let request =
            Request::get("/monlight.min.js").without_header("X-API-Key").header("Origin", "https://evil.example");
        relay.send(&request.header("Accept-Encoding", coding)).expect(200)
    };
    let plain = download("identity");
    assert!(plain.text().contains("Monlight"), "{}", plain.text());
    for (coding, sent) in [
        ("", None),
        ("gzip", Some("gzip")),
        ("gzip, deflate, br, zstd", Some("br")),
        ("br;q=0, gzip;q=0.5", Some("gzip")),
        ("*;q=0", None),
    ] {
        let response = download(coding);
        assert_eq!(response.header("content-encoding"), sent, "{coding}");
        assert_eq!(response.header("access-control-allow-origin"), Some("*"));
        assert_eq!(response.header("content-type"), Some("text/javascript; charset=utf-8"));
        assert!(response.header("cache-control").unwrap().starts_with("public, max-age="));
        let tag = response.header("etag").unwrap().to_owned();
        let again = Request::get("/monlight.min.js").header("Accept-Encoding", coding).header("If-None-Match", &tag);
        assert!(relay.send(&again).expect(304).body.is_empty());
        if sent == Some("gzip") {
            let mut decoded = String::new();
            flate2::read::GzDecoder::new(&response.body[..]).read_to_string(&mut decoded).unwrap();
            assert_eq!(decoded, plain.text());
        }
    }
}

#[test]
fn relay_has_the_common_endpoints_and_stops_cleanly() {
    let env = RelayEnv::start(|setup| setup.env("API_KEYS", "page:ingest:i"));
    let relay = &env.relay;
    relay.get("/health").expect(200).has(json!({ "status": "ok", "outbox_waiting": 0, "source_maps": 0 }));
    assert_cases(
        relay,
        [
            ("unknown path", Request::get("/api/nothing"), 404, json!("No such endpoint")),
            (
                "unknown path without a key",
                Request::get("/api/nothing").without_header("X-API-Key"),
                401,
                json!("X-API-Key"),
            ),
            ("wrong method", Request::new("PUT", "/api/dsn-keys"), 405, json!("GET, HEAD, POST")),
            ("metrics without a key", Request::get("/metrics").without_header("X-API-Key"), 401, Value::Null),
            (
                "public keys with an ingest key",
                Request::get("/api/dsn-keys").header("X-API-Key", "i"),
                403,
                json!("admin"),
            ),
            (
                "source maps with an ingest key",
                Request::get("/api/source-maps").header("X-API-Key", "i"),
                403,
                json!("read"),
            ),
        ],
    );
    let metrics = relay.get("/metrics").expect(200).text();
    for name in ["monlight_outbox_waiting 0", "monlight_source_maps 0", "monlight_commits_total"] {
        assert!(metrics.contains(name), "the metrics lack {name}: {metrics}");
    }
    let health_check =
        Setup::browser_relay(env.tracker.address, env.collector.address).env("PORT", relay.address.port());
    assert_eq!(health_check.arguments(&["--healthcheck"]).run_to_exit().0, Some(0));
    let (status, took) = env.relay.stop();
    assert!(status.success() && took < std::time::Duration::from_secs(5), "{status} after {took:?}");
}
