//! The Prometheus text format, version 0.0.4.

use std::fmt::{Display, Write as _};
use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::http::{Request, Response};

/// Text that is compressed in one go.
const CHUNK_BYTES: usize = 32 * 1024;

/// A text of samples. All of one metric belong together, behind its description.
#[derive(Debug, Default)]
pub struct PrometheusText {
    text: String,
    /// What is compressed already, for clients that take it: such a text shrinks to a twentieth and less.
    gzip: Option<GzEncoder<Vec<u8>>>,
}

impl PrometheusText {
    /// One for whoever asks, compressed where that is accepted.
    #[must_use]
    pub fn answering(request: &Request) -> Self {
        Self {
            text: String::new(),
            gzip: request.accepts("gzip").then(|| GzEncoder::new(Vec::new(), Compression::default())),
        }
    }

    /// Begins a metric: its type is `counter`, `gauge` or `histogram`.
    pub fn describe(&mut self, name: &str, kind: &str, help: &str) {
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// One number of it; `labels` are empty or stand in braces, their values [`escaped`].
    pub fn sample(&mut self, name: &str, labels: &str, value: &dyn Display) {
        let _ = writeln!(self.text, "{name}{labels} {value}");
        if self.text.len() >= CHUNK_BYTES {
            self.compress();
        }
    }

    /// How large the answer is so far, in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.text.len() + self.gzip.as_ref().map_or(0, |gzip| gzip.get_ref().len())
    }

    fn compress(&mut self) {
        if let Some(gzip) = &mut self.gzip {
            // Writing to memory cannot fail.
            let _ = gzip.write_all(self.text.as_bytes());
            self.text.clear();
        }
    }
}

impl From<PrometheusText> for Response {
    fn from(mut text: PrometheusText) -> Self {
        const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
        text.compress();
        match text.gzip.map(GzEncoder::finish) {
            Some(Ok(bytes)) => Self::new(200, MEDIA_TYPE, bytes).header("Content-Encoding", "gzip".into()),
            _ => Self::new(200, MEDIA_TYPE, text.text.into_bytes()),
        }
    }
}

/// A label's value as it may stand within quotes.
#[must_use]
pub fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
