use std::time::Duration;

use super::commands::{IngestReport, Resolve};
use super::facets::{self, FacetFilter};
use super::grouping::GroupedReport;
use super::store::{self, Filter};
use super::{SCHEMA, alerts};
use crate::clock::Timestamp;
use crate::db::{Database, Idempotent, replanned_statements};
use crate::quota::Room;
use crate::records::key_kind::KeyKind;
use crate::records::report::Report;

const RETENTION: Duration = Duration::from_secs(90 * 86_400);
const START_MS: i64 = 1_769_860_800_000;

/// Sends the reports of one round, and reads pages as the web UI does.
fn report_and_read(database: &Database, round: i64) {
    let now = Timestamp::from_ms(START_MS + round * 10_000);
    let mut last_id = 0;
    // A storm within a second, a report from another release, and a report of a resolved group.
    for (number, (exception_type, release)) in
        [("ValueError", "1.0"), ("ValueError", "1.0"), ("ValueError", "1.1"), ("TypeError", "1.0")]
            .into_iter()
            .enumerate()
    {
        let body = serde_json::json!({"project": "shop", "exception_type": exception_type, "message": "no such product",
            "traceback": "  File \"/app/cart.py\", line 4, in pay", "release": release, "user_id": round.to_string(),
            "extra": {"session_id": "s1"}});
        let grouped = GroupedReport::new(Report::from_json(body.to_string().as_bytes()).unwrap());
        let command = IngestReport {
            grouped,
            key_kind: KeyKind::Server,
            now,
            groups_max: 100,
            retention: RETENTION,
            room: Room::Enough,
            alerts_enabled: true,
        };
        let key = Some(format!("{round}-{number}"));
        let response = database.writer.run(Idempotent { scope: "default".into(), key, now, command }).unwrap();
        last_id = response.result.id();
    }
    database.writer.run(Resolve { id: last_id, now }).unwrap();

    let reader = database.readers.acquire().unwrap();
    let shop = Filter { project: Some("shop".into()), session_id: Some("s1".into()), ..Filter::default() };
    for filter in [Filter::default(), shop] {
        for id in store::find(&reader, &filter, 50, 0).unwrap().ids {
            store::group(&reader, id).unwrap();
        }
    }
    assert!(store::detail(&reader, last_id).unwrap().is_some());
    assert!(store::occurrence_before(&reader, last_id, i64::MAX).unwrap().is_some());
    facets::environments_and_releases(&reader, &FacetFilter { limit: 9, ..FacetFilter::default() }).unwrap();
    alerts::history(&reader).unwrap();
}

#[test]
fn repeated_reports_are_never_planned_again() {
    let replanned = replanned_statements("error-tracker", SCHEMA, report_and_read);
    assert!(replanned.with_qpsg.is_empty(), "{:#?}", replanned.with_qpsg);
    assert!(!replanned.without_qpsg.is_empty(), "QPSG makes no difference, so this test cannot fail");
}
