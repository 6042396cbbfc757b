//! Lists of strings in the JSON of untrusted clients.

use std::fmt;

use serde::Deserializer as _;
use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// The first usable items of a JSON array.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct StringList {
    pub(super) items: Vec<String>,
    /// Whether an item was converted, dropped, or beyond the maximum.
    pub(super) is_adjusted: bool,
}

impl StringList {
    /// Reads at most `items_max` items of an array in valid JSON. Numbers and booleans become strings; null, arrays and objects
    /// are dropped. A scalar counts as a list of one item. Memory is bounded by the items that are kept.
    pub(super) fn parse(json: &str, items_max: usize) -> Self {
        let mut list = Self { items: Vec::new(), is_adjusted: false };
        if json.starts_with('[') {
            // The JSON is valid, so this cannot fail.
            let _ = serde_json::Deserializer::from_str(json).deserialize_seq(Items { list: &mut list, items_max });
        } else {
            list.push(json);
            list.is_adjusted = true;
        }
        list
    }

    fn push(&mut self, json: &str) {
        self.is_adjusted |= !json.starts_with('"');
        match json.as_bytes().first() {
            Some(b'"') => self.items.extend(serde_json::from_str::<String>(json).ok()),
            Some(b'n' | b'[' | b'{') | None => {}
            Some(_) => self.items.push(json.to_owned()),
        }
    }
}

struct Items<'l> {
    list: &'l mut StringList,
    items_max: usize,
}

impl<'de> Visitor<'de> for Items<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<(), A::Error> {
        while self.list.items.len() < self.items_max {
            let Some(item) = array.next_element::<&RawValue>()? else { return Ok(()) };
            self.list.push(item.get());
        }
        while array.next_element::<IgnoredAny>()?.is_some() {
            self.list.is_adjusted = true;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usable_items_are_kept_up_to_the_maximum() {
        let rows: [(&str, &[&str], bool); 10] = [
            (r#"["a","b"]"#, &["a", "b"], false),
            (r#"["a\n\u00e9",""]"#, &["a\n\u{e9}", ""], false),
            (r#"["a","b","c","d"]"#, &["a", "b", "c"], true),
            (r#"[null,{"a":1},[2],"b","c","d"]"#, &["b", "c", "d"], true),
            ("[1,true,-2.5]", &["1", "true", "-2.5"], true),
            ("[]", &[], false),
            (r#""a""#, &["a"], true),
            ("7", &["7"], true),
            ("null", &[], true),
            (r#"{"a":"b"}"#, &[], true),
        ];
        for (json, items, is_adjusted) in rows {
            let expected = StringList { items: items.iter().map(|item| (*item).to_owned()).collect(), is_adjusted };
            assert_eq!(StringList::parse(json, 3), expected, "{json}");
        }
    }
}
