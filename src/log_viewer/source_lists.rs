//! Request handlers for lists of all sources. There can be thousands, so the responses are produced part by part.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::counter_names;
use super::levels::ByLevel;
use super::log_entry::format_timestamp;
use super::sources::{gaps_of, read_source, source_names};
use super::state::{LogViewer, SourceStatuses};
use super::store::{self, SourceCounts};
use crate::db::{Reader, ReaderPool, counter};
use crate::error::{Error, Result};
use crate::http::{BodySource, ItemWriter, JsonArray, PART_BYTES, Request, Response};

const JSON: &str = "application/json";

/// A container in a list.
#[derive(Debug, Default, Serialize)]
struct Container {
    name: String,
    log_count: i64,
    levels: ByLevel,
    /// Abbreviated ID; that of the newest container if several had the name.
    id: String,
    image: String,
    project: String,
    service: String,
    /// Whether the log exists and can be read.
    followed: bool,
    /// Reason why the log cannot be read.
    reason: Option<String>,
    /// Number of times that files were deleted, truncated or damaged before they could be read.
    gaps: i64,
}

/// Producer of the list of containers, in the order of their names.
struct ContainerList {
    readers: ReaderPool,
    counts: SourceCounts,
    status: Arc<SourceStatuses>,
    /// Names and row IDs that follow, in this order.
    names: std::iter::Peekable<std::vec::IntoIter<(String, i64)>>,
}

/// Handles `GET /api/logs/containers`.
pub(super) fn containers(viewer: &LogViewer, _: &Request) -> Result<Response> {
    let status = viewer.source_status();
    let troubles: Vec<&str> = status.problems.iter().map(|problem| problem.message.as_str()).collect();
    let after = if troubles.is_empty() { "]}".to_owned() } else { format!(r#"],"troubles":{}}}"#, json(&troubles)?) };
    let reader = viewer.core.readers.acquire()?;
    let snapshot = reader.unchecked_transaction()?;
    let (counts, names) = (store::stats(&snapshot)?.by_source, source_names(&snapshot)?);
    let readers = viewer.core.readers.clone();
    let mut list = ContainerList { readers, counts, status, names: names.into_iter().peekable() };
    let body = JsonArray::new(r#"{"containers":["#.into(), after, move |out| list.write_items(out));
    Ok(Response::streamed(200, JSON, body))
}

impl ContainerList {
    fn write_items(&mut self, out: &mut ItemWriter<'_>) -> Result<bool> {
        let readers = self.readers.clone();
        let reader = readers.acquire()?;
        while !out.is_full() {
            let Some((name, id)) = self.names.next() else { return Ok(false) };
            let mut ids = vec![id];
            while let Some((_, id)) = self.names.next_if(|(next, _)| *next == name) {
                ids.push(id);
            }
            if let Some(container) = self.container(&reader, &ids)? {
                out.push(&container)?;
            }
        }
        Ok(true)
    }

    /// Returns the container of the sources with one name; `None` if they have no entries and no longer exist.
    fn container(&self, reader: &Reader<'_>, ids: &[i64]) -> Result<Option<Container>> {
        let mut container: Option<Container> = None;
        for id in ids {
            let Some(source) = read_source(reader, *id)? else { continue };
            let levels = self.counts.of(*id);
            let status = self.status.sources.get(&source.key);
            let entries: i64 = levels.iter().sum();
            if entries == 0 && status.is_none() {
                continue;
            }
            let container = container.get_or_insert_default();
            container.log_count += entries;
            container.levels.add(levels);
            container.gaps += gaps_of(reader, *id)?;
            // Row IDs ascend, so a later row is a newer container.
            if status.is_some() || !container.followed {
                container.name = source.name;
                container.id = source.key.chars().take(12).collect();
                (container.image, container.project, container.service) =
                    (source.image, source.project, source.service);
                container.followed = status == Some(&None);
                container.reason = status.cloned().flatten();
            }
        }
        Ok(container)
    }
}

/// Handles `GET /api/logs/stats`.
pub(super) fn stats(viewer: &LogViewer, _: &Request) -> Result<Response> {
    #[derive(Serialize)]
    struct BeforeContainers {
        total_logs: i64,
        oldest_log: Option<String>,
        newest_log: Option<String>,
        by_level: ByLevel,
        gaps: i64,
    }
    let reader = viewer.core.readers.acquire()?;
    let snapshot = reader.unchecked_transaction()?;
    let stats = store::stats(&snapshot)?;
    let mut by_level = ByLevel::default();
    let mut by_container: BTreeMap<String, i64> = BTreeMap::new();
    for (name, id) in source_names(&snapshot)? {
        let levels = stats.by_source.of(id);
        let entries: i64 = levels.iter().sum();
        if entries > 0 {
            by_level.add(levels);
            *by_container.entry(name).or_default() += entries;
        }
    }
    let before = json(&BeforeContainers {
        total_logs: by_container.values().sum(),
        oldest_log: stats.oldest_ns.map(format_timestamp),
        newest_log: stats.newest_ns.map(format_timestamp),
        by_level,
        gaps: counter(&snapshot, counter_names::MISSED_ROTATIONS)?,
    })?;
    let before = before.trim_end_matches('}').to_owned();
    Ok(Response::streamed(200, JSON, CountsBody { before, counts: by_container.into_iter(), has_counts: false }))
}

/// Body with the numbers of entries by container.
struct CountsBody {
    /// The members before the numbers; empty once they have been written.
    before: String,
    counts: std::collections::btree_map::IntoIter<String, i64>,
    has_counts: bool,
}

impl BodySource for CountsBody {
    fn write_part(&mut self, out: &mut Vec<u8>) -> Result<bool> {
        if !self.before.is_empty() {
            out.extend_from_slice(std::mem::take(&mut self.before).as_bytes());
            out.extend_from_slice(br#","by_container":{"#);
        }
        while out.len() < PART_BYTES {
            let Some((name, count)) = self.counts.next() else {
                out.extend_from_slice(b"}}");
                return Ok(false);
            };
            let comma = if std::mem::replace(&mut self.has_counts, true) { "," } else { "" };
            out.extend_from_slice(format!("{comma}{}:{count}", json(&name)?).as_bytes());
        }
        Ok(true)
    }
}

/// Serializes a part of a response.
fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|why| Error::Internal(format!("failed to serialize a response: {why}")))
}
