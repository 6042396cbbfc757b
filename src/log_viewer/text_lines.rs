//! Reader for the lines of text files: plain text, and the formats of container runtimes, which contain the time, the stream
//! and the text of a line.

use std::sync::Arc;
use std::time::Instant;

use super::line_clock::LineClock;
use super::local_zone::LocalZone;
use super::parse::docker::DockerLine;
use super::parse::{cri, docker};
use crate::records::log_record::StdStream;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// Start of a line of Docker's json-file format.
const DOCKER_START: &[u8] = br#"{"log":""#;

/// Reader with the times of the lines so far.
pub(super) struct TextLines {
    pub(super) clock: LineClock,
    /// Time of the incomplete line of the container runtime by [`StdStream::index`], in nanoseconds since 1970. All its parts
    /// get this time, because parts with different times belong to different lines elsewhere.
    incomplete_ns: [Option<i64>; 2],
}

impl TextLines {
    pub(super) fn new(zone: Arc<LocalZone>, now: Instant) -> Self {
        Self { clock: LineClock::new(zone, now), incomplete_ns: [None; 2] }
    }

    /// Parses the next line. Bytes that are not UTF-8 become U+FFFD.
    pub(super) fn parse<'a>(&mut self, line: &'a [u8], now: Instant) -> DockerLine<'a> {
        self.clock.start_read(now);
        let line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
        if line.starts_with(DOCKER_START)
            && let Some(parsed) = docker::parse(line)
        {
            return DockerLine { time_ns: self.clock.accept(parsed.time_ns), ..parsed };
        }
        if let Some(parsed) = cri::parse(line) {
            let incomplete_ns = &mut self.incomplete_ns[parsed.stream.index()];
            let time_ns = incomplete_ns.take().unwrap_or_else(|| self.clock.accept(parsed.time_ns));
            *incomplete_ns = Some(time_ns).filter(|_| !parsed.complete);
            return DockerLine { time_ns, ..parsed };
        }
        let log = String::from_utf8_lossy(line);
        let time_ns = self.clock.line_ns(&log);
        DockerLine { log, complete: true, stream: StdStream::Stdout, time_ns }
    }
}
