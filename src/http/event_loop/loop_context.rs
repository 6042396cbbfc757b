//! State of the event loop that its connections share.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::budget::Budget;
use super::input_buffer::InputBuffer;
use crate::http::middleware::admission::Admission;
use crate::http::stats::Stats;

/// The state of the event loop that connections use.
pub(in crate::http) struct LoopContext {
    pub(in crate::http) admission: Admission,
    pub(in crate::http) budget: Budget,
    pub(in crate::http) stats: Arc<Stats>,
    pub(in crate::http) spool_dir: PathBuf,
    /// Maximum time in which a client reads nothing of its response.
    pub(in crate::http) response_timeout: Duration,
    pub(in crate::http) now: Instant,
    pub(in crate::http) stopping: bool,
    pub(in crate::http) input_buffer: InputBuffer,
}
