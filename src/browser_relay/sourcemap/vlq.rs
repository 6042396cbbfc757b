//! Decoder for the `mappings` of a source map (ECMA-426, "Mappings grammar").
//!
//! Segments of one, four or five Base64 VLQ numbers, each relative to the previous segment, are separated by commas;
//! lines are separated by semicolons. The decoder accepts the string in chunks of any size.

use crate::error::{Error, Result};

/// Index of a mapping without a source or without a name.
pub(super) const NO_INDEX: u32 = u32::MAX;
/// Maximum line, column and index.
pub(super) const NUMBER_MAX: i64 = i32::MAX as i64;

/// A mapping from a generated position to a position in a source. Lines and columns start at 0; columns count UTF-16 code
/// units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mapping {
    /// Generated position.
    pub(super) line: u32,
    pub(super) column: u32,
    /// Index of the source, or [`NO_INDEX`]; the original position is then 0 and has no meaning.
    pub(super) source: u32,
    pub(super) original_line: u32,
    pub(super) original_column: u32,
    /// Index of the name, or [`NO_INDEX`].
    pub(super) name: u32,
}

/// Decoder state, for one map or one section.
pub(super) struct MappingsDecoder {
    /// Number of sources and names. A segment with an index out of range has none.
    sources: u32,
    names: u32,
    line: i64,
    column: i64,
    /// Source, line, column and name of the last segment that had them.
    original: [i64; 4],
    /// Numbers of the current segment.
    fields: [i64; 5],
    field_count: usize,
    /// Current number, and the number of its bits that have been read.
    value: u64,
    shift: u32,
}

impl MappingsDecoder {
    /// Creates a decoder for a map with this number of sources and names.
    pub(super) fn new(sources: u32, names: u32) -> Self {
        Self {
            sources,
            names,
            line: 0,
            column: 0,
            original: [0; 4],
            fields: [0; 5],
            field_count: 0,
            value: 0,
            shift: 0,
        }
    }

    /// Decodes the next bytes. Calls `sink` for each completed mapping.
    ///
    /// # Errors
    /// [`Error::Invalid`], naming the generated line, and the errors of `sink`.
    pub(super) fn feed(&mut self, bytes: &[u8], sink: &mut impl FnMut(Mapping) -> Result<()>) -> Result<()> {
        for byte in bytes {
            match byte {
                b',' => self.end_segment(sink)?,
                b';' => {
                    self.end_segment(sink)?;
                    self.line += 1;
                    self.column = 0;
                }
                byte => self.decode_digit(*byte)?,
            }
        }
        Ok(())
    }

    /// Completes the last segment.
    ///
    /// # Errors
    /// See [`MappingsDecoder::feed`].
    pub(super) fn finish(&mut self, sink: &mut impl FnMut(Mapping) -> Result<()>) -> Result<()> {
        self.end_segment(sink)
    }

    #[inline]
    fn decode_digit(&mut self, byte: u8) -> Result<()> {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return Err(self.invalid("a character is not Base64")),
        };
        // Numbers have 32 bits, including the sign.
        self.value |= u64::from(digit & 31) << self.shift;
        if self.shift > 30 || self.value > u64::from(u32::MAX) {
            return Err(self.invalid("a number has more than 32 bits"));
        }
        if digit & 32 != 0 {
            self.shift += 5;
            return Ok(());
        }
        let value = (self.value >> 1) as i64;
        let number = match (self.value & 1, value) {
            (0, value) => value,
            // The standard defines negative zero as the minimum.
            (_, 0) => i64::from(i32::MIN),
            (_, value) => -value,
        };
        // Further numbers have no meaning.
        if let Some(field) = self.fields.get_mut(self.field_count) {
            *field = number;
            self.field_count += 1;
        }
        (self.value, self.shift) = (0, 0);
        Ok(())
    }

    #[inline]
    fn end_segment(&mut self, sink: &mut impl FnMut(Mapping) -> Result<()>) -> Result<()> {
        if self.shift != 0 {
            return Err(self.invalid("a number is truncated"));
        }
        if self.field_count == 0 {
            // Some tools write empty segments, which have no meaning.
            return Ok(());
        }
        self.column += self.fields[0];
        let mut mapping = Mapping {
            line: self.check_range(self.line, "line", NUMBER_MAX)?,
            column: self.check_range(self.column, "column", NUMBER_MAX)?,
            source: NO_INDEX,
            original_line: 0,
            original_column: 0,
            name: NO_INDEX,
        };
        if self.field_count > 1 {
            for (number, delta) in self.original.iter_mut().zip(&self.fields[1..self.field_count]) {
                *number += delta;
            }
            let [source, line, column, name] = self.original;
            let original_line = self.check_range(line, "original line", NUMBER_MAX)?;
            let original_column = self.check_range(column, "original column", NUMBER_MAX)?;
            if self.field_count < 4 {
                return Err(self.invalid("a segment has two or three numbers"));
            }
            // An index out of range concerns only its segment.
            if let Some(source) = index_below(source, self.sources) {
                (mapping.source, mapping.original_line, mapping.original_column) =
                    (source, original_line, original_column);
                mapping.name = index_below(name, self.names).filter(|_| self.field_count == 5).unwrap_or(NO_INDEX);
            }
        }
        self.field_count = 0;
        sink(mapping)
    }

    #[inline]
    fn check_range(&self, number: i64, name: &str, max: i64) -> Result<u32> {
        if (0..=max).contains(&number) {
            return Ok(number as u32);
        }
        Err(self.invalid(&format!("the {name} {number} is out of range")))
    }

    #[cold]
    fn invalid(&self, problem: &str) -> Error {
        Error::Invalid(format!("The source map's mappings of generated line {} are invalid: {problem}", self.line + 1))
    }
}

