//! `deploy/upgrade.sh` with running services: upgrades to versions that change the schema, and rollbacks of versions that do
//! not work.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::harness::{
    API_KEY, Client, PUBLIC_KEY, Request, Response, TempDir, binary, free_port, report_at, send_signal, skip,
    wait_until,
};
use crate::support::programs::{deploy_script, output_text};

/// Services with their databases, in the order of the upgrade.
const SERVICES: [(&str, &str); 4] = [
    ("error-tracker", "errors.db"),
    ("log-viewer", "logs.db"),
    ("metrics-collector", "metrics.db"),
    ("browser-relay", "browser-relay.db"),
];
/// Services that the clients write to.
const WRITTEN_SERVICES: [&str; 3] = ["error-tracker", "metrics-collector", "browser-relay"];
/// Number of clients per service.
const CLIENTS: u32 = 3;
/// Pause between two writes of a client, and between two attempts.
const PAUSE: Duration = Duration::from_millis(5);
/// Time in which a new version must become healthy, in seconds.
const HEALTHY_TIMEOUT_S: &str = "4";
/// Schema version that no current binary knows.
const NEWER_SCHEMA: i64 = 199;

/// Installation in a temporary folder, without systemd: binaries, databases, and commands that start and stop the services.
struct Installation {
    folder: TempDir,
    ports: [u16; 4],
}

impl Installation {
    fn start() -> Self {
        let installation = Self { folder: TempDir::new(), ports: [(); 4].map(|()| free_port()) };
        for name in ["bin", "new", "data", "containers"] {
            std::fs::create_dir(installation.path_of(name)).unwrap();
        }
        let [errors, _, metrics, _] = installation.ports;
        for ((service, database), port) in SERVICES.iter().zip(installation.ports) {
            std::fs::copy(binary(service), installation.path_of("bin").join(service)).unwrap();
            std::fs::copy(binary(service), installation.path_of("new").join(service)).unwrap();
            let mut env = format!("PORT={port} LISTEN_ADDR=127.0.0.1 RATE_LIMIT=0 KEY_RATE_LIMIT=0 HOST_METRICS=0");
            for key in ["API_KEY", "ADMIN_API_KEY", "ERROR_TRACKER_API_KEY", "METRICS_COLLECTOR_API_KEY"] {
                write!(env, " {key}={API_KEY}").unwrap();
            }
            write!(env, " DATABASE_PATH={}", installation.path_of("data").join(database).display()).unwrap();
            write!(env, " LOG_SOURCES={} DSN_KEYS=shop:{PUBLIC_KEY}", installation.path_of("containers").display())
                .unwrap();
            write!(env, " ERROR_TRACKER_URL=http://127.0.0.1:{errors}").unwrap();
            write!(env, " METRICS_COLLECTOR_URL=http://127.0.0.1:{metrics}").unwrap();
            std::fs::write(installation.path_of(&format!("{service}.env")), env).unwrap();
        }
        for (service, _) in SERVICES {
            let status =
                Command::new("sh").args(["-c", &installation.start_command(), "sh", service]).status().unwrap();
            assert!(status.success());
        }
        for port in installation.ports {
            let reachable = wait_until(|| TcpStream::connect(("127.0.0.1", port)).ok());
            assert!(reachable.is_some(), "{}", installation.logs());
        }
        installation
    }

