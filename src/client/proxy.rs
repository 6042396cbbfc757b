//! Choice of a forward proxy from `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`.
//!
//! The rules follow curl and Go: the scheme of the target selects the variable, `NO_PROXY` lists exceptions, and
//! loopback targets never use a proxy. Host names are compared as they are written; nothing is resolved.

use std::net::IpAddr;

use ureq::http::Uri;
use ureq::{Proxy, ProxyProtocol};

use crate::env::{Env, Secret};
use crate::ip_network::IpNetwork;

/// Rule for the proxy variables, as an error message states it.
pub(super) const PROXY_RULE: &str = "must be the URL of an HTTP proxy, for example http://proxy.example.com:3128";

/// The proxy settings of the environment.
#[derive(Debug, Clone, Default)]
pub(super) struct ProxyRules {
    /// `HTTP_PROXY`, `HTTPS_PROXY` and `ALL_PROXY`. Kept as they are written, because an invalid value is an error only
    /// if a target needs it.
    http: Option<Secret>,
    https: Option<Secret>,
    all: Option<Secret>,
    exemptions: Vec<Exemption>,
}

/// One entry of `NO_PROXY`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Exemption {
    hosts: ExemptHosts,
    /// The only port that is exempt; `None` exempts all ports.
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum ExemptHosts {
    All,
    /// The host of this name and all of its subdomains.
    Domain(String),
    /// The addresses of a network.
    IpNetwork(IpNetwork),
}

impl ProxyRules {
    /// Reads the proxy variables, in upper or lower case.
    pub(super) fn from_env(env: &mut Env<'_>) -> Self {
        let mut read = |name| env.any_case(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let no_proxy = read("NO_PROXY").unwrap_or_default();
        let [http, https, all] = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"].map(|name| read(name).map(Secret::new));
        Self { http, https, all, exemptions: parse_no_proxy(&no_proxy) }
    }

    /// Returns the proxy for requests to `url`; `None` for a direct connection.
    ///
    /// # Errors
    /// Returns the name of the variable if its value is not the URL of an HTTP proxy.
    pub(super) fn proxy_for(&self, url: &Uri) -> Result<Option<Proxy>, &'static str> {
        let is_https = url.scheme_str() == Some("https");
        let by_scheme = if is_https { ("HTTPS_PROXY", &self.https) } else { ("HTTP_PROXY", &self.http) };
        let Some((name, value)) =
            [by_scheme, ("ALL_PROXY", &self.all)].into_iter().find_map(|(name, value)| Some((name, value.as_ref()?)))
        else {
            return Ok(None);
        };
        let host = bare_host(url);
        let port = url.port_u16().unwrap_or(if is_https { 443 } else { 80 });
        if is_loopback(&host) || self.exemptions.iter().any(|exemption| exemption.matches(&host, port)) {
            return Ok(None);
        }
        let proxy = Proxy::new(value.reveal()).ok().filter(|proxy| !proxy.host().is_empty());
        let is_http = |proxy: &Proxy| matches!(proxy.protocol(), ProxyProtocol::Http | ProxyProtocol::Https);
        proxy.filter(is_http).map(Some).ok_or(name)
    }
}

/// Returns the host of `url` in lower case, without the brackets of an IPv6 address and without a final dot.
fn bare_host(url: &Uri) -> String {
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']).to_ascii_lowercase();
    host.strip_suffix('.').map(str::to_owned).unwrap_or(host)
}

fn is_loopback(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

fn parse_no_proxy(list: &str) -> Vec<Exemption> {
    let entries = list.split(|c: char| c == ',' || c.is_whitespace()).filter(|entry| !entry.is_empty());
    entries.filter_map(Exemption::parse).collect()
}

impl Exemption {
    /// Parses `*`, `10.0.0.0/8`, `fd00::/8`, `10.1.2.3`, `example.com`, `.example.com`, `*.example.com`; the last four
    /// also with a port, as in `example.com:8080` or `[::1]:8080`. Returns `None` for an entry that names nothing.
    fn parse(entry: &str) -> Option<Self> {
        if entry == "*" {
            return Some(Self { hosts: ExemptHosts::All, port: None });
        }
        if let Some(network) = parse_network(entry) {
            return Some(Self { hosts: ExemptHosts::IpNetwork(network), port: None });
        }
        let (host, port) = match entry.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().ok()?)),
            None => (entry, None),
        };
        if let Some(network) = parse_network(host) {
            return Some(Self { hosts: ExemptHosts::IpNetwork(network), port });
        }
        if host.contains('/') {
            return None;
        }
        let domain = host.trim_start_matches('*').trim_matches('.').to_ascii_lowercase();
        (!domain.is_empty()).then_some(Self { hosts: ExemptHosts::Domain(domain), port })
    }

    fn matches(&self, host: &str, port: u16) -> bool {
        self.port.is_none_or(|exempt| exempt == port) && self.hosts.contains(host)
    }
}

