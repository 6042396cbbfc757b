//! Soak test: all four services run for a long time with 30 MB of memory each, under the load of applications with the
//! Python clients, a browser with the browser package, container logs, and readers. Memory, descriptors and threads must
//! not grow, writes must stay fast, and no service may log a warning.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::browser::{chromium_or_skip, node};
use crate::support::docker_log::ContainerLog;
use crate::support::figures::{Figures, round_to};
use crate::support::harness::{
    API_KEY, Client, PUBLIC_KEY, Request, SERVICES, Setup, TempDir, report_at, root_or_skip, skip, wait_until,
};
use crate::support::programs::LineProgram;
use crate::support::python;
use crate::support::stack::{COLLECTOR, MemoryCgroup, RELAY, Stack, TRACKER, VIEWER};
use crate::support::workers::{Latencies, Workers, quantile_ms};

/// Duration without `MONLIGHT_SOAK_S`, in seconds.
const DURATION_DEFAULT_S: u64 = 90;
/// Minimum duration in seconds for the check that memory does not grow: in a shorter run, caches are still filling.
const GROWTH_CHECK_MIN_S: u64 = 540;
/// Maximum ratio of the mean memory in the last third of the run to that in the second third.
const GROWTH_MAX: f64 = 1.05;
/// Maximum sum of the peak memory of all services.
const MEMORY_KIB_MAX: u64 = 50_000_000 / 1_024;
/// Maximum ratio of the latency of a write to that of a disk flush, both at the 99th percentile.
const FLUSH_RATIO_MAX: f64 = 10.0;
/// Minimum flush latency that the ratio is computed with, in ms. On a faster disk, the flush does not determine the latency
/// of a write, which `make bench` then measures.
const FLUSH_MS_MIN: f64 = 10.0;
const SAMPLE_INTERVAL: Duration = Duration::from_secs(2);
const WAL_BYTES_MAX: u64 = 16 << 20;
const ENTRIES_MAX: i64 = 20_000;
const GROUPS_MAX: i64 = 1_000;
const CONTAINERS: [&str; 3] = ["shop", "worker", "db"];
const LOG_INTERVAL: Duration = Duration::from_millis(5);
const FLUSH_INTERVAL: Duration = Duration::from_millis(25);
/// Interval between two requests of the reader.
const READ_INTERVAL: Duration = Duration::from_millis(500);
const READ_REQUESTS: [(usize, &str); 9] = [
    (TRACKER, "/api/errors?limit=50"),
    (TRACKER, "/api/errors?search=empty&resolved=all"),
    (VIEWER, "/api/logs?limit=100"),
    (VIEWER, "/api/logs?search=checkout&container=shop"),
    (VIEWER, "/api/logs/stats"),
    (COLLECTOR, "/api/dashboard?period=1h"),
    (COLLECTOR, "/api/metrics?name=order_ms&period=1h"),
    (RELAY, "/api/source-maps"),
    (RELAY, "/metrics"),
];

