//! The images and docker-compose.yml on a real Docker engine: the quick start as it is written, and what it costs.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::docker_engine::DockerDaemon;
use crate::harness::{binary, root_or_skip, skip, wait_until};
use crate::smoke::Smoke;

const SERVICES: [&str; 4] = ["error-tracker", "log-viewer", "metrics-collector", "browser-relay"];
const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const IMAGE_BYTES_MAX: u64 = 10_000_000;
const MEMORY_KIB_MAX: u64 = 30 * 1_024;
const UP_WITHIN: Duration = Duration::from_secs(20);
const DOWN_WITHIN: Duration = Duration::from_secs(5);
/// How long the requests of one minute are spread over; `MONLIGHT_LOAD_S=60` for as they are meant.
const LOAD_SECONDS: u64 = 10;
/// An address on the services' network that pages come from.
const PAGES: &str = "172.30.250.77";
/// What goes with each request of curl's.
const CURL_OPTIONS: &str = "silent\ngloboff\noutput = /dev/null\nwrite-out = \"%{http_code}\\n\"\n";
/// What each service takes of one address in a minute.
const RATES: [(&str, u64); 4] =
    [("error-tracker", 100), ("log-viewer", 60), ("metrics-collector", 200), ("browser-relay", 300)];

/// A checkout in which nothing has been built, as `git clone` leaves it, and the engine that it is started on.
struct Installation {
    docker: DockerDaemon,
    folder: PathBuf,
}

impl Installation {
    /// Runs a shell command in the checkout, on the engine's machine.
    fn run(&self, script: &str) -> Output {
        self.docker.shell(&self.folder, script).output().unwrap()
    }

    /// The same; answers what it printed.
    #[track_caller]
    fn says(&self, script: &str) -> String {
        let output = self.run(script);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{script}: {text}{}", String::from_utf8_lossy(&output.stderr));
        text
    }

    /// What stands under a name in deploy/secrets.env.
    #[track_caller]
    fn secret(&self, name: &str) -> String {
        let text = std::fs::read_to_string(self.folder.join("deploy/secrets.env")).unwrap();
        text.lines().find_map(|line| line.strip_prefix(&format!("{name}="))).unwrap().to_owned()
    }

    /// The container of a service.
    #[track_caller]
    fn container(&self, service: &str) -> String {
        let label = format!("label=com.docker.compose.service={service}");
        self.docker.cli_stdout(&["ps", "--quiet", "--filter", &label])
    }

    /// What the engine knows of it.
    #[track_caller]
    fn inspect(&self, service: &str, format: &str) -> String {
        self.docker.cli_stdout(&["inspect", "--format", format, &self.container(service)])
    }

    #[track_caller]
    fn state(&self, service: &str) -> Value {
        serde_json::from_str(&self.inspect(service, "{{json .State}}")).unwrap()
    }

