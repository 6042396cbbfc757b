//! The metrics collector's first screen: web vitals as the deployed browser SDK sends them, and the machine itself.

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};

use crate::collector::{assert_close, nearest_rank, send_points, wait_for_rollup};
use crate::harness::{Response, Setup, TempDir, wait_until};

const VITALS: [(&str, f64, f64); 5] = [
    ("lcp", 2_500.0, 4_000.0),
    ("inp", 200.0, 500.0),
    ("cls", 0.1, 0.25),
    ("fcp", 1_800.0, 3_000.0),
    ("ttfb", 800.0, 1_800.0),
];

/// One vital of one view, as the relay passes on what the deployed SDK sends.
fn vital(name: &str, value: f64, page: &str, session: usize) -> Value {
    let labels = json!({ "project": "shop", "source": "browser", "page": page, "session_id": format!("s{session}") });
    json!({ "name": format!("web_vitals_{name}"), "type": "histogram", "value": value, "labels": labels, "project": "shop" })
}

/// Values of a vital on both sides of its bounds, on them, and closer to them than any bucket of a sketch is wide.
fn values(good_max: f64, poor_over: f64, shift: usize) -> Vec<f64> {
    let near = [good_max, good_max * 1.0001, good_max * 0.9999, poor_over, poor_over * 1.0001, poor_over * 0.9999, 0.0];
    let spread = (0..200).map(|step| poor_over * 1.5 * ((step * 37 + shift) % 200) as f64 / 200.0);
    near.into_iter().chain(spread).collect()
}

fn check_vitals(answer: &Response, sent: &[Vec<f64>; 5]) {
    let body = answer.json();
    for ((name, good_max, poor_over), values) in VITALS.iter().zip(sent) {
        let found = &body["web_vitals"]["summary"][name];
        let good = values.iter().filter(|value| *value <= good_max).count();
        let poor = values.iter().filter(|value| *value > poor_over).count();
        assert_eq!(found["count"], values.len(), "{name}");
        assert_eq!(found["good"], good, "{name}");
        assert_eq!(found["needs_improvement"], values.len() - good - poor, "{name}");
        assert_eq!(found["poor"], poor, "{name}");
        let p75 = nearest_rank(values, 0.75);
        assert_close(&found["p75"], p75);
        assert_close(&found["avg"], values.iter().sum::<f64>() / values.len() as f64);
        let rating = if p75 <= *good_max {
            "good"
        } else if p75 > *poor_over {
            "poor"
        } else {
            "needs_improvement"
        };
        assert_eq!(found["rating"], rating, "{name}");
    }
}

#[test]
fn shares_of_web_vitals_are_exact_before_and_after_a_rollup() {
    for rollups_s in [86_400, 1] {
        let collector = Setup::metrics_collector().env("AGGREGATION_INTERVAL", rollups_s).start();
        let mut sent: [Vec<f64>; 5] = Default::default();
        // Twice, so that what is rolled up and what comes after meet in one bucket.
        for round in 0..2 {
            let mut items = Vec::new();
            for ((name, good_max, poor_over), sent) in VITALS.iter().zip(&mut sent) {
                for (view, value) in values(*good_max, *poor_over, round).into_iter().enumerate() {
                    items.push(vital(name, value, ["/", "/pricing"][view % 2], view));
                    sent.push(value);
                }
            }
            send_points(&collector, &items);
            if rollups_s == 1 {
                wait_for_rollup(&collector.data_dir);
            }
            for period in ["5m", "24h", "30d"] {
                check_vitals(&collector.get(&format!("/api/dashboard?period={period}")).expect(200), &sent);
            }
        }
        let body = collector.get("/api/dashboard?project=shop").expect(200).json();
        let vitals = &body["web_vitals"];
        assert_eq!(body["period"], "24h");
        let values_sent: usize = sent.iter().map(Vec::len).sum();
        assert_eq!(body["summary"], json!({ "total_datapoints": values_sent, "distinct_metrics": 5 }));
        let shown: u64 = vitals["timeseries"].as_array().unwrap().iter().map(|at| at["count"].as_u64().unwrap()).sum();
        assert_eq!(shown, values_sent as u64);
        let pages: Vec<_> = vitals["by_page"].as_array().unwrap().iter().map(|page| page["page"].clone()).collect();
        assert_eq!(pages, ["/", "/pricing"]);
        assert_eq!(body.get("warnings"), None);
        let other = collector.get("/api/dashboard?project=other").expect(200).json();
        assert_eq!(other["summary"]["total_datapoints"], 0);
        assert_eq!(other.get("web_vitals"), None);
    }
}

