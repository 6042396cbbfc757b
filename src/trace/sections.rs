//! The sections of a trace for display: runs of the program's frames, of library frames, and of other text.

use serde::Serialize;

use super::frame::ParsedFrame;
use super::languages::LANGUAGES;

/// Maximum number of sections. The last of them covers the rest of a longer trace as text.
const SECTIONS_MAX: usize = 500;

/// Adjacent lines of a trace that have the same kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Section {
    /// Kind of the lines.
    pub kind: SectionKind,
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
pub enum SectionKind {
    /// Frames of the program itself.
    InApp,
    /// Frames of libraries and of the runtime.
    Library,
    /// Messages, causes and all other lines.
    Text,
}

/// Divides a trace into at most 500 sections. They cover all its lines in order, except empty lines at the
/// end. An empty trace has none.
pub fn sections(trace: &str) -> Vec<Section> {
    let trace = trace.trim_end_matches('\n');
    let mut sections: Vec<Section> = Vec::new();
    let mut rest = (!trace.is_empty()).then_some(trace);
    let (mut at, mut kind) = (0, SectionKind::Text);
    while let Some(text) = rest {
        let (line, following) = text.split_once('\n').unwrap_or((text, ""));
        let parsed = parse_frame(line, following);
        match &parsed {
            Some(ParsedFrame { frame, .. }) if frame.in_app => kind = SectionKind::InApp,
            // The message must stay visible when library frames are folded.
            Some(ParsedFrame { states_error: true, .. }) => kind = SectionKind::Text,
            Some(_) => kind = SectionKind::Library,
            // Indented lines belong to the frame above: source lines, marks, values of variables.
            None if line.starts_with(char::is_whitespace) => {}
            None => kind = SectionKind::Text,
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
                sections.push(Section { kind: SectionKind::Text, first_line: at, lines, frames: 0 });
                break;
            }
            _ => sections.push(Section { kind, first_line: at, lines, frames }),
        }
        at += lines;
        rest = after_lines(text, lines);
    }
    sections
}

/// Parses the frame that starts at `line` in the first language that recognizes it.
fn parse_frame<'t>(line: &'t str, following: &'t str) -> Option<ParsedFrame<'t>> {
    LANGUAGES.iter().find_map(|language| language.parse_frame(line, following))
}

/// Returns the text after a number of lines, or `None` at the end.
fn after_lines(text: &str, lines: usize) -> Option<&str> {
    (0..lines).try_fold(text, |text, _| text.split_once('\n').map(|(_, rest)| rest))
}
