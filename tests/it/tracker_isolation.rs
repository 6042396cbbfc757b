//! Isolation of the projects in the error tracker: what one project stores never takes the place of another's, and what
//! browser keys store never takes the place of what servers of the same project store.

use serde_json::{Value, json};

use crate::contract::minutes_ago;
use crate::support::harness::{Request, Service, Setup};

/// Returns a report of a group of its own for each `line`.
fn report_of(project: &str, line: usize) -> Value {
    json!({
        "project": project, "exception_type": "E", "message": "m",
        "traceback": format!("  File \"/app/pay.py\", line {line}, in charge"),
    })
}

fn by_server(report: &Value) -> Request {
    Request::post("/api/errors", report)
}

/// Returns the request that the relay sends for a report through a browser key.
fn by_browser(report: &Value) -> Request {
    by_server(report).header("X-Monlight-Key-Kind", "browser")
}

/// Sends requests over one connection.
fn send_all(service: &Service, requests: impl Iterator<Item = Request>) {
    let mut client = service.connect();
    for request in requests {
        let response = client.send(&request);
        assert!(matches!(response.status, 200 | 201), "{}", response.text());
    }
}

fn group_count(service: &Service, project: &str) -> i64 {
    service.get(&format!("/api/errors?project={project}&limit=1")).json()["total"].as_i64().unwrap()
}

/// Returns the number of rejections of a store and project for a reason, from `/api/quota`.
fn rejected(service: &Service, store: &str, project: &str, reason: &str) -> i64 {
    let quota = service.get("/api/quota").expect(200).json();
    let rejections = quota["rejections"].as_array().unwrap();
    let found = rejections.iter().find(|rejection| {
        rejection["store"] == store && rejection["project"] == project && rejection["reason"] == reason
    });
    found.map_or(0, |rejection| rejection["count"].as_i64().unwrap())
}

#[test]
fn groups_are_evicted_from_the_largest_project_and_browser_groups_first() {
    let service = Setup::error_tracker().env("MAX_GROUPS", 200).start();
    send_all(&service, (0..20).map(|line| by_server(&report_of("shop", line))));
    send_all(&service, (0..50).map(|line| by_server(&report_of("payments", line))));
    // A server that reports a browser's group protects it.
    send_all(&service, [by_browser(&report_of("shop", 20)), by_server(&report_of("shop", 20))].into_iter());
    send_all(&service, (1_000..1_260).map(|line| by_browser(&report_of("shop", line))));
    assert_eq!((group_count(&service, "payments"), group_count(&service, "shop")), (50, 150));
    for id in (1..=20).chain([71]) {
        service.get(&format!("/api/errors/{id}")).expect(200).has(json!({ "project": "shop" }));
    }
    service.get("/health").has(json!({ "errors_unresolved": 200, "errors_evicted": 131 }));
    assert_eq!(rejected(&service, "groups", "shop", "evicted"), 131);
    let quota = service.get("/api/quota").json();
    let usage = [("shop", "browser", 129), ("payments", "server", 50), ("shop", "server", 21)];
    let entries = quota["stores"][0]["projects"].as_array().unwrap();
    let rows = entries.iter().map(|entry| json!([entry["project"], entry["key_kind"], entry["rows"]]));
    assert_eq!(json!(rows.collect::<Vec<_>>()), json!(usage));
    let warning = &service.get("/health").json()["warnings"][0];
    assert_eq!((&warning["code"], &warning["project"]), (&json!("groups_over_quota"), &json!("shop")));
    // A resolved group is no longer counted, and counted again when it is reopened.
    service.post("/api/errors/1/resolve", &json!({})).expect(200);
    service.send(&by_server(&report_of("shop", 0))).expect(200).has(json!({ "status": "reopened" }));
    assert_eq!((group_count(&service, "payments"), group_count(&service, "shop")), (50, 150));
}

/// Returns a report with these further members.
fn report_with(project: &str, line: usize, members: Value) -> Value {
    let mut report = report_of(project, line);
    report.as_object_mut().unwrap().append(&mut members.as_object().unwrap().clone());
    report
}

/// Returns the entry of a store in `/api/quota`.
fn store_usage(service: &Service, name: &str) -> Value {
    let quota = service.get("/api/quota").expect(200).json();
    quota["stores"].as_array().unwrap().iter().find(|store| store["name"] == name).unwrap().clone()
}

