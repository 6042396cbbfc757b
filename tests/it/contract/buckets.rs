//! Contract of `GET /api/metrics`, `/api/metrics/names` and `/api/metrics/labels`: filters, periods, resolutions and
//! fields.

use std::time::Duration;

use monlight::clock::Timestamp;
use serde_json::{Value, json};

use super::{Case, assert_cases, minutes_ago};
use crate::support::collector::{assert_close, nearest_rank, send_points, wait_for_rollup};
use crate::support::harness::{Request, Service, Setup};

/// Resolutions and the widths of their buckets, in milliseconds.
pub(super) const RESOLUTIONS: [(&str, i64); 2] = [("minute", 60_000), ("hour", 3_600_000)];

/// Returns the start of the bucket that contains a timestamp, in the format of the API.
pub(super) fn bucket_start(at: Timestamp, width_ms: i64) -> String {
    Timestamp::from_ms(at.ms() - at.ms().rem_euclid(width_ms)).to_string()
}

/// Returns the buckets of a query. Asserts that each starts at a full minute or hour and that none occurs twice.
#[track_caller]
pub(super) fn query_buckets(collector: &Service, query: &str) -> Vec<Value> {
    let body = collector.get(&format!("/api/metrics?{query}")).expect(200).json();
    let (_, ms) = RESOLUTIONS.into_iter().find(|(resolution, _)| body["resolution"] == *resolution).unwrap();
    let data = body["data"].as_array().unwrap().clone();
    assert_bucket_starts(&data, ms);
    data
}

#[track_caller]
fn assert_bucket_starts(data: &[Value], width_ms: i64) {
    let starts: Vec<&str> = data.iter().map(|bucket| bucket["bucket"].as_str().unwrap()).collect();
    assert!(starts.is_sorted_by(|one, other| one < other), "{starts:?}");
    for start in starts {
        assert_eq!(bucket_start(Timestamp::parse(start).unwrap(), width_ms), start);
    }
}

/// Returns the number of points in all buckets of a query.
#[track_caller]
fn count_points(collector: &Service, query: &str) -> u64 {
    query_buckets(collector, query).iter().map(|bucket| bucket["count"].as_u64().unwrap()).sum()
}

fn point(name: &str, kind: &str, value: f64, labels: Value) -> Value {
    json!({ "name": name, "type": kind, "value": value, "labels": labels })
}

#[test]
fn fields_parameter_selects_bucket_fields() {
    for rollups_s in [86_400, 1] {
        let collector = Setup::metrics_collector().env("AGGREGATION_INTERVAL", rollups_s).start();
        send_points(&collector, &[2.0, 4.0].map(|value| point("took", "histogram", value, json!({}))));
        send_points(&collector, &[3.0, 1.0].map(|value| point("depth", "gauge", value, json!({}))));
        if rollups_s == 1 {
            wait_for_rollup(&collector.data_dir);
        }
        // The two points may fall into different minutes. Per hour, both are in one bucket unless the hour just ended;
        // the last bucket is compared.
        let last_bucket = |query: &str| {
            let mut bucket = query_buckets(&collector, &format!("resolution=hour&{query}")).pop().unwrap();
            bucket.as_object_mut().unwrap().remove("bucket").expect("every bucket has a start");
            bucket
        };
        assert_eq!(last_bucket("name=took&fields=sum,count"), json!({ "count": 2, "sum": 6.0 }));
        assert_eq!(last_bucket("name=depth&fields=last,max"), json!({ "max": 3.0, "last": 1.0 }));
        assert_eq!(last_bucket("name=took&fields=last,min"), json!({ "min": 2.0 }));
        let percentiles = last_bucket("name=took&fields=p99,%20p50");
        assert_eq!(percentiles.as_object().unwrap().len(), 2);
        assert_close(&percentiles["p50"], 2.0);
        assert_close(&percentiles["p99"], 4.0);
        let grouped = collector.get("/api/metrics?name=took&fields=count&group_by=shop").expect(200).json();
        assert_eq!(grouped["groups"][0]["data"][0].as_object().unwrap().len(), 2);
        for fields in ["sums", "sum,", "sum;count"] {
            collector.get(&format!("/api/metrics?name=took&fields={fields}")).expect(400).has_detail("fields");
        }
    }
}

