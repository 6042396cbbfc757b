//! Selection of the source map for the file of a frame.
//!
//! A map is uploaded for the URL of the generated file, as far as the build knows it:
//!
//! ```text
//! https://shop.example/assets/app.js      files with this path, on any host
//! https://shop.example/app.js             files with this path, on shop.example, its subdomains and its parent domains
//! /assets/app.js  ~/assets/app.js         files with this path, on any host
//! app.js                                  files with this name, in any directory, on any host
//! ```
//!
//! Pages also run scripts of others, which often have the same names. A wrong source is worse than none, so the name alone
//! decides only if nothing else was uploaded. A path without directories is only a name too, therefore the second row.
//!
//! Paths are compared percent-decoded, because browsers encode characters such as `[` and `ü`. Queries and fragments are
//! ignored, and so is a `.map` suffix of the uploaded URL.

use std::borrow::Cow;
use std::cmp::Reverse;

use percent_encoding::percent_decode_str;

/// Quality of a match between an uploaded URL and the URL of a frame, from worst to best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::browser_relay) enum UrlMatch {
    /// The upload is a file name, and the names are equal.
    FileName,
    /// The paths are equal.
    Path,
    /// The URLs are equal.
    Url,
}

/// Schemes of code that no upload belongs to: code without a URL of its own, and code of the browser. Extensions are
/// excluded too, because their files often have the same names as those of pages.
const UNRELATED: [&str; 8] =
    ["blob:", "data:", "about:", "javascript:", "node:", "webpack:", "webpack-internal:", "wasm:"];

/// The parts of a URL or path that are compared.
struct FileUrl<'a> {
    /// Scheme and authority; empty if there are none.
    origin: &'a str,
    /// Path without leading slashes, percent-encoded as given.
    path: &'a str,
    /// Whether it says nothing but the name of the file.
    is_name: bool,
}

impl<'a> FileUrl<'a> {
    fn parse(url: &'a str) -> Self {
        let url = &url[..memchr::memchr2(b'?', b'#', url.as_bytes()).unwrap_or(url.len())];
        let authority_start = url.find("://").map(|scheme_end| scheme_end + 3);
        let path_start = authority_start.map_or(0, |start| start + url[start..].find('/').unwrap_or(url.len() - start));
        let (origin, path) = url.split_at(path_start);
        let path = path.trim_start_matches("./");
        let is_name = origin.is_empty() && !path.contains('/');
        let path = if origin.is_empty() { path.strip_prefix('~').unwrap_or(path) } else { path };
        Self { origin, path: path.trim_start_matches('/'), is_name }
    }

    /// Returns the host without user and port, empty if there is none.
    fn host(&self) -> &'a str {
        let authority = self.origin.split_once("://").map_or("", |(_, authority)| authority);
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        match host.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            _ => host,
        }
    }

    /// Returns the last segment of the path, which may be empty.
    fn file_name(&self) -> &'a str {
        self.path.rsplit('/').next().unwrap_or(self.path)
    }
}

/// Parses an uploaded URL. Removes the suffix `.map`.
fn parse_upload(uploaded: &str) -> FileUrl<'_> {
    let url = FileUrl::parse(uploaded);
    FileUrl { path: url.path.strip_suffix(".map").unwrap_or(url.path), ..url }
}

/// Parses the URL of a frame. Returns `None` if no upload can belong to it.
fn parse_frame(frame: &str) -> Option<FileUrl<'_>> {
    let url = FileUrl::parse(frame);
    let scheme = url.origin.split_once("://").map_or("", |(scheme, _)| scheme);
    let is_unrelated = UNRELATED.iter().any(|unrelated| frame.starts_with(unrelated));
    (!is_unrelated && !scheme.ends_with("-extension")).then_some(url)
}

/// Compares the URL of an upload with the URL of a frame. Returns `None` if they do not match.
fn match_urls(uploaded: &FileUrl<'_>, frame: &FileUrl<'_>) -> Option<UrlMatch> {
    if uploaded.is_name {
        let is_same_name = !uploaded.path.is_empty() && is_same_path(uploaded.path, frame.file_name());
        return is_same_name.then_some(UrlMatch::FileName);
    }
    if !is_same_path(uploaded.path, frame.path) {
        return None;
    }
    if uploaded.origin.eq_ignore_ascii_case(frame.origin) {
        return Some(UrlMatch::Url);
    }
    let has_directory = frame.path.contains('/');
    let is_own = has_directory || are_related_hosts(uploaded.host(), frame.host());
    (is_own && !frame.path.is_empty()).then_some(UrlMatch::Path)
}

