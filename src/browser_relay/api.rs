//! Handlers for reports of web pages and for public keys.

use serde::Serialize;

use super::commands::{CreateKey, DeactivateKey};
use super::config::is_valid_project_name;
use super::report::{self, TrackerReport};
use super::state::Relay;
use super::store::{self, KeyEntry};
use super::symbolicate::symbolicate;
use super::upstream::{OutboundRequest, UpstreamKind};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::http::{Request, Responder, Response};
use crate::json::JsonObject;
use crate::random;

/// Bytes by which a forwarded report usually exceeds the report of the page.
const REPORT_OVERHEAD_BYTES: usize = 256;

/// Handles `POST /api/browser/errors`: symbolicates and forwards the report of an error.
pub(super) fn report_error(relay: &Relay, request: &Request, responder: Responder) {
    let body = || -> Result<Vec<u8>> {
        let mut report = TrackerReport::parse(request.body(), project(request))?;
        symbolicate(relay, &mut report);
        // Room for a report without symbolicated frames. A vector that grows takes the allocator's lock at every step.
        let mut json = Vec::with_capacity(request.body().len() + REPORT_OVERHEAD_BYTES);
        let written = serde_json::to_writer(&mut json, &report);
        written.map_err(|why| Error::Internal(format!("cannot serialize a report: {why}")))?;
        Ok(json)
    };
    forward(relay, UpstreamKind::Errors, request, body(), responder);
}

/// Handles `POST /api/browser/metrics`: converts and forwards metrics.
pub(super) fn report_metrics(relay: &Relay, request: &Request, responder: Responder) {
    let body = report::convert_metrics(request.body(), project(request));
    forward(relay, UpstreamKind::Metrics, request, body, responder);
}

fn project(request: &Request) -> &str {
    request.principal().project().unwrap_or_default()
}

fn forward(relay: &Relay, kind: UpstreamKind, request: &Request, body: Result<Vec<u8>>, responder: Responder) {
    let outbound = body.and_then(|body| {
        let idempotency_key = idempotency_key(request)?;
        Ok(OutboundRequest { kind, body, idempotency_key, client: request.client() })
    });
    match outbound {
        Ok(outbound) => relay.forwarder.send(outbound, responder),
        Err(why) => responder.send(why.into()),
    }
}

/// Returns the idempotency key for the upstream: a random one, or a hash of the page's key and its public key, so that
/// the keys of different projects never collide.
fn idempotency_key(request: &Request) -> Result<String> {
    match request.idempotency_key()? {
        Some(page_key) => Ok(format!("{:x}", md5::compute(format!("{} {page_key}", request.principal().name)))),
        None => random::hex_token(128),
    }
}

/// Handles `POST /api/dsn-keys`: creates a public key.
pub(super) fn create_key(relay: &Relay, request: &Request, responder: Responder) {
    #[derive(Serialize)]
    struct Body<'a> {
        id: i64,
        public_key: &'a str,
        project: &'a str,
    }
    let command = || -> Result<CreateKey> {
        let project = JsonObject::parse(request.body())?.required_string("project", 1..=100)?.into_owned();
        if !is_valid_project_name(&project) {
            return Err(Error::field("project", "must be 1-100 characters without control characters"));
        }
        Ok(CreateKey { public_key: random::hex_token(128)?, project, now: Timestamp::now() })
    };
    let public_keys = relay.public_keys.clone();
    match command() {
        Err(why) => responder.send(why.into()),
        Ok(command) => relay.core.writer.submit(command, move |outcome| {
            responder.send(match outcome {
                Err(why) => why.into(),
                Ok(created) => {
                    public_keys.replace(created.active);
                    let (public_key, project) = (&*created.public_key, &*created.project);
                    Response::json(201, &Body { id: created.id, public_key, project })
                }
            });
        }),
    }
}

/// Handles `DELETE /api/dsn-keys/{id}`: deactivates a public key.
pub(super) fn deactivate_key(relay: &Relay, request: &Request, responder: Responder) {
    let id = match request.id("id") {
        Ok(id) => id,
        Err(why) => return responder.send(why.into()),
    };
    let public_keys = relay.public_keys.clone();
    relay.core.writer.submit(DeactivateKey { id }, move |outcome| {
        responder.send(match outcome {
            Err(why) => why.into(),
            Ok(None) => Error::NotFound(format!("Public key {id} not found")).into(),
            Ok(Some(active)) => {
                public_keys.replace(active);
                Response::new(200, "application/json", br#"{"status":"deactivated"}"#.to_vec())
            }
        });
    });
}

/// Handles `GET /api/dsn-keys`: lists all public keys.
pub(super) fn list_keys(relay: &Relay, _: &Request) -> Result<Response> {
    #[derive(Serialize)]
    struct Body {
        keys: Vec<KeyEntry>,
    }
    Ok(Response::json(200, &Body { keys: store::list_keys(&*relay.core.readers.acquire()?)? }))
}
