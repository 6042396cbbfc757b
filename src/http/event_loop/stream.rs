//! Streamed responses: live events, or bodies that do not fit into memory. Each belongs to a thread of its own, which may
//! block on the client.

use std::io::{self, ErrorKind, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::handle::{Completion, LoopHandle, Outcome};
use crate::http::response::BodyFraming;

/// A response whose body is being sent.
#[derive(Debug)]
pub struct ResponseStream {
    handle: Arc<LoopHandle>,
    socket: Arc<TcpStream>,
    key: u64,
    framing: BodyFraming,
    is_complete: bool,
}

impl ResponseStream {
    pub(in crate::http) fn start(
        handle: Arc<LoopHandle>,
        socket: Arc<TcpStream>,
        key: u64,
        framing: BodyFraming,
        head: &[u8],
    ) -> io::Result<Self> {
        // Created before the head is sent, so that the connection returns to the event loop if that fails.
        let stream = Self { handle, socket, key, framing, is_complete: false };
        stream.write(head)?;
        Ok(stream)
    }

    /// Sends the next bytes of the body, as one chunk if the response is chunked.
    ///
    /// # Errors
    /// Fails if the client has disconnected or reads nothing for the server's response timeout.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        // An empty chunk would end the body.
        if bytes.is_empty() {
            return Ok(());
        }
        if self.framing == BodyFraming::Close {
            return self.write(bytes);
        }
        let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
        chunk.extend_from_slice(bytes);
        chunk.extend_from_slice(b"\r\n");
        self.write(&chunk)
    }

    /// Ends the body. A client can tell an unfinished chunked body from a complete one.
    ///
    /// # Errors
    /// Fails like [`ResponseStream::send`].
    pub fn finish(mut self) -> io::Result<()> {
        if self.framing == BodyFraming::Chunked {
            self.write(b"0\r\n\r\n")?;
        }
        self.is_complete = true;
        Ok(())
    }

    /// Whether the client is still connected, as far as can be known without sending.
    #[must_use]
    pub fn is_open(&self) -> bool {
        let mut socket = [PollFd::new(&self.socket, PollFlags::RDHUP)];
        match poll(&mut socket, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
            Ok(_) => socket[0].revents().is_empty(),
            Err(_) => false,
        }
    }

    /// Whether the server is stopping.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.handle.stopping.load(Ordering::Relaxed)
    }

    fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        let mut deadline = Instant::now() + self.handle.response_timeout;
        while !bytes.is_empty() {
            match (&*self.socket).write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => {
                    bytes = &bytes[written..];
                    deadline = Instant::now() + self.handle.response_timeout;
                }
                Err(why) if why.kind() == ErrorKind::Interrupted => {}
                Err(why) if why.kind() == ErrorKind::WouldBlock => self.wait_until_writable(deadline)?,
                Err(why) => return Err(why),
            }
        }
        Ok(())
    }

    fn wait_until_writable(&self, deadline: Instant) -> io::Result<()> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        // Far below the range of i64, so the conversion cannot fail.
        let tv_sec = i64::try_from(left.as_secs()).unwrap_or(0);
        let left = Timespec { tv_sec, tv_nsec: i64::from(left.subsec_nanos()) };
        match poll(&mut [PollFd::new(&self.socket, PollFlags::OUT)], Some(&left)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(why) => Err(why.into()),
        }
    }
}

/// Returns the connection to the event loop, which closes it. An incomplete response ends with a reset.
impl Drop for ResponseStream {
    fn drop(&mut self) {
        let outcome = if self.is_complete { Outcome::Sent { keep_alive: false } } else { Outcome::Reset };
        if self.handle.completions.send(Completion { key: self.key, outcome }).is_ok() {
            self.handle.wake();
        }
    }
}
