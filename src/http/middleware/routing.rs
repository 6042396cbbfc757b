//! Route specifications, the part of a service's route table that is checked before a body is read, and their lookup.

use tiny_http::Method;

use super::keys::Scope;

/// The authenticator of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// No key; exempt from rate limits.
    Open,
    /// No key, like [`Access::Open`]; a request with a valid API key or session is authenticated all the same, and the
    /// handler can tell it more.
    OptionalKey,
    /// An API key with this scope, or a session of the web UI.
    Key(Scope),
    /// Like [`Access::Key`], but the key may also be in the query (`?api_key=`), for clients that cannot set headers.
    KeyInQuery(Scope),
    /// A project's public key, for pages in browsers.
    PublicKey,
}

/// The cross-origin policy of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CorsPolicy {
    /// No CORS headers: only pages of this service can read responses.
    SameOrigin,
    /// Pages of the configured origins can read responses.
    AllowedOrigins,
}

/// The size limit of a route's request body, and the place where it is stored while it arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLimit {
    /// No body. Used by routes that only read, because clients without a key can call some of them and must not occupy
    /// memory.
    NoBody,
    /// `MAX_BODY_SIZE` bytes, in memory.
    MaxBodySize,
    /// This many bytes, in an anonymous file.
    Spooled(usize),
}

/// The source of a route's idempotency key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdempotencySource {
    /// None: a repeated request is executed again.
    None,
    /// The `Idempotency-Key` header, if the client sends one.
    Header,
}

/// Properties of a route that are checked before its body is read.
#[derive(Debug, Clone)]
pub struct RouteSpec {
    /// The method. `GET` also answers `HEAD`.
    pub method: Method,
    /// The path, with names in braces for variable segments: `/api/errors/{id}`.
    pub path: &'static str,
    /// The authenticator.
    pub access: Access,
    /// The cross-origin policy.
    pub cors: CorsPolicy,
    /// The size limit of the body.
    pub body_limit: BodyLimit,
    /// The source of the idempotency key.
    pub idempotency: IdempotencySource,
    /// Whether requests with a key that grants the scope count for the rate of their address. Other requests always do.
    pub counts_for_address: bool,
}

/// The values of a path's variable segments by name.
pub(in crate::http) type Params = Vec<(&'static str, String)>;

impl RouteSpec {
    /// Creates the specification of a route without CORS and without an idempotency key. Its body is limited to
    /// `MAX_BODY_SIZE` for `POST`; other methods take no body.
    #[must_use]
    pub fn new(method: Method, path: &'static str, access: Access) -> Self {
        let body_limit = if method == Method::Post { BodyLimit::MaxBodySize } else { BodyLimit::NoBody };
        Self {
            method,
            path,
            access,
            cors: CorsPolicy::SameOrigin,
            body_limit,
            idempotency: IdempotencySource::None,
            counts_for_address: true,
        }
    }

    /// Sets the cross-origin policy.
    #[must_use]
    pub fn cors(self, cors: CorsPolicy) -> Self {
        Self { cors, ..self }
    }

    /// Sets the size limit of the body.
    #[must_use]
    pub fn body_limit(self, body_limit: BodyLimit) -> Self {
        Self { body_limit, ..self }
    }

    /// Sets the source of the idempotency key.
    #[must_use]
    pub fn idempotency(self, idempotency: IdempotencySource) -> Self {
        Self { idempotency, ..self }
    }

    /// Lets holders of a key that grants the scope exceed the rate of their address, for programs that send many requests at
    /// once. The rate of the key still applies.
    #[must_use]
    pub fn uncounted_for_address(self) -> Self {
        Self { counts_for_address: false, ..self }
    }

    /// Whether a path belongs to this route.
    pub(in crate::http) fn matches(&self, segments: &[String]) -> bool {
        match_path(self.path, segments).is_some()
    }
}

impl Access {
    /// Returns the scope that the key must grant, if the route requires an API key.
    pub(in crate::http) fn scope(self) -> Option<Scope> {
        match self {
            Self::Open | Self::OptionalKey | Self::PublicKey => None,
            Self::Key(scope) | Self::KeyInQuery(scope) => Some(scope),
        }
    }
}

/// The result of looking up a method and a path.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::http) enum Lookup {
    /// The index of the route and the values of its variable segments.
    Route(usize, Params),
    /// The methods that the path allows, as an `Allow` header.
    OtherMethods(String),
    NotFound,
}

