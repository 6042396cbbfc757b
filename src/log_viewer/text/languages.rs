//! How stack traces look, language by language: how they begin, what their frames are, and which of their lines are not
//! indented.

use super::head::{self, Head};
use super::level::Level;

/// Lines of a message before the stack that are taken on trust, since the stack will follow.
const MESSAGE_LINES_MAX: u8 = 16;

/// A stack trace that is being written, and how far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trace {
    /// Frames, until the line that names the exception ends them. A validation error's fields may follow that.
    Python {
        ended: bool,
        fields: bool,
    },
    /// `panic: …`, then the goroutines. Before them so many lines of message may come.
    Go {
        stack: bool,
        message_lines: u8,
    },
    /// An uncaught exception, which begins with the place, the code and a `^`.
    Node {
        message_lines: u8,
    },
    /// `thread 'main' panicked at src/main.rs:3:5:`, whose message stands on the next line.
    Rust {
        message_due: bool,
    },
    Php,
    Ruby,
    /// Those that indent everything but `Caused by:`.
    Other,
}

impl Trace {
    pub(super) fn is_python(self) -> bool {
        matches!(self, Self::Python { .. })
    }

    /// Whether more is bound to come.
    pub(super) fn expects_more(self) -> bool {
        !matches!(self, Self::Python { ended: true, .. })
    }

    /// What it is after a frame of that kind. Java, .NET and JavaScript frames look alike, so what is known better stays.
    pub(super) fn with_frame(self, frame: Self) -> Self {
        match (self, frame) {
            (Self::Node { .. }, _) => Self::Node { message_lines: 0 },
            (Self::Other, frame) => frame,
            (known, _) => known,
        }
    }

    /// Whether an unindented line belongs to it. `entry` is its text so far.
    pub(super) fn takes(&mut self, line: &str, entry: &str) -> bool {
        let starts = |beginnings: &[&str]| beginnings.iter().any(|beginning| line.starts_with(beginning));
        match self {
            Self::Python { ended, fields } if !*ended => {
                // Loguru marks the frame it caught the exception in.
                if starts(&["Traceback (most recent call last):", "> File \""]) {
                    return true;
                }
                *ended = names_exception(line) && !head::read(line).record;
                *fields = line.contains(" validation error");
                *ended
            }
            Self::Python { ended, .. } if starts(&CHAINS) => {
                *ended = false;
                true
            }
            Self::Python { fields, .. } => starts(&SQLALCHEMY) || (*fields && !line.contains(' ')),
            Self::Go { stack, .. } if is_goroutine(line) => {
                *stack = true;
                true
            }
            Self::Go { stack: true, .. } => {
                starts(&GO_LINES) || is_go_call(line) || is_go_function(line) || is_register(line)
            }
            Self::Go { message_lines, .. } => {
                starts(&GO_LINES)
                    || (!starts(&["panic: ", "fatal error: "]) && spend(message_lines) && !head::read(line).record)
            }
            Self::Node { message_lines } => {
                if starts(&["Node.js v", "(Use `node --trace", "Thrown at:"]) {
                    *message_lines = 0;
                    return true;
                }
                let record = || {
                    let head = head::read(line);
                    head.logged || (head.record && head.level.is_some())
                };
                spend(message_lines) && !is_node_place(line) && !record()
            }
            Self::Rust { message_due } => {
                let message = std::mem::take(message_due) && !head::read(line).record;
                message || starts(&["note: ", "stack backtrace:"])
            }
            Self::Php => starts(&["Next ", "[previous exception]", "\"}"]) || is_php_frame(line),
            Self::Ruby => is_ruby_frame(line) || is_ruby_exception(line) || has_tag_of(line, entry),
            // Of Elixir's processes.
            Self::Other => starts(&["Last message", "State: "]),
        }
    }
}

fn spend(lines: &mut u8) -> bool {
    let had = *lines > 0;
    *lines = lines.saturating_sub(1);
    had
}

/// Between the tracebacks of a chain (CPython, `traceback.py`).
const CHAINS: [&str; 2] =
    ["The above exception was the direct cause of the following", "During handling of the above exception, another"];

/// What SQLAlchemy puts under its message.
const SQLALCHEMY: [&str; 4] = ["[SQL: ", "[parameters: ", "[cached since ", "(Background on this error at"];

/// Of a Go crash (`runtime/traceback.go`, `runtime/panic.go`) and of `go run`.
const GO_LINES: [&str; 8] = [
    "[signal ",
    "created by ",
    "exit status ",
    "runtime stack:",
    "runtime: ",
    "...additional frames elided...",
    "[originating from goroutine",
    "PC=",
];

