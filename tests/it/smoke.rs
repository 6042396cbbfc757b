//! The smoke test: green where all is well, and where something is not, red on the lines that say what.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{API_KEY, PUBLIC_KEY, Service, Setup, TempDir, skip};

/// An origin that the relay lists.
const ORIGIN: &str = "https://shop.example";
/// What somebody waits for who has just started it.
const WITHIN: Duration = Duration::from_secs(60);
/// As deployed: what the last check of the smoke test uses up.
const RELAY_RATE_LIMIT: u32 = 300;
const PROXY_BUFFER_BYTES: usize = 16 * 1_024;

/// The four services, and where they are asked.
struct Stack {
    errors: Service,
    logs: Service,
    metrics: Service,
    relay: Service,
    env: Vec<(&'static str, String)>,
}

impl Stack {
    fn start() -> Self {
        Self::with(|relay| relay)
    }

    /// With a relay that is set up differently.
    fn with(change: impl FnOnce(Setup) -> Setup) -> Self {
        let errors = Setup::error_tracker().start();
        let logs = Setup::log_viewer().start();
        let metrics = Setup::metrics_collector().start();
        let relay = Setup::browser_relay(errors.address, metrics.address)
            .env("CORS_ORIGINS", ORIGIN)
            .env("RATE_LIMIT", RELAY_RATE_LIMIT);
        let relay = change(relay).start();
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

    fn smoke(&self) -> Smoke {
        let begun = Instant::now();
        let output = smoke_test(&[], &self.env);
        Smoke::of(&output, begun.elapsed())
    }
}

/// Runs the smoke test with these arguments and this environment.
pub fn smoke_test(arguments: &[&str], env: &[(&str, String)]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/smoke-test.sh");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let env = env.iter().map(|(name, value)| (*name, value));
    Command::new(script).args(arguments).env_clear().env("PATH", path).envs(env).output().unwrap()
}

fn url(address: SocketAddr) -> String {
    format!("http://{address}")
}

/// What the smoke test has said.
pub struct Smoke {
    text: String,
    passed: usize,
    /// The names of the checks that failed.
    failed: Vec<String>,
    code: Option<i32>,
    pub took: Duration,
}

impl Smoke {
    #[track_caller]
    pub fn of(output: &Output, took: Duration) -> Self {
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        let failed: Vec<String> = text
            .lines()
            .filter_map(|line| line.strip_prefix("FAIL  ")?.split_once(": expected "))
            .map(|(name, _)| name.to_owned())
            .collect();
        let passed = text.lines().filter(|line| line.starts_with("ok    ")).count();
        let last = format!("{passed} passed, {} failed", failed.len());
        assert_eq!(text.lines().last(), Some(last.as_str()), "{text}");
        Self { text, passed, failed, code: output.status.code(), took }
    }

    #[track_caller]
    pub fn is_green(&self) {
        assert!(self.passed > 50, "{}", self.text);
        assert_eq!((self.code, self.failed.len()), (Some(0), 0), "{}", self.text);
        assert!(self.took < WITHIN, "{:?}", self.took);
    }

    /// That these checks failed and no others.
    #[track_caller]
    fn names(&self, failed: &[&str]) {
        assert_eq!(self.failed, failed, "{}", self.text);
        assert_eq!(self.code, Some(1), "{}", self.text);
    }
}

pub fn curl_or_skip() -> bool {
    let there = Command::new("curl").arg("--version").output().is_ok_and(|output| output.status.success());
    if !there {
        skip("curl is not there");
    }
    there
}

/// Changes the head of a message that goes through.
type Change = fn(&str) -> String;

/// A faulty proxy in front of a service: it changes heads on their way in and on their way out. Its threads end with this
/// process.
fn proxy(to: SocketAddr, question: Change, answer: Change) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || pass_on(client, to, question, answer));
        }
    });
    address
}

