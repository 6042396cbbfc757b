//! People in browsers: they show a key once and hold a cookie since, which no script can read and no other site sends.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use ring::digest::{SHA256, digest};

use super::keys::{Keys, Principal};
use super::message::Head;
use super::request::Request;
use crate::clock::Timestamp;

/// SHA-256.
pub type Digest = [u8; 32];

/// The sessions that are open. The service changes them; the gate only looks.
#[derive(Debug, Default)]
pub struct Sessions {
    /// The cookie's name. Cookies do not know ports, so each service needs one of its own.
    cookie: &'static str,
    /// Each key and who holds it, in the order that [`Keys::holder`] numbers them.
    keys: Vec<(Digest, Principal)>,
    /// By the digest of what a browser holds: the number of the key, and when it ends.
    insert: RwLock<HashMap<Digest, (usize, Timestamp)>>,
}

/// The digest of a token or a key.
#[must_use]
pub fn token_digest(text: &str) -> Digest {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    bytes
}

impl Sessions {
    /// None yet, for the holders of some keys.
    #[must_use]
    pub fn new(cookie: &'static str, keys: &Keys) -> Self {
        Self { cookie, keys: keys.digests(token_digest), insert: RwLock::default() }
    }

    /// Opens one, unless its key is none of today's.
    pub fn insert(&self, token: Digest, key: Digest, until: Timestamp) {
        let Some(holder) = self.keys.iter().position(|(digest, _)| *digest == key) else { return };
        let now = Timestamp::now();
        let mut open = self.insert.write().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, (_, until)| *until > now);
        open.insert(token, (holder, until));
    }

    /// Ends one, or all.
    pub fn remove(&self, token: Option<Digest>) {
        let mut open = self.insert.write().unwrap_or_else(PoisonError::into_inner);
        match token {
            Some(token) => drop(open.remove(&token)),
            None => open.clear(),
        }
    }

    /// The digest of the key somebody holds; `None` for who holds none of this service's own.
    #[must_use]
    pub fn key_digest(&self, principal: &Principal) -> Option<Digest> {
        self.keys.iter().find(|(_, holder)| holder == principal).map(|(digest, _)| *digest)
    }

    /// Whether a session has not ended.
    #[must_use]
    pub fn is_open(&self, token: Digest) -> bool {
        let open = self.insert.read().unwrap_or_else(PoisonError::into_inner);
        open.get(&token).is_some_and(|(_, until)| *until > Timestamp::now())
    }

    /// The session a request came with, as far as its cookie says.
    #[must_use]
    pub fn token_digest_of_request(&self, request: &Request) -> Option<Digest> {
        self.token(&request.head)
    }

    /// `Set-Cookie` for a token that is valid for so long; without one the browser forgets it.
    #[must_use]
    pub fn cookie(&self, request: &Request, token: &str, seconds: u64) -> String {
        // Whoever lies about it only loses the cookie.
        let secure = request.header("x-forwarded-proto") == Some(b"https");
        let secure = if secure { "; Secure" } else { "" };
        format!("{}={token}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}", self.cookie)
    }

    /// The open session a head belongs to, and the number of its key.
    pub(super) fn holder(&self, head: &Head) -> Option<(Digest, usize)> {
        let token = self.token(head)?;
        let open = self.insert.read().unwrap_or_else(PoisonError::into_inner);
        open.get(&token).filter(|(_, until)| *until > Timestamp::now()).map(|(holder, _)| (token, *holder))
    }

    fn token(&self, head: &Head) -> Option<Digest> {
        let mut pairs = head.all("cookie").flat_map(|cookies| cookies.split(|byte| *byte == b';'));
        let token = pairs.find_map(|pair| {
            let (name, value) = std::str::from_utf8(pair).ok()?.trim().split_once('=')?;
            (!self.cookie.is_empty() && name == self.cookie).then_some(value)
        })?;
        Some(token_digest(token))
    }
}

/// Whether a page of this service itself asks. Browsers say so; what is no browser has no cookie to be misused.
pub(super) fn is_same_origin(head: &Head) -> bool {
    if let Some(site) = head.field("sec-fetch-site") {
        return site == "same-origin";
    }
    let origin = head.field("origin").and_then(|origin| origin.split_once("://"));
    origin.is_some_and(|(_, origin)| head.field("host").is_some_and(|host| origin.eq_ignore_ascii_case(host)))
}
