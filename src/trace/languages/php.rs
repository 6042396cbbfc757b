//! PHP's errors and exceptions, as PHP itself and Monolog print them.
//!
//! The exception's message names the place of the throw; the frames below are its callers, the innermost first.

use crate::trace::frame::{Frame, FrameExtent};
use crate::trace::language::{CandidateLine, Language, Library, LineRule, LocationRule, Multiline, TracePhase};
use crate::trace::location_notation::{Location, file_line, first_in_app};
use crate::trace::scan::{is_number, leading_number, lines, starts_with_any};

/// Lines between an exception and its frames.
const EXCEPTION_MARK: &str = "\nStack trace:";
const MONOLOG_MARK: &str = "\n[stacktrace]";

/// Lines above a further exception of a chain.
const CAUSES: [&str; 2] = ["Next ", "[previous exception]"];

/// Maximum number of further lines of the message of an exception in a chain.
const MESSAGE_LINES_MAX: u8 = 16;

/// The rules for this language.
pub(super) static PHP: Language = Language {
    name: "PHP",
    frame,
    write_frame,
    library: Library { paths: &["/vendor/"], modules: &[] },
    causes: &CAUSES,
    location_rules: &[
        LocationRule { mark: EXCEPTION_MARK, find: locate_exception },
        LocationRule { mark: MONOLOG_MARK, find: locate_monolog },
        LocationRule { mark: " on line ", find: locate_notice },
        LocationRule { mark: "): ", find: locate_call },
    ],
    multiline: Multiline {
        start: LineRule { first_bytes: b"#S[", phase: |line, _| is_trace_line(line).then_some(TracePhase::Frames) },
        start_at_colon: |line| line.ends_with("Stack trace:").then_some(TracePhase::Frames),
        start_at_error: |line| line.contains("PHP Fatal error:").then_some(TracePhase::Frames),
        continues,
        indented: LineRule {
            first_bytes: b"t",
            phase: |line, _| line.starts_with("thrown in /").then_some(TracePhase::Frames),
        },
        continuation_only: LineRule {
            first_bytes: b"S[#",
            phase: |line, _| {
                starts_with_any(line, &["Stack trace:", "[stacktrace]", "#0 "]).then_some(TracePhase::Frames)
            },
        },
        ..Multiline::NONE
    },
    ..Language::NONE
};

/// Returns the place of the throw, which PHP prints above the frames: `… in /app/pay.php:3`. In a chain this is the root
/// cause, which PHP prints first.
fn locate_exception(traceback: &str) -> Option<Location<'_>> {
    let (_, place) = line_above(traceback, EXCEPTION_MARK)?.rsplit_once(" in ")?;
    file_line(place)
}

/// Returns the place of the throw as Monolog, and with it Laravel, prints it: `… at /app/pay.php:3)`.
fn locate_monolog(traceback: &str) -> Option<Location<'_>> {
    let (_, place) = line_above(traceback, MONOLOG_MARK)?.rsplit_once(" at ")?;
    file_line(place.strip_suffix(')')?)
}

fn line_above<'t>(traceback: &'t str, mark: &str) -> Option<&'t str> {
    let (above, _) = traceback.split_once(mark)?;
    above.trim_end().rsplit('\n').next()
}

/// Returns the place of a warning or a fatal error, which has no frames: `… in /app/pay.php on line 3`.
fn locate_notice(traceback: &str) -> Option<Location<'_>> {
    lines(traceback).find_map(|line| {
        let (message, line) = line.rsplit_once(" on line ")?;
        let (_, file) = message.rsplit_once(" in ")?;
        is_number(line).then_some(Location { file, line })
    })
}

/// Returns the place of the innermost call outside `vendor`. This is the last resort, because it is the caller of the
/// code that threw.
fn locate_call(traceback: &str) -> Option<Location<'_>> {
    let calls = lines(traceback).filter_map(location_and_call).map(|(location, _)| location);
    first_in_app(calls.map(|location| (location, !location.file.contains("/vendor/"))))
}

/// Parses `#0 /app/buy.php(7): charge()` into the place and the text behind it.
fn location_and_call(line: &str) -> Option<(Location<'_>, &str)> {
    let (_depth, frame) = leading_number(line.strip_prefix('#')?)?;
    let (place, call) = frame.strip_prefix(' ')?.split_once("): ")?;
    let (file, line) = place.rsplit_once('(')?;
    is_number(line).then_some((Location { file, line }, call))
}

/// Parses `#0 /app/buy.php(7): Shop\Cart->total(17)` or `#0 [internal function]: array_map()`.
fn frame<'t>(line: &'t str, _following: &'t str) -> Option<FrameExtent<'t>> {
    let (location, call) = match location_and_call(line) {
        Some((location, call)) => (Some(location), call),
        None => {
            let (_depth, frame) = leading_number(line.strip_prefix('#')?)?;
            (None, frame.strip_prefix(" [internal function]: ")?)
        }
    };
    let name = call.split_once('(').map_or(call, |(name, _)| name);
    let method = name.split_once("->").or_else(|| name.split_once("::"));
    let (module, function) = method.map_or((None, name), |(class, method)| (Some(class), method));
    let frame = Frame {
        file: location.map(|location| location.file),
        line: location.and_then(|location| location.line_number()),
        function: Some(function),
        module,
        in_app: location.is_some(),
        ..Frame::default()
    };
    Some(FrameExtent::new(frame, 1))
}

fn write_frame(text: &mut String, index: usize, frame: &Frame<'_>) {
    match frame.file {
        Some(file) => text.push_str(&format!("#{index} {file}({}): ", frame.line.unwrap_or_default())),
        None => text.push_str(&format!("#{index} [internal function]: ")),
    }
    if let Some(module) = frame.module {
        text.push_str(module);
        text.push_str("->");
    }
    text.push_str(frame.function.unwrap_or("unknown"));
    text.push_str("()\n");
}

fn continues(phase: &mut TracePhase, candidate: &CandidateLine<'_>) -> bool {
    let line = candidate.line;
    if starts_with_any(line, &CAUSES) {
        let is_complete = line.rsplit_once(" in ").and_then(|(_, place)| file_line(place)).is_some();
        *phase = if is_complete { TracePhase::Frames } else { TracePhase::Message { lines_left: MESSAGE_LINES_MAX } };
        return true;
    }
    if is_trace_line(line) {
        *phase = TracePhase::Frames;
        return true;
    }
    line.starts_with("\"}") || (phase.consume_message_line() && !candidate.starts_record())
}

/// Returns whether a line is a frame, or the line above the frames.
fn is_trace_line(line: &str) -> bool {
    let numbered = line.strip_prefix('#').and_then(leading_number);
    numbered.is_some_and(|(_, rest)| rest.starts_with(' ')) || starts_with_any(line, &["Stack trace:", "[stacktrace]"])
}
