use super::commands::{DeleteMap, DiscardUpload, FinishUpload, StartUpload, StoreBlocks};
use super::sourcemap::convert::MapStats;
use super::sourcemap::layout::BlockKind;
use super::sourcemap::upload_body::UploadFields;
use super::upstream::UpstreamKind;
use super::{ISOLATION, SCHEMA};
use crate::clock::Timestamp;
use crate::db::{Command as _, Schema, in_memory, table_of_names};
use crate::error::Error;

#[test]
fn deleting_a_source_map_spares_uploads_in_progress() {
    in_memory(SCHEMA, |connection| {
        let unfinished = |file_url: &str| {
            let id = StartUpload.apply(connection)?;
            let blocks = vec![(BlockKind::Mappings, 0, vec![0]), (BlockKind::Names, 0, vec![0])];
            StoreBlocks { id, blocks }.apply(connection)?;
            let fields = UploadFields { project: "p".into(), release: "r".into(), file_url: file_url.into() };
            let now = Timestamp::from_seconds(1_000);
            Ok::<_, Error>(FinishUpload { id, fields, stats: MapStats::default(), now })
        };
        let blocks = || {
            let sql = "SELECT group_concat(DISTINCT map_id) FROM map_blocks";
            connection.query_row(sql, [], |row| row.get::<_, Option<String>>(0)).unwrap().unwrap_or_default()
        };
        unfinished("/a.js")?.apply(connection)?;
        let replacement = unfinished("/a.js")?;
        assert!(!DeleteMap { id: 2 }.apply(connection)?, "an upload in progress is no source map yet");
        assert_eq!(blocks(), "1,2");
        replacement.apply(connection)?;
        assert_eq!(blocks(), "2", "the replaced map is deleted with its blocks");
        assert!(DeleteMap { id: 2 }.apply(connection)? && !DeleteMap { id: 2 }.apply(connection)?);
        unfinished("/b.js")?;
        DiscardUpload { id: 3 }.apply(connection)?;
        assert_eq!(blocks(), "");
        assert_eq!(StartUpload.apply(connection)?, 4, "ids are not reused");
        Ok(())
    });
}

#[test]
fn ids_agree_with_the_tables_of_names() {
    in_memory(SCHEMA, |connection| {
        let expected = UpstreamKind::ALL.map(|kind| (kind.id(), kind.service().to_owned()));
        assert_eq!(table_of_names(connection, "upstreams")?, expected);
        let expected = [
            (BlockKind::Mappings, "mappings"),
            (BlockKind::SourceUrls, "source URLs"),
            (BlockKind::Names, "names"),
            (BlockKind::SourceChunks, "source chunks"),
        ]
        .map(|(kind, name)| (kind.id(), name.to_owned()));
        assert_eq!(table_of_names(connection, "map_block_kinds")?, expected);
        Ok(())
    });
}

#[test]
fn rows_of_schema_1_0_count_for_their_projects() {
    in_memory(Schema { migrations: &[], ..SCHEMA }, |connection| {
        connection.execute_batch(
            r#"INSERT INTO dsn_keys (public_key, project, created_at_ms) VALUES ('k', 'shop', 0);
               INSERT INTO outbox (upstream_id, idempotency_key, body, client, created_at_ms) VALUES
                   (1, 'a', '{"project":"shop"}', '::1', 0), (1, 'b', '{"project":"shop","x":1}', '::1', 0),
                   (2, 'c', '[{"project":"blog"}]', '::1', 0), (2, 'd', '[]', '::1', 0), (1, 'e', 'not JSON', '::1', 0);
               INSERT INTO map_contents (id) VALUES (1);
               INSERT INTO source_maps (id, project, release, file_url, file_name, uploaded_at_ms, used_at_ms, mappings)
                   VALUES (1, 'shop', '1', '/a.js', 'a.js', 0, 0, 0);
               INSERT INTO map_blocks (map_id, kind_id, key, data) VALUES (1, 1, 0, x'0102'), (1, 2, 0, x'03');"#,
        )?;
        connection.pragma_update(None, "foreign_keys", false)?;
        connection.execute_batch(ISOLATION.sql)?;
        connection.pragma_update(None, "foreign_keys", true)?;
        let text = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, String>(0)).unwrap();
        assert_eq!(text("SELECT group_concat(project, ',' ORDER BY id) FROM outbox"), "shop,shop,blog,,");
        assert_eq!(text("SELECT name FROM dsn_keys d JOIN key_kinds k ON k.id = d.key_kind_id"), "browser");
        let usage = "SELECT group_concat(store || ' ' || project || ' ' || row_count || ' ' || stored_bytes, ', ' ORDER BY \
                     store, project) FROM quota_usage";
        assert_eq!(
            text(usage),
            "outbox_errors  1 208, outbox_errors shop 2 442, outbox_metrics  1 202, outbox_metrics blog 1 220, \
             source_maps shop 1 3"
        );
        connection.execute_batch("DELETE FROM outbox; DELETE FROM map_contents")?;
        assert_eq!(text("SELECT count(*) || '' FROM quota_usage"), "0");
        Ok(())
    });
}
