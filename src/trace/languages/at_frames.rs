//! The frames that Java, JavaScript and .NET have in common: `at` and a call.

use crate::trace::scan::leading_number;

/// Returns whether an unindented line is a frame of the form `at call(…)`, `at file:line` or `at <anonymous>`.
pub(super) fn is_at_frame(line: &str) -> bool {
    line.strip_prefix("at ").is_some_and(|call| {
        let is_call = call.contains('(')
            || call.contains("<anonymous>")
            || call.trim_end_matches(" {").ends_with(|last: char| last.is_ascii_digit());
        is_call && !is_rust_location(call)
    })
}

/// Returns whether a text is `src/pay.rs:12` or `src/pay.rs:12 on main`, the location that the formatter `pretty` of
/// Rust's `tracing` writes below each record.
fn is_rust_location(text: &str) -> bool {
    let number = text.split_once(".rs:").and_then(|(_, position)| leading_number(position));
    number.is_some_and(|(_, rest)| rest.is_empty() || rest.starts_with(" on "))
}
