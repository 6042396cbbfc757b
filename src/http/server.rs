//! The fixed pool behind the door, and a server's beginning and end.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use rustix::event::{EventfdFlags, epoll, eventfd};

use super::body::decode;
use super::budget::Budget;
use super::connection::Surroundings;
use super::door::{ConnectionLimits, Door, Lanes, Work};
use super::doorstep::Doorstep;
use super::gate::{AdmissionSettings, Gate};
use super::request::{Content, Request};
use super::responder::Responder;
use super::response::Response;
use super::route::{Handler, Route, RouteSpec};
use super::stats::Stats;
use crate::background;
use crate::error::{Error, Result};

/// Threads that run handlers, in each of two lanes: one for pages, which may be large or take their time, and one for
/// what is quick, so that no page keeps a report or a health check waiting. As few as keep two processors busy: a page
/// of the largest kind takes 2.5 MB while it is made.
const WORKERS_PER_LANE: usize = 2;

/// Connections that may wait to be accepted; the system may allow fewer. With the 128 of the standard library a burst
/// overflows, and whoever comes then waits a second until the kernel tries again.
const BACKLOG: i32 = 4096;

/// How a server is set up.
pub struct Settings {
    /// How many connections may be open.
    pub connection_limits: ConnectionLimits,
    /// What is decided on a request's head.
    pub gate: AdmissionSettings,
    /// Where bodies that are not kept in memory lie while they arrive.
    pub spool_dir: PathBuf,
}

/// A running server.
pub struct Server {
    address: SocketAddr,
    doorstep: Arc<Doorstep>,
    threads: Vec<JoinHandle<()>>,
}

/// A server that holds its port and does not answer yet.
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
}

impl Bound {
    /// Takes the port.
    ///
    /// # Errors
    /// One sentence that names the address, when it is in use or not this machine's.
    pub fn bind(address: SocketAddr) -> std::result::Result<Self, String> {
        let listener = TcpListener::bind(address).map_err(|why| match why.kind() {
            io::ErrorKind::AddrInUse => format!("{address} is in use already; stop the other program or set PORT"),
            _ => format!("cannot listen on {address}: {why}"),
        })?;
        let widened = rustix::net::listen(&listener, BACKLOG).map_err(io::Error::from);
        let prepared = widened.and_then(|()| listener.set_nonblocking(true)).and_then(|()| listener.local_addr());
        let address = prepared.map_err(|why| format!("cannot listen on {address}: {why}"))?;
        Ok(Self { listener, address })
    }

