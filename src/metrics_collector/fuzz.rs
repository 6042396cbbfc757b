//! What must hold of points, of what is stored of them and of questions about them whatever their bytes are.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use super::commands::{Reader, RollUp};
use super::config::SeriesCaps;
use super::points::{self, Point};
use super::series::{Hasher, Known, labels_json};
use super::sketch::Sketch;
use super::{SCHEMA, api, store};
use crate::clock::Timestamp;
use crate::db::{Command as _, ReaderPool};
use crate::error::Error;
use crate::http::fuzz::request;

const CAPS: SeriesCaps = SeriesCaps { in_all: 64, per_metric: 8 };

/// Whether a body is a batch of points.
pub(crate) fn takes(body: &[u8]) -> Result<(), Error> {
    points::parse(body).map(|_| ())
}

/// Points: what is taken is within bounds, says the same when it is written again, and is stored and counted.
pub(crate) fn batches(data: &[u8]) {
    static EMPTY: OnceLock<ReaderPool> = OnceLock::new();
    let Ok(read) = points::parse(data) else { return };
    assert!((1..=1_000).contains(&read.len()));
    let (hasher, mut parts) = (Hasher::default(), Vec::new());
    for point in &read {
        let Point { name, value, labels, project, .. } = point;
        assert!((1..=200).contains(&name.chars().count()) && project.chars().count() <= 100 && value.is_finite());
        assert!(labels.len() <= 32 && labels.is_sorted_by(|one, next| one.0 < next.0));
        let json = labels_json(labels);
        let again: BTreeMap<String, String> = serde_json::from_str(&json).expect("labels are stored as JSON");
        assert!(again.iter().map(|(name, value)| (&**name, &**value)).eq(labels.iter().map(|(n, v)| (&**n, &**v))));
        assert_eq!(hasher.identity(point, &mut parts), hasher.identity(&point.clone(), &mut parts));
    }
    let written: Vec<serde_json::Value> = read.iter().map(written).collect();
    let written = serde_json::Value::from(written).to_string();
    assert_eq!(points::parse(written.as_bytes()).as_ref(), Ok(&read), "{written}");

    let reader = EMPTY.get_or_init(|| crate::db::in_memory(SCHEMA, |_| Ok(()))).acquire().expect("nobody else has it");
    let transaction = reader.unchecked_transaction().expect("the database has no trouble");
    let now = Timestamp::from_ms(1_769_860_800_000);
    add(&transaction, data, now).expect("what is a batch can be stored");
    RollUp { now }.apply(&transaction).expect("what is stored can be rolled up");
    let stored: i64 = transaction.query_row("SELECT count(*) FROM points", [], |row| row.get(0)).expect("it is there");
    let series = store::total(&transaction, "series").expect("it is there");
    assert_eq!(stored, read.len() as i64);
    // One of each type, and one for each metric with series that were there first.
    assert!(series <= 2 * CAPS.in_all + 3, "{series} series");
    drop(transaction);
}

fn written(point: &Point<'_>) -> serde_json::Value {
    let Point { name, kind, value, labels, project, at } = point;
    let labels: serde_json::Map<String, serde_json::Value> =
        labels.iter().map(|(name, value)| (name.to_string(), value.to_string().into())).collect();
    // Whole seconds, as everything is written here, would lose the rest.
    let at = at.map(|at| format!("{}.{:03}Z", at.to_string().trim_end_matches('Z'), at.ms().rem_euclid(1_000)));
    serde_json::json!({"name": name, "type": kind.name(), "value": value, "labels": labels, "project": project,
        "timestamp": at})
}

fn add(connection: &rusqlite::Connection, body: &[u8], now: Timestamp) -> Result<(), Error> {
    let reader = Arc::new(Reader {
        hasher: Hasher::default(),
        known: Mutex::new(Known::default()),
        dropped_labels: vec!["session_id".into()],
        caps: CAPS,
        point_age_max: Duration::from_secs(86_400),
    });
    api::batch(&reader, Arc::new(body.to_vec()), now, 0, |_| Ok(()))?.apply(connection).map(|_| ())
}

/// Questions: any is answered or refused, never failed.
pub(crate) fn queries(data: &[u8]) {
    static STORED: OnceLock<ReaderPool> = OnceLock::new();
    let Some(request) = request(&format!("/api/metrics?{}", String::from_utf8_lossy(data))) else { return };
    let reader = STORED.get_or_init(stored).acquire().expect("nobody else has it");
    let now = Timestamp::from_ms(1_769_860_830_000);
    if let Ok((query, window)) = api::query(&request, now) {
        assert!(!query.buckets.is_empty() && !window.length().is_zero());
        let (buckets, groups) = store::buckets(&reader, &query).expect("a question is never the database's trouble");
        let json = serde_json::to_string(&(&buckets, &groups)).expect("buckets are JSON");
        assert!(buckets.is_empty() || groups.is_empty() && !json.contains("inf") && !json.contains("NaN"));
    }
    let name = request.query("name").unwrap_or("h");
    store::labels(&reader, name, request.query("project")).expect("a question is never the database's trouble");
    store::names(&reader, request.query("project")).expect("a question is never the database's trouble");
}

fn stored() -> ReaderPool {
    let now = Timestamp::from_ms(1_769_860_800_000);
    let body = br#"[{"name":"h","type":"histogram","value":1.5,"labels":{"page":"/a:b","x y":"1"},"project":"shop"},
        {"name":"h","type":"histogram","value":-3e20,"labels":{"page":"/"}},{"name":"c","type":"counter","value":1},
        {"name":"h","type":"gauge","value":0,"labels":{"page":"/a:b"},"project":"web"},
        {"name":"web_vitals_lcp","type":"histogram","value":2500,"labels":{"source":"browser"}}]"#;
    crate::db::in_memory(SCHEMA, |connection| {
        add(connection, body, now)?;
        RollUp { now }.apply(connection)?;
        add(connection, body, now + Duration::from_secs(5))
    })
}

/// What is stored of a distribution: whatever is taken for one is within bounds, and merges.
pub(crate) fn sketches(data: &[u8]) {
    let Some(sketch) = Sketch::decode(data) else { return };
    let again = sketch.encode();
    assert_eq!(Sketch::decode(&again).as_ref(), Some(&sketch));
    assert!(again.len() <= data.len(), "written in as few bytes as it needs");
    let mut twice = sketch.clone();
    twice.merge(&sketch);
    assert_eq!(twice.count(), 2 * sketch.count());
    let quantiles: Vec<Option<f64>> = [0.0, 0.5, 0.95, 1.0].into_iter().map(|q| sketch.quantile(q)).collect();
    assert!(quantiles.is_sorted_by(|one, next| one <= next), "{quantiles:?}");
    for value in quantiles.into_iter().flatten() {
        assert!(value.is_finite() && sketch.count_up_to(value) >= 1);
    }
    assert_eq!(sketch.count_up_to(f64::MAX), sketch.count());
}
