//! Requests in absolute form (RFC 9112, section 3.2.2), which HTTP proxies expect for `http` targets.
//!
//! ureq sends `CONNECT` for every target, but common proxies allow that method only for port 443.

use std::fmt;
use std::io::{Read as _, Write as _};

use ureq::Error;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport, TransportAdapter,
};

/// Rewrites the request line of each connection, which carries one request only.
pub(super) struct AbsoluteFormConnector {
    /// `None` leaves connections as they are.
    pub(super) rewrite: Option<Rewrite>,
}

/// Changes to the head of a request.
#[derive(Clone)]
pub(super) struct Rewrite {
    /// Scheme and authority of the target, which precede its path.
    pub(super) origin: String,
    /// Value of `Proxy-Authorization`.
    pub(super) credentials: Option<String>,
}

impl<In: Transport> Connector<In> for AbsoluteFormConnector {
    type Out = Either<In, AbsoluteFormTransport>;

    fn connect(&self, details: &ConnectionDetails, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        let Some(transport) = chained else { return Ok(None) };
        let Some(rewrite) = &self.rewrite else { return Ok(Some(Either::A(transport))) };
        let buffers = LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        let stream = TransportAdapter::new(transport.boxed(), details.current_time.clone());
        Ok(Some(Either::B(AbsoluteFormTransport { buffers, stream, rewrite: Some(rewrite.clone()) })))
    }
}

/// A connection to a proxy.
pub(super) struct AbsoluteFormTransport {
    buffers: LazyBuffers,
    stream: TransportAdapter,
    /// `None` after the request line was sent.
    rewrite: Option<Rewrite>,
}

impl Transport for AbsoluteFormTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream.set_timeout(timeout);
        let output = &self.buffers.output()[..amount];
        match self.rewrite.take() {
            Some(rewrite) => self.stream.write_all(&rewrite.apply(output))?,
            None => self.stream.write_all(output)?,
        }
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.stream.set_timeout(timeout);
        let amount = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.get_mut().is_open()
    }
}

impl Rewrite {
    /// Returns `head` with the target in absolute form. ureq writes the whole request line at once.
    fn apply(&self, head: &[u8]) -> Vec<u8> {
        let target = head.iter().position(|byte| *byte == b' ').map_or(0, |space| space + 1);
        let headers = head.windows(2).position(|pair| pair == b"\r\n").map_or(head.len(), |end| end + 2);
        let credentials =
            self.credentials.as_ref().map(|value| format!("Proxy-Authorization: {value}\r\n")).unwrap_or_default();
        let parts = [&head[..target], self.origin.as_bytes(), &head[target..headers], credentials.as_bytes()];
        [&parts.concat(), &head[headers..]].concat()
    }
}

impl fmt::Debug for AbsoluteFormConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AbsoluteFormConnector")
    }
}

impl fmt::Debug for AbsoluteFormTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AbsoluteFormTransport").field("over", &self.stream.inner()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_line_gets_the_origin_and_the_head_the_credentials() {
        let head = b"POST /a?b=c HTTP/1.1\r\nHost: shop.example\r\n\r\nbody";
        let origin = "http://shop.example".to_owned();
        let plain = Rewrite { origin: origin.clone(), credentials: None };
        assert_eq!(plain.apply(head), b"POST http://shop.example/a?b=c HTTP/1.1\r\nHost: shop.example\r\n\r\nbody");
        let named = Rewrite { origin, credentials: Some("Basic QQ==".to_owned()) };
        assert_eq!(
            named.apply(head),
            b"POST http://shop.example/a?b=c HTTP/1.1\r\nProxy-Authorization: Basic QQ==\r\nHost: shop.example\r\n\r\nbody"
        );
    }
}