/// One request and its answer; who hangs up ends it.
///
/// Each connection carries one question, so that what comes after its head needs no reading.
fn pass_on(mut client: TcpStream, to: SocketAddr, question: Change, answer: Change) -> std::io::Result<()> {
    let mut service = TcpStream::connect(to)?;
    let head = question(&head_of(&mut client)?).replacen("\r\n", "\r\nConnection: close\r\n", 1);
    service.write_all(head.as_bytes())?;
    let (mut body, mut into) = (client.try_clone()?, service.try_clone()?);
    std::thread::spawn(move || copy(&mut body, &mut into));
    loop {
        let head = head_of(&mut service)?;
        client.write_all(answer(&head).as_bytes())?;
        // 100 Continue comes before the answer.
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

fn head_of(from: &mut TcpStream) -> std::io::Result<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        from.read_exact(&mut byte)?;
        head.extend(byte);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

fn as_it_is(head: &str) -> String {
    head.to_owned()
}

/// Without the lines that begin so.
fn without(head: &str, name: &str) -> String {
    let prefix = name.to_ascii_lowercase();
    head.split_inclusive("\r\n").filter(|line| !line.to_ascii_lowercase().starts_with(&prefix)).collect()
}

fn with(head: &str, line: &str) -> String {
    head.replacen("\r\n", &format!("\r\n{line}\r\n"), 1)
}

#[test]
fn it_is_green_where_all_is_well_also_again_at_once() {
    if !curl_or_skip() {
        return;
    }
    let stack = Stack::start();
    stack.smoke().is_green();
    let again = stack.smoke();
    again.is_green();
    eprintln!("the smoke test took {:.1?}", again.took);
    // What it made is out of use, gone or resolved.
    let keys = stack.relay.get("/api/dsn-keys").expect(200).json();
    let used = |key: &&serde_json::Value| key["active"] == true && key["public_key"] != PUBLIC_KEY;
    assert_eq!(keys["keys"].as_array().unwrap().iter().filter(used).count(), 0, "{keys}");
    stack.relay.get("/api/source-maps").expect(200).has(json!({ "total": 0 }));
    stack.errors.get("/api/errors").expect(200).has(json!({ "total": 0 }));
    stack.errors.get("/api/errors?resolved=true").expect(200).has(json!({ "total": 4 }));
    // Whoever looks through the list of processes learns no key.
    assert!(!include_str!("../../deploy/smoke-test.sh").contains("X-API-Key: $"));
}

#[test]
fn a_service_that_is_down_fails_on_its_own_lines() {
    if !curl_or_skip() {
        return;
    }
    let mut stack = Stack::start();
    stack.smoke().is_green();
    // One that it is not told of is there in its place.
    let killed = std::mem::replace(&mut stack.logs, Setup::log_viewer().start());
    killed.kill();
    stack.smoke().names(&[
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
fn a_wrong_key_fails_where_it_is_used() {
    if !curl_or_skip() {
        return;
    }
    Stack::start().env("METRICS_KEY", "another".to_owned()).smoke().names(&[
        "metrics: a batch is accepted",
        "metrics: the batch is visible immediately",
        "metrics: the metric name is listed",
        "metrics: the dashboard counts the batch",
        "metrics: the browser metrics are visible",
    ]);
}

#[test]
fn settings_of_the_relay_that_do_not_fit_fail_where_they_matter() {
    if !curl_or_skip() {
        return;
    }
    Stack::with(|relay| relay.env("CORS_ORIGINS", "")).smoke().names(&[
        "relay: the response allows the page's origin",
        "relay: preflight from https://shop.example is allowed",
        "relay: preflight allows credentials",
        "relay: preflight allows X-Monlight-Key",
        "relay: a report from another origin is rejected",
    ]);
    Stack::with(|relay| relay.env("RATE_LIMIT", 0))
        .smoke()
        .names(&["relay: over 300 requests per minute are rejected with Retry-After"]);
    Stack::with(|relay| relay.env("MAX_SOURCE_MAP_SIZE", 1_000_000)).smoke().names(&[
        "relay: a 2 MB source map is uploaded",
        "relay: the source map is listed",
        "errors: the browser stack trace is symbolicated",
        "relay: the source map is deleted",
    ]);
}

#[test]
fn a_relay_without_the_services_behind_it_fails_where_their_answers_would_be() {
    if !curl_or_skip() {
        return;
    }
    let missing = [
        "relay: a browser error reaches the error tracker",
        "errors: the browser error is listed",
        "errors: the browser stack trace is symbolicated",
        "errors: the browser error is resolved",
    ];
    Stack::with(|relay| relay.env("ERROR_TRACKER_URL", "http://127.0.0.1:9")).smoke().names(&missing);
    Stack::with(|relay| relay.env("ERROR_TRACKER_API_KEY", "another")).smoke().names(&missing);
    let other = Setup::metrics_collector().start();
    let metrics = url(other.address);
    Stack::with(|relay| relay.env("METRICS_COLLECTOR_URL", metrics))
        .smoke()
        .names(&["metrics: the browser metrics are visible"]);
}

#[test]
fn a_proxy_that_changes_what_goes_through_fails_where_it_does() {
    if !curl_or_skip() {
        return;
    }
    let stack = Stack::start();
    let through = |stack: Stack, name, to, question: Change, answer: Change, failed: &[&str]| {
        let direct = stack.env.iter().find(|(set, _)| *set == name).unwrap().1.clone();
        let stack = stack.env(name, url(proxy(to, question, answer)));
        stack.smoke().names(failed);
        stack.env(name, direct)
    };
    let [errors, metrics, relay] = [&stack.errors, &stack.metrics, &stack.relay].map(|service| service.address);
    let stack = through(
        stack,
        "METRICS_URL",
        metrics,
        as_it_is,
        |head| without(head, "Content-Security-Policy"),
        &["metrics: / has a Content-Security-Policy"],
    );
    let stack = through(
        stack,
        "RELAY_URL",
        relay,
        as_it_is,
        |head| without(head, "Retry-After"),
        &["relay: over 300 requests per minute are rejected with Retry-After"],
    );
    let everybody = |head: &str| {
        let head = without(&without(head, "Access-Control-Allow-Origin"), "Access-Control-Allow-Credentials");
        with(&with(&head, "Access-Control-Allow-Origin: *"), "Access-Control-Allow-Credentials: true")
    };
    let stack = through(
        stack,
        "RELAY_URL",
        relay,
        as_it_is,
        everybody,
        &[
            "relay: the response allows the page's origin",
            "relay: preflight from https://shop.example is allowed",
            "relay: preflight from another origin is denied",
            "relay: preflight from another origin denies credentials",
        ],
    );
    let known = |head: &str| with(&without(head, "X-Monlight-Key"), &format!("X-Monlight-Key: {PUBLIC_KEY}"));
    let stack = through(
        stack,
        "RELAY_URL",
        relay,
        known,
        as_it_is,
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
    let let_in = |head: &str| with(&without(head, "X-API-Key"), &format!("X-API-Key: {API_KEY}"));
    through(
        stack,
        "ERRORS_URL",
        errors,
        let_in,
        as_it_is,
        &["errors: a request without a key is rejected", "errors: a request with a wrong key is rejected"],
    );
}

#[test]
fn secrets_that_were_made_are_enough_for_all_of_it() {
    if !curl_or_skip() {
        return;
    }
    let folder = TempDir::new();
    for name in ["init-secrets.sh", "secrets.env.example"] {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name);
        std::fs::copy(from, folder.path().join(name)).unwrap();
    }
    let make = || Command::new(folder.path().join("init-secrets.sh")).output().unwrap();
    assert!(make().status.success());
    let file = folder.path().join("secrets.env");
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    // One that is there stays as it is, whoever asks again.
    let again = make();
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains("already exists"));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 3, "{left:?}");

    let lines = || text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
    let keys: Vec<&str> = lines().filter(|(name, _)| name.ends_with("API_KEY")).map(|(_, value)| value).collect();
    assert!(keys.len() == 4 && keys.iter().all(|key| key.len() == 32), "{keys:?}");
    // The relay can report with its own, and nothing else.
    assert!(keys[0] != keys[1] && keys[1] != keys[2] && keys[0] != keys[2], "{keys:?}");
    let told = |setup: Setup| lines().fold(setup, |setup, (name, value)| setup.env(name, value));
    let errors = told(Setup::error_tracker()).start();
    let logs = told(Setup::log_viewer()).start();
    let metrics = told(Setup::metrics_collector()).start();
    let relay = told(Setup::browser_relay(errors.address, metrics.address)).env("RATE_LIMIT", RELAY_RATE_LIMIT).start();
    let begun = Instant::now();
    let output = smoke_test(
        &["--secrets", &file.display().to_string()],
        &[
            ("ERRORS_URL", url(errors.address)),
            ("LOGS_URL", url(logs.address)),
            ("METRICS_URL", url(metrics.address)),
            ("RELAY_URL", url(relay.address)),
        ],
    );
    Smoke::of(&output, begun.elapsed()).is_green();
}

#[test]
fn it_says_what_it_cannot_be_told() {
    for (arguments, code, says) in [
        (&["--help"][..], 0, "CURL_CA_BUNDLE"),
        (&[], 2, "API_KEY is required"),
        (&["--secrets"], 2, "--secrets needs a file"),
        (&["--secrets", "/nowhere/secrets.env"], 2, "cannot read /nowhere/secrets.env"),
        (&["--fast"], 2, "unknown argument --fast"),
    ] {
        let output = smoke_test(arguments, &[]);
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        assert!(text.contains(says), "{arguments:?}: {text}");
    }
}
