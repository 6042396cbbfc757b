//! Litestream, which copies databases as they are written: with the configuration that is shipped, and what is left of
//! them elsewhere when everything is killed at once.

use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{Client, Request, Service, Setup, TempDir, report_at, send_signal, wait_until};
use crate::peers::find_program;

const DATABASES: [(&str, &str); 4] = [
    ("monlight-error-tracker", "errors.db"),
    ("monlight-log-viewer", "logs.db"),
    ("monlight-metrics-collector", "metrics.db"),
    ("monlight-browser-relay", "browser-relay.db"),
];
/// What may be lost: a second until Litestream looks, the second of `sync-interval`, and what the machine needs for it.
const LOST_MAX: Duration = Duration::from_secs(5);
/// How long clients write before everything is killed: several times that.
const WRITING: Duration = Duration::from_secs(12);
const CLIENTS: u32 = 3;
/// How long a write-ahead log may become under that load.
const WAL_BYTES_MAX: u64 = 200_000_000;
/// Several checkpoints of 4 MB pass in that time.
const MESSAGE_BYTES: usize = 4_000;

/// Databases in a folder, the replicas in another, and the shipped configuration with these.
struct Site {
    program: PathBuf,
    data: Arc<TempDir>,
    elsewhere: TempDir,
}

impl Site {
    fn new() -> Option<Self> {
        let site =
            Self { program: find_program("litestream")?, data: Arc::new(TempDir::new()), elsewhere: TempDir::new() };
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/litestream.yml.example");
        let mut text = std::fs::read_to_string(example).unwrap();
        for (folder, database) in DATABASES {
            let path = format!("path: /var/lib/{folder}/{database}\n");
            assert!(text.contains(&path), "{path}");
            text = text.replace(&path, &format!("path: {}\n", site.data.path().join(database).display()));
        }
        let replicas = site.elsewhere.path().join("replicas");
        text = text.replace("/var/backups/monlight-live", replicas.to_str().unwrap());
        std::fs::write(site.config(), text).unwrap();
        Some(site)
    }

    fn config(&self) -> PathBuf {
        self.elsewhere.path().join("litestream.yml")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.elsewhere.path().join("log")).unwrap()
    }

    fn replicate(&self) -> Replicating {
        let log = File::create(self.elsewhere.path().join("log")).unwrap();
        let child = Command::new(&self.program)
            .args(["replicate", "-config"])
            .arg(self.config())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Replicating(child)
    }

    /// Restores what is elsewhere into an empty folder, and checks it.
    #[track_caller]
    fn restore(&self) -> Arc<TempDir> {
        let empty = Arc::new(TempDir::new());
        for (_, database) in DATABASES {
            let restored = empty.path().join(database);
            let output = Command::new(&self.program)
                .args(["restore", "-config"])
                .arg(self.config())
                .arg("-o")
                .arg(&restored)
                .arg(self.data.path().join(database))
                .output()
                .unwrap();
            assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stderr), self.log());
            let connection = rusqlite::Connection::open(&restored).unwrap();
            let verdict: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
            assert_eq!(verdict, "ok", "{database}");
        }
        empty
    }
}

/// Litestream at work.
struct Replicating(Child);

impl Replicating {
    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Asks it to end, which it does after a last copy.
    fn stop(mut self) {
        send_signal(self.0.id(), "TERM");
        let status = wait_until(|| self.0.try_wait().unwrap()).expect("it stops");
        assert!(status.success(), "{status}");
    }
}

impl Drop for Replicating {
    fn drop(&mut self) {
        // Gone already in the tests that come to their end.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The four services on these databases.
fn start(data: &Arc<TempDir>) -> [Service; 4] {
    let errors = Setup::error_tracker().data_dir(data).start();
    let logs = Setup::log_viewer().data_dir(data).start();
    let metrics = Setup::metrics_collector().data_dir(data).start();
    let relay = Setup::browser_relay(errors.address, metrics.address).data_dir(data).start();
    [errors, logs, metrics, relay]
}

/// Clients that write as fast as they are answered, and know when each write was acknowledged.
struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Vec<Instant>>>,
}

impl Load {
    fn start(errors: SocketAddr, metrics: SocketAddr, from: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let clients = (from..from + 2 * CLIENTS).map(|client| {
            let (stop, address) = (Arc::clone(&stop), if is_reporting(client) { errors } else { metrics });
            std::thread::spawn(move || {
                let mut connection = Client::new(TcpStream::connect(address).unwrap());
                let mut acknowledged = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    connection.write(&write(client).bytes());
                    // A service that was killed answers no more.
                    let Some(answer) = connection.try_read_response() else { break };
                    assert!(answer.status < 300, "{}", answer.text());
                    acknowledged.push(Instant::now());
                }
                acknowledged
            })
        });
        let clients = clients.collect();
        Self { stop, clients }
    }

