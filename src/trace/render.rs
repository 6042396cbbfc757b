//! Frames as text.

use super::frame::Frame;
use super::language::{FrameOrder, Language};

/// Writes frames in the notation of a language, one or more lines each. `frames` lists the innermost first; the text has
/// the order that is usual in the language.
pub fn render(language: &Language, frames: &[Frame<'_>]) -> String {
    let mut text = String::new();
    let mut write = |(index, frame)| (language.write_frame)(&mut text, index, frame);
    match language.order {
        FrameOrder::InnermostFirst => frames.iter().enumerate().for_each(&mut write),
        FrameOrder::InnermostLast => frames.iter().rev().enumerate().for_each(&mut write),
    }
    text
}
