//! The table of formats: what the lines of well-known programs start with, and where their level is.
//!
//! Most programs need no row. Their lines have a timestamp, names and the name of a level in front of the message, which
//! [`super::prefix`] reads in any order. The table has the formats that state the level in another way, as a letter, a
//! number or an HTTP status, and the messages that stand for a level although they name none.
//!
//! To support another format, add a row here and lines of the program to `tests/corpus/log_formats.tsv`. In each section,
//! the first row that matches decides.

use super::exceptions::{exception_level, node_warning_level, python_warning_level, rust_panic_level};
use super::format::Rule::{Layout, Parser, Starts};
use super::format::{Format, Formats};
use super::layout::Part::{
    Blanks, Digits, HttpStatus, LevelLetter, LevelName, Number, OneOf, RedisMark, SyslogPriority, Text, Time, Until,
};
use super::{access_log, json_level};
use crate::records::log_level::Level;
use crate::records::log_level::Level::{Critical, Error, Info, Warning};
use crate::trace::ANY_BYTE;

/// Name of the format of lines that start with the name of an exception.
pub(super) const EXCEPTION: &str = "exception";

const MEMBER: &str = "a member of the object";
const LETTER: &str = "the letter in the prefix";
const NAME: &str = "the level name in the prefix";
const STATUS: &str = "the HTTP status";
const MEANING: &str = "the meaning of the message";

/// Format of lines with the name of a level among the timestamps and names of their prefix.
pub(super) static PREFIX: Format = general("prefix of a logger", NAME);
/// Format of lines that start with the initial of a level and a colon.
pub(super) static LETTER_LABEL: Format = general("APT, PulseAudio", LETTER);
/// Format of lines with a sign in front of the message.
pub(super) static SIGN: Format = general("sign", "the sign in front of the message");
pub(super) static LOGFMT: Format = general("logfmt", "a `key=value` pair");
pub(super) static STATUS_COLUMN: Format = general("Gin, Fiber", STATUS);
/// Format of lines with a JSON object behind a prefix.
pub(super) static PREFIXED_JSON: Format = general("JSON object behind a prefix", MEMBER);

/// Returns a format whose lines [`super::prefix`] recognizes.
const fn general(name: &'static str, level_from: &'static str) -> Format {
    Format { name, level_from, first_bytes: &[], rule: Parser(|_| None) }
}

