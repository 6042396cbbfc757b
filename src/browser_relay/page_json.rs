//! JSON of a page, repaired so that one odd value does not cost the whole report: escapes that cannot be stored, and values
//! that are nested too deep.

use std::borrow::Cow;

use crate::error::Result;
use crate::json::{UncheckedText, depth_at_most, replace_unstorable_escapes};

/// Body of a page as text, in which every escape can be stored. Its depth is not checked.
#[derive(Debug)]
pub(super) struct PageJson<'a> {
    sent: &'a str,
    repaired: Cow<'a, str>,
}

impl<'a> PageJson<'a> {
    /// Repairs a body.
    ///
    /// # Errors
    /// [`crate::error::Error::Invalid`] if it is empty or is not UTF-8.
    pub(super) fn new(body: &'a [u8]) -> Result<Self> {
        let sent = UncheckedText::new(body)?.as_str();
        Ok(Self { sent, repaired: replace_unstorable_escapes(sent) })
    }

    /// Returns the repaired text.
    pub(super) fn as_str(&self) -> &str {
        &self.repaired
    }

    /// Whether a part of the repaired text differs from what the page sent.
    pub(super) fn is_repaired(&self, part: &str) -> bool {
        if matches!(self.repaired, Cow::Borrowed(_)) {
            return false;
        }
        // A repair does not change the length, so the part is at the same place in both.
        let start = part.as_ptr().addr().wrapping_sub(self.repaired.as_ptr().addr());
        let sent = self.sent.as_bytes().get(start..).and_then(|rest| rest.get(..part.len()));
        sent.is_some_and(|sent| sent != part.as_bytes())
    }
}

/// Returns valid JSON with null in place of each value that is nested deeper than `levels_max`.
pub(super) fn prune(json: &str, levels_max: usize) -> Cow<'_, str> {
    if depth_at_most(json, levels_max) {
        return Cow::Borrowed(json);
    }
    let mut pruned = String::with_capacity(json.len());
    let (mut depth, mut kept_from) = (0, 0);
    for (at, bracket) in brackets(json) {
        if matches!(bracket, b'{' | b'[') {
            depth += 1;
            if depth == levels_max + 1 {
                pruned.push_str(&json[kept_from..at]);
                pruned.push_str("null");
            }
        } else {
            if depth == levels_max + 1 {
                kept_from = at + 1;
            }
            depth = depth.saturating_sub(1);
        }
    }
    pruned.push_str(&json[kept_from..]);
    Cow::Owned(pruned)
}

/// Returns the brackets outside strings with their positions.
fn brackets(json: &str) -> impl Iterator<Item = (usize, u8)> {
    let (mut in_string, mut is_escaped) = (false, false);
    json.bytes().enumerate().filter(move |(_, byte)| {
        let is_quote = *byte == b'"' && !is_escaped;
        is_escaped = *byte == b'\\' && !is_escaped;
        in_string ^= is_quote;
        !in_string && matches!(byte, b'{' | b'[' | b'}' | b']')
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    #[test]
    fn escapes_that_cannot_be_stored_are_replaced() {
        for (sent, repaired) in [
            (r#"{"a":"\u0000"}"#, r#"{"a":"\ufffd"}"#),
            (r#"{"\ud800":"x\ud83d\ude00\udc00\uD83Dy"}"#, r#"{"\ufffd":"x\ud83d\ude00\ufffd\ufffdy"}"#),
            (r#"["\\u0000\\","\u00e9\n"]"#, r#"["\\u0000\\","\u00e9\n"]"#),
            (r#"["\"#, r#"["\"#),
            (r#"["\u00"#, r#"["\u00"#),
        ] {
            assert_eq!(PageJson::new(sent.as_bytes()).unwrap().as_str(), repaired);
        }
    }

    #[test]
    fn repaired_parts_are_known() {
        let page = PageJson::new(br#"{"a":"\ud800","b":"\u00e9"}"#).unwrap();
        let text = page.as_str();
        assert!(page.is_repaired(text) && page.is_repaired(&text[5..13]) && !page.is_repaired(&text[14..]));
        let intact = PageJson::new(b"{}").unwrap();
        assert!(!intact.is_repaired(intact.as_str()));
    }

    #[test]
    fn only_values_that_are_too_deep_become_null() {
        for (json, levels_max, pruned) in [
            (r#"{"a":{"b":[1]},"c":[2]}"#, 3, r#"{"a":{"b":[1]},"c":[2]}"#),
            (r#"{"a":{"b":[1,[2]]},"c":[2]}"#, 2, r#"{"a":{"b":null},"c":[2]}"#),
            (r#"{"a":{"b":[1]},"c":[[2]]}"#, 1, r#"{"a":null,"c":null}"#),
            (r#"["[[","\"[",[["]"]]]"#, 2, r#"["[[","\"[",[null]]"#),
        ] {
            assert_eq!(prune(json, levels_max), pruned);
        }
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![any::<i32>().prop_map(Value::from), "[\\[\\]{}\"\\\\a]{0,4}".prop_map(Value::from)];
        leaf.prop_recursive(8, 40, 3, |inner| {
            let members = proptest::collection::btree_map("[a{\"]", inner.clone(), 0..3);
            prop_oneof![
                proptest::collection::vec(inner, 0..3).prop_map(Value::from),
                members.prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    /// Does the same as [`prune`] to a tree, as an oracle.
    fn prune_tree(value: &Value, levels_max: usize) -> Value {
        match value {
            Value::Array(_) | Value::Object(_) if levels_max == 0 => Value::Null,
            Value::Array(items) => items.iter().map(|item| prune_tree(item, levels_max - 1)).collect(),
            Value::Object(members) => {
                members.iter().map(|(name, value)| (name.clone(), prune_tree(value, levels_max - 1))).collect()
            }
            scalar => scalar.clone(),
        }
    }

    proptest! {
        #[test]
        fn pruned_text_equals_the_pruned_tree(value in values(), levels_max in 1usize..5) {
            let pruned: Value = serde_json::from_str(&prune(&value.to_string(), levels_max)).unwrap();
            prop_assert_eq!(pruned, prune_tree(&value, levels_max));
        }

        #[test]
        fn arbitrary_text_never_panics(body in "[\\[\\]{}\"\\\\u0dDé8c]{1,60}") {
            let page = PageJson::new(body.as_bytes()).unwrap();
            prop_assert_eq!(page.as_str().len(), body.len());
            let _ = prune(page.as_str(), 1);
        }
    }
}
