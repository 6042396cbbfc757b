//! Handlers for dead letters: reports that were set aside because their upstream failed repeatedly to accept them.

use std::sync::Arc;

use serde::Serialize;
use serde_json::value::RawValue;

use super::outbox_commands::{DeleteDeadLetter, RetryDeadLetter};
use super::outbox_store::{self, DeadLetter};
use super::state::Relay;
use crate::error::{Error, Result};
use crate::http::{ItemWriter, JsonArray, Request, Responder, Response};

const LIST_DEFAULT: i64 = 100;
const LIST_MAX: i64 = 500;
/// Dead letters in a part of the list: about 10 KB, at most 60.
const LETTERS_PER_PART: i64 = 40;

/// Handles `GET /api/outbox/dead-letters`: returns a page of dead letters without their bodies.
pub(super) fn list(relay: &Relay, request: &Request) -> Result<Response> {
    let project = request.query("project").map(str::to_owned);
    let limit = request.query_number("limit", LIST_DEFAULT, 1..=LIST_MAX);
    let offset = request.query_number("offset", 0, 0..=i64::MAX);
    let readers = relay.core.readers.clone();
    let total = outbox_store::count_dead_letters(&*readers.acquire()?, project.as_deref())?;
    let (mut before, mut left, mut skipped) = (i64::MAX, limit, offset);
    let letters = move |out: &mut ItemWriter<'_>| {
        let (count, skipped) = (left.min(LETTERS_PER_PART), std::mem::take(&mut skipped));
        let page = outbox_store::list_dead_letters(&*readers.acquire()?, project.as_deref(), before, count, skipped)?;
        let is_last = (page.len() as i64) < LETTERS_PER_PART;
        for letter in page {
            out.push(&letter)?;
            (before, left) = (letter.id, left - 1);
        }
        Ok(!is_last && left > 0)
    };
    let after = format!("],\"total\":{total},\"limit\":{limit},\"offset\":{offset}}}");
    Ok(Response::streamed(200, "application/json", JsonArray::new("{\"dead_letters\":[".into(), after, letters)))
}

/// Handles `GET /api/outbox/dead-letters/{id}`: returns a dead letter with its body.
pub(super) fn get(relay: &Relay, request: &Request) -> Result<Response> {
    #[derive(Serialize)]
    struct Body {
        #[serde(flatten)]
        dead_letter: DeadLetter,
        body: Box<RawValue>,
    }
    let id = request.id("id")?;
    let found = outbox_store::find_dead_letter(&*relay.core.readers.acquire()?, id)?;
    let (dead_letter, body) = found.ok_or_else(|| not_found(id))?;
    let body = RawValue::from_string(body);
    let body = body.map_err(|why| Error::Internal(format!("the body of dead letter {id} is not JSON: {why}")))?;
    Ok(Response::json(200, &Body { dead_letter, body }))
}

/// Handles `POST /api/outbox/dead-letters/{id}/retry`: moves a dead letter back to the outbox.
pub(super) fn retry(relay: &Relay, request: &Request, responder: Responder) {
    let id = match request.id("id") {
        Ok(id) => id,
        Err(why) => return responder.send(why.into()),
    };
    let outbox = Arc::clone(&relay.outbox);
    relay.core.writer.submit(RetryDeadLetter { id }, move |outcome| {
        responder.send(match outcome {
            Err(why) => why.into(),
            Ok(None) => not_found(id).into(),
            Ok(Some(kind)) => {
                outbox.wake(kind);
                Response::new(200, "application/json", br#"{"status":"queued"}"#.to_vec())
            }
        });
    });
}

/// Handles `DELETE /api/outbox/dead-letters/{id}`: deletes a dead letter.
pub(super) fn delete(relay: &Relay, request: &Request, responder: Responder) {
    let id = match request.id("id") {
        Ok(id) => id,
        Err(why) => return responder.send(why.into()),
    };
    relay.core.writer.submit(DeleteDeadLetter { id }, move |outcome| {
        responder.send(match outcome {
            Err(why) => why.into(),
            Ok(false) => not_found(id).into(),
            Ok(true) => Response::new(200, "application/json", br#"{"status":"deleted"}"#.to_vec()),
        });
    });
}

fn not_found(id: i64) -> Error {
    Error::NotFound(format!("Dead letter {id} not found"))
}
