//! Numbers of the metrics collector that must agree with each other: sums, averages, percentiles, ratings, last values, and the
//! pages and periods that they belong to.

use std::time::Duration;

use monlight::clock::Timestamp;
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::collector::{send_points, wait_for_rollup};
use crate::support::harness::{Service, Setup};
use crate::support::logs::percent_encode;

fn point(name: &str, kind: &str, value: f64, labels: Value) -> Value {
    json!({ "name": name, "type": kind, "value": value, "labels": labels })
}

fn minutes_ago(minutes: u64) -> String {
    (Timestamp::now() - Duration::from_secs(60 * minutes)).to_string()
}

/// Adds a member to a point.
fn with(mut point: Value, member: &str, value: Value) -> Value {
    point[member] = value;
    point
}

fn query(collector: &Service, query: &str) -> Value {
    collector.get(&format!("/api/metrics?{query}")).expect(200).json()
}

/// Returns the last bucket of a query by the hour.
fn last_hour(collector: &Service, parameters: &str) -> Value {
    let body = query(collector, &format!("resolution=hour&{parameters}"));
    body["data"].as_array().unwrap().last().cloned().unwrap_or_else(|| panic!("{body}"))
}

/// Returns a point in the middle of the last hour, so that all such points of a test are in one hour.
fn past(name: &str, kind: &str, value: f64, labels: Value) -> Value {
    let at = Timestamp::from_ms((Timestamp::now() - Duration::from_secs(3_600)).hour() * 3_600_000 + 1_800_000);
    with(point(name, kind, value, labels), "timestamp", json!(at.to_string()))
}

#[test]
fn sums_and_averages_are_exact_across_requests_and_rollups() {
    let collector = Setup::metrics_collector().env("AGGREGATION_INTERVAL", 1).start();
    let cases: [(&str, &[f64], f64); 4] = [
        ("cancelled", &[1e100, 1.0, -1e100], 1.0),
        ("overflowing", &[1.7e308, 1.7e308, -1.7e308], 1.7e308),
        ("tenths", &[0.1; 3], 0.300_000_000_000_000_04),
        ("many", &[1e16, 1.0, 1.0, 1.0], 1e16 + 3.0),
    ];
    for round in 0..4 {
        for (name, values, _) in cases {
            let Some(value) = values.get(round) else { continue };
            send_points(
                &collector,
                &["counter", "gauge"].map(|kind| past(&format!("{name}_{kind}"), kind, *value, json!({}))),
            );
        }
        // The next values update existing rows.
        wait_for_rollup(&collector.data_dir);
    }
    for (name, values, sum) in cases {
        for kind in ["counter", "gauge"] {
            let bucket = last_hour(&collector, &format!("name={name}_{kind}"));
            assert_eq!(bucket["sum"].as_f64(), Some(sum), "{name}: {bucket}");
            let [min, avg, max] = ["min", "avg", "max"].map(|field| bucket[field].as_f64().unwrap());
            assert!(min <= avg && avg <= max, "{bucket}");
            assert!((avg - sum / values.len() as f64).abs() <= sum * 1e-15, "{bucket}");
        }
        // Negative increments are left out of the totals of counters, but not of the sums of a bucket.
        let top = collector.get("/api/dashboard").expect(200).json()["top_metrics"].clone();
        let total = top.as_array().unwrap().iter().find(|top| top["name"] == format!("{name}_gauge")).unwrap();
        assert_eq!(total["total"].as_f64(), Some(sum), "{total}");
    }
}

#[test]
fn percentile_of_a_web_vital_has_the_rating_that_is_shown_beside_it() {
    for rollups_s in [86_400, 1] {
        let collector = Setup::metrics_collector().env("AGGREGATION_INTERVAL", rollups_s).start();
        let vitals = [("lcp", 2_500.0), ("inp", 200.0), ("cls", 0.1), ("fcp", 1_800.0), ("ttfb", 800.0)];
        let mut points = Vec::new();
        for (name, good_max) in vitals {
            // The estimate of one of the two is on the wrong side of the threshold, wherever the sketch's buckets end.
            for (page, value) in [("/good", good_max), ("/not-good", f64::next_up(good_max))] {
                let labels = json!({ "source": "browser", "page": page });
                let values = std::iter::once(good_max / 9.0).chain([value; 6]).chain([good_max * 1.4]);
                points.extend(
                    values.map(|value| point(&format!("web_vitals_{name}"), "histogram", value, labels.clone())),
                );
            }
        }
        send_points(&collector, &points);
        if rollups_s == 1 {
            wait_for_rollup(&collector.data_dir);
        }
        let vitals_of =
            |query: &str| collector.get(&format!("/api/dashboard{query}")).expect(200).json()["web_vitals"].clone();
        for (name, good_max) in vitals {
            let all = vitals_of("");
            let [good, not_good] = ["/good", "/not-good"].map(|page| {
                let pages = all["by_page"].as_array().unwrap();
                pages.iter().find(|row| row["page"] == page).unwrap()[name].as_f64().unwrap()
            });
            assert!(good <= good_max && good > good_max * 0.98, "{name} {good}");
            assert!(not_good > good_max && not_good < good_max * 1.02, "{name} {not_good}");
            let summary = &all["summary"][name];
            let is_good = summary["p75"].as_f64().unwrap() <= good_max;
            assert_eq!(summary["rating"], if is_good { "good" } else { "needs_improvement" }, "{summary}");
        }
    }
}

