//! Recognizer for dates and times in the prefix of a line. Nothing is parsed, because an entry's time is Docker's.

/// Returns whether a word starts with a date, a clock time or both, in one of the notations that loggers use. The rest
/// of the word is ignored.
pub(super) fn is_timestamp(word: &str) -> bool {
    let bytes = word.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_digit) && (is_date(bytes) || is_clock_time(bytes) || is_epoch(bytes))
}

/// Recognizes `2026-01-31`, `31/Jan/2026`, `31-Jan-2026`, `1/31/2026` and `31.01.2026`.
fn is_date(bytes: &[u8]) -> bool {
    let (first, rest) = count_digits(bytes);
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

/// Recognizes seconds since 1970: `1769860800.123` or `1.769860800123e+09`.
fn is_epoch(bytes: &[u8]) -> bool {
    let (integer, rest) = count_digits(bytes);
    let [b'.', rest @ ..] = rest else { return false };
    let (fraction, rest) = count_digits(rest);
    (integer == 10 && fraction > 0) || (integer == 1 && fraction >= 6 && rest == b"e+09")
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
        [b'+' | b'-', digits @ ..] => digits.iter().all(|byte| byte.is_ascii_digit() || *byte == b':'),
        letters => letters.len() <= 5 && letters.iter().all(u8::is_ascii_uppercase),
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
        ] {
            assert!(!is_timestamp(word), "{word}");
        }
    }
}
