//! Severity levels of log records, and the names and numbers that programs and protocols give them.

/// Length of the longest name that [`Level::from_name`] accepts, `INFORMATIONAL`, in bytes.
const NAME_BYTES_MAX: usize = 13;

/// Severity of a log record, in ascending order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Level {
    /// Debug and trace output.
    Debug,
    /// Normal operation.
    Info,
    /// Unexpected, but handled.
    Warning,
    /// An operation failed.
    Error,
    /// The program or an important part of it failed.
    Critical,
}

impl Level {
    /// All levels in ascending order.
    pub const ALL: [Self; 5] = [Self::Debug, Self::Info, Self::Warning, Self::Error, Self::Critical];

    /// Returns the name that the API uses, in upper case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warning => "WARNING",
            Self::Error => "ERROR",
            Self::Critical => "CRITICAL",
        }
    }

    /// Returns the level that a name or an abbreviation stands for, in upper, lower or mixed case: `warn`, `FATAL`, `E`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let mut upper = [0; NAME_BYTES_MAX];
        let upper = upper.get_mut(..name.len())?;
        upper.copy_from_slice(name.as_bytes());
        upper.make_ascii_uppercase();
        Some(match &*upper {
            b"DEBUG" | b"DBG" | b"DBUG" | b"DEBU" | b"DEBG" | b"D" | b"DEBUG1" | b"DEBUG2" | b"DEBUG3" | b"DEBUG4"
            | b"DEBUG5" => Self::Debug,
            b"TRACE" | b"TRC" | b"TRCE" | b"TRAC" | b"VERBOSE" | b"VERB" | b"VRB" | b"SILLY" => Self::Debug,
            // java.util.logging
            b"CONFIG" | b"FINE" | b"FINER" | b"FINEST" => Self::Debug,
            b"INFO" | b"INF" | b"I" | b"INFORMATION" | b"INFORMATIONAL" | b"NOTICE" | b"SUCCESS" => Self::Info,
            // MySQL and PostgreSQL. The last five add details to the message before.
            b"NOTE" | b"SYSTEM" | b"LOG" | b"DETAIL" | b"HINT" | b"STATEMENT" | b"CONTEXT" | b"QUERY" => Self::Info,
            b"WARNING" | b"WARN" | b"WRN" | b"W" => Self::Warning,
            b"ERROR" | b"ERR" | b"ERRO" | b"EROR" | b"E" | b"FAIL" | b"FAILED" | b"SEVERE" => Self::Error,
            b"CRITICAL" | b"CRIT" | b"FATAL" | b"FATA" | b"FTL" | b"F" => Self::Critical,
            b"PANIC" | b"PANI" | b"PNC" | b"DPANIC" | b"EMERG" | b"EMERGENCY" | b"ALERT" => Self::Critical,
            _ => return None,
        })
    }

    /// Returns the level that an initial stands for, in the notations of klog, Android, qBittorrent and others.
    #[must_use]
    pub fn from_letter(letter: u8) -> Option<Self> {
        Some(match letter {
            b'D' | b'V' | b'T' => Self::Debug,
            b'I' | b'N' => Self::Info,
            b'W' => Self::Warning,
            b'E' => Self::Error,
            b'F' | b'C' => Self::Critical,
            _ => return None,
        })
    }

    /// Returns the rank, 0 (debug) to 4 (critical).
    #[must_use]
    pub fn rank(self) -> u8 {
        match self {
            Self::Debug => 0,
            Self::Info => 1,
            Self::Warning => 2,
            Self::Error => 3,
            Self::Critical => 4,
        }
    }

    /// Returns the level with a rank; `None` above 4.
    #[must_use]
    pub fn from_rank(rank: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.rank() == rank)
    }

    /// Converts a syslog severity, 0 to 7 (RFC 5424, section 6.2.1). journald's `PRIORITY` uses the same numbers.
    #[must_use]
    pub fn from_syslog_severity(severity: i64) -> Option<Self> {
        Some(match severity {
            0..=2 => Self::Critical,
            3 => Self::Error,
            4 => Self::Warning,
            5 | 6 => Self::Info,
            7 => Self::Debug,
            _ => return None,
        })
    }

    /// Converts an OpenTelemetry `SeverityNumber`, 1 to 24 (log data model, "Field: SeverityNumber").
    #[must_use]
    pub fn from_otel_severity(number: i64) -> Option<Self> {
        Some(match number {
            1..=8 => Self::Debug,
            9..=12 => Self::Info,
            13..=16 => Self::Warning,
            17..=20 => Self::Error,
            21..=24 => Self::Critical,
            _ => return None,
        })
    }

    /// Rates the status of an HTTP response: 5xx is an error, 4xx a warning, anything else information.
    #[must_use]
    pub fn from_http_status(status: u16) -> Self {
        match status {
            500.. => Self::Error,
            400..=499 => Self::Warning,
            _ => Self::Info,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_ranks_round_trip() {
        for level in Level::ALL {
            assert_eq!(Level::from_name(level.name()), Some(level));
            assert_eq!(Level::from_rank(level.rank()), Some(level));
        }
        assert_eq!((Level::from_rank(5), Level::from_name("LOUD"), Level::from_name("")), (None, None, None));
        assert!(Level::ALL.is_sorted());
    }

    #[test]
    fn severity_numbers_map_to_levels_in_order() {
        let syslog: Vec<Level> = (0..=7).rev().filter_map(Level::from_syslog_severity).collect();
        let otel: Vec<Level> = (1..=24).filter_map(Level::from_otel_severity).collect();
        for levels in [syslog, otel] {
            assert!(levels.is_sorted() && Level::ALL.iter().all(|level| levels.contains(level)), "{levels:?}");
        }
        assert_eq!((Level::from_syslog_severity(8), Level::from_otel_severity(0)), (None, None));
    }
}