#[test]
fn ids_in_page_paths_are_folded_before_they_become_series() {
    let collector = Setup::metrics_collector().start();
    // An older version stored paths with their ids.
    let data_dir = collector.kill();
    let database = Connection::open(data_dir.path().join("metrics.db")).unwrap();
    database
        .execute_batch(
            "INSERT INTO metrics (id, name, type_id, project) VALUES (1, 'web_vitals_lcp', 3, '');
             INSERT INTO series (id, metric_id, labels, created_at_ms)
                 VALUES (1, 1, '{\"page\":\"/product/7\",\"source\":\"browser\"}', 0);
             INSERT INTO series_hours (series_id, at_h, count, sum, min, max, last, last_at_ms)
                 VALUES (1, unixepoch() / 3600, 10, 10.0, 1.0, 1.0, 1.0, unixepoch() * 1000);
             UPDATE counters SET value = 1 WHERE name = 'series';",
        )
        .unwrap();
    drop(database);
    let collector = Setup::metrics_collector().data_dir(&data_dir).start();
    let vital = |page: String, value: f64| {
        point("web_vitals_lcp", "histogram", value, json!({ "source": "browser", "page": page }))
    };
    let mut points: Vec<Value> = (0..3_000).map(|id| vital(format!("/product/{id}"), 100.0)).collect();
    points.extend((0..500).map(|_| vital("/checkout".into(), 9_000.0)));
    points.push(vital("/reset/john%40example.com?token=1".into(), 100.0));
    send_points(&collector, &points);
    let pages = collector.get("/api/dashboard").expect(200).json()["web_vitals"]["by_page"].clone();
    let views =
        |page: &str| pages.as_array().unwrap().iter().find(|row| row["page"] == page).unwrap()["page_views"].clone();
    assert_eq!([views("/product/:id"), views("/checkout"), views("/reset/:id")], [3_010, 500, 1], "{pages}");
    collector.get("/health").has(json!({ "series": 4, "points_overflowed": 0 }));
    let request = |page: &str| {
        let labels = json!({ "page": page, "method": "GET", "status": "200", "host": "api.example" });
        point("browser_http_requests_total", "counter", 1.0, labels)
    };
    send_points(&collector, &[request("/order/ORD-12345"), request("/order/ORD-12346")]);
    let labels = collector.get("/api/metrics/labels?name=browser_http_requests_total").expect(200).json();
    assert_eq!(labels["labels"][2], json!({ "name": "page", "values": ["/order/:id"] }));
}

