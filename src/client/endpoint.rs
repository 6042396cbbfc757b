//! The URL that a client posts to, with its headers and secrets.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use percent_encoding::percent_decode_str;
use ureq::http::{HeaderName, HeaderValue, Uri};

/// Rule for URL settings, as an error message states it; an example follows.
pub const URL_RULE: &str = "must be an absolute http(s) URL, for example";

/// Shorter parts of a URL are words such as "in" and hide nothing.
const SECRET_PART_MIN_BYTES: usize = 4;
/// Parts of the names of query parameters whose values are secret.
const SECRET_PARAMETERS: [&str; 7] = ["token", "key", "auth", "pass", "secret", "sig", "credential"];

/// A validated URL with the headers of each request. Knows the secrets among both.
pub struct Endpoint {
    pub(super) url: Uri,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) secrets: Vec<String>,
}

impl Endpoint {
    /// Parses an absolute URL with the scheme `http` or `https`; returns `None` for anything else. The user information
    /// in the URL, its query and the values of query parameters such as `token` are secrets.
    #[must_use]
    pub fn parse(url: &str) -> Option<Self> {
        let url: Uri = url.trim().parse().ok()?;
        let is_http = matches!(url.scheme_str(), Some("http" | "https"));
        if !is_http || url.host().is_none_or(str::is_empty) {
            return None;
        }
        let mut secrets = Vec::new();
        if let Some((userinfo, _)) = url.authority()?.as_str().rsplit_once('@') {
            secrets.push(userinfo.to_owned());
            // The credentials are sent as a header, and the user name can be a token.
            secrets.push(BASE64_STANDARD.encode(userinfo));
            let parts = userinfo.split(':').filter(|part| part.len() >= SECRET_PART_MIN_BYTES);
            secrets.extend(parts.map(str::to_owned));
        }
        if let Some(query) = url.query() {
            let is_secret = |name: &str| {
                let name = name.to_ascii_lowercase();
                SECRET_PARAMETERS.iter().any(|part| name.contains(part))
            };
            let parameters = query.split('&').filter_map(|parameter| parameter.split_once('='));
            let is_redacted = |(name, value): &(&str, &str)| is_secret(name) && value.len() >= SECRET_PART_MIN_BYTES;
            secrets.extend(parameters.filter(is_redacted).map(|(_, value)| value.to_owned()));
            secrets.push(query.to_owned());
        }
        // Servers repeat a part of the URL as they received it, or decoded.
        let decoded = secrets.iter().filter_map(|secret| percent_decode_str(secret).decode_utf8().ok());
        let decoded: Vec<String> = decoded.map(Cow::into_owned).collect();
        secrets.extend(decoded);
        Some(Self { url, headers: Vec::new(), secrets })
    }

    /// Whether the URL contains a user name or a password.
    #[must_use]
    pub fn has_userinfo(&self) -> bool {
        self.url.authority().is_some_and(|authority| authority.as_str().contains('@'))
    }

    /// Returns the URL of the requests.
    #[must_use]
    pub fn url(&self) -> &Uri {
        &self.url
    }

    /// Replaces the URL; the secrets of the previous one stay known.
    #[must_use]
    pub fn with_url(mut self, url: Uri) -> Self {
        self.url = url;
        self
    }

    /// Marks the whole URL as secret, and every part of its path and query that has four bytes or more.
    #[must_use]
    pub fn with_secret_url(mut self) -> Self {
        let url = self.url.to_string();
        let path = url.splitn(4, '/').nth(3).unwrap_or_default();
        let parts = path.split(['/', '?', '&', '=']).chain([path, &url]);
        self.secrets.extend(parts.filter(|part| part.len() >= SECRET_PART_MIN_BYTES).map(str::to_owned));
        self
    }

    /// Adds a header whose value is secret. Returns `None` if the value contains control characters.
    #[must_use]
    pub fn with_secret_header(self, name: &'static str, value: &str) -> Option<Self> {
        let mut value: HeaderValue = value.parse().ok()?;
        value.set_sensitive(true);
        Some(self.with_headers([(HeaderName::from_static(name), value)]))
    }

    /// Adds headers whose values are secret.
    #[must_use]
    pub fn with_headers(mut self, headers: impl IntoIterator<Item = (HeaderName, HeaderValue)>) -> Self {
        for (name, value) in headers {
            let string = String::from_utf8_lossy(value.as_bytes()).into_owned();
            // Servers repeat a token with or without its scheme: `Bearer t0ken`.
            let without_scheme = string.split_once(' ').map(|(_, token)| token.to_owned());
            let parts = without_scheme.into_iter().chain([string.clone()]);
            self.secrets.extend(parts.filter(|part| part.len() >= SECRET_PART_MIN_BYTES));
            self.headers.push((name, value));
        }
        self
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Endpoint").field(&self.url.host().unwrap_or_default()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Redactor, parse_header_list};
    use super::*;

    #[test]
    fn only_absolute_web_urls_are_endpoints() {
        for url in ["http://localhost:8428/write", " https://[::1]/ ", "http://user:pass@host/", "HTTP://HOST"] {
            assert!(Endpoint::parse(url).is_some(), "{url}");
        }
        for url in
            ["", "localhost:8428", "/path", "ftp://host/", "http://", "http:///path", "http://a b/", "http://:80/"]
        {
            assert!(Endpoint::parse(url).is_none(), "{url}");
        }
    }

    #[test]
    fn secrets_of_urls_and_headers_are_known() {
        let headers = parse_header_list("Authorization: Bearer b3arer\nX-Scope-OrgID: 7").unwrap();
        let endpoint = Endpoint::parse("https://t0ken%2B7:x@store.example/in?key=a%20b%20c").unwrap();
        let redacted = Redactor::new(endpoint.secrets).redact("t0ken%2B7, t0ken+7, a b c, Basic dDBrZW4lMkI3Ong=");
        assert_eq!(redacted, "***, ***, ***, Basic ***");
        let endpoint = Endpoint::parse("https://me:p4ss@store.example/in?token=t0ken&_msg_field=message").unwrap();
        let endpoint = endpoint.with_headers(headers).with_secret_header("x-api-key", "k3y").unwrap();
        assert_eq!(format!("{endpoint:?}"), "Endpoint(\"store.example\")");
        let redacted = Redactor::new(endpoint.secrets).redact(
            "message for org 7: no Bearer b3arer, b3arer, t0ken, p4ss, me:p4ss, /in?token=t0ken&_msg_field=message",
        );
        assert_eq!(redacted, "message for org 7: no ***, ***, ***, ***, ***, /in?***");
        let hook = Endpoint::parse("https://chat.example/hooks/T0KEN/in?k=v").unwrap().with_secret_url();
        let redacted = Redactor::new(hook.secrets).redact("POST /hooks/T0KEN/in?k=v: T0KEN in hooks at chat.example");
        assert_eq!(redacted, "POST /***: *** in *** at chat.example");
        assert!(Endpoint::parse("http://h/").unwrap().with_secret_header("x-api-key", "a\nb").is_none());
    }
}
