//! Parser for Docker's json-file logs, one JSON object per line:
//! `{"log":"…\n","stream":"stdout","attrs":{…},"time":"2026-01-31T12:00:00.1Z"}`.
//!
//! The format is that of Docker's encoder (moby, `daemon/logger/jsonfilelog/jsonlog`), with the members in any order.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::calendar::{NS_PER_SECOND, day_seconds, offset_seconds, parse_digits, split_fraction_ns};
use crate::records::log_record::StdStream;

/// Start of every record that Docker writes.
const RECORD_START: &[u8] = br#"{"log":"#;

/// One record of a json-file log: a line of a program's output, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::log_viewer) struct DockerLine<'a> {
    /// Text without the final `\n`. Borrowed unless it contains other escapes.
    pub(in crate::log_viewer) log: Cow<'a, str>,
    /// Whether the text ended with `\n`. Without it, more of the same line follows.
    pub(in crate::log_viewer) complete: bool,
    pub(in crate::log_viewer) stream: StdStream,
    /// Nanoseconds since 1970, within the years 1678 to 2262.
    pub(in crate::log_viewer) time_ns: i64,
}

/// The members that are used, still encoded. Others are skipped.
#[derive(Deserialize)]
struct Members<'a> {
    #[serde(borrow)]
    log: &'a RawValue,
    #[serde(borrow, default)]
    stream: Cow<'a, str>,
    #[serde(borrow)]
    time: Cow<'a, str>,
}

/// Parses one line of the file, with or without its final newline. Returns `None` if the line is truncated, filled with
/// NUL bytes as after a power failure, or not in Docker's format.
///
/// Bytes that are not UTF-8, which Docker does not write, become U+FFFD.
pub(in crate::log_viewer) fn parse(line: &[u8]) -> Option<DockerLine<'_>> {
    match std::str::from_utf8(line) {
        Ok(text) => parse_str(text),
        Err(_) => {
            let valid = String::from_utf8_lossy(line);
            let DockerLine { log, complete, stream, time_ns } = parse_str(&valid)?;
            Some(DockerLine { log: Cow::Owned(log.into_owned()), complete, stream, time_ns })
        }
    }
}

/// Splits a line that [`parse`] rejects at each start of a record. After a power failure, Docker continues an incomplete record
/// with the next one. Within a record, quotation marks are escaped, so each match is a start.
pub(in crate::log_viewer) fn split_records(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let starts = memchr::memmem::find_iter(line, RECORD_START).filter(|start| *start > 0);
    let ends = starts.chain(std::iter::once(line.len()));
    ends.scan(0, |start, end| Some(&line[std::mem::replace(start, end)..end]))
}

/// Returns the text of a record that is incomplete.
pub(in crate::log_viewer) fn incomplete_text(record: &[u8]) -> &[u8] {
    record.strip_prefix(RECORD_START).and_then(|text| text.strip_prefix(b"\"")).unwrap_or(record)
}

fn parse_str(text: &str) -> Option<DockerLine<'_>> {
    // serde also accepts an array of three items for the members.
    if !text.trim_ascii_start().starts_with('{') {
        return None;
    }
    let Members { log, stream, time } = serde_json::from_str(text).ok()?;
    let (log, complete) = unescape(log.get())?;
    let stream = StdStream::from_name(&stream).unwrap_or(StdStream::Stdout);
    Some(DockerLine { log, complete, stream, time_ns: parse_time_ns(&time)? })
}

/// Returns the value of a JSON string without its final newline, and whether it had one.
///
/// In nearly every line the newline is the only escape, so nearly every line is borrowed.
fn unescape(raw: &str) -> Option<(Cow<'_, str>, bool)> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    match inner.find('\\') {
        None => return Some((Cow::Borrowed(inner), false)),
        Some(at) if &inner[at..] == "\\n" => return Some((Cow::Borrowed(&inner[..at]), true)),
        Some(_) => {}
    }
    let mut text = decode_escapes(inner).or_else(|| serde_json::from_str(raw).ok())?;
    let complete = text.ends_with('\n');
    if complete {
        text.pop();
    }
    Some((Cow::Owned(text), complete))
}

/// Decodes the escapes that Docker writes in the inside of a JSON string. Returns `None` for other escapes, such as
/// surrogate pairs.
///
/// Faster than serde_json, which scans each byte once more and copies twice. In a line that is itself JSON, every second
/// byte can be an escape.
fn decode_escapes(inner: &str) -> Option<String> {
    let mut text = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        let escape = rest.as_bytes().get(at + 1)?;
        rest = rest.get(at + 2..)?;
        text.push(match escape {
            b'"' => '"',
            b'\\' => '\\',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let digits = rest.get(..4)?;
                rest = &rest[4..];
                char::from_u32(u32::from_str_radix(digits, 16).ok()?)?
            }
            _ => return None,
        });
    }
    text.push_str(rest);
    Some(text)
}

