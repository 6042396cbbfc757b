//! When a point counts: in the minute and the hour it was measured in, or, where its clock is wrong, in those of its
//! arrival.

use std::time::Duration;

use monlight::clock::Timestamp;
use serde_json::{Value, json};

use super::buckets::{RESOLUTIONS, data, start_of};
use crate::collector::{close, send, wait_for_rollup};
use crate::harness::Setup;

const HOUR_S: i64 = 3_600;

fn seconds_from_now(seconds: i64) -> Timestamp {
    let (now, by) = (Timestamp::now(), Duration::from_secs(seconds.unsigned_abs()));
    if seconds < 0 { now - by } else { now + by }
}

#[test]
fn a_late_point_counts_in_its_own_minute_and_hour_also_when_those_were_rolled_up() {
    let collector = Setup::metrics_collector().env("AGGREGATION_INTERVAL", 1).start();
    let at = seconds_from_now(-23 * HOUR_S);
    for round in 1..=3 {
        for kind in ["counter", "gauge", "histogram"] {
            let point = json!({ "name": kind, "type": kind, "value": round, "timestamp": at.to_string() });
            send(&collector, &[point]);
        }
        let check = || {
            for (resolution, ms) in RESOLUTIONS {
                for (kind, field, last) in [("counter", "sum", None), ("gauge", "last", Some(f64::from(round)))] {
                    let found = data(&collector, &format!("name={kind}&resolution={resolution}"));
                    assert_eq!(found.len(), 1, "{found:?}");
                    assert_eq!(found[0]["bucket"], start_of(at, ms), "{resolution}");
                    assert_eq!(found[0]["count"], round, "{resolution}");
                    let value = last.unwrap_or_else(|| (1..=round).map(f64::from).sum());
                    assert_eq!(found[0][field], value, "{field} by the {resolution}");
                }
                let histogram = &data(&collector, &format!("name=histogram&resolution={resolution}"))[0];
                assert_eq!((&histogram["count"], &histogram["max"]), (&json!(round), &json!(f64::from(round))));
                close(&histogram["p99"], f64::from(round));
            }
        };
        check();
        wait_for_rollup(&collector.folder);
        check();
    }
    collector.get("/health").expect(200).has(json!({ "points_clock_corrected": 0 }));
}

#[test]
fn a_clock_that_cannot_be_right_gives_way_to_the_time_of_arrival() {
    let collector = Setup::metrics_collector().start();
    let mut corrected = 0;
    for (index, (at, right)) in [
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
        send(&collector, &[json!({ "name": name, "type": "counter", "value": 1, "timestamp": timestamp })]);
        let (first, last) = at.filter(|_| right).map_or_else(|| (before, Timestamp::now()), |at| (at, at));
        for (resolution, ms) in RESOLUTIONS {
            let found = data(&collector, &format!("name={name}&resolution={resolution}"));
            let expected = [start_of(first, ms), start_of(last, ms)];
            assert!(
                found.len() == 1 && expected.iter().any(|at| found[0]["bucket"] == **at),
                "{timestamp:?}: {found:?}"
            );
        }
        corrected += i32::from(!right);
        collector.get("/health").expect(200).has(json!({ "points_clock_corrected": corrected }));
    }
    let metrics = collector.get("/metrics").expect(200).text();
    assert!(metrics.contains(&format!("\nmonlight_points_clock_corrected {corrected}\n")), "{metrics}");
}

#[test]
fn a_time_is_read_with_any_offset_and_fraction() {
    let collector = Setup::metrics_collector().start();
    let at = seconds_from_now(-3 * HOUR_S);
    let hours_later = |hours: i64| Timestamp::from_ms(at.ms() + hours * HOUR_S * 1_000).to_string();
    for given in [
        at.to_string(),
        at.to_string().to_lowercase(),
        at.to_string().replace('Z', ".123456789Z"),
        at.to_string().replace('Z', "+00:00"),
        hours_later(14).replace('Z', "+14:00"),
        hours_later(-11).replace('Z', ".5-11:00"),
    ] {
        send(&collector, &[json!({ "name": "n", "type": "counter", "value": 1, "timestamp": given })]);
    }
    let found = data(&collector, "name=n");
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((&found[0]["bucket"], &found[0]["count"]), (&Value::from(start_of(at, RESOLUTIONS[0].1)), &json!(6)));
}
