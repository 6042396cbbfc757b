use std::sync::Arc;
use std::time::Duration;

use super::SCHEMA;
use super::buckets::{BucketsBody, Coverage, Fields, Query};
use super::cardinality::CardinalityLimits;
use super::commands::{AddPoints, RollUp};
use super::lists::{self, MetricsFilter};
use super::point_decoder::PointDecoder;
use super::resolution::Resolution;
use super::rollup_harness_tests::read_json;
use crate::clock::Timestamp;
use crate::db::{Database, replanned_statements};
use crate::records::key_kind::KeyKind;

const START_MS: i64 = 1_769_860_800_000;
const HOUR: Duration = Duration::from_secs(3_600);

/// Sends and rolls up the points of one minute, and reads pages as the web UI does.
fn send_and_read(database: &Database, decoder: &Arc<PointDecoder>, round: i64) {
    let now = Timestamp::from_ms(START_MS + round * 60_000);
    let points = (0..4).flat_map(|n| {
        [("requests", "counter"), ("memory", "gauge"), ("duration", "histogram"), ("web_vitals_lcp", "histogram")].map(
            |(name, kind)| {
                serde_json::json!({"name": name, "type": kind, "value": n + round, "project": "shop",
                    "labels": {"path": format!("/{}", n % 2), "session_id": round}})
            },
        )
    });
    let body = serde_json::Value::from_iter(points).to_string().into_bytes();
    let command =
        AddPoints::decode(decoder, Arc::new(body), now, &Arc::default(), KeyKind::Server, |_, _| Ok(())).unwrap();
    database.writer.run(command).unwrap();
    while database.writer.run(RollUp::at(now)).unwrap() {}

    for (name, group_by) in [("requests", None), ("memory", None), ("duration", Some("path".to_owned()))] {
        let minute = now.ms() / 60_000;
        let query = Query {
            name: name.into(),
            kind: None,
            project: Some("shop".into()),
            labels: Vec::new(),
            buckets: minute - 60..minute + 1,
            resolution: Resolution::Minute,
            group_by,
            fields: Fields::ALL,
            gauge_lifetime: HOUR,
            coverage: Coverage { since: now, until: now, stored_since: None },
        };
        let is_grouped = query.group_by.is_some();
        let body = read_json(BucketsBody::new(database.readers.clone(), query, "1h"));
        assert_eq!((body["data"].as_array().unwrap().is_empty(), body["groups"].is_array()), (is_grouped, is_grouped));
    }
    let (shop, readers) = (Some("shop".to_owned()), || database.readers.clone());
    read_json(lists::metrics(readers(), MetricsFilter { project: shop.clone(), ..MetricsFilter::default() }));
    read_json(lists::labels(readers(), "requests".to_owned(), shop));
}

#[test]
fn repeated_points_are_never_planned_again() {
    let limits = CardinalityLimits { total: 1_000, per_metric: 1_000 };
    let decoder = Arc::new(PointDecoder::new(vec!["session_id".into()], limits, HOUR * 24));
    let traffic = |database: &Database, round| send_and_read(database, &decoder, round);
    let replanned = replanned_statements("metrics-collector", SCHEMA, traffic);
    assert!(replanned.with_qpsg.is_empty(), "{:#?}", replanned.with_qpsg);
    assert!(!replanned.without_qpsg.is_empty(), "QPSG makes no difference, so this test cannot fail");
}