#[test]
fn period_accepts_any_duration_and_selects_the_resolution() {
    let old = Setup::metrics_collector().env("AGGREGATION_INTERVAL", 1).start();
    send_points(
        &old,
        &[point("three_days", "counter", 1.0, json!({})), point("twenty_days", "counter", 1.0, json!({}))],
    );
    wait_for_rollup(&old.data_dir);
    let data_dir = old.kill();
    // The API does not accept points older than a day, so the rolled-up points are made older in the database.
    let database = rusqlite::Connection::open(data_dir.path().join("metrics.db")).unwrap();
    database
        .execute_batch(
            "UPDATE series_hours SET at_h = at_h - 24
                 * (SELECT iif(name = 'three_days', 3, 20) FROM series_keys WHERE id = series_id);
             UPDATE series SET labels = '{\"age\":\"' || name || '\"}', metric_id = (SELECT min(id) FROM metrics)
                 FROM metrics WHERE metrics.id = series.metric_id AND metrics.name LIKE '%days';
             UPDATE metrics SET name = 'n' WHERE id = (SELECT min(id) FROM metrics);
             DELETE FROM series_minutes;",
        )
        .unwrap();
    drop(database);
    let collector = Setup::metrics_collector().data_dir(&data_dir).start();
    let late = [4, 7, 55, 65, 5 * 60, 23 * 60].map(minutes_ago);
    send_points(&collector, &late.map(|at| json!({ "name": "n", "type": "counter", "value": 1, "timestamp": at })));
    send_points(&collector, &[point("n", "counter", 1.0, json!({}))]);
    for (query, period, resolution, count) in [
        ("", "24h", "minute", 7),
        ("&period=", "24h", "minute", 7),
        ("&period=30s", "30s", "minute", 1),
        ("&period=5m", "5m", "minute", 2),
        ("&period=300s", "300s", "minute", 2),
        ("&period=1h", "1h", "minute", 4),
        ("&period=90m", "90m", "minute", 5),
        ("&period=24h", "24h", "minute", 7),
        ("&period=86400s", "86400s", "minute", 7),
        ("&period=1d", "1d", "minute", 7),
        ("&period=86401s", "86401s", "hour", 7),
        ("&period=25h", "25h", "hour", 7),
        ("&period=7d", "7d", "hour", 8),
        ("&period=30d", "30d", "hour", 9),
        ("&period=99999d", "99999d", "hour", 9),
        ("&period=24h&resolution=auto", "24h", "minute", 7),
        ("&period=7d&resolution=auto", "7d", "hour", 8),
        ("&period=7d&resolution=minute", "7d", "minute", 7),
        ("&period=24h&resolution=hour", "24h", "hour", 7),
        ("&period=7d&resolution=hour", "7d", "hour", 8),
    ] {
        let body = collector.get(&format!("/api/metrics?name=n{query}")).expect(200).json();
        let header = [&body["name"], &body["period"], &body["resolution"]];
        assert_eq!(header, ["n", period, resolution], "{query}");
        assert_eq!(count_points(&collector, &format!("name=n{query}")), count, "{query}");
    }
    // With the resolution `hour`, the first hour is counted completely, even if the period starts within it.
    let hour_old = Timestamp::now() - Duration::from_secs(3_600);
    let since_s = hour_old.ms().rem_euclid(3_600_000) / 1_000 + 3_600;
    let expected: u64 = [0, 4, 7, 55, 65].into_iter().filter(|minutes| minutes * 60 < since_s).count() as u64;
    let count = count_points(&collector, "name=n&period=1h&resolution=hour");
    assert!(count.abs_diff(expected) <= 1, "{count} points, expected {expected}");
}

#[test]
fn invalid_query_parameters_are_rejected_by_name() {
    let service = Setup::metrics_collector().start();
    let span = json!("Field 'period' must be a duration such as 30s, 5m, 1h, 24h, 7d or 30d");
    let request = |query: &str| Request::get(&format!("/api/metrics?{query}"));
    let mut cases: Vec<Case> = ["0s", "h", "1", "1w", "-1h", "1.5h", "1%20h", "1h30m", "99999999999999999999d", "ä"]
        .map(|period| (period, request(&format!("name=n&period={period}")), 400, span.clone()))
        .into();
    let pairs = json!("Field 'labels' must be name:value,name:value or a JSON object of strings");
    cases.extend([
        ("no name", request(""), 400, json!("Field 'name' is required")),
        ("empty name", request("name="), 400, json!("Field 'name' is required")),
        ("labels without a value", request("name=n&labels=a"), 400, pairs.clone()),
        ("second label without a value", request("name=n&labels=a:1,b"), 400, pairs),
        ("unknown metric", request("name=n"), 200, json!({ "data": [] })),
    ]);
    assert_cases(&service, cases);
}

