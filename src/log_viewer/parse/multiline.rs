//! State that decides which lines belong to the entry before them.
//!
//! [`crate::trace`] has the rules for each language's stack traces. Where nothing is certain, the rules here are those
//! that fail least often:
//!
//! - A line that looks like a record ends the entry before it, unless the language of an open trace has such lines
//!   (`[signal SIGSEGV …]`, `[stacktrace]`).
//! - A blank line belongs to the entry before it.
//! - An indented line belongs to a trace, to a record (programs that put a timestamp on each record do not print indented
//!   lines without one in between), to a line that ends in `:`, `{`, `[`, `(` or `\`, and to an indented line that already
//!   belongs. After any other line it is an entry of its own, so that listings of plain lines stay separate.
//! - An unindented line belongs only where the language says so: the last line of a Python traceback, `Caused by:`, the
//!   calls of a Go stack, a bracket that closes one of the entry.
//! - A trace explains the record before it, as `logging.exception` prints it. It does not explain a record of level info,
//!   because another part of the program wrote that, and joining the two would hide the crash.

use super::first_line::{self, FirstLine};
use super::timestamps;
use crate::records::log_level::Level;
use crate::trace::{CandidateLine, LogLine, OpenTrace, is_continuation_only};

/// The properties of an entry's lines so far that decide which lines may follow.
#[derive(Debug, Clone, Copy)]
pub(super) struct MultilineState {
    trace: Option<OpenTrace>,
    /// Whether indented lines belong to the entry.
    takes_indented: bool,
    /// Whether a line of the entry ended with an opening bracket.
    in_bracket: bool,
    /// Whether a trace that follows explains the entry.
    awaits_cause: bool,
    /// Whether the entry is the first of the two lines of `java.util.logging`, of which the second has the level.
    awaits_jul_level: bool,
    stated_level: Option<Level>,
}

impl MultilineState {
    /// Returns the state after the first line of an entry, given without terminal escapes.
    pub(super) fn new(line: &str, first_line: &FirstLine) -> Self {
        let mut state = Self {
            trace: OpenTrace::start(line, log_line(first_line)),
            takes_indented: first_line.starts_record || first_line.level.is_some(),
            in_bracket: false,
            awaits_cause: first_line.level.map_or(first_line.starts_record, |level| level >= Level::Warning),
            awaits_jul_level: is_jul(line, first_line),
            stated_level: None,
        };
        state.read_line_end(line);
        state
    }

    /// Returns whether the entry contains a stack trace.
    pub(super) fn is_trace(&self) -> bool {
        self.trace.is_some()
    }

    /// Returns the level that a line after the first stated.
    pub(super) fn stated_level(&self) -> Option<Level> {
        self.stated_level
    }

    /// Returns whether the entry is incomplete.
    pub(super) fn expects_more(&self) -> bool {
        self.in_bracket || self.awaits_jul_level || self.trace.is_some_and(OpenTrace::expects_more)
    }

    /// Returns whether a line, given without terminal escapes, belongs to the entry. `entry` has the lines so far.
    pub(super) fn continues(&mut self, line: &str, entry: &str) -> bool {
        let Some(first_byte) = line.bytes().find(|byte| !byte.is_ascii_whitespace()) else { return true };
        let belongs = match line.as_bytes().first() {
            Some(b' ' | b'\t') => self.continues_indented(line),
            _ => self.continues_unindented(line, first_byte, entry),
        };
        if belongs {
            self.read_line_end(line);
        }
        belongs
    }

    fn read_line_end(&mut self, line: &str) {
        match line.trim_ascii_end().as_bytes().last() {
            Some(b'{' | b'[' | b'(') => (self.in_bracket, self.takes_indented) = (true, true),
            Some(b':' | b'\\') => self.takes_indented = true,
            _ => {}
        }
    }

    fn continues_indented(&mut self, line: &str) -> bool {
        let inner = line.trim_ascii_start();
        if is_indented_record(line, inner) && self.trace.is_none_or(|trace| !trace.expects_more()) {
            return false;
        }
        if let Some(frame) = OpenTrace::from_indented(inner) {
            // Python reports a syntax error by a frame without a traceback.
            let belongs =
                !frame.follows_announcement() || self.trace.is_some() || self.awaits_cause || self.takes_indented;
            if belongs {
                self.trace = Some(self.trace.map_or(frame, |open| open.with_frame(frame)));
            }
            return belongs;
        }
        if self.trace.is_some() || self.takes_indented {
            self.takes_indented = true;
            return true;
        }
        false
    }

