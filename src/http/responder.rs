//! The right and the duty to answer one request, from whatever thread. Dropped without an answer it answers 500, so
//! no request stays open because of a panic.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Instant;

use rustix::event::epoll;

use super::budget::Charge;
use super::doorstep::{Doorstep, Outgoing, Return};
use super::gate::Sharing;
use super::response::{End, Response, write_head};
use super::stream::Stream;
use crate::clock::Timestamp;
use crate::error::Error;

/// Answers one request, once.
#[derive(Debug)]
pub struct Responder {
    pub(super) doorstep: Arc<Doorstep>,
    pub(super) socket: Arc<TcpStream>,
    pub(super) key: u64,
    pub(super) keep_alive: bool,
    pub(super) head_only: bool,
    /// Whether the client knows chunks.
    pub(super) chunks: bool,
    /// Whether the client understands packed answers.
    pub(super) gzip: bool,
    /// Whom the answer is shared with.
    pub(super) sharing: Option<Sharing>,
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

    /// Whether only the head of an answer is wanted.
    #[must_use]
    pub fn wants_head_only(&self) -> bool {
        self.head_only
    }

    /// Begins an answer whose body comes bit by bit, from the thread that calls this, which may wait for the client.
    /// What `response` has of a body is not sent.
    ///
    /// # Errors
    /// When the client is gone.
    pub fn stream(mut self, response: &Response) -> io::Result<Stream> {
        self.answered = true;
        drop(self.charge.take());
        self.doorstep.stats.answered(Some(self.route), response.status(), self.started.elapsed());
        let end = if self.chunks { End::Chunk } else { End::Close };
        let head = write_head(response, Timestamp::now(), end, false);
        let (doorstep, socket) = (Arc::clone(&self.doorstep), Arc::clone(&self.socket));
        Stream::begin(doorstep, socket, self.key, end, &head)
    }

    fn answer(&mut self, response: Response) {
        self.answered = true;
        // The request's bytes are gone by now; those who come next may have the room.
        drop(self.charge.take());
        self.doorstep.stats.answered(Some(self.route), response.status(), self.started.elapsed());
        let response = if self.gzip { response.packed() } else { response };
        let response = Sharing::apply(self.sharing.as_ref(), response);
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
