//! Client addresses: the peer's own, or the one that a trusted proxy forwards.

use std::net::{IpAddr, Ipv6Addr};

use crate::ip_network::IpNetwork;

/// The networks of the trusted proxies, whose `X-Forwarded-For` counts.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies(Vec<IpNetwork>);

impl TrustedProxies {
    /// Creates the list of trusted networks.
    #[must_use]
    pub fn new(networks: Vec<IpNetwork>) -> Self {
        Self(networks)
    }

    /// Whether `peer` is a trusted proxy.
    #[must_use]
    pub fn is_trusted(&self, peer: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(peer))
    }

    /// Returns the client behind `peer`: the last address of `X-Forwarded-For` that is not a trusted proxy itself. Returns
    /// `peer` if it is not trusted or if the header has no valid address.
    #[must_use]
    pub fn client(&self, peer: IpAddr, forwarded_for: Option<&str>) -> IpAddr {
        if !self.is_trusted(peer) {
            return peer;
        }
        let mut client = peer;
        for hop in forwarded_for.unwrap_or_default().rsplit(',') {
            let Some(address) = parse_forwarded_addr(hop.trim()) else { return client };
            client = address;
            if !self.is_trusted(address) {
                return client;
            }
        }
        client
    }
}

/// Parses an address as proxies write it: bare, in brackets, or with a port.
fn parse_forwarded_addr(hop: &str) -> Option<IpAddr> {
    let bare = hop.strip_prefix('[').and_then(|rest| rest.split_once(']')).map_or(hop, |(address, _)| address);
    let address = bare.parse::<IpAddr>().ok();
    address.or_else(|| bare.rsplit_once(':').and_then(|(address, _)| address.parse().ok())).map(canonical)
}

/// Converts IPv4-mapped IPv6 addresses to IPv4.
pub(in crate::http) fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// Whether an address belongs to the machine itself or to a private network, as that of a reverse proxy usually does.
pub(in crate::http) fn is_private(address: IpAddr) -> bool {
    match canonical(address) {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

/// Returns the address that limits count: an IPv4 address, or the /64 prefix of an IPv6 address, since one subscriber
/// holds a whole /64.
pub(in crate::http) fn rate_limit_key(address: IpAddr) -> IpAddr {
    match canonical(address) {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn forwarded_addresses_count_only_from_trusted_proxies() {
        let proxies =
            TrustedProxies::new(vec![IpNetwork::parse("10.0.0.0/8").unwrap(), IpNetwork::parse("::1").unwrap()]);
        for (peer, forwarded, client) in [
            ("192.0.2.1", Some("198.51.100.9"), "192.0.2.1"),
            ("10.0.0.1", Some("198.51.100.9"), "198.51.100.9"),
            ("10.0.0.1", Some("1.1.1.1, 198.51.100.9, 10.0.0.7"), "198.51.100.9"),
            ("10.0.0.1", Some("198.51.100.9:4711"), "198.51.100.9"),
            ("10.0.0.1", Some("[2001:db8::1]:4711"), "2001:db8::1"),
            ("10.0.0.1", Some("2001:db8::1"), "2001:db8::1"),
            ("10.0.0.1", Some("spoofed, nonsense"), "10.0.0.1"),
            ("10.0.0.1", Some("10.0.0.3,10.0.0.2"), "10.0.0.3"),
            ("10.0.0.1", None, "10.0.0.1"),
        ] {
            assert_eq!(proxies.client(ip(peer), forwarded), ip(client), "{peer} {forwarded:?}");
        }
    }

    #[test]
    fn addresses_of_the_machine_and_of_private_networks_are_private() {
        for (address, expected) in [
            ("127.0.0.1", true),
            ("172.18.0.5", true),
            ("::ffff:10.0.0.1", true),
            ("::1", true),
            ("fd00::1", true),
            ("fe80::1", true),
            ("198.51.100.9", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(is_private(ip(address)), expected, "{address}");
        }
    }

    #[test]
    fn ipv6_addresses_share_a_key_per_64() {
        assert_eq!(rate_limit_key(ip("2001:db8:1:2:3:4:5:6")), ip("2001:db8:1:2::"));
        assert_eq!(rate_limit_key(ip("::ffff:10.0.0.1")), ip("10.0.0.1"));
        assert_eq!(rate_limit_key(ip("10.0.0.1")), ip("10.0.0.1"));
    }
}
