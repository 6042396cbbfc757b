//! Glob patterns for container names.

/// Returns whether a name matches a pattern in which `*` stands for any number of characters. Takes time linear in the
/// length of the name for each `*`.
pub(super) fn glob_match(name: &str, pattern: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.len() >= last.len() && rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn star_matches_any_characters() {
        for (name, pattern, matches) in [
            ("web", "web", true),
            ("web-1", "web", false),
            ("web-1", "web*", true),
            ("shop_web_1", "*web*", true),
            ("web", "*", true),
            ("", "*", true),
            ("aba", "ab*ba", false),
            ("abcbca", "a*bc*a", true),
            ("web", "we**b", true),
        ] {
            assert_eq!(glob_match(name, pattern), matches, "{name} {pattern}");
        }
    }
}
