//! Cursor over the bytes of a text that is parsed from left to right. It is copied to try an alternative.

#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor<'t>(&'t [u8]);

impl<'t> Cursor<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self(text.as_bytes())
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// Returns the bytes up to the next space or tab.
    pub(super) fn word(&self) -> &'t [u8] {
        let end = self.0.iter().position(|byte| b" \t".contains(byte)).unwrap_or(self.0.len());
        &self.0[..end]
    }

    /// Returns the number of leading digits.
    pub(super) fn count_digits(&self) -> usize {
        self.0.iter().take_while(|byte| byte.is_ascii_digit()).count()
    }

    /// Consumes a number of this many digits, of which no further one follows; at most 18.
    pub(super) fn number(&mut self, digits: std::ops::RangeInclusive<usize>) -> Option<i64> {
        let count = self.count_digits();
        if !digits.contains(&count) {
            return None;
        }
        self.leading_number(count)
    }

    /// Consumes the next `count` digits.
    pub(super) fn leading_number(&mut self, count: usize) -> Option<i64> {
        let digits = self.0.get(..count)?;
        let number = digits.iter().try_fold(0_i64, |number, byte| {
            byte.is_ascii_digit().then(|| number.checked_mul(10)?.checked_add(i64::from(byte - b'0')))?
        })?;
        self.0 = &self.0[count..];
        Some(number)
    }

    /// Consumes the next byte if it is one of these, and returns it.
    pub(super) fn one_of(&mut self, bytes: &[u8]) -> Option<u8> {
        let byte = self.peek().filter(|byte| bytes.contains(byte))?;
        self.0 = &self.0[1..];
        Some(byte)
    }

    /// Consumes a text if it follows. Returns whether it did.
    pub(super) fn skip(&mut self, text: &[u8]) -> bool {
        let rest = self.0.strip_prefix(text);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    /// Consumes spaces. Returns whether there were any.
    pub(super) fn skip_spaces(&mut self) -> bool {
        let count = self.0.iter().take_while(|byte| **byte == b' ').count();
        self.0 = &self.0[count..];
        count > 0
    }

    /// Consumes all letters that follow and returns them.
    pub(super) fn letters(&mut self) -> &'t [u8] {
        let (letters, rest) = self.0.split_at(self.0.iter().take_while(|byte| byte.is_ascii_alphabetic()).count());
        self.0 = rest;
        letters
    }

    /// Consumes `.5` or `,5`, a fraction of a second, and returns it in nanoseconds; 0 if there is none. Digits after the
    /// ninth are dropped.
    pub(super) fn fraction_ns(&mut self) -> i64 {
        let mut after = *self;
        if after.one_of(b".,").is_none() || after.count_digits() == 0 {
            return 0;
        }
        let count = after.count_digits();
        let (digits, rest) = after.0.split_at(count);
        self.0 = rest;
        let digit = |index: usize| digits.get(index).map_or(0, |byte| i64::from(byte - b'0'));
        (0..9).fold(0, |ns, index| ns * 10 + digit(index))
    }

    /// Whether the text ends here, or neither a letter nor a digit follows.
    pub(super) fn is_at_word_end(&self) -> bool {
        self.peek().is_none_or(|byte| !byte.is_ascii_alphanumeric())
    }
}