/// Compares two paths, percent-decoded. A decoded slash does not separate segments.
fn is_same_path(left: &str, right: &str) -> bool {
    left == right || left.split('/').map(decode).eq(right.split('/').map(decode))
}

/// Returns a segment of a path percent-decoded, or unchanged if it would not be UTF-8.
fn decode(segment: &str) -> Cow<'_, str> {
    percent_decode_str(segment).decode_utf8().unwrap_or(Cow::Borrowed(segment))
}

/// Whether one host is the other or a subdomain of it. An unknown host is related to all.
fn are_related_hosts(left: &str, right: &str) -> bool {
    let (left, right) = (left.to_ascii_lowercase(), right.to_ascii_lowercase());
    let is_within = |host: &str, domain: &str| {
        host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || domain.is_empty() || rest.ends_with('.'))
    };
    is_within(&left, &right) || is_within(&right, &left)
}

/// Returns the index of the uploaded URL that matches a frame's URL best. If several match equally well, the first wins.
pub(in crate::browser_relay) fn best_match<'a>(
    uploaded: impl IntoIterator<Item = &'a str>,
    frame: &str,
) -> Option<usize> {
    let frame = parse_frame(frame)?;
    let match_upload = |(index, url)| Some((match_urls(&parse_upload(url), &frame)?, index));
    let matches = uploaded.into_iter().enumerate().filter_map(match_upload);
    matches.max_by_key(|(url_match, index)| (*url_match, Reverse(*index))).map(|(_, index)| index)
}

/// Returns the name of the generated file that an upload belongs to, percent-decoded. If the upload matches a frame, this
/// equals [`file_name`] of the frame's URL.
pub(in crate::browser_relay) fn uploaded_file_name(uploaded: &str) -> Cow<'_, str> {
    decode(parse_upload(uploaded).file_name())
}

/// Returns the last segment of a URL's path, percent-decoded. May be empty.
pub(in crate::browser_relay) fn file_name(url: &str) -> Cow<'_, str> {
    decode(encoded_file_name(url))
}

