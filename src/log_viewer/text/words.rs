//! The words programs name levels by.

use super::level::Level;

/// The longest is `INFORMATIONAL`.
const WORD_BYTES_MAX: usize = 13;

/// The level that a word names, in any case.
pub(super) fn level(word: &str) -> Option<Level> {
    let mut upper = [0; WORD_BYTES_MAX];
    let upper = upper.get_mut(..word.len())?;
    upper.copy_from_slice(word.as_bytes());
    upper.make_ascii_uppercase();
    Some(match &*upper {
        b"DEBUG" | b"DBG" | b"DBUG" | b"DEBU" | b"D" | b"DEBUG1" | b"DEBUG2" | b"DEBUG3" | b"DEBUG4" | b"DEBUG5" => {
            Level::Debug
        }
        b"TRACE" | b"TRC" | b"TRCE" | b"TRAC" | b"VERBOSE" | b"VERB" | b"VRB" | b"SILLY" => Level::Debug,
        // java.util.logging
        b"CONFIG" | b"FINE" | b"FINER" | b"FINEST" => Level::Debug,
        b"INFO" | b"INF" | b"I" | b"INFORMATION" | b"INFORMATIONAL" | b"NOTICE" | b"SUCCESS" => Level::Info,
        // MySQL's and PostgreSQL's, the last five being more about the message before.
        b"NOTE" | b"SYSTEM" | b"LOG" | b"DETAIL" | b"HINT" | b"STATEMENT" | b"CONTEXT" | b"QUERY" => Level::Info,
        b"WARNING" | b"WARN" | b"WRN" | b"W" => Level::Warning,
        b"ERROR" | b"ERR" | b"ERRO" | b"EROR" | b"E" | b"FAIL" | b"SEVERE" => Level::Error,
        b"CRITICAL" | b"CRIT" | b"FATAL" | b"FATA" | b"FTL" | b"F" => Level::Critical,
        b"PANIC" | b"PANI" | b"PNC" | b"DPANIC" | b"EMERG" | b"EMERGENCY" | b"ALERT" => Level::Critical,
        _ => return None,
    })
}

/// Levels that sentences and headings begin with as well.
const MISTAKABLE: [&str; 17] = [
    "CONFIG",
    "FINE",
    "FINER",
    "FINEST",
    "SUCCESS",
    "NOTE",
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

/// Whether a word that is a level is one wherever it begins a line.
pub(super) fn is_unmistakable(word: &str) -> bool {
    word.len() > 1 && !MISTAKABLE.iter().any(|other| other.eq_ignore_ascii_case(word))
}
