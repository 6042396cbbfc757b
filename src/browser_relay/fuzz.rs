//! Properties of the relay's parsers that hold for arbitrary bytes.

use super::metrics::convert_metrics;
use super::page_json::PageJson;
use super::report::TrackerReport;
pub(crate) use super::sourcemap::fuzz::{maps, sources, stacks};
use super::upstream::UpstreamKind;
use crate::clock::Timestamp;
use crate::error::Error;

/// Converts a page's body into the bodies for the error tracker and for the metrics collector.
pub(crate) fn forwarded(body: &[u8]) -> [Result<Vec<u8>, Error>; 2] {
    let now = Timestamp::from_ms(1_769_860_800_000);
    let page = match PageJson::new(body) {
        Ok(page) => page,
        Err(why) => return [Err(why.clone()), Err(why)],
    };
    let error = TrackerReport::parse(&page, "shop", now);
    if let Ok(report) = &error {
        assert!(report.traceback.chars().count() <= 64 * 1024);
    }
    let error = error.map(|report| serde_json::to_vec(&report).expect("a report serializes as JSON"));
    let metrics = convert_metrics(&page, "shop", UpstreamKind::Metrics.body_bytes_max(), now);
    [error, metrics.map(|metrics| metrics.body)]
}
