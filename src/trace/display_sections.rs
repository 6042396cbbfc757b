//! The sections of a trace for display: runs of the program's frames, of library frames, and of other text.

use serde::Serialize;

use super::frame::FrameExtent;
use super::languages::LANGUAGES;
use super::scan::starts_with_any;

/// Maximum number of sections. The last of them covers the rest of a longer trace as text.
const SECTIONS_MAX: usize = 500;

/// A section: adjacent lines of a trace that have the same kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LineRun {
    /// Kind of the lines.
    pub kind: RunKind,
    /// Index of the first line in the trace, from 0.
    pub first_line: usize,
    /// Number of lines, at least 1.
    pub lines: usize,
    /// Number of frames in these lines.
    pub frames: usize,
}

/// The kind of a section.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RunKind {
    /// Frames of the program itself.
    InApp,
    /// Frames of libraries and of the runtime.
    Library,
    /// Messages, causes and all other lines.
    Text,
}

/// Divides a trace into at most 500 sections. They cover all its lines in order, except empty lines at the
/// end. An empty trace has none.
pub fn sections(trace: &str) -> Vec<LineRun> {
    let trace = trace.trim_end_matches('\n');
    let mut sections: Vec<LineRun> = Vec::new();
    let mut rest = (!trace.is_empty()).then_some(trace);
    let (mut at, mut kind) = (0, RunKind::Text);
    while let Some(text) = rest {
        let (line, following) = text.split_once('\n').unwrap_or((text, ""));
        let parsed = parse_frame(line, following);
        match &parsed {
            Some(FrameExtent { frame, .. }) if frame.in_app => kind = RunKind::InApp,
            // The message must stay visible when library frames are folded.
            Some(FrameExtent { states_error: true, .. }) => kind = RunKind::Text,
            Some(_) => kind = RunKind::Library,
            // Other indented lines belong to the frame above: source lines, marks, values of variables.
            None if line.starts_with(char::is_whitespace) && !is_cause(line) => {}
            None => kind = RunKind::Text,
        }
        let (lines, frames) = parsed.map_or((1, 0), |parsed| (parsed.lines, 1));
        let is_full = sections.len() + 1 == SECTIONS_MAX;
        match sections.last_mut() {
            Some(last) if last.kind == kind => {
                last.lines += lines;
                last.frames += frames;
            }
            _ if is_full => {
                let lines = text.split('\n').count();
                sections.push(LineRun { kind: RunKind::Text, first_line: at, lines, frames: 0 });
                break;
            }
            _ => sections.push(LineRun { kind, first_line: at, lines, frames }),
        }
        at += lines;
        rest = after_lines(text, lines);
    }
    sections
}

/// Parses the frame that starts at `line` in the first language that recognizes it.
fn parse_frame<'t>(line: &'t str, following: &'t str) -> Option<FrameExtent<'t>> {
    if line.trim_ascii().is_empty() {
        return None;
    }
    LANGUAGES.iter().find_map(|language| language.parse_frame(line, following))
}

/// Returns whether a line introduces another error of a chain.
fn is_cause(line: &str) -> bool {
    let line = line.trim_start();
    LANGUAGES.iter().any(|language| starts_with_any(line, language.causes))
}

