//! Writer for the Prometheus text format, version 0.0.4.

use std::fmt::{Display, Write as _};
use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::http::{Request, Response};

/// Size of the text that is compressed at once, in bytes.
const BLOCK_BYTES: usize = 32 * 1024;

/// A response of samples. The samples of one metric must follow its description.
#[derive(Debug, Default)]
pub struct PrometheusText {
    text: String,
    /// The compressed part, for clients that accept gzip. The text shrinks to a twentieth or less.
    gzip: Option<GzEncoder<Vec<u8>>>,
}

impl PrometheusText {
    /// Creates an empty response, compressed if the client accepts that.
    #[must_use]
    pub fn for_request(request: &Request) -> Self {
        Self {
            text: String::new(),
            gzip: request.accepts("gzip").then(|| GzEncoder::new(Vec::new(), Compression::default())),
        }
    }

    /// Starts a metric of type `counter`, `gauge` or `histogram`.
    pub fn describe(&mut self, name: &str, kind: &str, help: &str) {
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// Appends a sample. `labels` is empty, or has braces and values from [`escape_label`].
    pub fn sample(&mut self, name: &str, labels: &str, value: &dyn Display) {
        let _ = writeln!(self.text, "{name}{labels} {value}");
        if self.text.len() >= BLOCK_BYTES {
            self.compress();
        }
    }

    /// Returns the size of the response so far, in bytes.
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

/// Escapes a label value for use within quotes.
#[must_use]
pub fn escape_label(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
