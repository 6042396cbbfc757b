//! Exports and remote write to servers that reject, fail, redirect, lie or choke on one record, and their memory with large
//! records.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::support::docker_log::json_file_line;
use crate::support::harness::{Service, Setup, TempDir, report_at, wait_until};
use crate::support::logs::Container;
use crate::support::receiver::HttpReceiver;

/// Maximum resident memory of a service while it exports large records.
const PEAK_KIB_MAX: u64 = 24 * 1024;
/// Maximum size of a request with several records, before compression.
const REQUEST_BYTES_MAX: usize = 256 * 1024;

fn tracker(address: SocketAddr) -> Setup {
    Setup::error_tracker().env("EXPORT_URL", format!("http://{address}/in?token=SECRETTOKEN123"))
}

fn post_reports(tracker: &Service, numbers: std::ops::Range<u32>) {
    for number in numbers {
        tracker.post("/api/errors", &report_at(&format!("report {number}."), number)).expect(201);
    }
}

/// Counts how often each report of `post_reports` is in the bodies of `accepted` requests, by its number.
fn arrivals(bodies: &[String]) -> BTreeMap<u32, usize> {
    let mut counts = BTreeMap::new();
    for line in bodies.iter().flat_map(|body| body.lines()) {
        let report: Value = serde_json::from_str(line).unwrap();
        let message = report["message"].as_str().unwrap();
        *counts.entry(message.trim_start_matches("report ").trim_end_matches('.').parse().unwrap()).or_default() += 1;
    }
    counts
}

fn exactly_once(numbers: impl IntoIterator<Item = u32>) -> BTreeMap<u32, usize> {
    numbers.into_iter().map(|number| (number, 1)).collect()
}

#[track_caller]
fn wait_for_number(service: &Service, name: &str, expected: i64) {
    let is_reached = || (service.health_number(name) == expected).then_some(());
    // The next attempt may be several seconds away.
    let is_reached = (0..3).any(|_| wait_until(is_reached).is_some());
    assert!(is_reached, "{name} is not {expected}: {}\n{:#?}", service.get("/health").text(), service.log());
}

/// Returns the count of a warning in `/health`.
fn warning_count(service: &Service, code: &str) -> Option<u64> {
    let health = service.get("/health").json();
    health["warnings"].as_array()?.iter().find(|warning| warning["code"] == code)?["count"].as_u64()
}

#[test]
fn records_wait_while_a_proxy_is_misconfigured() {
    let statuses: [&[&str]; 5] = [
        &["301 Moved Permanently\r\nLocation: /login"],
        &["308 Permanent Redirect\r\nLocation: /login"],
        &["405 Method Not Allowed"],
        &["411 Length Required"],
        &["415 Unsupported Media Type"],
    ];
    let exports = statuses.map(|statuses| {
        let receiver = HttpReceiver::start(statuses);
        let tracker = tracker(receiver.address).start();
        post_reports(&tracker, 0..5);
        (receiver, tracker)
    });
    for (receiver, tracker) in exports {
        wait_for_number(&tracker, "export_sent", 5);
        assert_eq!(tracker.health_number("export_refused"), 0);
        let bodies: Vec<String> = receiver.requests().into_iter().skip(1).map(|(_, body)| body).collect();
        assert_eq!(arrivals(&bodies), exactly_once(0..5));
        tracker.wait_for_log("export failed, will retry: 127.0.0.1: HTTP ").expect("the failure is logged");
    }
}

#[test]
fn answers_of_the_server_stay_on_one_log_line_and_reveal_no_secret() {
    let answer = "no such token: Bearer S3CRETHEADER for /in?token=SECRETTOKEN123\r\n\
                  2026-01-31T12:00:00Z ERROR forged line of db-7.internal\u{1b}[2J";
    let receiver = HttpReceiver::respond_with(move |_| ("401 Unauthorized", answer.to_owned()));
    let tracker = tracker(receiver.address).env("EXPORT_HEADERS", "Authorization: Bearer S3CRETHEADER").start();
    post_reports(&tracker, 0..1);
    let line = tracker.wait_for_log("export failed, will retry: ").expect("the failure is logged");
    let reason = "127.0.0.1: HTTP 401: no such token: *** for /in?*** 2026-01-31T12:00:00Z ERROR forged line of db-7.internal [2J";
    assert!(line.ends_with(reason), "{line}");
    let health = tracker.get("/health").text();
    let log = tracker.stop_and_collect_log();
    assert!(!log.iter().any(|line| line.starts_with("2026-01-31T12:00:00Z ERROR")), "{log:#?}");
    for secret in ["S3CRETHEADER", "SECRETTOKEN123", "\u{1b}"] {
        assert!(!log.concat().contains(secret) && !health.contains(secret), "{secret}: {health} {log:#?}");
    }
    assert!(!health.contains("db-7"), "{health}");
}

