//! A real Prometheus scrapes the collector, and its arithmetic comes out at what was sent.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::harness::{Client, Request, Service, Setup, TempDir, skip, wait_until};

const READ_KEY: &str = "prometheus-key-0123456789";

/// A Prometheus, or a program with its way to ask.
pub struct Prometheus {
    child: Child,
    address: SocketAddr,
    folder: Arc<TempDir>,
}

impl Prometheus {
    /// Scrapes both texts of a collector every second; `None` where it is not installed.
    fn of(collector: &Service) -> Option<Self> {
        let folder = Arc::new(TempDir::new());
        let job = |name: &str, path: &str| {
            json!({
                "job_name": name,
                "metrics_path": path,
                "authorization": { "credentials": READ_KEY },
                "static_configs": [{ "targets": [collector.address.to_string()] }],
            })
        };
        // Every JSON text is YAML as well.
        let config = json!({
            "global": { "scrape_interval": "1s", "scrape_timeout": "1s" },
            "scrape_configs": [job("itself", "/metrics"), job("federate", "/federate")],
        });
        std::fs::write(folder.path().join("prometheus.yml"), config.to_string()).unwrap();
        Self::start("prometheus", &["--config.file=prometheus.yml", "--storage.tsdb.path=data"], &folder, free_port())
    }

    /// Starts a program in a folder; `None` where it is not installed.
    pub fn start(program: &str, arguments: &[&str], folder: &Arc<TempDir>, address: SocketAddr) -> Option<Self> {
        let listen = if program == "prometheus" { "--web.listen-address" } else { "-httpListenAddr" };
        let child = Command::new(program)
            .args(arguments)
            .arg(format!("{listen}={address}"))
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(folder.path().join("log")).unwrap())
            .spawn()
            .ok()?;
        Some(Self { child, address, folder: Arc::clone(folder) })
    }

    fn get(&self, path: &str) -> Option<Value> {
        let answer = Client::new(TcpStream::connect(self.address).ok()?).send(&Request::get(path));
        (answer.status == 200).then(|| answer.json()["data"].clone())
    }

    /// The value of an expression that has one.
    pub fn value(&self, expression: &str, at: Option<f64>) -> Option<f64> {
        let mut path = "/api/v1/query?query=".to_owned();
        expression.bytes().for_each(|byte| write!(path, "%{byte:02X}").unwrap());
        if let Some(at) = at {
            write!(path, "&time={at}").unwrap();
        }
        self.get(&path)?["result"][0]["value"][1].as_str()?.parse().ok()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address that was free a moment ago; nobody else takes ports in this order.
pub fn free_port() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

#[test]
fn increases_and_quantiles_in_prometheus_are_those_of_what_was_sent() {
    let keys = format!("prometheus:read:{READ_KEY}");
    let collector = Setup::metrics_collector().env("AGGREGATION_INTERVAL", 2).env("API_KEYS", keys).start();
    let send = |name: &str, kind: &str, values: &[f64]| {
        let point = |value: &f64| json!({ "name": name, "type": kind, "value": value, "labels": { "path": "/a\"\\" } });
        let batch: Vec<Value> = values.iter().map(point).collect();
        collector.post("/api/metrics", &json!(batch)).expect(202);
    };
    send("sales.eur", "counter", &[0.0]);
    let Some(prometheus) = Prometheus::of(&collector) else {
        return skip("prometheus is not installed");
    };
    let first = wait_until(|| prometheus.value("sales_eur", None));
    assert_eq!(first, Some(0.0), "{}", prometheus.log());
    // Tenths make rounding visible: a total that fell by its last digit would count twice.
    let mut total = 0.0;
    for tenths in 1..=60 {
        let value = f64::from(tenths) / 10.0;
        total += value;
        send("sales.eur", "counter", &[value]);
        send("wait_ms", "histogram", &[3.0, 100.0]);
        send("depth", "gauge", &[value]);
        std::thread::sleep(std::time::Duration::from_millis(80));
    }
    let arrived = wait_until(|| prometheus.value("sales_eur", None).filter(|value| *value == total));
    assert_eq!(arrived, Some(total), "{}", prometheus.log());
    // At the moment of a sample nothing is extrapolated beyond it, and a counter that was 0 is not before it either.
    let at = prometheus.value("timestamp(sales_eur)", None);
    let increase = prometheus.value("increase(sales_eur[1h])", at).unwrap();
    assert!((increase - total).abs() < 1e-9, "{increase} of {total}");
    assert_eq!(prometheus.value("depth", at), Some(6.0));
    assert_eq!(prometheus.value("wait_ms_count{path=\"/a\\\"\\\\\"}", at), Some(120.0));
    assert_eq!(prometheus.value("wait_ms_sum", at), Some(60.0 * 103.0));
    // Half of the values are in (2, 4] and half in (64, 128], between which Prometheus draws straight lines.
    for (q, expected) in [("0.25", 3.0), ("0.5", 4.0), ("0.75", 96.0)] {
        let quantile = prometheus.value(&format!("histogram_quantile({q}, wait_ms_bucket)"), at).unwrap();
        assert!((quantile - expected).abs() < 1e-9, "{quantile} at {q}");
    }
    let rated = prometheus.value("histogram_quantile(0.25, increase(wait_ms_bucket[1h]))", at).unwrap();
    assert!((rated - 3.0).abs() < 0.2, "{rated}");
    assert!(prometheus.value("monlight_commits_total", at) > Some(100.0));
    assert_eq!(prometheus.value("count(up == 1)", at), Some(2.0));
    let targets = prometheus.get("/api/v1/targets").unwrap();
    for target in targets["activeTargets"].as_array().unwrap() {
        assert_eq!(target["lastError"], "", "{target}");
    }
    let log = prometheus.log();
    assert!(!log.contains("level=warn") && !log.contains("level=error"), "{log}");
    check(&collector);
}

/// Prometheus' own parser agrees with every line of both texts; advice on how to name a metric is no fault.
fn check(collector: &Service) {
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
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(!said.contains("error while linting"), "{path}: {said}");
    }
}
