//! Formats of dates with clock times.

use super::super::calendar::{NS_PER_SECOND, offset_seconds};
use super::cursor::Cursor;
use super::local_time::{LocalTime, StatedTime};

/// Seconds since 1970 that are taken for a time, from 2014 to 2100. Other numbers of ten digits are something else.
const EPOCH_SECONDS: std::ops::Range<i64> = 1_400_000_000..4_102_444_800;

/// Maximum offset of a zone from UTC, that of Kiribati.
const OFFSET_SECONDS_MAX: i64 = 14 * 3_600;

const MONTHS: [&[u8]; 12] =
    [b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec"];
const WEEKDAYS: [&[u8]; 7] = [b"mon", b"tue", b"wed", b"thu", b"fri", b"sat", b"sun"];

/// Parses the date and time at the start of a text. The rest of the text is ignored.
pub(super) fn parse(text: Cursor<'_>) -> Option<StatedTime> {
    match text.peek()? {
        b'0'..=b'9' => match text.count_digits() {
            1 if text.word().ends_with(b"e+09") => scientific(text),
            1 | 2 => day_first(text),
            4 => year_first(text),
            6 | 8 => compact(text),
            10 | 13 | 16 | 19 => epoch(text),
            _ => None,
        },
        b'D' | b'I' | b'W' | b'E' | b'F' if klog_digits(text) > 0 => klog(text),
        b'A'..=b'Z' => month_first(text),
        _ => None,
    }
}

/// Parses a value of a JSON member or another field that contains nothing but a time.
pub(super) fn parse_number(number: f64) -> Option<StatedTime> {
    // Seconds, milliseconds, microseconds or nanoseconds.
    let scale = [1e9, 1e6, 1e3, 1.0].into_iter().find(|scale| {
        let seconds = number * scale / 1e9;
        (EPOCH_SECONDS.start as f64..EPOCH_SECONDS.end as f64).contains(&seconds)
    })?;
    // A float has the precision of 200 ns here. Rounding to microseconds returns what was written.
    let microseconds = (number * (scale / 1e3)).round();
    Some(StatedTime::Utc(microseconds as i64 * 1_000))
}

/// `2026-01-31T12:00:00.123Z`, `2026-01-31 12:00:00,123`, `2026/01/31 12:00:00`, `2026.01.31 12:00:00.123`.
fn year_first(mut text: Cursor<'_>) -> Option<StatedTime> {
    let year = text.number(4..=4)?;
    let separator = text.one_of(b"-/.")?;
    let month = text.number(1..=2)?;
    text.one_of(&[separator])?;
    let day = text.number(1..=2)?;
    let is_iso = text.one_of(b"Tt").is_some();
    if !is_iso {
        skip_to_clock(&mut text)?;
    }
    finish(text, Some(year), month, day, is_iso)
}

/// `31/Jan/2026:12:00:00 +0000`, `31-Jan-2026 12:00:00.123`, `31 Jan 2026 12:00:00`, `31Jan2026 12:00:00`,
/// `31.01.2026 12:00:00`, `1/31/2026, 12:00:00 PM`, and without a year `31 Jan 12:00:00` and `01-31 12:00:00`.
fn day_first(mut text: Cursor<'_>) -> Option<StatedTime> {
    let is_padded = text.count_digits() == 2;
    let first = text.number(1..=2)?;
    let separator = text.one_of(b"/-. ");
    if let Some(month) = month_name(&mut text) {
        if let Some(separator) = separator {
            text.one_of(&[separator])?;
        }
        let year = year_before_clock(&mut text)?;
        return finish(text, year, month, first, false);
    }
    let separator = separator.filter(|separator| *separator != b' ')?;
    let second = text.number(1..=2)?;
    if separator == b'-' && is_padded && text.peek() == Some(b' ') {
        text.skip_spaces();
        return finish(text, None, first, second, false);
    }
    text.one_of(&[separator])?;
    let year = text.number(4..=4)?;
    skip_to_clock(&mut text)?;
    let (month, day) = match separator {
        b'/' if second > 12 || has_meridiem(text) => (first, second),
        b'/' if first <= 12 => return None,
        _ => (second, first),
    };
    finish(text, Some(year), month, day, false)
}

/// `Jan 31 12:00:00` (syslog), `Jan 31, 2026 12:00:00 PM`, `Sat Jan 31 12:00:00 2026`, `Sat, 31 Jan 2026 12:00:00 GMT`.
fn month_first(mut text: Cursor<'_>) -> Option<StatedTime> {
    let mut after_weekday = text;
    if is_weekday(after_weekday.letters()) {
        after_weekday.one_of(b",");
        after_weekday.skip_spaces();
        text = after_weekday;
        if text.peek()?.is_ascii_digit() {
            return day_first(text);
        }
    }
    let month = month_name(&mut text)?;
    text.one_of(b".");
    if !text.skip_spaces() {
        return None;
    }
    let day = text.number(1..=2)?;
    skip_to_clock(&mut text)?;
    let year = year_before_clock(&mut text)?;
    finish(text, year, month, day, false)
}

/// `20260131T120000Z`, `20260131 12:00:00`, `260131 12:00:00` (MySQL 5).
fn compact(mut text: Cursor<'_>) -> Option<StatedTime> {
    let year = match text.count_digits() {
        8 => text.leading_number(4)?,
        _ => 2_000 + text.leading_number(2)?,
    };
    let (month, day) = (text.leading_number(2)?, text.leading_number(2)?);
    let is_iso = text.one_of(b"Tt").is_some();
    if !is_iso && !text.skip_spaces() {
        return None;
    }
    finish(text, Some(year), month, day, is_iso)
}

/// `E0131 12:00:00.000000` (klog), `E20260131 12:00:00.000000` (glog), `E260131 12:00:00.000000` (CockroachDB).
fn klog(mut text: Cursor<'_>) -> Option<StatedTime> {
    let digits = klog_digits(text);
    text.letters();
    let year = match digits {
        4 => None,
        6 => Some(2_000 + text.leading_number(2)?),
        _ => Some(text.leading_number(4)?),
    };
    let (month, day) = (text.leading_number(2)?, text.leading_number(2)?);
    text.skip_spaces();
    finish(text, year, month, day, false)
}

/// Returns the number of digits of the date after klog's initial; 0 if there is no such date.
fn klog_digits(mut text: Cursor<'_>) -> usize {
    let is_initial = text.letters().len() == 1;
    let digits = text.count_digits();
    if is_initial && matches!(digits, 4 | 6 | 8) { digits } else { 0 }
}

/// `1769860800.123`, `1769860800: `, `1769860800123 `: seconds, milliseconds, microseconds or nanoseconds since 1970.
fn epoch(mut text: Cursor<'_>) -> Option<StatedTime> {
    let unit_ns = match text.count_digits() {
        10 => NS_PER_SECOND,
        13 => 1_000_000,
        16 => 1_000,
        _ => 1,
    };
    let units = text.number(10..=19)?;
    let fraction_ns = if unit_ns == NS_PER_SECOND { text.fraction_ns() } else { 0 };
    // A line that consists of a number has no message.
    let has_message = text.peek().is_some() && text.is_at_word_end();
    let ns = units.checked_mul(unit_ns)?.checked_add(fraction_ns)?;
    (has_message && EPOCH_SECONDS.contains(&(ns / NS_PER_SECOND))).then_some(StatedTime::Utc(ns))
}

/// `1.769860800123e+09`: seconds since 1970, as zap's console encoder writes them.
fn scientific(text: Cursor<'_>) -> Option<StatedTime> {
    parse_number(std::str::from_utf8(text.word()).ok()?.parse().ok()?)
}

/// Parses the clock time, the zone, and a year after them, and combines them with the date.
fn finish(mut text: Cursor<'_>, year: Option<i64>, month: i64, day: i64, is_iso: bool) -> Option<StatedTime> {
    let (second_of_day, fraction_ns) = clock(&mut text, is_iso)?;
    let offset = zone(&mut text);
    let year = year.or_else(|| year_at_end(text));
    let [month, day] = [month, day].map(|number| u8::try_from(number).ok());
    let year = year.and_then(|year| i32::try_from(year).ok());
    let local = LocalTime { year, month: month?, day: day?, second_of_day, fraction_ns };
    // Also checks that the day exists; 2024 was a leap year.
    local.in_year_ns(year.unwrap_or(2_024))?;
    match offset {
        Some(offset) if year.is_some() => local.at_offset(offset),
        _ => Some(StatedTime::Local(local)),
    }
}

/// Consumes `12:00:00.123` or `1:00:00 PM`, and in ISO 8601 also `12:00` and `120000`. Returns the second of the day and the
/// fraction in nanoseconds.
fn clock(text: &mut Cursor<'_>, is_iso: bool) -> Option<(i64, i64)> {
    let is_compact = is_iso && text.count_digits() == 6;
    let mut hour = if is_compact { text.leading_number(2)? } else { text.number(1..=2)? };
    let colon = |text: &mut Cursor<'_>| is_compact || text.one_of(b":").is_some();
    if !colon(text) {
        return None;
    }
    let minute = text.leading_number(2)?;
    let second = if colon(text) { text.leading_number(2)? } else { Some(0).filter(|_| is_iso)? };
    let fraction_ns = text.fraction_ns();
    if let Some(is_afternoon) = meridiem(text) {
        if !(1..=12).contains(&hour) {
            return None;
        }
        hour = hour % 12 + if is_afternoon { 12 } else { 0 };
    }
    // A leap second counts as the one before it.
    let is_valid = hour < 24 && minute < 60 && second <= 60;
    is_valid.then(|| (hour * 3_600 + minute * 60 + second.min(59), fraction_ns))
}

/// Consumes ` AM` or ` PM`. Returns whether it was `PM`; `None` if it is neither.
fn meridiem(text: &mut Cursor<'_>) -> Option<bool> {
    let mut after = *text;
    after.skip_spaces();
    let is_afternoon = match after.letters() {
        b"AM" | b"am" => false,
        b"PM" | b"pm" => true,
        _ => return None,
    };
    *text = after;
    Some(is_afternoon)
}

/// Whether a clock time with `AM` or `PM` follows.
fn has_meridiem(mut text: Cursor<'_>) -> bool {
    while text.peek().is_some_and(|byte| byte.is_ascii_digit() || byte == b':') {
        text.one_of(b"0123456789:");
    }
    meridiem(&mut text).is_some()
}

/// Consumes the zone and returns its offset from UTC in seconds. Returns `None` if there is no zone, and for abbreviations
/// such as `CET`, which are those of the machine.
fn zone(text: &mut Cursor<'_>) -> Option<i64> {
    let mut after = *text;
    let is_apart = after.skip_spaces();
    let mut offset = after;
    if let Some(sign) = offset.one_of(b"+-") {
        let hours = [offset.one_of(b"012")?, offset.one_of(b"0123456789")?];
        offset.skip(b":");
        let minutes = match offset.count_digits() {
            // A number after a space can be a part of the message.
            0 if is_apart => return None,
            0 => [b'0'; 2],
            _ => [offset.one_of(b"012345")?, offset.one_of(b"0123456789")?],
        };
        let seconds = offset_seconds(if sign == b'-' { -1 } else { 1 }, hours, minutes)?;
        if !offset.is_at_word_end() || seconds.abs() > OFFSET_SECONDS_MAX {
            return None;
        }
        *text = offset;
        return Some(seconds);
    }
    let name = after.letters();
    match name {
        b"Z" | b"z" | b"UTC" | b"GMT" if after.is_at_word_end() => {
            *text = after;
            Some(0)
        }
        // `Sat Jan 31 12:00:00 CET 2026`
        [..=b'Z', ..=b'Z', ..] if name.len() <= 5 && year_at_end(after).is_some() => {
            *text = after;
            None
        }
        _ => None,
    }
}

/// Returns the year that ends `Sat Jan 31 12:00:00 2026`.
fn year_at_end(mut text: Cursor<'_>) -> Option<i64> {
    if !text.skip_spaces() {
        return None;
    }
    let year = text.number(4..=4).filter(|year| (1970..2200).contains(year))?;
    text.peek().is_none_or(|next| b" ])>,".contains(&next)).then_some(year)
}

/// Consumes what separates a date from the clock time: `:` in access logs, `::` in Erlang, a comma, spaces.
fn skip_to_clock(text: &mut Cursor<'_>) -> Option<()> {
    text.one_of(b",: ")?;
    text.one_of(b":");
    text.skip_spaces();
    Some(())
}

/// Consumes a year and what follows it up to the clock time. The result is `Some(None)` if there is no year.
fn year_before_clock(text: &mut Cursor<'_>) -> Option<Option<i64>> {
    if text.count_digits() != 4 {
        return Some(None);
    }
    let year = text.number(4..=4)?;
    skip_to_clock(text)?;
    Some(Some(year))
}

/// Consumes the name of a month, `Jan` or `January`, and returns its number.
fn month_name(text: &mut Cursor<'_>) -> Option<i64> {
    let mut after = *text;
    let name = after.letters().get(..3)?.to_ascii_lowercase();
    let index = MONTHS.iter().position(|month| *month == name)?;
    *text = after;
    i64::try_from(index + 1).ok()
}

fn is_weekday(name: &[u8]) -> bool {
    name.get(..3).is_some_and(|name| WEEKDAYS.iter().any(|weekday| name.eq_ignore_ascii_case(weekday)))
}
