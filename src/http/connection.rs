//! One connection and where it stands: reading a head, reading a body, being answered, finishing an answer, or
//! lingering after a refusal. It decides what comes next; the door carries it out.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Shutdown, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::body::Intake;
use super::budget::{Budget, Charge, Exhausted};
use super::doorstep::Outgoing;
use super::gate::{Admitted, Gate, Sharing};
use super::message::{Framing, Head, head_end};
use super::response::Response;
use super::stats::Stats;
use crate::error::Error;

/// From a request's first byte, or from a connection's beginning, to the end of the head.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// From the end of the head to the end of the body.
const BODY_WITHIN: Duration = Duration::from_secs(30);
/// Between two requests.
const IDLE_WITHIN: Duration = Duration::from_secs(60);
/// For the client to take an answer in full.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// After a refusal the client may still be sending; closing at once would reset the connection and eat the answer.
const LINGER_WITHIN: Duration = Duration::from_secs(2);
const LINGER_BYTES_MAX: usize = 1024 * 1024;
/// The least that is read at once. What lies behind a request waits in memory while that one is answered, so of what
/// may not belong to it no more than this is read.
const READ_BYTES_MIN: usize = 4 * 1024;
/// Bytes read until other connections have their turn.
const BYTES_PER_TURN: usize = 64 * 1024;
/// Empty lines before a request line that are forgiven (RFC 9112, section 2.2).
const EMPTY_LINES_MAX: usize = 4;

/// What every connection may need while it advances.
pub(super) struct Surroundings {
    pub(super) gate: Gate,
    pub(super) budget: Budget,
    pub(super) stats: Arc<Stats>,
    pub(super) spool_dir: PathBuf,
    pub(super) now: Instant,
    pub(super) stopping: bool,
}

/// A connection the door owns.
pub(super) struct Connection {
    pub(super) socket: Arc<TcpStream>,
    pub(super) peer: IpAddr,
    /// What the cap per address counts; `None` for trusted proxies.
    pub(super) seat: Option<IpAddr>,
    /// How many were accepted before it.
    pub(super) order: u64,
    pub(super) deadline: Option<Instant>,
    pub(super) phase: Phase,
    charge: Charge,
    input: Vec<u8>,
    scanned: usize,
    started: Instant,
}

/// Where a connection stands.
pub(super) enum Phase {
    /// Before or within a head.
    Head,
    /// Within a body.
    Body(Box<Pending>),
    /// Somebody holds its responder.
    Busy,
    /// The socket did not take the whole answer yet.
    Answering { outgoing: Outgoing, after: After },
    /// Refused; what still arrives is read and dropped.
    Lingering { bytes_left: usize },
}

/// A request whose head was admitted.
pub(super) struct Pending {
    pub(super) head: Head,
    pub(super) admitted: Admitted,
    intake: Intake,
}

/// What happens once an answer is out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    Keep,
    Linger,
    Close,
}

/// What the door is to do next with a connection.
pub(super) enum Next {
    /// Wait for more bytes.
    Read,
    /// Wait until the socket takes more, then go on.
    Write,
    /// The request is complete: have it answered.
    Dispatch(Box<Pending>),
    /// All clients together hold too many bytes: somebody has to go.
    Crowded,
    Close,
}

impl Connection {
    pub(super) fn new(
        socket: TcpStream,
        peer: IpAddr,
        seat: Option<IpAddr>,
        order: u64,
        around: &Surroundings,
    ) -> Self {
        let now = around.now;
        Self {
            socket: Arc::new(socket),
            peer,
            seat,
            order,
            deadline: Some(now + HEAD_WITHIN),
            phase: Phase::Head,
            charge: around.budget.charge(seat.unwrap_or(peer)),
            input: Vec::new(),
            scanned: 0,
            started: now,
        }
    }

    pub(super) fn busy(&self) -> bool {
        matches!(self.phase, Phase::Busy)
    }

    /// Whether it is between two requests.
    pub(super) fn idle(&self) -> bool {
        matches!(self.phase, Phase::Head) && self.only_empty_lines()
    }

