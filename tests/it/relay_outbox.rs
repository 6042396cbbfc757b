//! Outbox of the browser relay: every acknowledged report reaches the tracker exactly once, even if the tracker and the
//! relay are killed meanwhile.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::harness::{Client, Request, Service, Setup, TEST_TIMEOUT, wait_until};

const CLIENTS: u32 = 16;
/// Downtime of the tracker. `MONLIGHT_OUTAGE_S=30` tests the duration that the documentation guarantees.
const OUTAGE: Duration = Duration::from_secs(4);
/// Pause between two requests of a client.
const PAUSE: Duration = Duration::from_millis(20);

/// State shared by the clients.
#[derive(Default)]
struct Load {
    stop: AtomicBool,
    next: AtomicU32,
    /// Line number of each acknowledged report, and the status of the response.
    acknowledged: Mutex<BTreeMap<u32, u16>>,
}

impl Load {
    fn count(&self, statuses: &[u16]) -> usize {
        self.acknowledged.lock().unwrap().values().filter(|status| statuses.contains(status)).count()
    }

    /// Waits until `more` additional reports are acknowledged with one of the statuses.
    #[track_caller]
    fn wait_for_more(&self, more: usize, statuses: &[u16]) {
        let before = self.count(statuses);
        let reached = wait_until(|| (self.count(statuses) >= before + more).then_some(()));
        let count = self.count(statuses) - before;
        assert!(reached.is_some(), "only {count} of {more} reports were acknowledged with {statuses:?}");
    }
}

/// Returns a browser report that forms its own group, identified by its line number.
fn report(line: u32) -> Request {
    let stack = format!("E: e\n    at f (https://shop.example/app.js:{line}:1)");
    let body = json!({ "type": "E", "message": "e", "stack": stack });
    Request::from_browser("/api/browser/errors", &body).header("Idempotency-Key", &format!("page-{line}"))
}

/// Sends reports one after another and repeats each until it is acknowledged.
fn post_until_stopped(load: &Load, relay: SocketAddr) {
    while !load.stop.load(Ordering::Relaxed) {
        let line = load.next.fetch_add(1, Ordering::Relaxed) + 1;
        let request = report(line);
        let deadline = Instant::now() + TEST_TIMEOUT;
        let status = loop {
            let socket = TcpStream::connect(relay).ok();
            let response = socket.map(Client::new).and_then(|mut client| {
                client.write(&request.bytes());
                client.try_read_response()
            });
            match response {
                Some(response) if response.status != 503 => break response.status,
                _ if Instant::now() > deadline => panic!("report {line} is not acknowledged within {TEST_TIMEOUT:?}"),
                _ => std::thread::sleep(PAUSE),
            }
        };
        assert!([200, 201, 202].contains(&status), "{status}");
        load.acknowledged.lock().unwrap().insert(line, status);
        std::thread::sleep(PAUSE);
    }
}

/// Returns how often the tracker has counted the report of each line.
fn count_by_line(tracker: &Service) -> BTreeMap<u32, i64> {
    let database = rusqlite::Connection::open(tracker.data_dir.path().join("errors.db")).unwrap();
    let mut statement = database.prepare("SELECT location, count FROM error_groups").unwrap();
    let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))).unwrap();
    rows.map(Result::unwrap)
        .map(|(location, count)| (location.rsplit(':').next().unwrap().parse().unwrap(), count))
        .collect()
}