#[test]
fn label_filters_match_series_with_all_labels_in_any_order() {
    let collector = Setup::metrics_collector().env("AGGREGATION_INTERVAL", 1).start();
    let mut points = Vec::new();
    for (labels, project, count) in [
        (json!({ "path": "/cart", "shop": "east", "ok": true }), "shop", 1),
        (json!({ "shop": "east", "path": "/cart", "ok": false }), "shop", 2),
        (json!({ "path": "/cart", "shop": "west" }), "shop", 4),
        (json!({ "path": "/a:b c/ä", "shop": "east" }), "shop", 8),
        (json!({ "path": "/cart" }), "blog", 16),
        (json!({}), "", 32),
    ] {
        let point = json!({ "name": "n", "type": "counter", "value": 1, "labels": labels, "project": project });
        points.extend(vec![point; count]);
    }
    send_points(&collector, &points);
    let check = || {
        for (query, count) in [
            ("", 63),
            ("&labels=", 63),
            ("&labels=path:/cart", 23),
            ("&labels=path:%2Fcart", 23),
            ("&labels=shop:east", 11),
            ("&labels=shop:east,path:/cart", 3),
            ("&labels=path:/cart,shop:east", 3),
            ("&labels=path:/cart,%20shop:east%20,", 3),
            ("&labels=ok:true,path:/cart,shop:east", 1),
            ("&labels=path:/a:b+c/%C3%A4", 8),
            ("&labels=path:/cart,path:/cart", 23),
            ("&labels=path:/cart,path:/", 0),
            ("&labels=shop:eas", 0),
            ("&labels=shop:", 0),
            ("&labels=SHOP:east", 0),
            ("&labels=nothing:east", 0),
            ("&project=shop", 15),
            ("&project=blog", 16),
            ("&project=", 63),
            ("&project=sho", 0),
            ("&project=blog&labels=path:/cart", 16),
            ("&project=blog&labels=shop:east", 0),
        ] {
            for (resolution, _) in RESOLUTIONS {
                assert_eq!(
                    count_points(&collector, &format!("name=n{query}&resolution={resolution}")),
                    count,
                    "{query}"
                );
            }
        }
    };
    check();
    wait_for_rollup(&collector.data_dir);
    check();
}

