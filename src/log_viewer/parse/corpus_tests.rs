//! Golden corpus: the output of real programs and the entries that it becomes.
//!
//! In `tests/corpus/logs`, `NAME.log` is what a program wrote to stdout and `NAME.stderr.log` what it wrote to stderr.
//! The `.expected` file next to it has one line per entry: the level, the number of lines and the first line. After an
//! intended change, run `UPDATE_CORPUS=1 cargo test corpus` to rewrite these files, and review the diff.

use std::path::Path;

use serde_json::json;

use super::entry_joiner::{EntryJoiner, JoinedEntry};
use super::partial_lines::PartialLineJoiner;
use super::{ansi, docker};
use crate::records::log_record::StdStream;

/// Runs a log through the whole parser, from Docker's JSON to entries.
fn parse_entries(log: &str, stream: StdStream) -> Vec<JoinedEntry<()>> {
    let mut partial_lines = PartialLineJoiner::default();
    let mut joiner = EntryJoiner::new(stream);
    let mut entries = Vec::new();
    for line in log.split_inclusive('\n') {
        let json = json!({"log": line, "stream": stream.name(), "time": "2026-01-31T12:00:00Z"}).to_string();
        let line = docker::parse(json.as_bytes()).unwrap();
        partial_lines.push(line, (), |line| entries.extend(joiner.push(&line.text, line.time_ns, ())));
    }
    entries.extend(joiner.flush());
    entries
}

fn summary(entry: &JoinedEntry<()>) -> String {
    let plain = ansi::strip(&entry.text);
    let first = plain.split('\n').next().unwrap_or_default();
    format!("{:<8} {:>3}  {first}", entry.level.name(), entry.lines).trim_ascii_end().to_owned()
}

#[test]
fn entries_of_the_corpus_match_the_expected_files() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/logs");
    let mut logs = 0;
    for file in std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()) {
        if file.extension().is_none_or(|extension| extension != "log") {
            continue;
        }
        logs += 1;
        let log = std::fs::read_to_string(&file).unwrap();
        let is_stderr = file.to_str().unwrap().ends_with(".stderr.log");
        let stream = if is_stderr { StdStream::Stderr } else { StdStream::Stdout };
        let entries = parse_entries(&log, stream);
        let texts: Vec<&str> = entries.iter().map(|entry| entry.text.as_str()).collect();
        assert_eq!(texts.join("\n") + "\n", log, "{}: no line is lost", file.display());
        let actual: String = entries.iter().map(|entry| summary(entry) + "\n").collect();
        let expected = file.with_extension("expected");
        if std::env::var_os("UPDATE_CORPUS").is_some() {
            std::fs::write(&expected, &actual).unwrap();
        }
        let expected = std::fs::read_to_string(&expected).unwrap_or_default();
        assert_eq!(actual.lines().collect::<Vec<_>>(), expected.lines().collect::<Vec<_>>(), "{}", file.display());
    }
    assert!(logs > 40, "{logs} logs");
}
