//! The part of the event loop that responders share: how a connection returns after its response.

use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crossbeam_channel::Sender;
use rustix::event::epoll;

use super::unsent_response::UnsentResponse;
use crate::http::stats::Stats;

/// A handle to the event loop.
#[derive(Debug)]
pub(in crate::http) struct LoopHandle {
    pub(in crate::http) epoll: OwnedFd,
    /// An eventfd that wakes the event loop.
    pub(in crate::http) wake: OwnedFd,
    pub(in crate::http) completions: Sender<Completion>,
    pub(in crate::http) stats: Arc<Stats>,
    /// Maximum time in which a client reads nothing of its response.
    pub(in crate::http) response_timeout: Duration,
    /// Set once the event loop should stop.
    pub(in crate::http) stopping: AtomicBool,
}

/// The return of a connection to the event loop.
#[derive(Debug)]
pub(in crate::http) struct Completion {
    pub(in crate::http) key: u64,
    pub(in crate::http) outcome: Outcome,
}

/// The result of answering a request outside the event loop.
#[derive(Debug)]
pub(in crate::http) enum Outcome {
    /// The socket has accepted the whole response, or the client has disconnected.
    Sent { keep_alive: bool },
    /// The event loop sends the rest of the response.
    Unsent { writer: UnsentResponse, keep_alive: bool },
    /// The response ends too early. The client must not mistake it for a complete one.
    Reset,
}

impl LoopHandle {
    /// Wakes the event loop from `epoll_wait`.
    pub(in crate::http) fn wake(&self) {
        // The write fails only if the counter of the eventfd is full, and then the event loop is already being woken.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }
}

/// A connection whose request is being answered outside the event loop.
#[derive(Debug)]
pub(in crate::http) struct BusyConnection {
    pub(in crate::http) handle: Arc<LoopHandle>,
    pub(in crate::http) socket: Arc<TcpStream>,
    pub(in crate::http) key: u64,
    /// Whether bytes of the next request have arrived already, for which epoll reports no event.
    pub(in crate::http) pipelined: bool,
}

impl BusyConnection {
    /// Sends a response as far as the socket accepts it, and returns the connection to the event loop, which sends the rest.
    /// Never blocks.
    pub(in crate::http) fn send(&self, mut writer: UnsentResponse, keep_alive: bool) {
        let outcome = match writer.write(&self.socket) {
            Ok(true) if writer.rest.is_none() => Outcome::Sent { keep_alive },
            Ok(_) => {
                writer.shrink();
                Outcome::Unsent { writer, keep_alive }
            }
            Err(_) => Outcome::Sent { keep_alive: false },
        };
        let needs_no_wake = matches!(outcome, Outcome::Sent { keep_alive: true }) && !self.pipelined;
        // The order matters: send the response, return the connection, rearm it. The event loop handles completions before
        // events, so it owns the connection again when it sees the next request's bytes.
        if self.handle.completions.send(Completion { key: self.key, outcome }).is_err() {
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

    /// Resets the connection, because its response stays incomplete.
    pub(in crate::http) fn reset(&self) {
        if self.handle.completions.send(Completion { key: self.key, outcome: Outcome::Reset }).is_ok() {
            self.handle.wake();
        }
    }
}

/// Makes the end of a connection a reset, which frees its unsent bytes at once: those in the kernel would otherwise stay
/// until the client reads them or a timeout expires.
pub(in crate::http) fn reset_on_close(socket: &TcpStream) {
    // Fails only if the connection is broken, and then nothing is kept.
    let _ = rustix::net::sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}
