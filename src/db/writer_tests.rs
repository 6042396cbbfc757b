use std::path::PathBuf;

use super::super::{Database, Idempotent, Migration, OpenError, OriginalImport, Schema, Settings, Synchronous, open};
use super::*;
use crate::clock::Timestamp;

const SCHEMA: Schema = Schema {
    application_id: 0x4D4C_0001,
    create: |connection| Ok(connection.execute_batch("CREATE TABLE t (n INTEGER PRIMARY KEY)")?),
    migrations: &[],
    import: None,
};

/// A temporary folder of one test, removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("monlight-db-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn settings(&self, schema: Schema) -> Settings {
        let path = self.0.join("test.db");
        Settings { path, schema, synchronous: Synchronous::Normal, readers: 1, limit: None }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

struct Insert(i64);

impl Command for Insert {
    type Output = i64;

    fn apply(self, transaction: &Connection) -> Result<i64> {
        transaction.execute("INSERT INTO t (n) VALUES (?1)", [self.0])?;
        if self.0 < 0 {
            return Err(Error::Invalid("negative".into()));
        }
        Ok(self.0)
    }
}

fn count(readers: &super::super::ReaderPool) -> i64 {
    readers.acquire().unwrap().query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap()
}

#[test]
fn failed_commands_are_rolled_back_without_their_batch() {
    let folder = Folder::new("batch");
    let database = open(&folder.settings(SCHEMA)).unwrap();
    let (answer, answers) = crossbeam_channel::unbounded();
    for n in [1, -2, 3, 1, 4] {
        let answer = answer.clone();
        database.writer.submit(Insert(n), move |outcome| answer.send(outcome.is_ok()).unwrap());
    }
    let outcomes: Vec<bool> = (0..5).map(|_| answers.recv_timeout(Duration::from_secs(5)).unwrap()).collect();
    assert_eq!(outcomes, [true, false, true, false, true]);
    assert_eq!(count(&database.readers), 3);
    assert!(database.writer.stop(Duration::from_secs(5)));
    assert!(matches!(database.writer.run(Insert(9)), Err(Error::Busy(_))));
}

#[test]
fn idempotency_keys_survive_a_restart() {
    let folder = Folder::new("once");
    let once = |key: &str, n| Idempotent {
        scope: "p".into(),
        key: Some(key.to_owned()),
        now: Timestamp::from_ms(1),
        command: Insert(n),
    };
    let database = open(&folder.settings(SCHEMA)).unwrap();
    assert_eq!(database.writer.run(once("a", 1)), Ok(1));
    assert_eq!(database.writer.run(once("a", 2)), Ok(1), "a repeat returns the first result");
    assert!(database.writer.run(once("b", -1)).is_err());
    assert_eq!(database.writer.run(once("b", 3)), Ok(3), "the key of a failed command is not stored");
    assert!(database.writer.stop(Duration::from_secs(5)));
    let again = open(&folder.settings(SCHEMA)).unwrap();
    assert_eq!(again.writer.run(once("a", 4)), Ok(1));
    assert_eq!(count(&again.readers), 2);
}

#[test]
fn older_programs_open_a_file_down_to_its_oldest_reader() {
    const FIRST: &[Migration] = &[];
    const SECOND: &[Migration] = &[Migration { sql: "ALTER TABLE t ADD COLUMN m", oldest_reader: 100 }];
    const THIRD: &[Migration] = &[SECOND[0], Migration { sql: "CREATE TABLE u (n)", oldest_reader: 102 }];
    let folder = Folder::new("migrate");
    let opened = |migrations| {
        open(&folder.settings(Schema { migrations, ..SCHEMA })).map(|database| {
            assert!(database.writer.stop(Duration::from_secs(5)));
        })
    };
    opened(FIRST).unwrap();
    opened(SECOND).unwrap();
    opened(FIRST).expect("an older program can still use it");
    opened(SECOND).unwrap();
    opened(THIRD).unwrap();
    let refusal = opened(SECOND).unwrap_err().to_string();
    assert!(refusal.contains("newer Monlight") && refusal.contains("test.db"), "{refusal}");
}

