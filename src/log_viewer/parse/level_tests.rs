//! Level detection for single entries, by kind of logger.

use proptest::prelude::*;

use super::level::detect;
use super::{ansi, first_line};
use crate::records::log_level::Level;

const DEBUG: Level = Level::Debug;
const INFO: Level = Level::Info;
const WARNING: Level = Level::Warning;
const ERROR: Level = Level::Error;
const CRITICAL: Level = Level::Critical;

/// Asserts the level of entries.
fn assert_level(cases: &[(Level, &str)]) {
    for (level, line) in cases {
        let parsed = first_line::parse(&ansi::strip(line));
        assert_eq!(detect(line), *level, "{line} {parsed:?}");
    }
}

/// Asserts that lines state no level.
fn assert_no_level(lines: &[&str]) {
    for line in lines {
        let parsed = first_line::parse(&ansi::strip(line));
        assert_eq!((parsed.level, detect(line)), (None, INFO), "{line} {parsed:?}");
    }
}

#[test]
fn level_names_in_prefixes_are_detected() {
    assert_level(&[
        (INFO, "INFO:     Started server process [1]"),
        (ERROR, "ERROR:    Exception in ASGI application"),
        (ERROR, "ERROR:root:failed"),
        (WARNING, "WARNING:django.request:Not Found: /x"),
        (INFO, "[2026-01-31 12:00:00 +0000] [7] [INFO] Listening at: http://0.0.0.0:8000 (7)"),
        (CRITICAL, "[2026-01-31 12:00:00 +0000] [1] [CRITICAL] WORKER TIMEOUT (pid:8)"),
        (INFO, "[2026-01-31 12:00:00,123: INFO/MainProcess] celery@4f1c9b2e ready."),
        (ERROR, "[2026-01-31 12:00:00,123: ERROR/ForkPoolWorker-1] Task shop.pay[7f] raised unexpected: KeyError('x')"),
        (WARNING, "2026-01-31 12:00:00,123 WARNING retrying"),
        (ERROR, "2026-01-31 12:00:00,123 - shop.pay - ERROR - card declined"),
        (ERROR, "2026-01-31 12:00:00,123 shop ERROR card declined"),
        (INFO, "2026-01-31 12:00:00.123 | INFO     | shop.pay:charge:12 - paid ERROR"),
        (
            INFO,
            "2026-01-31T12:00:00.000Z  INFO 1 --- [shop] [           main] o.s.b.w.e.tomcat.TomcatWebServer  : Tomcat started",
        ),
        (ERROR, "12:00:00.123 [main] ERROR com.shop.Pay - declined"),
        (ERROR, "[2026-01-31T12:00:00,000][ERROR][o.e.b.Bootstrap] [node-1] Exception"),
        (WARNING, "[2026-01-31T12:00:00,000][WARN ][o.e.d.Discovery] [node-1] x"),
        (INFO, "[2026-01-31 12:00:00,000] INFO [KafkaServer id=0] started (kafka.server.KafkaServer)"),
        (INFO, "31-Jan-2026 12:00:00.000 INFO [main] org.apache.catalina.startup.Catalina.start Server startup"),
        (ERROR, "31-Jan-2026 12:00:00.000 SEVERE [main] org.apache.catalina.core.StandardService x"),
        (INFO, "2026-01-31 12:00:00,000 INFO  [io.quarkus] (main) Keycloak 26.0.0 on JVM started"),
        (INFO, "[2026-01-31T12:00:00Z INFO  shop::pay] paid"),
        (ERROR, "[ERROR shop] declined"),
        (INFO, "2026-01-31T12:00:00.000000Z  INFO shop: listening addr=0.0.0.0:8080"),
        (
            ERROR,
            "\u{1b}[2m2026-01-31T12:00:00.000000Z\u{1b}[0m \u{1b}[31mERROR\u{1b}[0m \u{1b}[2mshop\u{1b}[0m\u{1b}[2m:\u{1b}[0m declined",
        ),
        (WARNING, " WARN shop: slow"),
        (INFO, "2026/01/31 12:00:00 INFO paid order=7"),
        (INFO, "2026-01-31T12:00:00.000Z\tINFO\tshop/main.go:12\tpaid\t{\"order\": 7}"),
        (ERROR, "2026-01-31T12:00:00.000Z\terror\tshop/main.go:12\tdeclined"),
        (INFO, "2026-01-31T12:00:00Z INF Traefik version 3.0.0 built on 2026-01-01"),
        (ERROR, "12:00PM ERR declined error=\"x\""),
        (WARNING, "\u{1b}[33mWARN\u{1b}[0m[0000] disk is filling  disk=sda"),
        (INFO, "2026-01-31T12:00:00.000Z [INFO]  core: vault is unsealed"),
        (WARNING, "    2026-01-31T12:00:00.000Z [WARN]  agent: old style"),
        (INFO, "2026/01/31 12:00:00.000\tINFO\tusing config from file\t{\"file\": \"/etc/caddy/Caddyfile\"}"),
        (INFO, "[Nest] 29  - 01/31/2026, 12:00:00 PM     LOG [NestFactory] Starting Nest application..."),
        (ERROR, "[Nest] 29  - 01/31/2026, 12:00:00 PM   ERROR [ExceptionsHandler] boom"),
        (ERROR, "[2026-01-31 12:00:00] production.ERROR: boom {\"exception\":\"x\"}"),
        (INFO, "[2026-01-31T12:00:00.000000+00:00] app.INFO: paid [] []"),
        (INFO, "I, [2026-01-31T12:00:00.000000 #1]  INFO -- : Started GET \"/\" for 172.17.0.1"),
        (CRITICAL, "F, [2026-01-31T12:00:00.000000 #1] FATAL -- : ActionController::RoutingError"),
        (INFO, "2026-01-31T12:00:00.000Z pid=1 tid=gnr class=PayJob jid=4f1c INFO: start"),
        (INFO, "[I 2026-01-31 12:00:00.000 ServerApp] Serving at http://localhost:8888/"),
        (INFO, "info: Microsoft.Hosting.Lifetime[14]"),
        (ERROR, "fail: Microsoft.AspNetCore.Server.Kestrel[13]"),
        (CRITICAL, "crit: Shop[0]"),
        (DEBUG, "dbug: Shop[0]"),
        (WARNING, "warn: something winston said"),
        (CRITICAL, "fatal: not a git repository"),
        (INFO, "10-listen-on-ipv6-by-default.sh: info: Enabled listen on IPv6 in /etc/nginx/conf.d/default.conf"),
        (ERROR, "line 1197 ERROR something failed id=1197"),
        (WARNING, "WARN on stderr"),
        (WARNING, "[Warning] x"),
        (DEBUG, "DEBUG 2026-01-31 12:00:00,123 base 7 140 loaded"),
        (INFO, "<134>Jan 31 12:00:00 lb haproxy[1]: Server web/s1 is UP"),
        (ERROR, "<11>1 2026-01-31T12:00:00.000Z host app 1 - - x"),
        (ERROR, "<3>kernel style"),
    ]);
}

