//! The `mappings` of a source map, read as a stream: Base64 VLQ numbers, each relative to the one before, in segments
//! of one, four or five (ECMA-426, "Mappings grammar").

use crate::error::{Error, Result};

/// No source, or no name.
pub(super) const NONE: u32 = u32::MAX;
/// Lines, columns and indices stay below.
pub(super) const NUMBER_MAX: i64 = i32::MAX as i64;

/// One segment. Lines and columns count from 0, columns in UTF-16 units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mapping {
    /// Of the generated code, as column.
    pub(super) line: u32,
    pub(super) column: u32,
    /// Index of a source, or [`NONE`], and then the rest says nothing.
    pub(super) source: u32,
    pub(super) original_line: u32,
    pub(super) original_column: u32,
    /// Index of a name, or [`NONE`].
    pub(super) name: u32,
}

/// Reads the mappings of one map.
pub(super) struct Segments {
    sources: u32,
    names: u32,
    line: i64,
    column: i64,
    /// Source, line, column and name of the latest segments that had them.
    original: [i64; 4],
    fields: [i64; 5],
    count: usize,
    /// The number being read.
    value: u64,
    shift: u32,
}

impl Segments {
    /// For a map with so many sources and names.
    pub(super) fn new(sources: u32, names: u32) -> Self {
        Self { sources, names, line: 0, column: 0, original: [0; 4], fields: [0; 5], count: 0, value: 0, shift: 0 }
    }

    /// Reads on, and passes on each segment that ends.
    ///
    /// # Errors
    /// [`Error::Invalid`], naming the generated line, and what `take` answers.
    pub(super) fn feed(&mut self, bytes: &[u8], take: &mut impl FnMut(Mapping) -> Result<()>) -> Result<()> {
        for byte in bytes {
            match byte {
                b',' => self.end_segment(take)?,
                b';' => {
                    self.end_segment(take)?;
                    self.line += 1;
                    self.column = 0;
                }
                byte => self.digit(*byte)?,
            }
        }
        Ok(())
    }

    /// Ends the last segment.
    ///
    /// # Errors
    /// As [`Segments::feed`].
    pub(super) fn finish(&mut self, take: &mut impl FnMut(Mapping) -> Result<()>) -> Result<()> {
        self.end_segment(take)
    }

    #[inline]
    fn digit(&mut self, byte: u8) -> Result<()> {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return Err(self.wrong("a character is not Base64")),
        };
        // Numbers have 32 bits with their sign.
        self.value |= u64::from(digit & 31) << self.shift;
        if self.shift > 30 || self.value > u64::from(u32::MAX) {
            return Err(self.wrong("a number has more than 32 bits"));
        }
        if digit & 32 != 0 {
            self.shift += 5;
            return Ok(());
        }
        if self.count == 5 {
            return Err(self.wrong("a segment has more than five numbers"));
        }
        let value = (self.value >> 1) as i64;
        self.fields[self.count] = match (self.value & 1, value) {
            (0, value) => value,
            // The standard's reading of a negative zero.
            (_, 0) => i64::from(i32::MIN),
            (_, value) => -value,
        };
        self.count += 1;
        (self.value, self.shift) = (0, 0);
        Ok(())
    }

    #[inline]
    fn end_segment(&mut self, take: &mut impl FnMut(Mapping) -> Result<()>) -> Result<()> {
        if self.shift != 0 {
            return Err(self.wrong("a number has no end"));
        }
        if self.count == 0 {
            // Empty segments say nothing, and some tools write them.
            return Ok(());
        }
        self.column += self.fields[0];
        let mut mapping = Mapping {
            line: self.bounded(self.line, "line", NUMBER_MAX)?,
            column: self.bounded(self.column, "column", NUMBER_MAX)?,
            source: NONE,
            original_line: 0,
            original_column: 0,
            name: NONE,
        };
        if self.count > 1 {
            for (number, delta) in self.original.iter_mut().zip(&self.fields[1..self.count]) {
                *number += delta;
            }
            let [source, line, column, name] = self.original;
            mapping.source = self.bounded(source, "source index", i64::from(self.sources) - 1)?;
            mapping.original_line = self.bounded(line, "original line", NUMBER_MAX)?;
            mapping.original_column = self.bounded(column, "original column", NUMBER_MAX)?;
            match self.count {
                4 => {}
                5 => mapping.name = self.bounded(name, "name index", i64::from(self.names) - 1)?,
                _ => return Err(self.wrong("a segment has two or three numbers")),
            }
        }
        self.count = 0;
        take(mapping)
    }

    #[inline]
    fn bounded(&self, number: i64, what: &str, max: i64) -> Result<u32> {
        if (0..=max).contains(&number) {
            return Ok(number as u32);
        }
        Err(self.wrong(&format!("the {what} {number} is out of range")))
    }

    #[cold]
    fn wrong(&self, what: &str) -> Error {
        Error::Invalid(format!("The source map's mappings of generated line {} are wrong: {what}", self.line + 1))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(mappings: &str, sources: u32, names: u32) -> Result<Vec<Mapping>> {
        let mut found = Vec::new();
        let mut take = |mapping| {
            found.push(mapping);
            Ok(())
        };
        let mut segments = Segments::new(sources, names);
        segments.feed(mappings.as_bytes(), &mut take)?;
        segments.finish(&mut take)?;
        Ok(found)
    }

    #[test]
    fn segments_of_one_four_and_five_numbers() {
        let mapping = |line, column, source, original_line, original_column, name| Mapping {
            line,
            column,
            source,
            original_line,
            original_column,
            name,
        };
        let found = read("A,CAAA,,IACEC;;KADFC;", 2, 3).unwrap();
        let expected = [
            mapping(0, 0, NONE, 0, 0, NONE),
            mapping(0, 1, 0, 0, 0, NONE),
            mapping(0, 5, 0, 1, 2, 1),
            mapping(2, 5, 0, 0, 0, 2),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (mappings, why) in [
            ("AA", "two or three numbers"),
            ("AAA", "two or three numbers"),
            ("AAAAAA", "more than five numbers"),
            ("A!", "not Base64"),
            ("Ag", "no end"),
            ("AgggggggggA", "more than 32 bits"),
            ("A;D", "the column -1 is out of range"),
            ("B", "the column -2147483648 is out of range"),
            ("ACAA", "the source index 1 is out of range"),
            ("AAAAC", "the name index 1 is out of range"),
            ("AADA", "the original line -1 is out of range"),
            ("g/////f", "more than 32 bits"),
            ("+/////B,+/////B,E", "the column 2147483648 is out of range"),
        ] {
            let error = read(mappings, 1, 1).expect_err(mappings).to_string();
            assert!(error.contains(why), "{mappings}: {error}");
        }
        assert!(read("A;D", 1, 1).unwrap_err().to_string().contains("line 2"));
    }

    proptest! {
        #[test]
        fn any_text_is_survived(mappings in "[A-Za-z0-9+/,;]{0,60}", cut in 0usize..60) {
            let cut = cut.min(mappings.len());
            let mut pieces = Vec::new();
            let mut take = |mapping| { pieces.push(mapping); Ok(()) };
            let mut segments = Segments::new(3, 3);
            let cut_result = segments.feed(&mappings.as_bytes()[..cut], &mut take)
                .and_then(|()| segments.feed(&mappings.as_bytes()[cut..], &mut take))
                .and_then(|()| segments.finish(&mut take));
            let whole = read(&mappings, 3, 3);
            prop_assert_eq!(whole.is_ok(), cut_result.is_ok());
            if let Ok(whole) = whole {
                prop_assert_eq!(whole, pieces);
            }
        }
    }
}
