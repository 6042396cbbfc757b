//! The Prometheus text format, version 0.0.4.

use std::fmt::{Display, Write as _};

use crate::http::Response;

/// A text of samples. All of one metric belong together, behind its description.
#[derive(Debug, Default)]
pub struct Exposition(String);

impl Exposition {
    /// Begins a metric: its type is `counter`, `gauge` or `histogram`.
    pub fn describe(&mut self, name: &str, kind: &str, help: &str) {
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// One number of it; `labels` are empty or stand in braces, their values [`escaped`].
    pub fn sample(&mut self, name: &str, labels: &str, value: &dyn Display) {
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }
}

impl From<Exposition> for Response {
    fn from(text: Exposition) -> Self {
        Self::new(200, "text/plain; version=0.0.4; charset=utf-8", text.0.into_bytes())
    }
}

/// A label's value as it may stand within quotes.
#[must_use]
pub fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
