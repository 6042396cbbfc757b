//! Routes that write. Their handler only converts a request into a command; the writer applies it and sends the response
//! after COMMIT. Therefore no route can acknowledge a change before it is stored.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::state::ServiceState;
use crate::clock::Timestamp;
use crate::db::{Command, Idempotent};
use crate::error::Result;
use crate::http::{Access, IdempotencySource, Method, Request, Responder, Response, Route, RouteSpec, Scope};
use crate::records::key_kind::KEY_KIND_HEADER;

/// Creates a `POST` route that changes stored data.
pub fn command_route<S: ServiceState, C>(
    path: &'static str,
    scope: Scope,
    parse: fn(&S, &Request) -> Result<C>,
) -> Route<S>
where
    C: Command,
    C::Output: Into<Response>,
{
    deferred(RouteSpec::new(Method::Post, path, Access::Key(scope)), parse)
}

/// A command that stores telemetry.
pub trait IngestCommand: Command {
    /// Returns the project of the telemetry; the first one if there are several.
    fn project(&self) -> &str;
}

/// Creates a `POST` route for telemetry. A repeated request with the same `Idempotency-Key` gets the first response and
/// changes nothing.
pub fn ingest_route<S: ServiceState, C>(path: &'static str, parse: fn(&S, &Request) -> Result<C>) -> Route<S>
where
    C: IngestCommand,
    C::Output: Into<Response> + Serialize + DeserializeOwned,
{
    let spec = RouteSpec::new(Method::Post, path, Access::Key(Scope::Ingest)).idempotency(IdempotencySource::Header);
    deferred(spec, move |state: &S, request: &Request| {
        let key = request.idempotency_key()?;
        let command = parse(state, request)?;
        let scope = idempotency_scope(request, command.project());
        Ok(Idempotent { scope, key, now: Timestamp::now(), command })
    })
}

/// Returns the scope of a request's idempotency key: the name of the API key and the project. Forwarded telemetry has scopes of
/// its own, because the service that forwards it chooses unguessable keys for all its senders, and may change its API key
/// between an attempt whose response was lost and the next one. Keys that are limited to a project share none with others. No
/// name of an API key is empty or contains a colon.
fn idempotency_scope(request: &Request, project: &str) -> String {
    match request.header(KEY_KIND_HEADER) {
        Some(_) => format!(":forwarded:{}:{project}", request.principal().project().unwrap_or_default()),
        None => format!("{}:{project}", request.principal().name),
    }
}

fn deferred<S: ServiceState, C>(
    spec: RouteSpec,
    parse: impl Fn(&S, &Request) -> Result<C> + Send + Sync + 'static,
) -> Route<S>
where
    C: Command,
    C::Output: Into<Response>,
{
    let handler = move |state: &S, request: Request, responder: Responder| match parse(state, &request) {
        Ok(command) => state.core().writer.submit(command, move |outcome| {
            responder.send(outcome.map_or_else(Response::from, Into::into));
        }),
        Err(error) => responder.send(error.into()),
    };
    Route::deferred(spec, Box::new(handler))
}
