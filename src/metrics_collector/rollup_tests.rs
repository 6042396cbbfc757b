//! Tests of rollups, retention and queries: random batches, late points, kills, restarts and clock changes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;

use super::commands::{AddPoints, RollUp};
use super::dashboard::{self, ClosedHoursCache, SeriesFilter};
use super::resolution::Resolution;
use super::rollup_harness_tests::{Sql, TestCollector};
use super::rollup_oracle_tests::{HOUR, METRICS, Step, step};
use super::store;
use crate::records::key_kind::KeyKind;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 48 } else { 256 }))]

    #[test]
    fn each_point_counts_once_in_each_rollup_table(
        interval_s in prop_oneof![Just(1), Just(7), Just(60), Just(3_600)],
        steps in proptest::collection::vec(step(), 1..40),
    ) {
        let mut collector = TestCollector::new(Duration::from_secs(interval_s));
        for step in &steps {
            collector.run(step);
            collector.check_queries();
        }
        collector.send_to_each_series();
        collector.roll_up();
        collector.check_tables();
        prop_assert_eq!(collector.metric_rollups().len(), METRICS.len(), "one per metric with two series in the same project");
        collector.restart();
        collector.check_queries();
        collector.check_tables();
    }
}

#[test]
fn imported_rows_are_read_per_series() {
    let mut collector = TestCollector::new(HOUR);
    for _ in 0..3 {
        collector.send_to_each_series();
        collector.roll_up_as_imported();
        collector.now = collector.now + HOUR;
    }
    collector.now = collector.now - HOUR;
    collector.send_to_each_series();
    collector.check_queries();
    assert!(collector.metric_rollups().is_empty());
    collector.roll_up();
    collector.check_queries();
    collector.check_tables();
    let first_hour = collector.now.hour() + 1;
    let rollups = collector.metric_rollups();
    let first_hours: Vec<i64> = rollups.iter().map(|rollup| rollup.rows.first_bucket(Resolution::Hour)).collect();
    assert_eq!(first_hours, [first_hour; METRICS.len()], "the current hour has rows from before the metric rollups");
    assert_eq!(collector.query_number("SELECT count(*) FROM metric_hours"), 0);

    for _ in 0..2 {
        collector.now = collector.now + HOUR;
        collector.send_to_each_series();
        collector.roll_up();
        collector.check_queries();
        collector.check_tables();
    }
    assert_eq!(collector.query_number("SELECT count(*) FROM metric_hours"), 2 * METRICS.len() as i64);
    // From this hour on, queries read only metric rollups, and before it only series. The last values of a gauge are always
    // those of its series.
    for sql in [
        format!("DELETE FROM series_hours WHERE at_h >= {first_hour}"),
        format!("DELETE FROM series_minutes WHERE at_min >= 60 * {first_hour}"),
    ] {
        collector.database().writer.run(Sql(sql)).unwrap();
    }
    for (metric, _) in METRICS.iter().enumerate().filter(|(_, (_, kind))| *kind != "gauge") {
        collector.check_query(metric, &[0, 1], None, Some(""));
    }
}

#[test]
fn metric_rollup_exists_from_the_second_series_to_the_last() {
    let mut collector = TestCollector::new(HOUR);
    collector.run(&Step::Send(vec![(0, 5, None), (3, 5, None), (4, 5, None)]));
    collector.roll_up();
    let names = |collector: &TestCollector| {
        collector.metric_rollups().into_iter().map(|rollup| rollup.name).collect::<Vec<_>>()
    };
    assert_eq!(names(&collector), ["sold"]);
    assert_eq!(
        collector.query_number("SELECT rollup_from_h FROM metrics WHERE rollup_from_h IS NOT NULL"),
        0,
        "no point was rolled up before the metric rollup existed"
    );
    collector.run(&Step::Send(vec![(1, 5, None), (2, 5, None)]));
    collector.roll_up();
    assert_eq!(names(&collector), ["sold", "wait_ms"]);
    collector.now = collector.now + HOUR * 24 * 40;
    collector.roll_up();
    // The newest point is never deleted, so its series is kept.
    assert_eq!(collector.query_number("SELECT count(*) FROM series"), 1);
    collector.run(&Step::Send(vec![(6, 5, None)]));
    collector.roll_up();
    collector.roll_up();
    assert_eq!(names(&collector), [""; 0]);
    collector.send_to_each_series();
    collector.roll_up();
    collector.check_queries();
    collector.check_tables();
}

