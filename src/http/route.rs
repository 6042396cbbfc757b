//! Rows of a service's route table: a route's specification and its handler.

use tiny_http::Method;

use super::event_loop::responder::Responder;
use super::middleware::routing::{Access, RouteSpec};
use super::request::Request;
use super::response::Response;
use crate::error::Result;

/// A handler that takes over the request and sends the response itself, possibly later from another thread.
pub type DeferredHandler<S> = Box<dyn Fn(&S, Request, Responder) + Send + Sync>;

/// The function that answers a request.
pub enum Handler<S> {
    /// Returns the response from a thread of the worker pool.
    Sync(fn(&S, &Request) -> Result<Response>),
    /// Passes the responder on to the thread that will answer.
    Deferred(DeferredHandler<S>),
}

/// One row of a route table.
pub struct Route<S> {
    /// The part that is checked before the body is read.
    pub spec: RouteSpec,
    /// The function that answers.
    pub handler: Handler<S>,
}

impl<S> Route<S> {
    /// Creates a route that only reads.
    pub fn get(path: &'static str, access: Access, handler: fn(&S, &Request) -> Result<Response>) -> Self {
        Self { spec: RouteSpec::new(Method::Get, path, access), handler: Handler::Sync(handler) }
    }

    /// Creates a route whose handler sends the response itself.
    pub fn deferred(spec: RouteSpec, handler: DeferredHandler<S>) -> Self {
        Self { spec, handler: Handler::Deferred(handler) }
    }
}