#[test]
fn pages_that_differ_by_an_id_are_one_and_the_fifty_most_seen_are_listed() {
    let collector = Setup::metrics_collector().start();
    let mut items = Vec::new();
    let users: Vec<f64> = (1..=60).map(|user| f64::from(user) * 50.0).collect();
    for (user, lcp) in users.iter().enumerate() {
        items.push(vital("lcp", *lcp, &format!("/user/{user}"), user));
    }
    for page in 0..59 {
        // More views of pages with a later letter.
        for view in 0..=page {
            items.push(vital("ttfb", 100.0, &format!("/page-{page:02}?view={view}"), view));
        }
    }
    items
        .push(json!({ "name": "web_vitals_lcp", "type": "histogram", "value": 9e9, "labels": { "source": "server" } }));
    send_points(&collector, &items);
    let body = collector.get("/api/dashboard?period=1h").expect(200).json();
    let pages = body["web_vitals"]["by_page"].as_array().unwrap();
    assert_eq!(pages.len(), 50);
    assert_eq!((&pages[0]["page"], &pages[0]["page_views"]), (&json!("/user/:id"), &json!(60)));
    assert_close(&pages[0]["lcp"], nearest_rank(&users, 0.75));
    assert_eq!(pages[0]["ttfb"], Value::Null);
    assert_eq!((&pages[1]["page"], &pages[1]["page_views"]), (&json!("/page-58"), &json!(59)));
    assert_eq!(body["web_vitals"]["summary"]["inp"]["rating"], Value::Null);
    let top = body["top_metrics"].as_array().unwrap();
    assert_eq!(top[0], json!({ "name": "web_vitals_ttfb", "type": "histogram", "count": 1770, "total": 177_000.0 }));
}

#[test]
fn without_browsers_there_are_no_web_vitals_and_a_cap_is_named() {
    let collector = Setup::metrics_collector().env("MAX_SERIES_PER_METRIC", 2).start();
    let order = |shop: i32| json!({ "name": "orders", "type": "counter", "value": 2, "labels": { "shop": shop } });
    send_points(&collector, &(0..5).map(order).collect::<Vec<_>>());
    let body = collector.get("/api/dashboard").expect(200).json();
    assert_eq!(body.get("web_vitals"), None);
    assert_eq!(body["top_metrics"], json!([{ "name": "orders", "type": "counter", "count": 5, "total": 10.0 }]));
    let warning = body["warnings"][0].as_str().unwrap();
    assert!(warning.starts_with("orders has more series"), "{warning}");
    collector.get("/api/dashboard?period=soon").expect(400).has_detail("period");
}

#[test]
fn the_machine_is_measured_unless_that_is_switched_off() {
    let quiet = Setup::metrics_collector().start();
    let collector = Setup::metrics_collector().env("HOST_METRICS", 1).start();
    let shown = |name: &str| {
        let body = collector.get(&format!("/api/metrics?name={name}&period=1h")).expect(200).json();
        body["data"].as_array().unwrap().last().cloned()
    };
    // The processor's share and the traffic are of the time between two looks.
    let busy_percent = wait_until(|| shown("host_cpu_percent")).expect("a second look")["last"].as_f64().unwrap();
    assert!((0.0..=100.0).contains(&busy_percent), "{busy_percent}");
    for used in ["host_memory", "host_disk"] {
        let last = |what: &str| shown(&format!("{used}_{what}_bytes")).unwrap()["last"].as_f64().unwrap();
        assert!(last("used") > 0.0 && last("used") <= last("total"), "{used}");
    }
    assert!(shown("host_load1").is_some());
    assert!(shown("host_network_received_bytes").unwrap()["sum"].as_f64().unwrap() >= 0.0);
    let path = "/api/metrics?name=process_resident_bytes&period=1h&labels=service:metrics-collector";
    let body = collector.get(path).expect(200).json();
    let resident_bytes = body["data"][0]["max"].as_f64().unwrap();
    // Other tests' collectors count as well.
    assert!(resident_bytes >= (collector.memory_kib().0 * 1024 / 2) as f64, "{resident_bytes}");
    let database = shown("database_bytes").unwrap()["last"].as_f64().unwrap();
    assert!(database > 4_096.0, "{database}");
    assert_eq!(quiet.get("/api/metrics/names").expect(200).json(), json!({ "metrics": [] }));
}

