//! What the tests of the log viewer ask in common.

use std::fmt::Debug;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::harness::{Service, wait_until};

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
