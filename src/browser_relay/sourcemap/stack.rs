//! Symbolication of browser stacks: replaces the positions and names of minified frames with those of the sources.
//!
//! [`crate::trace::javascript`] parses and writes the frames of each engine. Everything that is not a resolved frame stays
//! byte for byte the same. So does the message, even where it looks like a frame: if the stack starts with it, as V8's
//! stacks do, its lines are skipped.

use super::lookup::{FunctionName, OriginalPosition};
use crate::trace::javascript::{Notation, StackLine, header_bytes};

/// Bytes of a stack that are parsed; the rest stays as it is.
const STACK_BYTES_MAX: usize = 64 * 1024;
/// Frames that are looked up; what follows the last of them stays as it is.
const FRAMES_MAX: usize = 50;
/// Lines that are parsed; the rest stays as it is.
const LINES_MAX: usize = 1_000;

/// A frame and its original position, if the map has one.
type FrameLookup<'a> = (StackLine<'a>, Option<OriginalPosition>);

/// A frame that was resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::browser_relay) struct ResolvedFrame {
    /// Index of its line in the stack, from 0.
    pub(in crate::browser_relay) line: usize,
    /// Name of the function in the symbolicated stack, empty if it is anonymous.
    pub(in crate::browser_relay) function: String,
    /// Position in the sources.
    pub(in crate::browser_relay) original: OriginalPosition,
}

/// A stack with its resolved frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::browser_relay) struct SymbolicatedStack {
    /// The text of the stack.
    pub(in crate::browser_relay) stack: String,
    /// The frames that were resolved, innermost first.
    pub(in crate::browser_relay) frames: Vec<ResolvedFrame>,
}

/// Rewrites the frames of a stack. Calls `resolve` with the URL, line and column (both from 1) of at most 50 frames.
///
/// A function gets the name it has in the source. If it is anonymous there, it gets none, because a minifier's name for it
/// means nothing. If the map lacks the source's content, the function gets the name by which its caller called it
/// according to the map, or else keeps its minified name.
pub(in crate::browser_relay) fn symbolicate_stack(
    stack: &str,
    message: &str,
    mut resolve: impl FnMut(&str, u32, u32) -> Option<OriginalPosition>,
) -> SymbolicatedStack {
    let (parsed, rest) = stack.split_at(stack.floor_char_boundary(STACK_BYTES_MAX));
    let (header, parsed) = parsed.split_at(header_bytes(parsed, message));
    let (mut lookups, mut unparsed) = (0, parsed);
    let mut lines: Vec<(&str, Option<FrameLookup<'_>>)> = Vec::new();
    for line in parsed.split_inclusive('\n').take(LINES_MAX) {
        let frame = StackLine::parse(line.trim_end_matches(['\n', '\r'])).map(|frame| {
            lookups += 1;
            (frame, resolve(frame.url, frame.line, frame.column))
        });
        lines.push((line, frame));
        unparsed = &unparsed[line.len()..];
        if lookups == FRAMES_MAX {
            break;
        }
    }
    let mut symbolicated = SymbolicatedStack { stack: String::with_capacity(stack.len() * 2), frames: Vec::new() };
    symbolicated.stack.push_str(header);
    let first_line = header.matches('\n').count();
    for (at, (line, frame)) in lines.iter().enumerate() {
        let Some((frame, Some(original))) = frame else {
            symbolicated.stack.push_str(line);
            continue;
        };
        let next = lines.get(at + 1).and_then(|(_, frame)| frame.as_ref());
        let caller = next.filter(|(frame, _)| !frame.prefix.contains("async")).and_then(|(_, caller)| caller.as_ref());
        let function = function_name(frame, original, caller);
        let OriginalPosition { source: url, line: number, column, .. } = original;
        StackLine { function: &function, url, line: *number, column: *column, ..*frame }.write(&mut symbolicated.stack);
        symbolicated.stack.push_str(&line[line.trim_end_matches(['\n', '\r']).len()..]);
        symbolicated.frames.push(ResolvedFrame { line: first_line + at, function, original: original.clone() });
    }
    symbolicated.stack.push_str(unparsed);
    symbolicated.stack.push_str(rest);
    symbolicated
}

/// Returns the name of a frame's function, without control characters; empty if it is anonymous.
fn function_name(frame: &StackLine<'_>, original: &OriginalPosition, caller: Option<&OriginalPosition>) -> String {
    // V8 makes up names such as `<instance_members_initializer>`.
    if frame.function.starts_with('<') {
        return frame.function.to_owned();
    }
    // Firefox describes an anonymous function by the one that it is in or assigned to: `load/<`, `cases<`.
    let is_described = frame.function.ends_with('<');
    let member = |name: &str| name.rsplit('.').next().unwrap_or(name).to_owned();
    let name = match (&original.function, frame.notation) {
        (FunctionName::Named(name), Notation::V8) => name.clone(),
        (FunctionName::Named(name), Notation::AtSign) => member(name),
        (FunctionName::Anonymous(Some(enclosing)), Notation::AtSign) if is_described => member(enclosing) + "/<",
        (FunctionName::Anonymous(_), _) if !is_described => String::new(),
        (FunctionName::Unknown, _) if !frame.function.is_empty() => {
            caller.and_then(|caller| caller.name.as_deref()).unwrap_or(frame.function).to_owned()
        }
        _ => frame.function.to_owned(),
    };
    name.chars().filter(|character| !character.is_control()).collect()
}