    fn continues_unindented(&mut self, line: &str, first_byte: u8, entry: &str) -> bool {
        if let Some(trace) = &mut self.trace
            && trace.continues(&CandidateLine { line, entry, classify })
        {
            return true;
        }
        if self.in_bracket && matches!(first_byte, b'}' | b']' | b')') {
            (self.in_bracket, self.takes_indented) = (false, self.trace.is_some());
            return true;
        }
        if self.awaits_jul_level {
            self.awaits_jul_level = false;
            self.stated_level = line.split_once(": ").and_then(|(word, _)| Level::from_name(word));
            if self.stated_level.is_some() {
                return true;
            }
        }
        if is_continuation_only(line) {
            if self.trace.is_none_or(OpenTrace::is_unidentified) {
                self.trace = OpenTrace::start(line, LogLine::default()).or(Some(OpenTrace::UNIDENTIFIED));
            }
            return true;
        }
        if let Some(cause) = OpenTrace::from_cause_start(line)
            && self.is_explained_by(cause, entry)
        {
            self.trace = Some(cause);
            return true;
        }
        self.awaits_cause && is_asyncio_context(line, first_byte)
    }

    /// Returns whether a trace that starts after the entry explains it.
    fn is_explained_by(&self, cause: OpenTrace, entry: &str) -> bool {
        match self.trace {
            None => self.awaits_cause || (cause.follows_announcement() && announces_an_error(entry)),
            // `Exception in thread Thread-1 (flush):`
            Some(open) => open.is_unidentified() && cause.follows_announcement(),
        }
    }
}

/// Returns the properties of a line that [`crate::trace`] asks for.
fn classify(line: &str) -> LogLine {
    log_line(&first_line::parse(line))
}

fn log_line(first_line: &FirstLine) -> LogLine {
    LogLine {
        starts_record: first_line.starts_record,
        is_logged: first_line.from_logger,
        states_level: first_line.level.is_some(),
        is_error: first_line.level >= Some(Level::Error),
    }
}

/// Returns whether an indented line is a record nevertheless: Consul used to indent all records, and a level may be
/// right-aligned in five columns.
fn is_indented_record(line: &str, inner: &str) -> bool {
    let word = inner.split(' ').next().unwrap_or_default();
    let is_right_aligned = line.len() == inner.len() + 1 && word.len() == 4;
    timestamps::is_timestamp(word)
        || (is_right_aligned && word.bytes().all(|byte| byte.is_ascii_uppercase()) && Level::from_name(word).is_some())
}

/// Returns whether a line is `Jan 31, 2026 12:00:00 PM org.apache.catalina.startup.Catalina start`, the first of the two
/// lines of `java.util.logging.SimpleFormatter`.
fn is_jul(line: &str, first_line: &FirstLine) -> bool {
    let is_dated = first_line.from_logger
        && first_line.level.is_none()
        && line.get(..3).is_some_and(timestamps::is_month_or_weekday);
    let start = &line[..line.floor_char_boundary(30)];
    is_dated && (start.contains(" AM ") || start.contains(" PM "))
}

/// Returns whether the first line of an entry mentions an error and has no logger's prefix, as Django's
/// `Internal Server Error: /pay`.
fn announces_an_error(entry: &str) -> bool {
    let first = entry.split('\n').next().unwrap_or_default();
    ["rror", "xception", "ailed"].into_iter().any(|part| first.contains(part))
        && !first_line::parse(first).starts_record
}

/// Returns whether a line is one that asyncio's exception handler adds to its message: `future: <Task finished …>`.
fn is_asyncio_context(line: &str, first_byte: u8) -> bool {
    matches!(first_byte, b'f' | b't' | b'h' | b'p')
        && ["future: <", "task: <", "handle: <", "transport: <", "protocol: <"]
            .into_iter()
            .any(|key| line.starts_with(key))
}
