//! The metrics collector: counters, gauges and histograms in; rollups by minute and hour with percentiles that are right.

mod api;
mod caps;
mod commands;
mod config;
mod cumulative;
mod dashboard;
mod exposed;
mod federate;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod host;
mod import;
mod points;
mod releases;
mod remote_write;
mod rollup;
mod series;
mod sketch;
mod store;
mod tally;
mod vitals;
mod whole;
mod window;

use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;

use crate::clock::Timestamp;
use crate::db::{Migration, Schema};
use crate::env::Env;
use crate::error::Result;
use crate::export::Trouble;
use crate::http::{Access, Route, Scope};
use crate::service::{self, Asset, CommonConfig, Core, Running, Service, StartError, Stat, StatValue, State, WebUi};
use commands::Reader;
use config::{Config, Retention};

/// The program.
pub const SERVICE: Service = Service {
    name: "metrics-collector",
    about: "counters, gauges and histograms in, rollups with percentiles out",
    variables: config::variables,
    schema: SCHEMA,
    start,
};

const SCHEMA: Schema = Schema {
    // "MLMC"
    application_id: 0x4D4C_4D43,
    migrations: &[
        Migration { sql: include_str!("../../sql/metrics-collector/0001_metrics.sql"), oldest_reader: 1 },
        Migration { sql: include_str!("../../sql/metrics-collector/0002_received.sql"), oldest_reader: 1 },
        Migration { sql: include_str!("../../sql/metrics-collector/0003_wholes.sql"), oldest_reader: 1 },
        Migration { sql: include_str!("../../sql/metrics-collector/0004_remote_write.sql"), oldest_reader: 1 },
    ],
    import: Some(import::IMPORT),
};

/// What it says of itself.
const OPENAPI: Asset = service::openapi_asset!("metrics-collector");

/// The files of its interface, which are no part of what it describes: they are for its own pages alone.
const UI: &[Asset] = service::ui_assets!("metrics-collector");

/// The metrics collector's routes.
fn routes(web: WebUi, metrics_open: bool) -> Vec<Route<Collector>> {
    let read = Access::Key(Scope::Read);
    let own = vec![
        service::ingest_route("/api/metrics", api::report),
        Route::get("/api/metrics", read, api::buckets),
        Route::get("/api/metrics/names", read, api::names),
        Route::get("/api/metrics/labels", read, api::labels),
        Route::get("/api/metrics/releases", read, api::releases),
        Route::get("/api/projects", read, api::projects),
        Route::get("/api/dashboard", read, api::dashboard),
        Route::get("/federate", read, federate::federate),
    ];
    own.into_iter().chain(service::common_routes(metrics_open, &OPENAPI)).chain(web.routes(UI)).collect()
}

/// What the handlers work on.
struct Collector {
    core: Core,
    reader: Arc<Reader>,
    retention: Retention,
    settled: dashboard::Settled,
    /// Whether points are sent on to another server, and how that goes.
    sends_on: bool,
    remote: Trouble,
    /// What was last found, for when no reader is free.
    facts: Mutex<Vec<Stat>>,
}

fn start(mut env: Env<'_>) -> std::result::Result<Running, StartError> {
    let (common, mut config) = (CommonConfig::from_env(&mut env), Config::read(&mut env));
    let web = WebUi::from_env(&mut env, SERVICE.name);
    env.finish().map_err(StartError::Settings)?;
    let routes = routes(web, common.metrics_open);
    let (bound, settings, database) = common.open("monlight-metrics-collector", SCHEMA, commands::shrink)?;
    let remote_write = config.remote_write.take();
    if remote_write.is_none() {
        let forgotten = database.writer.run(remote_write::Forget);
        forgotten.map_err(|why| StartError::Start(format!("cannot start: {why}")))?;
    }
    let reader = Arc::new(Reader {
        hasher: Default::default(),
        known: Mutex::default(),
        dropped_labels: config.dropped_labels.clone(),
        caps: config.caps,
        point_age_max: config.point_age_max,
    });
    let sends_on = remote_write.is_some();
    let state = |core| Collector {
        core,
        reader,
        retention: config.retention,
        settled: dashboard::Settled::new(config.point_age_max),
        sends_on,
        remote: Trouble::of("remote write"),
        facts: Mutex::default(),
    };
    service::serve(bound, settings, database, routes, state, |collector| {
        let mut jobs = vec![rollup::job(collector, &config)];
        jobs.extend(remote_write.map(|target| remote_write::job(collector, target)));
        jobs.extend(config.host_metrics.then(|| host::job(collector)));
        jobs
    })
}

impl State for Collector {
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
        let reader = self.core.readers.try_acquire();
        let caps = reader.and_then(|reader| caps::reached(&reader, self.reader.caps).ok());
        caps.unwrap_or_default().into_iter().chain(self.remote.warning()).collect()
    }
}

impl Collector {
    fn find_facts(&self, reader: &Connection) -> Result<Vec<Stat>> {
        let now = Timestamp::now();
        let totals = store::totals(reader, now)?;
        let total = |name: &str| totals.get(name).copied().unwrap_or(0);
        let count = |name, help, count| Stat { name, help, value: StatValue::Count(count) };
        let overflowed = "Points over MAX_SERIES or MAX_SERIES_PER_METRIC, counted together";
        let mut facts = vec![
            count("metrics_received_24h", "Points received in this hour and the 23 before it", total(store::RECEIVED)),
            count("series", "Series that are told apart", total("series")),
            count("points_overflowed", overflowed, total("overflowed")),
            count("points_clock_corrected", "Points whose clock was wrong", total("clock_corrected")),
            Stat {
                name: "last_aggregation",
                help: "When points were last rolled up",
                value: StatValue::Time(Some(total("rolled_up_at")).filter(|ms| *ms > 0).map(Timestamp::from_ms)),
            },
        ];
        if self.sends_on {
            let (waiting, seconds) = remote_write::lag(reader, now)?;
            let refused = "Samples that its server refused for good";
            facts.extend([
                count("remote_write_sent", "Samples that remote write has sent", total("remote_sent")),
                count("remote_write_refused", refused, total("remote_refused")),
                count("remote_write_waiting", "Points that wait to be sent", waiting),
                count("remote_write_lag_seconds", "How old what was sent last is, while points wait", seconds),
            ]);
        }
        Ok(facts)
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
