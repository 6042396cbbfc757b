//! What must hold of what pages send whatever its bytes are.

pub(crate) use super::maps::fuzz::{maps, sources, stacks};
use super::report::{self, ErrorReport};
use crate::error::Error;

/// The bodies that go on to the error tracker and to the collector, where a page's body is one.
pub(crate) fn forwarded(body: &[u8]) -> [Result<Vec<u8>, Error>; 2] {
    let error = ErrorReport::parse(body, "shop");
    if let Ok(report) = &error {
        assert!(report.traceback.chars().count() <= 64 * 1024);
    }
    let error = error.map(|report| serde_json::to_vec(&report).expect("a report is JSON"));
    [error, report::metrics(body, "shop")]
}
