//! Isolation of the browser relay: neither a flood with one public key, nor a report that its upstream cannot process, nor
//! a change of the relay's key costs another project a report.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::harness::{Client, PUBLIC_KEY, Request, Service, Setup, free_address, wait_until};
use crate::support::receiver::read_request;
use crate::support::stack::MemoryCgroup;

const BLOG_KEY: &str = "ffeeddccbbaa99887766554433221100";
const ERRORS: &str = "/api/browser/errors";
const METRICS: &str = "/api/browser/metrics";

/// Returns the setup of a relay with the projects `shop` and `blog`.
fn relay_setup(errors: SocketAddr, metrics: SocketAddr) -> Setup {
    Setup::browser_relay(errors, metrics).env("DSN_KEYS", format!("shop:{PUBLIC_KEY},blog:{BLOG_KEY}"))
}

fn report(key: &str, message: &str) -> Request {
    let body = json!({ "type": "E", "message": message, "stack": "E: e\n    at f (https://x/app.js:1:1)" });
    Request::from_browser(ERRORS, &body).header("X-Monlight-Key", key)
}

/// Returns a request of 40 KB that becomes megabytes if the labels of all points are written.
fn amplified_metrics(items: usize) -> Request {
    let long = "\u{1F600}".repeat(199);
    let items = vec![json!({ "name": "a", "type": "gauge", "value": 1 }); items];
    let body =
        json!({ "metrics": items, "url": format!("https://x/{long}"), "session_id": format!("{long}\u{1F600}") });
    Request::from_browser(METRICS, &body)
}

/// Error tracker that decides by the message of each report which status it answers.
struct FakeTracker {
    address: SocketAddr,
    /// Messages of the reports that were accepted, in order.
    accepted: Arc<Mutex<Vec<String>>>,
}

impl FakeTracker {
    fn start(address: SocketAddr, status: impl Fn(&str) -> &'static str + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let accepted: Arc<Mutex<Vec<String>>> = Arc::default();
        let (recorded, status) = (Arc::clone(&accepted), Arc::new(status));
        std::thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let (recorded, status) = (Arc::clone(&recorded), Arc::clone(&status));
                std::thread::spawn(move || answer(socket, &recorded, &*status));
            }
        });
        Self { address, accepted }
    }

    fn accepted(&self) -> Vec<String> {
        self.accepted.lock().unwrap().clone()
    }
}

/// Answers one request according to the message in its body.
fn answer(mut socket: TcpStream, accepted: &Mutex<Vec<String>>, status: &dyn Fn(&str) -> &'static str) {
    let (_, body) = read_request(&socket);
    let body: Value = serde_json::from_slice(&body).unwrap();
    let message = body["message"].as_str().unwrap_or_default().to_owned();
    let status = status(&message);
    if status.starts_with("201") {
        accepted.lock().unwrap().push(message);
    }
    let _ = write!(socket, "HTTP/1.1 {status}\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}");
}

#[track_caller]
fn wait_until_delivered(relay: &Service) {
    let waiting = || relay.health_number("outbox_waiting");
    let delivered = wait_until(|| (waiting() == 0).then_some(()));
    assert!(delivered.is_some(), "{} reports are still waiting: {:#?}", waiting(), relay.log());
}

#[test]
fn flood_of_one_project_leaves_the_outbox_of_others_alone() {
    let (errors, metrics) = (free_address(), free_address());
    let setup = || relay_setup(errors, metrics).env("OUTBOX_MAX_MB", 1);
    let relay = setup().start();
    for number in 1..=25 {
        relay.send(&report(BLOG_KEY, &format!("blog {number}"))).expect(202);
    }
    let mut client = relay.connect();
    for _ in 0..10 {
        // 400 KB each.
        assert!([202, 503].contains(&client.send(&amplified_metrics(180)).status));
        // The other upstream, with the same key.
        let large = json!({ "message": "shop", "context": { "padding": "x".repeat(50_000) } });
        client.send(&Request::from_browser(ERRORS, &large)).expect(202);
    }
    let relay = setup().data_dir(&relay.kill()).start();
    for _ in 0..20 {
        let large = json!({ "message": "shop", "context": { "padding": "x".repeat(50_000) } });
        relay.send(&Request::from_browser(ERRORS, &large)).expect(202);
    }
    let tracker = FakeTracker::start(errors, |_| "201 Created");
    let _collector = FakeTracker::start(metrics, |_| "202 Accepted");
    wait_until_delivered(&relay);
    let accepted = tracker.accepted();
    let blog: Vec<&String> = accepted.iter().filter(|message| message.starts_with("blog")).collect();
    let expected: Vec<String> = (1..=25).map(|number| format!("blog {number}")).collect();
    assert_eq!(blog, expected.iter().collect::<Vec<_>>());

    let health = relay.get("/health").expect(200).json();
    let dropped = |warning: &Value| warning["code"] == "outbox_dropped" && warning["project"] == "shop";
    assert!(health["warnings"].as_array().unwrap().iter().any(dropped), "{health}");
    assert!(!health["warnings"].to_string().contains("blog"), "{health}");
    let quota = relay.get("/api/quota").expect(200).json();
    assert_eq!(quota["stores"][0]["name"], "outbox_errors", "{quota}");
}

