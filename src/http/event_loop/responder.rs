//! Responder: answers one request from any thread. A responder that is dropped without a response answers 500, so no request
//! stays open after a panic.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Instant;

use rustix::event::epoll;

use super::budget::Reservation;
use super::handle::{Completion, LoopHandle, UnsentResponse};
use super::stream::ResponseStream;
use crate::clock::Timestamp;
use crate::error::Error;
use crate::http::middleware::cors::CorsHeaders;
use crate::http::response::{BodyFraming, Response, write_head};

/// Sends the response to one request.
#[derive(Debug)]
pub struct Responder {
    pub(in crate::http) handle: Arc<LoopHandle>,
    pub(in crate::http) socket: Arc<TcpStream>,
    pub(in crate::http) key: u64,
    pub(in crate::http) keep_alive: bool,
    pub(in crate::http) head_only: bool,
    /// Whether the client supports chunked responses.
    pub(in crate::http) supports_chunked: bool,
    /// Whether the client accepts gzip.
    pub(in crate::http) gzip: bool,
    pub(in crate::http) cors: Option<CorsHeaders>,
    /// Whether bytes of the next request have arrived already, for which epoll reports no event.
    pub(in crate::http) pipelined: bool,
    pub(in crate::http) reservation: Option<Reservation>,
    pub(in crate::http) route: usize,
    pub(in crate::http) started: Instant,
    pub(in crate::http) responded: bool,
}

impl Responder {
    /// Sends the response as far as the socket accepts it; the event loop sends the rest. Never blocks.
    pub fn send(mut self, response: Response) {
        self.respond(response);
    }

    /// Whether the client wants only the head of the response.
    #[must_use]
    pub fn wants_head_only(&self) -> bool {
        self.head_only
    }

    /// Starts a streamed response with the head of `response`; its body is not sent. The calling thread may block on the
    /// client.
    ///
    /// # Errors
    /// Fails if the client has disconnected.
    pub fn stream(mut self, response: &Response) -> io::Result<ResponseStream> {
        self.responded = true;
        drop(self.reservation.take());
        self.handle.stats.record_response(Some(self.route), response.status(), self.started.elapsed());
        let framing = if self.supports_chunked { BodyFraming::Chunked } else { BodyFraming::Close };
        let head = write_head(response, Timestamp::now(), framing, false);
        let (handle, socket) = (Arc::clone(&self.handle), Arc::clone(&self.socket));
        ResponseStream::start(handle, socket, self.key, framing, &head)
    }

    fn respond(&mut self, response: Response) {
        self.responded = true;
        // The request's bytes have been dropped, so other requests may use the memory.
        drop(self.reservation.take());
        self.handle.stats.record_response(Some(self.route), response.status(), self.started.elapsed());
        let response = if self.gzip { response.gzip() } else { response };
        let response = match &self.cors {
            Some(cors) => cors.apply(response),
            None => response,
        };
        let mut writer = UnsentResponse::new(response, self.keep_alive, self.head_only);
        let (unsent, keep_alive) = match writer.write(&self.socket) {
            Ok(true) => (None, self.keep_alive),
            Ok(false) => (Some(writer), self.keep_alive),
            Err(_) => (None, false),
        };
        let needs_no_wake = unsent.is_none() && keep_alive && !self.pipelined;
        // The order matters: send the response, return the connection, rearm it. The event loop handles completions before
        // events, so it owns the connection again when it sees the next request's bytes.
        if self.handle.completions.send(Completion { key: self.key, unsent, keep_alive }).is_err() {
            return;
        }
        if needs_no_wake {
            let event = epoll::EventData::new_u64(self.key);
            let flags = epoll::EventFlags::IN | epoll::EventFlags::ONESHOT;
            if epoll::modify(&self.handle.epoll, &self.socket, event, flags).is_ok() {
                return;
            }
        }
        self.handle.wake();
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        if !self.responded {
            self.respond(Error::Internal("a request was dropped without a response".into()).into());
        }
    }
}
