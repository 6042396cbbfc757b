//! How often strangers, visitors and a project's pages as a whole may ask, and that what is refused is told.

use serde_json::json;

use super::relay::{ERRORS, House, error};
use crate::harness::{PUBLIC_KEY, Request, Service, Setup};

fn from(relay: &Service, address: [u8; 4], request: &Request) -> u16 {
    relay.connect_from(address).unwrap().send(request).status
}

fn house(set: impl FnOnce(Setup) -> Setup) -> (House, Request) {
    (House::new(set), Request::from_browser(ERRORS, &error("e")))
}

#[test]
fn a_visitor_has_an_allowance_of_its_own() {
    let (house, report) = house(|setup| setup.env("RATE_LIMIT", 3));
    let relay = &house.relay;
    let statuses: Vec<u16> = (0..5).map(|_| from(relay, [127, 0, 0, 1], &report)).collect();
    assert_eq!(statuses, [201, 200, 200, 429, 429]);
    assert_eq!(from(relay, [127, 0, 0, 2], &report), 200, "another visitor");
    let other = relay.post("/api/dsn-keys", &json!({ "project": "blog" })).expect(201).json();
    let other = report.clone().header("X-Monlight-Key", other["public_key"].as_str().unwrap());
    assert_eq!(from(relay, [127, 0, 0, 1], &other), 201, "another project");
    let response = relay.send(&report);
    let wait: u64 = response.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=120).contains(&wait), "{wait}");
    response.expect(429).has_detail("Too many requests");
    let metrics = relay.connect_from([127, 0, 0, 3]).unwrap().send(&Request::get("/metrics")).expect(200).text();
    assert!(metrics.contains("project=\"shop\"} 3"), "{metrics}");
}

#[test]
fn a_project_has_an_allowance_as_a_whole_that_refused_visitors_do_not_use_up() {
    let (house, report) = house(|setup| setup.env("RATE_LIMIT", 2).env("KEY_RATE_LIMIT", 5));
    let relay = &house.relay;
    for _ in 0..20 {
        from(relay, [127, 0, 0, 1], &report);
    }
    let statuses: Vec<u16> = (2..6).map(|host| from(relay, [127, 0, 0, host], &report)).collect();
    assert_eq!(statuses, [200, 200, 200, 429], "two of the first visitor, three of others");
}

#[test]
fn strangers_use_up_nobodys_allowance() {
    let (house, report) = house(|setup| setup.env("RATE_LIMIT", 3).env("KEY_RATE_LIMIT", 5));
    let relay = &house.relay;
    let strange = report.clone().header("X-Monlight-Key", "ffffffffffffffffffffffffffffffff");
    let statuses: Vec<u16> = (0..5).map(|_| from(relay, [127, 0, 0, 1], &strange)).collect();
    assert_eq!(statuses, [401, 401, 401, 429, 429]);
    for host in 10..60 {
        assert_eq!(from(relay, [127, 0, 0, host], &strange), 401);
    }
    assert_eq!(from(relay, [127, 0, 0, 1], &report), 201, "a visitor behind the same address");
    relay.get("/health").expect(200).has(json!({ "rate_limited": 2 }));
}

#[test]
fn behind_a_proxy_the_visitor_counts_here_and_at_the_tracker() {
    let (tracker, collector) = (
        Setup::error_tracker().env("RATE_LIMIT", 2).env("TRUSTED_PROXIES", "127.0.0.1").start(),
        Setup::metrics_collector().start(),
    );
    let relay = Setup::browser_relay(tracker.address, collector.address).env("TRUSTED_PROXIES", "127.0.0.1").start();
    let report = |client: &str| {
        Request::from_browser(ERRORS, &error("e"))
            .header("X-Forwarded-For", client)
            .header("X-Monlight-Key", PUBLIC_KEY)
    };
    relay.send(&report("198.51.100.1")).expect(201);
    relay.send(&report("198.51.100.1")).expect(200);
    // The tracker has enough of this one, and of this one alone.
    relay.send(&report("198.51.100.1")).expect(202).has(json!({ "status": "queued" }));
    relay.send(&report("198.51.100.2")).expect(200);
}