#[test]
fn levels_of_programs_with_own_formats_are_detected() {
    assert_level(&[
        (INFO, "I0131 12:00:00.000000       1 main.go:12] started"),
        (ERROR, "E0131 12:00:00.000000       1 leaderelection.go:330] error retrieving resource lock"),
        (WARNING, "W20260131 12:00:00.000000     1 main.cc:12] slow"),
        (INFO, "1:M 31 Jan 2026 12:00:00.000 * Ready to accept connections tcp"),
        (WARNING, "1:C 31 Jan 2026 12:00:00.000 # WARNING Memory overcommit must be enabled!"),
        (INFO, "1:M 31 Jan 2026 12:00:00.000 - Accepted 127.0.0.1:50000"),
        (DEBUG, "1:S 31 Jan 2026 12:00:00.000 . debug"),
        (ERROR, "2026/01/31 12:00:00 [error] 29#29: *1 open() \"/x\" failed (2: No such file or directory)"),
        (INFO, "2026/01/31 12:00:00 [notice] 1#1: start worker processes"),
        (CRITICAL, "nginx: [emerg] bind() to 0.0.0.0:80 failed (98: Address already in use)"),
        (INFO, "2026-01-31 12:00:00.000 UTC [1] LOG:  database system is ready to accept connections"),
        (ERROR, "2026-01-31 12:00:00.000 UTC [71] ERROR:  relation \"carts\" does not exist at character 15"),
        (INFO, "2026-01-31 12:00:00.000 UTC [71] STATEMENT:  SELECT * FROM carts"),
        (
            CRITICAL,
            "2026-01-31 12:00:00.000 UTC [71] shop@shop FATAL:  password authentication failed for user \"shop\"",
        ),
        (INFO, "LOG:  checkpoint complete"),
        (INFO, "2026-01-31T12:00:00.000000Z 0 [System] [MY-010116] [Server] mysqld starting as process 1"),
        (WARNING, "2026-01-31T12:00:00.000000Z 0 [Warning] [MY-010068] [Server] CA certificate ca.pem is self signed."),
        (INFO, "2026-01-31 12:00:00 0 [Note] mariadbd: ready for connections."),
        (INFO, "2026-01-31 12:00:00+00:00 [Note] [Entrypoint]: Entrypoint script for MariaDB Server started."),
        (INFO, "{\"t\":{\"$date\":\"2026-01-31T12:00:00.000+00:00\"},\"s\":\"I\",\"c\":\"NETWORK\",\"msg\":\"error\"}"),
        (INFO, "2026-01-31 12:00:00.000000+00:00 [info] <0.222.0> Server startup complete"),
        (ERROR, "[Sat Jan 31 12:00:00.000000 2026] [core:error] [pid 7:tid 140] AH00124: Request exceeded the limit"),
        (INFO, "[Sat Jan 31 12:00:00.000000 2026] [mpm_event:notice] [pid 1:tid 140] AH00489: Apache/2.4 configured"),
        (INFO, "[NOTICE]   (1) : New worker (8) forked"),
        (CRITICAL, "[ALERT]    (1) : config : proxy 'web' has no server"),
        (INFO, "[31-Jan-2026 12:00:00] NOTICE: fpm is running, pid 1"),
        (CRITICAL, "NOTICE: PHP message: PHP Fatal error:  Uncaught Error: x in /app/x.php:3"),
        (WARNING, "PHP Warning:  Undefined variable $x in /app/x.php on line 3"),
        (INFO, "time=\"2026-01-31T12:00:00.000000000Z\" level=info msg=\"loading plugin\" error=\"none\""),
        (INFO, "logger=settings t=2026-01-31T12:00:00.000Z level=info msg=\"Starting Grafana\""),
        (ERROR, "ts=2026-01-31T12:00:00.000Z caller=main.go:1 level=error msg=x"),
        (INFO, "time=2026-01-31T12:00:00.000Z level=INFO msg=paid order=7"),
        (ERROR, "npm ERR! code ELIFECYCLE"),
        (WARNING, "npm WARN deprecated har-validator@5.1.5"),
        (WARNING, "(node:7) [DEP0040] DeprecationWarning: The `punycode` module is deprecated."),
        (WARNING, "/app/cart.py:7: DeprecationWarning: datetime.utcnow() is deprecated"),
    ]);
}

