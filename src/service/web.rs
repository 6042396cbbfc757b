//! Files that a service carries inside, its interface for people above all, and how somebody signs in with a key.

use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use flate2::read::GzDecoder;
use serde::Serialize;

use super::State;
use crate::clock::Timestamp;
use crate::db::{CreateSession, DeleteSessions, Session};
use crate::env::{Env, Variable};
use crate::error::{Error, Result};
use crate::http::{Access, BodyLimit, Method, Request, Responder, Response, Route, RouteSpec, Scope, token_digest};
use crate::random;

/// How long somebody stays signed in.
const SIGNED_IN_FOR: Duration = Duration::from_secs(30 * 24 * 3_600);
const TOKEN_BITS: usize = 256;
/// What goes with every file of an interface. It may be kept as long as it is asked each time whether it still is so; a
/// page loads only its own service's files, and no other site shows it in a frame.
pub(crate) const UI_HEADERS: &[(&str, &str)] = &[
    ("Cache-Control", "no-cache"),
    (
        "Content-Security-Policy",
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    ("Referrer-Policy", "same-origin"),
    ("X-Frame-Options", "DENY"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
];
/// What goes with a file that pages of every origin load: a new one is there a day later, and nobody waits for it.
pub(crate) const SDK_HEADERS: &[(&str, &str)] = &[
    ("Cache-Control", "public, max-age=86400, stale-while-revalidate=604800"),
    ("Access-Control-Allow-Origin", "*"),
    ("Cross-Origin-Resource-Policy", "cross-origin"),
];

/// What goes with what a service says of itself: it may be kept as files of interfaces may. Pages of other origins could
/// not use what it describes, so they need not read it.
pub(crate) const OPENAPI_HEADERS: &[(&str, &str)] = &[("Cache-Control", "no-cache")];

/// A file that a service carries inside, packed when it was built.
#[derive(Debug, Clone, Copy)]
pub struct Asset {
    /// Where it is asked for.
    pub path: &'static str,
    /// Its media type.
    pub content_type: &'static str,
    /// What goes with it.
    pub headers: &'static [(&'static str, &'static str)],
    /// Packed with gzip.
    pub gzip: &'static [u8],
    /// Packed with brotli.
    pub brotli: &'static [u8],
}

/// An interface and where the others are.
#[derive(Debug, Clone)]
pub struct Web {
    service: &'static str,
    links: Vec<Link>,
}

/// The files of a service's interface, as `static/build.mjs` leaves them.
macro_rules! interface {
    ($service:literal) => {
        &[
            $crate::service::web::packed!("/", "text/html; charset=utf-8", UI_HEADERS, $service, "index.html"),
            $crate::service::web::packed!("/app.js", "text/javascript; charset=utf-8", UI_HEADERS, $service, "app.js"),
            $crate::service::web::packed!(
                "/theme.js",
                "text/javascript; charset=utf-8",
                UI_HEADERS,
                $service,
                "theme.js"
            ),
            $crate::service::web::packed!("/app.css", "text/css; charset=utf-8", UI_HEADERS, $service, "app.css"),
            $crate::service::web::packed!("/icon.svg", "image/svg+xml", UI_HEADERS, $service, "icon.svg"),
        ]
    };
}

/// What a service says of itself in OpenAPI, as `static/openapi.mjs` puts it together.
macro_rules! description {
    ($service:literal) => {
        $crate::service::web::packed!("/openapi.json", "application/json", OPENAPI_HEADERS, $service, "openapi.json")
    };
}

/// One of them.
macro_rules! packed {
    ($path:literal, $content_type:literal, $headers:ident, $service:literal, $name:literal) => {
        $crate::service::Asset {
            path: $path,
            content_type: $content_type,
            headers: $crate::service::web::$headers,
            gzip: include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/static/dist/", $service, "/", $name, ".gz")),
            brotli: include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/static/dist/", $service, "/", $name, ".br")),
        }
    };
}

pub(crate) use {description, interface, packed};

/// Another service, as a browser reaches it.
#[derive(Debug, Clone, Serialize)]
struct Link {
    name: String,
    url: String,
}

/// Who is signed in, and to what.
#[derive(Serialize)]
struct SignedIn<'a> {
    /// The key's name.
    name: &'a str,
    /// Whether it may change anything.
    admin: bool,
    service: &'a str,
    version: &'a str,
    services: &'a [Link],
}

impl Web {
    /// The rows of its table.
    #[must_use]
    pub fn variables() -> Vec<Variable> {
        vec![Variable::plain(
            "SERVICES",
            "",
            "Where browsers find the other services, name=url,... with names such as error-tracker; a URL may begin with /",
        )]
    }

    /// Reads its settings; what is wrong is noted in `env`.
    #[must_use]
    pub fn read(env: &mut Env<'_>, service: &'static str) -> Self {
        let mut links = Vec::new();
        for item in env.list("SERVICES") {
            match item.split_once('=') {
                Some((name, url)) if !name.is_empty() && is_link(url) => {
                    links.push(Link { name: name.to_owned(), url: url.to_owned() });
                }
                _ => env.error(
                    "SERVICES",
                    format_args!("has '{item}', which is no name=url with a URL of http, https or a path"),
                ),
            }
        }
        Self { service, links }
    }

    /// What it answers: its files, of which the one at `/` is the page, and who is signed in.
    #[must_use]
    pub fn routes<S: State>(self, files: &'static [Asset]) -> Vec<Route<S>> {
        let web = Arc::new(self);
        let mut routes: Vec<Route<S>> = files.iter().map(file).collect();
        let read = Access::Key(Scope::Read);
        let spec = |method, path, access| RouteSpec::new(method, path, access).body_limit(BodyLimit::NoBody);
        let shown = Arc::clone(&web);
        routes.push(Route::deferred(
            spec(Method::Get, "/api/session", read),
            Box::new(move |_, request, responder| responder.send(shown.signed_in(&request))),
        ));
        routes.push(Route::deferred(
            spec(Method::Post, "/api/session", read),
            Box::new(move |state: &S, request, responder| begin(&web, state, request, responder)),
        ));
        let one = |state: &S, request: Request, responder: Responder| match request
            .session_token_digest(&state.core().sessions)
        {
            Some(token) => end(state, Some(token), request, responder),
            None => responder.send(Error::NotFound("There is no session to end".into()).into()),
        };
        routes.push(Route::deferred(spec(Method::Delete, "/api/session", read), Box::new(one)));
        let all = |state: &S, request, responder| end(state, None, request, responder);
        routes.push(Route::deferred(spec(Method::Delete, "/api/sessions", Access::Key(Scope::Admin)), Box::new(all)));
        routes
    }

    fn signed_in(&self, request: &Request) -> Response {
        let principal = request.principal();
        let (name, admin) = (&*principal.name, principal.allows(Scope::Admin));
        let (service, version) = (self.service, env!("CARGO_PKG_VERSION"));
        Response::json(200, &SignedIn { name, admin, service, version, services: &self.links })
    }
}

/// Nothing that a script could hide in.
fn is_link(url: &str) -> bool {
    let plain = url.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'<');
    plain
        && (url.starts_with("http://") || url.starts_with("https://") || url.starts_with('/') && !url.starts_with("//"))
}