    fn path_of(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn logs(&self) -> String {
        let log = |service: &str| std::fs::read_to_string(self.path_of(&format!("{service}.log"))).unwrap_or_default();
        SERVICES.map(|(service, _)| format!("{service}: {}", log(service))).join("\n")
    }

    /// Returns the shell command that starts the service `$1` in the background.
    fn start_command(&self) -> String {
        let folder = self.folder.path().display();
        format!(
            "env -i PATH=\"$PATH\" $(cat {folder}/$1.env) {folder}/bin/$1 </dev/null >>{folder}/$1.log 2>&1 & \
             echo $! >{folder}/$1.pid"
        )
    }

    /// Returns the shell command that stops the service `$1` and waits for its exit, even if it never became healthy. An
    /// exited process has no `/proc/PID/exe`, even while it is a zombie.
    fn stop_command(&self) -> String {
        let folder = self.folder.path().display();
        format!(
            "pid=$(cat {folder}/$1.pid); kill -s TERM $pid 2>/dev/null; while [ -e /proc/$pid/exe ]; do sleep 0.02; done"
        )
    }

    /// Replaces the new binary of a service with a shell script. `$real` in the script is the path of the real binary, which
    /// also handles all calls with arguments, such as `--version`.
    fn replace_new_binary(&self, service: &str, script: &str) {
        let path = self.path_of("new").join(service);
        let real = binary(service);
        let script = format!("#!/bin/sh\nreal={}\n[ $# = 0 ] || exec \"$real\" \"$@\"\n{script}\n", real.display());
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn upgrade_command(&self, arguments: &[&str], start: &str) -> Command {
        let path = |name: &str| self.path_of(name).display().to_string();
        let (new, bin, data, to) = (path("new"), path("bin"), path("data"), path("backups"));
        let options = ["--new", &new, "--bin", &bin, "--data", &data, "--to", &to, "--within", HEALTHY_TIMEOUT_S];
        let urls = self.ports.map(|port| format!("http://127.0.0.1:{port}"));
        let [errors, logs, metrics, relay] = [0, 1, 2, 3].map(|index| urls[index].as_str());
        let env = [("START", start), ("STOP", &self.stop_command()), ("ERRORS_URL", errors), ("LOGS_URL", logs)];
        let env = [&env[..], &[("METRICS_URL", metrics), ("RELAY_URL", relay)]].concat();
        deploy_script("upgrade.sh", &[&options[..], arguments].concat(), &env)
    }

    /// Runs the upgrade with `start` as the command that starts a service.
    fn run_upgrade(&self, arguments: &[&str], start: &str) -> Output {
        let output = self.upgrade_command(arguments, start).output().unwrap();
        eprintln!("{}", output_text(&output));
        output
    }

    /// Runs the upgrade and asserts its exit code and parts of its output.
    #[track_caller]
    fn assert_upgrade(&self, arguments: &[&str], code: i32, messages: &[&str]) {
        let output = self.run_upgrade(arguments, &self.start_command());
        assert_eq!(output.status.code(), Some(code), "{}{}", output_text(&output), self.logs());
        for message in messages {
            assert!(output_text(&output).contains(message), "{message:?} is missing in {}", output_text(&output));
        }
    }

    fn get(&self, service: &str, path: &str) -> Response {
        let index = SERVICES.iter().position(|(name, _)| *name == service).unwrap();
        let mut client = Client::new(TcpStream::connect(("127.0.0.1", self.ports[index])).unwrap());
        client.send(&Request::get(path))
    }

    fn open_database(&self, service: &str) -> rusqlite::Connection {
        let (_, name) = SERVICES.iter().find(|(name, _)| *name == service).unwrap();
        rusqlite::Connection::open(self.path_of("data").join(name)).unwrap()
    }

    fn schema_version(&self, service: &str) -> i64 {
        let sql = "SELECT CAST(value AS INTEGER) FROM _meta WHERE key = 'schema_version'";
        self.open_database(service).query_row(sql, [], |row| row.get(0)).unwrap()
    }

    /// Returns whether the installed binary is the original one, not a script of [`Self::replace_new_binary`].
    fn has_original_binary(&self, service: &str) -> bool {
        std::fs::read(self.path_of("bin").join(service)).unwrap() == std::fs::read(binary(service)).unwrap()
    }
}

impl Drop for Installation {
    fn drop(&mut self) {
        for (service, _) in SERVICES {
            let pid = std::fs::read_to_string(self.path_of(&format!("{service}.pid"))).unwrap_or_default();
            if let Ok(pid) = pid.trim().parse()
                && std::fs::metadata(format!("/proc/{pid}/exe")).is_ok()
            {
                send_signal(pid, "KILL");
            }
        }
    }
}

/// Returns a free port. Linux does not assign it again soon, so it stays free for the caller.
/// Returns shell commands that change the schema like a newer version. `oldest_reader` is the oldest schema version whose
/// binaries can still read the database.
fn migration_script(table: &str, oldest_reader: Option<i64>) -> String {
    let oldest = oldest_reader.map_or_else(String::new, |oldest| {
        format!("db.execute(\"UPDATE _meta SET value = '{oldest}' WHERE key = 'oldest_reader'\")\n")
    });
    format!(
        "python3 - <<'END' || exit\nimport os, sqlite3\ndb = sqlite3.connect(os.environ['DATABASE_PATH'])\n\
         db.execute('CREATE TABLE IF NOT EXISTS {table} (x)')\n\
         db.execute(\"UPDATE _meta SET value = '{NEWER_SCHEMA}' WHERE key = 'schema_version'\")\n{oldest}\
         db.commit()\nEND"
    )
}

/// Clients that repeat each write with the same idempotency key until it is acknowledged.
struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<(&'static str, u32, JoinHandle<ClientStats>)>,
}

/// Writes of one client.
struct ClientStats {
    acknowledged: u64,
    retries: u64,
    /// Longest time between two acknowledgments.
    gap: Duration,
}

impl Load {
    fn start(installation: &Installation) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut clients = Vec::new();
        for service in WRITTEN_SERVICES {
            let index = SERVICES.iter().position(|(name, _)| *name == service).unwrap();
            let address = SocketAddr::from(([127, 0, 0, 1], installation.ports[index]));
            for client in 1..=CLIENTS {
                let stop = Arc::clone(&stop);
                let thread = std::thread::spawn(move || write_until_stopped(service, client, address, &stop));
                clients.push((service, client, thread));
            }
        }
        Self { stop, clients }
    }

    /// Stops the clients and asserts that each acknowledged write is stored exactly once.
    fn stop_and_assert_stored(self, installation: &Installation) {
        self.stop.store(true, Ordering::Relaxed);
        let stats: Vec<_> = self
            .clients
            .into_iter()
            .map(|(service, client, thread)| (service, client, thread.join().unwrap()))
            .collect();
        let outbox_waiting = || installation.get("browser-relay", "/health").json()["outbox_waiting"].as_i64();
        assert!(
            wait_until(|| (outbox_waiting() == Some(0)).then_some(())).is_some(),
            "the outbox still has {:?} entries",
            outbox_waiting()
        );
        for service in WRITTEN_SERVICES {
            let clients: Vec<_> = stats.iter().filter(|(name, ..)| *name == service).collect();
            let sum = |number: fn(&ClientStats) -> u64| clients.iter().map(|(.., stats)| number(stats)).sum::<u64>();
            let gap = clients.iter().map(|(.., stats)| stats.gap).max().unwrap();
            let (acknowledged, retries) = (sum(|stats| stats.acknowledged), sum(|stats| stats.retries));
            let stored: u64 = clients.iter().map(|(_, client, _)| count_stored(installation, service, *client)).sum();
            eprintln!(
                "{service}: {acknowledged} writes acknowledged, {retries} retries, {stored} stored, longest gap {gap:.2?}"
            );
            for (_, client, stats) in clients {
                assert!(stats.acknowledged > 0, "{service} acknowledged nothing to client {client}");
                assert_eq!(
                    count_stored(installation, service, *client),
                    stats.acknowledged,
                    "{service}, client {client}"
                );
            }
        }
    }
}

fn write_until_stopped(service: &str, client: u32, address: SocketAddr, stop: &AtomicBool) -> ClientStats {
    let mut stats = ClientStats { acknowledged: 0, retries: 0, gap: Duration::ZERO };
    let (mut connection, mut last) = (None, Instant::now());
    while !stop.load(Ordering::Relaxed) {
        let key = format!("{service}-{client}-{}", stats.acknowledged);
        let request = write_request(service, client).header("Idempotency-Key", &key);
        loop {
            connection = connection.or_else(|| TcpStream::connect(address).ok().map(Client::new));
            let response = connection.as_mut().and_then(|connection: &mut Client| {
                connection.write(&request.bytes());
                connection.try_read_response()
            });
            match response {
                Some(Response { status: 200..=202, .. }) => break,
                Some(Response { status, .. }) if status != 503 => panic!("{service} responds with {status}"),
                _ => connection = None,
            }
            stats.retries += 1;
            std::thread::sleep(PAUSE);
        }
        stats.acknowledged += 1;
        stats.gap = stats.gap.max(last.elapsed());
        last = Instant::now();
        std::thread::sleep(PAUSE);
    }
    stats
}

/// Returns a report to the client's own group, or a point of its own series.
fn write_request(service: &str, client: u32) -> Request {
    match service {
        "error-tracker" => Request::post("/api/errors", &report_at("boom", client)),
        "metrics-collector" => {
            let point = json!({ "name": "sold", "type": "counter", "value": 1, "labels": { "client": client } });
            Request::post("/api/metrics", &json!([point]))
        }
        _ => {
            let stack = format!("E: e\n    at f (https://shop.example/app.js:{client}:1)");
            Request::from_browser("/api/browser/errors", &json!({ "type": "E", "message": "e", "stack": stack }))
        }
    }
}

/// Returns the number of stored writes of a client to a service.
fn count_stored(installation: &Installation, service: &str, client: u32) -> u64 {
    if service == "metrics-collector" {
        let path = format!("/api/metrics?name=sold&period=2h&resolution=minute&labels=client:{client}");
        let buckets = installation.get(service, &path).expect(200).json();
        return buckets["data"].as_array().unwrap().iter().map(|bucket| bucket["sum"].as_f64().unwrap() as u64).sum();
    }
    let file = if service == "browser-relay" { "app.js" } else { "/app/pay.py" };
    let sql = "SELECT ifnull(sum(count), 0) FROM error_groups WHERE location LIKE ?1";
    let count: i64 = installation
        .open_database("error-tracker")
        .query_row(sql, [format!("%{file}:{client}%")], |row| row.get(0))
        .unwrap();
    u64::try_from(count).unwrap()
}

/// Returns whether Python with SQLite is installed; skips the test if it is not.
fn python_or_skip() -> bool {
    let installed =
        Command::new("python3").args(["-c", "import sqlite3"]).output().is_ok_and(|run| run.status.success());
    if !installed {
        skip("python3 with sqlite3 is not installed; upgrades that change the schema are not tested");
    }
    installed
}

#[test]
fn upgrades_and_rollbacks_under_load_lose_no_acknowledged_write() {
    if !python_or_skip() {
        return;
    }
    let installation = Installation::start();
    let load = Load::start(&installation);
    // New versions that add a table and work.
    for (service, _) in SERVICES {
        installation.replace_new_binary(service, &format!("{}\nexec \"$real\"", migration_script("newer", None)));
    }
    installation.assert_upgrade(
        &[],
        0,
        &SERVICES
            .map(|(service, _)| format!("{service:<18} upgraded, unavailable for "))
            .each_ref()
            .map(String::as_str),
    );
    for (service, _) in SERVICES {
        assert!(!installation.has_original_binary(service), "{service} is not the new version");
        assert_eq!(installation.schema_version(service), NEWER_SCHEMA, "{service}");
        let previous = installation.path_of("bin").join(format!("{service}.previous"));
        assert!(std::fs::read(previous).unwrap() == std::fs::read(binary(service)).unwrap(), "{service}");
        installation.get(service, "/health").expect(200).has(json!({ "status": "ok" }));
    }
    installation.assert_upgrade(
        &[],
        0,
        &["error-tracker      already up to date", "browser-relay      already up to date"],
    );

    // A new collector that changes the schema and exits: it is rolled back after the upgrade of the tracker, and the relay is
    // not upgraded.
    for (service, _) in SERVICES {
        std::fs::copy(binary(service), installation.path_of("new").join(service)).unwrap();
    }
    installation.replace_new_binary("metrics-collector", &format!("{}\nexit 1", migration_script("newest", None)));
    let rolled_back = "metrics-collector  rolled back, unavailable for ";
    installation.assert_upgrade(
        &["error-tracker", "browser-relay", "metrics-collector"],
        1,
        &["error-tracker      upgraded", rolled_back, "no response from http", "browser-relay      not touched"],
    );
    assert!(
        installation.has_original_binary("error-tracker")
            && !installation.has_original_binary("metrics-collector")
            && !installation.has_original_binary("browser-relay")
    );
    let sql = "SELECT count(*) FROM sqlite_schema WHERE name IN ('newer', 'newest')";
    let tables: i64 = installation.open_database("metrics-collector").query_row(sql, [], |row| row.get(0)).unwrap();
    assert_eq!(tables, 2, "the old version does not use the database that the new version migrated");
    // New collectors that never respond, are unhealthy, or run another version than they report.
    installation.replace_new_binary("metrics-collector", "exec sleep 1000");
    installation.assert_upgrade(&["metrics-collector"], 1, &[rolled_back, "no response from http"]);
    let unhealthy = "import http.server, os\n\
        class Unhealthy(http.server.BaseHTTPRequestHandler):\n    def do_GET(self): self.send_error(503, 'the disk is full')\n    do_POST = do_GET\n\
        http.server.HTTPServer(('127.0.0.1', int(os.environ['PORT'])), Unhealthy).serve_forever()";
    std::fs::write(installation.path_of("unhealthy.py"), unhealthy).unwrap();
    installation.replace_new_binary(
        "metrics-collector",
        &format!("exec python3 {}", installation.path_of("unhealthy.py").display()),
    );
    installation.assert_upgrade(&["metrics-collector"], 1, &[rolled_back, "health check failed with status 503"]);
    let wrong_version = "#!/bin/sh\n[ $# = 0 ] && exec REAL\necho metrics-collector 9.9.9";
    let wrong_version = wrong_version.replace("REAL", binary("metrics-collector").to_str().unwrap());
    std::fs::write(installation.path_of("new").join("metrics-collector"), wrong_version).unwrap();
    installation.assert_upgrade(&["metrics-collector"], 1, &[rolled_back, "the running version is not 9.9.9"]);
    load.stop_and_assert_stored(&installation);
}

#[test]
fn rollback_restores_the_backup_if_the_old_version_cannot_read_the_database() {
    if !python_or_skip() {
        return;
    }
    let installation = Installation::start();
    let mut client = Client::new(TcpStream::connect(("127.0.0.1", installation.ports[0])).unwrap());
    client.send(&Request::post("/api/errors", &report_at("boom", 1))).expect(201);
    installation
        .replace_new_binary("error-tracker", &format!("{}\nexit 1", migration_script("newer", Some(NEWER_SCHEMA))));
    installation.assert_upgrade(
        &["error-tracker", "log-viewer"],
        1,
        &[
            "the old version cannot read the database: ",
            "changed by a newer Monlight and requires schema 199 or later",
            "error-tracker      rolled back with the backup restored, unavailable for ",
            "log-viewer         not touched",
        ],
    );
    assert!(installation.has_original_binary("error-tracker"));
    assert!(installation.schema_version("error-tracker") < NEWER_SCHEMA);
    assert_eq!(installation.get("error-tracker", "/api/errors").expect(200).json()["total"], 1);
    assert!(
        installation.path_of("data/errors.db.before-restore").exists(),
        "the database of the new version was not kept"
    );

    // A service that cannot be started at all is reported with its own exit code.
    installation.replace_new_binary("error-tracker", "exit 1");
    let output = installation.run_upgrade(&["error-tracker"], "exit 1");
    assert_eq!(output.status.code(), Some(3));
    assert!(output_text(&output).contains("error-tracker      DOWN: failed to start"), "{}", output_text(&output));
    let output = installation.run_upgrade(&["error-tracker"], "exit 1");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        output_text(&output).contains("error-tracker is unhealthy before the upgrade: "),
        "{}",
        output_text(&output)
    );
}

