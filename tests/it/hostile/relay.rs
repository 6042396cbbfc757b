//! Attacks on the browser relay, the only public service: invalid keys, malicious reports and source maps, and
//! misbehaving upstreams.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::harness::{PUBLIC_KEY, Request, Service, Setup, wait_until};
use crate::support::receiver::HttpReceiver;

use super::attack::{Attack, attacker_address, connect_many, metric_value, write_until_closed};

const ERRORS: &str = "/api/browser/errors";
const METRICS: &str = "/api/browser/metrics";
const MAPS: &str = "/api/source-maps";

fn upload(file_url: &str, map: &str) -> Request {
    let body = json!({ "project": "shop", "release": "1.0", "file_url": file_url, "map_content": map });
    Request::post(MAPS, &body)
}

fn map(mappings: &str) -> String {
    json!({ "version": 3, "sources": ["a.js"], "names": [], "mappings": mappings }).to_string()
}

/// Returns a realistic source map of about 5 MB: increasing columns and sources with content.
fn large_map() -> String {
    let line = "AAAA,CAAC,GAAG,CAAC,CAAC,IAAIA,CAAC;".repeat(100);
    let content = "function add(item) {\n  return items.push(item);\n}\n".repeat(600);
    let sources: Vec<String> = (0..100).map(|n| format!("src/part{n}.js")).collect();
    let contents = vec![content; sources.len()];
    let map = json!({
        "version": 3, "sources": sources, "names": ["add"], "mappings": line.repeat(480), "sourcesContent": contents,
    });
    let map = map.to_string();
    assert!((4_500_000..5_242_880).contains(&map.len()), "{}", map.len());
    map
}