#[test]
fn response_has_the_points_of_one_type() {
    for rollups_s in [86_400, 1] {
        let collector = Setup::metrics_collector().env("AGGREGATION_INTERVAL", rollups_s).start();
        let in_project = |point: Value, project: &str| with(point, "project", json!(project));
        let mut points: Vec<Value> = (1..=100)
            .map(|ms| in_project(past("req_ms", "histogram", f64::from(ms), json!({ "host": "a" })), "a"))
            .collect();
        points.push(in_project(past("req_ms", "gauge", 7.0, json!({ "host": "b" })), "b"));
        points.extend(vec![in_project(past("req_ms", "counter", 1e9, json!({})), "b"); 2]);
        send_points(&collector, &points);
        if rollups_s == 1 {
            wait_for_rollup(&collector.data_dir);
        }
        let body = query(&collector, "name=req_ms&resolution=hour");
        assert_eq!(
            (&body["type"], &body["other_types"]),
            (&json!("histogram"), &json!(["counter", "gauge"])),
            "{body}"
        );
        let bucket = &body["data"][0];
        assert_eq!([&bucket["count"], &bucket["sum"], &bucket["max"]], [100.0, 5_050.0, 100.0]);
        let p95 = bucket["p95"].as_f64().unwrap();
        assert!((p95 - 95.0).abs() < 1.1 && bucket.get("last").is_none(), "{bucket}");
        for (parameters, kind, sum) in [
            ("type=gauge", "gauge", 7.0),
            ("type=counter&project=b", "counter", 2e9),
            ("project=b", "counter", 2e9),
            ("project=a", "histogram", 5_050.0),
            ("labels=host:b", "gauge", 7.0),
        ] {
            let body = query(&collector, &format!("name=req_ms&resolution=hour&{parameters}"));
            assert_eq!((&body["type"], &body["data"][0]["sum"]), (&json!(kind), &json!(sum)), "{parameters}: {body}");
        }
        let grouped = query(&collector, "name=req_ms&group_by=host");
        assert_eq!((grouped["groups"].as_array().unwrap().len(), &grouped["groups"][0]["value"]), (1, &json!("a")));
        let none = query(&collector, "name=req_ms&type=gauge&project=a");
        assert_eq!((&none["type"], &none["data"]), (&json!("gauge"), &json!([])));
        collector.get("/api/metrics?name=req_ms&type=summary").expect(400).has_detail("type");
        assert_eq!(query(&collector, "name=nothing").get("type"), None);
    }
}

#[test]
fn last_value_of_several_series_is_the_sum_of_the_live_ones() {
    for rollups_s in [86_400, 1] {
        let collector = Setup::metrics_collector().env("AGGREGATION_INTERVAL", rollups_s).start();
        let on = |host: &str, value: f64, minutes: u64| {
            with(point("depth", "gauge", value, json!({ "host": host })), "timestamp", json!(minutes_ago(minutes)))
        };
        // The last point of b is earlier than the latest bucket, and c is dead.
        send_points(&collector, &[on("c", 1_000.0, 12), on("a", 1.0, 4), on("b", 200.0, 3), on("a", 20.0, 0)]);
        if rollups_s == 1 {
            wait_for_rollup(&collector.data_dir);
        }
        for resolution in ["minute", "hour"] {
            let last = |parameters: &str| {
                let body = query(&collector, &format!("name=depth&resolution={resolution}{parameters}"));
                let data = if body["groups"].is_array() { &body["groups"][0]["data"] } else { &body["data"] };
                let bucket = data.as_array().unwrap().last().unwrap();
                ["last", "last_avg"].map(|field| bucket[field].as_f64().unwrap())
            };
            assert_eq!(last(""), [220.0, 110.0], "{resolution}");
            assert_eq!(last("&fields=last,last_avg"), [220.0, 110.0]);
            assert_eq!(last("&labels=host:a"), [20.0; 2]);
            assert_eq!(last("&labels=host:c"), [1_000.0; 2]);
            assert_eq!(last("&group_by=project"), [220.0, 110.0]);
        }
    }
}

#[test]
fn default_resolution_reaches_as_far_as_the_period() {
    let collector = Setup::metrics_collector().env("RETENTION_MINUTE", 1).start();
    let points =
        (0..23).map(|hours| with(point("r", "counter", 1.0, json!({})), "timestamp", json!(minutes_ago(60 * hours))));
    send_points(&collector, &points.collect::<Vec<_>>());
    let count = |body: &Value| {
        body["data"].as_array().unwrap().iter().map(|bucket| bucket["count"].as_u64().unwrap()).sum::<u64>()
    };
    for (parameters, resolution, is_cut) in [
        ("", "hour", false),
        ("&period=7d", "hour", false),
        ("&period=59m", "minute", false),
        ("&period=366d", "hour", true),
        ("&resolution=minute&period=7d", "minute", true),
        ("&resolution=minute&period=30m", "minute", false),
    ] {
        let body = query(&collector, &format!("name=r{parameters}"));
        assert_eq!(body["resolution"], resolution, "{parameters}");
        assert_eq!(body.get("stored_since").is_some(), is_cut, "{parameters}: {body}");
    }
    assert_eq!(count(&query(&collector, "name=r")), 23);
    let minutes = query(&collector, "name=r&resolution=minute&period=7d");
    let stored_since = Timestamp::parse(minutes["stored_since"].as_str().unwrap()).unwrap();
    let age = Timestamp::now().saturating_since(stored_since);
    assert!((3_600..3_680).contains(&age.as_secs()), "{age:?}");
}