/// Returns the key of project `name`, as [`keys_setup`] sets it.
fn project_key(name: &str) -> String {
    format!("{:x}", md5::compute(name))
}

/// Returns the setup of a relay with the project `shop` and others, each with its own key.
fn keys_setup(errors: SocketAddr, metrics: SocketAddr, others: &[&str]) -> Setup {
    let keys: String = others.iter().map(|name| format!(",{name}:{}", project_key(name))).collect();
    Setup::browser_relay(errors, metrics).env("DSN_KEYS", format!("shop:{PUBLIC_KEY}{keys}"))
}

/// Sends a request over `count` connections at once while `others` runs, and returns the statuses.
fn with_busy_connections(relay: &Service, count: usize, request: &Request, others: impl FnOnce()) -> Vec<u16> {
    std::thread::scope(|scope| {
        let busy: Vec<_> = (0..count).map(|_| scope.spawn(|| relay.connect().send(request).status)).collect();
        others();
        busy.into_iter().map(|connection| connection.join().unwrap()).collect()
    })
}

#[test]
fn slow_upstream_delays_neither_other_projects_nor_the_other_upstream() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let tracker = FakeTracker::start(free_address(), move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(Duration::from_secs(1));
        "201 Created"
    });
    let collector = FakeTracker::start(free_address(), |_| "202 Accepted");
    let relay = relay_setup(tracker.address, collector.address).start();
    let statuses = with_busy_connections(&relay, 48, &report(PUBLIC_KEY, "a"), || {
        wait_until(|| (asked.load(Ordering::Relaxed) >= 8).then_some(())).expect("8 reports at the tracker");
        let timed = |request: &Request, status| {
            let start = Instant::now();
            relay.send(&request.clone().header("X-Monlight-Key", BLOG_KEY)).expect(status);
            start.elapsed()
        };
        let point = json!({ "metrics": [{ "name": "a", "type": "gauge", "value": 1 }] });
        let metrics = timed(&Request::from_browser(METRICS, &point), 202);
        let error = timed(&report(BLOG_KEY, "b"), 201);
        eprintln!("beside 48 connections and a tracker that takes 1 s: metrics {metrics:?}, error {error:?}");
        assert!(metrics < Duration::from_millis(900), "metrics waited for the tracker: {metrics:?}");
        assert!(error < Duration::from_millis(2_500), "an error waited for those of another project: {error:?}");
    });
    assert!(statuses.iter().all(|status| [201, 202].contains(status)), "{statuses:?}");
    wait_until_delivered(&relay);
    assert_eq!(tracker.accepted().len(), 49);
}