/// Formats that the start of a line shows. They take precedence over a level in the prefix.
pub(super) static RECORDS: Formats = Formats::new(&[
    Format { name: "JSON object", level_from: MEMBER, first_bytes: b"{", rule: Parser(json_level::json_record) },
    Format {
        name: "syslog",
        level_from: "the priority",
        first_bytes: b"<",
        rule: Layout(&[Text("<"), SyslogPriority, Text(">")]),
    },
    Format {
        name: "klog, glog, CockroachDB",
        level_from: LETTER,
        first_bytes: b"DIWEF",
        rule: Layout(&[LevelLetter, Digits(&[4, 6, 8]), Text(" "), Time]),
    },
    Format {
        name: "qBittorrent",
        level_from: LETTER,
        first_bytes: b"(",
        rule: Layout(&[Text("("), LevelLetter, Text(") "), Time]),
    },
    Format {
        name: "Redis, Valkey",
        level_from: "the mark after the time",
        first_bytes: b"0123456789",
        rule: Layout(&[Number, Text(":"), OneOf(b"CMSX"), Text(" "), Time, Text(" "), RedisMark, Text(" ")]),
    },
    Format {
        name: "NFS-Ganesha",
        level_from: NAME,
        first_bytes: b"0123",
        rule: Layout(&[
            Digits(&[2]),
            Text("/"),
            Digits(&[2]),
            Text("/"),
            Digits(&[4]),
            Text(" "),
            Time,
            Text(" : epoch "),
            Until("] "),
            Until(" :"),
            Until(" :"),
            LevelName,
            Text(" :"),
        ]),
    },
    Format {
        name: "Chromium, Electron",
        level_from: NAME,
        first_bytes: b"[",
        rule: Layout(&[
            Text("["),
            Number,
            Text(":"),
            Number,
            Text(":"),
            Digits(&[4]),
            Text("/"),
            Digits(&[6]),
            Text("."),
            Number,
            Text(":"),
            LevelName,
            Text(":"),
        ]),
    },
    Format {
        name: "GlusterFS",
        level_from: LETTER,
        first_bytes: b"[",
        rule: Layout(&[Text("["), Time, Text("] "), LevelLetter, Text(" [")]),
    },
    Format {
        name: "LXC",
        level_from: NAME,
        first_bytes: b"l",
        rule: Layout(&[Text("lxc"), Until(" "), Until(" "), Digits(&[14]), Text("."), Number, Text(" "), LevelName]),
    },
    Format {
        name: "WirePlumber",
        level_from: LETTER,
        first_bytes: b"CDEIMNTW",
        rule: Layout(&[LevelLetter, Text(" "), Time, Text(" ")]),
    },
    Format {
        name: "Wireshark",
        level_from: NAME,
        first_bytes: b"*",
        rule: Layout(&[Text("** ("), Until(") "), Time, Text(" ["), Until(" "), LevelName, Text("] ")]),
    },
    Format {
        name: "Wesnoth",
        level_from: NAME,
        first_bytes: b"2",
        rule: Layout(&[Digits(&[8]), Text(" "), Time, Text(" "), LevelName, Text(" ")]),
    },
    Format {
        name: "WebLogic",
        level_from: NAME,
        first_bytes: b"<",
        rule: Layout(&[Text("<"), Time, Text("> <"), LevelName, Text(">")]),
    },
    Format {
        name: "Murmur",
        level_from: LETTER,
        first_bytes: b"<",
        rule: Layout(&[Text("<"), LevelLetter, Text(">"), Time]),
    },
    Format { name: "CUPS", level_from: LETTER, first_bytes: b"DEINW", rule: Layout(&[LevelLetter, Text(" ["), Time]) },
    Format {
        name: "APT",
        level_from: NAME,
        first_bytes: b"E",
        rule: Layout(&[LevelName, Text(":"), Number, Text(" ")]),
    },
    Format {
        name: "AddressSanitizer",
        level_from: NAME,
        first_bytes: b"=",
        rule: Layout(&[Text("=="), Number, Text("=="), LevelName, Text(": ")]),
    },
    Format {
        name: "Erlang report",
        level_from: "the heading",
        first_bytes: b"=",
        rule: Layout(&[Text("="), LevelName, Text(" REPORT==== ")]),
    },
    Format {
        name: "Erlang report",
        level_from: "the heading",
        first_bytes: b"=",
        rule: Starts(&["=CRASH REPORT==== ", "=SUPERVISOR REPORT==== "], Error),
    },
    Format {
        name: "systemd",
        level_from: "the result of the unit",
        first_bytes: b"[",
        rule: Starts(&["[FAILED] ", "[DEPEND] "], Error),
    },
    Format { name: "stunnel", level_from: "the sign in brackets", first_bytes: b"[", rule: Starts(&["[!] "], Error) },
    Format {
        name: "MySQL slow query log",
        level_from: "the purpose of the log",
        first_bytes: b"#",
        rule: Starts(&["# Time: "], Info),
    },
]);

/// Formats that log one request on each line. They are tried if the prefix of a line has no level, and if its level is
/// info, with which many servers log every request.
pub(super) static REQUESTS: Formats = Formats::new(&[
    Format {
        name: "uWSGI",
        level_from: STATUS,
        first_bytes: b"[",
        rule: Layout(&[Text("[pid: "), Until("=> generated "), Until(" (HTTP/"), Until(" "), HttpStatus, Text(")")]),
    },
    Format {
        name: "PHP development server",
        level_from: STATUS,
        first_bytes: b"[",
        rule: Layout(&[Text("["), Time, Text("] "), Until(" ["), HttpStatus, Text("]: ")]),
    },
    Format {
        name: "Squid access log",
        level_from: STATUS,
        first_bytes: b"1",
        rule: Layout(&[Digits(&[10]), Text("."), Number, Blanks, Number, Text(" "), Until("/"), HttpStatus, Text(" ")]),
    },
    Format {
        name: "BusyBox httpd",
        level_from: STATUS,
        first_bytes: b"[",
        rule: Layout(&[Text("["), Until("]:"), Number, Text(": response:"), HttpStatus]),
    },
    Format {
        name: "serve",
        level_from: STATUS,
        first_bytes: b"H",
        rule: Layout(&[Text("HTTP "), Blanks, Time, Text(" "), Until(" Returned "), HttpStatus]),
    },
    Format {
        name: "Sanic",
        level_from: STATUS,
        first_bytes: b"0123456789[",
        rule: Layout(&[
            Until(" "),
            Until(" http"),
            Until(" "),
            HttpStatus,
            Text(" "),
            Number,
            Blanks,
            Number,
            Text("."),
        ]),
    },
    Format { name: "access log", level_from: STATUS, first_bytes: ANY_BYTE, rule: Parser(access_log::request_level) },
]);

