//! `GET /federate`: every live series in Prometheus' text format, for a Prometheus that keeps them longer.
//!
//! The answer is made in memory. What bounds it is the cap on series: a counter or gauge is a line of about 100 bytes
//! and a histogram 34 of them, so 20,000 counters are 2 MB and 20,000 histograms, the most there can be, 60 MB. Nobody
//! holds those: Prometheus takes gzip, the text is compressed as it is made, and what comes out is a few megabytes.

use std::collections::{BTreeMap, HashSet};

use super::Collector;
use super::cumulative::{self, Cumulative, Named};
use super::exposed::{BOUNDARIES, free_name, label_pairs, metric_name};
use super::points::Kind;
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::http::{Request, Response};
use crate::service::{PrometheusText, escape_label};

/// An answer; the door cuts off clients for which it has to keep more.
const ANSWER_BYTES_MAX: usize = 4_000_000;

/// `GET /federate`
pub(super) fn federate(collector: &Collector, request: &Request) -> Result<Response> {
    let mut metrics = Metrics::default();
    cumulative::for_each(&*collector.core.readers.acquire()?, |named, of_it| metrics.add(&named, of_it))?;
    let mut text = PrometheusText::for_request(request);
    metrics.write(&mut text, (Timestamp::now() - collector.retention.minutes).ms())?;
    Ok(text.into())
}

/// Everything by name and labels as Prometheus knows them. Series that differ only in what it does not allow are one.
#[derive(Debug, Default)]
struct Metrics(BTreeMap<(Kind, String), Metric>);

#[derive(Debug)]
struct Metric {
    /// The name as clients send it.
    sent_as: String,
    /// By labels.
    samples: BTreeMap<String, Sample>,
}

#[derive(Debug)]
struct Sample {
    count: u64,
    sum: f64,
    last: f64,
    last_at: i64,
    /// Of histograms: how many values are at most each of the boundaries.
    up_to: Vec<u64>,
}

impl Metrics {
    fn add(&mut self, series: &Named, of_it: &Cumulative) {
        let bounds = (series.kind == Kind::Histogram).then_some(BOUNDARIES).into_iter().flatten();
        let sample = Sample {
            count: of_it.count,
            sum: of_it.sum,
            last: of_it.last,
            last_at: of_it.last_at,
            up_to: bounds.map(|exponent| of_it.sketch.count_up_to(f64::from(exponent).exp2())).collect(),
        };
        let metric = self
            .0
            .entry((series.kind, metric_name(&series.name)))
            .or_insert_with(|| Metric { sent_as: series.name.clone(), samples: BTreeMap::new() });
        let pair = |(name, value): (String, String)| format!("{name}=\"{}\"", escape_label(&value));
        let labels = label_pairs(series).into_iter().map(pair).collect::<Vec<_>>().join(",");
        match metric.samples.get_mut(&labels) {
            Some(known) => known.merge(&sample),
            None => drop(metric.samples.insert(labels, sample)),
        }
    }

