//! Remote write to a real Prometheus and a real VictoriaMetrics. Every point arrives exactly once, even if the server is
//! down for a while and the collector is killed meanwhile.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use monlight::clock::Timestamp;
use serde_json::{Value, json};

use crate::support::harness::{Service, Setup, TempDir, free_address, skip, wait_until};
use crate::support::prometheus::Prometheus;
use crate::support::receiver::receive_request;

/// Duration of the load on the collector.
const LOAD_DURATION: Duration = Duration::from_secs(44);
/// Downtime of the server, counted from the start of the load.
const DOWNTIME: std::ops::Range<Duration> = Duration::from_secs(6)..Duration::from_secs(36);
/// Time at which the collector is killed.
const KILL_TIME: Duration = Duration::from_secs(20);
/// Deadline for all points to arrive after the load.
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(90);

fn start_collector(data_dir: &Arc<TempDir>, url: &str) -> Service {
    Setup::metrics_collector().data_dir(data_dir).env("REMOTE_WRITE_URL", url).env("AGGREGATION_INTERVAL", 3).start()
}

/// Points that the collector has acknowledged.
#[derive(Default)]
struct Acknowledged {
    /// Sum of the counters, in tenths.
    tenths: u64,
    observations: u64,
    /// Number of observations with the value 3; the others have the value 100.
    small: u64,
    last: f64,
}

