//! Assembler for the entries of one log: joins partial lines and stack traces, separately for stdout and stderr.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::discovery::LogFormat;
use super::line_clock::BatchTimes;
use super::line_splitter::RawLine;
use super::parse::ansi;
use super::parse::docker::{self, DockerLine};
use super::parse::entry_joiner::{EntryJoiner, JoinedEntry};
use super::parse::partial_lines::PartialLineJoiner;
use super::plausible_time::{latest_plausible_ns, plausible_ns};
use super::text_lines::TextLines;
use crate::clock::Timestamp;
use crate::records::log_record::{LogRecord, StdStream};

/// Maximum time to wait for the next line of an entry. It is short, because it delays the live tail, and programs write a
/// stack trace at once.
const NEXT_LINE_TIMEOUT: Duration = Duration::from_millis(120);
/// Maximum time to wait for the next line within a stack trace.
const NEXT_FRAME_TIMEOUT: Duration = Duration::from_millis(600);
/// Maximum time to wait for the rest of a partial line.
const PARTIAL_LINE_TIMEOUT: Duration = Duration::from_secs(3);

/// Assembler with the finished entries of a log and the lines of unfinished ones.
pub(super) struct EntryAssembler {
    /// Reader for the lines of a text file; `None` for Docker's logs.
    text_lines: Option<TextLines>,
    /// By [`StdStream::index`].
    streams: [StreamAssembler; 2],
    /// Number of lines so far.
    line_count: u64,
    finished: Vec<LogRecord>,
    /// Total length of the messages of `finished`, in bytes.
    finished_bytes: usize,
    newest_ns: i64,
}

/// State of one stream. Lines are tagged with their numbers.
struct StreamAssembler {
    partial_lines: PartialLineJoiner<u64>,
    entries: EntryJoiner<u64>,
    pending: PendingLines,
    last_line_at: Instant,
}

/// Lines of unfinished entries, verbatim as in the file.
#[derive(Default)]
struct PendingLines {
    bytes: Vec<u8>,
    /// Number and length of each line. The length includes the `\n`.
    lines: VecDeque<(u64, usize)>,
}

impl PendingLines {
    fn push(&mut self, number: u64, line: &[u8]) {
        self.bytes.extend_from_slice(line);
        self.bytes.push(b'\n');
        self.lines.push_back((number, line.len() + 1));
    }

    /// Removes all lines before a number; all lines if it is `None`.
    fn remove_before(&mut self, first: Option<u64>) {
        let count = first.map_or(self.lines.len(), |first| self.lines.partition_point(|(number, _)| *number < first));
        let bytes: usize = self.lines.drain(..count).map(|(_, length)| length).sum();
        self.bytes.drain(..bytes);
    }
}

impl EntryAssembler {
    /// Creates an assembler that starts with the pending lines of a checkpoint.
    pub(super) fn new(format: &LogFormat, pending_lines: &[u8], newest_ns: i64, now: Instant) -> Self {
        let stream = |stream| StreamAssembler {
            partial_lines: PartialLineJoiner::default(),
            entries: EntryJoiner::new(stream),
            pending: PendingLines::default(),
            last_line_at: now,
        };
        let streams = [stream(StdStream::Stdout), stream(StdStream::Stderr)];
        let text_lines = match format {
            LogFormat::Docker => None,
            LogFormat::Text(zone) => Some(TextLines::new(Arc::clone(zone), now)),
        };
        let mut assembler =
            Self { text_lines, streams, line_count: 0, finished: Vec::new(), finished_bytes: 0, newest_ns };
        for line in pending_lines.split_inclusive(|byte| *byte == b'\n') {
            let line = RawLine { bytes: line.strip_suffix(b"\n").unwrap_or(line), truncated_bytes: 0 };
            assembler.push_line(&line, now);
        }
        assembler
    }

    /// Adds the next line of the log.
    pub(super) fn push_line(&mut self, raw: &RawLine<'_>, now: Instant) {
        if let Some(text_lines) = &mut self.text_lines {
            let line = text_lines.parse(raw.bytes, now);
            // Rotated files are compared with it by the time of their last change.
            self.newest_ns = self.newest_ns.max(text_lines.clock.arrival_ns());
            return self.push_record(line, raw, now);
        }
        if let Some(line) = docker::parse(raw.bytes) {
            return self.push_docker_record(line, raw, now);
        }
        let mut pieces = docker::split_records(raw.bytes).peekable();
        while let Some(bytes) = pieces.next() {
            // Only the end of the line was cut off.
            let truncated_bytes = if pieces.peek().is_none() { raw.truncated_bytes } else { 0 };
            let line = docker::parse(bytes).unwrap_or_else(|| self.incomplete_record(bytes));
            self.push_docker_record(line, &RawLine { bytes, truncated_bytes }, now);
        }
    }

