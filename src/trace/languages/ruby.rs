//! Ruby's backtraces, as the interpreter, Rails and Logger print them.
//!
//! The innermost frame comes first, in a trace of the interpreter on the line of the message.

use crate::trace::frame::{Frame, FrameExtent};
use crate::trace::language::{CandidateLine, Language, Library, LineRule, LocationRule, Multiline, TracePhase};
use crate::trace::location_notation::{Location, file_line, first_in_app};
use crate::trace::scan::{ANY_BYTE, class_name, first_line, lines};

/// The rules for this language.
pub(super) static RUBY: Language = Language {
    name: "Ruby",
    frame,
    write_frame,
    library: Library { paths: &["<internal:", "/gems/", "/lib/ruby/", "/share/ruby/", "/vendor/"], modules: &[] },
    causes: &["Causes:"],
    location_rules: &[LocationRule { mark: ":in ", find: locate }],
    multiline: Multiline {
        start: LineRule {
            first_bytes: b"EF",
            // The format of Ruby's Logger.
            phase: |line, log| (log.is_error && line[1..].starts_with(", [")).then_some(TracePhase::Frames),
        },
        start_at_error: |line| (is_frame(line) || is_exception(line)).then_some(TracePhase::Frames),
        continues,
        indented: LineRule {
            first_bytes: b"f",
            phase: |line, _| (line.starts_with("from ") && line.contains(":in ")).then_some(TracePhase::Frames),
        },
        continuation_only: LineRule {
            first_bytes: b"C",
            // Rails lists the causes of an exception below it.
            phase: |line, _| line.starts_with("Causes:").then_some(TracePhase::Frames),
        },
        cause_start: LineRule {
            first_bytes: ANY_BYTE,
            // With a message it is an exception of its own.
            phase: |line, _| (line.ends_with('\'') && is_frame(line)).then_some(TracePhase::Frames),
        },
        ..Multiline::NONE
    },
    ..Language::NONE
};

/// Returns the first frame outside gems and Ruby's library.
fn locate(traceback: &str) -> Option<Location<'_>> {
    let in_app =
        |file: &str| !file.starts_with("<internal:") && !file.contains("/gems/") && !file.contains("/lib/ruby/");
    let locations = lines(traceback).filter_map(location_and_method).map(|(location, _)| location);
    first_in_app(locations.map(|location| (location, in_app(location.file))))
}

/// Parses `/app/pay.rb:12:in 'Pay#charge'`, with a backquote before Ruby 3.4. The method starts with its quote.
fn location_and_method(line: &str) -> Option<(Location<'_>, &str)> {
    let frame = line.trim_start();
    let frame = frame.strip_prefix("from ").unwrap_or(frame);
    let (place, method) = frame.split_once(":in ")?;
    // A colon and a space in front are not part of a path: they belong to the prefix of a log line, or to a trace that is
    // printed outermost first.
    let location = file_line(place).filter(|location| !location.file.contains(": "))?;
    method.starts_with(['\'', '`']).then_some((location, method))
}

/// Parses a line that may also state the error: `/app/pay.rb:12:in 'Pay#charge': no funds (Declined)`.
fn frame<'t>(line: &'t str, _following: &'t str) -> Option<FrameExtent<'t>> {
    let (location, method) = location_and_method(line)?;
    let (function, message) = method[1..].split_once('\'')?;
    if !message.is_empty() && !message.starts_with(':') {
        return None;
    }
    let frame = Frame {
        file: Some(location.file),
        line: location.line_number(),
        function: Some(function),
        in_app: true,
        ..Frame::default()
    };
    Some(FrameExtent { frame, lines: 1, states_error: !message.is_empty() })
}

fn write_frame(text: &mut String, index: usize, frame: &Frame<'_>) {
    let (file, line) = (frame.file.unwrap_or("unknown"), frame.line.unwrap_or_default());
    let from = if index == 0 { "" } else { "\tfrom " };
    text.push_str(&format!("{from}{file}:{line}:in '{}'\n", frame.function.unwrap_or("unknown")));
}

fn continues(_phase: &mut TracePhase, candidate: &CandidateLine<'_>) -> bool {
    let line = candidate.line;
    is_frame(line) || is_exception(line) || has_tag_of(line, candidate.entry)
}

/// Returns whether a line has a frame, before or after a message: `app/models/cart.rb:7:in 'Cart#total'`.
fn is_frame(line: &str) -> bool {
    line.contains(".rb:") && line.contains(":in ")
}

/// Returns whether a line is `ActionView::Template::Error (undefined method):`, as Rails prints it below an empty record.
fn is_exception(line: &str) -> bool {
    line.ends_with("):") && line[class_name(line).len()..].starts_with(" (")
}

/// Returns whether a line starts with a tag, such as a request's id, that the first line of the entry also has.
fn has_tag_of(line: &str, entry: &str) -> bool {
    line.starts_with('[') && line.find(']').is_some_and(|end| end > 1 && first_line(entry).contains(&line[..=end]))
}
