//! Finds where an error was raised in the text of its traceback.
//!
//! Two sets of rules. The original's name the groups of every installation that exists, so they are kept to the letter,
//! oddities included; `languages` reads the traces the original could make nothing of. Every rule takes time linear in
//! the length of the text: it looks at each line a fixed number of times.

mod languages;

use std::fmt;

pub(super) use languages::in_further_languages;

/// What surrounds a frame on its line.
const BLANK: [char; 3] = [' ', '\t', '\r'];

/// A line of a source file, as the traceback writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Location<'t> {
    /// A path, a URL or a class file's source name. Unbounded: a hostile traceback is one long file name.
    pub(super) file: &'t str,
    /// Decimal digits, of any number and with any leading zeros: the fingerprint is made of them as they stand.
    pub(super) line: &'t str,
}

/// `file:line`.
impl fmt::Display for Location<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// Where the original sees the error raised: the last Python frame of the text, since Python lists the innermost frame
/// last, otherwise the first frame of JavaScript and of whatever looks like it, which list it first.
///
/// Java, Kotlin and Scala (`at shop.Pay.charge(Pay.java:12)`) look like it. So does a Rust backtrace.
pub(super) fn by_the_original_rules(traceback: &str) -> Option<Location<'_>> {
    last_python_frame(traceback).or_else(|| traceback.split('\n').find_map(javascript_frame))
}

/// `File "/app/pay.py", line 42`, anywhere in a line.
fn last_python_frame(traceback: &str) -> Option<Location<'_>> {
    let mut last = None;
    let mut rest = traceback;
    while let Some((_, frame)) = rest.split_once("File \"") {
        rest = match python_frame(frame) {
            Some((location, after)) => {
                last = Some(location);
                after
            }
            // The original gives up such a line, with whatever else stands in it.
            None => frame.split_once('\n').map_or("", |(_, next_line)| next_line),
        };
    }
    last
}

/// The location at the start of `frame`, which begins behind the opening quote, and the text behind it.
///
/// The closing quote may stand many lines below. All the searches for one still take linear time together: the next
/// `File "` has a quote of its own, so no two run over the same text.
fn python_frame(frame: &str) -> Option<(Location<'_>, &str)> {
    let (file, after) = frame.split_once('"')?;
    let (line, after) = leading_number(after.strip_prefix(", line ")?)?;
    Some((Location { file, line }, after))
}

/// V8's `at charge (https://shop.example/app.js:10:5)` and `at /app/pay.js:10:5`, Firefox's and Safari's
/// `charge@https://shop.example/app.js:10:5`.
///
/// `at ` counts anywhere in the line, even as the end of a word; the first parentheses decide, even when they hold no
/// position. Looking closer would move errors to other groups.
fn javascript_frame(line: &str) -> Option<Location<'_>> {
    let frame = line.trim_matches(BLANK);
    let Some((_, called)) = frame.split_once("at ") else {
        let (_function, place) = frame.split_once('@')?;
        return file_line_column(place);
    };
    match (called.find('('), called.find(')')) {
        (Some(open), Some(close)) if open < close => file_line_column(&called[open + 1..close]),
        _ => file_line_column(called),
    }
}

/// `file:line:column`, or `file:line` as Java writes it. Colons in the file, of a URL or an IPv6 host, stay in it.
fn file_line_column(place: &str) -> Option<Location<'_>> {
    let nearest = file_line(place.trim_matches(BLANK))?;
    Some(file_line(nearest.file).unwrap_or(nearest))
}

/// `file:line`, split at the last colon.
fn file_line(place: &str) -> Option<Location<'_>> {
    let (file, line) = place.rsplit_once(':')?;
    (!file.is_empty() && is_number(line)).then_some(Location { file, line })
}

