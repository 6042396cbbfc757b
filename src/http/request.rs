//! What a handler sees of a request: parameters by name, the body in full, and who asks.

use std::fs::File;
use std::net::IpAddr;
use std::sync::Arc;

use super::keys::Principal;
use super::message::Head;
use crate::clock::Timestamp;
use crate::error::{Error, Result};

/// A request whose body has arrived in full and decoded.
#[derive(Debug)]
pub struct Request {
    pub(super) head: Head,
    pub(super) params: Params,
    pub(super) query: Vec<(String, String)>,
    pub(super) body: Arc<Vec<u8>>,
    pub(super) spooled: Option<File>,
    pub(super) principal: Arc<Principal>,
    pub(super) client: IpAddr,
}

/// What a path's varying segments hold, by name.
pub(super) type Params = Vec<(&'static str, String)>;

/// A body, where it was taken in.
#[derive(Debug)]
pub(super) enum Content {
    Memory(Vec<u8>),
    File(File),
}

impl Request {
    /// What the path holds in place of `{name}`; empty when the route has no such segment.
    #[must_use]
    pub fn param(&self, name: &str) -> &str {
        self.params.iter().find(|(param, _)| *param == name).map_or("", |(_, value)| value.as_str())
    }

    /// The number in place of `{name}`.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it is no number from 1 up: nothing can have that id.
    pub fn id(&self, name: &str) -> Result<i64> {
        let given = self.param(name);
        let id = given.parse().ok().filter(|id| *id > 0);
        id.ok_or_else(|| Error::NotFound("There is nothing with that id".into()))
    }

    /// The first value of a query parameter; an empty one is as good as absent.
    #[must_use]
    pub fn query(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().find(|(param, _)| param == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// A whole number from the query, moved into `range`; what is no number is the default.
    #[must_use]
    pub fn query_number(&self, name: &str, default: i64, range: std::ops::RangeInclusive<i64>) -> i64 {
        let given = self.query(name).and_then(|text| text.trim().parse::<i128>().ok());
        let number = given.map_or(default, |number| {
            // i128 holds every number a sensible client writes; it is clamped before it is narrowed.
            let clamped = number.clamp(i128::from(*range.start()), i128::from(*range.end()));
            i64::try_from(clamped).unwrap_or(default)
        });
        number.clamp(*range.start(), *range.end())
    }

    /// A moment from the query.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it is no time.
    pub fn query_time(&self, name: &str) -> Result<Option<Timestamp>> {
        let Some(text) = self.query(name) else { return Ok(None) };
        let moment = Timestamp::parse(text);
        moment.map(Some).ok_or_else(|| Error::field(name, "must be a time such as 2026-01-31T12:00:00Z"))
    }

    /// A header's value, as the bytes it came as.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.head.all(name).next()
    }

    /// Whether the client understands answers in this coding.
    #[must_use]
    pub fn accepts(&self, coding: &str) -> bool {
        self.head.accepts(coding)
    }

    /// The body; empty on routes that spool it.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The same for whoever needs it longer than the request, without a copy.
    #[must_use]
    pub fn shared_body(&self) -> Arc<Vec<u8>> {
        Arc::clone(&self.body)
    }

    /// The unlinked file that holds the body, at its beginning, on routes that spool it.
    #[must_use]
    pub fn spooled(&self) -> Option<&File> {
        self.spooled.as_ref()
    }

    /// Who asks, as far as the key tells.
    #[must_use]
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// Where the request comes from, behind trusted proxies.
    #[must_use]
    pub fn client(&self) -> IpAddr {
        self.client
    }

    /// The method and path as they came, for the log.
    #[must_use]
    pub fn line(&self) -> String {
        format!("{} {}", self.head.method(), self.head.path())
    }
}
