//! The right and the duty to answer one request, from whatever thread. Dropped without an answer it answers 500, so
//! no request stays open because of a panic.

use std::io::{self, ErrorKind, IoSlice, Write as _};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::Sender;
use rustix::event::epoll;

use super::budget::Charge;
use super::response::{Response, write_head};
use super::stats::Stats;
use crate::clock::Timestamp;
use crate::error::Error;

/// What the door and those who answer share.
#[derive(Debug)]
pub(super) struct Doorstep {
    pub(super) epoll: OwnedFd,
    /// An eventfd that wakes the door.
    pub(super) wake: OwnedFd,
    pub(super) returns: Sender<Return>,
    pub(super) stats: Arc<Stats>,
}

/// A connection that is given back to the door after its answer.
#[derive(Debug)]
pub(super) struct Return {
    pub(super) key: u64,
    /// What the socket did not take yet.
    pub(super) rest: Option<Outgoing>,
    pub(super) keep_alive: bool,
}

impl Doorstep {
    pub(super) fn wake(&self) {
        // The counter cannot overflow in practice, and a full one wakes the door just as well.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }
}

/// An answer on its way out. What the socket does not take at once stays here, whole, until the last byte is out.
#[derive(Debug)]
pub(super) struct Outgoing {
    head: Vec<u8>,
    body: Vec<u8>,
    sent: usize,
}

impl Outgoing {
    pub(super) fn new(response: Response, keep_alive: bool, head_only: bool) -> Self {
        let head = write_head(&response, Timestamp::now(), keep_alive);
        let body = if head_only { Vec::new() } else { response.into_body() };
        Self { head, body, sent: 0 }
    }

    /// Bytes of memory it takes.
    pub(super) fn bytes(&self) -> usize {
        self.head.len() + self.body.len()
    }

    /// Writes on as far as the socket takes it without waiting. Answers whether all of it is out.
    pub(super) fn write(&mut self, mut socket: &TcpStream) -> io::Result<bool> {
        while self.sent < self.bytes() {
            let head = &self.head[self.sent.min(self.head.len())..];
            let body = &self.body[self.sent.saturating_sub(self.head.len())..];
            match socket.write_vectored(&[IoSlice::new(head), IoSlice::new(body)]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => self.sent += written,
                Err(why) if why.kind() == ErrorKind::Interrupted => {}
                Err(why) if why.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(why) => return Err(why),
            }
        }
        Ok(true)
    }
}

/// Answers one request, once.
#[derive(Debug)]
pub struct Responder {
    pub(super) doorstep: Arc<Doorstep>,
    pub(super) socket: Arc<TcpStream>,
    pub(super) key: u64,
    pub(super) keep_alive: bool,
    pub(super) head_only: bool,
    /// Whether bytes of the next request have arrived already, for which no event will come.
    pub(super) pipelined: bool,
    pub(super) charge: Option<Charge>,
    pub(super) route: usize,
    pub(super) started: Instant,
    pub(super) answered: bool,
}

impl Responder {
    /// Sends the answer as far as the socket takes it; the door sees to the rest. Never waits.
    pub fn send(mut self, response: Response) {
        self.answer(response);
    }

    fn answer(&mut self, response: Response) {
        self.answered = true;
        // The request's bytes are gone by now; those who come next may have the room.
        drop(self.charge.take());
        self.doorstep.stats.answered(Some(self.route), response.status(), self.started.elapsed());
        let mut outgoing = Outgoing::new(response, self.keep_alive, self.head_only);
        let (rest, keep_alive) = match outgoing.write(&self.socket) {
            Ok(true) => (None, self.keep_alive),
            Ok(false) => (Some(outgoing), self.keep_alive),
            Err(_) => (None, false),
        };
        let quiet = rest.is_none() && keep_alive && !self.pipelined;
        // Sent first, given back second, armed third: the door takes returns before events, so it knows the connection
        // is its own again when the next request's bytes arrive.
        if self.doorstep.returns.send(Return { key: self.key, rest, keep_alive }).is_err() {
            return;
        }
        if quiet {
            let event = epoll::EventData::new_u64(self.key);
            let flags = epoll::EventFlags::IN | epoll::EventFlags::ONESHOT;
            if epoll::modify(&self.doorstep.epoll, &self.socket, event, flags).is_ok() {
                return;
            }
        }
        self.doorstep.wake();
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        if !self.answered {
            self.answer(Error::Internal("a request was dropped without an answer".into()).into());
        }
    }
}
