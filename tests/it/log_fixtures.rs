//! The files of a real Docker engine, and a `logs.db` of the original: what is read of them is what `docker logs` said of
//! the same containers.

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
/// More than all files together.
const TAIL_BUFFER: u64 = 10_000_000;

/// Name and id of every container.
fn containers() -> Vec<(String, String)> {
    let map = std::fs::read_to_string(format!("{DOCKER}/MAP.tsv")).unwrap();
    let pair = |line: &str| line.split_once('\t').map(|(name, id)| (name.to_owned(), id.to_owned()));
    let containers: Vec<_> = map.lines().filter_map(pair).collect();
    assert_eq!(containers.len(), 16);
    containers
}

/// What `docker logs --timestamps` said: moment and text of each line. It prints the moment anew in front of every piece
/// of a line that Docker had cut, and leaves a terminal's carriage returns at the ends.
fn said(name: &str) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(format!("{DOCKER}/{name}.docker-logs.txt")).unwrap();
    let line = |line: &str| {
        let (moment, text) = line.split_once(' ').unwrap();
        let text = text.replace(&format!("{moment} "), "");
        (moment.to_owned(), text.trim_end_matches('\r').to_owned())
    };
    text.split_terminator('\n').map(line).collect()
}

/// The lines of a file as Docker has written them, none of them cut.
fn written(path: &Path) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(path).unwrap();
    let line = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        (line["time"].as_str().unwrap().to_owned(), line["log"].as_str().unwrap().trim_end_matches('\n').to_owned())
    };
    text.lines().map(line).collect()
}

/// A moment with all nine digits of its fraction, some of which Docker leaves out.
fn padded(moment: &str) -> String {
    let (seconds, fraction) = moment.trim_end_matches('Z').split_once('.').unwrap();
    format!("{seconds}.{fraction:0<9}Z")
}

#[test]
fn every_container_gives_what_docker_logs_says() {
    let sources = format!("{DOCKER}/containers");
    let viewer = Setup::log_viewer().env("LOG_SOURCES", sources).env("TAIL_BUFFER", TAIL_BUFFER).start();
    for (name, id) in containers() {
        let expected = match name.as_str() {
            // What the daemon says is not in any file.
            "localdrv" | "nonedrv" => Vec::new(),
            // With max-file=1 there should be no older file, and Docker does not read it; but there is one.
            "trunc2" => {
                let older = PathBuf::from(format!("{DOCKER}/containers/{id}/{id}-json.log.1"));
                [written(&older), said(&name)].concat()
            }
            _ => said(&name),
        };
        let texts: Vec<&str> = expected.iter().map(|(_, text)| text.as_str()).collect();
        let query = format!("container={name}");
        let read = || export_entries(&viewer, &query);
        wait_until(|| (message_lines(&read()).len() >= texts.len()).then_some(()));
        let entries = read();
        assert_eq!(message_lines(&entries), texts, "{name}");
        // The moment of an entry is that of its first line.
        let mut at = 0;
        for entry in &entries {
            assert_eq!(entry.timestamp, padded(&expected[at].0), "{name}: {}", entry.message);
            at += entry.message.split('\n').count();
        }
        assert_eq!(container_status(&viewer, &name)["log_count"], entries.len(), "{name}");
    }
    viewer.get("/api/logs/stats").expect(200).has(json!({ "gaps": 0 }));
}

#[test]
fn a_traceback_is_one_entry_and_levels_are_those_of_the_lines() {
    let sources = format!("{DOCKER}/containers");
    let viewer = Setup::log_viewer().env("LOG_SOURCES", sources).start();
    let levels = |name: &str| -> Vec<(String, usize)> {
        let entries = export_entries(&viewer, &format!("container={name}"));
        entries.into_iter().map(|entry| (entry.level, entry.message.split('\n').count())).collect()
    };
    let each = |levels: &[(&str, usize)], times: usize| -> Vec<(String, usize)> {
        levels.repeat(times).into_iter().map(|(level, lines)| (level.to_owned(), lines)).collect()
    };
    let boots = [("CRITICAL", 1), ("INFO", 1), ("INFO", 1), ("CRITICAL", 1)];
    assert_eventually_eq(&each(&boots, 2), || levels("restarter"));
    assert_eventually_eq(&each(&[("WARNING", 1), ("INFO", 1), ("INFO", 1), ("WARNING", 1)], 1), || levels("labelled"));
}

