//! Joining of lines to entries, one decision per case. The golden corpus covers whole logs.

use proptest::prelude::*;

use super::entry_joiner::{ENTRY_BYTES_MAX, ENTRY_LINES_MAX, EntryJoiner, JoinedEntry};
use crate::records::log_level::Level;
use crate::records::log_record::StdStream;

/// Joins lines with their times, tagged with their indexes.
fn join_timed(lines: &[(&str, i64)]) -> Vec<JoinedEntry<usize>> {
    let mut joiner = EntryJoiner::new(StdStream::Stderr);
    let mut entries = Vec::new();
    for (index, (line, time_ns)) in lines.iter().enumerate() {
        entries.extend(joiner.push(line, *time_ns, index));
        assert!(joiner.open_tag().is_some_and(|open| open <= index));
    }
    entries.extend(joiner.flush());
    assert_eq!(joiner.open_tag(), None);
    entries
}

fn join(text: &str) -> Vec<JoinedEntry<usize>> {
    join_timed(&text.split('\n').map(|line| (line, 0)).collect::<Vec<_>>())
}

/// Asserts that a text is split exactly where `§` precedes a line. The marker is not part of the text. A line with a
/// marker is written a second after the one before, all others at the same time.
fn assert_split_at_markers(text: &str) {
    let mut time_ns = 0;
    let lines: Vec<(&str, i64)> = text
        .split('\n')
        .map(|line| {
            let start = line.strip_prefix('§');
            time_ns += if start.is_some() { 1_000_000_000 } else { 0 };
            (start.unwrap_or(line), time_ns)
        })
        .collect();
    let entries: Vec<String> = join_timed(&lines).into_iter().map(|entry| entry.text).collect();
    assert_eq!(entries.join("\n§"), text);
}

