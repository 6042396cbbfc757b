//! Log viewer: follows the logs of Docker containers and text files, stores each line once, and serves searches and live
//! tails.

mod api;
mod checkpoint;
mod checkpoint_rows;
mod commands;
mod config;
mod counter_names;
mod discovery;
mod disk_pause;
mod entry_assembler;
mod entry_bodies;
mod entry_id;
mod entry_reader;
mod enumerations;
mod explain;
mod export;
mod file_identity;
mod file_kind;
mod file_sources;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod glob;
mod id_page;
mod import_original;
mod ingester;
mod inotify;
mod levels;
mod line_clock;
mod line_splitter;
mod local_zone;
mod log_entry;
mod log_reader;
mod moved_files;
mod open_log;
mod parse;
mod pattern;
mod plain_text;
mod plausible_time;
mod query;
mod query_order;
mod replaced_files;
#[cfg(test)]
mod replan_tests;
mod retention;
mod rotated_names;
mod rotation;
mod safe_open;
mod search;
mod segment_ring;
mod segments;
mod source_finder;
mod source_lists;
mod source_state;
mod sources;
mod state;
mod store;
mod stream_slots;
mod streams;
mod tail_broadcast;
mod tailer;
mod text_lines;
mod unreadable_archives;

use std::sync::Arc;

use rusqlite::Connection;

use crate::client::{OutboundSettings, ProxyPolicy};
use crate::db::{Migration, Schema, counter};
use crate::env::Env;
use crate::forward::Exporter;
use crate::http::{Access, Method, Request, Responder, Route, RouteSpec, Scope};
use crate::service::{self, Asset, CommonConfig, RunningService, Service, StartError, Tool, WebUi};
use config::Config;
use state::LogViewer;
use tail_broadcast::TailBroadcast;

/// The log viewer as a program.
pub const SERVICE: Service = Service {
    name: "log-viewer",
    about: "Log viewer for Docker containers: search and live tail",
    variables: config::variables,
    schema: SCHEMA,
    start,
    tool: Some(Tool {
        option: "--explain",
        help: "Shows the entries and levels of lines of a log, from TEXT or stdin, and why they are as they are",
        run: explain::explain,
    }),
};

const SCHEMA: Schema = Schema {
    // "MLLV"
    application_id: 0x4D4C_4C56,
    create: create_tables,
    migrations: &[ISOLATION, LINE_TIMES, ROTATION],
    import: Some(import_original::IMPORT),
};

/// Quotas, and what isolates projects from each other.
const ISOLATION: Migration = Migration {
    sql: concat!(
        include_str!("../../sql/common/0101_quota.sql"),
        include_str!("../../sql/log-viewer/0101_isolation.sql")
    ),
    oldest_reader: 100,
};

/// Times of the lines of text files.
const LINE_TIMES: Migration =
    Migration { sql: include_str!("../../sql/log-viewer/0102_line_times.sql"), oldest_reader: 100 };

/// Recognition of rotated files by their content, and gaps by source.
const ROTATION: Migration =
    Migration { sql: include_str!("../../sql/log-viewer/0103_rotation.sql"), oldest_reader: 100 };

fn create_tables(connection: &Connection) -> crate::error::Result<()> {
    connection.execute_batch(include_str!("../../sql/log-viewer/0100_schema.sql"))?;
    segments::create_segments(connection)
}

/// OpenAPI document of the service.
const OPENAPI: Asset = service::openapi_asset!("log-viewer");

/// Files of the web UI. They are not part of the OpenAPI document.
const UI: &[Asset] = service::ui_assets!("log-viewer");

/// Returns the routes of the log viewer.
fn routes(web: WebUi, metrics_open: bool) -> Vec<Route<LogViewer>> {
    let read = Access::Key(Scope::Read);
    let stream = |path, handler: fn(&LogViewer, &Request, Responder)| {
        // EventSource in browsers cannot send custom headers.
        let access = Access::KeyInQuery(Scope::Read);
        let spec = RouteSpec::new(Method::Get, path, access);
        Route::deferred(spec, Box::new(move |viewer, request, responder| handler(viewer, &request, responder)))
    };
    let own = vec![
        Route::get("/api/logs", read, api::list),
        stream("/api/logs/tail", streams::tail),
        stream("/api/logs/export", streams::export),
        Route::get("/api/logs/containers", read, source_lists::containers),
        Route::get("/api/containers", read, source_lists::containers),
        Route::get("/api/logs/stats", read, source_lists::stats),
        Route::get("/api/stats", read, source_lists::stats),
        Route::get("/api/logs/histogram", read, api::histogram),
        Route::get("/api/logs/{id}", read, api::entry),
        Route::get("/api/logs/{id}/context", read, api::context),
    ];
    own.into_iter().chain(service::common_routes(metrics_open, &OPENAPI)).chain(web.routes(UI)).collect()
}

fn start(mut env: Env<'_>) -> Result<RunningService, StartError> {
    let (common, config) = (CommonConfig::from_env(&mut env), Config::read(&mut env));
    let outbound = OutboundSettings::from_env(&mut env, ProxyPolicy::Environment, None);
    let exporter = Arc::new(Exporter::from_env(&mut env, &outbound, "monlight_logs"));
    let web = WebUi::from_env(&mut env, SERVICE.name);
    env.finish().map_err(StartError::Settings)?;
    let routes = routes(web, common.metrics_open);
    let (bound, settings, database) = common.open("monlight-log-viewer", SCHEMA, commands::evict_oldest_segment)?;
    let reset = exporter.reset_if_disabled(&database.writer);
    reset.map_err(|error| StartError::Start(format!("failed to reset the export: {error}")))?;
    let limits = config.limits;
    // The limits may have been lowered, and no response shows more entries than they allow.
    // By age, entries expire only once the ingester trusts the clock.
    let retention = commands::ApplyRetention { limits, existing: None, expires_before_ns: i64::MIN };
    if let Err(why) = database.writer.run(retention) {
        log::warn!("log-viewer: failed to delete expired entries: {why}; the ingester will retry");
    }
    // A live tail that is opened right after the start must not receive the stored entries as new ones.
    let last_seq = database.readers.acquire().and_then(|reader| counter(&reader, counter_names::INGESTED));
    let last_seq = last_seq.map_err(|why| StartError::Start(format!("cannot start: {why}")))?;
    let broadcast = Arc::new(TailBroadcast::new(last_seq));
    let state = |core| LogViewer::new(core, limits, broadcast, exporter);
    service::serve(bound, settings, database, routes, state, |viewer| {
        let (writer, readers) = (viewer.core.writer.clone(), viewer.core.readers.clone());
        let export = viewer.exporter.job(Arc::clone(viewer), writer, readers);
        std::iter::once(ingester::job(viewer, config)).chain(export).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openapi_document_matches_the_routes() {
        let variables = config::variables();
        let web = WebUi::from_env(&mut Env::new(&variables, |_| None), SERVICE.name);
        service::assert_openapi_matches(&OPENAPI, UI, &routes(web, false));
    }
}
