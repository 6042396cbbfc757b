//! `deploy/smoke-test.sh`: succeeds with a correct installation, and fails exactly the checks that a fault affects.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde_json::json;

use crate::support::harness::{API_KEY, PUBLIC_KEY, Service, Setup, TempDir, skip, wait_until};
use crate::support::programs::is_installed;
use crate::support::smoke_test::{SmokeResult, curl_or_skip, smoke_test};
use crate::support::stack::{RELAY, TRACKER, start_services};

/// Origin that the relay allows.
const ORIGIN: &str = "https://shop.example";
/// Default rate limit, which the last check of the smoke test exhausts.
const RELAY_RATE_LIMIT: u32 = 300;
const PROXY_BUFFER_BYTES: usize = 16 * 1_024;

/// All four services, and the environment of the smoke test with their addresses.
struct Stack {
    errors: Service,
    logs: Service,
    metrics: Service,
    relay: Service,
    env: Vec<(&'static str, String)>,
}

impl Stack {
    fn start() -> Self {
        Self::start_with(|relay| relay)
    }

    /// Starts the services with a changed setup of the relay.
    fn start_with(change: impl Fn(Setup) -> Setup) -> Self {
        let [errors, logs, metrics, relay] = start_services(|service, setup| match service {
            TRACKER => setup.env("ALERT_WEBHOOK_URL", "http://127.0.0.1:9/"),
            RELAY => change(setup.env("CORS_ORIGINS", ORIGIN).env("RATE_LIMIT", RELAY_RATE_LIMIT)),
            _ => setup,
        });
        let env = vec![
            ("ERRORS_URL", url(errors.address)),
            ("LOGS_URL", url(logs.address)),
            ("METRICS_URL", url(metrics.address)),
            ("RELAY_URL", url(relay.address)),
            ("API_KEY", API_KEY.to_owned()),
            ("ORIGIN", ORIGIN.to_owned()),
        ];
        Self { errors, logs, metrics, relay, env }
    }

    fn env(mut self, name: &'static str, value: String) -> Self {
        self.env.retain(|(set, _)| *set != name);
        self.env.push((name, value));
        self
    }

    /// Runs the smoke test with a faulty proxy in front of the service at `to`, whose address is the variable `name`, and
    /// asserts which checks fail.
    fn check_with_proxy(
        self,
        name: &'static str,
        to: SocketAddr,
        change_request: ChangeHead,
        change_response: ChangeHead,
        failed: &[&str],
    ) -> Self {
        let direct = self.env.iter().find(|(set, _)| *set == name).unwrap().1.clone();
        let stack = self.env(name, url(start_proxy(to, change_request, change_response)));
        stack.run_smoke_test().assert_failed_checks(failed);
        stack.env(name, direct)
    }

    /// Returns what the web UIs list: projects, environments, releases, metrics and labels.
    fn visible_names(&self) -> [serde_json::Value; 6] {
        let get = |service: &Service, path| service.get(path).expect(200).json();
        [
            get(&self.errors, "/api/projects"),
            get(&self.errors, "/api/variants"),
            get(&self.metrics, "/api/projects"),
            get(&self.metrics, "/api/metrics/names?search=smoke"),
            get(&self.metrics, "/api/metrics/labels?name=smoke_test_total"),
            get(&self.metrics, "/api/metrics/labels?name=smoke_test_page_ms"),
        ]
    }

    fn run_smoke_test(&self) -> SmokeResult {
        let start = Instant::now();
        let output = smoke_test(&[], &self.env);
        let duration = start.elapsed();
        // A run sends its time in seconds as a value, which a later run must not find as its own.
        let end_s = unix_seconds();
        wait_until(|| (unix_seconds() > end_s).then_some(())).expect("the next second begins");
        SmokeResult::parse(&output, duration)
    }
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is right").as_secs()
}

fn url(address: SocketAddr) -> String {
    format!("http://{address}")
}

/// Function that changes the head of an HTTP message.
type ChangeHead = fn(&str) -> String;

/// Starts a faulty proxy in front of a service, which changes the heads of requests and responses. Its threads run until the
/// test process exits.
fn start_proxy(to: SocketAddr, change_request: ChangeHead, change_response: ChangeHead) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || forward(client, to, change_request, change_response));
        }
    });
    address
}

