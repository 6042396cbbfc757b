//! Event loop: one thread that owns every connection that is not being answered. It accepts connections, reads without
//! blocking, consults admission control on each head, enforces deadlines and limits, and finishes responses that a socket
//! did not accept at once.
//!
//! When a connection limit is reached, the oldest connection that is not being answered is evicted, whatever its state.
//! Rejecting the newest instead, or sparing connections in some state, would let the first clients keep out all others.

pub(in crate::http) mod budget;
pub(in crate::http) mod connection;
pub(in crate::http) mod handle;
pub(in crate::http) mod input_buffer;
pub(in crate::http) mod loop_context;
pub(in crate::http) mod pending_request;
pub(in crate::http) mod phase;
pub(in crate::http) mod queues;
pub(in crate::http) mod responder;
pub(in crate::http) mod slab;
pub(in crate::http) mod stream;
pub(in crate::http) mod unsent_response;

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use rustix::event::{Timespec, epoll};
use rustix::net::{SocketAddrAny, SocketFlags};

use connection::Connection;
use handle::{BusyConnection, Completion, LoopHandle, Outcome, reset_on_close};
use loop_context::LoopContext;
use pending_request::PendingRequest;
use phase::{AfterResponse, NextStep};
use queues::{PartTask, Queues, Task};
use responder::Responder;
use slab::Slab;
use unsent_response::StreamedBody;

use crate::error::Error;
use crate::http::middleware::client_address::{canonical, rate_limit_key};
use crate::http::query_queue::ClientKey;

const KEY_LISTENER: u64 = u64::MAX;
const KEY_WAKE: u64 = u64::MAX - 1;
const EVENTS_MAX: usize = 128;
const ACCEPTS_PER_EVENT: usize = 64;
const SCRATCH_BYTES: usize = 64 * 1024;
/// Maximum bytes of all unsent responses together. Beyond it, the client with the most bytes × time since it last read is
/// disconnected.
const UNSENT_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Pause after a failed accept if no connection can be evicted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Maximum sleep. A connection may return without waking the loop, and its idle deadline must still be enforced.
const SLEEP_MAX: Duration = Duration::from_secs(30);

/// Maximum sleep while stopping, so that connections that return without waking the loop are closed soon.
const STOPPING_SLEEP_MAX: Duration = Duration::from_millis(20);

/// Maximum numbers of open connections.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// Maximum in total.
    pub connections: usize,
    /// Maximum from one IPv4 address or one IPv6 /64.
    pub connections_per_address: usize,
}

/// The state of the event loop's thread.
pub(in crate::http) struct EventLoop {
    pub(in crate::http) listener: Option<TcpListener>,
    pub(in crate::http) handle: Arc<LoopHandle>,
    pub(in crate::http) completions: Receiver<Completion>,
    pub(in crate::http) queues: Queues,
    pub(in crate::http) connection_limits: ConnectionLimits,
    pub(in crate::http) cx: LoopContext,
    connections: Slab<Connection>,
    connections_per_address: HashMap<IpAddr, usize>,
    /// The number of connections accepted so far. It orders connections by age, since many are accepted at the same time.
    accept_seq: u64,
    resume_accepting: Option<Instant>,
    next_deadline: Instant,
}

impl EventLoop {
    pub(in crate::http) fn new(
        listener: TcpListener,
        handle: Arc<LoopHandle>,
        completions: Receiver<Completion>,
        queues: Queues,
        connection_limits: ConnectionLimits,
        cx: LoopContext,
    ) -> Self {
        let next_deadline = cx.now + SLEEP_MAX;
        Self {
            listener: Some(listener),
            handle,
            completions,
            queues,
            connection_limits,
            cx,
            connections: Slab::default(),
            connections_per_address: HashMap::new(),
            accept_seq: 0,
            resume_accepting: None,
            next_deadline,
        }
    }