    /// How much this connection's unfinished request or answer weighs, in bytes × milliseconds.
    pub(super) fn weight(&self, now: Instant) -> u128 {
        let bytes = match &self.phase {
            Phase::Answering { outgoing, .. } => outgoing.bytes(),
            Phase::Busy => 0,
            Phase::Head | Phase::Body(_) | Phase::Lingering { .. } => self.incoming_bytes(),
        };
        bytes as u128 * now.saturating_duration_since(self.started).as_millis().max(1)
    }

    /// Bytes of a request that is not complete, with what has arrived behind it.
    fn incoming_bytes(&self) -> usize {
        let pending = match &self.phase {
            Phase::Body(pending) => pending.head.bytes() + pending.intake.bytes_in_memory(),
            _ => 0,
        };
        self.input.len() + pending
    }

    /// Bytes of an answer that waits for the client to take the rest of it.
    pub(super) fn outgoing_bytes(&self) -> usize {
        if let Phase::Answering { outgoing, .. } = &self.phase { outgoing.bytes() } else { 0 }
    }

    /// Hands the charge over to whoever answers.
    pub(super) fn take_charge(&mut self, budget: &Budget) -> Charge {
        let rest = budget.charge(self.seat.unwrap_or(self.peer));
        std::mem::replace(&mut self.charge, rest)
    }

    pub(super) fn has_input(&self) -> bool {
        !self.input.is_empty()
    }

    pub(super) fn started(&self) -> Instant {
        self.started
    }

    /// The socket has something to read. More than a turn's worth has to wait: who sends faster than the door reads
    /// would have it for himself.
    pub(super) fn readable(&mut self, around: &mut Surroundings, scratch: &mut [u8]) -> Next {
        let mut left = BYTES_PER_TURN;
        while left > 0 {
            let room = self.wanted_bytes().min(scratch.len()).min(left);
            let read = match (&*self.socket).read(&mut scratch[..room]) {
                Ok(0) => return Next::Close,
                Ok(read) => read,
                Err(why) if why.kind() == ErrorKind::Interrupted => continue,
                Err(why) if why.kind() == ErrorKind::WouldBlock => return Next::Read,
                Err(_) => return Next::Close,
            };
            left -= read;
            if let Phase::Lingering { bytes_left } = &mut self.phase {
                *bytes_left = bytes_left.saturating_sub(read);
                if *bytes_left == 0 {
                    return Next::Close;
                }
                continue;
            }
            self.arrived(&scratch[..read], around);
            let next = self.advance(around);
            // A short read has emptied the socket; asking again would only cost a call.
            if !matches!(next, Next::Read) || read < room {
                return next;
            }
        }
        Next::Read
    }

    fn wanted_bytes(&self) -> usize {
        match &self.phase {
            Phase::Body(pending) => pending.intake.expected_bytes().max(READ_BYTES_MIN),
            Phase::Lingering { .. } => usize::MAX,
            Phase::Head | Phase::Busy | Phase::Answering { .. } => READ_BYTES_MIN,
        }
    }

    fn arrived(&mut self, bytes: &[u8], around: &Surroundings) {
        if matches!(self.phase, Phase::Head) && self.input.is_empty() {
            self.started = around.now;
            self.deadline = Some(around.now + HEAD_WITHIN);
        }
        self.input.extend_from_slice(bytes);
    }

    /// Goes as far as the bytes that have arrived allow, or to the first answer.
    pub(super) fn advance(&mut self, around: &mut Surroundings) -> Next {
        loop {
            let step = match self.phase {
                Phase::Head => self.advance_head(around),
                Phase::Body(_) => self.advance_body(around),
                Phase::Busy | Phase::Answering { .. } => return Next::Write,
                Phase::Lingering { .. } => return Next::Read,
            };
            if let Some(next) = step {
                return next;
            }
        }
    }