/// Parses an RFC 3339 timestamp (section 5.6) into nanoseconds since 1970; digits of the fraction after the ninth are
/// dropped. Returns `None` outside the years 1678 to 2262 and for leap seconds, which Docker's clock never shows.
pub(super) fn parse_time_ns(text: &str) -> Option<i64> {
    let (date_time, rest) = text.as_bytes().split_at_checked(19)?;
    let [_, _, _, _, b'-', _, _, b'-', _, _, b'T' | b't' | b' ', _, _, b':', _, _, b':', _, _] = date_time else {
        return None;
    };
    let year = i32::try_from(parse_digits(&date_time[..4])?).ok()?;
    let [month, day] = [5..7, 8..10].map(|digits| parse_digits(&date_time[digits]).and_then(|n| u8::try_from(n).ok()));
    let day_seconds = day_seconds(year, month?, day?)?;
    let (hour, minute, second) =
        (parse_digits(&date_time[11..13])?, parse_digits(&date_time[14..16])?, parse_digits(&date_time[17..19])?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (fraction_ns, zone) = split_fraction_ns(rest)?;
    let seconds = day_seconds + hour * 3_600 + minute * 60 + second - zone_seconds(zone)?;
    seconds.checked_mul(NS_PER_SECOND)?.checked_add(fraction_ns)
}

/// Parses a UTC offset: `Z`, or `+hh:mm` east of Greenwich.
fn zone_seconds(zone: &[u8]) -> Option<i64> {
    match *zone {
        [b'Z' | b'z'] => Some(0),
        [b'+', a, b, b':', c, d] => offset_seconds(1, [a, b], [c, d]),
        [b'-', a, b, b':', c, d] => offset_seconds(-1, [a, b], [c, d]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use time::OffsetDateTime;
    use time::format_description::well_known::Rfc3339;

    use super::*;

    fn oracle(text: &str) -> Option<i64> {
        OffsetDateTime::parse(text, &Rfc3339).ok().and_then(|at| i64::try_from(at.unix_timestamp_nanos()).ok())
    }

    #[test]
    fn a_line_without_escapes_is_borrowed() {
        let line =
            parse(br#"{"log":"listening on :8080\n","stream":"stderr","time":"2026-01-31T12:00:00.123456789Z"}"#);
        let line = line.unwrap();
        assert!(matches!(line.log, Cow::Borrowed("listening on :8080")));
        assert_eq!((line.complete, line.stream, line.time_ns), (true, StdStream::Stderr, 1_769_860_800_123_456_789));
        assert_eq!(line.stream.name(), "stderr");
    }

    #[test]
    fn members_may_be_in_any_order_and_unknown_ones_are_skipped() {
        for text in [
            r#"{"log":"a\u003cb\n","stream":"stdout","attrs":{"tag":"x","n":[1,{"log":"no"}]},"time":"2026-01-31T12:00:00Z"}"#,
            "  {\"time\":\"2026-01-31T14:00:00+02:00\",\"attrs\":null,\"stream\":\"stdout\",\"log\":\"a<b\\n\"}\r\n",
            r#"{"time":"2026-01-31T12:00:00.000Z","log":"\u0061\u003cb\u000a"}"#,
        ] {
            let line = parse(text.as_bytes()).unwrap();
            assert_eq!((&*line.log, line.complete, line.stream), ("a<b", true, StdStream::Stdout), "{text}");
            assert_eq!(line.time_ns, 1_769_860_800_000_000_000);
        }
    }

    #[test]
    fn a_partial_line_has_no_newline_and_the_last_part_may_be_empty() {
        let parse = |log: &str| {
            let text = format!(r#"{{"log":"{log}","stream":"stdout","time":"2026-01-31T12:00:00Z"}}"#);
            parse(text.as_bytes()).map(|line| (line.log.into_owned(), line.complete)).unwrap()
        };
        assert_eq!(parse("zzz"), ("zzz".into(), false));
        assert_eq!(parse("\\n"), (String::new(), true));
        assert_eq!(parse(""), (String::new(), false));
        assert_eq!(parse("a\\\\n"), ("a\\n".into(), false));
        assert_eq!(parse("a\\n\\n"), ("a\n".into(), true));
    }

    #[test]
    fn malformed_lines_are_rejected() {
        for text in [
            "",
            "\n",
            "plain text",
            "\0\0\0\0\0\0",
            "[\"a\\n\",\"stdout\",\"2026-01-31T12:00:00Z\"]",
            r#"{"log":"torn"#,
            r#"{"log":"torn{"log":"a\n","stream":"stdout","time":"2026-01-31T12:00:00Z"}"#,
            r#"{"log":"a\n","stream":"stdout","time":"2026-01-31T12:00:00Z"}}"#,
            r#"{"log":"a\n","stream":"stdout","time":"yesterday"}"#,
            r#"{"log":7,"stream":"stdout","time":"2026-01-31T12:00:00Z"}"#,
            r#"{"log":"a\n","stream":"stdout"}"#,
            r#"{"stream":"stdout","time":"2026-01-31T12:00:00Z"}"#,
            r#"{"log":"\ud800\n","stream":"stdout","time":"2026-01-31T12:00:00Z"}"#,
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_broken_line_is_split_at_each_start_of_a_record() {
        let whole = r#"{"log":"b {\"log\":\n","stream":"stderr","time":"2026-01-31T12:00:05Z"}"#;
        for (line, expected) in [
            (format!(r#"{{"log":"half{whole}"#), vec![r#"{"log":"half"#, whole]),
            (format!("{whole}{whole}"), vec![whole, whole]),
            (format!("text {whole}"), vec!["text ", whole]),
            ("text".into(), vec!["text"]),
            (String::new(), vec![""]),
        ] {
            let pieces: Vec<&[u8]> = split_records(line.as_bytes()).collect();
            assert_eq!(pieces, expected.iter().map(|piece| piece.as_bytes()).collect::<Vec<_>>(), "{line}");
        }
        assert_eq!(incomplete_text(br#"{"log":"half"#), b"half");
        assert_eq!(incomplete_text(br#"{"log"#), br#"{"log"#);
    }

    #[test]
    fn invalid_utf_8_is_replaced() {
        let line =
            parse(b"{\"log\":\"a\xff\xfe\\n\",\"stream\":\"stdout\",\"time\":\"2026-01-31T12:00:00Z\"}").unwrap();
        assert_eq!((&*line.log, line.complete), ("a\u{fffd}\u{fffd}", true));
    }

    #[test]
    fn timestamps_are_exact() {
        for text in [
            "1970-01-01T00:00:00Z",
            "1969-12-31T23:59:59.999999999Z",
            "2024-02-29T23:59:59.1Z",
            "2026-11-22T01:58:11.16268312Z",
            "2026-01-31T12:00:00.000000001-11:30",
            "2262-04-11T23:47:16Z",
        ] {
            assert_eq!(parse_time_ns(text), Some(oracle(text).unwrap()), "{text}");
        }
        for text in [
            "",
            "2026-01-31",
            "2026-01-31T12:00:00",
            "2026-02-29T12:00:00Z",
            "2026-13-01T12:00:00Z",
            "2026-01-31T24:00:00Z",
            "2026-01-31T12:00:00.Z",
            "2026-01-31T12:00:00+0200",
            "2026-01-31T12:00:00ZZ",
            "9999-01-31T12:00:00Z",
            "+026-01-31T12:00:00Z",
            "2026-01-31T12:00:00é",
        ] {
            assert_eq!(parse_time_ns(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn valid_lines_match_serde_json(
            log in "(?s).{0,60}\n?", stderr: bool, tags in any::<Option<String>>(), ns in 0..4_000_000_000_000_000_000_i64,
        ) {
            let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(ns)).unwrap().format(&Rfc3339).unwrap();
            let stream = if stderr { "stderr" } else { "stdout" };
            let text = json!({"log": log, "stream": stream, "attrs": {"tag": tags}, "time": time}).to_string();
            let value: Value = serde_json::from_str(&text).unwrap();
            let line = parse(text.as_bytes()).unwrap();
            let newline = if line.complete { "\n" } else { "" };
            prop_assert_eq!(format!("{}{newline}", line.log), value["log"].as_str().unwrap());
            prop_assert_eq!(line.stream.name(), value["stream"].as_str().unwrap());
            prop_assert_eq!(line.time_ns, ns);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn a_corrupt_byte_never_panics(at in 0_usize..80, byte: u8) {
            let mut line = *br#"{"log":"a\u003cb\n","stream":"stdout","time":"2026-01-31T12:00:00.123456789+01:00"}"#;
            line[at] = byte;
            let _ = parse(&line);
        }

        #[test]
        fn timestamps_match_the_time_crate(text in "20[0-9]{2}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?(Z|[+-][01][0-9]:[0-5][0-9])") {
            prop_assert_eq!(parse_time_ns(&text), oracle(&text));
        }
    }
}
