//! A `metrics.db` of the original opens in place, with its history.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::harness::{Service, Setup, TempDir, wait_until};

/// An aggregate as the original stored it.
struct Aggregate {
    bucket: String,
    resolution: String,
    name: String,
    labels: Option<String>,
    /// count, sum, min, max, avg, p50, p95, p99
    numbers: Vec<Option<f64>>,
}

fn aggregates(path: &Path) -> Vec<Aggregate> {
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

/// The fixture as if it was written within the last hours, with one point more that the original has not aggregated.
fn fixture(path: &Path) {
    std::fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/original/metrics.db"), path).unwrap();
    let mut permissions = std::fs::metadata(path).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o644);
    std::fs::set_permissions(path, permissions).unwrap();
    rusqlite::Connection::open(path)
        .unwrap()
        .execute_batch(
            "CREATE TEMP TABLE later AS SELECT (strftime('%s', 'now') - strftime('%s', max(timestamp))) / 3600 AS hours
                 FROM metrics_raw;
             UPDATE metrics_raw
                 SET timestamp = strftime('%Y-%m-%dT%H:%M:%SZ', timestamp, (SELECT hours FROM later) || ' hours');
             UPDATE metrics_aggregated
                 SET bucket = strftime('%Y-%m-%dT%H:%M:%SZ', bucket, (SELECT hours FROM later) || ' hours');
             INSERT INTO metrics_raw (timestamp, name, labels, value, type, project)
                 SELECT strftime('%Y-%m-%dT%H:%M:%SZ', timestamp, '1 minutes'), name, labels, 0.5, type, project
                 FROM metrics_raw WHERE name = 'http_request_duration_seconds' LIMIT 1",
        )
        .unwrap();
}

/// The bucket that is answered for an aggregate.
fn answered(service: &Service, of: &Aggregate, resolution: &str, bucket: &str) -> Value {
    let labels: Value = serde_json::from_str(of.labels.as_deref().unwrap_or("{}")).unwrap();
    let pairs: Vec<String> =
        labels.as_object().unwrap().iter().map(|(name, value)| format!("{name}:{}", value.as_str().unwrap())).collect();
    let path = format!("/api/metrics?name={}&period=30d&resolution={resolution}&labels={}", of.name, pairs.join(","));
    let answer = service.get(&path).expect(200).json();
    let data = answer["data"].as_array().unwrap().clone();
    let mut found = data.into_iter().filter(|entry| entry["bucket"] == bucket);
    let entry = found.next().unwrap_or_else(|| panic!("no {bucket} in {answer}"));
    assert!(found.next().is_none(), "{bucket} comes twice in {answer}");
    entry
}

fn numbers(entry: &Value) -> Vec<Option<f64>> {
    ["count", "sum", "min", "max", "avg", "p50", "p95", "p99"].map(|field| entry[field].as_f64()).into()
}

#[test]
fn a_file_of_the_original_opens_in_place_and_its_numbers_stay() {
    let folder = Arc::new(TempDir::new());
    let path = folder.path().join("metrics.db");
    fixture(&path);
    let before = aggregates(&path);
    assert_eq!(before.len(), 125);
    for start in ["first", "second"] {
        let setup = Setup::metrics_collector().env("AGGREGATION_INTERVAL", 1).env("RETENTION_MINUTE", 720);
        let service = setup.data_dir(&folder).start();
        assert_eq!(wait_until(|| rolled_up(&path).then_some(())), Some(()));
        for original in &before {
            let entry = answered(&service, original, &original.resolution, &original.bucket);
            for (ours, theirs) in numbers(&entry).iter().zip(&original.numbers) {
                let same = match (ours, theirs) {
                    // The original rounds its averages in places of its own.
                    (Some(ours), Some(theirs)) => (ours - theirs).abs() <= 1e-12 * theirs.abs(),
                    (ours, theirs) => ours == theirs,
                };
                assert!(same, "{start} start: {entry} was {:?} of {}", original.numbers, original.name);
            }
        }
        // The point that the original had not come to is a minute of its own and counts once in the hour.
        let waits = before.iter().find(|row| row.name == "http_request_duration_seconds").unwrap();
        let next = waits.bucket.replace(":16:00Z", ":17:00Z");
        let minute = answered(&service, waits, "minute", &next);
        assert_eq!((&minute["count"], &minute["sum"]), (&json!(1), &json!(0.5)));
        assert!(minute["p95"].is_number(), "{minute}");
        let hour = answered(&service, waits, "hour", &waits.bucket.replace(":16:00Z", ":00:00Z"));
        assert_eq!(hour["count"], 401);
        assert!(hour["p95"].is_null(), "half a distribution answers no percentiles: {hour}");
        // Minutes of an hour that the original had not come to are in that hour, too.
        let counts = before.iter().find(|row| row.name == "http_requests_total").unwrap();
        let hour = answered(&service, counts, "hour", &counts.bucket.replace(":16:00Z", ":00:00Z"));
        assert_eq!((&hour["count"], &hour["sum"]), (&json!(400), &json!(400.0)));
        let (status, _) = service.stop();
        assert!(status.success());
    }
    assert_eq!(aggregates(&folder.path().join("metrics.db.original-6")).len(), 125, "a copy is kept");
    let database = rusqlite::Connection::open(&path).unwrap();
    let left: i64 = database
        .query_row("SELECT count(*) FROM sqlite_schema WHERE name LIKE 'original%'", [], |row| row.get(0))
        .unwrap();
    assert_eq!(left, 0);
    let points: i64 = database.query_row("SELECT count(*) FROM metrics_raw", [], |row| row.get(0)).unwrap();
    assert_eq!(points, 1, "what the original's minutes hold is not taken over again");
}

fn rolled_up(path: &Path) -> bool {
    let database = rusqlite::Connection::open(path).unwrap();
    let sql = "SELECT value > 0 AND value = (SELECT max(id) FROM points) FROM totals WHERE name = 'rolled_up'";
    database.query_row(sql, [], |row| row.get(0)).unwrap()
}
