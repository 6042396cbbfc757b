//! Normalization of source URLs: prepends the map's `sourceRoot` and removes `.`, `..` and repeated slashes.
//!
//! Relative URLs stay relative. A path such as `../src/cart.ts` is more useful than an absolute URL that no server
//! answers.

/// Returns a normalized source URL. Removes control characters, with which some bundlers mark their own sources.
pub(super) fn normalize_source_url(source_root: &str, source: &str) -> String {
    let source: String = source.chars().filter(|character| !character.is_control()).collect();
    let url = join(source_root, &source);
    let (base, suffix) = url.split_at(url.find(['?', '#']).unwrap_or(url.len()));
    let (authority, path) = base.split_at(authority_bytes(base));
    let is_relative = authority.is_empty() && !path.starts_with('/');
    let mut normalized = normalize_path(path, is_relative);
    if normalized.is_empty() {
        normalized.push_str(match (authority.is_empty(), is_relative && url.is_empty() || !suffix.is_empty()) {
            (false, _) => "/",
            (true, true) => "",
            (true, false) => ".",
        });
    } else if is_relative && url.starts_with('.') && !normalized.starts_with('.') {
        normalized.insert_str(0, "./");
    }
    format!("{authority}{normalized}{suffix}")
}

/// Prepends the root, with one slash between them, unless the source is an absolute URL.
fn join(source_root: &str, source: &str) -> String {
    if source_root.is_empty() || is_absolute(source) {
        return source.to_owned();
    }
    let source = source.strip_prefix('/').unwrap_or(source);
    let slash = if source_root.ends_with('/') { "" } else { "/" };
    format!("{source_root}{slash}{source}")
}

/// Whether a source has a scheme or starts with `//host`.
fn is_absolute(source: &str) -> bool {
    let is_scheme = |text: &str| !text.is_empty() && text.chars().all(is_scheme_character);
    source.starts_with("//") || source.split_once(':').is_some_and(|(scheme, _)| is_scheme(scheme))
}

fn is_scheme_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || "+.-_".contains(character)
}

/// Returns the length of the leading `scheme://host` or `//host`, or 0.
fn authority_bytes(url: &str) -> usize {
    let scheme = url.find(|character| !is_scheme_character(character)).unwrap_or(0);
    let slashes = match &url[scheme..] {
        rest if scheme > 0 && rest.starts_with("://") => scheme + 1,
        rest if scheme == 0 && rest.starts_with("//") => 0,
        _ => return 0,
    };
    url[slashes + 2..].find('/').map_or(url.len(), |end| slashes + 2 + end)
}

fn normalize_path(path: &str, is_relative: bool) -> String {
    let mut segments: Vec<&str> = Vec::new();
    // Directories keep their trailing slash.
    let mut is_directory = false;
    for segment in path.split('/').skip(usize::from(!is_relative)) {
        is_directory = segment.is_empty() || segment == ".." && segments.last().is_some_and(|last| *last != "..");
        match segment {
            "" | "." => {}
            ".." if segments.last().is_some_and(|last| *last != "..") => drop(segments.pop()),
            ".." if is_relative => segments.push(segment),
            ".." => {}
            _ => segments.push(segment),
        }
    }
    let mut normalized = if is_relative || path.is_empty() { String::new() } else { "/".to_owned() };
    normalized.push_str(&segments.join("/"));
    if is_directory && !segments.is_empty() && segments.last() != Some(&"..") {
        normalized.push('/');
    }
    normalized
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalized_urls_equal_those_of_trace_mapping() {
        // The expected URLs are the results of @jridgewell/trace-mapping 0.3.31.
        for (source_root, source, expected) in [
            ("", "cart.ts", "cart.ts"),
            ("", "./src/cart.ts", "./src/cart.ts"),
            ("", "../../src/./cart.ts", "../../src/cart.ts"),
            ("", "src/../lib/cart.ts", "lib/cart.ts"),
            ("", "webpack://shop/./src/cart.ts", "webpack://shop/src/cart.ts"),
            ("", "webpack:///./src/cart.ts?a1b2", "webpack:///src/cart.ts?a1b2"),
            ("", "webpack://shop/webpack/bootstrap", "webpack://shop/webpack/bootstrap"),
            ("", "https://shop.example", "https://shop.example/"),
            ("", "https://shop.example/a/../../b.js", "https://shop.example/b.js"),
            ("", "/app//src/cart.ts", "/app/src/cart.ts"),
            ("", "//cdn.example/./a.js", "//cdn.example/a.js"),
            ("", "src/App.vue?vue&type=script", "src/App.vue?vue&type=script"),
            ("", "a/b/..", "a/"),
            ("", "", ""),
            ("/src", "cart.ts", "/src/cart.ts"),
            ("https://shop.example/src/", "../cart.ts", "https://shop.example/cart.ts"),
            ("..", "cart.ts", "../cart.ts"),
            ("/", "https://shop.example/cart.ts", "https://shop.example/cart.ts"),
            ("/src", "//cdn.example/a.js", "//cdn.example/a.js"),
            ("", "C:\\shop\\cart.ts", "C:\\shop\\cart.ts"),
            ("", "\0helpers.js", "helpers.js"),
        ] {
            assert_eq!(normalize_source_url(source_root, source), expected, "{source_root:?} {source:?}");
        }
    }

    #[test]
    fn root_and_source_are_joined_with_one_slash() {
        // The expected URLs are the results of Mozilla's source-map 0.8; trace-mapping leaves two slashes after the root "/".
        for (source_root, source, expected) in [
            ("/", "src/cart.ts", "/src/cart.ts"),
            ("/", "a.ts", "/a.ts"),
            ("/", "/abs/a.ts", "/abs/a.ts"),
            ("/", "./src/../a.ts", "/a.ts"),
            ("/src/", "/cart.ts", "/src/cart.ts"),
            ("/src", "/cart.ts", "/src/cart.ts"),
            ("src/", "cart.ts", "src/cart.ts"),
            ("https://shop.example/", "/cart.ts", "https://shop.example/cart.ts"),
            ("/", "webpack://shop/./src/cart.ts", "webpack://shop/src/cart.ts"),
            ("/", "C:\\shop\\cart.ts", "C:\\shop\\cart.ts"),
        ] {
            assert_eq!(normalize_source_url(source_root, source), expected, "{source_root:?} {source:?}");
        }
    }
}