/// Returns the text after a number of lines, or `None` at the end.
fn after_lines(text: &str, lines: usize) -> Option<&str> {
    (0..lines).try_fold(text, |text, _| text.split_once('\n').map(|(_, rest)| rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::trace::test_strategies::tracebacks;

    /// The sections of a trace in short: kind, number of lines and, in parentheses, of frames.
    fn outline(trace: &str) -> String {
        let kind = |kind| match kind {
            RunKind::InApp => "app",
            RunKind::Library => "library",
            RunKind::Text => "text",
        };
        let outline = sections(trace).into_iter().map(|LineRun { kind: of, lines, frames, .. }| match frames {
            0 => format!("{} {lines}", kind(of)),
            _ => format!("{} {lines} ({frames})", kind(of)),
        });
        outline.collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn traces_of_all_languages_are_divided() {
        for (trace, expected) in [
            ("", ""),
            ("boom", "text 1"),
            ("boom\n\n\n", "text 1"),
            (
                "Traceback (most recent call last):\n  File \"/app/a.py\", line 1, in f\n    g()\n    ~^^\n\
                 \x20 File \"/lib/python3.12/json/decoder.py\", line 2, in g\n    h()\nValueError: x",
                "text 1, app 3 (1), library 2 (1), text 1",
            ),
            (
                "TypeError: x\n    at f (https://shop.example/a.js:1:2)\n    at Array.map (<anonymous>)\n\
                 \x20   at g (/app/node_modules/x/b.js:3:4)\n    at node:internal/process:5:6",
                "text 1, app 1 (1), library 3 (3)",
            ),
            ("f@https://shop.example/a.js:1:2\nforEach@[native code]\n", "app 1 (1), library 1 (1)"),
            (
                "a.E: x\n\tat shop.Pay.charge(Pay.java:1)\n\tat java.base/java.util.List.of(List.java:2)\n\
                 \tat java.base/jdk.X.invoke(Native Method)\n\tSuppressed: a.F: y\n\t\tat shop.Pay.close(Pay.kt:3)\n\t\t... 2 more\n\
                 Caused by: a.G: z\n\tat org.springframework.A.b(A.java:4) ~[spring.jar:6]",
                "text 1, app 1 (1), library 2 (2), text 1, app 2 (1), text 1, library 1 (1)",
            ),
            (
                "panic: x\n\ngoroutine 1 [running]:\nmain.(*Cart).total(0x1, {0x2})\n\t/app/cart.go:1 +0x1d\n\
                 net/http.HandlerFunc.ServeHTTP(...)\n\t/usr/local/go/src/net/http/server.go:2\n\
                 created by main.main in goroutine 1\n\t/app/main.go:3 +0x2\nexit status 2",
                "text 3, app 2 (1), library 2 (1), app 2 (1), text 1",
            ),
            (
                "thread 'main' panicked at src/main.rs:1:35:\nx\nstack backtrace:\n   0: rust_begin_unwind\n\
                 \x20            at /rustc/1/library/std/src/panicking.rs:1:2\n   1: core::panicking::panic\n\
                 \x20  2: main::charge\n             at ./src/main.rs:1:35\nnote: Some details are omitted",
                "text 3, library 3 (2), app 2 (1), text 1",
            ),
            (
                "/gems/rack-3.1/lib/rack.rb:7:in 'call': x (E)\n\tfrom /app/a.rb:2:in 'f'\n\tfrom /gems/puma/b.rb:3:in 'g'",
                "text 1 (1), app 1 (1), library 1 (1)",
            ),
            (
                "PHP Fatal error: x in /app/a.php:3\nStack trace:\n#0 /app/a.php(3): Shop\\Pay->charge()\n\
                 #1 /app/vendor/b.php(4): f()\n#2 [internal function]: g()\n#3 {main}",
                "text 2, app 1 (1), library 2 (2), text 1",
            ),
            (
                "Shop.E: x\n ---> System.E: y\n   at System.Linq.Enumerable.First[T](IEnumerable`1 source)\n\
                 \x20  at Shop.Pay.Charge(Order o) in /src/Pay.cs:line 12\n   --- End of inner exception stack trace ---\n\
                 \x20  at Shop.Pay.Main()",
                "text 2, library 1 (1), app 3 (2)",
            ),
            (
                "** (KeyError) x\n    (elixir 1.17.3) lib/map.ex:504: Map.fetch!/2\n    (shop 0.4.0) lib/cart.ex:31: Cart.total/1",
                "text 1, library 1 (1), app 1 (1)",
            ),
        ] {
            assert_eq!(outline(trace), expected, "{trace}");
        }
    }

    #[test]
    fn long_traces_end_in_one_section_of_text() {
        let trace = "f@https://shop.example/a.js:1:2\nboom\n".repeat(1_000);
        let sections = sections(&trace);
        assert_eq!(sections.len(), SECTIONS_MAX);
        let expected = LineRun { kind: RunKind::Text, first_line: 499, lines: 1_501, frames: 0 };
        assert_eq!(sections.last(), Some(&expected));
    }

    proptest! {
        #[test]
        fn sections_cover_all_lines_in_order(trace in prop_oneof![tracebacks(), "(?s).{0,200}"]) {
            let mut next = 0;
            for section in sections(&trace) {
                prop_assert_eq!(section.first_line, next);
                prop_assert!(section.frames <= section.lines && section.lines > 0);
                next += section.lines;
            }
            let trace = trace.trim_end_matches('\n');
            prop_assert_eq!(next, if trace.is_empty() { 0 } else { trace.split('\n').count() });
        }
    }
}
