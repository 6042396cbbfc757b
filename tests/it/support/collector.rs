//! Shared helpers for tests of the metrics collector.

use serde_json::{Value, json};

use super::harness::{Service, TempDir, wait_until};

/// Maximum relative error of a percentile that a sketch estimates.
pub const RELATIVE_ERROR_MAX: f64 = 0.0109;

/// Sends points in batches of at most 1,000.
#[track_caller]
pub fn send_points(collector: &Service, points: &[Value]) {
    for batch in points.chunks(1_000) {
        let response = collector.post("/api/metrics", &json!({ "metrics": batch })).expect(202);
        response.has(json!({ "status": "accepted", "count": batch.len() }));
    }
}

/// Waits until every point in a collector's database is rolled up.
#[track_caller]
pub fn wait_for_rollup(data_dir: &TempDir) {
    let database = rusqlite::Connection::open(data_dir.path().join("metrics.db")).unwrap();
    let sql = "SELECT count(*) FROM points WHERE id > (SELECT value FROM counters WHERE name = 'rolled_up')";
    let not_rolled_up = || database.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    wait_until(|| (not_rolled_up() == 0).then_some(())).expect("the rollup finishes");
}

/// Returns the exact percentile: the value at nearest rank ⌈q·n⌉.
pub fn nearest_rank(values: &[f64], q: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted[((q * sorted.len() as f64).ceil() as usize).clamp(1, sorted.len()) - 1]
}

/// Asserts that an estimated percentile is within `RELATIVE_ERROR_MAX` of the exact one.
#[track_caller]
pub fn assert_close(estimate: &Value, exact: f64) {
    let estimate = estimate.as_f64().unwrap_or_else(|| panic!("{estimate} is not a number"));
    let error = (estimate - exact).abs();
    assert!(error <= exact.abs() * RELATIVE_ERROR_MAX, "the estimate is {estimate}, the exact value {exact}");
}