    /// The most memory that a service has had, in KiB.
    #[track_caller]
    fn peak_kib(&self, service: &str) -> u64 {
        let pid = &self.state(service)["Pid"];
        let status = self.says(&format!("cat /proc/{pid}/status"));
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    #[track_caller]
    fn is_small(&self, when: &str) {
        let peaks = SERVICES.map(|service| (service, self.peak_kib(service)));
        eprintln!("VmHWM in KiB {when}: {peaks:?}");
        for (service, kib) in peaks {
            assert!(kib < MEMORY_KIB_MAX, "{service} had {kib} KiB {when}");
        }
    }

    #[track_caller]
    fn smoke(&self, arguments: &str) -> Smoke {
        let begun = Instant::now();
        let smoke = Smoke::of(&self.run(&format!("deploy/smoke-test.sh {arguments}")), begun.elapsed());
        smoke.is_green();
        smoke
    }

    /// Waits until every service is healthy.
    #[track_caller]
    fn wait_until_healthy(&self) {
        for service in SERVICES {
            let healthy = wait_until(|| (self.state(service)["Health"]["Status"] == "healthy").then_some(()));
            assert!(healthy.is_some(), "{service}: {}", self.state(service));
        }
    }
}

/// Copies files and folders of this checkout into a folder.
#[track_caller]
fn copy(names: &[&str], folder: &Path) {
    assert!(Command::new("cp").arg("-r").args(names).arg(folder).current_dir(ROOT).status().unwrap().success());
}

/// What makes the images out of the binaries that are there, with the checkout as it is put into them.
#[track_caller]
fn build_images(docker: &DockerDaemon) {
    let source = docker.dir.path().join("source");
    std::fs::create_dir(&source).unwrap();
    copy(&["Dockerfile", ".dockerignore", "Cargo.toml", "deploy"], &source);
    for service in SERVICES {
        std::fs::copy(binary(service), source.join(service)).unwrap();
    }
    let output = docker.shell(&source, "BINARIES=here deploy/images.sh").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    eprintln!("{said}");
    for service in SERVICES {
        let image = format!("monlight/{service}");
        let bytes: u64 = docker.cli_stdout(&["image", "inspect", "--format", "{{.Size}}", &image]).parse().unwrap();
        assert!(bytes < IMAGE_BYTES_MAX, "{image} has {bytes} bytes");
        let config = docker.cli_stdout(&["image", "inspect", "--format", "{{json .Config}}", &image]);
        let config: Value = serde_json::from_str(&config).unwrap();
        assert_eq!(config["Entrypoint"], json!([format!("/app/{service}")]));
        assert_eq!(config["Healthcheck"]["Test"], json!(["CMD", format!("/app/{service}"), "--healthcheck"]));
        assert_eq!(config["WorkingDir"], "/app");
        assert_eq!(config["Volumes"], json!({ "/app/data": {} }));
        assert_eq!(config["Labels"]["org.opencontainers.image.version"], env!("CARGO_PKG_VERSION"));
    }
}

/// The commands of the quick start in the documentation, without the first, which fetches what is here.
fn quick_start() -> (String, String) {
    let text = std::fs::read_to_string(Path::new(ROOT).join("docs/deployment.md")).unwrap();
    let block = text.split("```bash\n").nth(1).unwrap().split("```").next().unwrap();
    let lines: Vec<&str> = block.lines().collect();
    let [clone, copy, comment, up] = lines[..] else { panic!("the quick start has four lines: {block}") };
    assert!(clone.starts_with("git clone ") && comment.starts_with("# Set API keys"), "{block}");
    (copy.to_owned(), up.to_owned())
}

/// The engine, the images, and a checkout; says why when there is none to be had.
fn installation() -> Option<Installation> {
    if !root_or_skip("a Docker daemon") {
        return None;
    }
    let docker = DockerDaemon::start(&[])?;
    let compose = docker.shell(docker.dir.path(), "docker compose version").output().unwrap();
    if !compose.status.success() {
        skip("there is no docker compose");
        return None;
    }
    build_images(&docker);
    let folder = docker.dir.path().join("monlight");
    std::fs::create_dir(&folder).unwrap();
    copy(&["docker-compose.yml", "deploy"], &folder);
    // Whoever works in this checkout may have secrets of their own in it.
    let _ = std::fs::remove_file(folder.join("deploy/secrets.env"));
    Some(Installation { docker, folder })
}

#[test]
fn the_quick_start_works_as_it_is_written() {
    let Some(here) = installation() else { return };
    let (copy, up) = quick_start();
    here.says(&copy);
    without_keys(&here, &up);
    here.says(
        "for name in API_KEY ADMIN_API_KEY; do key=$(openssl rand -hex 16); \
        sed -i \"s/^$name=$/$name=$key/\" deploy/secrets.env; done; key=$(sed -n 's/^API_KEY=//p' deploy/secrets.env); \
        sed -i \"s/^\\(ERROR_TRACKER_API_KEY\\|METRICS_COLLECTOR_API_KEY\\)=$/\\1=$key/\" deploy/secrets.env",
    );
    let begun = Instant::now();
    here.says(&up);
    let up_took = begun.elapsed();
    here.wait_until_healthy();
    eprintln!("up after {up_took:.1?}, healthy after {:.1?}", begun.elapsed());
    assert!(begun.elapsed() < UP_WITHIN, "{:?}", begun.elapsed());
    in_order(&here);
    here.is_small("at rest");
    let smoke = here.smoke("--secrets deploy/secrets.env");
    eprintln!("the smoke test took {:.1?}", smoke.took);
    here.is_small("after the smoke test");
    the_viewer_follows_the_others(&here);
    is_confined(&here);
    load(&here);
    here.is_small("after the load");
    ends_by_itself(&here);
    beside_another(&here);
}

/// With keys that are empty each service says so, and nothing runs.
fn without_keys(here: &Installation, up: &str) {
    assert!(!here.run(up).status.success());
    for service in &SERVICES[..3] {
        let refuses =
            |line: &str| line.contains(service) && line.contains("API_KEY is required; make one with: openssl rand");
        let said = wait_until(|| here.says("docker compose logs --no-color").lines().any(refuses).then_some(()));
        assert!(said.is_some(), "{service} says that it has no key");
    }
    here.says("docker compose down");
}

/// That the relay was started when the services behind it answered.
fn in_order(here: &Installation) {
    let started = here.state("browser-relay")["StartedAt"].as_str().unwrap().to_owned();
    for service in ["error-tracker", "metrics-collector"] {
        let state = here.state(service);
        let checks = state["Health"]["Log"].as_array().unwrap();
        let healthy = checks.iter().find(|check| check["ExitCode"] == 0).unwrap();
        // Both by this machine's clock, to the second: one has a zone and the other ends in Z.
        let healthy = here.says(&format!("date -u -d '{}' +%FT%T", healthy["Start"].as_str().unwrap()));
        assert!(healthy.trim() <= started.as_str(), "{service} answered at {healthy}, the relay started at {started}");
    }
}

fn the_viewer_follows_the_others(here: &Installation) {
    let ask = format!("curl -s -H 'X-API-Key: {}' localhost:5011/api/logs/containers", here.secret("API_KEY"));
    let listed: Value = serde_json::from_str(&here.says(&ask)).unwrap();
    for service in SERVICES {
        let containers = listed["containers"].as_array().unwrap();
        let container =
            containers.iter().find(|container| container["service"] == service && container["followed"] == true);
        let container = container.unwrap_or_else(|| panic!("{service} is followed: {listed}"));
        assert!(container["log_count"].as_u64() > Some(1), "{container}");
    }
}

/// No capabilities, no new ones, a file system that cannot be written to, and no more memory than it should have.
fn is_confined(here: &Installation) {
    for service in SERVICES {
        let status = here.says(&format!("cat /proc/{}/status", here.state(service)["Pid"]));
        for line in ["CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1"] {
            assert!(status.contains(line), "{service}: {status}");
        }
        let inspect = |format| here.inspect(service, format);
        assert_eq!(inspect("{{.HostConfig.ReadonlyRootfs}}"), "true");
        assert_eq!(inspect("{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}}"), "31457280 31457280");
        assert_eq!(inspect("{{.HostConfig.RestartPolicy.Name}}"), "unless-stopped");
        // The public door knows nothing that opens the others.
        let env = inspect("{{json .Config.Env}}");
        let held = |name: &str| !env.contains(&format!("\"{name}=\"")) && env.contains(&format!("\"{name}="));
        assert_eq!(held("API_KEY"), service != "browser-relay", "{env}");
        assert_eq!(held("ADMIN_API_KEY"), service == "browser-relay", "{env}");
    }
}

/// A minute's requests of one address to each service, large ones, at the pace of a minute or faster.
fn load(here: &Installation) {
    let seconds = std::env::var("MONLIGHT_LOAD_S").map_or(LOAD_SECONDS, |text| text.parse().unwrap());
    let folder = here.folder.join("load");
    std::fs::create_dir(&folder).unwrap();
    // Pages are other clients than those that report themselves: they come from an address of their own.
    let relay = here.inspect("browser-relay", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}");
    let route = "sed 's/.* dev \\([^ ]*\\).*/\\1/'";
    here.says(&format!("busybox ip address add {PAGES}/24 dev $(busybox ip route get {relay} | {route})"));
    let key = format!("header = \"X-API-Key: {}\"\n", here.secret("API_KEY"));
    let made = here.says(&format!(
        "curl -s -H 'X-API-Key: {}' localhost:5013/api/dsn-keys -d '{{\"project\":\"load\"}}'",
        here.secret("ADMIN_API_KEY")
    ));
    let made: Value = serde_json::from_str(&made).unwrap();
    let page = format!(
        "header = \"X-Monlight-Key: {}\"\ninterface = \"{PAGES}\"\n",
        made["public_key"].as_str().expect("a public key")
    );
    let mut script = "pids=\n".to_owned();
    for (service, rate) in RATES {
        let requests = (0..rate).map(|at| {
            let (url, options, body) = match service {
                "error-tracker" => ("localhost:5010/api/errors".to_owned(), &key, Some(large_report(at))),
                "log-viewer" => (format!("localhost:5011/api/logs?limit=500&regex=level.*{at}"), &key, None),
                "metrics-collector" => ("localhost:5012/api/metrics".to_owned(), &key, Some(large_batch(at))),
                _ => (format!("{relay}:8000/api/browser/errors"), &page, Some(page_report(at))),
            };
            let file = folder.join(format!("{service}-{at}"));
            let data = body.map_or_else(String::new, |body| {
                std::fs::write(&file, body.to_string()).unwrap();
                format!("data-binary = \"@{}\"\n", file.display())
            });
            format!("url = \"{url}\"\n{options}{data}{CURL_OPTIONS}")
        });
        std::fs::write(folder.join(service), requests.collect::<Vec<_>>().join("next\n")).unwrap();
        let pace = rate * 60 / seconds;
        writeln!(script, "curl --rate {pace}/m -K load/{service} >load/{service}.said & pids=\"$pids $!\"").unwrap();
    }
    let begun = Instant::now();
    here.says(&(script + "for pid in $pids; do wait $pid; done"));
    eprintln!("the load took {:.1?}", begun.elapsed());
    for (service, rate) in RATES {
        let said = std::fs::read_to_string(folder.join(format!("{service}.said"))).unwrap();
        let answered = |statuses: &[&str]| said.lines().filter(|line| statuses.contains(line)).count() as u64;
        let (taken, refused) = (answered(&["200", "201", "202"]), answered(&["429"]));
        eprintln!("{service}: {taken} taken, {refused} refused of {rate}");
        assert_eq!(taken + refused, rate, "{service}: {}", said.replace('\n', " "));
        // The smoke test has had its part of this minute.
        assert!(taken > rate / 2, "{service}: {}", said.replace('\n', " "));
    }
}

/// As large as it may be, and a group of its own.
fn large_report(at: u64) -> Value {
    let frame =
        "  File \"/app/shop/orders/checkout.py\", line 7, in place_the_order\n    return gateway.charge(order)\n";
    json!({
        "project": "load", "exception_type": "ValueError", "message": "under load",
        "traceback": format!("Traceback (most recent call last):\n{}  File \"/app/load.py\", line {at}, in f\n    f()\nValueError: under load", frame.repeat(2_000)),
    })
}

/// As many points as a request may have, in series of their own.
fn large_batch(at: u64) -> Value {
    let point = |n: u64| {
        let labels =
            json!({ "route": format!("/route/{}", at % 20), "status": n % 5, "host": format!("web-{}", n % 10) });
        json!({ "name": "request_ms", "type": "histogram", "value": n as f64 + 0.5, "labels": labels, "project": "load" })
    };
    (0..1_000).map(point).collect()
}

fn page_report(at: u64) -> Value {
    let frame = "    at place (https://shop.example/assets/app.4f2a.js:1:1042)\n".repeat(400);
    json!({
        "type": "TypeError", "message": "under load", "release": "1",
        "stack": format!("TypeError: under load\n    at f (https://shop.example/load.js:{at}:1)\n{frame}"),
    })
}

/// Stops in time, each with exit code 0, and leaves nothing but the volumes.
fn ends_by_itself(here: &Installation) {
    let containers = SERVICES.map(|service| here.container(service));
    let begun = Instant::now();
    here.says("docker compose stop");
    let took = begun.elapsed();
    assert!(took < DOWN_WITHIN, "{took:?}");
    for (service, id) in SERVICES.iter().zip(containers) {
        let format = "{{.State.Status}} {{.State.ExitCode}} {{.State.OOMKilled}} {{.RestartCount}}";
        assert_eq!(here.docker.cli_stdout(&["inspect", "--format", format, &id]), "exited 0 false 0", "{service}");
    }
    let begun = Instant::now();
    here.says("docker compose down");
    eprintln!("stopped within {took:.1?}; down within {:.1?}", begun.elapsed());
    assert!(begun.elapsed() < DOWN_WITHIN, "{:?}", begun.elapsed());
    assert_eq!(here.docker.cli_stdout(&["ps", "--all", "--quiet"]), "");
    let volumes = here.docker.cli_stdout(&["volume", "ls", "--format", "{{.Name}}"]);
    let kept = SERVICES.map(|service| format!("monlight_{service}-data"));
    assert!(kept.iter().all(|name| volumes.lines().any(|line| line == name)), "{volumes}");
}

/// With deploy/docker-compose.test.yml as its head says, and stopped and started by the smoke test.
fn beside_another(here: &Installation) {
    let text = std::fs::read_to_string(here.folder.join("deploy/docker-compose.test.yml")).unwrap();
    let commands: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("#   ")).collect();
    let [ports, address, up] = commands[..] else { panic!("{text}") };
    let files = up.strip_suffix(" up -d").unwrap().trim_start_matches("docker compose");
    here.says(&format!("{ports}\n{address}\n{up}"));
    let smoke = format!(
        "{ports}\n{address}\nexport COMPOSE_PROJECT_NAME=monlight-test\n\
         export COMPOSE_FILE=docker-compose.yml:deploy/docker-compose.test.yml\n\
         ERRORS_URL=http://127.0.0.1:15010 LOGS_URL=http://127.0.0.1:15011 METRICS_URL=http://127.0.0.1:15012 \\\n\
         RELAY_URL=http://127.0.0.1:15013 API_KEY=test-api-key ADMIN_API_KEY=test-admin-key RELAY_RATE_LIMIT=300 \\\n\
         deploy/smoke-test.sh --compose"
    );
    let begun = Instant::now();
    Smoke::of(&here.run(&smoke), begun.elapsed()).is_green();
    here.says(&format!("{ports}\n{address}\ndocker compose {files} down --volumes"));
    assert!(!here.docker.cli_stdout(&["volume", "ls", "--quiet"]).contains("monlight-test"));
}

