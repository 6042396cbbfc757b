//! Admission control: decides on a request's head, before its body is read. Checks in this order: route, address rate,
//! key and scope, key rate, declared size.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use tiny_http::Method;

use super::client_address::{TrustedProxies, is_private, rate_limit_key};
use super::cors::{AllowedOrigins, CorsHeaders};
use super::keys::{Keys, Principal};
use super::public_keys::PublicKeys;
use super::rate_limit::{AddressRateLimit, RateLimit};
use super::routing::{Access, BodyLimit, CorsPolicy, IdempotencySource, Lookup, Params, RouteSpec, lookup};
use super::sessions::{Digest, Sessions, is_same_origin};
use crate::error::{Error, Result};
use crate::http::protocol::head::{Framing, Head};
use crate::http::response::Response;
use crate::http::stats::{IgnoredAddresses, RateLimitRejections, RejectedOrigins, Stats};

const API_KEY_REQUIRED: Error =
    Error::Unauthorized("A valid API key is required in X-API-Key or Authorization: Bearer");
const PUBLIC_KEY_REQUIRED: Error = Error::Unauthorized("A valid public key is required in X-Monlight-Key or ?key=");

/// Maximum requests per minute of one session of the web UI. They do not count for the rate of their address.
const SESSION_RATE_PER_MIN: u32 = 600;
/// Maximum requests per minute of all sessions of one key from one address, so that further sessions do not raise the rate
/// without end. Several people can work behind one address. Without a rate limit for addresses, it does not apply.
const SESSIONS_OF_ADDRESS_RATE_PER_MIN: u32 = 4 * SESSION_RATE_PER_MIN;

/// Key of limits that count the requests of an address whatever key they carry.
const ANY_KEY: i64 = 0;

/// Settings of admission control.
pub struct AdmissionSettings {
    /// The API keys.
    pub keys: Keys,
    /// The proxies whose `X-Forwarded-For` counts.
    pub proxies: TrustedProxies,
    /// Maximum requests per minute from one address; 0 = unlimited.
    pub rate_per_address: u32,
    /// Maximum requests per minute with one key, from all addresses; 0 = unlimited.
    pub rate_per_key: u32,
    /// Maximum size of a body in memory, in bytes.
    pub body_bytes_max: usize,
    /// Settings of routes for pages in browsers.
    pub public_keys: PublicKeySettings,
    /// The sessions of the web UI.
    pub sessions: Arc<Sessions>,
}

/// Settings of routes that public keys authenticate.
#[derive(Debug, Default)]
pub struct PublicKeySettings {
    /// The active public keys.
    pub keys: Arc<PublicKeys>,
    /// The origins whose pages may call.
    pub origins: AllowedOrigins,
    /// Maximum requests per minute from one address with one key, so that no visitor exhausts a project's rate; also the
    /// maximum of requests with invalid keys per minute from one address. 0 = unlimited.
    pub rate_per_address: u32,
    /// Maximum requests per minute with one key, from all addresses; 0 = unlimited.
    pub rate_per_key: u32,
}

/// Decides on requests and counts them for the rate limits. Owned by the event loop.
pub(in crate::http) struct Admission {
    settings: AdmissionSettings,
    specs: Arc<[RouteSpec]>,
    /// Whether any route allows other origins.
    has_cors_routes: bool,
    address_rate: AddressRateLimit,
    key_rate: RateLimit<usize>,
    /// Counts requests with invalid public keys separately, so that they do not use up the rate of a project.
    invalid_key_rate: AddressRateLimit,
    public_key_address_rate: AddressRateLimit,
    public_key_rate: RateLimit<i64>,
    session_rate: RateLimit<Digest>,
    /// By the index of the key and the address.
    session_address_rate: RateLimit<(usize, IpAddr)>,
    anonymous: Arc<Principal>,
    /// By the index that [`Keys::authenticate`] returns.
    principals: Vec<Arc<Principal>>,
    rejections: Arc<RateLimitRejections>,
    rejected_origins: Arc<RejectedOrigins>,
    ignored_addresses: Arc<IgnoredAddresses>,
}

