//! The names of sources as people read them: behind the map's `sourceRoot`, without `.`, `..` and doubled slashes, as
//! URLs are resolved. They stay relative where the map has them relative: `../src/cart.ts` says more than a URL at
//! which no server answers.

/// A source's name. Control characters, which some bundlers mark sources of their own with, are left out.
pub(super) fn resolved(root: &str, source: &str) -> String {
    let mut whole = String::with_capacity(root.len() + source.len() + 1);
    if !root.is_empty() {
        whole.push_str(root);
        whole.push('/');
    }
    whole.extend(source.chars().filter(|letter| !letter.is_control()));
    let (path, tail) = whole.split_at(whole.find(['?', '#']).unwrap_or(whole.len()));
    let (authority, path) = path.split_at(authority_bytes(path));
    let relative = authority.is_empty() && !path.starts_with('/');
    let mut normal = normal(path, relative);
    if normal.is_empty() {
        normal.push_str(match (authority.is_empty(), relative && whole.is_empty() || !tail.is_empty()) {
            (false, _) => "/",
            (true, true) => "",
            (true, false) => ".",
        });
    } else if relative && whole.starts_with('.') && !normal.starts_with('.') {
        normal.insert_str(0, "./");
    }
    format!("{authority}{normal}{tail}")
}

/// Bytes of `scheme://host` or `//host` at the front.
fn authority_bytes(url: &str) -> usize {
    let scheme = url.find(|letter: char| !letter.is_ascii_alphanumeric() && !"+.-_".contains(letter)).unwrap_or(0);
    let slashes = match &url[scheme..] {
        rest if scheme > 0 && rest.starts_with("://") => scheme + 1,
        rest if scheme == 0 && rest.starts_with("//") => 0,
        _ => return 0,
    };
    url[slashes + 2..].find('/').map_or(url.len(), |end| slashes + 2 + end)
}

fn normal(path: &str, relative: bool) -> String {
    let mut parts: Vec<&str> = Vec::new();
    // A path that ends in a folder keeps its slash.
    let mut folder = false;
    for part in path.split('/').skip(usize::from(!relative)) {
        folder = part.is_empty() || part == ".." && parts.last().is_some_and(|last| *last != "..");
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            ".." if relative => parts.push(part),
            ".." => {}
            _ => parts.push(part),
        }
    }
    let mut normal = if relative || path.is_empty() { String::new() } else { "/".to_owned() };
    normal.push_str(&parts.join("/"));
    if folder && !parts.is_empty() && parts.last() != Some(&"..") {
        normal.push('/');
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_trace_mapping_says() {
        // The right side is what @jridgewell/trace-mapping 0.3.31 answers.
        for (root, source, expected) in [
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
            ("", "C:\\shop\\cart.ts", "C:\\shop\\cart.ts"),
            ("", "\0helpers.js", "helpers.js"),
        ] {
            assert_eq!(resolved(root, source), expected, "{root:?} {source:?}");
        }
    }
}
