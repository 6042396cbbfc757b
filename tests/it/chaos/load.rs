//! Load during a fault. Each item has a number, and every acknowledgment is recorded.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::docker_log::ContainerLog;
use crate::support::harness::{Client, Request, report_at};
use crate::support::stack::{COLLECTOR, RELAY, Stack, TRACKER, VIEWER};

/// Number of clients per kind of posted item.
const CLIENTS: usize = 3;
/// Pause between two requests of a client, and between two log lines.
const PAUSE: Duration = Duration::from_millis(15);
/// Time after which a client repeats a request without a response, with the same idempotency key.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Deadline for the acknowledgment of an item after the services have recovered.
const ACKNOWLEDGMENT_TIMEOUT: Duration = Duration::from_secs(60);

/// Kind of item, by the path on which it is ingested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Report,
    Point,
    BrowserReport,
    BrowserPoint,
    LogLine,
}

impl Kind {
    pub const ALL: [Self; 5] = [Self::Report, Self::Point, Self::BrowserReport, Self::BrowserPoint, Self::LogLine];
    const POSTED: [Self; 4] = [Self::Report, Self::Point, Self::BrowserReport, Self::BrowserPoint];

    /// Returns the index of the service that acknowledges items of this kind.
    pub fn service(self) -> usize {
        match self {
            Self::Report => TRACKER,
            Self::Point => COLLECTOR,
            Self::BrowserReport | Self::BrowserPoint => RELAY,
            Self::LogLine => VIEWER,
        }
    }

    fn request(self, number: u64) -> Request {
        let line = u32::try_from(number).unwrap();
        let request = match self {
            Self::Report => Request::post("/api/errors", &report_at("boom", line)),
            Self::Point => {
                let point = json!({ "name": "direct", "type": "gauge", "value": number, "labels": { "worker": 1 } });
                Request::post("/api/metrics", &json!([point]))
            }
            Self::BrowserReport => {
                let stack = format!("E: e\n    at f (https://shop.example/app.js:{line}:1)");
                let body = json!({ "type": "E", "message": "e", "stack": stack });
                Request::from_browser("/api/browser/errors", &body)
            }
            Self::BrowserPoint => {
                let point = json!({ "name": "page", "type": "gauge", "value": number });
                Request::from_browser("/api/browser/metrics", &json!({ "metrics": [point] }))
            }
            Self::LogLine => unreachable!("log lines are appended to a file, not posted"),
        };
        request.header("Idempotency-Key", &format!("item-{number}"))
    }

    /// Returns how often each number is stored.
    pub fn stored_counts(self, stack: &Stack) -> BTreeMap<u64, u64> {
        let (database, sql) = match self {
            // The number of a report is the line at which it was raised, so each report forms its own group.
            Self::Report => {
                ("errors.db", "SELECT location, count FROM error_groups WHERE exception_type = 'ValueError'")
            }
            Self::BrowserReport => ("errors.db", "SELECT location, count FROM error_groups WHERE exception_type = 'E'"),
            Self::Point => ("metrics.db", "SELECT CAST(value AS INTEGER), 1 FROM metrics_raw WHERE name = 'direct'"),
            Self::BrowserPoint => {
                ("metrics.db", "SELECT CAST(value AS INTEGER), 1 FROM metrics_raw WHERE name = 'page'")
            }
            Self::LogLine => ("logs.db", "SELECT message, 1 FROM log_entries WHERE message LIKE 'item %'"),
        };
        let database = stack.database(database);
        let mut statement = database.prepare(sql).unwrap();
        let mut counts = BTreeMap::new();
        let mut rows = statement.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let number = match row.get_ref(0).unwrap() {
                rusqlite::types::ValueRef::Integer(number) => number.unsigned_abs(),
                string => {
                    let string = string.as_str().unwrap();
                    let number = string.rsplit(' ').next().unwrap().rsplit(':').next().unwrap();
                    number.parse().unwrap_or_else(|_| panic!("no number in {string:?}"))
                }
            };
            *counts.entry(number).or_default() += u64::from(row.get::<_, u32>(1).unwrap());
        }
        counts
    }
}

/// Completed attempt to deliver an item.
#[derive(Debug, Clone, Copy)]
pub struct Attempt {
    pub at: Instant,
    pub acknowledged: bool,
}