#[test]
fn what_is_not_followed_says_why_and_labels_tell_the_service() {
    let sources = format!("{DOCKER}/containers,{DOCKER}/compose");
    let viewer = Setup::log_viewer().env("LOG_SOURCES", sources).start();
    wait_until(|| (container_status(&viewer, "m30")["log_count"] == 4).then_some(())).expect("logs are read");
    for (name, members) in [
        ("renamed_one", json!({ "followed": true, "reason": null, "image": "testbase:1", "id": "991630176c44" })),
        ("silent", json!({ "followed": true, "reason": null, "log_count": 0 })),
        ("labelled", json!({ "project": "shop", "service": "web" })),
        ("ml_a", json!({ "project": "build", "service": "a", "image": "ml/a:dev", "followed": true })),
    ] {
        let found = container_status(&viewer, name);
        for (member, value) in members.as_object().unwrap() {
            assert_eq!(&found[member], value, "{member} of {found}");
        }
    }
    for (name, driver) in [("localdrv", "local"), ("nonedrv", "none")] {
        let found = container_status(&viewer, name);
        let reason = found["reason"].as_str().unwrap_or_default();
        assert!(reason.contains(&format!("its log driver is {driver},")), "{found}");
        assert_eq!((&found["followed"], &found["log_count"]), (&json!(false), &json!(0)));
    }
}

/// A copy of the original's database and of the containers it had read, as on the machine that is upgraded: its cursors
/// point at these very files.
struct Upgrade {
    folder: Arc<TempDir>,
    rows: Vec<Entry>,
}

impl Upgrade {
    fn new() -> Self {
        let folder = Arc::new(TempDir::new());
        let path = folder.path().join("logs.db");
        copy(Path::new(ORIGINAL), &path);
        let upgrade = Self { folder, rows: Vec::new() };
        let database = upgrade.database();
        for (_, id) in containers() {
            let to = upgrade.container(&id);
            std::fs::create_dir_all(&to).unwrap();
            for entry in std::fs::read_dir(format!("{DOCKER}/containers/{id}")).unwrap().map(Result::unwrap) {
                if entry.file_type().unwrap().is_file() {
                    copy(&entry.path(), &to.join(entry.file_name()));
                }
            }
            if let Ok(log) = std::fs::metadata(upgrade.log(&id)) {
                let sql = "UPDATE cursors SET inode = ?1 WHERE file_path LIKE '%/' || ?2 || '-json.log'";
                database.execute(sql, (log.ino().cast_signed(), &id)).unwrap();
            }
        }
        upgrade
    }

