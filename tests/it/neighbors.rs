//! Ten projects on one installation: nine honest ones, and one whose public key an attacker uses for every attack at once.
//! The honest projects must lose nothing, and their writes must stay fast.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::figures::{Figures, round_to};
use crate::support::harness::{Client, Request, Response, SERVICES, TempDir, root_or_skip, wait_until};
use crate::support::receiver::HttpReceiver;
use crate::support::stack::{COLLECTOR, MemoryCgroup, RELAY, Stack, TRACKER};
use crate::support::workers::{Latencies, Workers, quantile_ms};

/// Duration of the attack without `MONLIGHT_NEIGHBORS_S`, in seconds. Before it, the honest projects are alone for half of it.
const DURATION_DEFAULT_S: u64 = 20;
/// Duration from which latencies must meet the limit exactly. In a shorter run, the 99th percentile is one or two requests.
const LATENCY_CHECK_MIN_S: u64 = 300;
const LATENCY_RATIO_MAX: f64 = 3.0;
/// Latency in ms below which the ratio says nothing in a short run.
const LATENCY_MS_MIN: f64 = 50.0;
/// Maximum peak memory of each service.
const PEAK_KIB_MAX: u64 = 24 * 1_024;
const HONEST_PROJECTS: usize = 9;
const HONEST_INTERVAL: Duration = Duration::from_secs(1);
/// Groups that the servers of each honest project report to.
const SERVER_GROUPS: u64 = 5;
const RELEASES: u64 = 3;
/// Maximum time from a critical report to its alert.
const ALERT_TIMEOUT: Duration = Duration::from_secs(20);
/// Time after the attack in which everything that was acknowledged must arrive.
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(60);
/// Interval between two checks of one project, which need six requests and must stay below the rate limit.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);
const OUTAGE: Duration = Duration::from_secs(3);
/// Connections per service that send requests and never read.
const SILENT_READERS: usize = 64;

/// Settings that make the stores small enough to be attacked in a short run. Rates are the defaults.
const SETTINGS: [(usize, &str, &str); 7] = [
    (TRACKER, "MAX_GROUPS", "300"),
    (TRACKER, "ALERT_MAX_PER_HOUR", "200"),
    (TRACKER, "TRUSTED_PROXIES", "127.0.0.1"),
    (TRACKER, "RATE_LIMIT", ""),
    (COLLECTOR, "TRUSTED_PROXIES", "127.0.0.1"),
    (COLLECTOR, "RATE_LIMIT", ""),
    (RELAY, "OUTBOX_MAX_MB", "1"),
];

fn project_name(index: usize) -> String {
    format!("honest{index}")
}

/// Returns the public key of an honest project, or of the attacked one for `HONEST_PROJECTS`.
fn public_key(index: usize) -> String {
    format!("{:032x}", 0xfeed_0000 + index)
}

/// Acknowledged data of one honest project.
#[derive(Default)]
struct Acknowledged {
    server_reports: AtomicU64,
    browser_reports: AtomicU64,
    server_points: AtomicU64,
    browser_points: AtomicU64,
}

/// One honest project: its server and one visitor of its page.
struct HonestProject {
    index: usize,
    name: String,
    acknowledged: Arc<Acknowledged>,
    addresses: [std::net::SocketAddr; 4],
    /// Persistent connections by address and service, so that the test does not measure the cost of connecting.
    clients: BTreeMap<(u8, usize), Client>,
    latencies: Latencies,
}

