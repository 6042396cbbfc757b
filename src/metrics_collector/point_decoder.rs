//! Decoder for request bodies, with the settings and the series cache that ingestion needs.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::cardinality::CardinalityLimits;
use super::point_json;
use super::series::{SeriesCache, SeriesHasher, labels_json};
use crate::error::Result;
use crate::records::point::Point;

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

    /// Decodes the points of a body. Returns each point without its dropped labels, and these labels as JSON.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::error::Error::Invalid) if the body is malformed; names the item and the field.
    pub(super) fn decode<'b>(
        &self,
        body: &'b [u8],
    ) -> Result<impl ExactSizeIterator<Item = (Point<'b>, Option<String>)>> {
        Ok(point_json::decode(body)?.into_iter().map(|point| self.drop_labels(point)))
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
