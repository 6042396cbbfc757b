//! One log entry, independent of the format and the transport that it came in.

use super::log_level::Level;

/// One log entry: a line, or several lines that belong together, such as a stack trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRecord {
    /// Time of the first line, in nanoseconds since 1970 (UTC).
    pub time_ns: i64,
    /// Time by which the entry is sorted, in nanoseconds since 1970. It differs from `time_ns` for an entry that states no
    /// time and precedes one that does.
    pub order_ns: i64,
    /// Standard stream that the process wrote the entry to.
    pub stream: StdStream,
    /// Severity.
    pub level: Level,
    /// Text as written, without the final newline. Terminal escape sequences are preserved.
    pub message: String,
    /// `message` without terminal escape sequences, for the search index; `None` if there are none.
    pub search_text: Option<String>,
}

/// Standard stream of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StdStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl StdStream {
    /// Returns the name as Docker and the API spell it, in lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }

    /// Returns the index in arrays with a value for each stream: 0 for stdout, 1 for stderr.
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            Self::Stdout => 0,
            Self::Stderr => 1,
        }
    }

    /// Returns the stream with this name; `None` for any other name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "stdout" => Some(Self::Stdout),
            "stderr" => Some(Self::Stderr),
            _ => None,
        }
    }
}