#[test]
fn full_outbox_takes_from_the_project_that_holds_the_most_in_total() {
    const OTHERS: [&str; 9] = ["p1", "p2", "p3", "p4", "p5", "p6", "p7", "p8", "p9"];
    let down = free_address();
    let relay = keys_setup(down, down, &OTHERS).env("OUTBOX_MAX_MB", 1).start();
    let mut client = relay.connect();
    // 0.9 MB together, less than a tenth of the limit each.
    let error = json!({ "message": "m", "context": { "padding": "x".repeat(9_500) } });
    for project in OTHERS {
        let request = Request::from_browser(ERRORS, &error).header("X-Monlight-Key", &project_key(project));
        for _ in 0..10 {
            client.send(&request).expect(202);
        }
    }
    // The upstream service with less in the outbox.
    let items = vec![json!({ "name": "a", "type": "gauge", "value": 1 }); 20];
    let metrics = Request::from_browser(METRICS, &json!({ "metrics": items }));
    for _ in 0..200 {
        client.send(&metrics).expect(202);
    }
    let database = rusqlite::Connection::open(relay.data_dir.path().join("browser-relay.db")).unwrap();
    let count = |sql: &str| -> i64 { database.query_row(sql, [], |row| row.get(0)).unwrap() };
    assert_eq!(count("SELECT count(*) FROM outbox WHERE project != 'shop'"), 90);
    let shop = count("SELECT count(*) FROM outbox WHERE project = 'shop'");
    assert!((10..200).contains(&shop), "{shop}");
    let quota = relay.get("/api/quota").expect(200).json();
    assert!(!quota["rejections"].to_string().contains("p1"), "{quota}");
}

#[test]
fn large_reports_go_to_the_outbox_if_too_many_are_being_forwarded() {
    let released = Arc::new(Mutex::new(false));
    let is_released = Arc::clone(&released);
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let collector = FakeTracker::start(free_address(), move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        wait_until(|| is_released.lock().unwrap().then_some(()));
        "202 Accepted"
    });
    let relay = keys_setup(collector.address, collector.address, &["blog", "wiki"]).start();
    let large = |project: &str| match project {
        "shop" => amplified_metrics(230),
        other => amplified_metrics(230).header("X-Monlight-Key", &project_key(other)),
    };
    with_busy_connections(&relay, 2, &large("shop"), || {
        wait_until(|| (asked.load(Ordering::Relaxed) >= 1).then_some(())).expect("a report at the collector");
        // More than one project may keep in memory.
        for project in ["shop", "shop", "blog", "blog", "wiki", "wiki"] {
            let start = Instant::now();
            relay.send(&large(project)).expect(202).has(json!({ "status": "queued" }));
            assert!(start.elapsed() < Duration::from_secs(2), "{project}: {:?}", start.elapsed());
        }
        *released.lock().unwrap() = true;
    });
    wait_until_delivered(&relay);
}

#[test]
fn amplified_requests_do_not_exhaust_memory() {
    let collector = Setup::metrics_collector().start();
    let cgroup = MemoryCgroup::for_test("relay");
    let setup = relay_setup(collector.address, collector.address);
    let relay = match &cgroup {
        Some(cgroup) => setup.wrapped_by(&["sh", "-c", &cgroup.enter_script()]).start(),
        None => setup.start(),
    };
    // The first is rejected for its size, the second is just small enough.
    for (items, statuses) in [(1_000, &[413][..]), (290, &[202, 503])] {
        std::thread::scope(|scope| {
            for _ in 0..60 {
                let relay = &relay;
                scope.spawn(move || {
                    let status = relay.send(&amplified_metrics(items)).status;
                    assert!(statuses.contains(&status), "{status}");
                });
            }
        });
    }
    let (_, peak_kib) = relay.memory_kib();
    eprintln!("60 amplified requests at once: peak memory {peak_kib} KiB");
    assert!(peak_kib <= 24 * 1024, "{peak_kib} KiB resident");
    assert_eq!(cgroup.map_or(0, |cgroup| cgroup.oom_kills()), 0);
}

#[test]
fn every_answer_but_a_decision_keeps_the_report() {
    const ANSWERS: [&str; 14] = [
        "301 Moved",
        "302 Found",
        "307 Redirect",
        "308 Redirect",
        "401 No",
        "403 No",
        "404 No",
        "405 No",
        "408 Late",
        "411 No",
        "415 No",
        "429 Slow",
        "500 Error",
        "503 Busy",
    ];
    let is_repaired = Arc::new(Mutex::new(false));
    let repaired = Arc::clone(&is_repaired);
    let tracker = FakeTracker::start(free_address(), move |message| {
        let answer = ANSWERS.iter().find(|answer| message.starts_with(**answer)).copied();
        let is_final = ["400 No", "413 Large", "422 No"].into_iter().find(|answer| message.starts_with(answer));
        is_final.or(answer.filter(|_| !*repaired.lock().unwrap())).unwrap_or("201 Created")
    });
    let relay = relay_setup(tracker.address, tracker.address).start();
    for (message, status) in [("400 No", 400), ("413 Large", 413), ("422 No", 422), ("fine", 201)] {
        relay.send(&report(PUBLIC_KEY, message)).expect(status);
    }
    for answer in ANSWERS {
        relay.send(&report(PUBLIC_KEY, answer)).expect(202).has(json!({ "status": "queued" }));
    }
    let has_warning = |code: &str| relay.get("/health").expect(200).json()["warnings"].to_string().contains(code);
    wait_until(|| (has_warning("outbox_waiting") || has_warning("upstream_rejects_key")).then_some(()))
        .expect("a warning");
    *is_repaired.lock().unwrap() = true;
    wait_until_delivered(&relay);
    let mut accepted = tracker.accepted();
    accepted.sort();
    let mut expected: Vec<&str> = ANSWERS.into_iter().chain(["fine"]).collect();
    expected.sort_unstable();
    assert_eq!(accepted, expected);
}