    /// Returns the text of an incomplete record, or of a line that Docker did not write, for example after a power failure. It
    /// has the latest timestamp, unless that is ahead.
    fn incomplete_record<'a>(&self, bytes: &'a [u8]) -> DockerLine<'a> {
        let arrival_ns = Timestamp::now().ms() * 1_000_000;
        let time_ns = if self.newest_ns > 0 { self.newest_ns.min(arrival_ns) } else { arrival_ns };
        let log = String::from_utf8_lossy(docker::incomplete_text(bytes));
        DockerLine { log, complete: true, stream: StdStream::Stdout, time_ns }
    }

    fn push_docker_record(&mut self, line: DockerLine<'_>, raw: &RawLine<'_>, now: Instant) {
        self.newest_ns = self.newest_ns.max(plausible_ns(line.time_ns, latest_plausible_ns(Timestamp::now())));
        self.push_record(line, raw, now);
    }

    /// Adds a record of Docker, or the line of a text file as one.
    fn push_record(&mut self, line: DockerLine<'_>, raw: &RawLine<'_>, now: Instant) {
        self.line_count += 1;
        let number = self.line_count;
        let stream = &mut self.streams[line.stream.index()];
        stream.last_line_at = now;
        let (finished, finished_bytes) = (&mut self.finished, &mut self.finished_bytes);
        let mut finish = |entry: JoinedEntry<u64>| {
            *finished_bytes += entry.text.len();
            finished.push(to_record(entry));
        };
        let StreamAssembler { partial_lines, entries, .. } = stream;
        partial_lines.push(line, number, |complete| {
            let mut text = complete.text;
            if raw.truncated_bytes > 0 {
                text.to_mut().push_str(&format!(" …[truncated: {} bytes]", raw.truncated_bytes));
            }
            entries.push(&text, complete.time_ns, complete.tag).map(&mut finish);
        });
        if raw.truncated_bytes > 0 {
            // A truncated line must not become a pending line, because its end is missing.
            stream.finish().into_iter().for_each(finish);
        }
        let first_unfinished = stream.first_unfinished();
        stream.pending.remove_before(first_unfinished);
        if first_unfinished.is_some() {
            stream.pending.push(number, raw.bytes);
        }
        self.order_before_stated_time();
    }

    /// Sorts the entries with the time of reading before the next line of the read that states a time. Otherwise a heading in
    /// front of old lines would move them to the present.
    fn order_before_stated_time(&mut self) {
        let Some(clock) = self.text_lines.as_mut().map(|lines| &mut lines.clock) else { return };
        let Some(stated_ns) = clock.take_next_stated_ns() else { return };
        let arrival_ns = clock.arrival_ns();
        for record in self.finished.iter_mut().filter(|record| record.order_ns == arrival_ns) {
            record.order_ns = stated_ns.min(arrival_ns);
        }
    }

    /// Returns the properties of the times of the lines since the last call.
    pub(super) fn take_times(&mut self) -> BatchTimes {
        self.text_lines.as_mut().map(|lines| lines.clock.take_batch()).unwrap_or_default()
    }

    /// Finishes the entries whose timeout has expired.
    pub(super) fn flush(&mut self, now: Instant) {
        for stream in &mut self.streams {
            if stream.deadline().is_none_or(|deadline| now < deadline) {
                continue;
            }
            let entries = stream.finish();
            stream.pending.remove_before(None);
            self.finished_bytes += entries.iter().map(|entry| entry.text.len()).sum::<usize>();
            self.finished.extend(entries.into_iter().map(to_record));
        }
    }

    /// Returns the earliest time at which [`Self::flush`] finishes an entry; `None` if no entry is unfinished.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.streams.iter().filter_map(StreamAssembler::deadline).min()
    }

    /// Removes and returns the finished entries.
    pub(super) fn take_finished(&mut self) -> Vec<LogRecord> {
        self.finished_bytes = 0;
        std::mem::take(&mut self.finished)
    }

    /// Returns the number of finished entries, and the total length of their messages in bytes.
    pub(super) fn finished_size(&self) -> (usize, usize) {
        (self.finished.len(), self.finished_bytes)
    }

    /// Returns the lines of unfinished entries, verbatim, each with its `\n`. The lines of one stream are in order.
    pub(super) fn pending_lines(&self) -> Vec<u8> {
        self.streams.each_ref().map(|stream| stream.pending.bytes.as_slice()).concat()
    }

    /// Returns the latest timestamp so far, in nanoseconds since 1970.
    pub(super) fn newest_ns(&self) -> i64 {
        self.newest_ns
    }
}

impl StreamAssembler {
    /// Finishes the unfinished entry and the partial line.
    fn finish(&mut self) -> Vec<JoinedEntry<u64>> {
        let Self { partial_lines, entries, .. } = self;
        let mut finished = Vec::new();
        partial_lines.flush(|line| finished.extend(entries.push(&line.text, line.time_ns, line.tag)));
        finished.extend(entries.flush());
        finished
    }

    /// Returns the number of the first line that is in no finished entry.
    fn first_unfinished(&self) -> Option<u64> {
        // A partial line follows the lines in the entry joiner.
        self.entries.open_tag().or_else(|| self.partial_lines.incomplete_tags().next())
    }

