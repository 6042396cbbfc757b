//! State machine of one connection: reading a head, reading a body, being answered, sending a response, or lingering after
//! a rejection. It decides on the next step; the event loop performs it.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::budget::{Budget, Exhausted, Reservation};
use super::loop_context::LoopContext;
use super::pending_request::PendingRequest;
use super::phase::{AfterResponse, NextStep, Phase};
use super::unsent_response::UnsentResponse;
use crate::error::Error;
use crate::http::protocol::body::BodyReader;
use crate::http::protocol::head::{Framing, Head, find_head_end};
use crate::http::response::Response;

/// Maximum time from a request's first byte, or from the start of the connection, to the end of the head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum time from the end of the head to the end of the body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum time between two requests.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Maximum time to discard input after a rejection. Closing at once, while the client still sends, would reset the
/// connection and destroy the response.
const LINGER_TIMEOUT: Duration = Duration::from_secs(2);
const LINGER_BYTES_MAX: usize = 1024 * 1024;
/// Minimum size of one read, in bytes. Bytes after the end of a request stay in memory until it is answered, so reads past
/// the expected end are limited to this size.
const READ_BYTES_MIN: usize = 4 * 1024;
/// Maximum bytes read from one connection before the others are served.
const BYTES_PER_TURN: usize = 64 * 1024;
/// Maximum number of empty lines before a request line that are ignored (RFC 9112, section 2.2).
const EMPTY_LINES_MAX: usize = 4;

/// A connection of the event loop.
pub(in crate::http) struct Connection {
    pub(in crate::http) socket: Arc<TcpStream>,
    pub(in crate::http) peer: IpAddr,
    /// The address that the connection limit counts; `None` for trusted proxies, which are exempt.
    pub(in crate::http) address_key: Option<IpAddr>,
    /// The number of connections accepted before this one.
    pub(in crate::http) accept_seq: u64,
    pub(in crate::http) deadline: Option<Instant>,
    pub(in crate::http) phase: Phase,
    reservation: Reservation,
    input: Vec<u8>,
    scanned: usize,
    started: Instant,
}

impl Connection {
    pub(in crate::http) fn new(
        socket: TcpStream,
        peer: IpAddr,
        address_key: Option<IpAddr>,
        accept_seq: u64,
        cx: &LoopContext,
    ) -> Self {
        let now = cx.now;
        Self {
            socket: Arc::new(socket),
            peer,
            address_key,
            accept_seq,
            deadline: Some(now + HEAD_TIMEOUT),
            phase: Phase::Head,
            reservation: cx.budget.reserve(address_key.unwrap_or(peer)),
            input: Vec::new(),
            scanned: 0,
            started: now,
        }
    }

    pub(in crate::http) fn is_busy(&self) -> bool {
        matches!(self.phase, Phase::Busy)
    }