#[test]
fn invalid_binary_or_failed_backup_changes_nothing() {
    let installation = Installation::start();
    let pids = || {
        SERVICES.map(|(service, _)| std::fs::read_to_string(installation.path_of(&format!("{service}.pid"))).unwrap())
    };
    let before = pids();
    std::fs::write(installation.path_of("new/error-tracker"), "#!/bin/sh\nexit 1\n").unwrap();
    installation.assert_upgrade(&[], 1, &["new/error-tracker failed to print its version"]);
    std::fs::copy(binary("log-viewer"), installation.path_of("new/error-tracker")).unwrap();
    installation.assert_upgrade(&[], 1, &["it does not run on this machine or is not error-tracker"]);
    std::fs::copy(binary("error-tracker"), installation.path_of("new/error-tracker")).unwrap();
    std::fs::write(installation.path_of("backups"), "no folder").unwrap();
    installation.assert_upgrade(&["error-tracker"], 1, &["backup failed; nothing was changed"]);
    std::fs::remove_file(installation.path_of("new/browser-relay")).unwrap();
    installation.assert_upgrade(&["browser-relay"], 1, &["binary not found: no browser-relay in "]);
    installation.assert_upgrade(&["--tag", "next"], 2, &["require --compose"]);
    assert_eq!(pids(), before, "a service was restarted");
    assert!(SERVICES.iter().all(|(service, _)| installation.has_original_binary(service)));
}

#[test]
fn interrupted_upgrade_finishes_the_current_service() {
    let installation = Installation::start();
    for (service, _) in SERVICES {
        installation.replace_new_binary(service, "sleep 1; exec \"$real\"");
    }
    let mut command = installation.upgrade_command(&[], &installation.start_command());
    let mut upgrade = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // The upgrade of the first service has started when its old binary is saved.
    let started = wait_until(|| installation.path_of("bin/error-tracker.previous").exists().then_some(()));
    assert!(started.is_some());
    send_signal(upgrade.id(), "TERM");
    assert!(wait_until(|| upgrade.try_wait().unwrap()).is_some(), "the upgrade script does not exit after SIGTERM");
    let output = upgrade.wait_with_output().unwrap();
    let text = output_text(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for line in [
        "error-tracker      upgraded, unavailable for 1.",
        "log-viewer         not upgraded: interrupted",
        "metrics-collector  not touched",
        "browser-relay      not touched",
    ] {
        assert!(text.contains(line), "{line:?} is missing in {text}");
    }
    assert!(!installation.has_original_binary("error-tracker") && installation.has_original_binary("log-viewer"));
    installation.get("error-tracker", "/health").expect(200);
}
