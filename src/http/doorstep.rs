//! What the door shares with those who answer: how connections come back, with what their socket did not take yet.

use std::io::{self, ErrorKind, IoSlice, Write as _};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crossbeam_channel::Sender;

use super::response::{End, Response, write_head};
use super::stats::Stats;
use crate::clock::Timestamp;

/// What the door and those who answer share.
#[derive(Debug)]
pub(super) struct Doorstep {
    pub(super) epoll: OwnedFd,
    /// An eventfd that wakes the door.
    pub(super) wake: OwnedFd,
    pub(super) returns: Sender<Return>,
    pub(super) stats: Arc<Stats>,
    /// Whether the door is to close.
    pub(super) stopping: AtomicBool,
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
        let head = write_head(&response, Timestamp::now(), End::Length, keep_alive);
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