#[test]
fn rejection_during_the_upload_is_final() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let upstream = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut socket in listener.incoming().map_while(Result::ok) {
            // Closes with unread bytes, so that the kernel resets the connection.
            let _ = std::io::Read::read_exact(&mut socket, &mut [0; 100]);
            let _ = socket.write_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}");
        }
    });
    let relay = relay_setup(upstream, upstream).start();
    for _ in 0..5 {
        relay.send(&amplified_metrics(230)).expect(413);
    }
    relay.get("/health").expect(200).has(json!({ "outbox_waiting": 0 }));
}

#[test]
fn report_that_always_fails_does_not_block_others_and_is_set_aside() {
    let tracker_address = free_address();
    let setup = || relay_setup(tracker_address, tracker_address);
    let relay = setup().start();
    for message in ["poison", "shop 1", "shop 2"] {
        relay.send(&report(PUBLIC_KEY, message)).expect(202);
    }
    for message in ["blog 1", "blog 2"] {
        relay.send(&report(BLOG_KEY, message)).expect(202);
    }
    // The first three attempts happened in an earlier process.
    let data_dir = relay.kill();
    let database = rusqlite::Connection::open(data_dir.path().join("browser-relay.db")).unwrap();
    database.execute("UPDATE outbox SET attempts = 3 WHERE id = 1", []).unwrap();
    drop(database);
    let is_repaired = Arc::new(Mutex::new(false));
    let repaired = Arc::clone(&is_repaired);
    let tracker = FakeTracker::start(tracker_address, move |message| {
        if message == "poison" && !*repaired.lock().unwrap() { "500 Error" } else { "201 Created" }
    });
    let relay = setup().data_dir(&data_dir).start();
    let others = wait_until(|| (tracker.accepted().len() == 4).then_some(()));
    assert!(others.is_some(), "the report that fails blocks others: {:?}", tracker.accepted());
    relay.send(&report(PUBLIC_KEY, "new")).expect(201);
    wait_until_delivered(&relay);
    let in_order = |prefix: &str| -> Vec<String> {
        tracker.accepted().into_iter().filter(|message| message.starts_with(prefix)).collect()
    };
    assert_eq!(
        (in_order("shop"), in_order("blog")),
        (vec!["shop 1".into(), "shop 2".into()], vec!["blog 1".into(), "blog 2".into()])
    );

    let list = relay.get("/api/outbox/dead-letters?project=shop").expect(200).json();
    let letter = &list["dead_letters"][0];
    assert_eq!((&list["total"], &letter["status"], &letter["attempts"]), (&json!(1), &json!(500), &json!(5)), "{list}");
    assert_eq!((&letter["project"], &letter["upstream"]), (&json!("shop"), &json!("error tracker")), "{list}");
    assert!(letter.get("body").is_none(), "{list}");
    assert_eq!(relay.get("/api/outbox/dead-letters?project=blog").expect(200).json()["total"], 0);
    let path = format!("/api/outbox/dead-letters/{}", letter["id"]);
    assert_eq!(relay.get(&path).expect(200).json()["body"]["message"], "poison");
    let health = relay.get("/health").expect(200).has(json!({ "status": "ok", "dead_letters": 1 })).json();
    assert!(health["warnings"].as_array().unwrap().iter().any(|warning| warning["code"] == "dead_letters"), "{health}");
    *is_repaired.lock().unwrap() = true;
    relay.post(&format!("{path}/retry"), &json!({})).expect(200).has(json!({ "status": "queued" }));
    wait_until_delivered(&relay);
    assert_eq!(tracker.accepted().last().unwrap(), "poison");
    relay.post(&format!("{path}/retry"), &json!({})).expect(404);
    relay.send(&Request::new("DELETE", &path)).expect(404);
}

