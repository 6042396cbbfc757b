use proptest::prelude::*;

use super::*;

fn head(text: &str) -> Result<Head, Fault> {
    let end = head_end(text.as_bytes(), 0)?.expect("the head is complete");
    Head::parse(&text.as_bytes()[..end])
}

fn framing(fields: &str) -> Result<Framing, u16> {
    let text = format!("POST / HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
    head(&text).and_then(|head| head.framing()).map_err(|fault| fault.status)
}

#[test]
fn a_head_ends_at_its_empty_line_and_not_before() {
    let text = b"GET / HTTP/1.1\r\nHost: x\r\n\r\nrest";
    for cut in 0..27 {
        assert_eq!(head_end(&text[..cut], 0), Ok(None), "{cut}");
    }
    assert_eq!(head_end(text, 26), Ok(Some(27)));
}

#[test]
fn lines_that_end_with_lf_alone_and_other_protocols_are_refused() {
    assert_eq!(head_end(b"GET / HTTP/1.1\nHost: x\n\n", 0).unwrap_err().status, 400);
    assert_eq!(head_end(b"\n", 0).unwrap_err().status, 400);
    assert_eq!(head_end(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 0).unwrap_err().status, 505);
    assert_eq!(head("GET / HTTP/2.0\r\nHost: x\r\n\r\n").unwrap_err().status, 505);
    assert_eq!(head("GET / SPDY/1\r\nHost: x\r\n\r\n").unwrap_err().status, 505);
}

#[test]
fn an_endless_head_is_refused_at_16_kib() {
    let endless = vec![b'a'; HEAD_BYTES_MAX + 1];
    assert_eq!(head_end(&endless, 0).unwrap_err().status, 431);
    let many = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "A: b\r\n".repeat(FIELDS_MAX));
    assert_eq!(head(&many).unwrap_err().status, 431);
}

#[test]
fn a_coding_is_accepted_when_it_is_named_and_not_weighed_nought() {
    for (field, expected) in [
        ("gzip", true),
        ("br, GZip;q=0.5", true),
        ("deflate;q=1 , gzip ; q=1.0", true),
        ("gzip;q=0", false),
        ("gzip; Q=0.000, br", false),
        ("identity, br", false),
        ("xgzip", false),
        ("", false),
    ] {
        let text = format!("GET / HTTP/1.1\r\nHost: x\r\nAccept-Encoding: {field}\r\n\r\n");
        assert_eq!(head(&text).unwrap().accepts("gzip"), expected, "{field}");
    }
    let twice = "GET / HTTP/1.1\r\nHost: x\r\nAccept-Encoding: br\r\nAccept-Encoding: gzip\r\n\r\n";
    assert!(head(twice).unwrap().accepts("gzip"));
}

