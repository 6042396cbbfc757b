//! `GET /api/metrics` and the lists beside it: which points an answer holds, and what it says of them.

use std::time::Duration;

use monlight::clock::Timestamp;
use serde_json::{Value, json};

use super::{Case, hold, minutes_ago};
use crate::collector::{close, nearest_rank, send, wait_for_rollup};
use crate::harness::{Request, Service, Setup};

/// Resolutions and how wide their buckets are, in ms.
pub(super) const RESOLUTIONS: [(&str, i64); 2] = [("minute", 60_000), ("hour", 3_600_000)];

/// The bucket a moment lies in, as it is answered.
pub(super) fn start_of(at: Timestamp, ms: i64) -> String {
    Timestamp::from_ms(at.ms() - at.ms().rem_euclid(ms)).to_string()
}

/// The buckets of a query, each a whole minute or hour and none of them twice.
#[track_caller]
pub(super) fn data(collector: &Service, query: &str) -> Vec<Value> {
    let body = collector.get(&format!("/api/metrics?{query}")).expect(200).json();
    let (_, ms) = RESOLUTIONS.into_iter().find(|(resolution, _)| body["resolution"] == *resolution).unwrap();
    let data = body["data"].as_array().unwrap().clone();
    check_buckets(&data, ms);
    data
}

#[track_caller]
fn check_buckets(data: &[Value], ms: i64) {
    let starts: Vec<&str> = data.iter().map(|bucket| bucket["bucket"].as_str().unwrap()).collect();
    assert!(starts.is_sorted_by(|one, other| one < other), "{starts:?}");
    for start in starts {
        assert_eq!(start_of(Timestamp::parse(start).unwrap(), ms), start);
    }
}

/// How many points there are in all of a query's buckets.
#[track_caller]
fn counted(collector: &Service, query: &str) -> u64 {
    data(collector, query).iter().map(|bucket| bucket["count"].as_u64().unwrap()).sum()
}

fn of(name: &str, kind: &str, value: f64, labels: Value) -> Value {
    json!({ "name": name, "type": kind, "value": value, "labels": labels })
}

#[test]
fn only_what_is_asked_for_of_a_bucket_is_answered() {
    for rollups_s in [86_400, 1] {
        let collector = Setup::metrics_collector().env("AGGREGATION_INTERVAL", rollups_s).start();
        send(&collector, &[2.0, 4.0].map(|value| of("took", "histogram", value, json!({}))));
        send(&collector, &[3.0, 1.0].map(|value| of("depth", "gauge", value, json!({}))));
        if rollups_s == 1 {
            wait_for_rollup(&collector.folder);
        }
        // Both points of a pair may lie on two sides of a minute, so whole hours are asked for, and the last of two.
        let last = |query: &str| {
            let mut bucket = data(&collector, &format!("resolution=hour&{query}")).pop().unwrap();
            bucket.as_object_mut().unwrap().remove("bucket").expect("every bucket begins");
            bucket
        };
        assert_eq!(last("name=took&fields=sum,count"), json!({ "count": 2, "sum": 6.0 }));
        assert_eq!(last("name=depth&fields=last,max"), json!({ "max": 3.0, "last": 1.0 }));
        assert_eq!(last("name=took&fields=last,min"), json!({ "min": 2.0 }));
        let percentiles = last("name=took&fields=p99,%20p50");
        assert_eq!(percentiles.as_object().unwrap().len(), 2);
        close(&percentiles["p50"], 2.0);
        close(&percentiles["p99"], 4.0);
        let apart = collector.get("/api/metrics?name=took&fields=count&group_by=shop").expect(200).json();
        assert_eq!(apart["groups"][0]["data"][0].as_object().unwrap().len(), 2);
        for fields in ["sums", "sum,", "sum;count"] {
            collector.get(&format!("/api/metrics?name=took&fields={fields}")).expect(400).says("fields");
        }
    }
}

