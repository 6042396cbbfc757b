//! Encoder for requests of Prometheus remote write 1.0 (prometheus.io/docs/specs/prw/remote_write_spec): samples in
//! Protocol Buffers, compressed with Snappy.

use super::super::prometheus_names::{histogram_bounds, label_pairs};
use super::super::running_totals::RunningTotals;
use super::super::series::SeriesKey;
use crate::error::{Error, Result};
use crate::records::point::MetricKind;
use crate::varint;

/// Headers that the protocol requires in every request.
pub(super) const HEADERS: [(&str, &str); 3] = [
    ("Content-Type", "application/x-protobuf"),
    ("Content-Encoding", "snappy"),
    ("X-Prometheus-Remote-Write-Version", "0.1.0"),
];
/// Wire types of Protocol Buffers (protobuf.dev/programming-guides/encoding).
const VARINT: u64 = 0;
const FIXED_64: u64 = 1;
const DELIMITED: u64 = 2;

/// Times of the samples of a series, in ms since 1970.
#[derive(Debug, Clone, Copy)]
pub(super) struct SampleTimes {
    pub(super) at: i64,
    /// Time of the sample with the value 0, which only a new series has.
    pub(super) zero_at: Option<i64>,
}

/// Request under construction.
#[derive(Debug, Default)]
pub(super) struct WriteRequest {
    series: Vec<u8>,
    samples: usize,
}

impl WriteRequest {
    /// Returns the number of samples.
    pub(super) fn samples(&self) -> usize {
        self.samples
    }

    /// Returns the size before compression.
    pub(super) fn bytes(&self) -> usize {
        self.series.len()
    }

    /// Returns the current end, for [`Self::truncate`].
    pub(super) fn mark(&self) -> (usize, usize) {
        (self.series.len(), self.samples)
    }

    /// Removes everything that was added after `mark`.
    pub(super) fn truncate(&mut self, mark: (usize, usize)) {
        self.series.truncate(mark.0);
        self.samples = mark.1;
    }

    /// Adds the samples of a series: one for a counter or gauge; buckets, sum and count for a histogram. All totals of a new
    /// series get a sample with the value 0 before, because Prometheus does not count what a series begins with.
    pub(super) fn add(&mut self, name: &str, series: &SeriesKey, totals: &RunningTotals, at: SampleTimes) {
        let labels = label_pairs(series);
        match series.kind {
            MetricKind::Counter => self.add_sample(name, &labels, None, totals.sum.value(), at),
            MetricKind::Gauge => {
                self.add_sample(name, &labels, None, totals.last, SampleTimes { zero_at: None, ..at });
            }
            MetricKind::Histogram => {
                let bucket = format!("{name}_bucket");
                // f64 represents every count that a series can reach.
                for bound in histogram_bounds() {
                    let count = totals.sketch.count_at_most(bound) as f64;
                    self.add_sample(&bucket, &labels, Some(&bound.to_string()), count, at);
                }
                self.add_sample(&bucket, &labels, Some("+Inf"), totals.count as f64, at);
                self.add_sample(&format!("{name}_sum"), &labels, None, totals.sum.value(), at);
                self.add_sample(&format!("{name}_count"), &labels, None, totals.count as f64, at);
            }
        }
    }

    /// Adds one sample. `le` is the upper bound of a histogram bucket.
    fn add_sample(&mut self, name: &str, labels: &[(String, String)], le: Option<&str>, value: f64, at: SampleTimes) {
        let mut pairs: Vec<(&str, &str)> = labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        pairs.push(("__name__", name));
        pairs.extend(le.map(|le| ("le", le)));
        // The specification requires labels sorted by name.
        pairs.sort_unstable();
        let mut series = Vec::with_capacity(128);
        for (name, value) in pairs {
            let mut label = Vec::with_capacity(64);
            put_bytes(&mut label, 1, name.as_bytes());
            put_bytes(&mut label, 2, value.as_bytes());
            put_bytes(&mut series, 1, &label);
        }
        for (value, at) in at.zero_at.map(|zero_at| (0.0, zero_at)).into_iter().chain([(value, at.at)]) {
            let mut sample = Vec::with_capacity(20);
            varint::put(&mut sample, 1 << 3 | FIXED_64);
            sample.extend_from_slice(&f64::to_le_bytes(value));
            varint::put(&mut sample, 2 << 3 | VARINT);
            // The format encodes a negative timestamp as its two's complement, in ten bytes.
            varint::put(&mut sample, at.cast_unsigned());
            put_bytes(&mut series, 2, &sample);
            self.samples += 1;
        }
        put_bytes(&mut self.series, 1, &series);
    }

