//! Encoding of a body that is sent part by part: compressed pieces and chunk framing.

use std::io::{self, Write as _};

use flate2::{Compress, Compression, Crc, FlushCompress};

use super::response::BodyFraming;

/// Header of a gzip member: deflate, no name, no time, fastest algorithm, unknown system (RFC 1952, section 2.3).
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 255];
/// Final block without data, with fixed codes (RFC 1951, section 3.2.6).
const EMPTY_FINAL_BLOCK: [u8; 2] = [3, 0];
/// Minimum free space for each call of the compressor, in bytes.
const SPARE_BYTES_MIN: usize = 4 * 1024;

/// Encodes the parts of one body.
#[derive(Debug)]
pub(in crate::http) struct BodyEncoder {
    gzip: Option<GzipMember>,
    framing: BodyFraming,
}

/// A gzip member that consists of independently compressed pieces, so that no compressor, which takes 300 KB, is kept while
/// a client reads. Each piece ends with a flush to a byte boundary.
#[derive(Debug)]
struct GzipMember {
    /// The checksum and the length of the pieces so far.
    crc: Crc,
    has_header: bool,
}

/// The bytes to send for one part.
#[derive(Debug)]
pub(in crate::http) struct EncodedPart {
    /// The line with the chunk's size; empty without chunk framing or content.
    pub(in crate::http) size_line: Vec<u8>,
    /// The content and what follows it.
    pub(in crate::http) content: Vec<u8>,
}

impl BodyEncoder {
    /// Creates the encoder of a body.
    pub(in crate::http) fn new(framing: BodyFraming, gzip: bool) -> Self {
        Self { gzip: gzip.then(|| GzipMember { crc: Crc::new(), has_header: false }), framing }
    }

    /// Encodes the next part. The last one also ends the body.
    ///
    /// # Errors
    /// Fails if the compressor fails, which does not depend on the data.
    pub(in crate::http) fn encode(&mut self, part: Vec<u8>, is_last: bool) -> io::Result<EncodedPart> {
        let mut content = match &mut self.gzip {
            Some(gzip) => gzip.compress(&part, is_last)?,
            None => part,
        };
        let mut size_line = Vec::new();
        if self.framing == BodyFraming::Chunked {
            // An empty chunk would end the body.
            if !content.is_empty() {
                write!(size_line, "{:x}\r\n", content.len())?;
                content.extend_from_slice(b"\r\n");
            }
            if is_last {
                content.extend_from_slice(b"0\r\n\r\n");
            }
        }
        Ok(EncodedPart { size_line, content })
    }
}

impl GzipMember {
    fn compress(&mut self, part: &[u8], is_last: bool) -> io::Result<Vec<u8>> {
        let mut out = Vec::with_capacity(part.len() / 4 + SPARE_BYTES_MIN);
        if !std::mem::replace(&mut self.has_header, true) {
            out.extend_from_slice(&GZIP_HEADER);
        }
        if !part.is_empty() {
            self.crc.update(part);
            compress_piece(part, &mut out)?;
        }
        if is_last {
            out.extend_from_slice(&EMPTY_FINAL_BLOCK);
            out.extend_from_slice(&self.crc.sum().to_le_bytes());
            out.extend_from_slice(&self.crc.amount().to_le_bytes());
        }
        Ok(out)
    }
}

/// Appends the deflate blocks of one piece, which refer to nothing before it.
fn compress_piece(piece: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let mut deflate = Compress::new(Compression::fast(), false);
    let mut used = 0;
    loop {
        out.reserve(SPARE_BYTES_MIN);
        let before = deflate.total_in();
        deflate.compress_vec(&piece[used..], out, FlushCompress::Sync).map_err(io::Error::other)?;
        // A piece is far smaller than the address space.
        used += usize::try_from(deflate.total_in() - before).unwrap_or(0);
        // Free space is left only if the flush is complete.
        if used == piece.len() && out.len() < out.capacity() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;

    use super::*;

    fn encode(framing: BodyFraming, gzip: bool, parts: &[Vec<u8>]) -> Vec<u8> {
        let mut encoder = BodyEncoder::new(framing, gzip);
        let mut bytes = Vec::new();
        for (index, part) in parts.iter().enumerate() {
            let encoded = encoder.encode(part.clone(), index + 1 == parts.len()).unwrap();
            bytes.extend([encoded.size_line, encoded.content].concat());
        }
        bytes
    }

    /// Returns parts of several sizes, compressible and not, and an empty one.
    fn parts() -> Vec<Vec<u8>> {
        let mut state = 1u32;
        let mut noise = |bytes: usize| -> Vec<u8> {
            let next = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            };
            std::iter::repeat_with(next).take(bytes).collect()
        };
        vec![b"a".repeat(40_000), noise(70_000), Vec::new(), b"abc".to_vec(), noise(1), b"xyz,".repeat(100_000)]
    }

    #[test]
    fn gzip_pieces_form_one_member() {
        for parts in [parts(), vec![Vec::new()], vec![b"one".to_vec()], vec![Vec::new(), b"x".repeat(50_000)]] {
            let bytes = encode(BodyFraming::Close, true, &parts);
            let mut decoder = GzDecoder::new(&*bytes);
            let mut decoded = Vec::new();
            decoder.read_to_end(&mut decoded).unwrap();
            assert!(decoded == parts.concat());
            assert!(decoder.into_inner().is_empty(), "bytes follow the member");
        }
    }

    #[test]
    fn compressible_pieces_shrink() {
        let bytes = encode(BodyFraming::Close, true, &vec![b"a log line\n".repeat(3_000); 10]);
        assert!(bytes.len() < 10 * 33_000 / 20, "{}", bytes.len());
    }

    #[test]
    fn chunks_skip_empty_parts_and_end_once() {
        let bytes = encode(BodyFraming::Chunked, false, &[b"abc".to_vec(), Vec::new(), b"x".repeat(16), Vec::new()]);
        assert_eq!(bytes, b"3\r\nabc\r\n10\r\nxxxxxxxxxxxxxxxx\r\n0\r\n\r\n");
        assert_eq!(encode(BodyFraming::Chunked, false, &[Vec::new()]), b"0\r\n\r\n");
        assert_eq!(encode(BodyFraming::Close, false, &[b"abc".to_vec(), b"d".to_vec()]), b"abcd");
    }
}
