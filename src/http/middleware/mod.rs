//! Checks between the event loop and the handlers: routing, keys, rate limits, CORS, body limits and sessions.
//!
//! [`admission`] combines the others into one decision on a request's head.

pub(in crate::http) mod admission;
pub(in crate::http) mod client_address;
pub(in crate::http) mod cors;
pub(in crate::http) mod keys;
pub(in crate::http) mod public_keys;
pub(in crate::http) mod rate_limit;
pub(in crate::http) mod routing;
pub(in crate::http) mod sessions;
