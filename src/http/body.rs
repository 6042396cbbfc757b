//! A request's body on its way in: framed, held to its limit as it arrives, kept in memory or in an unlinked file,
//! and decoded when it is whole.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use flate2::bufread::{DeflateDecoder, GzDecoder, ZlibDecoder};
use rustix::fs::{Mode, OFlags};

use super::budget::Charge;
use super::message::{ChunkDecoder, Fault, Framing};
use super::request::Content;
use super::response::Response;
use crate::error::Error;

const DECODE_STEP_BYTES: usize = 64 * 1024;
/// gzip may come in several members (RFC 1952, section 2.2). Each takes time, an empty one of 20 bytes as well.
const GZIP_MEMBERS_MAX: usize = 64;

/// A body while it arrives.
#[derive(Debug)]
pub(super) struct Intake {
    framing: Progress,
    content: Content,
    received: usize,
    bytes_max: usize,
}

#[derive(Debug)]
enum Progress {
    Length(u64),
    Chunked(ChunkDecoder),
}

/// Why a body cannot be taken in.
#[derive(Debug)]
pub(super) enum Trouble {
    Fault(Fault),
    Error(Error),
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Trouble> for Response {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Fault(fault) => fault.into(),
            Trouble::Error(error) => error.into(),
        }
    }
}

impl Intake {
    /// A body framed like that. Spooled ones lie in `spool_dir`, in a file without a name.
    pub(super) fn new(framing: Framing, bytes_max: usize, spool_dir: Option<&Path>) -> Result<Self, Error> {
        let framing = match framing {
            Framing::None => Progress::Length(0),
            Framing::Length(bytes) => Progress::Length(bytes),
            Framing::Chunked => Progress::Chunked(ChunkDecoder::default()),
        };
        let content = match spool_dir {
            Some(dir) => Content::File(unlinked_file(dir).map_err(|why| cannot_spool(&why))?),
            None => Content::Memory(Vec::new()),
        };
        Ok(Self { framing, content, received: 0, bytes_max })
    }

    /// Takes what belongs to the body from `input` and answers how much that was.
    pub(super) fn feed(&mut self, input: &[u8]) -> Result<usize, Trouble> {
        let Self { framing, content, received, bytes_max } = self;
        let mut keep = |data: &[u8]| {
            *received += data.len();
            if *received > *bytes_max {
                return Err(Trouble::Error(Error::TooLarge { limit_bytes: *bytes_max }));
            }
            match content {
                Content::Memory(bytes) => bytes.extend_from_slice(data),
                Content::File(file) => file.write_all(data).map_err(|why| Trouble::Error(cannot_spool(&why)))?,
            }
            Ok(())
        };
        match framing {
            Progress::Length(left) => {
                let take = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                keep(&input[..take])?;
                *left -= take as u64;
                Ok(take)
            }
            Progress::Chunked(decoder) => decoder.decode(input, keep),
        }
    }

    pub(super) fn done(&self) -> bool {
        match &self.framing {
            Progress::Length(left) => *left == 0,
            Progress::Chunked(decoder) => decoder.done(),
        }
    }

