//! How severe an entry is: what its line says of itself, in whichever way programs write that, and where it says
//! nothing, which stream it came from.
//!
//! The order, each step only when those before it found nothing:
//!
//! 1. A level that the record states: a JSON member, `level=` of logfmt, a word in the prefix, klog's letter, a syslog
//!    priority, redis' mark. Words in the message never count.
//! 2. The status of an HTTP request in an access log: 5xx ERROR, 4xx WARNING, otherwise INFO.
//! 3. The first line of a crash: ERROR, and CRITICAL where the process is over for certain, which is Go's `panic:` and
//!    `fatal error:` and PHP's fatal errors.
//! 4. A stack trace further down: ERROR.
//! 5. A record that a logger dated, or that is a JSON object, is INFO on either stream, since Go's `log` and many others
//!    write everything to stderr. Anything else is INFO on stdout and ERROR on stderr.

use super::head::{self, Head};
use super::{Stream, ansi};

/// Severity, ascending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in crate::log_viewer) enum Level {
    Debug,
    Info,
    Warning,
    Error,
    Critical,
}

impl Level {
    pub(in crate::log_viewer) const ALL: [Self; 5] =
        [Self::Debug, Self::Info, Self::Warning, Self::Error, Self::Critical];

    /// As it is written outside.
    pub(in crate::log_viewer) fn name(self) -> &'static str {
        match self {
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warning => "WARNING",
            Self::Error => "ERROR",
            Self::Critical => "CRITICAL",
        }
    }

    /// The level of that name, in any case and by any of the names that programs use: `warn`, `FATAL`, `E`.
    pub(in crate::log_viewer) fn named(name: &str) -> Option<Self> {
        super::words::level(name)
    }

    /// Its rank, 0 to 4.
    pub(in crate::log_viewer) fn rank(self) -> u8 {
        match self {
            Self::Debug => 0,
            Self::Info => 1,
            Self::Warning => 2,
            Self::Error => 3,
            Self::Critical => 4,
        }
    }

    /// The level of that rank.
    pub(in crate::log_viewer) fn ranked(rank: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.rank() == rank)
    }

    /// That of a severity of syslog, 0 to 7 (RFC 5424, section 6.2.1).
    pub(super) fn of_syslog(severity: i64) -> Option<Self> {
        Some(match severity {
            0..=2 => Self::Critical,
            3 => Self::Error,
            4 => Self::Warning,
            5 | 6 => Self::Info,
            7 => Self::Debug,
            _ => return None,
        })
    }

    /// That of the status of an HTTP response.
    pub(super) fn of_status(status: u16) -> Self {
        match status {
            500.. => Self::Error,
            400..=499 => Self::Warning,
            _ => Self::Info,
        }
    }
}

/// The level of an entry of one or more lines. Takes time linear in its length.
pub(in crate::log_viewer) fn of(text: &str, stream: Stream) -> Level {
    let shown = ansi::strip(text);
    let first = shown.find('\n').map_or(&*shown, |end| &shown[..end]);
    let further = &shown[first.len()..];
    let mut head = head::read(first);
    if head.level.is_none() && first.starts_with('{') && !further.is_empty() {
        // An object written over many lines.
        head = head::read(&shown);
    }
    decided(&head, !further.is_empty() && has_trace(further), stream)
}

/// The level of an entry with that first line, and perhaps a stack trace behind it.
pub(super) fn decided(head: &Head, trace: bool, stream: Stream) -> Level {
    match head.level {
        Some(level) => level,
        None if trace => Level::Error,
        None if head.logged || head.blank || stream == Stream::Stdout => Level::Info,
        None => Level::Error,
    }
}

/// Whether lines after the first look like a stack trace.
fn has_trace(further: &str) -> bool {
    [
        "\nTraceback (most recent call last):",
        "\n\tat ",
        "\n    at ",
        "\n   at ",
        "\nCaused by: ",
        "\ngoroutine ",
        "\n\tfrom ",
    ]
    .into_iter()
    .any(|sign| further.contains(sign))
}
