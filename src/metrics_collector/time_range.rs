//! Time range of a query: a period that ends now, or an explicit start and end.

use std::ops::Range;
use std::time::Duration;

use super::buckets::Coverage;
use super::resolution::Resolution;
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::http::Request;

const PERIOD_DEFAULT: &str = "24h";
/// Time after now up to which a range without an end includes points.
const CLOCK_AHEAD_MAX: Duration = Duration::from_secs(3_600);
const PERIOD_MAX: Duration = Duration::from_secs(366 * 86_400);

/// Time range of a query, never empty.
#[derive(Debug)]
pub(super) struct TimeRange<'a> {
    /// The parameter as sent, or its default.
    period: &'a str,
    since: Timestamp,
    /// End of the range, not included; `None` = now, including points from clocks that are ahead.
    until: Option<Timestamp>,
    now: Timestamp,
}

impl<'a> TimeRange<'a> {
    /// Reads the query parameters. The range starts at `since`, or else `period` before its end. It ends at `until`, or
    /// else now.
    ///
    /// # Errors
    /// [`Error::Invalid`] if a parameter is malformed, or if `since` is not before `until`.
    pub(super) fn read(request: &'a Request, now: Timestamp) -> Result<Self> {
        let period = request.query("period").unwrap_or(PERIOD_DEFAULT);
        Self::new(period, request.query_time("since")?, request.query_time("until")?, now)
    }

    fn new(period: &'a str, since: Option<Timestamp>, until: Option<Timestamp>, now: Timestamp) -> Result<Self> {
        let duration = parse_period(period)?;
        let end = until.unwrap_or(now);
        let since = since.unwrap_or_else(|| end - duration);
        if since >= end {
            return Err(Error::field("since", "must be before until"));
        }
        // A query covers at most the longest period before now.
        let since = since.max(now - PERIOD_MAX);
        let until = until.map(|until| until.max(since + Duration::from_millis(1)));
        Ok(Self { period, since, until, now })
    }

    /// Returns the parameter `period` as sent, or its default.
    pub(super) fn period(&self) -> &'a str {
        self.period
    }

    /// Returns the time between start and end.
    pub(super) fn duration(&self) -> Duration {
        self.until.unwrap_or(self.now).saturating_since(self.since)
    }

    /// Returns the time between the start and now.
    pub(super) fn age(&self) -> Duration {
        self.now.saturating_since(self.since)
    }

    /// Whether a time lies in the range.
    pub(super) fn contains(&self, at: Timestamp) -> bool {
        at >= self.since && at < self.until.unwrap_or(self.now + CLOCK_AHEAD_MAX)
    }

    /// Returns the time range that its buckets cover, the current one included in full. `retention` is that of the buckets.
    pub(super) fn coverage(&self, resolution: Resolution, retention: Duration) -> Coverage {
        let start_of = |bucket: i64| Timestamp::from_ms(bucket.saturating_mul(resolution.ms()));
        let first = resolution.bucket(self.since.ms());
        let stored = resolution.bucket((self.now - retention).ms());
        let end = self.until.unwrap_or(self.now).max(self.since + Duration::from_millis(1));
        Coverage {
            since: start_of(first),
            until: start_of(resolution.bucket(end.ms() - 1) + 1),
            stored_since: (first < stored).then(|| start_of(stored)),
        }
    }

    /// Returns the buckets that overlap the range.
    pub(super) fn buckets(&self, resolution: Resolution) -> Range<i64> {
        // Points from clocks that are ahead are at most minutes ahead. Later ones were written while our clock was wrong.
        let latest = self.now + CLOCK_AHEAD_MAX;
        let end = self.until.unwrap_or(latest).min(latest).max(self.since + Duration::from_millis(1));
        resolution.bucket(self.since.ms())..resolution.bucket(end.ms() - 1) + 1
    }
}

/// Parses a period such as `30s`, `5m`, `1h` or `7d`. Longer periods than [`PERIOD_MAX`] are shortened to it.
fn parse_period(period: &str) -> Result<Duration> {
    let invalid = || Error::field("period", "must be a duration such as 30s, 5m, 1h, 24h, 7d or 30d");
    let unit_at = period.find(|char: char| !char.is_ascii_digit()).ok_or_else(invalid)?;
    let (digits, unit) = period.split_at(unit_at);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(invalid()),
    };
    let number: u64 = digits.parse().map_err(|_| invalid())?;
    if number == 0 {
        return Err(invalid());
    }
    Ok(Duration::from_secs(number.saturating_mul(seconds)).min(PERIOD_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(time: &str) -> Timestamp {
        Timestamp::parse(time).unwrap()
    }

    #[test]
    fn period_is_an_integer_with_a_unit() {
        for (period, seconds) in [("30s", 30), ("5m", 300), ("24h", 86_400), ("30d", 2_592_000)] {
            assert_eq!(parse_period(period).unwrap(), Duration::from_secs(seconds));
        }
        assert_eq!(parse_period("99999999999999999d").unwrap(), PERIOD_MAX);
        for period in ["", "h", "1", "0h", "1w", "-1h", "1.5h", "1 h", "99999999999999999999d"] {
            assert!(parse_period(period).is_err(), "{period}");
        }
    }

    #[test]
    fn range_includes_all_overlapping_buckets_up_to_until() {
        let now = at("2026-06-01T12:00:30Z");
        let hour = |time: &str| Resolution::Hour.bucket(at(time).ms());
        let open = TimeRange::new("2h", None, None, now).unwrap();
        assert_eq!(open.buckets(Resolution::Hour), hour("2026-06-01T10:00:00Z")..hour("2026-06-01T14:00:00Z"));
        assert!(open.contains(now + Duration::from_secs(60)), "a client's clock may be ahead");
        assert!(!open.contains(now + Duration::from_secs(86_400)), "our own clock was wrong");
        let (since, until) = (at("2026-06-01T08:30:00Z"), at("2026-06-01T10:00:00Z"));
        let closed = TimeRange::new("24h", Some(since), Some(until), now).unwrap();
        assert_eq!(closed.buckets(Resolution::Hour), hour("2026-06-01T08:00:00Z")..hour("2026-06-01T10:00:00Z"));
        assert_eq!((closed.duration(), closed.age()), (Duration::from_secs(5_400), Duration::from_secs(12_630)));
        assert!(closed.contains(since) && !closed.contains(until));
        let ending = TimeRange::new("1h", None, Some(until), now).unwrap();
        assert_eq!(ending.buckets(Resolution::Hour), hour("2026-06-01T09:00:00Z")..hour("2026-06-01T10:00:00Z"));
        assert!(TimeRange::new("1h", Some(until), Some(since), now).is_err());
        assert!(TimeRange::new("1h", Some(now), None, now).is_err());
        let ancient = TimeRange::new("1h", None, Some(at("1999-01-01T00:00:00Z")), now).unwrap();
        assert_eq!(ancient.buckets(Resolution::Hour).count(), 1);
    }
}
