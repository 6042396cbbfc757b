//! Writer for messages in text exports, which people read in a terminal: removes what a terminal would execute, and indents
//! the further lines of an entry, so that a message cannot imitate another entry.

/// Indentation of all lines of an entry but the first.
const INDENT: &str = "    ";

/// Filter for a message that arrives in slices. Removes control sequences that start with CSI, such as colors, two-character
/// escapes, and all control characters except tabs and newlines. Of a line that was overwritten after carriage returns, such
/// as a progress bar, only the last text remains. Keeps the text of other sequences, such as the URL of a
/// hyperlink.
#[derive(Debug, Default)]
pub(super) struct PlainText {
    state: State,
    /// Number of bytes that remain of the current line.
    line_bytes: usize,
    /// Whether the next visible character overwrites the line, after a carriage return.
    overwrites: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    /// After the escape character.
    Escape,
    /// Within a control sequence, after CSI.
    Sequence,
    /// Within an escape sequence, after an intermediate character.
    Intermediate,
}

impl PlainText {
    /// Appends what remains of the next slice.
    pub(super) fn write(&mut self, slice: &str, out: &mut Vec<u8>) {
        for character in slice.chars() {
            self.state = match (self.state, character) {
                (_, '\u{1b}') => State::Escape,
                (_, '\u{9b}') | (State::Escape, '[') => State::Sequence,
                (State::Sequence, '0'..='?' | ' '..='/') => State::Sequence,
                (State::Escape | State::Intermediate, ' '..='/') => State::Intermediate,
                (State::Sequence, '@'..='~') | (State::Escape | State::Intermediate, '0'..='~') => State::Text,
                // An incomplete sequence ends at the first character that cannot belong to it.
                (_, character) => {
                    self.write_visible(character, out);
                    State::Text
                }
            };
        }
    }

    fn write_visible(&mut self, character: char, out: &mut Vec<u8>) {
        match character {
            '\r' => self.overwrites = true,
            '\n' => {
                (self.line_bytes, self.overwrites) = (0, false);
                out.push(b'\n');
                out.extend_from_slice(INDENT.as_bytes());
            }
            // Spaces do not overwrite, so that the end of a progress bar remains.
            _ if self.overwrites && character.is_whitespace() => {}
            _ if character == '\t' || !character.is_control() => {
                if std::mem::take(&mut self.overwrites) {
                    // Without the part that was sent already.
                    out.truncate(out.len().saturating_sub(self.line_bytes));
                    self.line_bytes = 0;
                }
                let before = out.len();
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                self.line_bytes += out.len() - before;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_sequences_are_removed_and_further_lines_are_indented() {
        for (message, expected) in [
            ("plain é\t!", "plain é\t!"),
            ("\u{1b}[1;31mred\u{1b}[0m \u{9b}2Jclear", "red clear"),
            ("\u{1b}]0;title\u{7}text\u{1b}(Bx\u{1b}cy", "0;titletextxy"),
            ("a\r\nb\nc", "a\n    b\n    c"),
            ("nul\0 del\u{7f} bell\u{7} \u{85}", "nul del bell "),
            ("10%\r50%\r\u{1b}[K100%\r  \r\nnext\r", "100%\n    next"),
            ("\u{1b}[31", ""),
            ("\u{1b}[31é", "é"),
        ] {
            let (mut whole, mut sliced) = (Vec::new(), Vec::new());
            PlainText::default().write(message, &mut whole);
            let mut text = PlainText::default();
            for character in message.chars() {
                text.write(character.encode_utf8(&mut [0; 4]), &mut sliced);
            }
            assert_eq!(String::from_utf8_lossy(&whole), expected, "{message:?}");
            assert_eq!(sliced, whole, "{message:?}");
        }
    }
}
