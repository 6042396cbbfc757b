//! Reports with the fingerprints that assign them to a group.

use super::fingerprint::{Fingerprint, fingerprints};
use crate::records::report::{Report, URL_CHARS_MAX};
use crate::text::truncate_chars;

/// A report with its fingerprints and location.
#[derive(Debug)]
pub(super) struct GroupedReport {
    pub(super) report: Report,
    /// Fingerprint of a group that this report creates.
    pub(super) fingerprint: Fingerprint,
    /// Fingerprint that the original computes, if it differs: an existing group with it gets the report.
    pub(super) original_fingerprint: Option<Fingerprint>,
    /// `file:line` where the error was raised.
    pub(super) location: Option<String>,
}

impl GroupedReport {
    /// Computes the fingerprints and the location from the traceback.
    pub(super) fn new(report: Report) -> Self {
        let computed = fingerprints(&report.project, &report.exception_type, &report.traceback);
        let location = computed.location.map(|at| truncate_chars(&at.to_string(), URL_CHARS_MAX).into_owned());
        Self { fingerprint: computed.primary, original_fingerprint: computed.original, location, report }
    }
}
