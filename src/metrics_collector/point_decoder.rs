//! Decoder for request bodies, with the settings and the series cache that ingestion needs.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::cardinality::CardinalityLimits;
use super::point_json;
use super::series::{SeriesCache, SeriesHasher, labels_json};
use crate::error::Result;
use crate::records::point::Point;

/// Label with the path of the page that sent a point.
const PAGE_LABEL: &str = "page";
/// Beginnings of the names of the browser SDK's metrics.
const PAGE_METRICS: [&str; 2] = ["browser_", "web_vitals_"];

/// Decoder for request bodies. Every command that stores points shares it.
#[derive(Debug)]
pub(super) struct PointDecoder {
    pub(super) hasher: SeriesHasher,
    cache: Mutex<SeriesCache>,
    /// Labels that are stored with points but do not create series.
    dropped_labels: Vec<String>,
    pub(super) limits: CardinalityLimits,
    /// Maximum age of a point's timestamp. Older timestamps are replaced by the time of arrival.
    pub(super) point_age_max: Duration,
}

impl PointDecoder {
    /// Creates a decoder with an empty series cache.
    pub(super) fn new(dropped_labels: Vec<String>, limits: CardinalityLimits, point_age_max: Duration) -> Self {
        let (hasher, cache) = (SeriesHasher::default(), Mutex::default());
        Self { hasher, cache, dropped_labels, limits, point_age_max }
    }

    /// Locks the series cache.
    pub(super) fn cache(&self) -> MutexGuard<'_, SeriesCache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Decodes the points of a body, with the page paths of web pages folded. Returns each point without its dropped labels, and
    /// these labels as JSON.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::error::Error::Invalid) if the body is malformed; names the item and the field.
    pub(super) fn decode<'b>(
        &self,
        body: &'b [u8],
    ) -> Result<impl ExactSizeIterator<Item = (Point<'b>, Option<String>)>> {
        Ok(point_json::decode(body)?.into_iter().map(|mut point| {
            if is_from_page(&point) {
                point.fold_page_label(PAGE_LABEL);
            }
            self.drop_labels(point)
        }))
    }

    fn drop_labels<'b>(&self, mut point: Point<'b>) -> (Point<'b>, Option<String>) {
        let is_dropped = |name: &str| self.dropped_labels.iter().any(|dropped| dropped == name);
        if !point.labels().iter().any(|(name, _)| is_dropped(name)) {
            return (point, None);
        }
        let dropped = point.remove_labels(is_dropped);
        (point, Some(labels_json(&dropped)))
    }
}

/// Whether a web page sent the point, through a relay that labels it or directly.
fn is_from_page(point: &Point<'_>) -> bool {
    let has_page = point.label(PAGE_LABEL).is_some();
    has_page
        && (point.label("source") == Some("browser")
            || PAGE_METRICS.iter().any(|prefix| point.name().starts_with(prefix)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_paths_of_web_pages_are_folded_and_other_labels_are_kept() {
        let limits = CardinalityLimits { total: 10, per_metric: 10 };
        let decoder = PointDecoder::new(vec!["session_id".into()], limits, Duration::from_secs(3_600));
        let decode = |name: &str, labels: &str| {
            let body = format!(r#"[{{"name":"{name}","type":"counter","value":1,"labels":{{{labels}}}}}]"#);
            let (point, dropped) = decoder.decode(body.as_bytes()).unwrap().next().unwrap();
            (labels_json(point.labels()), dropped)
        };
        for (name, labels, stored) in [
            ("n", r#""page":"/user/7?x","source":"browser""#, r#"{"page":"/user/:id","source":"browser"}"#),
            (
                "browser_http_requests_total",
                r#""page":"/a/john@x.com","to":"/b/7""#,
                r#"{"page":"/a/:id","to":"/b/7"}"#,
            ),
            ("web_vitals_lcp", r#""page":"/user/7""#, r#"{"page":"/user/:id"}"#),
            ("pages_total", r#""page":"/user/7","source":"server""#, r#"{"page":"/user/7","source":"server"}"#),
        ] {
            assert_eq!(decode(name, labels), (stored.to_owned(), None), "{name}");
        }
        let (labels, dropped) = decode("n", r#""page":"/7","source":"browser","session_id":"s""#);
        assert_eq!(
            (&*labels, dropped.as_deref()),
            (r#"{"page":"/:id","source":"browser"}"#, Some(r#"{"session_id":"s"}"#))
        );
    }
}
