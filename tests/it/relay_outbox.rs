//! What the browser relay has acknowledged reaches the tracker once, whatever dies meanwhile.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{Client, Request, Service, Setup, TEST_TIMEOUT, wait_until};

const CLIENTS: u32 = 16;
/// How long the tracker is down. `MONLIGHT_OUTAGE_S=30` for the whole of what is promised.
const OUTAGE: Duration = Duration::from_secs(4);
const PACE: Duration = Duration::from_millis(20);

/// What the clients share.
#[derive(Default)]
struct Load {
    stop: AtomicBool,
    next: AtomicU32,
    /// The line of each report that was acknowledged, and the status it was with.
    acknowledged: Mutex<BTreeMap<u32, u16>>,
}

impl Load {
    fn count(&self, statuses: &[u16]) -> usize {
        self.acknowledged.lock().unwrap().values().filter(|status| statuses.contains(status)).count()
    }

    /// Waits until so many more reports were acknowledged with one of these statuses.
    #[track_caller]
    fn wait_for_more(&self, more: usize, statuses: &[u16]) {
        let before = self.count(statuses);
        let found = wait_until(|| (self.count(statuses) >= before + more).then_some(()));
        assert!(found.is_some(), "{} of {more} more with {statuses:?}", self.count(statuses) - before);
    }
}

/// A report that opens a group of its own, told by its line.
fn report(line: u32) -> Request {
    let stack = format!("E: e\n    at f (https://shop.example/app.js:{line}:1)");
    let body = json!({ "type": "E", "message": "e", "stack": stack });
    Request::from_browser("/api/browser/errors", &body).header("Idempotency-Key", &format!("page-{line}"))
}

/// Posts one report after the other, each until it is acknowledged.
fn post_until_stopped(load: &Load, relay: SocketAddr) {
    while !load.stop.load(Ordering::Relaxed) {
        let line = load.next.fetch_add(1, Ordering::Relaxed) + 1;
        let request = report(line);
        let deadline = Instant::now() + TEST_TIMEOUT;
        let status = loop {
            let socket = TcpStream::connect(relay).ok();
            let answer = socket.map(Client::new).and_then(|mut client| {
                client.write(&request.bytes());
                client.try_read_response()
            });
            match answer {
                Some(answer) if answer.status != 503 => break answer.status,
                _ if Instant::now() > deadline => panic!("report {line} is never answered"),
                _ => std::thread::sleep(PACE),
            }
        };
        assert!([200, 201, 202].contains(&status), "{status}");
        load.acknowledged.lock().unwrap().insert(line, status);
        std::thread::sleep(PACE);
    }
}

fn waiting(relay: &Service) -> i64 {
    relay.get("/health").expect(200).json()["outbox_waiting"].as_i64().unwrap()
}

/// How often the tracker has counted each line.
fn counted(tracker: &Service) -> BTreeMap<u32, i64> {
    let database = rusqlite::Connection::open(tracker.data_dir.path().join("errors.db")).unwrap();
    let mut read = database.prepare("SELECT location, count FROM errors").unwrap();
    let rows = read.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))).unwrap();
    rows.map(Result::unwrap).map(|(place, count)| (place.rsplit(':').next().unwrap().parse().unwrap(), count)).collect()
}

