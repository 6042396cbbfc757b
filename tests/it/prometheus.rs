//! A real Prometheus scrapes the metrics collector and computes the values that were sent.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::harness::{Service, Setup, skip, wait_until};
use crate::support::programs::output_text;
use crate::support::prometheus::Prometheus;

const READ_KEY: &str = "prometheus-key-0123456789";

#[test]
fn prometheus_computes_exact_increases_and_quantiles() {
    let keys = format!("prometheus:read:{READ_KEY}");
    let collector = Setup::metrics_collector().env("AGGREGATION_INTERVAL", 2).env("API_KEYS", keys).start();
    let send = |name: &str, kind: &str, values: &[f64]| {
        let point = |value: &f64| json!({ "name": name, "type": kind, "value": value, "labels": { "path": "/a\"\\" } });
        let batch: Vec<Value> = values.iter().map(point).collect();
        collector.post("/api/metrics", &json!(batch)).expect(202);
    };
    send("sales.eur", "counter", &[0.0]);
    let Some(prometheus) = Prometheus::scraping(&collector, READ_KEY) else {
        return skip("prometheus is not installed; scraping by Prometheus is not tested");
    };
    let first = wait_until(|| prometheus.query_value("sales_eur", None));
    assert_eq!(first, Some(0.0), "{}", prometheus.log());
    // Tenths have rounding errors. If a total decreased by one, Prometheus would take it for a counter reset.
    let total = 183.0;
    for tenths in 1..=60 {
        let value = f64::from(tenths) / 10.0;
        send("sales.eur", "counter", &[value]);
        send("wait_ms", "histogram", &[3.0, 100.0]);
        send("depth", "gauge", &[value]);
        std::thread::sleep(std::time::Duration::from_millis(80));
    }
    let arrived = wait_until(|| prometheus.query_value("sales_eur", None).filter(|value| *value == total));
    assert_eq!(arrived, Some(total), "{}", prometheus.log());
    // At the timestamp of a sample, Prometheus does not extrapolate after it, and not before a sample of value 0 either.
    let at = prometheus.query_value("timestamp(sales_eur)", None);
    let increase = prometheus.query_value("increase(sales_eur[1h])", at).unwrap();
    assert!((increase - total).abs() < 1e-9, "increase {increase} instead of {total}");
    assert_eq!(prometheus.query_value("depth", at), Some(6.0));
    assert_eq!(prometheus.query_value("wait_ms_count{path=\"/a\\\"\\\\\"}", at), Some(120.0));
    assert_eq!(prometheus.query_value("wait_ms_sum", at), Some(60.0 * 103.0));
    // Half of the values are in (2, 4] and half in (64, 128]. Prometheus interpolates linearly within a bucket.
    for (q, expected) in [("0.25", 3.0), ("0.5", 4.0), ("0.75", 96.0)] {
        let quantile = prometheus.query_value(&format!("histogram_quantile({q}, wait_ms_bucket)"), at).unwrap();
        assert!((quantile - expected).abs() < 1e-9, "quantile {q} is {quantile}, not {expected}");
    }
    let quantile = prometheus.query_value("histogram_quantile(0.25, increase(wait_ms_bucket[1h]))", at).unwrap();
    assert!((quantile - 3.0).abs() < 0.2, "{quantile}");
    assert!(prometheus.query_value("monlight_commits_total", at) > Some(100.0));
    assert_eq!(prometheus.query_value("count(up == 1)", at), Some(2.0));
    let targets = prometheus.get("/api/v1/targets").unwrap();
    for target in targets["activeTargets"].as_array().unwrap() {
        assert_eq!(target["lastError"], "", "{target}");
    }
    let log = prometheus.log();
    assert!(!log.contains("level=warn") && !log.contains("level=error"), "{log}");
    assert_valid_exposition(&collector);
}

/// Asserts that `promtool` can parse `/metrics` and `/federate`. Its advice on metric names is ignored.
fn assert_valid_exposition(collector: &Service) {
    for path in ["/metrics", "/federate"] {
        let text = collector.get(path).expect(200).text();
        let mut promtool = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut promtool.stdin.take().unwrap(), text.as_bytes()).unwrap();
        let output = promtool.wait_with_output().unwrap();
        let output = output_text(&output);
        assert!(!output.contains("error while linting"), "{path}: {output}");
    }
}
