//! Rate limits: per address, per key and behind trusted proxies; rejected requests are counted in `/health` and
//! `/metrics`.

use serde_json::json;

use super::{post_report, unique_report_with};
use crate::support::harness::{Request, Response, Service, Setup};

/// Asserts a 429 response with a `Retry-After` header.
#[track_caller]
fn assert_rate_limited(response: Response) {
    let wait: u64 = response.header("retry-after").unwrap_or("0").parse().unwrap();
    assert!((1..=120).contains(&wait), "{response:?}");
    response.expect(429).has_detail(&format!("Too many requests; retry in {wait} s"));
}

fn rate_limited_count(service: &Service) -> serde_json::Value {
    service.get("/health").expect(200).json()["rate_limited"].take()
}

#[test]
fn rate_limit_applies_per_address_and_excludes_health() {
    let service = Setup::error_tracker().env("RATE_LIMIT", 3).start();
    let projects = Request::get("/api/projects");
    for _ in 0..5 {
        service.get("/health").expect(200);
    }
    service.send(&projects).expect(200);
    service.get("/api/nothing").expect(404);
    service.send(&projects.clone().without_header("X-API-Key")).expect(401);
    let mut client = service.connect();
    assert_rate_limited(client.send(&projects));
    assert_rate_limited(client.send(&Request::get("/nothing")));
    assert_rate_limited(client.send(&post_report(&unique_report_with("project", "shop"))));
    service.get("/health").expect(200);
    service.connect_from([127, 0, 0, 2]).unwrap().send(&projects).expect(200);
    assert_eq!(rate_limited_count(&service), 3);
}

#[test]
fn rate_limit_zero_disables_and_default_is_100() {
    let accepted_requests = |setup: Setup| {
        let (service, mut accepted) = (setup.start(), 0);
        let mut client = service.connect();
        while accepted < 150 && client.send(&Request::get("/api/projects")).status == 200 {
            accepted += 1;
        }
        accepted
    };
    assert_eq!(accepted_requests(Setup::error_tracker().env("RATE_LIMIT", 0)), 150);
    assert_eq!(accepted_requests(Setup::error_tracker().env("RATE_LIMIT", "")), 100);
}

#[test]
fn last_untrusted_hop_is_the_client_behind_trusted_proxies() {
    let limited = || Setup::error_tracker().env("RATE_LIMIT", 1);
    let service = limited().env("TRUSTED_PROXIES", "127.0.0.1, 10.0.0.0/8").start();
    let from = |hops: &str| Request::get("/api/projects").header("X-Forwarded-For", hops);
    for (name, hops, status) in [
        ("first client", "198.51.100.1", 200),
        ("same client again", "198.51.100.1", 429),
        ("second client", "198.51.100.2", 200),
        ("spoofed hop in front", "203.0.113.9, 198.51.100.2", 429),
        ("second trusted proxy", "198.51.100.2, 10.1.2.3", 429),
        ("with a port", "198.51.100.3:4711", 200),
        ("with another port", "198.51.100.3:4712", 429),
        ("IPv6 address", "2001:db8:1:1::1", 200),
        ("another address in the same /64", "[2001:db8:1:1:ffff::2]:443", 429),
        ("another /64", "2001:db8:1:2::1", 200),
        ("IPv4-mapped IPv6 address", "::ffff:198.51.100.1", 429),
        ("invalid header counts for the proxy", "unknown", 200),
        ("empty header counts for the proxy", "", 429),
    ] {
        let response = service.send(&from(hops));
        assert_eq!(response.status, status, "{name}: {}", response.text());
    }
    let without_trust = limited().env("TRUSTED_PROXIES", "10.0.0.0/8").start();
    without_trust.send(&from("198.51.100.1")).expect(200);
    assert_rate_limited(without_trust.send(&from("198.51.100.2")));
}

#[test]
fn key_rate_limit_applies_across_addresses() {
    let setup = Setup::error_tracker().env("API_KEYS", "shop:ingest@shop:shop-key,eye:read:eye-key");
    let service = setup.env("KEY_RATE_LIMIT", 2).start();
    let report = post_report(&unique_report_with("project", "shop")).header("X-API-Key", "shop-key");
    let send_from =
        |last_octet: u8, request: &Request| service.connect_from([127, 0, 0, last_octet]).unwrap().send(request);
    send_from(2, &report).expect(201);
    send_from(3, &report).expect(200);
    assert_rate_limited(send_from(4, &report));
    assert_rate_limited(send_from(4, &report));
    let list = Request::get("/api/errors").header("X-API-Key", "eye-key");
    send_from(4, &list).expect(200).has(json!({ "total": 1 }));
    send_from(4, &list).expect(200);
    assert_rate_limited(send_from(4, &list));
    assert_eq!(rate_limited_count(&service), 3);
    let metrics = service.get("/metrics").expect(200).text();
    for row in ["{project=\"\"} 1", "{project=\"shop\"} 2"] {
        assert!(metrics.contains(&format!("\nmonlight_rate_limited_total{row}\n")), "{row} in {metrics}");
    }
}

#[test]
fn requests_rejected_per_address_are_counted() {
    let setup = Setup::error_tracker().env("API_KEYS", "shop:ingest@shop:shop-key");
    let service = setup.env("RATE_LIMIT", 1).start();
    let report = post_report(&unique_report_with("project", "shop")).header("X-API-Key", "shop-key");
    service.send(&report).expect(201);
    assert_rate_limited(service.send(&report));
    assert_rate_limited(service.send(&report.header("X-API-Key", "unknown")));
    assert_eq!(rate_limited_count(&service), 2);
}
