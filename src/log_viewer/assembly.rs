//! From lines of a file to entries: pieces are made whole and stack traces joined, for either stream apart.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::discovery::Format;
use super::follower::RawLine;
use super::ring;
use super::text::docker::{self, Line};
use super::text::entry::{Entry, Joiner};
use super::text::pieces::Pieces;
use super::text::{Stream, ansi};
use crate::clock::Timestamp;

/// How long the next line of an entry may take. Programs write a stack trace in one go; who watches live does not want
/// to wait.
const NEXT_LINE_WITHIN: Duration = Duration::from_millis(120);
/// The same in the middle of a stack trace.
const NEXT_FRAME_WITHIN: Duration = Duration::from_millis(600);
/// How long the rest of a line may take.
const REST_OF_LINE_WITHIN: Duration = Duration::from_secs(3);

/// What is in the making of one log.
pub(super) struct Assembly {
    format: Format,
    streams: [Half; 2],
    /// Lines taken so far.
    lines: u64,
    entries: Vec<ring::Entry>,
    bytes: usize,
    newest_ns: i64,
}

/// What is in the making of one stream. Lines are known by their numbers.
struct Half {
    pieces: Pieces<u64>,
    joiner: Joiner<u64>,
    raw: Raw,
    /// When the last line came.
    touched: Instant,
}

/// The lines that are in no finished entry yet, as they stand in their file.
#[derive(Default)]
struct Raw {
    bytes: Vec<u8>,
    /// The number of each and its length, with its `\n`.
    lines: VecDeque<(u64, usize)>,
}

impl Raw {
    fn push(&mut self, number: u64, line: &[u8]) {
        self.bytes.extend_from_slice(line);
        self.bytes.push(b'\n');
        self.lines.push_back((number, line.len() + 1));
    }

    /// Keeps what comes from a line on; `None` keeps nothing.
    fn keep_from(&mut self, first: Option<u64>) {
        let gone = first.map_or(self.lines.len(), |first| self.lines.partition_point(|(number, _)| *number < first));
        let bytes: usize = self.lines.drain(..gone).map(|(_, length)| length).sum();
        self.bytes.drain(..bytes);
    }
}

impl Assembly {
    /// Begins with the lines that were pending when it was last stored how far the log is read.
    pub(super) fn new(format: Format, pending: &[u8], newest_ns: i64, now: Instant) -> Self {
        let half =
            |stream| Half { pieces: Pieces::default(), joiner: Joiner::new(stream), raw: Raw::default(), touched: now };
        let streams = [half(Stream::Stdout), half(Stream::Stderr)];
        let mut assembly = Self { format, streams, lines: 0, entries: Vec::new(), bytes: 0, newest_ns };
        for line in pending.split_inclusive(|byte| *byte == b'\n') {
            assembly.line(&RawLine { bytes: line.strip_suffix(b"\n").unwrap_or(line), cut_bytes: 0 }, now);
        }
        assembly
    }

    /// Takes the next line.
    pub(super) fn line(&mut self, raw: &RawLine<'_>, now: Instant) {
        let docker = if self.format == Format::Docker { docker::parse(unwritten(raw.bytes)) } else { None };
        // What is no line of Docker's, after a power cut perhaps, is kept as the text it is.
        let time_ns = if self.format == Format::Docker { self.newest_ns } else { Timestamp::now().ms() * 1_000_000 };
        let line = docker.unwrap_or_else(|| Line {
            log: String::from_utf8_lossy(raw.bytes),
            complete: true,
            stream: Stream::Stdout,
            time_ns,
        });
        self.newest_ns = self.newest_ns.max(line.time_ns);
        self.lines += 1;
        let number = self.lines;
        let half = &mut self.streams[usize::from(line.stream == Stream::Stderr)];
        half.touched = now;
        let (entries, bytes) = (&mut self.entries, &mut self.bytes);
        let mut finished = |entry: Entry<u64>| {
            *bytes += entry.text.len();
            entries.push(stored(entry));
        };
        let Half { pieces, joiner, .. } = half;
        pieces.push(line, number, |whole| {
            let mut text = whole.text;
            if raw.cut_bytes > 0 {
                text.to_mut().push_str(&format!(" …[truncated: {} bytes]", raw.cut_bytes));
            }
            joiner.push(&text, whole.time_ns, whole.place).map(&mut finished);
        });
        if raw.cut_bytes > 0 {
            // Nothing of it pends, so that none is ever stored that lacks its end.
            half.finish().into_iter().for_each(finished);
        }
        let open = half.open();
        half.raw.keep_from(open);
        if open.is_some() {
            half.raw.push(number, raw.bytes);
        }
    }