    /// Whether the connection is between two requests.
    pub(in crate::http) fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Head) && self.only_empty_lines()
    }

    /// Returns the memory that the unfinished request has occupied since its first byte, or the response since its client
    /// last read something, in bytes × milliseconds.
    pub(in crate::http) fn cost_byte_ms(&self, now: Instant) -> u128 {
        let bytes = match &self.phase {
            Phase::Sending { writer, .. } => writer.bytes(),
            Phase::Busy => 0,
            Phase::Head | Phase::Body(_) | Phase::Lingering { .. } => self.incoming_bytes(),
        };
        bytes as u128 * now.saturating_duration_since(self.started).as_millis().max(1)
    }

    /// Returns the bytes of the unfinished request and of the input after it.
    fn incoming_bytes(&self) -> usize {
        let pending = match &self.phase {
            Phase::Body(pending) => pending.head.size_bytes() + pending.body.bytes_in_memory(),
            _ => 0,
        };
        self.input.len() + pending
    }

    /// Returns the bytes of the response that is being sent; 0 if there is none.
    pub(in crate::http) fn unsent_bytes(&self) -> usize {
        if let Phase::Sending { writer, .. } = &self.phase { writer.bytes() } else { 0 }
    }

    /// Whether the client has not read the whole response.
    pub(in crate::http) fn is_sending(&self) -> bool {
        matches!(self.phase, Phase::Sending { .. })
    }

    /// Moves the reservation to the responder.
    pub(in crate::http) fn take_reservation(&mut self, budget: &Budget) -> Reservation {
        let empty = budget.reserve(self.address_key.unwrap_or(self.peer));
        std::mem::replace(&mut self.reservation, empty)
    }

    pub(in crate::http) fn has_input(&self) -> bool {
        !self.input.is_empty()
    }

    pub(in crate::http) fn started(&self) -> Instant {
        self.started
    }

    /// Reads from the socket, at most one turn's worth, so that a fast sender does not starve the others.
    pub(in crate::http) fn readable(&mut self, cx: &mut LoopContext, scratch: &mut [u8]) -> NextStep {
        let mut left = BYTES_PER_TURN;
        while left > 0 {
            let room = self.read_size().min(scratch.len()).min(left);
            let read = match (&*self.socket).read(&mut scratch[..room]) {
                Ok(0) => return NextStep::Close,
                Ok(read) => read,
                Err(why) if why.kind() == ErrorKind::Interrupted => continue,
                Err(why) if why.kind() == ErrorKind::WouldBlock => return NextStep::Read,
                Err(_) => return NextStep::Close,
            };
            left -= read;
            if let Phase::Lingering { bytes_left } = &mut self.phase {
                *bytes_left = bytes_left.saturating_sub(read);
                if *bytes_left == 0 {
                    return NextStep::Close;
                }
                continue;
            }
            self.buffer(&scratch[..read], cx);
            let next = self.advance(cx);
            // A short read has emptied the socket; another call would return nothing.
            if !matches!(next, NextStep::Read) || read < room {
                return next;
            }
        }
        NextStep::Read
    }

    fn read_size(&self) -> usize {
        match &self.phase {
            Phase::Body(pending) => pending.body.remaining_bytes().max(READ_BYTES_MIN),
            Phase::Lingering { .. } => usize::MAX,
            Phase::Head | Phase::Busy | Phase::Sending { .. } => READ_BYTES_MIN,
        }
    }

    fn buffer(&mut self, bytes: &[u8], cx: &mut LoopContext) {
        if matches!(self.phase, Phase::Head) && self.input.is_empty() {
            self.started = cx.now;
            self.deadline = Some(cx.now + HEAD_TIMEOUT);
        }
        cx.input_buffer.lend_to(&mut self.input);
        self.input.extend_from_slice(bytes);
    }

    /// Advances until more bytes are needed or a response has been sent. Then the connection keeps only its unused input.
    pub(in crate::http) fn advance(&mut self, cx: &mut LoopContext) -> NextStep {
        let next = self.advance_phases(cx);
        cx.input_buffer.take_back(&mut self.input);
        next
    }

    fn advance_phases(&mut self, cx: &mut LoopContext) -> NextStep {
        loop {
            let step = match self.phase {
                Phase::Head => self.advance_head(cx),
                Phase::Body(_) => self.advance_body(cx),
                Phase::Busy | Phase::Sending { .. } => return NextStep::Write,
                Phase::Lingering { .. } => return NextStep::Read,
            };
            if let Some(next) = step {
                return next;
            }
        }
    }

    fn advance_head(&mut self, cx: &mut LoopContext) -> Option<NextStep> {
        self.skip_empty_lines();
        if self.only_empty_lines() {
            return Some(NextStep::Read);
        }
        match find_head_end(&self.input, self.scanned) {
            Err(error) => Some(self.reject(error.into(), cx)),
            Ok(None) => {
                self.scanned = self.input.len();
                Some(self.reserve_buffered(cx).unwrap_or(NextStep::Read))
            }
            Ok(Some(end)) => {
                self.scanned = 0;
                self.start_request(end, cx)
            }
        }
    }

    /// Removes empty lines once other bytes follow. Until then they count as the start of a request, so that a client that
    /// only sends empty lines does not extend its deadline.
    fn skip_empty_lines(&mut self) {
        let lines = self.input.chunks(2).take(EMPTY_LINES_MAX).take_while(|pair| pair == b"\r\n").count();
        if lines > 0 && !self.only_empty_lines() {
            self.input.drain(..lines * 2);
            self.scanned = 0;
        }
    }

    fn only_empty_lines(&self) -> bool {
        self.input.len() <= EMPTY_LINES_MAX * 2 && self.input.chunks(2).all(|pair| pair == b"\r\n")
    }

    fn start_request(&mut self, end: usize, cx: &mut LoopContext) -> Option<NextStep> {
        let parsed = Head::parse(&self.input[..end]);
        self.input.drain(..end);
        let checked = parsed.and_then(|head| Ok((head.framing()?, head.expects_continue()?, head)));
        let (framing, expects_continue, head) = match checked {
            Ok(checked) => checked,
            Err(error) => return Some(self.reject(error.into(), cx)),
        };
        let admitted = match cx.admission.admit(&head, framing, self.peer, cx.now) {
            Ok(admitted) => admitted,
            Err(response) => {
                // Without a body the connection remains usable, so a rate-limited client does not need a new one for each
                // rejected request.
                let has_no_body = matches!(framing, Framing::None | Framing::Length(0));
                let after = if has_no_body && head.keep_alive() && !cx.stopping {
                    AfterResponse::Keep
                } else {
                    AfterResponse::Linger
                };
                let head_only = *head.method() == tiny_http::Method::Head;
                let next = self.respond(response, after, head_only, cx);
                // Hundreds of such small requests may have arrived at once. The next one waits until the other connections
                // have been served and the client reads its responses.
                return Some(next.unwrap_or(if self.input.is_empty() { NextStep::Read } else { NextStep::Write }));
            }
        };
        let spool_dir = admitted.spooled.then_some(cx.spool_dir.as_path());
        let body = match BodyReader::new(framing, admitted.bytes_max, spool_dir) {
            Ok(body) => body,
            Err(error) => return Some(self.reject(error.into(), cx)),
        };
        self.reservation = cx.budget.reserve(admitted.client);
        self.deadline = Some(cx.now + BODY_TIMEOUT);
        if expects_continue && self.input.is_empty() && !body.is_done() {
            // 25 bytes fit into the empty socket buffer. A client that misses them sends its body after a delay.
            let _ = (&*self.socket).write(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        self.phase = Phase::Body(Box::new(PendingRequest { head, admitted, body }));
        None
    }

    fn advance_body(&mut self, cx: &mut LoopContext) -> Option<NextStep> {
        let Phase::Body(pending) = &mut self.phase else { return Some(NextStep::Close) };
        let used = match pending.body.feed(&self.input) {
            Ok(used) => used,
            Err(trouble) => return Some(self.reject(trouble.into(), cx)),
        };
        self.input.drain(..used);
        if let Some(next) = self.reserve_buffered(cx) {
            return Some(next);
        }
        let Phase::Body(pending) = &self.phase else { return Some(NextStep::Close) };
        if !pending.body.is_done() {
            return Some(NextStep::Read);
        }
        self.deadline = None;
        match std::mem::replace(&mut self.phase, Phase::Busy) {
            Phase::Body(pending) => Some(NextStep::Dispatch(pending)),
            _ => Some(NextStep::Close),
        }
    }

    /// Reserves memory for the buffered bytes. Returns the next step if there is not enough.
    fn reserve_buffered(&mut self, cx: &mut LoopContext) -> Option<NextStep> {
        match self.reservation.resize(self.incoming_bytes()) {
            Ok(()) => None,
            Err(Exhausted::ClientLimit) => {
                let error = Error::Busy("Too many concurrent request bytes from this client");
                Some(self.reject(error.into(), cx))
            }
            Err(Exhausted::Total) => Some(NextStep::OverBudget),
        }
    }

    /// Sends a rejection and then closes the connection, because the position in its input is unknown.
    pub(in crate::http) fn reject(&mut self, response: Response, cx: &mut LoopContext) -> NextStep {
        self.respond(response, AfterResponse::Linger, false, cx).unwrap_or(NextStep::Close)
    }

    /// Sends a response from the event loop itself. Returns `None` if the connection is ready for its next request.
    fn respond(
        &mut self,
        response: Response,
        after: AfterResponse,
        head_only: bool,
        cx: &mut LoopContext,
    ) -> Option<NextStep> {
        let latency = cx.now.saturating_duration_since(self.started);
        let route = match &self.phase {
            Phase::Body(pending) => Some(pending.admitted.route),
            _ => None,
        };
        let cors = match &self.phase {
            Phase::Body(pending) => pending.admitted.cors.as_ref(),
            _ => None,
        };
        let response = match cors {
            Some(cors) => cors.apply(response),
            None => response,
        };
        cx.stats.record_response(route, response.status(), latency);
        if after == AfterResponse::Linger {
            self.drop_request();
        }
        let mut writer = UnsentResponse::new(response, after == AfterResponse::Keep, head_only);
        match writer.write(&self.socket) {
            Ok(true) => self.on_response_sent(after, cx),
            Ok(false) => Some(self.start_sending(writer, after, cx)),
            Err(_) => Some(NextStep::Close),
        }
    }

    /// Drops a rejected request before its response is sent, so that a client that does not read occupies no memory.
    fn drop_request(&mut self) {
        self.phase = Phase::Head;
        self.input = Vec::new();
        // Shrinking always succeeds.
        let _ = self.reservation.resize(0);
    }

    /// Keeps the part of a response that the socket has not accepted, or asks for the next part.
    pub(in crate::http) fn start_sending(
        &mut self,
        mut writer: UnsentResponse,
        after: AfterResponse,
        cx: &LoopContext,
    ) -> NextStep {
        self.started = cx.now;
        if writer.sent() == writer.bytes()
            && let Some(body) = writer.rest.take()
        {
            self.phase = Phase::Busy;
            self.deadline = None;
            return NextStep::Produce { body, keep_alive: after == AfterResponse::Keep };
        }
        self.phase = Phase::Sending { writer, after };
        self.deadline = Some(cx.now + cx.response_timeout);
        NextStep::Write
    }

    /// Handles the end of a response. Returns `None` if the connection is ready for its next request.
    pub(in crate::http) fn on_response_sent(&mut self, after: AfterResponse, cx: &LoopContext) -> Option<NextStep> {
        match after {
            AfterResponse::Keep if !cx.stopping => {
                self.phase = Phase::Head;
                // The head has been dropped. Shrinking always succeeds.
                let _ = self.reservation.resize(self.input.len().min(self.reservation.bytes()));
                self.started = cx.now;
                self.deadline = Some(cx.now + if self.input.is_empty() { IDLE_TIMEOUT } else { HEAD_TIMEOUT });
                None
            }
            AfterResponse::Linger => {
                self.phase = Phase::Lingering { bytes_left: LINGER_BYTES_MAX };
                self.deadline = Some(cx.now + LINGER_TIMEOUT);
                if self.socket.shutdown(Shutdown::Write).is_err() {
                    return Some(NextStep::Close);
                }
                Some(NextStep::Read)
            }
            AfterResponse::Keep | AfterResponse::Close => Some(NextStep::Close),
        }
    }

    /// Sends more of a response, or continues with the requests that have arrived.
    pub(in crate::http) fn writable(&mut self, cx: &mut LoopContext) -> NextStep {
        let Phase::Sending { writer, after } = &mut self.phase else { return self.advance(cx) };
        let (after, sent_before) = (*after, writer.sent());
        match writer.write(&self.socket) {
            Ok(true) if writer.rest.is_some() => {
                let done = UnsentResponse::part(Vec::new(), Vec::new(), writer.rest.take());
                return self.start_sending(done, after, cx);
            }
            Ok(true) => {}
            Ok(false) => {
                if writer.sent() > sent_before {
                    self.started = cx.now;
                    self.deadline = Some(cx.now + cx.response_timeout);
                }
                return NextStep::Write;
            }
            Err(_) => return NextStep::Close,
        }
        match self.on_response_sent(after, cx) {
            Some(next) => next,
            None => self.advance(cx),
        }
    }

    /// Handles the deadline of the current phase.
    pub(in crate::http) fn on_deadline(&mut self, cx: &mut LoopContext) -> NextStep {
        let part = match &self.phase {
            Phase::Head if self.only_empty_lines() => return NextStep::Close,
            Phase::Head => "head of the request",
            Phase::Body(_) => "body of the request",
            Phase::Sending { .. } => {
                // The socket may accept a few bytes long before epoll reports it as writable.
                let next = self.writable(cx);
                let is_stuck = self.deadline.is_some_and(|deadline| deadline <= cx.now);
                return if is_stuck { NextStep::Close } else { next };
            }
            Phase::Busy | Phase::Lingering { .. } => return NextStep::Close,
        };
        self.reject(Error::Timeout(part).into(), cx)
    }
}