/// Name of a kind of request, and the function that creates one from a number.
type RequestKind<N> = (&'static str, fn(N) -> Request);

/// Columns of the table of [`Failures::check_resources`].
const RESOURCE_COLUMNS: [&str; 7] = [
    "service",
    "mean RSS MB, second third",
    "mean RSS MB, last third",
    "peak RSS MB",
    "file descriptors",
    "threads",
    "largest WAL MB",
];
/// Columns of the table of [`Failures::check_latencies`].
const LATENCY_COLUMNS: [&str; 5] = ["write", "requests", "median ms", "p99 ms", "p99 ÷ p99 of fdatasync"];

/// Kind of write, with an optional request that then changes or deletes what was written.
struct Write {
    service: usize,
    interval: Duration,
    create: RequestKind<u64>,
    change: Option<RequestKind<i64>>,
}

const WRITES: [Write; 6] = [
    Write {
        service: TRACKER,
        interval: Duration::from_millis(50),
        // Nine of ten reports belong to 50 known groups, the tenth to a new one.
        create: ("POST /api/errors", |n| {
            let line = if n.is_multiple_of(10) { 1_000 + n } else { n % 50 };
            Request::post("/api/errors", &report_at("boom", u32::try_from(line).unwrap()))
        }),
        change: Some(("POST /api/errors/{id}/resolve", |id| {
            Request::post(&format!("/api/errors/{id}/resolve"), &json!({}))
        })),
    },
    Write {
        service: COLLECTOR,
        interval: Duration::from_millis(50),
        create: ("POST /api/metrics", |n| {
            let point = |shop: u64| json!({ "name": "probe_ms", "type": "histogram", "value": n % 500, "labels": { "shop": shop } });
            Request::post("/api/metrics", &json!((0..50).map(point).collect::<Vec<_>>()))
        }),
        change: None,
    },
    Write {
        service: RELAY,
        interval: Duration::from_millis(100),
        create: ("POST /api/browser/errors", |n| {
            let stack = format!("E: e\n    at f (https://shop.example/app.js:{}:1)", n % 50);
            Request::from_browser("/api/browser/errors", &json!({ "type": "E", "message": "e", "stack": stack }))
        }),
        change: None,
    },
    Write {
        service: RELAY,
        interval: Duration::from_millis(100),
        create: ("POST /api/browser/metrics", |n| {
            let point =
                json!({ "name": "web_vitals_lcp", "type": "histogram", "value": n % 5_000, "labels": { "page": "/" } });
            Request::from_browser("/api/browser/metrics", &json!({ "metrics": [point] }))
        }),
        change: None,
    },
    Write {
        service: RELAY,
        interval: Duration::from_millis(500),
        create: ("POST /api/dsn-keys", |_| Request::post("/api/dsn-keys", &json!({ "project": "probe" }))),
        change: Some(("DELETE /api/dsn-keys/{id}", |id| Request::new("DELETE", &format!("/api/dsn-keys/{id}")))),
    },
    Write {
        service: RELAY,
        interval: Duration::from_millis(500),
        create: ("POST /api/source-maps", |n| {
            let map = json!({ "version": 3, "sources": ["a.js"], "names": [], "mappings": "AAAA;".repeat(2_000) });
            let url = format!("https://shop.example/{}.js", n % 20);
            let body = json!({ "project": "shop", "release": "1", "file_url": url, "map_content": map.to_string() });
            Request::post("/api/source-maps", &body)
        }),
        change: Some(("DELETE /api/source-maps/{id}", |id| Request::new("DELETE", &format!("/api/source-maps/{id}")))),
    },
];

/// Starts an application with the Python client of this repository (`repository_client`) or the published one. It sends
/// `rate` reports per second for the project `name`. Returns `None` without Python.
fn start_application(stack: &Stack, name: &str, rate: &str, repository_client: bool) -> Option<LineProgram> {
    let mut command = python::script_command("soaking_app.py")?;
    if repository_client {
        command.env("PYTHONPATH", Path::new(env!("CARGO_MANIFEST_DIR")).join("sdk/python/src"));
        command.env("PYTHONDONTWRITEBYTECODE", "1");
    }
    let url = |service: usize| format!("http://{}", stack.addresses[service]);
    command.args([&url(TRACKER), &url(COLLECTOR), API_KEY, name, rate]);
    let mut application = LineProgram::start(command);
    assert_eq!(application.read_line(), "started\n");
    Some(application)
}

/// Resource usage of a service at one point in time.
#[derive(Debug, Clone, Copy)]
struct Sample {
    rss_kib: u64,
    peak_kib: u64,
    descriptors: usize,
    threads: u64,
    wal_bytes: u64,
}

fn take_sample(stack: &Stack, service: usize) -> Sample {
    const DATABASES: [&str; 4] = ["errors.db-wal", "logs.db-wal", "metrics.db-wal", "browser-relay.db-wal"];
    let folder = format!("/proc/{}", stack.pid(service));
    let status = std::fs::read_to_string(format!("{folder}/status")).expect("the service is running");
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    };
    let wal = stack.data_dir.path().join(DATABASES[service]);
    Sample {
        rss_kib: field("VmRSS:"),
        peak_kib: field("VmHWM:"),
        descriptors: std::fs::read_dir(format!("{folder}/fd")).unwrap().count(),
        threads: field("Threads:"),
        wal_bytes: std::fs::metadata(wal).map_or(0, |wal| wal.len()),
    }
}

/// Returns the samples of one third of the run: 0, 1 or 2.
fn third(samples: &[Sample], index: usize) -> &[Sample] {
    &samples[samples.len() * index / 3..samples.len() * (index + 1) / 3]
}

fn mean_rss_kib(samples: &[Sample]) -> f64 {
    samples.iter().map(|sample| sample.rss_kib as f64).sum::<f64>() / samples.len() as f64
}

