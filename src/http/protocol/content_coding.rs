//! Decoder for `Content-Encoding`: gzip and deflate (RFC 9110, section 8.4).

use std::io::{self, BufRead, BufReader, Read, Seek as _, Write as _};
use std::path::Path;

use flate2::bufread::{DeflateDecoder, GzDecoder, ZlibDecoder};

use super::body::{BodyStorage, anonymous_temp_file, spool_error};
use crate::error::Error;

const BLOCK_BYTES: usize = 64 * 1024;
/// Maximum number of gzip members in one body (RFC 1952, section 2.2). Each costs time, even an empty one of 20 bytes.
const GZIP_MEMBERS_MAX: usize = 64;

/// Decodes a body. `bytes_max` limits the decoded size.
///
/// Calls `reserve` with the size of the decoded data, in bytes, before a body in memory grows; a spooled body is decoded
/// into another anonymous file in `spool_dir`.
///
/// # Errors
/// Fails if the coding is unknown, if the data is invalid, if the decoded body exceeds `bytes_max`, or if `reserve` or the
/// file refuses the bytes.
pub(in crate::http) fn decode(
    body: BodyStorage,
    coding: Option<&str>,
    bytes_max: usize,
    reserve: &mut dyn FnMut(usize) -> Result<(), Error>,
    spool_dir: &Path,
) -> Result<BodyStorage, Error> {
    let coding = coding.unwrap_or("identity").trim().to_ascii_lowercase();
    if coding.is_empty() || coding == "identity" {
        return body.rewound();
    }
    if !matches!(coding.as_str(), "gzip" | "x-gzip" | "deflate") {
        return Err(Error::Unsupported("Content-Encoding must be gzip, deflate or identity".into()));
    }
    match body {
        BodyStorage::Memory(bytes) => {
            let mut decoded = Vec::new();
            inflate(&coding, &mut bytes.as_slice(), bytes_max, |block| {
                reserve(decoded.len() + block.len())?;
                decoded.extend_from_slice(block);
                Ok(())
            })?;
            Ok(BodyStorage::Memory(decoded))
        }
        BodyStorage::File(mut file) => {
            file.rewind().map_err(|why| spool_error(&why))?;
            let mut decoded = anonymous_temp_file(spool_dir).map_err(|why| spool_error(&why))?;
            inflate(&coding, &mut BufReader::new(file), bytes_max, |block| {
                decoded.write_all(block).map_err(|why| spool_error(&why))
            })?;
            BodyStorage::File(decoded).rewound()
        }
    }
}

fn inflate(
    coding: &str,
    coded: &mut dyn BufRead,
    bytes_max: usize,
    mut sink: impl FnMut(&[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let invalid = |_| Error::Invalid(format!("The body is not valid {coding}"));
    let mut block = vec![0; BLOCK_BYTES.min(bytes_max + 1)];
    let mut decoded_bytes = 0;
    let mut read_all = |decoder: &mut dyn Read| loop {
        let read = match decoder.read(&mut block) {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(why) if why.kind() == io::ErrorKind::Interrupted => continue,
            Err(why) => return Err(invalid(why)),
        };
        decoded_bytes += read;
        if decoded_bytes > bytes_max {
            return Err(Error::TooLarge { limit_bytes: bytes_max });
        }
        sink(&block[..read])?;
    };
    if coding == "deflate" {
        // The coding is zlib (RFC 9110, section 8.4.1.2), but some clients send raw deflate.
        let is_zlib = coded.fill_buf().map_err(invalid)?.first() == Some(&0x78);
        return if is_zlib {
            read_all(&mut ZlibDecoder::new(coded))
        } else {
            read_all(&mut DeflateDecoder::new(coded))
        };
    }
    for _ in 0..GZIP_MEMBERS_MAX {
        read_all(&mut GzDecoder::new(&mut *coded))?;
        if coded.fill_buf().map_err(invalid)?.is_empty() {
            return Ok(());
        }
    }
    Err(Error::Invalid(format!("The body has more than {GZIP_MEMBERS_MAX} gzip members")))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::super::body::BodyReader;
    use super::super::head::Framing;
    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zlib(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn raw_deflate(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn decoded(body: BodyStorage, coding: &str, bytes_max: usize) -> Result<Vec<u8>, Error> {
        let mut unlimited = |_| Ok(());
        let body = decode(body, Some(coding), bytes_max, &mut unlimited, &std::env::temp_dir())?;
        match body {
            BodyStorage::Memory(bytes) => Ok(bytes),
            BodyStorage::File(mut file) => {
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes).unwrap();
                Ok(bytes)
            }
        }
    }

    fn spooled(bytes: &[u8]) -> BodyStorage {
        let mut reader =
            BodyReader::new(Framing::Length(bytes.len() as u64), 1 << 20, Some(&std::env::temp_dir())).unwrap();
        assert_eq!(reader.feed(bytes).unwrap(), bytes.len());
        assert_eq!(reader.bytes_in_memory(), 0);
        reader.into_storage()
    }

    #[test]
    fn codings_are_decoded_in_memory_and_in_files() {
        let text = b"hello hello hello".repeat(100);
        for (coded, coding) in [
            (gzip(&text), "gzip"),
            (gzip(&text), " GZIP "),
            (zlib(&text), "deflate"),
            (raw_deflate(&text), "deflate"),
            (text.clone(), "identity"),
        ] {
            assert_eq!(decoded(BodyStorage::Memory(coded.clone()), coding, text.len()).unwrap(), text, "{coding}");
            assert_eq!(decoded(spooled(&coded), coding, text.len()).unwrap(), text, "{coding}");
        }
    }

    #[test]
    fn the_limit_applies_to_decoded_bytes() {
        let bomb = gzip(&vec![0; 10_000_000]);
        for body in [BodyStorage::Memory(bomb.clone()), spooled(&bomb)] {
            assert_eq!(decoded(body, "gzip", 100_000), Err(Error::TooLarge { limit_bytes: 100_000 }));
        }
    }

    #[test]
    fn at_most_64_gzip_members_are_joined() {
        let members = |count| BodyStorage::Memory(gzip(b"abc").repeat(count));
        assert_eq!(decoded(members(GZIP_MEMBERS_MAX), "gzip", 1_000).unwrap(), b"abc".repeat(GZIP_MEMBERS_MAX));
        assert!(matches!(decoded(members(GZIP_MEMBERS_MAX + 1), "gzip", 1_000), Err(Error::Invalid(_))));
        let trailed = [gzip(b"abc"), b"x".to_vec()].concat();
        assert!(matches!(decoded(BodyStorage::Memory(trailed), "gzip", 1_000), Err(Error::Invalid(_))));
    }

    #[test]
    fn invalid_and_unknown_codings_are_rejected() {
        for (bytes, coding) in
            [(b"not gzip".to_vec(), "gzip"), (gzip(b"abc")[..12].to_vec(), "gzip"), (vec![0x78, 1, 2], "deflate")]
        {
            assert!(matches!(decoded(BodyStorage::Memory(bytes), coding, 100), Err(Error::Invalid(_))), "{coding}");
        }
        assert!(matches!(decoded(BodyStorage::Memory(vec![]), "br", 100), Err(Error::Unsupported(_))));
        assert!(matches!(decoded(BodyStorage::Memory(vec![]), "gzip, gzip", 100), Err(Error::Unsupported(_))));
    }
}
