//! Texts of strangers, made fit for one line, for a limit, for other eyes.
//!
//! Lengths are UTF-16 units: the services count in those, in characters or in bytes, and this is the safe side.

/// One line: line breaks, control characters and blanks in a row become one space each.
pub(super) fn one_line(text: &str, max_units: usize) -> String {
    let words = text.split(|c: char| c.is_whitespace() || is_unprintable(c)).filter(|word| !word.is_empty());
    cut(&words.collect::<Vec<_>>().join(" "), max_units)
}

/// Lines that end in `\n`, with tabs and without other control characters. Of too long a text the middle goes: a
/// traceback says most at one of its ends.
pub(super) fn lines(text: &str, max_units: usize) -> String {
    let unix = text.replace("\r\n", "\n").replace('\r', "\n");
    let clean: String = unix.chars().filter(|c| matches!(c, '\n' | '\t') || !is_unprintable(*c)).collect();
    cut_middle(clean.trim_matches('\n'), max_units)
}

/// At most `max_units` of `text`, ending in "…" if that is not all.
pub(super) fn cut(text: &str, max_units: usize) -> String {
    if units(text) <= max_units {
        return text.to_owned();
    }
    format!("{}…", &text[..prefix_len(text.chars(), max_units.saturating_sub(1))])
}

/// At most `max_units` of `text`, with a line "…" in its middle if that is not all.
pub(super) fn cut_middle(text: &str, max_units: usize) -> String {
    if units(text) <= max_units {
        return text.to_owned();
    }
    let half_units = max_units.saturating_sub("\n…\n".chars().count()) / 2;
    let head = prefix_len(text.chars(), half_units);
    let tail = prefix_len(text.chars().rev(), half_units);
    format!("{}\n…\n{}", &text[..head], &text[text.len() - tail..])
}

/// `text` with `***` wherever one of `secrets` stood.
pub(super) fn without(text: &str, secrets: &[String]) -> String {
    let mut longest_first: Vec<&String> = secrets.iter().filter(|secret| !secret.is_empty()).collect();
    longest_first.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    longest_first.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "***"))
}

fn units(text: &str) -> usize {
    text.chars().map(char::len_utf16).sum()
}

/// How many bytes the first `max_units` of `chars` take.
fn prefix_len(chars: impl Iterator<Item = char>, max_units: usize) -> usize {
    let mut units = 0;
    let fits = |c: &char| {
        units += c.len_utf16();
        units <= max_units
    };
    chars.take_while(fits).map(char::len_utf8).sum()
}

/// Control characters, Unicode's own line breaks, and the marks that turn the direction of writing, with which a text
/// can show as something else than it is.
fn is_unprintable(c: char) -> bool {
    let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || turns || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_has_no_breaks_and_no_control_characters() {
        for (text, line) in [
            ("plain", "plain"),
            ("a\r\nBcc: b\u{0}\u{7f}c", "a Bcc: b c"),
            (" \t a \u{2028}\u{85} b\u{202e}c ", "a b c"),
            ("\r\n", ""),
            ("1234567890+", "123456789…"),
            ("😀😀😀😀😀", "😀😀😀😀😀"),
            ("😀😀😀😀😀😀", "😀😀😀😀…"),
        ] {
            assert_eq!(one_line(text, 10), line);
        }
    }

    #[test]
    fn long_texts_lose_their_middle() {
        assert_eq!(lines("a\r\n\tb\u{1b}[0m\rc\n", 99), "a\n\tb[0m\nc");
        assert_eq!(lines("0123456789", 9), "012\n…\n789");
        assert_eq!(lines("0123456789", 10), "0123456789");
        assert_eq!(lines("😀😀😀😀😀😀", 8), "😀\n…\n😀");
    }

    #[test]
    fn secrets_are_starred_out_longest_first() {
        let secrets = ["/hook/T0KEN".to_owned(), String::new(), "T0KEN".to_owned()];
        assert_eq!(without("no /hook/T0KEN, T0KEN?", &secrets), "no ***, ***?");
    }
}