    /// Where it listens, with the port that was taken.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Server {
    /// Starts the door and the pool on a port that is held already. `state` makes what the handlers work on, given
    /// the server's own counters.
    ///
    /// # Errors
    /// When the system refuses a thread or a descriptor.
    pub fn start<S: Send + Sync + 'static>(
        bound: Bound,
        settings: Settings,
        routes: Vec<Route<S>>,
        state: impl FnOnce(Arc<Stats>) -> Arc<S>,
    ) -> io::Result<Self> {
        let rules: Arc<[RouteSpec]> = routes.iter().map(|route| route.rule.clone()).collect();
        let handlers: Arc<[Handler<S>]> = routes.into_iter().map(|route| route.handler).collect();
        let stats = Arc::new(Stats::new(rules.iter().map(|rule| (rule.method.to_string(), rule.path)).collect()));
        let state = state(Arc::clone(&stats));
        let (returns, returned) = unbounded();
        let doorstep = Arc::new(Doorstep {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            wake: eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?,
            returns,
            stats: Arc::clone(&stats),
            stopping: AtomicBool::new(false),
        });
        let spool_dir = settings.spool_dir;
        let mut threads = Vec::with_capacity(2 * WORKERS_PER_LANE + 1);
        let mut lane = |name: &str| -> io::Result<Sender<Work>> {
            let (work, queue) = bounded(settings.connection_limits.connections + 1);
            for index in 0..WORKERS_PER_LANE {
                let worker = Worker {
                    queue: queue.clone(),
                    handlers: Arc::clone(&handlers),
                    state: Arc::clone(&state),
                    body_bytes_max: settings.gate.body_bytes_max,
                    rules: Arc::clone(&rules),
                    spool_dir: spool_dir.clone(),
                };
                threads.push(background::spawn_critical(&format!("{name}-{index}"), move || worker.run())?);
            }
            Ok(work)
        };
        let lanes = Lanes { quick: lane("quick")?, pages: lane("pages")? };
        let gate = Gate::new(settings.gate, rules, Arc::clone(&stats.refused));
        let (now, budget) = (Instant::now(), Budget::default());
        let around = Surroundings { gate, budget, stats, spool_dir, now, stopping: false };
        let door =
            Door::new(bound.listener, Arc::clone(&doorstep), returned, lanes, settings.connection_limits, around);
        let run = move || {
            if let Err(why) = door.run() {
                panic!("the door cannot wait for events: {why}");
            }
        };
        threads.push(background::spawn_critical("door", run)?);
        Ok(Self { address: bound.address, doorstep, threads })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting and waits until every request that had begun is answered, at most `patience`. Answers whether
    /// all were; what was not is dropped with the process.
    #[must_use]
    pub fn stop(self, patience: Duration) -> bool {
        self.doorstep.stopping.store(true, Ordering::Relaxed);
        self.doorstep.wake();
        let deadline = Instant::now() + patience;
        for thread in self.threads {
            while !thread.is_finished() {
                if Instant::now() >= deadline {
                    return false;
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            // A vital thread that panicked has ended the process already.
            let _ = thread.join();
        }
        true
    }
}

/// One thread of the pool.
struct Worker<S> {
    queue: Receiver<Work>,
    handlers: Arc<[Handler<S>]>,
    state: Arc<S>,
    rules: Arc<[RouteSpec]>,
    body_bytes_max: usize,
    spool_dir: PathBuf,
}

impl<S> Worker<S> {
    /// Works until the door is closed and the queue is empty.
    fn run(self) {
        while let Ok(Work { pending, mut responder }) = self.queue.recv() {
            let (head, admitted, content) = pending.into_parts();
            let route = admitted.route;
            log::debug!("{} {}", head.method(), head.path());
            let encoding = head.field("content-encoding").map(str::to_owned);
            let decoded = match &mut responder.charge {
                Some(charge) => decode(content, encoding.as_deref(), self.bytes_max(route), charge, &self.spool_dir),
                None => Ok(content),
            };
            match decoded {
                Err(error) => responder.send(error.into()),
                Ok(content) => {
                    let (body, spooled) = match content {
                        Content::Memory(bytes) => (Arc::new(bytes), None),
                        Content::File(file) => (Arc::default(), Some(file)),
                    };
                    let query = head.query();
                    let (principal, client) = (admitted.principal, admitted.client);
                    let request = Request { head, params: admitted.params, query, body, spooled, principal, client };
                    self.answer(route, request, responder);
                }
            }
        }
    }

    fn bytes_max(&self, route: usize) -> usize {
        match self.rules[route].body {
            super::route::Body::None => 0,
            super::route::Body::Memory => self.body_bytes_max,
            super::route::Body::Spooled(bytes_max) => bytes_max,
        }
    }

    /// Runs a handler. One that panics is answered with 500; the thread goes on.
    fn answer(&self, route: usize, request: Request, responder: Responder) {
        match &self.handlers[route] {
            Handler::Now(handler) => {
                let answer = catch_unwind(AssertUnwindSafe(|| handler(&self.state, &request)));
                responder.send(Response::from(flatten(answer)));
            }
            Handler::Later(handler) => {
                let line = request.line();
                let unwound = catch_unwind(AssertUnwindSafe(|| handler(&self.state, request, responder)));
                if unwound.is_err() {
                    log::error!("a handler panicked: {line}");
                }
            }
        }
    }
}

fn flatten(answer: std::thread::Result<Result<Response>>) -> Result<Response> {
    answer.unwrap_or_else(|_| Err(Error::Internal("a handler panicked".into())))
}
