//! Routes that write. Their function only turns a request into a command, a plain value; the writer applies it and
//! answers after COMMIT. So no route can answer before what it acknowledges is stored.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::State;
use crate::clock::Timestamp;
use crate::db::{Command, Idempotent};
use crate::error::{Error, Result};
use crate::http::{Access, Body, Method, Request, Responder, Response, Route, RouteSpec, Scope};

const IDEMPOTENCY_KEY_CHARS_MAX: usize = 64;

/// `POST` of something that changes what is stored.
pub fn command_route<S: State, C>(path: &'static str, scope: Scope, parse: fn(&S, &Request) -> Result<C>) -> Route<S>
where
    C: Command,
    C::Output: Into<Response>,
{
    deferred(path, scope, parse)
}

/// `POST` of telemetry. With an `Idempotency-Key` a repeat gets the first answer and changes nothing.
pub fn ingest_route<S: State, C>(path: &'static str, parse: fn(&S, &Request) -> Result<C>) -> Route<S>
where
    C: Command,
    C::Output: Into<Response> + Serialize + DeserializeOwned,
{
    deferred(path, Scope::Ingest, move |state: &S, request: &Request| {
        let key = idempotency_key(request)?;
        let principal = request.principal().name.clone();
        Ok(Idempotent { principal, key, now: Timestamp::now(), command: parse(state, request)? })
    })
}

fn deferred<S: State, C>(
    path: &'static str,
    scope: Scope,
    parse: impl Fn(&S, &Request) -> Result<C> + Send + Sync + 'static,
) -> Route<S>
where
    C: Command,
    C::Output: Into<Response>,
{
    let rule = RouteSpec { method: Method::Post, path, access: Access::Key(scope), body: Body::Memory };
    let handler = move |state: &S, request: Request, responder: Responder| match parse(state, &request) {
        Ok(command) => state.core().writer.submit(command, move |outcome| {
            responder.send(outcome.map_or_else(Response::from, Into::into));
        }),
        Err(error) => responder.send(error.into()),
    };
    Route::deferred(rule, Box::new(handler))
}

/// The key that a repeat is known by, if there is one.
///
/// # Errors
/// [`Error::Invalid`] when it is empty, too long, or no text.
pub fn idempotency_key(request: &Request) -> Result<Option<String>> {
    let Some(given) = request.header("idempotency-key") else { return Ok(None) };
    let key = std::str::from_utf8(given).ok();
    match key.filter(|key| (1..=IDEMPOTENCY_KEY_CHARS_MAX).contains(&key.chars().count())) {
        Some(key) => Ok(Some(key.to_owned())),
        None => Err(Error::Invalid("Header 'Idempotency-Key' must be 1-64 characters of UTF-8".into())),
    }
}
