//! Isolation of projects in the metrics collector: whatever is sent with the browser key of a page, other projects and
//! servers keep their series, their names and their data.

use serde_json::{Value, json};

use crate::support::harness::{Request, Response, Service, Setup};

/// Returns a batch that the relay forwards for a browser key.
fn from_browser(points: &[Value]) -> Request {
    Request::post("/api/metrics", &json!(points)).header("X-Monlight-Key-Kind", "browser")
}

fn from_server(points: &[Value]) -> Request {
    Request::post("/api/metrics", &json!(points))
}

fn counter(project: &str, name: &str, labels: Value) -> Value {
    json!({ "name": name, "type": "counter", "value": 1, "project": project, "labels": labels })
}

/// Returns the sum of a metric over the last hours, with further parameters of the query.
fn sum(collector: &Service, query: &str) -> f64 {
    let response = collector.get(&format!("/api/metrics?{query}&period=2h")).expect(200).json();
    response["data"].as_array().unwrap().iter().map(|bucket| bucket["sum"].as_f64().unwrap()).sum()
}

/// Returns the usage of a project in a store, as `(rows, bytes)`.
fn usage(collector: &Service, store: &str, project: &str, kind: &str) -> (u64, u64) {
    let quota = collector.get("/api/quota").expect(200).json();
    let stores = quota["stores"].as_array().unwrap();
    let store = stores.iter().find(|found| found["name"] == store).unwrap();
    let projects = store["projects"].as_array().unwrap();
    let usage = projects.iter().find(|usage| usage["project"] == project && usage["key_kind"] == kind);
    usage.map_or((0, 0), |usage| (usage["rows"].as_u64().unwrap(), usage["bytes"].as_u64().unwrap()))
}

/// Returns the number of folded or rejected items of a project by reason.
fn rejections(collector: &Service, project: &str) -> Vec<(String, String, u64)> {
    let quota = collector.get("/api/quota").expect(200).json();
    let entries = quota["rejections"].as_array().unwrap().iter().filter(|entry| entry["project"] == project);
    let string = |value: &Value| value.as_str().unwrap().to_owned();
    entries.map(|entry| (string(&entry["store"]), string(&entry["reason"]), entry["count"].as_u64().unwrap())).collect()
}

#[test]
fn made_up_names_of_a_browser_leave_room_for_other_projects() {
    let collector = Setup::metrics_collector().start();
    let mut client = collector.connect();
    let mut folded = 0;
    for request in 0..20 {
        let points: Vec<Value> =
            (0..1_000).map(|n| counter("shop", &format!("junk_{request}_{n}"), json!({}))).collect();
        let accepted = client.send(&from_browser(&points)).expect(202).json();
        folded += accepted.get("folded").and_then(Value::as_u64).unwrap_or(0);
    }
    assert_eq!(usage(&collector, "series", "shop", "browser").0, 5_000, "a quarter of MAX_SERIES");
    assert_eq!(folded, 15_000, "the answers tell what was not stored as sent");
    assert_eq!(rejections(&collector, "shop"), [("metric_names".into(), "browser_share".into(), 15_000)]);

    // Other projects, and servers of the same project, are not affected.
    for (project, labels) in [("payments", json!({ "shop": "east" })), ("shop", json!({ "shop": "west" }))] {
        client.send(&from_server(&[counter(project, "orders_total", labels)])).expect(202).has(json!({ "count": 1 }));
    }
    client.send(&from_browser(&[counter("blog", "page_views", json!({ "source": "browser" }))])).expect(202);
    assert_eq!(sum(&collector, "name=orders_total&project=payments&labels=shop:east"), 1.0);
    assert_eq!(sum(&collector, "name=orders_total&project=shop&labels=shop:west"), 1.0);
    assert_eq!(sum(&collector, "name=page_views&project=blog"), 1.0);
    let names = collector.get("/api/metrics/names?project=payments").expect(200).json();
    assert_eq!(names, json!({ "metrics": [{ "name": "orders_total", "type": "counter" }] }));
    let labels = collector.get("/api/metrics/labels?name=orders_total&project=payments").expect(200).json();
    assert_eq!(labels, json!({ "labels": [{ "name": "shop", "values": ["east"] }] }));
    assert_eq!(collector.get("/api/projects").expect(200).json()["projects"], json!(["blog", "payments", "shop"]));
    // The rest of the attack is counted in the project's own overflow metric.
    assert_eq!(sum(&collector, "name=overflow&project=shop"), 15_000.0);
    let health = collector.get("/health").expect(200).json();
    let warnings = health["warnings"].as_array().unwrap();
    let warning = warnings.iter().find(|warning| warning["code"] == "metric_names_over_quota").unwrap();
    assert_eq!((&warning["project"], &warning["count"]), (&json!("shop"), &json!(15_000)), "{health}");
}

