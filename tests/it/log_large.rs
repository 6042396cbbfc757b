//! Log viewer with large messages: every answer is complete, lists truncate messages, and no answer is in memory as a whole.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::harness::{Client, Request, Service, Setup, TempDir, wait_until};
use crate::support::logs::{TailClient, container_status};

/// Maximum length of a message in a list.
const LISTED_BYTES_MAX: usize = 8 * 1024;
const READERS_PER_KIND: usize = 6;
/// Maximum memory of the released program, in KiB. The one that cargo builds for tests needs more.
const MEMORY_KIB_MAX: u64 = 24 * 1024;

/// Number and length of the messages: with the released program, half a thousand and a megabyte.
fn sizes() -> [(usize, usize); 3] {
    if is_release() {
        [(500, 30_000), (300, 100_000), (60, 1_000_000)]
    } else {
        [(60, 30_000), (30, 100_000), (6, 1_000_000)]
    }
}

fn is_release() -> bool {
    std::env::var_os("MONLIGHT_BIN_DIR").is_some()
}

/// Viewer with one short message, and then long ones.
struct Fixture {
    viewer: Service,
    /// Message lengths by number.
    lengths: Vec<usize>,
    first_id: i64,
}

/// Returns a message with its number, characters that JSON escapes, and a character of four bytes.
fn message(number: usize, bytes: usize) -> String {
    let mut message = format!("number {number} \u{1b}[31m\"\\\u{1f600}");
    let padding = format!("{number}é\t");
    while message.len() + padding.len() < bytes {
        message.push_str(&padding);
    }
    message.push_str(&"!".repeat(bytes.saturating_sub(message.len())));
    message
}

impl Fixture {
    fn start() -> Self {
        let data_dir = Arc::new(TempDir::new());
        let lengths: Vec<usize> =
            sizes().into_iter().flat_map(|(count, bytes)| std::iter::repeat_n(bytes, count)).collect();
        let lines: String = lengths.iter().enumerate().map(|(number, bytes)| message(number, *bytes) + "\n").collect();
        let path = data_dir.path().join("app.log");
        std::fs::write(&path, "first\n").unwrap();
        let setup = Setup::log_viewer().data_dir(&data_dir).env("LOG_FILES", format!("app={}", path.display()));
        let viewer = setup.env("TAIL_BUFFER", 1_000_000_000).env("MAX_DB_MB", 2_048).start();
        let wait_for = |count: usize| {
            let stored = wait_until(|| (container_status(&viewer, "app")["log_count"] == json!(count)).then_some(()));
            assert!(stored.is_some(), "{count}: {}, {:#?}", container_status(&viewer, "app"), viewer.log());
        };
        wait_for(1);
        let first_id = viewer.get("/api/logs").expect(200).json()["logs"][0]["id"].as_i64().unwrap();
        let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        std::io::Write::write_all(&mut file, lines.as_bytes()).unwrap();
        wait_for(lengths.len() + 1);
        Self { viewer, lengths, first_id }
    }

    /// Asserts that the entries are all long messages, whole or truncated, each once.
    #[track_caller]
    fn assert_complete<'a>(&self, entries: impl Iterator<Item = &'a Value>, truncated: bool) {
        let mut found: BTreeMap<usize, ()> = BTreeMap::new();
        for entry in entries.filter(|entry| entry["message"] != "first") {
            let text = entry["message"].as_str().unwrap();
            let number: usize = text.split(' ').nth(1).unwrap().parse().unwrap();
            let whole = message(number, self.lengths[number]);
            if truncated {
                assert_eq!((&entry["truncated"], &entry["message_bytes"]), (&json!(true), &json!(whole.len())));
                assert!(text.len() > LISTED_BYTES_MAX - 4 && text.len() <= LISTED_BYTES_MAX, "{}", text.len());
                assert!(whole.starts_with(text), "number {number}");
            } else {
                assert!(entry.get("truncated").is_none() && text == whole, "number {number}: {}", text.len());
            }
            assert!(found.insert(number, ()).is_none(), "number {number} is repeated");
        }
        assert_eq!(found.len(), self.lengths.len());
    }

    fn list(&self, gzip: bool) -> Vec<Value> {
        let mut entries = Vec::new();
        for offset in (0..=self.lengths.len()).step_by(500) {
            let request = Request::get(&format!("/api/logs?limit=500&offset={offset}"));
            let request = if gzip { request.header("Accept-Encoding", "gzip") } else { request };
            let mut page = read_slowly(&self.viewer, &request);
            if gzip {
                let mut plain = Vec::new();
                flate2::read::GzDecoder::new(page.as_slice()).read_to_end(&mut plain).unwrap();
                page = plain;
            }
            let page: Value = serde_json::from_slice(&page).unwrap();
            assert_eq!(
                (&page["total"], &page["offset"], &page["limit"]),
                (&json!(self.lengths.len() + 1), &json!(offset), &json!(500))
            );
            entries.extend(page["logs"].as_array().unwrap().iter().cloned());
        }
        entries
    }

    fn export(&self) -> Vec<Value> {
        let body = read_slowly(&self.viewer, &Request::get("/api/logs/export"));
        body.split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect()
    }

    fn tail(&self) -> Vec<Value> {
        let mut tail = TailClient::open(&self.viewer, "", Some(&self.first_id.to_string()));
        (0..self.lengths.len()).map(|_| serde_json::from_str(&tail.next_event().unwrap().data).unwrap()).collect()
    }
}

