//! Metric names that only server keys may write. Everybody can send points with the browser key of a page, and must not be able
//! to forge the state of machines and services, or releases.

use super::prometheus_characters::metric_name;

/// Reserved names. One that ends in `_*` stands for all names that begin with the rest, and for the rest without `_`: the samples
/// of a histogram `host` are `host_sum` and `host_count`, and a metric of another kind with its name becomes `host_gauge`.
const RESERVED: [&str; 5] = ["host_*", "process_*", "monlight_*", "release_info", "database_bytes"];

/// Returns the reserved name that matches a metric name in the form that Prometheus accepts, in which `/federate` and remote
/// write export it.
pub(super) fn find(name: &str) -> Option<&'static str> {
    let name = metric_name(name);
    RESERVED.into_iter().find(|reserved| match reserved.strip_suffix("_*") {
        Some(prefix) => name.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('_')),
        None => name == *reserved,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reserved_names_match_after_normalization() {
        for (name, reserved) in [
            ("host_cpu_percent", Some("host_*")),
            ("host.cpu_percent", Some("host_*")),
            ("process_resident_bytes", Some("process_*")),
            ("monlight_up", Some("monlight_*")),
            ("release_info", Some("release_info")),
            ("release-info", Some("release_info")),
            ("release_info_x", None),
            ("hostname", None),
            ("host", Some("host_*")),
            ("process", Some("process_*")),
            ("monlight", Some("monlight_*")),
            ("0release_info", None),
            ("_release_info", None),
            (".release_info", None),
            ("\u{feff}host_cpu", None),
            ("host:cpu", None),
            ("host\u{e9}cpu", None),
            ("my_host_cpu", None),
            ("web_vitals_lcp", None),
        ] {
            assert_eq!(find(name), reserved, "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_other_name_is_exported_as_a_reserved_one(
            first in "[0-9._: é]{0,2}",
            word in "host|process|monlight|release|database",
            rest in "[_.:é0]{0,2}(info|bytes|cpu|)(_info|_bytes|)",
        ) {
            let name = format!("{first}{word}{rest}");
            for suffix in ["", "_bucket", "_sum", "_count", "_counter", "_gauge", "_histogram", "_gauge_gauge"] {
                let exported = format!("{}{suffix}", metric_name(&name));
                let is_reserved = exported == "release_info" || exported == "database_bytes"
                    || ["host_", "process_", "monlight_"].iter().any(|prefix| exported.starts_with(prefix));
                prop_assert!(!is_reserved || find(&name).is_some(), "{name} becomes {exported}");
            }
        }
    }
}