/// The trace that a line begins, which is the first of an entry or behind a record's prefix.
pub(super) fn begun(line: &str, head: &Head) -> Option<Trace> {
    let python = Trace::Python { ended: false, fields: false };
    let go = Trace::Go { stack: false, message_lines: MESSAGE_LINES_MAX };
    if line.ends_with(':') {
        if line.ends_with("Traceback (most recent call last):") {
            return Some(Trace::Python { ended: line.contains("Exception Group Traceback"), fields: false });
        }
        if is_goroutine(line.rsplit_once("goroutine ").map_or("", |(before, _)| &line[before.len()..])) {
            return Some(Trace::Go { stack: true, message_lines: 0 });
        }
        if line.ends_with("Stack trace:") {
            return Some(Trace::Php);
        }
    }
    match line.as_bytes().first()? {
        b' ' if is_python_frame(line.trim_ascii_start()) => Some(python),
        b'p' if line.starts_with("panic: ") => Some(go),
        b'f' if line.starts_with("fatal error: ") => Some(go),
        b't' if line.starts_with("thread '") && line.contains("panicked at") => {
            Some(Trace::Rust { message_due: line.ends_with(':') })
        }
        b's' if line.starts_with("stack backtrace:") => Some(Trace::Rust { message_due: false }),
        b'#' | b'S' | b'[' if is_php_frame(line) => Some(Trace::Php),
        b'E' | b'F' if head.level >= Some(Level::Error) && line[1..].starts_with(", [") => Some(Trace::Ruby),
        b'/' | b'f' | b'n' | b'A'..=b'Z' if is_node_place(line) => {
            Some(Trace::Node { message_lines: MESSAGE_LINES_MAX })
        }
        _ if head.level >= Some(Level::Error) && line.contains("http: panic serving ") => Some(go),
        _ if head.level >= Some(Level::Error) && line.contains("PHP Fatal error:") => Some(Trace::Php),
        _ if head.level >= Some(Level::Error) && (is_ruby_frame(line) || is_ruby_exception(line)) => Some(Trace::Ruby),
        // Only the first line of a crash has a level without being a record.
        _ if head.level >= Some(Level::Error) && !head.record => Some(Trace::Other),
        _ => None,
    }
}

/// The trace that an indented line, given without its indentation, is unmistakably a frame of, or near one.
pub(super) fn frame(inner: &str) -> Option<Trace> {
    let starts = |beginnings: &[&str]| beginnings.iter().any(|beginning| inner.starts_with(beginning));
    match inner.as_bytes().first()? {
        b'a' => inner.strip_prefix("at ").filter(|place| is_place(place)).map(|_| Trace::Other),
        b'F' => is_python_frame(inner).then_some(Trace::Python { ended: false, fields: false }),
        b'+' => starts(&["+ Exception Group Traceback"]).then_some(Trace::Python { ended: true, fields: false }),
        b'f' => (starts(&["from "]) && inner.contains(":in ")).then_some(Trace::Ruby),
        b'.' => starts(&["... "]).then_some(Trace::Other),
        b'-' => starts(&["--- End of ", "---> "]).then_some(Trace::Other),
        b'C' => starts(&["Caused by: "]).then_some(Trace::Other),
        b'S' => starts(&["Suppressed: "]).then_some(Trace::Other),
        b't' => starts(&["thrown in /"]).then_some(Trace::Php),
        _ => None,
    }
}

/// Whether an unindented line only ever stands behind others.
pub(super) fn never_first(line: &str, first: u8) -> bool {
    let starts = |beginnings: &[&str]| beginnings.iter().any(|beginning| line.starts_with(beginning));
    match first {
        b'C' => starts(&["Caused by:", "Causes:", "Current thread 0x"]),
        b'S' => starts(&["Stack trace:", "Stack backtrace:", "Suppressed: "]),
        b's' => starts(&["stack backtrace:"]),
        b'n' => starts(&["note: run with `RUST_BACKTRACE"]),
        b'g' => is_goroutine(line),
        b'[' => starts(&["[stacktrace]"]),
        b'#' => starts(&["#0 "]),
        b'-' => starts(&["--- End of "]),
        b'(' => starts(&["(Use `node --trace"]),
        _ => false,
    }
}