/// Messages that stand for a level although they name none: the first lines of crashes, the warnings of interpreters, and
/// what well-known programs print at every start.
pub(super) static MESSAGES: Formats = Formats::new(&[
    message("PHP", b"P", &["PHP Fatal error:"], Critical),
    message("PHP", b"P", &["PHP Parse error:", "PHP Recoverable fatal error:"], Error),
    message("PHP", b"P", &["PHP Warning:", "PHP Deprecated:"], Warning),
    message("PHP", b"P", &["PHP Notice:"], Info),
    message("PHP", b"F", &["Fatal error: "], Critical),
    message("Java VM", b"P", &["Picked up JAVA_TOOL_OPTIONS: "], Info),
    message("Java VM", b"O", &["OpenJDK 64-Bit Server VM warning: "], Warning),
    message("Java", b"E", &["Exception in thread "], Error),
    message("SLF4J", b"S", &["SLF4J: "], Warning),
    message("Apache", b"A", &["AH00558: "], Warning),
    message("Django", b"N", &["Not Found: /"], Warning),
    message("MariaDB", b"V", &["Version: '"], Info),
    // `set -x`
    message("shell trace", b"+", &["+ ", "++ "], Info),
    message("Go crash", b"f", &["fatal error: "], Critical),
    message("Go", b"h", &["http: panic serving "], Error),
    message("C++ crash", b"t", &["terminate called "], Critical),
    message("npm", b"n", &["npm ERR!", "npm error "], Error),
    message("npm", b"n", &["npm WARN ", "npm warn "], Warning),
    message("npm", b"n", &["npm notice"], Info),
    message("Yarn", b"w", &["warning "], Warning),
    message("Yarn", b"e", &["error Command failed ", "error An unexpected error", "error Couldn't "], Error),
    message("Python", b"T", &["Traceback (most recent call last)", "Task exception was never retrieved"], Error),
    message("Python", b"E", &["Exception ignored in"], Error),
    message("uncaught exception", b"U", &["Unhandled exception", "Unhandled Exception", "Uncaught "], Error),
    message("ClamAV", b"L", &["LibClamAV Error: "], Error),
    message("ClamAV", b"L", &["LibClamAV Warning: "], Warning),
    message("CMake", b"C", &["CMake Error at ", "CMake Error: ", "CMake Error in "], Error),
    message("CMake", b"C", &["CMake Warning ", "CMake Deprecation Warning ", "CMake Warning: "], Warning),
    message("R", b"W", &["Warning message:", "Warning messages:"], Warning),
    Format {
        name: "R",
        level_from: MEANING,
        first_bytes: b"E",
        rule: Layout(&[LevelName, Text(" in "), Until(") : ")]),
    },
    message("rsync", b"@", &["@ERROR: "], Error),
    message("Elixir", b"*", &["** ("], Error),
    message("make", b"m", &["make: *** ", "make[1]: *** ", "make[2]: *** "], Error),
    Format { name: "rustc", level_from: NAME, first_bytes: b"ew", rule: Layout(&[LevelName, Text("["), Until("]: ")]) },
    Format { name: "Rust panic", level_from: MEANING, first_bytes: b"t", rule: Parser(rust_panic_level) },
    Format { name: "Node.js warning", level_from: MEANING, first_bytes: b"(", rule: Parser(node_warning_level) },
    Format { name: "Python warning", level_from: MEANING, first_bytes: b"/<", rule: Parser(python_warning_level) },
    Format { name: EXCEPTION, level_from: MEANING, first_bytes: ANY_BYTE, rule: Parser(exception_level) },
]);

const fn message(
    name: &'static str,
    first_bytes: &'static [u8],
    starts: &'static [&'static str],
    level: Level,
) -> Format {
    Format { name, level_from: MEANING, first_bytes, rule: Starts(starts, level) }
}
