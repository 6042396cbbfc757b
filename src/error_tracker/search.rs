//! How errors are found by words: what is indexed of them, and how a search reads.

/// How much of a traceback is indexed; the words that tell errors apart stand at its ends.
const TRACEBACK_BYTES_MAX: usize = 16 * 1024;
const MESSAGE_BYTES_MAX: usize = 4 * 1024;

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

/// The FTS5 query for what a person typed: every word, as the beginning of one. `None` when there is no word in it.
///
/// Each word is quoted, so that nothing in it is taken as FTS5's syntax.
pub(super) fn fts_query(typed: &str) -> Option<String> {
    let words = typed.split_whitespace().filter(|word| word.chars().any(char::is_alphanumeric));
    let quoted: Vec<String> = words.map(|word| format!("\"{}\"*", word.replace('"', "\"\""))).collect();
    (!quoted.is_empty()).then(|| quoted.join(" "))
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
        assert_eq!(fts_query("connection ref").as_deref(), Some("\"connection\"* \"ref\"*"));
        assert_eq!(fts_query("a\"b OR NEAR(").as_deref(), Some("\"a\"\"b\"* \"OR\"* \"NEAR(\"*"));
        assert_eq!(fts_query("  * \" - "), None);
        assert_eq!(like_pattern("50%_\\"), "%50\\%\\_\\\\%");
    }
}
