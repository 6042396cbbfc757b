//! Rest of a response whose body is produced part by part. While the socket is slow, it holds neither a thread nor a
//! database connection, only the source.

use crate::error::{Error, Result};
use crate::http::body_encoder::BodyEncoder;
use crate::http::body_source::{BodySource, PART_BYTES};
use crate::http::query_queue::ClientKey;

use super::handle::UnsentResponse;

/// Room for an item that a source adds to a part that is nearly full, in bytes.
const LAST_ITEM_BYTES: usize = 4 * 1024;

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