/// One or more decimal digits.
fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The decimal digits `text` starts with, one at least, and what follows them.
fn leading_number(text: &str) -> Option<(&str, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    (digits > 0).then(|| text.split_at(digits))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    const PIECES: [&str; 24] = [
        "File \"/app/pay.py\", line 4",
        "\n    at pay (a.js:1:2)\n",
        "File \"",
        "\", line ",
        "\"",
        "at ",
        "at main (",
        "(",
        ")",
        "@",
        ":",
        ":12",
        "007",
        "\n",
        "\r\n",
        "\t/app/pay.go:12 +0x1d",
        "panic(",
        "panicked at '",
        "', src/pay.rs:3:5",
        "pay.rb:12:in '",
        "Stack trace:",
        " in /app/pay.php:3",
        "#0 /app/pay.php(7): ",
        "(shop 0.1.0) lib/pay.ex:12: ",
    ];

    /// Texts of the pieces frames are made of, in any order, with anything between them.
    pub(in crate::error_tracker) fn tracebacks() -> impl Strategy<Value = String> {
        let piece = prop_oneof![3 => prop::sample::select(&PIECES[..]).prop_map(str::to_owned), 1 => "\\PC{0,6}"];
        prop::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
    }

    fn original(traceback: &str) -> Option<String> {
        by_the_original_rules(traceback).map(|place| place.to_string())
    }

    #[test]
    fn python_means_the_last_frame() {
        for (traceback, place) in [
            ("  File \"/app/a.py\", line 1, in f\n    g()\n  File \"/app/b.py\", line 2, in g\n", Some("/app/b.py:2")),
            (
                "  File \"/app/a.py\", line 12\n    x = = 1\n        ^\nSyntaxError: invalid syntax",
                Some("/app/a.py:12"),
            ),
            ("File \"C:\\\\shop\\\\pay.py\", line 3", Some("C:\\\\shop\\\\pay.py:3")),
            ("File \"a.py\", line 0042", Some("a.py:0042")),
            ("File \"<string>\", line 1, in <module>", Some("<string>:1")),
            ("File \"\", line 1", Some(":1")),
            ("see File \"a.py\", line 1, File \"b.py\", line 2", Some("b.py:2")),
            ("File \"a\nb.py\", line 1", Some("a\nb.py:1")),
            ("File \"a.py\", line 1\r\n  File \"b.py\", line 2\r\n", Some("b.py:2")),
            ("  File \"a.py\", line 1\n    at f (b.js:2:3)\n", Some("a.py:1")),
            // What follows a broken frame on its line is lost with it; the next line is not.
            ("File \"a.py\" line 1, File \"b.py\", line 2", None),
            ("File \"a.py\" line 1\nFile \"b.py\", line 2", Some("b.py:2")),
            ("File \"a.py\", line x", None),
            ("File \"a.py\", line ", None),
            ("File \"a.py", None),
        ] {
            assert_eq!(original(traceback).as_deref(), place, "{traceback}");
        }
    }

    #[test]
    fn javascript_means_the_first_frame() {
        for (traceback, place) in [
            (
                "Error: x\n    at f (https://shop.example/a.js:1:2)\n    at g (b.js:3:4)",
                Some("https://shop.example/a.js:1"),
            ),
            ("Error: x\n    at http://localhost:3000/a.js:10:5", Some("http://localhost:3000/a.js:10")),
            ("Error: x\r\n    at f (a.js:1:2)\r\n", Some("a.js:1")),
            ("    at new Cart (C:\\shop\\cart.js:4:11)", Some("C:\\shop\\cart.js:4")),
            ("    at Cart.pay [as onclick] (http://[::1]:8080/a.js:4:11)", Some("http://[::1]:8080/a.js:4")),
            (
                "    at f (webpack:///./node_modules/@shop/ui/cart.ts:4:11)",
                Some("webpack:///./node_modules/@shop/ui/cart.ts:4"),
            ),
            ("    at async Promise.all (index 0)\n    at async f (a.js:1:2)", Some("a.js:1")),
            (
                "    at <anonymous>\n    at Array.map (<anonymous>)\n    at f (native)\n    at g (a.js:1:2)",
                Some("a.js:1"),
            ),
            (
                "    at eval (eval at f (https://shop.example/a.js:1:2), <anonymous>:5:6)",
                Some("eval at f (https://shop.example/a.js:1"),
            ),
            ("f@https://shop.example/@shop/ui@1.2.3/a.js:1:2", Some("https://shop.example/@shop/ui@1.2.3/a.js:1")),
            ("f@[native code]\n@https://shop.example/a.js:1:2", Some("https://shop.example/a.js:1")),
            ("f@https://shop.example/a.js line 3 > eval:1:9", Some("https://shop.example/a.js line 3 > eval:1")),
            // Not JavaScript, but the original takes it for it.
            ("java.lang.Error: x\n\tat shop.Pay.charge(Pay.java:12)\n", Some("Pay.java:12")),
            ("\tat java.base/jdk.internal.Invoke(Native Method)\n\tat shop.Pay.main(Pay.kt:3)", Some("Pay.kt:3")),
            ("error: failed at step 3:7", Some("step 3:7")),
            ("what (12:30)", Some("12:30")),
            ("mail to ops@shop.example:25", Some("shop.example:25")),
            ("at :1:2", Some(":1:2")),
            // The parentheses decide, even when there is a position behind them.
            ("at f() in a.js:1:2", None),
            ("at f )a.js:1:2(", None),
            ("at :1", None),
            ("at a.js", None),
            ("a.js:1:2", None),
            ("", None),
        ] {
            assert_eq!(original(traceback).as_deref(), place, "{traceback}");
        }
    }

    /// Every trace of the corpus, its location, and whether the original finds it.
    #[test]
    fn real_traces_are_located() {
        let corpus = [
            ("chrome", "https://shop.example/assets/checkout-4f1c9b2e.js:14", true),
            ("dotnet", "/src/Shop/Cart.cs:31", false),
            ("elixir", "lib/shop/cart.ex:31", false),
            ("firefox", "http://localhost:3000/src/cart.ts:27", true),
            ("go-panic", "/src/internal/pay/total.go:17", false),
            ("go-recovered", "/src/cmd/checkout/server.go:58", false),
            ("java", "Shop.java:9", true),
            ("node", "/srv/shop/lib/pay.js:3", true),
            ("php", "/app/src/Database.php:19", false),
            ("php-trace", "/app/app/Cart.php:31", false),
            ("python", "/app/shop/pay.py:8", true),
            ("ruby", "/app/app/models/checkout.rb:23", false),
            ("ruby-3.3", "/app/lib/price.rb:12", false),
            ("rust", "src/checkout/pay.rs:88", false),
            ("rust-1.72", "src/checkout/pay.rs:41", false),
            (
                "rust-backtrace",
                "/rustc/59807616e1fa2540724bfbac14d7976d7e4a3860/library/std/src/panicking.rs:689",
                true,
            ),
            ("safari", "https://shop.example/assets/index-90ab34cd.js:2", true),
        ];
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/tracebacks");
        assert_eq!(
            std::fs::read_dir(&folder).unwrap().count(),
            corpus.len(),
            "a trace without a location, or the reverse"
        );
        for (name, place, original_finds_it) in corpus {
            let traceback = std::fs::read_to_string(folder.join(format!("{name}.txt"))).unwrap();
            let found = by_the_original_rules(&traceback);
            assert_eq!(found.is_some(), original_finds_it, "{name}: {found:?}");
            let found = found.or_else(|| in_further_languages(&traceback)).map(|place| place.to_string());
            assert_eq!(found.as_deref(), Some(place), "{name}");
        }
    }

    proptest! {
        #[test]
        fn a_location_is_a_part_of_the_text(traceback in tracebacks()) {
            for place in [by_the_original_rules(&traceback), in_further_languages(&traceback)].into_iter().flatten() {
                prop_assert!(is_number(place.line));
                prop_assert!(traceback.contains(place.file) && traceback.contains(place.line));
            }
        }

        #[test]
        fn no_text_panics(traceback in "(?s).{0,200}") {
            let _ = by_the_original_rules(&traceback);
            let _ = in_further_languages(&traceback);
        }
    }
}