/// A request that may send its body.
#[derive(Debug)]
pub(in crate::http) struct AdmittedRequest {
    pub(in crate::http) route: usize,
    pub(in crate::http) params: Params,
    pub(in crate::http) principal: Arc<Principal>,
    pub(in crate::http) client: IpAddr,
    pub(in crate::http) bytes_max: usize,
    pub(in crate::http) spooled: bool,
    pub(in crate::http) head_only: bool,
    pub(in crate::http) idempotency: IdempotencySource,
    /// `None` on routes without CORS.
    pub(in crate::http) cors: Option<CorsHeaders>,
    /// Whether the handler queries the database, so that the request belongs to the queue for queries.
    pub(in crate::http) reads_database: bool,
}

impl Admission {
    pub(in crate::http) fn new(settings: AdmissionSettings, specs: Arc<[RouteSpec]>, stats: &Stats) -> Self {
        Self {
            address_rate: AddressRateLimit::new(settings.rate_per_address),
            key_rate: RateLimit::new(settings.rate_per_key),
            invalid_key_rate: AddressRateLimit::new(settings.public_keys.rate_per_address),
            public_key_address_rate: AddressRateLimit::new(settings.public_keys.rate_per_address),
            public_key_rate: RateLimit::new(settings.public_keys.rate_per_key),
            session_rate: RateLimit::new(SESSION_RATE_PER_MIN),
            session_address_rate: RateLimit::new(match settings.rate_per_address {
                0 => 0,
                _ => SESSIONS_OF_ADDRESS_RATE_PER_MIN,
            }),
            anonymous: Arc::new(Principal::anonymous()),
            principals: settings.keys.principals(),
            settings,
            has_cors_routes: specs.iter().any(|spec| spec.cors == CorsPolicy::AllowedOrigins),
            specs,
            rejections: Arc::clone(&stats.rejections),
            rejected_origins: Arc::clone(&stats.rejected_origins),
            ignored_addresses: Arc::clone(&stats.ignored_addresses),
        }
    }

    /// Whether `peer` is a trusted proxy, which is exempt from the connection limit per address.
    pub(in crate::http) fn is_trusted(&self, peer: IpAddr) -> bool {
        self.settings.proxies.is_trusted(peer)
    }

    /// Admits a request.
    ///
    /// # Errors
    /// Returns the response to send at once: a rejection, or the answer to a preflight request.
    pub(in crate::http) fn admit(
        &mut self,
        head: &Head,
        framing: Framing,
        peer: IpAddr,
        now: Instant,
    ) -> std::result::Result<AdmittedRequest, Response> {
        let cors = self.cors_for(head);
        if let Some(cors) = &cors
            && *head.method() == Method::Options
        {
            // Without permission, the browser does not send the report that would follow.
            if let Some(origin) = head.header("origin").filter(|_| !cors.is_allowed()) {
                self.rejected_origins.record(origin);
            }
            return Err(cors.preflight());
        }
        match self.decide(head, framing, peer, now) {
            Ok(admitted) => Ok(AdmittedRequest { cors, ..admitted }),
            Err(why) => {
                let response = Response::from(why);
                Err(match &cors {
                    Some(cors) => cors.apply(response),
                    None => response,
                })
            }
        }
    }

    /// Returns the CORS headers for a request, or `None` if no route of its path allows other origins.
    fn cors_for(&self, head: &Head) -> Option<CorsHeaders> {
        if !self.has_cors_routes {
            return None;
        }
        let segments = head.segments()?;
        let has_cors = |spec: &RouteSpec| spec.cors == CorsPolicy::AllowedOrigins && spec.matches(&segments);
        self.specs.iter().any(has_cors).then(|| self.settings.public_keys.origins.headers_for(head.header("origin")))
    }

