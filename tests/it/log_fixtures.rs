//! Log files of a real Docker engine and a `logs.db` of the original: the viewer must return the same lines as
//! `docker logs` for the same containers.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::harness::{Service, Setup, TempDir, wait_until};
use crate::logs::{Entry, assert_eventually_eq, container_status, export_entries, message_lines};

const DOCKER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/docker");
const ORIGINAL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/original/logs.db");
/// Larger than all log files together, in bytes, so that the viewer starts at the beginning of each.
const TAIL_BUFFER: u64 = 10_000_000;

/// Returns the name and the ID of every container.
fn containers() -> Vec<(String, String)> {
    let map = std::fs::read_to_string(format!("{DOCKER}/MAP.tsv")).unwrap();
    let pair = |line: &str| line.split_once('\t').map(|(name, id)| (name.to_owned(), id.to_owned()));
    let containers: Vec<_> = map.lines().filter_map(pair).collect();
    assert_eq!(containers.len(), 16);
    containers
}

/// Returns the recorded output of `docker logs --timestamps`: timestamp and text of each line. Docker repeats the
/// timestamp before each part of a line that it split, and keeps the carriage returns of a terminal.
fn docker_logs(name: &str) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(format!("{DOCKER}/{name}.docker-logs.txt")).unwrap();
    let line = |line: &str| {
        let (timestamp, text) = line.split_once(' ').unwrap();
        let text = text.replace(&format!("{timestamp} "), "");
        (timestamp.to_owned(), text.trim_end_matches('\r').to_owned())
    };
    text.split_terminator('\n').map(line).collect()
}

/// Returns the lines of a json-file log that contains no partial lines: timestamp and text.
fn read_json_log(path: &Path) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(path).unwrap();
    let line = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        (line["time"].as_str().unwrap().to_owned(), line["log"].as_str().unwrap().trim_end_matches('\n').to_owned())
    };
    text.lines().map(line).collect()
}

/// Pads the fraction of a timestamp to nine digits, because Docker omits trailing zeros.
fn pad_fraction(timestamp: &str) -> String {
    let (seconds, fraction) = timestamp.trim_end_matches('Z').split_once('.').unwrap();
    format!("{seconds}.{fraction:0<9}Z")
}

#[test]
fn entries_of_every_container_equal_the_output_of_docker_logs() {
    let sources = format!("{DOCKER}/containers");
    let viewer = Setup::log_viewer().env("LOG_SOURCES", sources).env("TAIL_BUFFER", TAIL_BUFFER).start();
    for (name, id) in containers() {
        let expected = match name.as_str() {
            // With these log drivers, Docker writes no file that the viewer can read.
            "localdrv" | "nonedrv" => Vec::new(),
            // With max-file=1, Docker leaves an older file behind, which it does not read itself.
            "trunc2" => {
                let older = PathBuf::from(format!("{DOCKER}/containers/{id}/{id}-json.log.1"));
                [read_json_log(&older), docker_logs(&name)].concat()
            }
            _ => docker_logs(&name),
        };
        let texts: Vec<&str> = expected.iter().map(|(_, text)| text.as_str()).collect();
        let query = format!("container={name}");
        let read = || export_entries(&viewer, &query);
        wait_until(|| (message_lines(&read()).len() >= texts.len()).then_some(()));
        let entries = read();
        assert_eq!(message_lines(&entries), texts, "{name}");
        // An entry has the timestamp of its first line.
        let mut line = 0;
        for entry in &entries {
            assert_eq!(entry.timestamp, pad_fraction(&expected[line].0), "{name}: {}", entry.message);
            line += entry.message.split('\n').count();
        }
        assert_eq!(container_status(&viewer, &name)["log_count"], entries.len(), "{name}");
    }
    viewer.get("/api/logs/stats").expect(200).has(json!({ "gaps": 0 }));
}

#[test]
fn stack_traces_are_one_entry_with_the_level_of_their_lines() {
    let sources = format!("{DOCKER}/containers");
    let viewer = Setup::log_viewer().env("LOG_SOURCES", sources).start();
    let levels = |name: &str| -> Vec<(String, usize)> {
        let entries = export_entries(&viewer, &format!("container={name}"));
        entries.into_iter().map(|entry| (entry.level, entry.message.split('\n').count())).collect()
    };
    let repeated = |levels: &[(&str, usize)], times: usize| -> Vec<(String, usize)> {
        levels.repeat(times).into_iter().map(|(level, lines)| (level.to_owned(), lines)).collect()
    };
    let boots = [("CRITICAL", 1), ("INFO", 1), ("INFO", 1), ("CRITICAL", 1)];
    assert_eventually_eq(&repeated(&boots, 2), || levels("restarter"));
    assert_eventually_eq(&repeated(&[("WARNING", 1), ("INFO", 1), ("INFO", 1), ("WARNING", 1)], 1), || {
        levels("labelled")
    });
}

