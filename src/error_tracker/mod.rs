//! The error tracker: exceptions in, grouped by fingerprint, reopened on recurrence, alerts out.

mod alerts;
mod api;
mod commands;
mod config;
mod export;
mod fingerprint;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod import;
mod report;
mod retention;
mod search;
mod store;

use std::sync::{Mutex, PoisonError};

use crate::db::{Migration, Schema};
use crate::env::Env;
use crate::http::{Access, Route, Scope};
use crate::service::{
    self, Asset, CommonConfig, Core, Export, Running, Service, StartError, Stat, StatValue, State, WebUi,
};
use config::Config;

/// The program.
pub const SERVICE: Service = Service {
    name: "error-tracker",
    about: "exceptions in, grouped by fingerprint, reopened on recurrence, alerts out",
    variables: config::variables,
    schema: SCHEMA,
    start,
};

const SCHEMA: Schema = Schema {
    // "MLET"
    application_id: 0x4D4C_4554,
    migrations: &[Migration { sql: include_str!("../../sql/error-tracker/0001_errors.sql"), oldest_reader: 1 }],
    import: Some(import::IMPORT),
};

/// What it says of itself.
const OPENAPI: Asset = service::openapi_asset!("error-tracker");

/// The files of its interface, which are no part of what it describes: they are for its own pages alone.
const UI: &[Asset] = service::ui_assets!("error-tracker");

/// The error tracker's routes.
fn routes(web: WebUi, metrics_open: bool) -> Vec<Route<Tracker>> {
    let (read, admin) = (Access::Key(Scope::Read), Scope::Admin);
    let own = vec![
        service::ingest_route("/api/errors", api::report),
        Route::get("/api/errors", read, api::list),
        Route::get("/api/errors/{id}", read, api::detail),
        service::command_route("/api/errors/{id}/resolve", admin, api::resolve),
        Route::get("/api/projects", read, api::projects),
        Route::get("/api/variants", read, api::variants),
        Route::get("/api/alerts", read, api::alert_history),
        service::command_route("/api/test-alert", admin, api::test_alert),
    ];
    own.into_iter().chain(service::common_routes(metrics_open, &OPENAPI)).chain(web.routes(UI)).collect()
}

/// What the handlers work on.
struct Tracker {
    core: Core,
    groups_max: i64,
    /// Where alerts go; empty when nobody wants any.
    channels: Vec<&'static str>,
    /// What keeps alerts from being sent at all, in words for whoever asks.
    alerts_missing: Option<String>,
    /// What is sent on to somewhere else.
    export: Export,
    /// What was last found, for when no reader is free.
    facts: Mutex<Vec<Stat>>,
}

fn start(mut env: Env<'_>) -> Result<Running, StartError> {
    let (common, config) = (CommonConfig::from_env(&mut env), Config::read(&mut env));
    let web = WebUi::from_env(&mut env, SERVICE.name);
    env.finish().map_err(StartError::Settings)?;
    let routes = routes(web, common.metrics_open);
    let (bound, settings, database) = common.open("monlight-error-tracker", SCHEMA, retention::shrink)?;
    let Config { retention, groups_max, alerts, notifier, export } = config;
    export.prepare(&database)?;
    for sentence in notifier.incomplete() {
        log::warn!("{sentence}");
    }
    let (channels, alerts_missing) = (notifier.channels(), notifier.missing());
    let state = |core| Tracker { core, groups_max, channels, alerts_missing, export, facts: Mutex::default() };
    service::serve(bound, settings, database, routes, state, |tracker| {
        let mut jobs = vec![retention::job(tracker, retention)];
        if !tracker.channels.is_empty() {
            jobs.push(alerts::job(tracker, notifier, alerts));
        }
        jobs.extend(Export::job(tracker));
        jobs
    })
}

impl State for Tracker {
    fn core(&self) -> &Core {
        &self.core
    }

    fn stats(&self) -> Vec<Stat> {
        const FACTS: [(&str, &str, &str); 5] = [
            ("unresolved", "errors_unresolved", "Groups that are open"),
            ("resolved", "errors_resolved", "Groups that are resolved and still kept"),
            ("evicted", "errors_evicted", "Groups removed because there were more than MAX_GROUPS"),
            ("stripped", "occurrences_stripped", "Occurrences removed because of MAX_DB_MB"),
            ("alerts_held", "alerts_held", "Alerts that wait for the next digest"),
        ];
        let found = self.core.readers.try_acquire().and_then(|reader| {
            let totals = store::totals(&reader).ok()?;
            let value = |wanted| totals.iter().find(|(name, _)| name == wanted).map_or(0, |(_, value)| *value);
            let facts = FACTS.map(|(total, name, help)| Stat { name, help, value: StatValue::Count(value(total)) });
            Some(facts.into_iter().chain(Export::facts(self, &reader).ok()?).collect())
        });
        let mut known = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = found {
            *known = found;
        }
        known.clone()
    }

    fn warnings(&self) -> Vec<String> {
        self.export.warning().into_iter().collect()
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