    fn deadline(&self) -> Option<Instant> {
        let timeout = if self.partial_lines.incomplete_tags().next().is_some() {
            PARTIAL_LINE_TIMEOUT
        } else if self.entries.expects_more() {
            NEXT_FRAME_TIMEOUT
        } else if self.entries.open_tag().is_some() {
            NEXT_LINE_TIMEOUT
        } else {
            return None;
        };
        Some(self.last_line_at + timeout)
    }
}

fn to_record(entry: JoinedEntry<u64>) -> LogRecord {
    let JoinedEntry { time_ns, stream, level, text, .. } = entry;
    let message = without_leading_blank_lines(text);
    let search_text = ansi::stripped(&message);
    LogRecord { time_ns, order_ns: time_ns, stream, level, message, search_text }
}

/// Removes the blank lines that npm, Rust and others print before a message, of which lists show the first line. A message
/// that is blank as a whole stays.
fn without_leading_blank_lines(text: String) -> String {
    let blank = text.len() - text.trim_start().len();
    match text[..blank].rfind('\n') {
        Some(newline) if blank < text.len() => text[newline + 1..].to_owned(),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LOGS: &[&str] = &[
        r"12:00:01 GET /\n",
        r"Traceback (most recent call last):\n",
        r#"  File \"a.py\", line 1, in pay\n"#,
        r"ValueError: 1\n",
        "a part, then the ",
        r"rest\n",
    ];

    fn take_finished(assembler: &mut EntryAssembler) -> Vec<(i64, String)> {
        assembler.take_finished().into_iter().map(|record| (record.time_ns, record.message)).collect()
    }

    #[test]
    fn a_record_after_an_incomplete_one_is_an_entry_of_its_own() {
        let now = Instant::now();
        let mut assembler = EntryAssembler::new(&LogFormat::Docker, &[], 1, now);
        let record = r#"{"log":"ERROR after restart\n","stream":"stderr","time":"2026-01-31T12:00:05Z"}"#;
        let lines = [format!(r#"{{"log":"interrupted by the po{record}"#), format!("{record}{record}")];
        for line in &lines {
            assembler.push_line(&RawLine { bytes: line.as_bytes(), truncated_bytes: 0 }, now);
        }
        // The pending lines are pieces.
        let mut assembler = {
            let mut restarted = EntryAssembler::new(&LogFormat::Docker, &assembler.pending_lines(), 1, now);
            restarted.finished.splice(0..0, assembler.take_finished());
            restarted
        };
        assembler.flush(now + PARTIAL_LINE_TIMEOUT);
        let mut entries: Vec<_> =
            assembler.take_finished().into_iter().map(|entry| (entry.stream, entry.message)).collect();
        entries.sort_by_key(|(stream, _)| stream.index());
        let error = (StdStream::Stderr, "ERROR after restart".to_owned());
        assert_eq!(
            entries,
            [(StdStream::Stdout, "interrupted by the po".to_owned()), error.clone(), error.clone(), error]
        );
    }

    #[test]
    fn messages_start_with_a_line_that_is_not_blank() {
        for (text, expected) in [("\n \n  a\n\nb", "  a\n\nb"), ("\n ", "\n "), (" a", " a"), ("", "")] {
            assert_eq!(without_leading_blank_lines(text.to_owned()), expected);
        }
    }

    proptest! {
        /// The pending lines are sufficient to continue.
        #[test]
        fn a_restart_between_any_two_lines_changes_nothing(
            lines in prop::collection::vec((prop::sample::select(LOGS), any::<bool>()), 0..20),
            restart in 0_usize..20,
        ) {
            let now = Instant::now();
            let later = now + PARTIAL_LINE_TIMEOUT;
            let mut uninterrupted = EntryAssembler::new(&LogFormat::Docker, &[], 1, now);
            let mut restarted = EntryAssembler::new(&LogFormat::Docker, &[], 1, now);
            let mut entries = [Vec::new(), Vec::new()];
            for (second, (log, err)) in lines.iter().enumerate() {
                if second == restart {
                    entries[1].extend(take_finished(&mut restarted));
                    let pending_lines = restarted.pending_lines();
                    restarted = EntryAssembler::new(&LogFormat::Docker, &pending_lines, restarted.newest_ns(), now);
                }
                let stream = if *err { "stderr" } else { "stdout" };
                let line = format!(r#"{{"log":"{log}","stream":"{stream}","time":"2026-01-31T12:00:{second:02}Z"}}"#);
                for assembler in [&mut uninterrupted, &mut restarted] {
                    assembler.push_line(&RawLine { bytes: line.as_bytes(), truncated_bytes: 0 }, now);
                }
            }
            for (assembler, entries) in [&mut uninterrupted, &mut restarted].into_iter().zip(&mut entries) {
                assembler.flush(later);
                prop_assert!(assembler.pending_lines().is_empty());
                entries.extend(take_finished(assembler));
            }
            // The order between the two streams depends on their timeouts.
            entries.iter_mut().for_each(|entries| entries.sort());
            prop_assert_eq!(&entries[0], &entries[1]);
        }
    }
}
