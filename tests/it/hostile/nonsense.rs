//! Malformed input: bytes that are not HTTP, not UTF-8 or not JSON.

use std::sync::Arc;
use std::time::Duration;

use crate::support::databases::update_file;
use crate::support::harness::{API_KEY, Request, Setup, TempDir, report, report_at};

use super::attack::{Attack, assert_rejected, attacker_address, connect_many};

#[test]
fn other_protocols_are_rejected() {
    // The start of a TLS 1.3 ClientHello, as `curl https://…` sends it, without a line feed.
    let client_hello = [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".as_slice(), &[0xa5; 200]].concat();
    Attack::start().assert_survives(|tracker| {
        assert_rejected(tracker, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", 505);
        assert_rejected(tracker, b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505);
        assert_rejected(tracker, b"GET / HTTP/0.9\r\nHost: x\r\n\r\n", 505);
        assert_rejected(tracker, &[&client_hello, b"\n".as_slice()].concat(), 400);
        assert_rejected(tracker, b"SSH-2.0-OpenSSH_9.9\r\n\r\n", 400);
        // A slow handshake is an incomplete head: it occupies a connection and a few bytes.
        let mut slow = connect_many(tracker, 64, 4);
        for bytes in client_hello.chunks(4) {
            for client in &mut slow {
                client.write(bytes);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        slow
    });
}

#[test]
fn nul_bytes_and_invalid_utf8_never_crash_the_service() {
    let get = |target: &[u8], fields: &[u8]| {
        [b"GET ", target, b" HTTP/1.1\r\nHost: x\r\nX-API-Key: ", API_KEY.as_bytes(), b"\r\n", fields, b"\r\n"].concat()
    };
    let post = |body: &[u8]| Request::new("POST", "/api/errors").body(body).bytes();
    let report_with = |name: &str, value: &[u8]| {
        let mut body = report_at("bytes", 4).to_string().into_bytes();
        body.pop();
        [&body, b",\"".as_slice(), name.as_bytes(), b"\":\"", value, b"\"}"].concat()
    };
    let end_connection = [
        get(b"/api/errors\0", b""),
        get(b"/api/errors?\0", b""),
        get(b"/api/\x01errors", b""),
        get(b"/api/\x7ferrors", b""),
        get(b"/api/errors", b"X-Name: a\0b\r\n"),
        get(b"/api/errors", b"X-Na\0me: a\r\n"),
        get(b"/api/errors", b"X-N\xe4me: a\r\n"),
        get(b"/api/errors", b"X-Name: a\x08b\r\n"),
        get(b"/api/\xff", b""),
        get(b"/api/errors?q=\xff", b""),
        b"\0\0\0\0\r\n\r\n".to_vec(),
        [0xff; 64].into_iter().chain(*b"\r\n\r\n").collect(),
    ];
    let keep_connection = [
        (get(b"/api/errors/%FF", b""), 400),
        (get(b"/api/errors/%00", b""), 404),
        (get(b"/api/errors/\xc3\xbc", b""), 404),
        (get(b"/%C0%AF%C0%AE", b""), 400),
        (get(b"/api/errors/%", b""), 404),
        (get(b"/api/errors/%2", b""), 404),
        (get(b"/api/errors?project=%FF", b""), 200),
        (get(b"/api/errors?project=%00&search=%00%FF%00&session_id=%00", b""), 200),
        (get(b"/api/errors?search=%22%00%22", b""), 200),
        (get(b"/api/errors?%FF=%FF&=&&&%=%", b""), 200),
        (get(b"/api/errors?since=%00", b""), 400),
        (get(b"/api/errors", b"X-Name: \xff\xfe\xe4\r\n"), 200),
        (get(b"/api/errors", b"X-Forwarded-For: \xff, \xff\r\n"), 200),
        (post(b"\0"), 400),
        (post(b"\xff\xfe{\0}\0"), 400),
        (post(&[b"\xef\xbb\xbf".as_slice(), report("byte order mark").to_string().as_bytes()].concat()), 400),
        (post(&report_with("release", b"\xff")), 400),
        (post(&report_with("release", b"\xc0\x80")), 400),
        (post(&report_with("release", b"\xed\xa0\x80")), 400),
        (post(&report_with("release", b"a\0b")), 400),
        (post(&report_with("release", br"\u0000")), 400),
        (post(&report_with("release", br"\ud800")), 400),
        (post(&report_with("release", br"\u00")), 400),
        (post(&report_with("unknown", b"a\0b")), 400),
        (post(&report_with("release", b"\xf4\x8f\xbf\xbf")), 201),
    ];
    Attack::start().assert_survives(|tracker| {
        for bytes in &end_connection {
            assert_rejected(tracker, bytes, 400);
        }
        let mut kept = tracker.connect_from(attacker_address(1)).unwrap();
        for (bytes, status) in &keep_connection {
            kept.write(bytes);
            let response = kept.read_response();
            assert_eq!(response.status, *status, "{}: {}", String::from_utf8_lossy(bytes), response.text());
        }
    });
}

#[test]
fn deeply_nested_json_is_rejected() {
    let nest = |open: &str, close: &str, levels: usize| open.repeat(levels) + "1" + &close.repeat(levels);
    let report_with_extra = |nested: &str| {
        let mut report = report("nested").to_string();
        report.pop();
        report + ",\"extra\":{\"a\":" + nested + "}}"
    };
    let (brackets, braces) = (nest("[", "]", 100_000), nest("{\"a\":", "}", 40_000));
    let bodies = [
        brackets.clone(),
        braces.clone(),
        report_with_extra(&brackets),
        report_with_extra(&braces),
        report_with_extra(&nest("[", "]", 63)),
        "[".repeat(262_144),
        "{\"a\":[".repeat(40_000),
        report_with_extra(&("\"".to_owned() + &"\\".repeat(200_000))),
        format!("{{{}\"b\":1}}", "\"a\":1,".repeat(40_000)),
        "\"".repeat(200_001),
        "-".repeat(200_000),
        "1".repeat(200_000),
        "1e999999999".to_owned(),
    ];
    Attack::start().assert_survives(|tracker| {
        // The bodies of eight clients fit into the memory budget.
        let mut clients = connect_many(tracker, 8, 4);
        for body in &bodies {
            let request = Request::new("POST", "/api/errors").body(body.as_bytes()).bytes();
            for client in &mut clients {
                client.write(&request);
            }
            for client in &mut clients {
                let response = client.read_response();
                assert_eq!(response.status, 400, "{}…: {}", &body[..body.len().min(40)], response.text());
            }
        }
        // One level less is valid.
        let shallow = Request::new("POST", "/api/errors").body(report_with_extra(&nest("[", "]", 62)));
        assert!(matches!(clients[0].send(&shallow).status, 200 | 201));
    });
}

#[test]
fn error_responses_reveal_no_sql_and_no_path() {
    let data_dir = Arc::new(TempDir::new());
    let tracker = Setup::error_tracker().data_dir(&data_dir).start();
    let requests = [
        Request::get("/api/errors?search=%22%27%3B--&limit=1"),
        Request::get("/api/errors/1"),
        Request::get("/api/errors/99999999999999999999"),
        Request::get("/api/errors?since=%27%29%3B"),
        Request::get("/api/alerts"),
        Request::new("POST", "/api/errors/1/resolve"),
        Request::post("/api/errors", &report_at("lost", 1)),
        Request::get("/../../etc/passwd"),
    ];
    let reveals_nothing = |statuses: &[u16]| {
        for request in &requests {
            let response = tracker.send(request);
            assert!(
                statuses.contains(&response.status),
                "{}: {} {}",
                String::from_utf8_lossy(&request.bytes()),
                response.status,
                response.text()
            );
            let text = response.text();
            let secrets =
                ["SQL", "sql", "SELECT", "no such table", "error_groups", "src/", data_dir.path().to_str().unwrap()];
            let revealed: Vec<_> = secrets.iter().filter(|secret| text.contains(**secret)).collect();
            assert!(response.status < 400 || revealed.is_empty(), "{revealed:?} in {text}");
        }
    };
    reveals_nothing(&[200, 201, 400, 404]);
    // Statements fail from here on, with messages that name the table.
    update_file(
        &data_dir.path().join("errors.db"),
        "PRAGMA foreign_keys = OFF; PRAGMA legacy_alter_table = ON; ALTER TABLE error_groups RENAME TO renamed; ALTER TABLE alert_events RENAME TO renamed_too;",
    );
    reveals_nothing(&[400, 404, 500, 503]);
    assert!(tracker.log().concat().contains("no such table"), "{:?}", tracker.log());
}
