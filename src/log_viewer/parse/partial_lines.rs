//! Joiner for partial lines. Docker splits a line after 16,384 bytes; the only marker is that the newline is missing.
//! stdout and stderr are joined separately, because their parts interleave.

use std::borrow::Cow;

use super::docker::DockerLine;
use crate::records::log_record::StdStream;

/// Maximum length of a joined line, in bytes. The rest is dropped, and a marker states its length.
pub(in crate::log_viewer) const LINE_BYTES_MAX: usize = 1 << 20;
/// Length of the parts that Docker splits a line into (moby, `daemon/logger/copier.go`, `defaultBufSize`), in bytes. A
/// part can be longer here, because a byte that is not UTF-8 becomes the three bytes of U+FFFD.
const PART_BYTES: usize = 16_384;

/// A line as the program wrote it, without its `\n` or `\r\n`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::log_viewer) struct CompleteLine<'a, T> {
    pub(in crate::log_viewer) text: Cow<'a, str>,
    pub(in crate::log_viewer) stream: StdStream,
    /// Time of the first part, in nanoseconds since 1970.
    pub(in crate::log_viewer) time_ns: i64,
    /// The caller's tag of the first part, such as its line number.
    pub(in crate::log_viewer) tag: T,
}

/// Joiner for the lines of one container. Holds at most one incomplete line per stream.
#[derive(Debug)]
pub(in crate::log_viewer) struct PartialLineJoiner<T> {
    stdout: Option<IncompleteLine<T>>,
    stderr: Option<IncompleteLine<T>>,
}

impl<T> Default for PartialLineJoiner<T> {
    fn default() -> Self {
        Self { stdout: None, stderr: None }
    }
}

impl<T: Copy> PartialLineJoiner<T> {
    /// Adds the next record and passes each line that it completes to `emit`: none, one, or two. Two lines are emitted if
    /// the program ended without a newline and was restarted, because the first of them will never be completed.
    pub(in crate::log_viewer) fn push<'a>(
        &mut self,
        line: DockerLine<'a>,
        tag: T,
        mut emit: impl FnMut(CompleteLine<'a, T>),
    ) {
        let slot = match line.stream {
            StdStream::Stdout => &mut self.stdout,
            StdStream::Stderr => &mut self.stderr,
        };
        let incomplete = match slot.take() {
            Some(incomplete) if !incomplete.is_same_line(&line) => {
                emit(incomplete.finish());
                None
            }
            incomplete => incomplete,
        };
        let DockerLine { log, complete, stream, time_ns } = line;
        match incomplete {
            None if complete && log.len() <= LINE_BYTES_MAX => {
                emit(CompleteLine { text: trim_carriage_return(log), stream, time_ns, tag });
            }
            incomplete => {
                let mut incomplete = incomplete.unwrap_or_else(|| IncompleteLine::new(stream, time_ns, tag));
                incomplete.append(&log);
                if complete {
                    emit(incomplete.finish());
                } else {
                    *slot = Some(incomplete);
                }
            }
        }
    }

    /// Emits all incomplete lines as they are, the oldest first.
    pub(in crate::log_viewer) fn flush(&mut self, emit: impl FnMut(CompleteLine<'static, T>)) {
        let mut incomplete = [self.stdout.take(), self.stderr.take()];
        incomplete.sort_by_key(|line| line.as_ref().map(|line| line.time_ns));
        incomplete.into_iter().flatten().map(IncompleteLine::finish).for_each(emit);
    }

    /// Returns the tags of the incomplete lines.
    pub(in crate::log_viewer) fn incomplete_tags(&self) -> impl Iterator<Item = T> {
        [&self.stdout, &self.stderr].into_iter().flatten().map(|line| line.tag)
    }
}

#[derive(Debug)]
struct IncompleteLine<T> {
    text: String,
    /// Bytes beyond [`LINE_BYTES_MAX`], which are not in `text`.
    dropped_bytes: usize,
    last_part_bytes: usize,
    stream: StdStream,
    time_ns: i64,
    tag: T,
}

impl<T> IncompleteLine<T> {
    fn new(stream: StdStream, time_ns: i64, tag: T) -> Self {
        Self { text: String::new(), dropped_bytes: 0, last_part_bytes: 0, stream, time_ns, tag }
    }

    /// Returns whether `line` continues this line. Docker gives all parts of a line the same time and splits off only
    /// full parts, so a short part with another time was written by another run of the program.
    fn is_same_line(&self, line: &DockerLine<'_>) -> bool {
        line.time_ns == self.time_ns || self.last_part_bytes >= PART_BYTES
    }

    fn append(&mut self, part: &str) {
        self.last_part_bytes = part.len();
        let room = if self.dropped_bytes > 0 { 0 } else { LINE_BYTES_MAX - self.text.len() };
        let used = part.floor_char_boundary(room);
        self.text.push_str(&part[..used]);
        self.dropped_bytes += part.len() - used;
    }

