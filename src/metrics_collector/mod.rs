//! The metrics collector: counters, gauges and histograms in; rollups by minute and hour with percentiles that are right.

mod api;
mod caps;
mod commands;
mod config;
mod cumulative;
mod dashboard;
mod federate;
mod host;
mod import;
mod points;
mod releases;
mod rollup;
mod series;
mod sketch;
mod store;
mod tally;
mod vitals;
mod whole;
mod window;

use std::sync::{Arc, Mutex, PoisonError};

use crate::clock::Timestamp;
use crate::db::{Migration, Schema};
use crate::env::Env;
use crate::http::{Access, Route, Scope};
use crate::service::{self, Common, Core, Fact, Failure, Quantity, Running, Service, State, Web};
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
    ],
    import: Some(import::IMPORT),
};

/// The metrics collector's routes.
fn routes() -> Vec<Route<Collector>> {
    let read = Access::Key(Scope::Read);
    vec![
        service::ingest("/api/metrics", api::report),
        Route::get("/api/metrics", read, api::buckets),
        Route::get("/api/metrics/names", read, api::names),
        Route::get("/api/metrics/labels", read, api::labels),
        Route::get("/api/metrics/releases", read, api::releases),
        Route::get("/api/projects", read, api::projects),
        Route::get("/api/dashboard", read, api::dashboard),
        Route::get("/federate", read, federate::federate),
    ]
}

/// What the handlers work on.
struct Collector {
    core: Core,
    reader: Arc<Reader>,
    retention: Retention,
    settled: dashboard::Settled,
    /// What was last found, for when no reader is free.
    facts: Mutex<Vec<Fact>>,
}

fn start(mut env: Env<'_>) -> Result<Running, Failure> {
    let (common, config) = (Common::read(&mut env), Config::read(&mut env));
    let web = Web::read(&mut env, SERVICE.name);
    env.finish().map_err(Failure::Settings)?;
    let mut routes = routes();
    routes.extend(service::routes(common.metrics_open));
    routes.extend(web.routes(service::interface!("metrics-collector")));
    let (bound, settings, database) = common.open("monlight-metrics-collector", SCHEMA, commands::shrink)?;
    let reader = Arc::new(Reader {
        hasher: Default::default(),
        known: Mutex::default(),
        dropped_labels: config.dropped_labels.clone(),
        caps: config.caps,
        point_age_max: config.point_age_max,
    });
    let state = |core| Collector {
        core,
        reader,
        retention: config.retention,
        settled: dashboard::Settled::new(config.point_age_max),
        facts: Mutex::default(),
    };
    service::serve(bound, settings, database, routes, state, |collector| {
        let mut jobs = vec![rollup::job(collector, &config)];
        jobs.extend(config.host_metrics.then(|| host::job(collector)));
        jobs
    })
}

impl State for Collector {
    fn core(&self) -> &Core {
        &self.core
    }

    fn facts(&self) -> Vec<Fact> {
        const FACTS: [(&str, &str, &str); 4] = [
            (store::RECEIVED, "metrics_received_24h", "Points received in this hour and the 23 before it"),
            ("series", "series", "Series that are told apart"),
            ("overflowed", "points_overflowed", "Points over MAX_SERIES or MAX_SERIES_PER_METRIC, counted together"),
            ("clock_corrected", "points_clock_corrected", "Points whose clock was wrong"),
        ];
        let now = Timestamp::now();
        let totals = self.core.readers.lend_now().and_then(|reader| store::totals(&reader, now).ok());
        let mut known = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(totals) = totals {
            let value = |total: &str| totals.get(total).copied().unwrap_or(0);
            *known = FACTS.map(|(total, name, help)| Fact { name, help, value: Quantity::Count(value(total)) }).into();
            known.push(Fact {
                name: "last_aggregation",
                help: "When points were last rolled up",
                value: Quantity::Moment(Some(value("rolled_up_at")).filter(|ms| *ms > 0).map(Timestamp::from_ms)),
            });
        }
        known.clone()
    }

    fn warnings(&self) -> Vec<String> {
        let reader = self.core.readers.lend_now();
        let caps = reader.and_then(|reader| caps::reached(&reader, self.reader.caps).ok());
        caps.unwrap_or_default()
    }
}