/// Forwards one request and its response, until one side closes the connection.
///
/// Each connection carries only one request, so that the proxy does not need to parse the body.
fn forward(
    mut client: TcpStream,
    to: SocketAddr,
    change_request: ChangeHead,
    change_response: ChangeHead,
) -> std::io::Result<()> {
    let mut service = TcpStream::connect(to)?;
    let head = change_request(&read_head(&mut client)?).replacen("\r\n", "\r\nConnection: close\r\n", 1);
    service.write_all(head.as_bytes())?;
    let (mut body, mut upstream) = (client.try_clone()?, service.try_clone()?);
    std::thread::spawn(move || copy(&mut body, &mut upstream));
    loop {
        let head = read_head(&mut service)?;
        client.write_all(change_response(&head).as_bytes())?;
        // A 100 Continue is followed by the final response.
        if !head.starts_with("HTTP/1.1 1") {
            break;
        }
    }
    copy(&mut service, &mut client)?;
    client.shutdown(std::net::Shutdown::Both)
}

fn copy(from: &mut TcpStream, to: &mut TcpStream) -> std::io::Result<()> {
    let mut bytes = [0; PROXY_BUFFER_BYTES];
    loop {
        match from.read(&mut bytes)? {
            0 => return Ok(()),
            read => to.write_all(&bytes[..read])?,
        }
    }
}

fn read_head(from: &mut TcpStream) -> std::io::Result<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        from.read_exact(&mut byte)?;
        head.extend(byte);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

fn unchanged(head: &str) -> String {
    head.to_owned()
}

/// Removes the headers that start with `name`.
fn without_header(head: &str, name: &str) -> String {
    let prefix = name.to_ascii_lowercase();
    head.split_inclusive("\r\n").filter(|line| !line.to_ascii_lowercase().starts_with(&prefix)).collect()
}

fn with_header(head: &str, line: &str) -> String {
    head.replacen("\r\n", &format!("\r\n{line}\r\n"), 1)
}

#[test]
fn smoke_test_passes_twice_in_a_row() {
    if !curl_or_skip() {
        return;
    }
    let stack = Stack::start();
    stack.run_smoke_test().assert_success();
    let names = stack.visible_names();
    // An interrupted run leaves an unresolved error.
    let traceback =
        "Traceback (most recent call last):\n  File \"/app/smoke.py\", line 7, in check\nSmokeTest: nothing is wrong";
    let report = json!({ "project": "monlight-smoke-test", "environment": "smoke", "exception_type": "SmokeTest",
        "message": "nothing is wrong", "traceback": traceback });
    stack.errors.post("/api/errors", &report).expect(200).has(json!({ "status": "reopened" }));
    let second = stack.run_smoke_test();
    second.assert_success();
    eprintln!("the smoke test took {:.1?}", second.duration);
    // The smoke test has deactivated, deleted or resolved everything that it created.
    let keys = stack.relay.get("/api/dsn-keys").expect(200).json();
    let is_active = |key: &&serde_json::Value| key["active"] == true && key["public_key"] != PUBLIC_KEY;
    assert_eq!(keys["keys"].as_array().unwrap().iter().filter(is_active).count(), 0, "{keys}");
    stack.relay.get("/api/source-maps").expect(200).has(json!({ "total": 0 }));
    stack.errors.get("/api/errors").expect(200).has(json!({ "total": 0 }));
    stack.errors.get("/api/errors?resolved=true").expect(200).has(json!({ "total": 2 }));
    // Later runs leave nothing more behind than the first one, and nobody is alerted.
    assert_eq!(stack.visible_names(), names);
    stack.errors.get("/api/alerts").expect(200).has(json!({ "alerts": [], "channels": ["webhook"] }));
    // Keys must not appear in the arguments of curl, which other users see in the process list.
    assert!(!include_str!("../../deploy/smoke-test.sh").contains("X-API-Key: $"));
}

#[test]
fn service_that_is_down_fails_only_its_own_checks() {
    if !curl_or_skip() {
        return;
    }
    let mut stack = Stack::start();
    stack.run_smoke_test().assert_success();
    // The replacement keeps the struct complete; the smoke test does not know its address.
    let killed = std::mem::replace(&mut stack.logs, Setup::log_viewer().start());
    killed.kill();
    stack.run_smoke_test().assert_failed_checks(&[
        "logs: /health reports ok",
        "logs: / serves the web interface",
        "logs: / has a Content-Security-Policy",
        "logs: a request without a key is rejected",
        "logs: a request with a wrong key is rejected",
        "logs: entries are listed",
        "logs: a search without matches is empty",
        "logs: containers are listed",
        "logs: statistics are returned",
    ]);
}