/// So many hours ago.
fn ago(hours: i64) -> String {
    let at = time::OffsetDateTime::now_utc() - time::Duration::hours(hours);
    at.format(&time::format_description::well_known::Rfc3339).unwrap()
}

#[test]
fn what_is_asked_for_ends_where_it_is_told_to() {
    for rollups_s in [86_400, 1] {
        let collector = Setup::metrics_collector().env("AGGREGATION_INTERVAL", rollups_s).start();
        let order = |hours: i64| json!({ "name": "orders", "type": "counter", "value": 1, "timestamp": ago(hours) });
        send_points(&collector, &[1, 3, 3, 5, 5, 5, 9].map(order));
        if rollups_s == 1 {
            wait_for_rollup(&collector.data_dir);
        }
        // Between the moments of the points, where no hour or minute begins.
        let hours = |asked: &str| {
            let dashboard = collector.get(&format!("/api/dashboard?{asked}")).expect(200).json();
            let body = collector.get(&format!("/api/metrics?name=orders&{asked}")).expect(200).json();
            let found = body["data"].as_array().unwrap().iter().map(|bucket| bucket["count"].as_u64().unwrap()).sum();
            (dashboard["summary"]["total_datapoints"].as_u64().unwrap(), found)
        };
        assert_eq!(hours("period=24h"), (7, 7));
        // By the hour the dashboard counts every hour that begins before the end.
        assert_eq!(hours(&format!("since={}&until={}", ago(7), ago(2))), (5, 5));
        assert_eq!(hours(&format!("since={}", ago(4))), (3, 3));
        assert_eq!(hours(&format!("until={}&period=5h", ago(4))), (4, 4));
        for path in ["/api/dashboard", "/api/metrics/releases", "/api/metrics?name=orders"] {
            let and = if path.contains('?') { '&' } else { '?' };
            let asked = format!("{path}{and}since={}&until={}", ago(2), ago(3));
            collector.get(&asked).expect(400).has_detail("before until");
            collector.get(&format!("{path}{and}until=noon")).expect(400).has_detail("until");
        }
    }
}

#[test]
fn a_release_is_told_of_where_it_goes_live() {
    let folder = Arc::new(TempDir::new());
    for rollups_s in [86_400, 1] {
        let setup = Setup::metrics_collector().data_dir(&folder).env("AGGREGATION_INTERVAL", rollups_s);
        let collector = setup.start();
        let live = |hours: i64, release: &str, project: &str| {
            let labels = json!({ "release": release, "host": "a" });
            json!({ "name": "release_info", "type": "gauge", "value": 1, "labels": labels, "project": project,
                "timestamp": ago(hours) })
        };
        if rollups_s == 86_400 {
            // Said at each deployment, or for as long as a program runs.
            send_points(&collector, &[live(9, "1.0", "shop"), live(4, "1.1", "shop"), live(1, "1.0", "shop")]);
            send_points(
                &collector,
                &[live(6, "7", "blog"), live(5, "7", "blog"), live(4, "7", "blog"), live(2, "8", "blog")],
            );
            send_points(&collector, &[json!({ "name": "release_info", "type": "gauge", "value": 1 })]);
        } else {
            wait_for_rollup(&collector.data_dir);
        }
        let releases = |asked: &str| -> Vec<String> {
            let body = collector.get(&format!("/api/metrics/releases?{asked}")).expect(200).json();
            let text = |release: &Value| {
                format!("{} {}", release["project"].as_str().unwrap(), release["release"].as_str().unwrap())
            };
            let at = |release: &Value| release["at"].as_str().unwrap().to_owned();
            let found = body["releases"].as_array().unwrap();
            assert!(found.is_sorted_by_key(at), "{body}");
            found.iter().map(text).collect()
        };
        assert_eq!(releases("period=24h"), ["shop 1.0", "blog 7", "shop 1.1", "blog 8", "shop 1.0"]);
        assert_eq!(releases("period=24h&project=blog"), ["blog 7", "blog 8"]);
        // What was live before is not news.
        assert_eq!(releases(&format!("since={}&project=blog", ago(5))), ["blog 8"]);
        assert_eq!(releases(&format!("since={}&until={}", ago(7), ago(3))), ["blog 7", "shop 1.1"]);
    }
}

