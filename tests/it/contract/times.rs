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
        assert_eq!(group["occurrences"][0]["timestamp"], output, "{input}");
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

#[test]
fn implausibly_old_reports_count_at_their_arrival_and_keep_their_timestamp() {
    const DAY_MINUTES: u64 = 24 * 60;
    let service = Setup::error_tracker().start();
    let with_short_retention = Setup::error_tracker().env("RETENTION_DAYS", 2).start();
    for (service, sent, is_plausible) in [
        (&service, "1970-01-01T00:00:10Z".to_owned(), false),
        // The zero time of Go.
        (&service, "0001-01-01T00:00:00Z".to_owned(), false),
        (&service, minutes_ago(31 * DAY_MINUTES), false),
        (&service, minutes_ago(29 * DAY_MINUTES), true),
        (&with_short_retention, minutes_ago(3 * DAY_MINUTES), false),
        (&with_short_retention, minutes_ago(DAY_MINUTES), true),
    ] {
        let before = minutes_ago(0);
        let response = service.send(&post_report(&unique_report_with("timestamp", sent.as_str()))).expect(201);
        let adjusted = if is_plausible { Value::Null } else { json!(["timestamp"]) };
        assert_eq!(response.json()["adjusted"], adjusted, "{sent}");
        let group = service.get(&format!("/api/errors/{}?hours=2", response.id())).expect(200).json();
        assert_eq!(group["occurrences"][0]["timestamp"], sent, "the report keeps the time of the client");
        for seen in [&group["first_seen"], &group["last_seen"]] {
            let is_arrival = *before <= *seen.as_str().unwrap();
            assert!(is_arrival != is_plausible && (is_arrival || *seen == sent), "{sent}: {seen}");
        }
        let recent: i64 = group["hours"].as_array().unwrap().iter().map(|count| count.as_i64().unwrap()).sum();
        assert_eq!(recent, i64::from(!is_plausible), "{sent}");
    }
    service.get(&format!("/api/errors?since={}", minutes_ago(5))).expect(200).has(json!({ "total": 3 }));
}

#[test]
fn late_reports_from_before_the_resolve_do_not_reopen_a_group() {
    let service = Setup::error_tracker().start();
    let mut report = unique_report_with("timestamp", minutes_ago(120));
    let id = create_group(&service, &report)["id"].as_i64().unwrap();
    service.post(&format!("/api/errors/{id}/resolve"), &json!({})).expect(200);
    let resolved = group_detail(&service, id);
    for (count, minutes) in [(2, 60), (3, 180)] {
        report["timestamp"] = minutes_ago(minutes).into();
        service.send(&post_report(&report)).expect(200).has(json!({ "status": "incremented", "count": count }));
        let group = group_detail(&service, id);
        assert_eq!((&group["resolved"], &group["resolved_at"]), (&json!(true), &resolved["resolved_at"]));
        assert_eq!(group["count"], count);
    }
    service.get("/health").expect(200).has(json!({ "errors_unresolved": 0, "errors_resolved": 1 }));
    // An error of now reopens the group, whatever the client's clock says.
    // So does one of the second in which it was resolved.
    let of_that_second = resolved["resolved_at"].clone();
    for timestamp in [of_that_second, Value::Null, json!("1970-01-01T00:00:10Z"), json!("2999-12-31T00:00:00Z")] {
        report["timestamp"] = timestamp;
        service.send(&post_report(&report)).expect(200).has(json!({ "status": "reopened" }));
        service.post(&format!("/api/errors/{id}/resolve"), &json!({})).expect(200);
    }
}

#[test]
fn late_reports_do_not_set_the_context_of_a_group_back() {
    let service = Setup::error_tracker().start();
    let at = [60, 10, 5].map(minutes_ago);
    let context = |timestamp: &str, release: &str, environment: &str, level: &str| {
        json!({
            "timestamp": timestamp, "release": release, "environment": environment, "level": level,
        })
    };
    let base = unique_report_with("message", "boom");
    let send = |context: &Value, status: u16| {
        let mut report = base.clone();
        report.as_object_mut().unwrap().append(&mut context.as_object().unwrap().clone());
        service.send(&post_report(&report)).expect(status).id()
    };
    let (late, first, latest) = (
        context(&at[0], "1", "staging", "info"),
        context(&at[1], "2", "prod", "error"),
        context(&at[2], "3", "live", "warning"),
    );
    let id = send(&first, 201);
    for (report, shown) in [(&late, &first), (&latest, &latest), (&first, &latest), (&late, &latest)] {
        send(report, 200);
        let group = group_detail(&service, id);
        for field in ["release", "environment", "level"] {
            assert_eq!(group[field], shown[field], "{field} after {report}");
        }
        assert_eq!((&group["first_seen"], &group["last_seen"]), (&late["timestamp"], &shown["timestamp"]));
    }
    service.get("/api/errors?environment=staging&release=1").expect(200).has(json!({ "total": 1 }));
}
