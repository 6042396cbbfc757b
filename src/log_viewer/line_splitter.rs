//! Splitter of a file's bytes into lines.

use std::ops::ControlFlow;
use std::time::Instant;

/// Maximum length of a line in the file, in bytes; longer ones are truncated. Docker's lines contain at most 16 KiB of
/// text, each byte of which takes up to six.
const LINE_BYTES_MAX: usize = 1024 * 1024;

/// One line of a file.
pub(super) struct RawLine<'a> {
    /// Content without the `\n` and without NULs, truncated to 1 MiB.
    pub(super) bytes: &'a [u8],
    /// Number of bytes that were cut off.
    pub(super) truncated_bytes: u64,
}

/// Splitter with the incomplete line at the end of what was read.
///
/// NULs are dropped. A file has them where nothing was ever written: after a power failure, or after `copytruncate` under a
/// program that does not open its log for appending.
#[derive(Default)]
pub(super) struct LineSplitter {
    /// Bytes after the last line, which have no newline yet.
    partial_line: Vec<u8>,
    /// Number of bytes of the partial line beyond [`LINE_BYTES_MAX`].
    truncated_bytes: u64,
    /// Number of NULs in the partial line.
    nul_bytes: u64,
    /// Time of the last change of the partial line.
    changed_at: Option<Instant>,
    /// Whether the next line is incomplete, because reading started within it.
    discards_next_line: bool,
    /// Whether the last line had no newline, so that the newline may follow.
    is_within_line: bool,
}

impl LineSplitter {
    /// Creates a splitter for a file that is read from the middle of a line, which is discarded.
    pub(super) fn within_line() -> Self {
        Self { discards_next_line: true, ..Self::default() }
    }

    /// Creates a splitter for a file that is read from the end of a line. `is_within_line` says that its newline may follow.
    pub(super) fn after_line(is_within_line: bool) -> Self {
        Self { is_within_line, ..Self::default() }
    }

    /// Leaves the partial line, and the rest of its line, to a copy of the file.
    pub(super) fn leave_partial_line(&mut self) {
        if !self.partial_line.is_empty() {
            *self = Self::within_line();
        }
    }

    /// Adds a hole in the file, which consists of NULs.
    pub(super) fn skip_hole(&mut self, bytes: u64) {
        self.nul_bytes += bytes;
    }

    /// Emits the complete lines of one read, and adds their length to `offset`. Keeps the rest as the partial line. Returns
    /// the result of the last call of `emit`.
    pub(super) fn push(
        &mut self,
        mut bytes: &[u8],
        offset: &mut u64,
        emit: &mut impl FnMut(RawLine<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let mut flow = ControlFlow::Continue(());
        let has_nuls = memchr::memchr(0, bytes).is_some();
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            let mut line = &bytes[..end];
            if has_nuls {
                self.extend_partial_line(std::mem::take(&mut line));
            }
            flow = self.emit_line(line, offset, emit);
            bytes = &bytes[end + 1..];
        }
        if !bytes.is_empty() {
            self.changed_at = Some(Instant::now());
            self.extend_partial_line(bytes);
        }
        flow
    }

    /// Returns the length of a last line without a newline, in bytes, and when it changed; `None` if there is none.
    pub(super) fn last_line(&self) -> Option<(u64, Instant)> {
        let bytes = self.nul_bytes + self.truncated_bytes + self.partial_line.len() as u64;
        self.changed_at.filter(|_| !self.partial_line.is_empty()).map(|changed_at| (bytes, changed_at))
    }

