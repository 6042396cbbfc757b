//! Entries of several lines that no indentation shows, and indented lines that are entries of their own.

use super::entry_joiner::EntryJoiner;
use crate::records::log_level::Level::{self, Critical, Debug, Error, Info, Warning};
use crate::records::log_record::StdStream;

/// Asserts the level and the text of each entry that lines become which a program writes at once.
fn assert_entries(expected: &[(Level, &str)]) {
    let mut joiner = EntryJoiner::new(StdStream::Stdout);
    let mut entries = Vec::new();
    let text = expected.iter().map(|(_, text)| *text).collect::<Vec<_>>().join("\n");
    for line in text.split('\n') {
        entries.extend(joiner.push(line, 0, ()));
    }
    entries.extend(joiner.flush());
    let actual: Vec<(Level, &str)> = entries.iter().map(|entry| (entry.level, entry.text.as_str())).collect();
    assert_eq!(actual, expected);
}

#[test]
fn indented_records_are_entries() {
    // `tracing_subscriber::fmt().pretty()`
    assert_entries(&[
        (Info, "  2026-01-31T12:00:00.123456Z  INFO tr: listening\n    at src/main.rs:2\n"),
        (Error, "  2026-01-31T12:00:00.123457Z ERROR tr: card declined\n    at src/main.rs:3 on main ThreadId(1)\n"),
        (Info, "  2026-01-31T12:00:00.123458Z  INFO tr: going on\n    at src/main.rs:4"),
    ]);
    // Python's `RichHandler`
    assert_entries(&[
        (Info, "[12:00:00] INFO     listening                          app.py:3"),
        (Warning, "           WARNING  disk is filling                    app.py:4"),
        (
            Error,
            "           ERROR    payment failed                     app.py:5\n                    ╭─ Traceback (most recent call last) ─╮\n                    │ /app/app.py:5 in <module>           │\n                    ╰─────────────────────────────────────╯\n                    ValueError: bad",
        ),
        (Info, "           INFO     going on                           app.py:6"),
    ]);
    // Next.js
    assert_entries(&[
        (Info, "[auth] session created"),
        (Error, " GET /api/x 500 in 30ms"),
        (Info, " ✓ Compiled in 2s"),
    ]);
    assert_entries(&[(Info, " INFO  starting"), (Error, " ERROR  boom"), (Error, " ⨯ Error: boom")]);
}

#[test]
fn message_of_an_exception_may_have_several_lines() {
    assert_entries(&[
        (
            Error,
            "2026-01-31 12:00:00 ERROR failed\norg.hibernate.JDBCException: could not prepare\n\tat a.B.c(B.java:1)\nCaused by: org.h2.jdbc.JdbcSQLException: Table \"CARTS\" not found; SQL statement:\nselect c1_0.id\nfrom carts c1_0\n\tat org.h2.T.q(T.java:2)",
        ),
        (Info, "2026-01-31 12:00:01 INFO next"),
    ]);
    assert_entries(&[(Error, "a.b.CartException: one\ntwo\n\tat a.B.c(B.java:1)"), (Info, "next")]);
    let python = "Traceback (most recent call last):\n  File \"a.py\", line 1, in f\n    g()\n";
    for message in [
        "psycopg2.errors.UndefinedTable: relation \"carts\" does not exist\nLINE 1: SELECT * FROM carts\n                      ^\n\n[SQL: SELECT * FROM carts]\n(Background on this error at: https://sqlalche.me/e/20/f405)",
        "httpx.HTTPStatusError: Client error '404 Not Found'\nFor more information check: https://developer.mozilla.org/404",
        "ValueError: a\nb",
        "ValueError: bad\nraised while reading the cart",
    ] {
        assert_entries(&[(Error, &format!("{python}{message}")), (Info, "2026-01-31 12:00:01 INFO next")]);
    }
    assert_entries(&[
        (Error, "ERROR:root:query failed\n[SQL: SELECT 1]"),
        (
            Error,
            "PrismaClientKnownRequestError: \nInvalid `prisma.user.create()` invocation in\n/app/index.js:12:34\n\n   9 \n→ 12   const user = await prisma.user.create(\nUnique constraint failed on the fields: (`email`)\n    at f (/app/a.js:1:2) {\n  code: 'P2002'\n}",
        ),
        (Info, "next"),
    ]);
    assert_entries(&[
        (Error, "/app/a.rb:3:in 'f': one (RuntimeError)\ntwo\n\tfrom /app/a.rb:7:in '<main>'"),
        (Info, "next"),
    ]);
    assert_entries(&[(
        Critical,
        "PHP Fatal error:  Uncaught E: x in /app/a.php:1\nStack trace:\n#0 {main}\n\nNext X: bad\nvalue: 7 in /app/f.php:2\nStack trace:\n#0 {main}\n  thrown in /app/f.php on line 2",
    )]);
    assert_entries(&[(
        Error,
        "2026-01-31 12:00:00 ERROR x\njava.sql.SQLException: root cause\n\tat a.B.c(B.java:1)\nWrapped by: a.CartException: outer\n\tat a.B.d(B.java:2)",
    )]);
}

