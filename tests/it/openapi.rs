//! OpenAPI documents: Schemathesis sends valid and invalid requests to each service and checks every response against the
//! service's document.

use std::io::{Read as _, Write as _};
use std::process::Stdio;
use std::sync::Arc;

use flate2::read::GzDecoder;
use serde_json::json;

use crate::support::harness::{API_KEY, PUBLIC_KEY, Request, Service, Setup, TempDir, report_at};
use crate::support::logs::{Container, wait_for_entry_count};
use crate::support::programs::output_text;
use crate::support::python;
use crate::support::receiver::HttpReceiver;
use crate::support::stack::start_services;

const DOCUMENT_PATH: &str = "/openapi.json";
/// Random requests per operation, in addition to the examples and the boundary values of every schema. `make schemathesis`
/// sends more.
const EXAMPLES: &str = "25";
/// Fixed seed. All runs send the same requests, so that a new failure is caused by the tested change.
const SEED: &str = "1";

/// Returns an environment variable, or the default if it is not set or empty.
fn env_or(name: &str, default: &str) -> String {
    std::env::var(name).ok().filter(|value| !value.is_empty()).unwrap_or_else(|| default.to_owned())
}

/// Runs Schemathesis on a service. Asserts that it finds no deviation from the document, and that neither the service nor
/// its upstreams log an error.
#[track_caller]
fn assert_conforms(service: &Service, upstreams: &[&Service]) {
    let Some(mut schemathesis) = python::module_command("schemathesis.cli") else { return };
    let folder = python::scripts_dir();
    let run = ["run", &format!("http://{}{DOCUMENT_PATH}", service.address)].map(str::to_owned);
    let [examples, seed] =
        [("MONLIGHT_EXAMPLES", EXAMPLES), ("MONLIGHT_SEED", SEED)].map(|(name, default)| env_or(name, default));
    schemathesis
        .arg("--config-file")
        .arg(folder.join("schemathesis.toml"))
        .args(run)
        .args(["--max-examples", &examples, "--seed", &seed])
        .envs([("MONLIGHT_KEY", API_KEY), ("MONLIGHT_PUBLIC_KEY", PUBLIC_KEY), ("PYTHONDONTWRITEBYTECODE", "1")])
        .env("PYTHONPATH", folder)
        // Schemathesis writes its cache to the working directory, which is deleted with the service.
        .current_dir(service.data_dir.path());
    let output = schemathesis.stdin(Stdio::null()).output().unwrap();
    let report = output_text(&output);
    assert!(output.status.success(), "{report}");
    let count = report
        .lines()
        .find(|line| line.contains(" generated, "))
        .expect("the report contains the number of requests")
        .trim();
    for service in [&[service], upstreams].concat() {
        let errors: Vec<String> = service.log().into_iter().filter(|line| line.contains("[ERROR]")).collect();
        assert!(errors.is_empty(), "{errors:#?}");
        let (_, peak_kib) = service.memory_kib();
        eprintln!("{}: {count}; peak memory {} KiB", service.address, peak_kib);
    }
}

#[test]
fn every_service_serves_a_valid_document_without_a_key() {
    for service in &start_services(|_, setup| setup.env("RATE_LIMIT", 1)) {
        let request = Request::get(DOCUMENT_PATH).without_header("X-API-Key");
        let plain = service.send(&request).expect(200);
        let compressed = service.send(&request.clone().header("Accept-Encoding", "gzip")).expect(200);
        let mut decompressed = Vec::new();
        GzDecoder::new(compressed.body.as_slice()).read_to_end(&mut decompressed).unwrap();
        assert_eq!((plain.header("content-type"), &plain.body), (Some("application/json"), &decompressed));
        let conditional = request.clone().header("If-None-Match", plain.header("etag").unwrap());
        assert!(service.send(&conditional).expect(304).body.is_empty());
        assert_eq!(plain.header("access-control-allow-origin"), None);
        let head = service.send(&Request::new("HEAD", DOCUMENT_PATH).without_header("X-API-Key")).expect(200);
        assert_eq!(head.header("content-length"), Some(plain.body.len().to_string().as_str()));

        let Some(mut validator) = python::script_command("openapi_document.py") else { return };
        let mut child = validator.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(&plain.body).unwrap();
        let output = child.wait_with_output().unwrap();
        let examples: u32 = String::from_utf8_lossy(&output.stdout).trim().parse().expect("the document is valid");
        assert!(output.status.success() && examples > 20, "{examples} examples");
    }
}