/// Sends a request, reads the response with a small receive buffer, and returns its body.
fn read_slowly(viewer: &Service, request: &Request) -> Vec<u8> {
    let mut client = Client::connect(viewer.address);
    rustix::net::sockopt::set_socket_recv_buffer_size(client.socket(), 16_384).unwrap();
    client.write(&request.bytes());
    std::thread::sleep(Duration::from_millis(200));
    client.read_response().expect(200).body
}

#[test]
fn large_answers_are_complete_and_need_little_memory() {
    let fixture = Fixture::start();
    let (_, ingest_peak) = fixture.viewer.memory_kib();
    std::thread::scope(|scope| {
        for _ in 0..READERS_PER_KIND {
            scope.spawn(|| fixture.assert_complete(fixture.list(false).iter(), true));
            scope.spawn(|| fixture.assert_complete(fixture.list(true).iter(), true));
            scope.spawn(|| fixture.assert_complete(fixture.export().iter(), false));
        }
        // At most five live tails are open.
        for _ in 0..READERS_PER_KIND - 1 {
            scope.spawn(|| fixture.assert_complete(fixture.tail().iter(), true));
        }
    });
    let (_, peak) = fixture.viewer.memory_kib();
    eprintln!("peak memory: {ingest_peak} KiB after ingestion, {peak} KiB after all answers");
    assert!(!is_release() || peak < MEMORY_KIB_MAX, "{peak} KiB");
}

#[test]
fn a_truncated_message_can_be_fetched_whole() {
    let data_dir = Arc::new(TempDir::new());
    let path = data_dir.path().join("app.log");
    let messages = [message(0, LISTED_BYTES_MAX), message(1, LISTED_BYTES_MAX + 1), message(2, 1_000_000)];
    std::fs::write(&path, messages.join("\n") + "\n").unwrap();
    let setup = Setup::log_viewer().data_dir(&data_dir).env("LOG_FILES", format!("app={}", path.display()));
    let viewer = setup.env("TAIL_BUFFER", 10_000_000).start();
    let stored = wait_until(|| (container_status(&viewer, "app")["log_count"] == json!(3)).then_some(()));
    assert!(stored.is_some(), "{:#?}", viewer.log());

    let mut logs = viewer.get("/api/logs").expect(200).json()["logs"].as_array().unwrap().clone();
    logs.reverse();
    assert_eq!((&logs[0]["message"], logs[0].get("truncated")), (&json!(messages[0]), None));
    for (entry, message) in logs.iter().zip(&messages) {
        let whole = viewer.get(&format!("/api/logs/{}", entry["id"])).expect(200).json();
        assert!(whole["message"] == json!(message) && whole.get("truncated").is_none());
        assert_eq!((&whole["timestamp"], &whole["container"]), (&entry["timestamp"], &json!("app")));
        let context = viewer.get(&format!("/api/logs/{}/context", entry["id"])).expect(200).json();
        assert_eq!(context["logs"], json!(logs), "the context is truncated like the list");
    }
    // Patterns match the whole message.
    let end = viewer.get("/api/logs?regex=2%C3%A9%5Ct!*$").expect(200).json();
    assert_eq!((&end["total"], &end["logs"][0]["message_bytes"]), (&json!(1), &json!(1_000_000)));
    let text = viewer.get("/api/logs/export?format=text").expect(200).text();
    for (line, message) in text.lines().zip(&messages) {
        assert!(line.ends_with(&format!(" app stdout INFO {}", message.replace("\u{1b}[31m", ""))));
    }
    viewer.get("/api/logs/7").expect(404).has_detail("Log entry 7 not found");
    viewer.get("/api/logs/x").expect(404);
    viewer.get("/api/logs/0").expect(404);
}

#[test]
fn half_of_the_exports_are_left_to_other_clients() {
    let data_dir = Arc::new(TempDir::new());
    let path = data_dir.path().join("app.log");
    std::fs::write(&path, (0..20).map(|number| message(number, 1_000_000) + "\n").collect::<String>()).unwrap();
    let setup = Setup::log_viewer().data_dir(&data_dir).env("LOG_FILES", format!("app={}", path.display()));
    let viewer = setup.env("TAIL_BUFFER", 100_000_000).start();
    let stored = wait_until(|| (container_status(&viewer, "app")["log_count"] == json!(20)).then_some(()));
    assert!(stored.is_some(), "{:#?}", viewer.log());
    let request = Request::get("/api/logs/export").bytes();
    // These clients do not read, so their exports do not end.
    let mut waiting = Vec::new();
    for _ in 0..READERS_PER_KIND {
        let mut client = Client::connect(viewer.address);
        rustix::net::sockopt::set_socket_recv_buffer_size(client.socket(), 16_384).unwrap();
        client.write(&request);
        assert_eq!(client.read_head().unwrap().status, 200);
        waiting.push(client);
    }
    viewer.get("/api/logs/export?limit=1").expect(503).has_detail("6 for one client");
    let mut other = viewer.connect_from([127, 0, 0, 2]).unwrap();
    assert_eq!(other.send(&Request::get("/api/logs/export?container=none")).status, 200);
}