#[test]
fn made_up_labels_of_one_project_leave_room_for_the_metric_of_another() {
    let collector = Setup::metrics_collector().start();
    let mut client = collector.connect();
    let vital = |project: &str, page: &str| {
        json!({ "name": "web_vitals_lcp", "type": "histogram", "value": 9_000, "project": project,
            "labels": { "page": page, "source": "browser" } })
    };
    for request in 0..4 {
        let points: Vec<Value> = (0..600).map(|n| vital("blog", &format!("/made-up/x{request}-{n}"))).collect();
        client.send(&from_browser(&points)).expect(202);
    }
    client.send(&from_browser(&[vital("shop", "/checkout")])).expect(202);
    assert_eq!(sum(&collector, "name=web_vitals_lcp&project=shop&labels=page:/checkout"), 9_000.0);
    let dashboard = collector.get("/api/dashboard?project=shop").expect(200).json();
    let page = &dashboard["web_vitals"]["by_page"][0];
    assert_eq!((&page["page"], page["lcp"].is_number()), (&json!("/checkout"), true), "{dashboard}");
}

#[test]
fn browsers_take_no_series_of_a_server_metric() {
    let collector = Setup::metrics_collector().env("MAX_SERIES_PER_METRIC", 100).start();
    let mut client = collector.connect();
    let made_up: Vec<Value> = (0..300).map(|n| counter("shop", "orders_total", json!({ "shop": n }))).collect();
    client.send(&from_browser(&made_up)).expect(202).has(json!({ "folded": 200 }));
    client.send(&from_server(&[counter("shop", "orders_total", json!({ "shop": "east" }))])).expect(202);
    assert_eq!(sum(&collector, "name=orders_total&labels=shop:east"), 1.0);
}

#[test]
fn long_names_and_labels_use_up_the_quota_by_their_bytes() {
    let collector = Setup::metrics_collector().start();
    let mut client = collector.connect();
    let long = |n: usize| format!("{n:04}{}", "\u{1F600}".repeat(196));
    for request in 0..2 {
        let points: Vec<Value> = (0..500).map(|n| counter("shop", &long(request * 500 + n), json!({}))).collect();
        client.send(&from_browser(&points)).expect(202);
        let points: Vec<Value> =
            (0..500).map(|n| counter("blog", "visits", json!({ "page": long(request * 500 + n) }))).collect();
        client.send(&from_server(&points)).expect(202);
    }
    let (rows, bytes) = usage(&collector, "metric_names", "shop", "browser");
    assert!(rows > 500 && bytes <= 500_000, "{rows} names of {bytes} bytes; the share is 25 % of 2 MB");
    assert_eq!(usage(&collector, "series", "blog", "server").0, 1_000, "1 MB of labels is within the share");
    client.send(&from_server(&[counter("payments", &long(0), json!({ "page": long(0) }))])).expect(202);
    assert_eq!(usage(&collector, "series", "payments", "server"), (1, 788 + 11));
}

#[test]
fn ordinary_series_fill_the_quota_by_their_number() {
    let collector = Setup::metrics_collector().start();
    let mut client = collector.connect();
    for request in 0..20 {
        let points: Vec<Value> = (0..1_000)
            .map(|n| {
                let (name, path) = (format!("http_requests_{}", n % 20), format!("/api/orders/{request}"));
                counter("shop", &name, json!({ "method": "GET", "path": path, "status": n }))
            })
            .collect();
        client.send(&from_server(&points)).expect(202);
    }
    assert_eq!(usage(&collector, "series", "shop", "server").0, 18_000, "all but the reserve, because shop is alone");
    let reason = ("series".to_owned(), "project_share".to_owned(), 2_000);
    assert_eq!(rejections(&collector, "shop"), [reason]);
}

#[test]
fn browsers_cannot_write_figures_of_hosts_and_releases() {
    let collector = Setup::metrics_collector().start();
    let reserved = |response: Response, item: usize, name: &str| {
        response.expect(400).has_detail(&format!("Item {item}: only server keys may write metrics named {name}"));
    };
    let honest = counter("shop", "page_views", json!({}));
    for (name, pattern) in [
        ("host_cpu_percent", "host_*"),
        ("host.disk_used_bytes", "host_*"),
        ("process_resident_bytes", "process_*"),
        ("monlight_up", "monlight_*"),
        ("release_info", "release_info"),
    ] {
        let forged = counter("shop", name, json!({ "release": "EVIL" }));
        reserved(collector.send(&from_browser(&[honest.clone(), forged])), 1, pattern);
        assert_eq!(collector.get("/api/metrics/names").expect(200).json()["metrics"], json!([]), "nothing is stored");
    }
    assert_eq!(rejections(&collector, "shop"), [("metric_names".into(), "reserved_name".into(), 5)]);
    let release = counter("shop", "release_info", json!({ "release": "1.4.2" }));
    collector.send(&from_server(&[release])).expect(202);
    let releases = collector.get("/api/metrics/releases").expect(200).json();
    assert_eq!(releases["releases"][0]["release"], "1.4.2", "{releases}");
}