#[test]
fn dashboard_does_not_change_with_a_rollup() {
    let mut collector = TestCollector::new(HOUR);
    let mut items = Vec::new();
    for (vital, labels) in [
        ("lcp", json!({ "source": "browser", "page": "/user/1" })),
        ("lcp", json!({ "source": "browser", "page": "/user/2" })),
        ("lcp", json!({ "source": "browser", "page": "/" })),
        ("lcp", json!({ "source": "laboratory", "page": "/" })),
        ("inp", json!({ "source": "browser", "page": "/" })),
        ("inp", json!({ "source": "browser" })),
        ("cls", json!({ "source": "laboratory", "page": "/" })),
        ("cls", json!({ "source": "laboratory", "page": "/user/1" })),
    ] {
        for value in [100 + 90 * items.len(), 7_000 - 11 * items.len()] {
            items.push(
                json!({ "name": format!("web_vitals_{vital}"), "type": "histogram", "value": value, "labels": labels }),
            );
        }
    }
    let dashboards = |collector: &TestCollector| {
        let connection = collector.database().readers.acquire().unwrap();
        [Resolution::Minute, Resolution::Hour].map(|resolution| {
            let (closed_hours, filter) = (ClosedHoursCache::new(HOUR * 24), SeriesFilter::default());
            let buckets = resolution.bucket((collector.now - HOUR * 24).ms())..i64::MAX;
            let dashboard =
                dashboard::read(&connection, &closed_hours, &filter, buckets, resolution, collector.now).unwrap();
            serde_json::to_value(&dashboard).unwrap()
        })
    };
    // In the second iteration, metric rollups of the same hour exist.
    for _ in 0..2 {
        collector.send_to_each_series();
        let body = Arc::new(json!(items).to_string().into_bytes());
        let add =
            AddPoints::decode(&collector.decoder, body, collector.now, &Arc::default(), KeyKind::Server, |_, _| Ok(()))
                .unwrap();
        collector.database().writer.run(add).unwrap();
        let before = dashboards(&collector);
        assert_eq!(before[0]["web_vitals"]["by_page"].as_array().unwrap().len(), 2, "{before:?}");
        collector.database().writer.run(RollUp::at(collector.now)).unwrap();
        assert_eq!(dashboards(&collector), before);
    }
    assert_eq!(collector.metric_rollups().len(), METRICS.len() + 3);
}

#[test]
fn point_of_a_missing_series_does_not_stop_the_rollup() {
    let mut collector = TestCollector::new(HOUR);
    let at_ms = collector.now.ms();
    let sql = format!("INSERT INTO points (series_id, at_ms, value) VALUES (77, {at_ms}, 1.0)");
    collector.database().writer.run(Sql(sql)).unwrap();
    collector.send_to_each_series();
    collector.roll_up();
    let waiting = "SELECT max(id) - (SELECT value FROM counters WHERE name = 'rolled_up') FROM points";
    assert_eq!(collector.query_number(waiting), 0);
    collector.check_queries();
}

#[test]
fn failed_commit_removes_its_series_from_the_cache_of_requests_decoded_before() {
    let collector = TestCollector::new(HOUR);
    let writer = &collector.database().writer;
    let add = || {
        let body = Arc::new(json!([{ "name": "n", "type": "counter", "value": 1 }]).to_string().into_bytes());
        AddPoints::decode(&collector.decoder, body, collector.now, writer.stats(), KeyKind::Server, |_, _| Ok(()))
            .unwrap()
    };
    let decoded_before = add();
    writer.run(add()).unwrap();
    // As after a failed COMMIT: the series is gone, and the writer has counted a failure.
    let rollback = "DELETE FROM points; DELETE FROM series; DELETE FROM metrics";
    writer.run(Sql(rollback.into())).unwrap();
    writer.stats().failed_writes.fetch_add(1, Ordering::Relaxed);
    writer.run(decoded_before).unwrap();
    let orphans = "SELECT count(*) FROM points WHERE series_id NOT IN (SELECT id FROM series)";
    assert_eq!((collector.query_number(orphans), collector.query_number("SELECT count(*) FROM series")), (0, 1));
}

#[test]
fn points_of_a_wrong_clock_do_not_hide_later_ones() {
    let mut collector = TestCollector::new(HOUR);
    let right = collector.now;
    for (now, value) in [(right, 1), (right + HOUR * 24 * 31, 9), (right + HOUR, 2)] {
        collector.now = now;
        let body = json!([{ "name": "depth", "type": "gauge", "value": value }]).to_string().into_bytes();
        let decoder = &collector.decoder;
        let add = AddPoints::decode(decoder, Arc::new(body), now, &Arc::default(), KeyKind::Server, |_, _| Ok(()));
        collector.database().writer.run(add.unwrap()).unwrap();
        collector.database().writer.run(RollUp::at(now)).unwrap();
    }
    assert_eq!(collector.query_number("SELECT CAST(last AS INTEGER) FROM series_totals"), 2);
    assert_eq!(collector.query_number("SELECT value FROM counters WHERE name = 'rolled_up'"), 3);
    let connection = collector.database().readers.acquire().unwrap();
    assert_eq!(store::points_received(&connection, collector.now).unwrap(), 2);
}
