//! Writer for messages in text exports, which people read in a terminal: removes what a terminal would execute, and indents
//! the further lines of an entry, so that a message cannot imitate another entry.

/// Indentation of all lines of an entry but the first.
const INDENT: &str = "    ";

/// Filter for a message that arrives in slices. Removes control sequences that start with CSI, such as colors, two-character
/// escapes, and all control characters except tabs and newlines. Keeps the text of other sequences, such as the URL of a
/// hyperlink.
#[derive(Debug, Default)]
pub(super) struct PlainText {
    state: State,
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
                    write_visible(character, out);
                    State::Text
                }
            };
        }
    }
}

fn write_visible(character: char, out: &mut Vec<u8>) {
    if character == '\n' {
        out.push(b'\n');
        out.extend_from_slice(INDENT.as_bytes());
    } else if character == '\t' || !character.is_control() {
        out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
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
