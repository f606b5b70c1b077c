//! The peer of a connection, which the server passes to every face.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use super::Activity;
use crate::model::CertificateSan;

/// The peer of a connection.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its network address.
    pub address: SocketAddr,
    /// The subject alternative names of its verified client certificate.
    pub sans: Arc<[CertificateSan]>,
    /// The connection's activity.
    pub activity: Arc<Activity>,
}

impl Peer {
    /// Network that counts as one peer for limits: an IPv4 address, or the /64 of an IPv6 host.
    pub fn network(&self) -> IpAddr {
        network(self.address.ip())
    }
}

/// Returns the network that one party controls: its IPv4 address, or its IPv6 /64.
pub(super) fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(address) => {
            let bits = address.to_bits() & (u128::MAX << 64);
            IpAddr::V6(Ipv6Addr::from_bits(bits))
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::Peer;

    #[test]
    fn an_ipv6_64_is_one_peer_and_a_mapped_ipv4_address_is_its_ipv4_address() {
        let network = |address: &str| {
            let address = address.parse().expect("an address");
            Peer { address, sans: Arc::default(), activity: Arc::default() }.network().to_string()
        };
        assert_eq!(network("[2001:db8:1:2:3:4:5:6]:1"), "2001:db8:1:2::");
        assert_eq!(network("[2001:db8:1:2:ffff::]:2"), "2001:db8:1:2::");
        assert_ne!(network("[2001:db8:1:3::]:1"), network("[2001:db8:1:2::]:1"));
        assert_eq!(network("[::ffff:203.0.113.7]:1"), "203.0.113.7");
        assert_eq!(network("203.0.113.7:9"), "203.0.113.7");
    }
}