#[test]
fn wrong_key_fails_only_the_checks_that_use_it() {
    if !curl_or_skip() {
        return;
    }
    Stack::start().env("METRICS_KEY", "another".to_owned()).run_smoke_test().assert_failed_checks(&[
        "metrics: a batch is accepted",
        "metrics: the batch is visible immediately",
        "metrics: the metric name is listed",
        "metrics: the dashboard counts the batch",
        "metrics: the browser metrics are visible",
    ]);
}

#[test]
fn wrong_relay_settings_fail_only_the_affected_checks() {
    if !curl_or_skip() {
        return;
    }
    Stack::start_with(|relay| relay.env("CORS_ORIGINS", "")).run_smoke_test().assert_failed_checks(&[
        "relay: the response allows the page's origin",
        "relay: preflight from https://shop.example is allowed",
        "relay: preflight allows credentials",
        "relay: preflight allows X-Monlight-Key",
        "relay: a report from another origin is rejected",
    ]);
    Stack::start_with(|relay| relay.env("RATE_LIMIT", 0))
        .run_smoke_test()
        .assert_failed_checks(&["relay: over 300 requests per minute are rejected with Retry-After"]);
    Stack::start_with(|relay| relay.env("MAX_SOURCE_MAP_SIZE", 1_000_000)).run_smoke_test().assert_failed_checks(&[
        "relay: a 2 MB source map is uploaded",
        "relay: the source map is listed",
        "errors: the browser stack trace is symbolicated",
        "relay: the source map is deleted",
    ]);
}

#[test]
fn unreachable_upstreams_fail_only_the_checks_that_need_them() {
    if !curl_or_skip() {
        return;
    }
    let missing = [
        "relay: a browser error reaches the error tracker",
        "errors: the browser error is listed",
        "errors: the browser stack trace is symbolicated",
        "errors: the browser error is resolved",
    ];
    Stack::start_with(|relay| relay.env("ERROR_TRACKER_URL", "http://127.0.0.1:9"))
        .run_smoke_test()
        .assert_failed_checks(&missing);
    Stack::start_with(|relay| relay.env("ERROR_TRACKER_API_KEY", "another"))
        .run_smoke_test()
        .assert_failed_checks(&missing);
    let other = Setup::metrics_collector().start();
    let metrics = url(other.address);
    Stack::start_with(|relay| relay.env("METRICS_COLLECTOR_URL", &metrics))
        .run_smoke_test()
        .assert_failed_checks(&["metrics: the browser metrics are visible"]);
}

#[test]
fn faulty_proxy_fails_only_the_affected_checks() {
    if !curl_or_skip() {
        return;
    }
    let stack = Stack::start();
    let [errors, metrics, relay] = [&stack.errors, &stack.metrics, &stack.relay].map(|service| service.address);
    let stack = stack.check_with_proxy(
        "METRICS_URL",
        metrics,
        unchanged,
        |head| without_header(head, "Content-Security-Policy"),
        &["metrics: / has a Content-Security-Policy"],
    );
    let stack = stack.check_with_proxy(
        "RELAY_URL",
        relay,
        unchanged,
        |head| without_header(head, "Retry-After"),
        &["relay: over 300 requests per minute are rejected with Retry-After"],
    );
    let allow_all_origins = |head: &str| {
        let head =
            without_header(&without_header(head, "Access-Control-Allow-Origin"), "Access-Control-Allow-Credentials");
        with_header(&with_header(&head, "Access-Control-Allow-Origin: *"), "Access-Control-Allow-Credentials: true")
    };
    let stack = stack.check_with_proxy(
        "RELAY_URL",
        relay,
        unchanged,
        allow_all_origins,
        &[
            "relay: the response allows the page's origin",
            "relay: preflight from https://shop.example is allowed",
            "relay: preflight from another origin is denied",
            "relay: preflight from another origin denies credentials",
        ],
    );
    let add_public_key =
        |head: &str| with_header(&without_header(head, "X-Monlight-Key"), &format!("X-Monlight-Key: {PUBLIC_KEY}"));
    let stack = stack.check_with_proxy(
        "RELAY_URL",
        relay,
        add_public_key,
        unchanged,
        &[
            "relay: a report with a wrong public key is rejected",
            "relay: a report without a public key is rejected",
            "relay: a browser error reaches the error tracker",
            "errors: the browser error is listed",
            "errors: the browser stack trace is symbolicated",
            "metrics: the browser metrics are visible",
            "relay: the deactivated public key is rejected",
        ],
    );
    let add_api_key = |head: &str| with_header(&without_header(head, "X-API-Key"), &format!("X-API-Key: {API_KEY}"));
    stack.check_with_proxy(
        "ERRORS_URL",
        errors,
        add_api_key,
        unchanged,
        &["errors: a request without a key is rejected", "errors: a request with a wrong key is rejected"],
    );
}

