//! Request bodies: size limits, chunked transfer and content codings.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use serde_json::{Value, json};

use super::{Case, assert_cases, post_report_bytes, unique_report};
use crate::support::harness::{Request, Setup};

const LIMIT: usize = 2_000;

/// Returns a report of exactly `bytes` bytes.
fn report_of_size(bytes: usize) -> Vec<u8> {
    let mut body = unique_report().to_string().into_bytes();
    body.resize(bytes, b' ');
    body
}

/// Returns a report request with a chunked body, in chunks of 700 bytes.
fn chunked(body: &[u8]) -> Request {
    let mut encoded = Vec::new();
    for chunk in body.chunks(700) {
        write!(encoded, "{:x};extension=1\r\n", chunk.len()).unwrap();
        encoded.extend_from_slice(chunk);
        encoded.extend_from_slice(b"\r\n");
    }
    encoded.extend_from_slice(b"0\r\nTrailer: dropped\r\n\r\n");
    post_report_bytes(encoded).without_header("Content-Length").header("Transfer-Encoding", "chunked")
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
fn body_limit_counts_decoded_bytes() {
    let service = Setup::error_tracker().env("MAX_BODY_SIZE", LIMIT).start();
    let (largest, too_long) = (|| report_of_size(LIMIT), report_of_size(LIMIT + 1));
    let too_large = json!("The body exceeds 2000 bytes");
    let cases: [Case; 19] = [
        ("at the limit", post_report_bytes(largest()), 201, Value::Null),
        ("in chunks", chunked(&largest()), 201, Value::Null),
        ("gzip", coded("gzip", gzip(&largest())), 201, Value::Null),
        ("GZIP", coded("GZIP", gzip(&largest())), 201, Value::Null),
        ("gzip in chunks", chunked(&gzip(&largest())).header("Content-Encoding", "gzip"), 201, Value::Null),
        ("deflate", coded("deflate", zlib(&largest())), 201, Value::Null),
        ("raw deflate, as some clients send it", coded("deflate", raw_deflate(&largest())), 201, Value::Null),
        ("identity", coded("identity", largest()), 201, Value::Null),
        ("one byte over the limit", post_report_bytes(too_long.clone()), 413, too_large.clone()),
        ("one over in chunks", chunked(&too_long), 413, too_large.clone()),
        ("one over in gzip", coded("gzip", gzip(&too_long)), 413, too_large.clone()),
        ("one over in deflate", coded("deflate", zlib(&too_long)), 413, too_large.clone()),
        ("decompression bomb", coded("gzip", gzip(&vec![b' '; 10_000_000])[..LIMIT].to_vec()), 413, too_large),
        ("not gzip", coded("gzip", largest()), 400, json!("The body is not valid gzip")),
        ("truncated gzip", coded("gzip", gzip(&largest())[..60].to_vec()), 400, json!("The body is not valid gzip")),
        ("not deflate", coded("deflate", vec![0x78, 1, 2, 3]), 400, json!("The body is not valid deflate")),
        ("brotli", coded("br", largest()), 415, json!("Content-Encoding must be gzip, deflate or identity")),
        ("twice", coded("gzip, gzip", gzip(&gzip(&largest()))), 415, json!("Content-Encoding must be gzip")),
        ("empty gzip", coded("gzip", gzip(b"")), 400, json!("The body is empty")),
    ];
    assert_cases(&service, cases);
    service.get("/api/errors").expect(200).has(json!({ "total": 8 }));
}

#[test]
fn default_body_limit_is_256_kib() {
    let service = Setup::error_tracker().start();
    assert_cases(
        &service,
        [
            ("256 KiB", post_report_bytes(report_of_size(262_144)), 201, Value::Null),
            ("one byte over the limit", post_report_bytes(report_of_size(262_145)), 413, json!("exceeds 262144 bytes")),
        ],
    );
}

#[test]
fn too_large_content_length_is_rejected_before_the_body() {
    let service = Setup::error_tracker().start();
    for length in ["262145", "10000000000000", "99999999999999999999999999"] {
        let mut client = service.connect();
        client.write(&post_report_bytes("").header("Content-Length", length).bytes());
        client.read_response().expect(413).has_detail("exceeds 262144 bytes");
        assert!(client.closes_without_data());
    }
}

#[test]
fn truncated_body_is_not_stored() {
    let service = Setup::error_tracker().start();
    let mut client = service.connect();
    let bytes = post_report_bytes(report_of_size(500)).bytes();
    client.write(&bytes[..bytes.len() - 1]);
    client.socket().shutdown(std::net::Shutdown::Write).unwrap();
    assert!(client.try_read_response().is_none());
    service.get("/api/errors").expect(200).has(json!({ "total": 0 }));
}
