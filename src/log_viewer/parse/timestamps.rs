//! Recognizer for dates and times in the prefix of a line. Nothing is parsed, because an entry's time is Docker's.

use crate::records::log_level::Level;

/// Returns whether a word starts with a date, a clock time or both, in one of the notations that loggers use. The rest
/// of the word is ignored.
pub(super) fn is_timestamp(word: &str) -> bool {
    let bytes = word.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_digit) && (is_date(bytes) || is_clock_time(bytes) || is_epoch(bytes))
}

/// Returns the length of the date, the clock time or both at the start of a text, with everything that belongs to them:
/// `31 Jan 2026 12:00:00.000`, `Jan 31, 2026 12:00:00 PM UTC`. Returns `None` if there is neither.
pub(super) fn time_length(text: &str) -> Option<usize> {
    let (mut length, mut after_timestamp) = (None, false);
    let mut start = 0;
    loop {
        let word = text[start..].split([' ', ']', '>', ')', '|']).next().unwrap_or_default();
        let is_time = is_timestamp(word);
        let number = word.trim_end_matches(',');
        let has_digits_of_part = number.len() == 4 || (matches!(number.len(), 1 | 2) && !after_timestamp);
        let is_day_or_year = has_digits_of_part && number.bytes().all(|byte| byte.is_ascii_digit());
        let is_zone = || after_timestamp && !word.is_empty() && is_zone(word) && Level::from_name(word).is_none();
        if !is_time && !is_day_or_year && !is_month_or_weekday(word) && !is_zone() {
            return length;
        }
        after_timestamp |= is_time;
        if after_timestamp {
            length = Some(start + word.len());
        }
        match text[start + word.len()..].strip_prefix(' ') {
            Some(rest) if !rest.is_empty() => start = text.len() - rest.trim_start_matches(' ').len(),
            _ => return length,
        }
    }
}

/// Recognizes `2026-01-31`, `31/Jan/2026`, `31-Jan-2026`, `1/31/2026`, `31.01.2026` and `20260131T120000`.
fn is_date(bytes: &[u8]) -> bool {
    let (first, rest) = count_digits(bytes);
    if first == 8 {
        return matches!(rest, [b'T' | b'-' | b'_', digit, ..] if digit.is_ascii_digit());
    }
    let Some((first_separator, rest)) = separator(rest) else { return false };
    let letters = rest.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
    let (middle, rest) = if letters == 3 { (2, &rest[3..]) } else { count_digits(rest) };
    let Some((second_separator, rest)) = separator(rest) else { return false };
    let (last, _) = count_digits(rest);
    first_separator == second_separator && matches!((first, middle, last), (4, 1..=2, 1..=2) | (1..=2, 1..=2, 4))
}

/// Recognizes `12:00:00`, followed by anything, and `3:04PM`.
fn is_clock_time(bytes: &[u8]) -> bool {
    let (hours, rest) = count_digits(bytes);
    let [b':', rest @ ..] = rest else { return false };
    let (minutes, rest) = count_digits(rest);
    if !(1..=2).contains(&hours) || minutes != 2 {
        return false;
    }
    match rest {
        [b':', rest @ ..] => count_digits(rest).0 == 2,
        [b'A' | b'P', b'M', ..] => true,
        _ => false,
    }
}

/// Recognizes seconds since 1970: `1769860800`, `1769860800.123` or `1.769860800123e+09`.
fn is_epoch(bytes: &[u8]) -> bool {
    let (integer, rest) = count_digits(bytes);
    let [b'.', rest @ ..] = rest else { return integer == 10 && bytes[0] == b'1' && matches!(rest, b"" | b":") };
    let (fraction, rest) = count_digits(rest);
    (integer == 10 && fraction > 0) || (integer == 1 && fraction >= 6 && rest == b"e+09")
}

/// Recognizes a date without a year, `01-31` or `01/31`, which only a clock time next to it makes one.
pub(super) fn is_month_and_day(word: &str) -> bool {
    let bytes = word.as_bytes();
    bytes.len() == 5
        && matches!(bytes[2], b'-' | b'/')
        && bytes.iter().enumerate().all(|(index, byte)| index == 2 || byte.is_ascii_digit())
}

/// Returns the number of leading digits and the rest.
fn count_digits(bytes: &[u8]) -> (usize, &[u8]) {
    let count = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (count, &bytes[count..])
}

fn separator(bytes: &[u8]) -> Option<(u8, &[u8])> {
    bytes.split_first().map(|(first, rest)| (*first, rest)).filter(|(first, _)| b"-/.".contains(first))
}

/// Recognizes `Jan` and `Sat`, with or without a comma.
pub(super) fn is_month_or_weekday(word: &str) -> bool {
    let name = word.trim_end_matches(',');
    name.len() == 3
        && [
            "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec", "Mon", "Tue", "Wed",
            "Thu", "Fri", "Sat", "Sun",
        ]
        .contains(&name)
}

/// Recognizes the word after a clock time: `UTC`, `CEST`, `AM`, `+0000`, `Z`.
pub(super) fn is_zone(word: &str) -> bool {
    let word = word.trim_end_matches([',', ':']);
    match word.as_bytes() {
        [b'+' | b'-', digits @ ..] => {
            !digits.is_empty() && digits.iter().all(|byte| byte.is_ascii_digit() || *byte == b':')
        }
        letters => matches!(letters.len(), 1..=5) && letters.iter().all(u8::is_ascii_uppercase),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_times_differ_from_addresses_and_versions() {
        for word in [
            "2026-01-31",
            "2026/01/31",
            "2026-01-31T12:00:00.000Z",
            "2026-01-31T12:00:00,000+01:00",
            "31/Jan/2026:12:00:00",
            "31-Jan-2026",
            "1/31/2026,",
            "31.01.2026",
            "12:00:00",
            "12:00:00.123456,",
            "3:04PM",
            "20260131T120000Z",
            "1769860800",
            "1769860800:",
            "1769860800.123",
            "1.769860800123e+09",
        ] {
            assert!(is_timestamp(word), "{word}");
        }
        for word in [
            "",
            "x",
            "127.0.0.1",
            "127.0.0.1:8080",
            "1.2.3",
            "8080",
            "12:00",
            "0/0/1/2/3",
            "2026-01",
            "16.4-1.2",
            "3.14",
            "sha256:12",
            "1-2-3",
            "10:1:2",
            "2026-Jan/31",
            "20260131",
            "17698608001",
            "5769860800",
        ] {
            assert!(!is_timestamp(word), "{word}");
        }
    }

    #[test]
    fn a_time_extends_over_all_of_its_words() {
        for (text, rest) in [
            ("Sat Jan 31 12:00:00 2026] x", "] x"),
            ("Jan 31, 2026 12:00:00 PM UTC> <Error>", "> <Error>"),
            ("31 Jan 2026 12:00:00.000 * x", " * x"),
            ("2026-01-31 12:00:00 +0000 ERROR x", " ERROR x"),
            ("2026-01-31T12:00:00Z", ""),
            ("12:00:00 31 x", " 31 x"),
        ] {
            assert_eq!(time_length(text).map(|length| &text[length..]), Some(rest), "{text}");
        }
        for text in ["", "Jan 31", "31", "x 12:00:00", "ERROR", "]"] {
            assert_eq!(time_length(text), None, "{text}");
        }
    }
}
