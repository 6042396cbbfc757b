//! What comes in while things go wrong: each item has a number, and who was promised what is noted.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::docker_log::ContainerLog;
use crate::harness::{Client, Request, report_at};
use crate::stack::{COLLECTOR, RELAY, Stack, TRACKER, VIEWER};

/// Of each kind that is posted.
const CLIENTS: usize = 3;
const PACE: Duration = Duration::from_millis(15);
/// How long a client waits for an answer before it asks again, with the same key.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// How long one item may take to be acknowledged once everything is well.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(60);
/// What comes in, by the way that it comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Report,
    Point,
    PageReport,
    PagePoint,
    Line,
}

impl Kind {
    pub const ALL: [Self; 5] = [Self::Report, Self::Point, Self::PageReport, Self::PagePoint, Self::Line];
    const POSTED: [Self; 4] = [Self::Report, Self::Point, Self::PageReport, Self::PagePoint];

    /// Who acknowledges it.
    pub fn service(self) -> usize {
        match self {
            Self::Report => TRACKER,
            Self::Point => COLLECTOR,
            Self::PageReport | Self::PagePoint => RELAY,
            Self::Line => VIEWER,
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
            Self::PageReport => {
                let stack = format!("E: e\n    at f (https://shop.example/app.js:{line}:1)");
                let body = json!({ "type": "E", "message": "e", "stack": stack });
                Request::from_browser("/api/browser/errors", &body)
            }
            Self::PagePoint => {
                let point = json!({ "name": "page", "type": "gauge", "value": number });
                Request::from_browser("/api/browser/metrics", &json!({ "metrics": [point] }))
            }
            Self::Line => unreachable!("a line is written, not posted"),
        };
        request.header("Idempotency-Key", &format!("item-{number}"))
    }

    /// How often each number is stored.
    pub fn stored(self, stack: &Stack) -> BTreeMap<u64, u64> {
        let (database, sql) = match self {
            // A report's number is the line that it was raised at, so each opens a group.
            Self::Report => ("errors.db", "SELECT location, count FROM errors WHERE exception_type = 'ValueError'"),
            Self::PageReport => ("errors.db", "SELECT location, count FROM errors WHERE exception_type = 'E'"),
            Self::Point => ("metrics.db", "SELECT CAST(value AS INTEGER), 1 FROM metrics_raw WHERE name = 'direct'"),
            Self::PagePoint => ("metrics.db", "SELECT CAST(value AS INTEGER), 1 FROM metrics_raw WHERE name = 'page'"),
            Self::Line => ("logs.db", "SELECT message, 1 FROM log_entries WHERE message LIKE 'item %'"),
        };
        let database = stack.database(database);
        let mut read = database.prepare(sql).unwrap();
        let mut stored = BTreeMap::new();
        let mut rows = read.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let number = match row.get_ref(0).unwrap() {
                rusqlite::types::ValueRef::Integer(number) => number.unsigned_abs(),
                text => {
                    let text = text.as_str().unwrap();
                    let number = text.rsplit(' ').next().unwrap().rsplit(':').next().unwrap();
                    number.parse().unwrap_or_else(|_| panic!("no number in {text:?}"))
                }
            };
            *stored.entry(number).or_default() += u64::from(row.get::<_, u32>(1).unwrap());
        }
        stored
    }
}

/// What became of one try to hand something over.
#[derive(Debug, Clone, Copy)]
pub struct Try {
    pub at: Instant,
    pub acknowledged: bool,
}

/// What the clients share.
#[derive(Default)]
pub struct Ledger {
    stop: AtomicBool,
    next: AtomicU64,
    acknowledged: Mutex<BTreeMap<Kind, BTreeSet<u64>>>,
    /// By service.
    tries: [Mutex<Vec<Try>>; 4],
}

impl Ledger {
    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn acknowledge(&self, kind: Kind, number: u64) {
        self.acknowledged.lock().unwrap().entry(kind).or_default().insert(number);
    }

    /// The numbers of a kind that were acknowledged.
    pub fn acknowledged(&self, kind: Kind) -> BTreeSet<u64> {
        self.acknowledged.lock().unwrap().get(&kind).cloned().unwrap_or_default()
    }

    /// Every try at a service, by its time.
    pub fn tries(&self, service: usize) -> Vec<Try> {
        let mut tries = self.tries[service].lock().unwrap().clone();
        tries.sort_by_key(|one| one.at);
        tries
    }
}

/// Clients at work.
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
                clients.push(std::thread::spawn(move || post(&ledger, kind, address)));
            }
        }
        let (log, writing) = (ContainerLog::create(&stack.containers_dir, "shop"), Arc::clone(&ledger));
        clients.push(std::thread::spawn(move || write(&writing, log)));
        Self { ledger, clients }
    }

    /// Lets each client see to what it has begun, and no more.
    #[track_caller]
    pub fn stop(&mut self) {
        self.ledger.stop.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            client.join().expect("a client has all of its items acknowledged");
        }
    }
}

/// Posts one item after the other, each with a key of its own until it is acknowledged.
fn post(ledger: &Ledger, kind: Kind, address: SocketAddr) {
    let mut client = None;
    while !ledger.stopped() {
        let number = ledger.number();
        let (request, begun) = (kind.request(number), Instant::now());
        loop {
            let status = attempt(&mut client, address, &request);
            let acknowledged = status.is_some_and(|status| (200..=202).contains(&status));
            ledger.tries[kind.service()].lock().unwrap().push(Try { at: Instant::now(), acknowledged });
            if acknowledged {
                ledger.acknowledge(kind, number);
                break;
            }
            // A service may be away or have no room; anything else that it says would be wrong.
            assert!(matches!(status, None | Some(503)), "{kind:?} {number}: {status:?}");
            // While trouble goes on this is as long as it takes; after that, nobody waits forever.
            assert!(!ledger.stopped() || begun.elapsed() < ACKNOWLEDGED_WITHIN, "{kind:?} {number} is never taken");
            std::thread::sleep(PACE);
        }
        std::thread::sleep(PACE);
    }
}

/// The status of an answer; `None` when there is none.
fn attempt(client: &mut Option<Client>, address: SocketAddr, request: &Request) -> Option<u16> {
    if client.is_none() {
        let socket = TcpStream::connect_timeout(&address, ANSWER_WITHIN).ok()?;
        let new = client.insert(Client::new(socket));
        new.socket().set_read_timeout(Some(ANSWER_WITHIN)).unwrap();
    }
    let open = client.as_mut()?;
    open.write(&request.bytes());
    let answer = open.try_read_response();
    if answer.as_ref().is_none_or(|answer| answer.header("connection") == Some("close")) {
        *client = None;
    }
    answer.map(|answer| answer.status)
}

/// Writes lines; one that is in the log counts as acknowledged.
fn write(ledger: &Ledger, mut log: ContainerLog) {
    while !ledger.stopped() {
        let number = ledger.number();
        log.append_line(&format!("item {number}"));
        ledger.acknowledge(Kind::Line, number);
        std::thread::sleep(PACE);
    }
}
