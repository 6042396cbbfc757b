//! Replication with Litestream and the shipped configuration: the data that its replicas contain after all processes are
//! killed, after an orderly stop, and after changes that Litestream could not copy because it was not running.

use std::fs::File;
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use serde_json::json;

use crate::support::databases::assert_intact;
use crate::support::harness::{Client, Request, Service, TempDir, report_at, send_signal, wait_until};
use crate::support::peers::find_program;
use crate::support::stack::start_services;

const DATABASES: [(&str, &str); 4] = [
    ("monlight-error-tracker", "errors.db"),
    ("monlight-log-viewer", "logs.db"),
    ("monlight-metrics-collector", "metrics.db"),
    ("monlight-browser-relay", "browser-relay.db"),
];
/// Maximum age of writes that a replica may lack: a second until Litestream polls, a second of `sync-interval`, and the
/// time that the copy takes.
const LOSS_MAX: Duration = Duration::from_secs(5);
/// Time for which clients write before everything is killed; twice [`LOSS_MAX`].
const WRITE_DURATION: Duration = Duration::from_secs(10);
const CLIENTS: u32 = 3;
/// Databases that clients write to.
const WRITTEN_DATABASES: [&str; 2] = ["metrics.db", "errors.db"];
/// Number of writes to a database that fill about half of its write-ahead log until the next checkpoint.
const HALF_WAL_WRITES: usize = 40;
/// Number of clients that take turns, so that most changed pages do not change again soon.
const TURNS: usize = 60;
/// Number of writes after which SQLite must have started to overwrite a write-ahead log.
const WAL_WRITES_MAX: usize = 2_000;
/// Maximum size of a write-ahead log under that load, in bytes.
const WAL_BYTES_MAX: u64 = 200_000_000;
/// Size of the message of a report, large enough for several checkpoints of 4 MB.
const MESSAGE_BYTES: usize = 4_000;

/// Folders for the databases and for the replicas, and the shipped configuration adapted to them.
struct Replication {
    program: PathBuf,
    data_dir: Arc<TempDir>,
    replica_dir: TempDir,
}

impl Replication {
    fn new() -> Option<Self> {
        let replication = Self {
            program: find_program("litestream")?,
            data_dir: Arc::new(TempDir::new()),
            replica_dir: TempDir::new(),
        };
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/litestream.yml.example");
        let mut text = std::fs::read_to_string(example).unwrap();
        for (folder, database) in DATABASES {
            let path = format!("path: /var/lib/{folder}/{database}\n");
            assert!(text.contains(&path), "litestream.yml.example lacks {path}");
            text = text.replace(&path, &format!("path: {}\n", replication.data_dir.path().join(database).display()));
        }
        let replicas = replication.replica_dir.path().join("replicas");
        text = text.replace("/var/backups/monlight-live", replicas.to_str().unwrap());
        std::fs::write(replication.config_path(), text).unwrap();
        Some(replication)
    }

    fn config_path(&self) -> PathBuf {
        self.replica_dir.path().join("litestream.yml")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.replica_dir.path().join("log")).unwrap()
    }

    fn start_litestream(&self) -> Litestream {
        let log = File::create(self.replica_dir.path().join("log")).unwrap();
        let child = Command::new(&self.program)
            .args(["replicate", "-config"])
            .arg(self.config_path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Litestream(child)
    }

    /// Restores all replicas into an empty folder, checks their integrity, and returns the folder.
    #[track_caller]
    fn restore(&self) -> Arc<TempDir> {
        let empty = Arc::new(TempDir::new());
        for (_, database) in DATABASES {
            let restored = empty.path().join(database);
            let output = Command::new(&self.program)
                .args(["restore", "-config"])
                .arg(self.config_path())
                .arg("-o")
                .arg(&restored)
                .args(["-integrity-check", "full"])
                .arg(self.data_dir.path().join(database))
                .output()
                .unwrap();
            assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stderr), self.log());
            assert_intact(&restored);
        }
        empty
    }

    /// Checks the integrity of the databases themselves, without changing their write-ahead logs.
    #[track_caller]
    fn check_sources(&self) {
        for (_, database) in DATABASES {
            assert_intact(&self.data_dir.path().join(database));
        }
    }

    /// Returns the salts of a write-ahead log, which change when SQLite starts to overwrite it.
    fn wal_salts(&self, database: &str) -> Option<[u8; 8]> {
        let mut header = [0; 24];
        let mut wal = File::open(self.data_dir.path().join(format!("{database}-wal"))).unwrap();
        // The log is empty after a checkpoint that truncates it.
        wal.read_exact(&mut header).is_ok().then(|| header[16..].try_into().unwrap())
    }

    /// Waits until Litestream has made its first snapshots. It makes the next ones a day later, which repair a replica.
    fn wait_for_snapshots(&self) {
        let has_snapshot = |log: &str, database: &str| {
            log.lines().any(|line| line.contains("snapshot complete") && line.contains(&format!("db={database}")))
        };
        let all = || WRITTEN_DATABASES.iter().all(|database| has_snapshot(&self.log(), database)).then_some(());
        assert!(wait_until(all).is_some(), "Litestream makes no snapshots: {}", self.log());
    }

    /// Waits until Litestream has copied changes of the written databases since a time.
    fn wait_for_copies(&self, since: SystemTime) {
        let newest = |database: &str| {
            let copies = self.data_dir.path().join(format!(".{database}-litestream/ltx/0"));
            let copies = std::fs::read_dir(copies).into_iter().flatten();
            let copies = copies.map(Result::unwrap).filter(|copy| copy.path().extension() == Some("ltx".as_ref()));
            copies.map(|copy| copy.metadata().unwrap().modified().unwrap()).max()
        };
        for database in WRITTEN_DATABASES {
            let copied = wait_until(|| newest(database).filter(|time| *time > since));
            assert!(copied.is_some(), "Litestream does not copy {database}: {}", self.log());
        }
    }
}

