//! Rendering of records in the formats of log stores.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;

use crate::env::Env;
use crate::error::{Error, Result};

/// The format of request bodies, which `EXPORT_FORMAT` selects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object per line: VictoriaLogs, Vector and other readers of lines.
    Jsonl,
    /// The push API of Loki: <https://grafana.com/docs/loki/latest/reference/loki-http-api/#ingest-logs>.
    Loki,
    /// One JSON object per line with nested values as strings: ClickHouse's JSONEachRow.
    ClickHouse,
}

/// A record that can be forwarded. Its serialization is the JSON object of a line.
pub trait Record: Serialize {
    /// Returns the time of the record in nanoseconds since 1970.
    fn at_ns(&self) -> i64;
    /// Returns the labels of the record's stream in Loki, which should have few distinct values each.
    fn labels(&self) -> BTreeMap<&'static str, Cow<'_, str>>;
    /// Returns the line that Loki shows.
    ///
    /// # Errors
    /// Returns [`Error::Internal`] if the record cannot be serialized.
    fn line(&self) -> Result<Cow<'_, str>>;
}

impl Format {
    /// Reads the format from `EXPORT_FORMAT`.
    pub fn from_env(env: &mut Env<'_>) -> Self {
        match env.one_of("EXPORT_FORMAT", &["jsonl", "loki", "clickhouse"]) {
            "loki" => Self::Loki,
            "clickhouse" => Self::ClickHouse,
            _ => Self::Jsonl,
        }
    }

    /// Returns the headers that describe a body.
    #[must_use]
    pub fn headers(self) -> [(&'static str, &'static str); 2] {
        let content_type = if self == Self::Loki { "application/json" } else { "application/x-ndjson" };
        [("Content-Type", content_type), ("Content-Encoding", "gzip")]
    }

    /// Renders records as a body compressed with gzip.
    ///
    /// # Errors
    /// Returns [`Error::Internal`] if a record cannot be serialized.
    pub fn body<R: Record>(self, records: &[R]) -> Result<Vec<u8>> {
        let mut body = GzEncoder::new(Vec::new(), Compression::fast());
        self.write(records, &mut body)?;
        body.finish().map_err(|why| not_serialized(&why))
    }

    /// Returns the size of a record in a body before compression.
    ///
    /// # Errors
    /// Returns [`Error::Internal`] if the record cannot be serialized.
    pub fn encoded_bytes<R: Record>(self, record: &R) -> Result<usize> {
        let mut counter = ByteCounter(0);
        self.write(std::slice::from_ref(record), &mut counter)?;
        Ok(counter.0)
    }

    fn write<R: Record>(self, records: &[R], mut body: impl Write) -> Result<()> {
        if self == Self::Loki {
            return serde_json::to_writer(body, &streams(records)?).map_err(|why| not_serialized(&why));
        }
        for record in records {
            serde_json::to_writer(&mut body, record).map_err(|why| not_serialized(&why))?;
            body.write_all(b"\n").map_err(|why| not_serialized(&why))?;
        }
        Ok(())
    }
}

fn not_serialized(why: &dyn std::fmt::Display) -> Error {
    Error::Internal(format!("cannot serialize a record: {why}"))
}

/// Counts the bytes written to it.
struct ByteCounter(usize);

impl Write for ByteCounter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The body of a push to Loki.
#[derive(Serialize)]
struct LokiPush<'a> {
    streams: Vec<LokiStream<'a>>,
}

/// The records with equal labels.
#[derive(Serialize)]
struct LokiStream<'a> {
    stream: BTreeMap<&'static str, Cow<'a, str>>,
    /// Pairs of the time, as nanoseconds in a string, and the line.
    values: Vec<(String, Cow<'a, str>)>,
}

fn streams<R: Record>(records: &[R]) -> Result<LokiPush<'_>> {
    let mut streams: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for record in records {
        streams.entry(record.labels()).or_default().push((record.at_ns().to_string(), record.line()?));
    }
    Ok(LokiPush { streams: streams.into_iter().map(|(stream, values)| LokiStream { stream, values }).collect() })
}
