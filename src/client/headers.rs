//! Parser for settings that list HTTP headers, such as `EXPORT_HEADERS`.

use ureq::http::{HeaderName, HeaderValue};

/// Rule for a list of headers, as an error message states it.
pub const HEADER_LIST_RULE: &str =
    "must be 'Name: value', one header per line; a semicolon also separates headers if 'Name:' follows it";

/// Parses headers of the form `Name: value`. Returns `None` if a name or a value is not valid.
///
/// A newline always separates two headers. A semicolon separates them only if a field name (an RFC 9110 token) and a
/// colon follow it: `Cookie: a=1; b=2` is one header, `A: 1; B: 2` are two. A semicolon at the end of a header is
/// ignored. Values are marked as sensitive, so that they are never printed.
#[must_use]
pub fn parse_header_list(list: &str) -> Option<Vec<(HeaderName, HeaderValue)>> {
    list.lines().flat_map(split_at_semicolons).filter(|header| !header.is_empty()).map(parse_header).collect()
}

fn parse_header(header: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = header.split_once(':')?;
    let mut value: HeaderValue = value.trim_ascii().parse().ok()?;
    value.set_sensitive(true);
    Some((name.trim_ascii().parse().ok()?, value))
}

/// Splits a line at every semicolon that a field name follows.
fn split_at_semicolons(line: &str) -> Vec<&str> {
    let mut headers = Vec::new();
    let mut start = 0;
    for (index, _) in line.match_indices(';') {
        if starts_with_field_name(line[index + 1..].trim_ascii_start()) {
            headers.push(&line[start..index]);
            start = index + 1;
        }
    }
    headers.push(&line[start..]);
    headers.into_iter().map(|header| header.trim_matches([' ', '\t', ';'])).collect()
}

/// Whether `rest` begins with a token (RFC 9110, section 5.6.2) and a colon, with optional whitespace between them.
fn starts_with_field_name(rest: &str) -> bool {
    let is_token_char = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let name = rest.split_once(':').map(|(name, _)| name.trim_ascii_end());
    name.is_some_and(|name| !name.is_empty() && name.bytes().all(is_token_char))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(list: &str) -> Option<Vec<(String, String)>> {
        let pairs = parse_header_list(list)?.into_iter();
        Some(pairs.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect())
    }

    #[test]
    fn newlines_and_semicolons_before_names_separate_headers() {
        let cases: [(&str, &[(&str, &str)]); 13] = [
            ("", &[]),
            ("\n \r\n", &[]),
            ("A: 1\nB:2\r\n", &[("a", "1"), ("b", "2")]),
            ("Authorization: Bearer a:b; X-Scope-OrgID: 7", &[("authorization", "Bearer a:b"), ("x-scope-orgid", "7")]),
            ("Cookie: a=1; b=2", &[("cookie", "a=1; b=2")]),
            ("Cookie: a=1; b=2; X-Key: k", &[("cookie", "a=1; b=2"), ("x-key", "k")]),
            ("Cookie: a=1;b=2\nX-Key:k", &[("cookie", "a=1;b=2"), ("x-key", "k")]),
            ("Accept: text/html; q=0.8, */*; q=0.1", &[("accept", "text/html; q=0.8, */*; q=0.1")]),
            ("X: until=12:30; at=13:45", &[("x", "until=12:30; at=13:45")]),
            ("A: 1;", &[("a", "1")]),
            (";A: 1;; B: 2 ;", &[("a", "1"), ("b", "2")]),
            ("X-Auth: p;q;r: s", &[("x-auth", "p;q"), ("r", "s")]),
            ("A: 1; B : 2", &[("a", "1"), ("b", "2")]),
        ];
        for (list, expected) in cases {
            let expected = expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            assert_eq!(parse(list), Some(expected), "{list:?}");
        }
    }

    #[test]
    fn invalid_names_and_values_are_errors() {
        for list in ["Authorization", "a b: c", ": d", "A: \u{7}", "A: 1\nB", "A\u{a0}: 1"] {
            assert_eq!(parse(list), None, "{list:?}");
        }
    }

    #[test]
    fn values_are_never_printed() {
        let headers = parse_header_list("Authorization: Bearer s3cret").unwrap();
        assert!(!format!("{headers:?}").contains("s3cret"));
    }
}
