//! `deploy/upgrade.sh` on programs at work: newer ones that change the schema, and such that never work.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::backup_script::{said, script};
use crate::harness::{
    API_KEY, Client, PUBLIC_KEY, Request, Response, TempDir, binary, report_at, send_signal, skip, wait_until,
};

/// In the order in which they are upgraded.
const SERVICES: [(&str, &str); 4] = [
    ("error-tracker", "errors.db"),
    ("log-viewer", "logs.db"),
    ("metrics-collector", "metrics.db"),
    ("browser-relay", "browser-relay.db"),
];
/// What clients write to, and how many there are for each.
const WRITTEN: [&str; 3] = ["error-tracker", "metrics-collector", "browser-relay"];
const CLIENTS: u32 = 3;
/// Between two writes of a client, and between two attempts.
const PACE: Duration = Duration::from_millis(5);
/// How long a newer program has in these tests, in seconds.
const WITHIN: &str = "4";
/// The version of the schema that no program here knows.
const NEWER_SCHEMA: i64 = 99;

/// Programs in a folder, with their databases and what starts and stops them, as on a machine without systemd.
struct Site {
    folder: TempDir,
    ports: [u16; 4],
}

impl Site {
    fn start() -> Self {
        let site = Self { folder: TempDir::new(), ports: [(); 4].map(|()| free_port()) };
        for name in ["bin", "new", "data", "containers"] {
            std::fs::create_dir(site.at(name)).unwrap();
        }
        let [errors, _, metrics, _] = site.ports;
        for ((service, database), port) in SERVICES.iter().zip(site.ports) {
            std::fs::copy(binary(service), site.at("bin").join(service)).unwrap();
            std::fs::copy(binary(service), site.at("new").join(service)).unwrap();
            let mut env = format!("PORT={port} LISTEN_ADDR=127.0.0.1 RATE_LIMIT=0 KEY_RATE_LIMIT=0 HOST_METRICS=0");
            for key in ["API_KEY", "ADMIN_API_KEY", "ERROR_TRACKER_API_KEY", "METRICS_COLLECTOR_API_KEY"] {
                write!(env, " {key}={API_KEY}").unwrap();
            }
            write!(env, " DATABASE_PATH={}", site.at("data").join(database).display()).unwrap();
            write!(env, " LOG_SOURCES={} DSN_KEYS=shop:{PUBLIC_KEY}", site.at("containers").display()).unwrap();
            write!(env, " ERROR_TRACKER_URL=http://127.0.0.1:{errors}").unwrap();
            write!(env, " METRICS_COLLECTOR_URL=http://127.0.0.1:{metrics}").unwrap();
            std::fs::write(site.at(&format!("{service}.env")), env).unwrap();
        }
        for (service, _) in SERVICES {
            let started = Command::new("sh").args(["-c", &site.start_command(), "sh", service]).status().unwrap();
            assert!(started.success());
        }
        for port in site.ports {
            let well = wait_until(|| TcpStream::connect(("127.0.0.1", port)).ok());
            assert!(well.is_some(), "{}", site.logs());
        }
        site
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn logs(&self) -> String {
        let log = |service: &str| std::fs::read_to_string(self.at(&format!("{service}.log"))).unwrap_or_default();
        SERVICES.map(|(service, _)| format!("{service}: {}", log(service))).join("\n")
    }

    fn start_command(&self) -> String {
        let folder = self.folder.path().display();
        format!(
            "env -i PATH=\"$PATH\" $(cat {folder}/$1.env) {folder}/bin/$1 </dev/null >>{folder}/$1.log 2>&1 & \
             echo $! >{folder}/$1.pid"
        )
    }

    /// Ends what was started, also when it never became anything; a process that nobody waits for has no file any more.
    fn stop_command(&self) -> String {
        let folder = self.folder.path().display();
        format!(
            "pid=$(cat {folder}/$1.pid); kill -s TERM $pid 2>/dev/null; while [ -e /proc/$pid/exe ]; do sleep 0.02; done"
        )
    }

    /// Puts a shell script in the place of a newer program. It has the real one in `$real`; with arguments it is asked
    /// for its version and the like, as the real one answers.
    fn replace(&self, service: &str, text: &str) {
        let path = self.at("new").join(service);
        let real = binary(service);
        let text = format!("#!/bin/sh\nreal={}\n[ $# = 0 ] || exec \"$real\" \"$@\"\n{text}\n", real.display());
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn upgrade_command(&self, more: &[&str], start: &str) -> Command {
        let at = |name: &str| self.at(name).display().to_string();
        let (new, bin, data, to) = (at("new"), at("bin"), at("data"), at("backups"));
        let known = ["--new", &new, "--bin", &bin, "--data", &data, "--to", &to, "--within", WITHIN];
        let urls = self.ports.map(|port| format!("http://127.0.0.1:{port}"));
        let [errors, logs, metrics, relay] = [0, 1, 2, 3].map(|at| urls[at].as_str());
        let env = [("START", start), ("STOP", &self.stop_command()), ("ERRORS_URL", errors), ("LOGS_URL", logs)];
        let env = [&env[..], &[("METRICS_URL", metrics), ("RELAY_URL", relay)]].concat();
        script("upgrade.sh", &[&known[..], more].concat(), &env)
    }

    fn upgrade(&self, more: &[&str], start: &str) -> Output {
        let output = self.upgrade_command(more, start).output().unwrap();
        eprintln!("{}", said(&output));
        output
    }

    /// Upgrades, and checks the exit code and that all of this is said.
    #[track_caller]
    fn upgrades(&self, more: &[&str], code: i32, says: &[&str]) {
        let output = self.upgrade(more, &self.start_command());
        assert_eq!(output.status.code(), Some(code), "{}{}", said(&output), self.logs());
        for line in says {
            assert!(said(&output).contains(line), "{line:?} in {}", said(&output));
        }
    }

    fn get(&self, service: &str, path: &str) -> Response {
        let at = SERVICES.iter().position(|(name, _)| *name == service).unwrap();
        let mut client = Client::new(TcpStream::connect(("127.0.0.1", self.ports[at])).unwrap());
        client.send(&Request::get(path))
    }

    fn database(&self, service: &str) -> rusqlite::Connection {
        let (_, name) = SERVICES.iter().find(|(name, _)| *name == service).unwrap();
        rusqlite::Connection::open(self.at("data").join(name)).unwrap()
    }

    fn schema(&self, service: &str) -> i64 {
        let sql = "SELECT CAST(value AS INTEGER) FROM _meta WHERE key = 'schema_version'";
        self.database(service).query_row(sql, [], |row| row.get(0)).unwrap()
    }

    /// Whether the program in use is the one that `make` left.
    fn is_real(&self, service: &str) -> bool {
        std::fs::read(self.at("bin").join(service)).unwrap() == std::fs::read(binary(service)).unwrap()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for (service, _) in SERVICES {
            let pid = std::fs::read_to_string(self.at(&format!("{service}.pid"))).unwrap_or_default();
            if let Ok(pid) = pid.trim().parse()
                && std::fs::metadata(format!("/proc/{pid}/exe")).is_ok()
            {
                send_signal(pid, "KILL");
            }
        }
    }
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Shell lines that change the schema as a newer program would.
fn migration(table: &str, oldest_reader: Option<i64>) -> String {
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

/// Clients that repeat each write, with its key, until it is acknowledged.
struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<(&'static str, u32, JoinHandle<Tally>)>,
}

/// What one client saw.
struct Tally {
    acknowledged: u64,
    repeated: u64,
    /// The longest time between two acknowledgements.
    gap: Duration,
}

impl Load {
    fn start(site: &Site) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut clients = Vec::new();
        for service in WRITTEN {
            let at = SERVICES.iter().position(|(name, _)| *name == service).unwrap();
            let address = SocketAddr::from(([127, 0, 0, 1], site.ports[at]));
            for client in 1..=CLIENTS {
                let stop = Arc::clone(&stop);
                let thread = std::thread::spawn(move || keep_writing(service, client, address, &stop));
                clients.push((service, client, thread));
            }
        }
        Self { stop, clients }
    }

    /// Ends it, and checks that everything that was acknowledged is there once.
    fn ends_with_all_there(self, site: &Site) {
        self.stop.store(true, Ordering::Relaxed);
        let tallies: Vec<_> = self
            .clients
            .into_iter()
            .map(|(service, client, thread)| (service, client, thread.join().unwrap()))
            .collect();
        let waiting = || site.get("browser-relay", "/health").json()["outbox_waiting"].as_i64();
        assert!(wait_until(|| (waiting() == Some(0)).then_some(())).is_some(), "{:?} reports wait", waiting());
        for service in WRITTEN {
            let of: Vec<_> = tallies.iter().filter(|(name, ..)| *name == service).collect();
            let sum = |of_one: fn(&Tally) -> u64| of.iter().map(|(.., tally)| of_one(tally)).sum::<u64>();
            let gap = of.iter().map(|(.., tally)| tally.gap).max().unwrap();
            let (acknowledged, repeated) = (sum(|tally| tally.acknowledged), sum(|tally| tally.repeated));
            let found: u64 = of.iter().map(|(_, client, _)| stored(site, service, *client)).sum();
            eprintln!(
                "{service}: {acknowledged} acknowledged, {repeated} attempts repeated, {found} found, longest gap {gap:.2?}"
            );
            for (_, client, tally) in of {
                assert!(tally.acknowledged > 0, "{service} acknowledged nothing to client {client}");
                assert_eq!(stored(site, service, *client), tally.acknowledged, "{service}, client {client}");
            }
        }
    }
}

fn keep_writing(service: &str, client: u32, address: SocketAddr, stop: &AtomicBool) -> Tally {
    let mut tally = Tally { acknowledged: 0, repeated: 0, gap: Duration::ZERO };
    let (mut connection, mut last) = (None, Instant::now());
    while !stop.load(Ordering::Relaxed) {
        let key = format!("{service}-{client}-{}", tally.acknowledged);
        let request = write_of(service, client).header("Idempotency-Key", &key);
        loop {
            connection = connection.or_else(|| TcpStream::connect(address).ok().map(Client::new));
            let answer = connection.as_mut().and_then(|connection: &mut Client| {
                connection.write(&request.bytes());
                connection.try_read_response()
            });
            match answer {
                Some(Response { status: 200..=202, .. }) => break,
                Some(Response { status, .. }) if status != 503 => panic!("{service} answers with {status}"),
                _ => connection = None,
            }
            tally.repeated += 1;
            std::thread::sleep(PACE);
        }
        tally.acknowledged += 1;
        tally.gap = tally.gap.max(last.elapsed());
        last = Instant::now();
        std::thread::sleep(PACE);
    }
    tally
}

/// Into a group or a series of the client's own.
fn write_of(service: &str, client: u32) -> Request {
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

/// How much there is of what a client has written to a service.
fn stored(site: &Site, service: &str, client: u32) -> u64 {
    if service == "metrics-collector" {
        let path = format!("/api/metrics?name=sold&period=2h&resolution=minute&labels=client:{client}");
        let buckets = site.get(service, &path).expect(200).json();
        return buckets["data"].as_array().unwrap().iter().map(|bucket| bucket["sum"].as_f64().unwrap() as u64).sum();
    }
    let place = if service == "browser-relay" { "app.js" } else { "/app/pay.py" };
    let sql = "SELECT ifnull(sum(count), 0) FROM errors WHERE location LIKE ?1";
    let count: i64 =
        site.database("error-tracker").query_row(sql, [format!("%{place}:{client}%")], |row| row.get(0)).unwrap();
    u64::try_from(count).unwrap()
}

fn python_or_skip() -> bool {
    let there = Command::new("python3").args(["-c", "import sqlite3"]).output().is_ok_and(|run| run.status.success());
    if !there {
        skip("there is no Python with sqlite3");
    }
    there
}

#[test]
fn nothing_is_lost_while_programs_are_upgraded_and_rolled_back_under_load() {
    if !python_or_skip() {
        return;
    }
    let site = Site::start();
    let load = Load::start(&site);
    // Newer ones, which add a table and work.
    for (service, _) in SERVICES {
        site.replace(service, &format!("{}\nexec \"$real\"", migration("newer", None)));
    }
    site.upgrades(
        &[],
        0,
        &SERVICES
            .map(|(service, _)| format!("{service:<18} upgraded, unavailable for "))
            .each_ref()
            .map(String::as_str),
    );
    for (service, _) in SERVICES {
        assert!(!site.is_real(service), "{service} is the newer one");
        assert_eq!(site.schema(service), NEWER_SCHEMA, "{service}");
        let previous = site.at("bin").join(format!("{service}.previous"));
        assert!(std::fs::read(previous).unwrap() == std::fs::read(binary(service)).unwrap(), "{service}");
        site.get(service, "/health").expect(200).has(json!({ "status": "ok" }));
    }
    site.upgrades(&[], 0, &["error-tracker      already up to date", "browser-relay      already up to date"]);

    // One that changes the schema and ends: the tracker's turn is over, the collector has the older one, the relay none.
    for (service, _) in SERVICES {
        std::fs::copy(binary(service), site.at("new").join(service)).unwrap();
    }
    site.replace("metrics-collector", &format!("{}\nexit 1", migration("newest", None)));
    let rolled_back = "metrics-collector  rolled back, unavailable for ";
    site.upgrades(
        &["error-tracker", "browser-relay", "metrics-collector"],
        1,
        &["error-tracker      upgraded", rolled_back, "no response from http", "browser-relay      not touched"],
    );
    assert!(site.is_real("error-tracker") && !site.is_real("metrics-collector") && !site.is_real("browser-relay"));
    let tables = "SELECT count(*) FROM sqlite_schema WHERE name IN ('newer', 'newest')";
    let found: i64 = site.database("metrics-collector").query_row(tables, [], |row| row.get(0)).unwrap();
    assert_eq!(found, 2, "the older one works on what the newer one has left");
    // One that never answers, one that is unwell, and one that is not what it says.
    site.replace("metrics-collector", "exec sleep 1000");
    site.upgrades(&["metrics-collector"], 1, &[rolled_back, "no response from http"]);
    let unwell = "import http.server, os\n\
        class Unwell(http.server.BaseHTTPRequestHandler):\n    def do_GET(self): self.send_error(503, 'the disk is full')\n    do_POST = do_GET\n\
        http.server.HTTPServer(('127.0.0.1', int(os.environ['PORT'])), Unwell).serve_forever()";
    std::fs::write(site.at("unwell.py"), unwell).unwrap();
    site.replace("metrics-collector", &format!("exec python3 {}", site.at("unwell.py").display()));
    site.upgrades(&["metrics-collector"], 1, &[rolled_back, "health check failed with status 503"]);
    let pretends = "#!/bin/sh\n[ $# = 0 ] && exec REAL\necho metrics-collector 9.9.9";
    let pretends = pretends.replace("REAL", binary("metrics-collector").to_str().unwrap());
    std::fs::write(site.at("new").join("metrics-collector"), pretends).unwrap();
    site.upgrades(&["metrics-collector"], 1, &[rolled_back, "the running version is not 9.9.9"]);
    load.ends_with_all_there(&site);
}

#[test]
fn an_older_program_that_cannot_read_what_the_newer_left_gets_the_backup() {
    if !python_or_skip() {
        return;
    }
    let site = Site::start();
    let mut client = Client::new(TcpStream::connect(("127.0.0.1", site.ports[0])).unwrap());
    client.send(&Request::post("/api/errors", &report_at("boom", 1))).expect(201);
    site.replace("error-tracker", &format!("{}\nexit 1", migration("newer", Some(NEWER_SCHEMA))));
    site.upgrades(
        &["error-tracker", "log-viewer"],
        1,
        &[
            "the old version cannot read the database: ",
            "changed by a newer Monlight and needs one that knows schema 99",
            "error-tracker      rolled back with the backup restored, unavailable for ",
            "log-viewer         not touched",
        ],
    );
    assert!(site.is_real("error-tracker"));
    assert!(site.schema("error-tracker") < NEWER_SCHEMA);
    assert_eq!(site.get("error-tracker", "/api/errors").expect(200).json()["total"], 1);
    assert!(site.at("data/errors.db.before-restore").exists(), "what the newer one had is kept");

    // What cannot be started at all is said, with a code of its own.
    site.replace("error-tracker", "exit 1");
    let output = site.upgrade(&["error-tracker"], "exit 1");
    assert_eq!(output.status.code(), Some(3));
    assert!(said(&output).contains("error-tracker      DOWN: failed to start"), "{}", said(&output));
    let output = site.upgrade(&["error-tracker"], "exit 1");
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("error-tracker is unhealthy before the upgrade: "), "{}", said(&output));
}

#[test]
fn without_a_backup_or_a_program_nothing_is_touched() {
    let site = Site::start();
    let pids = || SERVICES.map(|(service, _)| std::fs::read_to_string(site.at(&format!("{service}.pid"))).unwrap());
    let before = pids();
    std::fs::write(site.at("new/error-tracker"), "#!/bin/sh\nexit 1\n").unwrap();
    site.upgrades(&[], 1, &["new/error-tracker failed to print its version"]);
    std::fs::copy(binary("log-viewer"), site.at("new/error-tracker")).unwrap();
    site.upgrades(&[], 1, &["it does not run on this machine or is not error-tracker"]);
    std::fs::copy(binary("error-tracker"), site.at("new/error-tracker")).unwrap();
    std::fs::write(site.at("backups"), "no folder").unwrap();
    site.upgrades(&["error-tracker"], 1, &["backup failed; nothing was changed"]);
    std::fs::remove_file(site.at("new/browser-relay")).unwrap();
    site.upgrades(&["browser-relay"], 1, &["binary not found: no browser-relay in "]);
    site.upgrades(&["--tag", "next"], 2, &["require --compose"]);
    assert_eq!(pids(), before, "nothing was stopped");
    assert!(SERVICES.iter().all(|(service, _)| site.is_real(service)));
}

#[test]
fn whoever_interrupts_an_upgrade_leaves_no_service_half_done() {
    let site = Site::start();
    for (service, _) in SERVICES {
        site.replace(service, "sleep 1; exec \"$real\"");
    }
    let mut command = site.upgrade_command(&[], &site.start_command());
    let mut upgrade = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Its first service is at work as soon as the older program is kept.
    let begun = wait_until(|| site.at("bin/error-tracker.previous").exists().then_some(()));
    assert!(begun.is_some());
    send_signal(upgrade.id(), "TERM");
    assert!(wait_until(|| upgrade.try_wait().unwrap()).is_some(), "it comes to an end");
    let output = upgrade.wait_with_output().unwrap();
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for line in [
        "error-tracker      upgraded, unavailable for 1.",
        "log-viewer         not upgraded: interrupted",
        "metrics-collector  not touched",
        "browser-relay      not touched",
    ] {
        assert!(text.contains(line), "{line:?} in {text}");
    }
    assert!(!site.is_real("error-tracker") && site.is_real("log-viewer"));
    site.get("error-tracker", "/health").expect(200);
}
