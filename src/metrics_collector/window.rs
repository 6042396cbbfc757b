//! The time that is asked about: a period up to now, or from one moment to another.

use std::ops::Range;
use std::time::Duration;

use super::store::Resolution;
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::http::Request;

const PERIOD_DEFAULT: &str = "24h";
const PERIOD_MAX: Duration = Duration::from_secs(366 * 86_400);

/// A span of time, which is never empty.
#[derive(Debug)]
pub(super) struct Window<'a> {
    /// As it was written.
    period: &'a str,
    since: Timestamp,
    /// `None` is now and what clocks that are ahead put behind it.
    until: Option<Timestamp>,
    now: Timestamp,
}

impl<'a> Window<'a> {
    /// Reads `since` and `until`. Without `since` it is as long as `period`, without `until` it goes up to now.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what is no time or no period, and for a `since` that is not before `until`.
    pub(super) fn read(request: &'a Request, now: Timestamp) -> Result<Self> {
        let period = request.query("period").unwrap_or(PERIOD_DEFAULT);
        Self::of(period, request.query_time("since")?, request.query_time("until")?, now)
    }

    fn of(period: &'a str, since: Option<Timestamp>, until: Option<Timestamp>, now: Timestamp) -> Result<Self> {
        let length = span(period)?;
        let end = until.unwrap_or(now);
        let since = since.unwrap_or_else(|| end - length);
        if since >= end {
            return Err(Error::field("since", "must be before until"));
        }
        // Nothing is older, and nothing is looked for there.
        let since = since.max(now - PERIOD_MAX);
        let until = until.map(|until| until.max(since + Duration::from_millis(1)));
        Ok(Self { period, since, until, now })
    }

    pub(super) fn period(&self) -> &'a str {
        self.period
    }

    pub(super) fn length(&self) -> Duration {
        self.until.unwrap_or(self.now).saturating_since(self.since)
    }

    /// From its beginning until now.
    pub(super) fn reach(&self) -> Duration {
        self.now.saturating_since(self.since)
    }

    pub(super) fn contains(&self, at: Timestamp) -> bool {
        at >= self.since && self.until.is_none_or(|until| at < until)
    }

    /// The buckets that lie in it, at least in part.
    pub(super) fn buckets(&self, resolution: Resolution) -> Range<i64> {
        let bucket = |ms: i64| ms.div_euclid(resolution.ms());
        bucket(self.since.ms())..self.until.map_or(i64::MAX, |until| bucket(until.ms() - 1) + 1)
    }
}

/// A span such as `30s`, `5m`, `1h`, `7d`.
fn span(text: &str) -> Result<Duration> {
    let rule = || Error::field("period", "must be a span such as 30s, 5m, 1h, 24h, 7d or 30d");
    let (digits, unit) = text.split_at(text.find(|letter: char| !letter.is_ascii_digit()).ok_or_else(rule)?);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(rule()),
    };
    let number: u64 = digits.parse().map_err(|_| rule())?;
    if number == 0 {
        return Err(rule());
    }
    Ok(Duration::from_secs(number.saturating_mul(seconds)).min(PERIOD_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    #[test]
    fn periods_are_any_number_of_seconds_minutes_hours_or_days() {
        for (text, seconds) in [("30s", 30), ("5m", 300), ("24h", 86_400), ("30d", 2_592_000)] {
            assert_eq!(span(text).unwrap(), Duration::from_secs(seconds));
        }
        assert_eq!(span("99999999999999999d").unwrap(), PERIOD_MAX);
        for text in ["", "h", "1", "0h", "1w", "-1h", "1.5h", "1 h", "99999999999999999999d"] {
            assert!(span(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_window_ends_where_it_is_told_to_and_has_every_bucket_that_lies_in_it() {
        let now = at("2026-06-01T12:00:30Z");
        let hour = |moment: &str| at(moment).ms().div_euclid(Resolution::Hour.ms());
        let open = Window::of("2h", None, None, now).unwrap();
        assert_eq!(open.buckets(Resolution::Hour), hour("2026-06-01T10:00:00Z")..i64::MAX);
        assert!(open.contains(now + Duration::from_secs(60)), "a clock may be ahead");
        let (since, until) = (at("2026-06-01T08:30:00Z"), at("2026-06-01T10:00:00Z"));
        let closed = Window::of("24h", Some(since), Some(until), now).unwrap();
        assert_eq!(closed.buckets(Resolution::Hour), hour("2026-06-01T08:00:00Z")..hour("2026-06-01T10:00:00Z"));
        assert_eq!((closed.length(), closed.reach()), (Duration::from_secs(5_400), Duration::from_secs(12_630)));
        assert!(closed.contains(since) && !closed.contains(until));
        let ending = Window::of("1h", None, Some(until), now).unwrap();
        assert_eq!(ending.buckets(Resolution::Hour), hour("2026-06-01T09:00:00Z")..hour("2026-06-01T10:00:00Z"));
        assert!(Window::of("1h", Some(until), Some(since), now).is_err());
        assert!(Window::of("1h", Some(now), None, now).is_err());
        let ancient = Window::of("1h", None, Some(at("1999-01-01T00:00:00Z")), now).unwrap();
        assert_eq!(ancient.buckets(Resolution::Hour).count(), 1);
    }
}
