//! Times as lines state them: in UTC, or in an unknown zone.

use super::super::calendar::{NS_PER_SECOND, day_seconds};

/// Time as a line states it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::log_viewer) enum StatedTime {
    /// Nanoseconds since 1970; the line states the zone.
    Utc(i64),
    /// Date and clock time without a zone.
    Local(LocalTime),
}

/// Date and clock time in an unknown zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::log_viewer) struct LocalTime {
    /// `None` in formats that omit it, such as syslog's.
    pub(in crate::log_viewer) year: Option<i32>,
    pub(super) month: u8,
    pub(super) day: u8,
    pub(super) second_of_day: i64,
    pub(super) fraction_ns: i64,
}

impl LocalTime {
    /// Returns the time in nanoseconds since 1970, as if it were in this year and in UTC. Returns `None` if the year does
    /// not have the day.
    pub(in crate::log_viewer) fn in_year_ns(self, year: i32) -> Option<i64> {
        let seconds = day_seconds(year, self.month, self.day)? + self.second_of_day;
        seconds.checked_mul(NS_PER_SECOND)?.checked_add(self.fraction_ns)
    }

    /// Converts the time with an offset from UTC; `None` without a year.
    pub(super) fn at_offset(self, offset_seconds: i64) -> Option<StatedTime> {
        let local_ns = self.in_year_ns(self.year?)?;
        Some(StatedTime::Utc(local_ns.checked_sub(offset_seconds * NS_PER_SECOND)?))
    }
}
