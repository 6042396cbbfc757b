//! Calendar arithmetic for timestamps: dates to seconds since 1970, digits, fractions of a second and UTC offsets.

use time::{Date, Month, OffsetDateTime};

pub(super) const NS_PER_SECOND: i64 = 1_000_000_000;
const SECONDS_PER_DAY: i64 = 86_400;

/// Returns the seconds from 1970 to the start of a day; `None` if the day does not exist.
pub(super) fn day_seconds(year: i32, month: u8, day: u8) -> Option<i64> {
    let date = Date::from_calendar_date(year, Month::try_from(month).ok()?, day).ok()?;
    let days = i64::from(date.to_julian_day()) - i64::from(OffsetDateTime::UNIX_EPOCH.to_julian_day());
    Some(days * SECONDS_PER_DAY)
}

/// Splits the fraction of a second, such as `.5`, from the rest. Returns it in nanoseconds; 0 if there is none. Digits
/// after the ninth are dropped.
pub(super) fn split_fraction_ns(rest: &[u8]) -> Option<(i64, &[u8])> {
    let Some(after_point) = rest.strip_prefix(b".") else { return Some((0, rest)) };
    let digits = after_point.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, zone) = after_point.split_at(digits);
    let used = &digits[..digits.len().min(9)];
    let missing = u32::try_from(9 - used.len()).ok()?;
    Some((parse_digits(used)? * 10_i64.pow(missing), zone))
}

/// Converts the digits of a UTC offset `hhmm` with its sign to seconds.
pub(super) fn offset_seconds(sign: i64, hours: [u8; 2], minutes: [u8; 2]) -> Option<i64> {
    let (hours, minutes) = (parse_digits(&hours)?, parse_digits(&minutes)?);
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3_600 + minutes * 60))
}

/// Parses one to nine decimal digits.
pub(super) fn parse_digits(digits: &[u8]) -> Option<i64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_i64, |number, byte| byte.is_ascii_digit().then(|| number * 10 + i64::from(byte - b'0')))
}
