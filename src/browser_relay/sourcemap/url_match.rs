//! Selection of the source map for the file of a frame.
//!
//! A map is uploaded for the URL of the generated file, as far as the build knows it: the full URL, the path (also
//! `~/assets/app.js`), or the file name. Queries and fragments are ignored, and so is a `.map` suffix of the uploaded
//! URL.

use std::cmp::Reverse;

/// Quality of a match between an uploaded URL and the URL of a frame, from worst to best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::browser_relay) enum UrlMatch {
    /// The file names are equal, and so is this number of directories before them.
    FileName(usize),
    /// The paths are equal.
    Path,
    /// The URLs are equal.
    Url,
}

/// Schemes of code that no upload belongs to: code without a URL of its own, and code of the browser. Extensions are
/// excluded too, because their files often have the same names as those of pages.
const UNRELATED: [&str; 8] =
    ["blob:", "data:", "about:", "javascript:", "node:", "webpack:", "webpack-internal:", "wasm:"];

/// Compares the URL of an upload with the URL of a frame. Returns `None` if they do not match.
#[cfg(test)]
fn match_url(uploaded: &str, frame: &str) -> Option<UrlMatch> {
    FrameUrl::parse(frame)?.match_upload(uploaded)
}

/// The URL of a frame, parsed once for all comparisons.
struct FrameUrl<'a> {
    url: &'a str,
    path: &'a str,
}

impl<'a> FrameUrl<'a> {
    /// Parses the URL of a frame. Returns `None` if no upload can belong to it.
    fn parse(frame: &'a str) -> Option<Self> {
        let (url, path) = split_path(frame);
        let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
        let is_unrelated = UNRELATED.iter().any(|unrelated| url.starts_with(unrelated));
        (!is_unrelated && !scheme.ends_with("-extension")).then_some(Self { url, path })
    }

    /// Compares the URL of an upload with this one. Returns `None` if they do not match.
    fn match_upload(&self, uploaded: &str) -> Option<UrlMatch> {
        let (uploaded, mut uploaded_path) = split_path(uploaded);
        let uploaded_url = uploaded.strip_suffix(".map").unwrap_or(uploaded);
        uploaded_path = uploaded_path.strip_suffix(".map").unwrap_or(uploaded_path);
        if uploaded_url == self.url {
            return Some(UrlMatch::Url);
        }
        if uploaded_path == self.path && !self.path.is_empty() {
            return Some(UrlMatch::Path);
        }
        let segments = uploaded_path.rsplit('/').zip(self.path.rsplit('/'));
        let equal_segments = segments.take_while(|(left, right)| left == right && !left.is_empty()).count();
        equal_segments.checked_sub(1).map(UrlMatch::FileName)
    }
}

/// Returns the index of the uploaded URL that matches a frame's URL best. If several match equally well, the first wins.
pub(in crate::browser_relay) fn best_match<'a>(
    uploaded: impl IntoIterator<Item = &'a str>,
    frame: &str,
) -> Option<usize> {
    let frame = FrameUrl::parse(frame)?;
    let matches = uploaded.into_iter().enumerate().filter_map(|(index, url)| Some((frame.match_upload(url)?, index)));
    matches.max_by_key(|(url_match, index)| (*url_match, Reverse(*index))).map(|(_, index)| index)
}

/// Returns the name of the generated file that an upload belongs to. If the upload matches a frame, this equals
/// [`file_name`] of the frame's URL.
pub(in crate::browser_relay) fn uploaded_file_name(uploaded: &str) -> &str {
    let name = file_name(uploaded);
    name.strip_suffix(".map").unwrap_or(name)
}

/// Returns the last segment of a URL's path, which may be empty.
pub(in crate::browser_relay) fn file_name(url: &str) -> &str {
    let (_, path) = split_path(url);
    path.rsplit('/').next().unwrap_or(path)
}

