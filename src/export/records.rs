//! Records as the bodies that log stores take.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;

use crate::env::Env;
use crate::error::{Error, Result};

/// How records are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A JSON object a line: VictoriaLogs, Vector and whatever else reads lines.
    Jsonl,
    /// The push API of Loki (grafana.com/docs/loki, "Push log entries to Loki").
    Loki,
    /// The same as lines, with all that is nested as text: ClickHouse's JSONEachRow.
    ClickHouse,
}

/// Something that is sent on.
pub trait Record: Serialize {
    /// When it happened, in nanoseconds since 1970.
    fn at_ns(&self) -> i64;
    /// What groups records at Loki: few values each.
    fn labels(&self) -> BTreeMap<&'static str, Cow<'_, str>>;
    /// What is shown of it at Loki.
    ///
    /// # Errors
    /// [`Error::Internal`] when it cannot be written.
    fn line(&self) -> Result<Cow<'_, str>>;
}

impl Format {
    /// Reads which one is wanted.
    pub fn read(env: &mut Env<'_>) -> Self {
        match env.one_of("EXPORT_FORMAT", &["jsonl", "loki", "clickhouse"]) {
            "loki" => Self::Loki,
            "clickhouse" => Self::ClickHouse,
            _ => Self::Jsonl,
        }
    }

    /// The headers that belong to every request.
    #[must_use]
    pub fn headers(self) -> [(&'static str, &'static str); 2] {
        let content_type = if self == Self::Loki { "application/json" } else { "application/x-ndjson" };
        [("Content-Type", content_type), ("Content-Encoding", "gzip")]
    }

    /// Records as a body, compressed.
    ///
    /// # Errors
    /// [`Error::Internal`] when one cannot be written.
    pub fn body<R: Record>(self, records: &[R]) -> Result<Vec<u8>> {
        let mut body = GzEncoder::new(Vec::new(), Compression::fast());
        let failed = |why: &dyn std::fmt::Display| Error::Internal(format!("a record cannot be written: {why}"));
        if self == Self::Loki {
            serde_json::to_writer(&mut body, &streams(records)?).map_err(|why| failed(&why))?;
        } else {
            for record in records {
                serde_json::to_writer(&mut body, record).map_err(|why| failed(&why))?;
                body.write_all(b"\n").map_err(|why| failed(&why))?;
            }
        }
        body.finish().map_err(|why| failed(&why))
    }
}

/// Records of the same labels together.
#[derive(Serialize)]
struct Streams<'a> {
    streams: Vec<Stream<'a>>,
}

#[derive(Serialize)]
struct Stream<'a> {
    stream: BTreeMap<&'static str, Cow<'a, str>>,
    /// The moment, in nanoseconds as text, and the line.
    values: Vec<(String, Cow<'a, str>)>,
}

fn streams<R: Record>(records: &[R]) -> Result<Streams<'_>> {
    let mut streams: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for record in records {
        streams.entry(record.labels()).or_default().push((record.at_ns().to_string(), record.line()?));
    }
    Ok(Streams { streams: streams.into_iter().map(|(stream, values)| Stream { stream, values }).collect() })
}