/// Starts a worker per kind of write, which records the latency of each request.
fn start_writers(workers: &mut Workers, stack: &Arc<Stack>, latencies: &Latencies) {
    for Write { service, interval, create, change } in &WRITES {
        let (mut client, latencies) = (Client::connect(stack.addresses[*service]), Arc::clone(latencies));
        workers.spawn_repeating(*interval, move |number| {
            let mut send = |name: &'static str, request: &Request| {
                let start = Instant::now();
                let response = client.send(request);
                latencies.lock().unwrap().entry(name).or_default().push(start.elapsed());
                assert!(response.status < 300, "{name}: {} {}", response.status, response.text());
                response
            };
            let response = send(create.0, &create.1(number));
            if let Some((name, request)) = change {
                send(name, &request(response.id()));
            }
        });
    }
}

/// Starts workers that request all pages in turn and read the live tail.
fn start_readers(workers: &mut Workers, stack: &Arc<Stack>) {
    let mut clients: Vec<Client> = stack.addresses.iter().map(|address| Client::connect(*address)).collect();
    workers.spawn_repeating(READ_INTERVAL, move |number| {
        let (service, path) = READ_REQUESTS[number as usize % READ_REQUESTS.len()];
        clients[service].send(&Request::get(path)).expect(200);
    });
    let mut tail = Client::connect(stack.addresses[VIEWER]);
    tail.write(&Request::get("/api/logs/tail").bytes());
    assert_eq!(tail.read_head().map(|head| head.status), Some(200));
    workers.spawn_repeating(Duration::ZERO, move |_| assert!(tail.read_chunk().is_some(), "the live tail ended"));
}

/// Starts a worker that appends lines to the logs of the containers.
fn start_log_writer(workers: &mut Workers, stack: &Stack) {
    let mut logs = CONTAINERS.map(|name| ContainerLog::create(&stack.containers_dir, name));
    workers.spawn_repeating(LOG_INTERVAL, move |number| {
        let level = if number.is_multiple_of(20) { "ERROR" } else { "INFO" };
        logs[number as usize % CONTAINERS.len()]
            .append_line(&format!("{level} checkout of cart {number} took {} ms", number % 300));
    });
}

/// Starts a worker that writes and flushes 4 KB on the disk of the databases and records the latency, with which the writes
/// are compared.
fn start_flusher(workers: &mut Workers, data_dir: &TempDir, latencies: &Latencies) {
    let file = File::create(data_dir.path().join("flushed")).unwrap();
    let (page, latencies) = (vec![7; 4_096], Arc::clone(latencies));
    workers.spawn_repeating(FLUSH_INTERVAL, move |number| {
        file.write_all_at(&page, number % 1_000 * 4_096).unwrap();
        let start = Instant::now();
        file.sync_data().unwrap();
        latencies.lock().unwrap().entry("fdatasync").or_default().push(start.elapsed());
    });
}

/// Samples the resource usage of every service for a duration.
fn collect_samples(stack: &Stack, seconds: u64) -> [Vec<Sample>; 4] {
    let (start, mut samples) = (Instant::now(), <[Vec<Sample>; 4]>::default());
    while start.elapsed().as_secs() < seconds {
        for (service, samples) in samples.iter_mut().enumerate() {
            samples.push(take_sample(stack, service));
        }
        std::thread::sleep(SAMPLE_INTERVAL);
    }
    samples
}

/// Failed checks, reported together at the end of the test.
#[derive(Default)]
struct Failures(Vec<String>);

impl Failures {
    fn check(&mut self, passed: bool, description: String) {
        if !passed {
            self.0.push(description);
        }
    }