    fn decide(&mut self, head: &Head, framing: Framing, peer: IpAddr, now: Instant) -> Result<AdmittedRequest> {
        let segments = head.segments().ok_or_else(|| Error::Invalid("The path must be UTF-8".into()))?;
        let found = lookup(&self.specs, head.method(), &segments);
        let access = match &found {
            Lookup::Route(index, _) => Some(self.specs[*index].access),
            // A path whose routes all need no API key answers 405 to everybody.
            Lookup::OtherMethods(_)
                if self.specs.iter().all(|spec| spec.access.scope().is_none() || !spec.matches(&segments)) =>
            {
                Some(Access::Open)
            }
            Lookup::OtherMethods(_) | Lookup::NotFound => None,
        };
        let forwarded_for = forwarded_for(head);
        // Strangers can send this header too, but not from the network of the server.
        if forwarded_for.is_some() && is_private(peer) && !self.is_trusted(peer) {
            self.ignored_addresses.record(peer);
        }
        let client = rate_limit_key(self.settings.proxies.client(peer, forwarded_for.as_deref()));
        // Without a key, requests below /api do not learn which routes exist.
        let needs_key = segments.first().is_some_and(|first| first == "api") || found != Lookup::NotFound;
        let counts_for_address = match &found {
            Lookup::Route(index, _) => self.specs[*index].counts_for_address,
            Lookup::OtherMethods(_) | Lookup::NotFound => true,
        };
        let principal = self.authenticate(head, access, counts_for_address, client, needs_key, now)?;
        let (route, params) = match found {
            Lookup::Route(route, params) => (route, params),
            Lookup::OtherMethods(allow) => return Err(Error::MethodNotAllowed(allow)),
            Lookup::NotFound => return Err(Error::NotFound("No such endpoint".into())),
        };
        let spec = &self.specs[route];
        if let Some(scope) = spec.access.scope()
            && !principal.allows(scope)
        {
            let scope = format!("{scope:?}").to_lowercase();
            return Err(Error::Forbidden(format!("This key lacks the scope '{scope}'")));
        }
        let (bytes_max, spooled) = match spec.body_limit {
            BodyLimit::NoBody => (0, false),
            BodyLimit::MaxBodySize => (self.settings.body_bytes_max, false),
            BodyLimit::Spooled(bytes_max) => (bytes_max, true),
        };
        if matches!(framing, Framing::Length(declared) if declared > bytes_max as u64) {
            return Err(Error::TooLarge { limit_bytes: bytes_max });
        }
        Ok(AdmittedRequest {
            route,
            params,
            principal,
            client,
            bytes_max,
            spooled,
            head_only: *head.method() == Method::Head,
            idempotency: spec.idempotency,
            cors: None,
            reads_database: spec.method == Method::Get && !matches!(access, Some(Access::Open | Access::OptionalKey)),
        })
    }

    /// Returns the principal of a request and counts it for the rate limits. `access` is `None` if no route matches.
    fn authenticate(
        &mut self,
        head: &Head,
        access: Option<Access>,
        counts_for_address: bool,
        client: IpAddr,
        needs_key: bool,
        now: Instant,
    ) -> Result<Arc<Principal>> {
        let in_query = match access {
            Some(Access::Open) => return Ok(Arc::clone(&self.anonymous)),
            Some(Access::OptionalKey) => return Ok(self.authenticate_optional(head)),
            Some(Access::PublicKey) => return self.authenticate_public_key(head, client, now),
            Some(Access::KeyInQuery(_)) => true,
            Some(Access::Key(_)) | None => false,
        };
        if let Some((session, index)) = self.session(head) {
            return self.admit_session(head, session, (index, client), now);
        }
        let key = self.key_index(head, in_query);
        let scope = access.and_then(Access::scope).filter(|_| !counts_for_address);
        let is_uncounted = key.zip(scope).is_some_and(|(index, scope)| self.principals[index].allows(scope));
        // At the limit, a valid key is rejected like an invalid one. Otherwise a client could guess keys at any rate.
        let admitted = if is_uncounted {
            self.address_rate.check(ANY_KEY, client, now)
        } else {
            self.address_rate.admit(ANY_KEY, client, now)
        };
        if let Err(retry_after_s) = admitted {
            let project = key.and_then(|index| self.principals[index].project());
            return Err(self.rejections.record(project, retry_after_s));
        }
        if needs_key { self.authenticate_key(key, now) } else { Ok(Arc::clone(&self.anonymous)) }
    }

    /// Returns the principal of a valid key or session, or the anonymous one. An invalid key is not an error, because such
    /// routes work without. They are exempt from rate limits, so the handler must be cheap.
    fn authenticate_optional(&self, head: &Head) -> Arc<Principal> {
        let index = self.session(head).map(|(_, index)| index).or_else(|| self.key_index(head, false));
        Arc::clone(index.map_or(&self.anonymous, |index| &self.principals[index]))
    }

