//! What is stored goes on to log stores, one of them a real ClickHouse, which are away for a while, from services that are
//! killed meanwhile: in the end each record is there.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Client, Request, Service, Setup, TempDir, report_at, wait_until};
use crate::logs::{Container, export_entries};
use crate::peers;
use crate::prometheus::free_port;
use crate::receiver::receive_request;

const LINES: u32 = 20_000;
/// How long ClickHouse is away while a part of the lines comes.
const AWAY: Duration = Duration::from_secs(30);

fn fact(service: &Service, name: &str) -> i64 {
    service.get("/health").json()[name].as_i64().unwrap_or_else(|| panic!("no {name}"))
}

/// Waits until nothing waits to be sent.
#[track_caller]
fn wait_until_sent(service: &Service) {
    let none = || (fact(service, "export_waiting") == 0 && fact(service, "export_sent") > 0).then_some(());
    assert!(wait_until(none).is_some(), "{}", service.get("/health").text());
}

/// A server that takes whatever is posted, in a thread of its own, for as long as it is there.
struct Receiver {
    address: SocketAddr,
    /// The head and the unpacked body of each request.
    taken: Arc<Mutex<Vec<(String, String)>>>,
}

impl Receiver {
    /// Answers requests in turn with these statuses, and all that follow with 204.
    fn new(statuses: &'static [&'static str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, taken) = (listener.local_addr().unwrap(), Arc::default());
        let kept: Arc<Mutex<Vec<(String, String)>>> = Arc::clone(&taken);
        std::thread::spawn(move || {
            for (number, socket) in listener.incoming().enumerate() {
                let status = statuses.get(number).copied().unwrap_or("204 No Content");
                let (head, packed) = receive_request(socket.unwrap(), status);
                let mut body = String::new();
                flate2::read::GzDecoder::new(packed.as_slice()).read_to_string(&mut body).unwrap();
                kept.lock().unwrap().push((head, body));
            }
        });
        Self { address, taken }
    }

    /// What was posted so far.
    fn taken(&self) -> Vec<(String, String)> {
        self.taken.lock().unwrap().clone()
    }

    fn objects(&self) -> Vec<Value> {
        let taken = self.taken();
        taken.iter().flat_map(|(_, body)| body.lines()).map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

#[test]
fn entries_go_on_as_lines_of_json_in_the_order_they_came() {
    let receiver = Receiver::new(&["503 Not now", "200 OK", "429 Slowly\r\nRetry-After: 1"]);
    let folder = Arc::new(TempDir::new());
    let (web, db) = (Container::new(&folder, "web"), Container::new(&folder, "db"));
    web.write_numbered_lines(0..600);
    db.write_lines([("2026-01-31T11:00:00.000000007Z", "stderr", "ERROR: late, of an hour before\n")]);
    let viewer = Setup::log_viewer()
        .data_dir(&folder)
        .env("EXPORT_URL", format!("http://{}/insert/jsonline?_msg_field=message", receiver.address))
        .env("EXPORT_HEADERS", "Authorization: Bearer s3cret-token")
        .env("TAIL_BUFFER", 10_000_000)
        .start();
    wait_until(|| (viewer.get("/api/logs/stats").json()["total_logs"] == 601).then_some(())).expect("all lines");
    wait_until_sent(&viewer);
    let (head, _) = receiver.taken()[0].clone();
    for line in ["post /insert/jsonline?_msg_field=message http/1.1", "authorization: bearer s3cret-token"] {
        assert!(head.to_lowercase().lines().any(|found| found == line), "{line} in {head}");
    }
    // The first and the third were not taken and came again, as they were.
    let bodies: Vec<String> = receiver.taken().into_iter().map(|(_, body)| body).collect();
    assert!(bodies[0] == bodies[1] && bodies[2] == bodies[3]);
    let mut found = receiver.objects();
    found.drain(..bodies[0].lines().count());
    let ids: BTreeSet<i64> = found.iter().map(|entry| entry["id"].as_i64().unwrap()).collect();
    let expected: BTreeSet<i64> = export_entries(&viewer, "").iter().map(|entry| entry.id).collect();
    assert_eq!(ids, expected);
    let late = found.iter().find(|entry| entry["container"] == "db").unwrap();
    assert_eq!(
        (&late["timestamp"], &late["stream"], &late["level"]),
        (&json!("2026-01-31T11:00:00.000000007Z"), &json!("stderr"), &json!("ERROR"))
    );
    let mut seen = BTreeSet::new();
    let of_web = found.iter().filter(|entry| entry["container"] == "web" && seen.insert(entry["id"].as_i64().unwrap()));
    let order: Vec<&str> = of_web.map(|entry| entry["message"].as_str().unwrap()).collect();
    assert_eq!(order, (0..600).map(|n| format!("line {n}")).collect::<Vec<_>>(), "nothing overtakes");
    assert_eq!(fact(&viewer, "export_missed"), 0);
    assert!(!viewer.log().concat().contains("s3cret"));
}

#[test]
fn loki_gets_streams_by_container_and_level() {
    let receiver = Receiver::new(&[]);
    let folder = Arc::new(TempDir::new());
    Container::new(&folder, "web").write_lines([
        ("2026-01-31T12:00:00.5Z", "stdout", "INFO one\n"),
        ("2026-01-31T12:00:01Z", "stderr", "ERROR two\n"),
        ("2026-01-31T12:00:02Z", "stdout", "INFO three\n"),
    ]);
    let viewer = Setup::log_viewer()
        .data_dir(&folder)
        .env("EXPORT_URL", format!("http://{}/loki/api/v1/push", receiver.address))
        .env("EXPORT_FORMAT", "loki")
        .start();
    wait_until(|| (viewer.get("/api/logs/stats").json()["total_logs"] == 3).then_some(())).expect("all lines");
    wait_until_sent(&viewer);
    let mut values: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for push in receiver.objects() {
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
fn reports_go_on_with_their_groups_and_refused_ones_are_counted() {
    let receiver = Receiver::new(&["400 Bad Request"]);
    let folder = Arc::new(TempDir::new());
    let setup = || {
        let url = format!("http://{}/", receiver.address);
        Setup::error_tracker().data_dir(&folder).env("EXPORT_URL", url)
    };
    let tracker = setup().start();
    tracker.post("/api/errors", &report_at("refused", 1)).expect(201);
    let refused = || (fact(&tracker, "export_refused") == 1).then_some(());
    wait_until(refused).expect("it is refused for good");
    let mut report = report_at("boom", 2);
    report["extra"] = json!({ "cart": [7] });
    report["release"] = json!("1.4.2");
    let id = tracker.post("/api/errors", &report).expect(201).id();
    wait_until(|| (fact(&tracker, "export_sent") == 1).then_some(())).expect("it is sent");
    let found = receiver.objects().pop().unwrap();
    let group = tracker.get(&format!("/api/errors/{id}")).expect(200).json();
    for name in ["fingerprint", "project", "exception_type", "message", "location", "release", "traceback", "count"] {
        assert_eq!(found[name], group[name], "{name}");
    }
    assert_eq!((&found["error_id"], &found["extra"]), (&json!(id), &json!({ "cart": [7] })));
    tracker.kill();
    // Where nothing is sent on, nothing is known of it; and then it begins with all that is kept.
    let quiet = Setup::error_tracker().data_dir(&folder).start();
    assert_eq!(quiet.get("/health").json().get("export_sent"), None);
    quiet.kill();
    let again = setup().env("EXPORT_FORMAT", "clickhouse").start();
    wait_until(|| (fact(&again, "export_sent") == 2).then_some(())).expect("both are sent");
    let last = receiver.taken().pop().unwrap();
    assert!(last.0.starts_with("POST /?query=INSERT%20INTO%20monlight_errors%20FORMAT%20JSONEachRow&"), "{}", last.0);
    assert_eq!(receiver.objects().pop().unwrap()["extra"], r#"{"cart":[7]}"#, "columns know no objects");
    let (code, said) = setup().env("EXPORT_FORMAT", "csv").run_to_exit();
    assert_eq!(
        (code, said.contains("EXPORT_FORMAT must be one of jsonl, loki, clickhouse")),
        (Some(2), true),
        "{said}"
    );
}

#[test]
fn what_was_gone_before_anything_was_sent_on_was_not_missed() {
    let receiver = Receiver::new(&[]);
    let tracker = Setup::error_tracker().start();
    for _ in 0..12 {
        tracker.post("/api/errors", &report_at("boom", 1));
    }
    let folder = tracker.kill();
    let sending = || {
        let url = format!("http://{}/", receiver.address);
        Setup::error_tracker().data_dir(&folder).env("EXPORT_URL", url).start()
    };
    let tracker = sending();
    wait_until(|| (fact(&tracker, "export_sent") == 5).then_some(())).expect("the five that are kept");
    assert_eq!(fact(&tracker, "export_missed"), 0);
    tracker.kill();
    // What comes and goes while the mark is there is missed: of twelve more five are left when their turn comes.
    let database = rusqlite::Connection::open(folder.path().join("errors.db")).unwrap();
    database.execute_batch("UPDATE _exported SET mark = mark - 7").unwrap();
    drop(database);
    let tracker = sending();
    wait_until(|| (fact(&tracker, "export_sent") == 10).then_some(())).expect("the five that are left");
    assert_eq!(fact(&tracker, "export_missed"), 2);
}

/// A ClickHouse of Debian's, unpacked with its libraries.
struct ClickHouse {
    child: Child,
    address: SocketAddr,
}

impl ClickHouse {
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
        let says = || std::fs::read_to_string(folder.path().join("log")).unwrap();
        assert!(wait_until(|| server.ask("SELECT 1")).is_some(), "{}", says());
        Some(server)
    }

    fn ask(&self, query: &str) -> Option<String> {
        let mut client = Client::new(TcpStream::connect(self.address).ok()?);
        let answer = client.send(&Request::new("POST", "/").body(query));
        (answer.status == 200).then(|| answer.text().trim().to_owned())
    }
}

impl Drop for ClickHouse {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn clickhouse_has_every_entry_although_it_was_away_and_the_viewer_was_killed() {
    let (kept, address, folder) = (TempDir::new(), free_port(), Arc::new(TempDir::new()));
    let Some(server) = ClickHouse::start(&kept, address) else { return };
    let table = "CREATE TABLE monlight_logs (id Int64, timestamp String, container String, stream String, level String, \
                 message String) ENGINE = MergeTree PARTITION BY tuple() ORDER BY id";
    server.ask(table).expect("a table");
    let web = Container::new(&folder, "web");
    let start = || {
        Setup::log_viewer()
            .data_dir(&folder)
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
                std::thread::sleep(AWAY);
                server = ClickHouse::start(&kept, address);
            }
            _ => {}
        }
        std::thread::sleep(Duration::from_millis(300));
    }
    let (viewer, server) = (viewer.unwrap(), server.unwrap());
    let stored = || (viewer.get("/api/logs/stats").json()["total_logs"] == LINES).then_some(());
    wait_until(stored).expect("all lines");
    // The next attempt may be a minute away.
    let all_sent = || wait_until(|| (fact(&viewer, "export_waiting") == 0).then_some(()));
    assert!((0..4).any(|_| all_sent().is_some()), "{}", viewer.get("/health").text());
    assert_eq!(server.ask("SELECT countDistinct(id) FROM monlight_logs").unwrap(), LINES.to_string());
    assert_eq!(server.ask("SELECT countDistinct(message) FROM monlight_logs").unwrap(), LINES.to_string());
    let sum: i64 = export_entries(&viewer, "").iter().map(|entry| entry.id % 1_000_003).sum();
    let distinct = "SELECT sum(id % 1000003) FROM (SELECT DISTINCT id FROM monlight_logs)";
    assert_eq!(server.ask(distinct).unwrap(), sum.to_string());
    assert_eq!((fact(&viewer, "export_missed"), fact(&viewer, "export_refused")), (0, 0));
}
