//! What the tests of the log viewer ask in common.

use std::collections::VecDeque;
use std::fmt::{Debug, Write as _};
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::harness::{Client, Folder, Request, Service, wait_until};

/// A container, as far as Docker's files show one.
pub struct Container {
    folder: PathBuf,
    id: String,
}

impl Container {
    /// Makes one where a log viewer looks that runs in this folder.
    pub fn new(folder: &Folder, name: &str) -> Self {
        let mut container = Self::unlisted(folder, name);
        container.list(folder);
        container
    }

    /// Makes one aside, where nobody looks yet.
    pub fn unlisted(folder: &Folder, name: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let id = format!("{:08x}", NEXT.fetch_add(1, Ordering::Relaxed)).repeat(8);
        let container = Self { folder: folder.path().join("aside").join(&id), id };
        std::fs::create_dir_all(&container.folder).unwrap();
        let config = json!({
            "ID": container.id, "Name": format!("/{name}"), "LogPath": container.log(),
            "Config": { "Image": "shop:1", "Labels": { "com.docker.compose.project": "shop" } },
        });
        std::fs::write(container.folder.join("config.v2.json"), config.to_string()).unwrap();
        container
    }

    /// Moves it to where a log viewer looks.
    pub fn list(&mut self, folder: &Folder) {
        let to = folder.path().join("containers");
        std::fs::create_dir_all(&to).unwrap();
        std::fs::rename(&self.folder, to.join(&self.id)).unwrap();
        self.folder = to.join(&self.id);
    }

    /// What stands for it where its name is not known.
    pub fn short_id(&self) -> String {
        self.id[..12].to_owned()
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file Docker writes to.
    pub fn log(&self) -> PathBuf {
        self.folder.join(format!("{}-json.log", self.id))
    }

    /// Docker's lines of what the program wrote: the moment, the stream and the text, which brings its own newline.
    pub fn writes<'a>(&self, lines: impl IntoIterator<Item = (&'a str, &'a str, &'a str)>) {
        let line = |(time, stream, log)| json!({ "log": log, "stream": stream, "time": time }).to_string() + "\n";
        let lines: String = lines.into_iter().map(line).collect();
        self.append().write_all(lines.as_bytes()).unwrap();
    }

    /// One line to stdout for each number, a millisecond after the other, all in one write.
    pub fn counts(&self, numbers: impl IntoIterator<Item = u32>) {
        let mut lines = String::new();
        for n in numbers {
            let (minute, second, ms) = (n / 60_000, n / 1_000 % 60, n % 1_000);
            let time = format!("2026-01-31T12:{minute:02}:{second:02}.{ms:03}Z");
            writeln!(lines, "{}", json!({ "log": format!("line {n}\n"), "stream": "stdout", "time": time })).unwrap();
        }
        self.append().write_all(lines.as_bytes()).unwrap();
    }

    fn append(&self) -> File {
        OpenOptions::new().create(true).append(true).open(self.log()).unwrap()
    }
}

/// An entry as the API answers it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Entry {
    pub id: i64,
    pub timestamp: String,
    pub container: String,
    pub stream: String,
    pub level: String,
    pub message: String,
}

/// Everything that a query fits, the oldest first.
#[track_caller]
pub fn exported(viewer: &Service, query: &str) -> Vec<Entry> {
    let text = viewer.get(&format!("/api/logs/export?{query}")).expect(200).text();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|why| panic!("{why}: {line}"))).collect()
}

/// The lines of entries; one may have several.
pub fn lines(entries: &[Entry]) -> Vec<&str> {
    entries.iter().flat_map(|entry| entry.message.split('\n')).collect()
}

/// Waits until what is looked at is as it should be; tells how it is when that does not come.
#[track_caller]
pub fn becomes<T: PartialEq + Debug>(expected: &T, look: impl Fn() -> T) {
    if wait_until(|| (look() == *expected).then_some(())).is_none() {
        assert_eq!(look(), *expected);
    }
}

/// What the API says of a container.
#[track_caller]
pub fn container(viewer: &Service, name: &str) -> Value {
    let answer = viewer.get("/api/logs/containers").expect(200).json();
    let containers = answer["containers"].as_array().unwrap();
    containers.iter().find(|container| container["name"] == name).cloned().unwrap_or_default()
}

/// Waits until a container has as many entries.
#[track_caller]
pub fn has(viewer: &Service, name: &str, entries: u32) {
    becomes(&(name, json!(entries)), || (name, container(viewer, name)["log_count"].clone()));
}

/// A value of a query as it is written in an address.
pub fn encoded(value: impl AsRef<[u8]>) -> String {
    value.as_ref().iter().fold(String::new(), |mut all, byte| {
        write!(all, "%{byte:02X}").unwrap();
        all
    })
}

/// A reader of the live tail.
pub struct Tail {
    client: Client,
    text: String,
    events: VecDeque<Event>,
}

/// What it is told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Event {
    pub name: String,
    pub id: String,
    pub data: String,
}

impl Event {
    #[track_caller]
    pub fn entry(&self) -> Entry {
        assert_eq!(self.name, "log", "{self:?}");
        let entry: Entry = serde_json::from_str(&self.data).unwrap();
        assert_eq!(self.id, entry.id.to_string());
        entry
    }
}

impl Tail {
    /// Begins to read, behind an entry when one is given.
    #[track_caller]
    pub fn open(viewer: &Service, query: &str, last_id: Option<&str>) -> Self {
        Self::try_open(viewer, query, last_id).unwrap()
    }

    /// The same, unless it is refused with this status.
    pub fn try_open(viewer: &Service, query: &str, last_id: Option<&str>) -> Result<Self, u16> {
        let mut request = Request::get(&format!("/api/logs/tail?{query}"));
        if let Some(id) = last_id {
            request = request.header("Last-Event-ID", id);
        }
        let mut client = viewer.connect();
        client.write(&request.bytes());
        let head = client.head().unwrap();
        if head.status != 200 {
            return Err(head.status);
        }
        assert_eq!(head.header("content-type"), Some("text/event-stream"));
        let mut tail = Self { client, text: String::new(), events: VecDeque::new() };
        // It says first when to come again, and from then on it misses nothing.
        assert!(tail.read() && tail.text.is_empty() && tail.events.is_empty(), "{:?}", tail.text);
        Ok(tail)
    }

    /// The next event; `None` at the end.
    pub fn event(&mut self) -> Option<Event> {
        while self.events.is_empty() {
            if !self.read() {
                return None;
            }
        }
        self.events.pop_front()
    }

    /// The next entry.
    #[track_caller]
    pub fn entry(&mut self) -> Entry {
        self.event().expect("an event").entry()
    }

    fn read(&mut self) -> bool {
        let Some(chunk) = self.client.chunk().filter(|chunk| !chunk.is_empty()) else { return false };
        self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        while let Some(end) = self.text.find("\n\n") {
            let mut event = Event::default();
            for line in self.text[..end].lines() {
                match line.split_once(": ").unwrap() {
                    ("event", name) => name.clone_into(&mut event.name),
                    ("id", id) => id.clone_into(&mut event.id),
                    ("data", data) => event.data += data,
                    ("retry", ms) => assert!(ms.parse::<u32>().is_ok_and(|ms| ms >= 500), "{ms}"),
                    (other, _) => panic!("{other}"),
                }
            }
            self.text.drain(..end + 2);
            if !event.name.is_empty() {
                self.events.push_back(event);
            }
        }
        true
    }
}
