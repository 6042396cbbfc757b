//! Streaming JSON reader for source maps and the uploads that contain them.
//!
//! Visits values in document order and returns strings in chunks, so that a document of several megabytes needs only a
//! small buffer. [`crate::json`] parses the small bodies of reports: it needs the whole body in memory and reads each
//! string at once, which a map, whose `mappings` are one long string, makes too expensive.
//!
//! The reader is strict about values that are used (brackets, commas, escape sequences, types). It is lenient about the
//! rest, because bundlers differ: strings may contain raw control characters, and skipped values need only balanced
//! brackets.

use std::io::Read;
use std::ops::Range;

use crate::error::{Error, Result};

/// Size of the read buffer.
const BUFFER_BYTES: usize = 32 * 1024;
/// Maximum nesting of a skipped value.
const SKIPPED_DEPTH_MAX: usize = 2_000;
/// Bytes of a member's name that are kept. All names that the callers know are shorter.
const KEY_BYTES_MAX: usize = 64;

/// Reader of one document.
pub(in crate::browser_relay) struct JsonReader<R> {
    inner: R,
    buffer: Vec<u8>,
    /// Position of the next byte in `buffer`.
    at: usize,
    /// Length of the document before the buffer.
    bytes_before: u64,
    /// Name of the document in error messages.
    document: &'static str,
}

/// The next part of a string.
enum StringPart {
    /// Bytes of the buffer without escape sequences.
    Raw(Range<usize>),
    /// The UTF-8 bytes of an escape sequence and their number: at most two characters.
    Decoded([u8; 8], usize),
    End,
}

/// State of decoding a string.
#[derive(Default)]
struct StringState {
    /// A high surrogate that waits for its low surrogate.
    high_surrogate: Option<u32>,
}

impl<R: Read> JsonReader<R> {
    /// Creates a reader. `document` is the name of the document in error messages.
    pub(in crate::browser_relay) fn new(inner: R, document: &'static str) -> Self {
        Self { inner, buffer: Vec::with_capacity(BUFFER_BYTES), at: 0, bytes_before: 0, document }
    }

    /// Calls `member` with the name of each member of an object; it must read or skip the value.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the next value is not an object or is malformed, and the errors of `member`.
    pub(in crate::browser_relay) fn object(
        &mut self,
        mut member: impl FnMut(&mut Self, &str) -> Result<()>,
    ) -> Result<()> {
        self.expect(b'{', "an object")?;
        let mut key = Vec::new();
        self.items(b'}', |json| {
            key.clear();
            json.string(|chunk| {
                key.extend_from_slice(&chunk[..chunk.len().min(KEY_BYTES_MAX - key.len())]);
                Ok(())
            })?;
            json.expect(b':', "a colon")?;
            member(json, &String::from_utf8_lossy(&key))
        })
    }

    /// Advances to the value of an object's member. Returns `false` if the object lacks the member.
    ///
    /// # Errors
    /// See [`JsonReader::object`].
    pub(super) fn find_member(&mut self, member: &str) -> Result<bool> {
        self.expect(b'{', "an object")?;
        loop {
            if self.next()? == b'}' {
                return Ok(false);
            }
            let key = self.string_prefix(KEY_BYTES_MAX)?;
            self.expect(b':', "a colon")?;
            if key == member {
                return Ok(true);
            }
            self.skip()?;
            if self.next()? == b',' {
                self.at += 1;
            }
        }
    }

    /// Calls `item` for each item of an array; it must read or skip the value.
    ///
    /// # Errors
    /// See [`JsonReader::object`].
    pub(super) fn array(&mut self, item: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        self.expect(b'[', "an array")?;
        self.items(b']', item)
    }

    fn items(&mut self, end: u8, mut item: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        if self.next()? == end {
            self.at += 1;
            return Ok(());
        }
        loop {
            item(self)?;
            match self.next()? {
                b',' => self.at += 1,
                byte if byte == end => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(self.malformed("a comma or a closing bracket is missing")),
            }
        }
    }

    /// Calls `sink` with the chunks of a string, unescaped. Unpaired surrogates become U+FFFD.
    ///
    /// # Errors
    /// See [`JsonReader::object`].
    pub(super) fn string(&mut self, mut sink: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        self.expect(b'"', "a string")?;
        let mut state = StringState::default();
        loop {
            match self.string_part(&mut state, usize::MAX)? {
                StringPart::Raw(range) => sink(&self.buffer[range])?,
                StringPart::Decoded(bytes, length) => sink(&bytes[..length])?,
                StringPart::End => return Ok(()),
            }
        }
    }

