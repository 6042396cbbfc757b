//! Perl's backtraces, as `Carp::confess` and `Carp::cluck` print them.
//!
//! The first line has the message and the innermost location. The callers follow, indented, the innermost first.

use crate::trace::frame::{Frame, FrameExtent};
use crate::trace::language::{Language, Library, LineRule, Multiline, TracePhase};
use crate::trace::scan::{CLASS_START, leading_number};

/// The rules for this language.
pub(super) static PERL: Language = Language {
    name: "Perl",
    frame,
    write_frame,
    library: Library { paths: &["/usr/share/perl", "/usr/lib/x86_64-linux-gnu/perl", "/perl5/"], modules: &[] },
    multiline: Multiline {
        indented: LineRule {
            first_bytes: CLASS_START,
            phase: |line, _| split_caller(line).is_some().then_some(TracePhase::Ended),
        },
        ..Multiline::NONE
    },
    ..Language::NONE
};

/// Parses `Shop::Pay::charge(17) called at /app/pay.pl line 7` into call, file and line number.
fn split_caller(line: &str) -> Option<(&str, &str, &str)> {
    let (call, place) = line.split_once(" called at ")?;
    let (file, rest) = place.split_once(" line ")?;
    let (number, _) = leading_number(rest)?;
    Some((call, file, number))
}

fn frame<'t>(line: &'t str, _following: &'t str) -> Option<FrameExtent<'t>> {
    let (call, file, number) = split_caller(line.trim_start())?;
    let name = call.split_once('(').map_or(call, |(name, _)| name);
    let (module, function) = name.rsplit_once("::").map_or((None, name), |(module, name)| (Some(module), name));
    let (file, line) = (Some(file), number.parse().ok());
    Some(FrameExtent::new(Frame { file, line, module, function: Some(function), in_app: true, ..Frame::default() }, 1))
}

fn write_frame(text: &mut String, _index: usize, frame: &Frame<'_>) {
    text.push('\t');
    if let Some(module) = frame.module {
        text.push_str(module);
        text.push_str("::");
    }
    let (file, line) = (frame.file.unwrap_or("unknown"), frame.line.unwrap_or_default());
    text.push_str(&format!("{}() called at {file} line {line}\n", frame.function.unwrap_or("unknown")));
}