    /// Checks the resource usage of each service and returns the rows of its table.
    fn check_resources(&mut self, all: &[Vec<Sample>; 4], seconds: u64) -> Vec<Vec<Value>> {
        let mut rows = Vec::new();
        let (mut second_sum, mut last_sum, mut peak_sum) = (0.0, 0.0, 0);
        for (samples, name) in all.iter().zip(SERVICES) {
            let (second, last) = (third(samples, 1), third(samples, 2));
            let (second_kib, last_kib) = (mean_rss_kib(second), mean_rss_kib(last));
            let peak_kib = samples.last().unwrap().peak_kib;
            let maximum = |samples: &[Sample], field: fn(&Sample) -> u64| samples.iter().map(field).max().unwrap();
            let wal = maximum(samples, |sample| sample.wal_bytes);
            let threads = |samples| maximum(samples, |sample| sample.threads);
            let descriptors = |samples| maximum(samples, |sample| sample.descriptors as u64);
            if seconds >= GROWTH_CHECK_MIN_S {
                let growth =
                    format!("memory of {name} grew from {second_kib:.0} KiB in the second third to {last_kib:.0} KiB");
                self.check(last_kib <= second_kib * GROWTH_MAX, growth);
                let growth =
                    format!("open descriptors of {name} grew from {} to {}", descriptors(second), descriptors(last));
                // The tolerance allows for connections of clients, which open and close.
                self.check(descriptors(last) <= descriptors(second) + 4, growth);
                let growth = format!("threads of {name} grew from {} to {}", threads(second), threads(last));
                self.check(threads(last) <= threads(second), growth);
            }
            self.check(wal <= WAL_BYTES_MAX, format!("the write-ahead log of {name} reached {wal} bytes"));
            let mb = |kib: f64| round_to(kib * 1_024.0 / 1e6, 1);
            let counts = [json!(descriptors(last)), json!(threads(last)), round_to(wal as f64 / 1e6, 1)];
            rows.push(
                [json!(name), mb(second_kib), mb(last_kib), mb(peak_kib as f64)].into_iter().chain(counts).collect(),
            );
            second_sum += second_kib;
            last_sum += last_kib;
            peak_sum += peak_kib;
        }
        self.check(peak_sum < MEMORY_KIB_MAX, format!("the peak memory of all four services is {peak_sum} KiB"));
        let mb = |kib: f64| round_to(kib * 1_024.0 / 1e6, 1);
        rows.push(vec![
            json!("all four"),
            mb(second_sum),
            mb(last_sum),
            mb(peak_sum as f64),
            json!(""),
            json!(""),
            json!(""),
        ]);
        rows
    }

    /// Compares the latencies of writes with those of disk flushes and returns the rows of the table.
    fn check_latencies(&mut self, latencies: &Latencies) -> Vec<Vec<Value>> {
        let mut latencies = latencies.lock().unwrap();
        let flush_ms = quantile_ms(latencies.get_mut("fdatasync").unwrap(), 0.99);
        latencies
            .iter_mut()
            .map(|(name, latencies)| {
                let (p50_ms, p99_ms) = (quantile_ms(latencies, 0.5), quantile_ms(latencies, 0.99));
                let slow = format!(
                    "{name}: p99 is {p99_ms:.1} ms, over {FLUSH_RATIO_MAX} times that of a flush, {flush_ms:.2} ms"
                );
                self.check(p99_ms < FLUSH_RATIO_MAX * flush_ms.max(FLUSH_MS_MIN), slow);
                vec![
                    json!(name),
                    json!(latencies.len()),
                    round_to(p50_ms, 2),
                    round_to(p99_ms, 2),
                    round_to(p99_ms / flush_ms, 1),
                ]
            })
            .collect()
    }

    /// Checks at the end of the run what the services have stored and logged.
    fn check_contents(&mut self, stack: &Stack, applications: &[(&str, Value)]) {
        let number = |(service, path): (usize, &str), name: &str| {
            Client::connect(stack.addresses[service]).send(&Request::get(path)).expect(200).json()[name]
                .as_i64()
                .unwrap()
        };
        let (entries, groups) =
            (number((VIEWER, "/health"), "logs_indexed"), number((TRACKER, "/api/errors?limit=1"), "total"));
        self.check(entries <= ENTRIES_MAX, format!("the viewer has {entries} entries; MAX_ENTRIES is {ENTRIES_MAX}"));
        self.check(groups <= GROUPS_MAX, format!("the tracker has {groups} groups; MAX_GROUPS is {GROUPS_MAX}"));
        for (name, summary) in applications {
            self.check(summary["dropped"] == 0, format!("{name} dropped {}", summary["dropped"]));
            let path = format!("/api/metrics?name=orders_total&period=24h&project={name}");
            let body = Client::connect(stack.addresses[COLLECTOR]).send(&Request::get(&path)).expect(200).json();
            let sum: f64 = body["data"].as_array().unwrap().iter().map(|bucket| bucket["sum"].as_f64().unwrap()).sum();
            self.check(
                json!(sum) == json!(summary["orders"].as_f64()),
                format!("{name} counted {} orders, the collector has {sum}", summary["orders"]),
            );
            let path = format!("/api/errors?project={name}&limit=200");
            let body = Client::connect(stack.addresses[TRACKER]).send(&Request::get(&path)).expect(200).json();
            let sum: i64 =
                body["errors"].as_array().unwrap().iter().map(|group| group["count"].as_i64().unwrap()).sum();
            let description = format!("{name} sent {} reports, the tracker has {sum}", summary["reported"]);
            self.check(summary["reported"] == sum, description);
        }
        for (service, name) in SERVICES.iter().enumerate() {
            let warnings =
                stack.log(service).into_iter().filter(|line| line.contains("[ERROR]") || line.contains("[WARN]"));
            for line in warnings.take(5) {
                self.check(false, format!("{name} logged {line}"));
            }
        }
        let oom_kills = stack.oom_kills();
        self.check(oom_kills == 0, format!("the OOM killer ended {oom_kills} services"));
    }
}

