//! `log-viewer --explain`: shows which entries lines of a log become, with which level, and why.

use std::io::{self, BufRead, Read as _, Write};

use super::parse::docker;
use super::parse::entry_joiner::{EntryJoiner, JoinedEntry};
use super::parse::multiline::Join;
use crate::records::log_record::StdStream;

/// Maximum length of a line in bytes, as in the logs that are followed. The rest becomes another line.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// Writes an explanation of each entry that the lines become. Lines of Docker's log files are read as such.
pub(super) fn explain(input: &mut dyn BufRead, output: &mut dyn Write) -> io::Result<()> {
    let mut explainer =
        Explainer { joiner: EntryJoiner::new(StdStream::Stdout), line_number: 0, time_ns: 0, joins: Vec::new() };
    let mut line = Vec::new();
    while input.take(LINE_BYTES_MAX).read_until(b'\n', &mut line)? > 0 {
        explainer.push(line.strip_suffix(b"\n").unwrap_or(&line), output)?;
        line.clear();
    }
    let last = explainer.joiner.flush();
    last.map_or(Ok(()), |entry| explainer.write(&entry, output))
}

struct Explainer {
    /// Entries are tagged with the number of their first line.
    joiner: EntryJoiner<usize>,
    line_number: usize,
    /// Time of the last line of Docker. Other lines count as written at once.
    time_ns: i64,
    /// Reasons why lines belong to the open entry, by line number. Their number is limited by that of its lines.
    joins: Vec<(usize, Join)>,
}

impl Explainer {
    fn push(&mut self, line: &[u8], output: &mut dyn Write) -> io::Result<()> {
        self.line_number += 1;
        let docker = docker::parse(line);
        let text = match &docker {
            Some(line) => {
                self.time_ns = line.time_ns;
                line.log.clone()
            }
            None => String::from_utf8_lossy(line),
        };
        let finished = self.joiner.push(&text, self.time_ns, self.line_number);
        if let Some(entry) = finished {
            self.write(&entry, output)?;
            self.joins.clear();
        }
        self.joins.extend(self.joiner.last_join().map(|join| (self.line_number, join)));
        Ok(())
    }

    fn write(&self, entry: &JoinedEntry<usize>, output: &mut dyn Write) -> io::Result<()> {
        let (first, last) = (entry.tag, entry.tag + entry.lines - 1);
        let lines = if first == last { format!("line {first}") } else { format!("lines {first}-{last}") };
        writeln!(output, "{lines}: {}", entry.level.name())?;
        writeln!(output, "  format: {}", entry.format.map_or("none recognized", |format| format.name))?;
        writeln!(output, "  level: {}", entry.level_source.reason(entry.format))?;
        self.joins.iter().try_for_each(|(line, join)| writeln!(output, "  line {line} joined: {}", join.reason()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn explanation_names_format_level_and_joins_of_each_entry() {
        let docker =
            r#"{"log":"E0131 12:00:00.000000 1 main.go:12] x\n","stream":"stderr","time":"2026-01-31T12:00:00Z"}"#;
        let input = [
            "2026-01-31 12:00:00 ERROR failed",
            "java.lang.IllegalStateException: closed",
            "\tat shop.Pay.charge(Pay.java:12)",
            "2026-01-31 12:00:01 starting",
            "{",
            "  \"level\": \"warn\"",
            "}",
            "done",
            "    at f (/app/a.js:1:2)",
            docker,
        ]
        .join("\n");
        let mut output = Vec::new();
        explain(&mut input.as_bytes(), &mut output).unwrap();
        let expected = "\
lines 1-3: ERROR
  format: prefix of a logger
  level: the level name in the prefix
  line 2 joined: it starts the stack trace of the record
  line 3 joined: it is a frame of a stack trace
line 4: INFO
  format: none recognized
  level: no line states one
lines 5-7: WARNING
  format: none recognized
  level: a further line states it
  line 6 joined: it is indented
  line 7 joined: it closes a bracket
lines 8-9: ERROR
  format: none recognized
  level: a stack trace follows
  line 9 joined: it is a frame of a stack trace
line 10: ERROR
  format: klog, glog, CockroachDB
  level: the letter in the prefix
";
        assert_eq!(String::from_utf8(output).unwrap(), expected);
    }

    #[test]
    fn overlong_line_is_explained_in_parts() {
        let input = "x".repeat(LINE_BYTES_MAX as usize + 1);
        let mut output = Vec::new();
        explain(&mut input.as_bytes(), &mut output).unwrap();
        assert_eq!(String::from_utf8(output).unwrap().matches("line").count(), 4);
    }
}
