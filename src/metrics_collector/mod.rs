//! Metrics collector: stores counters, gauges and histograms, and rolls them up by minute and by hour with accurate
//! percentiles.

mod aggregate;
mod api;
mod buckets;
mod cardinality;
mod commands;
mod compensated_sum;
mod config;
mod dashboard;
mod federate;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod host_metrics;
mod import_original;
mod lists;
mod metric_rollup;
mod point_decoder;
mod point_json;
mod prometheus_characters;
mod prometheus_names;
mod releases;
mod remote_write;
#[cfg(test)]
mod replan_tests;
mod reserved_names;
mod resolution;
#[cfg(test)]
mod rollup_harness_tests;
mod rollup_job;
#[cfg(test)]
mod rollup_oracle_tests;
mod rollup_quota;
#[cfg(test)]
mod rollup_quota_tests;
mod rollup_reader;
mod rollup_tables;
#[cfg(test)]
mod rollup_tests;
mod running_totals;
mod series;
mod series_quota;
mod sketch;
mod state;
mod store;
mod time_range;
mod web_vitals;

use std::sync::Arc;

use crate::db::{Migration, Schema};
use crate::env::Env;
use crate::forward::DeliveryStatus;
use crate::http::{Access, Route, Scope};
use crate::quota::FreeSpace;
use crate::service::{self, Asset, CommonConfig, RunningService, Service, StartError, StatsCache, WebUi};
use config::Config;
use dashboard::ClosedHoursCache;
use point_decoder::PointDecoder;
use state::Collector;

/// The metrics collector as a service.
pub const SERVICE: Service = Service {
    name: "metrics-collector",
    about: "stores counters, gauges and histograms, and serves rollups with percentiles",
    variables: config::variables,
    schema: SCHEMA,
    start,
    tool: None,
};

const SCHEMA: Schema = Schema {
    // "MLMC"
    application_id: 0x4D4C_4D43,
    create: create_tables,
    migrations: &[ISOLATION, SUMS],
    import: Some(import_original::IMPORT),
};

/// Quotas, and what isolates projects from each other.
const ISOLATION: Migration = Migration {
    sql: concat!(
        include_str!("../../sql/common/0101_quota.sql"),
        include_str!("../../sql/metrics-collector/0101_isolation.sql")
    ),
    oldest_reader: 100,
};

/// Rounding errors of sums, and names without ASCII.
const SUMS: Migration =
    Migration { sql: include_str!("../../sql/metrics-collector/0102_sums.sql"), oldest_reader: 100 };

fn create_tables(connection: &rusqlite::Connection) -> crate::error::Result<()> {
    Ok(connection.execute_batch(include_str!("../../sql/metrics-collector/0100_schema.sql"))?)
}

/// OpenAPI document of this service.
const OPENAPI: Asset = service::openapi_asset!("metrics-collector");

/// Files of the web UI, which the OpenAPI document does not describe.
const UI: &[Asset] = service::ui_assets!("metrics-collector");

/// Returns all routes of the metrics collector.
fn routes(web: WebUi, metrics_open: bool) -> Vec<Route<Collector>> {
    let read = Access::Key(Scope::Read);
    let own = vec![
        service::ingest_route("/api/metrics", api::add_points),
        Route::get("/api/metrics", read, api::buckets),
        Route::get("/api/metrics/names", read, api::metrics),
        Route::get("/api/metrics/labels", read, api::labels),
        Route::get("/api/metrics/releases", read, api::releases),
        Route::get("/api/projects", read, api::projects),
        Route::get("/api/dashboard", read, api::dashboard),
        Route::get("/federate", read, federate::federate),
    ];
    own.into_iter().chain(service::common_routes(metrics_open, &OPENAPI)).chain(web.routes(UI)).collect()
}

fn start(mut env: Env<'_>) -> Result<RunningService, StartError> {
    let (common, mut config) = (CommonConfig::from_env(&mut env), Config::from_env(&mut env));
    let web = WebUi::from_env(&mut env, SERVICE.name);
    env.finish().map_err(StartError::Settings)?;
    let routes = routes(web, common.metrics_open);
    let (bound, settings, database) = common.open("monlight-metrics-collector", SCHEMA, commands::evict_oldest)?;
    let named = commands::compute_prometheus_names(&database.writer);
    named.map_err(|error| StartError::Start(format!("failed to compute names for Prometheus: {error}")))?;
    let remote_write = config.remote_write.take();
    if remote_write.is_none() {
        let reset = database.writer.run(remote_write::ResetState);
        reset.map_err(|error| StartError::Start(format!("failed to reset remote write: {error}")))?;
    }
    let decoder = PointDecoder::new(config.dropped_labels.clone(), config.limits, config.point_age_max);
    let remote_write_enabled = remote_write.is_some();
    let database_path = database.readers.path().to_owned();
    let state = |core| Collector {
        core,
        decoder: Arc::new(decoder),
        free_space: FreeSpace::new(database_path.clone()),
        retention: config.retention,
        closed_hours: ClosedHoursCache::new(config.point_age_max),
        remote_write_enabled,
        remote: DeliveryStatus::new("remote write"),
        stats: StatsCache::default(),
    };
    service::serve(bound, settings, database, routes, state, |collector| {
        let mut jobs = vec![rollup_job::job(collector, &config)];
        jobs.extend(remote_write.map(|sink| remote_write::job(collector, sink)));
        jobs.extend(config.host_metrics.then(|| host_metrics::job(collector)));
        jobs
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::point::MetricKind;

    #[test]
    fn openapi_document_matches_the_routes() {
        let variables = config::variables();
        let web = WebUi::from_env(&mut Env::new(&variables, |_| None), SERVICE.name);
        service::assert_openapi_matches(&OPENAPI, UI, &routes(web, false));
    }

    #[test]
    fn metric_types_equal_the_table() {
        let readers = crate::db::in_memory(SCHEMA, |_| Ok(()));
        let reader = readers.acquire().expect("an idle reader");
        let mut read = reader.prepare("SELECT name FROM metric_types ORDER BY id").expect("a valid query");
        let stored: Vec<String> = read.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        assert_eq!(stored, MetricKind::ALL.map(MetricKind::as_str));
    }
}