/// Runs the load with a server program that accepts remote write at `path`, and asserts that it has stored every point.
fn assert_receives_every_point(program: &str, arguments: &[&str], path: &str) {
    let (server_dir, address, data_dir) = (Arc::new(TempDir::new()), free_address(), Arc::new(TempDir::new()));
    let start = || Prometheus::start(program, arguments, &server_dir, address);
    let Some(first) = start() else {
        return skip(&format!("{program} is not installed; remote write to it is not tested"));
    };
    let mut server = Some(first);
    let url = format!("http://{address}{path}");
    let mut collector = start_collector(&data_dir, &url);
    let (start_time, mut acknowledged, mut was_killed) = (Instant::now(), Acknowledged::default(), false);
    while start_time.elapsed() < LOAD_DURATION {
        let is_down = DOWNTIME.contains(&start_time.elapsed());
        if is_down && server.take().is_some() {
            eprintln!("stopped {program}");
        }
        if !is_down && server.is_none() {
            server = start();
        }
        if start_time.elapsed() > KILL_TIME && !was_killed {
            was_killed = true;
            collector.kill();
            collector = start_collector(&data_dir, &url);
        }
        post_batch(&collector, &mut acknowledged);
        std::thread::sleep(Duration::from_millis(40));
    }
    let server = server.expect("the server was restarted");
    let deadline = Instant::now() + ARRIVAL_TIMEOUT;
    while collector.health_number("remote_write_waiting") > 0 {
        assert!(Instant::now() < deadline, "{:#?} {}", collector.log(), server.log());
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(collector.health_number("remote_write_lag_seconds"), 0);
    assert_eq!(collector.health_number("remote_write_refused"), 0, "{:#?}", collector.log());
    assert!(collector.log().iter().any(|line| line.contains("remote write recovered")), "{:#?}", collector.log());
    let value = |expression: &str| server.query_value(expression, None);
    let total =
        wait_until(|| value("sum(sales_eur)").filter(|sum| (sum - acknowledged.tenths as f64 / 10.0).abs() < 1e-6));
    assert!(total.is_some(), "{:?} instead of {}", value("sum(sales_eur)"), acknowledged.tenths as f64 / 10.0);
    for (expression, expected) in [
        ("wait_ms_count", acknowledged.observations as f64),
        (
            "wait_ms_sum",
            acknowledged.small as f64 * 3.0 + (acknowledged.observations - acknowledged.small) as f64 * 100.0,
        ),
        ("wait_ms_bucket{le=\"4\"}", acknowledged.small as f64),
        ("wait_ms_bucket{le=\"+Inf\"}", acknowledged.observations as f64),
        ("depth", acknowledged.last),
        ("count(sales_eur)", 2.0),
        ("sum(resets(sales_eur[10m]))", 0.0),
    ] {
        let actual = value(expression).unwrap_or_else(|| panic!("no {expression}"));
        assert!((actual - expected).abs() < 1e-6, "{expression} is {actual}, not {expected}");
    }
    // The points of the downtime arrive as separate samples, not only as a final total.
    let samples = value("count_over_time(depth[10m])").unwrap();
    assert!(samples >= 4.0, "{samples} samples in {LOAD_DURATION:?}");
}

/// Sends points of every type and adds them to the acknowledged ones.
fn post_batch(collector: &Service, acknowledged: &mut Acknowledged) {
    let small = acknowledged.observations.is_multiple_of(3);
    let labels = |shop: &str| json!({ "shop": shop });
    let batch: Vec<Value> = vec![
        json!({ "name": "sales.eur", "type": "counter", "value": 0.1, "labels": labels("east") }),
        json!({ "name": "sales.eur", "type": "counter", "value": 0.2, "labels": labels("west") }),
        json!({ "name": "wait_ms", "type": "histogram", "value": if small { 3 } else { 100 } }),
        json!({ "name": "depth", "type": "gauge", "value": acknowledged.observations }),
    ];
    collector.post("/api/metrics", &json!(batch)).expect(202);
    acknowledged.last = acknowledged.observations as f64;
    acknowledged.tenths += 3;
    acknowledged.observations += 1;
    acknowledged.small += u64::from(small);
}

#[test]
fn prometheus_receives_every_point_despite_its_downtime() {
    assert_receives_every_point("prometheus", PROMETHEUS_ARGUMENTS, "/api/v1/write");
}

const PROMETHEUS_ARGUMENTS: &[&str] =
    &["--config.file=/dev/null", "--storage.tsdb.path=data", "--web.enable-remote-write-receiver"];

#[test]
fn victoria_metrics_receives_every_point_despite_its_downtime() {
    let arguments = ["-storageDataPath=data", "-retentionPeriod=1", "-search.latencyOffset=0s", "-search.disableCache"];
    assert_receives_every_point("victoria-metrics", &arguments, "/api/v1/write");
}

/// Returns a counter with an increment so many seconds ago.
fn increment(name: &str, value: f64, seconds: u64) -> Value {
    let at = (Timestamp::now() - Duration::from_secs(seconds)).to_string();
    json!({ "name": name, "type": "counter", "value": value, "timestamp": at, "labels": { "code": "500" } })
}

#[test]
fn prometheus_counts_what_a_new_counter_begins_with_and_remembers_rare_ones() {
    let (server_dir, address, data_dir) = (Arc::new(TempDir::new()), free_address(), Arc::new(TempDir::new()));
    let Some(prometheus) = Prometheus::start("prometheus", PROMETHEUS_ARGUMENTS, &server_dir, address) else {
        return skip("prometheus is not installed; new counters in it are not tested");
    };
    let url = format!("http://{address}/api/v1/write");
    let collector = start_collector(&data_dir, &url);
    // A later point completes the interval of the ones before.
    let batch = [
        increment("new_errors_total", 50.0, 120),
        increment("new_errors_total", 5.0, 100),
        json!({ "name": "took_ms", "type": "histogram", "value": 3, "timestamp": increment("", 0.0, 100)["timestamp"] }),
        increment("other_total", 1.0, 70),
    ];
    collector.post("/api/metrics", &json!(batch)).expect(202);
    let value = |expression: &str, at| prometheus.query_value(expression, at);
    let arrived = wait_until(|| value("new_errors_total", None).filter(|total| *total == 55.0));
    assert_eq!(arrived, Some(55.0), "{} {:#?}", prometheus.log(), collector.log());
    // At the timestamp of a sample, Prometheus does not extrapolate after it, and not before a sample of value 0 either.
    let at = value("timestamp(new_errors_total)", None);
    assert_eq!(value("increase(new_errors_total[1h])", at).map(f64::round), Some(55.0));
    assert_eq!(value("increase(took_ms_count[1h])", at).map(f64::round), Some(1.0));
    assert_eq!(value("min_over_time(took_ms_bucket{le=\"4\"}[1h])", at), Some(0.0));
    // A restart repeats the totals at once, as the collector does every minute while it runs.
    let samples = || value("count_over_time(new_errors_total[1h])", None);
    let before = samples().unwrap();
    collector.kill();
    let collector = start_collector(&data_dir, &url);
    assert!(wait_until(|| samples().filter(|samples| *samples > before)).is_some(), "{:#?}", collector.log());
    assert_eq!((value("new_errors_total", None), value("took_ms_count", None)), (Some(55.0), Some(1.0)));
    // These are older than the repetition, and get a time after it.
    let late = [increment("new_errors_total", 2.0, 40), increment("other_total", 1.0, 20)];
    collector.post("/api/metrics", &json!(late)).expect(202);
    assert_eq!(wait_until(|| value("new_errors_total", None).filter(|total| *total == 57.0)), Some(57.0));
    assert_eq!(value("resets(new_errors_total[1h])", None), Some(0.0));
    assert_eq!(collector.health_number("remote_write_refused"), 0, "{:#?}", collector.log());
}

#[test]
fn failed_requests_are_repeated_unchanged_and_rejected_ones_are_skipped() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let collector = Setup::metrics_collector()
        .env("REMOTE_WRITE_URL", format!("http://{}/write", listener.local_addr().unwrap()))
        .env("REMOTE_WRITE_HEADERS", "Authorization: Bearer s3cret-token; X-Scope-OrgID: shop")
        .start();
    post_batch(&collector, &mut Acknowledged::default());
    // The first two requests fail temporarily, the third succeeds.
    let [rate_limited, failed, accepted] = ["429 Too Many Requests\r\nRetry-After: 1", "500 Oops", "204 No Content"]
        .map(|status| receive_request(listener.accept().unwrap().0, status));
    assert!(rate_limited.1 == failed.1 && failed.1 == accepted.1, "a retry has a different body");
    for line in [
        "post /write http/1.1",
        "content-type: application/x-protobuf",
        "content-encoding: snappy",
        "x-prometheus-remote-write-version: 0.1.0",
        "authorization: bearer s3cret-token",
        "x-scope-orgid: shop",
    ] {
        assert!(
            accepted.0.to_lowercase().lines().any(|header| header == line),
            "{line:?} is missing in {}",
            accepted.0
        );
    }
    let sent = || Some(collector.health_number("remote_write_sent")).filter(|samples| *samples > 0);
    // Two counters, a gauge, and a histogram with 41 buckets and three more samples. New totals begin with 0.
    assert_eq!(wait_until(sent), Some(2 * 2 + 1 + 2 * 44));
    collector.post("/api/metrics", &json!([{ "name": "n", "type": "counter", "value": 1 }])).expect(202);
    receive_request(listener.accept().unwrap().0, "400 Bad Request");
    let rejected = || Some(collector.health_number("remote_write_refused")).filter(|samples| *samples > 0);
    assert_eq!(wait_until(rejected), Some(2));
    assert_eq!(
        (collector.health_number("remote_write_waiting"), collector.health_number("remote_write_sent")),
        (0, 93)
    );
    let log = collector.log().concat();
    assert!(
        log.contains("the server rejected 2 samples, skipping them: 127.0.0.1: HTTP 400") && !log.contains("s3cret"),
        "{log}"
    );
}

#[test]
fn backlog_is_reported_and_discarded_when_remote_write_is_disabled() {
    let collector = Setup::metrics_collector().env("REMOTE_WRITE_URL", format!("http://{}/", free_address())).start();
    post_batch(&collector, &mut Acknowledged::default());
    collector.wait_for_log("remote write failed, will retry: ").expect("the log contains the cause");
    assert_eq!(collector.health_number("remote_write_waiting"), 4);
    // Without REMOTE_WRITE_URL, the collector discards the backlog.
    let data_dir = collector.kill();
    let without_remote_write = Setup::metrics_collector().data_dir(&data_dir).start();
    assert_eq!(without_remote_write.get("/health").json().get("remote_write_waiting"), None);
    let database = rusqlite::Connection::open(data_dir.path().join("metrics.db")).unwrap();
    let sql = "SELECT value FROM counters WHERE name = 'remote_on'";
    assert_eq!(database.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
    let (code, output) = Setup::metrics_collector().env("REMOTE_WRITE_URL", "localhost:9090").run_to_exit();
    assert_eq!(
        (code, output.contains("REMOTE_WRITE_URL: must be an absolute http(s) URL")),
        (Some(2), true),
        "{output}"
    );
}
