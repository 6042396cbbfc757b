//! State that decides which lines belong to the entry before them.
//!
//! [`crate::trace`] has the rules for each language's stack traces. Where nothing is certain, the rules here are those
//! that fail least often:
//!
//! - A line that looks like a record ends the entry before it, unless the language of an open trace has such lines
//!   (`[signal SIGSEGV …]`, `[stacktrace]`).
//! - A blank line belongs to the entry before it.
//! - An indented line that looks like a record is one: some programs indent all their records.
//! - Any other indented line belongs to a trace, to a record (programs that put a timestamp on each record do not print
//!   indented lines without one in between), to a line that ends in `:`, `{`, `[`, `(` or `\`, and to an indented line that
//!   already belongs. After any other line it is an entry of its own, so that listings of plain lines stay separate.
//! - An unindented line belongs only where the language says so: the last line of a Python traceback, `Caused by:`, the
//!   calls of a Go stack, a bracket that closes one of the entry.
//! - A trace explains the record before it, as `logging.exception` prints it. It does not explain a record of level info,
//!   because another part of the program wrote that, and joining the two would hide the crash.
//! - Lines that are written together with a line of a message, and look like nothing else, belong to that message if it is
//!   an exception's, a logger's of level warning or higher, or announced by the line before.

use super::blocks::{Block, BlockLine, is_box};
use super::first_line::{self, FirstLine, MessageEnd};
use super::formats::{RECORDS, REQUESTS};
use super::level_words::split_name;
use super::{ambiguous_level_names, timestamps};
use crate::records::log_level::Level;
use crate::trace::{CandidateLine, LogLine, OpenTrace, introduces_cause, is_continuation_only};

/// Maximum number of further lines of an exception's message.
const EXCEPTION_LINES_MAX: u16 = 64;
/// Maximum number of further lines of the message of a record. The limit of an entry is lower.
const RECORD_LINES_MAX: u16 = 1_000;

/// The properties of an entry's lines so far that decide which lines may follow.
#[derive(Debug, Clone, Copy)]
pub(super) struct MultilineState {
    trace: Option<OpenTrace>,
    block: Option<Block>,
    /// Whether indented lines belong to the entry.
    takes_indented: bool,
    /// Whether a line of the entry ended with an opening bracket.
    in_bracket: bool,
    /// Whether a trace that follows explains the entry.
    awaits_cause: bool,
    /// Whether a logger wrote the first line, and its record may have several lines.
    is_record: bool,
    /// Number of lines without any mark that may follow as a part of the message.
    message_lines_left: u16,
    /// Level of the first line.
    level: Option<Level>,
    /// Level that a further line states.
    stated_level: Option<Level>,
}

/// Reason why a line belongs to the entry before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::log_viewer) enum Join {
    Blank,
    AfterBlank,
    Indented,
    Frame,
    Trace,
    Bracket,
    Block,
    Cause,
    Message,
}

impl Join {
    /// Returns the reason in words, for `--explain`.
    pub(in crate::log_viewer) fn reason(self) -> &'static str {
        match self {
            Self::Blank => "it is blank",
            Self::AfterBlank => "all lines before it are blank",
            Self::Indented => "it is indented",
            Self::Frame => "it is a frame of a stack trace",
            Self::Trace => "it continues a stack trace",
            Self::Bracket => "it closes a bracket",
            Self::Block => "it continues a block of lines",
            Self::Cause => "it starts the stack trace of the record",
            Self::Message => "it was written together with the message before it",
        }
    }
}

