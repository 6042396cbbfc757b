//! Images and docker-compose.yml with a real Docker engine: the documented quick start, memory limits, and upgrades.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::databases::assert_intact;
use crate::support::docker_engine::DockerDaemon;
use crate::support::harness::{SERVICES, binary, root_or_skip, skip, wait_until};
use crate::support::programs::output_text;
use crate::support::smoke_test::SmokeResult;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const IMAGE_BYTES_MAX: u64 = 10_000_000;
const MEMORY_KIB_MAX: u64 = 30 * 1_024;
const UP_TIMEOUT: Duration = Duration::from_secs(20);
const DOWN_TIMEOUT: Duration = Duration::from_secs(5);
/// Duration of the load, which consists of the requests that are allowed per minute. `MONLIGHT_LOAD_S=60` sends them at
/// their real rate.
const LOAD_SECONDS: u64 = 10;
/// Source address of browser requests, on the network of the services.
const BROWSER_ADDRESS: &str = "172.30.250.77";
/// Options of each request in a curl configuration file.
const CURL_OPTIONS: &str = "silent\ngloboff\noutput = /dev/null\nwrite-out = \"%{http_code}\\n\"\n";
/// Requests per minute that each service accepts from one address by default.
const RATE_LIMITS: [(&str, u64); 4] =
    [("error-tracker", 100), ("log-viewer", 60), ("metrics-collector", 200), ("browser-relay", 300)];

/// Checkout without build results, as `git clone` creates it, and the Docker daemon that runs its services.
struct Installation {
    docker: DockerDaemon,
    checkout: PathBuf,
}

impl Installation {
    /// Runs a shell script in the checkout, in the namespaces of the Docker daemon.
    fn run(&self, script: &str) -> Output {
        self.docker.shell(&self.checkout, script).output().unwrap()
    }

    /// Runs a shell script in the checkout, asserts that it succeeds, and returns its stdout.
    #[track_caller]
    fn stdout(&self, script: &str) -> String {
        let output = self.run(script);
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{script}: {stdout}{}", String::from_utf8_lossy(&output.stderr));
        stdout
    }

    /// Returns the value of a name in deploy/secrets.env.
    #[track_caller]
    fn secret(&self, name: &str) -> String {
        let text = std::fs::read_to_string(self.checkout.join("deploy/secrets.env")).unwrap();
        text.lines().find_map(|line| line.strip_prefix(&format!("{name}="))).unwrap().to_owned()
    }

    /// Returns the ID of the container of a service.
    #[track_caller]
    fn container_id(&self, service: &str) -> String {
        let label = format!("label=com.docker.compose.service={service}");
        self.docker.cli_stdout(&["ps", "--quiet", "--filter", &label])
    }

    /// Runs `docker inspect` on the container of a service and returns the formatted output.
    #[track_caller]
    fn inspect(&self, service: &str, format: &str) -> String {
        self.docker.cli_stdout(&["inspect", "--format", format, &self.container_id(service)])
    }

    #[track_caller]
    fn state(&self, service: &str) -> Value {
        serde_json::from_str(&self.inspect(service, "{{json .State}}")).unwrap()
    }

