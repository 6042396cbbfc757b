use std::path::PathBuf;

use rusqlite::Connection;
use serde_json::{Value, json};

use super::rolled_back_alerts::MoveRolledBackAlerts;
use super::{SCHEMA, alerts};
use crate::alerting;
use crate::db::{Command, Database, Schema, Settings, Synchronous, open};
use crate::error::Result;

/// Schema with the table `alerts`, and with the counters of the digest in `totals`.
const V1: Schema = Schema { migrations: SCHEMA.migrations.split_at(1).0, ..SCHEMA };

/// A directory that is deleted at the end of the test.
struct TempDir(PathBuf);

impl TempDir {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("monlight-error-tracker-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn open(&self, schema: Schema) -> Database {
        let path = self.0.join("errors.db");
        open(&Settings { path, schema, synchronous: Synchronous::Normal, readers: 1, limit: None }).unwrap()
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

struct Execute(&'static str);

impl Command for Execute {
    type Output = ();

    fn apply(self, transaction: &Connection) -> Result<()> {
        transaction.execute_batch(self.0)?;
        Ok(())
    }
}

/// Runs `sql`, then closes the database.
fn write_and_close(database: &Database, sql: &'static str) {
    database.writer.run(Execute(sql)).unwrap();
    assert!(database.writer.stop(std::time::Duration::from_secs(5)));
}

#[test]
fn alerts_of_schema_1_are_moved() {
    let dir = TempDir::new("alerts");
    write_and_close(
        &dir.open(V1),
        "INSERT INTO errors (id, fingerprint, project, exception_type, message, environment, level, source, count,
             first_seen, last_seen) VALUES (7, 'f', 'shop', 'ValueError', 'm', 'prod', 'error', 'server', 1, 60, 60);
         INSERT INTO alerts (id, kind, error_id, created_at, state, finished_at, detail) VALUES
             (41, 'new', 7, 60, 'sent', 61, '[{\"channel\":\"smtp\"}]'), (42, 'reopened', 8, 62, 'held', 63, '[\"why\"]'),
             (43, 'digest', NULL, 64, 'failed', 64, '[]'), (44, 'test', NULL, 65, 'waiting', NULL, '[]');
         UPDATE totals SET value = 3 WHERE name = 'alerts_held';
         UPDATE totals SET value = 62 WHERE name = 'alerts_held_since'",
    );

    let database = dir.open(SCHEMA);
    let reader = database.readers.acquire().unwrap();
    let history = serde_json::to_value(alerts::history(&reader).unwrap()).unwrap();
    let entry =
        |id: i64, kind: &str, error_id: Value, created_at: &str, state: &str, finished_at: Value, detail: Value| {
            let (project, exception_type) =
                if error_id == 7 { (json!("shop"), json!("ValueError")) } else { (Value::Null, Value::Null) };
            json!({ "id": id, "kind": kind, "error_id": error_id, "project": project, "exception_type": exception_type,
            "created_at": created_at, "state": state, "finished_at": finished_at, "detail": detail })
        };
    let minute = |second: u32| format!("1970-01-01T00:01:{second:02}Z");
    assert_eq!(
        history,
        json!([
            entry(44, "test", Value::Null, &minute(5), "waiting", Value::Null, json!([])),
            entry(43, "digest", Value::Null, &minute(4), "failed", minute(4).into(), json!([])),
            entry(42, "reopened", json!(8), &minute(2), "held", minute(3).into(), json!(["why"])),
            entry(41, "new", json!(7), &minute(0), "sent", minute(1).into(), json!([{ "channel": "smtp" }])),
        ])
    );
    assert_eq!(alerting::suppressed_count(&reader).unwrap(), 3);
    let number = |sql: &str| reader.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(number("SELECT since FROM alert_digest"), 62);
    assert_eq!(number("SELECT count(*) FROM alerts"), 0);
    assert_eq!(number("SELECT sum(value) FROM totals WHERE name LIKE 'alerts%'"), 0);
    assert_eq!(number("SELECT seq FROM sqlite_sequence WHERE name = 'alert_events'"), 44);
}

#[test]
fn programs_of_schema_1_can_use_a_migrated_database() {
    let dir = TempDir::new("downgrade");
    write_and_close(&dir.open(SCHEMA), "");
    write_and_close(
        &dir.open(V1),
        "INSERT INTO alerts (kind, created_at, state) VALUES ('test', 60, 'waiting');
         UPDATE totals SET value = value + 1 WHERE name = 'alerts_held';
         UPDATE totals SET value = 59 WHERE name = 'alerts_held_since'",
    );
    let database = dir.open(SCHEMA);
    for _ in 0..2 {
        database.writer.run(MoveRolledBackAlerts).unwrap();
        let reader = database.readers.acquire().unwrap();
        assert_eq!(alerting::history(&reader).unwrap().len(), 1);
        assert_eq!(alerting::suppressed_count(&reader).unwrap(), 1);
        let since: i64 = reader.query_row("SELECT since FROM alert_digest", [], |row| row.get(0)).unwrap();
        assert_eq!(since, 59);
    }
}
