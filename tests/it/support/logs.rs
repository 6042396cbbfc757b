//! Shared fixtures for tests of the log viewer: fake containers, API queries, and a client of the live tail.

use std::collections::VecDeque;
use std::fmt::{Debug, Write as _};
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use monlight::clock::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::docker_log::{container_config, json_file_line, log_name};
use super::harness::{Client, Request, Service, TempDir, wait_until};

/// Fake container: the folder, configuration and json-file log that Docker would write.
pub struct Container {
    dir: PathBuf,
    id: String,
}

impl Container {
    /// Creates a container that a log viewer with this data folder reads.
    pub fn new(data_dir: &TempDir, name: &str) -> Self {
        let mut container = Self::new_hidden(data_dir, name);
        container.publish(data_dir);
        container
    }

    /// Creates a container outside the folder that the log viewer reads; see `publish`.
    pub fn new_hidden(data_dir: &TempDir, name: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let id = format!("{:08x}", NEXT.fetch_add(1, Ordering::Relaxed)).repeat(8);
        let container = Self { dir: data_dir.path().join("hidden").join(&id), id };
        std::fs::create_dir_all(&container.dir).unwrap();
        std::fs::write(container.dir.join("config.v2.json"), container_config(&container.id, name)).unwrap();
        container
    }

    /// Moves a hidden container into the folder that the log viewer reads.
    pub fn publish(&mut self, data_dir: &TempDir) {
        let containers = data_dir.path().join("containers");
        std::fs::create_dir_all(&containers).unwrap();
        std::fs::rename(&self.dir, containers.join(&self.id)).unwrap();
        self.dir = containers.join(&self.id);
    }

    /// Returns the short ID, which the log viewer shows if it cannot read the name.
    pub fn short_id(&self) -> String {
        self.id[..12].to_owned()
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the path of the current log file.
    pub fn log_path(&self) -> PathBuf {
        self.dir.join(log_name(&self.id))
    }

    /// Appends lines, each given as (timestamp, stream, text). The text includes its newline.
    pub fn write_lines<'a>(&self, lines: impl IntoIterator<Item = (&'a str, &'a str, &'a str)>) {
        let lines: String = lines.into_iter().map(|(time, stream, text)| json_file_line(time, stream, text)).collect();
        self.append().write_all(lines.as_bytes()).unwrap();
    }

    /// Appends one stdout line per number, with timestamps one millisecond apart, in a single write.
    pub fn write_numbered_lines(&self, numbers: impl IntoIterator<Item = u32>) {
        let mut lines = String::new();
        for n in numbers {
            let (minute, second, ms) = (n / 60_000, n / 1_000 % 60, n % 1_000);
            let time = format!("2026-01-31T12:{minute:02}:{second:02}.{ms:03}Z");
            lines += &json_file_line(&time, "stdout", &format!("line {n}\n"));
        }
        self.append().write_all(lines.as_bytes()).unwrap();
    }

    /// Appends stdout lines with the current time, in a single write.
    pub fn write_now(&self, lines: impl IntoIterator<Item = impl AsRef<str>>) {
        let time = Timestamp::now().to_string();
        let line = |text: &str| json_file_line(&time, "stdout", &format!("{text}\n"));
        let lines: String = lines.into_iter().map(|text| line(text.as_ref())).collect();
        self.append().write_all(lines.as_bytes()).unwrap();
    }

    fn append(&self) -> File {
        OpenOptions::new().create(true).append(true).open(self.log_path()).unwrap()
    }
}

/// Log entry as the API returns it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Entry {
    pub id: i64,
    pub timestamp: String,
    pub container: String,
    pub stream: String,
    pub level: String,
    pub message: String,
}

