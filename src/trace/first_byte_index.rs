//! Index of the rules of a table by the first byte of the texts that they can match.

/// For each first byte, the rules that can match. Most lines of a log match none, so they cost one table lookup.
pub struct FirstByteIndex {
    /// One bit for each rule, the lowest for the first.
    rules: [u64; 256],
}

impl FirstByteIndex {
    /// An index without rules.
    pub const EMPTY: Self = Self { rules: [0; 256] };

    /// Adds the rule with a position in the table, below 64, by the first bytes of the texts that it can match.
    #[must_use]
    pub const fn with(mut self, position: usize, first_bytes: &[u8]) -> Self {
        assert!(position < u64::BITS as usize);
        let mut at = 0;
        while at < first_bytes.len() {
            self.rules[first_bytes[at] as usize] |= 1 << position;
            at += 1;
        }
        self
    }

    /// Returns the positions of the rules that can match a text, in the order of the table.
    pub fn candidates(&self, text: &str) -> impl Iterator<Item = usize> + use<> {
        let mut rules = text.as_bytes().first().map_or(0, |first| self.rules[usize::from(*first)]);
        std::iter::from_fn(move || {
            let next = (rules != 0).then(|| rules.trailing_zeros() as usize);
            rules &= rules.wrapping_sub(1);
            next
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rules_for_the_first_byte_are_candidates() {
        static INDEX: FirstByteIndex = FirstByteIndex::EMPTY.with(0, b"ab").with(5, b"b").with(63, b"bc");
        for (text, expected) in [("", &[][..]), ("d", &[]), ("a", &[0]), ("bx", &[0, 5, 63]), ("c", &[63])] {
            assert_eq!(INDEX.candidates(text).collect::<Vec<_>>(), expected, "{text}");
        }
    }
}