    /// Finishes what has waited long enough for more.
    pub(super) fn flush(&mut self, now: Instant) {
        for half in &mut self.streams {
            if half.due().is_none_or(|due| now < due) {
                continue;
            }
            let entries = half.finish();
            half.raw.keep_from(None);
            self.bytes += entries.iter().map(|entry| entry.text.len()).sum::<usize>();
            self.entries.extend(entries.into_iter().map(stored));
        }
    }

    /// When something will have waited long enough.
    pub(super) fn due(&self) -> Option<Instant> {
        self.streams.iter().filter_map(Half::due).min()
    }

    /// What is finished.
    pub(super) fn take(&mut self) -> Vec<ring::Entry> {
        self.bytes = 0;
        std::mem::take(&mut self.entries)
    }

    /// How many entries are finished, and their bytes.
    pub(super) fn finished(&self) -> (usize, usize) {
        (self.entries.len(), self.bytes)
    }

    /// The lines that are in no finished entry, as they stand in their files, each with its `\n`. Those of one stream
    /// come in their order.
    pub(super) fn pending(&self) -> Vec<u8> {
        self.streams.each_ref().map(|half| half.raw.bytes.as_slice()).concat()
    }

    /// The latest moment read, in ns since 1970.
    pub(super) fn newest_ns(&self) -> i64 {
        self.newest_ns
    }
}

impl Half {
    /// Waits for no more.
    fn finish(&mut self) -> Vec<Entry<u64>> {
        let Self { pieces, joiner, .. } = self;
        let mut entries = Vec::new();
        pieces.flush(|whole| entries.extend(joiner.push(&whole.text, whole.time_ns, whole.place)));
        entries.extend(joiner.flush());
        entries
    }

    /// The first line that is not in a finished entry.
    fn open(&self) -> Option<u64> {
        // A line that is not whole comes after those that the joiner has.
        self.joiner.open().or_else(|| self.pieces.open().next())
    }

    fn due(&self) -> Option<Instant> {
        let within = if self.pieces.open().next().is_some() {
            REST_OF_LINE_WITHIN
        } else if self.joiner.expects_more() {
            NEXT_FRAME_WITHIN
        } else if self.joiner.open().is_some() {
            NEXT_LINE_WITHIN
        } else {
            return None;
        };
        Some(self.touched + within)
    }
}

/// Without what a power cut leaves of a line that was never written.
fn unwritten(line: &[u8]) -> &[u8] {
    let zeros = line.iter().take_while(|byte| **byte == 0).count();
    &line[zeros..]
}

fn stored(entry: Entry<u64>) -> ring::Entry {
    let plain = match ansi::strip(&entry.text) {
        std::borrow::Cow::Borrowed(_) => None,
        std::borrow::Cow::Owned(plain) => Some(plain),
    };
    ring::Entry { at_ns: entry.time_ns, stream: entry.stream, level: entry.level, message: entry.text, plain }
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
        "a piece",
        r"rest\n",
    ];

    fn taken(assembly: &mut Assembly) -> Vec<(i64, String)> {
        assembly.take().into_iter().map(|entry| (entry.at_ns, entry.message)).collect()
    }

    proptest! {
        /// What pends is all it takes to go on.
        #[test]
        fn a_restart_between_any_two_lines_changes_nothing(
            lines in prop::collection::vec((prop::sample::select(LOGS), any::<bool>()), 0..20),
            restart in 0_usize..20,
        ) {
            let now = Instant::now();
            let later = now + REST_OF_LINE_WITHIN;
            let mut whole = Assembly::new(Format::Docker, &[], 0, now);
            let mut cut = Assembly::new(Format::Docker, &[], 0, now);
            let mut entries = [Vec::new(), Vec::new()];
            for (second, (log, err)) in lines.iter().enumerate() {
                if second == restart {
                    entries[1].extend(taken(&mut cut));
                    cut = Assembly::new(Format::Docker, &cut.pending(), cut.newest_ns(), now);
                }
                let stream = if *err { "stderr" } else { "stdout" };
                let line = format!(r#"{{"log":"{log}","stream":"{stream}","time":"2026-01-31T12:00:{second:02}Z"}}"#);
                for assembly in [&mut whole, &mut cut] {
                    assembly.line(&RawLine { bytes: line.as_bytes(), cut_bytes: 0 }, now);
                }
            }
            for (assembly, entries) in [&mut whole, &mut cut].into_iter().zip(&mut entries) {
                assembly.flush(later);
                prop_assert!(assembly.pending().is_empty());
                entries.extend(taken(assembly));
            }
            // Of the two streams, either may be waited for longer.
            entries.iter_mut().for_each(|entries| entries.sort());
            prop_assert_eq!(&entries[0], &entries[1]);
        }
    }
}
