//! Every point goes on to a real Prometheus and a real VictoriaMetrics, which are away for a while, from a collector that
//! is killed meanwhile; in the end there is what was sent, counted once.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Service, Setup, TempDir, skip, wait_until};
use crate::prometheus::{Prometheus, free_port};
use crate::receiver::receive_request;

/// How long points come in, and within it how long the server is away.
const SENDING: Duration = Duration::from_secs(44);
const AWAY: std::ops::Range<Duration> = Duration::from_secs(6)..Duration::from_secs(36);
const KILLED_AT: Duration = Duration::from_secs(20);
/// Until all has arrived after the server was away.
const ARRIVED_WITHIN: Duration = Duration::from_secs(90);

fn collector(folder: &Arc<TempDir>, url: &str) -> Service {
    Setup::metrics_collector().data_dir(folder).env("REMOTE_WRITE_URL", url).env("AGGREGATION_INTERVAL", 3).start()
}

/// What was sent and acknowledged.
#[derive(Default)]
struct Sent {
    tenths: u64,
    observations: u64,
    small: u64,
    last: f64,
}

fn fact(collector: &Service, name: &str) -> i64 {
    collector.get("/health").json()[name].as_i64().unwrap_or_else(|| panic!("no {name}"))
}

/// Runs it all with a program that is started with these arguments, and takes writes at this path.
fn holds_everything(program: &str, arguments: &[&str], path: &str) {
    let (kept, address, folder) = (Arc::new(TempDir::new()), free_port(), Arc::new(TempDir::new()));
    let start = || Prometheus::start(program, arguments, &kept, address);
    let Some(first) = start() else {
        return skip(&format!("{program} is not installed"));
    };
    let mut server = Some(first);
    let url = format!("http://{address}{path}");
    let mut monlight = collector(&folder, &url);
    let (begun, mut sent, mut was_killed) = (Instant::now(), Sent::default(), false);
    while begun.elapsed() < SENDING {
        let is_away = AWAY.contains(&begun.elapsed());
        if is_away && server.take().is_some() {
            eprintln!("{program} is away");
        }
        if !is_away && server.is_none() {
            server = start();
        }
        if begun.elapsed() > KILLED_AT && !was_killed {
            was_killed = true;
            monlight.kill();
            monlight = collector(&folder, &url);
        }
        post(&monlight, &mut sent);
        std::thread::sleep(Duration::from_millis(40));
    }
    let server = server.expect("it came back");
    let deadline = Instant::now() + ARRIVED_WITHIN;
    while fact(&monlight, "remote_write_waiting") > 0 {
        assert!(Instant::now() < deadline, "{:#?} {}", monlight.log(), server.log());
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(fact(&monlight, "remote_write_lag_seconds"), 0);
    assert_eq!(fact(&monlight, "remote_write_refused"), 0, "{:#?}", monlight.log());
    assert!(monlight.log().iter().any(|line| line.contains("remote write goes on")), "{:#?}", monlight.log());
    let value = |expression: &str| server.value(expression, None);
    let total = wait_until(|| value("sum(sales_eur)").filter(|sum| (sum - sent.tenths as f64 / 10.0).abs() < 1e-6));
    assert!(total.is_some(), "{:?} of {}", value("sum(sales_eur)"), sent.tenths as f64 / 10.0);
    for (expression, expected) in [
        ("wait_ms_count", sent.observations as f64),
        ("wait_ms_sum", sent.small as f64 * 3.0 + (sent.observations - sent.small) as f64 * 100.0),
        ("wait_ms_bucket{le=\"4\"}", sent.small as f64),
        ("wait_ms_bucket{le=\"+Inf\"}", sent.observations as f64),
        ("depth", sent.last),
        ("count(sales_eur)", 2.0),
        ("sum(resets(sales_eur[10m]))", 0.0),
    ] {
        let found = value(expression).unwrap_or_else(|| panic!("no {expression}"));
        assert!((found - expected).abs() < 1e-6, "{expression}: {found} of {expected}");
    }
    // What came in while it was away is there as it came, not only in the end.
    let samples = value("count_over_time(depth[10m])").unwrap();
    assert!(samples >= 4.0, "{samples} samples in {SENDING:?}");
}

/// Sends some of everything; it was killed before it answered if this fails, which it does not.
fn post(collector: &Service, sent: &mut Sent) {
    let small = sent.observations.is_multiple_of(3);
    let labels = |shop: &str| json!({ "shop": shop });
    let batch: Vec<Value> = vec![
        json!({ "name": "sales.eur", "type": "counter", "value": 0.1, "labels": labels("east") }),
        json!({ "name": "sales.eur", "type": "counter", "value": 0.2, "labels": labels("west") }),
        json!({ "name": "wait_ms", "type": "histogram", "value": if small { 3 } else { 100 } }),
        json!({ "name": "depth", "type": "gauge", "value": sent.observations }),
    ];
    collector.post("/api/metrics", &json!(batch)).expect(202);
    sent.last = sent.observations as f64;
    (sent.tenths, sent.observations, sent.small) =
        (sent.tenths + 3, sent.observations + 1, sent.small + u64::from(small));
}

#[test]
fn prometheus_has_all_that_was_sent_although_it_was_away() {
    holds_everything("prometheus", PROMETHEUS, "/api/v1/write");
}

const PROMETHEUS: &[&str] =
    &["--config.file=/dev/null", "--storage.tsdb.path=data", "--web.enable-remote-write-receiver"];

#[test]
fn victoria_metrics_has_all_that_was_sent_although_it_was_away() {
    let arguments = ["-storageDataPath=data", "-retentionPeriod=1", "-search.latencyOffset=0s", "-search.disableCache"];
    holds_everything("victoria-metrics", &arguments, "/api/v1/write");
}

#[test]
fn what_is_taken_later_is_the_same_and_what_is_refused_does_not_stop_the_rest() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let collector = Setup::metrics_collector()
        .env("REMOTE_WRITE_URL", format!("http://{}/write", listener.local_addr().unwrap()))
        .env("REMOTE_WRITE_HEADERS", "Authorization: Bearer s3cret-token; X-Scope-OrgID: shop")
        .start();
    post(&collector, &mut Sent::default());
    // Not now, and why; in a moment; there.
    let [busy, broken, taken] = ["429 Too Many Requests\r\nRetry-After: 1", "500 Oops", "204 No Content"]
        .map(|status| receive_request(listener.accept().unwrap().0, status));
    assert!(busy.1 == broken.1 && broken.1 == taken.1, "the same again");
    for line in [
        "post /write http/1.1",
        "content-type: application/x-protobuf",
        "content-encoding: snappy",
        "x-prometheus-remote-write-version: 0.1.0",
        "authorization: bearer s3cret-token",
        "x-scope-orgid: shop",
    ] {
        assert!(taken.0.to_lowercase().lines().any(|found| found == line), "{line} in {}", taken.0);
    }
    let sent = || Some(fact(&collector, "remote_write_sent")).filter(|samples| *samples > 0);
    // Two counters, a gauge, and a histogram of 31 buckets and three more.
    assert_eq!(wait_until(sent), Some(37));
    collector.post("/api/metrics", &json!([{ "name": "n", "type": "counter", "value": 1 }])).expect(202);
    receive_request(listener.accept().unwrap().0, "400 Bad Request");
    let refused = || Some(fact(&collector, "remote_write_refused")).filter(|samples| *samples > 0);
    assert_eq!(wait_until(refused), Some(1));
    assert_eq!((fact(&collector, "remote_write_waiting"), fact(&collector, "remote_write_sent")), (0, 37));
    let log = collector.log().concat();
    assert!(log.contains("1 samples are refused: it answered 400") && !log.contains("s3cret"), "{log}");
}

#[test]
fn what_waits_is_told_and_given_up_where_nothing_is_sent_on() {
    let waiting = Setup::metrics_collector().env("REMOTE_WRITE_URL", format!("http://{}/", free_port())).start();
    post(&waiting, &mut Sent::default());
    waiting.wait_for_log("remote write waits: ").expect("the log says why");
    assert_eq!(fact(&waiting, "remote_write_waiting"), 4);
    // Where nothing is sent on, nothing waits.
    let folder = waiting.kill();
    let quiet = Setup::metrics_collector().data_dir(&folder).start();
    assert_eq!(quiet.get("/health").json().get("remote_write_waiting"), None);
    let database = rusqlite::Connection::open(folder.path().join("metrics.db")).unwrap();
    let sql = "SELECT value FROM totals WHERE name = 'remote_cursor'";
    assert_eq!(database.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap(), -1);
    let (code, said) = Setup::metrics_collector().env("REMOTE_WRITE_URL", "localhost:9090").run_to_exit();
    assert_eq!((code, said.contains("REMOTE_WRITE_URL must be an URL")), (Some(2), true), "{said}");
}
