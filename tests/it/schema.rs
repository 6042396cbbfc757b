//! Schema of the four databases: its rules, and the page that describes it, which is drawn from the SQL files.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use rusqlite::Connection;

use crate::support::harness::{SERVICES, Service};
use crate::support::stack::start_services;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const PAGE: &str = "docs/schema.md";
/// Environment variable with which the test writes the page instead of comparing it; see `make schema`.
const WRITE: &str = "MONLIGHT_WRITE_SCHEMA";
/// Suffixes of column names and the units that they stand for.
const UNITS: [(&str, &str); 7] = [
    ("_ns", "ns"),
    ("_ms", "ms"),
    ("_s", "s"),
    ("_min", "min"),
    ("_h", "h"),
    ("_bytes", "bytes"),
    ("_sha256", "SHA-256"),
];
/// Words that name a time or a size, and hence need a unit in the name of the column.
const MEASURES: [&str; 11] =
    ["at", "time", "timestamp", "until", "since", "seen", "arrived", "hour", "minute", "age", "size"];

/// Tables whose rows are never deleted, so references to them need no index: enumerations, and the ring of segments.
const NEVER_DELETED: [&str; 15] = [
    "alert_channels",
    "alert_kinds",
    "alert_states",
    "alert_subject_types",
    "error_levels",
    "error_sources",
    "fingerprint_algorithms",
    "key_kinds",
    "levels",
    "map_block_kinds",
    "metric_types",
    "segments",
    "source_kinds",
    "streams",
    "upstreams",
];
/// References whose columns no index begins with: child with columns, and parent.
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

/// Table or view as SQLite reports it.
struct Table {
    name: String,
    /// Statement that created the table, including comments.
    sql: String,
    /// Comment before the statement in the SQL file.
    about: String,
    columns: Vec<Column>,
    is_strict: bool,
}

struct Column {
    name: String,
    declared_type: String,
    is_key: bool,
    is_nullable: bool,
    /// Referenced table and column.
    reference: Option<(String, String)>,
    about: String,
}

/// Returns the databases of all services as they are after their first start, in the order of `SERVICES`.
fn databases() -> Vec<Connection> {
    let services = start_services(|_, setup| setup);
    let names = ["errors.db", "logs.db", "metrics.db", "browser-relay.db"];
    let open = |(service, name): (Service, &str)| {
        let data_dir = service.kill();
        let copy = Connection::open(data_dir.path().join(name)).unwrap();
        let mut memory = Connection::open_in_memory().unwrap();
        rusqlite::backup::Backup::new(&copy, &mut memory).unwrap().step(-1).unwrap();
        memory
    };
    services.into_iter().zip(names).map(open).collect()
}

/// Returns the comments before the statements of all SQL files, by table.
fn comments_of_tables() -> BTreeMap<String, String> {
    let mut comments = BTreeMap::new();
    for folder in std::fs::read_dir(Path::new(ROOT).join("sql")).unwrap() {
        for file in std::fs::read_dir(folder.unwrap().path()).unwrap() {
            let mut comment = Vec::new();
            for line in std::fs::read_to_string(file.unwrap().path()).unwrap().lines() {
                match line.strip_prefix("-- ").or_else(|| (line == "--").then_some("")) {
                    Some(text) => comment.push(text.to_owned()),
                    None => {
                        let words: Vec<&str> = line.split_whitespace().collect();
                        if let ["CREATE", "TABLE" | "VIEW", name, ..] | ["CREATE", "VIRTUAL", "TABLE", name, ..] =
                            words.as_slice()
                        {
                            comments.insert(family(name), comment.join(" "));
                        }
                        comment.clear();
                    }
                }
            }
        }
    }
    comments
}

/// Returns the name that tables which differ only in their number share, such as `segment_N`.
fn family(name: &str) -> String {
    let name = name.replace("{n}", "N");
    let stem = name.trim_end_matches(|letter: char| letter.is_ascii_digit());
    if stem.len() < name.len() && stem.ends_with('_') { format!("{stem}N") } else { name }
}

fn read_tables(database: &Connection, comments: &BTreeMap<String, String>) -> Vec<Table> {
    let sql = "SELECT l.name, l.strict, s.sql FROM pragma_table_list l JOIN sqlite_schema s ON s.name = l.name
               WHERE l.schema = 'main' AND l.type IN ('table', 'virtual') AND l.name NOT LIKE 'sqlite_%' ORDER BY s.rowid";
    let mut read = database.prepare(sql).unwrap();
    let mut tables: Vec<Table> = Vec::new();
    let mut rows = read.query([]).unwrap();
    while let Some(row) = rows.next().unwrap() {
        let (name, is_strict, sql): (String, bool, String) =
            (row.get(0).unwrap(), row.get(1).unwrap(), row.get(2).unwrap());
        let about = comments.get(&family(&name)).cloned().unwrap_or_default();
        let columns = read_columns(database, &name, &sql);
        tables.push(Table { name, sql, about, columns, is_strict });
    }
    tables
}

