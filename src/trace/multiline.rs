//! The state of a trace that is read line by line from a log.

use super::first_byte_index::FirstByteIndex;
use super::language::{CandidateLine, Language, LineRule, LogLine, TracePhase};
use super::languages::LANGUAGES;
use super::scan::starts_with_any;

/// The language whose continuation lines also belong to an unidentified trace: the first line of an Elixir crash is often
/// only recognized as an error.
static FALLBACK: &Language = &super::languages::ELIXIR;

/// A trace whose first lines have been read.
#[derive(Debug, Clone, Copy)]
pub struct OpenTrace {
    /// `None` while the lines so far fit several languages. Those indent everything but their causes.
    language: Option<&'static Language>,
    phase: TracePhase,
}

impl OpenTrace {
    /// A trace whose language is not known yet.
    pub const UNIDENTIFIED: Self = Self { language: None, phase: TracePhase::Unidentified };

    /// Returns the trace that a line starts, either the first line of an entry or one behind a logger's prefix.
    pub fn start(line: &str, log: LogLine) -> Option<Self> {
        let find = |rule: fn(&Language, &str) -> Option<TracePhase>| {
            LANGUAGES.iter().find_map(|language| rule(language, line).map(|phase| Self::new(language, phase)))
        };
        if line.ends_with(':')
            && let Some(trace) = find(|language, line| (language.multiline.start_at_colon)(line))
        {
            return Some(trace);
        }
        if let Some(trace) = STARTS.find(line, log) {
            return Some(trace);
        }
        if !log.is_error || line.is_empty() {
            return None;
        }
        // Only the first line of a crash has a level without being a record.
        let crash = (!log.starts_record).then_some(Self::UNIDENTIFIED);
        find(|language, line| (language.multiline.start_at_error)(line)).or(crash)
    }

    /// Returns the trace that an indented line is certainly part of. The line comes without its indentation.
    pub fn from_indented(line: &str) -> Option<Self> {
        INDENTED.find(line, LogLine::default())
    }

    /// Returns the trace that an unindented line starts, if it explains the record before it.
    pub fn from_cause_start(line: &str) -> Option<Self> {
        CAUSE_STARTS.find(line, LogLine::default())
    }

    fn new(language: &'static Language, phase: TracePhase) -> Self {
        if phase == TracePhase::Unidentified { Self::UNIDENTIFIED } else { Self { language: Some(language), phase } }
    }

    /// Returns whether the trace fits several languages so far.
    pub fn is_unidentified(self) -> bool {
        self.language.is_none()
    }

    /// Returns whether the trace is incomplete.
    pub fn expects_more(self) -> bool {
        !matches!(self.phase, TracePhase::Ended | TracePhase::Details)
    }

    /// Returns whether the lines so far are those of the error's message.
    pub fn reads_message(self) -> bool {
        matches!(self.phase, TracePhase::Message { .. })
    }

    /// Returns whether traces of this language follow a line that announces an error, so that a
    /// frame which follows anything else starts a trace of its own.
    pub fn follows_announcement(self) -> bool {
        self.language.is_some_and(|language| language.multiline.follows_announcement)
    }

    /// Returns the trace after an indented line that is part of `frame`. A known language stays, since frames of several
    /// languages look the same.
    #[must_use]
    pub fn with_frame(self, frame: Self) -> Self {
        match self.language {
            None => frame,
            Some(language) if language.multiline.frame_ends_message => Self { phase: TracePhase::Frames, ..self },
            Some(_) => self,
        }
    }

    /// Returns whether an unindented line belongs to the trace, and advances the trace if so.
    pub fn continues(&mut self, candidate: &CandidateLine<'_>) -> bool {
        let language = self.language.unwrap_or(FALLBACK);
        (language.multiline.continues)(&mut self.phase, candidate)
    }
}

/// Returns whether a line, without its indentation, introduces another error of a chain, whose message follows.
pub fn introduces_cause(line: &str) -> bool {
    LANGUAGES.iter().any(|language| starts_with_any(line, language.causes))
}

/// Returns whether an unindented line can only belong to the entry before it.
pub fn is_continuation_only(line: &str) -> bool {
    CONTINUATIONS.find(line, LogLine::default()).is_some()
}

static STARTS: RuleIndex = RuleIndex::new(Role::Start);
static INDENTED: RuleIndex = RuleIndex::new(Role::Indented);
static CONTINUATIONS: RuleIndex = RuleIndex::new(Role::ContinuationOnly);
static CAUSE_STARTS: RuleIndex = RuleIndex::new(Role::CauseStart);

/// The line rules of a language.
#[derive(Clone, Copy)]
enum Role {
    Start,
    Indented,
    ContinuationOnly,
    CauseStart,
}

impl Role {
    const fn rule(self, language: &'static Language) -> &'static LineRule {
        match self {
            Self::Start => &language.multiline.start,
            Self::Indented => &language.multiline.indented,
            Self::ContinuationOnly => &language.multiline.continuation_only,
            Self::CauseStart => &language.multiline.cause_start,
        }
    }
}

/// The rules of one role in all languages.
struct RuleIndex {
    role: Role,
    index: FirstByteIndex,
}

impl RuleIndex {
    const fn new(role: Role) -> Self {
        let mut index = FirstByteIndex::EMPTY;
        let mut language = 0;
        while language < LANGUAGES.len() {
            index = index.with(language, role.rule(LANGUAGES[language]).first_bytes);
            language += 1;
        }
        Self { role, index }
    }

    /// Returns the trace after a line that matches a rule. The first language of the table decides.
    fn find(&self, line: &str, log: LogLine) -> Option<OpenTrace> {
        let mut languages = self.index.candidates(line).map(|position| LANGUAGES[position]);
        languages.find_map(|language| {
            (self.role.rule(language).phase)(line, log).map(|phase| OpenTrace::new(language, phase))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns how many of the lines belong to the trace that the first one starts.
    fn length(lines: &[&str]) -> usize {
        let log = |line: &str| LogLine { starts_record: line.starts_with("2026-"), ..LogLine::default() };
        let Some(mut trace) = OpenTrace::start(lines[0], log(lines[0])) else { return 0 };
        let belongs = |line: &&&str| {
            let candidate = CandidateLine { line, entry: lines[0], classify: log };
            line.starts_with([' ', '\t']) || trace.continues(&candidate) || is_continuation_only(line)
        };
        1 + lines[1..].iter().take_while(belongs).count()
    }

    #[test]
    fn a_trace_ends_where_its_language_says() {
        for (lines, expected) in [
            (&["Traceback (most recent call last):", "  File \"a.py\", line 1", "KeyError: 'x'", "done"][..], 3),
            (&["panic: two", "lines", "goroutine 1 [running]:", "main.main()", "\t/a.go:1", "done"], 5),
            (&["panic: x", "2026-01-31 next"], 1),
            (&["thread 'main' panicked at a.rs:1:2:", "message", "note: x", "done"], 3),
            (&["/app/a.js:1", "throw x", "2026-01-31 is the date", "Node.js v20", "done"], 4),
            (&["#0 /a.php(1): f()", "#1 {main}", "Next E: x in /a.php:3", "done"], 3),
            (&["done"], 0),
        ] {
            assert_eq!(length(lines), expected, "{lines:?}");
        }
    }
}
