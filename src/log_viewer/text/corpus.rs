//! The golden corpus: logs as programs print them, and what becomes of each.
//!
//! `tests/corpus/logs/NAME.log` is what a program wrote to stdout, `NAME.stderr.log` to stderr; `….expected` has a line
//! for each entry: its level, its number of lines, and the first of them. After a change that is meant to change them,
//! `UPDATE_CORPUS=1 cargo test corpus` writes them anew, to be read as a diff.

use std::path::Path;

use serde_json::json;

use super::entry::{Entry, Joiner};
use super::pieces::Pieces;
use super::{Stream, ansi, docker};

/// The whole path of a log: Docker's JSON, pieces, entries.
fn entries(log: &str, stream: Stream) -> Vec<Entry<()>> {
    let mut pieces = Pieces::default();
    let mut joiner = Joiner::new(stream);
    let mut entries = Vec::new();
    for line in log.split_inclusive('\n') {
        let json = json!({"log": line, "stream": stream.name(), "time": "2026-01-31T12:00:00Z"}).to_string();
        let line = docker::parse(json.as_bytes()).unwrap();
        pieces.push(line, (), |whole| entries.extend(joiner.push(&whole.text, whole.time_ns, ())));
    }
    entries.extend(joiner.flush());
    entries
}

fn summary(entry: &Entry<()>) -> String {
    let shown = ansi::strip(&entry.text);
    let first = shown.split('\n').next().unwrap_or_default();
    format!("{:<8} {:>3}  {first}", entry.level.name(), entry.lines).trim_ascii_end().to_owned()
}

#[test]
fn every_log_becomes_what_is_expected_of_it() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/logs");
    let mut logs = 0;
    for file in std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()) {
        if file.extension().is_none_or(|extension| extension != "log") {
            continue;
        }
        logs += 1;
        let log = std::fs::read_to_string(&file).unwrap();
        let stream = if file.to_str().unwrap().ends_with(".stderr.log") { Stream::Stderr } else { Stream::Stdout };
        let entries = entries(&log, stream);
        let texts: Vec<&str> = entries.iter().map(|entry| entry.text.as_str()).collect();
        assert_eq!(texts.join("\n") + "\n", log, "{}: nothing is lost", file.display());
        let found: String = entries.iter().map(|entry| summary(entry) + "\n").collect();
        let expected = file.with_extension("expected");
        if std::env::var_os("UPDATE_CORPUS").is_some() {
            std::fs::write(&expected, &found).unwrap();
        }
        let expected = std::fs::read_to_string(&expected).unwrap_or_default();
        assert_eq!(found.lines().collect::<Vec<_>>(), expected.lines().collect::<Vec<_>>(), "{}", file.display());
    }
    assert!(logs > 40, "{logs} logs");
}
