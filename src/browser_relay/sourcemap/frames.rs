//! The resolved frames of a stack as a report's `extra.frames`: position and surrounding source lines.

use serde::Serialize;

use super::lookup::{OriginalPosition, SourceLine};
use super::stack::ResolvedFrame;

/// Maximum number of frames. The outer frames of a deep stack are rarely useful.
const FRAMES_MAX: usize = 20;
/// Maximum length of a source line, in characters.
const LINE_CHARS_MAX: usize = 200;
/// Characters before the frame's column that are kept of a longer line.
const CHARS_BEFORE: usize = 100;

/// A frame as JSON, at most about 3 KB.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(in crate::browser_relay) struct DescribedFrame<'a> {
    /// Index of its line in the stack, from 0.
    stack_line: usize,
    /// Omitted if the function is anonymous.
    #[serde(skip_serializing_if = "str::is_empty")]
    function: &'a str,
    file: &'a str,
    /// From 1, like the column.
    line: u32,
    column: u32,
    /// Omitted if the map lacks the source's content.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    context: Vec<ContextLine>,
}

/// A source line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(in crate::browser_relay) struct ContextLine {
    line: u32,
    text: String,
}

/// Describes the first frames, innermost first.
pub(in crate::browser_relay) fn describe_frames(frames: &[ResolvedFrame]) -> Vec<DescribedFrame<'_>> {
    frames.iter().take(FRAMES_MAX).map(describe_frame).collect()
}

fn describe_frame(frame: &ResolvedFrame) -> DescribedFrame<'_> {
    let original = &frame.original;
    DescribedFrame {
        stack_line: frame.line,
        function: &frame.function,
        file: &original.source,
        line: original.line,
        column: original.column,
        context: context(original),
    }
}

/// Returns the source lines around a position, shortened.
pub(in crate::browser_relay) fn context(original: &OriginalPosition) -> Vec<ContextLine> {
    let shorten = |line: &SourceLine| {
        let column = if line.number == original.line { original.column as usize } else { 1 };
        ContextLine { line: line.number, text: excerpt(&line.text, column - 1) }
    };
    original.context.iter().map(shorten).collect()
}

/// Returns the part of a line around a column, with an ellipsis at each end that was cut.
fn excerpt(text: &str, column: usize) -> String {
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

    fn resolved_frame(text: &str, column: u32) -> ResolvedFrame {
        let context = vec![SourceLine { number: 7, text: text.to_owned() }];
        let original =
            OriginalPosition { source: "src/cart.ts".into(), line: 7, column, context, ..OriginalPosition::default() };
        ResolvedFrame { line: 1, function: "add".into(), original }
    }

    #[test]
    fn a_frame_is_described_with_its_source_lines() {
        let frames = [resolved_frame("  throw new Error(\"full\");", 3)];
        let json = serde_json::to_value(describe_frames(&frames)).unwrap();
        let expected = serde_json::json!([{
            "stack_line": 1, "function": "add", "file": "src/cart.ts", "line": 7, "column": 3,
            "context": [{"line": 7, "text": "  throw new Error(\"full\");"}],
        }]);
        assert_eq!(json, expected);
    }

    #[test]
    fn long_lines_are_cut_around_the_column() {
        let text: String = ('a'..='z').cycle().take(5_000).collect();
        for column in [1, 50, 101, 2_000, 4_990, 5_000, 90_000] {
            let frames = [resolved_frame(&text, column)];
            let described = describe_frames(&frames);
            let shown = &described[0].context[0].text;
            assert!(shown.chars().count() <= LINE_CHARS_MAX, "{shown}");
            assert!(text.contains(shown.trim_matches('…')));
            let at = (column as usize).min(5_000) - 1;
            let from = text.find(shown.trim_matches('…')).unwrap() % 26;
            assert!(at < 100 || column > 5_000 || from <= at, "{shown}");
        }
        assert_eq!(excerpt("short", 3), "short");
    }

    #[test]
    fn deep_stacks_are_limited() {
        assert_eq!(describe_frames(&vec![resolved_frame("x", 1); 100]).len(), FRAMES_MAX);
    }
}
