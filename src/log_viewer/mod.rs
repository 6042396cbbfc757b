//! The log viewer: reads what Docker wrote down of every container's output, each line once; searches it and shows it
//! live.

mod api;
mod assembly;
mod commands;
mod config;
mod discovery;
mod export;
mod files;
mod follow;
mod follower;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod hub;
mod import;
mod ring;
mod search;
mod store;
mod streams;
mod text;
mod watch;

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;

use crate::clock::Timestamp;
use crate::db::{Migration, Schema};
use crate::env::Env;
use crate::error::Result;
use crate::http::{Access, Method, Request, Responder, Route, RouteSpec, Scope};
use crate::service::{
    self, Asset, CommonConfig, Core, Export, Running, Service, StartError, Stat, StatValue, State, WebUi,
};
use config::{Config, Limits};
use follow::Overview;
use hub::Hub;

/// The program.
pub const SERVICE: Service = Service {
    name: "log-viewer",
    about: "what containers say: followed, searched, shown live",
    variables: config::variables,
    schema: SCHEMA,
    start,
};

const SCHEMA: Schema = Schema {
    // "MLLV"
    application_id: 0x4D4C_4C56,
    migrations: &[Migration { sql: include_str!("../../sql/log-viewer/0001_logs.sql"), oldest_reader: 1 }],
    import: Some(import::IMPORT),
};

/// What it says of itself.
const OPENAPI: Asset = service::openapi_asset!("log-viewer");

/// The files of its interface, which are no part of what it describes: they are for its own pages alone.
const UI: &[Asset] = service::ui_assets!("log-viewer");

/// The log viewer's routes.
fn routes(web: WebUi, metrics_open: bool) -> Vec<Route<LogViewer>> {
    let read = Access::Key(Scope::Read);
    let stream = |path, answer: fn(&LogViewer, &Request, Responder)| {
        // A browser's EventSource sends no headers of one's own.
        let access = Access::KeyInQuery(Scope::Read);
        let spec = RouteSpec::new(Method::Get, path, access);
        Route::deferred(spec, Box::new(move |viewer, request, responder| answer(viewer, &request, responder)))
    };
    let own = vec![
        Route::get("/api/logs", read, api::list),
        stream("/api/logs/tail", streams::tail),
        stream("/api/logs/export", streams::export),
        Route::get("/api/logs/containers", read, api::containers),
        Route::get("/api/containers", read, api::containers),
        Route::get("/api/logs/stats", read, api::stats),
        Route::get("/api/stats", read, api::stats),
        Route::get("/api/logs/histogram", read, api::histogram),
        Route::get("/api/logs/{id}/context", read, api::context),
    ];
    own.into_iter().chain(service::common_routes(metrics_open, &OPENAPI)).chain(web.routes(UI)).collect()
}

/// What the handlers work on.
struct LogViewer {
    core: Core,
    limits: Limits,
    hub: Arc<Hub>,
    /// What is followed, as the job last saw it.
    overview: Mutex<Arc<Overview>>,
    /// Streams that are open, by kind.
    tails: Arc<AtomicUsize>,
    exports: Arc<AtomicUsize>,
    /// What is sent on to somewhere else.
    export: Export,
    /// What was last found, for when no reader is free.
    facts: Mutex<Vec<Stat>>,
}

fn start(mut env: Env<'_>) -> std::result::Result<Running, StartError> {
    let (common, config) = (CommonConfig::from_env(&mut env), Config::read(&mut env));
    let export = Export::read(&mut env, "monlight_logs");
    let web = WebUi::from_env(&mut env, SERVICE.name);
    env.finish().map_err(StartError::Settings)?;
    let routes = routes(web, common.metrics_open);
    let (bound, settings, database) = common.open("monlight-log-viewer", SCHEMA, commands::shrink)?;
    export.prepare(&database)?;
    let limits = config.limits;
    // The limits may be smaller than they were, and no answer shows more than they allow.
    if let Err(why) = database.writer.run(commands::Trim { limits, existing: None, now: Timestamp::now() }) {
        log::warn!("old entries stay for now: {why}");
    }
    // Who watches from the first moment on must not be told of everything as if it were new.
    let latest = database.readers.acquire().and_then(|reader| store::total(&reader, "arrivals"));
    let hub = Arc::new(Hub::new(latest.map_err(|why| StartError::Start(format!("cannot start: {why}")))?));
    let state = |core| LogViewer {
        core,
        limits,
        hub,
        overview: Mutex::default(),
        tails: Arc::default(),
        exports: Arc::default(),
        export,
        facts: Mutex::default(),
    };
    service::serve(bound, settings, database, routes, state, |viewer| {
        std::iter::once(follow::job(viewer, config)).chain(Export::job(viewer)).collect()
    })
}

impl LogViewer {
    fn overview(&self) -> Arc<Overview> {
        Arc::clone(&self.overview.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn find_facts(&self, reader: &Connection) -> Result<Vec<Stat>> {
        let found = store::facts(reader)?;
        let count = |name, help, value| Stat { name, help, value: StatValue::Count(value) };
        let stored_at = Some(found.stored_at_ms).filter(|ms| *ms > 0).map(Timestamp::from_ms);
        let own = [
            count("logs_indexed", "Entries stored", found.entries),
            count("containers", "Logs that are followed or have entries", found.containers),
            count("gaps", "Times when files were gone before they could be read", found.gaps),
            Stat { name: "last_ingest", help: "When anything was last stored", value: StatValue::Time(stored_at) },
        ];
        Ok(own.into_iter().chain(Export::facts(self, reader)?).collect())
    }

    fn set_overview(&self, overview: Overview) {
        *self.overview.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(overview);
    }
}

impl State for LogViewer {
    fn core(&self) -> &Core {
        &self.core
    }

    fn stats(&self) -> Vec<Stat> {
        let found = self.core.readers.try_acquire().and_then(|reader| self.find_facts(&reader).ok());
        let mut known = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = found {
            *known = found;
        }
        known.clone()
    }

    fn warnings(&self) -> Vec<String> {
        self.overview().troubles.iter().cloned().chain(self.export.warning()).collect()
    }
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