    /// Runs until the server stops and every request that has started is answered.
    ///
    /// # Errors
    /// Fails if epoll fails.
    pub(in crate::http) fn run(mut self) -> io::Result<()> {
        self.watch_listener()?;
        let wake = epoll::EventData::new_u64(KEY_WAKE);
        epoll::add(&self.handle.epoll, &self.handle.wake, wake, epoll::EventFlags::IN)?;
        let mut scratch = vec![0; SCRATCH_BYTES].into_boxed_slice();
        let mut events: Vec<epoll::Event> = Vec::with_capacity(EVENTS_MAX);
        while !(self.cx.stopping && self.connections.is_empty()) {
            self.wait(&mut events)?;
            self.cx.now = Instant::now();
            for event in events.drain(..) {
                // Before each event, because it may belong to a connection that is only now returning, and because the
                // limit on unsent responses applies once they are here.
                self.handle_completions();
                match event.data.u64() {
                    KEY_LISTENER => self.accept(&mut scratch),
                    KEY_WAKE => reset(&self.handle.wake),
                    key => self.handle_event(key, event.flags, &mut scratch),
                }
            }
            self.handle_completions();
            self.expire_deadlines();
            if self.handle.stopping.load(Ordering::Relaxed) && !self.cx.stopping {
                self.stop_accepting();
            }
        }
        Ok(())
    }

    fn watch_listener(&self) -> io::Result<()> {
        let Some(listener) = &self.listener else { return Ok(()) };
        let event = epoll::EventData::new_u64(KEY_LISTENER);
        epoll::add(&self.handle.epoll, listener, event, epoll::EventFlags::IN)?;
        Ok(())
    }

    fn wait(&self, events: &mut Vec<epoll::Event>) -> io::Result<()> {
        let wake_at = self.resume_accepting.map_or(self.next_deadline, |again| again.min(self.next_deadline));
        let wait = wake_at.saturating_duration_since(Instant::now());
        let wait = if self.cx.stopping { wait.min(STOPPING_SLEEP_MAX) } else { wait };
        let wait = Timespec { tv_sec: wait.as_secs().cast_signed(), tv_nsec: wait.subsec_nanos().into() };
        match epoll::wait(&self.handle.epoll, rustix::buffer::spare_capacity(events), Some(&wait)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(why) => Err(why.into()),
        }
    }