/// State shared by the clients: acknowledged items and attempts.
#[derive(Default)]
pub struct Ledger {
    stop: AtomicBool,
    next: AtomicU64,
    acknowledged: Mutex<BTreeMap<Kind, BTreeSet<u64>>>,
    /// Attempts by service.
    attempts: [Mutex<Vec<Attempt>>; 4],
}

impl Ledger {
    fn next_number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn acknowledge(&self, kind: Kind, number: u64) {
        self.acknowledged.lock().unwrap().entry(kind).or_default().insert(number);
    }

    /// Returns the acknowledged numbers of a kind.
    pub fn acknowledged(&self, kind: Kind) -> BTreeSet<u64> {
        self.acknowledged.lock().unwrap().get(&kind).cloned().unwrap_or_default()
    }

    /// Returns all attempts at a service in the order of time.
    pub fn attempts(&self, service: usize) -> Vec<Attempt> {
        let mut attempts = self.attempts[service].lock().unwrap().clone();
        attempts.sort_by_key(|attempt| attempt.at);
        attempts
    }
}

/// Running clients.
pub struct Load {
    pub ledger: Arc<Ledger>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    pub fn start(stack: &Stack) -> Self {
        let ledger = Arc::new(Ledger::default());
        let mut clients = Vec::new();
        for kind in Kind::POSTED {
            for _ in 0..CLIENTS {
                let (ledger, address) = (Arc::clone(&ledger), stack.addresses[kind.service()]);
                clients.push(std::thread::spawn(move || post_items(&ledger, kind, address)));
            }
        }
        let (log, log_ledger) = (ContainerLog::create(&stack.containers_dir, "shop"), Arc::clone(&ledger));
        clients.push(std::thread::spawn(move || append_log_lines(&log_ledger, log)));
        Self { ledger, clients }
    }

    /// Stops the clients after the acknowledgment of their current items.
    #[track_caller]
    pub fn stop(&mut self) {
        self.ledger.stop.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            client.join().expect("every client gets its last item acknowledged");
        }
    }
}

/// Posts items one after another. Repeats each with the same idempotency key until it is acknowledged.
fn post_items(ledger: &Ledger, kind: Kind, address: SocketAddr) {
    let mut client = None;
    while !ledger.is_stopped() {
        let number = ledger.next_number();
        let (request, start) = (kind.request(number), Instant::now());
        loop {
            let status = send(&mut client, address, &request);
            let acknowledged = status.is_some_and(|status| (200..=202).contains(&status));
            ledger.attempts[kind.service()].lock().unwrap().push(Attempt { at: Instant::now(), acknowledged });
            if acknowledged {
                ledger.acknowledge(kind, number);
                break;
            }
            // During a fault, a service may not respond or respond with 503; no other error is acceptable.
            assert!(matches!(status, None | Some(503)), "{kind:?} {number}: {status:?}");
            // The deadline applies only after the faults, when the clients are stopped.
            assert!(
                !ledger.is_stopped() || start.elapsed() < ACKNOWLEDGMENT_TIMEOUT,
                "{kind:?} {number} is not acknowledged within {ACKNOWLEDGMENT_TIMEOUT:?}"
            );
            std::thread::sleep(PAUSE);
        }
        std::thread::sleep(PAUSE);
    }
}

/// Sends a request and returns the status of the response; `None` without a response.
fn send(client: &mut Option<Client>, address: SocketAddr, request: &Request) -> Option<u16> {
    if client.is_none() {
        let socket = TcpStream::connect_timeout(&address, RESPONSE_TIMEOUT).ok()?;
        let connected = client.insert(Client::new(socket));
        connected.socket().set_read_timeout(Some(RESPONSE_TIMEOUT)).unwrap();
    }
    let connection = client.as_mut()?;
    connection.write(&request.bytes());
    let response = connection.try_read_response();
    if response.as_ref().is_none_or(|response| response.header("connection") == Some("close")) {
        *client = None;
    }
    response.map(|response| response.status)
}

/// Appends log lines. A line counts as acknowledged as soon as it is in the file.
fn append_log_lines(ledger: &Ledger, mut log: ContainerLog) {
    while !ledger.is_stopped() {
        let number = ledger.next_number();
        log.append_line(&format!("item {number}"));
        ledger.acknowledge(Kind::LogLine, number);
        std::thread::sleep(PAUSE);
    }
}
