//! HTTP server: starts the event loop and a fixed pool of worker threads that run the handlers, and stops them.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded, unbounded};
use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::net::sockopt;

use super::event_loop::budget::{Budget, Reservation};
use super::event_loop::handle::LoopHandle;
use super::event_loop::input_buffer::InputBuffer;
use super::event_loop::loop_context::LoopContext;
use super::event_loop::queues::{PartTask, QueryTask, Queues, Task};
use super::event_loop::responder::Responder;
use super::event_loop::{ConnectionLimits, EventLoop};
use super::middleware::admission::{Admission, AdmissionSettings};
use super::middleware::routing::{BodyLimit, RouteSpec};
use super::protocol::body::BodyStorage;
use super::protocol::content_coding::decode;
use super::query_queue::{QUERY_WORKERS, QueryQueue};
use super::request::Request;
use super::response::Response;
use super::route::{Handler, Route};
use super::stats::Stats;
use crate::background;
use crate::error::{Error, Result};

/// Worker threads for telemetry: as few as keep two processors busy.
const INGEST_WORKERS: usize = 2;
/// Size of a socket's send buffer in bytes, which the kernel doubles. It bounds the kernel memory that a client who does not
/// read can occupy: the kernel checks it before each segment of up to 64 KB, so that a connection occupies at most 96 KB.
pub(in crate::http) const SEND_BUFFER_BYTES: usize = 16 * 1024;
/// Maximum connections in the kernel's accept queue, if the system allows as many. With the standard library's 128, a burst
/// overflows it, and the dropped clients wait a second until the kernel retries.
const BACKLOG: i32 = 4096;

/// Settings of a server.
pub struct Settings {
    /// The limits on open connections.
    pub connection_limits: ConnectionLimits,
    /// The settings of admission control.
    pub admission: AdmissionSettings,
    /// The folder of anonymous files for spooled bodies.
    pub spool_dir: PathBuf,
    /// Maximum time in which a client reads nothing of its response. Then the connection is reset.
    pub response_timeout: Duration,
}

/// A running server.
pub struct Server {
    address: SocketAddr,
    handle: Arc<LoopHandle>,
    threads: Vec<JoinHandle<()>>,
}

/// A port that is bound but not served yet.
pub struct BoundListener {
    listener: TcpListener,
    address: SocketAddr,
}

impl BoundListener {
    /// Binds a port. Port 0 selects a free one.
    ///
    /// # Errors
    /// Returns one sentence that names the address if it is in use or not an address of this machine.
    pub fn bind(address: SocketAddr) -> std::result::Result<Self, String> {
        let listener = TcpListener::bind(address).map_err(|why| match why.kind() {
            io::ErrorKind::AddrInUse => format!("{address} is already in use; stop the other program or set PORT"),
            _ => format!("cannot listen on {address}: {why}"),
        })?;
        let listening = rustix::net::listen(&listener, BACKLOG).map_err(io::Error::from);
        let prepared = listening.and_then(|()| listener.set_nonblocking(true)).and_then(|()| listener.local_addr());
        let address = prepared.map_err(|why| format!("cannot listen on {address}: {why}"))?;
        Ok(Self { listener, address })
    }

