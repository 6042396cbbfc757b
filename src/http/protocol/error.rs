//! The error for bytes that are not valid HTTP/1.1.

/// A violation of HTTP that the server answers and then closes the connection for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) struct ProtocolError {
    /// The status code of the response.
    pub(in crate::http) status: u16,
    /// One sentence for the client.
    pub(in crate::http) detail: &'static str,
}

/// Returns the error for a request with invalid syntax: status 400.
pub(in crate::http) const fn malformed(detail: &'static str) -> ProtocolError {
    ProtocolError { status: 400, detail }
}
