//! Rules that the tables of every service must follow, for tests of their schemas.

use rusqlite::Connection;

use super::migrate::Schema;
use super::open::in_memory;
use crate::error::Result;

/// Names of the tables that are not `STRICT`.
const LAX_TABLES: &str = "SELECT name FROM pragma_table_list
    WHERE schema = 'main' AND type = 'table' AND NOT strict AND name NOT LIKE 'sqlite%' ORDER BY name";
/// The references whose columns no index begins with, and the tables that they refer to.
const UNINDEXED_REFERENCES: &str = "
    WITH reference AS (
        SELECT t.name AS child, f.\"table\" AS parent, group_concat(f.\"from\" ORDER BY f.seq) AS columns
        FROM pragma_table_list t JOIN pragma_foreign_key_list(t.name) f WHERE t.schema = 'main' GROUP BY t.name, f.id
    ), keys AS (
        SELECT t.name AS child, group_concat(c.name ORDER BY c.seqno) AS columns
        FROM pragma_table_list t JOIN pragma_index_list(t.name) i JOIN pragma_index_info(i.name) c
        WHERE t.schema = 'main' AND NOT i.partial GROUP BY t.name, i.name
        UNION ALL
        SELECT t.name, c.name FROM pragma_table_list t JOIN pragma_table_info(t.name) c
        WHERE t.schema = 'main' AND NOT t.wr AND c.pk = 1
    )
    SELECT child || ' (' || columns || ')', parent FROM reference r
    WHERE NOT EXISTS (SELECT 1 FROM keys k WHERE k.child = r.child AND k.columns || ',' LIKE r.columns || ',%')
    ORDER BY 1";

/// Asserts that every table is `STRICT`, and that an index begins with the columns of every reference. A reference to one of
/// `never_deleted`, the tables whose rows are never deleted, needs none.
pub(crate) fn assert_sound_schema(schema: Schema, never_deleted: &[&str]) {
    in_memory(schema, |connection| {
        let mut lax = connection.prepare(LAX_TABLES)?;
        let lax = lax.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()?;
        assert_eq!(lax, [""; 0], "tables that are not STRICT");
        let mut unindexed = connection.prepare(UNINDEXED_REFERENCES)?;
        let unindexed = unindexed.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let mut unindexed = unindexed.collect::<rusqlite::Result<Vec<(String, String)>>>()?;
        unindexed.retain(|(_, parent)| !never_deleted.contains(&parent.as_str()));
        assert_eq!(unindexed, [], "references without an index");
        Ok(())
    });
}

/// Returns the rows of a table of names in ascending order of their ids.
pub(crate) fn table_of_names(connection: &Connection, table: &str) -> Result<Vec<(i64, String)>> {
    let mut select = connection.prepare(&format!("SELECT id, name FROM {table} ORDER BY id"))?;
    Ok(select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<rusqlite::Result<_>>()?)
}
