//! Where a credential may be presented from.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::Invalid;
use super::limits::IP_ALLOWLIST_MAX;

/// CIDRs; none: anywhere.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IpAllowlist(Box<[IpNet]>);

impl IpAllowlist {
    /// From CIDRs or single addresses. Bits of the host part are cut off, and duplicates dropped.
    pub fn parse<'a>(entries: impl IntoIterator<Item = &'a str>) -> Result<Self, Invalid> {
        let mut networks: Vec<IpNet> = Vec::new();
        for entry in entries {
            let network = entry
                .parse::<IpNet>()
                .or_else(|_| entry.parse::<IpAddr>().map(IpNet::from))
                .map_err(|_| Invalid::new("must be CIDRs or addresses, as 192.0.2.0/24 or 2001:db8::1"))?
                .trunc();
            if !networks.contains(&network) {
                networks.push(network);
            }
            if networks.len() > IP_ALLOWLIST_MAX {
                return Err(Invalid::new(format!("must have at most {IP_ALLOWLIST_MAX} entries")));
            }
        }
        Ok(Self(networks.into()))
    }

    /// Whether it restricts nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a client at this address, or at no known address, may present the credential.
    pub fn allows(&self, client_ip: Option<IpAddr>) -> bool {
        self.is_empty()
            || client_ip.is_some_and(|ip| self.0.iter().any(|network| network.contains(&ip)))
    }

    /// The CIDRs.
    pub fn iter(&self) -> impl Iterator<Item = &IpNet> {
        self.0.iter()
    }
}

/// As the store keeps it: CIDRs with commas between.
impl fmt::Display for IpAllowlist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, network) in self.0.iter().enumerate() {
            write!(f, "{}{network}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

/// A client's address as a caller names it; an IPv4 address mapped into IPv6 is that IPv4 address.
pub fn parse_client_ip(text: &str) -> Result<IpAddr, Invalid> {
    text.parse::<IpAddr>()
        .map(|ip| ip.to_canonical())
        .map_err(|_| Invalid::new("must be an IPv4 or IPv6 address without a port"))
}
