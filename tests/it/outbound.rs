//! Outbound connections of all services: forward proxies and private root certificates.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use serde_json::json;

use crate::support::harness::{Request, Service, Setup, report_at, wait_until};
use crate::support::python::Listener;
use crate::support::receiver::receive_request;

/// A domain that never resolves (RFC 6761), so that only a proxy can reach its hosts.
const STORE: &str = "store.example.invalid";
const TIMEOUT: Duration = Duration::from_secs(30);

/// Forward proxy that connects every target to one local server.
struct ForwardProxy {
    address: SocketAddr,
    /// The head of each request.
    heads: Receiver<String>,
}

impl ForwardProxy {
    fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, (sender, heads)) = (listener.local_addr().unwrap(), channel());
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let sender = sender.clone();
                std::thread::spawn(move || proxy_connection(client.unwrap(), server, &sender));
            }
        });
        Self { address, heads }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn next_head(&self) -> String {
        self.heads.recv_timeout(TIMEOUT).expect("a request reaches the proxy")
    }
}

/// Tunnels `CONNECT`, and forwards a request in absolute form in origin form.
fn proxy_connection(mut client: TcpStream, server: SocketAddr, heads: &Sender<String>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if client.read(&mut byte).unwrap_or(0) == 0 {
            return;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let mut upstream = TcpStream::connect(server).unwrap();
    if head.starts_with("CONNECT ") {
        client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").unwrap();
    } else {
        let (method, rest) = head.split_once(" http://").expect("the target is in absolute form");
        let path = &rest[rest.find('/').unwrap()..];
        upstream.write_all(format!("{method} {path}").as_bytes()).unwrap();
    }
    let _ = heads.send(head);
    let (mut from_client, mut to_upstream) = (client.try_clone().unwrap(), upstream.try_clone().unwrap());
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from_client, &mut to_upstream);
    });
    let _ = std::io::copy(&mut upstream, &mut client);
    let _ = client.shutdown(std::net::Shutdown::Both);
}

#[track_caller]
fn wait_for_stat(service: &Service, name: &str) {
    assert!(wait_until(|| (service.health_number(name) > 0).then_some(())).is_some(), "{:#?}", service.log());
}

fn post_point(collector: &Service) {
    let points = json!([{ "name": "sales", "type": "counter", "value": 1 }]);
    collector.post("/api/metrics", &points).expect(202);
}

#[test]
fn exports_reach_http_stores_through_the_proxy() {
    let store = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = ForwardProxy::start(store.local_addr().unwrap());
    let tracker = Setup::error_tracker()
        .env("EXPORT_URL", format!("http://{STORE}:9428/insert?a=b"))
        .env("EXPORT_HEADERS", "Cookie: a=1; b=2\nAuthorization: Bearer s3cret")
        .env("http_proxy", format!("http://me:pr0xy@{}", proxy.address))
        .start();
    tracker.post("/api/errors", &report_at("boom", 1)).expect(201);
    let (head, _) = receive_request(store.accept().unwrap().0, "204 No Content");
    let proxied = proxy.next_head();
    assert!(proxied.starts_with(&format!("POST http://{STORE}:9428/insert?a=b HTTP/1.1\r\n")), "{proxied}");
    assert!(proxied.contains("\r\nProxy-Authorization: Basic bWU6cHIweHk=\r\n"), "{proxied}");
    for line in [&format!("host: {STORE}:9428"), "cookie: a=1; b=2", "authorization: bearer s3cret"] {
        assert!(head.to_lowercase().lines().any(|found| found == line), "{line} in {head}");
    }
    wait_for_stat(&tracker, "export_sent");
    let log = tracker.log().concat();
    assert!(!log.contains("s3cret") && !log.contains("pr0xy"), "{log}");
}

#[test]
fn remote_write_reaches_http_stores_through_the_proxy() {
    let store = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = ForwardProxy::start(store.local_addr().unwrap());
    let collector = Setup::metrics_collector()
        .env("REMOTE_WRITE_URL", format!("http://{STORE}/write"))
        .env("ALL_PROXY", proxy.address)
        .start();
    post_point(&collector);
    receive_request(store.accept().unwrap().0, "204 No Content");
    assert!(proxy.next_head().starts_with(&format!("POST http://{STORE}/write HTTP/1.1\r\n")));
    wait_for_stat(&collector, "remote_write_sent");
}

