//! Oversized heads and bodies, decompression bombs and endless chunks.

use std::io::Write as _;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use serde_json::json;

use crate::support::harness::{API_KEY, Request, report, report_at};

use super::attack::{Attack, assert_rejected, attacker_address, connect_many, has_data, write_until_closed};

const BOMB_BYTES: usize = 32 << 20;
/// Number of bytes that stands for an endless request; no server may read that much.
const ENDLESS_BYTES: usize = 64 << 20;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn heads_over_16_kib_are_rejected() {
    let line = format!("GET /health HTTP/1.1\r\nHost: x\r\nX-API-Key: {API_KEY}\r\n");
    let shapes: [(Vec<u8>, Vec<u8>); 5] = [
        (b"GET /".to_vec(), vec![b'a'; 4096]),
        (b"GET /?".to_vec(), b"a=b&".repeat(1024)),
        (vec![b'A'; 10], vec![b'A'; 4096]),
        ((line.clone() + "X-Long: ").into_bytes(), vec![b'a'; 4096]),
        (line.into_bytes(), b"A: b\r\n".repeat(500)),
    ];
    Attack::start().assert_survives(|tracker| {
        for (begin, piece) in &shapes {
            // One client stops within the bytes that the server still discards, and reads; eight clients never stop.
            let mut client = tracker.connect_from(attacker_address(0)).unwrap();
            client.write(begin);
            assert!(write_until_closed(&client, piece, 600_000));
            assert_eq!(client.read_response().status, 431);
            let endless = connect_many(tracker, 8, 8);
            std::thread::scope(|scope| {
                for mut client in endless {
                    scope.spawn(move || {
                        client.write(begin);
                        assert!(!write_until_closed(&client, piece, ENDLESS_BYTES), "the server reads an endless head");
                    });
                }
            });
        }
        let many_headers = format!("GET /health HTTP/1.1\r\nHost: x\r\n{}\r\n", "A: b\r\n".repeat(100));
        assert_rejected(tracker, many_headers.as_bytes(), 431);
    });
}

#[test]
fn too_large_content_lengths_are_rejected_without_reading_the_body() {
    let lengths = ["262145", "10000000000000", "9223372036854775808", "18446744073709551616", &"9".repeat(200)];
    Attack::start().assert_survives(|tracker| {
        for length in lengths {
            for (key, status) in [(Some(API_KEY), 413), (Some("wrong"), 401), (None, 401)] {
                let mut request = Request::new("POST", "/api/errors").without_header("X-API-Key");
                if let Some(key) = key {
                    request = request.header("X-API-Key", key);
                }
                let head = request.header("Content-Length", length).bytes();
                let mut silent = tracker.connect_from(attacker_address(0)).unwrap();
                silent.write(&head);
                assert_eq!(silent.read_response().status, status, "{length}: response to the head alone");
                // The response also reaches clients that read only after sending the whole body.
                let mut sending = tracker.connect_from(attacker_address(0)).unwrap();
                sending.write(&head);
                assert!(
                    write_until_closed(&sending, &[b'x'; 10_000], 900_000),
                    "{length}: connection closed too early"
                );
                assert_eq!(sending.read_response().status, status, "{length}: the response is lost");
            }
        }
        // A client that never reads is disconnected.
        let head = Request::new("POST", "/api/errors").header("Content-Length", "10000000000000").bytes();
        let endless = connect_many(tracker, 32, 4);
        std::thread::scope(|scope| {
            for mut client in endless {
                let head = &head;
                scope.spawn(move || {
                    client.write(head);
                    assert!(!write_until_closed(&client, &[b'x'; 65_536], ENDLESS_BYTES), "the server reads the body");
                });
            }
        });
    });
}

#[test]
fn decompression_bombs_are_rejected_at_the_limit() {
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
        // A gzip header with an extra field and an unterminated name.
        ("gzip", [&[0x1f, 0x8b, 8, 0x1c, 0, 0, 0, 0, 0, 3, 0xff, 0xff][..], &[b'n'; 250_000]].concat(), 400),
        ("br", small.clone(), 415),
        ("gzip, gzip", gzip(&small), 415),
        ("gzip", small, 200),
    ];
    Attack::start().assert_survives(|tracker| {
        // The bodies of eight clients fit into the memory budget.
        let mut clients = connect_many(tracker, 8, 8);
        for (coding, body, expected) in &cases {
            let request = Request::new("POST", "/api/errors").header("Content-Encoding", coding).body(body.as_slice());
            for client in &mut clients {
                client.write(&request.bytes());
            }
            for client in &mut clients {
                let status = client.read_response().status;
                // The first report creates the group (201), the others increment it (200).
                let status = if status == 201 { 200 } else { status };
                assert_eq!(status, *expected, "{coding} {} bytes", body.len());
            }
        }
    });
}

