//! Everything that is decided on a request's head, before a byte of its body is read, in one order: route, address
//! rate, key and scope, key rate, declared size.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use tiny_http::Method;

use super::address::{Proxies, subscriber};
use super::keys::{Keys, Principal};
use super::message::{Framing, Head};
use super::rate::RateLimit;
use super::request::Params;
use super::route::{Access, Body, Found, Rule, find};
use super::stats::Refused;
use crate::error::{Error, Result};

/// What the gate needs to know of a service.
pub struct GateSettings {
    /// Who may.
    pub keys: Keys,
    /// Whose `X-Forwarded-For` is believed.
    pub proxies: Proxies,
    /// Requests a minute from one address; 0 is no limit.
    pub rate_per_address: u32,
    /// Requests a minute with one key, from wherever; 0 is no limit.
    pub rate_per_key: u32,
    /// The most a body kept in memory may have, in bytes.
    pub body_bytes_max: usize,
}

/// Decides, and remembers how often each client came. Owned by the one thread that reads heads.
pub(super) struct Gate {
    settings: GateSettings,
    rules: Arc<[Rule]>,
    address_rate: RateLimit<IpAddr>,
    key_rate: RateLimit<usize>,
    anonymous: Arc<Principal>,
    holders: Vec<Arc<Principal>>,
    refused: Arc<Refused>,
}

/// A request that may send its body.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) route: usize,
    pub(super) params: Params,
    pub(super) principal: Arc<Principal>,
    pub(super) client: IpAddr,
    pub(super) bytes_max: usize,
    pub(super) spooled: bool,
    pub(super) head_only: bool,
    /// Whether answering takes a look into the database.
    pub(super) page: bool,
}

impl Gate {
    pub(super) fn new(settings: GateSettings, rules: Arc<[Rule]>, refused: Arc<Refused>) -> Self {
        Self {
            address_rate: RateLimit::new(settings.rate_per_address),
            key_rate: RateLimit::new(settings.rate_per_key),
            anonymous: Arc::new(Principal::anonymous()),
            holders: settings.keys.principals(),
            settings,
            rules,
            refused,
        }
    }

    /// Whether `peer` is a proxy, which may hold as many connections as it needs.
    pub(super) fn trusts(&self, peer: IpAddr) -> bool {
        self.settings.proxies.trust(peer)
    }

    /// Admits a request or says why not.
    pub(super) fn admit(&mut self, head: &Head, framing: Framing, peer: IpAddr, now: Instant) -> Result<Admitted> {
        let segments = head.segments().ok_or_else(|| Error::Invalid("The path must be UTF-8".into()))?;
        let found = find(&self.rules, head.method(), &segments);
        let access = match &found {
            Found::Route(index, _) => Some(self.rules[*index].access),
            Found::OtherMethods(_) | Found::Nothing => None,
        };
        let open = access == Some(Access::Open);
        let in_url = matches!(access, Some(Access::KeyInUrl(_)));
        let client = self.settings.proxies.client(peer, self.forwarded_for(head).as_deref());
        let client = subscriber(client);
        let mut principal = Arc::clone(&self.anonymous);
        if !open {
            if let Err(retry_after_s) = self.address_rate.admit(client, now) {
                let project = self.holder(head, in_url).and_then(|holder| self.holders[holder].project());
                return Err(self.refused.too_many(project, retry_after_s));
            }
            // Without a key nobody learns what there is.
            if segments.first().is_some_and(|first| first == "api") || found != Found::Nothing {
                principal = self.key(head, in_url, now)?;
            }
        }
        let (route, params) = match found {
            Found::Route(route, params) => (route, params),
            Found::OtherMethods(allow) => return Err(Error::MethodNotAllowed(allow)),
            Found::Nothing => return Err(Error::NotFound("There is nothing at this path".into())),
        };
        let rule = &self.rules[route];
        if let Some(scope) = rule.access.scope()
            && !principal.may(scope)
        {
            let scope = format!("{scope:?}").to_lowercase();
            return Err(Error::Forbidden(format!("This key lacks the scope '{scope}'")));
        }
        let (bytes_max, spooled) = match rule.body {
            Body::None => (0, false),
            Body::Memory => (self.settings.body_bytes_max, false),
            Body::Spooled(bytes_max) => (bytes_max, true),
        };
        if matches!(framing, Framing::Length(declared) if declared > bytes_max as u64) {
            return Err(Error::TooLarge { limit_bytes: bytes_max });
        }
        let head_only = *head.method() == Method::Head;
        let page = rule.method == Method::Get && !open;
        Ok(Admitted { route, params, principal, client, bytes_max, spooled, head_only, page })
    }

    /// The holder of the key a head carries, counted against the key's own limit.
    fn key(&mut self, head: &Head, in_url: bool, now: Instant) -> Result<Arc<Principal>> {
        let holder = self.holder(head, in_url).ok_or(Error::Unauthorized)?;
        let principal = Arc::clone(&self.holders[holder]);
        let admitted = self.key_rate.admit(holder, now);
        admitted.map_err(|retry_after_s| self.refused.too_many(principal.project(), retry_after_s))?;
        Ok(principal)
    }

    /// Which key a head carries, if any.
    fn holder(&self, head: &Head, in_url: bool) -> Option<usize> {
        if let Some(key) = head.field("x-api-key").or_else(|| bearer(head)) {
            return self.settings.keys.holder(key);
        }
        let (_, key) = head.query().into_iter().find(|(name, _)| in_url && name == "api_key")?;
        self.settings.keys.holder(&key)
    }

    /// Every `X-Forwarded-For` in one, since a proxy may append a field of its own.
    fn forwarded_for(&self, head: &Head) -> Option<String> {
        let mut values = head.all("x-forwarded-for").map(String::from_utf8_lossy);
        let first = values.next()?.into_owned();
        Some(values.fold(first, |all, value| all + "," + &value))
    }
}

/// `Authorization: Bearer KEY`, the only scheme Prometheus can send.
fn bearer(head: &Head) -> Option<&str> {
    let (scheme, key) = head.field("authorization")?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}
