//! Docker cuts a line after 16,384 bytes and marks the cut with nothing but a missing newline. Here the pieces become
//! whole lines again, separately for the two streams, whose pieces interleave.

use std::borrow::Cow;

use super::Stream;
use super::docker::Line;

/// Bytes kept of one whole line; the rest is counted and said.
pub(in crate::log_viewer) const LINE_BYTES_MAX: usize = 1 << 20;
/// Where Docker cuts (moby, `daemon/logger/copier.go`, `defaultBufSize`). Bytes that were not UTF-8 have grown since.
const PIECE_BYTES: usize = 16_384;

/// A line as the program wrote it, without its `\n` or `\r\n`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::log_viewer) struct Whole<'a, P> {
    pub(in crate::log_viewer) text: Cow<'a, str>,
    pub(in crate::log_viewer) stream: Stream,
    /// Nanoseconds since 1970, of the first piece.
    pub(in crate::log_viewer) time_ns: i64,
    /// What the caller knows of the first piece, such as where it began.
    pub(in crate::log_viewer) place: P,
}

/// The lines of one container that are not whole yet: at most one a stream.
#[derive(Debug)]
pub(in crate::log_viewer) struct Pieces<P> {
    stdout: Option<Pending<P>>,
    stderr: Option<Pending<P>>,
}

impl<P> Default for Pieces<P> {
    fn default() -> Self {
        Self { stdout: None, stderr: None }
    }
}

impl<P: Copy> Pieces<P> {
    /// Takes what Docker wrote down next and gives the lines that are whole by it to `out`: none or one, or two where a
    /// line will never be finished because the program ended without a newline and was started again.
    pub(in crate::log_viewer) fn push<'a>(&mut self, line: Line<'a>, place: P, mut out: impl FnMut(Whole<'a, P>)) {
        let slot = match line.stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        let pending = match slot.take() {
            Some(pending) if !pending.goes_on_with(&line) => {
                out(pending.finished());
                None
            }
            pending => pending,
        };
        let Line { log, complete, stream, time_ns } = line;
        match pending {
            None if complete && log.len() <= LINE_BYTES_MAX => {
                out(Whole { text: without_return(log), stream, time_ns, place });
            }
            pending => {
                let mut pending = pending.unwrap_or_else(|| Pending::new(stream, time_ns, place));
                pending.append(&log);
                if complete {
                    out(pending.finished());
                } else {
                    *slot = Some(pending);
                }
            }
        }
    }

    /// Gives up waiting for the rest of lines, the one that began first first.
    pub(in crate::log_viewer) fn flush(&mut self, out: impl FnMut(Whole<'static, P>)) {
        let mut pending = [self.stdout.take(), self.stderr.take()];
        pending.sort_by_key(|pending| pending.as_ref().map(|pending| pending.time_ns));
        pending.into_iter().flatten().map(Pending::finished).for_each(out);
    }

    /// What the caller knows of the first pieces of lines that are not whole.
    pub(in crate::log_viewer) fn open(&self) -> impl Iterator<Item = P> {
        [&self.stdout, &self.stderr].into_iter().flatten().map(|pending| pending.place)
    }
}

#[derive(Debug)]
struct Pending<P> {
    text: String,
    /// Bytes that had no room in `text`.
    left_out: usize,
    last_piece_bytes: usize,
    stream: Stream,
    time_ns: i64,
    place: P,
}

impl<P> Pending<P> {
    fn new(stream: Stream, time_ns: i64, place: P) -> Self {
        Self { text: String::new(), left_out: 0, last_piece_bytes: 0, stream, time_ns, place }
    }

    /// Docker gives all pieces of a line one time, and cuts only full pieces off. What follows a short piece later on
    /// was written by another run of the program.
    fn goes_on_with(&self, line: &Line<'_>) -> bool {
        line.time_ns == self.time_ns || self.last_piece_bytes >= PIECE_BYTES
    }

    fn append(&mut self, piece: &str) {
        self.last_piece_bytes = piece.len();
        let room = if self.left_out > 0 { 0 } else { LINE_BYTES_MAX - self.text.len() };
        let kept = piece.floor_char_boundary(room);
        self.text.push_str(&piece[..kept]);
        self.left_out += piece.len() - kept;
    }