#[test]
fn lines_written_with_an_error_belong_to_it() {
    // Spring Boot
    assert_entries(&[
        (
            Error,
            "2026-01-31T12:00:00.000Z ERROR 1 --- [main] o.s.b.d.LoggingFailureAnalysisReporter   : \n\n***************************\nAPPLICATION FAILED TO START\n***************************\n\nDescription:\n\nWeb server failed to start. Port 8080 was already in use.\n\nAction:\n\nStop the process.\n",
        ),
        (Info, "2026-01-31T12:00:01.000Z  INFO 1 --- [main] a.B : next"),
    ]);
    // Elixir
    assert_entries(&[
        (
            Error,
            "12:00:00.123 [error] Task #PID<0.1.0> terminating\n** (RuntimeError) one\ntwo\n    (shop 0.1.0) lib/a.ex:1: A.f/0\nFunction: #Function<0.1/0>\n    Args: []",
        ),
        (Info, "12:00:01.123 [info] next"),
    ]);
    // Erlang
    assert_entries(&[
        (
            Error,
            "=ERROR REPORT==== 31-Jan-2026::12:00:00 ===\n** Generic server shop terminating \n** Last message in was pay\n** When Server state == {}\n** Reason for termination ==\n** bad",
        ),
        (Info, "=INFO REPORT==== 31-Jan-2026::12:00:01 ===\nnext"),
    ]);
    // Ghost
    assert_entries(&[
        (
            Error,
            "[2026-01-31 12:00:00] ERROR \"GET /x\" 500 12ms\n\nName: InternalServerError\nMessage: boom\n\n----------------------------------------\n\nError: boom\n    at f (/app/a.js:1:2)",
        ),
        (Info, "[2026-01-31 12:00:01] INFO \"GET /\" 200 12ms"),
    ]);
    // YAML and XML
    assert_entries(&[
        (Info, "2026-01-31 12:00:00 INFO settings:\na: 1\nb: 2"),
        (Debug, "2026-01-31 12:00:01 DEBUG request\n<order>\n  <id>7</id>\n</order>"),
        (Critical, "panic: a crash is not hidden"),
    ]);
    // A worse error, and a line that was written later, are entries of their own.
    assert_entries(&[(Warning, "2026-01-31 12:00:00 WARN slow"), (Error, "ValueError: bad")]);
}

