//! The live tail: what is logged reaches everybody who watches, once and in its order, whoever comes and goes.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Client, Request, Service, Setup, TEST_TIMEOUT, TempDir, wait_until};

/// How long one line may take on a machine that has much else to do. What it takes is measured by `make bench`.
const LINE_WITHIN: Duration = Duration::from_secs(2);
const BURST: usize = 5_000;

/// The log of one container.
struct Log(File);

impl Log {
    fn create(folder: &TempDir, name: &str) -> Self {
        let id = format!("{:0>64}", name.bytes().fold(String::new(), |id, byte| format!("{id}{byte:02x}")));
        let container: PathBuf = folder.path().join("containers").join(&id);
        std::fs::create_dir_all(&container).unwrap();
        let config = json!({ "ID": id, "Name": format!("/{name}"), "LogPath": format!("/{id}/{id}-json.log") });
        let path = container.join(format!("{id}-json.log"));
        let log = Self(OpenOptions::new().create(true).append(true).open(path).unwrap());
        std::fs::write(container.join("config.v2.json"), config.to_string()).unwrap();
        log
    }

    /// Writes these lines at once.
    fn write(&mut self, lines: impl IntoIterator<Item = impl AsRef<str>>) {
        let time = time::OffsetDateTime::now_utc().format(&time::format_description::well_known::Rfc3339).unwrap();
        let line = |line: &str| json!({ "log": format!("{line}\n"), "stream": "stdout", "time": time }).to_string();
        let text: String = lines.into_iter().map(|text| line(text.as_ref()) + "\n").collect();
        self.0.write_all(text.as_bytes()).unwrap();
    }
}

/// A viewer of one container that has logged a line already.
fn viewer_of_one() -> (Service, Log) {
    let folder = Arc::new(TempDir::new());
    let mut log = Log::create(&folder, "shop");
    let viewer = Setup::log_viewer().data_dir(&folder).start();
    log.write(["first"]);
    stored(&viewer, 1);
    (viewer, log)
}

/// Waits until so many entries are stored.
fn stored(viewer: &Service, entries: usize) {
    let total = || viewer.get("/api/logs/stats").expect(200).json()["total_logs"].as_u64().unwrap();
    let all = wait_until(|| (total() == entries as u64).then_some(()));
    assert!(all.is_some(), "{} of {entries} entries were stored: {:#?}", total(), viewer.log());
}

fn messages(entries: &[Value]) -> Vec<&str> {
    entries.iter().map(|entry| entry["message"].as_str().unwrap()).collect()
}

fn numbered(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| format!("line {number} of a burst")).collect()
}

/// Somebody who watches.
struct Reader {
    client: Client,
    text: String,
    last_id: Option<String>,
}

impl Reader {
    /// Asks for the tail and answers with which status that was met; the reader may be dropped to hang up.
    fn ask(viewer: &Service, query: &str, last_id: Option<&str>) -> (u16, Self) {
        let mut request = Request::get(&format!("/api/logs/tail{query}"));
        if let Some(id) = last_id {
            request = request.header("Last-Event-ID", id);
        }
        let mut client = Client::new(TcpStream::connect(viewer.address).unwrap());
        client.write(&request.bytes());
        let head = client.read_head().expect("an answer");
        if head.status == 200 {
            assert_eq!(head.header("content-type"), Some("text/event-stream"));
        }
        (head.status, Self { client, text: String::new(), last_id: None })
    }

    fn open(viewer: &Service, query: &str) -> Self {
        Self::again(viewer, query, None)
    }

    /// As a browser does that was cut off: it says which event was the last it has seen.
    fn again(viewer: &Service, query: &str, last_id: Option<&str>) -> Self {
        let (status, reader) = Self::ask(viewer, query, last_id);
        assert_eq!(status, 200);
        reader
    }