impl MultilineState {
    /// Returns the state after the first line of an entry, given without terminal escapes.
    pub(super) fn new(line: &str, first_line: &FirstLine) -> Self {
        let trace = OpenTrace::start(line, log_line(first_line));
        let is_record = first_line.from_logger && first_line.message != MessageEnd::Certain;
        let is_announced = first_line.message == MessageEnd::Announced || first_line.level >= Some(Level::Warning);
        let mut state = Self {
            trace,
            block: None,
            takes_indented: first_line.starts_record || first_line.level.is_some(),
            in_bracket: false,
            awaits_cause: first_line.level.map_or(first_line.starts_record, |level| level >= Level::Warning),
            is_record,
            message_lines_left: match is_record {
                true if is_announced => RECORD_LINES_MAX,
                false if trace.is_some() => EXCEPTION_LINES_MAX,
                _ => 0,
            },
            level: first_line.level,
            stated_level: None,
        };
        if let Some(started) = Block::start(line, first_line) {
            state.enter(started);
        }
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
        self.in_bracket || self.block == Some(Block::JavaUtilLogging) || self.trace.is_some_and(OpenTrace::expects_more)
    }

    /// Returns why a line, given without terminal escapes, belongs to the entry; `None` if it does not. `entry` has the
    /// lines so far. `is_immediate` states whether the line was written together with the one before.
    pub(super) fn join(&mut self, line: &str, entry: &str, is_immediate: bool) -> Option<Join> {
        let Some(first_byte) = line.bytes().find(|byte| !byte.is_ascii_whitespace()) else {
            if self.trace.map_or(!self.is_record, |trace| !trace.expects_more()) {
                self.message_lines_left = 0;
            }
            return Some(Join::Blank);
        };
        let join = match line.as_bytes().first() {
            Some(b' ' | b'\t') => self.join_indented(line),
            _ => self.join_unindented(line, first_byte, entry, is_immediate),
        };
        if join.is_some() {
            self.read_line_end(line);
        }
        join
    }

    fn read_line_end(&mut self, line: &str) {
        match line.trim_ascii_end().as_bytes().last() {
            Some(b'{' | b'[' | b'(') => (self.in_bracket, self.takes_indented) = (true, true),
            Some(b':' | b'\\') => self.takes_indented = true,
            _ => {}
        }
    }

    /// Applies a line that belongs to a block.
    fn enter(&mut self, line: BlockLine) {
        self.block = line.block;
        self.stated_level = self.stated_level.or(line.level);
        if self.block == Some(Block::Report) {
            (self.is_record, self.takes_indented, self.message_lines_left) = (true, true, RECORD_LINES_MAX);
            self.level = line.level;
        }
        self.takes_indented |= matches!(self.block, Some(Block::Excerpt)) || line.level.is_some();
    }

    fn join_indented(&mut self, line: &str) -> Option<Join> {
        let inner = line.trim_ascii_start();
        if self.is_indented_record(line, inner) {
            return None;
        }
        if let Some(frame) = OpenTrace::from_indented(inner) {
            // Python reports a syntax error by a frame without a traceback.
            let belongs =
                !frame.follows_announcement() || self.trace.is_some() || self.awaits_cause || self.takes_indented;
            if !belongs {
                return None;
            }
            self.trace = Some(self.trace.map_or(frame, |open| open.with_frame(frame)));
            if !self.is_record {
                self.message_lines_left = if introduces_cause(inner) { EXCEPTION_LINES_MAX } else { 0 };
            }
            return Some(Join::Frame);
        }
        if self.trace.is_some() || self.takes_indented {
            self.takes_indented = true;
            return Some(Join::Indented);
        }
        None
    }