    /// Emits the last line, although it has no newline, and adds its length to `offset`. If it ends with a carriage return,
    /// these end its lines.
    pub(super) fn emit_last_line(&mut self, offset: &mut u64, emit: &mut impl FnMut(RawLine<'_>) -> ControlFlow<()>) {
        let Self { partial_line, truncated_bytes, nul_bytes, .. } = std::mem::take(self);
        *offset += nul_bytes + truncated_bytes + partial_line.len() as u64;
        self.is_within_line = true;
        let lines = partial_line.strip_suffix(b"\r").unwrap_or(&partial_line);
        if lines.len() == partial_line.len() {
            let _ = emit(RawLine { bytes: lines, truncated_bytes });
            return;
        }
        for bytes in lines.split(|byte| *byte == b'\r') {
            let _ = emit(RawLine { bytes, truncated_bytes: 0 });
        }
    }

    /// Emits the partial line, if there is one, because its newline will not follow.
    pub(super) fn finish(
        &mut self,
        offset: &mut u64,
        emit: &mut impl FnMut(RawLine<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        if self.partial_line.is_empty() {
            return ControlFlow::Continue(());
        }
        self.emit_line(&[], offset, emit)
    }

    fn extend_partial_line(&mut self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|byte| *byte == 0) {
            let text = part.strip_suffix(b"\0").unwrap_or(part);
            self.nul_bytes += (part.len() - text.len()) as u64;
            let room = LINE_BYTES_MAX.saturating_sub(self.partial_line.len());
            self.partial_line.extend_from_slice(&text[..text.len().min(room)]);
            self.truncated_bytes += text.len().saturating_sub(room) as u64;
        }
    }

    /// Emits the partial line followed by `rest` as one line, unless it consisted of NULs.
    fn emit_line(
        &mut self,
        rest: &[u8],
        offset: &mut u64,
        emit: &mut impl FnMut(RawLine<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let nul_bytes = std::mem::take(&mut self.nul_bytes);
        *offset += self.partial_line.len() as u64 + self.truncated_bytes + nul_bytes + rest.len() as u64 + 1;
        let mut truncated_bytes = std::mem::take(&mut self.truncated_bytes);
        let joined;
        let bytes = if self.partial_line.is_empty() {
            rest
        } else {
            let room = LINE_BYTES_MAX.saturating_sub(self.partial_line.len());
            truncated_bytes += rest.len().saturating_sub(room) as u64;
            self.partial_line.extend_from_slice(&rest[..rest.len().min(room)]);
            joined = std::mem::take(&mut self.partial_line);
            joined.as_slice()
        };
        let ends_emitted_line = std::mem::take(&mut self.is_within_line) && matches!(bytes, b"" | b"\r");
        let is_discarded = std::mem::take(&mut self.discards_next_line) || ends_emitted_line;
        if is_discarded || nul_bytes > 0 && bytes.is_empty() {
            return ControlFlow::Continue(());
        }
        emit(RawLine { bytes, truncated_bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(reads: &[&[u8]]) -> (Vec<(String, u64)>, u64) {
        let (mut splitter, mut offset, mut lines) = (LineSplitter::default(), 0, Vec::new());
        for bytes in reads {
            let _ = splitter.push(bytes, &mut offset, &mut |line| {
                lines.push((String::from_utf8_lossy(line.bytes).into_owned(), line.truncated_bytes));
                ControlFlow::Continue(())
            });
        }
        (lines, offset)
    }

    #[test]
    fn nuls_are_dropped_and_a_line_of_nuls_is_none() {
        let (lines, offset) = lines(&[b"a\n\0\0\0b", b"\0c\0\n\0\0\n\nd\0", b"\n\0\0"]);
        assert_eq!(lines, [("a".into(), 0), ("bc".into(), 0), (String::new(), 0), ("d".into(), 0)]);
        assert_eq!(offset, 2 + 8 + 3 + 1 + 3);
    }

    #[test]
    fn nuls_do_not_count_as_the_length_of_a_line() {
        let nuls = vec![0; 2 * LINE_BYTES_MAX];
        assert_eq!(lines(&[&nuls, b"text\n"]), (vec![("text".into(), 0)], nuls.len() as u64 + 5));
        let long = vec![b'x'; LINE_BYTES_MAX + 7];
        let (lines, offset) = lines(&[&long, &nuls, b"yz\n"]);
        assert_eq!((lines[0].0.len(), lines[0].1), (LINE_BYTES_MAX, 9));
        assert_eq!(offset, (long.len() + nuls.len() + 3) as u64);
    }
}