    /// Returns the compressed body.
    pub(super) fn compress(&self) -> Result<Vec<u8>> {
        let compressed = snap::raw::Encoder::new().compress_vec(&self.series);
        compressed.map_err(|error| Error::Internal(format!("failed to compress samples: {error}")))
    }
}

/// Appends a length-delimited field.
fn put_bytes(message: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    varint::put(message, field << 3 | DELIMITED);
    varint::put(message, bytes.len() as u64);
    message.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::super::super::prometheus_names::BOUNDS;
    use super::*;

    #[test]
    fn counter_is_encoded_as_one_sample() {
        let series = SeriesKey {
            kind: MetricKind::Counter,
            name: "n".into(),
            project: "p".into(),
            labels: r#"{"Z":"z"}"#.into(),
        };
        let mut totals = RunningTotals::default();
        totals.add(MetricKind::Counter, 1.5, 3);
        let mut request = WriteRequest::default();
        request.add("n", &series, &totals, SampleTimes { at: 300, zero_at: None });
        let mut expected = vec![0x0A, 51];
        // Labels are sorted by bytes: Z, __name__, project.
        expected.extend(b"\x0A\x06\x0A\x01Z\x12\x01z\x0A\x0D\x0A\x08__name__\x12\x01n\x0A\x0C\x0A\x07project\x12\x01p");
        expected.extend(b"\x12\x0C\x09");
        expected.extend(1.5f64.to_le_bytes());
        expected.extend(b"\x10\xAC\x02");
        assert_eq!(request.series, expected);
        let compressed = request.compress().unwrap();
        assert_eq!(snap::raw::Decoder::new().decompress_vec(&compressed).unwrap(), expected);
    }

    #[test]
    fn new_counter_begins_with_zero_and_a_new_gauge_does_not() {
        let mut totals = RunningTotals::default();
        totals.add(MetricKind::Counter, 50.0, 3);
        for (kind, samples) in [(MetricKind::Counter, 2), (MetricKind::Gauge, 1)] {
            let series = SeriesKey { kind, name: "n".into(), project: String::new(), labels: "{}".into() };
            let mut request = WriteRequest::default();
            request.add("n", &series, &totals, SampleTimes { at: 300, zero_at: Some(200) });
            assert_eq!(request.samples(), samples);
            let zero = b"\x12\x0C\x09\0\0\0\0\0\0\0\0\x10\xC8\x01";
            assert_eq!(request.series.windows(zero.len()).any(|part| part == zero), kind == MetricKind::Counter);
            assert!(
                request.series.ends_with(&[&[0x12, 0x0C, 0x09][..], &50f64.to_le_bytes(), b"\x10\xAC\x02"].concat())
            );
        }
    }

    #[test]
    fn histogram_has_a_sample_per_bound_and_three_more() {
        let series =
            SeriesKey { kind: MetricKind::Histogram, name: "h".into(), project: String::new(), labels: "{}".into() };
        let mut request = WriteRequest::default();
        for (zero_at, samples) in [(None, BOUNDS + 3), (Some(0), 3 * (BOUNDS + 3))] {
            request.add("h", &series, &RunningTotals::default(), SampleTimes { at: 1, zero_at });
            assert_eq!(request.samples(), samples);
        }
    }
}