/// Returns a URL without query and fragment, and its path without leading slashes.
fn split_path(url: &str) -> (&str, &str) {
    let url = &url[..memchr::memchr2(b'?', b'#', url.as_bytes()).unwrap_or(url.len())];
    let path = match url.split_once("://") {
        Some((_, rest)) => rest.split_once('/').map_or("", |(_, path)| path),
        None => url.strip_prefix('~').unwrap_or(url),
    };
    (url, path.trim_start_matches("./").trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FRAME: &str = "https://shop.example/assets/app.js?v=3#x";

    #[test]
    fn urls_match_before_paths_and_paths_before_file_names() {
        for (uploaded, expected) in [
            ("https://shop.example/assets/app.js", Some(UrlMatch::Url)),
            ("https://shop.example/assets/app.js?v=2", Some(UrlMatch::Url)),
            ("https://shop.example/assets/app.js.map", Some(UrlMatch::Url)),
            ("https://cdn.example/assets/app.js", Some(UrlMatch::Path)),
            ("/assets/app.js", Some(UrlMatch::Path)),
            ("~/assets/app.js", Some(UrlMatch::Path)),
            ("assets/app.js", Some(UrlMatch::Path)),
            ("./assets/app.js.map", Some(UrlMatch::Path)),
            ("/static/assets/app.js", Some(UrlMatch::FileName(1))),
            ("app.js", Some(UrlMatch::FileName(0))),
            ("https://shop.example/app.js", Some(UrlMatch::FileName(0))),
            ("/assets/other.js", None),
            ("/assets/APP.js", None),
            ("pp.js", None),
            ("", None),
            ("https://shop.example", None),
        ] {
            assert_eq!(match_url(uploaded, FRAME), expected, "{uploaded}");
        }
        assert!(UrlMatch::Url > UrlMatch::Path && UrlMatch::Path > UrlMatch::FileName(9));
        assert!(UrlMatch::FileName(2) > UrlMatch::FileName(1));
    }

    #[test]
    fn best_match_wins_and_the_first_of_equal_ones() {
        for (uploaded, expected) in [
            (&["app.js", "/assets/app.js", "https://shop.example/assets/app.js"][..], Some(2)),
            (&["/b/app.js", "/x/assets/app.js", "app.js"], Some(1)),
            (&["/a/app.js", "/b/app.js"], Some(0)),
            (&["other.js"], None),
            (&[], None),
        ] {
            assert_eq!(best_match(uploaded.iter().copied(), FRAME), expected, "{uploaded:?}");
        }
    }

    #[test]
    fn unrelated_schemes_match_nothing() {
        for frame in [
            "chrome-extension://abcdef/app.js",
            "moz-extension://a-b/app.js",
            "safari-web-extension://A/app.js",
            "blob:https://shop.example/app.js",
            "webpack://shop/app.js",
            "webpack-internal:///app.js",
            "node:app.js",
        ] {
            assert_eq!(match_url("app.js", frame), None, "{frame}");
        }
        for frame in ["file:///home/app/app.js", "capacitor://localhost/app.js", "app:///app.js", "/app.js", "app.js"] {
            assert!(match_url("app.js", frame).is_some(), "{frame}");
        }
        // The URL of an inline script is that of its page.
        assert_eq!(match_url("app.js", "https://shop.example/"), None);
        assert_eq!(match_url("https://shop.example/", "https://shop.example/?q"), Some(UrlMatch::Url));
    }

    proptest! {
        #[test]
        fn matching_urls_have_equal_file_names(uploaded in "[a:/.?#~é]{0,12}", frame in "[a:/.?#~é]{0,12}") {
            let url_match = match_url(&uploaded, &frame);
            prop_assert!(url_match != Some(UrlMatch::Path) || split_path(&frame).1 == split_path(&uploaded).1);
            prop_assert!(url_match.is_none() || uploaded_file_name(&uploaded) == file_name(&frame));
        }
    }
}