    /// Returns the peak resident memory of a service in KiB.
    #[track_caller]
    fn peak_kib(&self, service: &str) -> u64 {
        let pid = &self.state(service)["Pid"];
        let status = self.stdout(&format!("cat /proc/{pid}/status"));
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    #[track_caller]
    fn assert_memory_below_limit(&self, when: &str) {
        let peaks = SERVICES.map(|service| (service, self.peak_kib(service)));
        eprintln!("VmHWM in KiB {when}: {peaks:?}");
        for (service, kib) in peaks {
            assert!(kib < MEMORY_KIB_MAX, "{service} used {kib} KiB {when}; the limit is {MEMORY_KIB_MAX} KiB");
        }
    }

    #[track_caller]
    fn run_smoke_test(&self, arguments: &str) -> SmokeResult {
        let start = Instant::now();
        let smoke = SmokeResult::parse(&self.run(&format!("deploy/smoke-test.sh {arguments}")), start.elapsed());
        smoke.assert_success();
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
fn copy_from_repository(names: &[&str], folder: &Path) {
    assert!(Command::new("cp").arg("-r").args(names).arg(folder).current_dir(ROOT).status().unwrap().success());
}

/// Builds the images from the existing binaries with deploy/images.sh and checks their configuration.
#[track_caller]
fn build_images(docker: &DockerDaemon) {
    let source = docker.dir.path().join("source");
    std::fs::create_dir(&source).unwrap();
    copy_from_repository(&["Dockerfile", ".dockerignore", "Cargo.toml", "deploy"], &source);
    for service in SERVICES {
        std::fs::copy(binary(service), source.join(service)).unwrap();
    }
    let output = docker.shell(&source, "BINARIES=here deploy/images.sh").output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{stdout}{}", String::from_utf8_lossy(&output.stderr));
    eprintln!("{stdout}");
    for service in SERVICES {
        let image = format!("monlight/{service}");
        let bytes: u64 = docker.cli_stdout(&["image", "inspect", "--format", "{{.Size}}", &image]).parse().unwrap();
        assert!(bytes < IMAGE_BYTES_MAX, "{image} has {bytes} bytes; the limit is {IMAGE_BYTES_MAX}");
        let config = docker.cli_stdout(&["image", "inspect", "--format", "{{json .Config}}", &image]);
        let config: Value = serde_json::from_str(&config).unwrap();
        assert_eq!(config["Entrypoint"], json!([format!("/app/{service}")]));
        assert_eq!(config["Healthcheck"]["Test"], json!(["CMD", format!("/app/{service}"), "--healthcheck"]));
        assert_eq!(config["WorkingDir"], "/app");
        assert_eq!(config["Volumes"], json!({ "/app/data": {} }));
        assert_eq!(config["Labels"]["org.opencontainers.image.version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(files_of_image(docker, &image), [format!("app/{service}")]);
    }
}

/// Returns the files of an image that have content. Docker itself adds empty ones, such as `etc/hosts`.
fn files_of_image(docker: &DockerDaemon, image: &str) -> Vec<String> {
    let script = format!("id=$(docker create {image}) && docker export $id | tar -tv && docker rm $id >/dev/null");
    let output = docker.shell(docker.dir.path(), &script).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let listing = String::from_utf8(output.stdout).unwrap();
    let fields = listing.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    fields.filter(|fields| fields[0].starts_with('-') && fields[2] != "0").map(|fields| fields[5].to_owned()).collect()
}

/// Returns the commands of the documented quick start that create the secrets and start the services, without the first,
/// which clones the repository and builds the images.
fn quick_start_commands() -> (String, String) {
    let text = std::fs::read_to_string(Path::new(ROOT).join("docs/deployment.md")).unwrap();
    let block = text.split("```bash\n").nth(1).unwrap().split("```").next().unwrap();
    let lines: Vec<&str> = block.lines().collect();
    let [clone, init_secrets, up] = lines[..] else { panic!("the quick start does not have three lines: {block}") };
    assert!(clone.starts_with("git clone "), "{block}");
    (init_secrets.to_owned(), up.to_owned())
}

/// Starts a Docker daemon, builds the images and creates a checkout. Skips the test and returns `None` if this machine
/// cannot run Docker.
fn create_installation() -> Option<Installation> {
    if !root_or_skip("starting a Docker daemon") {
        return None;
    }
    let docker = DockerDaemon::start(&[])?;
    let compose = docker.shell(docker.dir.path(), "docker compose version").output().unwrap();
    if !compose.status.success() {
        skip("docker compose is not installed; images and docker-compose.yml are not tested");
        return None;
    }
    build_images(&docker);
    let checkout = docker.dir.path().join("monlight");
    std::fs::create_dir(&checkout).unwrap();
    copy_from_repository(&["docker-compose.yml", "deploy"], &checkout);
    // The repository may contain the secrets of the developer.
    let _ = std::fs::remove_file(checkout.join("deploy/secrets.env"));
    Some(Installation { docker, checkout })
}

#[test]
fn documented_quick_start_works() {
    let Some(installation) = create_installation() else { return };
    let (init_secrets, up) = quick_start_commands();
    check_start_without_keys(&installation, &up);
    installation.stdout(&init_secrets);
    let start = Instant::now();
    installation.stdout(&up);
    let up_duration = start.elapsed();
    installation.wait_until_healthy();
    eprintln!("up after {up_duration:.1?}, healthy after {:.1?}", start.elapsed());
    assert!(start.elapsed() < UP_TIMEOUT, "the services were healthy after {:?}", start.elapsed());
    check_start_order(&installation);
    installation.assert_memory_below_limit("at rest");
    let smoke = installation.run_smoke_test("--secrets deploy/secrets.env");
    eprintln!("the smoke test took {:.1?}", smoke.duration);
    installation.assert_memory_below_limit("after the smoke test");
    check_viewer_reads_all_containers(&installation);
    check_application_in_another_project(&installation);
    check_confinement(&installation);
    run_load(&installation);
    installation.assert_memory_below_limit("after the load");
    check_forged_addresses(&installation);
    check_shutdown(&installation);
    check_test_stack(&installation);
}

/// Checks that a connection to a published port, which Docker's gateway passes on, cannot claim another address.
fn check_forged_addresses(installation: &Installation) {
    for (service, port, path) in [
        ("error-tracker", 5010, "api/projects"),
        ("log-viewer", 5011, "api/containers"),
        ("metrics-collector", 5012, "api/projects"),
    ] {
        let requests: Vec<String> = (0..220)
            .map(|index| {
                let key = installation.secret("API_KEY");
                let headers =
                    format!("header = \"X-API-Key: {key}\"\nheader = \"X-Forwarded-For: 203.0.113.{index}\"\n");
                format!("url = \"localhost:{port}/{path}\"\n{headers}{CURL_OPTIONS}")
            })
            .collect();
        let file = installation.checkout.join("forged");
        std::fs::write(&file, requests.join("next\n")).unwrap();
        let statuses = installation.stdout("curl -K forged");
        assert!(statuses.lines().any(|status| status == "429"), "{service} believes forged addresses: {statuses}");
    }
}

/// Returns the values of a key of docker-compose.yml, for example `ports`.
fn compose_values<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    let prefix = format!("{key}: ");
    text.lines().filter_map(|line| line.trim().strip_prefix(&prefix)).collect()
}

#[test]
fn only_the_relay_is_trusted_as_a_proxy_and_ports_are_published_on_ipv4_only() {
    let text = std::fs::read_to_string(Path::new(ROOT).join("docker-compose.yml")).unwrap();
    let trusted = compose_values(&text, "TRUSTED_PROXIES");
    assert_eq!(trusted, ["*proxies", "*proxies", "*proxies", "${TRUSTED_PROXIES:-}"]);
    let address = "${MONLIGHT_RELAY_ADDRESS:-172.30.250.250}";
    assert_eq!(compose_values(&text, "x-proxies"), [format!("&proxies {address},${{TRUSTED_PROXIES:-}}")]);
    assert_eq!(compose_values(&text, "x-relay-address"), [format!("&relay-address {address}")]);
    assert_eq!(compose_values(&text, "monlight"), ["{ipv4_address: *relay-address}"]);
    let ports = compose_values(&text, "ports");
    assert_eq!(ports.len(), SERVICES.len());
    assert!(ports.iter().all(|port| port.starts_with("[\"${MONLIGHT_ADDRESS:-0.0.0.0}:")), "{ports:?}");
}

/// Checks that no service starts with the empty keys of the example file and that each logs the reason.
fn check_start_without_keys(installation: &Installation, up: &str) {
    installation.stdout("cp deploy/secrets.env.example deploy/secrets.env");
    assert!(!installation.run(up).status.success());
    for service in &SERVICES[..3] {
        let reports_missing_key =
            |line: &str| line.contains(service) && line.contains("API_KEY: required; generate one with: openssl rand");
        let reported = wait_until(|| {
            installation.stdout("docker compose logs --no-color").lines().any(reports_missing_key).then_some(())
        });
        assert!(reported.is_some(), "{service} does not report its missing key");
    }
    installation.stdout("docker compose down && rm deploy/secrets.env");
}

/// Checks that the relay was started after its upstreams were healthy.
fn check_start_order(installation: &Installation) {
    let started = installation.state("browser-relay")["StartedAt"].as_str().unwrap().to_owned();
    for service in ["error-tracker", "metrics-collector"] {
        let state = installation.state(service);
        let checks = state["Health"]["Log"].as_array().unwrap();
        let healthy = checks.iter().find(|check| check["ExitCode"] == 0).unwrap();
        // Normalizes the timestamp to UTC and seconds: Docker reports the two with different time zones.
        let healthy = installation.stdout(&format!("date -u -d '{}' +%FT%T", healthy["Start"].as_str().unwrap()));
        assert!(
            healthy.trim() <= started.as_str(),
            "{service} was healthy at {healthy}, but the relay started at {started}"
        );
    }
}

fn check_viewer_reads_all_containers(installation: &Installation) {
    let request =
        format!("curl -s -H 'X-API-Key: {}' localhost:5011/api/logs/containers", installation.secret("API_KEY"));
    let list: Value = serde_json::from_str(&installation.stdout(&request)).unwrap();
    for service in SERVICES {
        let containers = list["containers"].as_array().unwrap();
        let container =
            containers.iter().find(|container| container["service"] == service && container["followed"] == true);
        let container = container.unwrap_or_else(|| panic!("the viewer does not read the log of {service}: {list}"));
        assert!(container["log_count"].as_u64() > Some(1), "{container}");
    }
}

/// Starts an application in a Compose project of its own with the documented file. It reports an error to the URL there.
fn check_application_in_another_project(installation: &Installation) {
    let text = std::fs::read_to_string(Path::new(ROOT).join("docs/deployment.md")).unwrap();
    let file = text.split("```yaml\n").find(|block| block.contains("external: true")).unwrap();
    let file = file.split("```").next().unwrap();
    let folder = installation.docker.dir.path().join("shop");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("docker-compose.yml"), file).unwrap();
    let report = json!({ "project": "shop", "exception_type": "E", "message": "of another project", "traceback": "" });
    let dockerfile = format!(
        "FROM scratch\nCOPY busybox /busybox\nENTRYPOINT [\"/busybox\", \"sh\", \"-c\", \"exec /busybox wget -O - \
         --header 'X-API-Key: {}' --post-file /report $ERRORS_URL/api/errors\"]\nCOPY report /report\n",
        installation.secret("API_KEY")
    );
    std::fs::write(folder.join("report"), report.to_string()).unwrap();
    std::fs::write(folder.join("Dockerfile"), dockerfile).unwrap();
    let script = "cp $(command -v busybox) busybox && docker build -q -t shop . && docker compose run --rm -T web";
    let output = installation.docker.shell(&folder, script).output().unwrap();
    assert!(
        output.status.success() && output_text(&output).contains("\"status\":\"created\""),
        "{}",
        output_text(&output)
    );
    assert!(installation.docker.shell(&folder, "docker compose down").output().unwrap().status.success());
}

/// Checks that the containers have no capabilities, no way to gain any, a read-only file system and a memory limit.
fn check_confinement(installation: &Installation) {
    for service in SERVICES {
        let status = installation.stdout(&format!("cat /proc/{}/status", installation.state(service)["Pid"]));
        for line in ["CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1"] {
            assert!(status.contains(line), "{service}: {status}");
        }
        let inspect = |format| installation.inspect(service, format);
        assert_eq!(inspect("{{.HostConfig.ReadonlyRootfs}}"), "true");
        assert_eq!(inspect("{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}}"), "31457280 31457280");
        assert_eq!(inspect("{{.HostConfig.RestartPolicy.Name}}"), "unless-stopped");
        // The public relay must not know the key of the other services.
        let env = inspect("{{json .Config.Env}}");
        let is_set = |name: &str| !env.contains(&format!("\"{name}=\"")) && env.contains(&format!("\"{name}="));
        assert_eq!(is_set("API_KEY"), service != "browser-relay", "{env}");
        assert_eq!(is_set("ADMIN_API_KEY"), service == "browser-relay", "{env}");
    }
}

/// Sends each service as many large requests as one address may send per minute.
fn run_load(installation: &Installation) {
    let seconds = std::env::var("MONLIGHT_LOAD_S").map_or(LOAD_SECONDS, |seconds| seconds.parse().unwrap());
    let folder = installation.checkout.join("load");
    std::fs::create_dir(&folder).unwrap();
    // Browsers are other clients than the servers that report errors, so they need another source address.
    let relay = installation.inspect("browser-relay", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}");
    let route = "sed 's/.* dev \\([^ ]*\\).*/\\1/'";
    installation
        .stdout(&format!("busybox ip address add {BROWSER_ADDRESS}/24 dev $(busybox ip route get {relay} | {route})"));
    let key = format!("header = \"X-API-Key: {}\"\n", installation.secret("API_KEY"));
    let created = installation.stdout(&format!(
        "curl -s -H 'X-API-Key: {}' localhost:5013/api/dsn-keys -d '{{\"project\":\"load\"}}'",
        installation.secret("ADMIN_API_KEY")
    ));
    let created: Value = serde_json::from_str(&created).unwrap();
    let browser_options = format!(
        "header = \"X-Monlight-Key: {}\"\ninterface = \"{BROWSER_ADDRESS}\"\n",
        created["public_key"].as_str().expect("the response has a public key")
    );
    let mut script = "pids=\n".to_owned();
    for (service, rate) in RATE_LIMITS {
        let requests = (0..rate).map(|index| {
            let (url, options, body) = match service {
                "error-tracker" => ("localhost:5010/api/errors".to_owned(), &key, Some(large_report(index))),
                "log-viewer" => (format!("localhost:5011/api/logs?limit=500&regex=level.*{index}"), &key, None),
                "metrics-collector" => ("localhost:5012/api/metrics".to_owned(), &key, Some(large_batch(index))),
                _ => (format!("{relay}:8000/api/browser/errors"), &browser_options, Some(browser_report(index))),
            };
            let file = folder.join(format!("{service}-{index}"));
            let data = body.map_or_else(String::new, |body| {
                std::fs::write(&file, body.to_string()).unwrap();
                format!("data-binary = \"@{}\"\n", file.display())
            });
            format!("url = \"{url}\"\n{options}{data}{CURL_OPTIONS}")
        });
        std::fs::write(folder.join(service), requests.collect::<Vec<_>>().join("next\n")).unwrap();
        let per_minute = rate * 60 / seconds;
        writeln!(script, "curl --rate {per_minute}/m -K load/{service} >load/{service}.statuses & pids=\"$pids $!\"")
            .unwrap();
    }
    let start = Instant::now();
    installation.stdout(&(script + "for pid in $pids; do wait $pid; done"));
    eprintln!("the load took {:.1?}", start.elapsed());
    for (service, rate) in RATE_LIMITS {
        let statuses = std::fs::read_to_string(folder.join(format!("{service}.statuses"))).unwrap();
        let count = |expected: &[&str]| statuses.lines().filter(|line| expected.contains(line)).count() as u64;
        let (accepted, rate_limited) = (count(&["200", "201", "202"]), count(&["429"]));
        eprintln!("{service}: {accepted} accepted and {rate_limited} rate limited of {rate}");
        assert_eq!(accepted + rate_limited, rate, "{service}: {}", statuses.replace('\n', " "));
        // The smoke test has used a part of this minute's limit.
        assert!(accepted > rate / 2, "{service}: {}", statuses.replace('\n', " "));
    }
}

/// Returns a report of the maximum size with its own group.
fn large_report(index: u64) -> Value {
    let frame =
        "  File \"/app/shop/orders/checkout.py\", line 7, in place_the_order\n    return gateway.charge(order)\n";
    json!({
        "project": "load", "exception_type": "ValueError", "message": "under load",
        "traceback": format!("Traceback (most recent call last):\n{}  File \"/app/load.py\", line {index}, in f\n    f()\nValueError: under load", frame.repeat(2_000)),
    })
}

/// Returns a batch with the maximum number of points, in different series.
fn large_batch(index: u64) -> Value {
    let point = |n: u64| {
        let labels =
            json!({ "route": format!("/route/{}", index % 20), "status": n % 5, "host": format!("web-{}", n % 10) });
        json!({ "name": "request_ms", "type": "histogram", "value": n as f64 + 0.5, "labels": labels, "project": "load" })
    };
    (0..1_000).map(point).collect()
}

fn browser_report(index: u64) -> Value {
    let frame = "    at place (https://shop.example/assets/app.4f2a.js:1:1042)\n".repeat(400);
    json!({
        "type": "TypeError", "message": "under load", "release": "1",
        "stack": format!("TypeError: under load\n    at f (https://shop.example/load.js:{index}:1)\n{frame}"),
    })
}

/// Checks that the services stop in time with exit code 0, and that `down` keeps only the volumes.
fn check_shutdown(installation: &Installation) {
    let containers = SERVICES.map(|service| installation.container_id(service));
    let start = Instant::now();
    installation.stdout("docker compose stop");
    let stop_duration = start.elapsed();
    assert!(stop_duration < DOWN_TIMEOUT, "the services stopped after {stop_duration:?}");
    for (service, id) in SERVICES.iter().zip(containers) {
        let format = "{{.State.Status}} {{.State.ExitCode}} {{.State.OOMKilled}} {{.RestartCount}}";
        assert_eq!(
            installation.docker.cli_stdout(&["inspect", "--format", format, &id]),
            "exited 0 false 0",
            "{service}"
        );
    }
    let start = Instant::now();
    installation.stdout("docker compose down");
    eprintln!("stopped after {stop_duration:.1?}; down after {:.1?}", start.elapsed());
    assert!(start.elapsed() < DOWN_TIMEOUT, "down took {:?}", start.elapsed());
    assert_eq!(installation.docker.cli_stdout(&["ps", "--all", "--quiet"]), "");
    let volumes = installation.docker.cli_stdout(&["volume", "ls", "--format", "{{.Name}}"]);
    let expected = SERVICES.map(|service| format!("monlight_{service}-data"));
    assert!(expected.iter().all(|name| volumes.lines().any(|line| line == name)), "{volumes}");
}

/// Starts a second stack as the comment in deploy/docker-compose.test.yml describes. The smoke test then restarts it.
fn check_test_stack(installation: &Installation) {
    let text = std::fs::read_to_string(installation.checkout.join("deploy/docker-compose.test.yml")).unwrap();
    let commands: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("#   ")).collect();
    let [ports, address, up] = commands[..] else { panic!("{text}") };
    let files = up.strip_suffix(" up -d").unwrap().trim_start_matches("docker compose");
    installation.stdout(&format!("{ports}\n{address}\n{up}"));
    let smoke = format!(
        "{ports}\n{address}\nexport COMPOSE_PROJECT_NAME=monlight-test\n\
         export COMPOSE_FILE=docker-compose.yml:deploy/docker-compose.test.yml\n\
         ERRORS_URL=http://127.0.0.1:15010 LOGS_URL=http://127.0.0.1:15011 METRICS_URL=http://127.0.0.1:15012 \\\n\
         RELAY_URL=http://127.0.0.1:15013 API_KEY=test-api-key ADMIN_API_KEY=test-admin-key RELAY_RATE_LIMIT=300 \\\n\
         deploy/smoke-test.sh --compose"
    );
    let start = Instant::now();
    SmokeResult::parse(&installation.run(&smoke), start.elapsed()).assert_success();
    installation.stdout(&format!("{ports}\n{address}\ndocker compose {files} down --volumes"));
    assert!(!installation.docker.cli_stdout(&["volume", "ls", "--quiet"]).contains("monlight-test"));
}

/// Returns the number of error groups in the tracker.
fn count_groups(installation: &Installation) -> Value {
    let request = format!("curl -s -H 'X-API-Key: {}' localhost:5010/api/errors", installation.secret("API_KEY"));
    serde_json::from_str::<Value>(&installation.stdout(&request)).unwrap()["total"].take()
}

fn send_report(installation: &Installation, index: u64) {
    let report = large_report(index).to_string();
    std::fs::write(installation.checkout.join("report"), report).unwrap();
    let key = installation.secret("API_KEY");
    installation.stdout(&format!("curl -sf -H 'X-API-Key: {key}' localhost:5010/api/errors --data-binary @report"));
}

/// Runs a script, asserts its exit code, and returns its output.
#[track_caller]
fn run_with_exit_code(installation: &Installation, script: &str, code: i32) -> String {
    let output = installation.run(script);
    let text = output_text(&output);
    assert_eq!(output.status.code(), Some(code), "{script}: {text}");
    eprintln!("{text}");
    text
}

#[test]
fn compose_installation_can_be_backed_up_restored_and_upgraded() {
    let Some(installation) = create_installation() else { return };
    installation.stdout("deploy/init-secrets.sh && docker compose up -d");
    installation.wait_until_healthy();
    send_report(&installation, 1);
    let output = run_with_exit_code(&installation, "deploy/backup.sh --compose --to backups", 0);
    let backup = output.lines().last().unwrap().to_owned();
    for database in ["errors.db", "logs.db", "metrics.db", "browser-relay.db"] {
        assert_intact(&Path::new(&backup).join(database));
    }
    assert_eq!(
        installation.docker.cli_stdout(&["ps", "--all", "--quiet"]).lines().count(),
        4,
        "the backup left a container behind"
    );
    send_report(&installation, 2);
    let restore = format!("deploy/backup.sh --compose --restore {backup} error-tracker");
    assert!(run_with_exit_code(&installation, &restore, 1).contains("error-tracker is running; stop it first"));
    installation.stdout("docker compose stop");
    run_with_exit_code(&installation, &restore, 0);
    installation.stdout("docker compose start");
    installation.wait_until_healthy();
    assert_eq!(count_groups(&installation), 1);
    // Restores into new volumes, as on a new machine.
    installation.stdout("docker compose down --volumes");
    run_with_exit_code(&installation, &restore, 0);
    installation.stdout("docker compose up -d");
    installation.wait_until_healthy();
    assert_eq!(count_groups(&installation), 1);
    check_upgrade(&installation);
}

/// Upgrades to working images, and then to images that do not start.
fn check_upgrade(installation: &Installation) {
    let build = |service: &str, tag: &str, line: &str| {
        let image = format!("monlight/{service}");
        installation.stdout(&format!("printf 'FROM {image}:latest\\n{line}\\n' | docker build -q -t {image}:{tag} -"));
    };
    let running_image = |service: &str| installation.inspect(service, "{{.Image}}");
    let image_with_tag = |service: &str, tag: &str| {
        installation.docker.cli_stdout(&[
            "image",
            "inspect",
            "--format",
            "{{.Id}}",
            &format!("monlight/{service}:{tag}"),
        ])
    };
    assert!(
        run_with_exit_code(installation, "deploy/upgrade.sh --compose --tag next", 1)
            .contains("image not found: monlight/")
    );
    let upgraded = ["error-tracker", "log-viewer"];
    upgraded.iter().for_each(|service| build(service, "next", "LABEL newer=1"));
    let output = run_with_exit_code(
        installation,
        "deploy/upgrade.sh --compose --tag next --to backups log-viewer error-tracker",
        0,
    );
    for service in upgraded {
        assert!(output.contains(&format!("{service:<18} upgraded, unavailable for ")), "{output}");
        assert_eq!(running_image(service), image_with_tag(service, "next"));
        assert_eq!(image_with_tag(service, "previous"), image_with_tag(service, "latest"));
    }
    assert_eq!(count_groups(installation), 1, "the upgraded tracker does not use the same volume");
    // Checks the documented manual rollback and the documented path of a database.
    installation.stdout("MONLIGHT_VERSION=previous docker compose up -d --no-deps error-tracker");
    assert_eq!(running_image("error-tracker"), image_with_tag("error-tracker", "latest"));
    installation
        .stdout("test -s $(docker volume inspect --format '{{.Mountpoint}}' monlight_error-tracker-data)/errors.db");

    // After the rollback, the tag must refer to the working image, because `docker compose up` starts that tag.
    let working_image = running_image("log-viewer");
    build("log-viewer", "next", "ENTRYPOINT [\"/app/log-viewer\", \"--version\"]");
    let output = run_with_exit_code(installation, "deploy/upgrade.sh --compose --tag next --to backups log-viewer", 1);
    assert!(output.contains("log-viewer         rolled back, unavailable for "), "{output}");
    assert!(output.contains("the container exits again after every start"), "{output}");
    assert_eq!(
        (running_image("log-viewer"), image_with_tag("log-viewer", "next")),
        (working_image.clone(), working_image)
    );
    installation.stdout("curl -sf localhost:5011/health");
    let tags = installation.docker.cli_stdout(&["image", "ls", "--format", "{{.Repository}}:{{.Tag}}"]);
    assert!(!tags.contains("upgrading"), "{tags}");
}