fn read_columns(database: &Connection, table: &str, sql: &str) -> Vec<Column> {
    let mut references = BTreeMap::new();
    let mut read = database.prepare("SELECT \"from\", \"table\", \"to\" FROM pragma_foreign_key_list(?1)").unwrap();
    let mut rows = read.query([table]).unwrap();
    while let Some(row) = rows.next().unwrap() {
        let column: String = row.get(0).unwrap();
        references.insert(column, (row.get(1).unwrap(), row.get(2).unwrap()));
    }
    let mut read = database.prepare("SELECT name, type, pk > 0, \"notnull\" = 0 FROM pragma_table_info(?1)").unwrap();
    let columns = read.query_map([table], |row| {
        let name: String = row.get(0)?;
        Ok(Column {
            declared_type: row.get(1)?,
            is_key: row.get(2)?,
            is_nullable: row.get(3)?,
            reference: references.remove(&name),
            about: comment_of_column(sql, &name),
            name,
        })
    });
    columns.unwrap().map(|column| column.unwrap()).collect()
}

/// Returns the comment of a column: the lines before it that are indented like it, and the comment on its line, which may
/// continue on lines that are indented more.
fn comment_of_column(sql: &str, column: &str) -> String {
    let lines: Vec<&str> = sql.lines().collect();
    let Some(index) = lines.iter().position(|line| line.split_whitespace().next() == Some(column)) else {
        return String::new();
    };
    let is_before = |line: &&&str| line.starts_with("    -- ");
    let mut parts: Vec<&str> = lines[..index].iter().rev().take_while(is_before).map(|line| &line[7..]).collect();
    parts.reverse();
    if let Some((_, comment)) = lines[index].split_once("-- ") {
        parts.push(comment);
        let is_continued = |line: &&&str| line.starts_with("     ") && line.trim().starts_with("-- ");
        parts.extend(lines[index + 1..].iter().take_while(is_continued).map(|line| &line.trim()[3..]));
    }
    parts.join(" ")
}

fn unit(column: &str) -> &'static str {
    UNITS.iter().find(|(suffix, _)| column.ends_with(suffix)).map_or("", |(_, unit)| unit)
}

/// Returns the breaches of the rules for the schema, one sentence each.
fn breaches(database: &Connection, tables: &[Table]) -> Vec<String> {
    let mut breaches = Vec::new();
    for table in tables.iter().filter(|table| !table.sql.starts_with("CREATE VIRTUAL") && !is_shadow(table, tables)) {
        if !table.is_strict {
            breaches.push(format!("table {} is not STRICT", table.name));
        }
        for column in &table.columns {
            let last_word = column.name.rsplit('_').next().unwrap_or_default();
            if MEASURES.contains(&last_word) {
                breaches.push(format!("column {}.{} has no unit in its name", table.name, column.name));
            }
        }
    }
    let mut read = database.prepare(UNINDEXED_REFERENCES).unwrap();
    let mut rows = read.query([]).unwrap();
    while let Some(row) = rows.next().unwrap() {
        let (child, parent): (String, String) = (row.get(0).unwrap(), row.get(1).unwrap());
        if !NEVER_DELETED.contains(&parent.as_str()) {
            breaches.push(format!("reference of {child} to {parent} has no index"));
        }
    }
    breaches
}

/// Whether a table belongs to a virtual table, which creates it itself.
fn is_shadow(table: &Table, tables: &[Table]) -> bool {
    let is_virtual = |other: &&Table| other.sql.starts_with("CREATE VIRTUAL");
    tables.iter().filter(is_virtual).any(|other| table.name.starts_with(&format!("{}_", other.name)))
}

