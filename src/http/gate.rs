//! Everything that is decided on a request's head, before a byte of its body is read, in one order: route, address
//! rate, key and scope, key rate, declared size.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use tiny_http::Method;

use super::address::{Proxies, subscriber};
use super::keys::{Keys, Principal};
use super::message::{Framing, Head};
use super::origins::{AllowedOrigins, preflight, share};
use super::rate::RateLimit;
use super::request::Params;
use super::response::Response;
use super::route::{Access, Body, Found, RouteSpec, find, fits};
use super::sessions::{Digest, Sessions, is_same_origin};
use super::stats::Refused;
use super::visitors::PublicKeys;
use crate::error::{Error, Result};

const NO_KEY: Error = Error::Unauthorized("A valid API key is required in X-API-Key or Authorization: Bearer");
const NO_PUBLIC_KEY: Error = Error::Unauthorized("A valid public key is required in X-Monlight-Key or ?key=");

/// Requests a minute of one session in a browser, whatever its address sends besides.
const RATE_PER_SESSION: u32 = 600;

/// What the gate needs to know of a service.
pub struct AdmissionSettings {
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
    /// How pages in browsers are let in, where there are routes for them.
    pub visitors: PublicKeySettings,
    /// People who showed a key once.
    pub sessions: Arc<Sessions>,
}

/// How pages in browsers are let in.
#[derive(Debug, Default)]
pub struct PublicKeySettings {
    /// The keys they may hold.
    pub keys: Arc<PublicKeys>,
    /// The origins whose pages may ask.
    pub origins: AllowedOrigins,
    /// Requests a minute from one address with one key, so that no visitor uses up a project's allowance; also wrong
    /// keys a minute from one address. 0 is no limit.
    pub rate_per_address: u32,
    /// Requests a minute with one key, from wherever; 0 is no limit.
    pub rate_per_key: u32,
}

/// Decides, and remembers how often each client came. Owned by the one thread that reads heads.
pub(super) struct Gate {
    settings: AdmissionSettings,
    rules: Arc<[RouteSpec]>,
    /// Whether any of the rules lets pages of other origins in.
    shares: bool,
    address_rate: RateLimit<IpAddr>,
    key_rate: RateLimit<usize>,
    /// Wrong public keys, and requests with right ones, by key and address and by key.
    stranger_rate: RateLimit<IpAddr>,
    visitor_rate: RateLimit<(i64, IpAddr)>,
    public_key_rate: RateLimit<i64>,
    session_rate: RateLimit<Digest>,
    anonymous: Arc<Principal>,
    holders: Vec<Arc<Principal>>,
    refused: Arc<Refused>,
}

/// Whom an answer is shared with: the page's origin where it is listed.
#[derive(Debug, Clone)]
pub(super) struct Sharing(Option<String>);

impl Sharing {
    fn origin(&self) -> Option<&str> {
        self.0.as_deref()
    }

    /// Adds to an answer what browsers want to read.
    pub(super) fn apply(sharing: Option<&Self>, response: Response) -> Response {
        match sharing {
            Some(sharing) => share(response, sharing.origin()),
            None => response,
        }
    }
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
    /// Whom the answer is shared with, on routes for pages of other origins.
    pub(super) sharing: Option<Sharing>,
    /// Whether answering takes a look into the database.
    pub(super) page: bool,
}

impl Gate {
    pub(super) fn new(settings: AdmissionSettings, rules: Arc<[RouteSpec]>, refused: Arc<Refused>) -> Self {
        Self {
            address_rate: RateLimit::new(settings.rate_per_address),
            key_rate: RateLimit::new(settings.rate_per_key),
            stranger_rate: RateLimit::new(settings.visitors.rate_per_address),
            visitor_rate: RateLimit::new(settings.visitors.rate_per_address),
            public_key_rate: RateLimit::new(settings.visitors.rate_per_key),
            session_rate: RateLimit::new(RATE_PER_SESSION),
            anonymous: Arc::new(Principal::anonymous()),
            holders: settings.keys.principals(),
            settings,
            shares: rules.iter().any(|rule| rule.access == Access::PublicKey),
            rules,
            refused,
        }
    }

    /// Whether `peer` is a proxy, which may hold as many connections as it needs.
    pub(super) fn trusts(&self, peer: IpAddr) -> bool {
        self.settings.proxies.is_trusted(peer)
    }