/// Returns an index if it is below `count`.
#[inline]
fn index_below(index: i64, count: u32) -> Option<u32> {
    u32::try_from(index).ok().filter(|index| *index < count)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(mappings: &str, sources: u32, names: u32) -> Result<Vec<Mapping>> {
        let mut decoded = Vec::new();
        let mut sink = |mapping| {
            decoded.push(mapping);
            Ok(())
        };
        let mut decoder = MappingsDecoder::new(sources, names);
        decoder.feed(mappings.as_bytes(), &mut sink)?;
        decoder.finish(&mut sink)?;
        Ok(decoded)
    }

    #[test]
    fn segments_of_one_four_and_five_numbers_are_decoded() {
        let mapping = |line, column, source, original_line, original_column, name| Mapping {
            line,
            column,
            source,
            original_line,
            original_column,
            name,
        };
        let decoded = decode("A,CAAA,,IACEC;;KADFCE;", 2, 3).unwrap();
        let expected = [
            mapping(0, 0, NO_INDEX, 0, 0, NO_INDEX),
            mapping(0, 1, 0, 0, 0, NO_INDEX),
            mapping(0, 5, 0, 1, 2, 1),
            mapping(2, 5, 0, 0, 0, 2),
        ];
        assert_eq!(decoded, expected);
    }

    #[test]
    fn indices_out_of_range_concern_only_their_segment() {
        let decoded = decode("AAAAA,CCAAA,CDAAC,CDAAD,CCAAA", 1, 1).unwrap();
        let indices: Vec<_> = decoded.iter().map(|mapping| (mapping.source, mapping.name)).collect();
        let none = (NO_INDEX, NO_INDEX);
        assert_eq!(indices, [(0, 0), none, (0, NO_INDEX), none, (0, 0)]);
    }

    #[test]
    fn invalid_mappings_are_rejected_with_a_reason() {
        for (mappings, message) in [
            ("AA", "two or three numbers"),
            ("AAA", "two or three numbers"),
            ("A!", "not Base64"),
            ("Ag", "truncated"),
            ("AgggggggggA", "more than 32 bits"),
            ("A;D", "the column -1 is out of range"),
            ("B", "the column -2147483648 is out of range"),
            ("AADA", "the original line -1 is out of range"),
            ("g/////f", "more than 32 bits"),
            ("+/////B,+/////B,E", "the column 2147483648 is out of range"),
        ] {
            let error = decode(mappings, 1, 1).expect_err(mappings).to_string();
            assert!(error.contains(message), "{mappings}: {error}");
        }
        assert!(decode("A;D", 1, 1).unwrap_err().to_string().contains("line 2"));
    }

    proptest! {
        #[test]
        fn result_does_not_depend_on_the_chunks(mappings in "[A-Za-z0-9+/,;]{0,60}", cut in 0usize..60) {
            let cut = cut.min(mappings.len());
            let mut chunked = Vec::new();
            let mut sink = |mapping| { chunked.push(mapping); Ok(()) };
            let mut decoder = MappingsDecoder::new(3, 3);
            let chunked_result = decoder.feed(&mappings.as_bytes()[..cut], &mut sink)
                .and_then(|()| decoder.feed(&mappings.as_bytes()[cut..], &mut sink))
                .and_then(|()| decoder.finish(&mut sink));
            let decoded = decode(&mappings, 3, 3);
            prop_assert_eq!(decoded.is_ok(), chunked_result.is_ok());
            if let Ok(decoded) = decoded {
                prop_assert_eq!(decoded, chunked);
            }
        }
    }
}
