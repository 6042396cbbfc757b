//! Test harness that finds cached statements which SQLite plans again while the same traffic repeats.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::{Command, Database, Schema, Settings, Synchronous, open};
use crate::error::Result;

/// Rounds of traffic that fill the statement caches.
const WARM_UP_ROUNDS: i64 = 3;
/// Rounds of traffic in which no statement may be planned.
const MEASURED_ROUNDS: i64 = 5;

/// Statements that were planned again after the warm-up, by the setting of the query planner stability guarantee.
#[derive(Debug)]
pub(crate) struct ReplannedStatements {
    /// With the connections as [`open`] returns them.
    pub(crate) with_qpsg: BTreeSet<String>,
    /// With the guarantee switched off.
    pub(crate) without_qpsg: BTreeSet<String>,
}

/// Runs rounds of traffic on a new database with one reader, first with QPSG and then without, and returns the statements
/// that were planned again. `traffic` gets the number of the round.
pub(crate) fn replanned_statements(
    service: &str,
    schema: Schema,
    mut traffic: impl FnMut(&Database, i64),
) -> ReplannedStatements {
    let folder = Folder::new(service);
    let path = folder.0.join("test.db");
    let settings = Settings { path, schema, synchronous: Synchronous::Normal, readers: 1, limit: None };
    let database = open(&settings).unwrap();
    let mut measure = |first_round| {
        let measured_from = first_round + WARM_UP_ROUNDS;
        (first_round..measured_from).for_each(|round| traffic(&database, round));
        let before = replan_counts(&database);
        (measured_from..measured_from + MEASURED_ROUNDS).for_each(|round| traffic(&database, round));
        replanned(&before, &replan_counts(&database))
    };
    let with_qpsg = measure(0);
    database.writer.run(SwitchOffQpsg).unwrap();
    switch_off_qpsg(&database.readers.acquire().unwrap()).unwrap();
    let without_qpsg = measure(WARM_UP_ROUNDS + MEASURED_ROUNDS);
    assert!(database.writer.stop(Duration::from_secs(10)));
    ReplannedStatements { with_qpsg, without_qpsg }
}

/// A temporary folder, removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(service: &str) -> Self {
        let path = std::env::temp_dir().join(format!("monlight-replan-{service}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

/// Plans again and executions of each statement by its SQL.
type ReplanCounts = BTreeMap<String, (i64, i64)>;

/// Reads the counts of the writer's connection.
struct ReadReplanCounts;

impl Command for ReadReplanCounts {
    type Output = ReplanCounts;

    fn apply(self, transaction: &Connection) -> Result<ReplanCounts> {
        read_replan_counts(transaction)
    }
}

struct SwitchOffQpsg;

impl Command for SwitchOffQpsg {
    type Output = ();

    fn apply(self, transaction: &Connection) -> Result<()> {
        switch_off_qpsg(transaction)
    }
}

/// Switches QPSG off, and drops the cached statements, which keep the setting with which they were prepared.
fn switch_off_qpsg(connection: &Connection) -> Result<()> {
    connection.flush_prepared_statement_cache();
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, false)?;
    Ok(())
}

/// Returns the counts of all prepared statements of the writer and the reader.
fn replan_counts(database: &Database) -> [ReplanCounts; 2] {
    let reader = database.readers.acquire().unwrap();
    [database.writer.run(ReadReplanCounts).unwrap(), read_replan_counts(&reader).unwrap()]
}

fn read_replan_counts(connection: &Connection) -> Result<ReplanCounts> {
    let mut read = connection.prepare("SELECT sql, sum(reprep), sum(run) FROM sqlite_stmt GROUP BY sql")?;
    let counts = read.query_map([], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))))?;
    Ok(counts.collect::<rusqlite::Result<_>>()?)
}

/// Returns the statements that SQLite planned again between two counts.
fn replanned(before: &[ReplanCounts; 2], after: &[ReplanCounts; 2]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut executions = 0;
    for (before, after) in before.iter().zip(after) {
        for (sql, (replans, runs)) in before {
            // A statement that left the cache was planned again too, as a new statement.
            let (replans_after, runs_after) = after.get(sql).copied().unwrap_or_default();
            executions += runs_after - runs;
            if replans_after > *replans || runs_after < *runs {
                found.insert(sql.clone());
            }
        }
    }
    assert!(executions > 0, "the traffic executes no cached statement");
    found
}
