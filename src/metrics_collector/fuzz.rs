//! Fuzz targets for points, queries and stored sketches, with the properties that must hold for any input.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rusqlite::Connection;

use super::buckets::BucketsBody;
use super::cardinality::CardinalityLimits;
use super::commands::{AddPoints, RollUp};
use super::config::Retention;
use super::lists::MetricsFilter;
use super::point_decoder::PointDecoder;
use super::series::{SeriesHasher, labels_json};
use super::sketch::Sketch;
use super::{SCHEMA, api, lists, point_json};
use crate::clock::Timestamp;
use crate::db::{Command as _, ReaderPool, counter};
use crate::error::Error;
use crate::http::BodySource;
use crate::http::fuzz::request;
use crate::records::key_kind::KeyKind;
use crate::records::point::Point;

const HOUR: Duration = Duration::from_secs(3_600);
const RETENTION: Retention = Retention { points: HOUR, minutes: HOUR, hours: HOUR, gauges: HOUR };
const LIMITS: CardinalityLimits = CardinalityLimits { total: 64, per_metric: 8 };

/// Checks whether a body is a valid batch of points.
pub(crate) fn takes(body: &[u8]) -> Result<(), Error> {
    point_json::decode(body).map(|_| ())
}

/// Checks that accepted points are within the limits, do not change when they are encoded and decoded again, and are
/// stored and counted.
pub(crate) fn batches(data: &[u8]) {
    static EMPTY: OnceLock<ReaderPool> = OnceLock::new();
    let Ok(points) = point_json::decode(data) else { return };
    assert!((1..=1_000).contains(&points.len()));
    let (hasher, mut buffer) = (SeriesHasher::default(), Vec::new());
    for point in &points {
        let labels = point.labels();
        assert!((1..=200).contains(&point.name().chars().count()));
        assert!(point.project().chars().count() <= 100 && point.value().is_finite());
        assert!(labels.len() <= 32 && labels.is_sorted_by(|label, next| label.0 < next.0));
        let decoded: BTreeMap<String, String> =
            serde_json::from_str(&labels_json(labels)).expect("labels are stored as a JSON object");
        assert!(decoded.iter().map(|(name, value)| (&**name, &**value)).eq(labels.iter().map(|(n, v)| (&**n, &**v))));
        assert_eq!(hasher.hash(point, &mut buffer), hasher.hash(&point.clone(), &mut buffer));
    }
    let encoded = serde_json::Value::from(points.iter().map(encode).collect::<Vec<_>>()).to_string();
    assert_eq!(point_json::decode(encoded.as_bytes()).as_ref(), Ok(&points), "{encoded}");

    let reader =
        EMPTY.get_or_init(|| crate::db::in_memory(SCHEMA, |_| Ok(()))).acquire().expect("the only reader is free");
    let transaction = reader.unchecked_transaction().expect("a database in memory does not fail");
    let now = Timestamp::from_ms(1_769_860_800_000);
    add(&transaction, data, now).expect("a valid batch can be stored");
    RollUp::at(now).apply(&transaction).expect("stored points can be rolled up");
    let stored: i64 =
        transaction.query_row("SELECT count(*) FROM points", [], |row| row.get(0)).expect("the table exists");
    let series = counter(&transaction, "series").expect("the counter exists");
    assert_eq!(stored, points.len() as i64);
    // One overflow series per metric that had a series before the limit, and one per kind for the other metrics.
    assert!(series <= 2 * LIMITS.total + 3, "{series} series");
    drop(transaction);
}

fn encode(point: &Point<'_>) -> serde_json::Value {
    let labels: serde_json::Map<String, serde_json::Value> =
        point.labels().iter().map(|(name, value)| (name.to_string(), value.to_string().into())).collect();
    // Timestamps are displayed without the fraction of the second.
    let at = point.at().map(|at| format!("{}.{:03}Z", at.to_string().trim_end_matches('Z'), at.ms().rem_euclid(1_000)));
    serde_json::json!({"name": point.name(), "type": point.kind().as_str(), "value": point.value(), "labels": labels,
        "project": point.project(), "timestamp": at})
}

