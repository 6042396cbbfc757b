//! Parser for the log lines of the Kubernetes container runtime interface, which Podman's `k8s-file` driver, containerd and
//! CRI-O write: `2026-01-31T12:00:00.123456789Z stderr F message`.

use super::docker::{self, DockerLine};
use crate::records::log_record::StdStream;

/// Maximum length of the timestamp, in bytes: nine digits of a fraction and a UTC offset.
const TIMESTAMP_BYTES_MAX: usize = 35;

/// Parses one line. The tag `F` marks a complete line, and `P` a part of a longer one. Returns `None` for other formats.
pub(in crate::log_viewer) fn parse(line: &[u8]) -> Option<DockerLine<'_>> {
    if line.get(4) != Some(&b'-') {
        return None;
    }
    let end = memchr::memchr(b' ', &line[..line.len().min(TIMESTAMP_BYTES_MAX + 1)])?;
    let (stream, rest) = match line[end..].split_at_checked(8)? {
        (b" stdout ", rest) => (StdStream::Stdout, rest),
        (b" stderr ", rest) => (StdStream::Stderr, rest),
        _ => return None,
    };
    // Further tags may follow after a colon.
    let tags_end = memchr::memchr(b' ', rest).unwrap_or(rest.len());
    let complete = match rest[..tags_end].split(|byte| *byte == b':').next()? {
        b"F" => true,
        b"P" => false,
        _ => return None,
    };
    let time_ns = docker::parse_time_ns(std::str::from_utf8(&line[..end]).ok()?)?;
    let log = String::from_utf8_lossy(rest.get(tags_end + 1..).unwrap_or_default());
    Some(DockerLine { log, complete, stream, time_ns })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stream_tag_and_time_precede_the_message() {
        const NS: i64 = 1_769_860_800_123_456_789;
        for (line, expected) in [
            ("2026-01-31T12:00:00.123456789Z stdout F hello  world", Some(("hello  world", true, "stdout", NS))),
            ("2026-01-31T13:00:00.123456789+01:00 stderr P part", Some(("part", false, "stderr", NS))),
            ("2026-01-31T12:00:00.123456789Z stdout P:x part", Some(("part", false, "stdout", NS))),
            ("2026-01-31T12:00:00.123456789Z stdout F ", Some(("", true, "stdout", NS))),
            ("2026-01-31T12:00:00.123456789Z stdout F", Some(("", true, "stdout", NS))),
            ("2026-01-31T12:00:00Z stdout Full text", None),
            ("2026-01-31T12:00:00Z INFO F text", None),
            ("yesterday stdout F text", None),
            ("2026-stdout F", None),
            ("2026-01-31T12:00:00Z", None),
            ("", None),
        ] {
            let parsed = parse(line.as_bytes());
            let parsed = parsed.as_ref().map(|line| (&*line.log, line.complete, line.stream.name(), line.time_ns));
            assert_eq!(parsed, expected, "{line}");
        }
    }
}