/// The trace that an unindented line begins which, behind a record, explains it.
pub(super) fn explanation(line: &str, first: u8) -> Option<Trace> {
    match first {
        b'T' if line.starts_with("Traceback (most recent call last):") => {
            Some(Trace::Python { ended: false, fields: false })
        }
        b'*' if line.starts_with("** (") => Some(Trace::Other),
        _ if is_qualified_exception(line) => Some(Trace::Other),
        // With a message it is an exception of its own.
        _ if is_ruby_frame(line) && line.ends_with('\'') => Some(Trace::Ruby),
        _ if is_go_function(line) => Some(Trace::Go { stack: true, message_lines: 0 }),
        _ => None,
    }
}

/// `java.lang.IllegalStateException: closed`
fn is_qualified_exception(line: &str) -> bool {
    let class = head::class(line);
    let after = &line[class.len()..];
    class.contains('.')
        && (class.ends_with("Exception") || class.ends_with("Error") || class.ends_with("Throwable"))
        && (after.is_empty() || after.starts_with(':'))
}

/// The line that ends a Python traceback: `shop.errors.Declined: no funds`, `KeyboardInterrupt`. Classes made in
/// functions have `<locals>` in their name.
fn names_exception(line: &str) -> bool {
    let mut rest = line;
    loop {
        rest = &rest[head::class(rest).len()..];
        match rest.strip_prefix("<locals>.") {
            Some(inner) => rest = inner,
            None => break,
        }
    }
    rest.len() < line.len() && (rest.is_empty() || rest == ":" || rest.starts_with(": "))
}

fn is_python_frame(inner: &str) -> bool {
    inner.starts_with("File \"") && inner.contains("\", line ")
}

/// What stands behind `at ` in a frame of Java, .NET or JavaScript.
fn is_place(place: &str) -> bool {
    place.contains('(')
        || place.contains("<anonymous>")
        || place.trim_end_matches(" {").ends_with(|last: char| last.is_ascii_digit())
}

/// `goroutine 1 [running]:`
fn is_goroutine(line: &str) -> bool {
    line.starts_with("goroutine ") && line.ends_with("]:")
}

/// `main.(*Cart).total(0xc000012345, {0x1, 0x2})`, `panic({0x4a5b60?, 0x4e1c28?})`
fn is_go_call(line: &str) -> bool {
    let Some((function, _)) = line.split_once('(') else { return false };
    line.ends_with(')') && !function.contains(' ') && (function.contains('.') || function == "panic")
}

/// `main.main`, `github.com/shop/cart.(*Cart).total`: zap writes a stack's functions without arguments.
fn is_go_function(line: &str) -> bool {
    let name = line.rsplit('/').next().unwrap_or_default();
    let part = |byte: u8| byte.is_ascii_alphanumeric() || b"._-*()[]".contains(&byte);
    let bare = line.bytes().all(|byte| part(byte) || byte == b'/') && !line.ends_with('.');
    bare && line.starts_with(|first: char| first.is_ascii_lowercase()) && name.find('.').is_some_and(|dot| dot > 0)
}

/// `rax    0x0`, when the whole state of a crash is written out.
fn is_register(line: &str) -> bool {
    line.split_once(' ').is_some_and(|(name, value)| name.len() <= 6 && value.trim_ascii_start().starts_with("0x"))
}

/// `/app/cart.js:7`, alone on its line.
fn is_node_place(line: &str) -> bool {
    let Some((file, line_number)) = line.rsplit_once(':') else { return false };
    let script = [".js", ".mjs", ".cjs", ".ts"].into_iter().any(|extension| file.ends_with(extension));
    let digits = !line_number.is_empty() && line_number.bytes().all(|byte| byte.is_ascii_digit());
    digits && (script || file.starts_with("node:")) && !file.contains(' ')
}

fn is_php_frame(line: &str) -> bool {
    let numbered = line.strip_prefix('#').is_some_and(|rest| {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        digits > 0 && rest[digits..].starts_with(' ')
    });
    numbered || line.starts_with("Stack trace:") || line.starts_with("[stacktrace]")
}

/// `app/models/cart.rb:7:in 'Cart#total'`, before or behind the message.
fn is_ruby_frame(line: &str) -> bool {
    line.contains(".rb:") && line.contains(":in ")
}

/// `ActionView::Template::Error (undefined method):`, as Rails writes it below its empty record.
fn is_ruby_exception(line: &str) -> bool {
    line.ends_with("):") && line[head::class(line).len()..].starts_with(" (")
}

/// Whether the line begins with a tag, such as a request's id, that stands in the first line of the entry too.
fn has_tag_of(line: &str, entry: &str) -> bool {
    let first = entry.split('\n').next().unwrap_or_default();
    line.starts_with('[') && line.find(']').is_some_and(|end| end > 1 && first.contains(&line[..=end]))
}
