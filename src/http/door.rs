//! The one thread that owns every connection which is not being answered: it accepts, reads without blocking, asks
//! the gate on the head, keeps deadlines and limits, and finishes answers that a socket did not take at once.
//!
//! At a cap the oldest connection that is not being answered goes, whatever it was doing: to refuse the newest, or to
//! spare some state, would let whoever came first keep everyone else out.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use rustix::event::{Timespec, epoll};
use rustix::net::{SocketAddrAny, SocketFlags};

use super::address::{canonical, subscriber};
use super::connection::{After, Connection, Next, Pending, Surroundings};
use super::doorstep::{Doorstep, Return};
use super::responder::Responder;
use super::slab::Slab;
use crate::error::Error;

const KEY_LISTENER: u64 = u64::MAX;
const KEY_WAKE: u64 = u64::MAX - 1;
const EVENTS_MAX: usize = 128;
const ACCEPTS_PER_EVENT: usize = 64;
const SCRATCH_BYTES: usize = 64 * 1024;
/// All answers that are not out yet, together; beyond it the client that has kept the most the longest is cut off.
const OUTGOING_BYTES_MAX: usize = 3 * 1024 * 1024;
/// How long accepting rests when there is no descriptor left and nobody to evict.
const ACCEPT_REST: Duration = Duration::from_millis(100);
/// The longest sleep, so that answers given back quietly get their idle deadline.
const SLEEP_MAX: Duration = Duration::from_secs(30);

/// The longest sleep while stopping: a connection that is given back quietly is to be closed, and no event tells of it.
const STOPPING_SLEEP_MAX: Duration = Duration::from_millis(20);

/// How many connections may be open.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// In all.
    pub connections: usize,
    /// From one address, or one IPv6 /64.
    pub connections_per_address: usize,
}

/// A complete request on its way to the pool.
pub(super) struct Work {
    pub(super) pending: Box<Pending>,
    pub(super) responder: Responder,
}

/// The ways to the pool. Each holds as many requests as there may be connections, so that none is ever full.
pub(super) struct Lanes {
    /// For what takes no time: reports that are parsed and passed on, and what is open to anybody.
    pub(super) quick: Sender<Work>,
    /// For whoever looks into the database.
    pub(super) pages: Sender<Work>,
}

/// Everything the door's thread owns.
pub(super) struct Door {
    pub(super) listener: Option<TcpListener>,
    pub(super) doorstep: Arc<Doorstep>,
    pub(super) returns: Receiver<Return>,
    pub(super) lanes: Lanes,
    pub(super) connection_limits: ConnectionLimits,
    pub(super) around: Surroundings,
    connections: Slab<Connection>,
    seats: HashMap<IpAddr, usize>,
    /// Connections so far. Many are accepted at one moment, so their times would not tell which is the oldest.
    accepted: u64,
    accepting_again: Option<Instant>,
    next_sweep: Instant,
}

impl Door {
    pub(super) fn new(
        listener: TcpListener,
        doorstep: Arc<Doorstep>,
        returns: Receiver<Return>,
        lanes: Lanes,
        connection_limits: ConnectionLimits,
        around: Surroundings,
    ) -> Self {
        let next_sweep = around.now + SLEEP_MAX;
        Self {
            listener: Some(listener),
            doorstep,
            returns,
            lanes,
            connection_limits,
            around,
            connections: Slab::default(),
            seats: HashMap::new(),
            accepted: 0,
            accepting_again: None,
            next_sweep,
        }
    }

