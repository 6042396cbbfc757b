//! The browser relay: the public door for pages that hold nothing but a public key. What they report goes on to the
//! error tracker and the metrics collector, now or as soon as these can take it.

mod api;
mod commands;
mod config;
mod forward;
mod import;
#[cfg_attr(not(test), expect(dead_code, reason = "no route uses the maps yet"))]
mod maps;
mod report;
mod store;
mod upstream;

use std::sync::{Arc, Mutex, PoisonError};

use crate::clock::Timestamp;
use crate::db::{Migration, Schema};
use crate::env::Env;
use crate::http::{Access, Body, Method, PublicKeys, Request, Responder, Route, Rule, Scope};
use crate::service::{self, Common, Core, Fact, Failure, Quantity, Running, Service, State};
use commands::SeedKeys;
use config::Config;
use forward::Forward;
use upstream::{Kind, Upstream};

/// The program.
pub const SERVICE: Service =
    Service { name: "browser-relay", about: "the public door for browsers", variables: config::variables, start };

const SCHEMA: Schema = Schema {
    // "MLBR"
    application_id: 0x4D4C_4252,
    migrations: &[Migration { sql: include_str!("../../sql/browser-relay/0001_relay.sql"), oldest_reader: 1 }],
    import: Some(import::IMPORT),
};

/// A function that answers when what it waits for has come.
type Later = fn(&Relay, &Request, Responder);

/// The browser relay's routes.
fn routes() -> Vec<Route<Relay>> {
    let admin = Access::Key(Scope::Admin);
    vec![
        later(Method::Post, "/api/browser/errors", Access::Visitors, api::errors),
        later(Method::Post, "/api/browser/metrics", Access::Visitors, api::metrics),
        Route::get("/api/dsn-keys", admin, api::keys),
        later(Method::Post, "/api/dsn-keys", admin, api::create_key),
        later(Method::Delete, "/api/dsn-keys/{id}", admin, api::deactivate_key),
    ]
}

fn later(method: Method, path: &'static str, access: Access, answer: Later) -> Route<Relay> {
    let body = if method == Method::Post { Body::Memory } else { Body::None };
    let rule = Rule { method, path, access, body };
    Route::deferred(rule, Box::new(move |relay, request, responder| answer(relay, &request, responder)))
}

/// What the handlers work on.
struct Relay {
    core: Core,
    keys: Arc<PublicKeys>,
    forward: Forward,
    /// What was last found, for when no reader is free.
    facts: Mutex<Vec<Fact>>,
}

fn start(mut env: Env<'_>) -> Result<Running, Failure> {
    let (mut common, config) = (Common::read_with_key(&mut env, config::KEY), Config::read(&mut env));
    env.finish().map_err(Failure::Settings)?;
    let keys = Arc::<PublicKeys>::default();
    common.let_in(Arc::clone(&keys), config.origins);
    let mut routes = routes();
    routes.extend(service::routes(common.metrics_open));
    let (bound, settings, database) = common.open(SCHEMA, commands::shrink)?;
    let refused = |why: crate::error::Error| Failure::Start(format!("cannot start: {why}"));
    let (writer, readers) = (database.writer.clone(), database.readers.clone());
    keys.set(writer.run(SeedKeys { keys: config.dsn_keys, now: Timestamp::now() }).map_err(refused)?);
    let upstreams =
        [Upstream::new(Kind::Errors, config.error_tracker), Upstream::new(Kind::Metrics, config.metrics_collector)];
    let forward = Forward::start(upstreams, writer, readers, config.outbox_bytes_max).map_err(refused)?;
    let state = |core| Relay { core, keys, forward, facts: Mutex::default() };
    service::serve(bound, settings, database, routes, state, |relay| vec![relay.forward.job()])
}

impl State for Relay {
    fn core(&self) -> &Core {
        &self.core
    }

    fn facts(&self) -> Vec<Fact> {
        const TOTALS: [(&str, &str); 3] = [
            ("outbox_bytes", "Bytes in the outbox"),
            ("outbox_dropped", "Reports dropped from the outbox, which was full"),
            ("outbox_refused", "Reports that had waited and were refused"),
        ];
        let reader = self.core.readers.lend_now();
        let read = |name| reader.as_ref().and_then(|reader| store::total(reader, name).ok());
        let totals =
            TOTALS.map(|(name, help)| read(name).map(|total| Fact { name, help, value: Quantity::Count(total) }));
        let mut known = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        if totals.iter().all(Option::is_some) {
            *known = totals.into_iter().flatten().collect();
        }
        let waiting = i64::try_from(self.forward.waiting()).unwrap_or(i64::MAX);
        let help = "Reports that wait for an upstream";
        [&known[..], &[Fact { name: "outbox_waiting", help, value: Quantity::Count(waiting) }]].concat()
    }
}