#[test]
fn a_past_can_be_filled_in_where_that_is_allowed() {
    let (strict, filling) =
        (Setup::metrics_collector().start(), Setup::metrics_collector().env("MAX_POINT_AGE", 720).start());
    for (collector, expected) in [(&strict, 2), (&filling, 1)] {
        // Asked before, so that what is kept of hours that are over is seen to be read again.
        collector.get("/api/dashboard?period=30d").expect(200);
        let order = |hours: i64| json!({ "name": "orders", "type": "counter", "value": 1, "timestamp": ago(hours) });
        send_points(collector, &[25, 1].map(order));
        assert_eq!(
            collector.get("/api/dashboard?period=12h").expect(200).json()["summary"]["total_datapoints"],
            expected
        );
        assert_eq!(collector.get("/api/dashboard?period=30d").expect(200).json()["summary"]["total_datapoints"], 2);
    }
}

/// Thirty days of hours of fifty series, half of them vitals. Prints what it measured; a debug build is several times
/// slower than what is shipped, so only the answer is checked.
#[test]
fn thirty_days_of_hours_are_answered() {
    let folder = Setup::metrics_collector().start().kill();
    let hours = 720;
    let collector = Setup::metrics_collector().data_dir(&folder).env("AGGREGATION_INTERVAL", 1).start();
    let mut items = Vec::new();
    for (name, _, poor_over) in VITALS {
        for page in 0..5 {
            for view in 0..20 {
                items.push(vital(name, poor_over * f64::from(view) / 15.0, &format!("/page-{page}"), 0));
            }
        }
    }
    for shop in 0..25 {
        items.push(json!({ "name": "orders", "type": "counter", "value": 2, "labels": { "shop": shop } }));
    }
    let points = items.len();
    send_points(&collector, &items);
    wait_for_rollup(&collector.data_dir);
    let folder = collector.kill();
    let database = rusqlite::Connection::open(folder.path().join("metrics.db")).unwrap();
    let columns = "count, sum, min, max, last, last_at, sketch, good, needs_improvement, poor";
    database
        .execute_batch(&format!(
            "WITH RECURSIVE back(hours) AS (SELECT 1 UNION ALL SELECT hours + 1 FROM back WHERE hours < {hours} - 1)
             INSERT OR IGNORE INTO hours (series_id, bucket, {columns})
             SELECT series_id, bucket - hours, {columns} FROM hours, back;"
        ))
        .unwrap();
    drop(database);
    let collector = Setup::metrics_collector().data_dir(&folder).start();
    let mut client = collector.connect();
    let mut times_ms = Vec::new();
    for _ in 0..9 {
        let begun = Instant::now();
        let answer = client.send(&crate::harness::Request::get("/api/dashboard?period=30d")).expect(200);
        times_ms.push(begun.elapsed().as_secs_f64() * 1_000.0);
        let body = answer.json();
        assert_eq!(body["summary"]["total_datapoints"], points * hours);
        assert_eq!(body["web_vitals"]["timeseries"].as_array().unwrap().len(), hours);
        assert_eq!(body["web_vitals"]["by_page"][0]["page_views"], 20 * hours);
        assert_eq!(body["web_vitals"]["summary"]["lcp"]["poor"], 5 * 4 * hours);
        assert_close(&body["web_vitals"]["summary"]["lcp"]["p75"], 4_000.0 * 14.0 / 15.0);
        assert_close(&body["web_vitals"]["timeseries"][0]["ttfb"], 1_800.0 * 14.0 / 15.0);
    }
    times_ms.sort_unstable_by(f64::total_cmp);
    eprintln!(
        "dashboard over 30 days of 50 series: {:.1} ms at the median, {:.1} ms the first time, RSS {:?} KiB",
        times_ms[4],
        times_ms[8],
        collector.memory_kib()
    );
}
