//! Outbound HTTP client, the only one of the services.
//!
//! Owns timeouts, TLS with Mozilla's roots and `CA_FILE`, forward proxies, backoff and the redaction of secrets. A
//! client belongs to one endpoint from the settings, follows no redirect and reads a bounded part of each response. No
//! client takes a URL from a request.

mod absolute_form;
mod backoff;
mod delivery;
mod early_response;
mod endpoint;
mod headers;
mod http_client;
mod proxy;
mod redact;
mod resolver;
mod roots;
mod settings;
#[cfg(test)]
pub(crate) mod test_server;
#[cfg(test)]
mod tests;
mod tls;

pub use backoff::Backoff;
pub use delivery::Delivery;
pub use endpoint::{Endpoint, URL_RULE};
pub use headers::{HEADER_LIST_RULE, parse_header_list};
pub use http_client::{ClientSettings, HttpClient, RequestError, Response};
pub use redact::Redactor;
pub use roots::TrustedRoots;
pub use settings::{OutboundSettings, ProxyPolicy};
pub use ureq::http::Uri;
