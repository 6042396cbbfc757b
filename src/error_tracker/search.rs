//! Full-text search of errors: the text to index, and parsing of queries.

/// Maximum number of indexed bytes of a traceback: half at its beginning, half at its end, where the distinctive words
/// are.
const TRACEBACK_BYTES_MAX: usize = 16 * 1024;
/// Maximum number of indexed bytes of a message.
const MESSAGE_BYTES_MAX: usize = 4 * 1024;
/// Maximum number of whitespace-separated parts of a query; the rest is ignored, because SQLite limits the depth of a
/// condition.
const QUERY_PARTS_MAX: usize = 32;

/// Returns the text to index of an error. Type names are also indexed in parts: a search for `Timeout` finds
/// `ConnectTimeoutError`.
pub(super) fn index_text(exception_type: &str, message: &str, traceback: &str) -> String {
    let capacity = exception_type.len() * 2 + message.len() + traceback.len().min(TRACEBACK_BYTES_MAX);
    let mut text = String::with_capacity(capacity);
    text.push_str(exception_type);
    text.push(' ');
    push_camel_case_parts(&mut text, exception_type);
    text.push(' ');
    text.push_str(prefix(message, MESSAGE_BYTES_MAX));
    text.push('\n');
    if traceback.len() <= TRACEBACK_BYTES_MAX {
        text.push_str(traceback);
    } else {
        text.push_str(prefix(traceback, TRACEBACK_BYTES_MAX / 2));
        text.push('\n');
        text.push_str(suffix(traceback, TRACEBACK_BYTES_MAX / 2));
    }
    text
}

/// Appends `name` with a space before each upper-case letter that follows a lower-case letter or a digit.
fn push_camel_case_parts(text: &mut String, name: &str) {
    let mut after_lower_case = false;
    for c in name.chars() {
        if c.is_uppercase() && after_lower_case {
            text.push(' ');
        }
        text.push(c);
        after_lower_case = c.is_lowercase() || c.is_ascii_digit();
    }
}

fn prefix(value: &str, bytes_max: usize) -> &str {
    &value[..value.floor_char_boundary(bytes_max)]
}

fn suffix(value: &str, bytes_max: usize) -> &str {
    &value[value.ceil_char_boundary(value.len().saturating_sub(bytes_max))..]
}

/// A parsed search query.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SearchTerms {
    /// FTS5 query: each word as a prefix, quoted so that FTS5 finds no operators in it.
    pub(super) fts: String,
    /// Parts of the query that are several words in the index, such as `10.0.0.1`. The index only finds candidates for
    /// them; they must also occur literally.
    pub(super) substrings: Vec<String>,
}

/// Splits a query into words. Returns `None` if it contains none.
pub(super) fn parse(query: &str) -> Option<SearchTerms> {
    let mut words: Vec<String> = Vec::new();
    let mut substrings = Vec::new();
    for part in query.split_whitespace().take(QUERY_PARTS_MAX) {
        let part = part.trim_matches(|c: char| !c.is_alphanumeric());
        if part.contains(|c| !is_token_char(c)) {
            substrings.push(part.to_owned());
        }
        let tokens = part.split(|c| !is_token_char(c)).filter(|token| !token.is_empty());
        words.extend(tokens.map(|token| format!("\"{token}\"*")));
    }
    (!words.is_empty()).then(|| SearchTerms { fts: words.join(" "), substrings })
}

/// Whether the tokenizer `unicode61` treats `c` as part of a word in every version of Unicode. A quoted string that the
/// tokenizer splits would be a phrase, which FTS5 rejects for an index without positions.
fn is_token_char(c: char) -> bool {
    let latin_greek_cyrillic = matches!(c, '\u{c0}'..='\u{2af}' | '\u{386}'..='\u{481}' | '\u{48a}'..='\u{523}');
    c.is_ascii_alphanumeric() || latin_greek_cyrillic && c.is_alphabetic()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_names_are_indexed_in_parts() {
        let text = index_text("app.ConnectTimeoutError", "m", "t");
        assert!(text.starts_with("app.ConnectTimeoutError app.Connect Timeout Error m"));
        assert!(index_text("HTTPError2X", "", "").starts_with("HTTPError2X HTTPError2 X"));
    }

    #[test]
    fn both_ends_of_long_tracebacks_are_indexed() {
        let traceback = format!("first{}last", "ü".repeat(20_000));
        let text = index_text("E", "m", &traceback);
        assert!(text.len() < TRACEBACK_BYTES_MAX + 100 && text.contains("first") && text.ends_with("last"));
    }

    #[test]
    fn query_operators_are_quoted() {
        let fts = |query| parse(query).map(|terms| terms.fts);
        assert_eq!(fts("connection ref").as_deref(), Some("\"connection\"* \"ref\"*"));
        assert_eq!(fts("\"b OR NEAR(").as_deref(), Some("\"b\"* \"OR\"* \"NEAR\"*"));
        assert_eq!(fts("  * \" - "), None);
    }

    #[test]
    fn words_never_become_phrases() {
        for (query, fts, substrings) in [
            ("größe Ошибка λάθος", Some("\"größe\"* \"Ошибка\"* \"λάθος\"*"), &[][..]),
            ("a\u{24b6}b", Some("\"a\"* \"b\"*"), &["a\u{24b6}b"]),
            ("error 支付", Some("\"error\"*"), &["支付"]),
            ("कित", None, &[]),
        ] {
            let terms = parse(query);
            assert_eq!(terms.as_ref().map(|terms| terms.fts.as_str()), fts, "{query}");
            assert_eq!(terms.map(|terms| terms.substrings).unwrap_or_default(), substrings, "{query}");
        }
        assert_eq!(parse(&"a.b ".repeat(5_000)).unwrap().substrings.len(), QUERY_PARTS_MAX);
    }

    #[test]
    fn parts_with_punctuation_are_searched_literally() {
        let terms = parse("at 10.0.0.1, foo-bar (x)").unwrap();
        assert_eq!(terms.fts, "\"at\"* \"10\"* \"0\"* \"0\"* \"1\"* \"foo\"* \"bar\"* \"x\"*");
        assert_eq!(terms.substrings, ["10.0.0.1", "foo-bar"]);
    }
}