/// `POST /api/session`: for who holds a key, a cookie to go on with.
fn begin<S: State>(web: &Arc<Web>, state: &S, request: Request, responder: Responder) {
    let core = state.core();
    let command = || -> Result<(String, CreateSession)> {
        let token = random::hex_token(TOKEN_BITS)?;
        let none = || Error::Forbidden("Only with a key of this service".into());
        let key = core.sessions.key_digest(request.principal()).ok_or_else(none)?;
        let now = Timestamp::now();
        let session = Session { token: token_digest(&token), key, until: now + SIGNED_IN_FOR };
        Ok((token, CreateSession { session, now }))
    };
    let (token, command) = match command() {
        Ok(begun) => begun,
        Err(why) => return responder.send(why.into()),
    };
    let (web, sessions) = (Arc::clone(web), Arc::clone(&core.sessions));
    core.writer.submit(command, move |outcome| match outcome {
        Err(why) => responder.send(why.into()),
        Ok(session) => {
            sessions.insert(session.token, session.key, session.until);
            let cookie = sessions.cookie(&token, SIGNED_IN_FOR.as_secs(), request.is_https());
            responder.send(web.signed_in(&request).header("Set-Cookie", cookie));
        }
    });
}

/// `DELETE /api/session` and `/api/sessions`: ends this one, or all.
fn end<S: State>(state: &S, token: Option<[u8; 32]>, request: Request, responder: Responder) {
    let sessions = Arc::clone(&state.core().sessions);
    state.core().writer.submit(DeleteSessions { token }, move |outcome| match outcome {
        Err(why) => responder.send(why.into()),
        Ok(_) => {
            sessions.remove(token);
            let ended = Response::new(200, "application/json", br#"{"status":"ended"}"#.to_vec());
            responder.send(ended.header("Set-Cookie", sessions.cookie("", 0, request.is_https())));
        }
    });
}

/// The route of a file, which is open to everybody.
pub fn file<S: State>(file: &'static Asset) -> Route<S> {
    let spec = RouteSpec::new(Method::Get, file.path, Access::Open);
    let tag = format!("{:x}", md5::compute(file.gzip));
    Route::deferred(spec, Box::new(move |_, request, responder| responder.send(answer(file, &tag, &request))))
}

fn answer(file: &Asset, tag: &str, request: &Request) -> Response {
    let (coding, body) = if request.accepts("br") {
        (Some("br"), file.brotli)
    } else if request.accepts("gzip") {
        (Some("gzip"), file.gzip)
    } else {
        (None, file.gzip)
    };
    let tag = format!("\"{tag}-{}\"", coding.unwrap_or("plain"));
    let known = request.header("if-none-match").is_some_and(|known| {
        String::from_utf8_lossy(known).split(',').any(|one| one.trim().trim_start_matches("W/") == tag)
    });
    let response = match (known, coding) {
        (true, _) => Response::new(304, file.content_type, Vec::new()),
        (false, Some(coding)) => {
            Response::new(200, file.content_type, body.to_vec()).static_header("Content-Encoding", coding)
        }
        (false, None) => {
            let mut plain = Vec::new();
            if let Err(why) = GzDecoder::new(body).read_to_end(&mut plain) {
                return Error::Internal(format!("{} was packed badly: {why}", file.path)).into();
            }
            Response::new(200, file.content_type, plain)
        }
    };
    let response = response.header("ETag", tag).static_header("Vary", "Accept-Encoding");
    file.headers.iter().fold(response, |response, (name, value)| response.static_header(name, value))
}