    fn admit_session(
        &mut self,
        head: &Head,
        session: Digest,
        holder: (usize, IpAddr),
        now: Instant,
    ) -> Result<Arc<Principal>> {
        let principal = Arc::clone(&self.principals[holder.0]);
        let admitted = self.session_rate.admit(session, now);
        let admitted = admitted.and_then(|()| self.session_address_rate.admit(holder, now));
        admitted.map_err(|retry_after_s| self.rejections.record(principal.project(), retry_after_s))?;
        if !matches!(head.method(), Method::Get | Method::Head) && !is_same_origin(head) {
            return Err(Error::Forbidden("Changes with a session must come from this service's own pages".into()));
        }
        Ok(principal)
    }

    /// Authenticates a public key and counts the request by key and address and by key.
    fn authenticate_public_key(&mut self, head: &Head, client: IpAddr, now: Instant) -> Result<Arc<Principal>> {
        let settings = &self.settings.public_keys;
        let (origin, host) = (head.header("origin"), head.header("host").unwrap_or_default());
        if let Some(origin) = origin.filter(|origin| !settings.origins.accepts(origin, host)) {
            self.rejected_origins.record(origin);
            return Err(Error::Forbidden(format!("Origin {origin} is not allowed; add it to CORS_ORIGINS")));
        }
        let in_query = || head.query().into_iter().find(|(name, _)| name == "key").map(|(_, key)| key);
        let presented = head.header("x-monlight-key").map(str::to_owned).or_else(in_query);
        let Some((id, principal)) = presented.and_then(|key| settings.keys.authenticate(&key)) else {
            let admitted = self.invalid_key_rate.admit(ANY_KEY, client, now);
            return Err(admitted.err().map_or(PUBLIC_KEY_REQUIRED, |wait_s| self.rejections.record(None, wait_s)));
        };
        let admitted =
            self.public_key_address_rate.admit(id, client, now).and_then(|()| self.public_key_rate.admit(id, now));
        admitted.map_err(|retry_after_s| self.rejections.record(principal.project(), retry_after_s))?;
        Ok(principal)
    }

    /// Returns the open session of a request, unless the request carries a key, which takes precedence.
    fn session(&self, head: &Head) -> Option<(Digest, usize)> {
        if carries_key(head) { None } else { self.settings.sessions.authenticate(head) }
    }

    /// Returns the holder of an API key, by its index, and counts the request for the key's rate.
    fn authenticate_key(&mut self, key: Option<usize>, now: Instant) -> Result<Arc<Principal>> {
        let index = key.ok_or(API_KEY_REQUIRED)?;
        let principal = Arc::clone(&self.principals[index]);
        let admitted = self.key_rate.admit(index, now);
        admitted.map_err(|retry_after_s| self.rejections.record(principal.project(), retry_after_s))?;
        Ok(principal)
    }

    /// Returns the index of the valid API key that a request carries, if any.
    fn key_index(&self, head: &Head, in_query: bool) -> Option<usize> {
        if let Some(key) = head.header("x-api-key").or_else(|| bearer_token(head)) {
            return self.settings.keys.authenticate(key);
        }
        let (_, key) = head.query().into_iter().find(|(name, _)| in_query && name == "api_key")?;
        self.settings.keys.authenticate(&key)
    }
}

/// Whether a request carries an API key in a header, valid or not.
pub(in crate::http) fn carries_key(head: &Head) -> bool {
    head.header("x-api-key").is_some() || bearer_token(head).is_some()
}

/// Joins all `X-Forwarded-For` headers, because a proxy may append a header of its own.
fn forwarded_for(head: &Head) -> Option<String> {
    let mut values = head.headers("x-forwarded-for").map(String::from_utf8_lossy);
    let first = values.next()?.into_owned();
    Some(values.fold(first, |all, value| all + "," + &value))
}

/// Returns the key in `Authorization: Bearer KEY`, the only scheme that Prometheus can send.
fn bearer_token(head: &Head) -> Option<&str> {
    let (scheme, key) = head.header("authorization")?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}
