//! Web UI of a service: its files, and the session of a signed-in browser.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::assets::{Asset, asset_route};
use super::state::ServiceState;
use crate::clock::Timestamp;
use crate::db::{CreateSession, CreatedSession, DeleteSessions, Session};
use crate::env::{Env, Variable};
use crate::error::{Error, Result};
use crate::http::{
    Access, BodyLimit, Digest, Method, Request, Responder, Response, Route, RouteSpec, Scope, token_digest,
};
use crate::random;

/// Lifetime of a session.
const SESSION_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3_600);
const TOKEN_BITS: usize = 256;

/// The web UI of a service, with links to the other services.
#[derive(Debug, Clone)]
pub struct WebUi {
    service: &'static str,
    links: Vec<ServiceLink>,
}

/// The public URL of another service.
#[derive(Debug, Clone, Serialize)]
struct ServiceLink {
    name: String,
    url: String,
}

/// The response that describes the session of a signed-in browser.
#[derive(Serialize)]
struct SessionInfo<'a> {
    /// The name of the key.
    name: &'a str,
    /// Whether the key may change data.
    admin: bool,
    service: &'a str,
    version: &'a str,
    services: &'a [ServiceLink],
}

impl WebUi {
    /// Returns the variables of the web UI.
    #[must_use]
    pub fn variables() -> Vec<Variable> {
        vec![Variable::plain(
            "SERVICES",
            "",
            "Public URLs of the other services, for links in the UI: comma-separated name=url; a URL may be a path",
        )]
    }

    /// Reads the settings of the web UI. Invalid ones are recorded in `env`.
    #[must_use]
    pub fn from_env(env: &mut Env<'_>, service: &'static str) -> Self {
        let mut links = Vec::new();
        for item in env.list("SERVICES") {
            match item.split_once('=') {
                Some((name, url)) if !name.is_empty() && is_safe_link(url) => {
                    links.push(ServiceLink { name: name.to_owned(), url: url.to_owned() });
                }
                _ => env
                    .error("SERVICES", format_args!("'{item}' is not name=url with an absolute http(s) URL or a path")),
            }
        }
        Self { service, links }
    }

    /// Returns the routes of the UI's files and of its sessions.
    #[must_use]
    pub fn routes<S: ServiceState>(self, assets: &'static [Asset]) -> Vec<Route<S>> {
        let ui = Arc::new(self);
        let mut routes: Vec<Route<S>> = assets.iter().map(asset_route).collect();
        let read = Access::Key(Scope::Read);
        let spec = |method, path, access| RouteSpec::new(method, path, access).body_limit(BodyLimit::NoBody);
        let info_ui = Arc::clone(&ui);
        routes.push(Route::deferred(
            spec(Method::Get, "/api/session", read),
            Box::new(move |_, request, responder| responder.send(info_ui.session_info(&request))),
        ));
        routes.push(Route::deferred(
            spec(Method::Post, "/api/session", read),
            Box::new(move |state: &S, request, responder| create_session(&ui, state, request, responder)),
        ));
        let delete_own = |state: &S, request: Request, responder: Responder| match request
            .session_token_digest(&state.core().sessions)
        {
            Some(token) => delete_sessions(state, Some(token), request, responder),
            None => responder.send(Error::NotFound("No session to end".into()).into()),
        };
        routes.push(Route::deferred(spec(Method::Delete, "/api/session", read), Box::new(delete_own)));
        let delete_all = |state: &S, request, responder| delete_sessions(state, None, request, responder);
        let admin = Access::Key(Scope::Admin);
        routes.push(Route::deferred(spec(Method::Delete, "/api/sessions", admin), Box::new(delete_all)));
        routes
    }

    fn session_info(&self, request: &Request) -> Response {
        let principal = request.principal();
        let (name, admin) = (&*principal.name, principal.allows(Scope::Admin));
        let (service, version) = (self.service, env!("CARGO_PKG_VERSION"));
        Response::json(200, &SessionInfo { name, admin, service, version, services: &self.links })
    }
}

/// Whether a URL cannot contain a script or markup.
fn is_safe_link(url: &str) -> bool {
    let is_plain = url.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'<');
    is_plain
        && (url.starts_with("http://") || url.starts_with("https://") || url.starts_with('/') && !url.starts_with("//"))
}

/// `POST /api/session`: creates a session for the holder of a key and sets its cookie.
fn create_session<S: ServiceState>(ui: &Arc<WebUi>, state: &S, request: Request, responder: Responder) {
    let core = state.core();
    let command = || -> Result<(String, CreateSession)> {
        // Otherwise a stolen cookie could outlive its sign-out.
        if !request.carries_key() {
            return Err(Error::Forbidden("A session cannot create sessions; send the API key".into()));
        }
        let token = random::hex_token(TOKEN_BITS)?;
        let key = core.sessions.key_digest(request.principal());
        let key = key.ok_or_else(|| Error::Forbidden("Requires a valid API key".into()))?;
        let now = Timestamp::now();
        let session = Session { token: token_digest(&token), key, until: now + SESSION_LIFETIME };
        Ok((token, CreateSession { session, now }))
    };
    let (token, command) = match command() {
        Ok(created) => created,
        Err(why) => return responder.send(why.into()),
    };
    let (ui, sessions) = (Arc::clone(ui), Arc::clone(&core.sessions));
    core.writer.submit(command, move |outcome| match outcome {
        Err(why) => responder.send(why.into()),
        Ok(CreatedSession { session, displaced }) => {
            for token in displaced {
                sessions.remove(Some(token));
            }
            sessions.insert(session.token, session.key, session.until);
            let cookie = sessions.cookie(&token, SESSION_LIFETIME.as_secs(), request.is_https());
            responder.send(ui.session_info(&request).header("Set-Cookie", cookie));
        }
    });
}

/// `DELETE /api/session` and `/api/sessions`: ends this session, or all of them.
fn delete_sessions<S: ServiceState>(state: &S, token: Option<Digest>, request: Request, responder: Responder) {
    let sessions = Arc::clone(&state.core().sessions);
    state.core().writer.submit(DeleteSessions { token }, move |outcome| match outcome {
        Err(why) => responder.send(why.into()),
        Ok(_) => {
            sessions.remove(token);
            let response = Response::new(200, "application/json", br#"{"status":"ended"}"#.to_vec());
            let deleted = sessions.deleted_cookies(request.is_https()).into_iter();
            responder.send(deleted.fold(response, |response, cookie| response.header("Set-Cookie", cookie)));
        }
    });
}