#[test]
fn containers_report_compose_labels_and_why_their_log_is_not_read() {
    let sources = format!("{DOCKER}/containers,{DOCKER}/compose");
    let viewer = Setup::log_viewer().env("LOG_SOURCES", sources).start();
    wait_until(|| (container_status(&viewer, "m30")["log_count"] == 4).then_some(())).expect("logs are read");
    for (name, members) in [
        ("renamed_one", json!({ "followed": true, "reason": null, "image": "testbase:1", "id": "991630176c44" })),
        ("silent", json!({ "followed": true, "reason": null, "log_count": 0 })),
        ("labelled", json!({ "project": "shop", "service": "web" })),
        ("ml_a", json!({ "project": "build", "service": "a", "image": "ml/a:dev", "followed": true })),
    ] {
        let status = container_status(&viewer, name);
        for (member, value) in members.as_object().unwrap() {
            assert_eq!(&status[member], value, "{member} of {status}");
        }
    }
    for (name, driver) in [("localdrv", "local"), ("nonedrv", "none")] {
        let status = container_status(&viewer, name);
        let reason = status["reason"].as_str().unwrap_or_default();
        assert!(reason.contains(&format!("its log driver is {driver},")), "{status}");
        assert_eq!((&status["followed"], &status["log_count"]), (&json!(false), &json!(0)));
    }
}

/// Copies of the original's database and of the logs that it has read, as found on a machine that is upgraded: the
/// cursors of the database contain the inode numbers of the copies.
struct OriginalInstallation {
    folder: Arc<TempDir>,
    rows: Vec<Entry>,
}

impl OriginalInstallation {
    fn new() -> Self {
        let folder = Arc::new(TempDir::new());
        let path = folder.path().join("logs.db");
        copy_content(Path::new(ORIGINAL), &path);
        let installation = Self { folder, rows: Vec::new() };
        let database = installation.database();
        for (_, id) in containers() {
            let to = installation.container_dir(&id);
            std::fs::create_dir_all(&to).unwrap();
            for entry in std::fs::read_dir(format!("{DOCKER}/containers/{id}")).unwrap().map(Result::unwrap) {
                if entry.file_type().unwrap().is_file() {
                    copy_content(&entry.path(), &to.join(entry.file_name()));
                }
            }
            if let Ok(log) = std::fs::metadata(installation.log_path(&id)) {
                let sql = "UPDATE cursors SET inode = ?1 WHERE file_path LIKE '%/' || ?2 || '-json.log'";
                database.execute(sql, (log.ino().cast_signed(), &id)).unwrap();
            }
        }
        installation
    }

    fn database(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.folder.path().join("logs.db")).unwrap()
    }

    fn container_dir(&self, id: &str) -> PathBuf {
        self.folder.path().join("containers").join(id)
    }

    fn log_path(&self, id: &str) -> PathBuf {
        self.container_dir(id).join(format!("{id}-json.log"))
    }

    /// Appends a line to the log of a container, with a timestamp after all others.
    fn append_line(&self, id: &str, text: &str) {
        let line = json!({ "log": format!("{text}\n"), "stream": "stdout", "time": "2026-11-22T04:00:00.5Z" });
        let mut file = OpenOptions::new().create(true).append(true).open(self.log_path(id)).unwrap();
        writeln!(file, "{line}").unwrap();
    }

    /// Reads all rows of the original database into `rows`, by container in the order of ingestion.
    fn read_rows(&mut self) {
        let database = self.database();
        let sql = "SELECT id, timestamp, container, stream, level, message FROM log_entries ORDER BY container, id";
        let mut statement = database.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| {
            Ok(Entry {
                id: row.get(0)?,
                timestamp: row.get::<_, String>(1)?.replace('Z', ".000000000Z"),
                container: row.get(2)?,
                stream: row.get(3)?,
                level: row.get(4)?,
                message: row.get(5)?,
            })
        });
        self.rows = rows.unwrap().map(Result::unwrap).collect();
    }

    fn start(&self) -> Service {
        Setup::log_viewer().data_dir(&self.folder).env("TAIL_BUFFER", TAIL_BUFFER).start()
    }
}