#[test]
fn names_of_a_flood_are_bounded_and_keep_those_of_other_projects() {
    let service = Setup::error_tracker().env("SYNCHRONOUS", "NORMAL").start();
    let honest = report_with("payments", 1, json!({ "environment": "prod", "release": "1.0" }));
    let own = report_with("shop", 1, json!({ "environment": "live", "release": "7" }));
    send_all(&service, [by_server(&honest), by_server(&own)].into_iter());
    let long = |n: usize| format!("{n:04}{}", "😀".repeat(196));
    let flood = |n: usize| report_with("shop", 2, json!({ "environment": long(n), "release": long(n) }));
    send_all(&service, (0..1_500).map(|n| by_browser(&flood(n))));
    let response = service.get("/api/variants").expect(200);
    assert!(response.body.len() < 200_000, "{} bytes", response.body.len());
    let variants = response.json();
    assert_eq!(variants["has_more"], true);
    for (kind, count) in [("environments", 100), ("releases", 100)] {
        assert_eq!(variants[kind].as_array().unwrap().len(), count, "{kind}");
    }
    let only = |query: &str| service.get(&format!("/api/variants?{query}")).expect(200).json();
    let expected = |environments: Value, releases: Value| json!({ "environments": environments, "releases": releases, "has_more": false });
    assert_eq!(only("project=payments"), expected(json!(["prod"]), json!(["1.0"])));
    assert_eq!(only("project=shop&search=LIVE"), expected(json!(["live"]), json!([])));
    assert_eq!(only("search=1499%F0%9F%98%80"), expected(json!([long(1_499)]), json!([long(1_499)])));
    assert_eq!(only("search=0000%F0%9F%98%80"), expected(json!([]), json!([])), "the first is evicted");
    assert_eq!(only("search=(other)"), expected(json!(["(other)"]), json!(["(other)"])));
    let names = store_usage(&service, "names");
    assert!(names["bytes"].as_u64().unwrap() <= 1_000_000, "{names}");
    assert!(rejected(&service, "names", "shop", "evicted") > 1_500);
    assert_eq!(rejected(&service, "names", "payments", "evicted"), 0);
    // No report is lost.
    let group = service.get("/api/errors?project=shop&hours=24&release=(other)").json()["errors"][0].clone();
    let counted: i64 = group["hours"].as_array().unwrap().iter().map(|count| count.as_i64().unwrap()).sum();
    assert_eq!((group["count"].as_i64(), counted), (Some(1_500), 1_500));
    service.get("/health").has(json!({ "status": "ok" }));
}

#[test]
fn reports_with_wrong_clocks_do_not_change_when_a_group_was_first_seen() {
    let service = Setup::error_tracker().start();
    let ago = |days: u64| minutes_ago(days * 24 * 60);
    let at = |line: usize, timestamp: &str| report_with("shop", line, json!({ "timestamp": timestamp }));
    let first_seen = |line: usize| {
        let id = service.send(&by_server(&at(line, &ago(0)))).expect(200).id();
        let group = service.get(&format!("/api/errors/{id}")).expect(200).json();
        let oldest = group["occurrences"].as_array().unwrap().last().unwrap()["timestamp"].clone();
        (group["first_seen"].as_str().unwrap().to_owned(), oldest.as_str().unwrap().to_owned())
    };
    let start = minutes_ago(1);
    for (line, request, timestamp) in [
        (1, by_server as fn(&Value) -> Request, "0000-01-01T00:00:00Z".to_owned()),
        (2, by_server, ago(31)),
        (3, by_browser, ago(8)),
    ] {
        service.send(&request(&at(line, &timestamp))).expect(201);
        let (first_seen, reported) = first_seen(line);
        assert!(first_seen > start, "{first_seen} after a report of {timestamp}");
        assert_eq!(reported, timestamp, "the report keeps the time of the client");
    }
    for (line, request, timestamp) in [(4, by_server as fn(&Value) -> Request, ago(29)), (5, by_browser, ago(6))] {
        service.send(&request(&at(line, &timestamp))).expect(201);
        assert_eq!(first_seen(line).0, timestamp);
    }
}

#[test]
fn timestamps_of_thousands_of_years_make_no_hourly_counts_of_their_own() {
    let service = Setup::error_tracker().start();
    let at = |year: usize| report_with("shop", 1, json!({ "timestamp": format!("{year:04}-06-01T00:00:00Z") }));
    send_all(&service, (0..200).map(|year| by_browser(&at(year * 10))));
    send_all(&service, (2_000..2_020).map(|year| by_server(&at(year))));
    let usage = store_usage(&service, "hourly_counts");
    // The hour may change meanwhile.
    assert!(usage["rows"].as_u64().unwrap() <= 2, "{usage}");
}