#[test]
fn batches_that_are_too_large_are_halved_and_single_records_are_skipped() {
    let receiver = HttpReceiver::respond_with(|body| {
        let body = String::from_utf8_lossy(body);
        let is_too_large = body.lines().count() > 3 || body.contains("report 11.");
        let is_invalid = body.contains("report 17.");
        let status = if is_too_large { "413 Content Too Large" } else { "204 No Content" };
        (if is_invalid { "422 Unprocessable Content" } else { status }, String::new())
    });
    let data_dir = Arc::new(TempDir::new());
    let without_export = Setup::error_tracker().data_dir(&data_dir).start();
    post_reports(&without_export, 0..20);
    without_export.kill();
    let tracker = tracker(receiver.address).data_dir(&data_dir).start();
    wait_for_number(&tracker, "export_sent", 18);
    assert_eq!((tracker.health_number("export_refused"), warning_count(&tracker, "records_rejected")), (2, Some(2)));
    let accepted =
        |body: &String| body.lines().count() <= 3 && !body.contains("report 11.") && !body.contains("report 17.");
    let bodies: Vec<String> = receiver.requests().into_iter().map(|(_, body)| body).filter(accepted).collect();
    assert_eq!(arrivals(&bodies), exactly_once((0..20).filter(|number| ![11, 17].contains(number))));
}

#[test]
fn nothing_waits_behind_a_record_with_which_the_server_fails() {
    let is_repaired = Arc::new(AtomicBool::new(false));
    let repaired = Arc::clone(&is_repaired);
    let is_poisoned = |body: &str| body.contains("report 7.") || body.contains("report 8.");
    let receiver = HttpReceiver::respond_with(move |body| {
        let fails = is_poisoned(&String::from_utf8_lossy(body)) && !repaired.load(Ordering::Relaxed);
        (if fails { "500 Internal Server Error" } else { "204 No Content" }, String::new())
    });
    let tracker = tracker(receiver.address).start();
    post_reports(&tracker, 0..40);
    wait_for_number(&tracker, "export_sent", 38);
    assert_eq!((tracker.health_number("export_waiting"), warning_count(&tracker, "records_stuck")), (2, Some(2)));
    post_reports(&tracker, 40..50);
    wait_for_number(&tracker, "export_sent", 48);
    // The records are not forgotten when the service is killed.
    let data_dir = tracker.kill();
    let failed = receiver.requests().len();
    is_repaired.store(true, Ordering::Relaxed);
    let tracker = self::tracker(receiver.address).data_dir(&data_dir).start();
    wait_for_number(&tracker, "export_sent", 50);
    assert_eq!((tracker.health_number("export_refused"), tracker.health_number("export_missed")), (0, 0));
    assert_eq!(warning_count(&tracker, "records_stuck"), None);
    let requests = receiver.requests().into_iter().enumerate();
    let bodies: Vec<String> = requests
        .filter(|(number, (_, body))| *number >= failed || !is_poisoned(body))
        .map(|(_, (_, body))| body)
        .collect();
    assert_eq!(arrivals(&bodies), exactly_once(0..50));
}

#[test]
fn servers_that_lie_or_break_off_get_every_record_in_the_end() {
    // One response per connection: the bytes that are sent after the request was read.
    let responses: [&[u8]; 3] = [
        b"220 mail.example ESMTP\r\n",
        b"",
        // Longer than announced: the status counts, and the connection is not used again.
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK\r\nHTTP/1.1 500 Oops\r\n\r\n",
    ];
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let tracker = tracker(listener.local_addr().unwrap()).start();
    post_reports(&tracker, 0..3);
    for response in responses {
        let mut socket = listener.accept().unwrap().0;
        crate::support::receiver::read_request(&socket);
        socket.write_all(response).unwrap();
    }
    wait_for_number(&tracker, "export_sent", 3);
}

