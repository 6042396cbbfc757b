//! Name resolution with a short cache.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// Age up to which resolved addresses are reused.
const CACHE_AGE_MAX: Duration = Duration::from_secs(10);

/// Caches the addresses of the one host that a client connects to, which is its target or its proxy. ureq's resolver
/// starts a thread for each lookup.
#[derive(Debug, Default)]
pub(super) struct CachingResolver {
    /// URL of a proxy whose address is used instead of the target's.
    pub(super) proxy: Option<Uri>,
    resolver: DefaultResolver,
    cached: Mutex<Option<(Instant, Vec<SocketAddr>)>>,
}

impl CachingResolver {
    pub(super) fn new(proxy: Option<Uri>) -> Self {
        Self { proxy, ..Self::default() }
    }
}

impl Resolver for CachingResolver {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, addresses)) = cached.filter(|(resolved_at, _)| resolved_at.elapsed() < CACHE_AGE_MAX) {
            let mut resolved = self.empty();
            addresses.into_iter().for_each(|address| resolved.push(address));
            return Ok(resolved);
        }
        let resolved = self.resolver.resolve(self.proxy.as_ref().unwrap_or(uri), config, timeout)?;
        *self.cached.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), resolved.to_vec()));
        Ok(resolved)
    }
}