    /// When each client's writes were acknowledged.
    fn end(self) -> Vec<Vec<Instant>> {
        self.stop.store(true, Ordering::Relaxed);
        self.clients.into_iter().map(|client| client.join().unwrap()).collect()
    }
}

fn is_reporting(client: u32) -> bool {
    client.is_multiple_of(2)
}

/// Into a group or a series of the client's own.
fn write(client: u32) -> Request {
    if is_reporting(client) {
        return Request::post("/api/errors", &report_at(&"x".repeat(MESSAGE_BYTES), client));
    }
    let labels = json!({ "client": client });
    Request::post("/api/metrics", &json!([{ "name": "sold", "type": "counter", "value": 1, "labels": labels }]))
}

fn stored(client: u32, [errors, _, metrics, _]: &[Service; 4]) -> usize {
    if is_reporting(client) {
        let groups = errors.get("/api/errors?limit=200").expect(200).json();
        let location = format!("/app/pay.py:{client}");
        let found = groups["errors"].as_array().unwrap().iter().find(|group| group["location"] == location.as_str());
        return found.map_or(0, |group| group["count"].as_u64().unwrap() as usize);
    }
    let path = format!("/api/metrics?name=sold&period=2h&resolution=minute&labels=client:{client}");
    let buckets = metrics.get(&path).expect(200).json();
    buckets["data"].as_array().unwrap().iter().map(|bucket| bucket["sum"].as_f64().unwrap() as usize).sum()
}

#[test]
fn what_litestream_has_when_all_is_killed_is_whole_and_seconds_old_and_after_a_last_copy_all_of_it() {
    let Some(site) = Site::new() else { return };
    let services = start(&site.data);
    let replicating = site.replicate();
    let load = Load::start(services[0].address, services[2].address, 1);
    // What is written is the condition: so many seconds of it, of which the last may be lost.
    std::thread::sleep(WRITING);
    let waiting = std::fs::metadata(site.data.path().join("errors.db-wal")).unwrap().len();
    replicating.kill();
    let killed = Instant::now();
    for service in services {
        service.kill();
    }
    let acknowledged = load.end();
    let restored = start(&site.restore());
    for (client, times) in (1..).zip(&acknowledged) {
        let count = stored(client, &restored);
        let lost = times.get(count).map_or(Duration::ZERO, |first| killed.saturating_duration_since(*first));
        eprintln!(
            "client {client}: {} acknowledged, {count} restored; the first lost one {lost:.2?} before the end",
            times.len()
        );
        assert!(count > 0 && lost < LOST_MAX, "{lost:?}: {}", site.log());
    }
    drop(restored);
    // Its own read keeps the services' checkpoints from starting the log anew; it does that itself.
    assert!(waiting < WAL_BYTES_MAX, "the write-ahead log grew to {waiting} bytes: {}", site.log());
    assert!(!site.log().contains("level=ERROR"), "{}", site.log());
    eprintln!("the write-ahead log had {waiting} bytes");

    // Again on what was killed, and then an end in order: the services first, so that there is nothing more to copy.
    let services = start(&site.data);
    let replicating = site.replicate();
    let load = Load::start(services[0].address, services[2].address, 101);
    std::thread::sleep(LOST_MAX);
    let acknowledged = load.end();
    for service in services {
        assert!(service.stop().0.success());
    }
    replicating.stop();
    let restored = start(&site.restore());
    for (client, times) in (101..).zip(&acknowledged) {
        assert_eq!(stored(client, &restored), times.len(), "client {client}: {}", site.log());
    }
    let total: usize = acknowledged.iter().map(Vec::len).sum();
    eprintln!("{total} acknowledged, all of them restored after a last copy");
}