#[test]
fn error_tracker_conforms_to_its_document() {
    let webhook = HttpReceiver::start(&[]);
    let tracker = Setup::error_tracker().env("ALERT_WEBHOOK_URL", webhook.url()).start();
    for line in [1, 1, 2, 3] {
        tracker.post("/api/errors", &report_at("boom", line));
    }
    tracker.post("/api/errors/2/resolve", &json!({})).expect(200);
    assert_conforms(&tracker, &[]);
}

#[test]
fn log_viewer_conforms_to_its_document() {
    let data_dir = Arc::new(TempDir::new());
    let (web, worker) = (Container::new(&data_dir, "web"), Container::new(&data_dir, "worker"));
    web.write_numbered_lines(0..120);
    worker.write_lines([
        ("2025-12-31T23:59:59Z", "stdout", "{\"level\":\"warn\",\"msg\":\"slow\"}\n"),
        ("2026-01-31T12:00:00.123456789Z", "stderr", "Traceback (most recent call last):\n"),
        ("2026-01-31T12:00:00.123456790Z", "stderr", "  File \"a.py\", line 1, in f\n"),
        ("2026-01-31T12:00:00.123456791Z", "stderr", "ValueError: empty\n"),
        ("2026-01-31T12:00:01Z", "stdout", "[CRITICAL] gone\n"),
    ]);
    let viewer = Setup::log_viewer().data_dir(&data_dir).env("LOG_SOURCES", "containers,nowhere").start();
    wait_for_entry_count(&viewer, "web", 120);
    wait_for_entry_count(&viewer, "worker", 3);
    assert_conforms(&viewer, &[]);
}

#[test]
fn metrics_collector_conforms_to_its_document() {
    let collector = Setup::metrics_collector().start();
    let vital = |name: &str, value: f64| {
        json!({ "name": format!("web_vitals_{name}"), "type": "histogram", "value": value, "project": "shop",
            "labels": { "source": "browser", "page": "/cart/7" } })
    };
    let points = json!([
        { "name": "orders_total", "type": "counter", "value": 3, "labels": { "shop": "east" }, "project": "shop" },
        { "name": "request_ms", "type": "histogram", "value": 41.5, "labels": { "path": "/cart" }, "project": "shop" },
        { "name": "request_ms", "type": "gauge", "value": -1e300, "labels": { "path": "/pay" }, "project": "shop" },
        { "name": "release_info", "type": "gauge", "value": 1, "labels": { "release": "1.4.2" }, "project": "shop" },
        vital("lcp", 1240.5), vital("cls", 0.3), vital("inp", 900.0),
    ]);
    collector.post("/api/metrics", &points).expect(202);
    assert_conforms(&collector, &[]);
}

#[test]
fn browser_relay_conforms_to_its_document() {
    let (tracker, collector) = (Setup::error_tracker().start(), Setup::metrics_collector().start());
    let relay = Setup::browser_relay(tracker.address, collector.address).start();
    let map = json!({ "version": 3, "sources": ["cart.js"], "names": ["add"], "mappings": "AACGA" }).to_string();
    let map = json!({ "project": "shop", "release": "1.4.2", "file_url": "/app.js", "map_content": map });
    relay.post("/api/source-maps", &map).expect(201);
    relay.post("/api/dsn-keys", &json!({ "project": "blog" })).expect(201);
    assert_conforms(&relay, &[&tracker, &collector]);
}