    /// What was seen since a moment, in ms since 1970.
    fn write(&self, text: &mut PrometheusText, since: i64) -> Result<()> {
        let mut taken = HashSet::new();
        // Histograms first: theirs are the names with endings that others may not have.
        for ((kind, name), metric) in self.0.iter().rev() {
            let name = free_name(&mut taken, name, *kind);
            let mut live = metric.samples.iter().filter(|(_, sample)| sample.last_at >= since).peekable();
            if live.peek().is_some() {
                text.describe(&name, kind.name(), &format!("{} as its clients send it", metric.sent_as));
            }
            for (labels, sample) in live {
                sample.write(text, *kind, &name, labels);
                if text.size_bytes() > ANSWER_BYTES_MAX {
                    return Err(Error::Busy(
                        "There are too many series for one answer; ask for gzip or lower MAX_SERIES",
                    ));
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
        self.up_to.iter_mut().zip(&other.up_to).for_each(|(mine, theirs)| *mine += theirs);
    }

    fn write(&self, text: &mut PrometheusText, kind: Kind, name: &str, labels: &str) {
        let braced = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        match kind {
            Kind::Counter => text.sample(name, &braced, &number(self.sum)),
            Kind::Gauge => text.sample(name, &braced, &number(self.last)),
            Kind::Histogram => {
                let (bucket, comma) = (format!("{name}_bucket"), if labels.is_empty() { "" } else { "," });
                for (exponent, up_to) in BOUNDARIES.zip(&self.up_to) {
                    let bound = f64::from(exponent).exp2();
                    text.sample(&bucket, &format!("{{{labels}{comma}le=\"{bound}\"}}"), up_to);
                }
                text.sample(&bucket, &format!("{{{labels}{comma}le=\"+Inf\"}}"), &self.count);
                text.sample(&format!("{name}_sum"), &braced, &number(self.sum));
                text.sample(&format!("{name}_count"), &braced, &self.count);
            }
        }
    }
}

/// Without hundreds of digits for what is very large or very small.
fn number(value: f64) -> String {
    let plain = value == 0.0 || (1e-6..1e15).contains(&value.abs());
    if plain { value.to_string() } else { format!("{value:e}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(kind: Kind, name: &str, project: &str, labels: &str) -> Named {
        Named { kind, name: name.into(), project: project.into(), labels: labels.into() }
    }

    fn of(kind: Kind, values: &[f64]) -> Cumulative {
        let mut cumulative = Cumulative::default();
        for (at, value) in (0..).zip(values) {
            cumulative.add(kind, *value, at);
            cumulative.sketch.add(*value);
        }
        cumulative
    }

    fn exposed(series: &[(Named, Cumulative)], since: i64) -> String {
        let mut metrics = Metrics::default();
        series.iter().for_each(|(named, of_it)| metrics.add(named, of_it));
        let mut text = PrometheusText::default();
        metrics.write(&mut text, since).unwrap();
        let response = Response::from(text);
        String::from_utf8(response.body().to_vec()).unwrap()
    }

    #[test]
    fn a_value_is_escaped_within_its_quotes() {
        let series = [(named(Kind::Counter, "n", "", r#"{"a":"q\"\\\n"}"#), of(Kind::Counter, &[1.0]))];
        assert!(exposed(&series, 0).contains(r#"n{a="q\"\\\n"} 1"#));
    }

    #[test]
    fn names_that_become_the_same_are_one_metric_and_types_stay_apart() {
        let text = exposed(
            &[
                (named(Kind::Counter, "a.b", "", "{}"), of(Kind::Counter, &[1.0, -5.0])),
                (named(Kind::Counter, "a_b", "", "{}"), of(Kind::Counter, &[2.0])),
                (named(Kind::Gauge, "a_b", "", "{}"), of(Kind::Gauge, &[1e300])),
                (named(Kind::Histogram, "h", "", "{}"), of(Kind::Histogram, &[1.0])),
                (named(Kind::Gauge, "h_count", "", "{}"), of(Kind::Gauge, &[7.0])),
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
    fn a_value_on_a_boundary_counts_below_it() {
        let values = [-3.0, 0.0, 0.5, 1.0, 1.0f64.next_up(), 2.0, 3e6];
        let series = [(named(Kind::Histogram, "h", "p", r#"{"a":"b"}"#), of(Kind::Histogram, &values))];
        let text = exposed(&series, 0);
        for (bound, count) in [("0.0009765625", 2), ("0.5", 3), ("1", 4), ("2", 6), ("1048576", 6), ("+Inf", 7)] {
            let line = format!("h_bucket{{project=\"p\",a=\"b\",le=\"{bound}\"}} {count}\n");
            assert!(text.contains(&line), "{line} in {text}");
        }
        assert!(text.contains("h_count{project=\"p\",a=\"b\"} 7\n"), "{text}");
        assert_eq!(exposed(&series, 7), "", "it was seen last at 6");
    }
}