    /// Serves until it is to close and every request that had begun is answered.
    pub(super) fn run(mut self) -> io::Result<()> {
        self.watch_listener()?;
        let wake = epoll::EventData::new_u64(KEY_WAKE);
        epoll::add(&self.doorstep.epoll, &self.doorstep.wake, wake, epoll::EventFlags::IN)?;
        let mut scratch = vec![0; SCRATCH_BYTES].into_boxed_slice();
        let mut events: Vec<epoll::Event> = Vec::with_capacity(EVENTS_MAX);
        while !(self.around.stopping && self.connections.is_empty()) {
            self.wait(&mut events)?;
            self.around.now = Instant::now();
            for event in events.drain(..) {
                // Before each, since it may come from a connection that is given back only now, and since answers that
                // nobody reads are not bounded until they are here.
                self.take_returns();
                match event.data.u64() {
                    KEY_LISTENER => self.accept(&mut scratch),
                    KEY_WAKE => drain(&self.doorstep.wake),
                    key => self.event(key, event.flags, &mut scratch),
                }
            }
            self.take_returns();
            self.sweep();
            if self.doorstep.stopping.load(Ordering::Relaxed) && !self.around.stopping {
                self.close_to_newcomers();
            }
        }
        Ok(())
    }

    fn watch_listener(&self) -> io::Result<()> {
        let Some(listener) = &self.listener else { return Ok(()) };
        let event = epoll::EventData::new_u64(KEY_LISTENER);
        epoll::add(&self.doorstep.epoll, listener, event, epoll::EventFlags::IN)?;
        Ok(())
    }

    fn wait(&self, events: &mut Vec<epoll::Event>) -> io::Result<()> {
        let wake_at = self.accepting_again.map_or(self.next_sweep, |again| again.min(self.next_sweep));
        let wait = wake_at.saturating_duration_since(Instant::now());
        let wait = if self.around.stopping { wait.min(STOPPING_SLEEP_MAX) } else { wait };
        let wait = Timespec { tv_sec: wait.as_secs().cast_signed(), tv_nsec: wait.subsec_nanos().into() };
        match epoll::wait(&self.doorstep.epoll, rustix::buffer::spare_capacity(events), Some(&wait)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(why) => Err(why.into()),
        }
    }

