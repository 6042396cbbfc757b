//! Every command of the README and the documentation is run as it stands, but for the addresses.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::channel;

use serde_json::json;

use crate::harness::{API_KEY, PUBLIC_KEY, Service, Setup, TEST_TIMEOUT, TempDir, binary, send_signal, skip};
use crate::logs::Container;
use crate::prometheus::free_port;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// Blocks of which something else is the test, by what they begin with, and what that is.
const ELSEWHERE: [(&str, &str); 22] = [
    ("make run\n", "what_is_started_with_generated_keys_does_what_it_prints"),
    ("make test\n", "what runs this"),
    ("make demo-data\n", "static/tests/prefix.test.mjs, as far as it fills services with the same"),
    ("git clone https://github.com", "compose.rs"),
    ("deploy/smoke-test.sh --secrets", "compose.rs"),
    (". ./deploy/secrets.env", "compose.rs"),
    ("make image\n", "compose.rs"),
    (
        "docker compose -f docker-compose.yml -f deploy/docker-compose.build.yml",
        "compose.rs, as far as its file is valid",
    ),
    ("make\nsudo make install\n", "systemd.rs"),
    ("echo 'SERVICES=", "systemd.rs, as far as units read that file"),
    ("ERRORS_URL=https://monitoring.example.com", "proxies.rs"),
    ("sudo deploy/backup.sh --compose --to", "compose.rs"),
    ("docker compose stop\n", "compose.rs"),
    ("sudo monlight-backup --to", "backup_script.rs, under its other name"),
    ("sudo systemctl enable --now monlight-backup", "systemd.rs, as far as the unit is valid"),
    ("sudo systemctl stop monlight-error-tracker", "backup_script.rs, but for systemd"),
    ("sudo deploy/upgrade.sh --compose", "compose.rs"),
    ("sudo monlight-upgrade --new", "upgrade.rs, under its other name"),
    ("sudo mv /usr/local/bin", "upgrade.rs, which goes back like that"),
    ("MONLIGHT_VERSION=previous", "compose.rs"),
    ("sudo cp deploy/litestream.yml.example", "litestream.rs"),
    ("sudo litestream restore", "litestream.rs"),
];
/// What blocks call that is not to run as it is on whatever machine this is.
const PRELUDE: &str = r#"
curl() {
    case "$*" in
    # What never ends is followed for a moment.
    -N*) command curl --silent --show-error --fail-with-body --max-time 1 "$@" || [ $? = 28 ] ;;
    *) command curl --silent --show-error --fail-with-body --max-time 20 "$@" ;;
    esac
}
sudo() { env "$@"; }
# Everything is built.
make() { [ $# = 0 ]; }
"#;
/// A service that starts well is as good as one that goes on.
const STARTS: &str = r#"#!/bin/sh
log=$(mktemp)
PORT=0 HOST_METRICS=0 DATABASE_PATH=$(mktemp -d)/test.db "BINARY" 2>"$log" &
until grep -q ' is ready' "$log"; do
    kill -0 $! 2>/dev/null || { cat "$log" >&2; exit 1; }
    sleep 0.05
done
kill $! && wait $!
"#;

/// A block of code in a document.
#[derive(Debug)]
struct Block {
    file: String,
    language: String,
    text: String,
}

fn documents() -> Vec<PathBuf> {
    let docs = std::fs::read_dir(Path::new(ROOT).join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = docs.filter(|path| path.extension().is_some_and(|end| end == "md")).collect();
    files.push(Path::new(ROOT).join("README.md"));
    files.sort();
    files
}

fn blocks(path: &Path) -> Vec<Block> {
    let text = std::fs::read_to_string(path).unwrap();
    let file = path.strip_prefix(ROOT).unwrap().display().to_string();
    let mut found = Vec::new();
    let mut open: Option<Block> = None;
    for line in text.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(language)) => {
                open = Some(Block { file: file.clone(), language: language.to_owned(), text: String::new() });
            }
            (Some(_), Some("")) => found.extend(open.take()),
            (Some(block), _) => block.text += &format!("{line}\n"),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "{file} has a block without an end");
    found
}

/// The four services, as a document finds them, and a folder like a checkout.
struct World {
    errors: Service,
    logs: Service,
    metrics: Service,
    relay: Service,
    place: TempDir,
}

impl World {
    fn start() -> Self {
        let place = TempDir::new();
        let at = |name: &str| place.path().join(name);
        for folder in ["dist", "data", "bin"] {
            std::fs::create_dir(at(folder)).unwrap();
        }
        for name in ["sdk", "deploy", "docs"] {
            symlink(Path::new(ROOT).join(name), at(name)).unwrap();
        }
        std::fs::copy(Path::new(ROOT).join("tests/corpus/maps/esbuild.map"), at("dist/app.js.map")).unwrap();
        std::fs::write(at("dist/app.js"), "//# sourceMappingURL=app.js.map\n").unwrap();
        for name in ["error-tracker", "log-viewer", "metrics-collector", "browser-relay"] {
            let path = at(name);
            std::fs::write(&path, STARTS.replace("BINARY", &binary(name).display().to_string())).unwrap();
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
        let all = || (logs.get("/api/logs/stats").json()["total_logs"] == 2).then_some(());
        crate::harness::wait_until(all).expect("both lines");
        // What documents speak of as if it were there.
        errors.post("/api/errors", &crate::harness::report_at("boom", 1)).expect(201);
        metrics.post("/api/metrics", &json!([{ "name": "orders_total", "type": "counter", "value": 1 }])).expect(202);
        Self { errors, logs, metrics, relay, place }
    }

    /// The service that a document is about.
    fn of(&self, file: &str) -> &Service {
        match file {
            "docs/log-viewer.md" => &self.logs,
            "docs/metrics-collector.md" => &self.metrics,
            "docs/browser-relay.md" => &self.relay,
            _ => &self.errors,
        }
    }

    /// A text with the addresses of these services in the place of the usual ones.
    fn here(&self, text: &str) -> String {
        let services = [(5010, &self.errors), (5011, &self.logs), (5012, &self.metrics), (5013, &self.relay)];
        services.iter().fold(text.to_owned(), |text, (port, service)| {
            text.replace(&format!("localhost:{port}"), &service.address.to_string())
        })
    }

    fn run(&self, block: &Block) -> Result<(), String> {
        let mut command = match block.language.as_str() {
            "python" => {
                let Some(python) = std::env::var_os("MONLIGHT_TEST_PYTHON") else {
                    skip("MONLIGHT_TEST_PYTHON is not set");
                    return Ok(());
                };
                let mut command = Command::new(python);
                command.env("PYTHONPATH", Path::new(ROOT).join("sdk/python/src")).arg("-c").arg(self.here(&block.text));
                command
            }
            _ => {
                let mut command = Command::new("sh");
                command.arg("-euc").arg(format!("{PRELUDE}\n{}", self.here(&block.text)));
                command
            }
        };
        let url = format!("http://{}", self.of(&block.file).address);
        command.envs([("KEY", API_KEY), ("PUBLIC_KEY", PUBLIC_KEY), ("URL", &url), ("PYTHONDONTWRITEBYTECODE", "1")]);
        let output = command.current_dir(self.place.path()).stdin(Stdio::null()).output().unwrap();
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        Err(format!("{}: {}\n{}\n{said}", block.file, output.status, block.text))
    }
}

#[test]
fn every_command_of_the_documentation_works() {
    for needed in ["curl", "openssl", "jq", "sqlite3", "node"] {
        if !Command::new("sh").args(["-c", &format!("command -v {needed}")]).output().unwrap().status.success() {
            return skip(&format!("there is no {needed}"));
        }
    }
    let (mut run, mut used, mut failed) = (0, BTreeSet::new(), Vec::new());
    for document in documents() {
        let mut world = None;
        for block in blocks(&document).into_iter().filter(|block| ["bash", "python"].contains(&block.language.as_str()))
        {
            if let Some((begin, _)) = ELSEWHERE.iter().find(|(begin, _)| block.text.starts_with(begin)) {
                used.insert(*begin);
                continue;
            }
            failed.extend(world.get_or_insert_with(World::start).run(&block).err());
            run += 1;
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert_eq!(used, ELSEWHERE.iter().map(|(begin, _)| *begin).collect(), "each exception is of a block that there is");
    assert!(run > 50, "{run} blocks");
    eprintln!("{run} blocks of commands were run");
}

/// `deploy/run.sh` at work, ended when dropped.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        send_signal(self.0.id(), "TERM");
        let _ = self.0.wait();
    }
}

#[test]
fn what_is_started_with_generated_keys_does_what_it_prints() {
    let place = TempDir::new();
    let at = |name: &str| place.path().join(name);
    std::fs::create_dir(at("deploy")).unwrap();
    std::fs::copy(Path::new(ROOT).join("deploy/run.sh"), at("deploy/run.sh")).unwrap();
    for name in ["error-tracker", "log-viewer", "metrics-collector", "browser-relay"] {
        symlink(binary(name), at(name)).unwrap();
    }
    let ports = ["PORT", "LOGS_PORT", "METRICS_PORT", "RELAY_PORT"].map(|name| (name, free_port().port().to_string()));
    let child = Command::new("deploy/run.sh").current_dir(place.path()).envs(ports).stdout(Stdio::piped()).spawn();
    let mut started = Started(child.unwrap());
    let (say, said) = channel();
    let stdout = BufReader::new(started.0.stdout.take().unwrap());
    std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| say.send(line)));
    let mut text = String::new();
    while !text.contains("Press Ctrl-C to stop all services.") {
        let line = said.recv_timeout(TEST_TIMEOUT).unwrap_or_else(|why| panic!("{why}: {text}"));
        text += &format!("{line}\n");
    }
    let commands: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("  ")).filter(|line| !line.trim().is_empty()).collect();
    let commands = commands.join("\n");
    let commands = &commands[commands.find("curl ").expect("commands")..];
    assert_eq!(commands.matches("curl ").count(), 8, "{text}");
    let output = Command::new("sh").arg("-euc").arg(format!("{PRELUDE}\n{commands}")).output().unwrap();
    let answers = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{answers}{}", String::from_utf8_lossy(&output.stderr));
    // Which services the newest lines are of is chance: all have just begun.
    for part in ["first report", "cart is undefined", "orders_total", "\"stream\":\"stdout\"", "is ready"] {
        assert!(answers.contains(part), "{part} in {answers}");
    }
}
