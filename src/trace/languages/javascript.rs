//! JavaScript's stacks, in the notations of V8, Firefox and Safari.
//!
//! V8 (Chrome, Edge, Node.js, Deno) prints the error's name and message and then `    at name (url:line:column)`, or
//! `    at url:line:column` for an anonymous function. `async` and `new` may come before the name, `[as alias]` after it
//! (<https://v8.dev/docs/stack-trace-api>). Firefox and Safari print `name@url:line:column` and no message. Lines and
//! columns count from 1.

use super::at_frames::is_at_frame;
use crate::trace::frame::{Frame, FrameExtent};
use crate::trace::language::{CandidateLine, Language, Library, LineRule, Multiline, TracePhase};
use crate::trace::location_notation::file_line_column;
use crate::trace::scan::{is_number, starts_with_any};

/// Extensions of the files that Node.js names in the first line of a crash.
const EXTENSIONS: [&str; 4] = [".js", ".mjs", ".cjs", ".ts"];

/// Colons in the first line of a stack after which its message may start. More would make the comparisons quadratic.
const MESSAGE_STARTS_MAX: usize = 16;

/// Lines of the source and of the message that may come before the frames of a crash.
const MESSAGE: TracePhase = TracePhase::Message { lines_left: 16 };

/// The rules for this language.
pub(super) static JAVASCRIPT: Language = Language {
    name: "JavaScript",
    frame,
    write_frame,
    library: Library { paths: &["node_modules/", "node:", "webpack/bootstrap"], modules: &[] },
    causes: &["[cause]: ", "Caused by: "],
    multiline: Multiline {
        start: LineRule {
            first_bytes: b"/fnABCDEFGHIJKLMNOPQRSTUVWXYZ",
            phase: |line, _| is_crash_location(line).then_some(MESSAGE),
        },
        continues,
        indented: LineRule {
            first_bytes: b"a",
            phase: |line, _| is_at_frame(line).then_some(TracePhase::Unidentified),
        },
        continuation_only: LineRule {
            first_bytes: b"(",
            phase: |line, _| line.starts_with("(Use `node --trace").then_some(TracePhase::Frames),
        },
        frame_ends_message: true,
        ..Multiline::NONE
    },
    ..Language::NONE
};

/// A line of a stack that has a complete source position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StackLine<'t> {
    /// The text before the function's name: indentation, `at `, `async `, `new `; in Firefox `async*` and the like.
    pub prefix: &'t str,
    /// Name of the function, empty if it is anonymous.
    pub function: &'t str,
    /// URL or path of the script.
    pub url: &'t str,
    /// Line number, from 1.
    pub line: u32,
    /// Column number in UTF-16 units, from 1.
    pub column: u32,
    /// Notation of the engine.
    pub notation: Notation,
}

/// The notation of a stack line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notation {
    /// V8's `at name (url:line:column)`.
    V8,
    /// Firefox's and Safari's `name@url:line:column`.
    AtSign,
}

impl<'t> StackLine<'t> {
    /// Parses a line without its newline. Returns `None` for frames of evaluated code (`eval at …`, `line 3 > eval`), of
    /// native code and of `Promise.all (index 0)`, and for those without a column.
    pub fn parse(line: &'t str) -> Option<Self> {
        match line.trim_start().strip_prefix("at ") {
            Some(call) => Self::parse_v8(line, call),
            None => Self::parse_at_sign(line),
        }
    }

    fn parse_v8(line: &'t str, call: &'t str) -> Option<Self> {
        let call = without_keywords(call);
        let prefix = &line[..line.len() - call.len()];
        let (function, place) = split_call(call);
        if place.starts_with("eval at ") {
            return None;
        }
        let (url, line, column) = parse_position(place)?;
        Some(Self { prefix, function, url, line, column, notation: Notation::V8 })
    }

    fn parse_at_sign(line: &'t str) -> Option<Self> {
        // Safari omits the `@` for anonymous functions.
        let (name, place) = line.split_once('@').filter(|(name, _)| !name.contains("://")).unwrap_or(("", line));
        let (url, number, column) = parse_position(place)?;
        // Otherwise any line of a message that ends in numbers would be a frame.
        if !url.contains("://") && !line.contains('@') {
            return None;
        }
        let function = name.rsplit_once('*').map_or(name, |(_, function)| function);
        let prefix = &name[..name.len() - function.len()];
        Some(Self { prefix, function, url, line: number, column, notation: Notation::AtSign })
    }

    /// Appends the line in its notation, without a newline.
    pub fn write(&self, text: &mut String) {
        let position = format!("{}:{}:{}", self.url, self.line, self.column);
        text.push_str(self.prefix);
        text.push_str(self.function);
        match self.notation {
            Notation::V8 if self.function.is_empty() => text.push_str(&position),
            Notation::V8 => {
                text.push_str(" (");
                text.push_str(&position);
                text.push(')');
            }
            Notation::AtSign => {
                text.push('@');
                text.push_str(&position);
            }
        }
    }
}

