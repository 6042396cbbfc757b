//! Paths of web pages with their ids folded, so that a page is one series however many records it shows: `/user/7` and
//! `/user/8` become `/user/:id`.
//!
//! The browser relay folds paths before it forwards metrics, and the metrics collector before it creates series. Paths that
//! older versions stored are folded when they are read, so folding twice changes nothing. A wrong guess merges two pages, and
//! a missed id makes a series of its own, so words with a few digits are pages, and long mixtures of letters and digits ids.

use std::borrow::Cow;
use std::net::IpAddr;

use percent_encoding::percent_decode_str;

use crate::text::truncate_chars;

/// Replacement of an id.
const ID: &str = ":id";
/// Minimum number of hexadecimal digits that are an id rather than a word.
const HEX_DIGITS_MIN: usize = 8;
/// Minimum number of digits at the end of a word that make it an id: `order-12345`.
const FINAL_DIGITS_MIN: usize = 5;
/// Minimum number of digits in a reference number in capitals: `INV-2024-001`.
const REFERENCE_DIGITS_MIN: usize = 3;
/// Minimum number of digits in a date: `2024-05`.
const DATE_DIGITS_MIN: usize = 6;
/// Length of a ULID (github.com/ulid/spec).
const ULID_CHARS: usize = 26;
/// Minimum length of a random id such as a nanoid or a cuid.
const RANDOM_CHARS_MIN: usize = 16;
/// Minimum number of changes between kinds of characters in a random id.
const RANDOM_CHANGES_MIN: usize = 4;
/// Maximum length of a file name extension.
const EXTENSION_CHARS_MAX: usize = 5;
/// Number of times that a path can be percent-encoded.
const ENCODINGS_MAX: usize = 3;

/// Returns the path of a page's URL or path, with ids, dates and e-mail addresses replaced by `:id`, and at most `chars_max`
/// characters: `https://a.com/user/123?x=1` becomes `/user/:id`. Host, query, fragment and parameters such as `;jsessionid=…`
/// are left out.
#[must_use]
pub fn fold_page_path(page: &str, chars_max: usize) -> Cow<'_, str> {
    let page = page.split_once("://").map_or(page, |(_, rest)| rest.find('/').map_or("/", |path| &rest[path..]));
    let path = page.split(['?', '#']).next().filter(|path| !path.is_empty()).unwrap_or("/");
    if path.split('/').all(|segment| fold_segment(segment) == segment) {
        return truncate_chars(path, chars_max);
    }
    let folded = path.split('/').map(fold_segment).collect::<Vec<_>>().join("/");
    let folded = if folded.is_empty() { "/".to_owned() } else { folded };
    Cow::Owned(truncate_chars(&folded, chars_max).into_owned())
}

fn fold_segment(segment: &str) -> Cow<'_, str> {
    let segment = segment.split(';').next().unwrap_or_default();
    let decoded = percent_decoded(segment);
    if has_email_address(&decoded) || is_id(&decoded) {
        return Cow::Borrowed(ID);
    }
    match decoded.rsplit_once('.') {
        Some((stem, extension)) if is_extension(extension) && is_id(stem) => Cow::Owned(format!("{ID}.{extension}")),
        _ => Cow::Borrowed(segment),
    }
}

/// Returns a segment without percent-encoding. Frameworks encode a path that is already encoded.
fn percent_decoded(segment: &str) -> Cow<'_, str> {
    let mut decoded = Cow::Borrowed(segment);
    for _ in 0..ENCODINGS_MAX {
        if !decoded.contains('%') {
            break;
        }
        decoded = Cow::Owned(percent_decode_str(&decoded).decode_utf8_lossy().into_owned());
    }
    decoded
}

/// Whether a segment contains an e-mail address: text on both sides of an `@`, and a domain that does not end like a version,
/// as in `react@18.2.0`.
fn has_email_address(segment: &str) -> bool {
    let Some((local, domain)) = segment.rsplit_once('@') else { return false };
    let name = domain.trim_end_matches(|char: char| !char.is_alphanumeric()).rsplit('.').next().unwrap_or_default();
    !local.is_empty() && (name.starts_with(char::is_alphabetic) || domain.starts_with('['))
}

