//! Settings of outbound connections: trusted roots and forward proxies.

use std::sync::Arc;

use super::endpoint::Endpoint;
use super::http_client::{ClientSettings, HttpClient};
use super::proxy::{PROXY_RULE, ProxyRules};
use super::roots::TrustedRoots;
use crate::env::{Env, Variable};

const CA_FILE: Variable =
    Variable::plain("CA_FILE", "", "PEM file of root certificates to trust for outbound TLS, in addition to Mozilla's");

/// The variables of [`ProxyPolicy::Environment`].
pub(super) const PROXY_VARIABLES: &[Variable] = &[
    Variable::secret(
        "HTTP_PROXY",
        "URL of the HTTP proxy for outbound http:// requests; loopback targets never use it",
    ),
    Variable::secret("HTTPS_PROXY", "URL of the HTTP proxy for outbound https:// requests"),
    Variable::secret("ALL_PROXY", "URL of the HTTP proxy for outbound requests without one of the above"),
    Variable::plain(
        "NO_PROXY",
        "",
        "Comma-separated list of targets that need no proxy: domains, IP addresses, CIDR ranges, or *",
    ),
];

/// Use of forward proxies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyPolicy {
    /// Connects directly, whatever the environment says.
    Direct,
    /// Uses the proxies of the environment, except for loopback targets and those in `NO_PROXY`.
    Environment,
}

/// The settings that all outbound connections of a service share.
#[derive(Debug, Default)]
pub struct OutboundSettings {
    roots: Arc<TrustedRoots>,
    proxies: ProxyRules,
}

impl OutboundSettings {
    /// Returns the variables that [`OutboundSettings::from_env`] reads, in the order of `--help`.
    #[must_use]
    pub fn variables(policy: ProxyPolicy) -> Vec<Variable> {
        let proxies = if policy == ProxyPolicy::Environment { PROXY_VARIABLES } else { &[] };
        [&[CA_FILE], proxies].concat()
    }

    /// Reads the settings and reports errors to `env`. `older_ca_file` is another variable that names a file of roots;
    /// both files are trusted.
    pub fn from_env(env: &mut Env<'_>, policy: ProxyPolicy, older_ca_file: Option<&'static str>) -> Self {
        let ca_files: Vec<&'static str> = older_ca_file.into_iter().chain([CA_FILE.name]).collect();
        let proxies = match policy {
            ProxyPolicy::Direct => ProxyRules::default(),
            ProxyPolicy::Environment => ProxyRules::from_env(env),
        };
        Self { roots: Arc::new(TrustedRoots::from_env(env, &ca_files)), proxies }
    }

    /// Returns the trusted roots, for protocols other than HTTP.
    #[must_use]
    pub fn roots(&self) -> &TrustedRoots {
        &self.roots
    }

    /// Creates a client for `endpoint`. Reports an unusable proxy to `env`; the client then connects directly, but the
    /// service does not start.
    pub fn client(&self, env: &mut Env<'_>, endpoint: Endpoint, settings: ClientSettings) -> HttpClient {
        let proxy = self.proxies.proxy_for(endpoint.url()).unwrap_or_else(|name| {
            env.error(name, PROXY_RULE);
            None
        });
        HttpClient::new(endpoint, settings, Arc::clone(&self.roots), proxy)
    }
}