#[test]
fn chunked_bodies_are_limited_in_all_forms() {
    let head =
        format!("POST /api/errors HTTP/1.1\r\nHost: x\r\nX-API-Key: {API_KEY}\r\nTransfer-Encoding: chunked\r\n\r\n");
    let extension = "x".repeat(240);
    let endless = [
        ("large chunks", "", "10000\r\n".to_owned() + &"x".repeat(65_536) + "\r\n", 413),
        ("one chunk of a gigabyte", "40000000\r\n", "x".repeat(65_536), 413),
        ("one chunk of the maximum size", "ffffffffffffffff\r\n", "x".repeat(65_536), 413),
        ("tiny chunks", "", "1\r\nx\r\n".repeat(10_000), 413),
        ("long extensions", "", format!("1;{extension}\r\nx\r\n").repeat(250), 413),
        ("endless chunk size", "", "0".repeat(4096), 400),
        ("endless extension", "1;", "x".repeat(4096), 400),
        ("endless trailers", "0\r\n", "A: b\r\n".repeat(1_000), 400),
        ("endless trailer", "0\r\nA: ", "b".repeat(4096), 400),
    ];
    Attack::start().assert_survives(|tracker| {
        for (name, begin, again, status) in &endless {
            let clients = connect_many(tracker, 8, 8);
            std::thread::scope(|scope| {
                for mut client in clients {
                    let begin = [head.as_bytes(), begin.as_bytes()].concat();
                    scope.spawn(move || {
                        client.write(&begin);
                        while !has_data(&client) {
                            client.write(again.as_bytes());
                        }
                        assert_eq!(client.read_response().status, *status, "{name}");
                        assert!(
                            !write_until_closed(&client, again.as_bytes(), ENDLESS_BYTES),
                            "{name}: the server reads endless input"
                        );
                    });
                }
            });
        }
    });
}

#[test]
fn bodies_over_the_memory_budget_get_503_with_retry_after() {
    let mut large = report_at("one of many", 3);
    large["extra"] = json!({ "padding": "x".repeat(250_000) });
    let bytes = Request::post("/api/errors", &large).bytes();
    let (last, rest) = bytes.split_last().unwrap();
    Attack::start().assert_survives(|tracker| {
        let mut clients = connect_many(tracker, 256, 128);
        std::thread::scope(|scope| {
            for part in clients.chunks_mut(64) {
                scope.spawn(|| part.iter_mut().for_each(|client| client.write(rest)));
            }
        });
        // Each body lacked only its last byte, so all were in memory at the same time.
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
        assert!((1..=20).contains(&stored), "{stored} bodies of 250 KB accepted with a budget of 4 MiB");
    });
}

#[test]
fn small_reports_are_accepted_during_a_flood_of_large_ones() {
    let mut large = report_at("one of a storm", 3);
    large["extra"] = json!({ "padding": "x".repeat(250_000) });
    let request = Request::post("/api/errors", &large);
    Attack::start().assert_survives(|tracker| {
        let until = Instant::now() + Duration::from_secs(3);
        std::thread::scope(|scope| {
            for n in 0..32 {
                let request = &request;
                scope.spawn(move || {
                    let mut client = tracker.connect_from(attacker_address(n % 8)).unwrap();
                    while Instant::now() < until {
                        let status = client.send(request).status;
                        assert!(matches!(status, 200 | 201 | 503), "{status}");
                        if status == 503 {
                            client = tracker.connect_from(attacker_address(n % 8)).unwrap();
                        }
                    }
                });
            }
        });
    });
}

#[test]
fn large_heads_count_toward_the_memory_budget() {
    // A head of the maximum size and a body that never arrives. `/health` requires no key.
    let head = |target: &str| {
        let begin = format!("{target} HTTP/1.1\r\nHost: x\r\nX-API-Key: {API_KEY}\r\nContent-Length: 9\r\nX-Long: ");
        begin.clone() + &"x".repeat(16_384 - 4 - begin.len()) + "\r\n\r\n"
    };
    Attack::start().assert_survives(|tracker| {
        for target in ["POST /api/errors", "GET /health"] {
            let mut clients = connect_many(tracker, 500, 125);
            for client in &mut clients {
                client.write(head(target).as_bytes());
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    });
}

#[test]
fn idle_connections_release_their_buffers() {
    let request = format!("GET /nothing HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n", "x".repeat(8_000));
    const PIPELINED: usize = 8;
    Attack::start().assert_survives(|tracker| {
        let mut clients = connect_many(tracker, 500, 125);
        for client in &mut clients {
            client.write(request.repeat(PIPELINED).as_bytes());
        }
        for client in &mut clients {
            (0..PIPELINED).for_each(|_| drop(client.read_response().expect(404)));
        }
        clients
    });
}
