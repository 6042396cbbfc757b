//! Which of the uploaded maps is that of the file a frame is in.
//!
//! Maps are uploaded under the URL of the generated file, as far as whoever builds knows it: whole, as a path (also
//! `~/assets/app.js`), or as a file name. Queries and fragments are left out of account, and a `.map` at the end of
//! what was uploaded.

/// How well an uploaded URL fits a frame's; the greatest fits best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::browser_relay) enum Fit {
    /// The file's name is the same, and this many folders before it.
    Name(usize),
    /// The path is the same.
    Path,
    /// The whole URL is the same.
    Url,
}

/// Beginnings of URLs that no upload is about: code of extensions must not be taken for the page's because a file is
/// called alike, and what has no address of its own is nobody's file.
const FOREIGN: [&str; 8] =
    ["blob:", "data:", "about:", "javascript:", "node:", "webpack:", "webpack-internal:", "wasm:"];

/// How well `uploaded`, the URL that a map was uploaded under, fits `frame`, the URL of a frame; `None` where it does
/// not.
pub(in crate::browser_relay) fn fit(uploaded: &str, frame: &str) -> Option<Fit> {
    let (frame, path) = parts(frame);
    let scheme = frame.split_once("://").map_or("", |(scheme, _)| scheme);
    if FOREIGN.iter().any(|foreign| frame.starts_with(foreign)) || scheme.ends_with("-extension") {
        return None;
    }
    let (uploaded, mut uploaded_path) = parts(uploaded);
    let whole = uploaded.strip_suffix(".map").unwrap_or(uploaded);
    uploaded_path = uploaded_path.strip_suffix(".map").unwrap_or(uploaded_path);
    if whole == frame {
        return Some(Fit::Url);
    }
    if uploaded_path == path && !path.is_empty() {
        return Some(Fit::Path);
    }
    let alike =
        uploaded_path.rsplit('/').zip(path.rsplit('/')).take_while(|(left, right)| left == right && !left.is_empty());
    alike.count().checked_sub(1).map(Fit::Name)
}

/// The one of the uploaded URLs that fits a frame's best, by its place; of several that fit alike the first.
pub(in crate::browser_relay) fn best<'a>(uploaded: impl IntoIterator<Item = &'a str>, frame: &str) -> Option<usize> {
    let fits = uploaded.into_iter().enumerate().filter_map(|(at, url)| Some((fit(url, frame)?, at)));
    fits.max_by_key(|(fit, at)| (*fit, std::cmp::Reverse(*at))).map(|(_, at)| at)
}

/// The name of the file that `uploaded` is about: maps that fit a frame have that of the frame's URL, see [`name`].
pub(in crate::browser_relay) fn uploaded_name(uploaded: &str) -> &str {
    let name = name(uploaded);
    name.strip_suffix(".map").unwrap_or(name)
}

/// The name of the file at the end of a URL's path; may be empty.
pub(in crate::browser_relay) fn name(url: &str) -> &str {
    let (_, path) = parts(url);
    path.rsplit('/').next().unwrap_or(path)
}

/// A URL without query and fragment, and its path without a slash in front.
fn parts(url: &str) -> (&str, &str) {
    let whole = &url[..url.find(['?', '#']).unwrap_or(url.len())];
    let path = match whole.split_once("://") {
        Some((_, rest)) => rest.split_once('/').map_or("", |(_, path)| path),
        None => whole.strip_prefix('~').unwrap_or(whole),
    };
    (whole, path.trim_start_matches("./").trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FRAME: &str = "https://shop.example/assets/app.js?v=3#x";

    #[test]
    fn the_url_then_the_path_then_the_name() {
        for (uploaded, expected) in [
            ("https://shop.example/assets/app.js", Some(Fit::Url)),
            ("https://shop.example/assets/app.js?v=2", Some(Fit::Url)),
            ("https://shop.example/assets/app.js.map", Some(Fit::Url)),
            ("https://cdn.example/assets/app.js", Some(Fit::Path)),
            ("/assets/app.js", Some(Fit::Path)),
            ("~/assets/app.js", Some(Fit::Path)),
            ("assets/app.js", Some(Fit::Path)),
            ("./assets/app.js.map", Some(Fit::Path)),
            ("/static/assets/app.js", Some(Fit::Name(1))),
            ("app.js", Some(Fit::Name(0))),
            ("https://shop.example/app.js", Some(Fit::Name(0))),
            ("/assets/other.js", None),
            ("/assets/APP.js", None),
            ("pp.js", None),
            ("", None),
            ("https://shop.example", None),
        ] {
            assert_eq!(fit(uploaded, FRAME), expected, "{uploaded}");
        }
        assert!(Fit::Url > Fit::Path && Fit::Path > Fit::Name(9) && Fit::Name(2) > Fit::Name(1));
    }

    #[test]
    fn the_best_is_chosen_and_of_alike_ones_the_first() {
        for (uploaded, expected) in [
            (&["app.js", "/assets/app.js", "https://shop.example/assets/app.js"][..], Some(2)),
            (&["/b/app.js", "/x/assets/app.js", "app.js"], Some(1)),
            (&["/a/app.js", "/b/app.js"], Some(0)),
            (&["other.js"], None),
            (&[], None),
        ] {
            assert_eq!(best(uploaded.iter().copied(), FRAME), expected, "{uploaded:?}");
        }
    }

    #[test]
    fn what_is_nobodys_file_fits_nothing() {
        for frame in [
            "chrome-extension://abcdef/app.js",
            "moz-extension://a-b/app.js",
            "safari-web-extension://A/app.js",
            "blob:https://shop.example/app.js",
            "webpack://shop/app.js",
            "webpack-internal:///app.js",
            "node:app.js",
        ] {
            assert_eq!(fit("app.js", frame), None, "{frame}");
        }
        for frame in ["file:///home/app/app.js", "capacitor://localhost/app.js", "app:///app.js", "/app.js", "app.js"] {
            assert!(fit("app.js", frame).is_some(), "{frame}");
        }
        // An inline script's URL is that of its page.
        assert_eq!(fit("app.js", "https://shop.example/"), None);
        assert_eq!(fit("https://shop.example/", "https://shop.example/?q"), Some(Fit::Url));
    }

    proptest! {
        #[test]
        fn any_text_is_survived(uploaded in "[a:/.?#~é]{0,12}", frame in "[a:/.?#~é]{0,12}") {
            let found = fit(&uploaded, &frame);
            prop_assert!(found != Some(Fit::Path) || parts(&frame).1 == parts(&uploaded).1);
            prop_assert!(found.is_none() || uploaded_name(&uploaded) == name(&frame));
        }
    }
}
