//! Bodies and heads that are to fill the memory.

use std::io::Write as _;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use serde_json::json;

use crate::harness::{API_KEY, Request, report, report_at};

use super::siege::{Siege, crowd, pour, readable, refused, stranger};

const BOMB_BYTES: usize = 32 << 20;
/// More than any server may take of one request.
const ENDLESS: usize = 64 << 20;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn an_endless_head_is_refused_at_16_kib() {
    let line = format!("GET /health HTTP/1.1\r\nHost: x\r\nX-API-Key: {API_KEY}\r\n");
    let shapes: [(Vec<u8>, Vec<u8>); 5] = [
        (b"GET /".to_vec(), vec![b'a'; 4096]),
        (b"GET /?".to_vec(), b"a=b&".repeat(1024)),
        (vec![b'A'; 10], vec![b'A'; 4096]),
        ((line.clone() + "X-Long: ").into_bytes(), vec![b'a'; 4096]),
        (line.into_bytes(), b"A: b\r\n".repeat(500)),
    ];
    Siege::lay().withstands(|tracker| {
        for (begin, piece) in &shapes {
            // One that stops to read while the server still takes what it sends, and eight that never do.
            let mut client = tracker.connect_from(stranger(0)).unwrap();
            client.write(begin);
            assert!(pour(&client, piece, 600_000));
            assert_eq!(client.read_response().status, 431);
            let endless = crowd(tracker, 8, 8);
            std::thread::scope(|scope| {
                for mut client in endless {
                    scope.spawn(move || {
                        client.write(begin);
                        assert!(!pour(&client, piece, ENDLESS), "it is read without end");
                    });
                }
            });
        }
        let many = format!("GET /health HTTP/1.1\r\nHost: x\r\n{}\r\n", "A: b\r\n".repeat(100));
        refused(tracker, many.as_bytes(), 431);
    });
}

#[test]
fn lengths_beyond_any_body_are_refused_unread() {
    let lengths = ["262145", "10000000000000", "9223372036854775808", "18446744073709551616", &"9".repeat(200)];
    Siege::lay().withstands(|tracker| {
        for length in lengths {
            for (key, status) in [(Some(API_KEY), 413), (Some("wrong"), 401), (None, 401)] {
                let mut request = Request::new("POST", "/api/errors").without_header("X-API-Key");
                if let Some(key) = key {
                    request = request.header("X-API-Key", key);
                }
                let head = request.header("Content-Length", length).bytes();
                let mut silent = tracker.connect_from(stranger(0)).unwrap();
                silent.write(&head);
                assert_eq!(silent.read_response().status, status, "{length}: the head alone decides");
                // The response reaches who sends on, as clients do that look up only when they are done.
                let mut sending = tracker.connect_from(stranger(0)).unwrap();
                sending.write(&head);
                assert!(pour(&sending, &[b'x'; 10_000], 900_000), "{length}: cut off too early");
                assert_eq!(sending.read_response().status, status, "{length}: the response is eaten");
            }
        }
        // And who never looks up is cut off.
        let head = Request::new("POST", "/api/errors").header("Content-Length", "10000000000000").bytes();
        let endless = crowd(tracker, 32, 4);
        std::thread::scope(|scope| {
            for mut client in endless {
                let head = &head;
                scope.spawn(move || {
                    client.write(head);
                    assert!(!pour(&client, &[b'x'; 65_536], ENDLESS), "the body is read");
                });
            }
        });
    });
}

#[test]
fn compressed_bombs_are_refused_at_the_limit() {
    let zeros = vec![b' '; BOMB_BYTES];
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
    zlib.write_all(&zeros).unwrap();
    let mut raw = DeflateEncoder::new(Vec::new(), Compression::fast());
    raw.write_all(&zeros).unwrap();
    let bomb = gzip(&zeros);
    let small = gzip(report("compressed").to_string().as_bytes());
    let empty = gzip(b"");
    let cases = [
        ("gzip", bomb.clone(), 413),
        ("deflate", zlib.finish().unwrap(), 413),
        ("deflate", raw.finish().unwrap(), 413),
        ("gzip", gzip(&bomb), 400),
        ("gzip", gzip(&vec![b' '; 262_145]), 413),
        ("gzip", gzip(&vec![b' '; 262_144]), 400),
        ("gzip", empty.repeat(262_144 / empty.len()), 400),
        ("gzip", small[..small.len() - 1].to_vec(), 400),
        ("gzip", [&small[..small.len() - 8], &[0; 8]].concat(), 400),
        ("gzip", vec![0x1f; 1_000], 400),
        ("deflate", vec![0xff; 1_000], 400),
        // An extra field and a name without an end.
        ("gzip", [&[0x1f, 0x8b, 8, 0x1c, 0, 0, 0, 0, 0, 3, 0xff, 0xff][..], &[b'n'; 250_000]].concat(), 400),
        ("br", small.clone(), 415),
        ("gzip, gzip", gzip(&small), 415),
        ("gzip", small, 200),
    ];
    Siege::lay().withstands(|tracker| {
        // So many that they fit into what may be in flight.
        let mut clients = crowd(tracker, 8, 8);
        for (coding, body, expected) in &cases {
            let request = Request::new("POST", "/api/errors").header("Content-Encoding", coding).body(body.as_slice());
            for client in &mut clients {
                client.write(&request.bytes());
            }
            for client in &mut clients {
                let status = client.read_response().status;
                // The first of a group is created, the others are counted.
                let status = if status == 201 { 200 } else { status };
                assert_eq!(status, *expected, "{coding} {} bytes", body.len());
            }
        }
    });
}

