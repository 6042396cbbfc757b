//! Java's stack traces, which Kotlin, Scala and other languages of the JVM share (`Throwable.printStackTrace`).
//!
//! Frames are indented, the innermost first; causes follow the trace that they caused.

use super::at_frames::is_at_frame;
use crate::trace::frame::{Frame, FrameExtent};
use crate::trace::language::{Language, Library, LineRule, Multiline, TracePhase};
use crate::trace::location_notation::file_line;
use crate::trace::scan::{CLASS_START, class_name, starts_with_any};

/// Extensions of source files, by which a frame without a line number is recognized.
const EXTENSIONS: [&str; 4] = [".java", ".kt", ".scala", ".groovy"];

/// Lines above the frames of a cause, of an exception that `try` with resources suppressed, or, where Logback prints the
/// root cause first, of the exception that wraps the one above.
const CAUSES: [&str; 3] = ["Caused by: ", "Suppressed: ", "Wrapped by: "];

/// The rules for this language.
pub(super) static JAVA: Language = Language {
    name: "Java",
    frame,
    write_frame,
    library: Library {
        paths: &[],
        modules: &[
            "android",
            "androidx",
            "com.sun",
            "dalvik",
            "io.netty",
            "java",
            "javax",
            "jdk",
            "kotlin",
            "kotlinx",
            "org.apache",
            "org.hibernate",
            "org.springframework",
            "reactor",
            "scala",
            "sun",
        ],
    },
    causes: &CAUSES,
    multiline: Multiline {
        indented: LineRule {
            first_bytes: b"a.CSW",
            phase: |line, _| {
                let belongs = is_at_frame(line) || line.starts_with("... ") || starts_with_any(line, &CAUSES);
                belongs.then_some(TracePhase::Unidentified)
            },
        },
        continuation_only: LineRule {
            first_bytes: b"CSW",
            phase: |line, _| {
                starts_with_any(line, &["Caused by:", "Suppressed: ", "Wrapped by: "])
                    .then_some(TracePhase::Unidentified)
            },
        },
        cause_start: LineRule {
            first_bytes: CLASS_START,
            phase: |line, _| is_qualified_exception(line).then_some(TracePhase::Unidentified),
        },
        ..Multiline::NONE
    },
    ..Language::NONE
};

/// Parses `at java.base/java.util.AbstractList.forEach(AbstractList.java:720)`. Logback's packaging data
/// (`~[shop.jar:1.0]`) may follow.
fn frame<'t>(line: &'t str, _following: &'t str) -> Option<FrameExtent<'t>> {
    let (call, rest) = line.trim_start().strip_prefix("at ")?.split_once('(')?;
    let (source, rest) = rest.split_once(')')?;
    // Before the class come the names of its loader and of its module.
    let (module, function) = call.rsplit_once('/').map_or(call, |(_, call)| call).rsplit_once('.')?;
    if call.contains(' ') || !(rest.is_empty() || starts_with_any(rest, &[" [", " ~["])) {
        return None;
    }
    let mut frame = Frame { module: Some(module), function: Some(function), in_app: true, ..Frame::default() };
    match file_line(source) {
        Some(location) => (frame.file, frame.line) = (Some(location.file), location.line_number()),
        None if EXTENSIONS.iter().any(|extension| source.ends_with(extension)) => frame.file = Some(source),
        None if source == "Native Method" || source == "Unknown Source" => {}
        None => return None,
    }
    Some(FrameExtent::new(frame, 1))
}

fn write_frame(text: &mut String, _index: usize, frame: &Frame<'_>) {
    text.push_str("\tat ");
    for part in [frame.module.unwrap_or("Unknown"), ".", frame.function.unwrap_or("unknown"), "("] {
        text.push_str(part);
    }
    text.push_str(frame.file.unwrap_or("Unknown Source"));
    if let Some(line) = frame.line {
        text.push_str(&format!(":{line}"));
    }
    text.push_str(")\n");
}

/// Returns whether a line is `java.lang.IllegalStateException: closed` or the like.
fn is_qualified_exception(line: &str) -> bool {
    let class = class_name(line);
    let after = &line[class.len()..];
    class.contains('.')
        && (class.ends_with("Exception") || class.ends_with("Error") || class.ends_with("Throwable"))
        && (after.is_empty() || after.starts_with(':'))
}