fn is_extension(extension: &str) -> bool {
    extension.len() <= EXTENSION_CHARS_MAX
        && extension.starts_with(|first: char| first.is_ascii_alphabetic())
        && extension.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn is_id(segment: &str) -> bool {
    let id = segment.trim_start_matches('{').trim_end_matches('}');
    let digits = id.bytes().filter(u8::is_ascii_digit).count();
    // Every format below has digits.
    digits > 0
        && (digits == id.len()
            || id.bytes().rev().take_while(u8::is_ascii_digit).count() >= FINAL_DIGITS_MIN
            || is_hexadecimal(id) && id.len() >= HEX_DIGITS_MIN
            || is_uuid(id)
            || is_ulid(id)
            || is_reference_number(id) && digits >= REFERENCE_DIGITS_MIN
            || is_date(id) && digits >= DATE_DIGITS_MIN
            || is_random(id)
            || id.parse::<IpAddr>().is_ok())
}

fn is_hexadecimal(id: &str) -> bool {
    id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_uuid(id: &str) -> bool {
    id.split('-').map(str::len).eq([8, 4, 4, 4, 12]) && id.split('-').all(is_hexadecimal)
}

/// Whether this is a ULID: 26 digits to the base of 32, without I, L, O and U. The first one is at most 7.
fn is_ulid(id: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() && !b"ILOU".contains(&byte.to_ascii_uppercase());
    id.len() == ULID_CHARS && id.starts_with(|first| ('0'..='7').contains(&first)) && id.bytes().all(is_digit)
}

/// Whether this is a word in capitals with groups of digits: `ORD-123`.
fn is_reference_number(id: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || is_separator(byte);
    id.starts_with(|first: char| first.is_ascii_uppercase()) && id.contains(['-', '_']) && id.bytes().all(is_allowed)
}

/// Whether this is a date, a time or another sequence of separated numbers: `2024-05-12T10:00:00Z`.
fn is_date(id: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_digit() || is_separator(byte) || b":.+TZ".contains(&byte);
    id.starts_with(|first: char| first.is_ascii_digit()) && id.contains(['-', '_', ':']) && id.bytes().all(is_allowed)
}

/// Whether this is a random sequence of letters and digits: `V1StGXR8_Z5jdHi6B-myT`. If it has separators, it must have
/// letters in both cases, because they also separate the words of titles.
fn is_random(id: &str) -> bool {
    let has = |is_kind: fn(&u8) -> bool| id.bytes().any(|byte| is_kind(&byte));
    let is_mixed = has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase);
    id.len() >= RANDOM_CHARS_MIN
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || is_separator(byte))
        && (is_mixed || !id.bytes().any(is_separator))
        && changes(id) >= RANDOM_CHANGES_MIN
}

/// Returns the number of places at which the kind of character changes within a word, as in `8b`, `tG` and `R8`. A capital
/// before a small letter begins a word.
fn changes(id: &str) -> usize {
    let is_change = |pair: &&[u8]| {
        let [left, right] = [pair[0], pair[1]];
        let kind = |byte: u8| (byte.is_ascii_digit(), byte.is_ascii_uppercase());
        let is_start = left.is_ascii_uppercase() && right.is_ascii_lowercase();
        !is_separator(left) && !is_separator(right) && kind(left) != kind(right) && !is_start
    };
    id.as_bytes().windows(2).filter(is_change).count()
}