    fn accept(&mut self, scratch: &mut [u8]) {
        for _ in 0..ACCEPTS_PER_EVENT {
            let Some(listener) = &self.listener else { return };
            match rustix::net::acceptfrom_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok((socket, peer)) => self.welcome(socket, peer, scratch),
                Err(why) => match io::Error::from(why).kind() {
                    ErrorKind::WouldBlock => return,
                    ErrorKind::Interrupted | ErrorKind::ConnectionAborted => {}
                    // No descriptor or no memory left. One connection goes, and what waits in the backlog is next.
                    _ => {
                        if !self.evict(None) {
                            log::warn!("no connection can be accepted for the moment: {why}");
                            return self.rest_from_accepting();
                        }
                    }
                },
            }
        }
    }

    /// The listener would report its waiting connections without end while none can be taken.
    fn rest_from_accepting(&mut self) {
        if let Some(listener) = &self.listener
            && epoll::delete(&self.doorstep.epoll, listener).is_ok()
        {
            self.accepting_again = Some(self.around.now + ACCEPT_REST);
        }
    }

    fn welcome(&mut self, socket: OwnedFd, peer: Option<SocketAddrAny>, scratch: &mut [u8]) {
        let peer = peer.and_then(|peer| std::net::SocketAddr::try_from(peer).ok());
        let Some(peer) = peer.map(|peer| canonical(peer.ip())) else { return };
        let seat = (!self.around.gate.trusts(peer)).then(|| subscriber(peer));
        let taken = seat.and_then(|seat| self.seats.get(&seat)).copied().unwrap_or(0);
        if taken >= self.connection_limits.connections_per_address && !self.evict(seat) {
            return;
        }
        if self.connections.len() >= self.connection_limits.connections && !self.evict(None) {
            return;
        }
        let socket = TcpStream::from(socket);
        // Answers are written whole; waiting for more to send would only delay them.
        let _ = socket.set_nodelay(true);
        let connection = Connection::new(socket, peer, seat, self.accepted, &self.around);
        self.accepted += 1;
        let (key, connection) = self.connections.insert(connection);
        let event = epoll::EventData::new_u64(key);
        let watched = epoll::add(&self.doorstep.epoll, &connection.socket, event, epoll::EventFlags::ONESHOT);
        if let Some(seat) = seat {
            *self.seats.entry(seat).or_insert(0) += 1;
        }
        self.around.stats.connections.fetch_add(1, Ordering::Relaxed);
        // It has waited for its turn to be accepted; what it asks is here by now, and need not wait for another one.
        let next = match watched {
            Ok(()) => connection.readable(&mut self.around, scratch),
            Err(_) => Next::Close,
        };
        self.carry_out(key, next);
    }

    /// Closes the oldest connection that is not being answered, of one address or of all. Answers whether there was one.
    fn evict(&mut self, seat: Option<IpAddr>) -> bool {
        let candidates = self.connections.iter().filter(|(_, connection)| !connection.busy());
        let candidates = candidates.filter(|(_, connection)| seat.is_none() || connection.seat == seat);
        let Some((key, _)) = candidates.min_by_key(|(_, connection)| connection.order) else { return false };
        self.around.stats.evicted.fetch_add(1, Ordering::Relaxed);
        self.close(key);
        true
    }

    fn event(&mut self, key: u64, flags: epoll::EventFlags, scratch: &mut [u8]) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.busy() {
            return;
        }
        let next = if connection.outgoing_bytes() > 0 || flags.contains(epoll::EventFlags::OUT) {
            connection.writable(&mut self.around)
        } else if flags.contains(epoll::EventFlags::ERR) {
            Next::Close
        } else {
            connection.readable(&mut self.around, scratch)
        };
        self.carry_out(key, next);
    }

    fn carry_out(&mut self, key: u64, mut next: Next) {
        loop {
            match next {
                Next::Read => return self.arm(key, epoll::EventFlags::IN),
                Next::Write => return self.arm(key, epoll::EventFlags::OUT),
                Next::Close => return self.close(key),
                Next::Dispatch(pending) => return self.dispatch(key, pending),
                Next::Crowded => {
                    self.make_room(key);
                    // Whoever had to go may have been this very connection.
                    let Some(connection) = self.connections.get_mut(key) else { return };
                    next = connection.advance(&mut self.around);
                }
            }
        }
    }

    /// Refuses the unfinished request with the most bytes × age, which may be the one that asks for room.
    fn make_room(&mut self, asking: u64) {
        let now = self.around.now;
        let weight = |connection: &Connection| if connection.outgoing_bytes() > 0 { 0 } else { connection.weight(now) };
        let heaviest = self.connections.iter().max_by_key(|(_, connection)| weight(connection));
        // When those that are being answered hold everything, there is nobody who could make room.
        let key = heaviest.filter(|(_, connection)| weight(connection) > 0).map_or(asking, |(key, _)| key);
        let Some(connection) = self.connections.get_mut(key) else { return };
        let next = connection.refuse(Error::Busy("Too many bytes in flight").into(), &mut self.around);
        match next {
            Next::Read => self.arm(key, epoll::EventFlags::IN),
            Next::Write => self.arm(key, epoll::EventFlags::OUT),
            _ => self.close(key),
        }
    }

    fn dispatch(&mut self, key: u64, pending: Box<Pending>) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let responder = Responder {
            doorstep: Arc::clone(&self.doorstep),
            socket: Arc::clone(&connection.socket),
            key,
            keep_alive: pending.head.keep_alive() && !self.around.stopping,
            head_only: pending.admitted.head_only,
            chunks: pending.head.knows_chunks(),
            gzip: pending.head.accepts("gzip"),
            sharing: pending.admitted.sharing.clone(),
            pipelined: connection.has_input(),
            charge: Some(connection.take_charge(&self.around.budget)),
            route: pending.admitted.route,
            started: connection.started(),
            answered: false,
        };
        let lane = if pending.admitted.page { &self.lanes.pages } else { &self.lanes.quick };
        // A pool that is gone drops the responder, which answers 500.
        if lane.try_send(Work { pending, responder }).is_err() {
            log::error!("the pool of workers is gone");
        }
    }

    fn take_returns(&mut self) {
        while let Ok(Return { key, rest, keep_alive }) = self.returns.try_recv() {
            let Some(connection) = self.connections.get_mut(key) else { continue };
            let after = if keep_alive { After::Keep } else { After::Close };
            if let Some(rest) = rest {
                let next = connection.answering(rest, after, &self.around);
                self.carry_out(key, next);
                self.cut_off_who_never_reads();
                continue;
            }
            let next = match connection.answered(after, &self.around) {
                Some(next) => next,
                // Armed by whoever answered, unless the next request has arrived already.
                None if connection.has_input() => connection.advance(&mut self.around),
                None => {
                    let deadline = connection.deadline;
                    self.schedule(deadline);
                    continue;
                }
            };
            self.carry_out(key, next);
        }
    }

    fn cut_off_who_never_reads(&mut self) {
        let now = self.around.now;
        while self.connections.iter().map(|(_, connection)| connection.outgoing_bytes()).sum::<usize>()
            > OUTGOING_BYTES_MAX
        {
            let outgoing = self.connections.iter().filter(|(_, connection)| connection.outgoing_bytes() > 0);
            let Some((key, _)) = outgoing.max_by_key(|(_, connection)| connection.weight(now)) else { return };
            self.around.stats.evicted.fetch_add(1, Ordering::Relaxed);
            self.close(key);
        }
    }

    fn arm(&mut self, key: u64, flags: epoll::EventFlags) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let event = epoll::EventData::new_u64(key);
        let armed = epoll::modify(&self.doorstep.epoll, &connection.socket, event, interest(flags));
        let deadline = connection.deadline;
        if armed.is_err() {
            return self.close(key);
        }
        self.schedule(deadline);
    }

    fn schedule(&mut self, deadline: Option<Instant>) {
        if let Some(deadline) = deadline {
            self.next_sweep = self.next_sweep.min(deadline);
        }
    }

    /// Sees to everything whose time has come.
    fn sweep(&mut self) {
        let now = self.around.now;
        if self.accepting_again.is_some_and(|again| again <= now) {
            self.accepting_again = None;
            if let Err(why) = self.watch_listener() {
                log::warn!("the listener cannot be watched: {why}");
                self.accepting_again = Some(now + ACCEPT_REST);
            }
        }
        if self.next_sweep > now {
            return;
        }
        self.next_sweep = now + SLEEP_MAX;
        let late = |connection: &Connection| connection.deadline.is_some_and(|deadline| deadline <= now);
        let keys: Vec<u64> = self.connections.iter().filter(|(_, c)| late(c)).map(|(key, _)| key).collect();
        for key in keys {
            let Some(connection) = self.connections.get_mut(key) else { continue };
            let next = connection.late(&mut self.around);
            self.carry_out(key, next);
        }
        let earliest = self.connections.iter().filter_map(|(_, connection)| connection.deadline).min();
        self.schedule(earliest);
    }

    fn close_to_newcomers(&mut self) {
        self.around.stopping = true;
        self.listener = None;
        self.accepting_again = None;
        let idle: Vec<u64> = self.connections.iter().filter(|(_, c)| c.idle()).map(|(key, _)| key).collect();
        for key in idle {
            self.close(key);
        }
    }

    fn close(&mut self, key: u64) {
        let Some(connection) = self.connections.remove(key) else { return };
        self.around.stats.connections.fetch_sub(1, Ordering::Relaxed);
        if let Some(seat) = connection.seat
            && let Some(taken) = self.seats.get_mut(&seat)
        {
            *taken -= 1;
            if *taken == 0 {
                self.seats.remove(&seat);
            }
        }
    }
}

/// One event, then silence until it is armed again. Without `RDHUP`: to who reads, the end of the client's half is
/// something to read; to who waits to write it would be reported without end.
fn interest(flags: epoll::EventFlags) -> epoll::EventFlags {
    flags | epoll::EventFlags::ONESHOT
}

fn drain(wake: &OwnedFd) {
    // One read resets an eventfd's counter, whatever it was.
    let _ = rustix::io::read(wake, &mut [0; 8]);
}