    fn accept(&mut self, scratch: &mut [u8]) {
        for _ in 0..ACCEPTS_PER_EVENT {
            let Some(listener) = &self.listener else { return };
            match rustix::net::acceptfrom_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok((socket, peer)) => self.register(socket, peer, scratch),
                Err(why) => match io::Error::from(why).kind() {
                    ErrorKind::WouldBlock => return,
                    ErrorKind::Interrupted | ErrorKind::ConnectionAborted => {}
                    // Out of descriptors or memory: evict one connection, then accept the next from the backlog.
                    _ => {
                        if !self.evict(None) {
                            log::warn!("http: accept failed: {why}; will retry in {} ms", ACCEPT_PAUSE.as_millis());
                            return self.pause_accepting();
                        }
                    }
                },
            }
        }
    }

    /// Stops watching the listener for a while. Otherwise epoll would report its pending connections in a busy loop.
    fn pause_accepting(&mut self) {
        if let Some(listener) = &self.listener
            && epoll::delete(&self.handle.epoll, listener).is_ok()
        {
            self.resume_accepting = Some(self.cx.now + ACCEPT_PAUSE);
        }
    }

    fn register(&mut self, socket: OwnedFd, peer: Option<SocketAddrAny>, scratch: &mut [u8]) {
        let peer = peer.and_then(|peer| std::net::SocketAddr::try_from(peer).ok());
        let Some(peer) = peer.map(|peer| canonical(peer.ip())) else { return };
        let address_key = (!self.cx.admission.is_trusted(peer)).then(|| rate_limit_key(peer));
        let open = address_key.and_then(|key| self.connections_per_address.get(&key)).copied().unwrap_or(0);
        if open >= self.connection_limits.connections_per_address && !self.evict(address_key) {
            return;
        }
        if self.connections.len() >= self.connection_limits.connections && !self.evict(None) {
            return;
        }
        let connection = Connection::new(TcpStream::from(socket), peer, address_key, self.accept_seq, &self.cx);
        self.accept_seq += 1;
        let (key, connection) = self.connections.insert(connection);
        let event = epoll::EventData::new_u64(key);
        let watched = epoll::add(&self.handle.epoll, &connection.socket, event, epoll::EventFlags::ONESHOT);
        if let Some(address_key) = address_key {
            *self.connections_per_address.entry(address_key).or_insert(0) += 1;
        }
        self.cx.stats.connections.fetch_add(1, Ordering::Relaxed);
        // The request has usually arrived by the time the connection is accepted: read it without waiting for an event.
        let next = match watched {
            Ok(()) => connection.readable(&mut self.cx, scratch),
            Err(_) => NextStep::Close,
        };
        self.perform(key, next);
    }

    /// Closes the oldest connection that is not being answered, of one address or of all. Returns whether there was one.
    fn evict(&mut self, address_key: Option<IpAddr>) -> bool {
        let candidates = self.connections.iter().filter(|(_, connection)| !connection.is_busy());
        let candidates =
            candidates.filter(|(_, connection)| address_key.is_none() || connection.address_key == address_key);
        let Some((key, _)) = candidates.min_by_key(|(_, connection)| connection.accept_seq) else { return false };
        self.cx.stats.evicted.fetch_add(1, Ordering::Relaxed);
        self.close(key);
        true
    }

    fn handle_event(&mut self, key: u64, flags: epoll::EventFlags, scratch: &mut [u8]) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.is_busy() {
            return;
        }
        let next = if connection.unsent_bytes() > 0 || flags.contains(epoll::EventFlags::OUT) {
            connection.writable(&mut self.cx)
        } else if flags.contains(epoll::EventFlags::ERR) {
            NextStep::Close
        } else {
            connection.readable(&mut self.cx, scratch)
        };
        self.perform(key, next);
    }

    fn perform(&mut self, key: u64, mut next: NextStep) {
        loop {
            match next {
                NextStep::Read => return self.rearm(key, epoll::EventFlags::IN),
                NextStep::Write => return self.rearm(key, epoll::EventFlags::OUT),
                NextStep::Close => return self.close(key),
                NextStep::Dispatch(pending) => return self.dispatch(key, pending),
                NextStep::Produce { body, keep_alive } => return self.produce(key, body, keep_alive),
                NextStep::OverBudget => {
                    self.shed_heaviest(key);
                    // The request that was shed may have been this connection's own.
                    let Some(connection) = self.connections.get_mut(key) else { return };
                    next = connection.advance(&mut self.cx);
                }
            }
        }
    }

    /// Rejects the unfinished request with the highest bytes × age, which may be that of `requesting`.
    fn shed_heaviest(&mut self, requesting: u64) {
        let now = self.cx.now;
        let cost =
            |connection: &Connection| if connection.unsent_bytes() > 0 { 0 } else { connection.cost_byte_ms(now) };
        let heaviest = self.connections.iter().max_by_key(|(_, connection)| cost(connection));
        // If requests that are being answered hold the whole budget, no other request can be shed.
        let key = heaviest.filter(|(_, connection)| cost(connection) > 0).map_or(requesting, |(key, _)| key);
        let Some(connection) = self.connections.get_mut(key) else { return };
        let next = connection.reject(Error::Busy("Too many concurrent request bytes").into(), &mut self.cx);
        match next {
            NextStep::Read => self.rearm(key, epoll::EventFlags::IN),
            NextStep::Write => self.rearm(key, epoll::EventFlags::OUT),
            _ => self.close(key),
        }
    }

    fn dispatch(&mut self, key: u64, pending: Box<PendingRequest>) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let client =
            ClientKey { principal: Arc::as_ptr(&pending.admitted.principal).addr(), address: pending.admitted.client };
        let responder = Responder {
            connection: busy(&self.handle, key, connection),
            keep_alive: pending.head.keep_alive() && !self.cx.stopping,
            head_only: pending.admitted.head_only,
            supports_chunked: pending.head.supports_chunked(),
            gzip: pending.head.accepts("gzip"),
            cors: pending.admitted.cors.clone(),
            reservation: Some(connection.take_reservation(&self.cx.budget)),
            route: pending.admitted.route,
            client,
            started: connection.started(),
            responded: false,
        };
        self.queues.push_request(Task { pending, responder });
    }

    /// Has the next part of a response produced.
    fn produce(&mut self, key: u64, body: Box<StreamedBody>, keep_alive: bool) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let connection = busy(&self.handle, key, connection);
        self.queues.push_part(PartTask { body, connection, keep_alive });
    }

    fn handle_completions(&mut self) {
        while let Ok(Completion { key, outcome }) = self.completions.try_recv() {
            let Some(connection) = self.connections.get_mut(key) else { continue };
            let keep_alive = match outcome {
                Outcome::Sent { keep_alive } => keep_alive,
                Outcome::Unsent { writer, keep_alive } => {
                    let next = connection.start_sending(writer, after_response(keep_alive), &self.cx);
                    self.perform(key, next);
                    self.evict_slow_readers();
                    continue;
                }
                Outcome::Reset => {
                    reset_on_close(&connection.socket);
                    self.close(key);
                    continue;
                }
            };
            let after = after_response(keep_alive);
            let next = match connection.on_response_sent(after, &self.cx) {
                Some(next) => next,
                // The responder has rearmed the socket, unless the next request had arrived already.
                None if connection.has_input() => connection.advance(&mut self.cx),
                None => {
                    let deadline = connection.deadline;
                    self.schedule(deadline);
                    continue;
                }
            };
            self.perform(key, next);
        }
    }

    fn evict_slow_readers(&mut self) {
        let now = self.cx.now;
        while self.connections.iter().map(|(_, connection)| connection.unsent_bytes()).sum::<usize>() > UNSENT_BYTES_MAX
        {
            let sending = self.connections.iter().filter(|(_, connection)| connection.unsent_bytes() > 0);
            let Some((key, _)) = sending.max_by_key(|(_, connection)| connection.cost_byte_ms(now)) else { return };
            self.cx.stats.evicted.fetch_add(1, Ordering::Relaxed);
            self.close(key);
        }
    }

    fn rearm(&mut self, key: u64, flags: epoll::EventFlags) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let event = epoll::EventData::new_u64(key);
        let armed = epoll::modify(&self.handle.epoll, &connection.socket, event, interest(flags));
        let deadline = connection.deadline;
        if armed.is_err() {
            return self.close(key);
        }
        self.schedule(deadline);
    }

    fn schedule(&mut self, deadline: Option<Instant>) {
        if let Some(deadline) = deadline {
            self.next_deadline = self.next_deadline.min(deadline);
        }
    }

    /// Handles all deadlines that have passed.
    fn expire_deadlines(&mut self) {
        let now = self.cx.now;
        if self.resume_accepting.is_some_and(|again| again <= now) {
            self.resume_accepting = None;
            if let Err(why) = self.watch_listener() {
                log::warn!("http: watching the listener failed: {why}; will retry in {} ms", ACCEPT_PAUSE.as_millis());
                self.resume_accepting = Some(now + ACCEPT_PAUSE);
            }
        }
        if self.next_deadline > now {
            return;
        }
        self.next_deadline = now + SLEEP_MAX;
        let is_due = |connection: &Connection| connection.deadline.is_some_and(|deadline| deadline <= now);
        let keys: Vec<u64> = self.connections.iter().filter(|(_, c)| is_due(c)).map(|(key, _)| key).collect();
        for key in keys {
            let Some(connection) = self.connections.get_mut(key) else { continue };
            let next = connection.on_deadline(&mut self.cx);
            self.perform(key, next);
        }
        let earliest = self.connections.iter().filter_map(|(_, connection)| connection.deadline).min();
        self.schedule(earliest);
    }

    fn stop_accepting(&mut self) {
        self.cx.stopping = true;
        self.listener = None;
        self.resume_accepting = None;
        let idle: Vec<u64> = self.connections.iter().filter(|(_, c)| c.is_idle()).map(|(key, _)| key).collect();
        for key in idle {
            self.close(key);
        }
    }

    fn close(&mut self, key: u64) {
        let Some(connection) = self.connections.remove(key) else { return };
        if connection.is_sending() {
            reset_on_close(&connection.socket);
        }
        self.cx.stats.connections.fetch_sub(1, Ordering::Relaxed);
        if let Some(address_key) = connection.address_key
            && let Some(open) = self.connections_per_address.get_mut(&address_key)
        {
            *open -= 1;
            if *open == 0 {
                self.connections_per_address.remove(&address_key);
            }
        }
    }
}

fn busy(handle: &Arc<LoopHandle>, key: u64, connection: &Connection) -> BusyConnection {
    let (handle, socket) = (Arc::clone(handle), Arc::clone(&connection.socket));
    BusyConnection { handle, socket, key, pipelined: connection.has_input() }
}

fn after_response(keep_alive: bool) -> AfterResponse {
    if keep_alive { AfterResponse::Keep } else { AfterResponse::Close }
}

/// Adds `ONESHOT`: one event, then none until the socket is rearmed. `RDHUP` is left out: while reading, the end of the
/// client's half shows as an empty read, and while writing epoll would report it in a busy loop.
fn interest(flags: epoll::EventFlags) -> epoll::EventFlags {
    flags | epoll::EventFlags::ONESHOT
}

fn reset(wake: &OwnedFd) {
    // One read resets an eventfd's counter to 0.
    let _ = rustix::io::read(wake, &mut [0; 8]);
}
