//! Prometheus, and other programs with its query API.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use serde_json::{Value, json};

use super::harness::{Client, Request, Service, TempDir, free_address};
use super::logs::percent_encode;

/// Running Prometheus, or another program with the same query API.
pub struct Prometheus {
    child: Child,
    address: SocketAddr,
    dir: Arc<TempDir>,
}

impl Prometheus {
    /// Starts a Prometheus that scrapes `/metrics` and `/federate` of a collector every second, with
    /// an API key that can read; returns `None` if it is not installed.
    pub fn scraping(collector: &Service, read_key: &str) -> Option<Self> {
        let dir = Arc::new(TempDir::new());
        let job = |name: &str, path: &str| {
            json!({
                "job_name": name,
                "metrics_path": path,
                "authorization": { "credentials": read_key },
                "static_configs": [{ "targets": [collector.address.to_string()] }],
            })
        };
        // JSON is a subset of YAML.
        let config = json!({
            "global": { "scrape_interval": "1s", "scrape_timeout": "1s" },
            "scrape_configs": [job("itself", "/metrics"), job("federate", "/federate")],
        });
        std::fs::write(dir.path().join("prometheus.yml"), config.to_string()).unwrap();
        Self::start("prometheus", &["--config.file=prometheus.yml", "--storage.tsdb.path=data"], &dir, free_address())
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

    pub fn get(&self, path: &str) -> Option<Value> {
        let response = Client::new(TcpStream::connect(self.address).ok()?).send(&Request::get(path));
        (response.status == 200).then(|| response.json()["data"].clone())
    }

    /// Evaluates a PromQL expression, now or at a Unix time. Returns the value of the first series; `None` without a result.
    pub fn query_value(&self, expression: &str, at: Option<f64>) -> Option<f64> {
        let mut path = "/api/v1/query?query=".to_owned();
        path += &percent_encode(expression);
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
