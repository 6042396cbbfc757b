//! Bytes of a response that a socket has not accepted yet, and the source of those that follow them if the body is produced
//! part by part. While the socket is slow, a response holds neither a thread nor a database connection.

use std::io::{self, ErrorKind, IoSlice, Write as _};
use std::net::TcpStream;

use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::http::body_encoder::BodyEncoder;
use crate::http::body_source::{BodySource, PART_BYTES};
use crate::http::query_queue::ClientKey;
use crate::http::response::{BodyFraming, Response, write_head};

/// Room for an item that a source adds to a part that is nearly full, in bytes.
const LAST_ITEM_BYTES: usize = 4 * 1024;

/// A serialized response, or a part of one, and the number of its bytes that have been sent.
#[derive(Debug)]
pub(in crate::http) struct UnsentResponse {
    head: Vec<u8>,
    body: Vec<u8>,
    sent: usize,
    /// The source of the bytes that follow, if the body is produced part by part.
    pub(in crate::http) rest: Option<Box<StreamedBody>>,
}

impl UnsentResponse {
    /// Creates the writer of a response whose body is complete.
    pub(in crate::http) fn new(response: Response, keep_alive: bool, head_only: bool) -> Self {
        let head = write_head(&response, Timestamp::now(), BodyFraming::Length, keep_alive);
        let body = if head_only { Vec::new() } else { response.into_body() };
        Self { head, body, sent: 0, rest: None }
    }

    /// Creates the writer of one part of a response.
    pub(in crate::http) fn part(head: Vec<u8>, body: Vec<u8>, rest: Option<Box<StreamedBody>>) -> Self {
        Self { head, body, sent: 0, rest }
    }

    /// Returns the memory that the response takes, in bytes.
    pub(in crate::http) fn bytes(&self) -> usize {
        self.head.len() + self.body.len()
    }

    /// Frees the bytes that have been sent and unused capacity, since a slow client may need the rest for long.
    pub(in crate::http) fn shrink(&mut self) {
        let sent_head = self.sent.min(self.head.len());
        self.head.drain(..sent_head);
        self.body.drain(..self.sent - sent_head);
        self.body.shrink_to_fit();
        self.sent = 0;
    }

    /// Returns the number of bytes that the socket has accepted.
    pub(in crate::http) fn sent(&self) -> usize {
        self.sent
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

/// The source of the next parts of a response, and how they are encoded.
pub(in crate::http) struct StreamedBody {
    pub(in crate::http) source: Box<dyn BodySource>,
    pub(in crate::http) encoder: BodyEncoder,
    /// The client whose share of the workers' time the parts use.
    pub(in crate::http) client: ClientKey,
    /// The index of the route, for the log.
    pub(in crate::http) route: usize,
}

impl std::fmt::Debug for StreamedBody {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("StreamedBody").field("route", &self.route).finish_non_exhaustive()
    }
}

impl StreamedBody {
    /// Produces the next part, with what is to follow it.
    ///
    /// # Errors
    /// Fails if the source fails. The response is then incomplete.
    pub(in crate::http) fn next_part(mut self: Box<Self>) -> Result<UnsentResponse> {
        let mut part = Vec::with_capacity(PART_BYTES + LAST_ITEM_BYTES);
        let has_more = self.source.write_part(&mut part)?;
        self.encode(Vec::new(), part, has_more)
    }

    /// Encodes a part that follows `before`.
    ///
    /// # Errors
    /// Fails if the compressor fails, which does not depend on the data.
    pub(in crate::http) fn encode(
        mut self: Box<Self>,
        mut before: Vec<u8>,
        part: Vec<u8>,
        has_more: bool,
    ) -> Result<UnsentResponse> {
        let encoded = self.encoder.encode(part, !has_more);
        let encoded = encoded.map_err(|why| Error::Internal(format!("failed to compress a body: {why}")))?;
        before.extend_from_slice(&encoded.size_line);
        Ok(UnsentResponse::part(before, encoded.content, has_more.then_some(self)))
    }
}
