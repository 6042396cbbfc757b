//! The stack traces of .NET and Mono.
//!
//! Frames are indented, the innermost first; an inner exception and its frames come before the outer exception's frames.

use super::at_frames::is_at_frame;
use crate::trace::frame::{Frame, FrameExtent};
use crate::trace::language::{Language, Library, LineRule, LocationRule, Multiline, TracePhase};
use crate::trace::location_notation::{Location, file_line};
use crate::trace::scan::{is_number, lines, starts_with_any};

/// The rules for this language.
pub(super) static DOTNET: Language = Language {
    name: ".NET",
    frame,
    write_frame,
    library: Library { paths: &[], modules: &["System", "Microsoft"] },
    causes: &["---> "],
    location_rules: &[LocationRule { mark: " in ", find: locate }],
    multiline: Multiline {
        indented: LineRule {
            first_bytes: b"a-",
            phase: |line, _| {
                let belongs = is_at_frame(line) || starts_with_any(line, &["--- End of ", "---> "]);
                belongs.then_some(TracePhase::Unidentified)
            },
        },
        continuation_only: LineRule {
            first_bytes: b"-",
            phase: |line, _| line.starts_with("--- End of ").then_some(TracePhase::Unidentified),
        },
        ..Multiline::NONE
    },
    ..Language::NONE
};

/// Returns the first frame with a location, which is the innermost of the root cause. The framework's frames have none.
fn locate(traceback: &str) -> Option<Location<'_>> {
    lines(traceback).find_map(location)
}

/// Parses the location in `at Shop.Pay.Charge(Order o) in /src/Pay.cs:line 12` (Mono: `/src/Pay.cs:12`).
fn location(line: &str) -> Option<Location<'_>> {
    let (_method, place) = line.trim_start().strip_prefix("at ")?.split_once(" in ")?;
    let location = match place.rsplit_once(":line ") {
        Some((file, line)) => is_number(line).then_some(Location { file, line }),
        None => file_line(place),
    };
    // Mono writes `<module id>:0` where it knows no file.
    location.filter(|location| !location.file.starts_with('<'))
}

/// Parses `at Shop.Pay.Charge(Order o) in /src/Pay.cs:line 12`, with or without a location.
fn frame<'t>(line: &'t str, _following: &'t str) -> Option<FrameExtent<'t>> {
    let (call, _arguments) = line.trim_start().strip_prefix("at ")?.split_once('(')?;
    let (module, function) = call.trim_end().rsplit_once('.')?;
    if module.contains(' ') || function.is_empty() || function.contains([' ', ':', '/']) {
        return None;
    }
    let mut frame = Frame { module: Some(module), function: Some(function), in_app: true, ..Frame::default() };
    if let Some(location) = location(line) {
        (frame.file, frame.line) = (Some(location.file), location.line_number());
    }
    Some(FrameExtent::new(frame, 1))
}

fn write_frame(text: &mut String, _index: usize, frame: &Frame<'_>) {
    text.push_str("   at ");
    for part in [frame.module.unwrap_or("Unknown"), ".", frame.function.unwrap_or("Unknown"), "()"] {
        text.push_str(part);
    }
    if let Some(file) = frame.file {
        text.push_str(&format!(" in {file}:line {}", frame.line.unwrap_or_default()));
    }
    text.push('\n');
}