    fn join_unindented(&mut self, line: &str, first_byte: u8, entry: &str, is_immediate: bool) -> Option<Join> {
        if let Some(trace) = &mut self.trace
            && trace.continues(&CandidateLine { line, entry, classify })
        {
            if !self.is_record && !trace.reads_message() {
                // Python names the exception, whose message may have several lines, at the end.
                self.message_lines_left = if trace.expects_more() { 0 } else { EXCEPTION_LINES_MAX };
            }
            return Some(Join::Trace);
        }
        if self.in_bracket && matches!(first_byte, b'}' | b']' | b')') {
            (self.in_bracket, self.takes_indented) = (false, self.trace.is_some() || self.is_record);
            return Some(Join::Bracket);
        }
        if let Some(block) = self.block.filter(|block| *block != Block::Report) {
            self.block = None;
            if let Some(taken) = block.take(line) {
                self.enter(taken);
                return Some(Join::Block);
            }
        }
        if is_continuation_only(line) {
            if self.trace.is_none_or(OpenTrace::is_unidentified) {
                self.trace = OpenTrace::start(line, LogLine::default()).or(Some(OpenTrace::UNIDENTIFIED));
            }
            if introduces_cause(line) {
                self.message_lines_left = self.message_lines_left.max(EXCEPTION_LINES_MAX);
            }
            return Some(Join::Trace);
        }
        if let Some(cause) = OpenTrace::from_cause_start(line)
            && self.is_explained_by(cause, entry)
        {
            self.trace = Some(cause);
            self.message_lines_left = self.message_lines_left.max(EXCEPTION_LINES_MAX);
            return Some(Join::Cause);
        }
        if self.awaits_cause && is_asyncio_context(line, first_byte) {
            return Some(Join::Trace);
        }
        if is_immediate && self.takes_message_line(line, first_byte) {
            self.message_lines_left = self.message_lines_left.saturating_sub(1);
            return Some(Join::Message);
        }
        None
    }

    /// Returns whether a trace that starts after the entry explains it.
    fn is_explained_by(&self, cause: OpenTrace, entry: &str) -> bool {
        match self.trace {
            None => self.awaits_cause || (cause.follows_announcement() && announces_an_error(entry)),
            // `Exception in thread Thread-1 (flush):`
            Some(open) => open.is_unidentified() && cause.follows_announcement(),
        }
    }

    /// Returns whether a line without any mark belongs to the message before it.
    fn takes_message_line(&mut self, line: &str, first_byte: u8) -> bool {
        let is_markup = self.is_record && first_byte == b'<';
        if self.message_lines_left == 0 && !is_markup {
            return false;
        }
        // Most of the lines after a warning are records, which this recognizes at less cost.
        if line.starts_with("{\"") || starts_with_timestamp(line) {
            return false;
        }
        let next = first_line::parse(line);
        let trace = OpenTrace::start(line, log_line(&next));
        if next.level.is_none() && trace.is_none() {
            return !(if self.is_record { next.from_logger } else { next.starts_record });
        }
        // The exception that a record reports. A worse error is one of its own.
        let is_cause = self.is_record && self.trace.is_none() && next.names_exception() && next.level <= self.level;
        if is_cause {
            self.trace = trace;
        }
        is_cause
    }

    /// Returns whether an indented line is a record nevertheless: the formatter `pretty` of Rust's `tracing` and Consul
    /// used to indent all records, Rich leaves out the time if it is that of the record before, a level may be
    /// right-aligned in five columns, and Next.js starts its lines with a blank.
    fn is_indented_record(&self, line: &str, inner: &str) -> bool {
        let first = inner.as_bytes()[0];
        if first.is_ascii_digit() {
            return starts_with_timestamp(inner);
        }
        if first.is_ascii_uppercase() {
            // The lines of Python's traces are followed by lines of the source, which can be anything.
            let is_source = self.trace.is_some_and(OpenTrace::follows_announcement);
            return !is_source
                && (starts_with_level(inner) || (self.trace.is_none() && REQUESTS.find(inner).is_some()));
        }
        if first == b'*' {
            return RECORDS.find(inner).is_some();
        }
        let is_sign = |first: char| !first.is_ascii() && !first.is_alphanumeric() && !is_box(first);
        line.len() == inner.len() + 1 && self.trace.is_none() && inner.starts_with(is_sign)
    }
}

fn starts_with_timestamp(line: &str) -> bool {
    timestamps::is_timestamp(line.split(' ').next().unwrap_or_default())
}

/// Returns whether a line starts with the name of a level in capitals, and blanks.
fn starts_with_level(line: &str) -> bool {
    let (name, rest) = split_name(line);
    let message = rest.trim_ascii_start();
    name.len() >= 4
        && name.bytes().all(|byte| byte.is_ascii_uppercase())
        && rest.starts_with(' ')
        && !message.starts_with(['=', ':'])
        && ambiguous_level_names::is_unambiguous(name)
        && Level::from_name(name).is_some()
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
