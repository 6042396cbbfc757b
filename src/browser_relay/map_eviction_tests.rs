use super::SCHEMA;
use super::commands::evict_oldest;
use crate::db::in_memory;

#[test]
fn full_database_loses_the_map_of_the_largest_project_that_was_unused_for_the_longest_time() {
    in_memory(SCHEMA, |connection| {
        // Maps 1-3 belong to shop, which has the most bytes; map 4 of blog was used before all of them.
        connection.execute_batch(
            "INSERT INTO map_contents (id) VALUES (1), (2), (3), (4);
             INSERT INTO source_maps (id, project, release, file_url, file_name, uploaded_at_ms, used_at_ms, mappings, stored_bytes)
                 VALUES (1, 'shop', '1', '/a.js', 'a.js', 1, 30, 0, 500), (2, 'shop', '1', '/b.js', 'b.js', 2, 20, 0, 500),
                        (3, 'shop', '1', '/c.js', 'c.js', 3, 40, 0, 500), (4, 'blog', '1', '/d.js', 'd.js', 4, 10, 0, 600);",
        )?;
        let ids = || -> rusqlite::Result<Vec<i64>> {
            connection.prepare("SELECT id FROM source_maps ORDER BY id")?.query_map([], |row| row.get(0))?.collect()
        };
        assert!(evict_oldest(connection)?);
        assert_eq!(ids()?, [1, 3, 4]);
        assert!(evict_oldest(connection)?);
        assert_eq!(ids()?, [3, 4]);
        // Now blog has the most.
        assert!(evict_oldest(connection)?);
        assert_eq!(ids()?, [3]);
        let evicted: i64 =
            connection
                .query_row("SELECT sum(rejected) FROM quota_rejections WHERE project = 'shop'", [], |row| row.get(0))?;
        assert_eq!(evicted, 2);
        Ok(())
    });
}
