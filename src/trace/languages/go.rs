//! Go's panics and fatal errors, and the stacks that `debug.Stack`, `net/http` and zap print.
//!
//! A frame takes two lines: the function, and below it the location. The innermost frame comes first.

use crate::trace::frame::{Frame, FrameExtent};
use crate::trace::language::{CandidateLine, Language, Library, LineRule, LocationRule, Multiline, TracePhase};
use crate::trace::location_notation::Location;
use crate::trace::scan::{LOWERCASE, first_line, leading_number, lines, starts_with_any};

/// Lines of a panic's message that may come before its stack.
const MESSAGE: TracePhase = TracePhase::Message { lines_left: 16 };

/// Functions that Go calls between the line that raises an error and the stack that is printed.
const RAISING: [&str; 5] = ["runtime.", "runtime/", "log.Panic", "log.(*Logger).Panic", "created by "];

/// Beginnings of the message of a crash.
const CRASHES: [&str; 2] = ["panic: ", "fatal error: "];

/// Further lines of a crash (`runtime/traceback.go`, `runtime/panic.go`) and of `go run`.
const CRASH_LINES: [&str; 8] = [
    "[signal ",
    "created by ",
    "exit status ",
    "runtime stack:",
    "runtime: ",
    "...additional frames elided...",
    "[originating from goroutine",
    "PC=",
];

/// The rules for this language.
pub(super) static GO: Language = Language {
    name: "Go",
    frame,
    write_frame,
    library: Library {
        paths: &[
            "/pkg/mod/",
            "/vendor/",
            "/usr/local/go/src/",
            "/usr/lib/go/src/",
            "/usr/lib/go-",
            "/usr/lib/golang/src/",
            "/opt/go/src/",
            "/opt/hostedtoolcache/go/",
            "/Cellar/go/",
        ],
        modules: &[],
    },
    causes: &CRASHES,
    location_rules: &[LocationRule { mark: ".go:", find: locate }],
    multiline: Multiline {
        start: LineRule { first_bytes: b"pf", phase: |line, _| starts_with_any(line, &CRASHES).then_some(MESSAGE) },
        start_at_colon: |line| {
            let start = line.rfind("goroutine ")?;
            is_goroutine(&line[start..]).then_some(TracePhase::Frames)
        },
        start_at_error: |line| line.contains("http: panic serving ").then_some(MESSAGE),
        continues,
        continuation_only: LineRule {
            first_bytes: b"g",
            phase: |line, _| is_goroutine(line).then_some(TracePhase::Frames),
        },
        cause_start: LineRule {
            first_bytes: LOWERCASE,
            phase: |line, _| is_bare_function(line).then_some(TracePhase::Frames),
        },
        ..Multiline::NONE
    },
    ..Language::NONE
};

/// Returns the innermost frame of the first goroutine that is not Go's own code for raising errors.
///
/// The stack of a recovered panic starts with the code that recovered it and has a frame of `panic` further down. The
/// frame below the last `panic` is returned, because it raised the first error.
fn locate(traceback: &str) -> Option<Location<'_>> {
    let mut innermost = None;
    let mut raised = None;
    let mut function = "";
    for line in lines(traceback) {
        if let Some(location) = location(line) {
            if function.starts_with("panic(") {
                raised = None;
            } else if !starts_with_any(function, &RAISING) {
                raised = raised.or(Some(location));
                innermost = innermost.or(raised);
            }
        } else if innermost.is_some() && line.starts_with("goroutine ") {
            break;
        }
        function = line;
    }
    raised.or(innermost)
}

/// Parses the second line of a frame: `/app/pay.go:12 +0x1d`, indented.
fn location(line: &str) -> Option<Location<'_>> {
    let place = line.strip_prefix(['\t', ' '])?.trim_start();
    let end = place.rfind(".go:")? + ".go".len();
    let (number, offset) = leading_number(&place[end + 1..])?;
    let is_complete = offset.is_empty() || offset.starts_with(" +0x");
    is_complete.then_some(Location { file: &place[..end], line: number })
}

/// Parses the two lines of a frame, or a location without a function.
fn frame<'t>(line: &'t str, following: &'t str) -> Option<FrameExtent<'t>> {
    let (location, function, lines) = match location(line) {
        Some(location) => (location, None, 1),
        None => {
            let function = line.strip_prefix("created by ").unwrap_or(line);
            let function = function.rsplit_once(" in goroutine ").map_or(function, |(function, _)| function);
            if !is_call(function) && !is_bare_function(function) {
                return None;
            }
            (location(first_line(following))?, Some(function), 2)
        }
    };
    let mut frame = Frame { file: Some(location.file), in_app: true, ..Frame::default() };
    frame.line = location.line_number();
    if let Some(function) = function {
        let function =
            if is_call(function) { function.rsplit_once('(').map_or("", |(name, _)| name) } else { function };
        // The package's path ends at the first dot behind its last slash.
        let base = function.rfind('/').map_or(0, |slash| slash + 1);
        (frame.module, frame.function) = match function[base..].find('.') {
            Some(dot) => (Some(&function[..base + dot]), Some(&function[base + dot + 1..])),
            None => (None, Some(function)),
        };
    }
    Some(FrameExtent::new(frame, lines))
}

fn write_frame(text: &mut String, _index: usize, frame: &Frame<'_>) {
    if let Some(function) = frame.function {
        if let Some(module) = frame.module {
            text.push_str(module);
            text.push('.');
        }
        text.push_str(function);
        text.push_str("(...)\n");
    }
    let (file, line) = (frame.file.unwrap_or("unknown.go"), frame.line.unwrap_or_default());
    text.push_str(&format!("\t{file}:{line}\n"));
}

fn continues(phase: &mut TracePhase, candidate: &CandidateLine<'_>) -> bool {
    let line = candidate.line;
    if is_goroutine(line) {
        *phase = TracePhase::Frames;
        return true;
    }
    if starts_with_any(line, &CRASH_LINES) {
        return true;
    }
    match phase {
        TracePhase::Message { .. } => {
            !starts_with_any(line, &CRASHES) && phase.consume_message_line() && !candidate.starts_record()
        }
        _ => is_call(line) || is_bare_function(line) || is_register(line),
    }
}

/// Returns whether a line is `goroutine 1 [running]:` or the like.
fn is_goroutine(line: &str) -> bool {
    line.starts_with("goroutine ") && line.ends_with("]:")
}

/// Returns whether a line is a call: `main.(*Cart).total(0xc000012345, {0x1, 0x2})`, `panic({0x4a5b60?, 0x4e1c28?})`.
fn is_call(line: &str) -> bool {
    let Some((function, _)) = line.split_once('(') else { return false };
    line.ends_with(')') && !function.contains(' ') && (function.contains('.') || function == "panic")
}

/// Returns whether a line is a function without arguments, as zap prints it: `github.com/shop/cart.(*Cart).total`.
fn is_bare_function(line: &str) -> bool {
    let name = line.rsplit('/').next().unwrap_or_default();
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-*()[]/".contains(&byte);
    let is_name = line.bytes().all(allowed) && !line.ends_with('.');
    is_name && line.starts_with(|first: char| first.is_ascii_lowercase()) && name.find('.').is_some_and(|dot| dot > 0)
}

/// Returns whether a line is a register of a crash that prints the state of the processor: `rax    0x0`.
fn is_register(line: &str) -> bool {
    line.split_once(' ').is_some_and(|(name, value)| name.len() <= 6 && value.trim_ascii_start().starts_with("0x"))
}