    /// Reads a string and returns at most its first `bytes_max` bytes.
    ///
    /// # Errors
    /// See [`JsonReader::object`].
    pub(in crate::browser_relay) fn string_prefix(&mut self, bytes_max: usize) -> Result<String> {
        let mut prefix = Vec::new();
        self.string(|chunk| {
            prefix.extend_from_slice(&chunk[..chunk.len().min(bytes_max - prefix.len())]);
            Ok(())
        })?;
        Ok(String::from_utf8_lossy(&prefix).into_owned())
    }

    /// Reads an integer. Returns `None` if the number is negative or has a fraction.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the next value is not a number.
    pub(super) fn unsigned(&mut self) -> Result<Option<u64>> {
        let number: f64 = self.number_text()?.parse().map_err(|_| self.malformed("a number is malformed"))?;
        let is_unsigned = (0.0..=9e15).contains(&number) && number.fract() == 0.0;
        Ok(is_unsigned.then_some(number as u64))
    }

    /// Reads a number and returns at most its first 32 bytes as they are written.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the next value is not a number.
    pub(super) fn number_text(&mut self) -> Result<String> {
        let mut digits = String::new();
        if !matches!(self.next()?, b'-' | b'0'..=b'9') {
            return Err(self.malformed("a number is missing"));
        }
        while let Some(byte @ (b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9')) = self.peek()? {
            self.at += 1;
            if digits.len() < 32 {
                digits.push(char::from(byte));
            }
        }
        Ok(digits)
    }

    /// Skips the next value if it is `null`. Returns whether it was.
    ///
    /// # Errors
    /// See [`JsonReader::object`].
    pub(super) fn skip_null(&mut self) -> Result<bool> {
        let is_null = self.next()? == b'n';
        if is_null {
            self.skip()?;
        }
        Ok(is_null)
    }

    /// Skips the next value, whatever it is.
    ///
    /// # Errors
    /// [`Error::Invalid`] if brackets do not match or are nested too deeply.
    pub(in crate::browser_relay) fn skip(&mut self) -> Result<()> {
        let mut open = Vec::new();
        loop {
            match self.next()? {
                b'"' => self.string(|_| Ok(()))?,
                bracket @ (b'{' | b'[') => {
                    if open.len() == SKIPPED_DEPTH_MAX {
                        return Err(self.malformed("brackets are nested too deeply"));
                    }
                    open.push(bracket + 2);
                    self.at += 1;
                }
                bracket @ (b'}' | b']') => {
                    if open.pop() != Some(bracket) {
                        return Err(self.malformed("brackets do not match"));
                    }
                    self.at += 1;
                }
                b',' | b':' if !open.is_empty() => self.at += 1,
                byte if byte.is_ascii_alphanumeric() || byte == b'-' => {
                    while self.peek()?.is_some_and(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte)) {
                        self.at += 1;
                    }
                }
                _ => return Err(self.malformed("a value is missing")),
            }
            if open.is_empty() {
                return Ok(());
            }
        }
    }

    /// Checks that only whitespace follows.
    ///
    /// # Errors
    /// [`Error::Invalid`] if anything else follows.
    pub(in crate::browser_relay) fn end(&mut self) -> Result<()> {
        match self.skip_whitespace()? {
            None => Ok(()),
            Some(_) => Err(self.malformed("unexpected data follows its end")),
        }
    }

    /// Skips whitespace and returns the next byte without consuming it.
    ///
    /// # Errors
    /// [`Error::Invalid`] at the end of the document.
    pub(in crate::browser_relay) fn next(&mut self) -> Result<u8> {
        self.skip_whitespace()?.ok_or_else(|| self.malformed("it ends too early"))
    }

    /// Consumes the byte that [`JsonReader::peek`] returned.
    pub(super) fn skip_byte(&mut self) {
        self.at += 1;
    }

    /// Skips whitespace and returns the next byte, or `None` at the end of the document.
    fn skip_whitespace(&mut self) -> Result<Option<u8>> {
        while self.peek()?.is_some_and(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
        self.peek()
    }

    /// Returns the next byte without consuming it, or `None` at the end of the document.
    ///
    /// # Errors
    /// [`Error::Storage`] if the document cannot be read.
    #[inline]
    pub(super) fn peek(&mut self) -> Result<Option<u8>> {
        if self.at == self.buffer.len() {
            self.fill()?;
        }
        Ok(self.buffer.get(self.at).copied())
    }

    fn fill(&mut self) -> Result<()> {
        self.bytes_before += self.buffer.len() as u64;
        self.buffer.clear();
        self.at = 0;
        let read = self.inner.by_ref().take(BUFFER_BYTES as u64).read_to_end(&mut self.buffer);
        read.map(drop).map_err(|why| match why.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            // An error of the outer document, if this one is inside one of its strings.
            Some(outer) => outer.clone(),
            None => Error::Storage(format!("cannot read a spooled {}: {why}", self.document)),
        })
    }

