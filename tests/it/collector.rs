//! What the tests of the metrics collector ask in common.

use serde_json::{Value, json};

use crate::harness::{Folder, Service, wait_until};

/// What a percentile of a sketch may be off, relatively.
pub const RELATIVE_ERROR_MAX: f64 = 0.0109;

/// Sends points, in as many batches as it takes.
#[track_caller]
pub fn send(collector: &Service, items: &[Value]) {
    for batch in items.chunks(1_000) {
        let answer = collector.post("/api/metrics", &json!({ "metrics": batch })).expect(202);
        answer.has(json!({ "status": "accepted", "count": batch.len() }));
    }
}

/// Waits until every point of a collector's database is in the tiers.
#[track_caller]
pub fn wait_for_rollup(folder: &Folder) {
    let database = rusqlite::Connection::open(folder.path().join("metrics.db")).unwrap();
    let sql = "SELECT count(*) FROM points WHERE id > (SELECT value FROM totals WHERE name = 'rolled_up')";
    let fresh = || database.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    wait_until(|| (fresh() == 0).then_some(())).expect("a rollup");
}

/// The exact percentile: the value at nearest rank ⌈q·n⌉.
pub fn nearest_rank(values: &[f64], q: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted[((q * sorted.len() as f64).ceil() as usize).clamp(1, sorted.len()) - 1]
}

/// That a percentile is what it should be, within the bound of the sketch.
#[track_caller]
pub fn close(found: &Value, exact: f64) {
    let found = found.as_f64().unwrap_or_else(|| panic!("{found} is no number"));
    assert!((found - exact).abs() <= exact.abs() * RELATIVE_ERROR_MAX, "{found} for {exact}");
}
