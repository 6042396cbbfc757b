//! Which lines belong to the entry before them.
//!
//! The rules, where nothing is certain, are those that go wrong least:
//!
//! - A line that begins like a record ends what was before it, except where a trace of the language at hand has such
//!   lines (`[signal SIGSEGV …]`, `[stacktrace]`).
//! - A blank line belongs to what it follows.
//! - An indented line belongs to a trace, to a record (who dates his records does not write undated indented lines
//!   beside them), to a line that ends in `:`, `{`, `[`, `(` or `\`, and to an indented line that already belongs.
//!   After any other line it is one of its own: listings of bare lines stay apart.
//! - A line that is not indented belongs only where the language says so: the last line of a Python traceback, `Caused
//!   by:`, the calls of a Go stack, a bracket that closes what the entry opened.
//! - A trace explains the record before it, as `logging.exception` prints it, unless that record is information: then
//!   somebody else wrote it, and joined to it the crash would be hidden.

use super::head::{self, Head};
use super::languages::{self, Trace};
use super::level::Level;
use super::{moment, words};

/// What an entry has shown so far, as far as it decides what may follow.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    trace: Option<Trace>,
    /// Whether indented lines belong to it.
    block: bool,
    /// Whether it opened a bracket at the end of a line.
    bracket: bool,
    /// Whether a trace that follows explains it.
    explained: bool,
    /// Whether it is the first of the two lines of `java.util.logging`, the second of which has the level.
    jul: bool,
    stated: Option<Level>,
}

impl Shape {
    /// That of an entry with this first line, without escapes.
    pub(super) fn of(line: &str, head: &Head) -> Self {
        let mut shape = Self {
            trace: languages::begun(line, head),
            block: head.record || head.level.is_some(),
            bracket: false,
            explained: head.level.map_or(head.record, |level| level >= Level::Warning),
            jul: is_jul(line, head),
            stated: None,
        };
        shape.look_at_end(line);
        shape
    }

    pub(super) fn is_trace(&self) -> bool {
        self.trace.is_some()
    }

    /// The level that a further line stated.
    pub(super) fn stated(&self) -> Option<Level> {
        self.stated
    }

    pub(super) fn expects_more(&self) -> bool {
        self.bracket || self.jul || self.trace.is_some_and(Trace::expects_more)
    }

    /// Whether this line, without escapes, belongs to the entry, whose text so far is `entry`.
    pub(super) fn takes(&mut self, line: &str, entry: &str) -> bool {
        let Some(first) = line.bytes().find(|byte| !byte.is_ascii_whitespace()) else { return true };
        let taken = match line.as_bytes().first() {
            Some(b' ' | b'\t') => self.takes_indented(line),
            _ => self.takes_unindented(line, first, entry),
        };
        if taken {
            self.look_at_end(line);
        }
        taken
    }

    fn look_at_end(&mut self, line: &str) {
        match line.trim_ascii_end().as_bytes().last() {
            Some(b'{' | b'[' | b'(') => (self.bracket, self.block) = (true, true),
            Some(b':' | b'\\') => self.block = true,
            _ => {}
        }
    }

    fn takes_indented(&mut self, line: &str) -> bool {
        let inner = line.trim_ascii_start();
        if is_indented_record(line, inner) && self.trace.is_none_or(|trace| !trace.expects_more()) {
            return false;
        }
        if let Some(trace) = languages::frame(inner) {
            let joins = !trace.is_python() || self.trace.is_some() || self.explained || self.block;
            if joins {
                self.trace = Some(self.trace.map_or(trace, |open| open.with_frame(trace)));
            }
            return joins;
        }
        if self.trace.is_some() || self.block {
            self.block = true;
            return true;
        }
        false
    }

    fn takes_unindented(&mut self, line: &str, first: u8, entry: &str) -> bool {
        if let Some(trace) = &mut self.trace
            && trace.takes(line, entry)
        {
            return true;
        }
        if self.bracket && matches!(first, b'}' | b']' | b')') {
            (self.bracket, self.block) = (false, self.trace.is_some());
            return true;
        }
        if self.jul {
            self.jul = false;
            self.stated = line.split_once(": ").and_then(|(word, _)| words::level(word));
            if self.stated.is_some() {
                return true;
            }
        }
        if languages::never_first(line, first) {
            if matches!(self.trace, None | Some(Trace::Other)) {
                self.trace = languages::begun(line, &Head::default()).or(Some(Trace::Other));
            }
            return true;
        }
        if let Some(trace) = languages::explanation(line, first)
            && self.accepts(trace, entry)
        {
            self.trace = Some(trace);
            return true;
        }
        self.explained && is_asyncio_context(line, first)
    }

    /// Whether a trace that begins behind the entry explains it.
    fn accepts(&self, trace: Trace, entry: &str) -> bool {
        match self.trace {
            None => self.explained || (trace.is_python() && announces_an_error(entry)),
            // `Exception in thread Thread-1 (flush):`
            Some(Trace::Other) => trace.is_python(),
            Some(_) => false,
        }
    }
}

/// An indented line that is a record all the same: Consul once indented all of them, and a level may be set to the right
/// of five columns.
fn is_indented_record(line: &str, inner: &str) -> bool {
    let word = inner.split(' ').next().unwrap_or_default();
    let rightmost = line.len() == inner.len() + 1 && word.len() == 4;
    moment::is_part(word)
        || (rightmost && word.bytes().all(|byte| byte.is_ascii_uppercase()) && words::level(word).is_some())
}

/// `Jan 31, 2026 12:00:00 PM org.apache.catalina.startup.Catalina start`, of `java.util.logging.SimpleFormatter`.
fn is_jul(line: &str, head: &Head) -> bool {
    let dated = head.logged && head.level.is_none() && line.get(..3).is_some_and(moment::is_month_or_day);
    let start = &line[..line.floor_char_boundary(30)];
    dated && (start.contains(" AM ") || start.contains(" PM "))
}

/// Whether the first line of an entry that has no prefix speaks of an error, as Django's `Internal Server Error: /pay`.
fn announces_an_error(entry: &str) -> bool {
    let first = entry.split('\n').next().unwrap_or_default();
    ["rror", "xception", "ailed"].into_iter().any(|part| first.contains(part)) && !head::read(first).record
}

/// What asyncio's exception handler adds to its message: `future: <Task finished …>`.
fn is_asyncio_context(line: &str, first: u8) -> bool {
    matches!(first, b'f' | b't' | b'h' | b'p')
        && ["future: <", "task: <", "handle: <", "transport: <", "protocol: <"]
            .into_iter()
            .any(|key| line.starts_with(key))
}
