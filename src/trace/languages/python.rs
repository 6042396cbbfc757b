//! CPython's tracebacks, including `SyntaxError`, exception groups, `faulthandler` and Loguru.
//!
//! The innermost frame comes last. The line that names the exception ends the traceback.

use crate::trace::frame::{ContextLine, Frame, FrameExtent};
use crate::trace::language::{CandidateLine, FrameOrder, Language, Library, LineRule, Multiline, TracePhase};
use crate::trace::scan::{class_name, first_line, leading_number, starts_with_any};

const HEADER: &str = "Traceback (most recent call last):";

/// Lines between the tracebacks of a chain (CPython, `traceback.py`).
const CAUSES: [&str; 2] =
    ["The above exception was the direct cause of the following", "During handling of the above exception, another"];

/// Lines that SQLAlchemy adds below its message.
const SQLALCHEMY: [&str; 4] = ["[SQL: ", "[parameters: ", "[cached since ", "(Background on this error at"];

/// The rules for this language.
pub(super) static PYTHON: Language = Language {
    name: "Python",
    order: FrameOrder::InnermostLast,
    frame,
    write_frame,
    library: Library {
        paths: &["/site-packages/", "/dist-packages/", "/lib/python2", "/lib/python3", "<frozen "],
        modules: &[],
    },
    causes: &CAUSES,
    multiline: Multiline {
        start: LineRule {
            first_bytes: b" ",
            phase: |line, _| is_frame(line.trim_ascii_start()).then_some(TracePhase::Frames),
        },
        start_at_colon: |line| {
            let is_group = || line.contains("Exception Group Traceback");
            line.ends_with(HEADER).then(|| if is_group() { TracePhase::Ended } else { TracePhase::Frames })
        },
        continues,
        indented: LineRule {
            first_bytes: b"F+",
            phase: |line, _| match line.strip_prefix("+ Exception Group Traceback") {
                Some(_) => Some(TracePhase::Ended),
                None => is_frame(line).then_some(TracePhase::Frames),
            },
        },
        continuation_only: LineRule {
            first_bytes: b"CL[(",
            phase: |line, _| {
                if line.starts_with("Current thread 0x") {
                    return Some(TracePhase::Frames);
                }
                (starts_with_any(line, &SQLALCHEMY) || is_sql_position(line)).then_some(TracePhase::Ended)
            },
        },
        cause_start: LineRule {
            first_bytes: b"T",
            phase: |line, _| line.starts_with(HEADER).then_some(TracePhase::Frames),
        },
        follows_announcement: true,
        ..Multiline::NONE
    },
    ..Language::NONE
};

/// Parses `File "/app/pay.py", line 42, in charge`, with the source line and its marks if they follow.
fn frame<'t>(line: &'t str, following: &'t str) -> Option<FrameExtent<'t>> {
    let (indent, inner) = unindent(line);
    let (file, rest) = inner.strip_prefix("File \"")?.split_once("\", line ")?;
    let (number, rest) = leading_number(rest)?;
    let line = number.parse().ok();
    let mut frame = Frame { file: Some(file), line, in_app: true, ..Frame::default() };
    frame.function = rest.strip_prefix(", in ").map(str::trim_end).filter(|function| !function.is_empty());
    let mut lines = 1;
    let (source_indent, source) = unindent(first_line(following));
    if source_indent > indent
        && !source.is_empty()
        && !source.starts_with("File \"")
        && let Some(number) = line
    {
        frame.context.push(ContextLine { line: number, text: source });
        let marks = following.split_once('\n').map_or("", |(_, after)| unindent(first_line(after)).1);
        let is_marked = !marks.is_empty() && marks.bytes().all(|byte| b"^~ ".contains(&byte));
        lines += 1 + usize::from(is_marked);
    }
    Some(FrameExtent::new(frame, lines))
}

/// Splits a line into the width of its indentation and the rest. The `|` of exception groups belongs to the indentation.
fn unindent(line: &str) -> (usize, &str) {
    let inner = line.trim_start_matches([' ', '\t', '|']);
    (line.len() - inner.len(), inner)
}

fn write_frame(text: &mut String, _index: usize, frame: &Frame<'_>) {
    let (file, line) = (frame.file.unwrap_or("<unknown>"), frame.line.unwrap_or_default());
    text.push_str(&format!("  File \"{file}\", line {line}"));
    if let Some(function) = frame.function {
        text.push_str(", in ");
        text.push_str(function);
    }
    text.push('\n');
    for source in frame.context.iter().filter(|source| Some(source.line) == frame.line) {
        text.push_str("    ");
        text.push_str(source.text);
        text.push('\n');
    }
}

fn continues(phase: &mut TracePhase, candidate: &CandidateLine<'_>) -> bool {
    let line = candidate.line;
    match phase {
        TracePhase::Ended | TracePhase::Details if starts_with_any(line, &CAUSES) => {
            *phase = TracePhase::Frames;
            true
        }
        TracePhase::Ended => starts_with_any(line, &SQLALCHEMY),
        // Pydantic lists the invalid fields, one name on each line.
        TracePhase::Details => starts_with_any(line, &SQLALCHEMY) || !line.contains(' '),
        _ => {
            // Loguru marks the frame that caught the exception with `>`.
            if starts_with_any(line, &[HEADER, "> File \""]) {
                return true;
            }
            let ended = names_exception(line) && !candidate.is_record();
            if ended {
                *phase = if line.contains(" validation error") { TracePhase::Details } else { TracePhase::Ended };
            }
            ended
        }
    }
}

/// Returns whether a line is `LINE 1: SELECT * FROM carts`, which libpq adds below the message of an error.
fn is_sql_position(line: &str) -> bool {
    let number = line.strip_prefix("LINE ").and_then(leading_number);
    number.is_some_and(|(_, rest)| rest.starts_with(": "))
}

/// Returns whether a line ends a traceback: `shop.errors.Declined: no funds`, `KeyboardInterrupt`. Classes that are
/// defined in functions have `<locals>` in their name.
fn names_exception(line: &str) -> bool {
    let mut rest = line;
    loop {
        rest = &rest[class_name(rest).len()..];
        match rest.strip_prefix("<locals>.") {
            Some(inner) => rest = inner,
            None => break,
        }
    }
    rest.len() < line.len() && (rest.is_empty() || rest == ":" || rest.starts_with(": "))
}

fn is_frame(inner: &str) -> bool {
    inner.starts_with("File \"") && inner.contains("\", line ")
}
