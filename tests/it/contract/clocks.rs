//! Timestamps of metric points: a point counts in the minute and hour of its measurement. If its clock is more than 24
//! hours behind or 10 minutes ahead, it counts at its arrival.

use std::time::Duration;

use monlight::clock::Timestamp;
use serde_json::{Value, json};

use super::buckets::{RESOLUTIONS, bucket_start, query_buckets};
use crate::support::collector::{assert_close, send_points, wait_for_rollup};
use crate::support::harness::Setup;

const HOUR_S: i64 = 3_600;

fn seconds_from_now(seconds: i64) -> Timestamp {
    let (now, offset) = (Timestamp::now(), Duration::from_secs(seconds.unsigned_abs()));
    if seconds < 0 { now - offset } else { now + offset }
}

#[test]
fn late_points_count_in_their_own_bucket_even_after_a_rollup() {
    let collector = Setup::metrics_collector().env("AGGREGATION_INTERVAL", 1).start();
    let at = seconds_from_now(-23 * HOUR_S);
    for round in 1..=3 {
        for kind in ["counter", "gauge", "histogram"] {
            let point = json!({ "name": kind, "type": kind, "value": round, "timestamp": at.to_string() });
            send_points(&collector, &[point]);
        }
        let check = || {
            for (resolution, ms) in RESOLUTIONS {
                for (kind, field, last) in [("counter", "sum", None), ("gauge", "last", Some(f64::from(round)))] {
                    let buckets = query_buckets(&collector, &format!("name={kind}&resolution={resolution}"));
                    assert_eq!(buckets.len(), 1, "{buckets:?}");
                    assert_eq!(buckets[0]["bucket"], bucket_start(at, ms), "{resolution}");
                    assert_eq!(buckets[0]["count"], round, "{resolution}");
                    let value = last.unwrap_or_else(|| (1..=round).map(f64::from).sum());
                    assert_eq!(buckets[0][field], value, "{field} per {resolution}");
                }
                let histogram = &query_buckets(&collector, &format!("name=histogram&resolution={resolution}"))[0];
                assert_eq!((&histogram["count"], &histogram["max"]), (&json!(round), &json!(f64::from(round))));
                assert_close(&histogram["p99"], f64::from(round));
            }
        };
        check();
        wait_for_rollup(&collector.data_dir);
        check();
    }
    collector.get("/health").expect(200).has(json!({ "points_clock_corrected": 0 }));
}

#[test]
fn implausible_timestamps_are_replaced_with_the_arrival_time() {
    let collector = Setup::metrics_collector().start();
    let mut corrected = 0;
    for (index, (at, plausible)) in [
        (Some(seconds_from_now(-24 * HOUR_S + 60)), true),
        (Some(seconds_from_now(-24 * HOUR_S - 5)), false),
        (Some(seconds_from_now(-400 * 24 * HOUR_S)), false),
        (Some(Timestamp::from_ms(0)), false),
        (Some(Timestamp::from_ms(i64::MIN)), false),
        (Some(seconds_from_now(9 * 60)), true),
        (Some(seconds_from_now(11 * 60)), false),
        (Some(Timestamp::from_ms(i64::MAX)), false),
        (None, true),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("clock_{index}");
        let before = Timestamp::now();
        let timestamp = at.map(|at| at.to_string());
        send_points(&collector, &[json!({ "name": name, "type": "counter", "value": 1, "timestamp": timestamp })]);
        let (first, last) = at.filter(|_| plausible).map_or_else(|| (before, Timestamp::now()), |at| (at, at));
        for (resolution, ms) in RESOLUTIONS {
            let buckets = query_buckets(&collector, &format!("name={name}&resolution={resolution}"));
            let expected = [bucket_start(first, ms), bucket_start(last, ms)];
            assert!(
                buckets.len() == 1 && expected.iter().any(|at| buckets[0]["bucket"] == **at),
                "{timestamp:?}: {buckets:?}"
            );
        }
        corrected += i32::from(!plausible);
        collector.get("/health").expect(200).has(json!({ "points_clock_corrected": corrected }));
    }
    let metrics = collector.get("/metrics").expect(200).text();
    assert!(metrics.contains(&format!("\nmonlight_points_clock_corrected {corrected}\n")), "{metrics}");
}

#[test]
fn timestamps_accept_any_utc_offset_and_fraction() {
    let collector = Setup::metrics_collector().start();
    let at = seconds_from_now(-3 * HOUR_S);
    let hours_later = |hours: i64| Timestamp::from_ms(at.ms() + hours * HOUR_S * 1_000).to_string();
    for timestamp in [
        at.to_string(),
        at.to_string().to_lowercase(),
        at.to_string().replace('Z', ".123456789Z"),
        at.to_string().replace('Z', "+00:00"),
        hours_later(14).replace('Z', "+14:00"),
        hours_later(-11).replace('Z', ".5-11:00"),
    ] {
        send_points(&collector, &[json!({ "name": "n", "type": "counter", "value": 1, "timestamp": timestamp })]);
    }
    let buckets = query_buckets(&collector, "name=n");
    assert_eq!(buckets.len(), 1, "{buckets:?}");
    assert_eq!(
        (&buckets[0]["bucket"], &buckets[0]["count"]),
        (&Value::from(bucket_start(at, RESOLUTIONS[0].1)), &json!(6))
    );
}
