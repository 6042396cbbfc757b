//! `GET /federate`: all live series in Prometheus text format, for a Prometheus server that scrapes this service.
//!
//! The response is built in memory and compressed while it is built. A counter or gauge takes one line of about 100
//! bytes, a histogram 34 lines. With the default `MAX_SERIES`, 20,000 counters are 2 MB and 20,000 histograms 60 MB
//! before compression, and a few megabytes with gzip, which Prometheus requests.

use std::collections::BTreeMap;

use super::prometheus_names::{BOUND_EXPONENTS, UsedNames, label_pairs, metric_name};
use super::running_totals::{self, RunningTotals};
use super::series::SeriesKey;
use super::state::Collector;
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::http::{Request, Response};
use crate::records::point::MetricKind;
use crate::service::{PrometheusText, escape_label};

/// Maximum size of a response as sent. The event loop closes connections that have more unsent bytes.
const RESPONSE_BYTES_MAX: usize = 4_000_000;

/// Handles `GET /federate`: returns all live series in Prometheus text format.
pub(super) fn federate(collector: &Collector, request: &Request) -> Result<Response> {
    let mut metrics = Metrics::default();
    running_totals::for_each_series(&*collector.core.readers.acquire()?, |series, totals| {
        metrics.add(&series, totals);
    })?;
    let mut output = PrometheusText::for_request(request);
    metrics.write(&mut output, (Timestamp::now() - collector.retention.minutes).ms())?;
    Ok(output.into())
}

/// Metrics by kind and Prometheus name. Series that differ only in characters that Prometheus does not allow are merged.
#[derive(Debug, Default)]
struct Metrics(BTreeMap<(MetricKind, String), Metric>);

#[derive(Debug)]
struct Metric {
    /// Name as sent by clients.
    original_name: String,
    /// By label pairs in text format.
    samples: BTreeMap<String, Sample>,
}

#[derive(Debug)]
struct Sample {
    count: u64,
    sum: f64,
    last: f64,
    last_at: i64,
    /// Number of values up to each bound; only for histograms.
    bucket_counts: Vec<u64>,
}

impl Metrics {
    fn add(&mut self, series: &SeriesKey, totals: &RunningTotals) {
        let is_histogram = series.kind == MetricKind::Histogram;
        let exponents = is_histogram.then_some(BOUND_EXPONENTS).into_iter().flatten();
        let sample = Sample {
            count: totals.count,
            sum: totals.sum,
            last: totals.last,
            last_at: totals.last_at,
            bucket_counts: exponents.map(|exponent| totals.sketch.count_at_most(f64::from(exponent).exp2())).collect(),
        };
        let metric = self
            .0
            .entry((series.kind, metric_name(&series.name)))
            .or_insert_with(|| Metric { original_name: series.name.clone(), samples: BTreeMap::new() });
        let pair = |(name, value): (String, String)| format!("{name}=\"{}\"", escape_label(&value));
        let labels = label_pairs(series).into_iter().map(pair).collect::<Vec<_>>().join(",");
        match metric.samples.get_mut(&labels) {
            Some(known) => known.merge(&sample),
            None => drop(metric.samples.insert(labels, sample)),
        }
    }

    /// Writes the series that have a point since a time in ms since 1970.
    ///
    /// # Errors
    /// [`Error::Busy`] if the response exceeds [`RESPONSE_BYTES_MAX`].
    fn write(&self, output: &mut PrometheusText, since: i64) -> Result<()> {
        let mut used = UsedNames::default();
        // Histograms first, because their names with suffixes must not belong to another metric.
        for ((kind, name), metric) in self.0.iter().rev() {
            let name = used.add_unique(name, *kind);
            let mut live = metric.samples.iter().filter(|(_, sample)| sample.last_at >= since).peekable();
            if live.peek().is_some() {
                output.describe(&name, kind.as_str(), &format!("{} as sent by clients.", metric.original_name));
            }
            for (labels, sample) in live {
                sample.write(output, *kind, &name, labels);
                if output.size_bytes() > RESPONSE_BYTES_MAX {
                    return Err(Error::Busy("The response exceeds 4 MB; request gzip or lower MAX_SERIES"));
                }
            }
        }
        Ok(())
    }
}

