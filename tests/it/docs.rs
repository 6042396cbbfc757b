//! Runs every command in the README and the documentation unchanged, except for the addresses of the services.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::channel;

use serde_json::json;

use crate::support::harness::{
    API_KEY, Client, PUBLIC_KEY, Request, SERVICES, Service, Setup, TEST_TIMEOUT, TempDir, binary, free_port,
    send_signal, skip, wait_until,
};
use crate::support::logs::Container;
use crate::support::programs::{is_installed, output_text};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// Code blocks that this test skips: the start of each block, and where it is tested instead.
const TESTED_ELSEWHERE: [(&str, &str); 28] = [
    (r#"curl -H "X-API-Key: $KEY" $URL/api/outbox/dead-letters/7"#, "relay_isolation.rs"),
    (r#"curl -X POST -H "X-API-Key: $KEY" $URL/api/outbox/dead-letters/7"#, "relay_isolation.rs"),
    (r#"curl -X DELETE -H "X-API-Key: $KEY" $URL/api/outbox/dead-letters/7"#, "relay_isolation.rs"),
    ("MONLIGHT_URL=$URL MONLIGHT_KEY=$KEY npx", "sdk/js/tests/unit/upload.test.ts, with the package of this checkout"),
    ("make run\n", "printed_commands_of_the_run_script_work"),
    ("make test\n", "runs this test"),
    ("make demo-data\n", "static/tests/prefix.test.mjs, which fills the services with the same data"),
    ("git clone https://github.com", "compose.rs"),
    ("deploy/smoke-test.sh --secrets", "compose.rs"),
    (". ./deploy/secrets.env", "compose.rs"),
    ("make image\n", "compose.rs"),
    (
        "docker compose -f docker-compose.yml -f deploy/docker-compose.build.yml",
        "compose.rs, which checks that the file is valid",
    ),
    ("make\nsudo make install\n", "systemd.rs"),
    ("echo 'SERVICES=", "systemd.rs, which checks that the units read the file"),
    ("ERRORS_URL=https://monitoring.example.com", "proxies.rs"),
    ("sudo deploy/backup.sh --compose --to", "compose.rs"),
    ("docker compose stop\n", "compose.rs"),
    ("docker compose run --rm --no-deps error-tracker --restore", "backup.rs, without Docker"),
    ("sudo DATABASE_PATH=/var/lib/monlight-error-tracker/", "backup.rs, in another folder"),
    ("sudo monlight-backup --to", "backup_script.rs, as deploy/backup.sh"),
    ("sudo systemctl enable --now monlight-backup", "systemd.rs, which checks that the unit is valid"),
    ("sudo systemctl stop monlight-error-tracker", "backup_script.rs, without systemd"),
    ("sudo deploy/upgrade.sh --compose", "compose.rs"),
    ("sudo monlight-upgrade --new", "upgrade.rs, as deploy/upgrade.sh"),
    ("sudo mv /usr/local/bin", "upgrade.rs, which rolls back in the same way"),
    ("MONLIGHT_VERSION=previous", "compose.rs"),
    ("sudo cp deploy/litestream.yml.example", "litestream.rs"),
    ("sudo litestream restore", "litestream.rs"),
];
/// Shell functions that replace commands of the blocks which must not run unchanged on a test machine.
const PRELUDE: &str = r#"
curl() {
    case "$*" in
    # An endless response is read for one second.
    -N*) command curl --silent --show-error --fail-with-body --max-time 1 "$@" || [ $? = 28 ] ;;
    *) command curl --silent --show-error --fail-with-body --max-time 20 "$@" ;;
    esac
}
sudo() { env "$@"; }
# The binaries exist already.
make() { [ $# = 0 ]; }
"#;
/// Wrapper script in place of a service binary. It starts the service, waits until it is ready, and stops it again, so that
/// the commands after it run.
const START_AND_STOP: &str = r#"#!/bin/sh
log=$(mktemp)
PORT=0 HOST_METRICS=0 DATABASE_PATH=$(mktemp -d)/test.db "BINARY" 2>"$log" &
until grep -q ' is ready' "$log"; do
    kill -0 $! 2>/dev/null || { cat "$log" >&2; exit 1; }
    sleep 0.05
done
kill $! && wait $!
"#;

/// Code block of a document.
#[derive(Debug)]
struct CodeBlock {
    file: String,
    language: String,
    code: String,
}

fn documents() -> Vec<PathBuf> {
    let docs = std::fs::read_dir(Path::new(ROOT).join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        docs.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect();
    files.push(Path::new(ROOT).join("README.md"));
    files.sort();
    files
}

fn code_blocks(path: &Path) -> Vec<CodeBlock> {
    let text = std::fs::read_to_string(path).unwrap();
    let file = path.strip_prefix(ROOT).unwrap().display().to_string();
    let mut blocks = Vec::new();
    let mut open: Option<CodeBlock> = None;
    for line in text.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(language)) => {
                open = Some(CodeBlock { file: file.clone(), language: language.to_owned(), code: String::new() });
            }
            (Some(_), Some("")) => blocks.extend(open.take()),
            (Some(block), _) => block.code += &format!("{line}\n"),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "{file} has a code block without an end");
    blocks
}

/// Environment that documents assume: running services with some data, and a folder with the layout of a checkout.
struct TestEnv {
    errors: Service,
    logs: Service,
    metrics: Service,
    relay: Service,
    checkout: TempDir,
}

impl TestEnv {
    fn start() -> Self {
        let checkout = TempDir::new();
        let at = |name: &str| checkout.path().join(name);
        for folder in ["dist", "data", "bin"] {
            std::fs::create_dir(at(folder)).unwrap();
        }
        for name in ["sdk", "deploy", "docs"] {
            symlink(Path::new(ROOT).join(name), at(name)).unwrap();
        }
        std::fs::copy(Path::new(ROOT).join("tests/corpus/maps/esbuild.map"), at("dist/app.js.map")).unwrap();
        std::fs::write(at("dist/app.js"), "//# sourceMappingURL=app.js.map\n").unwrap();
        for name in SERVICES {
            let path = at(name);
            std::fs::write(&path, START_AND_STOP.replace("BINARY", &binary(name).display().to_string())).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let errors = Setup::error_tracker().env("ALERT_WEBHOOK_URL", "http://127.0.0.1:9/").start();
        let metrics = Setup::metrics_collector().start();
        let relay = Setup::browser_relay(errors.address, metrics.address).start();
        let containers = Arc::new(TempDir::new());
        let web = Container::new(&containers, "web");
        web.write_lines([
            ("2026-01-31T12:00:00Z", "stderr", "ERROR: timeout\n"),
            ("2026-01-31T12:00:01Z", "stdout", "fine\n"),
        ]);
        let logs = Setup::log_viewer().data_dir(&containers).env("DATABASE_PATH", at("data/logs.db").display()).start();
        let is_indexed = || (logs.get("/api/logs/stats").json()["total_logs"] == 2).then_some(());
        wait_until(is_indexed).expect("the viewer has read both lines");
        // Documents refer to an existing error group and metric.
        errors.post("/api/errors", &crate::support::harness::report_at("boom", 1)).expect(201);
        metrics.post("/api/metrics", &json!([{ "name": "orders_total", "type": "counter", "value": 1 }])).expect(202);
        Self { errors, logs, metrics, relay, checkout }
    }

    /// Returns the service that a document describes.
    fn service_for(&self, file: &str) -> &Service {
        match file {
            "docs/log-viewer.md" => &self.logs,
            "docs/metrics-collector.md" => &self.metrics,
            "docs/browser-relay.md" => &self.relay,
            _ => &self.errors,
        }
    }

    /// Replaces the default addresses in a code block with those of the running services.
    fn replace_addresses(&self, text: &str) -> String {
        let services = [(5010, &self.errors), (5011, &self.logs), (5012, &self.metrics), (5013, &self.relay)];
        services.iter().fold(text.to_owned(), |text, (port, service)| {
            text.replace(&format!("localhost:{port}"), &service.address.to_string())
        })
    }

    fn run(&self, block: &CodeBlock) -> Result<(), String> {
        let mut command = match block.language.as_str() {
            "python" => {
                let Some(python) = std::env::var_os("MONLIGHT_TEST_PYTHON") else {
                    skip("MONLIGHT_TEST_PYTHON is not set; Python code in the documentation is not tested");
                    return Ok(());
                };
                let mut command = Command::new(python);
                command
                    .env("PYTHONPATH", Path::new(ROOT).join("sdk/python/src"))
                    .arg("-c")
                    .arg(self.replace_addresses(&block.code));
                command
            }
            _ => {
                let mut command = Command::new("sh");
                command.arg("-euc").arg(format!("{PRELUDE}\n{}", self.replace_addresses(&block.code)));
                command
            }
        };
        let url = format!("http://{}", self.service_for(&block.file).address);
        command.envs([("KEY", API_KEY), ("PUBLIC_KEY", PUBLIC_KEY), ("URL", &url), ("PYTHONDONTWRITEBYTECODE", "1")]);
        let output = command.current_dir(self.checkout.path()).stdin(Stdio::null()).output().unwrap();
        if output.status.success() {
            return Ok(());
        }
        let text = output_text(&output);
        Err(format!("{}: {}\n{}\n{text}", block.file, output.status, block.code))
    }
}

#[test]
fn documented_commands_work() {
    for program in ["curl", "openssl", "jq", "sqlite3", "node"] {
        if !is_installed(program) {
            return skip(&format!("{program} is not installed; commands in the documentation are not tested"));
        }
    }
    let (mut run, mut skipped, mut failures) = (0, BTreeSet::new(), Vec::new());
    for document in documents() {
        let mut env = None;
        for block in
            code_blocks(&document).into_iter().filter(|block| ["bash", "python"].contains(&block.language.as_str()))
        {
            if let Some((start, _)) = TESTED_ELSEWHERE.iter().find(|(start, _)| block.code.starts_with(start)) {
                skipped.insert(*start);
                continue;
            }
            failures.extend(env.get_or_insert_with(TestEnv::start).run(&block).err());
            run += 1;
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    let exceptions: BTreeSet<_> = TESTED_ELSEWHERE.iter().map(|(start, _)| *start).collect();
    assert_eq!(skipped, exceptions, "TESTED_ELSEWHERE lists a block that no document contains");
    assert!(run > 50, "only {run} blocks were run");
    eprintln!("ran {run} code blocks");
}

#[test]
fn documented_start_prints_the_key_and_exports_it_for_the_next_examples() {
    let blocks = code_blocks(&Path::new(ROOT).join("README.md"));
    let start = blocks.iter().find(|block| block.code.contains("./error-tracker") && block.code.starts_with("make\n"));
    let folder = TempDir::new();
    let service = folder.path().join("error-tracker");
    std::fs::write(&service, "#!/bin/sh\necho \"API_KEY: $API_KEY\"\n").unwrap();
    std::fs::set_permissions(&service, std::fs::Permissions::from_mode(0o755)).unwrap();
    let script = format!("{PRELUDE}\n{}\nenv | grep ^KEY=", start.expect("the README starts a binary").code);
    let mut command = Command::new("sh");
    command.arg("-euc").arg(script).current_dir(folder.path());
    let output = command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).output().unwrap();
    let text = output_text(&output);
    let key = text.lines().find_map(|line| line.strip_prefix("Key for signing in: ")).unwrap_or_default();
    assert!(output.status.success() && key.len() == 32, "{text}");
    assert!(text.contains(&format!("API_KEY: {key}\n")) && text.contains(&format!("KEY={key}\n")), "{text}");
}

/// Running `deploy/run.sh`, stopped on drop.
struct RunScript(Child);

impl Drop for RunScript {
    fn drop(&mut self) {
        send_signal(self.0.id(), "TERM");
        let _ = self.0.wait();
    }
}

/// Creates a checkout with the run script and the binaries.
fn checkout_with_binaries() -> TempDir {
    let checkout = TempDir::new();
    let at = |name: &str| checkout.path().join(name);
    std::fs::create_dir(at("deploy")).unwrap();
    std::fs::copy(Path::new(ROOT).join("deploy/run.sh"), at("deploy/run.sh")).unwrap();
    for name in SERVICES {
        symlink(binary(name), at(name)).unwrap();
    }
    checkout
}

/// Returns the run script in a checkout as a command with free ports.
fn run_script(checkout: &TempDir) -> Command {
    let ports = ["PORT", "LOGS_PORT", "METRICS_PORT", "RELAY_PORT"].map(|name| (name, free_port().to_string()));
    let mut command = Command::new("deploy/run.sh");
    command.current_dir(checkout.path()).envs(ports);
    command
}

#[test]
fn run_script_fails_if_another_installation_uses_a_port() {
    let checkout = checkout_with_binaries();
    let other = Setup::metrics_collector().start();
    let output = run_script(&checkout).env("METRICS_PORT", other.address.port().to_string()).output().unwrap();
    let text = output_text(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    let message = format!("another server responds on port {}", other.address.port());
    assert!(text.contains(&message) && text.contains("METRICS_PORT") && !text.contains("API key"), "{text}");
}

#[test]
fn printed_commands_of_the_run_script_work() {
    let checkout = checkout_with_binaries();
    let at = |name: &str| checkout.path().join(name);
    // A database of a development version before 1.0 is moved aside.
    std::fs::create_dir(at(".run")).unwrap();
    let old = rusqlite::Connection::open(at(".run/metrics.db")).unwrap();
    old.execute_batch(
        "PRAGMA application_id = 0x4D4C4D43; CREATE TABLE points (id INTEGER PRIMARY KEY); INSERT INTO points VALUES (7);
         CREATE TABLE _meta (key, value); INSERT INTO _meta VALUES ('schema_version', '4'), ('oldest_reader', '1')",
    )
    .unwrap();
    drop(old);
    let mut command = run_script(&checkout);
    let ports: Vec<_> = command.get_envs().filter(|(name, _)| *name == "LOGS_PORT").collect();
    let logs_port: u16 = ports[0].1.unwrap().to_str().unwrap().parse().unwrap();
    let child = command.stdout(Stdio::piped()).stderr(std::fs::File::create(at("stderr")).unwrap()).spawn();
    let mut script = RunScript(child.unwrap());
    let (sender, lines) = channel();
    let stdout = BufReader::new(script.0.stdout.take().unwrap());
    std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    let mut text = String::new();
    while !text.contains("Press Ctrl-C to stop all services.") {
        let line = lines.recv_timeout(TEST_TIMEOUT).unwrap_or_else(|error| panic!("{error}: {text}"));
        text += &format!("{line}\n");
    }
    let commands: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("  ")).filter(|line| !line.trim().is_empty()).collect();
    let commands = commands.join("\n");
    let commands = &commands[commands.find("curl ").expect("the output contains curl commands")..];
    assert_eq!(commands.matches("curl ").count(), 8, "{text}");
    // The viewer reads the logs after its start. Lines that it read between the last two commands would be in neither.
    let key = std::fs::read_to_string(at(".run/api-key")).unwrap();
    let ready = Request::get("/api/logs?search=%22is%20ready%22&limit=1").without_header("X-API-Key");
    let ready = ready.header("X-API-Key", &key);
    let count = || Client::connect(([127, 0, 0, 1], logs_port).into()).send(&ready).expect(200).json()["total"].clone();
    wait_until(|| (count() == SERVICES.len()).then_some(())).expect("the viewer has read the logs of all services");
    let output = Command::new("sh").arg("-euc").arg(format!("{PRELUDE}\n{commands}")).output().unwrap();
    let responses = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{responses}{}", String::from_utf8_lossy(&output.stderr));
    // Checks only lines that all services log, because it is random whose log lines are the newest.
    for part in ["first report", "cart is undefined", "orders_total", "\"stream\":\"stdout\"", "is ready"] {
        assert!(responses.contains(part), "{part:?} is missing in {responses}");
    }
    let moved = rusqlite::Connection::open(at(".run/metrics.db.before-1.0")).unwrap();
    assert_eq!(moved.query_row("SELECT id FROM points", [], |row| row.get(0)), Ok(7));
    let stderr = std::fs::read_to_string(at("stderr")).unwrap();
    assert!(stderr.contains("moved .run/metrics.db to .run/metrics.db.before-1.0"), "{stderr}");
}