    fn expect(&mut self, byte: u8, name: &str) -> Result<()> {
        if self.next()? != byte {
            return Err(self.malformed(&format!("{name} is missing")));
        }
        self.at += 1;
        Ok(())
    }

    /// Returns the next part of a string; a raw part has at most `bytes_max` bytes.
    fn string_part(&mut self, state: &mut StringState, bytes_max: usize) -> Result<StringPart> {
        let Some(byte) = self.peek()? else { return Err(self.malformed("a string is not terminated")) };
        match byte {
            b'\\' => self.escape_sequence(state),
            _ if state.high_surrogate.take().is_some() => Ok(decoded(&['\u{fffd}'])),
            b'"' => {
                self.at += 1;
                Ok(StringPart::End)
            }
            _ => {
                let rest = &self.buffer[self.at..];
                let length = memchr::memchr2(b'"', b'\\', rest).unwrap_or(rest.len()).min(bytes_max);
                self.at += length;
                Ok(StringPart::Raw(self.at - length..self.at))
            }
        }
    }

    fn escape_sequence(&mut self, state: &mut StringState) -> Result<StringPart> {
        self.at += 1;
        let byte = self.peek()?.unwrap_or_default();
        self.at += 1;
        let code = match byte {
            b'u' => self.hex_digits()?,
            b'n' => 0x0a,
            b't' => 0x09,
            b'r' => 0x0d,
            b'b' => 0x08,
            b'f' => 0x0c,
            b'"' | b'\\' | b'/' => u32::from(byte),
            _ => return Err(self.malformed("an escape sequence is invalid")),
        };
        Ok(match (state.high_surrogate.take(), code) {
            (Some(high), 0xdc00..=0xdfff) => {
                decoded(&[char::from_u32(0x1_0000 + ((high - 0xd800) << 10) + (code - 0xdc00)).unwrap_or('\u{fffd}')])
            }
            (high, 0xd800..=0xdbff) => {
                state.high_surrogate = Some(code);
                decoded(if high.is_some() { &['\u{fffd}'] } else { &[] })
            }
            (None, code) => decoded(&[char::from_u32(code).unwrap_or('\u{fffd}')]),
            (Some(_), code) => decoded(&['\u{fffd}', char::from_u32(code).unwrap_or('\u{fffd}')]),
        })
    }

    /// Reads the four digits of a `\u` sequence.
    fn hex_digits(&mut self) -> Result<u32> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.peek()?.and_then(|byte| char::from(byte).to_digit(16));
            code = code << 4 | digit.ok_or_else(|| self.malformed("an escape sequence is invalid"))?;
            self.at += 1;
        }
        Ok(code)
    }

    fn malformed(&self, problem: &str) -> Error {
        let position = self.bytes_before + self.at as u64;
        Error::Invalid(format!("The {} is not JSON at byte {position}: {problem}", self.document))
    }
}

fn decoded(characters: &[char]) -> StringPart {
    let mut bytes = [0; 8];
    let mut length = 0;
    for character in characters {
        length += character.encode_utf8(&mut bytes[length..]).len();
    }
    StringPart::Decoded(bytes, length)
}

/// Reader of the unescaped bytes of a string, for a document inside a JSON string.
pub(in crate::browser_relay) struct StringReader<R> {
    json: JsonReader<R>,
    state: StringState,
    /// Bytes of an escape sequence that did not fit into the caller's buffer.
    pending: Vec<u8>,
    is_finished: bool,
}

impl<R: Read> StringReader<R> {
    /// Creates a reader of the next value, which must be a string.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the next value is not a string.
    pub(in crate::browser_relay) fn new(mut json: JsonReader<R>) -> Result<Self> {
        json.expect(b'"', "a string")?;
        Ok(Self { json, state: StringState::default(), pending: Vec::new(), is_finished: false })
    }
}

impl<R: Read> Read for StringReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.pending.is_empty() && !self.is_finished && !buffer.is_empty() {
            match self.json.string_part(&mut self.state, buffer.len()).map_err(std::io::Error::other)? {
                StringPart::Raw(range) => {
                    let length = range.len();
                    buffer[..length].copy_from_slice(&self.json.buffer[range]);
                    return Ok(length);
                }
                StringPart::Decoded(bytes, length) => self.pending.extend_from_slice(&bytes[..length]),
                StringPart::End => self.is_finished = true,
            }
        }
        let length = self.pending.len().min(buffer.len());
        buffer[..length].copy_from_slice(&self.pending[..length]);
        self.pending.drain(..length);
        Ok(length)
    }
}
