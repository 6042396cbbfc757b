//! Reader for request bodies: framing, the size limit, and storage in memory or in an anonymous file.

use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::chunked::ChunkDecoder;
use super::error::ProtocolError;
use super::head::Framing;
use crate::error::Error;

/// A body that is arriving.
#[derive(Debug)]
pub(in crate::http) struct BodyReader {
    framing: FramingState,
    storage: BodyStorage,
    received_bytes: usize,
    bytes_max: usize,
}

/// The part of a body that has not arrived.
#[derive(Debug)]
enum FramingState {
    /// Remaining bytes.
    Length(u64),
    Chunked(ChunkDecoder),
}

/// The bytes of a body.
#[derive(Debug)]
pub(in crate::http) enum BodyStorage {
    Memory(Vec<u8>),
    File(File),
}

/// The reason why a body was rejected.
#[derive(Debug)]
pub(in crate::http) enum BodyError {
    Protocol(ProtocolError),
    /// The body is too large or cannot be stored.
    Rejected(Error),
}

impl From<ProtocolError> for BodyError {
    fn from(error: ProtocolError) -> Self {
        Self::Protocol(error)
    }
}

impl BodyReader {
    /// Creates a reader for a body of at most `bytes_max` bytes before decoding. With a `spool_dir` the body is stored in
    /// an anonymous file there, otherwise in memory.
    ///
    /// # Errors
    /// [`Error::Storage`] if the file cannot be created.
    pub(in crate::http) fn new(framing: Framing, bytes_max: usize, spool_dir: Option<&Path>) -> Result<Self, Error> {
        let framing = match framing {
            Framing::None => FramingState::Length(0),
            Framing::Length(bytes) => FramingState::Length(bytes),
            Framing::Chunked => FramingState::Chunked(ChunkDecoder::default()),
        };
        let storage = match spool_dir {
            Some(dir) => BodyStorage::File(anonymous_temp_file(dir).map_err(|why| spool_error(&why))?),
            None => BodyStorage::Memory(Vec::new()),
        };
        Ok(Self { framing, storage, received_bytes: 0, bytes_max })
    }

    /// Stores the part of `input` that belongs to the body and returns its length in bytes.
    ///
    /// # Errors
    /// Fails if the body exceeds its limit, if its chunks are malformed, or if its file cannot be written.
    pub(in crate::http) fn feed(&mut self, input: &[u8]) -> Result<usize, BodyError> {
        let Self { framing, storage, received_bytes, bytes_max } = self;
        let mut store = |data: &[u8]| {
            *received_bytes += data.len();
            if *received_bytes > *bytes_max {
                return Err(BodyError::Rejected(Error::TooLarge { limit_bytes: *bytes_max }));
            }
            match storage {
                BodyStorage::Memory(bytes) => bytes.extend_from_slice(data),
                BodyStorage::File(file) => {
                    file.write_all(data).map_err(|why| BodyError::Rejected(spool_error(&why)))?;
                }
            }
            Ok(())
        };
        match framing {
            FramingState::Length(left) => {
                let len = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                store(&input[..len])?;
                *left -= len as u64;
                Ok(len)
            }
            FramingState::Chunked(decoder) => decoder.decode(input, store),
        }
    }

    /// Whether the whole body has arrived.
    pub(in crate::http) fn is_done(&self) -> bool {
        match &self.framing {
            FramingState::Length(left) => *left == 0,
            FramingState::Chunked(decoder) => decoder.is_done(),
        }
    }

    /// Returns the number of bytes that certainly belong to this body and have not arrived.
    pub(in crate::http) fn remaining_bytes(&self) -> usize {
        let bytes = match &self.framing {
            FramingState::Length(left) => *left,
            FramingState::Chunked(decoder) => decoder.remaining_bytes(),
        };
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// Returns the memory that the body takes, in bytes; 0 for a spooled body.
    pub(in crate::http) fn bytes_in_memory(&self) -> usize {
        match &self.storage {
            BodyStorage::Memory(bytes) => bytes.len(),
            BodyStorage::File(_) => 0,
        }
    }

    pub(in crate::http) fn into_storage(self) -> BodyStorage {
        self.storage
    }
}

impl BodyStorage {
    /// Moves a spooled body to its first byte, so that it can be read.
    ///
    /// # Errors
    /// [`Error::Storage`] if the file cannot seek.
    pub(in crate::http) fn rewound(mut self) -> Result<Self, Error> {
        if let Self::File(file) = &mut self {
            file.rewind().map_err(|why| spool_error(&why))?;
        }
        Ok(self)
    }
}

/// Returns the error for a body that could not be spooled to disk.
pub(in crate::http) fn spool_error(why: &io::Error) -> Error {
    Error::Storage(format!("failed to spool a request body to disk: {why}"))
}

/// Creates a file without a name in `dir`. It disappears with its last descriptor, even if the process crashes.
///
/// # Errors
/// Fails if `dir` is not writable.
pub(in crate::http) fn anonymous_temp_file(dir: &Path) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    if let Ok(file) = rustix::fs::open(dir, flags, Mode::RUSR | Mode::WUSR) {
        return Ok(file.into());
    }
    // Some file systems (overlayfs of older kernels, NFS) do not support O_TMPFILE: create a file and unlink it.
    let path: PathBuf = dir.join(format!(".spool-{}-{:?}", std::process::id(), std::thread::current().id()));
    let file = File::options().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_limit_applies_while_the_body_arrives() {
        let mut reader = BodyReader::new(Framing::Chunked, 10, None).unwrap();
        assert!(reader.feed(b"8\r\n12345678\r\n").is_ok());
        assert!(matches!(reader.feed(b"8\r\n123"), Err(BodyError::Rejected(Error::TooLarge { limit_bytes: 10 }))));
        let mut exact = BodyReader::new(Framing::Length(3), 10, None).unwrap();
        assert_eq!(exact.feed(b"abcd").unwrap(), 3);
        assert!(exact.is_done());
    }
}