    /// Returns the bound address with the actual port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Maximum segment size of connections, in bytes. The receiver delays its acknowledgment by 40 ms until more than one segment
/// has arrived. Segments of the loopback interface have 64 KB, so they would not fit into the send buffer, and each buffer
/// of a large response would wait for that delay.
const SEGMENT_BYTES_MAX: u32 = 4 * 1024;

/// Sets the options of the sockets of all connections, which inherit them from the listening one. After the timeout, the
/// kernel resets a connection whose peer does not acknowledge or accept data, even if we have closed it already.
fn configure_socket(socket: &TcpListener, response_timeout: Duration) -> io::Result<()> {
    // Responses are written at once; Nagle's algorithm would only delay them.
    sockopt::set_tcp_nodelay(socket, true)?;
    sockopt::set_socket_send_buffer_size(socket, SEND_BUFFER_BYTES)?;
    socket2::SockRef::from(socket).set_tcp_mss(SEGMENT_BYTES_MAX)?;
    sockopt::set_tcp_user_timeout(socket, u32::try_from(response_timeout.as_millis()).unwrap_or(u32::MAX))?;
    Ok(())
}

impl Server {
    /// Starts the event loop and the worker pool on a bound port. `state` receives the server's counters and returns the
    /// state for the handlers.
    ///
    /// # Errors
    /// Fails if the system refuses a thread or a descriptor.
    pub fn start<S: Send + Sync + 'static>(
        bound: BoundListener,
        settings: Settings,
        routes: Vec<Route<S>>,
        state: impl FnOnce(Arc<Stats>) -> Arc<S>,
    ) -> io::Result<Self> {
        let response_timeout = settings.response_timeout;
        configure_socket(&bound.listener, response_timeout)?;
        let specs: Arc<[RouteSpec]> = routes.iter().map(|route| route.spec.clone()).collect();
        let handlers: Arc<[Handler<S>]> = routes.into_iter().map(|route| route.handler).collect();
        let stats = Arc::new(Stats::new(specs.iter().map(|spec| (spec.method.to_string(), spec.path)).collect()));
        let state = state(Arc::clone(&stats));
        let (completions, completed) = unbounded();
        let handle = Arc::new(LoopHandle {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            wake: eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?,
            completions,
            stats: Arc::clone(&stats),
            response_timeout,
            stopping: AtomicBool::new(false),
        });
        let spool_dir = settings.spool_dir;
        let mut threads = Vec::with_capacity(INGEST_WORKERS + QUERY_WORKERS + 1);
        let worker = || Worker {
            handlers: Arc::clone(&handlers),
            state: Arc::clone(&state),
            body_bytes_max: settings.admission.body_bytes_max,
            specs: Arc::clone(&specs),
            spool_dir: spool_dir.clone(),
        };
        // Two queues, so that slow queries never delay telemetry and health checks.
        let (ingest, ingest_tasks) = bounded(settings.connection_limits.connections + 1);
        for index in 0..INGEST_WORKERS {
            let (worker, tasks) = (worker(), ingest_tasks.clone());
            threads.push(background::spawn_critical(&format!("ingest-{index}"), move || worker.run_ingest(&tasks))?);
        }
        let query = Arc::new(QueryQueue::default());
        for index in 0..QUERY_WORKERS {
            let (worker, queue) = (worker(), Arc::clone(&query));
            threads.push(background::spawn_critical(&format!("query-{index}"), move || worker.run_queries(&queue))?);
        }
        let queues = Queues { ingest, query };
        let admission = Admission::new(settings.admission, specs, &stats);
        let (now, budget) = (Instant::now(), Budget::default());
        let input_buffer = InputBuffer::default();
        let cx =
            LoopContext { admission, budget, stats, spool_dir, response_timeout, now, stopping: false, input_buffer };
        let limits = settings.connection_limits;
        let event_loop = EventLoop::new(bound.listener, Arc::clone(&handle), completed, queues, limits, cx);
        let run = move || {
            if let Err(why) = event_loop.run() {
                panic!("event loop: epoll failed: {why}");
            }
        };
        threads.push(background::spawn_critical("event-loop", run)?);
        Ok(Self { address: bound.address, handle, threads })
    }

