//! Handlers for reports of web pages and for public keys.

use serde::Serialize;

use super::bounded_json::BoundedJson;
use super::commands::{CreateKey, DeactivateKey};
use super::config::is_valid_project_name;
use super::metrics::{ConvertedMetrics, convert_metrics};
use super::page_json::PageJson;
use super::report::TrackerReport;
use super::state::Relay;
use super::store;
use super::symbolicate::symbolicate;
use super::upstream::{OutboundRequest, UpstreamKind};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::http::{ItemWriter, JsonArray, Request, Responder, Response};
use crate::json::JsonObject;
use crate::random;
use crate::records::key_kind::KeyKind;

/// Bytes by which a forwarded report usually exceeds the report of the page.
const REPORT_OVERHEAD_BYTES: usize = 256;
/// Public keys in a part of the list: about 20 KB, at most 60.
const KEYS_PER_PART: i64 = 100;

/// A report of a page as its upstream receives it.
struct Forwarded {
    body: Vec<u8>,
    /// The idempotency key in the body of the page.
    idempotency_key: Option<String>,
    /// Names of the page's fields that were adjusted.
    adjusted: Vec<&'static str>,
}

/// Handles `POST /api/browser/errors`: symbolicates and forwards the report of an error.
pub(super) fn report_error(relay: &Relay, request: &Request, responder: Responder) {
    forward(relay, UpstreamKind::Errors, request, convert_error(relay, request), responder);
}

fn convert_error(relay: &Relay, request: &Request) -> Result<Forwarded> {
    let bytes_max = UpstreamKind::Errors.body_bytes_max();
    let page = PageJson::new(request.body())?;
    let mut report = TrackerReport::parse(&page, project(request), Timestamp::now())?;
    let (idempotency_key, adjusted) = (report.idempotency_key.take(), std::mem::take(&mut report.adjusted));
    let minified = symbolicate(relay, &mut report);
    let serialize = |report: &TrackerReport<'_>| -> Result<Option<Vec<u8>>> {
        // Room for a report without symbolicated frames. A vector that grows takes the allocator's lock at every step.
        let mut json = BoundedJson::new(request.body().len() + REPORT_OVERHEAD_BYTES, bytes_max);
        Ok(json.serialize(report)?.is_ok().then(|| json.into_bytes()))
    };
    if let Some(body) = serialize(&report)? {
        return Ok(Forwarded { body, idempotency_key, adjusted });
    }
    // The sources may have made the report longer than the page sent it.
    if let Some(minified) = minified {
        report.traceback = minified;
    }
    report.extra.frames = None;
    let body = serialize(&report)?.ok_or_else(|| {
        Error::TooLargeToForward(format!(
            "The report exceeds {bytes_max} bytes as the error tracker receives it, and would be rejected there; shorten it"
        ))
    })?;
    Ok(Forwarded { body, idempotency_key, adjusted })
}

/// Handles `POST /api/browser/metrics`: converts and forwards metrics.
pub(super) fn report_metrics(relay: &Relay, request: &Request, responder: Responder) {
    forward(relay, UpstreamKind::Metrics, request, convert_points(request), responder);
}

fn convert_points(request: &Request) -> Result<Forwarded> {
    let (page, bytes_max) = (PageJson::new(request.body())?, UpstreamKind::Metrics.body_bytes_max());
    let ConvertedMetrics { body, idempotency_key, adjusted } =
        convert_metrics(&page, project(request), bytes_max, Timestamp::now())?;
    Ok(Forwarded { body, idempotency_key, adjusted })
}

fn project(request: &Request) -> &str {
    request.principal().project().unwrap_or_default()
}

fn forward(relay: &Relay, kind: UpstreamKind, request: &Request, converted: Result<Forwarded>, responder: Responder) {
    let outbound = converted.and_then(|Forwarded { body, idempotency_key, adjusted }| {
        let reservation = Some(relay.forward_budget.reserve(project(request), body.len())?);
        let (idempotency_key, client) = (upstream_key(request, idempotency_key)?, request.client());
        let (project, key_kind) = (project(request).to_owned(), request.key_kind());
        Ok(OutboundRequest { kind, project, key_kind, body, idempotency_key, client, adjusted, reservation })
    });
    match outbound {
        Ok(outbound) => relay.forwarder.send(outbound, responder),
        Err(why) => responder.send(why.into()),
    }
}

/// Returns the idempotency key for the upstream: a random one, or a hash of the page's key and its public key, so that
/// the keys of different projects never collide. The header takes precedence over the body.
fn upstream_key(request: &Request, key_in_body: Option<String>) -> Result<String> {
    match request.idempotency_key()?.or(key_in_body) {
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
        kind: &'static str,
    }
    let command = || -> Result<CreateKey> {
        let body = JsonObject::parse(request.body())?;
        let project = body.required_string("project", 1..=100)?.into_owned();
        let kind = body.string("kind")?.map_or(Some(KeyKind::Browser), |kind| KeyKind::from_name(&kind));
        let kind = kind.ok_or_else(|| Error::field("kind", "must be browser or server"))?;
        if !is_valid_project_name(&project) {
            return Err(Error::field("project", "must be 1-100 characters without control characters"));
        }
        Ok(CreateKey { public_key: random::hex_token(128)?, project, kind, now: Timestamp::now() })
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
                    Response::json(201, &Body { id: created.id, public_key, project, kind: created.kind.name() })
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

/// Handles `GET /api/dsn-keys`: lists the public keys; all of them without `limit`.
pub(super) fn list_keys(relay: &Relay, request: &Request) -> Result<Response> {
    let limit = request.query_number("limit", i64::MAX, 1..=i64::MAX);
    let mut offset = request.query_number("offset", 0, 0..=i64::MAX);
    let readers = relay.core.readers.clone();
    let total = store::count_keys(&*readers.acquire()?)?;
    let (mut after, mut left) = (0, limit);
    let keys = move |out: &mut ItemWriter<'_>| {
        let page = store::list_keys(&*readers.acquire()?, after, left.min(KEYS_PER_PART), std::mem::take(&mut offset))?;
        let is_last = (page.len() as i64) < KEYS_PER_PART;
        for key in page {
            out.push(&key)?;
            (after, left) = (key.id, left - 1);
        }
        Ok(!is_last && left > 0)
    };
    let body = JsonArray::new("{\"keys\":[".into(), format!("],\"total\":{total}}}"), keys);
    Ok(Response::streamed(200, "application/json", body))
}
