//! The client against servers and proxies that behave in every way they may.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::test_server::{dripping, http, read_request, serve};
use super::*;
use crate::env::Env;

const SETTINGS: ClientSettings = ClientSettings {
    connect_timeout: Duration::from_millis(500),
    exchange_timeout: Duration::from_millis(1_500),
    idle_connections_max: 0,
    response_bytes_max: 64,
};

/// Creates a client for `url` in an environment of `pairs`.
fn client(url: &str, pairs: &[(&str, &str)], settings: ClientSettings) -> HttpClient {
    let variables = OutboundSettings::variables(ProxyPolicy::Environment);
    let lookup = |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
    let mut env = Env::new(&variables, lookup);
    let outbound = OutboundSettings::from_env(&mut env, ProxyPolicy::Environment, None);
    let client = outbound.client(&mut env, Endpoint::parse(url).unwrap(), settings);
    assert_eq!(env.finish(), Ok(()));
    client
}

fn direct(address: SocketAddr) -> HttpClient {
    client(&format!("http://{address}/in?token=t0ken"), &[], SETTINGS)
}

#[test]
fn statuses_decide_whether_to_retry() {
    let retry = |after: Option<u64>, reason: &str| Delivery::Retry {
        after: after.map(Duration::from_secs),
        reason: reason.to_owned(),
    };
    for (response, expected) in [
        ("204 No Content\r\n\r\n", Delivery::Accepted),
        ("503 Busy\r\nRetry-After: 7\r\n\r\n", retry(Some(7), "HTTP 503")),
        ("429 Slow\r\nRetry-After: Fri, 31 Dec 1999 23:59:59 GMT\r\n\r\nlater", retry(None, "HTTP 429: later")),
        ("408 Late\r\n\r\n", retry(None, "HTTP 408")),
        ("401 No\r\n\r\nno t0ken\r\nforged line", retry(None, "HTTP 401: no *** forged line")),
        ("404 No\r\n\r\n", retry(None, "HTTP 404")),
        ("411 Length\r\n\r\n", retry(None, "HTTP 411")),
        ("302 Found\r\nLocation: /in\r\n\r\nmoved", retry(None, "HTTP 302: redirects are not followed")),
        ("400 No\r\n\r\nline 1", Delivery::rejected("HTTP 400: line 1")),
        ("413 Large\r\n\r\n", Delivery::rejected("HTTP 413")),
        ("422 No\r\n\r\n", Delivery::rejected("HTTP 422")),
    ] {
        let (address, requests) = http(Vec::leak(vec![response]));
        let response = direct(address).post(&[("X-Kind", "a")], b"body").unwrap();
        assert_eq!(Delivery::from_response(&response), expected);
        let request = requests.recv().unwrap().to_ascii_lowercase();
        assert!(request.starts_with("post /in?token=t0ken http/1.1\r\n") && request.ends_with("\r\n\r\nbody"));
        assert!(request.contains(&format!("\r\nuser-agent: monlight/{}\r\n", env!("CARGO_PKG_VERSION"))), "{request}");
        assert!(request.contains("\r\nx-kind: a\r\n"), "{request}");
        assert!(requests.try_recv().is_err(), "one request only");
    }
}

#[test]
fn long_and_broken_bodies_are_incomplete() {
    for (sent, announced, complete) in [(64, 64, true), (65, 65, false), (5, 10, false)] {
        let address = serve(move |_, mut stream| {
            use std::io::Write as _;
            read_request(&stream);
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {announced}\r\n\r\n{}", "x".repeat(sent)).unwrap();
        });
        let response = direct(address).post(&[], b"").unwrap();
        assert_eq!((response.body.len(), response.is_complete), (sent.min(64), complete), "{sent} of {announced}");
    }
}

#[test]
fn a_response_during_the_upload_is_read_although_the_upload_fails() {
    use std::io::{Read as _, Write as _};
    let address = serve(|_, mut stream| {
        let _ = stream.read(&mut [0; 1_000]).unwrap();
        stream.write_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\n\r\nbig!").unwrap();
        // Closing a socket with unread input resets the connection.
    });
    let body = vec![b'x'; 64 * 1024 * 1024];
    let response = direct(address).post(&[], &body).unwrap();
    assert_eq!(Delivery::from_response(&response), Delivery::rejected("HTTP 413: big!"));
    let address = serve(|_, mut stream| {
        let _ = stream.read(&mut [0; 1_000]).unwrap();
    });
    let error = direct(address).post(&[], &body).unwrap_err();
    let is_named = error.reason.contains("reset") || error.reason.contains("Broken pipe");
    assert!(is_named, "{error:?}");
}

#[test]
fn slow_responses_end_with_the_timeout() {
    let settings = ClientSettings { exchange_timeout: Duration::from_millis(300), ..SETTINGS };
    let url = format!("http://{}/", dripping("HTTP/1.1 200 OK\r\nX: "));
    let start = Instant::now();
    let error = client(&url, &[], settings).post(&[], b"{}").unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert!(error.reason.starts_with("127.0.0.1: timed out ("), "{error:?}");
}

#[test]
fn failed_connections_name_the_host() {
    let error = direct(SocketAddr::from(([127, 0, 0, 1], 1))).post(&[], b"").unwrap_err();
    assert!(error.reason.starts_with("127.0.0.1: Connection refused"), "{error:?}");
    let address = serve(|_, mut stream| {
        use std::io::Write as _;
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    });
    let url = format!("https://127.0.0.1:{}/", address.port());
    let error = client(&url, &[], SETTINGS).post(&[], b"").unwrap_err();
    assert!(error.reason.starts_with("127.0.0.1: TLS failed: "), "{error:?}");
}

