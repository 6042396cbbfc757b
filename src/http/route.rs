//! What exists, as a table: method, path, who may, how large a body, and the function that answers.

use tiny_http::Method;

use super::keys::Scope;
use super::request::{Params, Request};
use super::responder::Responder;
use super::response::Response;
use crate::error::Result;

/// Who may use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anybody, without being counted by the rate limit.
    Open,
    /// Holders of a key with this scope.
    Key(Scope),
    /// The same, where a browser cannot set headers: the key may also stand in the URL, as `?api_key=`.
    KeyInQuery(Scope),
    /// Pages in browsers, of whatever origin may ask, that hold a project's public key.
    PublicKey,
}

impl Access {
    /// What is asked of the key, where one is asked for.
    pub(super) fn scope(self) -> Option<Scope> {
        match self {
            Self::Open | Self::PublicKey => None,
            Self::Key(scope) | Self::KeyInQuery(scope) => Some(scope),
        }
    }
}

/// Where a body is kept while it arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// Nowhere: there is none. Routes that only look are asked by strangers too, whose bytes are not to lie in memory.
    None,
    /// In memory, at most as many bytes as the service's own limit.
    Memory,
    /// In an unlinked file, at most this many bytes.
    Spooled(usize),
}

/// The part of a route that is known before a body is read.
#[derive(Debug, Clone)]
pub struct RouteSpec {
    /// The method; `GET` also answers `HEAD`.
    pub method: Method,
    /// The path, with names in braces for the segments that vary: `/api/errors/{id}`.
    pub path: &'static str,
    /// Who may.
    pub access: Access,
    /// How a body is taken in.
    pub body: Body,
}

/// A function that takes the request over and sees to its answer.
pub type Deferred<S> = Box<dyn Fn(&S, Request, Responder) + Send + Sync>;

/// How a route comes to its answer.
pub enum Handler<S> {
    /// At once, from one of the pool's threads.
    Now(fn(&S, &Request) -> Result<Response>),
    /// Later: the function passes the responder on, to whoever can answer.
    Later(Deferred<S>),
}

/// One line of a service's table.
pub struct Route<S> {
    /// What is checked before a body is read.
    pub rule: RouteSpec,
    /// What answers.
    pub handler: Handler<S>,
}

impl<S> Route<S> {
    /// A route that only looks.
    pub fn get(path: &'static str, access: Access, handler: fn(&S, &Request) -> Result<Response>) -> Self {
        Self { rule: RouteSpec { method: Method::Get, path, access, body: Body::None }, handler: Handler::Now(handler) }
    }

    /// A route whose answer comes later than the function returns.
    pub fn deferred(rule: RouteSpec, handler: Deferred<S>) -> Self {
        Self { rule, handler: Handler::Later(handler) }
    }
}

/// What the table says of a method and a path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The route at this index.
    Route(usize, Params),
    /// The path exists, with these methods.
    OtherMethods(String),
    /// No such path.
    Nothing,
}

/// Looks `segments` up in the table. A path that a rule has as it stands is no other rule's, whatever could stand there.
pub(super) fn find(rules: &[RouteSpec], method: &Method, segments: &[String]) -> Found {
    let wanted = if *method == Method::Head { &Method::Get } else { method };
    let mut fitting: Vec<(usize, &RouteSpec, Params)> = Vec::new();
    for (index, rule) in rules.iter().enumerate() {
        fitting.extend(fit(rule.path, segments).map(|params| (index, rule, params)));
    }
    if fitting.iter().any(|(_, _, params)| params.is_empty()) {
        fitting.retain(|(_, _, params)| params.is_empty());
    }
    let mut others = Vec::new();
    for (index, rule, params) in fitting {
        if rule.method == *wanted {
            return Found::Route(index, params);
        }
        others.push(rule.method.to_string());
        if rule.method == Method::Get {
            others.push("HEAD".into());
        }
    }
    if others.is_empty() { Found::Nothing } else { Found::OtherMethods(others.join(", ")) }
}

/// Whether a path is a rule's.
pub(super) fn fits(rule: &RouteSpec, segments: &[String]) -> bool {
    fit(rule.path, segments).is_some()
}

fn fit(path: &'static str, segments: &[String]) -> Option<Params> {
    let mut params = Params::new();
    let mut given = segments.iter();
    for expected in path.split('/').skip(1) {
        let segment = given.next()?;
        match expected.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            Some(name) if !segment.is_empty() => params.push((name, segment.clone())),
            Some(_) => return None,
            None if expected == segment => {}
            None => return None,
        }
    }
    given.next().is_none().then_some(params)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(method: Method, path: &'static str) -> RouteSpec {
        RouteSpec { method, path, access: Access::Open, body: Body::Memory }
    }

    #[test]
    fn paths_are_found_by_their_segments() {
        let rules = [
            rule(Method::Get, "/api/errors"),
            rule(Method::Post, "/api/errors"),
            rule(Method::Get, "/api/errors/{id}"),
            rule(Method::Post, "/api/errors/{id}/resolve"),
            rule(Method::Get, "/api/errors/all"),
            rule(Method::Delete, "/api/errors/{id}"),
            rule(Method::Get, "/"),
        ];
        let find = |method: Method, path: &str| {
            find(&rules, &method, &path.split('/').skip(1).map(str::to_owned).collect::<Vec<_>>())
        };
        assert_eq!(find(Method::Head, "/api/errors"), Found::Route(0, vec![]));
        assert_eq!(find(Method::Post, "/api/errors"), Found::Route(1, vec![]));
        assert_eq!(find(Method::Get, "/api/errors/7"), Found::Route(2, vec![("id", "7".into())]));
        assert_eq!(find(Method::Post, "/api/errors/ü/resolve"), Found::Route(3, vec![("id", "ü".into())]));
        assert_eq!(find(Method::Get, "/"), Found::Route(6, vec![]));
        assert_eq!(find(Method::Delete, "/api/errors"), Found::OtherMethods("GET, HEAD, POST".into()));
        assert_eq!(find(Method::Get, "/api/errors/all"), Found::Route(4, vec![]));
        assert_eq!(find(Method::Delete, "/api/errors/all"), Found::OtherMethods("GET, HEAD".into()));
        for path in ["/api", "/api/errors/", "/api/errors/7/", "/api/errors/7/resolve/x", "//api/errors", "/API/errors"]
        {
            assert_eq!(find(Method::Get, path), Found::Nothing, "{path}");
        }
    }
}