/// Running `litestream replicate`, killed on drop.
struct Litestream(Child);

impl Litestream {
    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Sends SIGTERM and waits for the exit. Litestream copies the last changes before it exits.
    fn stop(mut self) {
        send_signal(self.0.id(), "TERM");
        let status = wait_until(|| self.0.try_wait().unwrap()).expect("Litestream stops after SIGTERM");
        assert!(status.success(), "{status}");
    }
}

impl Drop for Litestream {
    fn drop(&mut self) {
        // Fails if the test has stopped it already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start_services_in(data_dir: &Arc<TempDir>) -> [Service; 4] {
    start_services(|_, setup| setup.data_dir(data_dir))
}

/// Clients that send one write after another and record the time of each acknowledgment.
struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Vec<Instant>>>,
}

impl Load {
    fn start(errors: SocketAddr, metrics: SocketAddr, from: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let clients = (from..from + 2 * CLIENTS).map(|client| {
            let (stop, address) = (Arc::clone(&stop), if sends_reports(client) { errors } else { metrics });
            std::thread::spawn(move || {
                let mut connection = Client::new(TcpStream::connect(address).unwrap());
                let mut acknowledged = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    connection.write(&write_request(client).bytes());
                    // A killed service sends no response.
                    let Some(response) = connection.try_read_response() else { break };
                    assert!(response.status < 300, "{}", response.text());
                    acknowledged.push(Instant::now());
                }
                acknowledged
            })
        });
        let clients = clients.collect();
        Self { stop, clients }
    }

    /// Stops the clients and returns the times of acknowledgment by client.
    fn stop(self) -> Vec<Vec<Instant>> {
        self.stop.store(true, Ordering::Relaxed);
        self.clients.into_iter().map(|client| client.join().unwrap()).collect()
    }
}

fn sends_reports(client: u32) -> bool {
    client.is_multiple_of(2)
}

/// Returns a report to the client's own group, or a point of its own series.
fn write_request(client: u32) -> Request {
    if sends_reports(client) {
        return Request::post("/api/errors", &report_at(&"x".repeat(MESSAGE_BYTES), client));
    }
    let labels = json!({ "client": client });
    Request::post("/api/metrics", &json!([{ "name": "sold", "type": "counter", "value": 1, "labels": labels }]))
}

/// Returns the number of stored writes of a client.
fn count_stored(client: u32, [errors, _, metrics, _]: &[Service; 4]) -> usize {
    if sends_reports(client) {
        let groups = errors.get("/api/errors?limit=200").expect(200).json();
        let location = format!("/app/pay.py:{client}");
        let group = groups["errors"].as_array().unwrap().iter().find(|group| group["location"] == location.as_str());
        return group.map_or(0, |group| group["count"].as_u64().unwrap() as usize);
    }
    let path = format!("/api/metrics?name=sold&period=2h&resolution=minute&labels=client:{client}");
    let buckets = metrics.get(&path).expect(200).json();
    buckets["data"].as_array().unwrap().iter().map(|bucket| bucket["sum"].as_f64().unwrap() as usize).sum()
}