#[test]
fn response_states_the_time_range_that_its_buckets_cover() {
    let collector = Setup::metrics_collector().start();
    for (resolution, width_s) in [("minute", 60), ("hour", 3_600)] {
        let before = Timestamp::now();
        let body = query(&collector, &format!("name=n&period=30s&resolution={resolution}"));
        let [since, until] = ["since", "until"].map(|name| Timestamp::parse(body[name].as_str().unwrap()).unwrap());
        assert!(since <= before - Duration::from_secs(30) && until > before, "{body}");
        let covered_s = until.saturating_since(since).as_secs();
        assert!(covered_s.is_multiple_of(width_s) && covered_s <= 2 * width_s, "{body}");
    }
    let body = query(&collector, "name=n&since=2026-11-30T10:00:30Z&until=2026-11-30T10:02:00Z&resolution=minute");
    assert_eq!((&body["since"], &body["until"]), (&json!("2026-11-30T10:00:00Z"), &json!("2026-11-30T10:02:00Z")));
}

#[test]
fn label_filters_can_contain_any_name_and_value() {
    let collector = Setup::metrics_collector().start();
    let labels = [("a", "x,y"), ("ns:key", "v"), ("b", " blanks "), ("c", "two\nlines"), ("d", "{\"\\,:}"), ("e", "é")];
    send_points(&collector, &labels.map(|(name, value)| point("n", "counter", 1.0, json!({ name: value }))));
    for (name, value) in labels {
        let filter = json!({ name: value }).to_string();
        let body = query(&collector, &format!("name=n&resolution=hour&labels={}", percent_encode(&filter)));
        assert_eq!(body["data"][0]["count"], 1, "{filter}");
    }
    assert_eq!(query(&collector, "name=n&labels=%7B%22a%22:%22x%22%7D")["data"], json!([]));
    collector.get("/api/metrics?name=n&labels=%7B%22a%22:1%7D").expect(400).has_detail("labels");
}

#[test]
fn percentiles_at_the_ends_are_the_exact_minimum_and_maximum() {
    let collector = Setup::metrics_collector().start();
    send_points(&collector, &[0.0, 1_000.0].map(|value| past("ms", "histogram", value, json!({}))));
    let bucket = last_hour(&collector, "name=ms");
    assert_eq!(["p50", "p95", "p99"].map(|field| bucket[field].as_f64().unwrap()), [0.0, 1_000.0, 1_000.0]);
}

#[test]
fn gauge_leaves_the_federation_after_its_lifetime() {
    for (lifetime, is_exported) in [(None, false), (Some(10), true)] {
        let collector = lifetime
            .into_iter()
            .fold(Setup::metrics_collector(), |setup, minutes| setup.env("GAUGE_LIFETIME", minutes));
        let collector = collector.start();
        let at = |name: &str, kind: &str, minutes: u64| {
            with(point(name, kind, 7.0, json!({})), "timestamp", json!(minutes_ago(minutes)))
        };
        send_points(&collector, &[at("old", "gauge", 6), at("new", "gauge", 4), at("sold", "counter", 600)]);
        let text = collector.get("/federate").expect(200).text();
        assert_eq!(text.contains("\nold 7\n"), is_exported, "{text}");
        assert!(text.contains("\nnew 7\n") && text.contains("\nsold 7\n"), "{text}");
    }
}

#[test]
fn metric_names_in_any_alphabet_are_found_and_stay_apart() {
    let collector = Setup::metrics_collector().start();
    send_points(
        &collector,
        &[("заказы", 1.0), ("оплаты", 2.0), ("orders", 4.0)]
            .map(|(name, value)| point(name, "counter", value, json!({}))),
    );
    let found = |search: &str| {
        let body = collector.get(&format!("/api/metrics/names?search={}", percent_encode(search))).expect(200).json();
        body["metrics"]
            .as_array()
            .unwrap()
            .iter()
            .map(|metric| metric["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (found("ЗАКАЗ"), found("ORD"), found("ы")),
        (vec!["заказы".into()], vec!["orders".into()], vec!["заказы".into(), "оплаты".into()])
    );
    assert_eq!(query(&collector, &format!("name={}", percent_encode("оплаты")))["data"][0]["sum"], 2.0);
    let text = collector.get("/federate").expect(200).text();
    let values: Vec<&str> =
        text.lines().filter(|line| !line.starts_with('#')).map(|line| line.rsplit_once(' ').unwrap().1).collect();
    assert_eq!(values.len(), 3, "{text}");
}
