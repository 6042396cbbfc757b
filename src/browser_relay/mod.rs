//! The browser relay: the public door for pages that hold nothing but a public key. What they report goes on to the
//! error tracker and the metrics collector, now or as soon as these can take it.

mod api;
mod commands;
mod config;
mod forward;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod import;
mod maps;
mod report;
mod retention;
mod source_maps;
mod store;
mod unminify;
mod uploads;
mod upstream;

use std::sync::{Arc, Mutex, PoisonError};

use crate::clock::Timestamp;
use crate::db::{Migration, Schema};
use crate::env::Env;
use crate::http::{
    Access, BodyLimit, CorsPolicy, IdempotencySource, Method, PublicKeys, Request, Responder, Route, RouteSpec, Scope,
};
use crate::service::{self, Asset, CommonConfig, Core, Running, Service, StartError, Stat, StatValue, State};
use commands::SeedKeys;
use config::Config;
use forward::{FORWARDERS, Forward};
use unminify::Recent;
use uploads::{AbandonAll, Uploads};
use upstream::{Kind, Upstream};

/// The program.
pub const SERVICE: Service = Service {
    name: "browser-relay",
    about: "the public door for browsers",
    variables: config::variables,
    schema: SCHEMA,
    start,
};

const SCHEMA: Schema = Schema {
    // "MLBR"
    application_id: 0x4D4C_4252,
    migrations: &[Migration { sql: include_str!("../../sql/browser-relay/0001_relay.sql"), oldest_reader: 1 }],
    import: Some(import::IMPORT),
};

/// The browser package, so that a page needs one script tag and nothing from a third party.
const SDK: Asset = service::embed_asset!(
    "/monlight.min.js",
    "text/javascript; charset=utf-8",
    SDK_HEADERS,
    "browser-relay",
    "monlight.min.js"
);

/// What it says of itself.
const OPENAPI: Asset = service::openapi_asset!("browser-relay");

/// The browser relay's routes.
fn routes(map_bytes_max: usize, metrics_open: bool) -> Vec<Route<Relay>> {
    let (read, admin) = (Access::Key(Scope::Read), Access::Key(Scope::Admin));
    let own = vec![
        browser("/api/browser/errors", api::errors),
        browser("/api/browser/metrics", api::metrics),
        Route::get("/api/dsn-keys", admin, api::keys),
        post("/api/dsn-keys", admin, api::create_key),
        delete("/api/dsn-keys/{id}", api::deactivate_key),
        Route::get("/api/source-maps", read, source_maps::list),
        upload("/api/source-maps", map_bytes_max),
        Route::get("/api/source-maps/verify", read, source_maps::verify),
        delete("/api/source-maps/{id}", source_maps::remove),
        service::asset_route(&SDK),
    ];
    own.into_iter().chain(service::common_routes(metrics_open, &OPENAPI)).collect()
}

/// A function that sees to it that a request is answered.
type Later = fn(&Relay, &Request, Responder);

/// Creates a route for pages of other origins, which hold a public key.
fn browser(path: &'static str, handler: Later) -> Route<Relay> {
    let spec = RouteSpec::new(Method::Post, path, Access::PublicKey);
    later(spec.cors(CorsPolicy::AllowedOrigins).idempotency(IdempotencySource::Header), handler)
}

fn post(path: &'static str, access: Access, handler: Later) -> Route<Relay> {
    later(RouteSpec::new(Method::Post, path, access), handler)
}

fn delete(path: &'static str, answer: Later) -> Route<Relay> {
    later(RouteSpec::new(Method::Delete, path, Access::Key(Scope::Admin)), answer)
}

fn later(spec: RouteSpec, answer: Later) -> Route<Relay> {
    Route::deferred(spec, Box::new(move |relay, request, responder| answer(relay, &request, responder)))
}

/// An upload is passed on as it is, with the file that it lies in.
fn upload(path: &'static str, map_bytes_max: usize) -> Route<Relay> {
    // A map in a JSON string is longer than the map: every quote and line break takes two bytes.
    let body_limit = BodyLimit::Spooled(map_bytes_max / 5 * 12);
    let spec = RouteSpec::new(Method::Post, path, Access::Key(Scope::Admin)).body_limit(body_limit);
    Route::deferred(spec, Box::new(|relay: &Relay, request, responder| relay.uploads.take(request, responder)))
}

/// What the handlers work on.
struct Relay {
    core: Core,
    keys: Arc<PublicKeys>,
    forward: Forward,
    uploads: Uploads,
    /// What was looked up lately in source maps.
    recent: Recent,
    /// What was last found, for when no reader is free.
    facts: Mutex<Vec<Stat>>,
}

fn start(mut env: Env<'_>) -> Result<Running, StartError> {
    let (mut common, config) = (CommonConfig::from_env_with_key(&mut env, config::KEY), Config::read(&mut env));
    env.finish().map_err(StartError::Settings)?;
    let keys = Arc::<PublicKeys>::default();
    common.accept_public_keys(Arc::clone(&keys), config.origins);
    let routes = routes(config.map_bytes_max, common.metrics_open);
    let (bound, settings, database) = common.open("monlight-browser-relay", SCHEMA, retention::shrink)?;
    let refused = |why: crate::error::Error| StartError::Start(format!("cannot start: {why}"));
    let (writer, readers) = (database.writer.clone(), database.readers.clone());
    keys.replace(writer.run(SeedKeys { keys: config.dsn_keys, now: Timestamp::now() }).map_err(refused)?);
    writer.run(AbandonAll).map_err(refused)?;
    let uploads = Uploads::start(writer.clone(), config.map_bytes_max).map_err(refused)?;
    let upstreams = [
        Upstream::new(Kind::Errors, config.error_tracker, FORWARDERS),
        Upstream::new(Kind::Metrics, config.metrics_collector, FORWARDERS),
    ];
    let forward = Forward::start(upstreams, writer, readers, config.outbox_bytes_max).map_err(refused)?;
    let state = |core| Relay { core, keys, forward, uploads, recent: Recent::default(), facts: Mutex::default() };
    service::serve(bound, settings, database, routes, state, |relay| {
        let mut jobs = relay.forward.jobs();
        jobs.push(retention::job(relay, config.retention));
        jobs
    })
}

impl State for Relay {
    fn core(&self) -> &Core {
        &self.core
    }

    fn stats(&self) -> Vec<Stat> {
        const TOTALS: [(&str, &str); 4] = [
            ("outbox_waiting", "Reports that wait for an upstream"),
            ("outbox_bytes", "Bytes in the outbox"),
            ("outbox_dropped", "Reports dropped from the outbox, which was full"),
            ("outbox_refused", "Reports that had waited and were refused"),
        ];
        let found = self.core.readers.try_acquire().and_then(|reader| {
            let read = |(name, help)| {
                let total = store::total(&reader, name)?;
                Ok(Stat { name, help, value: StatValue::Count(total) })
            };
            let facts: crate::error::Result<Vec<Stat>> = TOTALS.into_iter().map(read).collect();
            let maps = store::map_count(&reader, store::Which::default()).ok()?;
            let maps = Stat { name: "source_maps", help: "Source maps", value: StatValue::Count(maps) };
            Some([facts.ok()?, vec![maps]].concat())
        });
        let mut known = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = found {
            *known = found;
        }
        known.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openapi_document_matches_the_routes() {
        service::assert_openapi_matches(&OPENAPI, &[], &routes(5, false));
    }
}
