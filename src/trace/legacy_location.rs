//! The location rules of the original Monlight.
//!
//! They determine the groups of every existing installation, so they must not change, not even where they misfire.

use super::location_notation::{Location, file_line_column};
use super::scan::leading_number;

/// Whitespace around a frame.
const WHITESPACE: [char; 3] = [' ', '\t', '\r'];

/// Returns the location of the last Python frame, because Python lists the innermost frame last; if there is none, that
/// of the first line that looks like a JavaScript frame, which lists the innermost first.
///
/// Java, Kotlin and Scala (`at shop.Pay.charge(Pay.java:12)`) look like JavaScript, and so does a Rust backtrace.
pub fn legacy_location(traceback: &str) -> Option<Location<'_>> {
    last_python_frame(traceback).or_else(|| traceback.split('\n').find_map(javascript_frame))
}

/// Finds `File "/app/pay.py", line 42` anywhere in a line.
fn last_python_frame(traceback: &str) -> Option<Location<'_>> {
    let mut last = None;
    let mut rest = traceback;
    while let Some((_, frame)) = rest.split_once("File \"") {
        rest = match python_frame(frame) {
            Some((location, after)) => {
                last = Some(location);
                after
            }
            // The original skips the rest of such a line.
            None => frame.split_once('\n').map_or("", |(_, next_line)| next_line),
        };
    }
    last
}

/// Parses the location at the start of `frame`, which begins behind the opening quote. Also returns the text behind it.
///
/// The closing quote may be many lines below. All searches for one still take linear time together: the next `File "`
/// has a quote of its own, so no two searches cover the same text.
fn python_frame(frame: &str) -> Option<(Location<'_>, &str)> {
    let (file, after) = frame.split_once('"')?;
    let (line, after) = leading_number(after.strip_prefix(", line ")?)?;
    Some((Location { file, line }, after))
}

/// Parses V8's `at charge (https://shop.example/app.js:10:5)` and `at /app/pay.js:10:5`, Firefox's and Safari's
/// `charge@https://shop.example/app.js:10:5`.
///
/// `at ` counts anywhere in the line, even as the end of a word. The first parentheses decide, even if they contain no
/// position. A stricter rule would move errors to other groups.
fn javascript_frame(line: &str) -> Option<Location<'_>> {
    let frame = line.trim_matches(WHITESPACE);
    let Some((_, call)) = frame.split_once("at ") else {
        let (_function, place) = frame.split_once('@')?;
        return file_line_column(place);
    };
    match (call.find('('), call.find(')')) {
        (Some(open), Some(close)) if open < close => file_line_column(&call[open + 1..close]),
        _ => file_line_column(call),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locate(traceback: &str) -> Option<String> {
        legacy_location(traceback).map(|location| location.to_string())
    }

    #[test]
    fn the_last_python_frame_is_the_location() {
        for (traceback, location) in [
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
            // A malformed frame discards the rest of its line, but not the next line.
            ("File \"a.py\" line 1, File \"b.py\", line 2", None),
            ("File \"a.py\" line 1\nFile \"b.py\", line 2", Some("b.py:2")),
            ("File \"a.py\", line x", None),
            ("File \"a.py\", line ", None),
            ("File \"a.py", None),
        ] {
            assert_eq!(locate(traceback).as_deref(), location, "{traceback}");
        }
    }

    #[test]
    fn the_first_javascript_frame_is_the_location() {
        for (traceback, location) in [
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
            // Not JavaScript, but the original treats it as such.
            ("java.lang.Error: x\n\tat shop.Pay.charge(Pay.java:12)\n", Some("Pay.java:12")),
            ("\tat java.base/jdk.internal.Invoke(Native Method)\n\tat shop.Pay.main(Pay.kt:3)", Some("Pay.kt:3")),
            ("error: failed at step 3:7", Some("step 3:7")),
            ("what (12:30)", Some("12:30")),
            ("mail to ops@shop.example:25", Some("shop.example:25")),
            ("at :1:2", Some(":1:2")),
            // The parentheses decide, even if a position follows them.
            ("at f() in a.js:1:2", None),
            ("at f )a.js:1:2(", None),
            ("at :1", None),
            ("at a.js", None),
            ("a.js:1:2", None),
            ("", None),
        ] {
            assert_eq!(locate(traceback).as_deref(), location, "{traceback}");
        }
    }
}
