//! The browser relay's public door: keys, origins, preflights, what goes on to whom, and the keys' own API.

use std::io::Read as _;

use serde_json::{Value, json};

use super::{assert_cases, contains_subset};
use crate::harness::{PUBLIC_KEY, Request, Response, Service, Setup};

pub(super) const ERRORS: &str = "/api/browser/errors";
pub(super) const METRICS: &str = "/api/browser/metrics";
const SHOP: &str = "https://shop.example";

/// A relay and the two services behind it.
pub(super) struct House {
    pub(super) tracker: Service,
    pub(super) collector: Service,
    pub(super) relay: Service,
}

impl House {
    pub(super) fn new(set: impl FnOnce(Setup) -> Setup) -> Self {
        // By default sessions do not tell series apart; here what arrives is looked at.
        let collector = Setup::metrics_collector().env("ROLLUP_DROP_LABELS", "other").start();
        let tracker = Setup::error_tracker().start();
        let relay = set(Setup::browser_relay(tracker.address, collector.address)).start();
        Self { tracker, collector, relay }
    }

    /// The only group of the tracker, with its occurrences.
    #[track_caller]
    pub(super) fn only_error(&self) -> Value {
        let errors = self.tracker.get("/api/errors").expect(200).json();
        assert_eq!(errors["total"], 1, "{errors}");
        self.tracker.get(&format!("/api/errors/{}", errors["errors"][0]["id"])).expect(200).json()
    }
}