#[test]
fn every_acknowledged_report_arrives_once_though_tracker_and_relay_are_killed() {
    let outage = std::env::var("MONLIGHT_OUTAGE_S").map_or(OUTAGE, |s| Duration::from_secs(s.parse().unwrap()));
    let tracker = Setup::error_tracker().env("MAX_GROUPS", 1_000_000).start();
    let behind = tracker.address;
    let setup = || Setup::browser_relay(behind, behind).env("OUTBOX_MAX_MB", 1_000);
    let relay = setup().start();
    let front = relay.address;
    let start_relay = |folder| setup().data_dir(&folder).env("PORT", front.port()).start();
    let load = Arc::new(Load::default());
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let load = Arc::clone(&load);
            std::thread::spawn(move || post_until_stopped(&load, front))
        })
        .collect();

    load.wait_for_more(200, &[200, 201]);
    let killed = Instant::now();
    let folder = tracker.kill();
    load.wait_for_more(200, &[202]);
    let relay = start_relay(relay.kill());
    load.wait_for_more(200, &[202]);
    let relay = start_relay(relay.kill());
    load.wait_for_more(200, &[202]);
    std::thread::sleep(outage.saturating_sub(killed.elapsed()));
    assert!(waiting(&relay) >= 600, "{}", waiting(&relay));
    let tracker =
        Setup::error_tracker().data_dir(&folder).env("MAX_GROUPS", 1_000_000).env("PORT", behind.port()).start();
    // Once more while the outbox is emptied, when something is delivered and not removed yet.
    load.wait_for_more(50, &[200, 201]);
    assert!(waiting(&relay) > 0, "it is emptied already");
    let relay = start_relay(relay.kill());
    load.wait_for_more(200, &[200, 201]);
    load.stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().unwrap();
    }
    let (begun, left) = (Instant::now(), waiting(&relay));
    let mut least = left;
    while least > 0 {
        let fewer = wait_until(|| Some(waiting(&relay)).filter(|now| *now < least));
        least = fewer.unwrap_or_else(|| panic!("{least} are left"));
    }

    let acknowledged = load.acknowledged.lock().unwrap();
    let counted = counted(&tracker);
    let wrong: Vec<_> = acknowledged.keys().filter(|line| counted.get(line) != Some(&1)).collect();
    assert!(wrong.is_empty(), "{} of {} are not there once: {wrong:?}", wrong.len(), acknowledged.len());
    assert_eq!(counted.len(), acknowledged.len(), "nothing else is there");
    eprintln!(
        "{} reports acknowledged, {} of them queued; the tracker was away for {:.1} s, the last {left} took {:.1} s",
        acknowledged.len(),
        acknowledged.values().filter(|status| **status == 202).count(),
        outage.as_secs_f64(),
        begun.elapsed().as_secs_f64()
    );
    relay.get("/health").expect(200).has(json!({ "outbox_dropped": 0, "outbox_refused": 0, "outbox_bytes": 0 }));
}

#[test]
fn an_outbox_that_is_full_drops_the_oldest_and_counts_it() {
    let tracker = Setup::error_tracker().start();
    let (behind, setup) = (tracker.address, Setup::browser_relay(tracker.address, tracker.address));
    let folder = tracker.kill();
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
    let tracker = Setup::error_tracker().data_dir(&folder).env("PORT", behind.port()).start();
    assert!(wait_until(|| (waiting(&relay) == 0).then_some(())).is_some(), "{} are left", waiting(&relay));
    let counted = counted(&tracker);
    let oldest = u32::try_from(dropped).unwrap() + 1;
    assert_eq!(counted.keys().copied().collect::<Vec<_>>(), (oldest..=50).collect::<Vec<_>>());
    let metrics = relay.get("/metrics").expect(200).text();
    assert!(metrics.contains(&format!("monlight_outbox_dropped {dropped}")), "{metrics}");
}

#[test]
fn an_upstream_that_hangs_keeps_nobody_waiting_for_long() {
    let hung = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let behind = hung.local_addr().unwrap();
    let relay = Setup::browser_relay(behind, behind).start();
    let begun = Instant::now();
    let pages: Vec<_> = (1..=40)
        .map(|line| {
            let mut client = relay.connect();
            std::thread::spawn(move || client.send(&report(line)).status)
        })
        .collect();
    // While they wait, everything else is answered.
    relay.get("/health").expect(200);
    relay.get("/api/dsn-keys").expect(200);
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    for page in pages {
        assert_eq!(page.join().unwrap(), 202);
    }
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    let begun = Instant::now();
    relay.send(&report(41)).expect(202);
    assert!(begun.elapsed() < Duration::from_secs(2), "what comes later does not wait at all");
    let (status, took) = relay.stop();
    assert!(status.success() && took < Duration::from_secs(5), "{status} after {took:?}");
}
