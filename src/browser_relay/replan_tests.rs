use std::net::{IpAddr, Ipv4Addr};

use super::SCHEMA;
use super::commands::{FinishUpload, StartUpload, StoreBlocks, TouchMaps};
use super::lookup_cache::LookupCache;
use super::outbox_commands::{EnqueueOutbox, OutboxBounds, RemoveFromOutbox};
use super::outbox_store::{next_outbox_id, outbox_item, waiting_projects};
use super::release_maps::ReleaseMaps;
use super::sourcemap::convert::convert;
use super::sourcemap::lookup::LookupResult;
use super::sourcemap::upload_body::UploadFields;
use super::upstream::{OutboundRequest, UpstreamKind};
use crate::clock::Timestamp;
use crate::db::{Database, replanned_statements};
use crate::records::key_kind::KeyKind;

const START_MS: i64 = 1_769_860_800_000;
const MAP: &str =
    r#"{"version":3,"sources":["src/cart.ts"],"sourcesContent":["pay()"],"names":["pay"],"mappings":"AAAAA"}"#;

/// Uploads a source map, symbolicates the frame of a report, and moves the report through the outbox.
fn upload_and_relay(database: &Database, round: i64) {
    let now = Timestamp::from_ms(START_MS + round * 1_000);
    let id = database.writer.run(StartUpload).unwrap();
    let mut blocks = Vec::new();
    let stats = convert(
        || Ok(MAP.as_bytes()),
        |kind, key, bytes| {
            blocks.push((kind, key, bytes.to_vec()));
            Ok(())
        },
    );
    database.writer.run(StoreBlocks { id, blocks }).unwrap();
    let file_url = String::from("https://shop.example/app.js");
    let fields = UploadFields { project: "shop".into(), release: "1.0".into(), file_url: file_url.clone() };
    database.writer.run(FinishUpload { id, fields, stats: stats.unwrap(), now }).unwrap();

    let cache = LookupCache::default();
    for _ in 0..2 {
        let reader = database.readers.acquire().unwrap();
        let mut maps = ReleaseMaps::new(&reader, &cache, "shop", "1.0");
        let found = maps.look_up(&file_url, 1, 1).unwrap();
        assert!(matches!(found, Some(LookupResult::Resolved(_))), "{found:?}");
    }
    database.writer.run(TouchMaps { maps: vec![id], now }).unwrap();

    let request = OutboundRequest {
        kind: UpstreamKind::Errors,
        project: "shop".into(),
        key_kind: KeyKind::Browser,
        body: format!(r#"{{"round":{round}}}"#).into_bytes(),
        idempotency_key: round.to_string(),
        client: IpAddr::V4(Ipv4Addr::LOCALHOST),
        adjusted: Vec::new(),
        reservation: None,
    };
    database.writer.run(EnqueueOutbox { request, bounds: OutboxBounds { bytes_max: 1_000_000 }, now }).unwrap();
    let reader = database.readers.acquire().unwrap();
    assert_eq!(waiting_projects(&reader, UpstreamKind::Errors).unwrap(), ["shop"]);
    let (id, _) = next_outbox_id(&reader, UpstreamKind::Errors, "shop", 0).unwrap().unwrap();
    assert!(outbox_item(&reader, UpstreamKind::Errors, id).unwrap().is_some());
    drop(reader);
    database.writer.run(RemoveFromOutbox { id, is_accepted: true }).unwrap();
}

#[test]
fn repeated_relayed_reports_are_never_planned_again() {
    let replanned = replanned_statements("browser-relay", SCHEMA, upload_and_relay);
    assert!(replanned.with_qpsg.is_empty(), "{:#?}", replanned.with_qpsg);
    assert!(!replanned.without_qpsg.is_empty(), "QPSG makes no difference, so this test cannot fail");
}
