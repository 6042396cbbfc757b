//! What goes when there is too much or when it is old: resolved groups, the stalest groups, the oldest payloads.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{group_detail, minutes_ago, unique_report, unique_report_with, with_field};
use crate::harness::{Service, Setup, TempDir, report_at, wait_until};

const DAY_MINUTES: u64 = 24 * 60;

fn total(service: &Service, query: &str) -> Value {
    service.get(&format!("/api/errors?{query}")).expect(200).json()["total"].take()
}

/// Changes a stopped service's database, where only time would change it otherwise.
fn meanwhile(folder: &Path, sql: &str) {
    rusqlite::Connection::open(folder.join("errors.db")).unwrap().execute_batch(sql).unwrap();
}

#[test]
fn what_was_resolved_goes_after_its_retention_and_what_is_open_stays() {
    let folder = Arc::new(TempDir::new());
    let start = || Setup::error_tracker().data_dir(&folder).env("RETENTION_DAYS", 2).start();
    let service = start();
    let long_ago = |environment: &str| {
        with_field(unique_report_with("environment", environment), "timestamp", minutes_ago(3 * DAY_MINUTES))
    };
    for environment in ["expired", "resolved lately", "open"] {
        service.post("/api/errors", &long_ago(environment)).expect(201);
    }
    for id in [1, 2] {
        service.post(&format!("/api/errors/{id}/resolve"), &json!({})).expect(200);
    }
    service.stop();
    meanwhile(folder.path(), "UPDATE errors SET resolved_at = resolved_at - 3 * 86400 WHERE id = 1");
    let service = start();
    assert!(wait_until(|| (total(&service, "resolved=all") == 2).then_some(())).is_some());
    service.get("/api/errors/1").expect(404);
    assert_eq!(group_detail(&service, 2)["resolved"], true);
    assert_eq!(group_detail(&service, 3)["count"], 1);
    assert_eq!(total(&service, "environment=open"), 1, "it is still known where it was seen last");
    service.get("/health").has(json!({ "errors_unresolved": 1, "errors_resolved": 1 }));
    assert!(service.post("/api/errors", &unique_report()).expect(201).id() > 3, "ids are not given twice");
}

#[test]
fn an_idempotency_key_is_forgotten_after_a_day() {
    let folder = Arc::new(TempDir::new());
    let start = || Setup::error_tracker().data_dir(&folder).start();
    let report = unique_report();
    let keyed = |key: &str| super::post_report(&report).header("Idempotency-Key", key);
    let service = start();
    service.send(&keyed("of yesterday")).expect(201);
    service.send(&keyed("of today")).expect(200);
    service.stop();
    let day_ms = DAY_MINUTES * 60_000;
    let (yesterday, today) = (format!("{day_ms} + 60000"), format!("{day_ms} - 60000"));
    for (key, age_ms) in [("of yesterday", yesterday), ("of today", today)] {
        let sql = format!("UPDATE _idempotency SET answered_at = answered_at - ({age_ms}) WHERE key = '{key}'");
        meanwhile(folder.path(), &sql);
    }
    let service = start();
    let database = rusqlite::Connection::open(folder.path().join("errors.db")).unwrap();
    let known = || database.query_row("SELECT count(*) FROM _idempotency", [], |row| row.get::<_, i64>(0)).unwrap();
    assert!(wait_until(|| (known() == 1).then_some(())).is_some());
    service.send(&keyed("of today")).expect(200).has(json!({ "count": 2 }));
    service.send(&keyed("of yesterday")).expect(200).has(json!({ "count": 3 }));
}