#[test]
fn chunks_are_held_to_the_limit_however_they_come() {
    let head =
        format!("POST /api/errors HTTP/1.1\r\nHost: x\r\nX-API-Key: {API_KEY}\r\nTransfer-Encoding: chunked\r\n\r\n");
    let extension = "x".repeat(240);
    let endless = [
        ("large chunks", "", "10000\r\n".to_owned() + &"x".repeat(65_536) + "\r\n", 413),
        ("one chunk of a gigabyte", "40000000\r\n", "x".repeat(65_536), 413),
        ("one as large as numbers go", "ffffffffffffffff\r\n", "x".repeat(65_536), 413),
        ("tiny chunks", "", "1\r\nx\r\n".repeat(10_000), 413),
        ("long extensions", "", format!("1;{extension}\r\nx\r\n").repeat(250), 413),
        ("an endless size", "", "0".repeat(4096), 400),
        ("an endless extension", "1;", "x".repeat(4096), 400),
        ("endless trailers", "0\r\n", "A: b\r\n".repeat(1_000), 400),
        ("an endless trailer", "0\r\nA: ", "b".repeat(4096), 400),
    ];
    Siege::lay().withstands(|tracker| {
        for (name, begin, again, status) in &endless {
            let clients = crowd(tracker, 8, 8);
            std::thread::scope(|scope| {
                for mut client in clients {
                    let begin = [head.as_bytes(), begin.as_bytes()].concat();
                    scope.spawn(move || {
                        client.write(&begin);
                        while !readable(&client) {
                            client.write(again.as_bytes());
                        }
                        assert_eq!(client.read_response().status, *status, "{name}");
                        assert!(!pour(&client, again.as_bytes(), ENDLESS), "{name}: it is read without end");
                    });
                }
            });
        }
    });
}

#[test]
fn more_bodies_than_may_be_in_flight_are_refused_and_told_when_to_return() {
    let mut large = report_at("one of many", 3);
    large["extra"] = json!({ "padding": "x".repeat(250_000) });
    let bytes = Request::post("/api/errors", &large).bytes();
    let (last, most) = bytes.split_last().unwrap();
    Siege::lay().withstands(|tracker| {
        let mut clients = crowd(tracker, 256, 128);
        std::thread::scope(|scope| {
            for share in clients.chunks_mut(64) {
                scope.spawn(|| share.iter_mut().for_each(|client| client.write(most)));
            }
        });
        // Kept whole but for a byte, so that they meet.
        let mut stored = 0;
        for client in &mut clients {
            client.write(&[*last]);
        }
        for client in &mut clients {
            let response = client.read_response();
            match response.status {
                200 | 201 => stored += 1,
                503 => assert!(response.header("retry-after").is_some(), "{response:?}"),
                other => panic!("{other}: {}", response.text()),
            }
        }
        assert!((1..=20).contains(&stored), "{stored} of 250 KB in 4 MiB");
    });
}

#[test]
fn a_storm_of_large_reports_leaves_room_for_small_ones() {
    let mut large = report_at("one of a storm", 3);
    large["extra"] = json!({ "padding": "x".repeat(250_000) });
    let request = Request::post("/api/errors", &large);
    Siege::lay().withstands(|tracker| {
        let until = Instant::now() + Duration::from_secs(3);
        std::thread::scope(|scope| {
            for n in 0..32 {
                let request = &request;
                scope.spawn(move || {
                    let mut kept = tracker.connect_from(stranger(n % 8)).unwrap();
                    while Instant::now() < until {
                        let status = kept.send(request).status;
                        assert!(matches!(status, 200 | 201 | 503), "{status}");
                        if status == 503 {
                            kept = tracker.connect_from(stranger(n % 8)).unwrap();
                        }
                    }
                });
            }
        });
    });
}

#[test]
fn large_heads_count_while_their_bodies_are_waited_for() {
    // As large as a head may be, then a body that never comes; the open route asks for no key.
    let head = |target: &str| {
        let begin = format!("{target} HTTP/1.1\r\nHost: x\r\nX-API-Key: {API_KEY}\r\nContent-Length: 9\r\nX-Long: ");
        begin.clone() + &"x".repeat(16_384 - 4 - begin.len()) + "\r\n\r\n"
    };
    Siege::lay().withstands(|tracker| {
        for target in ["POST /api/errors", "GET /health"] {
            let mut clients = crowd(tracker, 500, 125);
            for client in &mut clients {
                client.write(head(target).as_bytes());
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    });
}

#[test]
fn connections_that_were_large_once_are_small_when_idle() {
    let refused = format!("GET /nothing HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n", "x".repeat(8_000));
    const AT_ONCE: usize = 8;
    Siege::lay().withstands(|tracker| {
        let mut clients = crowd(tracker, 500, 125);
        for client in &mut clients {
            client.write(refused.repeat(AT_ONCE).as_bytes());
        }
        for client in &mut clients {
            (0..AT_ONCE).for_each(|_| drop(client.read_response().expect(404)));
        }
        clients
    });
}
