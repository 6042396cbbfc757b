//! Rust's panics and backtraces, including those of anyhow and eyre.
//!
//! A frame of a backtrace is a numbered function, and below it the location if debug information is present. The
//! innermost frame comes first.

use crate::trace::frame::{Frame, FrameExtent};
use crate::trace::language::{CandidateLine, Language, Library, LineRule, LocationRule, Multiline, TracePhase};
use crate::trace::location_notation::{Location, file_line_column};
use crate::trace::scan::{first_line, leading_number, lines, starts_with_any};

/// The rules for this language.
pub(super) static RUST: Language = Language {
    name: "Rust",
    frame,
    write_frame,
    library: Library {
        paths: &["/rustc/", "/.cargo/registry/", "/rustlib/src/rust/"],
        modules: &["std", "core", "alloc", "__rustc", "rust_begin_unwind"],
    },
    causes: &["Caused by:"],
    location_rules: &[LocationRule { mark: "panicked at ", find: locate }],
    multiline: Multiline {
        start: LineRule {
            first_bytes: b"ts",
            phase: |line, _| {
                if line.starts_with("thread '") && line.contains("panicked at") {
                    // Since Rust 1.73 the message is on the next line.
                    let lines_left = u8::from(line.ends_with(':'));
                    return Some(TracePhase::Message { lines_left });
                }
                line.starts_with("stack backtrace:").then_some(TracePhase::Frames)
            },
        },
        continues,
        continuation_only: LineRule {
            first_bytes: b"Ssn",
            phase: |line, _| {
                let prefixes = ["Stack backtrace:", "stack backtrace:", "note: run with `RUST_BACKTRACE"];
                starts_with_any(line, &prefixes).then_some(TracePhase::Unidentified)
            },
        },
        ..Multiline::NONE
    },
    ..Language::NONE
};

/// Returns the location of the first panic: `panicked at src/main.rs:3:5:`, or before Rust 1.73
/// `panicked at 'message', src/main.rs:3:5`. For `unwrap` and the like, Rust itself reports the caller.
fn locate(traceback: &str) -> Option<Location<'_>> {
    let is_rust = |location: &Location<'_>| location.file.ends_with(".rs");
    let mut quoted = false;
    for line in lines(traceback) {
        if let Some((_, panic)) = line.split_once("panicked at ") {
            quoted |= panic.starts_with('\'');
            let location = panic.strip_suffix(':').and_then(file_line_column).filter(is_rust);
            if location.is_some() {
                return location;
            }
        }
        // The quoted message may extend over several lines.
        if quoted && let Some((_, place)) = line.rsplit_once("', ") {
            let location = file_line_column(place).filter(is_rust);
            if location.is_some() {
                return location;
            }
        }
    }
    None
}

/// Parses `3: shop::pay::charge` and, if it follows, `at src/pay.rs:88:31`. Full backtraces have an address before the
/// function.
fn frame<'t>(line: &'t str, following: &'t str) -> Option<FrameExtent<'t>> {
    let (_index, function) = leading_number(line.trim_start())?;
    let function = function.strip_prefix(": ").filter(|_| line.starts_with(' '))?.trim();
    let function =
        function.strip_prefix("0x").and_then(|rest| rest.split_once(" - ")).map_or(function, |(_, name)| name);
    let place = first_line(following).trim_start().strip_prefix("at ");
    let location = place.and_then(|place| {
        let (place, column) = place.rsplit_once(':')?;
        let (file, line) = place.rsplit_once(':')?;
        Some((file, line.parse().ok()?, column.parse().ok()?))
    });
    // The causes that anyhow prints are numbered in the same way.
    if location.is_none() && function.contains(' ') && !function.contains("::") {
        return None;
    }
    let mut frame = Frame { function: Some(function), in_app: true, ..Frame::default() };
    if let Some((file, line, column)) = location {
        (frame.file, frame.line, frame.column) = (Some(file), Some(line), Some(column));
    }
    Some(FrameExtent::new(frame, 1 + usize::from(location.is_some())))
}

fn write_frame(text: &mut String, index: usize, frame: &Frame<'_>) {
    text.push_str(&format!("{index:>4}: {}\n", frame.function.unwrap_or("<unknown>")));
    if let Some(file) = frame.file {
        let (line, column) = (frame.line.unwrap_or_default(), frame.column.unwrap_or_default());
        text.push_str(&format!("             at {file}:{line}:{column}\n"));
    }
}

fn continues(phase: &mut TracePhase, candidate: &CandidateLine<'_>) -> bool {
    if starts_with_any(candidate.line, &["note: ", "stack backtrace:"]) {
        *phase = TracePhase::Frames;
        return true;
    }
    phase.consume_message_line() && !candidate.starts_record()
}
