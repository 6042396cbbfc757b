//! The entry of a language in the table.

use std::fmt;

use super::frame::{Frame, FrameExtent};
use super::location_notation::Location;
use super::scan::contains_path;

/// The rules for the stack traces of one language. [`Language::NONE`] supplies a default for each rule that a language
/// does not need.
pub struct Language {
    /// Name as in prose, for example `JavaScript`.
    pub name: &'static str,
    /// Order in which a trace lists its frames.
    pub order: FrameOrder,
    /// Parser for the frame that starts at a line. The second argument is the text after that line.
    pub frame: for<'t> fn(&'t str, &'t str) -> Option<FrameExtent<'t>>,
    /// Writer for a frame in the language's own notation, with a final newline. The index counts from 0 in the order
    /// of the trace.
    pub write_frame: fn(&mut String, usize, &Frame<'_>),
    /// Code that is not the program's own.
    pub library: Library,
    /// Beginnings of lines, apart from indentation, that introduce another error of a chain.
    pub causes: &'static [&'static str],
    /// Rules that locate an error in texts for which the original Monlight found no location. Stored fingerprints depend
    /// on them, so a rule must not change, and a new one comes last.
    pub location_rules: &'static [LocationRule],
    /// Lines of a log that belong to a trace.
    pub multiline: Multiline,
}

impl Language {
    /// A language without any rules.
    pub const NONE: Self = Self {
        name: "",
        order: FrameOrder::InnermostFirst,
        frame: |_, _| None,
        write_frame: |_, _, _| {},
        library: Library { paths: &[], modules: &[] },
        causes: &[],
        location_rules: &[],
        multiline: Multiline::NONE,
    };

    /// Parses the frame that starts at `line`. `following` is the text after the line.
    pub fn parse_frame<'t>(&self, line: &'t str, following: &'t str) -> Option<FrameExtent<'t>> {
        let mut parsed = (self.frame)(line, following)?;
        parsed.frame.in_app &= !self.library.contains(&parsed.frame);
        Some(parsed)
    }
}

impl fmt::Debug for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// The order of the frames in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameOrder {
    /// The frame that raised the error comes first.
    InnermostFirst,
    /// The frame that raised the error comes last.
    InnermostLast,
}

/// Files and modules that are library code.
#[derive(Debug, Clone, Copy)]
pub struct Library {
    /// Fragments of paths. `/` also matches `\`.
    pub paths: &'static [&'static str],
    /// First segments of modules, or of functions where a frame has no module.
    pub modules: &'static [&'static str],
}

impl Library {
    fn contains(&self, frame: &Frame<'_>) -> bool {
        let module = frame.module.or(frame.function).unwrap_or_default().trim_start_matches('<');
        let starts_with = |segments: &&str| {
            let rest = module.strip_prefix(*segments);
            rest.is_some_and(|rest| !rest.starts_with(|next: char| next.is_ascii_alphanumeric() || next == '_'))
        };
        frame.file.is_some_and(|file| self.paths.iter().any(|fragment| contains_path(file, fragment)))
            || self.modules.iter().any(starts_with)
    }
}

/// A rule that locates an error in the text of its trace.
pub struct LocationRule {
    /// Text without which the rule cannot apply. Most texts lack it, and searching for it is cheap.
    pub mark: &'static str,
    /// Finds the location.
    pub find: fn(&str) -> Option<Location<'_>>,
}

/// The progress of a trace that is read line by line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TracePhase {
    /// Up to this number of lines of the error's message may come before the frames.
    Message {
        /// Number of lines, at least 0.
        lines_left: u8,
    },
    /// Frames may follow.
    Frames,
    /// The trace is complete. A chained trace may follow.
    Ended,
    /// The trace is complete. Lines with details of the error, or a chained trace, may follow.
    Details,
    /// Frames may follow, but several languages print such lines.
    Unidentified,
}

impl TracePhase {
    /// Consumes a line of the message. Returns `false` if no such line can follow any more.
    pub(super) fn consume_message_line(&mut self) -> bool {
        match self {
            Self::Message { lines_left: lines_left @ 1.. } => {
                *lines_left -= 1;
                true
            }
            _ => false,
        }
    }
}

/// The rules that decide which lines of a log belong to a trace. Lines come without terminal escapes.
pub struct Multiline {
    /// Lines that start a trace.
    pub start: LineRule,
    /// Lines that start a trace, end with a colon and may have any prefix.
    pub start_at_colon: fn(&str) -> Option<TracePhase>,
    /// Lines of level error or higher that start a trace.
    pub start_at_error: fn(&str) -> Option<TracePhase>,
    /// Whether an unindented line belongs to the trace.
    pub continues: fn(&mut TracePhase, &CandidateLine<'_>) -> bool,
    /// Indented lines that are part of a trace, without their indentation.
    pub indented: LineRule,
    /// Unindented lines that always belong to the entry before them.
    pub continuation_only: LineRule,
    /// Unindented lines that start a trace which explains the record before it.
    pub cause_start: LineRule,
    /// Whether a frame ends the message.
    pub frame_ends_message: bool,
    /// Whether traces follow a line that announces an error, so that a frame which follows anything else starts a trace
    /// of its own.
    pub follows_announcement: bool,
}

impl Multiline {
    /// A language whose traces consist of indented lines that other languages print as well.
    pub const NONE: Self = Self {
        start: LineRule::NEVER,
        start_at_colon: |_| None,
        start_at_error: |_| None,
        continues: |_, _| false,
        indented: LineRule::NEVER,
        continuation_only: LineRule::NEVER,
        cause_start: LineRule::NEVER,
        frame_ends_message: false,
        follows_announcement: false,
    };
}

/// A test of lines that start with one of a few bytes. Comparing that byte first keeps the cost of ordinary lines low.
pub struct LineRule {
    /// Possible first bytes.
    pub first_bytes: &'static [u8],
    /// The phase of the trace after such a line, or `None` for other lines.
    pub phase: fn(&str, LogLine) -> Option<TracePhase>,
}

impl LineRule {
    /// A rule that no line matches.
    pub const NEVER: Self = Self { first_bytes: &[], phase: |_, _| None };
}

/// The properties of a log line, apart from any trace in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogLine {
    /// Whether the line starts a record, by its timestamp, level or form.
    pub starts_record: bool,
    /// Whether a logger wrote the line, by its timestamp or form.
    pub is_logged: bool,
    /// Whether the line states a level.
    pub states_level: bool,
    /// Whether the level is error or higher.
    pub is_error: bool,
}

/// An unindented line that may continue a trace.
#[derive(Clone, Copy)]
pub struct CandidateLine<'l> {
    /// The line without its newline.
    pub line: &'l str,
    /// The lines of the entry so far.
    pub entry: &'l str,
    /// Reads the properties of a line. Called only when they decide, because it is expensive.
    pub classify: fn(&str) -> LogLine,
}

impl CandidateLine<'_> {
    /// Returns whether the line is a record although it looks like the name of an exception. A name of one letter could be
    /// the initial of a level, but hardly between the frames of a trace.
    pub(super) fn is_record(&self) -> bool {
        let log = (self.classify)(self.line);
        log.is_logged || (log.starts_record && self.line.as_bytes().get(1) != Some(&b':'))
    }

    /// Returns whether the line starts a record.
    pub(super) fn starts_record(&self) -> bool {
        (self.classify)(self.line).starts_record
    }
}
