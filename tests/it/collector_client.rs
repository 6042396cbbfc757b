//! The published Python client in a FastAPI application: queries of the metrics collector return what the client sent.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::collector::{assert_close, wait_for_rollup};
use crate::support::harness::{Request, Service, Setup};
use crate::support::python::Application;

/// Asserts that each query of the application's summary returns exactly the expected buckets.
fn assert_buckets(collector: &Service, sent: &[Value]) {
    let mut queries: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for row in sent {
        queries.entry(row["query"].as_str().unwrap()).or_default().push(row);
    }
    for (query, rows) in queries {
        let body = collector.get(&format!("/api/metrics?{query}&period=24h&project=shop")).expect(200).json();
        let data = body["data"].as_array().unwrap();
        assert_eq!(data.len(), rows.len(), "{query}");
        for (bucket, row) in data.iter().zip(rows) {
            for field in ["bucket", "count", "min", "max"] {
                assert_eq!(bucket[field], row[field], "{field} of {query}");
            }
            let (sum, expected) = (bucket["sum"].as_f64().unwrap(), row["sum"].as_f64().unwrap());
            assert!((sum - expected).abs() <= expected.abs() * 1e-9, "sum {sum} instead of {expected}: {query}");
            assert_eq!(bucket["last"], row["last"], "last of {query} at {}", row["bucket"]);
            for (index, field) in ["p50", "p95", "p99"].into_iter().enumerate() {
                match row["percentiles"][index].as_f64() {
                    Some(exact) => assert_close(&bucket[field], exact),
                    None => assert_eq!(bucket[field], Value::Null, "{field} of {query}"),
                }
            }
        }
    }
}

/// Returns the number of points of a metric for each value of a label.
fn counts_by_label(collector: &Service, name: &str, label: &str) -> Value {
    let body = collector.get(&format!("/api/metrics?name={name}&period=1h&group_by={label}")).expect(200).json();
    let count = |group: &Value| -> u64 {
        group["data"].as_array().unwrap().iter().map(|bucket| bucket["count"].as_u64().unwrap()).sum()
    };
    let groups = body["groups"].as_array().unwrap().iter();
    groups.map(|group| (group["value"].as_str().unwrap().to_owned(), json!(count(group)))).collect()
}

#[test]
fn minute_and_hour_queries_return_what_an_application_measured() {
    let collector = Setup::metrics_collector().env("AGGREGATION_INTERVAL", 1).start();
    let Some(application) = Application::start("measuring_app.py", &collector) else { return };
    for item in 1..=30 {
        application.send(&Request::get(&format!("/items/{item}"))).expect(200);
    }
    for _ in 0..7 {
        application.send(&Request::get("/nowhere")).expect(404);
    }
    for _ in 0..5 {
        application.send(&Request::new("POST", "/broken").body("")).expect(500);
    }
    let sent = application.stop_and_read_summary();
    let sent = sent.as_array().unwrap();
    assert!(sent.len() > 1_000, "{} buckets", sent.len());
    for name in ["http_requests_total", "http_request_duration_seconds"] {
        let by = |label| counts_by_label(&collector, name, label);
        assert_eq!(by("endpoint"), json!({ "/items/{item}": 30, "/nowhere": 7, "/broken": 5 }), "{name}");
        assert_eq!(by("status"), json!({ "200": 30, "404": 7, "500": 5 }), "{name}");
        assert_eq!(by("method"), json!({ "GET": 37, "POST": 5 }), "{name}");
        assert!(sent.iter().any(|row| row["query"].as_str().unwrap().contains(name)), "{name}");
    }
    let names = collector.get("/api/metrics/names?project=shop").expect(200).json();
    let expected = [
        json!({ "name": "http_request_duration_seconds", "type": "histogram" }),
        json!({ "name": "http_requests_total", "type": "counter" }),
        json!({ "name": "order_ms", "type": "histogram" }),
        json!({ "name": "orders_total", "type": "counter" }),
        json!({ "name": "queue_depth", "type": "gauge" }),
    ];
    assert_eq!(names, json!({ "metrics": expected }));
    assert_buckets(&collector, sent);
    wait_for_rollup(&collector.data_dir);
    assert_buckets(&collector, sent);
}