#[test]
fn mixed_load_causes_no_growth_and_no_warnings_in_thirty_megabytes_each() {
    let seconds = std::env::var("MONLIGHT_SOAK_S").map_or(DURATION_DEFAULT_S, |seconds| seconds.parse().unwrap());
    if !root_or_skip("creating memory cgroups for the soak test") {
        return;
    }
    let Some(cgroups) = MemoryCgroup::for_all_services() else {
        return skip("memory cgroups cannot be created; the soak test did not run");
    };
    let (Some(chromium), Some(mut browser)) = (chromium_or_skip(), node("soak.mjs")) else { return };
    let mut browser = LineProgram::start({
        browser.arg(chromium);
        browser
    });
    let origin: String = serde_json::from_str(&browser.read_line()).unwrap();
    let data_dir = Arc::new(TempDir::new());
    let configure = move |service: usize, setup: Setup| match service {
        // The relay forwards the addresses of its clients.
        TRACKER => setup.env("MAX_GROUPS", GROUPS_MAX).env("TRUSTED_PROXIES", "127.0.0.1"),
        VIEWER => setup.env("MAX_ENTRIES", ENTRIES_MAX),
        RELAY => setup.env("CORS_ORIGINS", &origin),
        _ => setup.env("HOST_METRICS", 1).env("TRUSTED_PROXIES", "127.0.0.1"),
    };
    let stack = Arc::new(Stack::start(&data_dir, Some(cgroups), Box::new(configure)));
    let (mut workers, latencies) = (Workers::default(), Latencies::default());
    start_log_writer(&mut workers, &stack);
    let Some(repository) = start_application(&stack, "own", "20", true) else { return };
    let Some(published) = start_application(&stack, "published", "5", false) else { return };
    browser.write_json_line(&json!({ "relay": format!("http://{}", stack.addresses[RELAY]), "key": PUBLIC_KEY }));
    start_writers(&mut workers, &stack, &latencies);
    start_readers(&mut workers, &stack);
    start_flusher(&mut workers, &data_dir, &latencies);
    let samples = collect_samples(&stack, seconds);
    let (repository, published, browser) =
        (repository.stop_and_read_summary(), published.stop_and_read_summary(), browser.stop_and_read_summary());
    workers.stop();
    let has_metric = |name: &str| {
        let path = format!("/api/metrics?name={name}&period=1h");
        let body = Client::connect(stack.addresses[COLLECTOR]).send(&Request::get(&path)).expect(200).json();
        body["data"].as_array().is_some_and(|buckets| !buckets.is_empty()).then_some(())
    };
    wait_until(|| has_metric("browser_http_requests_total")).expect("the collector has the requests of the page");
    wait_until(|| has_metric("web_vitals_fcp")).expect("the collector has the web vitals of the page");

    let mut failures = Failures::default();
    let mut figures = Figures::new("soak", "Soak", "make soak", 52);
    let resources = failures.check_resources(&samples, seconds);
    figures.add_table(
        &format!("resources over {seconds} s, with a memory limit of 30 MB per service"),
        &RESOURCE_COLUMNS,
        &resources,
    );
    let total = resources.last().unwrap();
    figures.add_summary(
        "Memory of all four services in the soak test, each limited to 30 MB",
        format!("{} MB peak, {} MB mean of the last third", total[3], total[2]),
    );
    let rows = failures.check_latencies(&latencies);
    figures.add_table("latency of writes during the soak test", &LATENCY_COLUMNS, &rows);
    failures.check_contents(&stack, &[("own", repository.clone()), ("published", published.clone())]);
    figures.notes.push(format!(
        "Load: the Python client of this repository {repository}, the published Python client {published}, Chromium with the \
         browser package {browser}, {} log lines per second in {} containers, and readers, one of them of the live tail.",
        Duration::from_secs(1).div_duration_f64(LOG_INTERVAL).round(),
        CONTAINERS.len()
    ));
    eprintln!("{}", figures.notes[0]);
    figures.save();
    assert!(failures.0.is_empty(), "{:#?}", failures.0);
}