/// Returns the length in bytes of the error's name and message at the start of a stack, or 0 if the stack does not start
/// with this message.
pub fn header_bytes(stack: &str, message: &str) -> usize {
    let message = message.trim_end();
    if message.is_empty() {
        return 0;
    }
    let end = |start: usize| start + message.len();
    if stack.starts_with(message) {
        return end(0);
    }
    // `TypeError: message`. The name is one line and may have a colon of its own.
    let first = stack.lines().next().unwrap_or_default();
    let mut starts = first.match_indices(": ").map(|(at, colon)| at + colon.len()).take(MESSAGE_STARTS_MAX);
    starts.find(|start| stack[*start..].starts_with(message)).map_or(0, end)
}

fn without_keywords(call: &str) -> &str {
    ["async ", "new "].into_iter().fold(call, |call, keyword| call.strip_prefix(keyword).unwrap_or(call))
}

/// Splits `name (place)` into name and place. The name is empty if there is only a place.
fn split_call(call: &str) -> (&str, &str) {
    call.strip_suffix(')').and_then(|call| call.split_once(" (")).unwrap_or(("", call))
}

/// Parses `url:line:column`, except in evaluated code, where Firefox adds words to the URL.
fn parse_position(place: &str) -> Option<(&str, u32, u32)> {
    let (place, column) = place.rsplit_once(':')?;
    let (url, line) = place.rsplit_once(':')?;
    let number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten();
    let (line, column): (u32, u32) = (number(line)?, number(column)?);
    let evaluated = url.contains(" > eval") || url.contains(" > Function") || url.starts_with('<');
    (!url.is_empty() && !evaluated && line > 0 && column > 0).then_some((url, line, column))
}

/// Parses any frame. Those without a file are the engine's own code.
fn frame<'t>(line: &'t str, _following: &'t str) -> Option<FrameExtent<'t>> {
    let line = line.trim_end();
    let name = |function: &'t str| Some(function).filter(|function| !function.is_empty());
    if let Some(StackLine { function, url, line, column, .. }) = StackLine::parse(line) {
        let (file, line, column) = (Some(url), Some(line), Some(column));
        let frame = Frame { file, line, column, function: name(function), in_app: true, ..Frame::default() };
        return Some(FrameExtent::new(frame, 1));
    }
    if let Some(function) = line.strip_suffix("@[native code]") {
        return Some(FrameExtent::new(Frame { function: name(function), ..Frame::default() }, 1));
    }
    let (function, place) = split_call(without_keywords(line.trim_start().strip_prefix("at ")?));
    let mut frame = Frame { function: name(function), ..Frame::default() };
    if place == "native" || starts_with_any(place, &["<anonymous>", "eval at ", "index "]) {
        return Some(FrameExtent::new(frame, 1));
    }
    let location = file_line_column(place).filter(|_| !function.is_empty() || place.contains("://"))?;
    (frame.file, frame.line, frame.in_app) = (Some(location.file), location.line_number(), true);
    Some(FrameExtent::new(frame, 1))
}

fn write_frame(text: &mut String, _index: usize, frame: &Frame<'_>) {
    let function = frame.function.unwrap_or_default();
    let prefix = "    at ";
    match (frame.file, frame.line, frame.column) {
        (Some(url), Some(line), Some(column)) => {
            StackLine { prefix, function, url, line, column, notation: Notation::V8 }.write(text);
        }
        (Some(url), Some(line), None) => text.push_str(&format!("{prefix}{function} ({url}:{line})")),
        _ if function.is_empty() => text.push_str("    at <anonymous>"),
        _ => text.push_str(&format!("{prefix}{function} (<anonymous>)")),
    }
    text.push('\n');
}

fn continues(phase: &mut TracePhase, candidate: &CandidateLine<'_>) -> bool {
    let line = candidate.line;
    if starts_with_any(line, &["Node.js v", "(Use `node --trace", "Thrown at:"]) {
        *phase = TracePhase::Frames;
        return true;
    }
    // Messages may look like records, so it takes a logger's prefix or a level to end them.
    let is_record = || {
        let log = (candidate.classify)(line);
        log.is_logged || (log.starts_record && log.states_level)
    };
    phase.consume_message_line() && !is_crash_location(line) && !is_record()
}

/// Returns whether a line is the position that starts the report of an uncaught exception: `/app/cart.js:7`.
fn is_crash_location(line: &str) -> bool {
    let Some((file, number)) = line.rsplit_once(':') else { return false };
    let is_script = EXTENSIONS.iter().any(|extension| file.ends_with(extension)) || file.starts_with("node:");
    is_number(number) && is_script && !file.contains(' ')
}
