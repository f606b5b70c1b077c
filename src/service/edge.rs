//! Types that the server shares with every face: request limits, readiness, and the connection's peer.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::Activity;
use crate::model::CertificateSan;

/// Limits on requests in flight.
#[derive(Debug, Clone, Copy)]
pub struct RequestLimits {
    /// Maximum number of requests in flight over all connections. One caller may have half of them. Further requests
    /// are refused, not queued. 0 means no limit.
    pub requests_max: usize,
    /// Longest duration of a request, even if its own deadline is later. Zero means no limit.
    pub request_timeout: Duration,
}

/// The kinds of requests that a server can answer now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Readiness {
    /// Introspections, from the store or from memory.
    pub introspection: bool,
    /// Management calls, which need a writable store.
    pub management: bool,
}

impl Readiness {
    /// Not ready yet, or stopping.
    pub const NONE: Self = Self { introspection: false, management: false };
}

impl RequestLimits {
    /// Returns limits to calculate with: an absent limit becomes one that is never reached.
    #[must_use]
    pub fn in_effect(self) -> Self {
        const A_YEAR: Duration = Duration::from_hours(365 * 24);
        let requests_max = if self.requests_max == 0 { usize::MAX } else { self.requests_max };
        let timeout = if self.request_timeout.is_zero() { A_YEAR } else { self.request_timeout };
        Self { requests_max, request_timeout: timeout.min(A_YEAR) }
    }
}

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
