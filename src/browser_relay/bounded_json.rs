//! JSON text with a maximum size, so that a small request never becomes a large body in memory.

use std::io;

use serde::Serialize;

use crate::error::{Error, Result};

/// JSON text of at most `bytes_max` bytes.
#[derive(Debug)]
pub(super) struct BoundedJson {
    bytes: Vec<u8>,
    bytes_max: usize,
}

/// The text would exceed its maximum size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

impl BoundedJson {
    /// Creates an empty text with room for `expected_bytes`. A vector that grows takes the allocator's lock at every step.
    pub(super) fn new(expected_bytes: usize, bytes_max: usize) -> Self {
        Self { bytes: Vec::with_capacity(expected_bytes.min(bytes_max)), bytes_max }
    }

    /// Appends a part of the text, or nothing if it does not fit.
    pub(super) fn push(&mut self, part: &str) -> std::result::Result<(), Full> {
        if self.bytes.len() + part.len() > self.bytes_max {
            return Err(Full);
        }
        self.bytes.extend_from_slice(part.as_bytes());
        Ok(())
    }

    /// Appends a value. Returns [`Full`] if it does not fit; the text is then incomplete.
    ///
    /// # Errors
    /// [`Error::Internal`] if the value cannot be serialized.
    pub(super) fn serialize(&mut self, value: &impl Serialize) -> Result<std::result::Result<(), Full>> {
        match serde_json::to_writer(&mut *self, value) {
            Ok(()) => Ok(Ok(())),
            Err(why) if why.is_io() => Ok(Err(Full)),
            Err(why) => Err(Error::Internal(format!("cannot serialize a report: {why}"))),
        }
    }

    /// Returns the bytes of the text.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

impl io::Write for BoundedJson {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + part.len() > self.bytes_max {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(part);
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_never_exceeds_its_maximum_size() {
        let mut json = BoundedJson::new(1_000_000, 10);
        assert!(json.bytes.capacity() < 100);
        assert_eq!((json.push("[12345"), json.push("12345"), json.push(",1")), (Ok(()), Err(Full), Ok(())));
        assert_eq!(json.serialize(&"123").unwrap(), Err(Full));
        assert!(json.into_bytes().len() <= 10);
        let mut json = BoundedJson::new(0, 5);
        assert_eq!(json.serialize(&"123").unwrap(), Ok(()));
        assert_eq!(json.into_bytes(), b"\"123\"");
    }
}
