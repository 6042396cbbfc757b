//! Bodies that are produced part by part, at the pace of the client, because they do not fit into memory.

use serde::Serialize;

use crate::error::{Error, Result};

/// Size in bytes from which a part is complete. A source adds no further item after it.
pub const PART_BYTES: usize = 32 * 1024;

/// Producer of a body of unknown size.
///
/// A source must not hold a database connection, a statement or a snapshot between two parts, because the client decides how
/// long that takes. It remembers the last key that it has written and continues behind it.
pub trait BodySource: Send {
    /// Appends the next part to `out`, about [`PART_BYTES`] long. Returns whether another part follows. A part may be empty.
    ///
    /// # Errors
    /// After an error in the first part, the client receives the error as its response. After an error in a later part, the
    /// connection is reset, so that the client can tell that the body is incomplete.
    fn write_part(&mut self, out: &mut Vec<u8>) -> Result<bool>;
}

/// Body that consists of a JSON array with something before and after it: `{"errors":[…],"total":7}`.
pub struct JsonArray<F> {
    /// The text up to and including `[`; empty once it has been written.
    before: String,
    /// The text from `]` on.
    after: String,
    has_items: bool,
    write_items: F,
}

/// Appends items to a part of a [`JsonArray`].
pub struct ItemWriter<'a> {
    out: &'a mut Vec<u8>,
    has_items: &'a mut bool,
}

impl<F: FnMut(&mut ItemWriter<'_>) -> Result<bool> + Send> JsonArray<F> {
    /// Creates the body. `write_items` appends items until the part [is full](ItemWriter::is_full) or no items are left, and
    /// returns whether more are left.
    #[must_use]
    pub fn new(before: String, after: String, write_items: F) -> Self {
        Self { before, after, has_items: false, write_items }
    }
}

impl<F: FnMut(&mut ItemWriter<'_>) -> Result<bool> + Send> BodySource for JsonArray<F> {
    fn write_part(&mut self, out: &mut Vec<u8>) -> Result<bool> {
        out.extend_from_slice(std::mem::take(&mut self.before).as_bytes());
        let has_more = (self.write_items)(&mut ItemWriter { out, has_items: &mut self.has_items })?;
        if !has_more {
            out.extend_from_slice(self.after.as_bytes());
        }
        Ok(has_more)
    }
}

impl ItemWriter<'_> {
    /// Appends an item.
    ///
    /// # Errors
    /// [`Error::Internal`] if the item cannot be serialized.
    pub fn push(&mut self, item: &impl Serialize) -> Result<()> {
        if std::mem::replace(self.has_items, true) {
            self.out.push(b',');
        }
        serde_json::to_writer(&mut *self.out, item)
            .map_err(|why| Error::Internal(format!("failed to serialize an item: {why}")))
    }

    /// Whether the part has reached [`PART_BYTES`].
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.out.len() >= PART_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_array_is_valid_for_any_number_of_items_and_parts() {
        for (items, per_part) in [(0, 1), (1, 1), (5, 2), (4, 2)] {
            let mut next = 0;
            let mut array = JsonArray::new(r#"{"items":["#.into(), r#"],"total":9}"#.into(), move |out| {
                for _ in 0..per_part {
                    if next == items {
                        return Ok(false);
                    }
                    out.push(&next)?;
                    next += 1;
                }
                Ok(true)
            });
            let mut body = Vec::new();
            while array.write_part(&mut body).unwrap() {}
            let expected = serde_json::json!({ "items": (0..items).collect::<Vec<_>>(), "total": 9 });
            assert_eq!(serde_json::from_slice::<serde_json::Value>(&body).unwrap(), expected);
        }
    }
}
