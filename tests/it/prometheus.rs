//! A real Prometheus scrapes the metrics collector and computes the values that were sent.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::support::harness::{Client, Request, Service, Setup, TempDir, skip, wait_until};

const READ_KEY: &str = "prometheus-key-0123456789";

/// Running Prometheus, or another program with the same query API.
pub struct Prometheus {
    child: Child,
    address: SocketAddr,
    dir: Arc<TempDir>,
}

impl Prometheus {
    /// Starts a Prometheus that scrapes `/metrics` and `/federate` of a collector every second; returns `None` if it is not
    /// installed.
    fn scraping(collector: &Service) -> Option<Self> {
        let dir = Arc::new(TempDir::new());
        let job = |name: &str, path: &str| {
            json!({
                "job_name": name,
                "metrics_path": path,
                "authorization": { "credentials": READ_KEY },
                "static_configs": [{ "targets": [collector.address.to_string()] }],
            })
        };
        // JSON is a subset of YAML.
        let config = json!({
            "global": { "scrape_interval": "1s", "scrape_timeout": "1s" },
            "scrape_configs": [job("itself", "/metrics"), job("federate", "/federate")],
        });
        std::fs::write(dir.path().join("prometheus.yml"), config.to_string()).unwrap();
        Self::start("prometheus", &["--config.file=prometheus.yml", "--storage.tsdb.path=data"], &dir, free_port())
    }

    /// Starts a program in a folder; returns `None` if it is not installed.
    pub fn start(program: &str, arguments: &[&str], dir: &Arc<TempDir>, address: SocketAddr) -> Option<Self> {
        let listen = if program == "prometheus" { "--web.listen-address" } else { "-httpListenAddr" };
        let child = Command::new(program)
            .args(arguments)
            .arg(format!("{listen}={address}"))
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(dir.path().join("log")).unwrap())
            .spawn()
            .ok()?;
        Some(Self { child, address, dir: Arc::clone(dir) })
    }

    fn get(&self, path: &str) -> Option<Value> {
        let response = Client::new(TcpStream::connect(self.address).ok()?).send(&Request::get(path));
        (response.status == 200).then(|| response.json()["data"].clone())
    }

    /// Evaluates a PromQL expression, now or at a Unix time. Returns the value of the first series; `None` without a result.
    pub fn query_value(&self, expression: &str, at: Option<f64>) -> Option<f64> {
        let mut path = "/api/v1/query?query=".to_owned();
        expression.bytes().for_each(|byte| write!(path, "%{byte:02X}").unwrap());
        if let Some(at) = at {
            write!(path, "&time={at}").unwrap();
        }
        self.get(&path)?["result"][0]["value"][1].as_str()?.parse().ok()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns a free loopback address. Linux does not assign the same port again soon, so it stays free for the caller.
pub fn free_port() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

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
    let Some(prometheus) = Prometheus::scraping(&collector) else {
        return skip("prometheus is not installed; scraping by Prometheus is not tested");
    };
    let first = wait_until(|| prometheus.query_value("sales_eur", None));
    assert_eq!(first, Some(0.0), "{}", prometheus.log());
    // Tenths have rounding errors. If a total decreased by one, Prometheus would take it for a counter reset.
    let mut total = 0.0;
    for tenths in 1..=60 {
        let value = f64::from(tenths) / 10.0;
        total += value;
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
        let output = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(!output.contains("error while linting"), "{path}: {output}");
    }
}