#[test]
fn idle_connections_are_reused() {
    use std::io::Write as _;
    for (idle_connections_max, connections) in [(1, 1), (0, 3)] {
        let (sender, accepted) = crossbeam_channel::unbounded();
        let address = serve(move |_, mut stream| {
            sender.send(()).unwrap();
            std::thread::spawn(move || {
                while !read_request(&stream).is_empty() {
                    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").unwrap();
                }
            });
        });
        let settings = ClientSettings { idle_connections_max, ..SETTINGS };
        let client = client(&format!("http://{address}/"), &[], settings);
        for _ in 0..3 {
            assert!(client.post(&[], b"").unwrap().is_success());
        }
        assert_eq!(accepted.len(), connections);
    }
}

#[test]
fn plain_requests_reach_a_proxy_in_absolute_form() {
    let (proxy, requests) = http(&["200 OK\r\n\r\n"]);
    let url = "http://user:pass@store.example:8428/write?a=b";
    let with_user = format!("http://me:p%40ss@{proxy}/");
    for (proxy, credentials) in [(&proxy.to_string(), None), (&with_user, Some("basic bwu6cebzcw=="))] {
        let settings = ClientSettings { idle_connections_max: 1, ..SETTINGS };
        let client = client(url, &[("HTTP_PROXY", proxy)], settings);
        for _ in 0..2 {
            assert!(client.post(&[], b"body").unwrap().is_success());
            let request = requests.recv().unwrap();
            assert!(request.starts_with("POST http://store.example:8428/write?a=b HTTP/1.1\r\n"), "{request}");
            let request = request.to_ascii_lowercase();
            assert!(request.contains("\r\nhost: store.example:8428\r\n"), "{request}");
            assert!(request.contains("\r\nauthorization: basic dxnlcjpwyxnz\r\n"), "{request}");
            let sent = request.lines().find_map(|line| line.strip_prefix("proxy-authorization: "));
            assert_eq!(sent, credentials);
        }
    }
}

#[test]
fn secure_requests_are_tunneled_through_a_proxy() {
    let (proxy, requests) = http(&["403 Forbidden\r\n\r\nno t0ken"]);
    let proxy_url = format!("http://me:s3cret@{proxy}");
    let error = client("https://store.example/in", &[("HTTPS_PROXY", &proxy_url)], SETTINGS).post(&[], b"");
    let request = requests.recv().unwrap();
    assert!(request.starts_with("CONNECT store.example:443 HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("\r\nProxy-Authorization: Basic bWU6czNjcmV0\r\n"), "{request}");
    let error = error.unwrap_err();
    assert!(error.reason.starts_with(&format!("store.example via proxy {proxy}: ")), "{error:?}");
    assert!(error.reason.contains("403") && !error.reason.contains("s3cret"), "{error:?}");
}

#[test]
fn loopback_targets_bypass_the_proxy() {
    let (address, requests) = http(&["200 OK\r\n\r\n"]);
    let (proxy, proxied) = http(&["200 OK\r\n\r\n"]);
    let (host, proxy) = (format!("http://localhost:{}/", address.port()), format!("http://{proxy}"));
    for url in [host, format!("http://{address}/")] {
        assert!(client(&url, &[("ALL_PROXY", &proxy)], SETTINGS).post(&[], b"").unwrap().is_success());
        assert!(requests.recv().unwrap().starts_with("POST / HTTP/1.1\r\n"));
    }
    assert!(proxied.try_recv().is_err());
}

#[test]
fn direct_clients_ignore_the_environment() {
    let variables = OutboundSettings::variables(ProxyPolicy::Direct);
    assert_eq!(variables.iter().map(|variable| variable.name).collect::<Vec<_>>(), ["CA_FILE"]);
    // The lookup fails the test if it is asked for a proxy.
    let mut env = Env::new(&variables, |name| (name != "CA_FILE").then(|| panic!("{name} was read")));
    let outbound = OutboundSettings::from_env(&mut env, ProxyPolicy::Direct, None);
    let client = outbound.client(&mut env, Endpoint::parse("http://upstream.invalid/").unwrap(), SETTINGS);
    let error = client.post(&[], b"").unwrap_err();
    assert!(error.reason.starts_with("upstream.invalid: "), "{error:?}");
}

#[test]
fn an_unusable_proxy_is_a_settings_error() {
    let variables = OutboundSettings::variables(ProxyPolicy::Environment);
    let mut env =
        Env::new(&variables, |name| (name == "all_proxy").then(|| "socks5://me:s3cret@127.0.0.1:1080".to_owned()));
    let outbound = OutboundSettings::from_env(&mut env, ProxyPolicy::Environment, None);
    let _ = outbound.client(&mut env, Endpoint::parse("http://127.0.0.1/").unwrap(), SETTINGS);
    let _ = outbound.client(&mut env, Endpoint::parse("http://store.example/").unwrap(), SETTINGS);
    let errors = env.finish().unwrap_err();
    assert_eq!(errors.len(), 1);
    assert!(errors[0].starts_with("ALL_PROXY") && !errors[0].contains("s3cret"), "{errors:?}");
}
