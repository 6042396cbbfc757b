//! Rate limits of the browser relay: per visitor, per project and for invalid keys.

use serde_json::json;

use super::relay::{ERRORS, RelayEnv, browser_error};
use crate::support::harness::{PUBLIC_KEY, Request, Service, Setup};

fn send_from(relay: &Service, address: [u8; 4], request: &Request) -> u16 {
    relay.connect_from(address).unwrap().send(request).status
}

fn fixture(configure: impl FnOnce(Setup) -> Setup) -> (RelayEnv, Request) {
    (RelayEnv::start(configure), Request::from_browser(ERRORS, &browser_error("e")))
}

#[test]
fn rate_limit_applies_per_visitor_and_project() {
    let (env, report) = fixture(|setup| setup.env("RATE_LIMIT", 3));
    let relay = &env.relay;
    let statuses: Vec<u16> = (0..5).map(|_| send_from(relay, [127, 0, 0, 1], &report)).collect();
    assert_eq!(statuses, [201, 200, 200, 429, 429]);
    assert_eq!(send_from(relay, [127, 0, 0, 2], &report), 200, "another visitor");
    let other = relay.post("/api/dsn-keys", &json!({ "project": "blog" })).expect(201).json();
    let other = report.clone().header("X-Monlight-Key", other["public_key"].as_str().unwrap());
    assert_eq!(send_from(relay, [127, 0, 0, 1], &other), 201, "another project");
    let response = relay.send(&report);
    let wait: u64 = response.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=120).contains(&wait), "{wait}");
    response.expect(429).has_detail("Too many requests");
    let metrics = relay.connect_from([127, 0, 0, 3]).unwrap().send(&Request::get("/metrics")).expect(200).text();
    assert!(metrics.contains("project=\"shop\"} 3"), "{metrics}");
}

#[test]
fn rejected_requests_do_not_count_toward_the_project_limit() {
    let (env, report) = fixture(|setup| setup.env("RATE_LIMIT", 2).env("KEY_RATE_LIMIT", 5));
    let relay = &env.relay;
    for _ in 0..20 {
        send_from(relay, [127, 0, 0, 1], &report);
    }
    let statuses: Vec<u16> = (2..6).map(|host| send_from(relay, [127, 0, 0, host], &report)).collect();
    assert_eq!(statuses, [200, 200, 200, 429], "two reports of the first visitor and three of others are accepted");
}

#[test]
fn invalid_keys_do_not_count_toward_other_limits() {
    let (env, report) = fixture(|setup| setup.env("RATE_LIMIT", 3).env("KEY_RATE_LIMIT", 5));
    let relay = &env.relay;
    let invalid = report.clone().header("X-Monlight-Key", "ffffffffffffffffffffffffffffffff");
    let statuses: Vec<u16> = (0..5).map(|_| send_from(relay, [127, 0, 0, 1], &invalid)).collect();
    assert_eq!(statuses, [401, 401, 401, 429, 429]);
    for host in 10..60 {
        assert_eq!(send_from(relay, [127, 0, 0, host], &invalid), 401);
    }
    assert_eq!(send_from(relay, [127, 0, 0, 1], &report), 201, "a visitor with a valid key from the same address");
    relay.get("/health").expect(200).has(json!({ "rate_limited": 2 }));
}

#[test]
fn uploads_with_a_valid_key_do_not_count_for_their_address_and_guesses_of_keys_do() {
    let (env, _) = fixture(|setup| setup.env("RATE_LIMIT", 3).env("API_KEYS", "ci:read:read-key"));
    let relay = &env.relay;
    let upload = |index: usize| {
        let map = r#"{"version":3,"sources":["a.js"],"mappings":"AAAA"}"#;
        let file_url = format!("/assets/chunk-{index}.js");
        let body = json!({ "project": "shop", "release": "1", "file_url": file_url, "map_content": map });
        Request::post("/api/source-maps", &body)
    };
    let mut client = relay.connect();
    let statuses: Vec<u16> = (0..12).map(|index| client.send(&upload(index)).status).collect();
    assert_eq!(statuses, [201; 12]);
    for _ in 0..3 {
        client.send(&Request::get("/api/source-maps")).expect(200).has(json!({ "total": 12 }));
    }
    client.send(&Request::get("/api/source-maps")).expect(429);

    for (address, key, rejection) in [([127, 0, 0, 2], "guess", 401), ([127, 0, 0, 3], "read-key", 403)] {
        let guess = upload(0).header("X-API-Key", key);
        let statuses: Vec<u16> = (0..4).map(|_| send_from(relay, address, &guess)).collect();
        assert_eq!(statuses, [rejection, rejection, rejection, 429], "{key}");
        assert_eq!(send_from(relay, address, &upload(0)), 429, "a client over its limit learns nothing about a key");
    }
}

#[test]
fn rate_limits_use_the_visitor_address_behind_a_proxy() {
    let (tracker, collector) = (
        Setup::error_tracker().env("RATE_LIMIT", 2).env("TRUSTED_PROXIES", "127.0.0.1").start(),
        Setup::metrics_collector().start(),
    );
    let relay = Setup::browser_relay(tracker.address, collector.address).env("TRUSTED_PROXIES", "127.0.0.1").start();
    let report = |client: &str| {
        Request::from_browser(ERRORS, &browser_error("e"))
            .header("X-Forwarded-For", client)
            .header("X-Monlight-Key", PUBLIC_KEY)
    };
    relay.send(&report("198.51.100.1")).expect(201);
    relay.send(&report("198.51.100.1")).expect(200);
    // The tracker also limits this visitor, but not others.
    relay.send(&report("198.51.100.1")).expect(202).has(json!({ "status": "queued" }));
    relay.send(&report("198.51.100.2")).expect(200);
}
