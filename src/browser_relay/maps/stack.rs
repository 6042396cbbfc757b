//! The stacks of browsers: which lines are frames, and what they become where a frame is mapped.
//!
//! V8 (Chrome, Edge, Node) writes the error's name and message and then `    at name (url:line:column)`, or `    at
//! url:line:column` for a function without a name; before the name may stand `async` and `new`, behind it `[as alias]`
//! (<https://v8.dev/docs/stack-trace-api>). Firefox and Safari write `name@url:line:column` and no message. Lines and
//! columns count from 1 in all of them. Frames of evaluated code (`eval at …`, `line 3 > eval`), of native code, of
//! `Promise.all (index 0)`, and those without a column are left alone: no map is about them.
//!
//! Whatever is not a mapped frame stays byte for byte as it is. The message stays too, even where it looks like a
//! frame: its lines are passed over if the stack begins with it, as V8's stacks do.

use super::lookup::{Function, Original};

/// Bytes of a stack that are looked at; what is behind stays as it is.
const STACK_BYTES_MAX: usize = 64 * 1024;
/// Frames that are looked up.
const FRAMES_MAX: usize = 50;

/// A frame as it stands in a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Frame<'a> {
    /// What stands before the function's name: blanks, `at `, `async `, `new `; in Firefox `async*` and the like.
    before: &'a str,
    /// Empty where there is none.
    function: &'a str,
    url: &'a str,
    line: u32,
    column: u32,
    engine: Engine,
}

/// A frame and what it is mapped to.
type Found<'a> = (Frame<'a>, Option<Original>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Engine {
    V8,
    /// Firefox and Safari.
    At,
}

/// A frame that was mapped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::browser_relay) struct Mapped {
    /// Which line of the stack it is, from 0.
    pub(in crate::browser_relay) line: usize,
    /// The function's name as it stands in the stack now; empty where there is none.
    pub(in crate::browser_relay) function: String,
    pub(in crate::browser_relay) original: Original,
}

/// A stack with its frames mapped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::browser_relay) struct Rewritten {
    pub(in crate::browser_relay) stack: String,
    /// The frames that were mapped, innermost first.
    pub(in crate::browser_relay) frames: Vec<Mapped>,
}

/// Maps the frames of a stack. `resolve` is given a frame's URL, line and column (both from 1), for at most 50 frames.
///
/// A frame is called what the source says, and that is nothing where the source says that the function has no name:
/// what a minifier made of it may be called anything. Where the map has no content of the source, it is called what the
/// map calls the word in the next frame that it was called by, or else what it was called before.
pub(in crate::browser_relay) fn rewrite(
    stack: &str,
    message: &str,
    mut resolve: impl FnMut(&str, u32, u32) -> Option<Original>,
) -> Rewritten {
    let (looked_at, rest) = stack.split_at(stack.floor_char_boundary(STACK_BYTES_MAX));
    let mut looked_up = 0;
    let mut lines: Vec<(&str, Option<Found<'_>>)> = Vec::new();
    let (head, looked_at) = looked_at.split_at(message_bytes(looked_at, message));
    for line in looked_at.split_inclusive('\n') {
        let frame = parse(line.trim_end_matches(['\n', '\r'])).map(|frame| {
            looked_up += 1;
            let original = if looked_up <= FRAMES_MAX { resolve(frame.url, frame.line, frame.column) } else { None };
            (frame, original)
        });
        lines.push((line, frame));
    }
    let mut rewritten = Rewritten { stack: String::with_capacity(stack.len() * 2), frames: Vec::new() };
    rewritten.stack.push_str(head);
    let first_line = head.matches('\n').count();
    for (at, (line, frame)) in lines.iter().enumerate() {
        let Some((frame, Some(original))) = frame else {
            rewritten.stack.push_str(line);
            continue;
        };
        let caller = lines.get(at + 1).and_then(|(_, frame)| frame.as_ref());
        let caller =
            caller.filter(|(frame, _)| !frame.before.contains("async")).and_then(|(_, caller)| caller.as_ref());
        let function = frame.named(original, caller);
        frame.write(&mut rewritten.stack, &function, original);
        rewritten.stack.push_str(&line[line.trim_end_matches(['\n', '\r']).len()..]);
        rewritten.frames.push(Mapped { line: first_line + at, function, original: original.clone() });
    }
    rewritten.stack.push_str(rest);
    rewritten
}

/// Bytes of the error's name and message at the front of a stack. Without a message the frames begin at the first line
/// that looks like one.
fn message_bytes(stack: &str, message: &str) -> usize {
    let message = message.trim_end();
    if message.is_empty() {
        return 0;
    }
    let behind_name = |at: usize| at + message.len();
    if stack.starts_with(message) {
        return behind_name(0);
    }
    // `TypeError: message`; the name is one line and may have a colon of its own.
    let first = stack.lines().next().unwrap_or_default();
    let mut names = first.match_indices(": ").map(|(at, colon)| at + colon.len());
    names.find(|at| stack[*at..].starts_with(message)).map_or(0, behind_name)
}

/// The frame that a line is, without its end.
fn parse(line: &str) -> Option<Frame<'_>> {
    let words = line.trim_start();
    match words.strip_prefix("at ") {
        Some(rest) => parse_v8(line, rest),
        None => parse_at(line),
    }
}