#[test]
fn status_in_access_logs_determines_the_level() {
    assert_level(&[
        (INFO, "172.17.0.1 - - [31/Jan/2026:12:00:00 +0000] \"GET /error/page HTTP/1.1\" 200 12 \"-\" \"curl/8.5.0\""),
        (ERROR, "172.17.0.1 - - [31/Jan/2026:12:00:00 +0000] \"GET / HTTP/1.1\" 502 157 \"-\" \"-\" \"-\""),
        (WARNING, "[31/Jan/2026 12:00:00] \"GET /x HTTP/1.1\" 404 2178"),
        (INFO, "GET /error/page 200 1.2 ms - 12"),
        (ERROR, "\u{1b}[0mGET /pay \u{1b}[31m500\u{1b}[0m 3.127 ms - 148\u{1b}[0m"),
        (ERROR, "[GIN] 2026/01/31 - 12:00:00 | 500 |     1.234ms |      172.17.0.1 | GET      \"/pay\""),
        // The status takes precedence over the level info, with which many servers log every request.
        (ERROR, "INFO:     172.17.0.1:50000 - \"GET /pay HTTP/1.1\" 500 Internal Server Error"),
        (INFO, "INFO:     172.17.0.1:50000 - \"GET /pay HTTP/1.1\" 200 OK"),
        (ERROR, "I, [2026-01-31T12:00:00.000000 #1]  INFO -- : [4f1c] Completed 500 Internal Server Error in 5ms"),
        (DEBUG, "2026-01-31 12:00:00 DEBUG 172.17.0.1 \"GET /pay HTTP/1.1\" 500 12"),
    ]);
}

