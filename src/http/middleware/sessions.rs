//! Sessions of the web UI: a browser presents an API key once and then holds a cookie that scripts and other sites cannot
//! use.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use ring::digest::{SHA256, digest};

use super::keys::{Keys, Principal};
use crate::clock::Timestamp;
use crate::http::protocol::head::Head;

/// A SHA-256 digest.
pub type Digest = [u8; 32];

/// The open sessions. The service changes them; admission control reads them.
#[derive(Debug, Default)]
pub struct Sessions {
    /// The cookie's name, unique per service, because cookies are shared by all ports of a host.
    cookie: &'static str,
    /// The digest and the principal of each key, by the index that [`Keys::authenticate`] returns.
    keys: Vec<(Digest, Principal)>,
    /// The index of the key and the expiry of each session, by the digest of its token.
    open: RwLock<HashMap<Digest, (usize, Timestamp)>>,
}

/// Returns the digest of a token or a key.
#[must_use]
pub fn token_digest(text: &str) -> Digest {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    bytes
}

impl Sessions {
    /// Creates an empty table of sessions for the holders of `keys`.
    #[must_use]
    pub fn new(cookie: &'static str, keys: &Keys) -> Self {
        Self { cookie, keys: keys.digests(token_digest), open: RwLock::default() }
    }

    /// Adds a session that expires at `until`. Ignores it if its key no longer exists.
    pub fn insert(&self, token: Digest, key: Digest, until: Timestamp) {
        let Some(index) = self.keys.iter().position(|(digest, _)| *digest == key) else { return };
        let now = Timestamp::now();
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, (_, until)| *until > now);
        open.insert(token, (index, until));
    }

    /// Removes one session, or all of them if `token` is `None`.
    pub fn remove(&self, token: Option<Digest>) {
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        match token {
            Some(token) => drop(open.remove(&token)),
            None => open.clear(),
        }
    }

    /// Returns the digest of the principal's key, or `None` if it does not hold an API key of this service.
    #[must_use]
    pub fn key_digest(&self, principal: &Principal) -> Option<Digest> {
        self.keys.iter().find(|(_, holder)| holder == principal).map(|(digest, _)| *digest)
    }

    /// Whether a session exists and has not expired.
    #[must_use]
    pub fn is_open(&self, token: Digest) -> bool {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        open.get(&token).is_some_and(|(_, until)| *until > Timestamp::now())
    }

    /// Returns a `Set-Cookie` value that expires in `max_age_s` seconds; 0 deletes the cookie.
    #[must_use]
    pub fn cookie(&self, token: &str, max_age_s: u64, is_https: bool) -> String {
        let secure = if is_https { "; Secure" } else { "" };
        format!("{}={token}; Path=/; Max-Age={max_age_s}; HttpOnly; SameSite=Strict{secure}", self.cookie)
    }

    /// Returns the token digest of the open session that a request's cookie names, and the index of its key.
    pub(in crate::http) fn authenticate(&self, head: &Head) -> Option<(Digest, usize)> {
        let token = self.token_digest_of(head)?;
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        open.get(&token).filter(|(_, until)| *until > Timestamp::now()).map(|(index, _)| (token, *index))
    }

    /// Returns the token digest in a request's cookie, whether or not the session is open.
    pub(in crate::http) fn token_digest_of(&self, head: &Head) -> Option<Digest> {
        let mut pairs = head.headers("cookie").flat_map(|cookies| cookies.split(|byte| *byte == b';'));
        let token = pairs.find_map(|pair| {
            let (name, value) = std::str::from_utf8(pair).ok()?.trim().split_once('=')?;
            (!self.cookie.is_empty() && name == self.cookie).then_some(value)
        })?;
        Some(token_digest(token))
    }
}

/// Whether a request comes from a page of this service. Only browsers hold cookies, and every browser sends the headers.
pub(in crate::http) fn is_same_origin(head: &Head) -> bool {
    if let Some(site) = head.header("sec-fetch-site") {
        return site == "same-origin";
    }
    let origin = head.header("origin").and_then(|origin| origin.split_once("://"));
    origin.is_some_and(|(_, origin)| head.header("host").is_some_and(|host| origin.eq_ignore_ascii_case(host)))
}