    /// Admits a request, or answers it: with a refusal, or with what a browser wants to know before it asks.
    pub(super) fn admit(
        &mut self,
        head: &Head,
        framing: Framing,
        peer: IpAddr,
        now: Instant,
    ) -> std::result::Result<Admitted, Response> {
        let sharing = self.sharing(head);
        if let Some(sharing) = &sharing
            && *head.method() == Method::Options
        {
            return Err(preflight(sharing.origin()));
        }
        match self.decide(head, framing, peer, now) {
            Ok(admitted) => Ok(Admitted { sharing, ..admitted }),
            Err(why) => Err(Sharing::apply(sharing.as_ref(), why.into())),
        }
    }

    /// Whom an answer on this path may be shared with; `None` on paths that are not for pages of other origins.
    fn sharing(&self, head: &Head) -> Option<Sharing> {
        if !self.shares {
            return None;
        }
        let segments = head.segments()?;
        let shared = |rule: &RouteSpec| rule.access == Access::PublicKey && fits(rule, &segments);
        if !self.rules.iter().any(shared) {
            return None;
        }
        let origin = head.field("origin").filter(|origin| self.settings.visitors.origins.matches(origin));
        Some(Sharing(origin.map(str::to_owned)))
    }

    fn decide(&mut self, head: &Head, framing: Framing, peer: IpAddr, now: Instant) -> Result<Admitted> {
        let segments = head.segments().ok_or_else(|| Error::Invalid("The path must be UTF-8".into()))?;
        let found = find(&self.rules, head.method(), &segments);
        let access = match &found {
            Found::Route(index, _) => Some(self.rules[*index].access),
            // What everybody may know of: another method needs no key to hear that it is the wrong one.
            Found::OtherMethods(_)
                if self.rules.iter().all(|rule| rule.access.scope().is_none() || !fits(rule, &segments)) =>
            {
                Some(Access::Open)
            }
            Found::OtherMethods(_) | Found::Nothing => None,
        };
        let open = access == Some(Access::Open);
        let in_url = matches!(access, Some(Access::KeyInQuery(_)));
        let client = self.settings.proxies.client(peer, self.forwarded_for(head).as_deref());
        let client = subscriber(client);
        let mut principal = Arc::clone(&self.anonymous);
        if access == Some(Access::PublicKey) {
            principal = self.visitor(head, client, now)?;
        } else if let Some((session, holder)) = self.session(head).filter(|_| !open) {
            principal = Arc::clone(&self.holders[holder]);
            let admitted = self.session_rate.admit(session, now);
            admitted.map_err(|retry_after_s| self.refused.too_many(principal.project(), retry_after_s))?;
            if !matches!(head.method(), Method::Get | Method::Head) && !is_same_origin(head) {
                return Err(Error::Forbidden("A session's changes must come from this service's own pages".into()));
            }
        } else if !open {
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
            && !principal.allows(scope)
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
        let sharing = None;
        Ok(Admitted { route, params, principal, client, bytes_max, spooled, head_only, sharing, page })
    }

    /// The project whose public key a page holds, counted by key and address and by key. Strangers are counted apart,
    /// so that they cannot use up what is a project's.
    fn visitor(&mut self, head: &Head, client: IpAddr, now: Instant) -> Result<Arc<Principal>> {
        let visitors = &self.settings.visitors;
        let (origin, host) = (head.field("origin"), head.field("host").unwrap_or_default());
        if let Some(origin) = origin.filter(|origin| !visitors.origins.accepts(origin, host)) {
            return Err(Error::Forbidden(format!(
                "Pages of {origin} may not report here; CORS_ORIGINS does not list them"
            )));
        }
        let in_url = || head.query().into_iter().find(|(name, _)| name == "key").map(|(_, key)| key);
        let presented = head.field("x-monlight-key").map(str::to_owned).or_else(in_url);
        let Some((id, principal)) = presented.and_then(|key| visitors.keys.holder(&key)) else {
            let strange = self.stranger_rate.admit(client, now);
            return Err(strange.err().map_or(NO_PUBLIC_KEY, |wait_s| self.refused.too_many(None, wait_s)));
        };
        let admitted = self.visitor_rate.admit((id, client), now).and_then(|()| self.public_key_rate.admit(id, now));
        admitted.map_err(|retry_after_s| self.refused.too_many(principal.project(), retry_after_s))?;
        Ok(principal)
    }

    /// The session a head belongs to, unless it carries a key, which counts then.
    fn session(&self, head: &Head) -> Option<(Digest, usize)> {
        let has_key = head.field("x-api-key").is_some() || bearer(head).is_some();
        if has_key { None } else { self.settings.sessions.holder(head) }
    }

    /// The holder of the key a head carries, counted against the key's own limit.
    fn key(&mut self, head: &Head, in_url: bool, now: Instant) -> Result<Arc<Principal>> {
        let holder = self.holder(head, in_url).ok_or(NO_KEY)?;
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