#[test]
fn foreign_files_are_rejected_and_original_files_are_copied_before_import() {
    const IMPORT: OriginalImport = OriginalImport {
        version: 4,
        tables: &["t"],
        convert: |connection| Ok(connection.execute_batch("INSERT INTO t (n) SELECT n * 10 FROM original_t")?),
    };
    let folder = Folder::new("import");
    let settings = folder.settings(Schema { import: Some(IMPORT), ..SCHEMA });
    let foreign = Connection::open(&settings.path).unwrap();
    foreign.execute_batch("CREATE TABLE t (n)").unwrap();
    let refusal = || open(&settings).err().unwrap().to_string();
    assert!(refusal().contains("another program"));
    foreign.execute_batch("CREATE TABLE _meta (key, value); INSERT INTO _meta VALUES ('schema_version', '3')").unwrap();
    assert!(refusal().contains("original's schema 3"));
    foreign.execute_batch("UPDATE _meta SET value = '4'; INSERT INTO t VALUES (7)").unwrap();
    drop(foreign);
    let database = open(&settings).unwrap();
    let found: i64 = database.readers.acquire().unwrap().query_row("SELECT n FROM t", [], |row| row.get(0)).unwrap();
    assert_eq!(found, 70);
    let copy = Connection::open(folder.0.join("test.db.original-4")).unwrap();
    let kept: i64 = copy.query_row("SELECT n FROM t", [], |row| row.get(0)).unwrap();
    assert_eq!(kept, 7);
}

#[test]
fn files_of_development_versions_are_rejected_and_unchanged() {
    let folder = Folder::new("development");
    let settings = folder.settings(SCHEMA);
    let old = Connection::open(&settings.path).unwrap();
    old.execute_batch(
        "CREATE TABLE t (n); INSERT INTO t VALUES (7); PRAGMA application_id = 0x4D4C0001;
         CREATE TABLE _meta (key, value); INSERT INTO _meta VALUES ('schema_version', '99'), ('oldest_reader', '1')",
    )
    .unwrap();
    drop(old);
    let before = std::fs::read(&settings.path).unwrap();
    let Err(OpenError::DevelopmentVersion(refusal)) = open(&settings) else { panic!("the file was opened") };
    assert!(refusal.contains("before 1.0") && refusal.contains("test.db"), "{refusal}");
    assert_eq!(std::fs::read(&settings.path).unwrap(), before);
}

#[test]
fn imports_with_rows_that_refer_to_missing_ones_are_undone() {
    let folder = Folder::new("dangling");
    let import = OriginalImport {
        version: 4,
        tables: &["u"],
        convert: |connection| Ok(connection.execute_batch("INSERT INTO r (n) SELECT n FROM original_u")?),
    };
    let create = |connection: &Connection| {
        Ok(connection.execute_batch("CREATE TABLE t (n INTEGER PRIMARY KEY); CREATE TABLE r (n REFERENCES t (n))")?)
    };
    let settings = folder.settings(Schema { create, import: Some(import), ..SCHEMA });
    let original = Connection::open(&settings.path).unwrap();
    original
        .execute_batch(
            "CREATE TABLE u (n); INSERT INTO u VALUES (7); CREATE TABLE _meta (key, value);
             INSERT INTO _meta VALUES ('schema_version', '4')",
        )
        .unwrap();
    let refusal = open(&settings).err().unwrap().to_string();
    assert!(refusal.contains("table r"), "{refusal}");
    assert_eq!(original.query_row("SELECT n FROM u", [], |row| row.get::<_, i64>(0)), Ok(7));
}

#[test]
fn writer_enforces_references() {
    let folder = Folder::new("references");
    let create = |connection: &Connection| {
        Ok(connection.execute_batch("CREATE TABLE p (n INTEGER PRIMARY KEY); CREATE TABLE t (n REFERENCES p (n))")?)
    };
    let database = open(&folder.settings(Schema { create, ..SCHEMA })).unwrap();
    assert!(database.writer.run(Insert(1)).is_err());
    assert_eq!(count(&database.readers), 0);
}

