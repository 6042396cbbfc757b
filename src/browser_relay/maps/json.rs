//! JSON read as a stream: values are visited where they stand and strings come in chunks, so that a document of 5 MB
//! takes the memory of a small buffer. `serde_json` would make every string whole first, and a map is mostly one string.
//!
//! Strict where a map is at stake (brackets, commas, escapes, types of what is asked for), lenient where nothing is:
//! raw control characters in strings pass, and what is skipped needs no more than balanced brackets.

use std::io::Read;
use std::ops::Range;

use crate::error::{Error, Result};

/// Bytes read at once.
const BUFFER_BYTES: usize = 32 * 1024;
/// Brackets that what is skipped may open one in another.
const SKIPPED_DEPTH_MAX: usize = 2_000;
/// Bytes of a member's name that are kept; those that mean something are shorter.
const KEY_BYTES_MAX: usize = 64;

/// A reader of one document.
pub(in crate::browser_relay) struct Json<R> {
    from: R,
    buffer: Vec<u8>,
    at: usize,
    /// Bytes of the document before the buffer.
    before: u64,
    /// What the document is called in refusals.
    what: &'static str,
}

/// What stands next in a string.
enum Piece {
    /// Bytes of the buffer as they are.
    Raw(Range<usize>),
    /// What an escape stands for, in UTF-8: at most a replacement character and another.
    Decoded([u8; 8], usize),
    End,
}

/// Where in a string a reader is: the first half of a surrogate pair may be behind it.
#[derive(Default)]
struct InString {
    high: Option<u32>,
}

impl<R: Read> Json<R> {
    /// Reads what is called `what` in refusals: `source map`, `body`.
    pub(in crate::browser_relay) fn new(from: R, what: &'static str) -> Self {
        Self { from, buffer: Vec::with_capacity(BUFFER_BYTES), at: 0, before: 0, what }
    }

    /// Visits the members of an object.
    ///
    /// # Errors
    /// [`Error::Invalid`] where there is none or it is malformed, and what the visitor answers.
    pub(in crate::browser_relay) fn object(
        &mut self,
        mut member: impl FnMut(&mut Self, &str) -> Result<()>,
    ) -> Result<()> {
        self.expect(b'{', "an object")?;
        let mut key = Vec::new();
        self.items(b'}', |json| {
            key.clear();
            json.string(|chunk| {
                let room = KEY_BYTES_MAX - key.len();
                key.extend_from_slice(&chunk[..chunk.len().min(room)]);
                Ok(())
            })?;
            json.expect(b':', "a colon")?;
            member(json, &String::from_utf8_lossy(&key))
        })
    }

