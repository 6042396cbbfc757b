//! An answer whose body comes bit by bit: live lines, or more than fits into memory. It belongs to a thread of its own,
//! since it may wait for the client.

use std::io::{self, ErrorKind, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::doorstep::{Doorstep, Return};
use super::response::End;

/// How long a client may take for one bit. One that reads no more is not worth a thread.
const BIT_WITHIN: Duration = Duration::from_secs(10);

/// The way to one client.
#[derive(Debug)]
pub struct Stream {
    doorstep: Arc<Doorstep>,
    socket: Arc<TcpStream>,
    key: u64,
    end: End,
}

impl Stream {
    pub(super) fn begin(
        doorstep: Arc<Doorstep>,
        socket: Arc<TcpStream>,
        key: u64,
        end: End,
        head: &[u8],
    ) -> io::Result<Self> {
        // Made first, so that the connection is given back whatever happens to the head.
        let stream = Self { doorstep, socket, key, end };
        stream.write(head)?;
        Ok(stream)
    }

    /// Sends the next bytes of the body, all of them, as one chunk.
    ///
    /// # Errors
    /// When the client is gone, or takes longer than ten seconds.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        // A chunk without bytes would be the last one.
        if bytes.is_empty() {
            return Ok(());
        }
        if self.end == End::Close {
            return self.write(bytes);
        }
        let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
        chunk.extend_from_slice(bytes);
        chunk.extend_from_slice(b"\r\n");
        self.write(&chunk)
    }

    /// Ends the body. Without it the client can tell that something is missing.
    ///
    /// # Errors
    /// As [`Stream::send`].
    pub fn finish(self) -> io::Result<()> {
        if self.end == End::Chunk { self.write(b"0\r\n\r\n") } else { Ok(()) }
    }

    /// Whether the client is still there, as far as can be known without sending.
    #[must_use]
    pub fn is_open(&self) -> bool {
        let mut socket = [PollFd::new(&self.socket, PollFlags::RDHUP)];
        match poll(&mut socket, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
            Ok(_) => socket[0].revents().is_empty(),
            Err(_) => false,
        }
    }

    /// Whether the server is about to end.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.doorstep.stopping.load(Ordering::Relaxed)
    }

    fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        let deadline = Instant::now() + BIT_WITHIN;
        while !bytes.is_empty() {
            match (&*self.socket).write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => bytes = &bytes[written..],
                Err(why) if why.kind() == ErrorKind::Interrupted => {}
                Err(why) if why.kind() == ErrorKind::WouldBlock => self.wait_for_room(deadline)?,
                Err(why) => return Err(why),
            }
        }
        Ok(())
    }

    fn wait_for_room(&self, deadline: Instant) -> io::Result<()> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        // At most BIT_WITHIN.
        let tv_sec = i64::try_from(left.as_secs()).unwrap_or(0);
        let left = Timespec { tv_sec, tv_nsec: i64::from(left.subsec_nanos()) };
        match poll(&mut [PollFd::new(&self.socket, PollFlags::OUT)], Some(&left)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(why) => Err(why.into()),
        }
    }
}

/// The connection goes back to the door, which closes it.
impl Drop for Stream {
    fn drop(&mut self) {
        if self.doorstep.returns.send(Return { key: self.key, rest: None, keep_alive: false }).is_ok() {
            self.doorstep.wake();
        }
    }
}
