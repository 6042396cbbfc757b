use super::SCHEMA;
use super::lookup_cache::LookupCache;
use super::release_maps::ReleaseMaps;
use crate::db::in_memory;

#[test]
fn work_of_one_report_is_bounded() {
    in_memory(SCHEMA, |connection| {
        let sql = "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 1500)";
        connection.execute_batch(&format!(
            "{sql} INSERT INTO map_contents (id) SELECT n FROM n;
             {sql} INSERT INTO source_maps (id, project, release, file_url, file_name, uploaded_at_ms, used_at_ms, mappings)
                 SELECT n, 'shop', '1.0', 'https://shop.example/' || n || '/index.js', 'index.js', 0, 0, 0 FROM n;"
        ))?;
        let cache = LookupCache::default();
        let mut maps = ReleaseMaps::new(connection, &cache, "shop", "1.0");
        let mut found = 0;
        for number in 1..=50 {
            let url = format!("https://shop.example/{number}/index.js");
            let map = maps.find_map(&url)?.map(|map| map.id);
            assert!(map == Some(number) || (map.is_none() && maps.skipped_frames() > 0), "{map:?} for {url}");
            found += usize::from(map.is_some());
        }
        assert_eq!(found + maps.skipped_frames(), 50);
        assert!((5..20).contains(&found), "{found} files were compared with all maps");
        // A file that was compared before still has its map.
        assert!(maps.find_map("https://shop.example/1/index.js")?.is_some());
        // Honest reports have few files.
        let mut maps = ReleaseMaps::new(connection, &cache, "shop", "1.0");
        for number in [1_500, 750, 1] {
            let url = format!("https://shop.example/{number}/index.js");
            assert_eq!(maps.find_map(&url)?.map(|map| map.id), Some(number));
        }
        assert_eq!(maps.skipped_frames(), 0);
        Ok(())
    });
}