    /// Bytes that belong to this body for certain and have not arrived.
    pub(super) fn expected_bytes(&self) -> usize {
        let bytes = match &self.framing {
            Progress::Length(left) => *left,
            Progress::Chunked(decoder) => decoder.expected_bytes(),
        };
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// Bytes of memory this body takes.
    pub(super) fn bytes_in_memory(&self) -> usize {
        match &self.content {
            Content::Memory(bytes) => bytes.len(),
            Content::File(_) => 0,
        }
    }

    pub(super) fn into_content(self) -> Content {
        self.content
    }
}

/// Undoes a `Content-Encoding`. The limit counts decoded bytes, and so does the charge while they grow.
pub(super) fn decode(
    content: Content,
    encoding: Option<&str>,
    bytes_max: usize,
    charge: &mut Charge,
    spool_dir: &Path,
) -> Result<Content, Error> {
    let encoding = encoding.unwrap_or("identity").trim().to_ascii_lowercase();
    if encoding.is_empty() || encoding == "identity" {
        return rewound(content);
    }
    if !matches!(encoding.as_str(), "gzip" | "x-gzip" | "deflate") {
        return Err(Error::Unsupported("Content-Encoding may be gzip, deflate or identity".into()));
    }
    match content {
        Content::Memory(bytes) => {
            let before = charge.bytes();
            let mut decoded = Vec::new();
            expand(&encoding, &mut bytes.as_slice(), bytes_max, |step| {
                charge.set(before + decoded.len() + step.len()).map_err(|_| Error::Busy("Too many bytes in flight"))?;
                decoded.extend_from_slice(step);
                Ok(())
            })?;
            Ok(Content::Memory(decoded))
        }
        Content::File(mut file) => {
            file.rewind().map_err(|why| cannot_spool(&why))?;
            let mut decoded = unlinked_file(spool_dir).map_err(|why| cannot_spool(&why))?;
            expand(&encoding, &mut BufReader::new(file), bytes_max, |step| {
                decoded.write_all(step).map_err(|why| cannot_spool(&why))
            })?;
            rewound(Content::File(decoded))
        }
    }
}

fn rewound(mut content: Content) -> Result<Content, Error> {
    if let Content::File(file) = &mut content {
        file.rewind().map_err(|why| cannot_spool(&why))?;
    }
    Ok(content)
}

fn expand(
    encoding: &str,
    coded: &mut dyn BufRead,
    bytes_max: usize,
    mut sink: impl FnMut(&[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let invalid = |_| Error::Invalid(format!("The body is not valid {encoding}"));
    let mut step = vec![0; DECODE_STEP_BYTES.min(bytes_max + 1)];
    let mut total = 0;
    let mut inflate = |decoder: &mut dyn Read| loop {
        let read = match decoder.read(&mut step) {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(why) if why.kind() == io::ErrorKind::Interrupted => continue,
            Err(why) => return Err(invalid(why)),
        };
        total += read;
        if total > bytes_max {
            return Err(Error::TooLarge { limit_bytes: bytes_max });
        }
        sink(&step[..read])?;
    };
    if encoding == "deflate" {
        // It is zlib (RFC 9110, section 8.4.1.2), but some clients send it without the wrapper.
        let wrapped = coded.fill_buf().map_err(invalid)?.first() == Some(&0x78);
        return if wrapped { inflate(&mut ZlibDecoder::new(coded)) } else { inflate(&mut DeflateDecoder::new(coded)) };
    }
    for _ in 0..GZIP_MEMBERS_MAX {
        inflate(&mut GzDecoder::new(&mut *coded))?;
        if coded.fill_buf().map_err(invalid)?.is_empty() {
            return Ok(());
        }
    }
    Err(Error::Invalid(format!("The body has more than {GZIP_MEMBERS_MAX} gzip members")))
}

fn cannot_spool(why: &io::Error) -> Error {
    Error::Storage(format!("a body cannot be kept on disk while it arrives: {why}"))
}

/// A file in `dir` that has no name, and so is gone with its descriptor, whatever happens to the process.
fn unlinked_file(dir: &Path) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    if let Ok(file) = rustix::fs::open(dir, flags, Mode::RUSR | Mode::WUSR) {
        return Ok(file.into());
    }
    // Some file systems (overlayfs of older kernels, NFS) have no nameless files: make one and take its name away.
    let path: PathBuf = dir.join(format!(".spool-{}-{:?}", std::process::id(), std::thread::current().id()));
    let file = File::options().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::IpAddr;

    use super::super::budget::Budget;
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

    fn decoded(content: Content, encoding: &str, bytes_max: usize) -> Result<Vec<u8>, Error> {
        let mut charge = Budget::default().charge(IpAddr::from([127, 0, 0, 1]));
        let content = decode(content, Some(encoding), bytes_max, &mut charge, &std::env::temp_dir())?;
        match content {
            Content::Memory(bytes) => Ok(bytes),
            Content::File(mut file) => {
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes).unwrap();
                Ok(bytes)
            }
        }
    }

    fn spooled(bytes: &[u8]) -> Content {
        let mut intake =
            Intake::new(Framing::Length(bytes.len() as u64), 1 << 20, Some(&std::env::temp_dir())).unwrap();
        assert_eq!(intake.feed(bytes).unwrap(), bytes.len());
        assert_eq!(intake.bytes_in_memory(), 0);
        intake.into_content()
    }

    #[test]
    fn encodings_are_undone_in_memory_and_in_files() {
        let text = b"hello hello hello".repeat(100);
        for (coded, encoding) in [
            (gzip(&text), "gzip"),
            (gzip(&text), " GZIP "),
            (zlib(&text), "deflate"),
            (raw_deflate(&text), "deflate"),
            (text.clone(), "identity"),
        ] {
            assert_eq!(decoded(Content::Memory(coded.clone()), encoding, text.len()).unwrap(), text, "{encoding}");
            assert_eq!(decoded(spooled(&coded), encoding, text.len()).unwrap(), text, "{encoding}");
        }
    }

    #[test]
    fn the_limit_counts_decoded_bytes() {
        let bomb = gzip(&vec![0; 10_000_000]);
        for content in [Content::Memory(bomb.clone()), spooled(&bomb)] {
            assert_eq!(decoded(content, "gzip", 100_000), Err(Error::TooLarge { limit_bytes: 100_000 }));
        }
    }

    #[test]
    fn members_of_gzip_are_joined_while_they_are_few() {
        let members = |count| Content::Memory(gzip(b"abc").repeat(count));
        assert_eq!(decoded(members(GZIP_MEMBERS_MAX), "gzip", 1_000).unwrap(), b"abc".repeat(GZIP_MEMBERS_MAX));
        assert!(matches!(decoded(members(GZIP_MEMBERS_MAX + 1), "gzip", 1_000), Err(Error::Invalid(_))));
        let trailed = [gzip(b"abc"), b"x".to_vec()].concat();
        assert!(matches!(decoded(Content::Memory(trailed), "gzip", 1_000), Err(Error::Invalid(_))));
    }

    #[test]
    fn broken_and_unknown_encodings_are_refused() {
        for (bytes, encoding) in
            [(b"not gzip".to_vec(), "gzip"), (gzip(b"abc")[..12].to_vec(), "gzip"), (vec![0x78, 1, 2], "deflate")]
        {
            assert!(matches!(decoded(Content::Memory(bytes), encoding, 100), Err(Error::Invalid(_))), "{encoding}");
        }
        assert!(matches!(decoded(Content::Memory(vec![]), "br", 100), Err(Error::Unsupported(_))));
        assert!(matches!(decoded(Content::Memory(vec![]), "gzip, gzip", 100), Err(Error::Unsupported(_))));
    }

    #[test]
    fn a_body_is_held_to_its_limit_while_it_arrives() {
        let mut intake = Intake::new(Framing::Chunked, 10, None).unwrap();
        assert!(intake.feed(b"8\r\n12345678\r\n").is_ok());
        assert!(matches!(intake.feed(b"8\r\n123"), Err(Trouble::Error(Error::TooLarge { limit_bytes: 10 }))));
        let mut exact = Intake::new(Framing::Length(3), 10, None).unwrap();
        assert_eq!(exact.feed(b"abcd").unwrap(), 3);
        assert!(exact.done());
    }
}
