//! The stack traces of Elixir and Erlang.
//!
//! Frames are indented, the innermost first, most with the name and version of their application.

use crate::trace::frame::{Frame, FrameExtent};
use crate::trace::language::{Language, Library, LineRule, LocationRule, Multiline, TracePhase};
use crate::trace::location_notation::{Location, file_line, first_in_app};
use crate::trace::scan::{lines, starts_with_any};

/// Beginning of the line that names an exception.
const CRASH: &str = "** (";

/// The applications of Elixir and Erlang themselves.
const RUNTIME: [&str; 4] = ["elixir", "stdlib", "kernel", "erts"];

/// The rules for this language.
pub(in crate::trace) static ELIXIR: Language = Language {
    name: "Elixir",
    frame,
    write_frame,
    library: Library { paths: &[], modules: &RUNTIME },
    causes: &[CRASH],
    location_rules: &[LocationRule { mark: ".e", find: locate }],
    multiline: Multiline {
        start: LineRule {
            first_bytes: b"*",
            phase: |line, log| {
                (line.starts_with(CRASH) && log.is_error && !log.starts_record).then_some(TracePhase::Frames)
            },
        },
        // Logger prints these members of a process that crashed.
        continues: |_, candidate| starts_with_any(candidate.line, &["Last message", "State: "]),
        cause_start: LineRule {
            first_bytes: b"*",
            phase: |line, _| line.starts_with(CRASH).then_some(TracePhase::Frames),
        },
        ..Multiline::NONE
    },
    ..Language::NONE
};

/// Returns the first frame that belongs neither to Elixir nor to Erlang.
fn locate(traceback: &str) -> Option<Location<'_>> {
    let frames = lines(traceback).filter_map(parse);
    first_in_app(frames.map(|(location, application, _)| (location, !RUNTIME.contains(&application))))
}

/// Parses `(shop 0.1.0) lib/pay.ex:12: Shop.Pay.charge/1` into location, application and function. The application is
/// empty if the line has none.
fn parse(line: &str) -> Option<(Location<'_>, &str, &str)> {
    let frame = line.trim_start();
    let (application, frame) = match frame.strip_prefix('(') {
        Some(frame) => frame.split_once(") ")?,
        None => ("", frame),
    };
    let (place, function) = frame.split_once(": ")?;
    let location = file_line(place)?;
    let is_source = [".ex", ".exs", ".erl"].iter().any(|extension| location.file.ends_with(extension));
    is_source.then_some((location, application.split(' ').next().unwrap_or(application), function))
}

fn frame<'t>(line: &'t str, _following: &'t str) -> Option<FrameExtent<'t>> {
    let (location, application, function) = parse(line)?;
    let frame = Frame {
        file: Some(location.file),
        line: location.line_number(),
        function: Some(function).filter(|function| !function.is_empty()),
        module: Some(application).filter(|application| !application.is_empty()),
        in_app: true,
        ..Frame::default()
    };
    Some(FrameExtent::new(frame, 1))
}

fn write_frame(text: &mut String, _index: usize, frame: &Frame<'_>) {
    text.push_str("    ");
    if let Some(application) = frame.module {
        text.push_str(&format!("({application}) "));
    }
    let (file, line) = (frame.file.unwrap_or("unknown.ex"), frame.line.unwrap_or_default());
    text.push_str(&format!("{file}:{line}: {}\n", frame.function.unwrap_or("unknown")));
}
