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

/// Creates a `POST` route for telemetry. A repeated request with the same `Idempotency-Key` gets the first response and
/// changes nothing.
pub fn ingest_route<S: ServiceState, C>(path: &'static str, parse: fn(&S, &Request) -> Result<C>) -> Route<S>
where
    C: Command,
    C::Output: Into<Response> + Serialize + DeserializeOwned,
{
    let spec = RouteSpec::new(Method::Post, path, Access::Key(Scope::Ingest)).idempotency(IdempotencySource::Header);
    deferred(spec, move |state: &S, request: &Request| {
        let key = request.idempotency_key()?;
        let principal = idempotency_scope(request);
        Ok(Idempotent { principal, key, now: Timestamp::now(), command: parse(state, request)? })
    })
}

/// Returns the scope of a request's idempotency key: the name of the API key. Forwarded telemetry has a scope of its own, because
/// the service that forwards it chooses unguessable keys for all its senders, and may change its API key between an attempt
/// whose response was lost and the next one. Keys that are limited to a project have a scope of their own for each project. No
/// API key can have such a name.
fn idempotency_scope(request: &Request) -> String {
    match request.header(KEY_KIND_HEADER) {
        Some(_) => format!("forwarded:{}", request.principal().project().unwrap_or_default()),
        None => request.principal().name.clone(),
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