fn is_separator(byte: u8) -> bool {
    byte == b'-' || byte == b'_'
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fold(page: &str) -> String {
        fold_page_path(page, 200).into_owned()
    }

    fn nanoid_char() -> impl Strategy<Value = char> {
        proptest::sample::select(('a'..='z').chain('A'..='Z').chain('0'..='9').chain(['-', '_']).collect::<Vec<_>>())
    }

    #[test]
    fn host_query_fragment_and_parameters_are_left_out() {
        for (page, folded) in [
            ("/list?page=2#top", "/list"),
            ("https://shop.example/user/7?x=1", "/user/:id"),
            ("https://shop.example", "/"),
            ("/cart;jsessionid=1A2B3C", "/cart"),
            ("/cart;v=1/items;jsessionid=1A2B.node1/", "/cart/items/"),
            (";jsessionid=1A2B", "/"),
            ("#", "/"),
            ("", "/"),
            ("/", "/"),
        ] {
            assert_eq!(fold(page), folded, "{page}");
        }
    }

    #[test]
    fn ids_of_common_formats_are_folded() {
        for id in [
            "123",
            "9f1c2d3e-0000-4aaa-8bbb-0123456789ab",
            "{9F1C2D3E-0000-4AAA-8BBB-0123456789AB}",
            "%7B9F1C2D3E-0000-4AAA-8BBB-0123456789AB%7D",
            "9fceb02d0ae598e95dc970b74767f19372d61af8",
            "507f1f77bcf86cd799439011",
            "5f3759df",
            "01HZX3N8Q4WZJ5V7K2M9T6R0BC",
            "01arz3ndektsv4rrffq69g5fav",
            "V1StGXR8_Z5jdHi6B-myT",
            "cjld2cjxh0000qzrmn831i7rn",
            "tz4a98xxat96iws9zmbrgj3a",
            "cus_NffrFeUfNV2Hib",
            "-NqL5zWbT0uYk3RjP9aX",
            "0ujsswThIGTUYm2K8FjOOfXtY1K",
            "ORD-12345",
            "INV-2024-001",
            "PROJ-123",
            "order-12345",
            "blue-shoes-48213",
            "2024-05-12",
            "2024-05",
            "12-05-2024",
            "20240512",
            "2024-05-12T10:00:00.123Z",
            "192.168.0.17",
            "2001:db8::17",
            "john@example.com",
            "john%40example.com",
            "john%2540example.com",
            "Jörg.Müller+tag@bücher.example",
            "mailto:john@example.com",
            "a@b.c,d@e.f.",
            "root@[10.0.0.1]",
            "@john@social.example",
        ] {
            assert_eq!(fold(&format!("/a/{id}/b")), "/a/:id/b", "{id}");
            assert_eq!(fold(&format!("https://x.example/{id}?q=1#{id}")), "/:id", "{id}");
        }
        for (page, folded) in [("/user/12.html", "/user/:id.html"), ("/d/2024-05-12.PDF", "/d/:id.PDF")] {
            assert_eq!(fold(page), folded);
        }
    }

    #[test]
    fn names_of_pages_are_kept() {
        for page in [
            "/deadbeef",
            "/facade/2fast",
            "/v2/items",
            "/docs/1.2.3/index.html",
            "/page-58",
            "/blog/top-10-tips-for-2024",
            "/blog/web3-and-ipv4-to-ipv6-guide",
            "/wiki/Top-10-Tips-To-Get-It",
            "/wiki/GettingStartedWithLinux",
            "/covid-19",
            "/products/iphone-15-pro-max",
            "/@john",
            "/package/@scope/name",
            "/package/react@18.2.0",
            "/sp%C3%A4ti",
            "/späti",
            "/:id/:id.html",
            "/100%",
        ] {
            assert_eq!(fold(page), page);
        }
    }

    #[test]
    fn folded_paths_are_truncated_after_folding() {
        assert_eq!(fold(&"/7".repeat(300)).chars().count(), 200);
        let page = format!("/{}/507f1f77bcf86cd799439011", "x".repeat(180));
        assert_eq!(fold(&page), format!("/{}/:id", "x".repeat(180)));
    }

    proptest! {
        #[test]
        fn folding_is_idempotent(page in ".{0,60}|(/[a-zA-Z0-9%@;.{}_-]{0,24}){0,5}") {
            let folded = fold(&page);
            if !folded.contains("://") {
                prop_assert_eq!(&fold(&folded), &folded);
            }
        }

        #[test]
        fn most_nanoids_are_folded(ids in proptest::collection::vec(proptest::collection::vec(nanoid_char(), 21), 100)) {
            let folded = ids.iter().filter(|id| fold(&format!("/{}", id.iter().collect::<String>())) == "/:id").count();
            prop_assert!(folded >= 80, "{} of 100", folded);
        }

        #[test]
        fn no_email_address_is_left(local in "[a-z0-9.+_-]{1,12}", domain in "[a-z0-9-]{1,10}\\.[a-z]{2,6}") {
            for at in ["@", "%40", "%2540"] {
                for page in [format!("/reset/{local}{at}{domain}"), format!("/a/x-{local}{at}{domain}.html;s=1/b?c")] {
                    let folded = fold(&page);
                    prop_assert!(!folded.contains(&domain), "{} in {}", domain, folded);
                }
            }
        }
    }
}
