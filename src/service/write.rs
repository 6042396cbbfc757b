//! Routes that write. Their function only turns a request into a command, a plain value; the writer applies it and
//! answers after COMMIT. So no route can answer before what it acknowledges is stored.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::State;
use crate::clock::Timestamp;
use crate::db::{Command, Idempotent};
use crate::error::Result;
use crate::http::{Access, IdempotencySource, Method, Request, Responder, Response, Route, RouteSpec, Scope};

/// `POST` of something that changes what is stored.
pub fn command_route<S: State, C>(path: &'static str, scope: Scope, parse: fn(&S, &Request) -> Result<C>) -> Route<S>
where
    C: Command,
    C::Output: Into<Response>,
{
    deferred(RouteSpec::new(Method::Post, path, Access::Key(scope)), parse)
}

/// `POST` of telemetry. With an `Idempotency-Key` a repeat gets the first answer and changes nothing.
pub fn ingest_route<S: State, C>(path: &'static str, parse: fn(&S, &Request) -> Result<C>) -> Route<S>
where
    C: Command,
    C::Output: Into<Response> + Serialize + DeserializeOwned,
{
    let spec = RouteSpec::new(Method::Post, path, Access::Key(Scope::Ingest)).idempotency(IdempotencySource::Header);
    deferred(spec, move |state: &S, request: &Request| {
        let key = request.idempotency_key()?;
        let principal = request.principal().name.clone();
        Ok(Idempotent { principal, key, now: Timestamp::now(), command: parse(state, request)? })
    })
}

fn deferred<S: State, C>(spec: RouteSpec, parse: impl Fn(&S, &Request) -> Result<C> + Send + Sync + 'static) -> Route<S>
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
