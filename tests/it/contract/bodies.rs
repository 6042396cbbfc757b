//! Bodies: how large, in how many pieces, and in which coding.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use serde_json::{Value, json};

use super::{Case, assert_cases, post_report_bytes, unique_report};
use crate::harness::{Request, Setup};

const LIMIT: usize = 2_000;

/// A report of exactly so many bytes.
fn report_of(bytes: usize) -> Vec<u8> {
    let mut body = unique_report().to_string().into_bytes();
    body.resize(bytes, b' ');
    body
}

/// The same request with its body in pieces of 700 bytes.
fn chunked(body: &[u8]) -> Request {
    let mut pieces = Vec::new();
    for piece in body.chunks(700) {
        write!(pieces, "{:x};extension=1\r\n", piece.len()).unwrap();
        pieces.extend_from_slice(piece);
        pieces.extend_from_slice(b"\r\n");
    }
    pieces.extend_from_slice(b"0\r\nTrailer: dropped\r\n\r\n");
    post_report_bytes(pieces).without_header("Content-Length").header("Transfer-Encoding", "chunked")
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

fn zlib(body: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

fn raw_deflate(body: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

fn coded(coding: &str, body: Vec<u8>) -> Request {
    post_report_bytes(body).header("Content-Encoding", coding)
}

#[test]
fn the_limit_counts_decoded_bytes_however_they_come() {
    let service = Setup::error_tracker().env("MAX_BODY_SIZE", LIMIT).start();
    let (most, more) = (|| report_of(LIMIT), report_of(LIMIT + 1));
    let too_large = json!("The body may be at most 2000 bytes");
    let cases: [Case; 19] = [
        ("as large as may be", post_report_bytes(most()), 201, Value::Null),
        ("in chunks", chunked(&most()), 201, Value::Null),
        ("gzip", coded("gzip", gzip(&most())), 201, Value::Null),
        ("GZIP", coded("GZIP", gzip(&most())), 201, Value::Null),
        ("gzip in chunks", chunked(&gzip(&most())).header("Content-Encoding", "gzip"), 201, Value::Null),
        ("deflate", coded("deflate", zlib(&most())), 201, Value::Null),
        ("deflate as some clients do", coded("deflate", raw_deflate(&most())), 201, Value::Null),
        ("identity", coded("identity", most()), 201, Value::Null),
        ("one byte more", post_report_bytes(more.clone()), 413, too_large.clone()),
        ("one more in chunks", chunked(&more), 413, too_large.clone()),
        ("one more in gzip", coded("gzip", gzip(&more)), 413, too_large.clone()),
        ("one more in deflate", coded("deflate", zlib(&more)), 413, too_large.clone()),
        ("a bomb", coded("gzip", gzip(&vec![b' '; 10_000_000])[..LIMIT].to_vec()), 413, too_large),
        ("not gzip", coded("gzip", most()), 400, json!("The body is not valid gzip")),
        ("half of gzip", coded("gzip", gzip(&most())[..60].to_vec()), 400, json!("The body is not valid gzip")),
        ("not deflate", coded("deflate", vec![0x78, 1, 2, 3]), 400, json!("The body is not valid deflate")),
        ("brotli", coded("br", most()), 415, json!("Content-Encoding may be gzip, deflate or identity")),
        ("twice", coded("gzip, gzip", gzip(&gzip(&most()))), 415, json!("Content-Encoding may be gzip")),
        ("nothing in gzip", coded("gzip", gzip(b"")), 400, json!("The body is empty")),
    ];
    assert_cases(&service, cases);
    service.get("/api/errors").expect(200).has(json!({ "total": 8 }));
}

#[test]
fn a_quarter_of_a_megabyte_is_the_default() {
    let service = Setup::error_tracker().start();
    assert_cases(
        &service,
        [
            ("256 KiB", post_report_bytes(report_of(262_144)), 201, Value::Null),
            ("one byte more", post_report_bytes(report_of(262_145)), 413, json!("at most 262144 bytes")),
        ],
    );
}

#[test]
fn what_is_announced_too_large_is_refused_before_it_is_sent() {
    let service = Setup::error_tracker().start();
    for length in ["262145", "10000000000000", "99999999999999999999999999"] {
        let mut client = service.connect();
        client.write(&post_report_bytes("").header("Content-Length", length).bytes());
        client.read_response().expect(413).has_detail("at most 262144 bytes");
        assert!(client.closes_without_data());
    }
}

#[test]
fn a_body_shorter_than_announced_is_no_report() {
    let service = Setup::error_tracker().start();
    let mut client = service.connect();
    let whole = post_report_bytes(report_of(500)).bytes();
    client.write(&whole[..whole.len() - 1]);
    client.socket().shutdown(std::net::Shutdown::Write).unwrap();
    assert!(client.try_read_response().is_none());
    service.get("/api/errors").expect(200).has(json!({ "total": 0 }));
}
