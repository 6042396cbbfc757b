//! Responses that a server sends before it has read the whole request.
//!
//! A server may answer 413 and close the connection while the body is still being sent. The next write fails then, and ureq
//! would report that instead of the response, which has already arrived.

use std::io;

use ureq::Error;
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};

/// Wraps each TCP connection, below TLS.
#[derive(Debug)]
pub(super) struct EarlyResponseConnector;

impl<In: Transport> Connector<In> for EarlyResponseConnector {
    type Out = EarlyResponseTransport<In>;

    fn connect(&self, _: &ConnectionDetails, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        Ok(chained.map(|inner| EarlyResponseTransport { inner, write_error: None }))
    }
}

/// A connection on which a failed write does not prevent reading.
#[derive(Debug)]
pub(super) struct EarlyResponseTransport<T> {
    inner: T,
    /// The failure of the first write that failed. Later output is discarded.
    write_error: Option<io::Error>,
}

impl<T: Transport> Transport for EarlyResponseTransport<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        if self.write_error.is_some() {
            return Ok(());
        }
        match self.inner.transmit_output(amount, timeout) {
            Err(Error::Io(why)) if matches!(why.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {
                self.write_error = Some(why);
                Ok(())
            }
            result => result,
        }
    }

    /// Waits for a response. After a failed write it returns what has arrived until then; if that is nothing, the error of
    /// the write.
    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let result = self.inner.await_input(timeout);
        match &self.write_error {
            Some(why) if !matches!(result, Ok(true)) => Err(io::Error::new(why.kind(), why.to_string()).into()),
            _ => result,
        }
    }

    fn is_open(&mut self) -> bool {
        self.write_error.is_none() && self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}