#[test]
fn framing_refuses_whatever_two_parties_could_read_differently() {
    for (fields, expected) in [
        ("", Ok(Framing::None)),
        ("Content-Length: 0\r\n", Ok(Framing::Length(0))),
        ("content-length: 12\r\n", Ok(Framing::Length(12))),
        ("Content-Length: 10000000000000\r\n", Ok(Framing::Length(10_000_000_000_000))),
        ("Content-Length: 99999999999999999999999\r\n", Ok(Framing::Length(u64::MAX))),
        ("Transfer-Encoding: chunked\r\n", Ok(Framing::Chunked)),
        ("Transfer-Encoding: Chunked\r\n", Ok(Framing::Chunked)),
        ("Content-Length: 1\r\nContent-Length: 1\r\n", Err(400)),
        ("Content-Length: 1, 1\r\n", Err(400)),
        ("Content-Length: +1\r\n", Err(400)),
        ("Content-Length: -1\r\n", Err(400)),
        ("Content-Length: 0x10\r\n", Err(400)),
        ("Content-Length: abc\r\n", Err(400)),
        ("Content-Length:\r\n", Err(400)),
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", Err(400)),
        ("Transfer-Encoding: gzip, chunked\r\n", Err(400)),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", Err(400)),
        ("Transfer-Encoding: xchunked\r\n", Err(400)),
        ("Content-Length : 5\r\n", Err(400)),
        (" folded: 5\r\n", Err(400)),
    ] {
        assert_eq!(framing(fields), expected, "{fields:?}");
    }
    let old = head("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    assert_eq!(old.framing().unwrap_err().status, 400);
}

#[test]
fn host_is_needed_once() {
    assert!(head("GET / HTTP/1.1\r\n\r\n").is_err());
    assert!(head("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").is_err());
    assert!(head("GET / HTTP/1.0\r\n\r\n").is_ok());
}

#[test]
fn connections_are_kept_as_the_version_says() {
    for (text, kept) in [
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", false),
        ("GET / HTTP/1.1\r\nHost: x\r\nConnection: foo, Close\r\n\r\n", false),
        ("GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n\r\n", true),
        ("GET / HTTP/1.0\r\n\r\n", false),
        ("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true),
    ] {
        assert_eq!(head(text).unwrap().keep_alive(), kept, "{text:?}");
    }
}

#[test]
fn targets_are_split_and_decoded() {
    let request = head("GET /api/a%2Fb/%C3%BC?q=a+b%26c&x&y=1=2&z=%FF HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert_eq!(request.segments().unwrap(), ["api", "a/b", "ü"]);
    let pairs: Vec<_> = [("q", "a b&c"), ("x", ""), ("y", "1=2"), ("z", "\u{fffd}")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    assert_eq!(request.query(), pairs);
    assert_eq!(head("GET http://h/a?b HTTP/1.1\r\nHost: x\r\n\r\n").unwrap().path(), "/a");
    assert_eq!(head("GET /%FF HTTP/1.1\r\nHost: x\r\n\r\n").unwrap().segments(), None);
    for target in ["*", "a", "http://h", "http://h?/a", "http://h#/a", "ftp://h/a"] {
        assert!(head(&format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n")).is_err(), "{target}");
    }
}

fn decode(pieces: &[&[u8]]) -> Result<(Vec<u8>, bool), Fault> {
    let mut decoder = ChunkDecoder::default();
    let (mut input, mut body) = (Vec::new(), Vec::new());
    for piece in pieces {
        input.extend_from_slice(piece);
        let used = decoder.decode(&input, |data| {
            body.extend_from_slice(data);
            Ok::<(), Fault>(())
        })?;
        input.drain(..used);
    }
    Ok((body, decoder.done()))
}

#[test]
fn chunks_are_joined_however_they_arrive() {
    let text = b"5;ext=1\r\nhello\r\n1\r\n \r\n05\r\nworld\r\n0\r\nTrailer: x\r\n\r\n";
    let single: Vec<&[u8]> = text.chunks(1).collect();
    assert_eq!(decode(&single).unwrap(), (b"hello world".to_vec(), true));
    assert_eq!(decode(&[text]).unwrap(), (b"hello world".to_vec(), true));
}

#[test]
fn broken_chunks_are_refused() {
    for text in [
        "\r\n",
        "g\r\n",
        "-1\r\n",
        "5\nhello",
        "5\r\r\nhello",
        "5\x0c\r\nhello",
        "5;a\rb\r\nhello",
        "2\r\nabc\r\n",
        "FFFFFFFFFFFFFFFFF\r\n",
        "1 1\r\n",
        "0\r\nx\n\r\n",
        "0\r\nx\ry\r\n\r\n",
    ] {
        assert!(decode(&[text.as_bytes()]).is_err(), "{text:?}");
    }
    assert!(decode(&[&[b'1'; CHUNK_LINE_BYTES_MAX + 2]]).is_err());
    let trailers = format!("0\r\n{}", "a: b\r\n".repeat(TRAILER_BYTES_MAX));
    assert!(decode(&[trailers.as_bytes()]).is_err());
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(Some(end)) = head_end(&bytes, 0)
            && let Ok(head) = Head::parse(&bytes[..end])
        {
            let _ = (head.framing(), head.segments(), head.query(), head.keep_alive(), head.expects_continue());
        }
        let _ = decode(&[&bytes]);
    }

    #[test]
    fn no_head_panics(line in "[A-Z]{1,8} [ -~]{1,40} HTTP/1\\.[01]", fields in "([A-Za-z-]{1,20}:[ -~]{0,30}\r\n){0,6}") {
        let text = format!("{line}\r\nHost: x\r\n{fields}\r\n");
        if let Ok(Some(end)) = head_end(text.as_bytes(), 0)
            && let Ok(head) = Head::parse(&text.as_bytes()[..end])
        {
            let _ = (head.framing(), head.segments(), head.query(), head.keep_alive(), head.expects_continue());
        }
    }

    #[test]
    fn chunks_survive_any_split(body in proptest::collection::vec(any::<u8>(), 1..400), size in 1usize..50, cut in 1usize..30) {
        let mut text = Vec::new();
        for piece in body.chunks(size) {
            text.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
            text.extend_from_slice(piece);
            text.extend_from_slice(b"\r\n");
        }
        text.extend_from_slice(b"0\r\n\r\n");
        let pieces: Vec<&[u8]> = text.chunks(cut).collect();
        prop_assert_eq!(decode(&pieces).unwrap(), (body, true));
    }
}
