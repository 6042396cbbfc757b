//! All four services at work for long, in 30 MB each: applications with the Python clients, a browser on a page with the
//! browser package, containers that log, people who look. Nothing grows, nothing complains, and writing stays quick.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::browser::{chromium, node};
use crate::docker_log::ContainerLog;
use crate::figures::{Figures, round_to};
use crate::harness::{API_KEY, Client, PUBLIC_KEY, Request, Setup, TempDir, report_at, root_or_skip, skip, wait_until};
use crate::python;
use crate::stack::{COLLECTOR, MemoryCgroup, RELAY, SERVICES, Stack, TRACKER, VIEWER};

/// How long without `MONLIGHT_SOAK_S`, in seconds.
const SECONDS_DEFAULT: u64 = 30;
/// From how many seconds on memory has to be flat: before that caches are still filled.
const FLAT_FROM_SECONDS: u64 = 540;
/// How much more memory the last third may have than the one before it.
const GROWTH_MAX: f64 = 1.05;
/// Of the four programs together, at their peaks.
const MEMORY_KIB_MAX: u64 = 50_000_000 / 1_024;
/// How many of the disk's own flushes a write may take, at the 99th percentile. A disk whose flushes are quicker than this
/// is not what a write waits for, and how long it may take is then the bench's to say.
const FLUSHES_MAX: f64 = 10.0;
const FLUSH_MS_MIN: f64 = 10.0;
const SAMPLE_EVERY: Duration = Duration::from_secs(2);
const WAL_BYTES_MAX: u64 = 16 << 20;
const ENTRIES_MAX: i64 = 20_000;
const GROUPS_MAX: i64 = 1_000;
const CONTAINERS: [&str; 3] = ["shop", "worker", "db"];
const LOG_PACE: Duration = Duration::from_millis(5);
const FLUSH_PACE: Duration = Duration::from_millis(25);
/// Between two rounds of those who look.
const LOOK_PACE: Duration = Duration::from_millis(500);
const LOOKS: [(usize, &str); 9] = [
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

/// A request that is made of a number, and what it is called.
type Named<N> = (&'static str, fn(N) -> Request);

/// A way to write, and one that takes back or changes what was just written.
struct Write {
    service: usize,
    every: Duration,
    first: Named<u64>,
    then: Option<Named<i64>>,
}

const WRITES: [Write; 6] = [
    Write {
        service: TRACKER,
        every: Duration::from_millis(50),
        // Mostly known groups, and some that are new.
        first: ("POST /api/errors", |n| {
            let line = if n.is_multiple_of(10) { 1_000 + n } else { n % 50 };
            Request::post("/api/errors", &report_at("boom", u32::try_from(line).unwrap()))
        }),
        then: Some(("POST /api/errors/{id}/resolve", |id| {
            Request::post(&format!("/api/errors/{id}/resolve"), &json!({}))
        })),
    },
    Write {
        service: COLLECTOR,
        every: Duration::from_millis(50),
        first: ("POST /api/metrics", |n| {
            let point = |at: u64| json!({ "name": "probe_ms", "type": "histogram", "value": n % 500, "labels": { "shop": at } });
            Request::post("/api/metrics", &json!((0..50).map(point).collect::<Vec<_>>()))
        }),
        then: None,
    },
    Write {
        service: RELAY,
        every: Duration::from_millis(100),
        first: ("POST /api/browser/errors", |n| {
            let stack = format!("E: e\n    at f (https://shop.example/app.js:{}:1)", n % 50);
            Request::from_browser("/api/browser/errors", &json!({ "type": "E", "message": "e", "stack": stack }))
        }),
        then: None,
    },
    Write {
        service: RELAY,
        every: Duration::from_millis(100),
        first: ("POST /api/browser/metrics", |n| {
            let point =
                json!({ "name": "web_vitals_lcp", "type": "histogram", "value": n % 5_000, "labels": { "page": "/" } });
            Request::from_browser("/api/browser/metrics", &json!({ "metrics": [point] }))
        }),
        then: None,
    },
    Write {
        service: RELAY,
        every: Duration::from_millis(500),
        first: ("POST /api/dsn-keys", |_| Request::post("/api/dsn-keys", &json!({ "project": "probe" }))),
        then: Some(("DELETE /api/dsn-keys/{id}", |id| Request::new("DELETE", &format!("/api/dsn-keys/{id}")))),
    },
    Write {
        service: RELAY,
        every: Duration::from_millis(500),
        first: ("POST /api/source-maps", |n| {
            let map = json!({ "version": 3, "sources": ["a.js"], "names": [], "mappings": "AAAA;".repeat(2_000) });
            let url = format!("https://shop.example/{}.js", n % 20);
            let body = json!({ "project": "shop", "release": "1", "file_url": url, "map_content": map.to_string() });
            Request::post("/api/source-maps", &body)
        }),
        then: Some(("DELETE /api/source-maps/{id}", |id| Request::new("DELETE", &format!("/api/source-maps/{id}")))),
    },
];

/// How long each of something took.
type Took = Arc<Mutex<BTreeMap<&'static str, Vec<Duration>>>>;

/// Threads that go on until they are told to stop.
#[derive(Default)]
struct Crew {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Crew {
    /// Takes a step again and again, at this pace; it gets a running number.
    fn repeat(&mut self, every: Duration, mut step: impl FnMut(u64) + Send + 'static) {
        let stop = Arc::clone(&self.stop);
        self.threads.push(std::thread::spawn(move || {
            for number in 0.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                step(number);
                std::thread::sleep(every);
            }
        }));
    }

    #[track_caller]
    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("whoever writes and looks is answered");
        }
    }
}