fn parse_v8<'a>(line: &'a str, rest: &'a str) -> Option<Frame<'a>> {
    let mut words = rest;
    for prefix in ["async ", "new "] {
        words = words.strip_prefix(prefix).unwrap_or(words);
    }
    let before = &line[..line.len() - words.len()];
    let (function, place) = match words.strip_suffix(')').and_then(|words| words.split_once(" (")) {
        Some((function, place)) => (function, place),
        None => ("", words),
    };
    if place.starts_with("eval at ") {
        return None;
    }
    let (url, line, column) = parse_place(place)?;
    Some(Frame { before, function, url, line, column, engine: Engine::V8 })
}

fn parse_at(line: &str) -> Option<Frame<'_>> {
    // Safari leaves the `@` out for a function without a name.
    let (name, place) = line.split_once('@').filter(|(name, _)| !name.contains("://")).unwrap_or(("", line));
    let (url, number, column) = parse_place(place)?;
    // Otherwise any line of a message that ends in numbers would be one.
    if !url.contains("://") && !line.contains('@') {
        return None;
    }
    let function = name.rsplit_once('*').map_or(name, |(_, function)| function);
    let before = &name[..name.len() - function.len()];
    Some(Frame { before, function, url, line: number, column, engine: Engine::At })
}

/// `url:line:column`. Evaluated code in Firefox has further words between.
fn parse_place(place: &str) -> Option<(&str, u32, u32)> {
    let (place, column) = place.rsplit_once(':')?;
    let (url, line) = place.rsplit_once(':')?;
    let number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten();
    let (line, column): (u32, u32) = (number(line)?, number(column)?);
    let evaluated = url.contains(" > eval") || url.contains(" > Function") || url.starts_with('<');
    (!url.is_empty() && !evaluated && line > 0 && column > 0).then_some((url, line, column))
}

impl Frame<'_> {
    /// What the function is called.
    fn named(&self, original: &Original, caller: Option<&Original>) -> String {
        // Pseudonyms such as `<instance_members_initializer>` are V8's own.
        if self.function.starts_with('<') {
            return self.function.to_owned();
        }
        // Firefox says of a function without a name what it is in or assigned to: `load/<`, `cases<`.
        let described = self.function.ends_with('<');
        let member = |name: &str| name.rsplit('.').next().unwrap_or(name).to_owned();
        let name = match (&original.function, self.engine) {
            (Function::Named(name), Engine::V8) => name.clone(),
            (Function::Named(name), Engine::At) => member(name),
            (Function::Anonymous(Some(inside)), Engine::At) if described => member(inside) + "/<",
            (Function::Anonymous(_), _) if !described => String::new(),
            (Function::Unknown, _) if !self.function.is_empty() => {
                caller.and_then(|caller| caller.name.as_deref()).unwrap_or(self.function).to_owned()
            }
            _ => self.function.to_owned(),
        };
        name.chars().filter(|letter| !letter.is_control()).collect()
    }

    /// Writes the frame as its engine would.
    fn write(&self, stack: &mut String, function: &str, original: &Original) {
        let Original { source, line, column, .. } = original;
        let place = format!("{source}:{line}:{column}");
        stack.push_str(self.before);
        stack.push_str(function);
        match self.engine {
            Engine::V8 if function.is_empty() => stack.push_str(&place),
            Engine::V8 => {
                stack.push_str(" (");
                stack.push_str(&place);
                stack.push(')');
            }
            Engine::At => {
                stack.push('@');
                stack.push_str(&place);
            }
        }
    }
}
