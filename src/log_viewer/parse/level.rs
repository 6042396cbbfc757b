//! Level detection for entries.
//!
//! The rules, in this order; a rule applies only if those before it found no level:
//!
//! 1. The level that the record states: a JSON member, `level=` in logfmt, a word in the prefix, klog's initial, a syslog
//!    priority, Redis' mark. Words in the message never count.
//! 2. The HTTP status in an access log: 5xx is ERROR, 4xx WARNING, anything else INFO. It also takes precedence over a
//!    stated level of INFO, with which many servers log every request.
//! 3. The first line of a crash: ERROR. It is CRITICAL if the process certainly ended: Go's `panic:` and `fatal error:`,
//!    C++'s `terminate called` and PHP's fatal errors.
//! 4. A stack trace after the first line: ERROR.
//! 5. Anything else is INFO, on stdout and on stderr. Many programs write their whole log to stderr.

use super::ansi;
use super::first_line;
use crate::records::log_level::Level;

/// Detects the level of an entry of one or more lines, in time linear in its length.
pub(in crate::log_viewer) fn detect(text: &str) -> Level {
    let plain = ansi::strip(text);
    let first = plain.find('\n').map_or(&*plain, |end| &plain[..end]);
    let further = &plain[first.len()..];
    let mut first_line = first_line::parse(first);
    if first_line.level.is_none() && first.starts_with('{') && !further.is_empty() {
        // A pretty-printed JSON object.
        first_line = first_line::parse(&plain);
    }
    let has_trace = || !further.is_empty() && contains_trace(further);
    first_line.level.unwrap_or_else(|| if has_trace() { Level::Error } else { Level::Info })
}

/// Returns whether the lines after the first contain the start or a frame of a stack trace.
fn contains_trace(further: &str) -> bool {
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
    .any(|marker| further.contains(marker))
}
