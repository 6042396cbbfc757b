//! Strategies for property tests.

use proptest::prelude::*;

/// Parts of the frames of all languages.
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

/// Generates texts that join parts of frames in any order, with other text between them.
pub(crate) fn tracebacks() -> impl Strategy<Value = String> {
    let piece = prop_oneof![3 => prop::sample::select(&PIECES[..]).prop_map(str::to_owned), 1 => "\\PC{0,6}"];
    prop::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
}
