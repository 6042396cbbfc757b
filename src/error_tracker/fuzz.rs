//! What must hold of reports and of searches whatever their bytes are.

use std::sync::OnceLock;

use super::commands::AddReport;
use super::fingerprint::{Fingerprint, fingerprints};
use super::report::ErrorReport;
use super::{SCHEMA, api, search, store};
use crate::clock::Timestamp;
use crate::db::{Command as _, ReaderPool};
use crate::error::Error;
use crate::http::fuzz::request;
use crate::json;

/// Whether a body is a report.
pub(crate) fn takes(body: &[u8]) -> Result<(), Error> {
    ErrorReport::parse(body).map(|_| ())
}

/// Reports: what is taken is within bounds, grouped the same each time, and found by words SQLite understands.
pub(crate) fn reports(data: &[u8]) {
    let Ok(report) = ErrorReport::parse(data) else {
        // What is no report may be a traceback.
        let text = String::from_utf8_lossy(data);
        let sections = crate::trace::sections(&text);
        assert!(sections.len() <= 500 && sections.iter().all(|section| section.frames <= section.lines));
        let found = fingerprints("shop", "Error", &text);
        assert_eq!(found, fingerprints("shop", "Error", &text));
        if let Some(location) = found.location {
            assert!(text.contains(location.file) && text.contains(location.line), "{location}");
            assert!(!location.line.is_empty() && location.line.bytes().all(|byte| byte.is_ascii_digit()));
        }
        return;
    };
    let again = ErrorReport::parse(data).map(|report| report.fingerprint);
    assert_eq!(again.ok(), Some(report.fingerprint));
    assert_eq!(Fingerprint::from_hex(&report.fingerprint.to_string()), Some(report.fingerprint));
    let chars = |text: &Option<String>| text.as_ref().map_or(0, |text| text.chars().count());
    assert!((1..=100).contains(&report.project.chars().count()));
    assert!((1..=200).contains(&report.exception_type.chars().count()));
    assert!((1..=200).contains(&report.environment.chars().count()));
    assert!([&report.release, &report.user_id, &report.session_id].into_iter().all(|text| chars(text) <= 200));
    assert!([&report.request_url, &report.location].into_iter().all(|text| chars(text) <= 2_000));
    assert!(chars(&report.request_method) <= 16);
    let texts = [&report.project, &report.exception_type, &report.message, &report.traceback, &report.environment];
    assert!(texts.into_iter().all(|text| !text.contains('\0')), "SQLite would read up to a NUL");
    for object in [&report.request_headers, &report.extra].into_iter().flatten() {
        assert!(object.len() <= data.len());
        // What is stored is sent to browsers as it is: it must be JSON to other parsers too, and stay so compacted.
        assert!(
            serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(object).is_ok_and(|_| true)
                || is_vast(object),
            "{object}"
        );
        assert_eq!(&json::compact(object), object);
    }
    let words = search::words(&report.exception_type, &report.message, &report.traceback);
    assert!(words.len() <= 2 * data.len() + 3 * report.exception_type.len() + 8);
}

/// A number beyond 64-bit floating point is JSON, and serde_json alone takes it for an error.
fn is_vast(object: &str) -> bool {
    serde_json::from_str::<serde_json::Value>(object).is_err_and(|why| why.to_string().contains("out of range"))
}

/// Lists: any query is answered, by no more than it asked for, with what fits.
pub(crate) fn queries(data: &[u8]) {
    static STORED: OnceLock<ReaderPool> = OnceLock::new();
    let Some(request) = request(&format!("/api/errors?{}", String::from_utf8_lossy(data))) else { return };
    let readers = STORED.get_or_init(stored);
    let Ok(filter) = api::filter(&request) else { return };
    let reader = readers.acquire().expect("nobody else has it");
    let limit = request.query_number("limit", 50, 1..=200);
    let page = match store::list(&reader, &filter, limit, request.query_number("offset", 0, 0..=i64::MAX)) {
        Err(Error::Busy(_)) => return,
        page => page.expect("a search is never the database's trouble"),
    };
    assert!(page.errors.len() as i64 <= limit.min(page.total));
    for error in &page.errors {
        assert!(filter.project.as_ref().is_none_or(|project| *project == error.project));
        assert!(filter.since.is_none_or(|since| error.last_seen.seconds() >= since.seconds()));
    }
}

fn stored() -> ReaderPool {
    crate::db::in_memory(SCHEMA, |transaction| {
        let now = Timestamp::from_ms(1_769_860_800_000);
        for (project, kind, message) in [
            ("shop", "ValueError", "10.0.0.1 refused: größe 支付 50%_\\ \"quoted\" OR NEAR("),
            ("shop", "app.ConnectTimeoutError", "a\u{24b6}b C++ foo-bar"),
            ("web", "TypeError", "x is undefined"),
        ] {
            let body = serde_json::json!({"project": project, "exception_type": kind, "message": message,
                "traceback": format!("  File \"/app/{kind}.py\", line 4, in pay"), "release": "1.0",
                "extra": {"session_id": "s1"}, "timestamp": "2026-01-31T12:00:00Z"});
            let report = ErrorReport::parse(body.to_string().as_bytes())?;
            AddReport { report, now, groups_max: 100, alerting: false }.apply(transaction)?;
        }
        Ok(())
    })
}
