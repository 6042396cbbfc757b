//! Percentiles of an hour come from merged distributions, because they cannot be computed from the percentiles of its
//! minutes.

use std::time::Duration;

use monlight::clock::Timestamp;
use serde_json::{Value, json};

use crate::support::collector::{RELATIVE_ERROR_MAX, assert_close, nearest_rank, send_points, wait_for_rollup};
use crate::support::harness::{Service, Setup};

const HOUR_MS: i64 = 3_600_000;
const SLOW_MINUTE: i64 = 37;

/// Queries the buckets at a resolution and returns those in the hour that starts at `hour_ms`.
fn buckets_of_hour(collector: &Service, hour_ms: i64, resolution: &str) -> Vec<Value> {
    let body = collector.get(&format!("/api/metrics?name=ms&period=4h&resolution={resolution}")).expect(200).json();
    let in_hour = |bucket: &&Value| {
        let at = Timestamp::parse(bucket["bucket"].as_str().unwrap()).unwrap();
        (hour_ms..hour_ms + HOUR_MS).contains(&at.ms())
    };
    body["data"].as_array().unwrap().iter().filter(in_hour).cloned().collect()
}

#[test]
fn hour_with_one_slow_minute_has_the_exact_percentile_not_the_average_of_minutes() {
    let collector = Setup::metrics_collector().env("AGGREGATION_INTERVAL", 1).start();
    let hour_ms = (Timestamp::now() - Duration::from_secs(2 * 3_600)).hour() * HOUR_MS;
    let mut values = Vec::new();
    let mut points = Vec::new();
    for minute in 0..60 {
        let (count, typical_ms) = if minute == SLOW_MINUTE { (2_000, 1_000.0) } else { (100, 10.0) };
        for step in 0..count {
            // Values are spread from 0.8 to 1.2 times the typical one, and unordered.
            let value = typical_ms * (0.8 + 0.4 * f64::from(step * 37 % count) / f64::from(count));
            let at = Timestamp::from_ms(hour_ms + minute * 60_000 + i64::from(step % 60) * 1_000);
            values.push(value);
            points.push(json!({ "name": "ms", "type": "histogram", "value": value, "timestamp": at.to_string() }));
        }
    }
    // The hour is merged from two rollups, and first from one rollup and raw points.
    let (first, rest) = points.split_at(points.len() / 2);
    send_points(&collector, first);
    wait_for_rollup(&collector.data_dir);
    send_points(&collector, rest);
    for rolled_up in [false, true] {
        if rolled_up {
            wait_for_rollup(&collector.data_dir);
        }
        let hours = buckets_of_hour(&collector, hour_ms, "hour");
        let [hour] = &hours[..] else { panic!("{hours:?}") };
        assert_eq!(hour["count"], values.len());
        for (field, q) in [("p50", 0.50), ("p95", 0.95), ("p99", 0.99)] {
            assert_close(&hour[field], nearest_rank(&values, q));
        }
        let minutes = buckets_of_hour(&collector, hour_ms, "minute");
        assert_eq!(minutes.len(), 60);
        let averaged = minutes.iter().map(|minute| minute["p95"].as_f64().unwrap()).sum::<f64>() / 60.0;
        let (estimate, exact) = (hour["p95"].as_f64().unwrap(), nearest_rank(&values, 0.95));
        assert!(
            exact > 900.0 && exact / averaged > 20.0,
            "the average of the minutes is {averaged}, the exact value {exact}"
        );
        eprintln!(
            "p95 of the hour: {estimate:.1} ms, exact {exact:.1} ms, error {:.2} % (maximum {:.2} %); the average of the \
             p95 of its minutes: {averaged:.1} ms, {:.0} times too low",
            (estimate / exact - 1.0).abs() * 100.0,
            RELATIVE_ERROR_MAX * 100.0,
            exact / averaged
        );
    }
}
