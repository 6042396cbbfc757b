//! The lines of `tests/corpus/log_formats.tsv`, and the rule that each format of the table has a line there.

use std::collections::BTreeSet;

use super::entry_joiner::{EntryJoiner, JoinedEntry};
use super::format::Formats;
use super::formats::{MESSAGES, RECORDS, REQUESTS};
use crate::records::log_record::StdStream;

/// Returns level, program and line of each row.
fn rows() -> impl Iterator<Item = (&'static str, &'static str, String)> {
    let rows = include_str!("../../../tests/corpus/log_formats.tsv").lines().filter(|row| !row.starts_with('#'));
    rows.map(|row| {
        let [level, program, line] = row.splitn(3, '\t').collect::<Vec<_>>().try_into().expect(row);
        (level, program, line.replace('␛', "\u{1b}"))
    })
}

fn entry(line: &str, stream: StdStream) -> JoinedEntry<()> {
    let mut joiner = EntryJoiner::new(stream);
    assert!(joiner.push(line, 0, ()).is_none());
    joiner.flush().expect("one entry")
}

#[test]
fn lines_of_real_programs_have_the_level_that_they_state() {
    let mut wrong = Vec::new();
    for (level, program, line) in rows() {
        for stream in [StdStream::Stdout, StdStream::Stderr] {
            let entry = entry(&line, stream);
            if entry.level.name() != level {
                let format = entry.format.map(|format| format.name);
                wrong.push(format!("{program} is {} by {format:?}, not {level}: {line}", entry.level.name()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_format_of_the_table_has_a_line() {
    let found: BTreeSet<&str> =
        rows().filter_map(|(_, _, line)| Some(entry(&line, StdStream::Stdout).format?.name)).collect();
    let missing: Vec<&str> = [&RECORDS, &REQUESTS, &MESSAGES]
        .into_iter()
        .flat_map(Formats::names)
        .filter(|name| !found.contains(name))
        .collect();
    assert!(missing.is_empty(), "no line in tests/corpus/log_formats.tsv: {missing:?}");
}