    /// Goes to the value of an object's member, which stands next then; answers whether there is one.
    ///
    /// # Errors
    /// As [`Json::object`].
    pub(super) fn find(&mut self, member: &str) -> Result<bool> {
        self.expect(b'{', "an object")?;
        loop {
            if self.next()? == b'}' {
                return Ok(false);
            }
            let key = self.text(KEY_BYTES_MAX)?;
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

    /// Visits the items of an array.
    ///
    /// # Errors
    /// As [`Json::object`].
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

    /// Passes a string on in chunks, unescaped. What is no character (half a surrogate pair) becomes U+FFFD.
    ///
    /// # Errors
    /// As [`Json::object`].
    pub(super) fn string(&mut self, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        self.expect(b'"', "a string")?;
        let mut state = InString::default();
        loop {
            match self.piece(&mut state, usize::MAX)? {
                Piece::Raw(range) => take(&self.buffer[range])?,
                Piece::Decoded(bytes, length) => take(&bytes[..length])?,
                Piece::End => return Ok(()),
            }
        }
    }

    /// A string of which at most so many bytes are kept.
    ///
    /// # Errors
    /// As [`Json::object`].
    pub(in crate::browser_relay) fn text(&mut self, bytes_max: usize) -> Result<String> {
        let mut text = Vec::new();
        self.string(|chunk| {
            text.extend_from_slice(&chunk[..chunk.len().min(bytes_max - text.len())]);
            Ok(())
        })?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// A whole number from 0 on; `None` for any other number.
    ///
    /// # Errors
    /// [`Error::Invalid`] where there is no number.
    pub(super) fn whole(&mut self) -> Result<Option<u64>> {
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
        let number: f64 = digits.parse().map_err(|_| self.malformed("a number is wrong"))?;
        let whole = (0.0..=9e15).contains(&number) && number.fract() == 0.0;
        Ok(whole.then_some(number as u64))
    }

    /// Whether `null` stands next, which is then passed.
    ///
    /// # Errors
    /// As [`Json::object`].
    pub(super) fn null(&mut self) -> Result<bool> {
        let null = self.next()? == b'n';
        if null {
            self.skip()?;
        }
        Ok(null)
    }

    /// Passes any value.
    ///
    /// # Errors
    /// [`Error::Invalid`] where brackets do not match or there are too many of them.
    pub(in crate::browser_relay) fn skip(&mut self) -> Result<()> {
        let mut open = Vec::new();
        loop {
            match self.next()? {
                b'"' => self.string(|_| Ok(()))?,
                bracket @ (b'{' | b'[') => {
                    if open.len() == SKIPPED_DEPTH_MAX {
                        return Err(self.malformed("brackets are too deep"));
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
                _ => return Err(self.malformed("there is no value")),
            }
            if open.is_empty() {
                return Ok(());
            }
        }
    }

    /// Makes sure that nothing but blanks is left.
    ///
    /// # Errors
    /// [`Error::Invalid`] where something is.
    pub(in crate::browser_relay) fn end(&mut self) -> Result<()> {
        match self.blank()? {
            None => Ok(()),
            Some(_) => Err(self.malformed("something follows its end")),
        }
    }

    /// The next byte that is not blank, which is not passed.
    ///
    /// # Errors
    /// [`Error::Invalid`] at the end of the document.
    pub(in crate::browser_relay) fn next(&mut self) -> Result<u8> {
        self.blank()?.ok_or_else(|| self.malformed("it ends too early"))
    }

    /// Passes the next byte, whatever it is.
    pub(super) fn pass(&mut self) {
        self.at += 1;
    }

    fn blank(&mut self) -> Result<Option<u8>> {
        while self.peek()?.is_some_and(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
        self.peek()
    }

    #[inline]
    pub(super) fn peek(&mut self) -> Result<Option<u8>> {
        if self.at == self.buffer.len() {
            self.fill()?;
        }
        Ok(self.buffer.get(self.at).copied())
    }

    fn fill(&mut self) -> Result<()> {
        self.before += self.buffer.len() as u64;
        self.buffer.clear();
        self.at = 0;
        let read = self.from.by_ref().take(BUFFER_BYTES as u64).read_to_end(&mut self.buffer);
        read.map(drop).map_err(|why| match why.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            // Of a document within a document.
            Some(inner) => inner.clone(),
            None => Error::Storage(format!("a spooled {} cannot be read: {why}", self.what)),
        })
    }

    fn expect(&mut self, byte: u8, what: &str) -> Result<()> {
        if self.next()? != byte {
            return Err(self.malformed(&format!("{what} is missing")));
        }
        self.at += 1;
        Ok(())
    }

    fn piece(&mut self, state: &mut InString, bytes_max: usize) -> Result<Piece> {
        let Some(byte) = self.peek()? else { return Err(self.malformed("a string has no end")) };
        match byte {
            b'\\' => self.escape(state),
            _ if state.high.take().is_some() => Ok(decoded(&['\u{fffd}'])),
            b'"' => {
                self.at += 1;
                Ok(Piece::End)
            }
            _ => {
                let rest = &self.buffer[self.at..];
                let length = memchr::memchr2(b'"', b'\\', rest).unwrap_or(rest.len()).min(bytes_max);
                self.at += length;
                Ok(Piece::Raw(self.at - length..self.at))
            }
        }
    }

    fn escape(&mut self, state: &mut InString) -> Result<Piece> {
        self.at += 1;
        let byte = self.peek()?.unwrap_or_default();
        self.at += 1;
        let code = match byte {
            b'u' => self.hex()?,
            b'n' => 0x0a,
            b't' => 0x09,
            b'r' => 0x0d,
            b'b' => 0x08,
            b'f' => 0x0c,
            b'"' | b'\\' | b'/' => u32::from(byte),
            _ => return Err(self.malformed("an escape is wrong")),
        };
        let high = state.high.take();
        Ok(match (high, code) {
            (Some(high), 0xdc00..=0xdfff) => {
                decoded(&[char::from_u32(0x1_0000 + ((high - 0xd800) << 10) + (code - 0xdc00)).unwrap_or('\u{fffd}')])
            }
            (high, 0xd800..=0xdbff) => {
                state.high = Some(code);
                decoded(if high.is_some() { &['\u{fffd}'] } else { &[] })
            }
            (None, code) => decoded(&[char::from_u32(code).unwrap_or('\u{fffd}')]),
            (Some(_), code) => decoded(&['\u{fffd}', char::from_u32(code).unwrap_or('\u{fffd}')]),
        })
    }

    fn hex(&mut self) -> Result<u32> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.peek()?.and_then(|byte| char::from(byte).to_digit(16));
            code = code << 4 | digit.ok_or_else(|| self.malformed("an escape is wrong"))?;
            self.at += 1;
        }
        Ok(code)
    }

    fn malformed(&self, what: &str) -> Error {
        Error::Invalid(format!("The {} is not JSON at byte {}: {what}", self.what, self.before + self.at as u64))
    }
}

fn decoded(characters: &[char]) -> Piece {
    let mut bytes = [0; 8];
    let mut length = 0;
    for character in characters {
        length += character.encode_utf8(&mut bytes[length..]).len();
    }
    Piece::Decoded(bytes, length)
}

/// The contents of a string as a document of their own: a map is often sent as a string within JSON.
pub(in crate::browser_relay) struct StringReader<R> {
    json: Json<R>,
    state: InString,
    /// Bytes of an escape that did not fit.
    left: Vec<u8>,
    ended: bool,
}

impl<R: Read> StringReader<R> {
    /// Reads the string that stands next.
    ///
    /// # Errors
    /// [`Error::Invalid`] where none does.
    pub(in crate::browser_relay) fn new(mut json: Json<R>) -> Result<Self> {
        json.expect(b'"', "a string")?;
        Ok(Self { json, state: InString::default(), left: Vec::new(), ended: false })
    }
}

impl<R: Read> Read for StringReader<R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        while self.left.is_empty() && !self.ended && !into.is_empty() {
            match self.json.piece(&mut self.state, into.len()).map_err(std::io::Error::other)? {
                Piece::Raw(range) => {
                    let length = range.len();
                    into[..length].copy_from_slice(&self.json.buffer[range]);
                    return Ok(length);
                }
                Piece::Decoded(bytes, length) => self.left.extend_from_slice(&bytes[..length]),
                Piece::End => self.ended = true,
            }
        }
        let length = self.left.len().min(into.len());
        into[..length].copy_from_slice(&self.left[..length]);
        self.left.drain(..length);
        Ok(length)
    }
}
