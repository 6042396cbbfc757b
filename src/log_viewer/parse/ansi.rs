//! Remover for terminal control sequences, for search and level detection. The stored and displayed text keeps them.
//!
//! Control sequences are those of ECMA-48 (CSI, OSC, DCS and the other strings, two-character escapes), in their 7-bit
//! form and as the C1 characters U+0080 to U+009F. Raw 8-bit sequences are not valid UTF-8 and cannot occur here.

use std::borrow::Cow;
use std::ops::RangeInclusive;

const ESCAPE: char = '\u{1b}';
const BELL: char = '\u{7}';
const DCS: char = '\u{90}';
const SOS: char = '\u{98}';
const CSI: char = '\u{9b}';
const TERMINATOR: char = '\u{9c}';
const OSC: char = '\u{9d}';
const APC: char = '\u{9f}';

/// Returns the text without control sequences and without control characters other than tabs and newlines.
///
/// If a line was overwritten with carriage returns, as progress bars do, only its last visible part remains.
pub(in crate::log_viewer) fn strip(text: &str) -> Cow<'_, str> {
    if is_clean(text) { Cow::Borrowed(text) } else { Cow::Owned(TerminalLine::default().render(text)) }
}

/// Returns the stripped text, or `None` if there is nothing to strip.
pub(in crate::log_viewer) fn stripped(text: &str) -> Option<String> {
    match strip(text) {
        Cow::Borrowed(_) => None,
        Cow::Owned(stripped) => Some(stripped),
    }
}

fn is_clean(text: &str) -> bool {
    // A loop body without branches is vectorized.
    let suspect = text.bytes().fold(false, |suspect, byte| suspect | (may_be_escape(byte) & (byte != b'\n')));
    !suspect || !text.chars().any(is_removed)
}

/// Returns whether a control sequence or character may start with this byte. 0xC2 leads U+0080 to U+00BF in UTF-8.
fn may_be_escape(byte: u8) -> bool {
    ((byte < b' ') & (byte != b'\t')) | (byte == 0x7f) | (byte == 0xc2)
}

fn is_removed(character: char) -> bool {
    character.is_control() && character != '\n' && character != '\t'
}

/// Text as a terminal shows it, with a cursor on the last line.
#[derive(Default)]
struct TerminalLine {
    output: String,
    /// Offset in `output` of the last line.
    line: usize,
    /// Offset in `output` of the text after the last carriage return.
    part: usize,
    /// Whether that text contains anything other than whitespace.
    visible: bool,
}

impl TerminalLine {
    fn render(mut self, text: &str) -> String {
        self.output.reserve(text.len());
        let mut rest = text;
        while let Some(at) = rest.bytes().position(may_be_escape) {
            self.write(&rest[..at]);
            let mut characters = rest[at..].chars();
            let character = characters.next().unwrap_or_default();
            rest = characters.as_str();
            match character {
                ESCAPE => rest = after_escape(rest),
                CSI => rest = after_control_sequence(rest),
                DCS | SOS | OSC..=APC => rest = after_string(rest),
                '\r' => self.carriage_return(),
                '\n' => self.newline(),
                _ if is_removed(character) => {}
                _ => self.write(character.encode_utf8(&mut [0; 4])),
            }
        }
        self.write(rest);
        self.drop_invisible_part();
        self.output
    }

    fn write(&mut self, run: &str) {
        if !self.visible && !run.trim().is_empty() {
            self.visible = true;
            self.output.replace_range(self.line..self.part, "");
            self.part = self.line;
        }
        self.output.push_str(run);
    }

    fn carriage_return(&mut self) {
        self.drop_invisible_part();
        self.part = self.output.len();
        self.visible = false;
    }

    fn newline(&mut self) {
        self.drop_invisible_part();
        self.output.push('\n');
        self.line = self.output.len();
        self.part = self.line;
        self.visible = false;
    }

    /// Removes a part of only whitespace after a carriage return, so that it does not hide the text before it. The only
    /// part of a line is kept.
    fn drop_invisible_part(&mut self) {
        if !self.visible && self.part > self.line {
            self.output.truncate(self.part);
        }
    }
}