fn copy_content(from: &Path, to: &Path) {
    std::io::copy(&mut File::open(from).unwrap(), &mut File::create(to).unwrap()).unwrap();
}

/// Returns the stored entries by container in the order of time, with their IDs set to 0.
fn stored_entries(viewer: &Service) -> BTreeMap<String, Vec<Entry>> {
    let mut stored: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
    for entry in export_entries(viewer, "") {
        stored.entry(entry.container.clone()).or_default().push(Entry { id: 0, ..entry });
    }
    stored
}

#[test]
fn imported_original_database_keeps_its_rows_and_continues_at_its_cursors() {
    let mut installation = OriginalInstallation::new();
    let ids: BTreeMap<String, String> = containers().into_iter().collect();
    let id = |name: &str| ids[name].as_str();
    // Makes the last four lines of `restarter`, half of its log, unread.
    let half_bytes: usize = std::fs::read_to_string(installation.log_path(id("restarter")))
        .unwrap()
        .split_inclusive('\n')
        .take(4)
        .map(str::len)
        .sum();
    let database = installation.database();
    database.execute("UPDATE cursors SET position = ?1 WHERE container_id = 'restarter'", [half_bytes as i64]).unwrap();
    let sql = "DELETE FROM log_entries WHERE id IN
         (SELECT id FROM log_entries WHERE container = 'restarter' ORDER BY id DESC LIMIT 4)";
    assert_eq!(database.execute(sql, []).unwrap(), 4);
    drop(database);
    installation.read_rows();
    assert_eq!(installation.rows.len(), 146);
    // After the original stopped, some containers wrote another line, `labelled` after a rotation.
    let log = installation.log_path(id("labelled"));
    std::fs::rename(&log, log.with_extension("log.1")).unwrap();
    for name in ["labelled", "m30", "rot_gz", "silent"] {
        installation.append_line(id(name), "and more");
    }

    let mut expected: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
    for row in &installation.rows {
        expected.entry(row.container.clone()).or_default().push(Entry { id: 0, ..row.clone() });
    }
    let mut add = |name: &str, timestamp: &str, stream: &str, level: &str, message: &str| {
        let [timestamp, container, stream, level, message] =
            [timestamp, name, stream, level, message].map(str::to_owned);
        expected.entry(name.to_owned()).or_default().push(Entry {
            id: 0,
            timestamp,
            container,
            stream,
            level,
            message,
        });
    };
    for (timestamp, text) in &docker_logs("restarter")[4..] {
        let (stream, level) = if text.starts_with("panic") { ("stderr", "CRITICAL") } else { ("stdout", "INFO") };
        add("restarter", &pad_fraction(timestamp), stream, level, text);
    }
    for name in ["labelled", "m30", "rot_gz", "silent"] {
        add(name, "2026-11-22T04:00:00.500000000Z", "stdout", "INFO", "and more");
    }
    for (start, total) in [("first", 154), ("second", 155)] {
        let viewer = installation.start();
        assert_eventually_eq(&expected, || stored_entries(&viewer));
        viewer.get("/api/logs/stats").expect(200).has(json!({ "gaps": 0, "total_logs": total }));
        viewer.get("/api/logs?search=division").expect(200).has(json!({ "total": 2 }));
        // A line written after the import is also read once.
        installation.append_line(id("m30"), start);
        let timestamp = "2026-11-22T04:00:00.500000000Z".to_owned();
        let [container, stream, level, message] = ["m30", "stdout", "INFO", start].map(str::to_owned);
        expected.get_mut("m30").unwrap().push(Entry { id: 0, timestamp, container, stream, level, message });
        assert_eventually_eq(&expected, || stored_entries(&viewer));
        let (status, _) = viewer.stop();
        assert!(status.success());
    }
    let copy = rusqlite::Connection::open(installation.folder.path().join("logs.db.original-4")).unwrap();
    let rows: i64 = copy.query_row("SELECT count(*) FROM log_entries", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 146, "the copy of the original database is incomplete");
    let sql = "SELECT count(*) FROM sqlite_schema WHERE name LIKE 'original%'";
    let original_tables: i64 = installation.database().query_row(sql, [], |row| row.get(0)).unwrap();
    assert_eq!(original_tables, 0);
}