#[test]
fn first_lines_of_crashes_are_detected() {
    assert_level(&[
        (ERROR, "Traceback (most recent call last):\n  File \"a.py\", line 1, in <module>\nKeyError: 'x'"),
        (ERROR, "ValueError: bad"),
        (ERROR, "java.lang.IllegalStateException: closed\n\tat shop.Pay.charge(Pay.java:12)"),
        (ERROR, "Exception in thread \"main\" java.lang.Error"),
        (ERROR, "TypeError [ERR_INVALID_ARG_TYPE]: The \"path\" argument must be of type string"),
        (ERROR, "Error: listen EADDRINUSE: address already in use :::3000"),
        (CRITICAL, "panic: runtime error: index out of range [3] with length 3"),
        (CRITICAL, "fatal error: all goroutines are asleep - deadlock!"),
        (ERROR, "2026/01/31 12:00:00 http: panic serving 127.0.0.1:50000: boom"),
        (ERROR, "thread 'main' panicked at src/main.rs:3:5:\nboom"),
        (ERROR, "Unhandled exception. System.InvalidOperationException: boom"),
        (ERROR, "/app/pay.rb:3:in `charge': declined (RuntimeError)"),
        (ERROR, "** (RuntimeError) boom"),
        // The first line states no level, but a stack trace follows.
        (ERROR, "2026-01-31 12:00:00 request failed\nTraceback (most recent call last):\n  File \"a.py\", line 1"),
        (ERROR, "something\n    at f (/app/a.js:1:2)"),
        (WARNING, "WARNING: retrying\nTraceback (most recent call last):\n  File \"a.py\", line 1"),
        (ERROR, "{\n  \"level\": \"error\",\n  \"message\": \"x\"\n}"),
    ]);
}

#[test]
fn a_record_with_a_timestamp_but_no_level_is_info() {
    assert_level(&[
        (INFO, "2026/01/31 12:00:00 listening on :8080"),
        (INFO, "2026/01/31 12:00:00 main.go:12: no errors found"),
        (INFO, "Jan 31 12:00:00 host app[1]: error_count=0"),
        (INFO, "2026-01-31 12:00:00 Retrying after ERROR response"),
        (INFO, "{\"message\":\"structured, on stderr\"}"),
        (INFO, ""),
        (INFO, "  \t"),
    ]);
}

#[test]
fn words_of_the_message_are_not_levels() {
    assert_no_level(&[
        "no errors found",
        "error_count=0",
        "[config] loaded",
        "2026-01-31T12:00:00 ntpd[7]: CONFIG: reading ntp.conf",
        "payment: error A1 declined",
        "payment: Error: none",
        "12:00:00 error in the cart : none",
        "[12:00:00] api/ERROR/retries 5",
        "Errors: 0",
        "Error count: 0",
        "Retrying after ERROR response",
        "there was an ERROR: somewhere",
        "INFORMATIONAL-ish text",
        "DEBUG_MODE is off",
        "config: loaded",
        "note: nothing",
        "System: ready",
        "Starting with level=debug",
        "Killed",
        "sh: 1: frobnicate: not found",
        "[entrypoint] starting",
        "level=",
        "127.0.0.1 ERROR",
        "https://shop.example/ERROR",
        "Information for you",
        "Fine, thanks",
        "31457280",
        "{ not: json }",
    ]);
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in "(?s).{0,120}") {
        let _ = detect(&text);
    }

    #[test]
    fn mixed_prefix_tokens_never_panic(tokens in prop::collection::vec(prop::sample::select(&[
        "[", "]", "<", ">", "(", ")", "{", "}", "\"", "|", " ", "\t", "ERROR", "error", ":", "2026-01-31", "12:00:00", "Jan", "31",
        "1:M", "#", "E0131", "level=", "=", "HTTP/1.1", "GET", "/", "500", "é", "\u{a0}", "::", ".", "Error", "PHP message: ", "-", ",",
        "\\", ".rb:", "1:in ", "Warning: ",
    ][..]), 0..16)) {
        let text = tokens.concat();
        let _ = detect(&text);
    }
}
