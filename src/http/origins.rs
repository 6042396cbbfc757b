//! Which pages of other origins may ask, and what their browsers are told (Fetch standard, "CORS protocol").

use super::response::Response;

/// Origins that may be listed.
const ORIGINS_MAX: usize = 32;
/// How long a browser may remember a preflight, in seconds.
const PREFLIGHT_S: &str = "86400";

/// The origins whose pages may ask.
#[derive(Debug, Clone, Default)]
pub struct AllowedOrigins(Vec<Listed>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Listed {
    Any,
    Exactly(String),
    /// `https://*.example.com`: what is before the star, and what behind it, dot included.
    Below(String, String),
}

impl AllowedOrigins {
    /// Reads `https://example.com`, `https://*.example.com` and `*`.
    ///
    /// # Errors
    /// One sentence for each that cannot be read.
    pub fn new(listed: &[String]) -> Result<Self, Vec<String>> {
        let mut faults = Vec::new();
        if listed.len() > ORIGINS_MAX {
            faults.push(format!("may have {ORIGINS_MAX} origins"));
        }
        let mut origins = Vec::new();
        for text in listed {
            match Listed::parse(text) {
                Some(origin) => origins.push(origin),
                None => faults.push(format!("has '{text}', which is no origin such as https://example.com")),
            }
        }
        if faults.is_empty() { Ok(Self(origins)) } else { Err(faults) }
    }

    /// Whether a page of this origin may read answers.
    #[must_use]
    pub fn matches(&self, origin: &str) -> bool {
        let origin = origin.to_ascii_lowercase();
        self.0.iter().any(|listed| match listed {
            Listed::Any => true,
            Listed::Exactly(exactly) => *exactly == origin,
            Listed::Below(before, behind) => {
                let name = origin.strip_prefix(before.as_str()).and_then(|rest| rest.strip_suffix(behind.as_str()));
                name.is_some_and(|name| !name.is_empty() && name.bytes().all(is_of_a_name))
            }
        })
    }

    /// Whether a page may report at all: everybody where none is listed, since the public key is what counts then; else
    /// the listed ones and the pages of this host itself.
    #[must_use]
    pub fn accepts(&self, origin: &str, host: &str) -> bool {
        let own = origin.split_once("://").is_some_and(|(_, origin)| origin.eq_ignore_ascii_case(host));
        self.0.is_empty() || own || self.matches(origin)
    }
}

fn is_of_a_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.'
}

impl Listed {
    fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::Any);
        }
        let text = text.trim_end_matches('/').to_ascii_lowercase();
        let (scheme, authority) = text.split_once("://")?;
        let plain =
            |name: &str| !name.is_empty() && name.bytes().all(|byte| is_of_a_name(byte) || b":[]".contains(&byte));
        if scheme.is_empty() || !scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte)) {
            return None;
        }
        match authority.strip_prefix("*.") {
            Some(name) if plain(name) => Some(Self::Below(format!("{scheme}://"), format!(".{name}"))),
            None if plain(authority) => Some(Self::Exactly(text)),
            _ => None,
        }
    }
}

/// What is added to every answer for a page of a listed origin, so that its scripts may read it.
pub(super) fn share(response: Response, origin: Option<&str>) -> Response {
    // Caches must not give one origin's answer to another.
    let response = response.header("Vary", "Origin".into());
    match origin {
        None => response,
        Some(origin) => response
            .header("Access-Control-Allow-Origin", origin.to_owned())
            .header("Access-Control-Allow-Credentials", "true".into())
            .header("Access-Control-Expose-Headers", "Retry-After".into()),
    }
}

/// The answer to a browser that asks whether it may ask.
pub(super) fn preflight(origin: Option<&str>) -> Response {
    let response = Response::new(204, "text/plain", Vec::new());
    let response = match origin {
        None => response,
        Some(_) => response
            .header("Access-Control-Allow-Methods", "POST, OPTIONS".into())
            .header("Access-Control-Allow-Headers", "Content-Type, X-Monlight-Key, Idempotency-Key".into())
            .header("Access-Control-Max-Age", PREFLIGHT_S.into()),
    };
    share(response, origin)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origins(listed: &[&str]) -> AllowedOrigins {
        AllowedOrigins::new(&listed.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn origins_are_listed_exactly_or_by_a_star() {
        let listed = origins(&["https://shop.example", "https://*.example.com", "http://localhost:3000/"]);
        for (origin, expected) in [
            ("https://shop.example", true),
            ("HTTPS://Shop.Example", true),
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
    fn without_a_list_the_key_decides_and_with_one_the_own_host_is_at_home() {
        assert!(origins(&[]).accepts("https://anywhere.example", "relay.example"));
        let listed = origins(&["https://shop.example"]);
        assert!(listed.accepts("https://shop.example", "relay.example"));
        assert!(listed.accepts("https://relay.example:8443", "relay.example:8443"));
        assert!(!listed.accepts("https://other.example", "relay.example") && !listed.accepts("null", "relay.example"));
    }

    #[test]
    fn what_is_no_origin_is_named() {
        for text in
            ["shop.example", "https://", "https://a b", "https://*", "https://*.", "https://a.*.b", "https://a/b"]
        {
            assert!(AllowedOrigins::new(&[text.to_owned()]).is_err(), "{text}");
        }
        assert!(AllowedOrigins::new(&vec!["https://a.example".to_owned(); 33]).is_err());
    }
}
