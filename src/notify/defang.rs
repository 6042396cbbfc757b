//! Defanging of URLs: strangers write the messages of reports, and many mail and chat programs turn a bare URL into a link.
//!
//! `http://evil.example/login` becomes `hxxp://evil[.]example/login`, the notation of security reports. A domain without a
//! scheme is changed if it starts with `www.` or has a path; other names with dots are more often modules and files.

/// Returns `text` with every URL in a form that no program turns into a link.
pub(super) fn defang_urls(text: &str) -> String {
    let mut defanged = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some(start) = rest.find(is_name_char) {
        let (before, from) = rest.split_at(start);
        defanged.push_str(before);
        let (name, after) = from.split_at(from.find(|c| !is_name_char(c)).unwrap_or(from.len()));
        if let Some(host) = after.strip_prefix("://") {
            push_scheme(&mut defanged, name);
            rest = host;
            // The slashes decide about the host that follows, so they are part of the output already.
            defanged.push_str("//");
            continue;
        }
        if is_linked_host(name, &defanged, after) {
            defanged.push_str(&name.replace('.', "[.]"));
        } else {
            defanged.push_str(name);
        }
        rest = after;
    }
    defanged.push_str(rest);
    defanged
}

fn is_name_char(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '+')
}

/// Appends a scheme with its colon: `hxxp:` for `http`, and `ftp[:]` for a scheme without such a notation.
fn push_scheme(defanged: &mut String, scheme: &str) {
    let lower = scheme.to_ascii_lowercase();
    if let Some(at) = lower.rfind("http") {
        defanged.push_str(&scheme[..at]);
        defanged.push_str("hxxp");
        defanged.push_str(&scheme[at + "http".len()..]);
        defanged.push(':');
    } else {
        defanged.push_str(scheme);
        defanged.push_str("[:]");
    }
}

/// Whether programs may link `name`, which stands between `before` and `after`.
fn is_linked_host(name: &str, before: &str, after: &str) -> bool {
    let Some((_, last_label)) = name.trim_end_matches('.').rsplit_once('.') else { return false };
    if before.ends_with("//") || name.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("www.")) {
        return true;
    }
    let is_in_path = before.ends_with(['/', '\\']);
    let after_port =
        after.strip_prefix(':').map_or(after, |port| port.trim_start_matches(|c: char| c.is_ascii_digit()));
    let is_top_level = last_label.chars().count() >= 2 && last_label.chars().all(|c| c.is_alphabetic() || c == '-');
    !is_in_path && is_top_level && after_port.starts_with('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_broken_and_other_text_stays() {
        for (text, expected) in [
            ("log in at http://evil.example/login!", "log in at hxxp://evil[.]example/login!"),
            ("(HTTPS://a.b.example:8080/x?y=1.5)", "(hxxpS://a[.]b[.]example:8080/x?y=1.5)"),
            ("<a href='http://evil.example'>", "<a href='hxxp://evil[.]example'>"),
            ("http://user:pw@evil.example/", "hxxp://user:pw@evil[.]example/"),
            ("http://localhost/ http://2130706433/", "hxxp://localhost/ hxxp://2130706433/"),
            ("ftp://evil.example slack://open", "ftp[:]//evil[.]example slack[:]//open"),
            ("www.evil.example WWW.evil.example", "www[.]evil[.]example WWW[.]evil[.]example"),
            ("evil.example/login //evil.example/x", "evil[.]example/login //evil[.]example/x"),
            ("evil.example:8080/login", "evil[.]example:8080/login"),
            ("bücher.example/ö", "bücher[.]example/ö"),
            ("/app/pay.py:42 src/a.b/c.js:1:2", "/app/pay.py:42 src/a.b/c.js:1:2"),
            ("django.core.exceptions.E: 1.5/2.5", "django.core.exceptions.E: 1.5/2.5"),
            ("a.py:7 me@mail.example: boom. 12:30", "a.py:7 me@mail.example: boom. 12:30"),
            ("", ""),
        ] {
            assert_eq!(defang_urls(text), expected);
        }
    }

    proptest::proptest! {
        #[test]
        fn no_scheme_of_the_web_survives(text in "(?i)[a-zhtps:/.@ ]{0,40}(https?://)?[a-zé./]{0,20}") {
            let defanged = defang_urls(&text).to_ascii_lowercase();
            proptest::prop_assert!(!defanged.contains("http://") && !defanged.contains("https://"), "{}", defanged);
        }
    }
}