/// Draws a section of the page: a diagram of the references, and a table for each table of the database.
fn draw(title: &str, database: &Connection, tables: &[&Table]) -> String {
    let mut page = format!("\n## {title}\n");
    let mut references: BTreeMap<(String, &str, &str), Vec<&str>> = BTreeMap::new();
    for table in tables {
        for column in &table.columns {
            if let Some((parent, _)) = &column.reference {
                let one = if column.is_nullable && !column.is_key { "|o" } else { "||" };
                references.entry((family(&table.name), parent, one)).or_default().push(&column.name);
            }
        }
    }
    if !references.is_empty() {
        page.push_str("\n```mermaid\nerDiagram\n");
        for ((child, parent, one), columns) in references {
            writeln!(page, "    {parent} {one}--o{{ {child} : \"{}\"", columns.join(", ")).unwrap();
        }
        page.push_str("```\n");
    }
    for table in tables {
        let name = family(&table.name);
        page.push_str(&if table.about.is_empty() {
            format!("\n**{name}**")
        } else {
            format!("\n**{name}**: {}", table.about)
        });
        if NEVER_DELETED.contains(&table.name.as_str()) && table.columns[1].name == "name" {
            writeln!(
                page,
                "{} Values: {}.",
                if table.about.is_empty() { ":" } else { "" },
                values(database, &table.name)
            )
            .unwrap();
            continue;
        }
        page.push_str("\n\n| Column | Type | Unit | References | Meaning |\n|---|---|---|---|---|\n");
        for column in &table.columns {
            let reference = column.reference.as_ref().map(|(table, column)| format!("{table}.{column}"));
            let declared_type = if column.declared_type.is_empty() { "full text" } else { &column.declared_type };
            let is_nullable = column.is_nullable && !column.is_key && !column.declared_type.is_empty();
            writeln!(
                page,
                "| {}{} | {declared_type}{} | {} | {} | {} |",
                column.name,
                if column.is_key { " (key)" } else { "" },
                if is_nullable { " or null" } else { "" },
                unit(&column.name),
                reference.unwrap_or_default(),
                column.about.replace('|', "\\|")
            )
            .unwrap();
        }
    }
    page
}

/// Returns the rows of an enumeration.
fn values(database: &Connection, table: &str) -> String {
    let sql = format!("SELECT group_concat(id || ' ' || name, ', ' ORDER BY id) FROM {table}");
    database.query_row(&sql, [], |row| row.get(0)).unwrap()
}

/// Returns the tables to draw: without those that a virtual table creates itself, and one of each family.
fn drawn(tables: &[Table]) -> Vec<&Table> {
    let mut drawn: Vec<&Table> = Vec::new();
    for table in tables.iter().filter(|table| !is_shadow(table, tables)) {
        if !drawn.iter().any(|other| family(&other.name) == family(&table.name)) {
            drawn.push(table);
        }
    }
    drawn
}

#[test]
fn schema_page_equals_the_sql_files_and_tables_obey_the_rules() {
    let comments = comments_of_tables();
    let mut page =
        "# Schema of the databases\n\nDrawn from `sql/` by `make schema`; do not edit. Times count from 1970 (UTC) \
                    in the unit that ends the name of the column.\n"
            .to_owned();
    let files = std::fs::read_dir(Path::new(ROOT).join("sql/common")).unwrap();
    let common: String = files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect();
    let is_common = |table: &&Table| common.contains(&format!("CREATE TABLE {} (", table.name));
    let mut found = Vec::new();
    for (service, database) in SERVICES.iter().zip(databases()) {
        let tables = read_tables(&database, &comments);
        assert!(tables.len() > 5, "{service} has only {} tables", tables.len());
        found.extend(breaches(&database, &tables));
        let (shared, own): (Vec<&Table>, Vec<&Table>) = drawn(&tables).into_iter().partition(is_common);
        if service == &SERVICES[0] {
            page.push_str(&draw("Every service", &database, &shared));
        }
        let version: String =
            database.query_row("SELECT value FROM _meta WHERE key = 'schema_version'", [], |row| row.get(0)).unwrap();
        page.push_str(&draw(&format!("{service} (schema version {version})"), &database, &own));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    let path = Path::new(ROOT).join(PAGE);
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), page, "{PAGE} is outdated; run make schema");
}

#[test]
fn rules_for_the_schema_reject_loose_tables() {
    let database = Connection::open_in_memory().unwrap();
    database
        .execute_batch(
            "CREATE TABLE levels (id INTEGER PRIMARY KEY, name TEXT) STRICT;
             CREATE TABLE parents (id INTEGER PRIMARY KEY, level INTEGER REFERENCES levels (id), seen_s INTEGER) STRICT;
             CREATE TABLE loose (id INTEGER PRIMARY KEY, parent_id INTEGER REFERENCES parents (id), last_seen INTEGER);
             CREATE TABLE indexed (id INTEGER PRIMARY KEY, parent_id INTEGER REFERENCES parents (id)) STRICT;
             CREATE INDEX indexed_by_parent ON indexed (parent_id)",
        )
        .unwrap();
    let tables = read_tables(&database, &BTreeMap::new());
    assert_eq!(
        breaches(&database, &tables),
        [
            "table loose is not STRICT",
            "column loose.last_seen has no unit in its name",
            "reference of loose (parent_id) to parents has no index"
        ]
    );
}