    /// Drops what is used up of the input, and the room it took: connections are many, and buffers that were large once
    /// would add up.
    fn consume(&mut self, bytes: usize) {
        self.input.drain(..bytes);
        self.input.shrink_to(if self.input.is_empty() { 0 } else { READ_BYTES_MIN });
    }

    fn advance_head(&mut self, around: &mut Surroundings) -> Option<Next> {
        self.skip_empty_lines();
        if self.only_empty_lines() {
            return Some(Next::Read);
        }
        match head_end(&self.input, self.scanned) {
            Err(fault) => Some(self.refuse(fault.into(), around)),
            Ok(None) => {
                self.scanned = self.input.len();
                Some(self.charged(around).unwrap_or(Next::Read))
            }
            Ok(Some(end)) => {
                self.scanned = 0;
                self.begin_request(end, around)
            }
        }
    }

    /// Drops empty lines once something follows them. Until then they stay and are the beginning of a request, so that
    /// a client that sends nothing else does not get a new deadline with each.
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

    fn begin_request(&mut self, end: usize, around: &mut Surroundings) -> Option<Next> {
        let parsed = Head::parse(&self.input[..end]);
        self.consume(end);
        let checked = parsed.and_then(|head| Ok((head.framing()?, head.expects_continue()?, head)));
        let (framing, expects_continue, head) = match checked {
            Ok(checked) => checked,
            Err(fault) => return Some(self.refuse(fault.into(), around)),
        };
        let admitted = match around.gate.admit(&head, framing, self.peer, around.now) {
            Ok(admitted) => admitted,
            Err(response) => {
                // Without a body the connection is in step and can be kept, so that a client over its limit does not
                // pay with a new connection for each refusal.
                let bodyless = matches!(framing, Framing::None | Framing::Length(0));
                let after = if bodyless && head.keep_alive() && !around.stopping { After::Keep } else { After::Linger };
                let head_only = *head.method() == tiny_http::Method::Head;
                let next = self.answer(response, after, head_only, around);
                // Such requests are small, and hundreds may have arrived at once. The next one has to wait until the
                // others had their turn and the client takes its answers.
                return Some(next.unwrap_or(if self.input.is_empty() { Next::Read } else { Next::Write }));
            }
        };
        let spool_dir = admitted.spooled.then_some(around.spool_dir.as_path());
        let intake = match Intake::new(framing, admitted.bytes_max, spool_dir) {
            Ok(intake) => intake,
            Err(error) => return Some(self.refuse(error.into(), around)),
        };
        self.charge = around.budget.charge(admitted.client);
        self.deadline = Some(around.now + BODY_WITHIN);
        if expects_continue && self.input.is_empty() && !intake.done() {
            // 25 bytes into an empty socket buffer; a client that does not get them sends its body anyway.
            let _ = (&*self.socket).write(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        self.phase = Phase::Body(Box::new(Pending { head, admitted, intake }));
        None
    }

    fn advance_body(&mut self, around: &mut Surroundings) -> Option<Next> {
        let Phase::Body(pending) = &mut self.phase else { return Some(Next::Close) };
        let used = match pending.intake.feed(&self.input) {
            Ok(used) => used,
            Err(trouble) => return Some(self.refuse(trouble.into(), around)),
        };
        self.consume(used);
        if let Some(next) = self.charged(around) {
            return Some(next);
        }
        let Phase::Body(pending) = &self.phase else { return Some(Next::Close) };
        if !pending.intake.done() {
            return Some(Next::Read);
        }
        self.deadline = None;
        match std::mem::replace(&mut self.phase, Phase::Busy) {
            Phase::Body(pending) => Some(Next::Dispatch(pending)),
            _ => Some(Next::Close),
        }
    }

    /// Charges what is buffered; answers what to do when there is no room for it.
    fn charged(&mut self, around: &mut Surroundings) -> Option<Next> {
        match self.charge.set(self.incoming_bytes()) {
            Ok(()) => None,
            Err(Exhausted::Share) => {
                let error = Error::Busy("This address has too many bytes in flight");
                Some(self.refuse(error.into(), around))
            }
            Err(Exhausted::Total) => Some(Next::Crowded),
        }
    }

    /// Answers with a refusal, after which this connection cannot go on: what follows on it is not in step.
    pub(super) fn refuse(&mut self, response: Response, around: &mut Surroundings) -> Next {
        self.answer(response, After::Linger, false, around).unwrap_or(Next::Close)
    }

    /// Writes an answer from the door itself. `None` means that the connection is ready for its next request.
    fn answer(&mut self, response: Response, after: After, head_only: bool, around: &mut Surroundings) -> Option<Next> {
        let took = around.now.saturating_duration_since(self.started);
        let route = match &self.phase {
            Phase::Body(pending) => Some(pending.admitted.route),
            _ => None,
        };
        let sharing = match &self.phase {
            Phase::Body(pending) => pending.admitted.sharing.as_ref(),
            _ => None,
        };
        let response = Sharing::apply(sharing, response);
        around.stats.answered(route, response.status(), took);
        if after == After::Linger {
            self.let_go();
        }
        let mut outgoing = Outgoing::new(response, after == After::Keep, head_only);
        match outgoing.write(&self.socket) {
            Ok(true) => self.answered(after, around),
            Ok(false) => Some(self.answering(outgoing, after, around)),
            Err(_) => Some(Next::Close),
        }
    }

    /// Drops a request that is refused, before its answer: a client that does not read that would hold it for as long.
    fn let_go(&mut self) {
        self.phase = Phase::Head;
        self.input = Vec::new();
        // Shrinking is never refused.
        let _ = self.charge.set(0);
    }

    /// Keeps what the socket did not take.
    pub(super) fn answering(&mut self, outgoing: Outgoing, after: After, around: &Surroundings) -> Next {
        self.phase = Phase::Answering { outgoing, after };
        self.started = around.now;
        self.deadline = Some(around.now + ANSWER_WITHIN);
        Next::Write
    }

    /// The answer is out. `None` means that the connection is ready for its next request.
    pub(super) fn answered(&mut self, after: After, around: &Surroundings) -> Option<Next> {
        match after {
            After::Keep if !around.stopping => {
                self.phase = Phase::Head;
                // What was charged for the head is gone. Shrinking is never refused.
                let _ = self.charge.set(self.input.len().min(self.charge.bytes()));
                self.started = around.now;
                self.deadline = Some(around.now + if self.input.is_empty() { IDLE_WITHIN } else { HEAD_WITHIN });
                None
            }
            After::Linger => {
                self.phase = Phase::Lingering { bytes_left: LINGER_BYTES_MAX };
                self.deadline = Some(around.now + LINGER_WITHIN);
                if self.socket.shutdown(Shutdown::Write).is_err() {
                    return Some(Next::Close);
                }
                Some(Next::Read)
            }
            After::Keep | After::Close => Some(Next::Close),
        }
    }

    /// The socket takes more: of an answer, or of those to requests that wait for their turn.
    pub(super) fn writable(&mut self, around: &mut Surroundings) -> Next {
        let Phase::Answering { outgoing, after } = &mut self.phase else { return self.advance(around) };
        let after = *after;
        match outgoing.write(&self.socket) {
            Ok(true) => {}
            Ok(false) => return Next::Write,
            Err(_) => return Next::Close,
        }
        match self.answered(after, around) {
            Some(next) => next,
            None => self.advance(around),
        }
    }

    /// The deadline of the phase has passed.
    pub(super) fn late(&mut self, around: &mut Surroundings) -> Next {
        let what = match &self.phase {
            Phase::Head if self.only_empty_lines() => return Next::Close,
            Phase::Head => "head of the request",
            Phase::Body(_) => "body of the request",
            Phase::Busy | Phase::Answering { .. } | Phase::Lingering { .. } => return Next::Close,
        };
        self.refuse(Error::Timeout(what).into(), around)
    }
}

impl Pending {
    /// Takes the request apart for whoever answers it.
    pub(super) fn into_parts(self) -> (Head, Admitted, super::request::Content) {
        (self.head, self.admitted, self.intake.into_content())
    }
}
