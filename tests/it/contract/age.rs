//! Retention and limits of the error tracker: expiry of resolved groups, eviction of the stalest groups, and removal of
//! the oldest payloads.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{group_detail, minutes_ago, unique_report, unique_report_with, with_field};
use crate::support::harness::{Service, Setup, TempDir, report_at, wait_until};

const DAY_MINUTES: u64 = 24 * 60;

fn group_count(service: &Service, query: &str) -> Value {
    service.get(&format!("/api/errors?{query}")).expect(200).json()["total"].take()
}

/// Changes the database of a stopped service, to simulate the passage of time.
fn edit_database(data_dir: &Path, sql: &str) {
    rusqlite::Connection::open(data_dir.join("errors.db")).unwrap().execute_batch(sql).unwrap();
}

#[test]
fn resolved_groups_expire_after_retention_and_unresolved_groups_stay() {
    let data_dir = Arc::new(TempDir::new());
    let start = || Setup::error_tracker().data_dir(&data_dir).env("RETENTION_DAYS", 2).start();
    let service = start();
    let old_report = |environment: &str| {
        with_field(unique_report_with("environment", environment), "timestamp", minutes_ago(3 * DAY_MINUTES))
    };
    for environment in ["expired", "recently resolved", "open"] {
        service.post("/api/errors", &old_report(environment)).expect(201);
    }
    for id in [1, 2] {
        service.post(&format!("/api/errors/{id}/resolve"), &json!({})).expect(200);
    }
    service.stop();
    edit_database(data_dir.path(), "UPDATE error_groups SET resolved_at_s = resolved_at_s - 3 * 86400 WHERE id = 1");
    let service = start();
    assert!(wait_until(|| (group_count(&service, "resolved=all") == 2).then_some(())).is_some());
    service.get("/api/errors/1").expect(404);
    assert_eq!(group_detail(&service, 2)["resolved"], true);
    assert_eq!(group_detail(&service, 3)["count"], 1);
    assert_eq!(group_count(&service, "environment=open"), 1, "the environment filter still finds the group");
    service.get("/health").has(json!({ "errors_unresolved": 1, "errors_resolved": 1 }));
    assert!(service.post("/api/errors", &unique_report()).expect(201).id() > 3, "IDs are not reused");
}

#[test]
fn idempotency_keys_expire_after_a_day() {
    let data_dir = Arc::new(TempDir::new());
    let start = || Setup::error_tracker().data_dir(&data_dir).start();
    let report = unique_report();
    let keyed = |key: &str| super::post_report(&report).header("Idempotency-Key", key);
    let service = start();
    service.send(&keyed("yesterday")).expect(201);
    service.send(&keyed("today")).expect(200);
    service.stop();
    let day_ms = DAY_MINUTES * 60_000;
    let (yesterday, today) = (format!("{day_ms} + 60000"), format!("{day_ms} - 60000"));
    for (key, age_ms) in [("yesterday", yesterday), ("today", today)] {
        let sql = format!("UPDATE idempotency_keys SET created_at_ms = created_at_ms - ({age_ms}) WHERE key = '{key}'");
        edit_database(data_dir.path(), &sql);
    }
    let service = start();
    let database = rusqlite::Connection::open(data_dir.path().join("errors.db")).unwrap();
    let key_count =
        || database.query_row("SELECT count(*) FROM idempotency_keys", [], |row| row.get::<_, i64>(0)).unwrap();
    assert!(wait_until(|| (key_count() == 1).then_some(())).is_some());
    service.send(&keyed("today")).expect(200).has(json!({ "count": 2 }));
    service.send(&keyed("yesterday")).expect(200).has(json!({ "count": 3 }));
}

#[test]
fn stalest_groups_are_evicted_and_counted_above_the_limit() {
    let service = Setup::error_tracker().env("MAX_GROUPS", 5).start();
    // The third is the stalest, then the first, then the fifth; the eighth is the newest.
    for (line, minutes) in [(1, 70), (2, 20), (3, 80), (4, 50), (5, 60), (6, 40), (7, 30), (8, 10)] {
        let report = with_field(report_at("boom", line), "timestamp", minutes_ago(minutes));
        service.post("/api/errors", &report).expect(201);
    }
    let page = service.get("/api/errors").expect(200).has(json!({ "total": 5 })).json();
    let ids: Vec<i64> = page["errors"].as_array().unwrap().iter().map(|group| group["id"].as_i64().unwrap()).collect();
    assert_eq!(ids, [8, 2, 7, 6, 4]);
    for evicted in [1, 3, 5] {
        service.get(&format!("/api/errors/{evicted}")).expect(404);
    }
    service.get("/health").has(json!({ "errors_unresolved": 5, "errors_evicted": 3 }));
    service.post("/api/errors", &report_at("boom", 3)).expect(201).has(json!({ "id": 9 }));
    service.get("/api/errors/4").expect(404);
    service.get("/health").has(json!({ "errors_unresolved": 5, "errors_evicted": 4 }));
}

#[test]
fn reopened_group_is_not_evicted() {
    let service = Setup::error_tracker().env("MAX_GROUPS", 2).start();
    let old = with_field(report_at("boom", 1), "timestamp", minutes_ago(60));
    service.post("/api/errors", &old).expect(201);
    service.post("/api/errors/1/resolve", &json!({})).expect(200);
    for line in [2, 3] {
        service.post("/api/errors", &report_at("boom", line)).expect(201);
    }
    service.post("/api/errors", &report_at("boom", 1)).expect(200).has(json!({ "status": "reopened", "id": 1 }));
    assert_eq!(group_detail(&service, 1)["count"], 2);
    service.get("/api/errors/2").expect(404);
    service.get("/health").has(json!({ "errors_unresolved": 2, "errors_resolved": 0, "errors_evicted": 1 }));
}

#[test]
fn database_limit_removes_oldest_payloads_and_keeps_all_counts() {
    const GROUPS: usize = 100;
    // Both cases write 10 MB.
    for (reports, bytes) in [(100, 100_000), (2_000, 5_000)] {
        let service = Setup::error_tracker().env("MAX_DB_MB", 1).env("SYNCHRONOUS", "NORMAL").start();
        let mut client = service.connect();
        for n in 0..reports {
            let line = u32::try_from(n % GROUPS).unwrap();
            // Every payload is different, so the service cannot store one copy for several reports.
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
        for (from_end, n) in (1..=3).map(|from_end| (from_end, reports - from_end)) {
            let id = i64::try_from(n % GROUPS).unwrap() + 1;
            let payload = &group_detail(&service, id)["occurrences"][0]["extra"]["payload"];
            let kept = payload.as_str().is_some_and(|payload| payload.starts_with(&format!("{n} ")));
            assert!(kept, "report {n} of {reports} ({bytes} bytes, {from_end} from the end) has lost its payload");
        }
        let size = |name: &str| std::fs::metadata(service.data_dir.path().join(name)).unwrap().len();
        assert!(size("errors.db") < 1_500_000, "{} bytes after reports of {bytes} bytes", size("errors.db"));
        assert!(size("errors.db-wal") < 9_000_000, "{} bytes after reports of {bytes} bytes", size("errors.db-wal"));
        let stripped = service.get("/health").json()["occurrences_stripped"].as_u64().unwrap();
        assert!(stripped > 0, "removed payloads are counted");
    }
}