/// Skips an escape sequence. `text` starts after the escape character.
fn after_escape(text: &str) -> &str {
    match text.as_bytes().first() {
        Some(b'[') => after_control_sequence(&text[1..]),
        Some(b']' | b'P' | b'X' | b'^' | b'_') => after_string(&text[1..]),
        // A charset selection such as `ESC ( B`, or one of the two-character escapes.
        _ => after_final(text.trim_start_matches(|character| (' '..='/').contains(&character)), '0'..='~'),
    }
}

/// Skips the parameters, the intermediates and the final character of a CSI sequence. An incomplete sequence ends at the
/// first character that cannot belong to it.
fn after_control_sequence(text: &str) -> &str {
    let intermediates = text.trim_start_matches(|character| ('0'..='?').contains(&character));
    after_final(intermediates.trim_start_matches(|character| (' '..='/').contains(&character)), '@'..='~')
}

fn after_final(text: &str, finals: RangeInclusive<char>) -> &str {
    text.strip_prefix(|character| finals.contains(&character)).unwrap_or(text)
}

/// Skips the string of an OSC or DCS sequence and its terminator, for example a hyperlink's URL or a window title.
/// Another sequence also ends the string. If none of these follows on the same line, the string is kept as text, so that
/// a search finds it.
fn after_string(text: &str) -> &str {
    let is_end = |character: char| matches!(character, '\n' | ESCAPE | BELL | '\u{80}'..='\u{9f}');
    let Some(at) = text.find(is_end) else { return text };
    let rest = &text[at..];
    match rest.chars().next() {
        Some('\n') => text,
        Some(end @ (BELL | TERMINATOR)) => &rest[end.len_utf8()..],
        _ => rest.strip_prefix("\u{1b}\\").unwrap_or(rest),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Texts with what remains of them, which are also a test of the web UI.
    const CONTROL_SEQUENCES: &str = include_str!("../../../tests/fixtures/terminal-sequences.json");

    #[test]
    fn control_sequences_are_removed() {
        let cases: Vec<(String, String)> = serde_json::from_str(CONTROL_SEQUENCES).unwrap();
        for (text, shown) in cases {
            assert_eq!(strip(&text), shown, "{text:?}");
        }
    }

    #[test]
    fn control_characters_and_overwritten_text_are_removed() {
        for (text, shown) in [
            ("nul\0 bell\u{7} del\u{7f} tab\t!", "nul bell del tab\t!"),
            ("\u{1b}]0;no end\nnext\u{7}", "0;no end\nnext"),
            ("tty line\r", "tty line"),
            ("tty\r\nlines\r\n", "tty\nlines\n"),
            ("10%\r50%\r100%", "100%"),
            ("10%\r50%\r\u{1b}[K", "50%"),
            ("downloading\r   \r\n  next\rlast\r\r", "downloading\nlast"),
            ("\r\r  indented", "  indented"),
            ("   \r", "   "),
        ] {
            assert_eq!(strip(text), shown, "{text:?}");
        }
    }

    #[test]
    fn clean_text_is_borrowed() {
        for text in ["plain\ttext\n", "é 😀 © \u{a0}"] {
            assert!(matches!(strip(text), Cow::Borrowed(_)), "{text}");
        }
    }

    fn noisy() -> impl Strategy<Value = String> {
        let token = prop::sample::select(
            &[
                "\u{1b}", "[", "]", "31m", "\u{9b}", "\r", "\n", " ", "\u{7}", "\\", "x", "é", "(", ";", "\u{9d}",
                "\u{9c}",
            ][..],
        );
        prop::collection::vec(token, 0..30).prop_map(|tokens| tokens.concat())
    }

    proptest! {
        #[test]
        fn no_control_character_remains(text in prop_oneof![noisy(), "(?s).{0,80}"]) {
            let shown = strip(&text).into_owned();
            prop_assert!(!shown.chars().any(is_removed), "{shown:?}");
            prop_assert_eq!(&*strip(&shown), &*shown);
            prop_assert_eq!(shown.matches('\n').count(), text.matches('\n').count());
        }

        #[test]
        fn colors_do_not_change_the_text(words in prop::collection::vec("[a-zA-Z0-9 é]{0,8}", 0..8)) {
            let colored = words.join("\u{1b}[1;31m");
            prop_assert_eq!(strip(&colored), words.concat());
        }
    }
}