#[test]
fn group_by_returns_fifty_label_values_and_other() {
    let collector = Setup::metrics_collector().env("AGGREGATION_INTERVAL", 1).start();
    let shop =
        |shop: usize| vec![point("ms", "histogram", shop as f64, json!({ "shop": shop, "half": shop % 2 })); shop];
    send_points(&collector, &(1..=60).flat_map(shop).collect::<Vec<_>>());
    send_points(&collector, &[json!({ "name": "ms", "type": "histogram", "value": 500, "project": "blog" })]);
    let check = || {
        let body = collector.get("/api/metrics?name=ms&period=1h&group_by=shop").expect(200).json();
        assert_eq!(body["data"], json!([]));
        let groups = body["groups"].as_array().unwrap();
        assert_eq!(groups.len(), 51);
        for (group, shop) in groups[..50].iter().zip((11..=60).rev()) {
            assert_eq!(group["value"], shop.to_string());
            assert_bucket_starts(group["data"].as_array().unwrap(), 60_000);
            let count: u64 = group["data"].as_array().unwrap().iter().map(|at| at["count"].as_u64().unwrap()).sum();
            assert_eq!(count, shop);
            assert_close(&group["data"][0]["p50"], shop as f64);
        }
        assert_eq!(groups[50]["value"], "other");
        let others = groups[50]["data"].as_array().unwrap();
        assert_bucket_starts(others, 60_000);
        let sum_of = |field: &str| others.iter().map(|bucket| bucket[field].as_f64().unwrap()).sum::<f64>();
        let value_without_label = 500.0;
        assert_eq!(
            (sum_of("count"), sum_of("sum")),
            (55.0 + 1.0, (1..=10).map(|n| f64::from(n * n)).sum::<f64>() + value_without_label)
        );

        let values = |query: &str| -> Vec<String> {
            let body = collector.get(&format!("/api/metrics?name=ms&{query}")).expect(200).json();
            body["groups"].as_array().unwrap().iter().map(|group| group["value"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(values("group_by=half"), ["0", "1", ""], "series without the label form their own group");
        assert_eq!(values("group_by=half&project=blog"), [""]);
        assert_eq!(values("group_by=shop&labels=shop:7"), ["7"]);
        assert!(values("group_by=shop&labels=shop:61").is_empty());
    };
    check();
    wait_for_rollup(&collector.data_dir);
    check();
}

#[test]
fn bucket_fields_depend_on_the_metric_type() {
    let collector = Setup::metrics_collector().env("AGGREGATION_INTERVAL", 1).start();
    let at = (Timestamp::now() - Duration::from_secs(2 * 3_600)).ms().div_euclid(3_600_000) * 3_600_000;
    let timestamp = |seconds: i64| Timestamp::from_ms(at + seconds * 1_000).to_string();
    let values = [-4.0, 0.0, 2.5, 1_000.0, 7.0];
    // The latest value is not sent last, and two values have the same timestamp.
    let seconds = [10, 50, 50, 20, 30];
    for (value, second) in values.into_iter().zip(seconds) {
        let item = |name: &str, kind: &str| json!({ "name": name, "type": kind, "value": value, "timestamp": timestamp(second) });
        let items = ["counter", "gauge", "histogram"].map(|kind| item(kind, kind));
        send_points(&collector, &items);
        send_points(&collector, &[item("both", "histogram"), item("both", "counter")]);
        // The next values update existing rows.
        wait_for_rollup(&collector.data_dir);
    }
    for (resolution, _) in RESOLUTIONS {
        for (name, times, last) in
            [("counter", 1.0, None), ("gauge", 1.0, Some(2.5)), ("histogram", 1.0, None), ("both", 1.0, None)]
        {
            let buckets = query_buckets(&collector, &format!("name={name}&resolution={resolution}"));
            assert_eq!(buckets.len(), 1, "{buckets:?}");
            let (sum, count) = (values.iter().sum::<f64>() * times, values.len() as f64 * times);
            let expected =
                [timestamp(0).into(), json!(count as u64), json!(sum), json!(-4.0), json!(1_000.0), json!(sum / count)];
            let fields = ["bucket", "count", "sum", "min", "max", "avg"];
            assert_eq!(fields.map(|field| buckets[0][field].clone()), expected, "{name}");
            assert_eq!(buckets[0]["last"].as_f64(), last, "{name} per {resolution}");
            for (field, q) in [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)] {
                assert!(buckets[0].get(field).is_some(), "the bucket lacks {field}");
                match name {
                    "histogram" | "both" => assert_close(&buckets[0][field], nearest_rank(&values, q)),
                    _ => assert_eq!(buckets[0][field], Value::Null, "{field} of {name}"),
                }
            }
        }
    }
}

#[test]
fn current_minute_and_hour_include_the_newest_points() {
    let collector = Setup::metrics_collector().env("AGGREGATION_INTERVAL", 1).start();
    for round in 1..=3 {
        let before = Timestamp::now();
        send_points(&collector, &vec![point("ms", "histogram", 5.0, json!({})); 10]);
        let check = || {
            for (resolution, ms) in RESOLUTIONS {
                let buckets = query_buckets(&collector, &format!("name=ms&period=1h&resolution={resolution}"));
                let newest = buckets.last().unwrap();
                let now = [bucket_start(before, ms), bucket_start(Timestamp::now(), ms)];
                assert!(now.iter().any(|start| newest["bucket"] == **start), "{newest} at {now:?}");
                assert_eq!(buckets.iter().map(|bucket| bucket["count"].as_u64().unwrap()).sum::<u64>(), round * 10);
                assert_close(&newest["p99"], 5.0);
            }
        };
        check();
        wait_for_rollup(&collector.data_dir);
        check();
    }
}

#[test]
fn repeated_queries_return_identical_responses() {
    let collector = Setup::metrics_collector().start();
    let at = minutes_ago(60);
    let point = |shop: i32| json!({ "name": "depth", "type": "gauge", "value": f64::from(shop) / 10.0, "labels": { "shop": shop }, "timestamp": at });
    // All points have the same timestamp, as from a client that reports whole seconds.
    send_points(&collector, &(1..=30).map(point).collect::<Vec<_>>());
    let query = || collector.get("/api/metrics?name=depth").expect(200).text();
    let first = query();
    for _ in 0..10 {
        assert_eq!(query(), first);
    }
}

#[test]
fn names_and_projects_are_listed_once_and_sorted() {
    let collector = Setup::metrics_collector().start();
    let mut points = Vec::new();
    for (name, kind, project) in [
        ("orders", "counter", "shop"),
        ("orders", "counter", "blog"),
        ("orders", "gauge", "blog"),
        ("depth", "gauge", "shop"),
        ("views", "histogram", ""),
    ] {
        for page in 0..3 {
            points.push(
                json!({ "name": name, "type": kind, "value": 1, "project": project, "labels": { "page": page } }),
            );
        }
    }
    send_points(&collector, &points);
    let metrics = |list: &[(&str, &str)]| {
        let metrics: Vec<Value> = list.iter().map(|(name, kind)| json!({ "name": name, "type": kind })).collect();
        json!({ "metrics": metrics })
    };
    let all = [("depth", "gauge"), ("orders", "counter"), ("orders", "gauge"), ("views", "histogram")];
    for (query, expected) in [
        ("", metrics(&all)),
        ("?project=", metrics(&all)),
        ("?project=shop", metrics(&[("depth", "gauge"), ("orders", "counter")])),
        ("?project=blog", metrics(&[("orders", "counter"), ("orders", "gauge")])),
        ("?project=unknown", metrics(&[])),
    ] {
        assert_eq!(collector.get(&format!("/api/metrics/names{query}")).expect(200).json(), expected, "{query}");
    }
    assert_eq!(collector.get("/api/projects").expect(200).json(), json!({ "projects": ["blog", "shop"] }));
}

#[test]
fn dropped_labels_do_not_create_series() {
    for (dropped, series, sessions, pages) in
        [("session_id", 2, 0, 30), ("session_id, page", 1, 0, 0), ("other", 60, 1, 30), (",", 60, 1, 30)]
    {
        let collector =
            Setup::metrics_collector().env("ROLLUP_DROP_LABELS", dropped).env("AGGREGATION_INTERVAL", 1).start();
        let view =
            |view: i32| point("ms", "histogram", 1.0, json!({ "session_id": format!("s{view}"), "page": view % 2 }));
        send_points(&collector, &(0..60).map(view).collect::<Vec<_>>());
        collector.get("/health").expect(200).has(json!({ "series": series }));
        let check = || {
            let count = |labels: &str| count_points(&collector, &format!("name=ms&labels={labels}"));
            assert_eq!([count(""), count("session_id:s7"), count("page:1")], [60, sessions, pages], "{dropped}");
        };
        check();
        wait_for_rollup(&collector.data_dir);
        check();
    }
}

#[test]
fn labels_are_listed_with_their_first_100_values() {
    let collector = Setup::metrics_collector().start();
    collector.get("/api/metrics/labels?name=ms").expect(200).has(json!({ "labels": [] }));
    collector.get("/api/metrics/labels").expect(400).has_detail("name");
    fn item(name: &str, project: &str, labels: Value) -> Value {
        json!({ "name": name, "type": "histogram", "value": 1, "project": project, "labels": labels })
    }
    let post = |n: u32| item("ms", "blog", json!({ "post": format!("{n:03}") }));
    send_points(&collector, &(0..150).map(post).collect::<Vec<_>>());
    send_points(
        &collector,
        &[
            item("ms", "shop", json!({ "shop": "west", "fast": true, "session_id": "s" })),
            item("ms", "shop", json!({ "shop": "east \"1\"" })),
            item("other", "shop", json!({ "of": "another metric" })),
        ],
    );
    let label = |name: &str, values: &[&str]| json!({ "name": name, "values": values });
    let expected = [label("fast", &["true"]), label("shop", &["east \"1\"", "west"])];
    let body = collector.get("/api/metrics/labels?name=ms&project=shop").expect(200).json();
    assert_eq!(body, json!({ "labels": expected }));
    let body = collector.get("/api/metrics/labels?name=ms").expect(200).json();
    let names: Vec<&Value> = body["labels"].as_array().unwrap().iter().map(|label| &label["name"]).collect();
    assert_eq!(names, ["fast", "post", "shop"]);
    let posts = body["labels"][1]["values"].as_array().unwrap();
    assert_eq!((posts.len(), posts[0].as_str(), posts[99].as_str()), (100, Some("000"), Some("099")));
}
