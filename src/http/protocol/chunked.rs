//! Decoder for `Transfer-Encoding: chunked` (RFC 9112, section 7.1).

use super::error::{ProtocolError, malformed};

/// Maximum length of a chunk's size line with its extensions, in bytes.
const CHUNK_LINE_BYTES_MAX: usize = 256;
/// Maximum size of all trailers together, in bytes.
const TRAILER_BYTES_MAX: usize = 8 * 1024;

/// Decodes chunks incrementally, as their bytes arrive. Extensions and trailers are discarded.
#[derive(Debug, Default)]
pub(in crate::http) struct ChunkDecoder {
    state: ChunkState,
    trailer_bytes: usize,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum ChunkState {
    #[default]
    Size,
    Data(u64),
    DataEnd,
    Trailer,
    Done,
}

impl ChunkDecoder {
    /// Passes the data in `input` to `sink` and returns the number of bytes consumed. The caller offers the remaining
    /// bytes again, followed by new ones. Consumes nothing once [`ChunkDecoder::is_done`].
    ///
    /// # Errors
    /// Fails if the bytes are not valid chunks, or with the error that `sink` returns.
    pub(in crate::http) fn decode<E: From<ProtocolError>>(
        &mut self,
        input: &[u8],
        mut sink: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<usize, E> {
        let mut consumed = 0;
        loop {
            let rest = &input[consumed..];
            match self.state {
                ChunkState::Done => return Ok(consumed),
                ChunkState::Data(left) => {
                    let len = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    if len == 0 {
                        return Ok(consumed);
                    }
                    sink(&rest[..len])?;
                    consumed += len;
                    let left = left - len as u64;
                    self.state = if left == 0 { ChunkState::DataEnd } else { ChunkState::Data(left) };
                }
                ChunkState::DataEnd => {
                    if rest.len() < 2 {
                        return Ok(consumed);
                    }
                    if &rest[..2] != b"\r\n" {
                        return Err(malformed("A chunk does not end at its declared size").into());
                    }
                    consumed += 2;
                    self.state = ChunkState::Size;
                }
                ChunkState::Size => {
                    let Some(line) = first_line(rest, CHUNK_LINE_BYTES_MAX)? else { return Ok(consumed) };
                    consumed += line.len() + 2;
                    let size = chunk_size(line)?;
                    self.state = if size == 0 { ChunkState::Trailer } else { ChunkState::Data(size) };
                }
                ChunkState::Trailer => {
                    let Some(line) = first_line(rest, TRAILER_BYTES_MAX)? else { return Ok(consumed) };
                    consumed += line.len() + 2;
                    self.trailer_bytes += line.len() + 2;
                    if self.trailer_bytes > TRAILER_BYTES_MAX {
                        return Err(malformed("The trailers exceed 8192 bytes").into());
                    }
                    if line.is_empty() {
                        self.state = ChunkState::Done;
                    }
                }
            }
        }
    }

    /// Whether the last chunk and the trailers have been consumed.
    pub(in crate::http) fn is_done(&self) -> bool {
        self.state == ChunkState::Done
    }

    /// Returns the number of bytes of the current chunk that have not arrived.
    pub(in crate::http) fn remaining_bytes(&self) -> u64 {
        if let ChunkState::Data(left) = self.state { left } else { 0 }
    }
}

/// Returns the first line of `rest` without its CR LF, or `None` while it is incomplete.
///
/// # Errors
/// Fails on a CR or LF alone, which another implementation may take for a line end, and on too long a line.
fn first_line(rest: &[u8], bytes_max: usize) -> Result<Option<&[u8]>, ProtocolError> {
    let end = rest.iter().take(bytes_max + 1).position(|byte| *byte == b'\n');
    let line = end.and_then(|at| rest[..at].strip_suffix(b"\r"));
    match (end, line) {
        (_, Some(line)) if !line.contains(&b'\r') => Ok(Some(line)),
        (Some(_), _) => Err(malformed("Lines must end with CR LF")),
        (None, _) if rest.len() > bytes_max => Err(malformed("A chunk size line or trailer is too long")),
        (None, _) => Ok(None),
    }
}

fn chunk_size(line: &[u8]) -> Result<u64, ProtocolError> {
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
    let trailing_whitespace = digits.iter().rev().take_while(|byte| b" \t".contains(byte)).count();
    let digits = &digits[..digits.len() - trailing_whitespace];
    if digits.is_empty() || digits.len() > 16 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(malformed("A chunk size must be a hexadecimal number"));
    }
    let text = std::str::from_utf8(digits).unwrap_or_default();
    u64::from_str_radix(text, 16).map_err(|_| malformed("A chunk size must be a hexadecimal number"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(pieces: &[&[u8]]) -> Result<(Vec<u8>, bool), ProtocolError> {
        let mut decoder = ChunkDecoder::default();
        let (mut input, mut body) = (Vec::new(), Vec::new());
        for piece in pieces {
            input.extend_from_slice(piece);
            let used = decoder.decode(&input, |data| {
                body.extend_from_slice(data);
                Ok::<(), ProtocolError>(())
            })?;
            input.drain(..used);
        }
        Ok((body, decoder.is_done()))
    }

    #[test]
    fn chunks_are_joined_for_any_split_of_the_input() {
        let text = b"5;ext=1\r\nhello\r\n1\r\n \r\n05\r\nworld\r\n0\r\nTrailer: x\r\n\r\n";
        let single: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(decode(&single).unwrap(), (b"hello world".to_vec(), true));
        assert_eq!(decode(&[text]).unwrap(), (b"hello world".to_vec(), true));
    }

    #[test]
    fn malformed_chunks_are_rejected() {
        for text in [
            "\r\n",
            "g\r\n",
            "-1\r\n",
            "5\nhello",
            "5\r\r\nhello",
            "5\x0c\r\nhello",
            "5;a\rb\r\nhello",
            "2\r\nabc\r\n",
            "FFFFFFFFFFFFFFFFF\r\n",
            "1 1\r\n",
            "0\r\nx\n\r\n",
            "0\r\nx\ry\r\n\r\n",
        ] {
            assert!(decode(&[text.as_bytes()]).is_err(), "{text:?}");
        }
        assert!(decode(&[&[b'1'; CHUNK_LINE_BYTES_MAX + 2]]).is_err());
        let trailers = format!("0\r\n{}", "a: b\r\n".repeat(TRAILER_BYTES_MAX));
        assert!(decode(&[trailers.as_bytes()]).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode(&[&bytes]);
        }

        #[test]
        fn chunks_survive_any_split(body in proptest::collection::vec(any::<u8>(), 1..400), size in 1usize..50, cut in 1usize..30) {
            let mut text = Vec::new();
            for piece in body.chunks(size) {
                text.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                text.extend_from_slice(piece);
                text.extend_from_slice(b"\r\n");
            }
            text.extend_from_slice(b"0\r\n\r\n");
            let pieces: Vec<&[u8]> = text.chunks(cut).collect();
            prop_assert_eq!(decode(&pieces).unwrap(), (body, true));
        }
    }
}
