//! Error tracker: groups exception reports, reopens groups on recurrence, and sends alerts.

mod alerts;
mod api;
mod commands;
mod config;
mod digest;
mod enumerations;
mod export;
mod facets;
mod fingerprint;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod group_eviction;
mod grouping;
mod import_original;
mod name_eviction;
mod payload_eviction;
#[cfg(test)]
mod payload_tests;
mod payloads;
#[cfg(test)]
mod replan_tests;
mod retention;
#[cfg(test)]
mod schema_tests;
mod search;
mod state;
mod store;
mod stores;
mod variants;

use std::sync::Arc;

use crate::alerting;
use crate::db::{Migration, Schema};
use crate::env::Env;
use crate::http::{Access, Route, Scope};
use crate::quota::FreeSpace;
use crate::service::{self, Asset, CommonConfig, RunningService, Service, StartError, StatsCache, WebUi};
use commands::RecountPayloads;
use config::Config;
use state::Tracker;

/// Entry point of the binary `error-tracker`.
pub const SERVICE: Service = Service {
    name: "error-tracker",
    about: "groups exceptions, reopens regressions, alerts by email and webhook",
    variables: config::variables,
    schema: SCHEMA,
    start,
    tool: None,
};

const SCHEMA: Schema = Schema {
    // "MLET"
    application_id: 0x4D4C_4554,
    create: create_tables,
    migrations: &[ISOLATION],
    import: Some(import_original::IMPORT),
};

/// Quotas, and what isolates projects from each other.
const ISOLATION: Migration = Migration {
    sql: concat!(
        include_str!("../../sql/common/0101_quota.sql"),
        include_str!("../../sql/error-tracker/0101_isolation.sql"),
        include_str!("../../sql/alerting/0101_isolation.sql")
    ),
    oldest_reader: 100,
};

fn create_tables(connection: &rusqlite::Connection) -> crate::error::Result<()> {
    alerting::create_tables(connection)?;
    Ok(connection.execute_batch(include_str!("../../sql/error-tracker/0100_schema.sql"))?)
}

/// OpenAPI document.
const OPENAPI: Asset = service::openapi_asset!("error-tracker");

/// Files of the web UI, which the OpenAPI document does not include.
const UI: &[Asset] = service::ui_assets!("error-tracker");

fn routes(web: WebUi, metrics_open: bool) -> Vec<Route<Tracker>> {
    let (read, admin) = (Access::Key(Scope::Read), Scope::Admin);
    let own = vec![
        service::ingest_route("/api/errors", api::ingest),
        Route::get("/api/errors", read, api::list),
        Route::get("/api/errors/{id}", read, api::detail),
        service::command_route("/api/errors/{id}/resolve", admin, api::resolve),
        Route::get("/api/projects", read, api::projects),
        Route::get("/api/variants", read, api::environments_and_releases),
        Route::get("/api/alerts", read, api::alert_history),
        service::command_route("/api/test-alert", admin, api::test_alert),
    ];
    own.into_iter().chain(service::common_routes(metrics_open, &OPENAPI)).chain(web.routes(UI)).collect()
}

fn start(mut env: Env<'_>) -> Result<RunningService, StartError> {
    let (common, config) = (CommonConfig::from_env(&mut env), Config::from_env(&mut env));
    let web = WebUi::from_env(&mut env, SERVICE.name);
    env.finish().map_err(StartError::Settings)?;
    let routes = routes(web, common.metrics_open);
    let (bound, settings, database) =
        common.open("monlight-error-tracker", SCHEMA, payload_eviction::evict_payloads)?;
    let Config { retention, groups_max, alerts, notifier, exporter } = config;
    let reset = exporter.reset_if_disabled(&database.writer);
    reset.map_err(|error| StartError::Start(format!("failed to reset the export: {error}")))?;
    let exporter = Arc::new(exporter);
    for sentence in notifier.incomplete().into_iter().chain(notifier.warnings()) {
        log::warn!("{sentence}");
    }
    let (channels, alerts_missing) = (notifier.channels(), notifier.missing());
    // Not counted while an older version used the database.
    let recounted = database.writer.run(RecountPayloads);
    recounted.map_err(|error| StartError::Start(format!("failed to count the stored reports: {error}")))?;
    let free_space = FreeSpace::new(database.readers.path().to_owned());
    let alert_stores = alerts.stores();
    let state = |core| {
        let stats_cache = StatsCache::default();
        Tracker {
            core,
            groups_max,
            retention,
            free_space,
            channels,
            alerts_missing,
            alert_stores,
            exporter,
            stats_cache,
        }
    };
    service::serve(bound, settings, database, routes, state, |tracker| {
        let mut jobs = vec![retention::job(tracker, retention)];
        if !tracker.channels.is_empty() {
            jobs.extend(alerting::jobs(tracker, notifier, alerts));
        }
        let (writer, readers) = (tracker.core.writer.clone(), tracker.core.readers.clone());
        jobs.extend(tracker.exporter.job(Arc::clone(tracker), writer, readers));
        jobs
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