#[test]
fn report_that_makes_the_upstream_hang_does_not_block_others() {
    let tracker_address = free_address();
    let relay = relay_setup(tracker_address, tracker_address).start();
    for (key, message) in [(PUBLIC_KEY, "hang"), (PUBLIC_KEY, "shop"), (BLOG_KEY, "blog")] {
        relay.send(&report(key, message)).expect(202);
    }
    let tracker = FakeTracker::start(tracker_address, |message| {
        if message == "hang" {
            // Longer than the relay waits.
            std::thread::sleep(Duration::from_secs(6));
            return "500 Error";
        }
        "201 Created"
    });
    let others = wait_until(|| (tracker.accepted().len() == 2).then_some(()));
    assert!(others.is_some(), "the report that hangs blocks others: {:?}", tracker.accepted());
    relay.send(&report(BLOG_KEY, "new")).expect(201);
    wait_until(|| (relay.health_number("outbox_waiting") == 1).then_some(())).expect("only that report waits");
}

#[test]
fn no_attempt_counts_while_the_upstream_is_down() {
    let tracker_address = free_address();
    let relay = relay_setup(tracker_address, tracker_address).start();
    for number in 1..=5 {
        relay.send(&report(PUBLIC_KEY, &number.to_string())).expect(202);
    }
    let is_repaired = Arc::new(Mutex::new(false));
    let repaired = Arc::clone(&is_repaired);
    let failed = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&failed);
    let tracker = FakeTracker::start(tracker_address, move |_| {
        *counted.lock().unwrap() += 1;
        if *repaired.lock().unwrap() { "201 Created" } else { "500 Error" }
    });
    wait_until(|| (*failed.lock().unwrap() >= 6).then_some(())).expect("the relay retries");
    let database = rusqlite::Connection::open(relay.data_dir.path().join("browser-relay.db")).unwrap();
    let attempts: i64 = database.query_row("SELECT sum(attempts) FROM outbox", [], |row| row.get(0)).unwrap();
    assert_eq!(attempts, 0);
    *is_repaired.lock().unwrap() = true;
    wait_until_delivered(&relay);
    assert_eq!(tracker.accepted(), ["1", "2", "3", "4", "5"]);
}

/// Forwards one request to `upstream` and closes the connection without its response.
fn lose_response(listener: &TcpListener, upstream: SocketAddr) {
    let (socket, _) = listener.accept().unwrap();
    let (head, body) = read_request(&socket);
    let mut client = Client::connect(upstream);
    client.write(&[head.as_bytes(), &body].concat());
    assert_eq!(client.read_response().status, 201);
}

#[test]
fn reports_arrive_once_if_the_key_changes_while_they_wait() {
    let keys = "relay-old:ingest:old-key-000000000000,relay-new:ingest:new-key-000000000000";
    let tracker = Setup::error_tracker().env("API_KEYS", keys).start();
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, upstream) = (proxy.local_addr().unwrap(), tracker.address);
    let proxy = std::thread::spawn(move || lose_response(&proxy, upstream));
    let setup = |address, key: &str| relay_setup(address, address).env("ERROR_TRACKER_API_KEY", key);
    let relay = setup(address, "old-key-000000000000").start();
    let stacked = |line: usize| {
        let body =
            json!({ "type": "E", "message": "e", "stack": format!("E: e\n    at f (https://x/app.js:{line}:1)") });
        Request::from_browser(ERRORS, &body)
    };
    // The tracker stores this report, but the relay does not learn about it.
    relay.send(&stacked(1)).expect(202);
    proxy.join().unwrap();
    for line in 2..=20 {
        relay.send(&stacked(line)).expect(202);
    }
    let relay = setup(tracker.address, "new-key-000000000000").data_dir(&relay.kill()).start();
    wait_until_delivered(&relay);
    let errors = tracker.get("/api/errors?limit=200").expect(200).json();
    let counts: Vec<i64> =
        errors["errors"].as_array().unwrap().iter().map(|group| group["count"].as_i64().unwrap()).collect();
    assert_eq!(counts, [1; 20]);
}
