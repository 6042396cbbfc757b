//! Dashboard of the metrics collector: web vitals as the published browser SDK sends them, releases, and host metrics.

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};

use crate::support::collector::{assert_close, nearest_rank, send_points, wait_for_rollup};
use crate::support::harness::{Response, Setup, TempDir, wait_until};

const VITALS: [(&str, f64, f64); 5] = [
    ("lcp", 2_500.0, 4_000.0),
    ("inp", 200.0, 500.0),
    ("cls", 0.1, 0.25),
    ("fcp", 1_800.0, 3_000.0),
    ("ttfb", 800.0, 1_800.0),
];

/// Returns one web vital of a page view, in the form in which the relay forwards it.
fn vital(name: &str, value: f64, page: &str, session: usize) -> Value {
    let labels = json!({ "project": "shop", "source": "browser", "page": page, "session_id": format!("s{session}") });
    json!({ "name": format!("web_vitals_{name}"), "type": "histogram", "value": value, "labels": labels, "project": "shop" })
}

/// Returns values of a vital below, at and above its thresholds, some closer to them than the width of a sketch bucket.
fn values_around_thresholds(good_max: f64, poor_over: f64, shift: usize) -> Vec<f64> {
    let near = [good_max, good_max * 1.0001, good_max * 0.9999, poor_over, poor_over * 1.0001, poor_over * 0.9999, 0.0];
    let spread = (0..200).map(|step| poor_over * 1.5 * ((step * 37 + shift) % 200) as f64 / 200.0);
    near.into_iter().chain(spread).collect()
}

fn assert_vitals(response: &Response, sent: &[Vec<f64>; 5]) {
    let body = response.json();
    for ((name, good_max, poor_over), values) in VITALS.iter().zip(sent) {
        let summary = &body["web_vitals"]["summary"][name];
        let good = values.iter().filter(|value| *value <= good_max).count();
        let poor = values.iter().filter(|value| *value > poor_over).count();
        assert_eq!(summary["count"], values.len(), "{name}");
        assert_eq!(summary["good"], good, "{name}");
        assert_eq!(summary["needs_improvement"], values.len() - good - poor, "{name}");
        assert_eq!(summary["poor"], poor, "{name}");
        let p75 = nearest_rank(values, 0.75);
        assert_close(&summary["p75"], p75);
        assert_close(&summary["avg"], values.iter().sum::<f64>() / values.len() as f64);
        let rating = if p75 <= *good_max {
            "good"
        } else if p75 > *poor_over {
            "poor"
        } else {
            "needs_improvement"
        };
        assert_eq!(summary["rating"], rating, "{name}");
    }
}

#[test]
fn rating_counts_of_web_vitals_are_exact_before_and_after_a_rollup() {
    for rollups_s in [86_400, 1] {
        let collector = Setup::metrics_collector().env("AGGREGATION_INTERVAL", rollups_s).start();
        let mut sent: [Vec<f64>; 5] = Default::default();
        // Two rounds, so that a bucket combines rolled-up and newer points.
        for round in 0..2 {
            let mut items = Vec::new();
            for ((name, good_max, poor_over), sent) in VITALS.iter().zip(&mut sent) {
                for (view, value) in values_around_thresholds(*good_max, *poor_over, round).into_iter().enumerate() {
                    items.push(vital(name, value, ["/", "/pricing"][view % 2], view));
                    sent.push(value);
                }
            }
            send_points(&collector, &items);
            if rollups_s == 1 {
                wait_for_rollup(&collector.data_dir);
            }
            for period in ["5m", "24h", "30d"] {
                assert_vitals(&collector.get(&format!("/api/dashboard?period={period}")).expect(200), &sent);
            }
        }
        let body = collector.get("/api/dashboard?project=shop").expect(200).json();
        let vitals = &body["web_vitals"];
        assert_eq!(body["period"], "24h");
        let values_sent: usize = sent.iter().map(Vec::len).sum();
        assert_eq!(body["summary"], json!({ "total_datapoints": values_sent, "distinct_metrics": 5 }));
        let in_timeseries: u64 =
            vitals["timeseries"].as_array().unwrap().iter().map(|bucket| bucket["count"].as_u64().unwrap()).sum();
        assert_eq!(in_timeseries, values_sent as u64);
        let pages: Vec<_> = vitals["by_page"].as_array().unwrap().iter().map(|page| page["page"].clone()).collect();
        assert_eq!(pages, ["/", "/pricing"]);
        assert_eq!(body.get("warnings"), None);
        let other = collector.get("/api/dashboard?project=other").expect(200).json();
        assert_eq!(other["summary"]["total_datapoints"], 0);
        assert_eq!(other.get("web_vitals"), None);
    }
}

