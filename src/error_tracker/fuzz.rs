//! Properties of reports and search queries that must hold for any input.

use std::sync::OnceLock;
use std::time::Duration;

use super::commands::IngestReport;
use super::fingerprint::{Fingerprint, fingerprints};
use super::grouping::GroupedReport;
use super::{SCHEMA, api, search, store};
use crate::clock::Timestamp;
use crate::db::{Command as _, ReaderPool};
use crate::error::Error;
use crate::http::fuzz::request;
use crate::json;
use crate::quota::Room;
use crate::records::key_kind::KeyKind;
use crate::records::report::Report;

/// Checks whether the tracker accepts a body as a report, and takes its optional fields as they are.
pub(crate) fn accepts(body: &[u8]) -> Result<(), Error> {
    let report = Report::from_json(body)?;
    assert!(report.adjusted.is_empty(), "{:?}", report.adjusted);
    Ok(())
}

/// Checks that accepted reports are within their limits, are grouped deterministically, and produce a valid index text.
pub(crate) fn reports(data: &[u8]) {
    let Ok(grouped) = Report::from_json(data).map(GroupedReport::new) else {
        // An invalid report may be a valid traceback.
        let traceback = String::from_utf8_lossy(data);
        let sections = crate::trace::sections(&traceback);
        assert!(sections.len() <= 500 && sections.iter().all(|section| section.frames <= section.lines));
        let computed = fingerprints("shop", "Error", &traceback);
        assert_eq!(computed, fingerprints("shop", "Error", &traceback));
        if let Some(location) = computed.location {
            assert!(traceback.contains(location.file) && traceback.contains(location.line), "{location}");
            assert!(!location.line.is_empty() && location.line.bytes().all(|byte| byte.is_ascii_digit()));
        }
        return;
    };
    let again = Report::from_json(data).map(|report| GroupedReport::new(report).fingerprint);
    assert_eq!(again.ok(), Some(grouped.fingerprint));
    assert_eq!(Fingerprint::from_hex(&grouped.fingerprint.to_string()), Some(grouped.fingerprint));
    let GroupedReport { report, location, .. } = &grouped;
    let chars = |value: &Option<String>| value.as_ref().map_or(0, |value| value.chars().count());
    assert!((1..=100).contains(&report.project.chars().count()));
    assert!((1..=200).contains(&report.exception_type.chars().count()));
    assert!((1..=200).contains(&report.environment.chars().count()));
    assert!([&report.release, &report.user_id, &report.session_id].into_iter().all(|value| chars(value) <= 200));
    assert!([&report.request_url, location].into_iter().all(|value| chars(value) <= 2_000));
    assert!(chars(&report.request_method) <= 16);
    let strings = [&report.project, &report.exception_type, &report.message, &report.traceback, &report.environment];
    assert!(strings.into_iter().all(|value| !value.contains('\0')), "SQLite reads strings only up to a NUL");
    for object in [&report.request_headers, &report.extra].into_iter().flatten() {
        assert!(object.len() <= data.len());
        // Stored objects are sent to browsers unchanged, so other parsers must accept them.
        assert!(
            serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(object).is_ok_and(|_| true)
                || has_huge_number(object),
            "{object}"
        );
        assert_eq!(&json::compact(object), object);
    }
    let index_text = search::index_text(&report.exception_type, &report.message, &report.traceback);
    assert!(index_text.len() <= 2 * data.len() + 3 * report.exception_type.len() + 8);
}

/// Whether an object has a number beyond 64-bit floating point, which is valid JSON but which serde_json rejects.
fn has_huge_number(object: &str) -> bool {
    serde_json::from_str::<serde_json::Value>(object).is_err_and(|error| error.to_string().contains("out of range"))
}

/// Checks that any query returns a page within its limit whose groups match the filter.
pub(crate) fn queries(data: &[u8]) {
    static STORED: OnceLock<ReaderPool> = OnceLock::new();
    let Some(request) = request(&format!("/api/errors?{}", String::from_utf8_lossy(data))) else { return };
    let readers = STORED.get_or_init(stored);
    let Ok(filter) = api::filter(&request) else { return };
    let reader = readers.acquire().expect("this thread is the only user");
    let limit = request.query_number("limit", 50, 1..=200);
    let page = match store::find(&reader, &filter, limit, request.query_number("offset", 0, 0..=i64::MAX)) {
        Err(Error::Busy(_)) => return,
        page => page.expect("any search query is valid SQL"),
    };
    assert!(page.ids.len() as i64 <= limit.min(page.total));
    for id in page.ids {
        let error = store::group(&reader, id).expect("any group can be read").expect("nothing is deleted");
        assert!(filter.project.as_ref().is_none_or(|project| *project == error.project));
        assert!(filter.since.is_none_or(|since| error.last_seen.seconds() >= since.seconds()));
    }
}

fn stored() -> ReaderPool {
    crate::db::in_memory(SCHEMA, |transaction| {
        let now = Timestamp::from_ms(1_769_860_800_000);
        for (project, exception_type, message) in [
            ("shop", "ValueError", "10.0.0.1 refused: größe 支付 50%_\\ \"quoted\" OR NEAR("),
            ("shop", "app.ConnectTimeoutError", "a\u{24b6}b C++ foo-bar"),
            ("web", "TypeError", "x is undefined"),
        ] {
            let body = serde_json::json!({"project": project, "exception_type": exception_type, "message": message,
                "traceback": format!("  File \"/app/{exception_type}.py\", line 4, in pay"), "release": "1.0",
                "extra": {"session_id": "s1"}, "timestamp": "2026-01-31T12:00:00Z"});
            let grouped = GroupedReport::new(Report::from_json(body.to_string().as_bytes())?);
            let key_kind = KeyKind::Server;
            let retention = Duration::from_secs(90 * 86_400);
            IngestReport {
                grouped,
                key_kind,
                now,
                groups_max: 100,
                retention,
                room: Room::Enough,
                alerts_enabled: false,
            }
            .apply(transaction)?;
        }
        Ok(())
    })
}
