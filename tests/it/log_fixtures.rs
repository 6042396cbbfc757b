//! Log viewer with recorded data: files of a real Docker engine, compared with the output of `docker logs`, and a
//! `logs.db` of the original Monlight.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::support::databases::copy_original;
use crate::support::docker_log::{json_file_line, log_name};
use crate::support::harness::{Service, Setup, TempDir, wait_until};
use crate::support::logs::{Entry, assert_eventually_eq, container_status, export_entries, message_lines};

const DOCKER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/docker");
/// Tail buffer in bytes, larger than all log files together.
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
/// timestamp before each part of a split line and keeps the carriage returns of terminals; both are removed here.
fn docker_logs_output(name: &str) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(format!("{DOCKER}/{name}.docker-logs.txt")).unwrap();
    let line = |line: &str| {
        let (timestamp, text) = line.split_once(' ').unwrap();
        let text = text.replace(&format!("{timestamp} "), "");
        (timestamp.to_owned(), text.trim_end_matches('\r').to_owned())
    };
    text.split_terminator('\n').map(line).collect()
}

/// Returns timestamp and text of each line of a json-file log without split lines.
fn json_file_lines(path: &Path) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(path).unwrap();
    let line = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        (line["time"].as_str().unwrap().to_owned(), line["log"].as_str().unwrap().trim_end_matches('\n').to_owned())
    };
    text.lines().map(line).collect()
}

/// Pads the fraction of a timestamp to nine digits, because Docker drops trailing zeros.
fn pad_fraction(timestamp: &str) -> String {
    let (seconds, fraction) = timestamp.trim_end_matches('Z').split_once('.').unwrap();
    format!("{seconds}.{fraction:0<9}Z")
}

