//! Browser relay: public ingest endpoint for web pages.
//!
//! Pages authenticate with the public key of a project, which allows nothing but reports. The relay validates the
//! reports, resolves their stack traces with uploaded source maps, and forwards errors to the error tracker and metrics
//! to the metrics collector. While an upstream is unavailable, its reports wait in an outbox on disk.

mod api;
mod bounded_json;
mod commands;
mod config;
mod dead_letter_api;
mod delivery;
mod direct_forwarder;
mod fair_queue;
mod forward_budget;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod import_original;
mod lookup_cache;
#[cfg(test)]
mod map_eviction_tests;
mod metrics;
mod outbox;
mod outbox_commands;
#[cfg(test)]
mod outbox_commands_tests;
mod outbox_store;
mod page_json;
mod release_maps;
#[cfg(test)]
mod release_maps_tests;
#[cfg(test)]
mod replan_tests;
mod report;
#[cfg(test)]
mod schema_tests;
mod source_map_api;
mod sourcemap;
mod state;
mod store;
mod symbolicate;
mod uploads;
mod upstream;
mod upstream_state;

use std::sync::Arc;

use crate::clock::Timestamp;
use crate::db::{self, Migration, Schema};
use crate::env::Env;
use crate::error::Error;
use crate::http::{
    Access, BodyLimit, CorsPolicy, IdempotencySource, Method, PublicKeys, Request, Responder, Route, RouteSpec, Scope,
};
use crate::service::{self, Asset, CommonConfig, RunningService, Service, StartError, StatsCache};
use commands::{DeleteExpiredMap, DiscardStaleUploads, SeedKeys, evict_oldest};
use config::Config;
use direct_forwarder::DirectForwarder;
use forward_budget::ForwardBudget;
use lookup_cache::LookupCache;
use outbox::Outbox;
use outbox_commands::OutboxBounds;
use state::Relay;
use uploads::UploadQueue;

/// The browser relay as a program.
pub const SERVICE: Service = Service {
    name: "browser-relay",
    about: "Public ingest endpoint for browsers; resolves minified stack traces with source maps",
    variables: config::variables,
    schema: SCHEMA,
    start,
    tool: None,
};

const SCHEMA: Schema = Schema {
    // "MLBR"
    application_id: 0x4D4C_4252,
    create: create_tables,
    migrations: &[ISOLATION],
    import: Some(import_original::IMPORT),
};

/// Quotas, and what isolates projects from each other.
const ISOLATION: Migration = Migration {
    sql: concat!(
        include_str!("../../sql/common/0101_quota.sql"),
        include_str!("../../sql/browser-relay/0101_isolation.sql")
    ),
    oldest_reader: 100,
};

fn create_tables(connection: &rusqlite::Connection) -> crate::error::Result<()> {
    Ok(connection.execute_batch(include_str!("../../sql/browser-relay/0100_schema.sql"))?)
}

/// Browser SDK, so that a page needs one script tag and no third party.
const SDK: Asset = service::embed_asset!(
    "/monlight.min.js",
    "text/javascript; charset=utf-8",
    SDK_HEADERS,
    "browser-relay",
    "monlight.min.js"
);

/// OpenAPI document of the service.
const OPENAPI: Asset = service::openapi_asset!("browser-relay");

/// Returns the routes of the browser relay.
fn routes(map_bytes_max: usize, metrics_open: bool) -> Vec<Route<Relay>> {
    let (read, admin) = (Access::Key(Scope::Read), Access::Key(Scope::Admin));
    let own = vec![
        browser_post("/api/browser/errors", api::report_error),
        browser_post("/api/browser/metrics", api::report_metrics),
        Route::get("/api/dsn-keys", admin, api::list_keys),
        post("/api/dsn-keys", api::create_key),
        delete("/api/dsn-keys/{id}", api::deactivate_key),
        Route::get("/api/source-maps", read, source_map_api::list),
        upload("/api/source-maps", map_bytes_max),
        Route::get("/api/source-maps/verify", read, source_map_api::verify),
        delete("/api/source-maps/{id}", source_map_api::delete),
        Route::get("/api/outbox/dead-letters", read, dead_letter_api::list),
        Route::get("/api/outbox/dead-letters/{id}", admin, dead_letter_api::get),
        post("/api/outbox/dead-letters/{id}/retry", dead_letter_api::retry),
        delete("/api/outbox/dead-letters/{id}", dead_letter_api::delete),
        service::asset_route(&SDK),
    ];
    own.into_iter().chain(service::common_routes(metrics_open, &OPENAPI)).collect()
}

