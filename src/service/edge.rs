//! What every face is given: how much and how long, and who is at the other end.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::Activity;
use crate::model::CertificateSan;

/// How much, and how long.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Requests under way at once, over all connections, of which one caller has half at the most; one more is refused, not
    /// queued. 0: any number.
    pub requests_max: usize,
    /// The longest that a request may take, whatever deadline it brings; zero: as long as it likes.
    pub request_timeout: Duration,
}

/// What a server can do at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Readiness {
    /// Answer introspections, be it from memory.
    pub introspection: bool,
    /// Manage, which needs a store that can be written to.
    pub management: bool,
}

impl Readiness {
    /// Nothing yet, or nothing any more.
    pub const NONE: Self = Self { introspection: false, management: false };
}

impl Limits {
    /// The same in numbers to reckon with: what is not limited has a limit that is never reached.
    #[must_use]
    pub fn in_effect(self) -> Self {
        const A_YEAR: Duration = Duration::from_hours(365 * 24);
        let requests_max = if self.requests_max == 0 { usize::MAX } else { self.requests_max };
        let timeout = if self.request_timeout.is_zero() { A_YEAR } else { self.request_timeout };
        Self { requests_max, request_timeout: timeout.min(A_YEAR) }
    }
}

/// What the connection knows of its peer.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its network address.
    pub address: SocketAddr,
    /// The subject alternative names of its verified client certificate.
    pub sans: Arc<[CertificateSan]>,
    /// What the connection is doing.
    pub activity: Arc<Activity>,
}

impl Peer {
    /// The network that is counted as one peer: an IPv4 address, or the /64 that one IPv6 host has to itself.
    pub fn network(&self) -> IpAddr {
        network(self.address.ip())
    }
}

/// What one party has at least: an IPv4 address, or an IPv6 /64.
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
    fn a_64_of_ipv6_is_one_peer_and_a_mapped_address_is_that_of_ipv4() {
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
