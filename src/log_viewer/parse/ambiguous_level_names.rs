//! Level names that are also ordinary words.

/// Level names that also start sentences or headings.
const AMBIGUOUS: [&str; 18] = [
    "CONFIG",
    "FINE",
    "FINER",
    "FINEST",
    "SUCCESS",
    "NOTE",
    "NOTICE",
    "SYSTEM",
    "LOG",
    "DETAIL",
    "HINT",
    "STATEMENT",
    "CONTEXT",
    "QUERY",
    "ALERT",
    "VERBOSE",
    "VERB",
    "SILLY",
];

/// Returns whether a level name denotes a level at the start of any line. Single letters do not.
pub(super) fn is_unambiguous(name: &str) -> bool {
    name.len() > 1 && !AMBIGUOUS.iter().any(|other| other.eq_ignore_ascii_case(name))
}
