//! Takes out of a text what a terminal would act on rather than show, for search and for the level. What is stored
//! and displayed keeps it.
//!
//! Control sequences are those of ECMA-48 (CSI, OSC, DCS and the other strings, two-character escapes) in their 7-bit
//! form and as the C1 characters U+0080 to U+009F; raw 8-bit ones are no UTF-8.

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

/// The text without escapes and control characters other than tabs and newlines. Of a line that was written over
/// itself with carriage returns, as progress bars are, the last part that shows anything is left.
pub(in crate::log_viewer) fn strip(text: &str) -> Cow<'_, str> {
    if is_clean(text) { Cow::Borrowed(text) } else { Cow::Owned(Screen::default().show(text)) }
}

fn is_clean(text: &str) -> bool {
    // Without a branch inside this runs many bytes at a time.
    let suspect = text.bytes().fold(false, |suspect, byte| suspect | (is_suspect(byte) & (byte != b'\n')));
    !suspect || !text.chars().any(is_removed)
}

/// Whether a byte may begin something that is not shown as it is. 0xC2 leads U+0080 to U+00BF in UTF-8.
fn is_suspect(byte: u8) -> bool {
    ((byte < b' ') & (byte != b'\t')) | (byte == 0x7f) | (byte == 0xc2)
}

fn is_removed(letter: char) -> bool {
    letter.is_control() && letter != '\n' && letter != '\t'
}

/// What has been shown so far.
#[derive(Default)]
struct Screen {
    shown: String,
    /// Where in `shown` the present line begins, and its part since the last carriage return.
    line: usize,
    part: usize,
    /// Whether that part shows anything.
    visible: bool,
}

impl Screen {
    fn show(mut self, text: &str) -> String {
        self.shown.reserve(text.len());
        let mut rest = text;
        while let Some(at) = rest.bytes().position(is_suspect) {
            self.put(&rest[..at]);
            let mut letters = rest[at..].chars();
            let letter = letters.next().unwrap_or_default();
            rest = letters.as_str();
            match letter {
                ESCAPE => rest = after_escape(rest),
                CSI => rest = after_control_sequence(rest),
                DCS | SOS | OSC..=APC => rest = after_string(rest),
                '\r' => self.carriage_return(),
                '\n' => self.newline(),
                _ if is_removed(letter) => {}
                _ => self.put(letter.encode_utf8(&mut [0; 4])),
            }
        }
        self.put(rest);
        self.drop_invisible_part();
        self.shown
    }

    fn put(&mut self, run: &str) {
        if !self.visible && !run.trim().is_empty() {
            self.visible = true;
            self.shown.replace_range(self.line..self.part, "");
            self.part = self.line;
        }
        self.shown.push_str(run);
    }

    fn carriage_return(&mut self) {
        self.drop_invisible_part();
        self.part = self.shown.len();
        self.visible = false;
    }

    fn newline(&mut self) {
        self.drop_invisible_part();
        self.shown.push('\n');
        self.line = self.shown.len();
        self.part = self.line;
        self.visible = false;
    }

    /// A part of nothing but blanks does not hide what it was written over; the only part of a line stays as it is.
    fn drop_invisible_part(&mut self) {
        if !self.visible && self.part > self.line {
            self.shown.truncate(self.part);
        }
    }
}

/// What is left of a text that begins behind an escape character.
fn after_escape(text: &str) -> &str {
    match text.as_bytes().first() {
        Some(b'[') => after_control_sequence(&text[1..]),
        Some(b']' | b'P' | b'X' | b'^' | b'_') => after_string(&text[1..]),
        // A charset selection such as `ESC ( B`, or one of the two-character escapes.
        _ => after_final(text.trim_start_matches(|letter| (' '..='/').contains(&letter)), '0'..='~'),
    }
}

/// What is left behind the parameters, intermediates and the final character of a CSI sequence. One that is cut short
/// ends where it stops being one.
fn after_control_sequence(text: &str) -> &str {
    let intermediates = text.trim_start_matches(|letter| ('0'..='?').contains(&letter));
    after_final(intermediates.trim_start_matches(|letter| (' '..='/').contains(&letter)), '@'..='~')
}