#[test]
fn lists_and_details_of_large_reports_are_complete() {
    let service = Setup::error_tracker().env("SYNCHRONOUS", "NORMAL").start();
    let message = "😀".repeat(3_000);
    let large = |line: usize| report_with("shop", line, json!({ "message": message }));
    send_all(&service, (0..200).map(|line| by_server(&large(line))));
    let page = service.get("/api/errors?limit=200&hours=24").expect(200).json();
    let groups = page["errors"].as_array().unwrap();
    assert_eq!((groups.len(), page["total"].as_i64()), (200, Some(200)));
    for group in groups {
        let listed = group["message"].as_str().unwrap();
        assert_eq!((listed.chars().count(), &group["message_truncated"]), (2_000, &json!(true)));
        assert_eq!(group["hours"].as_array().unwrap().len(), 24);
    }
    let extra = |n: usize| report_with("blog", 7, json!({ "extra": { "n": n, "padding": "x".repeat(200_000) } }));
    send_all(&service, (0..6).map(|n| by_server(&extra(n))));
    let detail = service.get("/api/errors/201").expect(200).json();
    assert_eq!((&detail["message_truncated"], &detail["count"]), (&json!(false), &json!(6)));
    let stored = detail["occurrences"].as_array().unwrap();
    let numbers: Vec<i64> = stored.iter().map(|report| report["extra"]["n"].as_i64().unwrap()).collect();
    assert_eq!(numbers, [5, 4, 3, 2, 1]);
    assert!(stored.iter().all(|report| report["extra"]["padding"].as_str().unwrap().len() == 200_000));
    let full = service.get("/api/errors/1").expect(200).json();
    assert_eq!((full["message"].as_str(), &full["message_truncated"]), (Some(message.as_str()), &json!(false)));
}

#[test]
fn projects_are_listed_completely() {
    let service = Setup::error_tracker().env("SYNCHRONOUS", "NORMAL").start();
    let name = |n: usize| format!("{n:03}{}", "😀".repeat(97));
    send_all(&service, (0..200).map(|n| by_server(&report_of(&name(n), 1))));
    let expected: Vec<String> = (0..200).map(name).collect();
    service.get("/api/projects").expect(200).has(json!({ "projects": expected }));
}

#[test]
fn worst_search_takes_a_fraction_of_its_time_limit() {
    let service = Setup::error_tracker().env("SYNCHRONOUS", "NORMAL").start();
    let text = |line: usize| {
        let traceback = format!("  File \"/app/pay.py\", line {line}, in charge\n{}", "a".repeat(240_000));
        report_with("shop", 0, json!({ "traceback": traceback }))
    };
    send_all(&service, (0..40).map(|line| by_server(&text(line))));
    // LIKE compares 1,000 characters at each of the 240,000.
    let search = format!("!{}b", "a".repeat(998));
    let started = std::time::Instant::now();
    service.get(&format!("/api/errors?search={search}")).expect(200).has(json!({ "total": 0 }));
    let search = format!("{}%21a", "a".repeat(998));
    service.get(&format!("/api/errors?search={search}")).expect(200).has(json!({ "total": 0 }));
    let took = started.elapsed();
    assert!(took.as_millis() < 2_500, "two searches in 10 MB took {took:?}");
    for path in ["/api/errors", "/api/variants"] {
        let path = format!("{path}?search={}", "%F0%9F%98%80".repeat(1_001));
        service.get(&path).expect(400).has_detail("Field 'search' must be at most 1,000 characters");
    }
}

#[test]
fn flood_of_large_reports_deletes_no_payload_of_other_projects() {
    let service = Setup::error_tracker().env("MAX_DB_MB", 2).env("SYNCHRONOUS", "NORMAL").start();
    let padded = |project: &str, line: usize, bytes: usize| {
        report_with(project, line, json!({ "extra": { "line": line, "padding": "x".repeat(bytes) } }))
    };
    send_all(&service, (0..30).map(|line| by_server(&padded("payments", line, 2_000))));
    send_all(&service, (0..5).map(|line| by_server(&padded("shop", line, 2_000))));
    send_all(&service, (100..200).map(|line| by_browser(&padded("shop", line, 100_000))));
    for id in 1..=35 {
        let stored = service.get(&format!("/api/errors/{id}")).expect(200).json()["occurrences"].clone();
        assert_eq!(stored.as_array().unwrap().len(), 1, "group {id} has lost its report");
    }
    let newest = service.get("/api/errors/135").expect(200).json()["occurrences"][0]["extra"]["line"].clone();
    assert_eq!(newest, 199);
    let evicted = rejected(&service, "occurrences", "shop", "evicted");
    assert_eq!(service.health_number("occurrences_stripped"), evicted);
    assert!(evicted >= 80, "{evicted}");
    assert_eq!(rejected(&service, "occurrences", "payments", "evicted"), 0);
    assert_eq!((group_count(&service, "payments"), group_count(&service, "shop")), (30, 105));
}
