//! Metric names that only server keys may write. Everybody can send points with the browser key of a page, and must not be able
//! to forge the state of machines and services, or releases.

/// Reserved names. One that ends in `*` stands for all names that begin with the rest.
const RESERVED: [&str; 5] = ["host_*", "process_*", "monlight_*", "release_info", "database_bytes"];

/// Returns the reserved name that matches a metric name. Characters that Prometheus does not allow count as `_`, because
/// `/federate` replaces them.
pub(super) fn find(name: &str) -> Option<&'static str> {
    RESERVED.into_iter().find(|reserved| match reserved.strip_suffix('*') {
        Some(prefix) => has_prefix(name, prefix),
        None => name.chars().count() == reserved.len() && has_prefix(name, reserved),
    })
}

fn has_prefix(name: &str, prefix: &str) -> bool {
    let normalize = |char: char| if char.is_ascii_alphanumeric() || char == ':' { char } else { '_' };
    let mut chars = name.chars().map(normalize);
    prefix.chars().all(|expected| chars.next() == Some(expected))
}

#[cfg(test)]
mod tests {
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
            ("host", None),
            ("my_host_cpu", None),
            ("web_vitals_lcp", None),
        ] {
            assert_eq!(find(name), reserved, "{name}");
        }
    }
}
