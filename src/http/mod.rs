//! HTTP/1.1 server. Nothing here knows SQL or any service.
//!
//! - `protocol`: parsing and framing, without sockets.
//! - `middleware`: the checks on a request's head, before its body is read.
//! - `event_loop`: the thread that owns all connections.
//! - `worker_pool.rs`: the threads that run the handlers of a route table.
//!
//! Only this folder uses tiny_http, httparse and epoll.

mod body_encoder;
mod body_source;
mod event_loop;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod middleware;
mod protocol;
mod query_queue;
mod request;
mod response;
mod route;
mod stats;
#[cfg(test)]
mod streaming_tests;
mod worker_pool;

pub use body_source::{BodySource, ItemWriter, JsonArray, PART_BYTES};
pub use event_loop::ConnectionLimits;
pub use event_loop::responder::Responder;
pub use event_loop::stream::ResponseStream;
pub use middleware::admission::{AdmissionSettings, PublicKeySettings};
pub use middleware::client_address::TrustedProxies;
pub use middleware::cors::AllowedOrigins;
pub use middleware::keys::{Keys, Principal, Scope};
pub use middleware::public_keys::{PublicKey, PublicKeys};
pub use middleware::routing::{Access, BodyLimit, CorsPolicy, IdempotencySource, RouteSpec};
pub use middleware::sessions::{Digest, Sessions, token_digest};
pub use request::Request;
pub use response::Response;
pub use route::{DeferredHandler, Handler, Route};
pub use stats::{IgnoredAddresses, LATENCY_BUCKETS_S, RateLimitRejections, RejectedOrigins, ResponseCount, Stats};
pub use tiny_http::Method;
pub use worker_pool::{BoundListener, Server, Settings};
