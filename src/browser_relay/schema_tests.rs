use super::SCHEMA;
use super::commands::{DeleteMap, DiscardUpload, FinishUpload, StartUpload, StoreBlocks};
use super::sourcemap::convert::MapStats;
use super::sourcemap::layout::BlockKind;
use super::sourcemap::upload_body::UploadFields;
use super::upstream::UpstreamKind;
use crate::clock::Timestamp;
use crate::db::{Command as _, in_memory, table_of_names};
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