/// How many groups the tracker has.
fn groups(here: &Installation) -> Value {
    let ask = format!("curl -s -H 'X-API-Key: {}' localhost:5010/api/errors", here.secret("API_KEY"));
    serde_json::from_str::<Value>(&here.says(&ask)).unwrap()["total"].take()
}

fn report_group(here: &Installation, at: u64) {
    let report = large_report(at).to_string();
    std::fs::write(here.folder.join("report"), report).unwrap();
    let key = here.secret("API_KEY");
    here.says(&format!("curl -sf -H 'X-API-Key: {key}' localhost:5010/api/errors --data-binary @report"));
}

/// Runs a script that is to end with this code; answers what it said.
#[track_caller]
fn ends_with(here: &Installation, script: &str, code: i32) -> String {
    let output = here.run(script);
    let said = String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned();
    assert_eq!(output.status.code(), Some(code), "{script}: {said}");
    eprintln!("{said}");
    said
}

#[test]
fn what_runs_in_docker_is_backed_up_put_back_and_upgraded() {
    let Some(here) = installation() else { return };
    here.says("deploy/init-secrets.sh && docker compose up -d");
    here.wait_until_healthy();
    report_group(&here, 1);
    let said = ends_with(&here, "deploy/backup.sh --compose --to backups", 0);
    let copy = said.lines().last().unwrap().to_owned();
    for database in ["errors.db", "logs.db", "metrics.db", "browser-relay.db"] {
        let copy = rusqlite::Connection::open(Path::new(&copy).join(database)).unwrap();
        let verdict: String = copy.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(verdict, "ok", "{database}");
    }
    assert_eq!(here.docker.cli_stdout(&["ps", "--all", "--quiet"]).lines().count(), 4, "no container is left");
    report_group(&here, 2);
    let restore = format!("deploy/backup.sh --compose --restore {copy} error-tracker");
    assert!(ends_with(&here, &restore, 1).contains("error-tracker is running; stop it first"));
    here.says("docker compose stop");
    ends_with(&here, &restore, 0);
    here.says("docker compose start");
    here.wait_until_healthy();
    assert_eq!(groups(&here), 1);
    // As on a new machine.
    here.says("docker compose down --volumes");
    ends_with(&here, &restore, 0);
    here.says("docker compose up -d");
    here.wait_until_healthy();
    assert_eq!(groups(&here), 1);
    newer_images(&here);
}

