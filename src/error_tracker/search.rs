//! How errors are found by words: what is indexed of them, and how a search reads.

/// How much of a traceback is indexed; the words that tell errors apart stand at its ends.
const TRACEBACK_BYTES_MAX: usize = 16 * 1024;
const MESSAGE_BYTES_MAX: usize = 4 * 1024;
/// Pieces of a search that count; a longer one is somebody's clipboard, and SQLite bounds the depth of a condition.
const PIECES_MAX: usize = 32;

/// What is indexed of an error. `ConnectTimeoutError` is indexed with its parts too, since people search for those.
pub(super) fn words(kind: &str, message: &str, traceback: &str) -> String {
    let mut words = String::with_capacity(kind.len() * 2 + message.len() + traceback.len().min(TRACEBACK_BYTES_MAX));
    words.push_str(kind);
    words.push(' ');
    push_parts(&mut words, kind);
    words.push(' ');
    words.push_str(head(message, MESSAGE_BYTES_MAX));
    words.push('\n');
    if traceback.len() <= TRACEBACK_BYTES_MAX {
        words.push_str(traceback);
    } else {
        words.push_str(head(traceback, TRACEBACK_BYTES_MAX / 2));
        words.push('\n');
        words.push_str(tail(traceback, TRACEBACK_BYTES_MAX / 2));
    }
    words
}

fn push_parts(words: &mut String, kind: &str) {
    let mut lower_before = false;
    for letter in kind.chars() {
        if letter.is_uppercase() && lower_before {
            words.push(' ');
        }
        words.push(letter);
        lower_before = letter.is_lowercase() || letter.is_ascii_digit();
    }
}

fn head(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

fn tail(text: &str, bytes_max: usize) -> &str {
    &text[text.ceil_char_boundary(text.len().saturating_sub(bytes_max))..]
}

/// A search as it was typed, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Words {
    /// The FTS5 query: every word, as the beginning of one. Each is quoted, so that nothing is taken for syntax.
    pub(super) fts: String,
    /// What was typed in one piece and is more than one word to the index, such as `10.0.0.1`: the index finds
    /// candidates, and these have to stand in the text as they are.
    pub(super) pieces: Vec<String>,
}

/// Takes a search apart. `None` when there is no word in it.
pub(super) fn parse(typed: &str) -> Option<Words> {
    let mut words: Vec<String> = Vec::new();
    let mut pieces = Vec::new();
    for piece in typed.split_whitespace().take(PIECES_MAX) {
        let bare = piece.trim_matches(|letter: char| !letter.is_alphanumeric());
        if bare.contains(|letter| !indexed(letter)) {
            pieces.push(bare.to_owned());
        }
        let parts = bare.split(|letter| !indexed(letter)).filter(|part| !part.is_empty());
        words.extend(parts.map(|part| format!("\"{part}\"*")));
    }
    (!words.is_empty()).then(|| Words { fts: words.join(" "), pieces })
}

/// Whether a letter is part of a word to the index whatever its version of Unicode: what `unicode61` takes for two words
/// would be a phrase, which an index without positions refuses.
fn indexed(letter: char) -> bool {
    let latin_greek_cyrillic = matches!(letter, '\u{c0}'..='\u{2af}' | '\u{386}'..='\u{481}' | '\u{48a}'..='\u{523}');
    letter.is_ascii_alphanumeric() || latin_greek_cyrillic && letter.is_alphabetic()
}

/// The LIKE pattern for a text anywhere, with `\` as the escape character.
pub(super) fn like_pattern(typed: &str) -> String {
    let escaped = typed.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
    format!("%{escaped}%")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_indexed_with_their_parts() {
        assert!(
            words("app.ConnectTimeoutError", "m", "t")
                .starts_with("app.ConnectTimeoutError app.Connect Timeout Error m")
        );
        assert!(words("HTTPError2X", "", "").starts_with("HTTPError2X HTTPError2 X"));
    }

    #[test]
    fn long_texts_are_indexed_at_their_ends() {
        let traceback = format!("first{}last", "ü".repeat(20_000));
        let words = words("E", "m", &traceback);
        assert!(words.len() < TRACEBACK_BYTES_MAX + 100 && words.contains("first") && words.ends_with("last"));
    }

    #[test]
    fn nothing_typed_is_syntax() {
        let fts = |typed| parse(typed).map(|words| words.fts);
        assert_eq!(fts("connection ref").as_deref(), Some("\"connection\"* \"ref\"*"));
        assert_eq!(fts("\"b OR NEAR(").as_deref(), Some("\"b\"* \"OR\"* \"NEAR\"*"));
        assert_eq!(fts("  * \" - "), None);
        assert_eq!(like_pattern("50%_\\"), "%50\\%\\_\\\\%");
    }

    #[test]
    fn a_word_to_the_index_is_never_a_phrase() {
        for (typed, fts, pieces) in [
            ("größe Ошибка λάθος", Some("\"größe\"* \"Ошибка\"* \"λάθος\"*"), &[][..]),
            ("a\u{24b6}b", Some("\"a\"* \"b\"*"), &["a\u{24b6}b"]),
            ("error 支付", Some("\"error\"*"), &["支付"]),
            ("कित", None, &[]),
        ] {
            let words = parse(typed);
            assert_eq!(words.as_ref().map(|words| words.fts.as_str()), fts, "{typed}");
            assert_eq!(words.map(|words| words.pieces).unwrap_or_default(), pieces, "{typed}");
        }
        assert_eq!(parse(&"a.b ".repeat(5_000)).unwrap().pieces.len(), PIECES_MAX);
    }

    #[test]
    fn what_is_typed_in_one_piece_stays_one() {
        let words = parse("at 10.0.0.1, foo-bar (x)").unwrap();
        assert_eq!(words.fts, "\"at\"* \"10\"* \"0\"* \"0\"* \"1\"* \"foo\"* \"bar\"* \"x\"*");
        assert_eq!(words.pieces, ["10.0.0.1", "foo-bar"]);
    }
}
