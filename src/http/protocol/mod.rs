//! HTTP/1.1 parsing and framing (RFC 9112).
//!
//! Pure: no sockets, no clock and no knowledge of routes, except that large bodies are spooled to an anonymous file.
//! Every function takes untrusted bytes and is a fuzz target.

pub(in crate::http) mod body;
pub(in crate::http) mod chunked;
pub(in crate::http) mod content_coding;
pub(in crate::http) mod error;
pub(in crate::http) mod head;