#[test]
fn traces_of_every_language_are_one_entry() {
    for text in [
        "Traceback (most recent call last):\n  File \"a.py\", line 1, in <module>\n    f()\n    ~^^\nKeyError: 'x'",
        "ERROR:root:failed\nTraceback (most recent call last):\n  File \"a.py\", line 1\nshop.errors.Declined: no",
        "Internal Server Error: /pay\nTraceback (most recent call last):\n  File \"a.py\", line 1\nKeyError: 'x'",
        "  File \"/app/a.py\", line 3\n    x = = 1\n        ^\nSyntaxError: invalid syntax",
        "2026-01-31 12:00:00,1 ERROR x\njava.lang.IllegalStateException: y\n\tat a.B.c(B.java:1)\n\t... 3 more\nCaused by: a.E\n\tat a.B.d(B.java:2)",
        "2026-01-31T12:00:00.000Z ERROR 1 --- [main] o.s.b.SpringApplication : Application run failed\n\njava.lang.Error: x\n\tat a.B.c(B.java:1)",
        "Exception in thread \"main\" java.lang.Error: x\n\tat a.B.main(B.java:1)\n\tSuppressed: java.io.IOException: y\n\t\tat a.B.f(B.java:2)",
        "panic: x\n\tpanic: y\n[signal SIGSEGV: segmentation violation code=0x1 addr=0x0 pc=0x49]\n\ngoroutine 1 [running]:\nmain.f(...)\n\t/a.go:1\nmain.main()\n\t/a.go:2 +0x1d\n\ngoroutine 7 [chan receive]:\nmain.g()\n\t/a.go:3 +0x2\ncreated by main.main in goroutine 1\n\t/a.go:4 +0x3\nexit status 2",
        "panic: first line\nsecond line\n\ngoroutine 1 [running]:\nmain.main()\n\t/a.go:2 +0x1d",
        "2026/01/31 12:00:00 http: panic serving 127.0.0.1:5: x\ngoroutine 19 [running]:\nnet/http.(*conn).serve.func1()\n\t/usr/a.go:1 +0xb9\npanic({0x6a0, 0x7})\n\t/usr/p.go:1",
        "Error: x\n    at f (/app/a.js:1:2)\n    at g (/app/a.js:3:4) {\n  code: 'E',\n  [cause]: Error: y\n      at h (/app/a.js:5:6)\n}",
        "/app/a.js:1\nthrow new Error('x');\n^\n\nError: x\n    at f (/app/a.js:1:2) {\n  code: 'E'\n}\n\nNode.js v20.20.2",
        "PHP Fatal error:  Uncaught Error: x in /app/a.php:3\nStack trace:\n#0 /app/a.php(7): f()\n#1 {main}\n\nNext Exception: y in /a.php:4\nStack trace:\n#0 {main}\n  thrown in /app/a.php on line 3",
        "[2026-01-31 12:00:00] production.ERROR: x {\"exception\":\"[object] (E(code: 0): x at /a.php:3)\n[stacktrace]\n#0 /a.php(1): f()\n#1 {main}\n\"} ",
        "/app/a.rb:3:in `f': x (RuntimeError)\n\tfrom /app/a.rb:7:in `<main>'",
        "F, [2026-01-31T12:00:00.000000 #1] FATAL -- : [4f1c]   \n[4f1c] RuntimeError (x):\n[4f1c]   \n[4f1c] app/a.rb:3:in `f'",
        "E, [2026-01-31T12:00:00.000000 #1] ERROR -- : x (RuntimeError)\n/app/a.rb:3:in 'f'\n/app/a.rb:7:in '<main>'",
        "thread 'main' panicked at src/main.rs:3:5:\nx\nnote: run with `RUST_BACKTRACE=1` environment variable to display a backtrace",
        "thread 'main' panicked at 'x', src/main.rs:3:5\nstack backtrace:\n   0: rust_begin_unwind\n             at /rustc/1/library/std/src/panicking.rs:1:2\n  10: main\nnote: Some details are omitted",
        "Error: reading settings\n\nCaused by:\n    No such file or directory (os error 2)\n\nStack backtrace:\n   0: anyhow::error\n             at /a.rs:1:2",
        "Unhandled exception. System.InvalidOperationException: x\n ---> System.Exception: y\n   at A.B() in /a.cs:line 1\n   --- End of inner exception stack trace ---\n   at A.Main() in /a.cs:line 2",
        "fail: Shop.Pay[0]\n      An unhandled exception has occurred\n      System.Exception: x\n         at A.B() in /a.cs:line 1",
        "12:00:00.000 [error] GenServer #PID<0.1.0> terminating\n** (RuntimeError) x\n    (shop 0.1.0) lib/a.ex:1: A.f/0",
        "Jan 31, 2026 12:00:00 PM shop.Pay charge\nSEVERE: declined\njava.lang.Error: x\n\tat a.B.c(B.java:1)",
    ] {
        let entries = join(text);
        assert_eq!(entries.len(), 1, "{text}\n{entries:#?}");
        assert!(entries[0].level >= Level::Error, "{text} {:?}", entries[0].level);
        assert_eq!((entries[0].lines, entries[0].tag), (text.split('\n').count(), 0));
    }
}

#[test]
fn chained_and_grouped_tracebacks_stay_together() {
    let frames = "Traceback (most recent call last):\n  File \"a.py\", line 1, in f\n    g()\n";
    for between in [
        "The above exception was the direct cause of the following exception:",
        "During handling of the above exception, another exception occurred:",
    ] {
        assert_split_at_markers(&format!("{frames}KeyError: 'x'\n\n{between}\n\n{frames}ValueError\n§done"));
    }
    // Two tracebacks in a row are two entries.
    assert_split_at_markers(&format!("{frames}KeyError: 'x'\n§{frames}KeyError: 'x'"));
    assert_split_at_markers(
        "  + Exception Group Traceback (most recent call last):\n  |   File \"a.py\", line 1, in <module>\n  | ExceptionGroup: x (1 sub-exception)\n  +-+---------------- 1 ----------------\n    | ValueError: y\n    +------------------------------------\n§done",
    );
}

