//! Import of the original's `metrics.db`: the collector opens it in place and serves its history.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::support::databases::copy_original;
use crate::support::harness::{Service, Setup, TempDir, wait_until};

/// Row of the original's table of aggregates.
struct Aggregate {
    bucket: String,
    resolution: String,
    name: String,
    labels: Option<String>,
    /// Columns `count`, `sum`, `min`, `max`, `avg`, `p50`, `p95` and `p99`.
    numbers: Vec<Option<f64>>,
}

fn read_aggregates(path: &Path) -> Vec<Aggregate> {
    let database = rusqlite::Connection::open(path).unwrap();
    let sql =
        "SELECT bucket, resolution, name, labels, count, sum, min, max, avg, p50, p95, p99 FROM metrics_aggregated";
    let mut read = database.prepare(sql).unwrap();
    let rows = read.query_map([], |row| {
        Ok(Aggregate {
            bucket: row.get(0)?,
            resolution: row.get(1)?,
            name: row.get(2)?,
            labels: row.get(3)?,
            numbers: (4..12).map(|column| row.get(column)).collect::<Result<_, _>>()?,
        })
    });
    rows.unwrap().collect::<Result<_, _>>().unwrap()
}

/// Copies the fixture to `path`, moves its timestamps to the last hours, and adds a point that the original has not
/// aggregated.
fn copy_recent_fixture(path: &Path) {
    copy_original("metrics.db", path);
    rusqlite::Connection::open(path)
        .unwrap()
        .execute_batch(
            "CREATE TEMP TABLE shift AS SELECT (strftime('%s', 'now') - strftime('%s', max(timestamp))) / 3600 AS hours
                 FROM metrics_raw;
             UPDATE metrics_raw
                 SET timestamp = strftime('%Y-%m-%dT%H:%M:%SZ', timestamp, (SELECT hours FROM shift) || ' hours');
             UPDATE metrics_aggregated
                 SET bucket = strftime('%Y-%m-%dT%H:%M:%SZ', bucket, (SELECT hours FROM shift) || ' hours');
             INSERT INTO metrics_raw (timestamp, name, labels, value, type, project)
                 SELECT strftime('%Y-%m-%dT%H:%M:%SZ', timestamp, '1 minutes'), name, labels, 0.5, type, project
                 FROM metrics_raw WHERE name = 'http_request_duration_seconds' LIMIT 1",
        )
        .unwrap();
}

/// Queries the bucket of an aggregate at the given time and asserts that it occurs once.
fn query_bucket(service: &Service, aggregate: &Aggregate, resolution: &str, bucket: &str) -> Value {
    let labels: Value = serde_json::from_str(aggregate.labels.as_deref().unwrap_or("{}")).unwrap();
    let pairs: Vec<String> =
        labels.as_object().unwrap().iter().map(|(name, value)| format!("{name}:{}", value.as_str().unwrap())).collect();
    let path =
        format!("/api/metrics?name={}&period=30d&resolution={resolution}&labels={}", aggregate.name, pairs.join(","));
    let body = service.get(&path).expect(200).json();
    let data = body["data"].as_array().unwrap().clone();
    let mut matches = data.into_iter().filter(|entry| entry["bucket"] == bucket);
    let entry = matches.next().unwrap_or_else(|| panic!("no {bucket} in {body}"));
    assert!(matches.next().is_none(), "{bucket} occurs twice in {body}");
    entry
}

fn numbers(entry: &Value) -> Vec<Option<f64>> {
    ["count", "sum", "min", "max", "avg", "p50", "p95", "p99"].map(|field| entry[field].as_f64()).into()
}

#[test]
fn original_database_opens_in_place_and_keeps_its_values() {
    let data_dir = Arc::new(TempDir::new());
    let path = data_dir.path().join("metrics.db");
    copy_recent_fixture(&path);
    let before = read_aggregates(&path);
    assert_eq!(before.len(), 125);
    for start in ["first", "second"] {
        let setup = Setup::metrics_collector().env("AGGREGATION_INTERVAL", 1).env("RETENTION_MINUTE", 720);
        let service = setup.data_dir(&data_dir).start();
        assert_eq!(wait_until(|| is_rolled_up(&path).then_some(())), Some(()));
        for original in &before {
            let entry = query_bucket(&service, original, &original.resolution, &original.bucket);
            for (imported, stored) in numbers(&entry).iter().zip(&original.numbers) {
                let equal = match (imported, stored) {
                    // The original computes its averages with different rounding.
                    (Some(imported), Some(stored)) => (imported - stored).abs() <= 1e-12 * stored.abs(),
                    (imported, stored) => imported == stored,
                };
                assert!(equal, "{start} start: {entry} differs from {:?} of {}", original.numbers, original.name);
            }
        }
        // The point that the original had not aggregated has its own minute and counts once in the hour.
        let waits = before.iter().find(|row| row.name == "http_request_duration_seconds").unwrap();
        let next = waits.bucket.replace(":16:00Z", ":17:00Z");
        let minute = query_bucket(&service, waits, "minute", &next);
        assert_eq!((&minute["count"], &minute["sum"]), (&json!(1), &json!(0.5)));
        assert!(minute["p95"].is_number(), "{minute}");
        let hour = query_bucket(&service, waits, "hour", &waits.bucket.replace(":16:00Z", ":00:00Z"));
        assert_eq!(hour["count"], 401);
        assert!(hour["p95"].is_null(), "an hour whose distribution is incomplete has percentiles: {hour}");
        // An hour that the original had not aggregated contains the original's minutes.
        let counts = before.iter().find(|row| row.name == "http_requests_total").unwrap();
        let hour = query_bucket(&service, counts, "hour", &counts.bucket.replace(":16:00Z", ":00:00Z"));
        assert_eq!((&hour["count"], &hour["sum"]), (&json!(400), &json!(400.0)));
        let (status, _) = service.stop();
        assert!(status.success());
    }
    assert_eq!(
        read_aggregates(&data_dir.path().join("metrics.db.original-6")).len(),
        125,
        "the copy of the original database is incomplete"
    );
    let database = rusqlite::Connection::open(&path).unwrap();
    let original_tables: i64 = database
        .query_row("SELECT count(*) FROM sqlite_schema WHERE name LIKE 'original%'", [], |row| row.get(0))
        .unwrap();
    assert_eq!(original_tables, 0);
    let points: i64 = database.query_row("SELECT count(*) FROM metrics_raw", [], |row| row.get(0)).unwrap();
    assert_eq!(points, 1, "points that the original's minutes contain were imported again");
}

fn is_rolled_up(path: &Path) -> bool {
    let database = rusqlite::Connection::open(path).unwrap();
    let sql = "SELECT value > 0 AND value = (SELECT max(id) FROM points) FROM counters WHERE name = 'rolled_up'";
    database.query_row(sql, [], |row| row.get(0)).unwrap()
}