#[test]
fn replicas_lack_at_most_seconds_after_sigkill_and_nothing_after_an_orderly_stop() {
    let Some(replication) = Replication::new() else { return };
    let services = start_services_in(&replication.data_dir);
    let litestream = replication.start_litestream();
    let load = Load::start(services[0].address, services[2].address, 1);
    // The load must last much longer than the loss that is allowed.
    std::thread::sleep(WRITE_DURATION);
    let wal_bytes = std::fs::metadata(replication.data_dir.path().join("errors.db-wal")).unwrap().len();
    litestream.kill();
    let killed = Instant::now();
    for service in services {
        service.kill();
    }
    let acknowledged = load.stop();
    replication.check_sources();
    let restored = start_services_in(&replication.restore());
    for (client, times) in (1..).zip(&acknowledged) {
        let count = count_stored(client, &restored);
        let lost = times.get(count).map_or(Duration::ZERO, |first| killed.saturating_duration_since(*first));
        eprintln!(
            "client {client}: {} acknowledged, {count} restored; the first lost write is {lost:.2?} older than the kill",
            times.len()
        );
        assert!(count > 0 && lost < LOSS_MAX, "{lost:?}: {}", replication.log());
    }
    drop(restored);
    // Litestream holds a read transaction, which keeps the services from resetting the log. It must do so itself.
    assert!(wal_bytes < WAL_BYTES_MAX, "the write-ahead log grew to {wal_bytes} bytes: {}", replication.log());
    assert!(!replication.log().contains("level=ERROR"), "{}", replication.log());
    eprintln!("the write-ahead log had {wal_bytes} bytes");

    // Second run with the killed databases and an orderly stop: the services stop first, so that nothing changes later.
    let services = start_services_in(&replication.data_dir);
    let litestream = replication.start_litestream();
    let load = Load::start(services[0].address, services[2].address, 101);
    std::thread::sleep(LOSS_MAX);
    let acknowledged = load.stop();
    for service in services {
        assert!(service.stop().0.success());
    }
    litestream.stop();
    replication.check_sources();
    let restored = start_services_in(&replication.restore());
    for (client, times) in (101..).zip(&acknowledged) {
        assert_eq!(count_stored(client, &restored), times.len(), "client {client}: {}", replication.log());
    }
    let total: usize = acknowledged.iter().map(Vec::len).sum();
    eprintln!("{total} writes acknowledged, all of them restored after an orderly stop");
}

/// Clients that take turns in sending one write, and the numbers of acknowledged writes by client.
struct Writers<'a> {
    replication: &'a Replication,
    counts: [usize; TURNS],
}

impl Writers<'_> {
    /// Sends `count` writes to each database.
    fn write(&mut self, services: &[Service; 4], count: usize) {
        self.write_while(services, |_, sent| sent < count);
    }

    /// Sends writes to each database until SQLite overwrites its write-ahead log. Most of the old log remains behind the
    /// new one, unless the service truncates it.
    fn write_until_overwritten(&mut self, services: &[Service; 4]) {
        let replication = self.replication;
        let before = WRITTEN_DATABASES.map(|database| replication.wal_salts(database));
        self.write_while(services, |index, sent| {
            assert!(sent < WAL_WRITES_MAX, "{} is not overwritten", WRITTEN_DATABASES[index]);
            let now = replication.wal_salts(WRITTEN_DATABASES[index]);
            now.is_none() || now == before[index]
        });
    }

    /// Sends writes to each database while `goes_on` returns true for its index and the number of writes sent.
    fn write_while(&mut self, services: &[Service; 4], goes_on: impl Fn(usize, usize) -> bool) {
        for (index, service) in [&services[2], &services[0]].into_iter().enumerate() {
            let mut connection = Client::new(TcpStream::connect(service.address).unwrap());
            let mut clients = (0..TURNS).filter(|client| sends_reports(*client as u32) == (index == 1)).cycle();
            let mut sent = 0;
            while goes_on(index, sent) {
                let client = clients.next().unwrap();
                connection.write(&write_request(client as u32).bytes());
                let response = connection.try_read_response().unwrap();
                assert!(response.status < 300, "{}", response.text());
                self.counts[client] += 1;
                sent += 1;
            }
        }
    }

    /// Stops the services and Litestream after them, and checks that everything is restored.
    #[track_caller]
    fn stop_and_check(&self, services: [Service; 4], litestream: Litestream) {
        for service in services {
            assert!(service.stop().0.success());
        }
        litestream.stop();
        self.replication.check_sources();
        let restored = start_services_in(&self.replication.restore());
        for (client, count) in (0..).zip(self.counts) {
            assert_eq!(count_stored(client, &restored), count, "client {client}: {}", self.replication.log());
        }
    }
}

#[test]
fn replicas_are_complete_after_services_overwrote_a_log_while_litestream_was_stopped() {
    let Some(replication) = Replication::new() else { return };
    let mut writers = Writers { replication: &replication, counts: [0; TURNS] };
    let services = start_services_in(&replication.data_dir);
    let litestream = replication.start_litestream();
    replication.wait_for_snapshots();
    writers.write(&services, HALF_WAL_WRITES);
    litestream.stop();
    writers.write_until_overwritten(&services);
    let restarted = SystemTime::now();
    let litestream = replication.start_litestream();
    replication.wait_for_copies(restarted);
    writers.stop_and_check(services, litestream);
}

#[test]
fn replicas_are_complete_after_all_processes_were_killed_and_services_started_first() {
    let Some(replication) = Replication::new() else { return };
    let mut writers = Writers { replication: &replication, counts: [0; TURNS] };
    let services = start_services_in(&replication.data_dir);
    let litestream = replication.start_litestream();
    replication.wait_for_snapshots();
    writers.write(&services, HALF_WAL_WRITES);
    let written = SystemTime::now();
    writers.write(&services, 1);
    replication.wait_for_copies(written);
    litestream.kill();
    writers.write(&services, HALF_WAL_WRITES);
    for service in services {
        service.kill();
    }
    let services = start_services_in(&replication.data_dir);
    writers.write_until_overwritten(&services);
    let restarted = SystemTime::now();
    let litestream = replication.start_litestream();
    replication.wait_for_copies(restarted);
    writers.stop_and_check(services, litestream);
}