#[test]
fn acknowledged_reports_arrive_exactly_once_after_kills_of_tracker_and_relay() {
    let outage =
        std::env::var("MONLIGHT_OUTAGE_S").map_or(OUTAGE, |seconds| Duration::from_secs(seconds.parse().unwrap()));
    let tracker = Setup::error_tracker().env("MAX_GROUPS", 1_000_000).start();
    let tracker_address = tracker.address;
    let setup = || Setup::browser_relay(tracker_address, tracker_address).env("OUTBOX_MAX_MB", 1_000);
    let relay = setup().start();
    let relay_address = relay.address;
    let start_relay = |data_dir| setup().data_dir(&data_dir).env("PORT", relay_address.port()).start();
    let load = Arc::new(Load::default());
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let load = Arc::clone(&load);
            std::thread::spawn(move || post_until_stopped(&load, relay_address))
        })
        .collect();

    load.wait_for_more(200, &[200, 201]);
    let killed = Instant::now();
    let data_dir = tracker.kill();
    load.wait_for_more(200, &[202]);
    let relay = start_relay(relay.kill());
    load.wait_for_more(200, &[202]);
    let relay = start_relay(relay.kill());
    load.wait_for_more(200, &[202]);
    std::thread::sleep(outage.saturating_sub(killed.elapsed()));
    assert!(relay.health_number("outbox_waiting") >= 600, "{}", relay.health_number("outbox_waiting"));
    let tracker = Setup::error_tracker()
        .data_dir(&data_dir)
        .env("MAX_GROUPS", 1_000_000)
        .env("PORT", tracker_address.port())
        .start();
    // Kills the relay while it empties the outbox, when reports may be delivered but not removed yet.
    load.wait_for_more(50, &[200, 201]);
    assert!(relay.health_number("outbox_waiting") > 0, "the outbox is empty already");
    let relay = start_relay(relay.kill());
    load.wait_for_more(200, &[200, 201]);
    load.stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().unwrap();
    }
    let (start, backlog) = (Instant::now(), relay.health_number("outbox_waiting"));
    let mut remaining = backlog;
    while remaining > 0 {
        let fewer = wait_until(|| Some(relay.health_number("outbox_waiting")).filter(|now| *now < remaining));
        remaining = fewer.unwrap_or_else(|| panic!("the outbox still has {remaining} entries"));
    }

    let acknowledged = load.acknowledged.lock().unwrap();
    let counts = count_by_line(&tracker);
    let wrong: Vec<_> = acknowledged.keys().filter(|line| counts.get(line) != Some(&1)).collect();
    assert!(wrong.is_empty(), "{} of {} reports were not counted once: {wrong:?}", wrong.len(), acknowledged.len());
    assert_eq!(counts.len(), acknowledged.len(), "the tracker has reports that were not acknowledged");
    eprintln!(
        "{} reports acknowledged, {} of them queued; the tracker was down for {:.1} s, the last {backlog} took {:.1} s",
        acknowledged.len(),
        acknowledged.values().filter(|status| **status == 202).count(),
        outage.as_secs_f64(),
        start.elapsed().as_secs_f64()
    );
    relay.get("/health").expect(200).has(json!({ "outbox_dropped": 0, "outbox_refused": 0, "outbox_bytes": 0 }));
}

#[test]
fn full_outbox_drops_the_oldest_entries_and_counts_them() {
    let tracker = Setup::error_tracker().start();
    let (tracker_address, setup) = (tracker.address, Setup::browser_relay(tracker.address, tracker.address));
    let data_dir = tracker.kill();
    let relay = setup.env("OUTBOX_MAX_MB", 1).start();
    let filler = "x".repeat(30_000);
    for line in 1..=50 {
        let stack = format!("E: e\n    at f (https://shop.example/app.js:{line}:1)\n{filler}");
        let body = json!({ "type": "E", "message": "e", "stack": stack });
        relay.send(&Request::from_browser("/api/browser/errors", &body)).expect(202).has(json!({ "status": "queued" }));
    }
    let health = relay.get("/health").expect(200).json();
    let (dropped, bytes) = (health["outbox_dropped"].as_u64().unwrap(), health["outbox_bytes"].as_u64().unwrap());
    assert!((15..=20).contains(&dropped) && (900_000..=1_000_000).contains(&bytes), "{health}");
    let tracker = Setup::error_tracker().data_dir(&data_dir).env("PORT", tracker_address.port()).start();
    assert!(
        wait_until(|| (relay.health_number("outbox_waiting") == 0).then_some(())).is_some(),
        "the outbox still has {} entries",
        relay.health_number("outbox_waiting")
    );
    let counts = count_by_line(&tracker);
    let oldest_kept = u32::try_from(dropped).unwrap() + 1;
    assert_eq!(counts.keys().copied().collect::<Vec<_>>(), (oldest_kept..=50).collect::<Vec<_>>());
    let metrics = relay.get("/metrics").expect(200).text();
    assert!(metrics.contains(&format!("monlight_outbox_dropped {dropped}")), "{metrics}");
}

#[test]
fn hanging_upstream_delays_clients_only_until_a_timeout() {
    let hanging_upstream = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let upstream = hanging_upstream.local_addr().unwrap();
    let relay = Setup::browser_relay(upstream, upstream).start();
    let start = Instant::now();
    let pages: Vec<_> = (1..=40)
        .map(|line| {
            let mut client = relay.connect();
            std::thread::spawn(move || client.send(&report(line)).status)
        })
        .collect();
    // Other requests are served while these wait for the upstream.
    relay.get("/health").expect(200);
    relay.get("/api/dsn-keys").expect(200);
    assert!(start.elapsed() < Duration::from_secs(2), "other requests took {:?}", start.elapsed());
    for page in pages {
        assert_eq!(page.join().unwrap(), 202);
    }
    assert!(start.elapsed() < Duration::from_secs(8), "the reports took {:?}", start.elapsed());
    let start = Instant::now();
    relay.send(&report(41)).expect(202);
    assert!(start.elapsed() < Duration::from_secs(2), "a later report waited for the upstream again");
    let (status, duration) = relay.stop();
    assert!(status.success() && duration < Duration::from_secs(5), "{status} after {duration:?}");
}
