//! Lines that belong together become one entry: a stack trace with the record it explains, a record of several lines.
//! `multiline` decides what belongs; here are the limits, and what an entry carries.

use super::head::{self, Head};
use super::level::{self, Level};
use super::multiline::MultilineState;
use super::{Stream, ansi};

/// Lines of one entry. What goes on after them is another entry of the same level.
pub(in crate::log_viewer) const ENTRY_LINES_MAX: usize = 500;
/// Bytes of one entry, unless its first line alone is longer.
pub(in crate::log_viewer) const ENTRY_BYTES_MAX: usize = 256 << 10;
/// A line that came so much later than the one before it is another entry. Live, the caller flushes long before; it is
/// for files that are read afterwards, where a program that died may have been started again.
const PAUSE_NS_MAX: i64 = 5_000_000_000;

/// One or more lines that were one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::log_viewer) struct Entry<P> {
    /// The lines as they were written, with `\n` between them.
    pub(in crate::log_viewer) text: String,
    /// How many lines, 1 to 500.
    pub(in crate::log_viewer) lines: usize,
    pub(in crate::log_viewer) level: Level,
    pub(in crate::log_viewer) stream: Stream,
    /// Nanoseconds since 1970, of the first line.
    pub(in crate::log_viewer) time_ns: i64,
    /// What the caller knows of the first line, such as where it began.
    pub(in crate::log_viewer) place: P,
}

/// Joins the lines of one stream of one container. An entry is finished by the line that is not part of it any more, or
/// by the caller's patience.
#[derive(Debug)]
pub(in crate::log_viewer) struct Joiner<P> {
    stream: Stream,
    open: Option<Open<P>>,
}

impl<P: Copy> Joiner<P> {
    pub(in crate::log_viewer) fn new(stream: Stream) -> Self {
        Self { stream, open: None }
    }

    /// Takes the next line, without its newline, and returns the entry that is finished by it.
    pub(in crate::log_viewer) fn push(&mut self, line: &str, time_ns: i64, place: P) -> Option<Entry<P>> {
        let shown = ansi::strip(line);
        let next = match &mut self.open {
            Some(open) => {
                if !open.takes(&shown, time_ns) {
                    Open::new(line, &shown, time_ns, place)
                } else if open.has_room(line) {
                    open.append(line, time_ns);
                    return None;
                } else {
                    open.continued(line, time_ns, place, self.stream)
                }
            }
            None => Open::new(line, &shown, time_ns, place),
        };
        self.open.replace(next).map(|open| open.finished(self.stream))
    }

    /// Finishes the entry that is open: no more of it came for long enough.
    pub(in crate::log_viewer) fn flush(&mut self) -> Option<Entry<P>> {
        self.open.take().map(|open| open.finished(self.stream))
    }

    /// What the caller knows of the first line of the entry that is open.
    pub(in crate::log_viewer) fn open(&self) -> Option<P> {
        self.open.as_ref().map(|open| open.place)
    }

    /// Whether the entry that is open is in the middle of something, such as the frames of a stack trace, so that it is
    /// worth waiting longer for the next line.
    pub(in crate::log_viewer) fn expects_more(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.state.expects_more())
    }
}

#[derive(Debug)]
struct Open<P> {
    text: String,
    lines: usize,
    head: Head,
    state: MultilineState,
    time_ns: i64,
    last_ns: i64,
    place: P,
}

impl<P> Open<P> {
    fn new(line: &str, shown: &str, time_ns: i64, place: P) -> Self {
        let head = head::read(shown);
        let state = MultilineState::new(shown, &head);
        Self { text: line.to_owned(), lines: 1, head, state, time_ns, last_ns: time_ns, place }
    }

    /// The rest of an entry that is full.
    fn continued(&self, line: &str, time_ns: i64, place: P, stream: Stream) -> Self {
        let head = Head { level: Some(self.level(stream)), ..self.head };
        Self { text: line.to_owned(), lines: 1, head, state: self.state, time_ns, last_ns: time_ns, place }
    }

    fn takes(&mut self, shown: &str, time_ns: i64) -> bool {
        time_ns.saturating_sub(self.last_ns) <= PAUSE_NS_MAX && self.state.continues(shown, &self.text)
    }

    fn has_room(&self, line: &str) -> bool {
        self.lines < ENTRY_LINES_MAX && self.text.len() + 1 + line.len() <= ENTRY_BYTES_MAX
    }

    fn append(&mut self, line: &str, time_ns: i64) {
        self.text.push('\n');
        self.text.push_str(line);
        self.lines += 1;
        self.last_ns = time_ns;
    }

    fn level(&self, stream: Stream) -> Level {
        if self.lines > 1 && self.head.level.is_none() && self.text.starts_with('{') {
            // An object written over many lines.
            return level::of(&self.text, stream);
        }
        self.state.stated_level().unwrap_or_else(|| level::decided(&self.head, self.state.is_trace(), stream))
    }

    fn finished(self, stream: Stream) -> Entry<P> {
        let level = self.level(stream);
        let Self { text, lines, time_ns, place, .. } = self;
        Entry { text, lines, level, stream, time_ns, place }
    }
}