    /// Name, id and data of the next event; `None` at the end.
    fn event(&mut self) -> Option<(String, Option<String>, Value)> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let member = |name: &str| {
                    event.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(str::to_owned)
                };
                let found = member("event").map(|name| (name, member("id"), member("data").unwrap()));
                self.text = rest.to_owned();
                if let Some((name, id, data)) = found {
                    return Some((name, id, serde_json::from_str(&data).unwrap()));
                }
                continue;
            }
            let chunk = self.client.read_chunk().filter(|chunk| !chunk.is_empty())?;
            self.text.push_str(&String::from_utf8(chunk).unwrap());
        }
    }

    /// The next entry; `None` when the stream has ended.
    fn next(&mut self) -> Option<Value> {
        loop {
            let (name, id, data) = self.event()?;
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

    fn take(&mut self, count: usize) -> Vec<Value> {
        std::iter::from_fn(|| self.next()).take(count).collect()
    }
}

#[test]
fn a_line_appended_is_seen_at_once() {
    let (viewer, mut log) = viewer_of_one();
    let mut reader = Reader::open(&viewer, "");
    for number in 0..100 {
        let (text, begun) = (format!("line {number}"), Instant::now());
        log.write([&text]);
        let entry = reader.next().unwrap();
        assert!(begun.elapsed() < LINE_WITHIN, "{text} took {:?}", begun.elapsed());
        assert_eq!(entry["message"], text.as_str());
        assert_eq!((&entry["container"], &entry["stream"]), (&json!("shop"), &json!("stdout")));
        // It is what the list shows of it.
        if number == 0 {
            assert_eq!(viewer.get("/api/logs?limit=1").expect(200).json()["logs"][0], entry);
        }
    }
}

#[test]
fn a_burst_comes_whole_and_in_order() {
    let (viewer, mut log) = viewer_of_one();
    let mut readers = [Reader::open(&viewer, ""), Reader::open(&viewer, "?container=sh*")];
    let lines = numbered(0..BURST);
    log.write(&lines);
    for reader in &mut readers {
        assert_eq!(messages(&reader.take(BURST)), lines);
    }
}

#[test]
fn whoever_is_cut_off_in_a_burst_misses_and_repeats_nothing() {
    for query in ["", "?search=burst", "?contains=of+a"] {
        let (mut viewer, mut log) = viewer_of_one();
        let mut reader = Reader::open(&viewer, query);
        let lines = numbered(0..BURST);
        let written = lines.clone();
        let writing = std::thread::spawn(move || {
            for some in written.chunks(250) {
                log.write(some);
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let mut seen = Vec::new();
        // Cut off within what is read at once, at its end, just after one event, and while the viewer is started anew.
        for (cut, count) in [1, 499, 700, 1, 300, 1_000, 999].into_iter().enumerate() {
            seen.extend(reader.take(count));
            let last_id = reader.last_id.clone();
            drop(reader);
            if cut % 3 == 2 {
                viewer = Setup::log_viewer().data_dir(&viewer.kill()).start();
            }
            reader = Reader::again(&viewer, query, last_id.as_deref());
        }
        seen.extend(reader.take(BURST - seen.len()));
        writing.join().unwrap();
        assert_eq!(messages(&seen), lines, "{query}");
        assert_eq!(viewer.get("/api/logs/stats").expect(200).json()["total_logs"], json!(BURST + 1));
    }
}

#[test]
fn who_comes_right_after_a_start_sees_only_what_is_new() {
    let (viewer, mut log) = viewer_of_one();
    log.write(numbered(0..1_000));
    stored(&viewer, 1_001);
    let viewer = Setup::log_viewer().data_dir(&viewer.kill()).start();
    let mut reader = Reader::open(&viewer, "");
    log.write(["new"]);
    assert_eq!(messages(&reader.take(1)), ["new"]);
}

#[test]
fn who_does_not_read_is_dropped_and_slows_nobody() {
    const LINES: usize = 20_000;
    let (viewer, mut log) = viewer_of_one();
    let mut quick = Reader::open(&viewer, "?search=last");
    let slow: Vec<Reader> = (0..4).map(|_| Reader::open(&viewer, "")).collect();
    let long = "so much that no socket holds it ".repeat(30);
    let begun = Instant::now();
    for some in numbered(0..LINES).chunks(500) {
        log.write(some.iter().map(|line| format!("{line} {long}")));
    }
    log.write(["the last"]);
    assert_eq!(messages(&quick.take(1)), ["the last"]);
    stored(&viewer, LINES + 2);
    // They are given ten seconds before they are dropped, so nothing has waited for them.
    assert!(begun.elapsed() < Duration::from_secs(8), "it took {:?}", begun.elapsed());
    let mut fresh = Vec::new();
    let all_free = wait_until(|| {
        fresh.extend(Some(Reader::ask(&viewer, "", None)).filter(|(status, _)| *status == 200));
        (fresh.len() == slow.len()).then_some(())
    });
    assert!(all_free.is_some(), "those who do not read keep their places: {:#?}", viewer.log());
}

#[test]
fn five_may_watch() {
    let (viewer, mut log) = viewer_of_one();
    let mut readers: Vec<Reader> = (0..5).map(|_| Reader::open(&viewer, "")).collect();
    viewer.get("/api/logs/tail").expect(503).has_detail("Five readers");
    readers.pop();
    let place = wait_until(|| Some(Reader::ask(&viewer, "", None)).filter(|(status, _)| *status == 200));
    readers.push(place.expect("the place of one that has gone is free").1);
    log.write(["for all"]);
    for reader in &mut readers {
        assert_eq!(messages(&reader.take(1)), ["for all"]);
    }
}

#[test]
fn filters_hold_for_what_is_live_and_for_what_was_missed() {
    let folder = Arc::new(TempDir::new());
    let mut logs = ["shop-web", "shop-api", "mail"].map(|name| Log::create(&folder, name));
    let viewer = Setup::log_viewer().data_dir(&folder).start();
    logs[0].write(["first"]);
    stored(&viewer, 1);
    let first = viewer.get("/api/logs").expect(200).json()["logs"][0]["id"].to_string();
    let filters = [
        ("?container=mail", vec!["ERROR mail order 10.0.0.1", "INFO mail order 10.0.0.2"]),
        ("?container=shop-*&level=ERROR", vec!["ERROR shop-web order 10.0.0.1", "ERROR shop-api order 10.0.0.1"]),
        ("?level=%3E%3DERROR&search=mail", vec!["ERROR mail order 10.0.0.1"]),
        ("?search=10.0.0.2&container=shop-web", vec!["INFO shop-web order 10.0.0.2"]),
        ("?contains=API+ORDER", vec!["ERROR shop-api order 10.0.0.1", "INFO shop-api order 10.0.0.2"]),
        ("?regex=web.*1$", vec!["ERROR shop-web order 10.0.0.1"]),
    ];
    let mut live: Vec<Reader> = filters[..5].iter().map(|(filter, _)| Reader::open(&viewer, filter)).collect();
    for (log, name) in logs.iter_mut().zip(["shop-web", "shop-api", "mail"]) {
        // Each is stored before the next is written, so that all agree on the order.
        log.write([format!("ERROR {name} order 10.0.0.1"), format!("INFO {name} order 10.0.0.2")]);
        let path = format!("/api/logs?container={name}&search=order&limit=1");
        let both = wait_until(|| (viewer.get(&path).expect(200).json()["total"] == json!(2)).then_some(()));
        assert!(both.is_some(), "{name}: {:#?}", viewer.log());
    }
    for (reader, (filter, those)) in live.iter_mut().zip(&filters) {
        assert_eq!(messages(&reader.take(those.len())), *those, "live {filter}");
    }
    drop(live);
    // What came before a start is looked up rather than remembered.
    let viewer = Setup::log_viewer().data_dir(&viewer.kill()).start();
    for (filter, those) in &filters {
        let reader =
            wait_until(|| Some(Reader::ask(&viewer, filter, Some(&first))).filter(|(status, _)| *status == 200));
        let (_, mut reader) = reader.expect("a place is free");
        assert_eq!(messages(&reader.take(those.len())), *those, "missed {filter}");
    }
    viewer.get("/api/logs/tail?level=loud").expect(400);
    viewer.get("/api/logs/tail?regex=(").expect(400);
}

#[test]
fn a_stop_says_goodbye() {
    let (viewer, _log) = viewer_of_one();
    let mut reader = Reader::open(&viewer, "");
    let (status, took) = viewer.stop();
    assert!(status.success() && took < TEST_TIMEOUT, "{status} after {took:?}");
    assert_eq!(reader.event().map(|(name, ..)| name), Some("close".into()));
    assert!(reader.event().is_none());
}