#[test]
fn reports_without_indentation_are_entries() {
    assert_entries(&[
        (
            Warning,
            "==================\nWARNING: DATA RACE\nWrite at 0x00c0000b4018 by goroutine 7:\n  main.main.func1()\n      /tmp/race.go:10 +0x44\n\nPrevious read at 0x00c0000b4018 by main goroutine:\n  main.main()\n      /tmp/race.go:13 +0x88\n==================",
        ),
        (Info, "2026/01/31 12:00:00 next"),
    ]);
    assert_entries(&[
        (
            Error,
            "=================================================================\n==12345==ERROR: AddressSanitizer: heap-use-after-free on address 0x602000000010\nREAD of size 4 at 0x602000000010 thread T0\n    #0 0x55 in main /tmp/a.c:5\n\nSUMMARY: AddressSanitizer: heap-use-after-free /tmp/a.c:5 in main\n=>0x0c047fff8000: fa fa[fd]fa\n==12345==ABORTING",
        ),
        (Info, "2026/01/31 12:00:00 next"),
    ]);
    assert_entries(&[
        (Critical, "terminate called after throwing an instance of 'std::runtime_error'\n  what():  boom"),
        (Info, "2026/01/31 12:00:00 next"),
    ]);
    assert_entries(&[(
        Error,
        "boom at /app/a.pl line 3.\n\tmain::f(1) called at /app/a.pl line 7\n\teval {...} called at /app/a.pl line 8",
    )]);
    // `kill -3`
    assert_entries(&[
        (
            Info,
            "2026-01-31 12:00:00\nFull thread dump OpenJDK 64-Bit Server VM (17.0.9+9 mixed mode):\n\nThreads class SMR info:\n_java_thread_list=0x7f, length=10, elements={\n0x7f, 0x7e\n}\n\n\"main\" #1 prio=5 os_prio=0 tid=0x7f nid=0x1 waiting on condition\n   java.lang.Thread.State: TIMED_WAITING (sleeping)\n\tat java.lang.Thread.sleep(Native Method)\n\tat A.main(A.java:3)\n\n\"Finalizer\" #3 daemon prio=8\n\tat java.lang.Object.wait(Native Method)\n\nHeap\n garbage-first heap   total 1048576K",
        ),
        (Info, "2026-01-31 12:00:01 INFO next"),
    ]);
    assert_entries(&[
        (Error, "╷\n│ Error: Invalid value\n│ \n│   on main.tf line 1:\n╵"),
        (Info, "┌─────────┬───┐\n│ (index) │ a │\n└─────────┴───┘"),
        (Error, "1 | pay()\n2 | throw new Error(\"boom\")\n          ^\nerror: boom\n      at /app/index.ts:2:7"),
    ]);
    assert_entries(&[
        (
            Info,
            "# Time: 2026-01-31T12:00:00.123456Z\n# User@Host: root[root] @ localhost []  Id:     8\n# Query_time: 1.5  Lock_time: 0.0 Rows_sent: 1\nSET timestamp=1769860800;\nSELECT SLEEP(1.5);",
        ),
        (Info, "# Time: 2026-01-31T12:00:01.123456Z\nSELECT 1;"),
    ]);
}

#[test]
fn blank_first_line_belongs_to_the_entry_after_it() {
    assert_entries(&[(
        Error,
        "\nthread 'main' panicked at src/main.rs:3:5:\none\ntwo\nnote: run with `RUST_BACKTRACE=1`",
    )]);
    assert_entries(&[(Info, "\n \n> shop@1.0.0 start"), (Info, "> node app.js")]);
}

#[test]
fn byte_order_mark_does_not_hide_the_level() {
    assert_entries(&[(Error, "\u{feff}ERROR: first line of the file"), (Info, "second line")]);
    assert_entries(&[(Error, "\u{feff}{\"level\":\"error\"}")]);
}

#[test]
fn lines_written_later_are_entries() {
    let mut joiner = EntryJoiner::new(StdStream::Stdout);
    let times_ms = [0, 19, 40];
    let lines = ["2026-01-31 12:00:00 ERROR one", "two", "three"];
    let entries: Vec<_> =
        lines.into_iter().zip(times_ms).filter_map(|(line, ms)| joiner.push(line, ms * 1_000_000, ())).collect();
    assert_eq!(entries.iter().map(|entry| entry.lines).collect::<Vec<_>>(), [2]);
}