/// A handler that sends the response itself, possibly from another thread.
type AsyncHandler = fn(&Relay, &Request, Responder);

/// Creates a route for pages of other origins.
fn browser_post(path: &'static str, handler: AsyncHandler) -> Route<Relay> {
    let spec = RouteSpec::new(Method::Post, path, Access::PublicKey);
    deferred(spec.cors(CorsPolicy::AllowedOrigins).idempotency(IdempotencySource::Header), handler)
}

fn post(path: &'static str, handler: AsyncHandler) -> Route<Relay> {
    deferred(RouteSpec::new(Method::Post, path, Access::Key(Scope::Admin)), handler)
}

fn delete(path: &'static str, handler: AsyncHandler) -> Route<Relay> {
    deferred(RouteSpec::new(Method::Delete, path, Access::Key(Scope::Admin)), handler)
}

fn deferred(spec: RouteSpec, handler: AsyncHandler) -> Route<Relay> {
    Route::deferred(spec, Box::new(move |relay, request, responder| handler(relay, &request, responder)))
}

/// Creates the route for source maps, whose body is spooled to a file.
fn upload(path: &'static str, map_bytes_max: usize) -> Route<Relay> {
    // A map is longer inside a JSON string, because each quote and each line break takes two bytes there.
    let body_limit = BodyLimit::Spooled(map_bytes_max / 5 * 12);
    // A build with lazy routes has hundreds of source maps.
    let spec =
        RouteSpec::new(Method::Post, path, Access::Key(Scope::Admin)).body_limit(body_limit).uncounted_for_address();
    Route::deferred(spec, Box::new(|relay: &Relay, request, responder| relay.uploads.enqueue(request, responder)))
}

fn start(mut env: Env<'_>) -> Result<RunningService, StartError> {
    let (mut common, config) = (CommonConfig::from_env_with_key(&mut env, config::KEY), Config::from_env(&mut env));
    env.finish().map_err(StartError::Settings)?;
    let public_keys = Arc::<PublicKeys>::default();
    let public_suffixes: Vec<String> = config.origins.public_suffixes().into_iter().map(str::to_owned).collect();
    common.accept_public_keys(Arc::clone(&public_keys), config.origins);
    let routes = routes(config.map_bytes_max, common.metrics_open);
    let (bound, settings, database) = common.open("monlight-browser-relay", SCHEMA, evict_oldest)?;
    for name in public_suffixes {
        log::warn!(
            "relay: CORS_ORIGINS allows all pages below {name}, where everybody can host pages; list your own names"
        );
    }
    let start_error = |why: Error| StartError::Start(format!("cannot start: {why}"));
    let (writer, readers) = (database.writer.clone(), database.readers.clone());
    public_keys.replace(writer.run(SeedKeys { keys: config.dsn_keys, now: Timestamp::now() }).map_err(start_error)?);
    writer.run(DiscardStaleUploads).map_err(start_error)?;
    let uploads = UploadQueue::start(writer.clone(), config.map_bytes_max).map_err(start_error)?;
    let bounds = OutboxBounds { bytes_max: config.outbox_bytes_max };
    let outbox = Arc::new(Outbox::new(config.upstreams, writer, readers, bounds));
    let forwarder = DirectForwarder::start(Arc::clone(&outbox)).map_err(start_error)?;
    let relay_outbox = Arc::clone(&outbox);
    let state = |core| Relay {
        core,
        public_keys,
        forwarder,
        forward_budget: ForwardBudget::default(),
        outbox: relay_outbox,
        uploads,
        lookup_cache: LookupCache::default(),
        stats: StatsCache::default(),
    };
    service::serve(bound, settings, database, routes, state, |relay| {
        let mut jobs = delivery::jobs(&outbox);
        let expire = move |now: Timestamp| DeleteExpiredMap { unused_since: now - config.retention };
        jobs.push(db::retention_job(relay.core.writer.clone(), expire));
        jobs
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openapi_document_matches_the_routes() {
        service::assert_openapi_matches(&OPENAPI, &[], &routes(5, false));
    }
}