impl HonestProject {
    /// Sends a request until it is acknowledged, as the SDKs do: with the same idempotency key, and a pause after a failure.
    fn send(&mut self, label: &'static str, network: u8, service: usize, request: &Request) {
        let deadline = Instant::now() + ARRIVAL_TIMEOUT;
        loop {
            let start = Instant::now();
            let response = self.try_send(network, service, request);
            match response {
                Some(response) if response.status < 300 => {
                    return self.latencies.lock().unwrap().entry(label).or_default().push(start.elapsed());
                }
                response => assert!(Instant::now() < deadline, "{} {label}: {response:?}", self.name),
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn try_send(&mut self, network: u8, service: usize, request: &Request) -> Option<Response> {
        let key = (network, service);
        if !self.clients.contains_key(&key) {
            let source = [127, 9, network, u8::try_from(self.index).unwrap() + 1];
            self.clients.insert(key, Client::connect_from(self.addresses[service], source).ok()?);
        }
        let client = self.clients.get_mut(&key)?;
        let response = client.try_write(&request.bytes()).then(|| client.try_read_response()).flatten();
        if response.as_ref().is_none_or(|response| response.header("connection") == Some("close")) {
            self.clients.remove(&key);
        }
        response
    }

    fn step(&mut self, number: u64) {
        let idempotency = |kind: &str| format!("{}-{kind}-{number}", self.name);
        let report = json!({
            "project": self.name, "exception_type": "ServerError", "message": "boom", "release": format!("{}-r{}", self.name, number % RELEASES),
            "traceback": format!("File \"app.py\", line {}, in handle", number % SERVER_GROUPS),
        });
        let server_report = Request::post("/api/errors", &report).header("Idempotency-Key", &idempotency("report"));
        let points = json!([{ "name": format!("{}_orders_total", self.name), "type": "counter", "value": 1, "project": self.name }]);
        let server_points = Request::post("/api/metrics", &points).header("Idempotency-Key", &idempotency("points"));
        let page = |path, body: &Value, kind| {
            Request::from_browser(path, body)
                .header("X-Monlight-Key", &public_key(self.index))
                .header("Idempotency-Key", &idempotency(kind))
        };
        let error = json!({ "type": "PageError", "message": "boom", "stack": "PageError: boom\n    at f (https://shop.example/app.js:1:1)", "context": { "number": number } });
        let browser_report = page("/api/browser/errors", &error, "page-report");
        let views =
            json!({ "metrics": [{ "name": format!("{}_views_total", self.name), "type": "counter", "value": 1 }] });
        let browser_points = page("/api/browser/metrics", &views, "page-points");

        self.send("report of a server", 0, TRACKER, &server_report);
        self.acknowledged.server_reports.fetch_add(1, Ordering::Relaxed);
        self.send("points of a server", 0, COLLECTOR, &server_points);
        self.acknowledged.server_points.fetch_add(1, Ordering::Relaxed);
        self.send("report of a page", 1, RELAY, &browser_report);
        self.acknowledged.browser_reports.fetch_add(1, Ordering::Relaxed);
        self.send("points of a page", 1, RELAY, &browser_points);
        self.acknowledged.browser_points.fetch_add(1, Ordering::Relaxed);
    }

    /// Reads from an address of its own, which has a rate of its own.
    fn read(&self, service: usize, path: &str) -> Value {
        let source = [127, 9, 2, u8::try_from(self.index).unwrap() + 1];
        Client::connect_from(self.addresses[service], source).unwrap().send(&Request::get(path)).expect(200).json()
    }

    /// Returns what is missing in the services; `None` if everything acknowledged is there once.
    fn missing(&self) -> Option<String> {
        let get = |service, path: &str| self.read(service, path);
        let reports = |source: &str| -> u64 {
            let listed =
                get(TRACKER, &format!("/api/errors?project={}&source={source}&limit=200&resolved=all", self.name));
            listed["errors"].as_array().unwrap().iter().map(|group| group["count"].as_u64().unwrap()).sum()
        };
        let points = |name: &str| -> u64 {
            let path = format!(
                "/api/metrics?name={}_{name}_total&period=1h&resolution=minute&project={}",
                self.name, self.name
            );
            let sum = |bucket: &Value| bucket["sum"].as_f64().unwrap();
            get(COLLECTOR, &path)["data"].as_array().unwrap().iter().map(sum).sum::<f64>() as u64
        };
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Acknowledged { server_reports, browser_reports, server_points, browser_points } = &*self.acknowledged;
        let found = [
            ("reports of servers", count(server_reports) + 1, reports("server")),
            ("reports of pages", count(browser_reports), reports("browser")),
            ("points of servers", count(server_points), points("orders")),
            ("points of pages", count(browser_points), points("views")),
        ];
        let different = found.iter().find(|(_, acknowledged, stored)| acknowledged != stored);
        different.map(|(kind, acknowledged, stored)| {
            format!("{}: {acknowledged} {kind} were acknowledged, {stored} are stored", self.name)
        })
    }

    /// Asserts that the groups, the releases and the order of the reports of pages are right.
    fn assert_complete(&self) {
        let get = |path: &str| self.read(TRACKER, path);
        let groups = get(&format!("/api/errors?project={}&limit=200&resolved=all", self.name));
        assert_eq!(groups["total"], SERVER_GROUPS + 2, "{}: {groups}", self.name);
        let variants = get(&format!("/api/variants?project={}", self.name)).to_string();
        for release in 0..RELEASES {
            let release = format!("\"{}-r{release}\"", self.name);
            assert!(variants.contains(&release), "release {release} is missing in {variants}");
        }
        let listed = get(&format!("/api/errors?project={}&source=browser", self.name));
        let group = get(&format!("/api/errors/{}", listed["errors"][0]["id"]));
        let numbers: Vec<i64> = group["occurrences"]
            .as_array()
            .unwrap()
            .iter()
            .map(|occurrence| occurrence["extra"]["context"]["number"].as_i64().unwrap())
            .collect();
        assert!(numbers.is_sorted_by(|newer, older| newer > older), "{}: order of reports {numbers:?}", self.name);
    }
}

/// One kind of attack: its name, requests per second, and the request with a number.
type AttackKind = (&'static str, f64, fn(u64) -> Request);

fn attack_page(path: &str, body: &Value) -> Request {
    Request::from_browser(path, body).header("X-Monlight-Key", &public_key(HONEST_PROJECTS))
}

fn attack_points(points: Vec<Value>) -> Value {
    json!({ "metrics": points })
}

/// The attacks with the public key of one page. Together they stay below the rate limit of a key, 3,000 requests a minute.
const ATTACKS: [AttackKind; 8] = [
    ("bodies that grow when they are forwarded", 5.0, |_| {
        let points = vec![json!({ "name": "a", "type": "gauge", "value": 1 }); 1_000];
        let (url, session) = (format!("https://x/{}", "\u{1f600}".repeat(199)), "\u{1f600}".repeat(200));
        attack_page("/api/browser/metrics", &json!({ "metrics": points, "url": url, "session_id": session }))
    }),
    ("new metric names", 2.0, |number| {
        let point = |n: u64| json!({ "name": format!("junk{number}_{n}"), "type": "counter", "value": 1 });
        attack_page("/api/browser/metrics", &attack_points((0..800).map(point).collect()))
    }),
    ("new pages", 2.0, |number| {
        let point = |n: u64| json!({ "name": "web_vitals_lcp", "type": "histogram", "value": 1, "labels": { "page": format!("/{number}/{n}") } });
        attack_page("/api/browser/metrics", &attack_points((0..500).map(point).collect()))
    }),
    ("new error types", 20.0, |number| {
        let stack = format!("Fake{number}: x\n    at f (https://evil.example/{number}.js:1:1)");
        attack_page(
            "/api/browser/errors",
            &json!({ "type": format!("Fake{number}"), "message": "x", "stack": stack, "context": { "level": "critical" } }),
        )
    }),
    ("new environments and releases", 10.0, |number| {
        let name = format!("{number}{}", "\u{1f600}".repeat(190));
        attack_page(
            "/api/browser/errors",
            &json!({ "type": "E", "message": "x", "environment": name, "release": name }),
        )
    }),
    ("forged host metrics", 2.0, |_| {
        let point = |name: &str| json!({ "name": name, "type": "gauge", "value": 1e15 });
        attack_page("/api/browser/metrics", &attack_points(["host_cpu_percent", "release_info"].map(point).into()))
    }),
    ("long stacks", 2.0, |_| {
        attack_page(
            "/api/browser/errors",
            &json!({ "type": "E", "message": "x", "stack": "\n".repeat(32_000), "release": "1" }),
        )
    }),
    ("large reports", 5.0, |number| {
        attack_page(
            "/api/browser/errors",
            &json!({ "type": "Large", "message": format!("{number}"), "stack": "x".repeat(60_000) }),
        )
    }),
];

/// Starts one worker per kind of attack, each with addresses of its own, and the readers that never read.
fn start_attacks(workers: &mut Workers, addresses: [std::net::SocketAddr; 4]) {
    for (kind, (_, per_second, request)) in ATTACKS.iter().enumerate() {
        let interval = Duration::from_secs_f64(1.0 / per_second);
        workers.spawn_repeating(interval, move |number| {
            let source = [127, 7, u8::try_from(kind).unwrap(), u8::try_from(number % 20).unwrap() + 1];
            // Every answer is fine, and so is none.
            if let Ok(mut client) = Client::connect_from(addresses[RELAY], source)
                && client.try_write(&request(number).bytes())
            {
                client.try_read_response();
            }
        });
    }
    let pipelined = Request::get("/openapi.json").without_header("X-API-Key").bytes().repeat(50);
    for (service, address) in addresses.into_iter().enumerate() {
        let (pipelined, mut open) = (pipelined.clone(), Vec::new());
        workers.spawn_repeating(Duration::from_millis(250), move |number| {
            let source = [127, 7, 100 + u8::try_from(service).unwrap(), u8::try_from(number % 250).unwrap() + 1];
            if let Ok(mut client) = Client::connect_from(address, source) {
                client.socket().set_nonblocking(true).unwrap();
                client.try_write(&pipelined);
                open.push(client);
            }
            if open.len() > SILENT_READERS {
                open.remove(0);
            }
        });
    }
}

/// Starts a worker that requests `/health` of every service. Returns the answers that were not `ok`.
fn watch_health(workers: &mut Workers, addresses: [std::net::SocketAddr; 4]) -> Arc<Mutex<Vec<String>>> {
    let problems = Arc::new(Mutex::new(Vec::new()));
    let found = Arc::clone(&problems);
    workers.spawn_repeating(Duration::from_secs(1), move |_| {
        for (address, service) in addresses.into_iter().zip(SERVICES) {
            // A service that this test has stopped does not answer.
            let Ok(mut client) = Client::connect_from(address, [127, 9, 9, 1]) else { continue };
            if !client.try_write(&Request::get("/health").bytes()) {
                continue;
            }
            if let Some(response) = client.try_read_response()
                && response.json()["status"] != "ok"
            {
                found.lock().unwrap().push(format!("{service}: {}", response.text()));
            }
        }
    });
    problems
}

/// Runs the honest projects for a while; returns the latencies of their writes.
fn run_honest_projects(
    projects: &mut [HonestProject],
    latencies: &Latencies,
    first_number: u64,
    duration: Duration,
    meanwhile: impl FnOnce(),
) -> BTreeMap<&'static str, Vec<Duration>> {
    let finished = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for project in projects.iter_mut() {
            scope.spawn(|| {
                for number in first_number.. {
                    if finished.load(Ordering::Relaxed) {
                        return;
                    }
                    project.step(number);
                    std::thread::sleep(HONEST_INTERVAL);
                }
            });
        }
        let start = Instant::now();
        meanwhile();
        std::thread::sleep(duration.saturating_sub(start.elapsed()));
        finished.store(true, Ordering::Relaxed);
    });
    std::mem::take(&mut *latencies.lock().unwrap())
}

/// Reports a critical error of each honest project and asserts that its alert arrives in time.
fn assert_critical_alerts(projects: &[(String, std::net::SocketAddr)], alerts: &HttpReceiver) {
    let reported: Vec<(String, Instant)> = projects
        .iter()
        .map(|(name, tracker)| {
            let kind = format!("Critical_{name}");
            let report = json!({
                "project": name, "exception_type": kind, "message": "payment lost", "traceback": "", "level": "critical",
            });
            Client::connect(*tracker).send(&Request::post("/api/errors", &report)).expect(201);
            (kind, Instant::now())
        })
        .collect();
    for (kind, at) in reported {
        let arrived = wait_until(|| {
            let received = alerts.requests();
            (received.iter().any(|(_, body)| body.contains(&kind)) || at.elapsed() > ALERT_TIMEOUT).then_some(())
        });
        assert!(arrived.is_some() && at.elapsed() <= ALERT_TIMEOUT, "no alert about {kind} after {:?}", at.elapsed());
    }
}

#[test]
fn honest_projects_lose_nothing_beside_an_attacker() {
    let duration_s = std::env::var("MONLIGHT_NEIGHBORS_S").ok().and_then(|text| text.parse().ok());
    let duration_s: u64 = duration_s.unwrap_or(DURATION_DEFAULT_S);
    let cgroups = if root_or_skip("memory cgroups") { MemoryCgroup::for_all_services() } else { None };
    let alerts = HttpReceiver::start(&[]);
    let webhook = alerts.url();
    let keys: Vec<String> = (0..HONEST_PROJECTS)
        .map(|index| format!("{}:{}", project_name(index), public_key(index)))
        .chain([format!("attacked:{}", public_key(HONEST_PROJECTS))])
        .collect();
    let keys = keys.join(",");
    let data_dir = Arc::new(TempDir::new());
    let stack = Stack::start(
        &data_dir,
        cgroups,
        Box::new(move |service, setup| {
            let setup = match service {
                TRACKER => setup.env("ALERT_WEBHOOK_URL", &webhook),
                RELAY => setup.env("DSN_KEYS", &keys).env("RATE_LIMIT", "").env("KEY_RATE_LIMIT", ""),
                _ => setup,
            };
            SETTINGS
                .iter()
                .filter(|(of, _, _)| *of == service)
                .fold(setup, |setup, (_, name, value)| setup.env(name, value))
        }),
    );
    let latencies = Latencies::default();
    let mut projects: Vec<HonestProject> = (0..HONEST_PROJECTS)
        .map(|index| HonestProject {
            index,
            name: project_name(index),
            acknowledged: Arc::default(),
            addresses: stack.addresses,
            clients: BTreeMap::new(),
            latencies: Arc::clone(&latencies),
        })
        .collect();

    let alone = run_honest_projects(&mut projects, &latencies, 0, Duration::from_secs(duration_s / 2), || {});
    let mut attackers = Workers::default();
    start_attacks(&mut attackers, stack.addresses);
    let degraded = watch_health(&mut attackers, stack.addresses);
    let names: Vec<_> = projects.iter().map(|project| (project.name.clone(), stack.addresses[TRACKER])).collect();
    let attacked = run_honest_projects(&mut projects, &latencies, 1_000_000, Duration::from_secs(duration_s), || {
        std::thread::sleep(Duration::from_secs(duration_s / 4));
        assert_critical_alerts(&names, &alerts);
        stack.kill(TRACKER);
        std::thread::sleep(OUTAGE);
        stack.start_service(TRACKER);
        stack.wait_until_healthy();
    });
    attackers.stop();
    assert_eq!(*degraded.lock().unwrap(), Vec::<String>::new(), "public keys changed the status of a service");

    let deadline = Instant::now() + ARRIVAL_TIMEOUT;
    for project in &projects {
        while let Some(missing) = project.missing() {
            assert!(Instant::now() < deadline, "{missing}");
            std::thread::sleep(CHECK_INTERVAL);
        }
        project.assert_complete();
    }
    assert_eq!(stack.oom_kills(), 0, "services killed for their memory");
    report_figures(&stack, duration_s, alone, attacked);
}

/// Prints and checks the latencies and the peak memory.
fn report_figures(
    stack: &Stack,
    duration_s: u64,
    mut alone: BTreeMap<&'static str, Vec<Duration>>,
    mut attacked: BTreeMap<&'static str, Vec<Duration>>,
) {
    let command = "make prove ONLY=neighbors";
    let mut figures = Figures::new("neighbors", "Nine projects beside an attacker", command, 70);
    let (mut rows, mut slow) = (Vec::new(), Vec::new());
    for (label, attacked) in &mut attacked {
        let (alone_ms, attacked_ms) = (quantile_ms(alone.get_mut(label).unwrap(), 0.99), quantile_ms(attacked, 0.99));
        let floor_ms = if duration_s >= LATENCY_CHECK_MIN_S { 0.0 } else { LATENCY_MS_MIN };
        if attacked_ms > LATENCY_RATIO_MAX * alone_ms.max(floor_ms) {
            slow.push(format!("{label}: p99 {alone_ms:.1} ms alone, {attacked_ms:.1} ms beside the attacker"));
        }
        let columns = [json!(label), json!(attacked.len()), round_to(alone_ms, 1), round_to(attacked_ms, 1)];
        rows.push(columns.into_iter().chain([round_to(attacked_ms / alone_ms, 2)]).collect());
    }
    figures.add_table(
        "latency of honest writes",
        &["write", "requests", "p99 ms alone", "p99 ms attacked", "ratio"],
        &rows,
    );
    let (mut rows, mut large) = (Vec::new(), Vec::new());
    for (service, name) in SERVICES.iter().enumerate() {
        let (_, peak_kib) = stack.service(service).as_ref().unwrap().memory_kib();
        if peak_kib > PEAK_KIB_MAX {
            large.push(format!("{name}: peak {peak_kib} KiB"));
        }
        rows.push(vec![json!(name), round_to(peak_kib as f64 * 1_024.0 / 1e6, 1)]);
    }
    figures.add_table("peak memory", &["service", "MB"], &rows);
    figures.save();
    assert!(large.is_empty() && slow.is_empty(), "{large:#?} {slow:#?}");
}