pub(super) fn error(message: &str) -> Value {
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

/// The labels of the only point that the collector has of a metric.
#[track_caller]
fn labels(collector: &Service, name: &str) -> Value {
    let database = rusqlite::Connection::open(collector.data_dir.path().join("metrics.db")).unwrap();
    let sql = "SELECT labels FROM metrics_raw WHERE name = ?1";
    let labels: String = database.query_row(sql, [name], |row| row.get(0)).unwrap();
    serde_json::from_str(&labels).unwrap()
}

#[test]
fn an_error_reaches_the_tracker_in_its_words() {
    let house = House::new(|setup| setup);
    let body = error("x is undefined");
    house.relay.send(&Request::from_browser(ERRORS, &body)).expect(201).has(json!({ "status": "created", "id": 1 }));
    house
        .relay
        .send(&Request::from_browser(ERRORS, &body))
        .expect(200)
        .has(json!({ "status": "incremented", "count": 2 }));
    let group = house.only_error();
    let expected = json!({
        "project": "shop", "exception_type": "TypeError", "message": "x is undefined", "source": "browser",
        "environment": "staging", "traceback": body["stack"],
        "occurrences": [{}, {
            "request_url": "https://shop.example/cart?item=7", "request_method": "BROWSER", "user_id": "u-42",
            "session_id": "s-1",
            "extra": { "user_agent": "Mozilla/5.0", "session_id": "s-1", "context": body["context"] },
        }],
    });
    assert!(contains_subset(&group, &expected), "{group} should have {expected}");
}

#[test]
fn metrics_reach_the_collector_with_labels_that_pages_cannot_choose() {
    let house = House::new(|setup| setup);
    let body = json!({
        "url": "https://shop.example/cart?item=7", "session_id": "s-1",
        "metrics": [
            { "name": "clicks", "type": "counter", "value": 2, "labels": { "project": "blog", "source": "server" } },
            { "name": "web_vitals_lcp", "type": "histogram", "value": 1200.5, "labels": { "page": "/mine" } },
        ],
    });
    house
        .relay
        .send(&Request::from_browser(METRICS, &body))
        .expect(202)
        .has(json!({ "status": "accepted", "count": 2 }));
    // The deployed SDK sends nothing beside its items, whose labels have the page.
    let bare =
        json!({ "metrics": [{ "name": "vitals", "type": "histogram", "value": 1, "labels": { "page": "/mine" } }] });
    house.relay.send(&Request::from_browser(METRICS, &bare)).expect(202);
    assert_eq!(house.collector.get("/api/projects").expect(200).json(), json!({ "projects": ["shop"] }));
    let set = json!({ "project": "shop", "source": "browser", "page": "/cart", "session_id": "s-1" });
    assert_eq!(labels(&house.collector, "clicks"), set);
    assert_eq!(labels(&house.collector, "web_vitals_lcp"), set);
    let set = json!({ "project": "shop", "source": "browser", "page": "/mine" });
    assert_eq!(labels(&house.collector, "vitals"), set);
}

#[test]
fn only_a_key_in_use_lets_a_page_report() {
    let house = House::new(|setup| setup);
    let bare = Request::from_browser(ERRORS, &error("e")).without_header("X-Monlight-Key");
    let keyed = |key: &str| bare.clone().header("X-Monlight-Key", key);
    let in_url =
        |key: &str| Request::from_browser(&format!("{ERRORS}?key={key}"), &error("e")).without_header("X-Monlight-Key");
    assert_cases(
        &house.relay,
        [
            ("no key", bare.clone(), 401, json!("X-Monlight-Key")),
            ("an unknown key", keyed("ffffffffffffffffffffffffffffffff"), 401, json!("valid public key")),
            ("a malformed key", keyed("' OR 1=1 --"), 401, Value::Null),
            ("half a key", keyed(&PUBLIC_KEY[..31]), 401, Value::Null),
            ("an empty key", keyed(""), 401, Value::Null),
            ("an unknown key in the URL", in_url("ffffffffffffffffffffffffffffffff"), 401, Value::Null),
            (
                "the admin's key, which is not for pages",
                bare.clone().header("X-API-Key", crate::harness::API_KEY),
                401,
                Value::Null,
            ),
            ("the key in its header", keyed(PUBLIC_KEY), 201, Value::Null),
            ("the key in the URL, as beacons have it", in_url(PUBLIC_KEY), 200, Value::Null),
        ],
    );
    // A stolen key can only submit.
    for (method, path) in [
        ("GET", "/api/dsn-keys"),
        ("POST", "/api/dsn-keys"),
        ("DELETE", "/api/dsn-keys/1"),
        ("GET", "/api/source-maps"),
        ("POST", "/api/source-maps"),
        ("GET", "/api/source-maps/verify"),
        ("DELETE", "/api/source-maps/1"),
        ("GET", "/metrics"),
        ("GET", "/api/nothing"),
    ] {
        let request = Request::new(method, path).header("X-API-Key", PUBLIC_KEY).header("X-Monlight-Key", PUBLIC_KEY);
        house.relay.send(&request).expect(401);
    }
    house.relay.send(&Request::new("GET", ERRORS).header("X-Monlight-Key", PUBLIC_KEY)).expect(405);
}

#[test]
fn keys_are_made_listed_and_taken_out_of_use() {
    let house = House::new(|setup| setup.env("API_KEYS", "eye:read:r,ops:admin:a"));
    let relay = &house.relay;
    let made = relay.post("/api/dsn-keys", &json!({ "project": "blog" })).expect(201).json();
    let key = made["public_key"].as_str().unwrap().to_owned();
    assert!(made["id"] == 2 && made["project"] == "blog" && key.len() == 32, "{made}");
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
    let report = Request::from_browser(ERRORS, &error("e")).header("X-Monlight-Key", &key);
    relay.send(&report).expect(201);
    assert_eq!(house.only_error()["project"], "blog");
    let delete = |id: &str| Request::new("DELETE", &format!("/api/dsn-keys/{id}"));
    assert_cases(
        relay,
        [
            ("out of use", delete("2"), 200, json!({ "status": "deactivated" })),
            ("out of use already", delete("2"), 200, json!({ "status": "deactivated" })),
            ("the page notices at once", report.clone(), 401, Value::Null),
            ("an unknown id", delete("99"), 404, json!("no key 99")),
            ("no id", delete("x"), 404, Value::Null),
            ("no project", Request::post("/api/dsn-keys", &json!({})), 400, json!("'project' is required")),
            ("an empty project", Request::post("/api/dsn-keys", &json!({ "project": "" })), 400, json!("1-100")),
            (
                "a long project",
                Request::post("/api/dsn-keys", &json!({ "project": "p".repeat(101) })),
                400,
                json!("1-100"),
            ),
            (
                "a project of two lines",
                Request::post("/api/dsn-keys", &json!({ "project": "a\nb" })),
                400,
                json!("control"),
            ),
            (
                "who only looks",
                Request::post("/api/dsn-keys", &json!({ "project": "p" })).header("X-API-Key", "r"),
                403,
                json!("admin"),
            ),
            ("an administrator's key", Request::get("/api/dsn-keys").header("X-API-Key", "a"), 200, Value::Null),
        ],
    );
    assert_eq!(relay.get("/api/dsn-keys").expect(200).json()["keys"][1]["active"], false);
    // A key out of use stays so when the settings still name it.
    relay.send(&delete("1")).expect(200);
    let folder = std::sync::Arc::clone(&relay.data_dir);
    let House { tracker, collector, relay } = house;
    drop(relay);
    let relay = Setup::browser_relay(tracker.address, collector.address).data_dir(&folder).start();
    relay.send(&Request::from_browser(ERRORS, &error("e"))).expect(401);
    relay.send(&Request::from_browser(ERRORS, &error("e")).header("X-Monlight-Key", &key)).expect(401);
}

#[test]
fn reports_are_checked_and_cut_not_stored_as_they_come() {
    let house = House::new(|setup| setup);
    let page = |path, body: &str| Request::from_browser(path, &Value::Null).body(body);
    let item = |item: &str| page(METRICS, &format!("{{\"metrics\":[{item}]}}"));
    assert_cases(
        &house.relay,
        [
            ("no JSON", page(ERRORS, "nonsense"), 400, json!("not JSON")),
            ("nothing", page(ERRORS, ""), 400, json!("empty")),
            ("no object", page(ERRORS, "[]"), 400, json!("object")),
            ("no message", page(ERRORS, r#"{"type":"E","stack":"s"}"#), 400, json!("'message' is required")),
            ("a message that is none", page(ERRORS, r#"{"message":{}}"#), 400, json!("'message'")),
            ("a context that is none", page(ERRORS, r#"{"message":"m","context":"c"}"#), 400, json!("'context'")),
            ("a NUL", page(ERRORS, r#"{"message":"a\u0000b"}"#), 400, Value::Null),
            ("half a surrogate pair", page(ERRORS, r#"{"message":"\ud800"}"#), 400, Value::Null),
            (
                "too deep",
                page(ERRORS, &format!(r#"{{"message":"m","context":{{"a":{}1{}}}}}"#, "[".repeat(70), "]".repeat(70))),
                400,
                Value::Null,
            ),
            ("little is enough", page(ERRORS, r#"{"message":"m"}"#), 201, Value::Null),
            ("no metrics", page(METRICS, "{}"), 400, json!("'metrics' must be a list")),
            ("an empty list", page(METRICS, r#"{"metrics":[]}"#), 400, json!("1-1000 items")),
            ("no name", item(r#"{"type":"counter","value":1}"#), 400, json!("Item 0: field 'name'")),
            (
                "a long name",
                item(&format!(r#"{{"name":"{}","type":"counter","value":1}}"#, "n".repeat(201))),
                400,
                json!("1-200"),
            ),
            ("an unknown type", item(r#"{"name":"n","type":"timer","value":1}"#), 400, json!("'type'")),
            ("no number", item(r#"{"name":"n","type":"gauge","value":"1"}"#), 400, json!("'value'")),
            ("an infinite number", item(r#"{"name":"n","type":"gauge","value":1e999}"#), 400, Value::Null),
            (
                "labels within labels",
                item(r#"{"name":"n","type":"gauge","value":1,"labels":{"a":{}}}"#),
                400,
                json!("'labels'"),
            ),
            (
                "a time that is none",
                item(r#"{"name":"n","type":"gauge","value":1,"timestamp":"now"}"#),
                400,
                json!("timestamp"),
            ),
        ],
    );
    let long = json!({ "message": "m", "type": "T".repeat(500), "url": format!("https://a/{}", "u".repeat(5_000)) });
    let id = house.relay.send(&Request::from_browser(ERRORS, &long)).expect(201).id();
    let group = house.tracker.get(&format!("/api/errors/{id}")).expect(200).json();
    assert_eq!(group["exception_type"].as_str().unwrap().len(), 200);
    assert!(group["occurrences"][0]["request_url"].as_str().unwrap().len() <= 2_000);
    let huge = json!({ "message": "m".repeat(70_000) });
    house.relay.send(&Request::from_browser(ERRORS, &huge)).expect(413).has_detail("at most 65536 bytes");
}

#[test]
fn a_key_given_by_the_page_makes_a_report_count_once() {
    let house = House::new(|setup| setup);
    let other = house.relay.post("/api/dsn-keys", &json!({ "project": "blog" })).expect(201).json();
    let report = Request::from_browser(ERRORS, &error("e")).header("Idempotency-Key", "page-1");
    for _ in 0..3 {
        house.relay.send(&report).expect(201);
    }
    assert_eq!(house.only_error()["count"], 1);
    // Another project's page may use the same one.
    house.relay.send(&report.header("X-Monlight-Key", other["public_key"].as_str().unwrap())).expect(201);
    // The rule is the one that the services behind it have: characters count, and they are UTF-8.
    let keyed = |key: &str| Request::from_browser(ERRORS, &error("e")).header("Idempotency-Key", key);
    house.relay.send(&keyed(&"k".repeat(65))).expect(400).has_detail("Idempotency-Key");
    house.relay.send(&keyed(&"ü".repeat(64))).expect(200);
    let mut latin = keyed("k\u{1}k").bytes();
    latin.iter_mut().filter(|byte| **byte == 1).for_each(|byte| *byte = 0xFC);
    let mut client = house.relay.connect();
    client.write(&latin);
    client.read_response().expect(400).has_detail("must be 1-64 characters of UTF-8");
}

/// What a browser is told of an response for a page.
fn shared(response: &Response) -> [Option<&str>; 4] {
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
fn listed_origins_may_report_and_read_the_answer() {
    let house = House::new(|setup| setup.env("CORS_ORIGINS", "https://shop.example, https://*.example.com"));
    let relay = &house.relay;
    for origin in [SHOP, "https://a.example.com", "https://a.b.example.com"] {
        let all = [Some(origin), Some("true"), Some("Retry-After"), Some("Origin")];
        for path in [ERRORS, METRICS, "/api/browser/metrics?key=whatever"] {
            let response = relay.send(&preflight(path, origin));
            assert_eq!((response.status, shared(&response)), (204, all), "{origin} {path}");
            assert_eq!(response.header("access-control-allow-methods"), Some("POST, OPTIONS"));
            let headers = Some("Content-Type, X-Monlight-Key, Idempotency-Key");
            assert_eq!(response.header("access-control-allow-headers"), headers);
            assert_eq!(response.header("access-control-max-age"), Some("86400"));
        }
        // Whatever is answered, the page may read it.
        let from = |request: Request| relay.send(&request.header("Origin", origin));
        for (request, status) in [
            (Request::from_browser(METRICS, &point()), 202),
            (Request::from_browser(METRICS, &json!({})), 400),
            (Request::from_browser(METRICS, &point()).header("X-Monlight-Key", "x"), 401),
            (Request::from_browser(METRICS, &point()).header("Content-Length", "70000"), 413),
            (Request::new("PUT", METRICS), 405),
        ] {
            let response = from(request);
            assert_eq!((response.status, shared(&response)), (status, all), "{origin}");
        }
    }
}

#[test]
fn other_origins_are_refused_and_told_nothing() {
    let house = House::new(|setup| setup.env("CORS_ORIGINS", "https://shop.example,https://*.example.com"));
    let relay = &house.relay;
    let nothing = [None, None, None, Some("Origin")];
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
        assert_eq!((response.status, shared(&response)), (204, nothing), "{origin}");
        let response = relay.send(&Request::from_browser(ERRORS, &error("e")).header("Origin", origin));
        assert_eq!((response.status, shared(&response)), (403, nothing), "{origin}");
        response.has_detail("CORS_ORIGINS");
    }
    assert_eq!(house.tracker.get("/api/errors").expect(200).json()["total"], 0);
    // The relay's own pages, and programs, which have no origin.
    let own = Request::from_browser(ERRORS, &error("e"))
        .header("Host", "relay.example")
        .header("Origin", "https://relay.example");
    relay.send(&own).expect(201);
    let response = relay.send(&Request::from_browser(ERRORS, &error("e"))).expect(200);
    assert_eq!(shared(&response), nothing);
    // Administration is not for pages.
    for path in ["/api/dsn-keys", "/api/source-maps", "/health"] {
        let response = relay.send(&Request::get(path).header("Origin", SHOP)).expect(200);
        assert_eq!(shared(&response), [None; 4], "{path}");
    }
    relay.send(&preflight("/api/dsn-keys", SHOP)).expect(401);
}

#[test]
fn without_listed_origins_any_page_may_report_and_none_may_read() {
    let house = House::new(|setup| setup);
    let response =
        house.relay.send(&Request::from_browser(ERRORS, &error("e")).header("Origin", "https://anywhere.example"));
    assert_eq!((response.status, shared(&response)), (201, [None, None, None, Some("Origin")]));
    let everybody = House::new(|setup| setup.env("CORS_ORIGINS", "*"));
    let response = everybody.relay.send(&Request::from_browser(ERRORS, &error("e")).header("Origin", "null"));
    assert_eq!((response.status, response.header("access-control-allow-origin")), (201, Some("null")));
}

#[test]
fn the_body_of_a_request_without_preflight_is_json_too() {
    let house = House::new(|setup| setup);
    for media_type in
        ["text/plain", "text/plain;charset=UTF-8", "application/json", "application/x-www-form-urlencoded"]
    {
        let request = Request::from_browser(&format!("{METRICS}?key={PUBLIC_KEY}"), &point());
        house.relay.send(&request.without_header("X-Monlight-Key").header("Content-Type", media_type)).expect(202);
    }
}

#[test]
fn what_an_upstream_answers_is_passed_on_unless_it_is_about_the_relay() {
    let house = House::new(|setup| setup.env("ERROR_TRACKER_API_KEY", "wrong"));
    let response = house.relay.send(&Request::from_browser(ERRORS, &error("e"))).expect(502);
    response.has_detail("error tracker does not take the relay's key");
    house.relay.send(&Request::from_browser(METRICS, &point())).expect(202);
    house.relay.get("/health").expect(200).has(json!({ "status": "ok", "outbox_waiting": 0 }));
}

#[test]
fn what_cannot_be_used_as_a_setting_is_named() {
    let nowhere = ([127, 0, 0, 1], 1).into();
    for (name, value, said) in [
        ("ADMIN_API_KEY", "", "ADMIN_API_KEY"),
        ("ERROR_TRACKER_URL", "localhost:5010", "ERROR_TRACKER_URL must be an URL"),
        ("METRICS_COLLECTOR_API_KEY", "", "METRICS_COLLECTOR_API_KEY"),
        ("DSN_KEYS", "shop:tooshort", "DSN_KEYS must be project:key"),
        ("CORS_ORIGINS", "shop.example", "'shop.example', which is no origin"),
        ("CORS_ORIGINS", &vec!["https://a.example"; 33].join(","), "32"),
        ("MAX_SOURCE_MAP_SIZE", "12", "MAX_SOURCE_MAP_SIZE"),
        ("RETENTION_DAYS", "0", "RETENTION_DAYS"),
    ] {
        let (code, output) = Setup::browser_relay(nowhere, nowhere).env(name, value).run_to_exit();
        assert!(code == Some(2) && output.contains(said), "{name}={value}: {code:?} {output}");
    }
}

#[test]
fn the_browser_package_is_there_for_pages_of_every_origin() {
    let nowhere = ([127, 0, 0, 1], 1).into();
    let relay = Setup::browser_relay(nowhere, nowhere).env("CORS_ORIGINS", "https://shop.example").start();
    let ask = |coding: &str| {
        let request =
            Request::get("/monlight.min.js").without_header("X-API-Key").header("Origin", "https://evil.example");
        relay.send(&request.header("Accept-Encoding", coding)).expect(200)
    };
    let plain = ask("identity");
    assert!(plain.text().contains("Monlight"), "{}", plain.text());
    for (coding, sent) in [
        ("", None),
        ("gzip", Some("gzip")),
        ("gzip, deflate, br, zstd", Some("br")),
        ("br;q=0, gzip;q=0.5", Some("gzip")),
        ("*;q=0", None),
    ] {
        let response = ask(coding);
        assert_eq!(response.header("content-encoding"), sent, "{coding}");
        assert_eq!(response.header("access-control-allow-origin"), Some("*"));
        assert_eq!(response.header("content-type"), Some("text/javascript; charset=utf-8"));
        assert!(response.header("cache-control").unwrap().starts_with("public, max-age="));
        let tag = response.header("etag").unwrap().to_owned();
        let again = Request::get("/monlight.min.js").header("Accept-Encoding", coding).header("If-None-Match", &tag);
        assert!(relay.send(&again).expect(304).body.is_empty());
        if sent == Some("gzip") {
            let mut unpacked = String::new();
            flate2::read::GzDecoder::new(&response.body[..]).read_to_string(&mut unpacked).unwrap();
            assert_eq!(unpacked, plain.text());
        }
    }
}

#[test]
fn it_is_a_service_like_the_others() {
    let house = House::new(|setup| setup.env("API_KEYS", "page:ingest:i"));
    let relay = &house.relay;
    relay.get("/health").expect(200).has(json!({ "status": "ok", "outbox_waiting": 0, "source_maps": 0 }));
    assert_cases(
        relay,
        [
            ("an unknown path", Request::get("/api/nothing"), 404, json!("nothing at this path")),
            (
                "the same without a key",
                Request::get("/api/nothing").without_header("X-API-Key"),
                401,
                json!("X-API-Key"),
            ),
            ("another method", Request::new("PUT", "/api/dsn-keys"), 405, json!("GET, HEAD, POST")),
            ("its figures without a key", Request::get("/metrics").without_header("X-API-Key"), 401, Value::Null),
            (
                "keys with a key that reports",
                Request::get("/api/dsn-keys").header("X-API-Key", "i"),
                403,
                json!("admin"),
            ),
            (
                "maps with a key that reports",
                Request::get("/api/source-maps").header("X-API-Key", "i"),
                403,
                json!("read"),
            ),
        ],
    );
    let figures = relay.get("/metrics").expect(200).text();
    for name in ["monlight_outbox_waiting 0", "monlight_source_maps 0", "monlight_commits_total"] {
        assert!(figures.contains(name), "{name} is not in {figures}");
    }
    let check = Setup::browser_relay(house.tracker.address, house.collector.address).env("PORT", relay.address.port());
    assert_eq!(check.arguments(&["--healthcheck"]).run_to_exit().0, Some(0));
    let (status, took) = house.relay.stop();
    assert!(status.success() && took < std::time::Duration::from_secs(5), "{status} after {took:?}");
}
