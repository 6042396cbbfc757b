//! Timestamps in UTC: milliseconds since 1970 internally, RFC 3339 externally.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

const MS_PER_SECOND: i64 = 1_000;
const MS_PER_HOUR: i64 = 3_600_000;
/// 9999-12-31T23:59:59.999Z, the latest timestamp of RFC 3339.
const LATEST_MS: i64 = 253_402_300_799_999;
/// 0000-01-01T00:00:00Z, the earliest timestamp of RFC 3339.
const EARLIEST_MS: i64 = -62_167_219_200_000;

/// A timestamp in milliseconds since 1970-01-01T00:00:00Z, within the years 0000 to 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Returns the current time of the system clock.
    #[must_use]
    pub fn now() -> Self {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self::from_ms(i64::try_from(since_1970.as_millis()).unwrap_or(LATEST_MS))
    }

    /// Creates a timestamp from milliseconds since 1970, clamped to the years 0000 to 9999.
    #[must_use]
    pub fn from_ms(ms: i64) -> Self {
        Self(ms.clamp(EARLIEST_MS, LATEST_MS))
    }

    /// Converts seconds since 1970 (UTC), clamped like [`Timestamp::from_ms`].
    #[must_use]
    pub fn from_seconds(seconds: i64) -> Self {
        Self::from_ms(seconds.saturating_mul(MS_PER_SECOND))
    }

    /// Returns the milliseconds since 1970.
    #[must_use]
    pub fn ms(self) -> i64 {
        self.0
    }

    /// Returns the seconds since 1970, rounded down.
    #[must_use]
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(MS_PER_SECOND)
    }

    /// Returns the hours since 1970, rounded down.
    #[must_use]
    pub fn hour(self) -> i64 {
        self.0.div_euclid(MS_PER_HOUR)
    }

    /// Parses RFC 3339 with any offset and fraction (section 5.6). Returns `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let parsed = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        Some(Self::from_ms(parsed.unix_timestamp() * MS_PER_SECOND + i64::from(parsed.millisecond())))
    }

    /// Returns the time from `earlier` to this timestamp, or zero if `earlier` is later.
    #[must_use]
    pub fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0 - earlier.0).unwrap_or(0))
    }

    /// Returns the date and time of day in UTC, for formats other than RFC 3339.
    #[must_use]
    pub fn calendar(self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(self.seconds()).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }
}

/// Subtracts a duration; the result saturates at the smallest timestamp.
impl Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, by: Duration) -> Self {
        Self::from_ms(self.0.saturating_sub(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)))
    }
}

/// Adds a duration; the result saturates at the largest timestamp.
impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, by: Duration) -> Self {
        Self::from_ms(self.0.saturating_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)))
    }
}

/// Formats as `2026-01-31T12:00:00Z`, in whole seconds, as all responses do.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.calendar();
        let (date, clock) = (at.date(), at.time());
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
            date.year(),
            u8::from(date.month()),
            date.day(),
            clock.hour(),
            clock.minute(),
            clock.second()
        )
    }
}

impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_3339_with_any_offset_and_fraction_is_parsed() {
        for (text, utc) in [
            ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00Z"),
            ("2026-01-31t12:00:00z", "2026-01-31T12:00:00Z"),
            ("2026-01-31T12:00:00.999999999Z", "2026-01-31T12:00:00Z"),
            ("2026-01-31T01:30:00+02:00", "2026-01-30T23:30:00Z"),
            ("2026-01-31T12:00:00-00:30", "2026-01-31T12:30:00Z"),
            ("1969-12-31T23:59:59.5Z", "1969-12-31T23:59:59Z"),
            ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59Z"),
        ] {
            assert_eq!(Timestamp::parse(text).map(|at| at.to_string()).as_deref(), Some(utc), "{text}");
        }
    }

    #[test]
    fn other_formats_are_rejected() {
        for text in ["", "yesterday", "2026-01-31", "2026-01-31T12:00:00", "1769860800", "2026-02-30T00:00:00Z"] {
            assert_eq!(Timestamp::parse(text), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn formatting_and_parsing_round_trips(ms in EARLIEST_MS..LATEST_MS) {
            let at = Timestamp::from_ms(ms);
            proptest::prop_assert_eq!(Timestamp::parse(&at.to_string()).map(Timestamp::seconds), Some(at.seconds()));
        }

        #[test]
        fn arbitrary_text_never_panics(text in ".{0,60}") {
            let _ = Timestamp::parse(&text);
        }
    }
}