#[test]
fn a_period_is_any_span_and_sets_the_resolution() {
    let old = Setup::metrics_collector().env("AGGREGATION_INTERVAL", 1).start();
    send(&old, &[of("three_days", "counter", 1.0, json!({})), of("twenty_days", "counter", 1.0, json!({}))]);
    wait_for_rollup(&old.folder);
    let folder = old.kill();
    // Nobody can report what is older than a day; so what was rolled up is made older.
    let database = rusqlite::Connection::open(folder.path().join("metrics.db")).unwrap();
    database
        .execute_batch(
            "UPDATE hours SET bucket = bucket - 24 * (SELECT iif(name = 'three_days', 3, 20) FROM series WHERE id = series_id);
             UPDATE OR IGNORE series SET name = 'n', labels = '{\"age\":\"' || name || '\"}';
             DELETE FROM minutes;",
        )
        .unwrap();
    drop(database);
    let collector = Setup::metrics_collector().folder(&folder).start();
    let late = [4, 7, 55, 65, 5 * 60, 23 * 60].map(minutes_ago);
    send(&collector, &late.map(|at| json!({ "name": "n", "type": "counter", "value": 1, "timestamp": at })));
    send(&collector, &[of("n", "counter", 1.0, json!({}))]);
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
        let said = [&body["name"], &body["period"], &body["resolution"]];
        assert_eq!(said, ["n", period, resolution], "{query}");
        assert_eq!(counted(&collector, &format!("name=n{query}")), count, "{query}");
    }
    // An hour is answered whole, however short the period.
    let hour_old = Timestamp::now() - Duration::from_secs(3_600);
    let since_s = hour_old.ms().rem_euclid(3_600_000) / 1_000 + 3_600;
    let whole: u64 = [0, 4, 7, 55, 65].into_iter().filter(|minutes| minutes * 60 < since_s).count() as u64;
    let found = counted(&collector, "name=n&period=1h&resolution=hour");
    assert!(found.abs_diff(whole) <= 1, "{found} for {whole}");
}

#[test]
fn what_cannot_be_asked_is_refused_with_the_name_of_it() {
    let service = Setup::metrics_collector().start();
    let span = json!("Field 'period' must be a span such as 30s, 5m, 1h, 24h, 7d or 30d");
    let ask = |query: &str| Request::get(&format!("/api/metrics?{query}"));
    let mut cases: Vec<Case> = ["0s", "h", "1", "1w", "-1h", "1.5h", "1%20h", "1h30m", "99999999999999999999d", "ä"]
        .map(|period| (period, ask(&format!("name=n&period={period}")), 400, span.clone()))
        .into();
    let pairs = json!("Field 'labels' must be name:value,name:value");
    cases.extend([
        ("no name", ask(""), 400, json!("Field 'name' is required")),
        ("an empty name", ask("name="), 400, json!("Field 'name' is required")),
        ("labels: no pair", ask("name=n&labels=a"), 400, pairs.clone()),
        ("labels: one pair and a half", ask("name=n&labels=a:1,b"), 400, pairs),
        ("a metric that is not there", ask("name=n"), 200, json!({ "data": [] })),
    ]);
    hold(&service, cases);
}

#[test]
fn a_series_must_carry_all_labels_in_any_order() {
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
    send(&collector, &points);
    let hold = || {
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
                assert_eq!(counted(&collector, &format!("name=n{query}&resolution={resolution}")), count, "{query}");
            }
        }
    };
    hold();
    wait_for_rollup(&collector.folder);
    hold();
}