#[test]
fn generated_secrets_suffice_for_the_smoke_test() {
    if !curl_or_skip() {
        return;
    }
    let folder = TempDir::new();
    for name in ["init-secrets.sh", "secrets.env.example"] {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name);
        std::fs::copy(from, folder.path().join(name)).unwrap();
    }
    let init_secrets = || Command::new(folder.path().join("init-secrets.sh")).output().unwrap();
    assert!(init_secrets().status.success());
    let file = folder.path().join("secrets.env");
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    // A second run does not overwrite the file.
    let second_run = init_secrets();
    assert_eq!(second_run.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second_run.stderr).contains("already exists"));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    let files: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(files.len(), 3, "{files:?}");

    let lines = || text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
    let keys: Vec<&str> = lines().filter(|(name, _)| name.ends_with("API_KEY")).map(|(_, value)| value).collect();
    assert!(keys.len() == 4 && keys.iter().all(|key| key.len() == 32), "{keys:?}");
    // The relay has its own key, which opens no other service.
    assert!(keys[0] != keys[1] && keys[1] != keys[2] && keys[0] != keys[2], "{keys:?}");
    let configure = |setup: Setup| lines().fold(setup, |setup, (name, value)| setup.env(name, value));
    let errors = configure(Setup::error_tracker()).start();
    let logs = configure(Setup::log_viewer()).start();
    let metrics = configure(Setup::metrics_collector()).start();
    let relay =
        configure(Setup::browser_relay(errors.address, metrics.address)).env("RATE_LIMIT", RELAY_RATE_LIMIT).start();
    let start = Instant::now();
    let output = smoke_test(
        &["--secrets", &file.display().to_string()],
        &[
            ("ERRORS_URL", url(errors.address)),
            ("LOGS_URL", url(logs.address)),
            ("METRICS_URL", url(metrics.address)),
            ("RELAY_URL", url(relay.address)),
        ],
    );
    SmokeResult::parse(&output, start.elapsed()).assert_success();
}

#[test]
fn generated_secrets_are_never_in_the_arguments_of_a_process() {
    if !is_installed("strace") {
        return skip("strace is not installed; the arguments of the programs of init-secrets.sh are not tested");
    }
    let folder = TempDir::new();
    for name in ["init-secrets.sh", "secrets.env.example"] {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name);
        std::fs::copy(from, folder.path().join(name)).unwrap();
    }
    let trace = folder.path().join("trace");
    let strace =
        ["-f", "-qq", "-s", "100000", "-e", "trace=execve", "-o", &trace.display().to_string()].map(str::to_owned);
    let status = Command::new("strace").args(strace).arg(folder.path().join("init-secrets.sh")).status().unwrap();
    assert!(status.success());
    let secrets = std::fs::read_to_string(folder.path().join("secrets.env")).unwrap();
    let keys: Vec<String> = secrets
        .lines()
        .filter_map(|line| line.split_once('='))
        .filter(|(name, _)| name.ends_with("API_KEY"))
        .map(|(_, key)| key.to_owned())
        .collect();
    assert_eq!(keys.len(), 4);
    // Every program that the script starts, with all its arguments and its environment.
    let programs = std::fs::read_to_string(&trace).unwrap();
    assert!(programs.contains("\"od\""), "{programs}");
    assert!(!keys.iter().any(|key| programs.contains(key.as_str())), "{programs}");
}

#[test]
fn invalid_arguments_are_reported() {
    for (arguments, code, message) in [
        (&["--help"][..], 0, "CURL_CA_BUNDLE"),
        (&[], 2, "API_KEY is required"),
        (&["--secrets"], 2, "--secrets needs a file"),
        (&["--secrets", "/nowhere/secrets.env"], 2, "cannot read /nowhere/secrets.env"),
        (&["--fast"], 2, "unknown argument --fast"),
    ] {
        let output = smoke_test(arguments, &[]);
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        assert!(text.contains(message), "{arguments:?}: {text}");
    }
}