#[test]
fn of_too_many_open_groups_the_stalest_go_and_are_counted() {
    let service = Setup::error_tracker().env("MAX_GROUPS", 5).start();
    // The third is the stalest, then the first, then the fifth; the eighth is the newest.
    for (line, minutes) in [(1, 70), (2, 20), (3, 80), (4, 50), (5, 60), (6, 40), (7, 30), (8, 10)] {
        let report = with_field(report_at("boom", line), "timestamp", minutes_ago(minutes));
        service.post("/api/errors", &report).expect(201);
    }
    let page = service.get("/api/errors").expect(200).has(json!({ "total": 5 })).json();
    let ids: Vec<i64> = page["errors"].as_array().unwrap().iter().map(|group| group["id"].as_i64().unwrap()).collect();
    assert_eq!(ids, [8, 2, 7, 6, 4]);
    for gone in [1, 3, 5] {
        service.get(&format!("/api/errors/{gone}")).expect(404);
    }
    service.get("/health").has(json!({ "errors_unresolved": 5, "errors_evicted": 3 }));
    service.post("/api/errors", &report_at("boom", 3)).expect(201).has(json!({ "id": 9 }));
    service.get("/api/errors/4").expect(404);
    service.get("/health").has(json!({ "errors_unresolved": 5, "errors_evicted": 4 }));
}

#[test]
fn a_group_that_reopens_is_not_the_one_that_goes() {
    let service = Setup::error_tracker().env("MAX_GROUPS", 2).start();
    let old = with_field(report_at("boom", 1), "timestamp", minutes_ago(60));
    service.post("/api/errors", &old).expect(201);
    service.post("/api/errors/1/resolve", &json!({})).expect(200);
    for line in [2, 3] {
        service.post("/api/errors", &report_at("boom", line)).expect(201);
    }
    service.post("/api/errors", &old).expect(200).has(json!({ "status": "reopened", "id": 1 }));
    assert_eq!(group_detail(&service, 1)["count"], 2);
    service.get("/api/errors/2").expect(404);
    service.get("/health").has(json!({ "errors_unresolved": 2, "errors_resolved": 0, "errors_evicted": 1 }));
}

#[test]
fn a_bounded_file_keeps_the_newest_payloads_and_every_count() {
    const GROUPS: usize = 100;
    // 10 MB either way.
    for (reports, bytes) in [(100, 100_000), (2_000, 5_000)] {
        let service = Setup::error_tracker().env("MAX_DB_MB", 1).env("SYNCHRONOUS", "NORMAL").start();
        let mut client = service.connect();
        for n in 0..reports {
            let line = u32::try_from(n % GROUPS).unwrap();
            // Nothing in it repeats, so that nothing is stored once for many.
            let payload = format!("{n} ").repeat(bytes / (n.to_string().len() + 1));
            let report = with_field(report_at("boom", line), "extra", json!({ "payload": payload }));
            let response = client.send(&super::post_report(&report));
            assert!(matches!(response.status, 200 | 201), "{}", response.text());
        }
        let page = service.get("/api/errors?limit=200").expect(200).json();
        for group in page["errors"].as_array().unwrap() {
            assert_eq!(group["count"], reports / GROUPS, "{group}");
        }
        assert_eq!(page["total"], GROUPS);
        for (back, n) in (1..=3).map(|back| (back, reports - back)) {
            let id = i64::try_from(n % GROUPS).unwrap() + 1;
            let payload = &group_detail(&service, id)["occurrences"][0]["extra"]["payload"];
            let kept = payload.as_str().is_some_and(|payload| payload.starts_with(&format!("{n} ")));
            assert!(kept, "the payload of the report {back} before the end is gone, of {reports} with {bytes} bytes");
        }
        let size = |name: &str| std::fs::metadata(service.data_dir.path().join(name)).unwrap().len();
        assert!(size("errors.db") < 1_500_000, "{} bytes with reports of {bytes}", size("errors.db"));
        assert!(size("errors.db-wal") < 9_000_000, "{} bytes with reports of {bytes}", size("errors.db-wal"));
        let stripped = service.get("/health").json()["occurrences_stripped"].as_u64().unwrap();
        assert!(stripped > 0, "what went is counted");
    }
}
