//! Keys: how they are presented, what each may do, and how one takes another's place.

use serde_json::{Value, json};

use super::{Case, assert_cases, post_report, unique_report_with};
use crate::harness::{API_KEY, Request, Setup};

const API_KEYS: &str = "app:ingest:app-key, eye:read:eye-key, ops:admin:ops-key, shop:ingest@shop:shop:key";

#[test]
fn a_key_is_presented_in_one_of_two_headers() {
    let service = Setup::error_tracker().start();
    let with = |name: &str, value: &str| Request::get("/api/projects").without_header("X-API-Key").header(name, value);
    let bearer = |value: &str| with("Authorization", value);
    let valid = json!("A valid API key is required");
    let cases: [Case; 15] = [
        ("X-API-Key", with("X-API-Key", API_KEY), 200, Value::Null),
        ("in other letters", with("x-api-KEY", API_KEY), 200, Value::Null),
        ("Bearer", bearer(&format!("Bearer {API_KEY}")), 200, Value::Null),
        ("bearer", bearer(&format!("bearer {API_KEY}")), 200, Value::Null),
        ("none", Request::get("/api/projects").without_header("X-API-Key"), 401, valid.clone()),
        ("empty", with("X-API-Key", ""), 401, valid.clone()),
        ("empty bearer", bearer("Bearer "), 401, valid.clone()),
        ("a beginning of it", with("X-API-Key", &API_KEY[..API_KEY.len() - 1]), 401, valid.clone()),
        ("more than it", with("X-API-Key", &format!("{API_KEY}0")), 401, valid.clone()),
        ("other letters in it", with("X-API-Key", &API_KEY.to_uppercase()), 401, valid.clone()),
        ("no scheme", bearer(API_KEY), 401, valid.clone()),
        ("another scheme", bearer(&format!("Basic {API_KEY}")), 401, valid.clone()),
        ("the relay's header", with("X-Monlight-Key", API_KEY), 401, valid.clone()),
        ("a wrong one beside it", bearer(&format!("Bearer {API_KEY}")).header("X-API-Key", "no"), 401, valid.clone()),
        (
            "in the query",
            Request::get(&format!("/api/projects?api_key={API_KEY}")).without_header("X-API-Key"),
            401,
            valid,
        ),
    ];
    assert_cases(&service, cases);
}

#[test]
fn every_route_declares_its_scope() {
    let service = Setup::error_tracker().env("API_KEYS", API_KEYS).start();
    let ours = post_report(&unique_report_with("project", "shop"));
    service.send(&ours).expect(201);
    let theirs = post_report(&unique_report_with("project", "blog"));
    service.send(&theirs).expect(201);
    let (get, action) = (Request::get, |path| Request::new("POST", path));
    let routes = [
        ("report for shop", ours),
        ("report for blog", theirs),
        ("list", get("/api/errors")),
        ("detail", get("/api/errors/1")),
        ("projects", get("/api/projects")),
        ("alerts", get("/api/alerts")),
        ("metrics", get("/metrics")),
        ("resolve", action("/api/errors/2/resolve")),
        ("test alert", action("/api/test-alert")),
    ];
    // 503: admitted, and alerts are not set up.
    for (key, expected) in [
        (API_KEY, [200, 200, 200, 200, 200, 200, 200, 200, 503]),
        ("app-key", [200, 200, 403, 403, 403, 403, 403, 403, 403]),
        ("eye-key", [403, 403, 200, 200, 200, 200, 200, 403, 403]),
        ("ops-key", [403, 403, 200, 200, 200, 200, 200, 200, 503]),
        ("shop:key", [200, 403, 403, 403, 403, 403, 403, 403, 403]),
        ("no-key", [401; 9]),
    ] {
        for ((what, request), status) in routes.iter().zip(expected) {
            let response = service.send(&request.clone().header("X-API-Key", key));
            assert_eq!(response.status, status, "{what} with {key}: {}", response.text());
        }
    }
}

#[test]
fn a_key_that_may_not_is_told_why() {
    let service = Setup::error_tracker().env("API_KEYS", API_KEYS).start();
    let with = |request: Request, key: &str| request.header("X-API-Key", key);
    let blog = post_report(&unique_report_with("project", "blog"));
    let resolve = Request::new("POST", "/api/errors/1/resolve");
    let cases: [Case; 4] = [
        ("ingest", with(blog.clone(), "eye-key"), 403, json!("This key lacks the scope 'ingest'")),
        ("read", with(Request::get("/api/errors"), "app-key"), 403, json!("This key lacks the scope 'read'")),
        ("admin", with(resolve, "eye-key"), 403, json!("This key lacks the scope 'admin'")),
        ("another project", with(blog, "shop:key"), 403, json!("This key may report for project 'shop' only")),
    ];
    assert_cases(&service, cases);
    service.get("/api/errors").expect(200).has(json!({ "total": 0 }));
}

#[test]
fn two_keys_at_once_make_rotation_possible() {
    let keys = "app:ingest:old-key,app:ingest:new-key";
    let report = post_report(&unique_report_with("project", "shop"));
    for (keys, old, new) in [(keys, 201, 200), ("app:ingest:new-key", 401, 201)] {
        let service = Setup::error_tracker().env("API_KEYS", keys).start();
        service.send(&report.clone().header("X-API-Key", "old-key")).expect(old);
        service.send(&report.clone().header("X-API-Key", "new-key")).expect(new);
    }
}

#[test]
fn a_key_may_stand_in_the_url_where_a_browser_can_send_no_headers() {
    let viewer = Setup::log_viewer().env("LOG_LEVEL", "debug").start();
    let ask = |path: &str| viewer.send(&Request::get(path).without_header("X-API-Key"));
    ask(&format!("/api/logs/export?api_key={API_KEY}")).expect(200);
    ask("/api/logs/export?api_key=wrong").expect(401);
    ask("/api/logs/export").expect(401);
    ask(&format!("/api/logs?api_key={API_KEY}")).expect(401);
    // A header that is wrong is not made up for.
    let both = Request::get(&format!("/api/logs/export?api_key={API_KEY}")).header("X-API-Key", "wrong");
    viewer.send(&both).expect(401);
    assert!(viewer.log().iter().all(|line| !line.contains(API_KEY)), "{:#?}", viewer.log());
    assert!(viewer.log().iter().any(|line| line.contains("/api/logs/export")), "{:#?}", viewer.log());
}