    fn database(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.folder.path().join("logs.db")).unwrap()
    }

    fn container(&self, id: &str) -> PathBuf {
        self.folder.path().join("containers").join(id)
    }

    fn log(&self, id: &str) -> PathBuf {
        self.container(id).join(format!("{id}-json.log"))
    }

    /// What the container writes next, at a moment after all others.
    fn write(&self, id: &str, text: &str) {
        let line = json!({ "log": format!("{text}\n"), "stream": "stdout", "time": "2026-11-22T04:00:00.5Z" });
        let mut file = OpenOptions::new().create(true).append(true).open(self.log(id)).unwrap();
        writeln!(file, "{line}").unwrap();
    }

    /// Every row of the original's, by container in the order they were read.
    fn remember_rows(&mut self) {
        let database = self.database();
        let sql = "SELECT id, timestamp, container, stream, level, message FROM log_entries ORDER BY container, id";
        let mut read = database.prepare(sql).unwrap();
        let rows = read.query_map([], |row| {
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

fn copy(from: &Path, to: &Path) {
    std::io::copy(&mut File::open(from).unwrap(), &mut File::create(to).unwrap()).unwrap();
}

/// What is stored, by container in the order of time, without the numbers that entries got.
fn stored(viewer: &Service) -> BTreeMap<String, Vec<Entry>> {
    let mut stored: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
    for entry in export_entries(viewer, "") {
        stored.entry(entry.container.clone()).or_default().push(Entry { id: 0, ..entry });
    }
    stored
}

#[test]
fn a_file_of_the_original_keeps_its_rows_and_goes_on_where_it_had_read_to() {
    let mut upgrade = Upgrade::new();
    let id_of: BTreeMap<String, String> = containers().into_iter().collect();
    let id = |name: &str| id_of[name].as_str();
    // Half of what restarter wrote was not read yet: its last four lines.
    let half: usize = std::fs::read_to_string(upgrade.log(id("restarter")))
        .unwrap()
        .split_inclusive('\n')
        .take(4)
        .map(str::len)
        .sum();
    let unread = upgrade.database();
    unread.execute("UPDATE cursors SET position = ?1 WHERE container_id = 'restarter'", [half as i64]).unwrap();
    let sql = "DELETE FROM log_entries WHERE id IN
         (SELECT id FROM log_entries WHERE container = 'restarter' ORDER BY id DESC LIMIT 4)";
    assert_eq!(unread.execute(sql, []).unwrap(), 4);
    drop(unread);
    upgrade.remember_rows();
    assert_eq!(upgrade.rows.len(), 146);
    // Since then some have written more, and labelled was rotated before it did.
    let log = upgrade.log(id("labelled"));
    std::fs::rename(&log, log.with_extension("log.1")).unwrap();
    for name in ["labelled", "m30", "rot_gz", "silent"] {
        upgrade.write(id(name), "and more");
    }

    let mut expected: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
    for row in &upgrade.rows {
        expected.entry(row.container.clone()).or_default().push(Entry { id: 0, ..row.clone() });
    }
    let mut add = |name: &str, moment: &str, stream: &str, level: &str, message: &str| {
        let [timestamp, container, stream, level, message] = [moment, name, stream, level, message].map(str::to_owned);
        expected.entry(name.to_owned()).or_default().push(Entry {
            id: 0,
            timestamp,
            container,
            stream,
            level,
            message,
        });
    };
    for (moment, text) in &said("restarter")[4..] {
        let (stream, level) = if text.starts_with("panic") { ("stderr", "CRITICAL") } else { ("stdout", "INFO") };
        add("restarter", &padded(moment), stream, level, text);
    }
    for name in ["labelled", "m30", "rot_gz", "silent"] {
        add(name, "2026-11-22T04:00:00.500000000Z", "stdout", "INFO", "and more");
    }
    for (start, total) in [("first", 154), ("second", 155)] {
        let viewer = upgrade.start();
        assert_eventually_eq(&expected, || stored(&viewer));
        viewer.get("/api/logs/stats").expect(200).has(json!({ "gaps": 0, "total_logs": total }));
        viewer.get("/api/logs?search=division").expect(200).has(json!({ "total": 2 }));
        // Whatever comes next is read once as well.
        upgrade.write(id("m30"), start);
        let moment = "2026-11-22T04:00:00.500000000Z".to_owned();
        let [container, stream, level, message] = ["m30", "stdout", "INFO", start].map(str::to_owned);
        expected.get_mut("m30").unwrap().push(Entry { id: 0, timestamp: moment, container, stream, level, message });
        assert_eventually_eq(&expected, || stored(&viewer));
        let (status, _) = viewer.stop();
        assert!(status.success());
    }
    let kept = rusqlite::Connection::open(upgrade.folder.path().join("logs.db.original-4")).unwrap();
    let rows: i64 = kept.query_row("SELECT count(*) FROM log_entries", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 146, "a copy is kept");
    let sql = "SELECT count(*) FROM sqlite_schema WHERE name LIKE 'original%'";
    let left: i64 = upgrade.database().query_row(sql, [], |row| row.get(0)).unwrap();
    assert_eq!(left, 0);
}
