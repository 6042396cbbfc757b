//! The mapped frames as they go into a report's `extra.frames`: where each is, and the lines around it.

use serde::Serialize;

use super::lookup::{Line, Original};
use super::stack::Mapped;

/// Frames that are described; those further out say little and take room.
const FRAMES_MAX: usize = 20;
/// Characters of a line that are shown.
const LINE_CHARS_MAX: usize = 200;
/// Of these, before the frame's column, where the line is longer.
const CHARS_BEFORE: usize = 100;

/// One of the stack's frames: at most about 3 KB of JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(in crate::browser_relay) struct Frame<'a> {
    /// Which line of the stack it is, from 0.
    stack_line: usize,
    /// Left out where the function has no name.
    #[serde(skip_serializing_if = "str::is_empty")]
    function: &'a str,
    file: &'a str,
    /// From 1, as the column.
    line: u32,
    column: u32,
    /// Left out where the map has no content.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    context: Vec<ContextLine>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(in crate::browser_relay) struct ContextLine {
    line: u32,
    text: String,
}

/// What there is to say about the first frames, innermost first.
pub(in crate::browser_relay) fn described(frames: &[Mapped]) -> Vec<Frame<'_>> {
    frames.iter().take(FRAMES_MAX).map(described_frame).collect()
}

fn described_frame(frame: &Mapped) -> Frame<'_> {
    let original = &frame.original;
    Frame {
        stack_line: frame.line,
        function: &frame.function,
        file: &original.source,
        line: original.line,
        column: original.column,
        context: context(original),
    }
}

/// The lines around a place as they are shown.
pub(in crate::browser_relay) fn context(original: &Original) -> Vec<ContextLine> {
    let shown = |line: &Line| {
        let column = if line.number == original.line { original.column as usize } else { 1 };
        ContextLine { line: line.number, text: around(&line.text, column - 1) }
    };
    original.context.iter().map(shown).collect()
}

/// The part of a line around a column, with an ellipsis where something is left out.
fn around(text: &str, column: usize) -> String {
    let length = text.chars().count();
    if length <= LINE_CHARS_MAX {
        return text.to_owned();
    }
    let room = LINE_CHARS_MAX - 2;
    let from = column.saturating_sub(CHARS_BEFORE).min(length - room);
    let part: String = text.chars().skip(from).take(room).collect();
    let front = if from > 0 { "…" } else { "" };
    let back = if from + room < length { "…" } else { "" };
    format!("{front}{part}{back}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapped(text: &str, column: u32) -> Mapped {
        let context = vec![Line { number: 7, text: text.to_owned() }];
        let original = Original { source: "src/cart.ts".into(), line: 7, column, context, ..Original::default() };
        Mapped { line: 1, function: "add".into(), original }
    }

    #[test]
    fn a_frame_is_described_with_its_lines() {
        let frames = [mapped("  throw new Error(\"full\");", 3)];
        let json = serde_json::to_value(described(&frames)).unwrap();
        let expected = serde_json::json!([{
            "stack_line": 1, "function": "add", "file": "src/cart.ts", "line": 7, "column": 3,
            "context": [{"line": 7, "text": "  throw new Error(\"full\");"}],
        }]);
        assert_eq!(json, expected);
    }

    #[test]
    fn long_lines_are_shown_around_the_column() {
        let text: String = ('a'..='z').cycle().take(5_000).collect();
        for column in [1, 50, 101, 2_000, 4_990, 5_000, 90_000] {
            let frames = [mapped(&text, column)];
            let described = described(&frames);
            let shown = &described[0].context[0].text;
            assert!(shown.chars().count() <= LINE_CHARS_MAX, "{shown}");
            assert!(text.contains(shown.trim_matches('…')));
            let at = (column as usize).min(5_000) - 1;
            let from = text.find(shown.trim_matches('…')).unwrap() % 26;
            assert!(at < 100 || column > 5_000 || from <= at, "{shown}");
        }
        assert_eq!(around("short", 3), "short");
    }

    #[test]
    fn deep_stacks_are_described_in_part() {
        assert_eq!(described(&vec![mapped("x", 1); 100]).len(), FRAMES_MAX);
    }
}