/// Looks up the route for a method and a path. A literal path takes precedence over one with variable segments.
pub(in crate::http) fn lookup(specs: &[RouteSpec], method: &Method, segments: &[String]) -> Lookup {
    let method = if *method == Method::Head { &Method::Get } else { method };
    let mut matches: Vec<(usize, &RouteSpec, Params)> = Vec::new();
    for (index, spec) in specs.iter().enumerate() {
        matches.extend(match_path(spec.path, segments).map(|params| (index, spec, params)));
    }
    if matches.iter().any(|(_, _, params)| params.is_empty()) {
        matches.retain(|(_, _, params)| params.is_empty());
    }
    let mut allowed = Vec::new();
    for (index, spec, params) in matches {
        if spec.method == *method {
            return Lookup::Route(index, params);
        }
        allowed.push(spec.method.to_string());
        if spec.method == Method::Get {
            allowed.push("HEAD".into());
        }
    }
    if allowed.is_empty() { Lookup::NotFound } else { Lookup::OtherMethods(allowed.join(", ")) }
}

fn match_path(path: &'static str, segments: &[String]) -> Option<Params> {
    let mut params = Params::new();
    let mut segments = segments.iter();
    for expected in path.split('/').skip(1) {
        let segment = segments.next()?;
        match expected.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            Some(name) if !segment.is_empty() => params.push((name, segment.clone())),
            Some(_) => return None,
            None if expected == segment => {}
            None => return None,
        }
    }
    segments.next().is_none().then_some(params)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(method: Method, path: &'static str) -> RouteSpec {
        RouteSpec::new(method, path, Access::Open)
    }

    #[test]
    fn routes_are_looked_up_by_path_segments() {
        let specs = [
            spec(Method::Get, "/api/errors"),
            spec(Method::Post, "/api/errors"),
            spec(Method::Get, "/api/errors/{id}"),
            spec(Method::Post, "/api/errors/{id}/resolve"),
            spec(Method::Get, "/api/errors/all"),
            spec(Method::Delete, "/api/errors/{id}"),
            spec(Method::Get, "/"),
        ];
        let find = |method: Method, path: &str| {
            lookup(&specs, &method, &path.split('/').skip(1).map(str::to_owned).collect::<Vec<_>>())
        };
        assert_eq!(find(Method::Head, "/api/errors"), Lookup::Route(0, vec![]));
        assert_eq!(find(Method::Post, "/api/errors"), Lookup::Route(1, vec![]));
        assert_eq!(find(Method::Get, "/api/errors/7"), Lookup::Route(2, vec![("id", "7".into())]));
        assert_eq!(find(Method::Post, "/api/errors/ü/resolve"), Lookup::Route(3, vec![("id", "ü".into())]));
        assert_eq!(find(Method::Get, "/"), Lookup::Route(6, vec![]));
        assert_eq!(find(Method::Delete, "/api/errors"), Lookup::OtherMethods("GET, HEAD, POST".into()));
        assert_eq!(find(Method::Get, "/api/errors/all"), Lookup::Route(4, vec![]));
        assert_eq!(find(Method::Delete, "/api/errors/all"), Lookup::OtherMethods("GET, HEAD".into()));
        for path in ["/api", "/api/errors/", "/api/errors/7/", "/api/errors/7/resolve/x", "//api/errors", "/API/errors"]
        {
            assert_eq!(find(Method::Get, path), Lookup::NotFound, "{path}");
        }
    }
}
