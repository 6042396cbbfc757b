//! Live tail of the log viewer: every reader receives each new entry once and in order, even after a reconnect.

use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::harness::{Client, Request, Service, Setup, TEST_TIMEOUT, TempDir, wait_until};
use crate::support::logs::Container;

/// Maximum latency of a line on a busy machine. `make bench` measures the actual latency.
const LATENCY_MAX: Duration = Duration::from_secs(2);
const BURST: usize = 5_000;

/// Starts a viewer that reads one container and has stored its first line.
fn start_viewer() -> (Service, Container) {
    let data_dir = Arc::new(TempDir::new());
    let log = Container::new(&data_dir, "shop");
    let viewer = Setup::log_viewer().data_dir(&data_dir).start();
    log.write_now(["first"]);
    wait_for_stored(&viewer, 1);
    (viewer, log)
}

/// Waits until the viewer has stored this number of entries.
fn wait_for_stored(viewer: &Service, entries: usize) {
    let total = || viewer.get("/api/logs/stats").expect(200).json()["total_logs"].as_u64().unwrap();
    let reached = wait_until(|| (total() == entries as u64).then_some(()));
    assert!(reached.is_some(), "{} of {entries} entries were stored: {:#?}", total(), viewer.log());
}

fn messages(entries: &[Value]) -> Vec<&str> {
    entries.iter().map(|entry| entry["message"].as_str().unwrap()).collect()
}

fn numbered_lines(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| format!("line {number} of a burst")).collect()
}

/// Client of the live tail.
struct TailReader {
    client: Client,
    text: String,
    last_id: Option<String>,
}

impl TailReader {
    /// Requests the live tail and returns the status of the response. Dropping the reader closes the connection.
    fn connect(viewer: &Service, query: &str, last_id: Option<&str>) -> (u16, Self) {
        let mut request = Request::get(&format!("/api/logs/tail{query}"));
        if let Some(id) = last_id {
            request = request.header("Last-Event-ID", id);
        }
        let mut client = Client::new(TcpStream::connect(viewer.address).unwrap());
        client.write(&request.bytes());
        let head = client.read_head().expect("the viewer sends a response");
        if head.status == 200 {
            assert_eq!(head.header("content-type"), Some("text/event-stream"));
        }
        (head.status, Self { client, text: String::new(), last_id: None })
    }

    fn open(viewer: &Service, query: &str) -> Self {
        Self::resume(viewer, query, None)
    }

    /// Connects like a browser after an interruption, with the ID of the last received event.
    fn resume(viewer: &Service, query: &str, last_id: Option<&str>) -> Self {
        let (status, reader) = Self::connect(viewer, query, last_id);
        assert_eq!(status, 200);
        reader
    }

    /// Returns name, ID and data of the next event; `None` at the end of the stream.
    fn next_event(&mut self) -> Option<(String, Option<String>, Value)> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| {
                    event.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(str::to_owned)
                };
                let parsed = field("event").map(|name| (name, field("id"), field("data").unwrap()));
                self.text = rest.to_owned();
                if let Some((name, id, data)) = parsed {
                    return Some((name, id, serde_json::from_str(&data).unwrap()));
                }
                continue;
            }
            let chunk = self.client.read_chunk().filter(|chunk| !chunk.is_empty())?;
            self.text.push_str(&String::from_utf8(chunk).unwrap());
        }
    }

    /// Returns the next entry; `None` at the end of the stream.
    fn next_entry(&mut self) -> Option<Value> {
        loop {
            let (name, id, data) = self.next_event()?;
            match name.as_str() {
                "log" => {
                    assert_eq!(id, Some(data["id"].to_string()));
                    self.last_id = id;
                    return Some(data);
                }
                "heartbeat" => {}
                other => panic!("{other}: {data}"),
            }
        }
    }

    /// Returns the next `count` entries, or fewer at the end of the stream.
    fn read_entries(&mut self, count: usize) -> Vec<Value> {
        std::iter::from_fn(|| self.next_entry()).take(count).collect()
    }
}

#[test]
fn appended_line_arrives_immediately() {
    let (viewer, log) = start_viewer();
    let mut reader = TailReader::open(&viewer, "");
    for number in 0..100 {
        let (text, start) = (format!("line {number}"), Instant::now());
        log.write_now([&text]);
        let entry = reader.next_entry().unwrap();
        assert!(start.elapsed() < LATENCY_MAX, "{text} took {:?}", start.elapsed());
        assert_eq!(entry["message"], text.as_str());
        assert_eq!((&entry["container"], &entry["stream"]), (&json!("shop"), &json!("stdout")));
        // The list contains the same entry.
        if number == 0 {
            assert_eq!(viewer.get("/api/logs?limit=1").expect(200).json()["logs"][0], entry);
        }
    }
}