/// A program that uses the services until its input is closed. It ends with this value.
struct User {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl User {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdout }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line
    }

    fn tell(&mut self, what: &Value) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{what}").unwrap();
    }

    /// Ends it; answers what it did.
    #[track_caller]
    fn last_words(mut self) -> Value {
        drop(self.child.stdin.take());
        let line = self.line();
        serde_json::from_str(&line).unwrap_or_else(|why| panic!("{why}: {line:?}"))
    }
}

impl Drop for User {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// An application with one of the Python clients.
fn application(stack: &Stack, name: &str, rate: &str, own: bool) -> Option<User> {
    let mut command = python::script_command("soaking_app.py")?;
    if own {
        command.env("PYTHONPATH", Path::new(env!("CARGO_MANIFEST_DIR")).join("sdk/python/src"));
        command.env("PYTHONDONTWRITEBYTECODE", "1");
    }
    let url = |service: usize| format!("http://{}", stack.addresses[service]);
    command.args([&url(TRACKER), &url(COLLECTOR), API_KEY, name, rate]);
    let mut user = User::start(command);
    assert_eq!(user.line(), "begun\n");
    Some(user)
}

/// What a service holds at a moment.
#[derive(Debug, Clone, Copy)]
struct Sample {
    rss_kib: u64,
    peak_kib: u64,
    descriptors: usize,
    threads: u64,
    wal_bytes: u64,
}

fn sample(stack: &Stack, service: usize) -> Sample {
    const DATABASES: [&str; 4] = ["errors.db-wal", "logs.db-wal", "metrics.db-wal", "browser-relay.db-wal"];
    let folder = format!("/proc/{}", stack.pid(service));
    let status = std::fs::read_to_string(format!("{folder}/status")).expect("it lives");
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

/// The part of a service's samples that one third of the time has: 0, 1 or 2.
fn third(samples: &[Sample], number: usize) -> &[Sample] {
    &samples[samples.len() * number / 3..samples.len() * (number + 1) / 3]
}

fn mean_rss_kib(samples: &[Sample]) -> f64 {
    samples.iter().map(|sample| sample.rss_kib as f64).sum::<f64>() / samples.len() as f64
}

/// A quantile in ms.
fn quantile_ms(took: &mut [Duration], q: f64) -> f64 {
    took.sort_unstable();
    took[((took.len() - 1) as f64 * q) as usize].as_secs_f64() * 1e3
}

/// Writes by every way there is, and notes how long each took.
fn write(crew: &mut Crew, stack: &Arc<Stack>, took: &Took) {
    for Write { service, every, first, then } in &WRITES {
        let (mut client, took) = (Client::connect(stack.addresses[*service]), Arc::clone(took));
        crew.repeat(*every, move |number| {
            let mut send = |name: &'static str, request: &Request| {
                let begun = Instant::now();
                let answer = client.send(request);
                took.lock().unwrap().entry(name).or_default().push(begun.elapsed());
                assert!(answer.status < 300, "{name}: {} {}", answer.status, answer.text());
                answer
            };
            let answer = send(first.0, &first.1(number));
            if let Some((name, request)) = then {
                send(name, &request(answer.id()));
            }
        });
    }
}

/// Looks at every page again and again, and follows the live tail.
fn look(crew: &mut Crew, stack: &Arc<Stack>) {
    let mut clients: Vec<Client> = stack.addresses.iter().map(|address| Client::connect(*address)).collect();
    crew.repeat(LOOK_PACE, move |number| {
        let (service, path) = LOOKS[number as usize % LOOKS.len()];
        clients[service].send(&Request::get(path)).expect(200);
    });
    let mut tail = Client::connect(stack.addresses[VIEWER]);
    tail.write(&Request::get("/api/logs/tail").bytes());
    assert_eq!(tail.read_head().map(|head| head.status), Some(200));
    crew.repeat(Duration::ZERO, move |_| assert!(tail.read_chunk().is_some(), "the tail goes on"));
}

/// Writes lines of containers.
fn log(crew: &mut Crew, stack: &Stack) {
    let mut logs = CONTAINERS.map(|name| ContainerLog::create(&stack.containers_dir, name));
    crew.repeat(LOG_PACE, move |number| {
        let level = if number.is_multiple_of(20) { "ERROR" } else { "INFO" };
        logs[number as usize % CONTAINERS.len()]
            .append_line(&format!("{level} checkout of cart {number} took {} ms", number % 300));
    });
}

/// Flushes 4 KB to the disk that the databases are on, as often as they might: the ceiling of whatever writes there.
fn flush(crew: &mut Crew, folder: &TempDir, took: &Took) {
    let file = File::create(folder.path().join("flushed")).unwrap();
    let (page, took) = (vec![7; 4_096], Arc::clone(took));
    crew.repeat(FLUSH_PACE, move |number| {
        file.write_all_at(&page, number % 1_000 * 4_096).unwrap();
        let begun = Instant::now();
        file.sync_data().unwrap();
        took.lock().unwrap().entry("fdatasync").or_default().push(begun.elapsed());
    });
}

/// Samples of every service, for so long.
fn watch(stack: &Stack, seconds: u64) -> [Vec<Sample>; 4] {
    let (begun, mut samples) = (Instant::now(), <[Vec<Sample>; 4]>::default());
    while begun.elapsed().as_secs() < seconds {
        for (service, samples) in samples.iter_mut().enumerate() {
            samples.push(sample(stack, service));
        }
        std::thread::sleep(SAMPLE_EVERY);
    }
    samples
}

/// Everything that is wrong with what was found.
#[derive(Default)]
struct Verdict(Vec<String>);

impl Verdict {
    fn expect(&mut self, fine: bool, what: String) {
        if !fine {
            self.0.push(what);
        }
    }

