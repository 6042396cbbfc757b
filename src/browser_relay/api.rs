//! The browser relay's handlers: each parses, asks once, answers or passes on.

use serde::Serialize;

use super::Relay;
use super::commands::{CreateKey, DeactivateKey};
use super::config::is_project;
use super::report::{self, ErrorReport};
use super::store::{self, Key};
use super::unminify::unminify;
use super::upstream::{Kind, Parcel};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::http::{Request, Responder, Response};
use crate::json::Object;
use crate::random;

/// `POST /api/browser/errors`
pub(super) fn errors(relay: &Relay, request: &Request, responder: Responder) {
    let body = || -> Result<Vec<u8>> {
        let mut report = ErrorReport::parse(request.body(), project(request))?;
        unminify(relay, &mut report);
        serde_json::to_vec(&report).map_err(|why| Error::Internal(format!("a report cannot be written as JSON: {why}")))
    };
    forward(relay, Kind::Errors, request, body(), responder);
}

/// `POST /api/browser/metrics`
pub(super) fn metrics(relay: &Relay, request: &Request, responder: Responder) {
    let body = report::metrics(request.body(), project(request));
    forward(relay, Kind::Metrics, request, body, responder);
}

fn project(request: &Request) -> &str {
    request.principal().project().unwrap_or_default()
}

fn forward(relay: &Relay, kind: Kind, request: &Request, body: Result<Vec<u8>>, responder: Responder) {
    let parcel = body.and_then(|body| {
        let idempotency_key = idempotency_key(request)?;
        Ok(Parcel { kind, body, idempotency_key, client: request.client() })
    });
    match parcel {
        Ok(parcel) => relay.forward.send(parcel, responder),
        Err(why) => responder.send(why.into()),
    }
}

/// The key that a report counts once by: the page's own, made the public key's own, or one of ours.
fn idempotency_key(request: &Request) -> Result<String> {
    match request.idempotency_key()? {
        Some(given) => Ok(format!("{:x}", md5::compute(format!("{} {given}", request.principal().name)))),
        None => random::hex_token(128),
    }
}

/// `POST /api/dsn-keys`
pub(super) fn create_key(relay: &Relay, request: &Request, responder: Responder) {
    #[derive(Serialize)]
    struct Answer<'a> {
        id: i64,
        public_key: &'a str,
        project: &'a str,
    }
    let command = || -> Result<CreateKey> {
        let project = Object::parse(request.body())?.required_string("project", 1..=100)?.into_owned();
        if !is_project(&project) {
            return Err(Error::field("project", "must be 1-100 characters, none of them a control character"));
        }
        Ok(CreateKey { public_key: random::hex_token(128)?, project, now: Timestamp::now() })
    };
    let keys = relay.keys.clone();
    match command() {
        Err(why) => responder.send(why.into()),
        Ok(command) => relay.core.writer.submit(command, move |outcome| {
            responder.send(match outcome {
                Err(why) => why.into(),
                Ok(created) => {
                    keys.replace(created.active);
                    let (public_key, project) = (&*created.public_key, &*created.project);
                    Response::json(201, &Answer { id: created.id, public_key, project })
                }
            });
        }),
    }
}

/// `DELETE /api/dsn-keys/{id}`
pub(super) fn deactivate_key(relay: &Relay, request: &Request, responder: Responder) {
    let id = match request.id("id") {
        Ok(id) => id,
        Err(why) => return responder.send(why.into()),
    };
    let keys = relay.keys.clone();
    relay.core.writer.submit(DeactivateKey { id }, move |outcome| {
        responder.send(match outcome {
            Err(why) => why.into(),
            Ok(None) => Error::NotFound(format!("There is no key {id}")).into(),
            Ok(Some(active)) => {
                keys.replace(active);
                Response::new(200, "application/json", br#"{"status":"deactivated"}"#.to_vec())
            }
        });
    });
}

/// `GET /api/dsn-keys`
pub(super) fn keys(relay: &Relay, _: &Request) -> Result<Response> {
    #[derive(Serialize)]
    struct Answer {
        keys: Vec<Key>,
    }
    Ok(Response::json(200, &Answer { keys: store::keys(&*relay.core.readers.acquire()?)? }))
}
