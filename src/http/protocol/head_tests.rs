use proptest::prelude::*;

use super::*;

fn head(text: &str) -> Result<Head, ProtocolError> {
    let end = find_head_end(text.as_bytes(), 0)?.expect("the head is complete");
    Head::parse(&text.as_bytes()[..end])
}

fn framing(fields: &str) -> Result<Framing, u16> {
    let text = format!("POST / HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
    head(&text).and_then(|head| head.framing()).map_err(|fault| fault.status)
}

#[test]
fn head_ends_at_its_empty_line_and_not_before() {
    let text = b"GET / HTTP/1.1\r\nHost: x\r\n\r\nrest";
    for cut in 0..27 {
        assert_eq!(find_head_end(&text[..cut], 0), Ok(None), "{cut}");
    }
    assert_eq!(find_head_end(text, 26), Ok(Some(27)));
}

#[test]
fn bare_lf_and_other_protocols_are_rejected() {
    assert_eq!(find_head_end(b"GET / HTTP/1.1\nHost: x\n\n", 0).unwrap_err().status, 400);
    assert_eq!(find_head_end(b"\n", 0).unwrap_err().status, 400);
    assert_eq!(find_head_end(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 0).unwrap_err().status, 505);
    assert_eq!(head("GET / HTTP/2.0\r\nHost: x\r\n\r\n").unwrap_err().status, 505);
    assert_eq!(head("GET / SPDY/1\r\nHost: x\r\n\r\n").unwrap_err().status, 505);
}

#[test]
fn heads_over_16_kib_are_rejected() {
    let endless = vec![b'a'; HEAD_BYTES_MAX + 1];
    assert_eq!(find_head_end(&endless, 0).unwrap_err().status, 431);
    let many = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "A: b\r\n".repeat(HEADERS_MAX));
    assert_eq!(head(&many).unwrap_err().status, 431);
}

#[test]
fn coding_is_accepted_if_named_with_a_nonzero_weight() {
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
fn ambiguous_framing_is_rejected() {
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
fn host_is_required_exactly_once() {
    assert!(head("GET / HTTP/1.1\r\n\r\n").is_err());
    assert!(head("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").is_err());
    assert!(head("GET / HTTP/1.0\r\n\r\n").is_ok());
}

#[test]
fn keep_alive_depends_on_version_and_connection_header() {
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
fn later_minor_versions_are_served_as_1_1() {
    for version in ["1.2", "1.9"] {
        let text = format!("GET / HTTP/{version}\r\nHost: x\r\n\r\n");
        assert!(head(&text).unwrap().keep_alive(), "{version}");
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

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(Some(end)) = find_head_end(&bytes, 0)
            && let Ok(head) = Head::parse(&bytes[..end])
        {
            let _ = (head.framing(), head.segments(), head.query(), head.keep_alive(), head.expects_continue());
        }
    }

    #[test]
    fn arbitrary_heads_never_panic(line in "[A-Z]{1,8} [ -~]{1,40} HTTP/1\\.[01]", fields in "([A-Za-z-]{1,20}:[ -~]{0,30}\r\n){0,6}") {
        let text = format!("{line}\r\nHost: x\r\n{fields}\r\n");
        if let Ok(Some(end)) = find_head_end(text.as_bytes(), 0)
            && let Ok(head) = Head::parse(&text.as_bytes()[..end])
        {
            let _ = (head.framing(), head.segments(), head.query(), head.keep_alive(), head.expects_continue());
        }
    }
}
