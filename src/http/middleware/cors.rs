//! Cross-origin resource sharing (Fetch standard, "CORS protocol"): which origins may call, and the response headers.

use crate::http::response::Response;

/// Maximum number of configured origins.
const ORIGINS_MAX: usize = 32;
/// `Access-Control-Max-Age`, in seconds.
const PREFLIGHT_MAX_AGE_S: &str = "86400";

/// The configured origins (`CORS_ORIGINS`).
#[derive(Debug, Clone, Default)]
pub struct AllowedOrigins(Vec<OriginPattern>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum OriginPattern {
    Any,
    Exactly(String),
    /// `https://*.example.com`.
    Subdomain {
        /// `https://`.
        scheme: String,
        /// `.example.com`.
        suffix: String,
    },
}

/// The CORS headers of a response on a route that other origins may call.
#[derive(Debug, Clone)]
pub(in crate::http) struct CorsHeaders {
    /// The `Access-Control-Allow-Origin` value, if the request's `Origin` is allowed.
    allow_origin: Option<String>,
}

impl AllowedOrigins {
    /// Parses `https://example.com`, `https://*.example.com` and `*`.
    ///
    /// # Errors
    /// Returns one sentence for each invalid origin, and one if there are too many.
    pub fn new(origins: &[String]) -> Result<Self, Vec<String>> {
        let mut errors = Vec::new();
        if origins.len() > ORIGINS_MAX {
            errors.push(format!("must have at most {ORIGINS_MAX} origins"));
        }
        let mut patterns = Vec::new();
        for origin in origins {
            match OriginPattern::parse(origin) {
                Some(pattern) => patterns.push(pattern),
                None => errors.push(format!("'{origin}' is not an origin (example: https://example.com)")),
            }
        }
        if errors.is_empty() { Ok(Self(patterns)) } else { Err(errors) }
    }

    /// Whether pages of this origin may read responses.
    #[must_use]
    pub fn matches(&self, origin: &str) -> bool {
        let origin = origin.to_ascii_lowercase();
        self.0.iter().any(|pattern| match pattern {
            OriginPattern::Any => true,
            OriginPattern::Exactly(exactly) => *exactly == origin,
            OriginPattern::Subdomain { scheme, suffix } => {
                let name = origin.strip_prefix(scheme.as_str()).and_then(|rest| rest.strip_suffix(suffix.as_str()));
                name.is_some_and(|name| !name.is_empty() && name.bytes().all(is_host_char))
            }
        })
    }

    /// Whether pages of `origin` may send reports to `host`. Without configured origins every page may, because the public
    /// key decides; otherwise only pages of a configured origin and of `host` itself.
    #[must_use]
    pub fn accepts(&self, origin: &str, host: &str) -> bool {
        let is_own = origin.split_once("://").is_some_and(|(_, origin)| origin.eq_ignore_ascii_case(host));
        self.0.is_empty() || is_own || self.matches(origin)
    }

    /// Returns the CORS headers for a request with this `Origin` header.
    pub(in crate::http) fn headers_for(&self, origin: Option<&str>) -> CorsHeaders {
        CorsHeaders { allow_origin: origin.filter(|origin| self.matches(origin)).map(str::to_owned) }
    }
}

fn is_host_char(byte: u8) -> bool {
    // Browsers accept underscores, although host names in the strict sense have none.
    byte.is_ascii_alphanumeric() || b"-._".contains(&byte)
}

impl OriginPattern {
    fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::Any);
        }
        let text = text.trim_end_matches('/').to_ascii_lowercase();
        let (scheme, authority) = text.split_once("://")?;
        let is_authority =
            |name: &str| !name.is_empty() && name.bytes().all(|byte| is_host_char(byte) || b":[]".contains(&byte));
        if scheme.is_empty() || !scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte)) {
            return None;
        }
        match authority.strip_prefix("*.") {
            Some(name) if is_authority(name) => {
                Some(Self::Subdomain { scheme: format!("{scheme}://"), suffix: format!(".{name}") })
            }
            None if is_authority(authority) => Some(Self::Exactly(text)),
            _ => None,
        }
    }
}

impl CorsHeaders {
    /// Adds the headers to a response.
    pub(in crate::http) fn apply(&self, response: Response) -> Response {
        // Caches must not serve one origin's response to another.
        let response = response.header("Vary", "Origin".into());
        match &self.allow_origin {
            None => response,
            Some(origin) => response
                .header("Access-Control-Allow-Origin", origin.clone())
                .header("Access-Control-Allow-Credentials", "true".into())
                .header("Access-Control-Expose-Headers", "Retry-After".into()),
        }
    }

    /// Returns the response to a preflight request.
    pub(in crate::http) fn preflight(&self) -> Response {
        let mut response = Response::new(204, "text/plain", Vec::new());
        if self.allow_origin.is_some() {
            response = response
                .header("Access-Control-Allow-Methods", "POST, OPTIONS".into())
                .header("Access-Control-Allow-Headers", "Content-Type, X-Monlight-Key, Idempotency-Key".into())
                .header("Access-Control-Max-Age", PREFLIGHT_MAX_AGE_S.into());
        }
        self.apply(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origins(listed: &[&str]) -> AllowedOrigins {
        AllowedOrigins::new(&listed.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn origins_match_exactly_or_by_wildcard() {
        let listed = origins(&["https://shop.example", "https://*.example.com", "http://localhost:3000/"]);
        for (origin, expected) in [
            ("https://shop.example", true),
            ("HTTPS://Shop.Example", true),
            ("https://my_shop.example.com", true),
            ("http://shop.example", false),
            ("https://shop.example:8443", false),
            ("https://a.example.com", true),
            ("https://a.b.example.com", true),
            ("https://example.com", false),
            ("https://.example.com", false),
            ("https://evilexample.com", false),
            ("https://evil.com/.example.com", false),
            ("https://evil.com#.example.com", false),
            ("http://localhost:3000", true),
            ("null", false),
            ("", false),
        ] {
            assert_eq!(listed.matches(origin), expected, "{origin}");
        }
        assert!(origins(&["*"]).matches("null") && !origins(&[]).matches("https://shop.example"));
    }

    #[test]
    fn every_origin_is_accepted_without_a_list_and_the_own_host_with_one() {
        assert!(origins(&[]).accepts("https://anywhere.example", "relay.example"));
        let listed = origins(&["https://shop.example"]);
        assert!(listed.accepts("https://shop.example", "relay.example"));
        assert!(listed.accepts("https://relay.example:8443", "relay.example:8443"));
        assert!(!listed.accepts("https://other.example", "relay.example") && !listed.accepts("null", "relay.example"));
    }

    #[test]
    fn invalid_origins_are_rejected() {
        for text in
            ["shop.example", "https://", "https://a b", "https://*", "https://*.", "https://a.*.b", "https://a/b"]
        {
            assert!(AllowedOrigins::new(&[text.to_owned()]).is_err(), "{text}");
        }
        assert!(AllowedOrigins::new(&vec!["https://a.example".to_owned(); 33]).is_err());
    }
}