fn add(connection: &Connection, body: &[u8], now: Timestamp) -> Result<(), Error> {
    let decoder = PointDecoder::new(vec!["session_id".into()], LIMITS, Duration::from_secs(86_400));
    AddPoints::decode(
        &Arc::new(decoder),
        Arc::new(body.to_vec()),
        now,
        &Arc::default(),
        KeyKind::Server,
        |_, _| Ok(()),
    )?
    .apply(connection)
    .map(|_| ())
}

/// Checks that every query returns a result or is rejected as invalid.
pub(crate) fn queries(data: &[u8]) {
    static STORED: OnceLock<ReaderPool> = OnceLock::new();
    let Some(request) = request(&format!("/api/metrics?{}", String::from_utf8_lossy(data))) else { return };
    let readers = STORED.get_or_init(database_with_points);
    let now = Timestamp::from_ms(1_769_860_830_000);
    if let Ok((query, time_range)) = api::parse_query(&request, RETENTION, now) {
        assert!(!query.buckets.is_empty() && !time_range.duration().is_zero());
        let json = read_body(BucketsBody::new(readers.clone(), query, time_range.period()));
        let count = |list: &str| json[list].as_array().map_or(0, Vec::len);
        assert!(count("data") == 0 || count("groups") == 0);
    }
    let (name, text) = (request.query("name").unwrap_or("h").to_owned(), |name| request.query(name).map(str::to_owned));
    let filter = MetricsFilter { project: text("project"), search: text("search"), limit: Some(7) };
    read_body(lists::metrics(readers.clone(), filter));
    read_body(lists::labels(readers.clone(), name, text("project")));
}

/// Reads a body that is produced part by part. It must be JSON, which has no infinite numbers.
fn read_body(mut body: impl BodySource) -> serde_json::Value {
    let mut json = Vec::new();
    while body.write_part(&mut json).expect("a valid query succeeds") {}
    serde_json::from_slice(&json).expect("the body is JSON")
}

fn database_with_points() -> ReaderPool {
    let now = Timestamp::from_ms(1_769_860_800_000);
    let body = br#"[{"name":"h","type":"histogram","value":1.5,"labels":{"page":"/a:b","x y":"1"},"project":"shop"},
        {"name":"h","type":"histogram","value":-3e20,"labels":{"page":"/"}},{"name":"c","type":"counter","value":1},
        {"name":"h","type":"gauge","value":0,"labels":{"page":"/a:b"},"project":"web"},
        {"name":"web_vitals_lcp","type":"histogram","value":2500,"labels":{"source":"browser"}}]"#;
    crate::db::in_memory(SCHEMA, |connection| {
        add(connection, body, now)?;
        RollUp::at(now).apply(connection)?;
        add(connection, body, now + Duration::from_secs(5))
    })
}

/// Checks that bytes which decode to a sketch encode to at most as many bytes, and that the sketch can be merged.
pub(crate) fn sketches(data: &[u8]) {
    let Some(sketch) = Sketch::decode(data) else { return };
    let encoded = sketch.encode();
    assert_eq!(Sketch::decode(&encoded).as_ref(), Some(&sketch));
    assert!(encoded.len() <= data.len(), "the encoding is minimal");
    let mut doubled = sketch.clone();
    doubled.merge(&sketch);
    assert_eq!(doubled.count(), 2 * sketch.count());
    let quantiles: Vec<Option<f64>> =
        [0.0, 0.5, 0.95, 1.0].into_iter().map(|q| sketch.value_at(sketch.rank(q)?)).collect();
    assert!(quantiles.is_sorted_by(|quantile, next| quantile <= next), "{quantiles:?}");
    for value in quantiles.into_iter().flatten() {
        assert!(value.is_finite() && sketch.count_at_most(value) >= 1);
    }
    assert_eq!(sketch.count_at_most(f64::MAX), sketch.count());
}
