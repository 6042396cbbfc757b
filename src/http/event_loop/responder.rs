//! Responder: answers one request from any thread. A responder that is dropped without a response answers 500, so no request
//! stays open after a panic.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use super::budget::Reservation;
use super::handle::BusyConnection;
use super::stream::ResponseStream;
use super::unsent_response::StreamedBody;
use super::unsent_response::UnsentResponse;
use crate::clock::Timestamp;
use crate::error::Error;
use crate::http::body_encoder::BodyEncoder;
use crate::http::middleware::cors::CorsHeaders;
use crate::http::query_queue::ClientKey;
use crate::http::response::{BodyFraming, Response, write_head};

/// Sends the response to one request.
#[derive(Debug)]
pub struct Responder {
    pub(in crate::http) connection: BusyConnection,
    pub(in crate::http) keep_alive: bool,
    pub(in crate::http) head_only: bool,
    /// Whether the client supports chunked responses.
    pub(in crate::http) supports_chunked: bool,
    /// Whether the client accepts gzip.
    pub(in crate::http) gzip: bool,
    pub(in crate::http) cors: Option<CorsHeaders>,
    pub(in crate::http) reservation: Option<Reservation>,
    pub(in crate::http) route: usize,
    pub(in crate::http) client: ClientKey,
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
        let BusyConnection { handle, socket, key, .. } = &self.connection;
        handle.stats.record_response(Some(self.route), response.status(), self.started.elapsed());
        let framing = self.framing();
        let head = write_head(response, Timestamp::now(), framing, false);
        ResponseStream::start(Arc::clone(handle), Arc::clone(socket), *key, framing, &head)
    }

    /// Returns how a body of unknown length is framed.
    fn framing(&self) -> BodyFraming {
        if self.supports_chunked { BodyFraming::Chunked } else { BodyFraming::Close }
    }

    fn respond(&mut self, response: Response) {
        self.responded = true;
        // The request's bytes have been dropped, so other requests may use the memory.
        drop(self.reservation.take());
        self.connection.handle.stats.record_response(Some(self.route), response.status(), self.started.elapsed());
        if response.is_streamed() {
            return self.send_first_part(response);
        }
        let response = self.with_cors(if self.gzip { response.gzip() } else { response });
        let writer = UnsentResponse::new(response, self.keep_alive, self.head_only);
        self.connection.send(writer, self.keep_alive);
    }

    fn with_cors(&self, response: Response) -> Response {
        match &self.cors {
            Some(cors) => cors.apply(response),
            None => response,
        }
    }

    /// Sends the head and the first part of a response. The event loop has the further ones produced.
    fn send_first_part(&mut self, response: Response) {
        let framing = self.framing();
        let keep_alive = self.keep_alive && framing == BodyFraming::Chunked;
        let gzip = self.gzip && response.is_compressible();
        let response = self.with_cors(if gzip { response.with_gzip_headers() } else { response });
        let head = write_head(&response, Timestamp::now(), framing, keep_alive);
        let (part, source) = response.into_parts();
        let Some(source) = source.filter(|_| !self.head_only) else {
            return self.connection.send(UnsentResponse::part(head, Vec::new(), None), keep_alive);
        };
        let encoder = BodyEncoder::new(framing, gzip);
        let body = Box::new(StreamedBody { source, encoder, client: self.client, route: self.route });
        match body.encode(head, part, true) {
            Ok(writer) => self.connection.send(writer, keep_alive),
            Err(why) => {
                log::error!("http: response failed: {why}; the connection is reset");
                self.connection.reset();
            }
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        if !self.responded {
            self.respond(Error::Internal("a request was dropped without a response".into()).into());
        }
    }
}