#[test]
fn created_files_have_mode_0600() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = Folder::new("private");
    let settings = folder.settings(SCHEMA);
    let database = open(&settings).unwrap();
    database.writer.run(Insert(1)).unwrap();
    super::super::backup(&SCHEMA, &settings.path, &folder.0.join("copy.db")).unwrap();
    for name in ["test.db", "test.db-wal", "test.db-shm", "copy.db"] {
        let mode = std::fs::metadata(folder.0.join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

/// Adds a row that fills a page.
struct Fill(i64);

impl Command for Fill {
    type Output = ();

    fn apply(self, transaction: &Connection) -> Result<()> {
        transaction.execute("INSERT INTO f (n, x) VALUES (?1, randomblob(4000))", [self.0])?;
        Ok(())
    }
}

fn evict(connection: &Connection) -> Result<bool> {
    Ok(connection.execute("DELETE FROM f WHERE n IN (SELECT n FROM f ORDER BY n LIMIT 10)", [])? > 0)
}

const FILLED: &[Migration] = &[Migration { sql: "CREATE TABLE f (n INTEGER PRIMARY KEY, x)", oldest_reader: 100 }];

#[test]
fn database_larger_than_the_default_limit_is_not_shrunk_until_the_operator_sets_one() {
    let folder = Folder::new("default-limit");
    let start = |limit: Option<(u64, bool)>| {
        let limit = limit.map(|(bytes_max, is_default)| SizeLimit { bytes_max, is_default, evict });
        open(&Settings { limit, ..folder.settings(Schema { migrations: FILLED, ..SCHEMA }) }).unwrap()
    };
    let used = |database: &Database| {
        let used = database.writer.stats().used_bytes.load(Ordering::Relaxed);
        assert!(database.writer.stop(Duration::from_secs(5)));
        used
    };
    let fill = |database: &Database, from: i64| (from..from + 500).for_each(|n| database.writer.run(Fill(n)).unwrap());
    let unlimited = start(None);
    fill(&unlimited, 0);
    let before = used(&unlimited);
    assert!(before > 2_000_000, "{before}");
    // The first start with the default, and a later one.
    for n in [1_000, 2_000] {
        let database = start(Some((1_000_000, true)));
        let warning = database.writer.warnings().pop().expect("a warning names the size");
        assert_eq!((warning.code, warning.count), ("database_over_max", before.div_ceil(1_000_000)));
        fill(&database, n);
        let after = used(&database);
        assert!((before - 100_000..=before + 10_000).contains(&after), "{before} bytes became {after}");
    }
    let chosen = start(Some((1_000_000, false)));
    assert_eq!(chosen.writer.warnings(), []);
    fill(&chosen, 3_000);
    assert!(used(&chosen) <= 1_000_000);
    // A database that was small at first is bounded by the default.
    let small = start(Some((1_500_000, true)));
    fill(&small, 4_000);
    assert!(used(&small) <= 1_500_000);
}

#[test]
fn size_limit_bounds_the_pages_in_use() {
    let folder = Folder::new("limit");
    let migrations = FILLED;
    let limit = Some(SizeLimit { bytes_max: 1_000_000, is_default: false, evict });
    let database = open(&Settings { limit, ..folder.settings(Schema { migrations, ..SCHEMA }) }).unwrap();
    for n in 0..1_000 {
        database.writer.run(Fill(n)).unwrap();
    }
    assert!(database.writer.stop(Duration::from_secs(5)));
    let used = database.writer.stats().used_bytes.load(Ordering::Relaxed);
    assert!((500_000..=1_000_000).contains(&used), "{used}");
    let file = std::fs::metadata(folder.0.join("test.db")).unwrap().len();
    assert!(file < 1_200_000, "{file}");
}

/// Reports that it runs, and waits until the receiver is disconnected.
struct WaitFor(Sender<()>, Receiver<()>);

impl Command for WaitFor {
    type Output = ();

    fn apply(self, _: &Connection) -> Result<()> {
        self.0.send(()).unwrap();
        let _ = self.1.recv();
        Ok(())
    }
}

#[test]
fn commands_beyond_the_queue_are_rejected_at_once() {
    let folder = Folder::new("queue");
    let database = open(&folder.settings(SCHEMA)).unwrap();
    let (release, released) = bounded(0);
    let (start, started) = bounded(1);
    database.writer.submit(WaitFor(start, released), |_| {});
    started.recv_timeout(Duration::from_secs(5)).unwrap();
    let (answer, answers) = crossbeam_channel::unbounded();
    let more = QUEUE_COMMANDS_MAX + 10;
    for n in 0..more {
        let answer = answer.clone();
        database.writer.submit(Insert(n as i64), move |outcome| answer.send(outcome).unwrap());
    }
    let rejected: Vec<_> = answers.try_iter().collect();
    assert_eq!(rejected.len(), 10);
    assert!(rejected.iter().all(|outcome| matches!(outcome, Err(Error::Busy(_)))));
    drop(release);
    let stored = (rejected.len()..more).filter(|_| answers.recv_timeout(Duration::from_secs(5)).unwrap().is_ok());
    assert_eq!(stored.count(), count(&database.readers) as usize);
    assert_eq!(count(&database.readers) as usize, more - rejected.len());
}

#[test]
fn queries_of_one_use_end_after_five_seconds() {
    let folder = Folder::new("query-limit");
    let database = open(&folder.settings(SCHEMA)).unwrap();
    let endless = "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n) SELECT max(n) FROM n";
    let reader = database.readers.acquire().unwrap();
    let started = Instant::now();
    let result = reader.query_row(endless, [], |row| row.get::<_, i64>(0)).map_err(Error::from);
    assert_eq!(result, Err(Error::Busy(crate::db::QUERY_TIMED_OUT)));
    assert!(started.elapsed() >= Duration::from_secs(4), "{:?}", started.elapsed());
    drop(reader);
    // The connection can be used again.
    assert_eq!(count(&database.readers), 0);
}