    /// What each service held, as rows.
    fn memory(&mut self, all: &[Vec<Sample>; 4], seconds: u64) -> Vec<Vec<Value>> {
        let mut rows = Vec::new();
        let (mut second_sum, mut last_sum, mut peak_sum) = (0.0, 0.0, 0);
        for (samples, name) in all.iter().zip(SERVICES) {
            let (second, last) = (third(samples, 1), third(samples, 2));
            let (second_kib, last_kib) = (mean_rss_kib(second), mean_rss_kib(last));
            let peak_kib = samples.last().unwrap().peak_kib;
            let most = |of: &[Sample], field: fn(&Sample) -> u64| of.iter().map(field).max().unwrap();
            let (wal, threads) = (most(samples, |sample| sample.wal_bytes), |of| most(of, |sample| sample.threads));
            let descriptors = |of| most(of, |sample| sample.descriptors as u64);
            if seconds >= FLAT_FROM_SECONDS {
                let grows = format!("{name} grows: {second_kib:.0} KiB in the second third, {last_kib:.0} in the last");
                self.expect(last_kib <= second_kib * GROWTH_MAX, grows);
                let opens = format!("{name} had {} descriptors open, then {}", descriptors(second), descriptors(last));
                // Who looks and reports comes and goes.
                self.expect(descriptors(last) <= descriptors(second) + 4, opens);
                let starts = format!("{name} had {} threads, then {}", threads(second), threads(last));
                self.expect(threads(last) <= threads(second), starts);
            }
            self.expect(wal <= WAL_BYTES_MAX, format!("{name} had a write-ahead log of {wal} bytes"));
            let mb = |kib: f64| round_to(kib * 1_024.0 / 1e6, 1);
            let counts = [json!(descriptors(last)), json!(threads(last)), round_to(wal as f64 / 1e6, 1)];
            rows.push(
                [json!(name), mb(second_kib), mb(last_kib), mb(peak_kib as f64)].into_iter().chain(counts).collect(),
            );
            second_sum += second_kib;
            last_sum += last_kib;
            peak_sum += peak_kib;
        }
        self.expect(peak_sum < MEMORY_KIB_MAX, format!("the four had {peak_sum} KiB at their peaks"));
        let mb = |kib: f64| round_to(kib * 1_024.0 / 1e6, 1);
        rows.push(vec![
            json!("together"),
            mb(second_sum),
            mb(last_sum),
            mb(peak_sum as f64),
            json!(""),
            json!(""),
            json!(""),
        ]);
        rows
    }

