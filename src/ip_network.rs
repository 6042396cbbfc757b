//! Ranges of IP addresses in CIDR notation.

use std::net::IpAddr;

/// A network in CIDR notation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IpNetwork {
    address: IpAddr,
    prefix_bits: u8,
}

impl IpNetwork {
    /// Parses `10.0.0.0/8`, `fd00::/8` or a single address. Returns `None` for anything else. A network of IPv4-mapped
    /// addresses, such as `::ffff:10.0.0.0/104`, is the IPv4 network.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address.parse::<IpAddr>().ok()?, Some(bits.parse::<u8>().ok()?)),
            None => (text.parse::<IpAddr>().ok()?, None),
        };
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix_bits = bits.unwrap_or(longest);
        if let (IpAddr::V4(v4), true, 96..=128) = (address.to_canonical(), address.is_ipv6(), prefix_bits) {
            return Some(Self { address: v4.into(), prefix_bits: prefix_bits - 96 });
        }
        (prefix_bits <= longest).then_some(Self { address, prefix_bits })
    }

    /// Whether `address` is in this network.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let (difference, width) = match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => (u128::from(own.to_bits() ^ other.to_bits()), 32),
            (IpAddr::V6(own), IpAddr::V6(other)) => (own.to_bits() ^ other.to_bits(), 128),
            _ => return false,
        };
        let host_bits = width - u32::from(self.prefix_bits);
        host_bits == 128 || difference >> host_bits == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_contains_its_addresses() {
        for (network, address, inside) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("0.0.0.0/0", "200.1.1.1", true),
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "127.0.0.2", false),
            ("fd00::/8", "fd12::1", true),
            ("::/0", "2001:db8::1", true),
            ("::1", "::2", false),
            ("10.0.0.0/8", "::1", false),
            ("::ffff:127.0.0.1", "127.0.0.1", true),
            ("::ffff:127.0.0.1", "127.0.0.2", false),
            ("::ffff:10.0.0.0/104", "10.9.9.9", true),
            ("::ffff:10.0.0.0/104", "11.0.0.1", false),
            ("::ffff:0:0/95", "::fffe:0:1", true),
        ] {
            assert_eq!(
                IpNetwork::parse(network).unwrap().contains(address.parse().unwrap()),
                inside,
                "{network} {address}"
            );
        }
        for wrong in ["", "10.0.0.0/33", "fd00::/129", "host", "10.0.0.0/x", "1.2.3"] {
            assert_eq!(IpNetwork::parse(wrong), None, "{wrong}");
        }
    }
}
