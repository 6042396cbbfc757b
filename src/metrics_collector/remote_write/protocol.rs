//! A request as Prometheus' remote write 1.0 has it (prometheus.io/docs/specs/prw/remote_write_spec): samples of series
//! in protocol buffers, packed with snappy.

use super::super::cumulative::{Cumulative, Named};
use super::super::exposed::{BOUNDARIES, label_pairs};
use super::super::points::Kind;
use crate::error::{Error, Result};

/// The headers that belong to every request.
pub(super) const HEADERS: [(&str, &str); 3] = [
    ("Content-Type", "application/x-protobuf"),
    ("Content-Encoding", "snappy"),
    ("X-Prometheus-Remote-Write-Version", "0.1.0"),
];
/// The two wire types that are used (protobuf.dev/programming-guides/encoding).
const FIXED_64: u64 = 1;
const DELIMITED: u64 = 2;
const VARINT: u64 = 0;

/// Samples of one moment, to be sent together.
#[derive(Debug, Default)]
pub(super) struct Request {
    series: Vec<u8>,
    samples: usize,
}

impl Request {
    pub(super) fn samples(&self) -> usize {
        self.samples
    }

    /// Adds everything there is to tell of a series: one sample, or those of a histogram's buckets, sum and count.
    pub(super) fn add(&mut self, name: &str, of: &Named, all: &Cumulative, at: i64) {
        let labels = label_pairs(of);
        match of.kind {
            Kind::Counter => self.sample(name, &labels, None, all.sum, at),
            Kind::Gauge => self.sample(name, &labels, None, all.last, at),
            Kind::Histogram => {
                let bucket = format!("{name}_bucket");
                // f64 holds every count that a series reaches.
                for exponent in BOUNDARIES {
                    let bound = f64::from(exponent).exp2();
                    let count = all.sketch.count_up_to(bound) as f64;
                    self.sample(&bucket, &labels, Some(&bound.to_string()), count, at);
                }
                self.sample(&bucket, &labels, Some("+Inf"), all.count as f64, at);
                self.sample(&format!("{name}_sum"), &labels, None, all.sum, at);
                self.sample(&format!("{name}_count"), &labels, None, all.count as f64, at);
            }
        }
    }

    fn sample(&mut self, name: &str, labels: &[(String, String)], le: Option<&str>, value: f64, at: i64) {
        let mut pairs: Vec<(&str, &str)> = labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        pairs.push(("__name__", name));
        pairs.extend(le.map(|le| ("le", le)));
        // Receivers want them in this order.
        pairs.sort_unstable();
        let mut series = Vec::with_capacity(128);
        for (name, value) in pairs {
            let mut label = Vec::with_capacity(64);
            text(&mut label, 1, name.as_bytes());
            text(&mut label, 2, value.as_bytes());
            text(&mut series, 1, &label);
        }
        let mut sample = Vec::with_capacity(20);
        number(&mut sample, 1 << 3 | FIXED_64);
        sample.extend_from_slice(&value.to_le_bytes());
        number(&mut sample, 2 << 3 | VARINT);
        // A negative one takes ten bytes, as the format has it.
        number(&mut sample, at.cast_unsigned());
        text(&mut series, 2, &sample);
        text(&mut self.series, 1, &series);
        self.samples += 1;
    }

    /// The body to be sent.
    pub(super) fn packed(&self) -> Result<Vec<u8>> {
        let packed = snap::raw::Encoder::new().compress_vec(&self.series);
        packed.map_err(|why| Error::Internal(format!("samples cannot be packed: {why}")))
    }
}

/// A field of bytes.
fn text(message: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    number(message, field << 3 | DELIMITED);
    number(message, bytes.len() as u64);
    message.extend_from_slice(bytes);
}

/// A number in as few bytes as it needs.
fn number(message: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        message.push(number as u8 | 0x80);
        number >>= 7;
    }
    message.push(number as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_one_sample_in_the_bytes_of_the_format() {
        let named = Named { kind: Kind::Counter, name: "n".into(), project: "p".into(), labels: r#"{"Z":"z"}"#.into() };
        let mut all = Cumulative::default();
        all.add(Kind::Counter, 1.5, 3);
        let mut request = Request::default();
        request.add("n", &named, &all, 300);
        let mut expected = vec![0x0A, 51];
        // Z before __name__ before project: in the order of their bytes.
        expected.extend(b"\x0A\x06\x0A\x01Z\x12\x01z\x0A\x0D\x0A\x08__name__\x12\x01n\x0A\x0C\x0A\x07project\x12\x01p");
        expected.extend(b"\x12\x0C\x09");
        expected.extend(1.5f64.to_le_bytes());
        expected.extend(b"\x10\xAC\x02");
        assert_eq!(request.series, expected);
        let packed = request.packed().unwrap();
        assert_eq!(snap::raw::Decoder::new().decompress_vec(&packed).unwrap(), expected);
    }

    #[test]
    fn a_histogram_is_a_sample_for_each_boundary_and_three_more() {
        let named = Named { kind: Kind::Histogram, name: "h".into(), project: String::new(), labels: "{}".into() };
        let mut request = Request::default();
        request.add("h", &named, &Cumulative::default(), 0);
        assert_eq!(request.samples(), BOUNDARIES.count() + 3);
    }
}
