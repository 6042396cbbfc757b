//! Properties of the relay's parsers that hold for arbitrary bytes.

use super::metrics::convert_metrics;
use super::report::TrackerReport;
pub(crate) use super::sourcemap::fuzz::{maps, sources, stacks};
use super::upstream::UpstreamKind;
use crate::error::Error;

/// Converts a page's body into the bodies for the error tracker and for the metrics collector.
pub(crate) fn forwarded(body: &[u8]) -> [Result<Vec<u8>, Error>; 2] {
    let error = TrackerReport::parse(body, "shop");
    if let Ok(report) = &error {
        assert!(report.traceback.chars().count() <= 64 * 1024);
    }
    let error = error.map(|report| serde_json::to_vec(&report).expect("a report serializes as JSON"));
    [error, convert_metrics(body, "shop", UpstreamKind::Metrics.body_bytes_max())]
}