/// Upgrades to images that work, and then to such that do not.
fn newer_images(here: &Installation) {
    let build = |service: &str, tag: &str, line: &str| {
        let image = format!("monlight/{service}");
        here.says(&format!("printf 'FROM {image}:latest\\n{line}\\n' | docker build -q -t {image}:{tag} -"));
    };
    let image = |service: &str| here.inspect(service, "{{.Image}}");
    let named = |service: &str, tag: &str| {
        here.docker.cli_stdout(&["image", "inspect", "--format", "{{.Id}}", &format!("monlight/{service}:{tag}")])
    };
    assert!(ends_with(here, "deploy/upgrade.sh --compose --tag next", 1).contains("image not found: monlight/"));
    let upgraded = ["error-tracker", "log-viewer"];
    upgraded.iter().for_each(|service| build(service, "next", "LABEL newer=1"));
    let said = ends_with(here, "deploy/upgrade.sh --compose --tag next --to backups log-viewer error-tracker", 0);
    for service in upgraded {
        assert!(said.contains(&format!("{service:<18} upgraded, unavailable for ")), "{said}");
        assert_eq!(image(service), named(service, "next"));
        assert_eq!(named(service, "previous"), named(service, "latest"));
    }
    assert_eq!(groups(here), 1, "on the same volume");
    // What the documentation says of going back by hand, and of where a database lies.
    here.says("MONLIGHT_VERSION=previous docker compose up -d --no-deps error-tracker");
    assert_eq!(image("error-tracker"), named("error-tracker", "latest"));
    here.says("test -s $(docker volume inspect --format '{{.Mountpoint}}' monlight_error-tracker-data)/errors.db");

    // Under the name of the one that works, which is what `docker compose up` would start again.
    let worked = image("log-viewer");
    build("log-viewer", "next", "ENTRYPOINT [\"/app/log-viewer\", \"--version\"]");
    let said = ends_with(here, "deploy/upgrade.sh --compose --tag next --to backups log-viewer", 1);
    assert!(said.contains("log-viewer         rolled back, unavailable for "), "{said}");
    assert!(said.contains("the container exits again after every start"), "{said}");
    assert_eq!((image("log-viewer"), named("log-viewer", "next")), (worked.clone(), worked));
    here.says("curl -sf localhost:5011/health");
    let tags = here.docker.cli_stdout(&["image", "ls", "--format", "{{.Repository}}:{{.Tag}}"]);
    assert!(!tags.contains("upgrading"), "{tags}");
}