/// Returns the last segment of a URL's path as given. May be empty.
pub(in crate::browser_relay) fn encoded_file_name(url: &str) -> &str {
    FileUrl::parse(url).file_name()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FRAME: &str = "https://shop.example/assets/app.js?v=3#x";

    fn match_url(uploaded: &str, frame: &str) -> Option<UrlMatch> {
        match_urls(&parse_upload(uploaded), &parse_frame(frame)?)
    }

    #[test]
    fn urls_match_before_paths_and_paths_before_file_names() {
        for (uploaded, expected) in [
            ("https://shop.example/assets/app.js", Some(UrlMatch::Url)),
            ("https://shop.example/assets/app.js?v=2", Some(UrlMatch::Url)),
            ("https://shop.example/assets/app.js.map", Some(UrlMatch::Url)),
            ("HTTPS://Shop.example/assets/app.js", Some(UrlMatch::Url)),
            ("https://cdn.example/assets/app.js", Some(UrlMatch::Path)),
            ("/assets/app.js", Some(UrlMatch::Path)),
            ("~/assets/app.js", Some(UrlMatch::Path)),
            ("assets/app.js", Some(UrlMatch::Path)),
            ("./assets/app.js.map", Some(UrlMatch::Path)),
            ("app.js", Some(UrlMatch::FileName)),
            ("./app.js.map", Some(UrlMatch::FileName)),
            ("/static/assets/app.js", None),
            ("https://shop.example/app.js", None),
            ("https://shop.example/static/app.js", None),
            ("/app.js", None),
            ("~/app.js", None),
            ("/assets/other.js", None),
            ("/assets/APP.js", None),
            ("pp.js", None),
            ("", None),
            ("https://shop.example", None),
            ("https://shop.example/assets/", None),
        ] {
            assert_eq!(match_url(uploaded, FRAME), expected, "{uploaded}");
        }
        assert!(UrlMatch::Url > UrlMatch::Path && UrlMatch::Path > UrlMatch::FileName);
    }

    #[test]
    fn files_of_others_with_the_same_name_stay_unmapped() {
        let own = "https://shop.example/static/js/main.js";
        for frame in [
            "https://cdn.widget.example/v3/main.js",
            "https://shop.example/vendor/main.js",
            "http://localhost:3000/main.js",
            "https://cdn.widget.example/main.js",
            "https://cdn.widget.example/x/static/js/main.js",
        ] {
            for uploaded in [own, "/static/js/main.js", "~/static/js/main.js", "static/js/main.js"] {
                assert_eq!(match_url(uploaded, frame), None, "{uploaded} {frame}");
            }
        }
        // A CDN serves the same path on another host.
        assert_eq!(match_url(own, "https://d111.cloudfront.example/static/js/main.js"), Some(UrlMatch::Path));
    }

    #[test]
    fn path_without_directories_matches_only_on_related_hosts() {
        let own = "https://shop.example/loader.js";
        for (frame, expected) in [
            ("https://shop.example/loader.js", Some(UrlMatch::Url)),
            ("http://shop.example:8080/loader.js", Some(UrlMatch::Path)),
            ("https://www.SHOP.example/loader.js", Some(UrlMatch::Path)),
            ("/loader.js", Some(UrlMatch::Path)),
            ("loader.js", Some(UrlMatch::Path)),
            ("file:///loader.js", Some(UrlMatch::Path)),
            ("https://widget.example/loader.js", None),
            ("https://notshop.example/loader.js", None),
            ("https://shop.example.evil/loader.js", None),
            ("https://shop.example@evil.example/loader.js", None),
        ] {
            assert_eq!(match_url(own, frame), expected, "{frame}");
        }
        for (uploaded, frame) in [
            ("/loader.js", "https://widget.example/loader.js"),
            ("https://www.shop.example/loader.js", "https://shop.example/loader.js"),
            ("http://[::1]:8080/loader.js", "http://[::1]/loader.js"),
        ] {
            assert_eq!(match_url(uploaded, frame), Some(UrlMatch::Path), "{uploaded} {frame}");
        }
    }

    #[test]
    fn encoded_and_decoded_paths_are_equal() {
        let page = "https://x.example/_next/static/chunks/pages/blog/[slug]-0a1b2c3d.js";
        let encoded = "https://x.example/_next/static/chunks/pages/blog/%5Bslug%5D-0a1b2c3d.js";
        for (uploaded, frame) in [
            (page, encoded),
            (encoded, page),
            (encoded, encoded),
            (page, "https://x.example/_next/static/chunks/pages/blog/%5bslug%5d-0a1b2c3d.js"),
        ] {
            assert_eq!(match_url(uploaded, frame), Some(UrlMatch::Url), "{uploaded} {frame}");
        }
        for (uploaded, frame, expected) in [
            ("[slug]-0a1b2c3d.js", encoded, Some(UrlMatch::FileName)),
            ("/blog/größe.js", "https://x.example/blog/gr%C3%B6%C3%9Fe.js", Some(UrlMatch::Path)),
            ("/a b/app.js.map", "https://x.example/a%20b/app.js", Some(UrlMatch::Path)),
            ("/100%25.js", "/100%.js", Some(UrlMatch::Url)),
            ("/caf%E9/app.js", "/caf%E9/app.js", Some(UrlMatch::Url)),
            ("/caf%E9/app.js", "/caf%E8/app.js", None),
            ("/a%2Fb.js", "/a/b.js", None),
            ("/a%252Fb.js", "/a%2Fb.js", None),
        ] {
            assert_eq!(match_url(uploaded, frame), expected, "{uploaded} {frame}");
        }
        assert_eq!(uploaded_file_name(&format!("{encoded}.map")), "[slug]-0a1b2c3d.js");
        assert_eq!(file_name(page), file_name(encoded));
    }

    #[test]
    fn best_match_wins_and_the_first_of_equal_ones() {
        for (uploaded, expected) in [
            (&["app.js", "/assets/app.js", "https://shop.example/assets/app.js"][..], Some(2)),
            (&["/b/app.js", "app.js", "/assets/app.js"], Some(2)),
            (&["https://a.example/assets/app.js", "https://b.example/assets/app.js"], Some(0)),
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
        assert_eq!(match_url("https://shop.example/", "https://www.shop.example/"), None);
    }

    proptest! {
        #[test]
        fn matching_urls_have_equal_file_names(uploaded in "[a:/.?#~é%25]{0,12}", frame in "[a:/.?#~é%25]{0,12}") {
            let url_match = match_url(&uploaded, &frame);
            prop_assert!(url_match.is_none() || uploaded_file_name(&uploaded) == file_name(&frame));
        }
    }
}
