//! Lines of real programs with the times that they state.

use proptest::prelude::*;

use super::super::calendar::NS_PER_SECOND;
use super::*;

/// Lines that state 2026-01-31T12:00:00 with this fraction in nanoseconds, in UTC.
const UTC: &[(&str, i64)] = &[
    // RFC 3339 and ISO 8601
    ("2026-01-31T12:00:00Z started", 0),
    ("2026-01-31T12:00:00.123456789Z INFO tower_http: started", 123_456_789),
    ("2026-01-31T13:00:00.123+01:00 started", 123_000_000),
    ("2026-01-31T12:00:00,123+0000 started", 123_000_000),
    ("2026-01-31T14:00:00+02 started", 0),
    ("2026-01-31T12:00Z started", 0),
    ("20260131T120000Z started", 0),
    ("2026-01-31 12:00:00.123 UTC [1] LOG:  database system is ready", 123_000_000),
    ("2026-01-31 12:00:00+00:00 [info     ] structlog", 0),
    ("[2026-01-31T12:00:00.123+0000] {taskinstance.py:2731} ERROR - Task failed", 123_000_000),
    ("[2026-01-31 12:00:00 +0000] [7] [INFO] Booting worker with pid: 7", 0),
    ("2026-01-31T12:00:00.123456Z 0 [System] [MY-010116] [Server] /usr/sbin/mysqld", 123_456_000),
    ("\u{1b}[2m2026-01-31T12:00:00.123456Z\u{1b}[0m \u{1b}[32m INFO\u{1b}[0m tracing", 123_456_000),
    ("INFO 2026-01-31T12:00:00Z started", 0),
    ("[ERROR] 2026-01-31T12:00:00Z started", 0),
    ("web-1  | 2026-01-31T12:00:00Z started", 0),
    ("(C) 2026-01-31T12:00:00Z - qBittorrent", 0),
    ("<34>1 2026-01-31T12:00:00.003Z host su - ID47 - failed for lonvick", 3_000_000),
    // Access logs
    (r#"172.17.0.1 - - [31/Jan/2026:12:00:00 +0000] "GET / HTTP/1.1" 200 612 "-" "curl/8.5.0""#, 0),
    (r#"shop.example:443 ::1 - bob smith [31/Jan/2026:13:00:00 +0100] "GET /[2020-01-01 00:00:00] HTTP/1.1" 200"#, 0),
    ("time:[31/Jan/2026:12:00:00 +0000]\thost:10.0.0.1", 0),
    (r#"10.0.0.1 - - [Sat, 31 Jan 2026 12:00:00 GMT] "GET / HTTP/1.1" 200"#, 0),
    // Pairs and JSON
    (r#"time="2026-01-31T12:00:00Z" level=info msg="x""#, 0),
    ("level=info ts=2026-01-31T12:00:00.123Z caller=main.go:7 msg=x", 123_000_000),
    (r#"level=info msg="at 2020-01-01T00:00:00Z" ts=2026-01-31T12:00:00Z"#, 0),
    ("ts=1769860800.5 msg=x", 500_000_000),
    ("type=SYSCALL msg=audit(1769860800.123:456): arch=c000003e", 123_000_000),
    (r#"{"level":"info","ts":1769860800.123,"msg":"zap"}"#, 123_000_000),
    (r#"{"level":30,"time":1769860800123,"msg":"pino"}"#, 123_000_000),
    (r#"{"@timestamp":"2026-01-31T12:00:00.123Z","message":"{\"time\":\"2020\"}"}"#, 123_000_000),
    (r#"{"t":{"$date":"2026-01-31T12:00:00.123+00:00"},"s":"I"}"#, 123_000_000),
    (r#"{"date":"none","timestamp":"2026-01-31T12:00:00Z"}"#, 0),
    (r#"{"timestamp":"1769860800.123","unfinished":"#, 123_000_000),
    (r#"{"time_local":"31/Jan/2026:12:00:00 +0000","status":200}"#, 0),
    // Seconds since 1970
    ("1769860800.123  100 10.0.0.1 TCP_MISS/503 4321 GET http://x/", 123_000_000),
    ("[1769860800] unbound[1:0] info: start of service", 0),
    ("1769860800: mosquitto version 2.0.18 starting", 0),
    ("1769860800123 ms", 123_000_000),
    ("1.769860800123e+09\tinfo\tstarted", 123_000_000),
    // Others
    ("<Jan 31, 2026 12:00:00 PM UTC> <Error> <Deployer>", 0),
    ("Sat Jan 31 12:00:00 UTC 2026 backup done", 0),
    ("[31-Jan-2026 12:00:00 UTC] PHP Fatal error:  Uncaught Exception", 0),
];

/// Lines that state 2026-01-31T12:00:00 with this fraction, without a zone. The second number tells whether the year is
/// stated.
const LOCAL: &[(&str, i64, bool)] = &[
    ("2026-01-31 12:00:00,123 - root - INFO - Python logging", 123_000_000, true),
    ("2026-01-31 12:00:00 -5 degrees", 0, true),
    ("2026-01-31T12:00:00 no zone", 0, true),
    ("2026/01/31 12:00:00 [error] 29#29: *1 open() failed", 0, true),
    ("2026.01.31 12:00:00.123456 [ 48 ] {uuid} <Error> executeQuery", 123_456_000, true),
    ("[2026-01-31 12:00:00,123: INFO/MainProcess] celery", 123_000_000, true),
    ("[E 2026-01-31 12:00:00.123 ServerApp] Jupyter", 123_000_000, true),
    ("E, [2026-01-31T12:00:00.123456 #1] ERROR -- : Ruby", 123_456_000, true),
    ("Zigbee2MQTT:error 2026-01-31 12:00:00: not connected", 0, true),
    ("2026-01-31 12:00:00.123 | INFO     | app:main:7 - loguru", 123_000_000, true),
    ("[Sat Jan 31 12:00:00.123456 2026] [core:error] [pid 7] AH00001: Apache", 123_456_000, true),
    ("[Sat Jan 31 12:00:00 2026] 172.17.0.1:40000 [500]: GET /pay", 0, true),
    (r#"[pid: 7|app: 0|req: 1/1] 1.2.3.4 () {34 vars in 400 bytes} [Sat Jan 31 12:00:00 2026] GET /"#, 0, true),
    ("Jan 31, 2026 12:00:00 PM org.apache.catalina.startup.Catalina start", 0, true),
    ("31-Jan-2026 12:00:00.123 INFO [main] org.apache.catalina", 123_000_000, true),
    ("31.01.2026 12:00:00 *INFO* [main] sling", 0, true),
    ("31/01/2026 12:00:00 started", 0, true),
    ("[Nest] 7  - 01/31/2026, 12:00:00 PM     LOG [NestFactory]", 0, true),
    ("1:M 31 Jan 2026 12:00:00.123 # Redis", 123_000_000, true),
    ("[31Jan2026 12:00:00.123] [main/ERROR] [Forge/]: x", 123_000_000, true),
    ("=ERROR REPORT==== 31-Jan-2026::12:00:00 ===", 0, true),
    ("10.0.0.1:5 [31/Jan/2026:12:00:00.123] web app/s1 0/0/0/1/1 503", 123_000_000, true),
    ("E20260131 12:00:00.123456  7 a.cc:1] glog", 123_456_000, true),
    ("E260131 12:00:00.123456 1521 a.go:1 ⋮ [n1] CockroachDB", 123_456_000, true),
    ("260131 12:00:00 [Note] MySQL 5", 0, true),
    ("20260131 12:00:00 started", 0, true),
    ("Jan 31 12:00:00 host sshd[7]: Accepted publickey", 0, false),
    ("<86>Jan 31 12:00:00 host sshd[7]: Accepted publickey", 0, false),
    ("Jan 31 12:00:00 2026-host kernel: x", 0, false),
    ("E0131 12:00:00.123456       7 main.go:12] klog", 123_456_000, false),
    ("(EngineCore_DP0 pid=271) ERROR 01-31 12:00:00 [core.py:708] vLLM", 0, false),
    ("01-31 12:00:00.123  1000  1000 E logcat: x", 123_000_000, false),
    ("[7] 31 Jan 12:00:00.123 * Redis 2", 123_000_000, false),
];

/// Lines without a time, or with one in the message only.
const NONE: &[&str] = &[
    "",
    "started",
    "Traceback (most recent call last):",
    "    at com.example.Shop.pay(Shop.java:7)",
    "backup of 2026-01-31 12:00:00 is complete",
    "[ERROR] certificate expires 2026-01-31T12:00:00Z",
    "user logged in at=2026-01-31T12:00:00Z",
    "12:00:00 started",
    "[12:00:00] [Server thread/WARN]: Can't keep up!",
    "[   12.345678] usb 1-1: new device",
    "02/03/2026 12:00:00 ambiguous",
    "2026-02-30 12:00:00 no such day",
    "2026-01-31 25:00:00 no such hour",
    "2026-01-31",
    "1769860800",
    "1234567890 is no time",
    "9999999999 is no time",
    "10.0.0.1 - - GET /",
    "192.168.100.200 x",
    "E1399 12:00:00.0 no such month",
    "March of progress",
    "Mar 5 users",
    r#"{"message":"2026-01-31T12:00:00Z"}"#,
    r#"{"ts":7,"time":null,"t":[1],"date":true,"timestamp":-1,"Time":{"x":1}}"#,
    "{",
    "\u{1b}[31mred",
    "é 2026-01-31T12:00:00Z",
];

const NOON_NS: i64 = 1_769_860_800_000_000_000;

#[test]
fn times_with_a_zone_are_read() {
    for (line, fraction_ns) in UTC {
        assert_eq!(parse(line), Some(StatedTime::Utc(NOON_NS + fraction_ns)), "{line}");
    }
}

#[test]
fn times_without_a_zone_are_read() {
    for (line, fraction_ns, has_year) in LOCAL {
        let Some(StatedTime::Local(local)) = parse(line) else { panic!("{line}: {:?}", parse(line)) };
        assert_eq!(local.year, has_year.then_some(2026), "{line}");
        assert_eq!(local.in_year_ns(2026), Some(NOON_NS + fraction_ns), "{line}");
    }
}

#[test]
fn times_in_messages_and_ambiguous_ones_are_ignored() {
    for line in NONE {
        assert_eq!(parse(line), None, "{line}");
    }
}

#[test]
fn the_hour_before_one_and_leap_seconds_are_read() {
    let midnight = 11 * 3_600 + 1;
    for (line, second_of_day) in [
        ("1/31/2026, 12:00:59 AM x", 59),
        ("1/31/2026, 11:00:01 AM x", midnight),
        ("1/31/2026, 11:00:01 PM x", midnight + 12 * 3_600),
        ("2026-01-31 23:59:60 x", 86_399),
    ] {
        let Some(StatedTime::Local(local)) = parse(line) else { panic!("{line}") };
        assert_eq!(local.second_of_day, second_of_day, "{line}");
    }
    assert_eq!(parse("1/31/2026, 13:00:00 PM x"), None);
}

proptest! {
    #[test]
    fn arbitrary_lines_never_panic(line in "(?s).{0,80}", time in prop::sample::select(UTC), cut in 0_usize..60) {
        let _ = parse(&line);
        let time = time.0;
        let cut = time.floor_char_boundary(cut.min(time.len()));
        let _ = parse(&time[cut..]);
        let _ = parse(&time[..cut]);
        let _ = parse(&format!("{}{line}", &time[..cut]));
    }

    #[test]
    fn any_utc_time_round_trips(ms in 0..4_000_000_000_000_i64) {
        let at = crate::clock::Timestamp::from_ms(ms);
        let expected = Some(StatedTime::Utc(at.seconds() * NS_PER_SECOND));
        prop_assert_eq!(parse(&format!("{at} x")), expected);
        prop_assert_eq!(parse(&format!(r#"{{"time":"{at}"}}"#)), expected);
    }
}