#[test]
fn stored_lines_equal_docker_logs_output() {
    let sources = format!("{DOCKER}/containers");
    let viewer = Setup::log_viewer().env("LOG_SOURCES", sources).env("TAIL_BUFFER", TAIL_BUFFER).start();
    for (name, id) in containers() {
        let expected = match name.as_str() {
            // These log drivers write no JSON file.
            "localdrv" | "nonedrv" => Vec::new(),
            // With max-file=1, `docker logs` ignores an older file, but this container has one.
            "trunc2" => {
                let older = PathBuf::from(format!("{DOCKER}/containers/{id}/{id}-json.log.1"));
                [json_file_lines(&older), docker_logs_output(&name)].concat()
            }
            _ => docker_logs_output(&name),
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
fn tracebacks_form_one_entry_and_levels_are_detected() {
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
fn container_status_shows_labels_and_why_a_container_is_not_followed() {
    let sources = format!("{DOCKER}/containers,{DOCKER}/compose");
    let viewer = Setup::log_viewer().env("LOG_SOURCES", sources).start();
    wait_until(|| (container_status(&viewer, "m30")["log_count"] == 4).then_some(())).expect("the logs are read");
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

/// Simulated upgrade: a copy of the original's database and of the container logs that its cursors refer to.
struct Upgrade {
    data_dir: Arc<TempDir>,
    rows: Vec<Entry>,
}

impl Upgrade {
    fn new() -> Self {
        let data_dir = Arc::new(TempDir::new());
        let path = data_dir.path().join("logs.db");
        copy_original("logs.db", &path);
        let upgrade = Self { data_dir, rows: Vec::new() };
        let database = upgrade.database();
        for (_, id) in containers() {
            let target = upgrade.container_dir(&id);
            std::fs::create_dir_all(&target).unwrap();
            for entry in std::fs::read_dir(format!("{DOCKER}/containers/{id}")).unwrap().map(Result::unwrap) {
                if entry.file_type().unwrap().is_file() {
                    copy(&entry.path(), &target.join(entry.file_name()));
                }
            }
            if let Ok(log) = std::fs::metadata(upgrade.log_path(&id)) {
                let sql = "UPDATE cursors SET inode = ?1 WHERE file_path LIKE '%/' || ?2 || '-json.log'";
                database.execute(sql, (log.ino().cast_signed(), &id)).unwrap();
            }
        }
        upgrade
    }

    fn database(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.data_dir.path().join("logs.db")).unwrap()
    }

    fn container_dir(&self, id: &str) -> PathBuf {
        self.data_dir.path().join("containers").join(id)
    }

    fn log_path(&self, id: &str) -> PathBuf {
        self.container_dir(id).join(log_name(id))
    }

    /// Appends a line with a timestamp after all existing lines.
    fn append_line(&self, id: &str, text: &str) {
        let line = json_file_line("2026-11-22T04:00:00.5Z", "stdout", &format!("{text}\n"));
        let mut file = OpenOptions::new().create(true).append(true).open(self.log_path(id)).unwrap();
        file.write_all(line.as_bytes()).unwrap();
    }

    /// Loads all rows of the original database, by container in the order of reading.
    fn load_rows(&mut self) {
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
        Setup::log_viewer().data_dir(&self.data_dir).env("TAIL_BUFFER", TAIL_BUFFER).start()
    }
}

fn copy(from: &Path, to: &Path) {
    std::io::copy(&mut File::open(from).unwrap(), &mut File::create(to).unwrap()).unwrap();
}

/// Returns the stored entries by container in order of time, with their IDs set to 0.
fn stored_entries(viewer: &Service) -> BTreeMap<String, Vec<Entry>> {
    let mut stored: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
    for entry in export_entries(viewer, "") {
        stored.entry(entry.container.clone()).or_default().push(Entry { id: 0, ..entry });
    }
    stored
}

#[test]
fn database_of_the_original_keeps_its_rows_and_resumes_at_its_cursors() {
    let mut upgrade = Upgrade::new();
    let id_of: BTreeMap<String, String> = containers().into_iter().collect();
    let id = |name: &str| id_of[name].as_str();
    // Simulates that the original had not read the last four lines of `restarter`.
    let read_bytes: usize = std::fs::read_to_string(upgrade.log_path(id("restarter")))
        .unwrap()
        .split_inclusive('\n')
        .take(4)
        .map(str::len)
        .sum();
    let database = upgrade.database();
    database.execute("UPDATE cursors SET position = ?1 WHERE container_id = 'restarter'", [read_bytes as i64]).unwrap();
    let sql = "DELETE FROM log_entries WHERE id IN
         (SELECT id FROM log_entries WHERE container = 'restarter' ORDER BY id DESC LIMIT 4)";
    assert_eq!(database.execute(sql, []).unwrap(), 4);
    drop(database);
    upgrade.load_rows();
    assert_eq!(upgrade.rows.len(), 146);
    // Since the original stopped, four containers have written more; `labelled` was rotated before.
    let log = upgrade.log_path(id("labelled"));
    std::fs::rename(&log, log.with_extension("log.1")).unwrap();
    for name in ["labelled", "m30", "rot_gz", "silent"] {
        upgrade.append_line(id(name), "and more");
    }

    let mut expected: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
    for row in &upgrade.rows {
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
    for (timestamp, text) in &docker_logs_output("restarter")[4..] {
        let (stream, level) = if text.starts_with("panic") { ("stderr", "CRITICAL") } else { ("stdout", "INFO") };
        add("restarter", &pad_fraction(timestamp), stream, level, text);
    }
    for name in ["labelled", "m30", "rot_gz", "silent"] {
        add(name, "2026-11-22T04:00:00.500000000Z", "stdout", "INFO", "and more");
    }
    for (start, total) in [("first", 154), ("second", 155)] {
        let viewer = upgrade.start();
        assert_eventually_eq(&expected, || stored_entries(&viewer));
        viewer.get("/api/logs/stats").expect(200).has(json!({ "gaps": 0, "total_logs": total }));
        viewer.get("/api/logs?search=division").expect(200).has(json!({ "total": 2 }));
        // New lines are also read exactly once.
        upgrade.append_line(id("m30"), start);
        let timestamp = "2026-11-22T04:00:00.500000000Z".to_owned();
        let [container, stream, level, message] = ["m30", "stdout", "INFO", start].map(str::to_owned);
        expected.get_mut("m30").unwrap().push(Entry { id: 0, timestamp, container, stream, level, message });
        assert_eventually_eq(&expected, || stored_entries(&viewer));
        let (status, _) = viewer.stop();
        assert!(status.success());
    }
    let kept = rusqlite::Connection::open(upgrade.data_dir.path().join("logs.db.original-4")).unwrap();
    let rows: i64 = kept.query_row("SELECT count(*) FROM log_entries", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 146, "the original database is kept as a copy");
    let sql = "SELECT count(*) FROM sqlite_schema WHERE name LIKE 'original%'";
    let left: i64 = upgrade.database().query_row(sql, [], |row| row.get(0)).unwrap();
    assert_eq!(left, 0);
}
