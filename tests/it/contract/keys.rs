//! API keys: accepted headers, scopes and projects, and rotation.

use serde_json::{Value, json};

use super::{Case, assert_cases, post_report, unique_report_with};
use crate::support::harness::{API_KEY, Request, Setup};

const API_KEYS: &str = "app:ingest:app-key, eye:read:eye-key, ops:admin:ops-key, shop:ingest@shop:shop:key";

#[test]
fn keys_are_accepted_in_two_headers_only() {
    let service = Setup::error_tracker().start();
    let with = |name: &str, value: &str| Request::get("/api/projects").without_header("X-API-Key").header(name, value);
    let bearer = |value: &str| with("Authorization", value);
    let no_valid_key = json!("A valid API key is required");
    let cases: [Case; 15] = [
        ("X-API-Key", with("X-API-Key", API_KEY), 200, Value::Null),
        ("header name in different case", with("x-api-KEY", API_KEY), 200, Value::Null),
        ("Bearer", bearer(&format!("Bearer {API_KEY}")), 200, Value::Null),
        ("bearer", bearer(&format!("bearer {API_KEY}")), 200, Value::Null),
        ("none", Request::get("/api/projects").without_header("X-API-Key"), 401, no_valid_key.clone()),
        ("empty", with("X-API-Key", ""), 401, no_valid_key.clone()),
        ("empty bearer", bearer("Bearer "), 401, no_valid_key.clone()),
        ("prefix of the key", with("X-API-Key", &API_KEY[..API_KEY.len() - 1]), 401, no_valid_key.clone()),
        ("key with a suffix", with("X-API-Key", &format!("{API_KEY}0")), 401, no_valid_key.clone()),
        ("key in different case", with("X-API-Key", &API_KEY.to_uppercase()), 401, no_valid_key.clone()),
        ("no scheme", bearer(API_KEY), 401, no_valid_key.clone()),
        ("wrong scheme", bearer(&format!("Basic {API_KEY}")), 401, no_valid_key.clone()),
        ("the relay's header", with("X-Monlight-Key", API_KEY), 401, no_valid_key.clone()),
        (
            "valid bearer and wrong X-API-Key",
            bearer(&format!("Bearer {API_KEY}")).header("X-API-Key", "no"),
            401,
            no_valid_key.clone(),
        ),
        (
            "in the query",
            Request::get(&format!("/api/projects?api_key={API_KEY}")).without_header("X-API-Key"),
            401,
            no_valid_key,
        ),
    ];
    assert_cases(&service, cases);
}

#[test]
fn error_tracker_routes_require_their_scopes() {
    let service = Setup::error_tracker().env("API_KEYS", API_KEYS).start();
    let shop_report = post_report(&unique_report_with("project", "shop"));
    service.send(&shop_report).expect(201);
    let blog_report = post_report(&unique_report_with("project", "blog"));
    service.send(&blog_report).expect(201);
    let (get, post) = (Request::get, |path| Request::new("POST", path));
    let routes = [
        ("report for shop", shop_report),
        ("report for blog", blog_report),
        ("list", get("/api/errors")),
        ("detail", get("/api/errors/1")),
        ("projects", get("/api/projects")),
        ("alerts", get("/api/alerts")),
        ("metrics", get("/metrics")),
        ("resolve", post("/api/errors/2/resolve")),
        ("test alert", post("/api/test-alert")),
    ];
    // 503 means that the key is accepted and alerts are not configured.
    for (key, statuses) in [
        (API_KEY, [200, 200, 200, 200, 200, 200, 200, 200, 503]),
        ("app-key", [200, 200, 403, 403, 403, 403, 403, 403, 403]),
        ("eye-key", [403, 403, 200, 200, 200, 200, 200, 403, 403]),
        ("ops-key", [403, 403, 200, 200, 200, 200, 200, 200, 503]),
        ("shop:key", [200, 403, 403, 403, 403, 403, 403, 403, 403]),
        ("no-key", [401; 9]),
    ] {
        for ((route, request), status) in routes.iter().zip(statuses) {
            let response = service.send(&request.clone().header("X-API-Key", key));
            assert_eq!(response.status, status, "{route} with {key}: {}", response.text());
        }
    }
}

#[test]
fn forbidden_requests_name_the_missing_scope_or_project() {
    let service = Setup::error_tracker().env("API_KEYS", API_KEYS).start();
    let with = |request: Request, key: &str| request.header("X-API-Key", key);
    let blog = post_report(&unique_report_with("project", "blog"));
    let resolve = Request::new("POST", "/api/errors/1/resolve");
    let cases: [Case; 4] = [
        ("ingest", with(blog.clone(), "eye-key"), 403, json!("This key lacks the scope 'ingest'")),
        ("read", with(Request::get("/api/errors"), "app-key"), 403, json!("This key lacks the scope 'read'")),
        ("admin", with(resolve, "eye-key"), 403, json!("This key lacks the scope 'admin'")),
        ("another project", with(blog, "shop:key"), 403, json!("This key may only send data for project 'shop'")),
    ];
    assert_cases(&service, cases);
    service.get("/api/errors").expect(200).has(json!({ "total": 0 }));
}

#[test]
fn two_keys_of_one_client_allow_rotation() {
    let keys = "app-old:ingest:old-key,app:ingest:new-key";
    let report = post_report(&unique_report_with("project", "shop"));
    for (keys, old, new) in [(keys, 201, 200), ("app:ingest:new-key", 401, 201)] {
        let service = Setup::error_tracker().env("API_KEYS", keys).start();
        service.send(&report.clone().header("X-API-Key", "old-key")).expect(old);
        service.send(&report.clone().header("X-API-Key", "new-key")).expect(new);
    }
}

#[test]
fn key_in_query_is_accepted_only_where_browsers_cannot_send_headers() {
    let viewer = Setup::log_viewer().env("LOG_LEVEL", "debug").start();
    let get = |path: &str| viewer.send(&Request::get(path).without_header("X-API-Key"));
    get(&format!("/api/logs/export?api_key={API_KEY}")).expect(200);
    get("/api/logs/export?api_key=wrong").expect(401);
    get("/api/logs/export").expect(401);
    get(&format!("/api/logs?api_key={API_KEY}")).expect(401);
    // A valid key in the query does not override a wrong header.
    let both = Request::get(&format!("/api/logs/export?api_key={API_KEY}")).header("X-API-Key", "wrong");
    viewer.send(&both).expect(401);
    assert!(viewer.log().iter().all(|line| !line.contains(API_KEY)), "{:#?}", viewer.log());
    assert!(viewer.log().iter().any(|line| line.contains("/api/logs/export")), "{:#?}", viewer.log());
}