#[test]
fn multi_line_exception_messages_stay_together() {
    let frames = "Traceback (most recent call last):\n  File \"a.py\", line 1, in f\n";
    for text in [
        format!(
            "{frames}sqlalchemy.exc.OperationalError: (x) connection failed\n\tIs the server running?\n\n[SQL: SELECT 1]\n(Background on this error at: x)\n§INFO: next"
        ),
        format!(
            "{frames}pydantic_core._pydantic_core.ValidationError: 2 validation errors for Cart\nprice\n  Input should be a number\ncount\n  Field required\n§next line"
        ),
        format!("{frames}__main__.f.<locals>.E: x\n§next line"),
        format!("{frames}KeyboardInterrupt\n§next line"),
        format!("{frames}§INFO:     interleaved"),
        format!("{frames}KeyError: 'x'\n§2026-01-31 12:00:00 next"),
    ] {
        assert_split_at_markers(&text);
    }
}

#[test]
fn a_trace_does_not_join_an_info_record() {
    assert_split_at_markers(
        "2026-01-31 12:00:00,1 INFO done\n§Traceback (most recent call last):\n  File \"a.py\", line 1\nE: x",
    );
    assert_split_at_markers("2026-01-31 12:00:00,1 INFO done\n§java.lang.Error: x\n\tat a.B.c(B.java:1)");
    assert_split_at_markers("done\n§Traceback (most recent call last):\n  File \"a.py\", line 1\nE: x");
    assert_split_at_markers("done\n§  File \"a.py\", line 1\n    x = = 1\nSyntaxError: invalid syntax");
}

#[test]
fn records_start_entries() {
    assert_split_at_markers(
        "2026-01-31 12:00:00 one\n§2026-01-31 12:00:01 two\n§[three] x\n§ERROR four\n§{\"level\":\"info\"}\n§five\n§six",
    );
    assert_split_at_markers("panic: dying\n§panic: dying\n§INFO: back");
    assert_split_at_markers(
        "    2026-01-31T12:00:00.000Z [INFO]  a\n§    2026-01-31T12:00:01.000Z [INFO]  b\n§ INFO c\n§ WARN d",
    );
    assert_split_at_markers(
        "Jan 31, 2026 12:00:00 PM shop.Pay charge\nINFO: paid\n§Jan 31, 2026 12:00:01 PM shop.Pay charge\nINFO: paid",
    );
}

#[test]
fn indented_lines_join_the_line_that_opened_a_block() {
    assert_split_at_markers("2026-01-31 12:00:00 ERROR:  syntax error\n\tat the end\n  of x\n§next");
    assert_split_at_markers(
        "info: Microsoft.Hosting.Lifetime[14]\n      Now listening on: http://[::]:8080\n§info: x[0]\n      y",
    );
    assert_split_at_markers("Usage:\n  run\n  stop\n§next");
    assert_split_at_markers("settings {\n  a: 1,\n  b: {\n    c: 2\n  }\n}\n§  not one of them\n§next");
    assert_split_at_markers("starting\n§  port 3000\n§  env prod\n§at the door\n§   at the door");
    assert_split_at_markers("one\n\n§two\n   \n§three");
}

#[test]
fn a_pretty_printed_object_has_its_level() {
    let entries = join("{\n  \"level\": \"warn\",\n  \"message\": \"x\"\n}\nnext");
    assert_eq!((entries.len(), entries[0].lines, entries[0].level), (2, 4, Level::Warning));
}

#[test]
fn colors_do_not_affect_joining() {
    let entries = join("\u{1b}[31mERROR\u{1b}[0m x\r\n\u{1b}[2m    at f (a.js:1:2)\u{1b}[0m\r");
    assert_eq!((entries.len(), entries[0].level), (1, Level::Error));
    assert!(entries[0].text.contains("\u{1b}[31m"), "the stored text keeps colors");
}

#[test]
fn the_second_line_of_java_util_logging_has_the_level() {
    let levels: Vec<Level> = join("Jan 31, 2026 12:00:00 PM a.B c\nWARNING: x\nJan 31, 2026 1:00:00 AM a.B c\nFINE: y")
        .into_iter()
        .map(|entry| entry.level)
        .collect();
    assert_eq!(levels, [Level::Warning, Level::Debug]);
}

#[test]
fn an_entry_has_the_time_and_tag_of_its_first_line() {
    let entries = join_timed(&[("one", 5), ("ERROR two", 7), ("  more", 8), ("three", 9)]);
    let firsts: Vec<(i64, usize)> = entries.iter().map(|entry| (entry.time_ns, entry.tag)).collect();
    assert_eq!(firsts, [(5, 0), (7, 1), (9, 3)]);
}

