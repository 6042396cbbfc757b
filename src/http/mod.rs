//! HTTP as this house speaks it. Connections belong to the door (`door.rs`); the gate (`gate.rs`) decides on heads; a
//! fixed pool (`server.rs`) runs the handlers that a table of routes names. Nothing here knows SQL or any service.
//!
//! This is the only folder that names tiny_http, httparse or epoll.

mod address;
mod body;
mod budget;
mod connection;
mod door;
mod doorstep;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod gate;
mod keys;
mod message;
mod origins;
mod rate;
mod request;
mod responder;
mod response;
mod route;
mod server;
mod sessions;
mod slab;
mod stats;
mod stream;
mod visitors;

pub use address::{Network, Proxies};
pub use door::ConnectionLimits;
pub use gate::{AdmissionSettings, PublicKeySettings};
pub use keys::{Keys, Principal, Scope};
pub use origins::AllowedOrigins;
pub use request::Request;
pub use responder::Responder;
pub use response::Response;
pub use route::{Access, Body, Deferred, Handler, Route, RouteSpec};
pub use server::{Bound, Server, Settings};
pub use sessions::{Digest, Sessions, token_digest};
pub use stats::{LATENCY_BUCKETS_S, Refused, ResponseCounts, Stats};
pub use stream::Stream;
pub use tiny_http::Method;
pub use visitors::{PublicKey, PublicKeys};