#[test]
fn alerts_are_tunneled_through_the_proxy_to_a_server_with_a_private_certificate() {
    let Some(hook) = Listener::start("https_listener.py", &["--identity", STORE]) else { return };
    let proxy = ForwardProxy::start(SocketAddr::from(([127, 0, 0, 1], hook.port.parse().unwrap())));
    let tracker = Setup::error_tracker()
        .env("ALERT_WEBHOOK_URL", format!("https://{STORE}/hook"))
        .env("CA_FILE", &hook.ca_file)
        .env("HTTPS_PROXY", proxy.url())
        .env("HTTP_PROXY", "http://127.0.0.1:1")
        .start();
    tracker.send(&Request::new("POST", "/api/test-alert")).expect(202);
    let post = hook.next_event();
    assert_eq!((post["path"].as_str(), post["body"]["event"].as_str()), (Some("/hook"), Some("test")));
    assert!(proxy.next_head().starts_with(&format!("CONNECT {STORE}:443 HTTP/1.1\r\n")));
}

#[test]
fn loopback_targets_and_exceptions_bypass_the_proxy() {
    let store = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = ForwardProxy::start(store.local_addr().unwrap());
    let tracker = |url: String| {
        let tracker = Setup::error_tracker()
            .env("EXPORT_URL", url)
            .env("HTTP_PROXY", proxy.url())
            .env("ALL_PROXY", proxy.url())
            .env("NO_PROXY", "10.0.0.0/8,.example.invalid")
            .start();
        tracker.post("/api/errors", &report_at("boom", 1)).expect(201);
        tracker
    };
    let to_loopback = tracker(format!("http://{}/", store.local_addr().unwrap()));
    receive_request(store.accept().unwrap().0, "204 No Content");
    wait_for_stat(&to_loopback, "export_sent");
    let to_exception = tracker(format!("http://{STORE}/"));
    to_exception.wait_for_log("export failed, will retry: store.example.invalid: ").expect("the host does not resolve");
    assert!(proxy.heads.try_recv().is_err(), "no request reaches the proxy");
}

#[test]
fn the_relay_never_uses_a_proxy() {
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = ForwardProxy::start(upstream.local_addr().unwrap());
    let unused = upstream.local_addr().unwrap();
    let relay = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"]
        .iter()
        .fold(Setup::browser_relay(unused, unused), |setup, name| setup.env(name, proxy.url()))
        .env("ERROR_TRACKER_URL", format!("http://{STORE}:5010"))
        .start();
    relay.send(&browser_error()).expect(202).has(json!({ "status": "queued" }));
    let line = relay.wait_for_log("outbox: delivery to the error tracker failed, will retry: ").expect("a log line");
    assert!(line.contains(&format!("will retry: {STORE}: ")), "{line}");
    assert!(proxy.heads.try_recv().is_err(), "no request reaches the proxy");
}

fn browser_error() -> Request {
    let body = json!({ "type": "E", "message": "e", "stack": "E: e\n    at f (https://shop.example/app.js:1:1)" });
    Request::from_browser("/api/browser/errors", &body)
}

#[test]
fn private_certificates_are_trusted_by_every_service() {
    let Some(server) = Listener::start("https_listener.py", &[]) else { return };
    let Some(older) = Listener::start("https_listener.py", &[]) else { return };
    let url = |listener: &Listener, path: &str| format!("https://127.0.0.1:{}{path}", listener.port);
    // Both files are trusted for all connections of the tracker.
    let tracker = Setup::error_tracker()
        .env("CA_FILE", &server.ca_file)
        .env("ALERT_CA_FILE", &older.ca_file)
        .env("EXPORT_URL", url(&older, "/export"))
        .env("ALERT_WEBHOOK_URL", url(&server, "/hook"))
        .start();
    tracker.post("/api/errors", &report_at("boom", 1)).expect(201);
    assert_eq!(older.next_event()["path"], "/export");
    assert_eq!(server.next_event()["path"], "/hook");
    let collector = Setup::metrics_collector()
        .env("CA_FILE", &server.ca_file)
        .env("REMOTE_WRITE_URL", url(&server, "/write"))
        .start();
    post_point(&collector);
    assert_eq!(server.next_event()["path"], "/write");
    let behind = tracker.address;
    let relay = Setup::browser_relay(behind, behind)
        .env("CA_FILE", &server.ca_file)
        .env("ERROR_TRACKER_URL", url(&server, ""))
        .start();
    relay.send(&browser_error()).expect(204);
    assert_eq!(server.next_event()["path"], "/api/errors");
    let distrusting = Setup::browser_relay(behind, behind).env("ERROR_TRACKER_URL", url(&server, "")).start();
    distrusting.send(&browser_error()).expect(202);
    let line = distrusting.wait_for_log("delivery to the error tracker failed, will retry: ").expect("a log line");
    assert!(line.contains("127.0.0.1: TLS failed: ") && line.contains("CA_FILE"), "{line}");
    assert!(server.stop_and_drain().is_empty());
}