#[test]
fn page_paths_are_normalized_and_the_fifty_most_viewed_pages_are_listed() {
    let collector = Setup::metrics_collector().start();
    let mut items = Vec::new();
    let users: Vec<f64> = (1..=60).map(|user| f64::from(user) * 50.0).collect();
    for (user, lcp) in users.iter().enumerate() {
        items.push(vital("lcp", *lcp, &format!("/user/{user}"), user));
    }
    for page in 0..59 {
        // Pages with a higher number have more views.
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
fn dashboard_omits_web_vitals_without_browser_data_and_warns_about_series_limits() {
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
fn host_metrics_are_collected_unless_disabled() {
    let without_host_metrics = Setup::metrics_collector().start();
    let collector = Setup::metrics_collector().env("HOST_METRICS", 1).start();
    let last_bucket = |name: &str| {
        let body = collector.get(&format!("/api/metrics?name={name}&period=1h")).expect(200).json();
        body["data"].as_array().unwrap().last().cloned()
    };
    // CPU usage and network traffic are differences between two samples, so they exist from the second sample on.
    let busy_percent =
        wait_until(|| last_bucket("host_cpu_percent")).expect("a second sample")["last"].as_f64().unwrap();
    assert!((0.0..=100.0).contains(&busy_percent), "{busy_percent}");
    for resource in ["host_memory", "host_disk"] {
        let last = |kind: &str| last_bucket(&format!("{resource}_{kind}_bytes")).unwrap()["last"].as_f64().unwrap();
        assert!(last("used") > 0.0 && last("used") <= last("total"), "{resource}");
    }
    assert!(last_bucket("host_load1").is_some());
    assert!(last_bucket("host_network_received_bytes").unwrap()["sum"].as_f64().unwrap() >= 0.0);
    let path = "/api/metrics?name=process_resident_bytes&period=1h&labels=service:metrics-collector";
    let body = collector.get(path).expect(200).json();
    let resident_bytes = body["data"][0]["max"].as_f64().unwrap();
    // The collectors of other tests on this machine contribute to this metric.
    assert!(resident_bytes >= (collector.memory_kib().0 * 1024 / 2) as f64, "{resident_bytes}");
    let database = last_bucket("database_bytes").unwrap()["last"].as_f64().unwrap();
    assert!(database > 4_096.0, "{database}");
    assert_eq!(without_host_metrics.get("/api/metrics/names").expect(200).json(), json!({ "metrics": [] }));
}

/// Returns the timestamp of so many hours ago in RFC 3339.
fn hours_ago(hours: i64) -> String {
    let at = time::OffsetDateTime::now_utc() - time::Duration::hours(hours);
    at.format(&time::format_description::well_known::Rfc3339).unwrap()
}

#[test]
fn since_and_until_limit_the_time_range() {
    for rollups_s in [86_400, 1] {
        let collector = Setup::metrics_collector().env("AGGREGATION_INTERVAL", rollups_s).start();
        let order =
            |hours: i64| json!({ "name": "orders", "type": "counter", "value": 1, "timestamp": hours_ago(hours) });
        send_points(&collector, &[1, 3, 3, 5, 5, 5, 9].map(order));
        if rollups_s == 1 {
            wait_for_rollup(&collector.data_dir);
        }
        // The bounds lie between the points, and not on the start of an hour or minute.
        let counts = |query: &str| {
            let dashboard = collector.get(&format!("/api/dashboard?{query}")).expect(200).json();
            let body = collector.get(&format!("/api/metrics?name=orders&{query}")).expect(200).json();
            let in_buckets =
                body["data"].as_array().unwrap().iter().map(|bucket| bucket["count"].as_u64().unwrap()).sum();
            (dashboard["summary"]["total_datapoints"].as_u64().unwrap(), in_buckets)
        };
        assert_eq!(counts("period=24h"), (7, 7));
        // At hourly resolution, the dashboard includes every hour that starts before `until`.
        assert_eq!(counts(&format!("since={}&until={}", hours_ago(7), hours_ago(2))), (5, 5));
        assert_eq!(counts(&format!("since={}", hours_ago(4))), (3, 3));
        assert_eq!(counts(&format!("until={}&period=5h", hours_ago(4))), (4, 4));
        for path in ["/api/dashboard", "/api/metrics/releases", "/api/metrics?name=orders"] {
            let separator = if path.contains('?') { '&' } else { '?' };
            let query = format!("{path}{separator}since={}&until={}", hours_ago(2), hours_ago(3));
            collector.get(&query).expect(400).has_detail("before until");
            collector.get(&format!("{path}{separator}until=noon")).expect(400).has_detail("until");
        }
    }
}

#[test]
fn releases_are_listed_at_the_time_they_go_live() {
    let data_dir = Arc::new(TempDir::new());
    for rollups_s in [86_400, 1] {
        let setup = Setup::metrics_collector().data_dir(&data_dir).env("AGGREGATION_INTERVAL", rollups_s);
        let collector = setup.start();
        let live = |hours: i64, release: &str, project: &str| {
            let labels = json!({ "release": release, "host": "a" });
            json!({ "name": "release_info", "type": "gauge", "value": 1, "labels": labels, "project": project,
                "timestamp": hours_ago(hours) })
        };
        if rollups_s == 86_400 {
            // A project may report its release once per deployment, or regularly while it runs.
            send_points(&collector, &[live(9, "1.0", "shop"), live(4, "1.1", "shop"), live(1, "1.0", "shop")]);
            send_points(
                &collector,
                &[live(6, "7", "blog"), live(5, "7", "blog"), live(4, "7", "blog"), live(2, "8", "blog")],
            );
            send_points(&collector, &[json!({ "name": "release_info", "type": "gauge", "value": 1 })]);
        } else {
            wait_for_rollup(&collector.data_dir);
        }
        let releases = |query: &str| -> Vec<String> {
            let body = collector.get(&format!("/api/metrics/releases?{query}")).expect(200).json();
            let label = |release: &Value| {
                format!("{} {}", release["project"].as_str().unwrap(), release["release"].as_str().unwrap())
            };
            let at = |release: &Value| release["at"].as_str().unwrap().to_owned();
            let releases = body["releases"].as_array().unwrap();
            assert!(releases.is_sorted_by_key(at), "{body}");
            releases.iter().map(label).collect()
        };
        assert_eq!(releases("period=24h"), ["shop 1.0", "blog 7", "shop 1.1", "blog 8", "shop 1.0"]);
        assert_eq!(releases("period=24h&project=blog"), ["blog 7", "blog 8"]);
        // A release that was already live before the time range is not listed.
        assert_eq!(releases(&format!("since={}&project=blog", hours_ago(5))), ["blog 8"]);
        assert_eq!(releases(&format!("since={}&until={}", hours_ago(7), hours_ago(3))), ["blog 7", "shop 1.1"]);
    }
}

#[test]
fn old_points_are_stored_at_their_time_only_if_max_point_age_allows_it() {
    let default = Setup::metrics_collector().start();
    let with_backfill = Setup::metrics_collector().env("MAX_POINT_AGE", 720).start();
    for (collector, expected) in [(&default, 2), (&with_backfill, 1)] {
        // This request fills the cache of past hours, which the points must then invalidate.
        collector.get("/api/dashboard?period=30d").expect(200);
        let order =
            |hours: i64| json!({ "name": "orders", "type": "counter", "value": 1, "timestamp": hours_ago(hours) });
        send_points(collector, &[25, 1].map(order));
        assert_eq!(
            collector.get("/api/dashboard?period=12h").expect(200).json()["summary"]["total_datapoints"],
            expected
        );
        assert_eq!(collector.get("/api/dashboard?period=30d").expect(200).json()["summary"]["total_datapoints"], 2);
    }
}

/// Queries 30 days of hourly rollups of 50 series, half of them web vitals. Prints the latency but checks only the
/// response, because a debug build is several times slower than a release build.
#[test]
fn dashboard_aggregates_thirty_days_of_hourly_rollups() {
    let data_dir = Setup::metrics_collector().start().kill();
    let hours = 720;
    let collector = Setup::metrics_collector().data_dir(&data_dir).env("AGGREGATION_INTERVAL", 1).start();
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
    let data_dir = collector.kill();
    let database = rusqlite::Connection::open(data_dir.path().join("metrics.db")).unwrap();
    let columns = "count, sum, min, max, last, last_at_ms, sketch, good, needs_improvement, poor";
    database
        .execute_batch(&format!(
            "WITH RECURSIVE back(hours) AS (SELECT 1 UNION ALL SELECT hours + 1 FROM back WHERE hours < {hours} - 1)
             INSERT OR IGNORE INTO series_hours (series_id, at_h, {columns})
             SELECT series_id, at_h - hours, {columns} FROM series_hours, back;
             WITH RECURSIVE back(hours) AS (SELECT 1 UNION ALL SELECT hours + 1 FROM back WHERE hours < {hours} - 1)
             INSERT OR IGNORE INTO metric_hours (metric_id, at_h, {columns})
             SELECT metric_id, at_h - hours, {columns} FROM metric_hours, back;"
        ))
        .unwrap();
    drop(database);
    let collector = Setup::metrics_collector().data_dir(&data_dir).start();
    let mut client = collector.connect();
    let mut times_ms = Vec::new();
    for _ in 0..9 {
        let start = Instant::now();
        let response = client.send(&crate::support::harness::Request::get("/api/dashboard?period=30d")).expect(200);
        times_ms.push(start.elapsed().as_secs_f64() * 1_000.0);
        let body = response.json();
        assert_eq!(body["summary"]["total_datapoints"], points * hours);
        assert_eq!(body["web_vitals"]["timeseries"].as_array().unwrap().len(), hours);
        assert_eq!(body["web_vitals"]["by_page"][0]["page_views"], 20 * hours);
        assert_eq!(body["web_vitals"]["summary"]["lcp"]["poor"], 5 * 4 * hours);
        assert_close(&body["web_vitals"]["summary"]["lcp"]["p75"], 4_000.0 * 14.0 / 15.0);
        assert_close(&body["web_vitals"]["timeseries"][0]["ttfb"], 1_800.0 * 14.0 / 15.0);
    }
    times_ms.sort_unstable_by(f64::total_cmp);
    eprintln!(
        "dashboard over 30 days of 50 series: median {:.1} ms, maximum {:.1} ms, RSS {:?} KiB",
        times_ms[4],
        times_ms[8],
        collector.memory_kib()
    );
}
