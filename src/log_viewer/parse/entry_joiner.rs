//! Joiner for multi-line entries: a stack trace and the record that it explains, or a record of several lines.
//!
//! `multiline` decides which lines belong together. This module enforces the limits and collects the entry.

use super::ansi;
use super::first_line::{self, FirstLine};
use super::format::Format;
use super::level;
use super::multiline::{Join, MultilineState};
use crate::records::log_level::Level;
use crate::records::log_record::StdStream;

/// Maximum number of lines of an entry. The lines after them form another entry of the same level.
pub(in crate::log_viewer) const ENTRY_LINES_MAX: usize = 500;
/// Maximum length of an entry in bytes, unless its first line alone is longer.
pub(in crate::log_viewer) const ENTRY_BYTES_MAX: usize = 256 << 10;
/// Maximum time between two lines of an entry, in nanoseconds. It matters for lines that are read later, where a program
/// may have crashed and been restarted. For live lines, the caller flushes much earlier.
const GAP_NS_MAX: i64 = 5_000_000_000;
/// Maximum time between two lines that a program wrote together, in nanoseconds.
const IMMEDIATE_NS_MAX: i64 = 20_000_000;

/// Unicode's byte order mark, with which text files of Windows start.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// One or more lines that form one entry.
#[derive(Debug, Clone)]
pub(in crate::log_viewer) struct JoinedEntry<T> {
    /// The lines as written, separated by `\n`.
    pub(in crate::log_viewer) text: String,
    /// Number of lines, 1 to 500.
    pub(in crate::log_viewer) lines: usize,
    pub(in crate::log_viewer) level: Level,
    pub(in crate::log_viewer) level_source: LevelSource,
    /// The format that the first line was recognized by.
    pub(in crate::log_viewer) format: Option<&'static Format>,
    pub(in crate::log_viewer) stream: StdStream,
    /// Time of the first line, in nanoseconds since 1970.
    pub(in crate::log_viewer) time_ns: i64,
    /// The caller's tag of the first line, such as its line number.
    pub(in crate::log_viewer) tag: T,
}

/// Reason why an entry has its level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::log_viewer) enum LevelSource {
    FirstLine,
    FurtherLine,
    Trace,
    Default,
}

impl LevelSource {
    /// Returns the reason in words, for `--explain`.
    pub(in crate::log_viewer) fn reason(self, format: Option<&'static Format>) -> &'static str {
        match self {
            Self::FirstLine => format.map_or("the entry continues one of this level", |format| format.level_from),
            Self::FurtherLine => "a further line states it",
            Self::Trace => "a stack trace follows",
            Self::Default => "no line states one",
        }
    }
}

/// Joiner for the lines of one stream of one container. An entry ends when a line arrives that does not belong to it, or
/// when the caller flushes.
#[derive(Debug)]
pub(in crate::log_viewer) struct EntryJoiner<T> {
    stream: StdStream,
    open: Option<OpenEntry<T>>,
}

impl<T: Copy> EntryJoiner<T> {
    pub(in crate::log_viewer) fn new(stream: StdStream) -> Self {
        Self { stream, open: None }
    }

    /// Adds the next line, without its newline, and returns the entry that ends before it, if any.
    pub(in crate::log_viewer) fn push(&mut self, line: &str, time_ns: i64, tag: T) -> Option<JoinedEntry<T>> {
        let plain = ansi::strip(line);
        let plain = plain.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&plain);
        let next = match &mut self.open {
            Some(open) => {
                if !open.accepts(plain, time_ns) {
                    OpenEntry::new(line, plain, time_ns, tag)
                } else if open.has_room(line) {
                    open.append(line, time_ns);
                    return None;
                } else {
                    open.continuation(line, time_ns, tag)
                }
            }
            None => OpenEntry::new(line, plain, time_ns, tag),
        };
        self.open.replace(next).map(|open| open.finish(self.stream))
    }