    /// How long writing took, as rows, beside the disk's own flushes.
    fn latency(&mut self, took: &Took) -> Vec<Vec<Value>> {
        let mut took = took.lock().unwrap();
        let flush_ms = quantile_ms(took.get_mut("fdatasync").unwrap(), 0.99);
        took.iter_mut()
            .map(|(name, took)| {
                let (p50_ms, p99_ms) = (quantile_ms(took, 0.5), quantile_ms(took, 0.99));
                let slow = format!("{name}: p99 {p99_ms:.1} ms, more than {FLUSHES_MAX} flushes of {flush_ms:.2} ms");
                self.expect(p99_ms < FLUSHES_MAX * flush_ms.max(FLUSH_MS_MIN), slow);
                vec![
                    json!(name),
                    json!(took.len()),
                    round_to(p50_ms, 2),
                    round_to(p99_ms, 2),
                    round_to(p99_ms / flush_ms, 1),
                ]
            })
            .collect()
    }

    /// What the services hold in the end, and what they have logged.
    fn contents(&mut self, stack: &Stack, users: &[(&str, Value)]) {
        let count = |path: (usize, &str), name: &str| {
            Client::connect(stack.addresses[path.0]).send(&Request::get(path.1)).expect(200).json()[name]
                .as_i64()
                .unwrap()
        };
        let (entries, groups) =
            (count((VIEWER, "/health"), "logs_indexed"), count((TRACKER, "/api/errors?limit=1"), "total"));
        self.expect(entries <= ENTRIES_MAX, format!("the ring has {entries} entries"));
        self.expect(groups <= GROUPS_MAX, format!("there are {groups} groups"));
        for (name, did) in users {
            self.expect(did["dropped"] == 0, format!("{name} has dropped {}", did["dropped"]));
            let path = format!("/api/metrics?name=orders_total&period=24h&project={name}");
            let found = Client::connect(stack.addresses[COLLECTOR]).send(&Request::get(&path)).expect(200).json();
            let sum: f64 = found["data"].as_array().unwrap().iter().map(|bucket| bucket["sum"].as_f64().unwrap()).sum();
            self.expect(
                json!(sum) == json!(did["orders"].as_f64()),
                format!("{name} counted {}, found {sum}", did["orders"]),
            );
            let path = format!("/api/errors?project={name}&limit=200");
            let found = Client::connect(stack.addresses[TRACKER]).send(&Request::get(&path)).expect(200).json();
            let sum: i64 =
                found["errors"].as_array().unwrap().iter().map(|group| group["count"].as_i64().unwrap()).sum();
            self.expect(did["reported"] == sum, format!("{name} reported {}, found {sum}", did["reported"]));
        }
        for (service, name) in SERVICES.iter().enumerate() {
            let complaints =
                stack.log(service).into_iter().filter(|line| line.contains("[ERROR]") || line.contains("[WARN]"));
            for line in complaints.take(5) {
                self.expect(false, format!("{name} logged {line}"));
            }
        }
        let killed = stack.oom_kills();
        self.expect(killed == 0, format!("{killed} were killed for want of memory"));
    }
}

#[test]
fn nothing_grows_or_complains_under_mixed_load_in_thirty_megabytes_each() {
    let seconds = std::env::var("MONLIGHT_SOAK_S").map_or(SECONDS_DEFAULT, |text| text.parse().unwrap());
    if !root_or_skip("memory cgroups") {
        return;
    }
    let Some(cgroups) = MemoryCgroup::for_all_services() else { return skip("no memory cgroup can be made") };
    let (Some(chromium), Some(mut visitor)) = (chromium(), node("soak.mjs")) else { return };
    let mut visitor = User::start({
        visitor.arg(chromium);
        visitor
    });
    let origin: String = serde_json::from_str(&visitor.line()).unwrap();
    let data = Arc::new(TempDir::new());
    let change = move |service: usize, setup: Setup| match service {
        TRACKER => setup.env("MAX_GROUPS", GROUPS_MAX),
        VIEWER => setup.env("MAX_ENTRIES", ENTRIES_MAX),
        RELAY => setup.env("CORS_ORIGINS", &origin),
        _ => setup.env("HOST_METRICS", 1),
    };
    let stack = Arc::new(Stack::start(&data, Some(cgroups), Box::new(change)));
    let (mut crew, took) = (Crew::default(), Took::default());
    log(&mut crew, &stack);
    let Some(own) = application(&stack, "own", "20", true) else { return };
    let Some(published) = application(&stack, "published", "5", false) else { return };
    visitor.tell(&json!({ "relay": format!("http://{}", stack.addresses[RELAY]), "key": PUBLIC_KEY }));
    write(&mut crew, &stack, &took);
    look(&mut crew, &stack);
    flush(&mut crew, &data, &took);
    let samples = watch(&stack, seconds);
    let (own, published, visited) = (own.last_words(), published.last_words(), visitor.last_words());
    crew.stop();
    let arrives = |name: &str| {
        let path = format!("/api/metrics?name={name}&period=1h");
        let found = Client::connect(stack.addresses[COLLECTOR]).send(&Request::get(&path)).expect(200).json();
        found["data"].as_array().is_some_and(|buckets| !buckets.is_empty()).then_some(())
    };
    wait_until(|| arrives("browser_http_requests_total")).expect("what the page asked for is counted");
    wait_until(|| arrives("web_vitals_fcp")).expect("how the page was for its visitor is known");

    let mut verdict = Verdict::default();
    let mut figures = Figures::new("soak", "Soak", "make soak", 52);
    let columns =
        ["service", "RSS MB, second third", "last third", "VmHWM MB", "descriptors", "threads", "largest WAL, MB"];
    let memory = verdict.memory(&samples, seconds);
    figures.add_table(&format!("What each holds over {seconds} s, in a memory cgroup of 30 MB"), &columns, &memory);
    let together = memory.last().unwrap();
    figures.add_summary(
        "All four in 30 MB each, mixed load of real clients",
        format!(
            "{} MB at their peaks together, {} MB resident on the average of the last third",
            together[3], together[2]
        ),
    );
    let columns = ["write", "requests", "median ms", "p99 ms", "p99, in the disk's fdatasync p99"];
    figures.add_table("How long a write takes under that load", &columns, &verdict.latency(&took));
    verdict.contents(&stack, &[("own", own.clone()), ("published", published.clone())]);
    figures.notes.push(format!(
        "The repository's Python client: {own}; the published one: {published}; Chromium with the browser package: {visited}; \
         {} log lines a second in {} containers; people who look, one of them at the live tail.",
        Duration::from_secs(1).div_duration_f64(LOG_PACE).round(),
        CONTAINERS.len()
    ));
    eprintln!("{}", figures.notes[0]);
    figures.save();
    assert!(verdict.0.is_empty(), "{:#?}", verdict.0);
}
