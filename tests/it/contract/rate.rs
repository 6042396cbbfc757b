//! How often a client may ask, who counts as one, and that refusals are counted where people look.

use serde_json::json;

use super::{post_report, unique_report_with};
use crate::harness::{Request, Response, Service, Setup};

/// That an response is a refusal which says when to come back.
#[track_caller]
fn refused(response: Response) {
    let wait: u64 = response.header("retry-after").unwrap_or("0").parse().unwrap();
    assert!((1..=120).contains(&wait), "{response:?}");
    response.expect(429).has_detail(&format!("Too many requests; try again in {wait} s"));
}

fn rate_limited(service: &Service) -> serde_json::Value {
    service.get("/health").expect(200).json()["rate_limited"].take()
}

#[test]
fn an_address_may_ask_so_often_and_health_is_not_counted() {
    let service = Setup::error_tracker().env("RATE_LIMIT", 3).start();
    let projects = Request::get("/api/projects");
    for _ in 0..5 {
        service.get("/health").expect(200);
    }
    service.send(&projects).expect(200);
    service.get("/api/nothing").expect(404);
    service.send(&projects.clone().without_header("X-API-Key")).expect(401);
    let mut client = service.connect();
    refused(client.send(&projects));
    refused(client.send(&Request::get("/nothing")));
    refused(client.send(&post_report(&unique_report_with("project", "shop"))));
    service.get("/health").expect(200);
    service.connect_from([127, 0, 0, 2]).unwrap().send(&projects).expect(200);
    assert_eq!(rate_limited(&service), 3);
}

#[test]
fn no_limit_is_the_setting_zero_and_a_hundred_is_the_default() {
    let spent = |setup: Setup| {
        let (service, mut passed) = (setup.start(), 0);
        let mut client = service.connect();
        while passed < 150 && client.send(&Request::get("/api/projects")).status == 200 {
            passed += 1;
        }
        passed
    };
    assert_eq!(spent(Setup::error_tracker().env("RATE_LIMIT", 0)), 150);
    assert_eq!(spent(Setup::error_tracker().env("RATE_LIMIT", "")), 100);
}

#[test]
fn behind_a_trusted_proxy_the_last_untrusted_hop_is_the_client() {
    let limited = || Setup::error_tracker().env("RATE_LIMIT", 1);
    let service = limited().env("TRUSTED_PROXIES", "127.0.0.1, 10.0.0.0/8").start();
    let from = |hops: &str| Request::get("/api/projects").header("X-Forwarded-For", hops);
    for (what, hops, status) in [
        ("a first client", "198.51.100.1", 200),
        ("the same again", "198.51.100.1", 429),
        ("another one", "198.51.100.2", 200),
        ("what that one claims before", "203.0.113.9, 198.51.100.2", 429),
        ("through a second trusted proxy", "198.51.100.2, 10.1.2.3", 429),
        ("with a port", "198.51.100.3:4711", 200),
        ("the same with another", "198.51.100.3:4712", 429),
        ("an IPv6 network", "2001:db8:1:1::1", 200),
        ("another address in its /64", "[2001:db8:1:1:ffff::2]:443", 429),
        ("another /64", "2001:db8:1:2::1", 200),
        ("IPv4 in IPv6 is IPv4", "::ffff:198.51.100.1", 429),
        ("what cannot be read is the proxy itself", "unknown", 200),
        ("and so is nothing", "", 429),
    ] {
        let response = service.send(&from(hops));
        assert_eq!(response.status, status, "{what}: {}", response.text());
    }
    let untrusting = limited().env("TRUSTED_PROXIES", "10.0.0.0/8").start();
    untrusting.send(&from("198.51.100.1")).expect(200);
    refused(untrusting.send(&from("198.51.100.2")));
}

#[test]
fn a_key_has_a_limit_of_its_own_from_wherever_it_comes() {
    let setup = Setup::error_tracker().env("API_KEYS", "shop:ingest@shop:shop-key,eye:read:eye-key");
    let service = setup.env("KEY_RATE_LIMIT", 2).start();
    let report = post_report(&unique_report_with("project", "shop")).header("X-API-Key", "shop-key");
    let from = |last: u8, request: &Request| service.connect_from([127, 0, 0, last]).unwrap().send(request);
    from(2, &report).expect(201);
    from(3, &report).expect(200);
    refused(from(4, &report));
    refused(from(4, &report));
    let list = Request::get("/api/errors").header("X-API-Key", "eye-key");
    from(4, &list).expect(200).has(json!({ "total": 1 }));
    from(4, &list).expect(200);
    refused(from(4, &list));
    assert_eq!(rate_limited(&service), 3);
    let metrics = service.get("/metrics").expect(200).text();
    for row in ["{project=\"\"} 1", "{project=\"shop\"} 2"] {
        assert!(metrics.contains(&format!("\nmonlight_rate_limited_total{row}\n")), "{row} in {metrics}");
    }
}

#[test]
fn what_the_limit_of_an_address_refused_is_told_by_project_too() {
    let setup = Setup::error_tracker().env("API_KEYS", "shop:ingest@shop:shop-key");
    let service = setup.env("RATE_LIMIT", 1).start();
    let report = post_report(&unique_report_with("project", "shop")).header("X-API-Key", "shop-key");
    service.send(&report).expect(201);
    refused(service.send(&report));
    refused(service.send(&report.header("X-API-Key", "unknown")));
    assert_eq!(rate_limited(&service), 2);
}
