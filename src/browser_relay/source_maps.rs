//! The handlers about source maps: list, remove, and why a position does or does not resolve.

use serde::Serialize;

use super::Relay;
use super::maps::frames::{ContextLine, context};
use super::maps::lookup::{Answer, Function, Original};
use super::store::{self, SourceMap, Which};
use super::unminify::Release;
use super::uploads::RemoveMap;
use crate::error::{Error, Result};
use crate::http::{Request, Responder, Response};

const LIST_MAX: i64 = 1_000;
/// Uploaded URLs that are named where none fits.
const NAMED_MAX: i64 = 10;

/// `DELETE /api/source-maps/{id}`
pub(super) fn remove(relay: &Relay, request: &Request, responder: Responder) {
    let id = match request.id("id") {
        Ok(id) => id,
        Err(why) => return responder.send(why.into()),
    };
    relay.core.writer.submit(RemoveMap { id }, move |outcome| {
        responder.send(match outcome {
            Err(why) => why.into(),
            Ok(false) => Error::NotFound(format!("There is no source map {id}")).into(),
            Ok(true) => Response::new(200, "application/json", br#"{"status":"deleted"}"#.to_vec()),
        });
    });
}

/// `GET /api/source-maps`
pub(super) fn list(relay: &Relay, request: &Request) -> Result<Response> {
    #[derive(Serialize)]
    struct List {
        source_maps: Vec<SourceMap>,
        total: i64,
        limit: i64,
        offset: i64,
    }
    let which = Which { project: request.query("project"), release: request.query("release") };
    let limit = request.query_number("limit", LIST_MAX, 1..=LIST_MAX);
    let offset = request.query_number("offset", 0, 0..=i64::MAX);
    let reader = relay.core.readers.acquire()?;
    let source_maps = store::source_maps(&reader, which, limit, offset)?;
    Ok(Response::json(200, &List { source_maps, total: store::map_count(&reader, which)?, limit, offset }))
}

/// What is said of a position.
#[derive(Serialize)]
struct Verdict<'a> {
    resolved: bool,
    /// In one sentence.
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_map: Option<Chosen<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    original: Option<Place<'a>>,
}

#[derive(Serialize)]
struct Chosen<'a> {
    id: i64,
    file_url: &'a str,
}

#[derive(Serialize)]
struct Place<'a> {
    file: &'a str,
    line: u32,
    column: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    function: Option<&'a str>,
    /// What the map calls the word at this place.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    context: Vec<ContextLine>,
}

impl<'a> Place<'a> {
    fn of(original: &'a Original) -> Self {
        let function = match &original.function {
            Function::Named(name) => Some(name.as_str()),
            Function::Unknown | Function::Module | Function::Anonymous(_) => None,
        };
        let Original { source, line, column, name, .. } = original;
        Self { file: source, line: *line, column: *column, function, name: name.as_deref(), context: context(original) }
    }
}

/// `GET /api/source-maps/verify`
pub(super) fn verify(relay: &Relay, request: &Request) -> Result<Response> {
    let required = |name| request.query(name).ok_or_else(|| Error::field(name, "is required"));
    let (project, name, url) = (required("project")?, required("release")?, required("url")?);
    let number = |name| {
        let number = required(name)?.parse().ok().filter(|number: &u32| *number > 0);
        number.ok_or_else(|| Error::field(name, "must be a number from 1 up"))
    };
    let (line, column) = (number("line")?, number("column")?);
    let reader = relay.core.readers.acquire()?;
    let mut release = Release::new(&reader, &relay.recent, project, name);
    let answer = release.look_up(url, line, column)?;
    let Some(map) = release.map_of(url)? else {
        let reason = without_map(&reader, project, name)?;
        return Ok(Response::json(
            200,
            &Verdict { resolved: false, reason: &reason, source_map: None, original: None },
        ));
    };
    let source_map = Some(Chosen { id: map.id, file_url: &map.file_url });
    let (reason, original) = match &answer {
        Some(Answer::Mapped(original)) => ("The map has this position", Some(Place::of(original))),
        Some(Answer::Unmapped) => ("The map says that this code comes from no source: the bundler wrote it", None),
        Some(Answer::Nothing) | None => {
            ("The map has nothing at or before this column of this line: is it the map of exactly this build?", None)
        }
    };
    Ok(Response::json(200, &Verdict { resolved: original.is_some(), reason, source_map, original }))
}

/// Why no map fits, in one sentence.
fn without_map(reader: &rusqlite::Connection, project: &str, release: &str) -> Result<String> {
    let of_project = Which { project: Some(project), release: None };
    let of_release = Which { project: Some(project), release: Some(release) };
    if store::map_count(reader, of_project)? == 0 {
        return Ok(format!("Project '{project}' has no source maps"));
    }
    let maps = store::source_maps(reader, of_release, NAMED_MAX, 0)?;
    if maps.is_empty() {
        return Ok(format!("Release '{release}' of project '{project}' has no source maps"));
    }
    let named: Vec<&str> = maps.iter().map(SourceMap::file_url).collect();
    Ok(format!("No source map of release '{release}' is of this file; there are: {}", named.join(", ")))
}