/// Returns the sorted file names in the data folder of a service.
fn data_files(service: &Service) -> Vec<String> {
    let entries = std::fs::read_dir(service.data_dir.path()).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn unauthorized_requests_cause_no_database_writes() {
    /// Maximum commits of background jobs, such as retention, in the time of the attack.
    const BACKGROUND_COMMITS_MAX: u64 = 8;
    // On a busy machine, the relay stores an honest report that its upstream accepts too late.
    let attack =
        Attack::start_on_relay(|setup| setup.env("RATE_LIMIT", 1_000_000).env("CORS_ORIGINS", "https://shop.example"))
            .without_honest_client();
    attack.assert_survives(|relay| {
        wait_until(|| (relay.get("/health").expect(200).json()["outbox_waiting"] == 0).then_some(()))
            .expect("the large reports of the previous attempt are delivered");
        let commits = metric_value(relay, "monlight_commits_total");
        let requests = [
            Request::new("POST", ERRORS),
            Request::from_browser(ERRORS, &json!({ "message": "m" })).header("X-Monlight-Key", "' OR '1'='1"),
            Request::from_browser(ERRORS, &json!({ "message": "m" })).header("X-Monlight-Key", &"a".repeat(8_000)),
            Request::new("POST", &format!("{ERRORS}?key={}", "%00".repeat(32))),
            Request::new("POST", &format!("{ERRORS}?key={PUBLIC_KEY}x&key={PUBLIC_KEY}")),
            Request::new("OPTIONS", ERRORS).header("Origin", "https://evil.example"),
            Request::new("OPTIONS", "/api/browser/../dsn-keys").without_header("X-API-Key"),
            Request::from_browser(ERRORS, &json!({ "message": "m" })).header("Origin", "null"),
            Request::from_browser(ERRORS, &json!({ "message": "m" })).header("Origin", "https://shop.example.evil"),
            Request::from_browser(MAPS, &json!({})).header("Authorization", &format!("Bearer {PUBLIC_KEY}")),
        ];
        for mut client in connect_many(relay, 32, 32) {
            for request in requests.iter().cycle().take(60) {
                let response = client.send(&request.clone().without_header("X-API-Key"));
                assert!([204, 401, 403, 404].contains(&response.status), "{response:?}");
                if response.header("connection") == Some("close") {
                    break;
                }
            }
        }
        // Each request would be a commit of its own, because its client waits for the response.
        let commits = metric_value(relay, "monlight_commits_total") - commits;
        assert!(commits <= BACKGROUND_COMMITS_MAX, "{commits} commits");
    });
}

#[test]
fn header_injection_into_responses_is_impossible() {
    let attack = Attack::start_on_relay(|setup| setup.env("CORS_ORIGINS", "*"));
    attack.assert_survives(|relay| {
        for value in ["a\tb", "https://a\u{7f}b", "\"><script>", "https://a,https://b", "\u{e4}", &"o".repeat(8_000)] {
            for request in [
                Request::new("OPTIONS", ERRORS).header("Origin", value),
                Request::from_browser(ERRORS, &json!({})).header("Origin", value),
                Request::from_browser(ERRORS, &json!({ "message": "m" })).header("Idempotency-Key", value),
            ] {
                let mut client = relay.connect_from(attacker_address(0)).unwrap();
                client.write(&request.bytes());
                if let Some(response) = client.try_read_response() {
                    let allowed = response.header("access-control-allow-origin").unwrap_or_default();
                    assert!(allowed.is_empty() || allowed == "-" || allowed == value, "{allowed:?} for {value:?}");
                    assert!(response.headers.len() <= 12 && response.status < 500, "{response:?}");
                }
            }
        }
        for header in ["Origin: a\rSet-Cookie: b", "Origin: a\nSet-Cookie: b", "Origin: a\0b"] {
            let head = format!("POST {ERRORS} HTTP/1.1\r\nHost: x\r\n{header}\r\nContent-Length: 0\r\n\r\n");
            let mut client = relay.connect_from(attacker_address(0)).unwrap();
            client.write(head.as_bytes());
            assert!(
                client.try_read_response().is_none_or(|response| response.header("set-cookie").is_none()),
                "{header:?}"
            );
        }
    });
}

#[test]
fn urls_in_reports_and_source_maps_are_never_fetched() {
    let target = HttpReceiver::start(&[]);
    let url = format!("{}/app.js", target.url());
    let attack = Attack::start_on_relay(|setup| setup);
    attack.assert_survives(|relay| {
        let map = json!({ "version": 3, "sources": [url], "sourceRoot": url, "names": [], "mappings": "AAAA", "sourceMappingURL": url });
        let id = relay.send(&upload(&url, &map.to_string())).expect(201).id();
        let indexed =
            json!({ "version": 3, "sections": [{ "offset": { "line": 0, "column": 0 }, "url": url }] }).to_string();
        relay.send(&upload("/indexed.js", &indexed)).expect(400);
        let stack = format!("E: e\n    at f ({url}:1:1)\n//# sourceMappingURL={url}.map");
        let context = json!({ "url": url, "referrer": url });
        let body = json!({ "type": "E", "message": url, "stack": stack, "release": "1.0", "url": url, "context": context });
        relay.send(&Request::from_browser(ERRORS, &body)).expect(201);
        relay.send(&Request::new("DELETE", &format!("{MAPS}/{id}"))).expect(200);
    });
    assert_eq!(target.requests(), []);
}

#[test]
fn file_url_is_never_used_as_a_path() {
    let attack = Attack::start_on_relay(|setup| setup);
    attack.assert_survives(|relay| {
        let before = data_files(relay);
        for file_url in [
            "../../../../etc/passwd",
            "/etc/passwd",
            "file:///etc/passwd",
            "..\\..\\x",
            "%2e%2e%2fx",
            "'; DROP TABLE source_maps; --",
            "https://shop.example/../../app.js",
            "~/.ssh/id_rsa",
            &"/a".repeat(1_000),
        ] {
            let id = relay.send(&upload(file_url, &map("AAAA"))).expect(201).has(json!({ "file_url": file_url })).id();
            relay.send(&Request::new("DELETE", &format!("{MAPS}/{id}"))).expect(200);
        }
        relay.send(&upload("a\0b", &map("AAAA"))).expect(400);
        relay.send(&Request::new("DELETE", &format!("{MAPS}/..%2f..%2fx"))).expect(404);
        assert_eq!(data_files(relay), before);
    });
}

#[test]
fn invalid_source_maps_are_rejected_within_time_and_memory_limits() {
    let attack = Attack::start_on_relay(|setup| setup);
    let nested_sections = |depth: usize| {
        let open = r#"{"version":3,"sections":[{"offset":{"line":0,"column":0},"map":"#;
        format!("{}{}{}", open.repeat(depth), map("AAAA"), "}]}".repeat(depth))
    };
    let five_mebibytes = |text: &str| text.repeat((5 << 20) / text.len());
    let cases: Vec<(&str, String, &[u16])> = vec![
        ("sections 1,000 deep", nested_sections(1_000), &[400]),
        ("sections 20,000 deep", nested_sections(20_000), &[400]),
        ("arrays 1,000,000 deep", "[".repeat(1_000_000), &[400]),
        ("unknown member 1,000,000 deep", format!("{{\"x\":{}", "[".repeat(1_000_000)), &[400]),
        ("VLQ number that overflows", map(&"g".repeat(100)), &[400]),
        ("VLQ numbers whose sum overflows", map(&"+/////D,".repeat(10)), &[400]),
        ("one million numbers in one segment", map(&"A".repeat(1_000_000)), &[201]),
        ("nearly 5 MiB of ;", map(&";".repeat((5 << 20) - 200)), &[201]),
        ("nearly 5 MiB of ,", map(&",".repeat((5 << 20) - 200)), &[201, 400]),
        ("nearly 5 MiB of mappings", map(&"AAAA,".repeat((5 << 20) / 5 - 100)), &[201]),
        ("more than 5 MiB", map(&";".repeat(5 << 20)), &[413]),
        ("one million names", json!({ "version": 3, "sources": [], "names": vec!["a"; 1_000_000], "mappings": "" }).to_string(), &[201, 400]),
        ("one million sources", json!({ "version": 3, "sources": vec!["a"; 1_000_000], "names": [], "mappings": "" }).to_string(), &[400]),
        ("one line of 5 MiB", json!({ "version": 3, "sources": ["a"], "names": [], "mappings": "AAAA", "sourcesContent": ["{".repeat(5_000_000)] }).to_string(), &[201]),
        ("deeply nested classes", json!({ "version": 3, "sources": ["a"], "names": [], "mappings": "AAAA", "sourcesContent": [five_mebibytes("class A{a(){")[..5_000_000]] }).to_string(), &[201]),
    ];
    attack.assert_survives(|relay| {
        for (name, map, statuses) in &cases {
            let started = Instant::now();
            let response = relay.send(&upload("/app.js", map));
            assert!(statuses.contains(&response.status), "{name}: {response:?}");
            assert!(started.elapsed() < Duration::from_secs(10), "{name} takes {:?}", started.elapsed());
        }
        // A body with a too large Content-Length is not read.
        let head = Request::new("POST", MAPS).header("Content-Length", &(20 << 20).to_string()).bytes();
        let mut client = relay.connect_from(attacker_address(0)).unwrap();
        client.write(&head);
        assert_eq!(client.read_response().status, 413);
        // A chunked body is read up to the limit.
        let head = Request::new("POST", MAPS).header("Transfer-Encoding", "chunked").bytes();
        let mut client = relay.connect_from(attacker_address(0)).unwrap();
        client.write(&head);
        let chunk = format!("10000\r\n{}\r\n", "x".repeat(65_536));
        write_until_closed(&client, chunk.as_bytes(), 20 << 20);
        assert_eq!(client.try_read_response().map_or(413, |response| response.status), 413);
    });
    assert_eq!(data_files(&attack.service).iter().filter(|name| name.starts_with(".spool")).count(), 0);
}

#[test]
fn concurrent_large_uploads_are_converted_one_at_a_time() {
    let attack = Attack::start_on_relay(|setup| setup);
    let map = large_map();
    attack.assert_survives(|relay| {
        let statuses: Vec<u16> = std::thread::scope(|scope| {
            let uploads: Vec<_> = (0..8)
                .map(|n| {
                    let request = upload(&format!("/app{n}.js"), &map);
                    scope.spawn(move || relay.connect_from(attacker_address(n)).unwrap().send(&request).status)
                })
                .collect();
            uploads.into_iter().map(|upload| upload.join().unwrap()).collect()
        });
        assert!(statuses.iter().all(|status| [201, 503].contains(status)), "{statuses:?}");
        assert!(statuses.contains(&201), "{statuses:?}");
    });
}

#[test]
fn expensive_stack_traces_do_not_delay_others() {
    let attack = Attack::start_on_relay(|setup| setup);
    attack.service.send(&upload("/app.js", &large_map())).expect(201);
    let frame = |line: usize| format!("    at a{line} (https://shop.example/app.js:{line}:{})\n", line % 90 + 1);
    let report = |stack: String| {
        Request::from_browser(ERRORS, &json!({ "message": "m", "type": "E", "stack": stack, "release": "1.0" }))
    };
    let stacks = [
        (1..900).map(frame).collect::<String>(),
        "@".repeat(60_000),
        "    at ".repeat(8_000),
        ":1:1\n".repeat(8_000),
        format!("E: m\n    at {} (https://shop.example/app.js:1:1)", "f".repeat(50_000)),
        (1..900).map(|n| format!("    at f (https://shop.example/other{n}.js:1:1)\n")).collect(),
        "    at f (https://shop.example/app.js:4294967295:4294967295)\n".repeat(500),
        "    at f (https://shop.example/app.js:99999999999999999999:1)\n".repeat(500),
    ]
    .map(report);
    attack.assert_survives(|relay| {
        let mut clients = connect_many(relay, 16, 16);
        for _ in 0..3 {
            for request in &stacks {
                for client in &mut clients {
                    client.write(&request.bytes());
                }
                for client in &mut clients {
                    let response = client.read_response();
                    assert!((200..=202).contains(&response.status), "{response:?}");
                }
            }
        }
    });
}

#[test]
fn misbehaving_upstreams_do_not_bring_down_the_relay() {
    const RESPONSES: [&[u8]; 6] = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: a\r\n\r\n{",
        b"",
    ];
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = upstream.local_addr().unwrap();
    std::thread::spawn(move || {
        for (socket, response) in upstream.incoming().map_while(Result::ok).zip(RESPONSES.into_iter().cycle()) {
            std::thread::spawn(move || {
                let mut socket = socket;
                // Errors are ignored, because this is the misbehaving side.
                let _ = socket.read(&mut [0; 4_096]);
                let _ = socket.write_all(response);
                while response.starts_with(b"HTTP/1.1 200 OK\r\nContent-Length: 1000")
                    && socket.write_all(&[b'x'; 65_536]).is_ok()
                {}
            });
        }
    });
    let attack = Attack::start_with(Setup::browser_relay(address, address));
    let relay = &attack.service;
    let started = Instant::now();
    std::thread::scope(|scope| {
        for n in 0..32 {
            scope.spawn(move || {
                let path = if n % 2 == 0 { ERRORS } else { METRICS };
                let body: Value = json!({ "message": "m", "metrics": [{ "name": "n", "type": "gauge", "value": 1 }] });
                let response =
                    relay.connect_from(attacker_address(n)).unwrap().send(&Request::from_browser(path, &body));
                assert!(response.status == 202 && response.body.len() < 100_000, "{response:?}");
            });
        }
        for _ in 0..20 {
            relay.get("/health").expect(200);
        }
    });
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    let (_, peak_kib) = relay.memory_kib();
    assert!(peak_kib <= 20 * 1024, "{peak_kib} KiB resident");
}
