//! Cross-origin resource sharing (Fetch standard, "CORS protocol"): which origins may call, and the response headers.

use crate::http::response::Response;

/// Maximum number of configured origins.
const ORIGINS_MAX: usize = 32;
/// `Access-Control-Max-Age`, in seconds.
const PREFLIGHT_MAX_AGE_S: &str = "86400";
/// Names below which everybody can register or host pages. The full list (publicsuffix.org) has thousands; these are common.
const PUBLIC_SUFFIXES: [&str; 12] = [
    "azurewebsites.net",
    "cloudfront.net",
    "firebaseapp.com",
    "github.io",
    "gitlab.io",
    "herokuapp.com",
    "netlify.app",
    "onrender.com",
    "pages.dev",
    "vercel.app",
    "web.app",
    "workers.dev",
];
/// Second-level domains below which countries register names, for example `co.uk`.
const REGISTRY_LABELS: [&str; 8] = ["ac", "co", "com", "edu", "gov", "net", "or", "org"];

/// The configured origins (`CORS_ORIGINS`).
#[derive(Debug, Clone, Default)]
pub struct AllowedOrigins(Vec<OriginPattern>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum OriginPattern {
    Any,
    Exactly(String),
    /// `https://*.example.com`, `http://localhost:*` or both.
    Wildcard {
        /// `https://`.
        scheme: String,
        /// `.example.com` for its subdomains, otherwise the whole host, and the port if it is not a wildcard.
        host: String,
        has_any_port: bool,
    },
}

/// The CORS headers of a response on a route that other origins may call.
#[derive(Debug, Clone)]
pub(in crate::http) struct CorsHeaders {
    /// The `Access-Control-Allow-Origin` value, if the request's `Origin` is allowed.
    allow_origin: Option<String>,
}

impl AllowedOrigins {
    /// Parses `https://example.com`, `https://*.example.com`, `http://localhost:*`, `null` (files and sandboxed frames) and `*`.
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
        self.0.iter().any(|pattern| pattern.matches(&origin))
    }

    /// Returns the names whose subdomains are allowed although everybody can host pages below them.
    #[must_use]
    pub fn public_suffixes(&self) -> Vec<&str> {
        let mut suffixes = Vec::new();
        for pattern in &self.0 {
            if let OriginPattern::Wildcard { host, .. } = pattern
                && let Some(name) = host.strip_prefix('.').filter(|name| is_public_suffix(name))
            {
                suffixes.push(name);
            }
        }
        suffixes
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

/// Whether everybody can host pages below a name: a top-level domain, that of a registry, or that of a known host. A name
/// without a dot can also be internal, for example `localhost`.
fn is_public_suffix(name: &str) -> bool {
    let name = without_port(name);
    match name.split_once('.') {
        None => name.len() == 2 || ["com", "net", "org"].contains(&name),
        Some((label, country)) if country.len() == 2 && REGISTRY_LABELS.contains(&label) => true,
        Some(_) => PUBLIC_SUFFIXES.contains(&name),
    }
}

/// Returns a host without its port, if it has one.
fn without_port(authority: &str) -> &str {
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    authority.rsplit_once(':').filter(|(_, port)| is_port(port)).map_or(authority, |(host, _)| host)
}

/// Converts a host name to the form in which browsers send it. Returns `None` if that is impossible.
fn to_punycode(authority: &str) -> Option<String> {
    let encode = |label: &str| match label.is_ascii() {
        true => Some(label.to_owned()),
        false => idna::punycode::encode_str(label).map(|encoded| format!("xn--{encoded}")),
    };
    authority.split('.').map(encode).collect::<Option<Vec<_>>>().map(|labels| labels.join("."))
}

impl OriginPattern {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "*" => return Some(Self::Any),
            "null" => return Some(Self::Exactly(text.to_owned())),
            _ => {}
        }
        let text = text.trim_end_matches('/').to_lowercase();
        let (scheme, authority) = text.split_once("://")?;
        if scheme.is_empty() || !scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte)) {
            return None;
        }
        let (authority, has_any_port) = authority.strip_suffix(":*").map_or((authority, false), |host| (host, true));
        let (name, is_subdomain) = authority.strip_prefix("*.").map_or((authority, false), |name| (name, true));
        // Only the host can have such letters, and only without a port: a port would become a part of the last label.
        let (host, port) = name.split_at(without_port(name).len());
        let name = to_punycode(host)? + port;
        if name.is_empty() || !name.bytes().all(|byte| is_host_char(byte) || b":[]".contains(&byte)) {
            return None;
        }
        if !is_subdomain && !has_any_port {
            return Some(Self::Exactly(format!("{scheme}://{name}")));
        }
        let host = if is_subdomain { format!(".{name}") } else { name };
        Some(Self::Wildcard { scheme: format!("{scheme}://"), host, has_any_port })
    }

    /// Whether the pattern allows an origin in lower case.
    fn matches(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exactly(exactly) => exactly == origin,
            Self::Wildcard { scheme, host, has_any_port } => {
                let Some(authority) = origin.strip_prefix(scheme.as_str()) else { return false };
                let authority = if *has_any_port { without_port(authority) } else { authority };
                match authority.strip_suffix(host.as_str()) {
                    Some(subdomain) if host.starts_with('.') => {
                        !subdomain.is_empty() && subdomain.bytes().all(is_host_char)
                    }
                    Some(rest) => rest.is_empty(),
                    None => false,
                }
            }
        }
    }
}

impl CorsHeaders {
    /// Whether pages of the request's origin may read responses.
    pub(in crate::http) fn is_allowed(&self) -> bool {
        self.allow_origin.is_some()
    }

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
        if self.is_allowed() {
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
    fn ports_files_and_international_names_can_be_listed() {
        let listed = origins(&["null", "http://localhost:*", "https://*.dev.example:*", "https://Bücher.example:8443"]);
        for (origin, expected) in [
            ("null", true),
            ("http://localhost", true),
            ("http://localhost:5173", true),
            ("https://localhost:5173", false),
            ("http://localhost:", false),
            ("http://localhost:1@evil.example", false),
            ("http://localhost.evil.example:80", false),
            ("https://a.dev.example:1", true),
            ("https://a.dev.example", true),
            ("https://dev.example:1", false),
            ("https://a:1.dev.example", false),
            ("https://xn--bcher-kva.example:8443", true),
            ("https://xn--bcher-kva.example", false),
        ] {
            assert_eq!(listed.matches(origin), expected, "{origin}");
        }
    }

    #[test]
    fn names_below_which_everybody_can_host_pages_are_known() {
        let listed =
            ["https://*.co.uk", "https://*.github.io", "https://*.com", "https://*.example.com", "http://*.localhost"];
        assert_eq!(origins(&listed).public_suffixes(), ["co.uk", "github.io", "com"]);
        assert_eq!(origins(&["https://co.uk", "*"]).public_suffixes(), Vec::<&str>::new());
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
        for text in [
            "shop.example",
            "https://",
            "https://a b",
            "https://*",
            "https://*.",
            "https://a.*.b",
            "https://a/b",
            "http://:*",
        ] {
            assert!(AllowedOrigins::new(&[text.to_owned()]).is_err(), "{text}");
        }
        assert!(AllowedOrigins::new(&vec!["https://a.example".to_owned(); 33]).is_err());
    }
}
