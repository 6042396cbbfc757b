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

/// The prefix of the cookie's name on HTTPS. Browsers accept such a cookie only from the host itself, so that no other port,
/// path or subdomain can replace it.
const SECURE_PREFIX: &str = "__Host-";
/// Length of a token, in hexadecimal digits.
const TOKEN_DIGITS: usize = 64;

/// The open sessions. The service changes them; admission control reads them. Their number is bounded by the service.
#[derive(Debug, Default)]
pub struct Sessions {
    /// The cookie's name, unique per service, because cookies are shared by all ports of a host.
    cookie: &'static str,
    /// The digest of each key, by the index that [`Keys::authenticate`] returns.
    keys: Vec<Digest>,
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
        let Some(index) = self.keys.iter().position(|digest| *digest == key) else { return };
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
        principal.key_index().and_then(|index| self.keys.get(index)).copied()
    }

    /// Whether a session exists and has not expired.
    #[must_use]
    pub fn is_open(&self, token: Digest) -> bool {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        open.get(&token).is_some_and(|(_, until)| *until > Timestamp::now())
    }

    /// Returns a `Set-Cookie` value that expires in `max_age_s` seconds.
    #[must_use]
    pub fn cookie(&self, token: &str, max_age_s: u64, is_https: bool) -> String {
        let (prefix, secure) = if is_https { (SECURE_PREFIX, "; Secure") } else { ("", "") };
        format!("{prefix}{}={token}; Path=/; Max-Age={max_age_s}; HttpOnly; SameSite=Strict{secure}", self.cookie)
    }

    /// Returns the `Set-Cookie` values that delete the cookie, under each name that it can have.
    #[must_use]
    pub fn deleted_cookies(&self, is_https: bool) -> Vec<String> {
        let mut cookies = vec![self.cookie("", 0, false)];
        if is_https {
            cookies.push(self.cookie("", 0, true));
        }
        cookies
    }

    /// Returns the token digest of the open session that one of a request's cookies names, and the index of its key. Other
    /// cookies of the same name do not matter: every page of the host, on any port or path, can set them.
    pub(in crate::http) fn authenticate(&self, head: &Head) -> Option<(Digest, usize)> {
        let pairs = head.headers("cookie").flat_map(|cookies| cookies.split(|byte| *byte == b';'));
        let mut tokens = pairs.filter_map(|pair| {
            let (name, value) = std::str::from_utf8(pair).ok()?.trim().split_once('=')?;
            let is_named = !self.cookie.is_empty() && name.strip_prefix(SECURE_PREFIX).unwrap_or(name) == self.cookie;
            // Only values of the right length are worth a digest.
            (is_named && value.len() == TOKEN_DIGITS).then_some(value)
        });
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        tokens.find_map(|token| {
            let token = token_digest(token);
            let (index, _) = open.get(&token).filter(|(_, until)| *until > Timestamp::now())?;
            Some((token, *index))
        })
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
