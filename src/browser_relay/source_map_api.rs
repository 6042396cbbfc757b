//! Handlers that list, delete and verify source maps.

use rusqlite::Connection;
use serde::Serialize;

use super::commands::DeleteMap;
use super::release_maps::ReleaseMaps;
use super::sourcemap::frames::{ContextLine, context};
use super::sourcemap::lookup::{FunctionName, LookupResult, OriginalPosition};
use super::state::Relay;
use super::store::{self, MapFilter, SourceMap};
use crate::error::{Error, Result};
use crate::http::{ItemWriter, JsonArray, Request, Responder, Response};

const LIST_MAX: i64 = 1_000;
/// Source maps in a part of the list: about 10 KB, at most 600.
const MAPS_PER_PART: i64 = 50;
/// Maximum file URLs that a reason lists if none matches.
const REASON_URLS_MAX: i64 = 10;

/// Handles `DELETE /api/source-maps/{id}`: deletes a source map.
pub(super) fn delete(relay: &Relay, request: &Request, responder: Responder) {
    let id = match request.id("id") {
        Ok(id) => id,
        Err(why) => return responder.send(why.into()),
    };
    relay.core.writer.submit(DeleteMap { id }, move |outcome| {
        responder.send(match outcome {
            Err(why) => why.into(),
            Ok(false) => Error::NotFound(format!("Source map {id} not found")).into(),
            Ok(true) => Response::new(200, "application/json", br#"{"status":"deleted"}"#.to_vec()),
        });
    });
}

/// Handles `GET /api/source-maps`: returns a page of source maps.
pub(super) fn list(relay: &Relay, request: &Request) -> Result<Response> {
    let owned = |name| request.query(name).map(str::to_owned);
    let (project, release) = (owned("project"), owned("release"));
    let filter = MapFilter { project: project.as_deref(), release: release.as_deref() };
    let limit = request.query_number("limit", LIST_MAX, 1..=LIST_MAX);
    let offset = request.query_number("offset", 0, 0..=i64::MAX);
    let readers = relay.core.readers.clone();
    let total = store::count_maps(&*readers.acquire()?, filter)?;
    let (mut before, mut left, mut skipped) = (i64::MAX, limit, offset);
    let maps = move |out: &mut ItemWriter<'_>| {
        let filter = MapFilter { project: project.as_deref(), release: release.as_deref() };
        let (count, skipped) = (left.min(MAPS_PER_PART), std::mem::take(&mut skipped));
        let page = store::list_maps(&*readers.acquire()?, filter, before, count, skipped)?;
        let is_last = (page.len() as i64) < MAPS_PER_PART;
        for map in page {
            out.push(&map)?;
            (before, left) = (map.id, left - 1);
        }
        Ok(!is_last && left > 0)
    };
    let after = format!("],\"total\":{total},\"limit\":{limit},\"offset\":{offset}}}");
    Ok(Response::streamed(200, "application/json", JsonArray::new("{\"source_maps\":[".into(), after, maps)))
}

/// Body of the response to a verification.
#[derive(Serialize)]
struct VerifyResponse<'a> {
    resolved: bool,
    /// Explanation in one sentence.
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_map: Option<SelectedMap<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    original: Option<SourcePosition<'a>>,
}

/// The source map that matches the file.
#[derive(Serialize)]
struct SelectedMap<'a> {
    id: i64,
    file_url: &'a str,
}

/// A position in a source, line and column from 1.
#[derive(Serialize)]
struct SourcePosition<'a> {
    file: &'a str,
    line: u32,
    column: u32,
    /// Name of the enclosing function.
    #[serde(skip_serializing_if = "Option::is_none")]
    function: Option<&'a str>,
    /// Name that the map has for this position.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    context: Vec<ContextLine>,
}

impl<'a> From<&'a OriginalPosition> for SourcePosition<'a> {
    fn from(original: &'a OriginalPosition) -> Self {
        let function = match &original.function {
            FunctionName::Named(name) => Some(name.as_str()),
            FunctionName::Unknown | FunctionName::Module | FunctionName::Anonymous(_) => None,
        };
        let OriginalPosition { source, line, column, name, .. } = original;
        Self { file: source, line: *line, column: *column, function, name: name.as_deref(), context: context(original) }
    }
}

/// Handles `GET /api/source-maps/verify`: explains whether and why a position resolves.
pub(super) fn verify(relay: &Relay, request: &Request) -> Result<Response> {
    let required = |name| request.query(name).ok_or_else(|| Error::field(name, "is required"));
    let (project, release, url) = (required("project")?, required("release")?, required("url")?);
    let number = |name| {
        let number = required(name)?.parse().ok().filter(|number: &u32| *number > 0);
        number.ok_or_else(|| Error::field(name, "must be a positive integer"))
    };
    let (line, column) = (number("line")?, number("column")?);
    let reader = relay.core.readers.acquire()?;
    let mut maps = ReleaseMaps::new(&reader, &relay.lookup_cache, project, release);
    let lookup = maps.look_up(url, line, column)?;
    let Some(map) = maps.find_map(url)? else {
        let reason = missing_map_reason(&reader, project, release)?;
        let body = VerifyResponse { resolved: false, reason: &reason, source_map: None, original: None };
        return Ok(Response::json(200, &body));
    };
    let source_map = Some(SelectedMap { id: map.id, file_url: &map.file_url });
    let (reason, original) = match &lookup {
        Some(LookupResult::Resolved(original)) => ("The map has this position", Some(original.into())),
        Some(LookupResult::Generated) => ("The bundler generated the code at this position; it has no source", None),
        Some(LookupResult::NoMapping) | None => (
            "The map has no mapping at or before this column of the line; check that it belongs to exactly this build",
            None,
        ),
    };
    Ok(Response::json(200, &VerifyResponse { resolved: original.is_some(), reason, source_map, original }))
}

/// Returns the reason why no source map matches, in one sentence.
fn missing_map_reason(reader: &Connection, project: &str, release: &str) -> Result<String> {
    if store::count_maps(reader, MapFilter { project: Some(project), release: None })? == 0 {
        return Ok(format!("Project '{project}' has no source maps"));
    }
    let filter = MapFilter { project: Some(project), release: Some(release) };
    let maps = store::list_maps(reader, filter, i64::MAX, REASON_URLS_MAX, 0)?;
    if maps.is_empty() {
        return Ok(format!("Release '{release}' of project '{project}' has no source maps"));
    }
    let urls: Vec<&str> = maps.iter().map(SourceMap::file_url).collect();
    Ok(format!("No source map of release '{release}' has the path of this file; it has maps for: {}", urls.join(", ")))
}