/// Parses a network or an address; an IPv6 address may be in brackets.
fn parse_network(entry: &str) -> Option<IpNetwork> {
    let Some((address, suffix)) = entry.strip_prefix('[').and_then(|rest| rest.split_once(']')) else {
        return IpNetwork::parse(entry);
    };
    // After the bracket, a port may follow instead of a prefix length.
    if suffix.starts_with(':') { None } else { IpNetwork::parse(&format!("{address}{suffix}")) }
}

impl ExemptHosts {
    fn contains(&self, host: &str) -> bool {
        match self {
            Self::All => true,
            Self::Domain(domain) => {
                host.strip_suffix(domain.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            }
            Self::IpNetwork(network) => {
                host.parse::<IpAddr>().is_ok_and(|address| network.contains(address.to_canonical()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VARIABLES: &[crate::env::Variable] = super::super::settings::PROXY_VARIABLES;

    fn rules(pairs: &[(&str, &str)]) -> ProxyRules {
        let lookup = |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        ProxyRules::from_env(&mut Env::new(VARIABLES, lookup))
    }

    /// Returns host and port of the proxy for `url`, or `direct`.
    fn route(rules: &ProxyRules, url: &str) -> Result<String, &'static str> {
        let proxy = rules.proxy_for(&url.parse().unwrap())?;
        Ok(proxy.map_or("direct".to_owned(), |proxy| format!("{}:{}", proxy.host(), proxy.port())))
    }

    #[test]
    fn the_scheme_selects_the_variable() {
        let (http, https) = ("http://plain.example/", "https://secure.example/");
        for (pairs, for_http, for_https) in [
            (&[][..], "direct", "direct"),
            (&[("HTTP_PROXY", "http://p:1")], "p:1", "direct"),
            (&[("HTTPS_PROXY", "http://p:1")], "direct", "p:1"),
            (&[("ALL_PROXY", "p:1")], "p:1", "p:1"),
            (&[("ALL_PROXY", "http://all"), ("https_proxy", " http://user:pass@p:1/ ")], "all:80", "p:1"),
            (&[("http_proxy", "http://lower"), ("HTTP_PROXY", "http://upper")], "upper:80", "direct"),
            (&[("HTTP_PROXY", ""), ("NO_PROXY", "*")], "direct", "direct"),
            (&[("ALL_PROXY", "http://p:1"), ("no_proxy", "*")], "direct", "direct"),
        ] {
            let rules = rules(pairs);
            let routes = [http, https].map(|url| route(&rules, url).unwrap());
            assert_eq!(routes, [for_http, for_https], "{pairs:?}");
        }
    }

    #[test]
    fn loopback_targets_never_use_a_proxy() {
        let rules = rules(&[("ALL_PROXY", "http://p:1")]);
        for host in
            ["localhost", "LOCALHOST:5010", "localhost.", "web.localhost", "127.0.0.1", "127.8.9.10:80", "[::1]"]
        {
            assert_eq!(route(&rules, &format!("http://{host}/")).unwrap(), "direct", "{host}");
        }
        for host in ["localhost.example.com", "128.0.0.1", "[::2]", "mylocalhost", "[::ffff:10.0.0.1]"] {
            assert_eq!(route(&rules, &format!("http://{host}/")).unwrap(), "p:1", "{host}");
        }
    }

    #[test]
    fn no_proxy_lists_domains_addresses_and_networks() {
        let list = "internal.example, .dotted.example *.starred.example,10.0.0.0/8,192.168.1.7,fd00::/8,[2001:db8::1],\
                    [2001:db8::7]:8080,store.example:8428,nonsense/99,,10.9.9.9/64";
        let rules = rules(&[("ALL_PROXY", "http://p:1"), ("NO_PROXY", list)]);
        for host in [
            "internal.example",
            "INTERNAL.example.",
            "a.b.internal.example:8080",
            "dotted.example",
            "a.dotted.example",
            "a.starred.example",
            "10.255.0.1",
            "192.168.1.7:99",
            "[fd00::1]",
            "[2001:db8::1]",
            "[2001:db8::7]:8080",
            "store.example:8428",
        ] {
            assert_eq!(route(&rules, &format!("http://{host}/")).unwrap(), "direct", "{host}");
        }
        for host in [
            "notinternal.example",
            "internal.example.org",
            "11.0.0.1",
            "192.168.1.8",
            "[fe00::1]",
            "[2001:db8::2]",
            "[2001:db8::7]",
            "[2001:db8::7:8080]",
            "store.example",
            "store.example:8429",
            "10.example.com",
        ] {
            assert_eq!(route(&rules, &format!("http://{host}/")).unwrap(), "p:1", "{host}");
        }
    }

    #[test]
    fn an_invalid_proxy_is_an_error_only_for_targets_that_need_it() {
        let rules = rules(&[("ALL_PROXY", "socks5://p:1"), ("HTTPS_PROXY", "http://"), ("NO_PROXY", "exempt.example")]);
        assert_eq!(route(&rules, "http://shop.example/"), Err("ALL_PROXY"));
        assert_eq!(route(&rules, "https://shop.example/"), Err("HTTPS_PROXY"));
        assert_eq!(route(&rules, "https://exempt.example/").unwrap(), "direct");
        assert_eq!(route(&rules, "http://127.0.0.1/").unwrap(), "direct");
    }
}