/// Returns all entries that match a query, oldest first.
#[track_caller]
pub fn export_entries(viewer: &Service, query: &str) -> Vec<Entry> {
    let text = viewer.get(&format!("/api/logs/export?{query}")).expect(200).text();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// Returns the lines of all messages; a multiline message has several.
pub fn message_lines(entries: &[Entry]) -> Vec<&str> {
    entries.iter().flat_map(|entry| entry.message.split('\n')).collect()
}

/// Polls until the value equals `expected`; fails and shows the last value after the timeout.
#[track_caller]
pub fn assert_eventually_eq<T: PartialEq + Debug>(expected: &T, poll: impl Fn() -> T) {
    if wait_until(|| (poll() == *expected).then_some(())).is_none() {
        assert_eq!(poll(), *expected);
    }
}

/// Returns a container as `GET /api/logs/containers` lists it; null if it is not listed.
#[track_caller]
pub fn container_status(viewer: &Service, name: &str) -> Value {
    let response = viewer.get("/api/logs/containers").expect(200).json();
    let containers = response["containers"].as_array().unwrap();
    containers.iter().find(|container| container["name"] == name).cloned().unwrap_or_default()
}

/// Waits until a container has exactly `count` entries.
#[track_caller]
pub fn wait_for_entry_count(viewer: &Service, name: &str, count: u32) {
    assert_eventually_eq(&(name, json!(count)), || (name, container_status(viewer, name)["log_count"].clone()));
}

/// Percent-encodes every byte of a query parameter.
pub fn percent_encode(value: impl AsRef<[u8]>) -> String {
    value.as_ref().iter().fold(String::new(), |mut encoded, byte| {
        write!(encoded, "%{byte:02X}").unwrap();
        encoded
    })
}

/// Client of the live tail (`GET /api/logs/tail`), which reads server-sent events.
pub struct TailClient {
    client: Client,
    unparsed: String,
    events: VecDeque<Event>,
}

/// Server-sent event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Event {
    pub name: String,
    pub id: String,
    pub data: String,
}

impl Event {
    /// Parses the data of a `log` event and checks that the event ID is the entry's ID.
    #[track_caller]
    pub fn entry(&self) -> Entry {
        assert_eq!(self.name, "log", "{self:?}");
        let entry: Entry = serde_json::from_str(&self.data).unwrap();
        assert_eq!(self.id, entry.id.to_string());
        entry
    }
}

impl TailClient {
    /// Opens the tail; resumes after the entry `last_id` if it is given.
    #[track_caller]
    pub fn open(viewer: &Service, query: &str, last_id: Option<&str>) -> Self {
        Self::try_open(viewer, query, last_id).unwrap()
    }

    /// Opens the tail, or returns the status of the error response.
    pub fn try_open(viewer: &Service, query: &str, last_id: Option<&str>) -> Result<Self, u16> {
        let mut request = Request::get(&format!("/api/logs/tail?{query}"));
        if let Some(id) = last_id {
            request = request.header("Last-Event-ID", id);
        }
        let mut client = viewer.connect();
        client.write(&request.bytes());
        let head = client.read_head().unwrap();
        if head.status != 200 {
            return Err(head.status);
        }
        assert_eq!(head.header("content-type"), Some("text/event-stream"));
        let mut tail = Self { client, unparsed: String::new(), events: VecDeque::new() };
        // The stream starts with the `retry` field. From then on the client misses no entry.
        assert!(tail.read() && tail.unparsed.is_empty() && tail.events.is_empty(), "{:?}", tail.unparsed);
        Ok(tail)
    }

    /// Returns the next event; `None` at the end of the stream.
    pub fn next_event(&mut self) -> Option<Event> {
        while self.events.is_empty() {
            if !self.read() {
                return None;
            }
        }
        self.events.pop_front()
    }

    /// Returns the entry of the next event.
    #[track_caller]
    pub fn next_entry(&mut self) -> Entry {
        self.next_event().expect("the tail sends an event").entry()
    }

    fn read(&mut self) -> bool {
        let Some(chunk) = self.client.read_chunk().filter(|chunk| !chunk.is_empty()) else { return false };
        self.unparsed.push_str(std::str::from_utf8(&chunk).unwrap());
        while let Some(end) = self.unparsed.find("\n\n") {
            let mut event = Event::default();
            for line in self.unparsed[..end].lines() {
                match line.split_once(": ").unwrap() {
                    ("event", name) => name.clone_into(&mut event.name),
                    ("id", id) => id.clone_into(&mut event.id),
                    ("data", data) => event.data += data,
                    ("retry", ms) => assert!(ms.parse::<u32>().is_ok_and(|ms| ms >= 500), "{ms}"),
                    (other, _) => panic!("{other}"),
                }
            }
            self.unparsed.drain(..end + 2);
            if !event.name.is_empty() {
                self.events.push_back(event);
            }
        }
        true
    }
}