#[test]
fn burst_arrives_completely_and_in_order() {
    let (viewer, log) = start_viewer();
    let mut readers = [TailReader::open(&viewer, ""), TailReader::open(&viewer, "?container=sh*")];
    let lines = numbered_lines(0..BURST);
    log.write_now(&lines);
    for reader in &mut readers {
        assert_eq!(messages(&reader.read_entries(BURST)), lines);
    }
}

#[test]
fn reconnecting_reader_misses_and_repeats_no_entry() {
    for query in ["", "?search=burst", "?contains=of+a"] {
        let (mut viewer, log) = start_viewer();
        let mut reader = TailReader::open(&viewer, query);
        let lines = numbered_lines(0..BURST);
        let lines_to_write = lines.clone();
        let writer = std::thread::spawn(move || {
            for chunk in lines_to_write.chunks(250) {
                log.write_now(chunk);
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let mut received = Vec::new();
        // Disconnects within a batch of the viewer, at its end, after a single event, and while the viewer restarts.
        for (disconnect, count) in [1, 499, 700, 1, 300, 1_000, 999].into_iter().enumerate() {
            received.extend(reader.read_entries(count));
            let last_id = reader.last_id.clone();
            drop(reader);
            if disconnect % 3 == 2 {
                viewer = Setup::log_viewer().data_dir(&viewer.kill()).start();
            }
            reader = TailReader::resume(&viewer, query, last_id.as_deref());
        }
        received.extend(reader.read_entries(BURST - received.len()));
        writer.join().unwrap();
        assert_eq!(messages(&received), lines, "{query}");
        assert_eq!(viewer.get("/api/logs/stats").expect(200).json()["total_logs"], json!(BURST + 1));
    }
}

#[test]
fn reader_whose_last_entry_was_deleted_receives_the_kept_entries_after_a_gap() {
    const KEPT_MAX: usize = 100;
    let (viewer, log) = start_viewer();
    let first = viewer.get("/api/logs").expect(200).json()["logs"][0]["id"].to_string();
    let viewer = Setup::log_viewer().data_dir(&viewer.kill()).env("MAX_ENTRIES", KEPT_MAX).start();
    log.write_now(numbered_lines(0..1_000));
    let newest = || viewer.get("/api/logs?limit=1").expect(200).json()["logs"][0]["message"].clone();
    assert!(wait_until(|| (newest() == numbered_lines(999..1_000)[0].as_str()).then_some(())).is_some());
    let mut reader = TailReader::resume(&viewer, "", Some(&first));
    let (name, id, data) = reader.next_event().unwrap();
    assert_eq!((name.as_str(), id, data["after"].to_string()), ("gap", None, first));
    let kept = viewer.get("/api/logs/stats").expect(200).json()["total_logs"].as_u64().unwrap() as usize;
    assert!((KEPT_MAX / 2..=KEPT_MAX).contains(&kept), "{kept}");
    assert_eq!(messages(&reader.read_entries(kept)), numbered_lines(1_000 - kept..1_000));
    log.write_now(["new"]);
    assert_eq!(messages(&reader.read_entries(1)), ["new"]);
}

#[test]
fn reader_that_connects_after_a_start_receives_only_new_entries() {
    let (viewer, log) = start_viewer();
    log.write_now(numbered_lines(0..1_000));
    wait_for_stored(&viewer, 1_001);
    let viewer = Setup::log_viewer().data_dir(&viewer.kill()).start();
    let mut reader = TailReader::open(&viewer, "");
    log.write_now(["new"]);
    assert_eq!(messages(&reader.read_entries(1)), ["new"]);
}

#[test]
fn slow_readers_are_replaced_and_do_not_delay_others() {
    const LINES: usize = 20_000;
    let (viewer, log) = start_viewer();
    let mut fast = TailReader::open(&viewer, "?search=last");
    let slow: Vec<TailReader> = (0..4).map(|_| TailReader::open(&viewer, "")).collect();
    let mut others = Vec::new();
    let padding = "more than the socket buffers hold ".repeat(30);
    let start = Instant::now();
    for chunk in numbered_lines(0..LINES).chunks(500) {
        log.write_now(chunk.iter().map(|line| format!("{line} {padding}")));
    }
    log.write_now(["the last"]);
    assert_eq!(messages(&fast.read_entries(1)), ["the last"]);
    wait_for_stored(&viewer, LINES + 2);
    // Slow readers are disconnected after thirty seconds. A shorter time shows that nothing has waited for them.
    assert!(start.elapsed() < Duration::from_secs(20), "ingestion took {:?}", start.elapsed());
    drop(fast);
    // Other clients need not wait for that either.
    for address in 2..6 {
        let admitted = wait_until(|| {
            let mut client = viewer.connect_from([127, 0, 0, address]).unwrap();
            client.write(&Request::get("/api/logs/tail").bytes());
            client.read_head().filter(|head| head.status == 200).map(|_| client)
        });
        assert!(admitted.is_some(), "slow readers are not replaced: {:#?}", viewer.log());
        others.push(admitted);
    }
    drop(slow);
}

#[test]
fn at_most_five_readers_are_admitted() {
    let (viewer, log) = start_viewer();
    let mut readers: Vec<TailReader> = (0..5).map(|_| TailReader::open(&viewer, "")).collect();
    viewer.get("/api/logs/tail").expect(503).has_detail("Too many live tails");
    readers.pop();
    let admitted = wait_until(|| Some(TailReader::connect(&viewer, "", None)).filter(|(status, _)| *status == 200));
    readers.push(admitted.expect("a new reader replaces one that has disconnected").1);
    log.write_now(["for all"]);
    for reader in &mut readers {
        assert_eq!(messages(&reader.read_entries(1)), ["for all"]);
    }
}

#[test]
fn filters_apply_to_live_and_to_missed_entries() {
    let data_dir = Arc::new(TempDir::new());
    let mut logs = ["shop-web", "shop-api", "mail"].map(|name| Container::new(&data_dir, name));
    let viewer = Setup::log_viewer().data_dir(&data_dir).start();
    logs[0].write_now(["first"]);
    wait_for_stored(&viewer, 1);
    let first = viewer.get("/api/logs").expect(200).json()["logs"][0]["id"].to_string();
    let filters = [
        ("?container=mail", vec!["ERROR mail order 10.0.0.1", "INFO mail order 10.0.0.2"]),
        ("?container=shop-*&level=ERROR", vec!["ERROR shop-web order 10.0.0.1", "ERROR shop-api order 10.0.0.1"]),
        ("?level=%3E%3DERROR&search=mail", vec!["ERROR mail order 10.0.0.1"]),
        ("?search=10.0.0.2&container=shop-web", vec!["INFO shop-web order 10.0.0.2"]),
        ("?contains=API+ORDER", vec!["ERROR shop-api order 10.0.0.1", "INFO shop-api order 10.0.0.2"]),
        ("?regex=web.*1$", vec!["ERROR shop-web order 10.0.0.1"]),
    ];
    let mut live: Vec<TailReader> = filters[..5].iter().map(|(filter, _)| TailReader::open(&viewer, filter)).collect();
    for (log, name) in logs.iter_mut().zip(["shop-web", "shop-api", "mail"]) {
        // Waits until the lines of one container are stored before writing the next, so that the order is fixed.
        log.write_now([format!("ERROR {name} order 10.0.0.1"), format!("INFO {name} order 10.0.0.2")]);
        let path = format!("/api/logs?container={name}&search=order&limit=1");
        let stored = wait_until(|| (viewer.get(&path).expect(200).json()["total"] == json!(2)).then_some(()));
        assert!(stored.is_some(), "{name}: {:#?}", viewer.log());
    }
    for (reader, (filter, expected)) in live.iter_mut().zip(&filters) {
        assert_eq!(messages(&reader.read_entries(expected.len())), *expected, "live {filter}");
    }
    drop(live);
    // After a restart, the viewer reads missed entries from the database instead of its memory.
    let viewer = Setup::log_viewer().data_dir(&viewer.kill()).start();
    for (filter, expected) in &filters {
        let reader = wait_until(|| {
            Some(TailReader::connect(&viewer, filter, Some(&first))).filter(|(status, _)| *status == 200)
        });
        let (_, mut reader) = reader.expect("a reader is admitted");
        assert_eq!(messages(&reader.read_entries(expected.len())), *expected, "missed {filter}");
    }
    viewer.get("/api/logs/tail?level=loud").expect(400);
    viewer.get("/api/logs/tail?regex=(").expect(400);
}

#[test]
fn stopping_viewer_sends_a_close_event() {
    let (viewer, _log) = start_viewer();
    let mut reader = TailReader::open(&viewer, "");
    let (status, duration) = viewer.stop();
    assert!(status.success() && duration < TEST_TIMEOUT, "{status} after {duration:?}");
    assert_eq!(reader.next_event().map(|(name, ..)| name), Some("close".into()));
    assert!(reader.next_event().is_none());
}