    /// Ends the open entry and returns it.
    pub(in crate::log_viewer) fn flush(&mut self) -> Option<JoinedEntry<T>> {
        self.open.take().map(|open| open.finish(self.stream))
    }

    /// Returns the tag of the open entry.
    pub(in crate::log_viewer) fn open_tag(&self) -> Option<T> {
        self.open.as_ref().map(|open| open.tag)
    }

    /// Returns why the last line belongs to the entry of the line before it; `None` if it started an entry.
    pub(in crate::log_viewer) fn last_join(&self) -> Option<Join> {
        self.open.as_ref().and_then(|open| open.last_join)
    }

    /// Returns whether the open entry is incomplete, for example within the frames of a stack trace, so that the caller
    /// should wait longer for the next line.
    pub(in crate::log_viewer) fn expects_more(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.state.expects_more())
    }
}

#[derive(Debug)]
struct OpenEntry<T> {
    text: String,
    lines: usize,
    first_line: FirstLine,
    state: MultilineState,
    time_ns: i64,
    last_line_ns: i64,
    last_join: Option<Join>,
    tag: T,
}

impl<T> OpenEntry<T> {
    fn new(line: &str, plain: &str, time_ns: i64, tag: T) -> Self {
        let first_line = first_line::parse(plain);
        let state = MultilineState::new(plain, &first_line);
        Self {
            text: line.to_owned(),
            lines: 1,
            first_line,
            state,
            time_ns,
            last_line_ns: time_ns,
            last_join: None,
            tag,
        }
    }

    /// Starts the entry for the lines that do not fit into this one. It has the same level.
    fn continuation(&self, line: &str, time_ns: i64, tag: T) -> Self {
        let first_line = FirstLine { level: Some(self.level().0), format: None, ..self.first_line };
        let (text, state, last_join) = (line.to_owned(), self.state, None);
        Self { text, lines: 1, first_line, state, time_ns, last_line_ns: time_ns, last_join, tag }
    }

    /// Decides whether a line belongs to the entry.
    fn accepts(&mut self, plain: &str, time_ns: i64) -> bool {
        let gap_ns = time_ns.saturating_sub(self.last_line_ns);
        if gap_ns > GAP_NS_MAX {
            return false;
        }
        self.last_join = self.state.join(plain, &self.text, gap_ns <= IMMEDIATE_NS_MAX);
        if self.first_line.is_blank && self.last_join != Some(Join::Blank) {
            // npm, Rust and others print a blank line first.
            self.first_line = first_line::parse(plain);
            self.state = MultilineState::new(plain, &self.first_line);
            self.last_join = Some(Join::AfterBlank);
        }
        self.last_join.is_some()
    }

    fn has_room(&self, line: &str) -> bool {
        self.lines < ENTRY_LINES_MAX && self.text.len() + 1 + line.len() <= ENTRY_BYTES_MAX
    }

    fn append(&mut self, line: &str, time_ns: i64) {
        self.text.push('\n');
        self.text.push_str(line);
        self.lines += 1;
        self.last_line_ns = time_ns;
    }

    fn level(&self) -> (Level, LevelSource) {
        if let Some(level) = self.state.stated_level() {
            return (level, LevelSource::FurtherLine);
        }
        match self.first_line.level {
            Some(level) => (level, LevelSource::FirstLine),
            // A pretty-printed JSON object.
            None if self.lines > 1 && self.text.starts_with('{') => {
                (level::detect(&self.text), LevelSource::FurtherLine)
            }
            None if self.state.is_trace() => (Level::Error, LevelSource::Trace),
            None => (Level::Info, LevelSource::Default),
        }
    }

    fn finish(self, stream: StdStream) -> JoinedEntry<T> {
        let (level, level_source) = self.level();
        let Self { text, lines, time_ns, tag, first_line, .. } = self;
        JoinedEntry { text, lines, level, level_source, format: first_line.format, stream, time_ns, tag }
    }
}