    fn finished<'a>(self) -> Whole<'a, P> {
        let Self { mut text, left_out, stream, time_ns, place, .. } = self;
        if left_out > 0 {
            text.push_str(&format!(" …[truncated: {left_out} bytes]"));
        }
        Whole { text: without_return(Cow::Owned(text)), stream, time_ns, place }
    }
}

/// Without the `\r` that a terminal puts before the newline.
fn without_return(text: Cow<'_, str>) -> Cow<'_, str> {
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

    fn line(log: &str, stream: Stream, time_ns: i64) -> Line<'_> {
        let complete = log.ends_with('\n');
        Line { log: Cow::Borrowed(log.strip_suffix('\n').unwrap_or(log)), complete, stream, time_ns }
    }

    /// What comes of lines, the places being their numbers.
    fn joined(lines: &[(&str, Stream, i64)]) -> Vec<(String, i64, usize)> {
        let mut pieces = Pieces::default();
        let mut whole = Vec::new();
        for (place, (log, stream, time_ns)) in lines.iter().enumerate() {
            pieces.push(line(log, *stream, *time_ns), place, |line| {
                whole.push((line.text.into_owned(), line.time_ns, line.place));
            });
        }
        pieces.flush(|line| whole.push((line.text.into_owned(), line.time_ns, line.place)));
        assert_eq!(pieces.open().count(), 0);
        whole
    }

    #[test]
    fn pieces_of_both_streams_are_told_apart() {
        use Stream::{Stderr, Stdout};
        let whole =
            joined(&[("aa", Stdout, 1), ("x", Stderr, 2), ("one\n", Stderr, 2), ("bb", Stdout, 1), ("\n", Stdout, 1)]);
        assert_eq!(whole, [("xone".into(), 2, 1), ("aabb".into(), 1, 0)]);
    }

    #[test]
    fn an_unfinished_line_ends_where_another_run_begins() {
        let full = "z".repeat(PIECE_BYTES);
        let whole = joined(&[
            ("no newline", Stream::Stdout, 1),
            ("boot\r\n", Stream::Stdout, 2),
            // Old versions of Docker gave each piece a time of its own.
            (&full, Stream::Stdout, 3),
            ("end\n", Stream::Stdout, 4),
            ("last", Stream::Stdout, 5),
        ]);
        let texts = ["no newline", "boot", &format!("{full}end"), "last"];
        assert_eq!(whole.iter().map(|(text, ..)| text.as_str()).collect::<Vec<_>>(), texts);
    }

    #[test]
    fn a_line_without_end_is_cut_and_says_so() {
        let piece = "é".repeat(PIECE_BYTES / 2);
        let mut lines = vec![(piece.as_str(), Stream::Stdout, 1); 70];
        lines.push(("\n", Stream::Stdout, 1));
        let whole = joined(&lines);
        let left_out = 70 * PIECE_BYTES - LINE_BYTES_MAX;
        assert_eq!(whole.len(), 1);
        assert!(whole[0].0.ends_with(&format!("é …[truncated: {left_out} bytes]")));
        // Nothing after the first byte left out comes in again, not even where it would fit.
        let at_once = format!("x{}\n", "é".repeat(LINE_BYTES_MAX / 2));
        let cut = &joined(&[(&at_once, Stream::Stdout, 1)])[0].0;
        assert_eq!(cut.len(), LINE_BYTES_MAX - 1 + " …[truncated: 2 bytes]".len());
    }

    proptest! {
        #[test]
        fn any_cut_is_mended(text in "(?s)[^\n]{0,60}", cuts in prop::collection::vec(0_usize..60, 0..6), finished: bool) {
            let mut bounds: Vec<usize> = cuts.iter().map(|cut| text.floor_char_boundary(*cut)).collect();
            bounds.extend([0, text.len()]);
            bounds.sort_unstable();
            let mut logs: Vec<String> = bounds.windows(2).map(|two| text[two[0]..two[1]].to_owned()).collect();
            if finished {
                logs.last_mut().unwrap().push('\n');
            }
            let lines: Vec<(&str, Stream, i64)> = logs.iter().map(|log| (log.as_str(), Stream::Stderr, 7)).collect();
            let shown = text.strip_suffix('\r').unwrap_or(&text).to_owned();
            prop_assert_eq!(joined(&lines), [(shown, 7, 0)]);
        }
    }
}
