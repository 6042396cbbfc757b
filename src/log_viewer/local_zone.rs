//! Time zone of the times in log files that state none.

use tz::TimeZone;

/// Time within which a zone changes its offset from UTC at most once, in seconds.
const OFFSET_KEPT_S: i64 = 86_400;

/// Time zone with its rules for past and future years.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LocalZone(TimeZone);

impl Default for LocalZone {
    fn default() -> Self {
        Self(TimeZone::utc())
    }
}

impl LocalZone {
    /// Returns the zone of this machine, from `/etc/localtime`; UTC if there is none.
    pub(super) fn of_machine() -> Self {
        TimeZone::local().map_or_else(|_| Self::default(), Self)
    }

    /// Returns the zone with a name such as `Europe/Berlin`, or with the rules of a POSIX string such as
    /// `CET-1CEST,M3.5.0,M10.5.0/3`. Returns `None` if it is neither; names need the system's time zone database.
    pub(super) fn parse(name: &str) -> Option<Self> {
        match name.trim_start_matches(':') {
            "UTC" | "GMT" | "Etc/UTC" => Some(Self::default()),
            _ => TimeZone::from_posix_tz(name).ok().map(Self),
        }
    }

    /// Returns the times in UTC that a local time can be, the earlier first. They differ only in the hour that a clock
    /// repeats when it is set back. A time that a clock skipped is converted with the offset before. All in seconds since
    /// 1970.
    pub(super) fn to_utc(&self, local_s: i64) -> [i64; 2] {
        let [before, after] = [local_s - OFFSET_KEPT_S, local_s + OFFSET_KEPT_S].map(|utc_s| self.offset_s(utc_s));
        let candidates = [before, after].map(|offset_s| local_s - offset_s);
        let is_valid = |utc_s: i64| utc_s + self.offset_s(utc_s) == local_s;
        match candidates.map(is_valid) {
            [true, true] => [candidates[0].min(candidates[1]), candidates[0].max(candidates[1])],
            [false, true] => [candidates[1]; 2],
            _ => [candidates[0]; 2],
        }
    }

    /// Returns the offset from UTC at a time; 0 after the years that the zone's file describes.
    fn offset_s(&self, utc_s: i64) -> i64 {
        self.0.find_local_time_type(utc_s).map_or(0, |local| local.ut_offset().into())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::clock::Timestamp;

    #[test]
    fn skipped_and_repeated_hours_are_converted() {
        let berlin = LocalZone::parse("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let utc = |local: &str| {
            let seconds = Timestamp::parse(&format!("{local}Z")).unwrap().seconds();
            berlin.to_utc(seconds).map(|utc_s| Timestamp::from_seconds(utc_s).to_string())
        };
        for (local, [earlier, later]) in [
            ("2026-01-31T12:00:00", ["2026-01-31T11:00:00Z"; 2]),
            ("2026-07-31T12:00:00", ["2026-07-31T10:00:00Z"; 2]),
            ("2026-03-29T01:59:59", ["2026-03-29T00:59:59Z"; 2]),
            ("2026-03-29T02:30:00", ["2026-03-29T01:30:00Z"; 2]),
            ("2026-03-29T03:00:00", ["2026-03-29T01:00:00Z"; 2]),
            ("2026-10-25T01:59:59", ["2026-10-24T23:59:59Z"; 2]),
            ("2026-10-25T02:00:00", ["2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z"]),
            ("2026-10-25T03:00:00", ["2026-10-25T02:00:00Z"; 2]),
            ("1970-01-01T00:00:00", ["1969-12-31T23:00:00Z"; 2]),
        ] {
            assert_eq!(utc(local), [earlier, later], "{local}");
        }
    }

    #[test]
    fn zones_are_names_or_posix_strings() {
        assert_eq!(LocalZone::parse("UTC"), Some(LocalZone::default()));
        assert_eq!(LocalZone::parse("EST5").unwrap().to_utc(0), [5 * 3_600; 2]);
        if Path::new("/usr/share/zoneinfo/Europe/Berlin").exists() {
            assert_eq!(LocalZone::parse("Europe/Berlin").unwrap().to_utc(0), [-3_600; 2]);
            assert_eq!(LocalZone::parse(":Europe/Berlin").unwrap().to_utc(4_086_000_000), [4_085_992_800; 2]);
        }
        for name in ["", "Nowhere/Land", "../etc/passwd", "CET-99"] {
            assert_eq!(LocalZone::parse(name), None, "{name}");
        }
    }
}
