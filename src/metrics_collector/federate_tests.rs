//! Tests of the Prometheus text format.

use super::*;
use crate::metrics_collector::SCHEMA;
use crate::metrics_collector::series::{self, MetricRef};
use crate::records::key_kind::KeyKind;

type TestSeries = (MetricKind, &'static str, &'static str, &'static str, &'static [f64]);

/// Returns the response for series with the kind, name, project, labels and values of each.
fn render(all: &[TestSeries], since: i64) -> String {
    render_live(all, Live { since, gauges_since: since })
}

fn render_live(all: &[TestSeries], live: Live) -> String {
    let readers = crate::db::in_memory(SCHEMA, |connection| {
        for (kind, name, project, labels, values) in all {
            let metric = MetricRef { name, kind: *kind, project };
            let id = series::get_or_create(connection, metric, labels, KeyKind::Server, Timestamp::from_ms(0))?;
            let mut totals = RunningTotals::default();
            for (at, value) in (0..).zip(*values) {
                totals.add(*kind, *value, at);
                totals.sketch.add(*value);
            }
            totals.store(connection, TotalsTable::RolledUp, id)?;
        }
        Ok(())
    });
    let (mut body, mut out) = (FederateBody::new(readers, live), Vec::new());
    loop {
        let before = out.len();
        let has_more = body.write_part(&mut out).unwrap();
        assert!(out.len() - before < 4 * PART_BYTES);
        if !has_more {
            return String::from_utf8(out).unwrap();
        }
    }
}

#[test]
fn label_values_are_escaped() {
    let series = [(MetricKind::Counter, "n", "", r#"{"a":"q\"\\\n"}"#, &[1.0][..])];
    assert!(render(&series, 0).contains(r#"n{a="q\"\\\n"} 1"#));
}

#[test]
fn equal_names_are_merged_and_kinds_stay_separate() {
    let text = render(
        &[
            (MetricKind::Counter, "a.b", "", "{}", &[1.0, -5.0]),
            (MetricKind::Counter, "a_b", "", "{}", &[2.0]),
            (MetricKind::Gauge, "a_b", "", "{}", &[1e300]),
            (MetricKind::Histogram, "h", "", "{}", &[1.0]),
            (MetricKind::Gauge, "h_count", "", "{}", &[7.0]),
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
    assert_samples_are_unique(&text);
}

/// Returns the number of samples.
fn assert_samples_are_unique(text: &str) -> usize {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let mut names: Vec<&str> = samples.filter_map(|line| line.rsplit_once(' ')).map(|(name, _)| name).collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all, "{text}");
    all
}

#[test]
fn value_equal_to_a_bound_counts_up_to_it() {
    const VALUES: &[f64] = &[-3.0, 0.0, 0.5, 1.0, 1.0f64.next_up(), 2.0, 3e6];
    let series = [(MetricKind::Histogram, "h", "p", r#"{"a":"b"}"#, VALUES)];
    let text = render(&series, 0);
    for (bound, count) in [
        ("0.0009765625", 2),
        ("0.5", 3),
        ("1", 4),
        ("2", 6),
        ("1048576", 6),
        ("4194304", 7),
        ("1099511627776", 7),
        ("+Inf", 7),
    ] {
        let line = format!("h_bucket{{project=\"p\",a=\"b\",le=\"{bound}\"}} {count}\n");
        assert!(text.contains(&line), "{line} in {text}");
    }
    assert!(text.contains("h_count{project=\"p\",a=\"b\"} 7\n"), "{text}");
    assert_eq!(render(&series, 7), "", "the last point is at 6 ms");
}

#[test]
fn gauge_is_left_out_after_its_lifetime_and_a_counter_after_its_retention() {
    // The last point of each is at 2 ms.
    let series: [TestSeries; 4] = [
        (MetricKind::Gauge, "depth", "", "{}", &[1.0, 2.0, 3.0]),
        (MetricKind::Gauge, "release_info", "", r#"{"release":"7"}"#, &[1.0, 1.0, 1.0]),
        (MetricKind::Counter, "sold", "", "{}", &[1.0, 2.0, 3.0]),
        (MetricKind::Histogram, "ms", "", "{}", &[1.0, 2.0, 3.0]),
    ];
    for (since, gauges_since, expected) in
        [(0, 2, [true, true, true]), (0, 3, [false, true, true]), (3, 2, [false, false, false])]
    {
        let text = render_live(&series, Live { since, gauges_since });
        let found = ["depth 3\n", "release_info{release=\"7\"} 1\n", "sold 6\n"].map(|line| text.contains(line));
        assert_eq!((found, text.contains("ms_count 3\n")), (expected, expected[2]), "{text}");
    }
}

#[test]
fn names_that_differ_in_other_alphabets_are_different_families() {
    let series: [TestSeries; 3] = [
        (MetricKind::Counter, "заказы", "", "{}", &[1.0]),
        (MetricKind::Counter, "оплаты", "", "{}", &[2.0]),
        (MetricKind::Counter, "größe", "", "{}", &[4.0]),
    ];
    let text = render(&series, 0);
    for line in [
        "U___437__430__43a__430__437__44b_ 1\n",
        "U___43e__43f__43b__430__442__44b_ 2\n",
        "U__gr_f6__df_e 4\n",
        "# HELP U__gr_f6__df_e größe as sent by clients.\n",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
}

#[test]
fn families_and_labels_that_exceed_a_part_are_complete() {
    let leak = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
    let mut series: Vec<TestSeries> = Vec::new();
    for n in 0..700 {
        // 700 names with equal forms in Prometheus, 700 different ones, and 700 series of one histogram.
        let junk: String = (0..10).map(|bit| if n >> bit & 1 == 1 { '\u{1F600}' } else { '\u{1F601}' }).collect();
        series.push((MetricKind::Gauge, leak(format!("{junk}{}", "x".repeat(190))), "", "{}", &[1.0]));
        series.push((MetricKind::Gauge, leak(format!("{n:0200}")), "", "{}", &[1.0]));
        series.push((MetricKind::Histogram, "h", "", leak(format!(r#"{{"page":"{n:0200}"}}"#)), &[1.0]));
    }
    let text = render(&series, 0);
    assert_eq!(assert_samples_are_unique(&text), 1 + 700 + 700 * (BOUNDS + 3));
    assert_eq!(text.lines().filter(|line| line.starts_with("# TYPE")).count(), 1 + 700 + 1);
    assert!(text.contains("# TYPE h histogram\n") && text.contains("h_count{page=\"0"), "{}", &text[..2_000]);
}