#[test]
fn a_long_gap_ends_an_entry_but_a_clock_set_back_does_not() {
    let second = 1_000_000_000;
    let lines = [("panic: x", 0), ("", 5 * second), ("goroutine 1 [running]:", second), ("main.main()", 7 * second)];
    assert_eq!(join_timed(&lines).iter().map(|entry| entry.lines).collect::<Vec<_>>(), [3, 1]);
    assert_eq!(join_timed(&[("ERROR x", i64::MIN), ("  y", i64::MAX)]).len(), 2);
}

#[test]
fn an_overlong_trace_is_split_and_keeps_its_level() {
    let mut text = String::from("java.lang.StackOverflowError");
    text.push_str(&"\n\tat a.B.c(B.java:1)".repeat(1_023));
    let entries = join(&text);
    assert_eq!(entries.iter().map(|entry| entry.lines).collect::<Vec<_>>(), [ENTRY_LINES_MAX, ENTRY_LINES_MAX, 24]);
    assert!(entries.iter().all(|entry| entry.level == Level::Error));
    let wide = format!("ERROR x{}", format!("\n  {}", "y".repeat(100_000)).repeat(5));
    let entries = join(&wide);
    assert_eq!(entries.iter().map(|entry| entry.lines).collect::<Vec<_>>(), [3, 2, 1]);
    assert!(entries.iter().all(|entry| entry.text.len() <= ENTRY_BYTES_MAX));
}

#[test]
fn joiner_expects_more_within_traces_and_brackets() {
    let mut joiner = EntryJoiner::new(StdStream::Stdout);
    for (line, more) in [
        ("INFO: x", false),
        ("Traceback (most recent call last):", true),
        ("  File \"a.py\", line 1, in f", true),
        ("KeyError: 'x'", false),
        ("x {", true),
        ("}", false),
    ] {
        joiner.push(line, 0, ());
        assert_eq!(joiner.expects_more(), more, "{line}");
    }
}

fn lines() -> impl Strategy<Value = Vec<String>> {
    let known = prop::sample::select(
        &[
            "Traceback (most recent call last):",
            "  File \"a.py\", line 1",
            "KeyError: 'x'",
            "",
            " ",
            "\tat a.B.c(B.java:1)",
            "Caused by: x",
            "panic: x",
            "goroutine 1 [running]:",
            "main.main()",
            "/app/a.js:1",
            "Error: x",
            "}",
            "{",
            "[",
            "  x",
            "ERROR x",
            "2026-01-31 12:00:00 x",
            "thread 'main' panicked at a.rs:1:2:",
            "#0 x",
            "[stacktrace]",
            "é:",
            "a.rb:1:in x",
            "F, [2026-01-31T12:00:00.000000 #1] FATAL -- : [4f1c]",
            "[4f1c] x",
            "Jan 31, 2026 12:00:00 PM a.B c",
            "INFO: x",
            "1 validation error for X",
            "  + Exception Group Traceback (most recent call last):",
            "future: <",
            "\u{1b}[31mERROR",
            "\r",
        ][..],
    );
    prop::collection::vec(
        prop_oneof![4 => known.prop_map(str::to_owned), 1 => "\\PC{0,12}", 1 => "(?s)[^\n]{0,12}"],
        1..40,
    )
}

proptest! {
    #[test]
    fn no_line_is_lost_or_reordered(lines in lines(), times in prop::collection::vec(0_i64..20_000_000_000, 40)) {
        let timed: Vec<(&str, i64)> = lines.iter().map(String::as_str).zip(times).collect();
        let entries = join_timed(&timed);
        let texts: Vec<&str> = entries.iter().map(|entry| entry.text.as_str()).collect();
        prop_assert_eq!(texts.join("\n"), lines.join("\n"));
        let mut next = 0;
        for entry in &entries {
            prop_assert_eq!((entry.tag, entry.time_ns), (next, timed[next].1));
            prop_assert_eq!(entry.lines, entry.text.split('\n').count());
            next += entry.lines;
        }
        prop_assert_eq!(next, lines.len());
    }
}
