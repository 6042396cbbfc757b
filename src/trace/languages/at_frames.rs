//! The frames that Java, JavaScript and .NET have in common: `at` and a call.

/// Returns whether an unindented line is a frame of the form `at call(…)`, `at file:line` or `at <anonymous>`.
pub(super) fn is_at_frame(line: &str) -> bool {
    line.strip_prefix("at ").is_some_and(|call| {
        call.contains('(')
            || call.contains("<anonymous>")
            || call.trim_end_matches(" {").ends_with(|last: char| last.is_ascii_digit())
    })
}