    fn finish<'a>(self) -> CompleteLine<'a, T> {
        let Self { mut text, dropped_bytes, stream, time_ns, tag, .. } = self;
        if dropped_bytes > 0 {
            text.push_str(&format!(" …[truncated: {dropped_bytes} bytes]"));
        }
        CompleteLine { text: trim_carriage_return(Cow::Owned(text)), stream, time_ns, tag }
    }
}

/// Removes the `\r` that a terminal writes before the newline.
fn trim_carriage_return(text: Cow<'_, str>) -> Cow<'_, str> {
    if !text.ends_with('\r') {
        return text;
    }
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(&text[..text.len() - 1]),
        Cow::Owned(mut text) => {
            text.pop();
            Cow::Owned(text)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(log: &str, stream: StdStream, time_ns: i64) -> DockerLine<'_> {
        let complete = log.ends_with('\n');
        DockerLine { log: Cow::Borrowed(log.strip_suffix('\n').unwrap_or(log)), complete, stream, time_ns }
    }

    /// Joins lines whose tags are their indexes. Returns the text, time and tag of each complete line.
    fn joined(lines: &[(&str, StdStream, i64)]) -> Vec<(String, i64, usize)> {
        let mut joiner = PartialLineJoiner::default();
        let mut complete = Vec::new();
        for (index, (log, stream, time_ns)) in lines.iter().enumerate() {
            joiner.push(line(log, *stream, *time_ns), index, |line| {
                complete.push((line.text.into_owned(), line.time_ns, line.tag));
            });
        }
        joiner.flush(|line| complete.push((line.text.into_owned(), line.time_ns, line.tag)));
        assert_eq!(joiner.incomplete_tags().count(), 0);
        complete
    }

    #[test]
    fn interleaved_parts_of_both_streams_are_joined_separately() {
        use StdStream::{Stderr, Stdout};
        let complete =
            joined(&[("aa", Stdout, 1), ("x", Stderr, 2), ("one\n", Stderr, 2), ("bb", Stdout, 1), ("\n", Stdout, 1)]);
        assert_eq!(complete, [("xone".into(), 2, 1), ("aabb".into(), 1, 0)]);
    }

    #[test]
    fn an_incomplete_line_ends_when_the_program_restarts() {
        let full = "z".repeat(PART_BYTES);
        let complete = joined(&[
            ("no newline", StdStream::Stdout, 1),
            ("boot\r\n", StdStream::Stdout, 2),
            // Old versions of Docker give each part its own time.
            (&full, StdStream::Stdout, 3),
            ("end\n", StdStream::Stdout, 4),
            ("last", StdStream::Stdout, 5),
        ]);
        let texts = ["no newline", "boot", &format!("{full}end"), "last"];
        assert_eq!(complete.iter().map(|(text, ..)| text.as_str()).collect::<Vec<_>>(), texts);
    }

    #[test]
    fn an_overlong_line_is_truncated_with_a_marker() {
        let part = "é".repeat(PART_BYTES / 2);
        let mut lines = vec![(part.as_str(), StdStream::Stdout, 1); 70];
        lines.push(("\n", StdStream::Stdout, 1));
        let complete = joined(&lines);
        let dropped = 70 * PART_BYTES - LINE_BYTES_MAX;
        assert_eq!(complete.len(), 1);
        assert!(complete[0].0.ends_with(&format!("é …[truncated: {dropped} bytes]")));
        // After the first dropped byte, all following bytes are dropped, even those that would fit.
        let long_line = format!("x{}\n", "é".repeat(LINE_BYTES_MAX / 2));
        let cut = &joined(&[(&long_line, StdStream::Stdout, 1)])[0].0;
        assert_eq!(cut.len(), LINE_BYTES_MAX - 1 + " …[truncated: 2 bytes]".len());
    }

    proptest! {
        #[test]
        fn a_line_split_anywhere_is_restored(text in "(?s)[^\n]{0,60}", cuts in prop::collection::vec(0_usize..60, 0..6), finished: bool) {
            let mut bounds: Vec<usize> = cuts.iter().map(|cut| text.floor_char_boundary(*cut)).collect();
            bounds.extend([0, text.len()]);
            bounds.sort_unstable();
            let mut logs: Vec<String> = bounds.windows(2).map(|two| text[two[0]..two[1]].to_owned()).collect();
            if finished {
                logs.last_mut().unwrap().push('\n');
            }
            let lines: Vec<(&str, StdStream, i64)> = logs.iter().map(|log| (log.as_str(), StdStream::Stderr, 7)).collect();
            let shown = text.strip_suffix('\r').unwrap_or(&text).to_owned();
            prop_assert_eq!(joined(&lines), [(shown, 7, 0)]);
        }
    }
}