impl Sample {
    fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.sum = (self.sum + other.sum).clamp(f64::MIN, f64::MAX);
        if other.last_at >= self.last_at {
            (self.last, self.last_at) = (other.last, other.last_at);
        }
        self.bucket_counts.iter_mut().zip(&other.bucket_counts).for_each(|(mine, theirs)| *mine += theirs);
    }

    fn write(&self, output: &mut PrometheusText, kind: MetricKind, name: &str, labels: &str) {
        let braced = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        match kind {
            MetricKind::Counter => output.sample(name, &braced, &format_number(self.sum)),
            MetricKind::Gauge => output.sample(name, &braced, &format_number(self.last)),
            MetricKind::Histogram => {
                let (bucket, comma) = (format!("{name}_bucket"), if labels.is_empty() { "" } else { "," });
                for (exponent, count) in BOUND_EXPONENTS.zip(&self.bucket_counts) {
                    let bound = f64::from(exponent).exp2();
                    output.sample(&bucket, &format!("{{{labels}{comma}le=\"{bound}\"}}"), count);
                }
                output.sample(&bucket, &format!("{{{labels}{comma}le=\"+Inf\"}}"), &self.count);
                output.sample(&format!("{name}_sum"), &braced, &format_number(self.sum));
                output.sample(&format!("{name}_count"), &braced, &self.count);
            }
        }
    }
}

/// Formats a number, with an exponent if it is very large or very small and would have hundreds of digits.
fn format_number(value: f64) -> String {
    let is_short = value == 0.0 || (1e-6..1e15).contains(&value.abs());
    if is_short { value.to_string() } else { format!("{value:e}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(kind: MetricKind, name: &str, project: &str, labels: &str) -> SeriesKey {
        SeriesKey { kind, name: name.into(), project: project.into(), labels: labels.into() }
    }

    fn totals(kind: MetricKind, values: &[f64]) -> RunningTotals {
        let mut totals = RunningTotals::default();
        for (at, value) in (0..).zip(values) {
            totals.add(kind, *value, at);
            totals.sketch.add(*value);
        }
        totals
    }

    fn render(series: &[(SeriesKey, RunningTotals)], since: i64) -> String {
        let mut metrics = Metrics::default();
        series.iter().for_each(|(series, totals)| metrics.add(series, totals));
        let mut output = PrometheusText::default();
        metrics.write(&mut output, since).unwrap();
        let response = Response::from(output);
        String::from_utf8(response.body().to_vec()).unwrap()
    }

    #[test]
    fn label_values_are_escaped() {
        let series =
            [(series(MetricKind::Counter, "n", "", r#"{"a":"q\"\\\n"}"#), totals(MetricKind::Counter, &[1.0]))];
        assert!(render(&series, 0).contains(r#"n{a="q\"\\\n"} 1"#));
    }

    #[test]
    fn equal_names_are_merged_and_kinds_stay_separate() {
        let text = render(
            &[
                (series(MetricKind::Counter, "a.b", "", "{}"), totals(MetricKind::Counter, &[1.0, -5.0])),
                (series(MetricKind::Counter, "a_b", "", "{}"), totals(MetricKind::Counter, &[2.0])),
                (series(MetricKind::Gauge, "a_b", "", "{}"), totals(MetricKind::Gauge, &[1e300])),
                (series(MetricKind::Histogram, "h", "", "{}"), totals(MetricKind::Histogram, &[1.0])),
                (series(MetricKind::Gauge, "h_count", "", "{}"), totals(MetricKind::Gauge, &[7.0])),
            ],
            0,
        );
        for line in [
            "# TYPE a_b gauge\na_b 1e300\n",
            "# TYPE a_b_counter counter\na_b_counter 3\n",
            "h_count 1\n",
            "# TYPE h_count_gauge gauge\nh_count_gauge 7\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        let mut names: Vec<&str> =
            text.lines().filter_map(|line| line.rsplit_once(' ')).map(|(name, _)| name).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all, "{text}");
    }

    #[test]
    fn value_equal_to_a_bound_counts_up_to_it() {
        let values = [-3.0, 0.0, 0.5, 1.0, 1.0f64.next_up(), 2.0, 3e6];
        let series =
            [(series(MetricKind::Histogram, "h", "p", r#"{"a":"b"}"#), totals(MetricKind::Histogram, &values))];
        let text = render(&series, 0);
        for (bound, count) in [("0.0009765625", 2), ("0.5", 3), ("1", 4), ("2", 6), ("1048576", 6), ("+Inf", 7)] {
            let line = format!("h_bucket{{project=\"p\",a=\"b\",le=\"{bound}\"}} {count}\n");
            assert!(text.contains(&line), "{line} in {text}");
        }
        assert!(text.contains("h_count{project=\"p\",a=\"b\"} 7\n"), "{text}");
        assert_eq!(render(&series, 7), "", "the last point is at 6 ms");
    }
}
