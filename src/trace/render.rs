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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::languages::LANGUAGES;

    /// Returns the frames that a language finds in a text, innermost first.
    fn parse<'t>(language: &Language, text: &'t str) -> Vec<Frame<'t>> {
        let starts = text.match_indices('\n').map(|(at, _)| at + 1);
        let lines = std::iter::once(0)
            .chain(starts)
            .map(|start| text[start..].split_once('\n').unwrap_or((&text[start..], "")));
        let mut frames = Vec::new();
        let mut skip = 0;
        for (line, following) in lines {
            if skip > 0 {
                skip -= 1;
            } else if let Some(parsed) = language.parse_frame(line, following) {
                skip = parsed.lines - 1;
                frames.push(parsed.frame);
            }
        }
        if language.order == FrameOrder::InnermostLast {
            frames.reverse();
        }
        frames
    }

    #[test]
    fn rendered_frames_parse_to_the_same_frames() {
        for language in LANGUAGES {
            // Go and Elixir recognize a frame by its file's extension.
            let file = match language.name {
                "Go" => "/app/pay.go",
                "Elixir" => "/app/pay.ex",
                _ => "/app/pay",
            };
            let frame = |line, function| Frame {
                file: Some(file),
                line: Some(line),
                function: Some(function),
                module: Some("shop"),
                ..Frame::default()
            };
            let (inner, outer) = (frame(12, "charge"), frame(3, "main"));
            let text = render(language, &[inner.clone(), outer.clone()]);
            let frames = parse(language, &text);
            let members =
                |frame: &Frame<'_>| (frame.file.map(str::to_owned), frame.line, frame.function.map(str::to_owned));
            let found: Vec<_> = frames.iter().map(members).collect();
            assert_eq!(found, [members(&inner), members(&outer)], "{}: {text}", language.name);
        }
    }

    #[test]
    fn frames_of_real_traces_survive_rendering() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/tracebacks");
        let mut total = 0;
        for file in std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()) {
            let trace = std::fs::read_to_string(&file).unwrap();
            for language in LANGUAGES {
                let frames = parse(language, &trace);
                assert_eq!(parse(language, &render(language, &frames)), frames, "{} {}", file.display(), language.name);
                total += frames.len();
            }
        }
        assert!(total > 80, "{total} frames");
    }
}
