//! Timestamps: RFC 3339 input with any UTC offset and fraction, output in whole seconds of UTC.

use serde_json::{Value, json};

use super::{create_group, group_detail, minutes_ago, post_report, unique_report_with};
use crate::support::harness::Setup;

#[test]
fn timestamps_are_converted_to_utc_seconds() {
    let service = Setup::error_tracker().start();
    for (input, output) in [
        ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00Z"),
        ("2026-01-31t12:00:00z", "2026-01-31T12:00:00Z"),
        ("2026-01-31T12:00:00+00:00", "2026-01-31T12:00:00Z"),
        ("2026-01-31T01:30:00+02:00", "2026-01-30T23:30:00Z"),
        ("2026-01-31T12:00:00-05:30", "2026-01-31T17:30:00Z"),
        ("2026-01-31T12:00:00.5Z", "2026-01-31T12:00:00Z"),
        ("2026-01-31T12:00:00.999999999+01:00", "2026-01-31T11:00:00Z"),
        ("2024-02-29T23:59:59.123Z", "2024-02-29T23:59:59Z"),
        ("2000-01-01T00:00:00Z", "2000-01-01T00:00:00Z"),
    ] {
        let group = create_group(&service, &unique_report_with("timestamp", input));
        for at in [&group["first_seen"], &group["last_seen"], &group["occurrences"][0]["timestamp"]] {
            assert_eq!(at, output, "{input}");
        }
    }
}

#[test]
fn invalid_timestamps_are_rejected_by_field_name() {
    let service = Setup::error_tracker().start();
    let detail = |name: &str| format!("Field '{name}' must be a time such as 2026-01-31T12:00:00Z");
    let invalid = ["yesterday", "2026-01-31", "2026-01-31T12:00:00", "1769860800", "2026-02-30T00:00:00Z", "12:00:00Z"];
    for value in invalid {
        service
            .send(&post_report(&unique_report_with("timestamp", value)))
            .expect(400)
            .has_detail(&detail("timestamp"));
        for name in ["since", "until"] {
            service.get(&format!("/api/errors?{name}={value}")).expect(400).has_detail(&detail(name));
        }
    }
    for value in [json!(1_769_860_800), json!(""), json!(true), json!({})] {
        service
            .send(&post_report(&unique_report_with("timestamp", value)))
            .expect(400)
            .has_detail(&detail("timestamp"));
    }
    service.get("/api/errors?since=&until=").expect(200);
}

#[test]
fn query_timestamps_accept_encoded_offsets() {
    let service = Setup::error_tracker().start();
    for value in ["2026-01-31T12:00:00%2B01:00", "2026-01-31T12:00:00.25-01:00", "2026-01-31T12%3A00%3A00Z"] {
        service.get(&format!("/api/errors?since={value}")).expect(200);
    }
    service.get("/api/errors?since=2026-01-31T12:00:00+01:00").expect(400).has_detail("Field 'since'");
}

#[test]
fn missing_or_future_timestamps_become_the_arrival_time() {
    let service = Setup::error_tracker().start();
    for timestamp in [Value::Null, json!("2999-12-31T00:00:00Z"), json!("9999-12-31T23:59:59Z")] {
        let before = minutes_ago(0);
        let group = create_group(&service, &unique_report_with("timestamp", timestamp));
        let at = group["last_seen"].as_str().unwrap();
        assert!(*before <= *at && *at <= *minutes_ago(0), "{before} {at}");
    }
}

#[test]
fn late_reports_move_first_seen_but_not_last_seen() {
    let service = Setup::error_tracker().start();
    let at = [60, 30, 20, 10].map(minutes_ago);
    let [first, second, third, last] = &at;
    let mut report = unique_report_with("timestamp", second.as_str());
    let id = create_group(&service, &report)["id"].as_i64().unwrap();
    for (timestamp, first_seen, last_seen) in [(first, first, second), (last, first, last), (third, first, last)] {
        report["timestamp"] = timestamp.as_str().into();
        service.send(&post_report(&report)).expect(200);
        let group = group_detail(&service, id);
        assert_eq!((&group["first_seen"], &group["last_seen"]), (&json!(first_seen), &json!(last_seen)));
    }
}
