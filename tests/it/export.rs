//! Export of records to other stores, among them a real ClickHouse. Each record arrives even if the store is down for a
//! while and the service is killed meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::harness::{Client, Request, Service, Setup, TempDir, free_address, report_at, wait_until};
use crate::support::logs::{Container, export_entries};
use crate::support::peers;
use crate::support::receiver::HttpReceiver;

const LINES: u32 = 20_000;
/// Downtime of ClickHouse while lines are written.
const DOWNTIME: Duration = Duration::from_secs(30);

/// Waits until the service has sent all records.
#[track_caller]
fn wait_until_sent(service: &Service) {
    let all_sent =
        || (service.health_number("export_waiting") == 0 && service.health_number("export_sent") > 0).then_some(());
    assert!(wait_until(all_sent).is_some(), "{}", service.get("/health").text());
}

/// Returns the JSON objects in the lines of all bodies received so far.
fn received_objects(receiver: &HttpReceiver) -> Vec<Value> {
    let requests = receiver.requests();
    requests.iter().flat_map(|(_, body)| body.lines()).map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn entries_are_exported_as_json_lines_in_order_and_retried() {
    let receiver = HttpReceiver::start(&["503 Not now", "200 OK", "429 Slowly\r\nRetry-After: 1"]);
    let data_dir = Arc::new(TempDir::new());
    let (web, db) = (Container::new(&data_dir, "web"), Container::new(&data_dir, "db"));
    web.write_numbered_lines(0..600);
    db.write_lines([("2026-01-31T11:00:00.000000007Z", "stderr", "ERROR: late, from an hour ago\n")]);
    let viewer = Setup::log_viewer()
        .data_dir(&data_dir)
        .env("EXPORT_URL", format!("http://{}/insert/jsonline?_msg_field=message", receiver.address))
        .env("EXPORT_HEADERS", "Authorization: Bearer s3cret-token")
        .env("TAIL_BUFFER", 10_000_000)
        .start();
    wait_until(|| (viewer.get("/api/logs/stats").json()["total_logs"] == 601).then_some(()))
        .expect("the viewer has read all lines");
    wait_until_sent(&viewer);
    let (head, _) = receiver.requests()[0].clone();
    for line in ["post /insert/jsonline?_msg_field=message http/1.1", "authorization: bearer s3cret-token"] {
        assert!(head.to_lowercase().lines().any(|header| header == line), "{line:?} is missing in {head}");
    }
    // The first and the third request failed, so the same bodies were sent again.
    let bodies: Vec<String> = receiver.requests().into_iter().map(|(_, body)| body).collect();
    assert!(bodies[0] == bodies[1] && bodies[2] == bodies[3]);
    let mut exported = received_objects(&receiver);
    exported.drain(..bodies[0].lines().count());
    let ids: BTreeSet<i64> = exported.iter().map(|entry| entry["id"].as_i64().unwrap()).collect();
    let expected: BTreeSet<i64> = export_entries(&viewer, "").iter().map(|entry| entry.id).collect();
    assert_eq!(ids, expected);
    let late = exported.iter().find(|entry| entry["container"] == "db").unwrap();
    assert_eq!(
        (&late["timestamp"], &late["stream"], &late["level"]),
        (&json!("2026-01-31T11:00:00.000000007Z"), &json!("stderr"), &json!("ERROR"))
    );
    let mut seen = BTreeSet::new();
    let web_entries =
        exported.iter().filter(|entry| entry["container"] == "web" && seen.insert(entry["id"].as_i64().unwrap()));
    let order: Vec<&str> = web_entries.map(|entry| entry["message"].as_str().unwrap()).collect();
    assert_eq!(
        order,
        (0..600).map(|n| format!("line {n}")).collect::<Vec<_>>(),
        "the entries are not exported in order"
    );
    assert_eq!(viewer.health_number("export_missed"), 0);
    assert!(!viewer.log().concat().contains("s3cret"));
}

#[test]
fn loki_receives_streams_by_container_and_level() {
    let receiver = HttpReceiver::start(&[]);
    let data_dir = Arc::new(TempDir::new());
    Container::new(&data_dir, "web").write_lines([
        ("2026-01-31T12:00:00.5Z", "stdout", "INFO one\n"),
        ("2026-01-31T12:00:01Z", "stderr", "ERROR two\n"),
        ("2026-01-31T12:00:02Z", "stdout", "INFO three\n"),
    ]);
    let viewer = Setup::log_viewer()
        .data_dir(&data_dir)
        .env("EXPORT_URL", format!("http://{}/loki/api/v1/push", receiver.address))
        .env("EXPORT_FORMAT", "loki")
        .start();
    wait_until(|| (viewer.get("/api/logs/stats").json()["total_logs"] == 3).then_some(()))
        .expect("the viewer has read all lines");
    wait_until_sent(&viewer);
    let mut values: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for push in received_objects(&receiver) {
        for stream in push["streams"].as_array().unwrap() {
            let labels = &stream["stream"];
            assert_eq!(labels["container"], "web");
            let key = format!("{} {}", labels["level"].as_str().unwrap(), labels["stream"].as_str().unwrap());
            values.entry(key).or_default().extend(stream["values"].as_array().unwrap().clone());
        }
    }
    assert_eq!(
        values["INFO stdout"],
        [json!(["1769860800500000000", "INFO one"]), json!(["1769860802000000000", "INFO three"])]
    );
    assert_eq!(values["ERROR stderr"], [json!(["1769860801000000000", "ERROR two"])]);
}

#[test]
fn reports_are_exported_with_their_groups_and_rejected_ones_are_counted() {
    let receiver = HttpReceiver::start(&["400 Bad Request"]);
    let data_dir = Arc::new(TempDir::new());
    let setup = || {
        let url = format!("http://{}/", receiver.address);
        Setup::error_tracker().data_dir(&data_dir).env("EXPORT_URL", url)
    };
    let tracker = setup().start();
    tracker.post("/api/errors", &report_at("rejected", 1)).expect(201);
    let is_rejected = || (tracker.health_number("export_refused") == 1).then_some(());
    wait_until(is_rejected).expect("the report is counted as rejected");
    let mut report = report_at("boom", 2);
    report["extra"] = json!({ "cart": [7] });
    report["release"] = json!("1.4.2");
    let id = tracker.post("/api/errors", &report).expect(201).id();
    wait_until(|| (tracker.health_number("export_sent") == 1).then_some(())).expect("the second report is sent");
    let exported = received_objects(&receiver).pop().unwrap();
    let group = tracker.get(&format!("/api/errors/{id}")).expect(200).json();
    for name in ["fingerprint", "project", "exception_type", "message", "location", "release", "traceback", "count"] {
        assert_eq!(exported[name], group[name], "{name}");
    }
    assert_eq!((&exported["error_id"], &exported["extra"]), (&json!(id), &json!({ "cart": [7] })));
    tracker.kill();
    // Without EXPORT_URL, /health has no export members. A later export then starts with all stored reports.
    let without_export = Setup::error_tracker().data_dir(&data_dir).start();
    assert_eq!(without_export.get("/health").json().get("export_sent"), None);
    without_export.kill();
    let tracker = setup().env("EXPORT_FORMAT", "clickhouse").start();
    wait_until(|| (tracker.health_number("export_sent") == 2).then_some(())).expect("both reports are sent");
    let last = receiver.requests().pop().unwrap();
    assert!(last.0.starts_with("POST /?query=INSERT%20INTO%20monlight_errors%20FORMAT%20JSONEachRow&"), "{}", last.0);
    assert_eq!(
        received_objects(&receiver).pop().unwrap()["extra"],
        r#"{"cart":[7]}"#,
        "ClickHouse needs the object as a string"
    );
    let (code, output) = setup().env("EXPORT_FORMAT", "csv").run_to_exit();
    assert_eq!(
        (code, output.contains("EXPORT_FORMAT: must be one of jsonl, loki, clickhouse")),
        (Some(2), true),
        "{output}"
    );
}

#[test]
fn only_records_deleted_after_the_first_export_count_as_missed() {
    let receiver = HttpReceiver::start(&[]);
    let tracker = Setup::error_tracker().start();
    for _ in 0..12 {
        tracker.post("/api/errors", &report_at("boom", 1));
    }
    let data_dir = tracker.kill();
    let start_with_export = || {
        let url = format!("http://{}/", receiver.address);
        Setup::error_tracker().data_dir(&data_dir).env("EXPORT_URL", url).start()
    };
    let tracker = start_with_export();
    wait_until(|| (tracker.health_number("export_sent") == 5).then_some(()))
        .expect("the five stored occurrences are sent");
    assert_eq!(tracker.health_number("export_missed"), 0);
    tracker.kill();
    // Moves the export position back by seven records, of which only five are still stored, so that two count as missed.
    let database = rusqlite::Connection::open(data_dir.path().join("errors.db")).unwrap();
    database.execute_batch("UPDATE export_cursor SET last_id = last_id - 7").unwrap();
    drop(database);
    let tracker = start_with_export();
    wait_until(|| (tracker.health_number("export_sent") == 10).then_some(()))
        .expect("the five remaining occurrences are sent");
    assert_eq!(tracker.health_number("export_missed"), 2);
}

/// ClickHouse server from the Debian package, killed on drop.
struct ClickHouse {
    child: Child,
    address: SocketAddr,
}

impl ClickHouse {
    /// Starts the server with its data in `folder`; returns `None` if the program is not installed.
    fn start(folder: &TempDir, address: SocketAddr) -> Option<Self> {
        let port = address.port();
        let config = format!(
            "<yandex><logger><level>warning</level><console>1</console></logger><listen_host>127.0.0.1</listen_host>\
             <http_port>{port}</http_port><path>data/</path><tmp_path>tmp/</tmp_path><users_config>users.xml</users_config>\
             <mark_cache_size>5000000</mark_cache_size><default_profile>default</default_profile>\
             <default_database>default</default_database></yandex>"
        );
        let users = "<yandex><profiles><default/></profiles><users><default><password></password><networks><ip>::/0</ip>\
             </networks><profile>default</profile><quota>default</quota></default></users><quotas><default/></quotas></yandex>";
        std::fs::write(folder.path().join("config.xml"), config).unwrap();
        std::fs::write(folder.path().join("users.xml"), users).unwrap();
        let mut command = peers::command("clickhouse-server")?;
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        command.arg("--config-file=config.xml").current_dir(folder.path()).stdin(Stdio::null());
        let child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().ok()?;
        let server = Self { child, address };
        let read_log = || std::fs::read_to_string(folder.path().join("log")).unwrap();
        assert!(wait_until(|| server.query("SELECT 1")).is_some(), "{}", read_log());
        Some(server)
    }

    /// Runs a query and returns its trimmed result; `None` if it fails.
    fn query(&self, query: &str) -> Option<String> {
        let mut client = Client::new(TcpStream::connect(self.address).ok()?);
        let response = client.send(&Request::new("POST", "/").body(query));
        (response.status == 200).then(|| response.text().trim().to_owned())
    }
}

impl Drop for ClickHouse {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn clickhouse_receives_every_entry_despite_its_downtime_and_killed_viewers() {
    let (clickhouse_dir, address, data_dir) = (TempDir::new(), free_address(), Arc::new(TempDir::new()));
    let Some(server) = ClickHouse::start(&clickhouse_dir, address) else { return };
    let table = "CREATE TABLE monlight_logs (id Int64, timestamp String, container String, stream String, level String, \
                 message String) ENGINE = MergeTree PARTITION BY tuple() ORDER BY id";
    server.query(table).expect("ClickHouse creates the table");
    let web = Container::new(&data_dir, "web");
    let start = || {
        Setup::log_viewer()
            .data_dir(&data_dir)
            .env("EXPORT_URL", format!("http://{address}/"))
            .env("EXPORT_FORMAT", "clickhouse")
            .env("TAIL_BUFFER", 100_000_000)
            .start()
    };
    let (mut viewer, mut server) = (Some(start()), Some(server));
    for part in 0..10 {
        web.write_numbered_lines(part * LINES / 10..(part + 1) * LINES / 10);
        match part {
            2 => drop(server.take()),
            3 | 8 => {
                viewer.take().unwrap().kill();
                viewer = Some(start());
            }
            6 => {
                std::thread::sleep(DOWNTIME);
                server = ClickHouse::start(&clickhouse_dir, address);
            }
            _ => {}
        }
        std::thread::sleep(Duration::from_millis(300));
    }
    let (viewer, server) = (viewer.unwrap(), server.unwrap());
    let stored = || (viewer.get("/api/logs/stats").json()["total_logs"] == LINES).then_some(());
    wait_until(stored).expect("the viewer has read all lines");
    // With backoff, the next attempt may be a minute away, so this waits several times.
    let all_sent = || wait_until(|| (viewer.health_number("export_waiting") == 0).then_some(()));
    assert!((0..4).any(|_| all_sent().is_some()), "{}", viewer.get("/health").text());
    assert_eq!(server.query("SELECT countDistinct(id) FROM monlight_logs").unwrap(), LINES.to_string());
    assert_eq!(server.query("SELECT countDistinct(message) FROM monlight_logs").unwrap(), LINES.to_string());
    let sum: i64 = export_entries(&viewer, "").iter().map(|entry| entry.id % 1_000_003).sum();
    let distinct = "SELECT sum(id % 1000003) FROM (SELECT DISTINCT id FROM monlight_logs)";
    assert_eq!(server.query(distinct).unwrap(), sum.to_string());
    assert_eq!((viewer.health_number("export_missed"), viewer.health_number("export_refused")), (0, 0));
}