/// Asserts that a service has sent records with these sizes exactly once, in requests of limited size and little memory.
fn assert_bounded(service: &Service, receiver: &HttpReceiver, records: usize, parse: fn(&str) -> Vec<String>) {
    wait_for_number(service, "export_sent", records as i64);
    let (_, peak_kib) = service.memory_kib();
    assert!(peak_kib <= PEAK_KIB_MAX, "{peak_kib} KiB");
    let bodies: Vec<String> = receiver.requests().into_iter().map(|(_, body)| body).collect();
    let mut received: Vec<String> = Vec::new();
    for body in &bodies {
        let records = parse(body);
        assert!(body.len() <= REQUEST_BYTES_MAX || records.len() == 1, "{} in {} bytes", records.len(), body.len());
        received.extend(records);
    }
    received.sort_unstable();
    let expected: Vec<String> = (0..records).map(|number| format!("{number:06}")).collect();
    assert_eq!(received, expected);
}

#[test]
fn entries_of_200_kb_are_exported_in_little_memory() {
    let receiver = HttpReceiver::respond_with(|_| ("204 No Content", String::new()));
    let data_dir = Arc::new(TempDir::new());
    let web = Container::new(&data_dir, "web");
    let text = "x".repeat(10_000);
    let mut log = String::new();
    for number in 0..120 {
        // Docker splits long lines.
        for part in 0..20 {
            let (start, end) =
                (if part == 0 { format!("{number:06} ") } else { String::new() }, if part == 19 { "\n" } else { "" });
            let _ = write!(log, "{}", json_file_line("2026-01-31T12:00:00Z", "stdout", &format!("{start}{text}{end}")));
        }
    }
    std::fs::write(web.log_path(), log).unwrap();
    let setup = || Setup::log_viewer().data_dir(&data_dir).env("TAIL_BUFFER", 100_000_000);
    let viewer = setup().start();
    wait_until(|| (viewer.get("/api/logs/stats").json()["total_logs"] == 120).then_some(()))
        .expect("the viewer has read all lines");
    viewer.kill();
    let viewer = setup().env("EXPORT_URL", receiver.url()).start();
    assert_bounded(&viewer, &receiver, 120, |body| {
        let message =
            |line: &str| serde_json::from_str::<Value>(line).unwrap()["message"].as_str().unwrap()[..6].to_owned();
        body.lines().map(message).collect()
    });
}

#[test]
fn reports_of_250_kb_are_pushed_to_loki_in_little_memory() {
    let receiver = HttpReceiver::respond_with(|_| ("204 No Content", String::new()));
    let data_dir = Arc::new(TempDir::new());
    let tracker = Setup::error_tracker().data_dir(&data_dir).start();
    for number in 0..30 {
        let mut report = report_at(&format!("{number:06}"), number);
        report["extra"] = json!({ "cart": "\"x".repeat(62_500) });
        tracker.post("/api/errors", &report).expect(201);
    }
    tracker.kill();
    let setup = Setup::error_tracker().data_dir(&data_dir).env("EXPORT_FORMAT", "loki");
    let tracker = setup.env("EXPORT_URL", receiver.url()).start();
    assert_bounded(&tracker, &receiver, 30, |body| {
        let push: Value = serde_json::from_str(body).unwrap();
        let streams = push["streams"].as_array().unwrap().iter();
        let values = streams.flat_map(|stream| stream["values"].as_array().unwrap());
        let line = |value: &Value| serde_json::from_str::<Value>(value[1].as_str().unwrap()).unwrap();
        values.map(|value| line(value)["message"].as_str().unwrap().to_owned()).collect()
    });
}

#[test]
fn remote_write_passes_a_series_with_which_the_server_fails() {
    let is_repaired = Arc::new(AtomicBool::new(false));
    let repaired = Arc::clone(&is_repaired);
    let receiver = HttpReceiver::respond_with(move |body| {
        let fails = String::from_utf8_lossy(body).contains("poison") && !repaired.load(Ordering::Relaxed);
        (if fails { "500 Internal Server Error" } else { "204 No Content" }, String::new())
    });
    let collector = Setup::metrics_collector().env("REMOTE_WRITE_URL", receiver.url()).start();
    let names: Vec<String> = (0..20).map(|number| format!("orders_{number}")).collect();
    let names = names.iter().map(String::as_str).chain(["poison"]);
    let points: Vec<Value> = names.map(|name| json!({ "name": name, "type": "counter", "value": 3 })).collect();
    collector.post("/api/metrics", &json!(points)).expect(202);
    let stuck = || warning_count(&collector, "records_stuck");
    assert_eq!(wait_until(stuck), Some(1), "{:#?}", collector.log());
    is_repaired.store(true, Ordering::Relaxed);
    // Each new counter begins with a sample of 0.
    wait_for_number(&collector, "remote_write_sent", 2 * 21);
    assert_eq!(
        (collector.health_number("remote_write_waiting"), collector.health_number("remote_write_refused")),
        (0, 0)
    );
    assert_eq!(stuck(), None);
}