    /// Returns the address that the server listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting connections and waits up to `timeout` until every started request is answered. Returns whether all
    /// were; the others end with the process.
    #[must_use]
    pub fn stop(self, timeout: Duration) -> bool {
        self.handle.stopping.store(true, Ordering::Relaxed);
        self.handle.wake();
        let deadline = Instant::now() + timeout;
        for thread in self.threads {
            while !thread.is_finished() {
                if Instant::now() >= deadline {
                    return false;
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            // A critical thread that panicked has ended the process already.
            let _ = thread.join();
        }
        true
    }
}

/// A thread of the worker pool.
struct Worker<S> {
    handlers: Arc<[Handler<S>]>,
    state: Arc<S>,
    specs: Arc<[RouteSpec]>,
    body_bytes_max: usize,
    spool_dir: PathBuf,
}

impl<S> Worker<S> {
    /// Runs until the event loop has ended and the queue is empty.
    fn run_ingest(self, tasks: &Receiver<Task>) {
        while let Ok(task) = tasks.recv() {
            self.handle_request(task);
        }
    }

    /// Runs until the event loop has ended and the queue is empty.
    fn run_queries(self, queue: &Arc<QueryQueue<QueryTask>>) {
        while let Some((task, running)) = queue.take() {
            match task {
                QueryTask::Request(task) => self.handle_request(task),
                QueryTask::Part(task) => self.produce_part(task),
            }
            drop(running);
        }
    }

    /// Sends the next part of a response. If that fails, resets the connection, so that the client can tell that the
    /// response is incomplete.
    fn produce_part(&self, PartTask { body, connection, keep_alive }: PartTask) {
        let spec = &self.specs[body.route];
        let produced = catch_unwind(AssertUnwindSafe(|| body.next_part()));
        match produced.unwrap_or_else(|_| Err(Error::Internal("the source of the body panicked".into()))) {
            Ok(writer) => connection.send(writer, keep_alive),
            Err(why) => {
                log::error!(
                    "http: {} {} failed after the first part: {why}; the connection is reset",
                    spec.method,
                    spec.path
                );
                connection.reset();
            }
        }
    }

    fn handle_request(&self, Task { pending, mut responder }: Task) {
        let (head, admitted, body) = pending.into_parts();
        let route = admitted.route;
        log::debug!("http: {} {}", head.method(), head.path());
        let coding = head.header("content-encoding").map(str::to_owned);
        let decoded = match &mut responder.reservation {
            Some(reservation) => self.decode(body, coding.as_deref(), route, reservation),
            None => Ok(body),
        };
        match decoded {
            Err(error) => responder.send(error.into()),
            Ok(body) => {
                let (body, spooled) = match body {
                    BodyStorage::Memory(bytes) => (Arc::new(bytes), None),
                    BodyStorage::File(file) => (Arc::default(), Some(file)),
                };
                let request = Request {
                    query: head.query(),
                    head,
                    params: admitted.params,
                    body,
                    spooled,
                    principal: admitted.principal,
                    client: admitted.client,
                    idempotency: admitted.idempotency,
                };
                self.answer(route, request, responder);
            }
        }
    }

    /// Decodes a body's content coding and reserves the additional memory.
    fn decode(
        &self,
        body: BodyStorage,
        coding: Option<&str>,
        route: usize,
        reservation: &mut Reservation,
    ) -> Result<BodyStorage> {
        let bytes_max = match self.specs[route].body_limit {
            BodyLimit::NoBody => 0,
            BodyLimit::MaxBodySize => self.body_bytes_max,
            BodyLimit::Spooled(bytes_max) => bytes_max,
        };
        let encoded_bytes = reservation.bytes();
        let mut reserve = |decoded_bytes: usize| {
            let resized = reservation.resize(encoded_bytes + decoded_bytes);
            resized.map_err(|_| Error::Busy("Too many concurrent request bytes"))
        };
        decode(body, coding, bytes_max, &mut reserve, &self.spool_dir)
    }

    /// Runs a handler. If it panics, the client gets a 500 and the thread continues.
    fn answer(&self, route: usize, request: Request, responder: Responder) {
        match &self.handlers[route] {
            Handler::Sync(handler) => {
                let result = catch_unwind(AssertUnwindSafe(|| handler(&self.state, &request)));
                let result = result.unwrap_or_else(|_| Err(Error::Internal("a handler panicked".into())));
                responder.send(Response::from(result));
            }
            Handler::Deferred(handler) => {
                let line = request.line();
                let unwound = catch_unwind(AssertUnwindSafe(|| handler(&self.state, request, responder)));
                if unwound.is_err() {
                    log::error!("http: {line} failed: its handler panicked; the client gets a 500");
                }
            }
        }
    }
}
