//! Requests that have been admitted and whose body is arriving.

use crate::http::middleware::admission::AdmittedRequest;
use crate::http::protocol::body::{BodyReader, BodyStorage};
use crate::http::protocol::head::Head;

/// A request whose head was admitted.
pub(in crate::http) struct PendingRequest {
    pub(in crate::http) head: Head,
    pub(in crate::http) admitted: AdmittedRequest,
    pub(in crate::http) body: BodyReader,
}

impl PendingRequest {
    /// Returns the parts of the request.
    pub(in crate::http) fn into_parts(self) -> (Head, AdmittedRequest, BodyStorage) {
        (self.head, self.admitted, self.body.into_storage())
    }
}
