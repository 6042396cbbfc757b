//! The part of the event loop that responders share: how a connection returns after its response, and the writer for what
//! its socket has not accepted yet.

use std::io::{self, ErrorKind, IoSlice, Write as _};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crossbeam_channel::Sender;

use crate::clock::Timestamp;
use crate::http::response::{BodyFraming, Response, write_head};
use crate::http::stats::Stats;

/// A handle to the event loop.
#[derive(Debug)]
pub(in crate::http) struct LoopHandle {
    pub(in crate::http) epoll: OwnedFd,
    /// An eventfd that wakes the event loop.
    pub(in crate::http) wake: OwnedFd,
    pub(in crate::http) completions: Sender<Completion>,
    pub(in crate::http) stats: Arc<Stats>,
    /// Set once the event loop should stop.
    pub(in crate::http) stopping: AtomicBool,
}

/// The end of a response: the connection returns to the event loop.
#[derive(Debug)]
pub(in crate::http) struct Completion {
    pub(in crate::http) key: u64,
    /// The rest of the response that the socket has not accepted yet.
    pub(in crate::http) unsent: Option<UnsentResponse>,
    pub(in crate::http) keep_alive: bool,
}

impl LoopHandle {
    /// Wakes the event loop from `epoll_wait`.
    pub(in crate::http) fn wake(&self) {
        // The write fails only if the counter of the eventfd is full, and then the event loop is already being woken.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }
}

/// A serialized response and the number of its bytes that have been sent.
#[derive(Debug)]
pub(in crate::http) struct UnsentResponse {
    head: Vec<u8>,
    body: Vec<u8>,
    sent: usize,
}

impl UnsentResponse {
    pub(in crate::http) fn new(response: Response, keep_alive: bool, head_only: bool) -> Self {
        let head = write_head(&response, Timestamp::now(), BodyFraming::Length, keep_alive);
        let body = if head_only { Vec::new() } else { response.into_body() };
        Self { head, body, sent: 0 }
    }

    /// Returns the memory that the response takes, in bytes.
    pub(in crate::http) fn bytes(&self) -> usize {
        self.head.len() + self.body.len()
    }

    /// Sends as much as the socket accepts without blocking. Returns whether everything has been sent.
    ///
    /// # Errors
    /// Fails if the connection is broken.
    pub(in crate::http) fn write(&mut self, mut socket: &TcpStream) -> io::Result<bool> {
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