fn after_final(text: &str, finals: RangeInclusive<char>) -> &str {
    text.strip_prefix(|letter| finals.contains(&letter)).unwrap_or(text)
}

/// What is left behind the string of an OSC or DCS sequence and its terminator: a hyperlink's address, a window's title.
/// Another sequence cuts it short. Without any of these on the same line it is text after all, which had better be found.
fn after_string(text: &str) -> &str {
    let is_end = |letter: char| matches!(letter, '\n' | ESCAPE | BELL | '\u{80}'..='\u{9f}');
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

    #[test]
    fn what_a_terminal_would_show_is_left() {
        for (text, shown) in [
            ("plain", "plain"),
            ("\u{1b}[31mred\u{1b}[0m", "red"),
            ("\u{1b}[38;5;196m\u{1b}[1mERROR\u{1b}[0m: x", "ERROR: x"),
            ("\u{1b}[38:2::255:0:0mred\u{1b}[m", "red"),
            ("\u{9b}31mred\u{9b}0m", "red"),
            ("\u{1b}]8;;https://shop.example\u{1b}\\cart\u{1b}]8;;\u{1b}\\!", "cart!"),
            ("\u{1b}]0;title\u{7}text", "text"),
            ("\u{9d}0;title\u{9c}text", "text"),
            ("\u{1b}]0;no end", "0;no end"),
            ("\u{1b}]0;cut short\u{1b}[31mred", "red"),
            ("\u{1b}]0;no end\nnext\u{7}", "0;no end\nnext"),
            ("\u{1b}Pq#0\u{1b}\\x", "x"),
            ("\u{1b}(B\u{1b}[mtext\u{1b}=", "text"),
            ("\u{1b}[?25l\u{1b}[2K\u{1b}[1Gdone", "done"),
            ("cut \u{1b}[31", "cut "),
            ("cut \u{1b}", "cut "),
            ("cut \u{1b}[31é", "cut é"),
            ("nul\0 bell\u{7} del\u{7f} tab\t!", "nul bell del tab\t!"),
            ("© « 12 °C", "© « 12 °C"),
            ("tty line\r", "tty line"),
            ("tty\r\nlines\r\n", "tty\nlines\n"),
            ("10%\r50%\r100%", "100%"),
            ("10%\r50%\r\u{1b}[K", "50%"),
            ("downloading\r   \r\n  next\rlast\r\r", "downloading\nlast"),
            ("\r\r  indented", "  indented"),
            ("   \r", "   "),
            ("", ""),
        ] {
            assert_eq!(strip(text), shown, "{text:?}");
        }
    }

    #[test]
    fn a_clean_text_is_borrowed() {
        for text in ["plain\ttext\n", "é 😀 © \u{a0}"] {
            assert!(matches!(strip(text), Cow::Borrowed(_)), "{text}");
        }
    }

    fn noisy() -> impl Strategy<Value = String> {
        let piece = prop::sample::select(
            &[
                "\u{1b}", "[", "]", "31m", "\u{9b}", "\r", "\n", " ", "\u{7}", "\\", "x", "é", "(", ";", "\u{9d}",
                "\u{9c}",
            ][..],
        );
        prop::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn nothing_is_left_for_a_terminal_to_act_on(text in prop_oneof![noisy(), "(?s).{0,80}"]) {
            let shown = strip(&text).into_owned();
            prop_assert!(!shown.chars().any(is_removed), "{shown:?}");
            prop_assert_eq!(&*strip(&shown), &*shown);
            prop_assert_eq!(shown.matches('\n').count(), text.matches('\n').count());
        }

        #[test]
        fn colours_do_not_change_the_text(words in prop::collection::vec("[a-zA-Z0-9 é]{0,8}", 0..8)) {
            let coloured = words.join("\u{1b}[1;31m");
            prop_assert_eq!(strip(&coloured), words.concat());
        }
    }
}