#[test]
fn each_value_of_a_label_is_answered_apart_and_those_beyond_fifty_together() {
    let collector = Setup::metrics_collector().env("AGGREGATION_INTERVAL", 1).start();
    let shop = |shop: usize| vec![of("ms", "histogram", shop as f64, json!({ "shop": shop, "half": shop % 2 })); shop];
    send(&collector, &(1..=60).flat_map(shop).collect::<Vec<_>>());
    send(&collector, &[json!({ "name": "ms", "type": "histogram", "value": 500, "project": "blog" })]);
    let check = || {
        let body = collector.get("/api/metrics?name=ms&period=1h&group_by=shop").expect(200).json();
        assert_eq!(body["data"], json!([]));
        let groups = body["groups"].as_array().unwrap();
        assert_eq!(groups.len(), 51);
        for (group, shop) in groups[..50].iter().zip((11..=60).rev()) {
            assert_eq!(group["value"], shop.to_string());
            check_buckets(group["data"].as_array().unwrap(), 60_000);
            let count: u64 = group["data"].as_array().unwrap().iter().map(|at| at["count"].as_u64().unwrap()).sum();
            assert_eq!(count, shop);
            close(&group["data"][0]["p50"], shop as f64);
        }
        assert_eq!(groups[50]["value"], "other");
        let others = groups[50]["data"].as_array().unwrap();
        check_buckets(others, 60_000);
        let total = |field: &str| others.iter().map(|bucket| bucket[field].as_f64().unwrap()).sum::<f64>();
        let without = 500.0;
        assert_eq!(
            (total("count"), total("sum")),
            (55.0 + 1.0, (1..=10).map(|n| f64::from(n * n)).sum::<f64>() + without)
        );

        let values = |query: &str| -> Vec<String> {
            let body = collector.get(&format!("/api/metrics?name=ms&{query}")).expect(200).json();
            body["groups"].as_array().unwrap().iter().map(|group| group["value"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(values("group_by=half"), ["0", "1", ""], "what lacks the label is a group of its own");
        assert_eq!(values("group_by=half&project=blog"), [""]);
        assert_eq!(values("group_by=shop&labels=shop:7"), ["7"]);
        assert!(values("group_by=shop&labels=shop:61").is_empty());
    };
    check();
    wait_for_rollup(&collector.folder);
    check();
}

#[test]
fn what_is_said_of_a_bucket_depends_on_the_type() {
    let collector = Setup::metrics_collector().env("AGGREGATION_INTERVAL", 1).start();
    let at = (Timestamp::now() - Duration::from_secs(2 * 3_600)).ms().div_euclid(3_600_000) * 3_600_000;
    let moment = |seconds: i64| Timestamp::from_ms(at + seconds * 1_000).to_string();
    let values = [-4.0, 0.0, 2.5, 1_000.0, 7.0];
    // The gauge's latest value comes second, and there are two of one moment.
    let seconds = [10, 50, 50, 20, 30];
    for (value, second) in values.into_iter().zip(seconds) {
        let item =
            |name: &str, kind: &str| json!({ "name": name, "type": kind, "value": value, "timestamp": moment(second) });
        let items = ["counter", "gauge", "histogram"].map(|kind| item(kind, kind));
        send(&collector, &items);
        send(&collector, &[item("both", "histogram"), item("both", "counter")]);
        // The next values meet a row.
        wait_for_rollup(&collector.folder);
    }
    for (resolution, _) in RESOLUTIONS {
        for (name, times, last) in
            [("counter", 1.0, None), ("gauge", 1.0, Some(2.5)), ("histogram", 1.0, None), ("both", 2.0, None)]
        {
            let found = data(&collector, &format!("name={name}&resolution={resolution}"));
            assert_eq!(found.len(), 1, "{found:?}");
            let of = |field: &str| found[0][field].as_f64();
            let (sum, count) = (values.iter().sum::<f64>() * times, values.len() as f64 * times);
            let expected =
                [moment(0).into(), json!(count as u64), json!(sum), json!(-4.0), json!(1_000.0), json!(sum / count)];
            let fields = ["bucket", "count", "sum", "min", "max", "avg"];
            assert_eq!(fields.map(|field| found[0][field].clone()), expected, "{name}");
            assert_eq!(of("last"), last, "{name} by the {resolution}");
            for (field, q) in [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)] {
                assert!(found[0].get(field).is_some(), "{field} is there");
                match name {
                    "histogram" => close(&found[0][field], nearest_rank(&values, q)),
                    _ => assert_eq!(found[0][field], Value::Null, "{field} of {name}"),
                }
            }
        }
    }
}

#[test]
fn the_minute_and_the_hour_that_are_not_over_are_answered_as_they_grow() {
    let collector = Setup::metrics_collector().env("AGGREGATION_INTERVAL", 1).start();
    for round in 1..=3 {
        let before = Timestamp::now();
        send(&collector, &vec![of("ms", "histogram", 5.0, json!({})); 10]);
        let check = || {
            for (resolution, ms) in RESOLUTIONS {
                let found = data(&collector, &format!("name=ms&period=1h&resolution={resolution}"));
                let newest = found.last().unwrap();
                let now = [start_of(before, ms), start_of(Timestamp::now(), ms)];
                assert!(now.iter().any(|start| newest["bucket"] == **start), "{newest} at {now:?}");
                assert_eq!(found.iter().map(|bucket| bucket["count"].as_u64().unwrap()).sum::<u64>(), round * 10);
                close(&newest["p99"], 5.0);
            }
        };
        check();
        wait_for_rollup(&collector.folder);
        check();
    }
}

#[test]
fn the_same_question_has_the_same_answer() {
    let collector = Setup::metrics_collector().start();
    let at = minutes_ago(60);
    let point = |shop: i32| json!({ "name": "depth", "type": "gauge", "value": f64::from(shop) / 10.0, "labels": { "shop": shop }, "timestamp": at });
    // As from a client whose times are whole seconds: all are of one moment.
    send(&collector, &(1..=30).map(point).collect::<Vec<_>>());
    let ask = || collector.get("/api/metrics?name=depth").expect(200).text();
    let first = ask();
    for _ in 0..10 {
        assert_eq!(ask(), first);
    }
}

#[test]
fn names_and_projects_are_listed_once_and_in_order() {
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
    send(&collector, &points);
    let named = |list: &[(&str, &str)]| {
        let metrics: Vec<Value> = list.iter().map(|(name, kind)| json!({ "name": name, "type": kind })).collect();
        json!({ "metrics": metrics })
    };
    let all = [("depth", "gauge"), ("orders", "counter"), ("orders", "gauge"), ("views", "histogram")];
    for (query, expected) in [
        ("", named(&all)),
        ("?project=", named(&all)),
        ("?project=shop", named(&[("depth", "gauge"), ("orders", "counter")])),
        ("?project=blog", named(&[("orders", "counter"), ("orders", "gauge")])),
        ("?project=nobody", named(&[])),
    ] {
        assert_eq!(collector.get(&format!("/api/metrics/names{query}")).expect(200).json(), expected, "{query}");
    }
    assert_eq!(collector.get("/api/projects").expect(200).json(), json!({ "projects": ["blog", "shop"] }));
}

#[test]
fn labels_that_are_dropped_tell_no_series_apart() {
    for (dropped, series, sessions, pages) in
        [("session_id", 2, 0, 30), ("session_id, page", 1, 0, 0), ("other", 60, 1, 30), (",", 60, 1, 30)]
    {
        let collector =
            Setup::metrics_collector().env("ROLLUP_DROP_LABELS", dropped).env("AGGREGATION_INTERVAL", 1).start();
        let view =
            |view: i32| of("ms", "histogram", 1.0, json!({ "session_id": format!("s{view}"), "page": view % 2 }));
        send(&collector, &(0..60).map(view).collect::<Vec<_>>());
        collector.get("/health").expect(200).has(json!({ "series": series }));
        let check = || {
            let count = |labels: &str| counted(&collector, &format!("name=ms&labels={labels}"));
            assert_eq!([count(""), count("session_id:s7"), count("page:1")], [60, sessions, pages], "{dropped}");
        };
        check();
        wait_for_rollup(&collector.folder);
        check();
    }
}

#[test]
fn labels_are_listed_with_their_first_values() {
    let collector = Setup::metrics_collector().start();
    collector.get("/api/metrics/labels?name=ms").expect(200).has(json!({ "labels": [] }));
    collector.get("/api/metrics/labels").expect(400).says("name");
    fn item(name: &str, project: &str, labels: Value) -> Value {
        json!({ "name": name, "type": "histogram", "value": 1, "project": project, "labels": labels })
    }
    let wide = |n: u32| item("ms", "blog", json!({ "post": format!("{n:03}") }));
    send(&collector, &(0..150).map(wide).collect::<Vec<_>>());
    send(
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
