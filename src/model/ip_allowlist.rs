//! IP allowlists: addresses from which a credential may be presented.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};

use super::Invalid;
use super::limits::IP_ALLOWLIST_MAX;

/// A list of networks. If it is empty, every address is allowed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IpAllowlist(Box<[IpNet]>);

impl IpAllowlist {
    /// Parses CIDRs or single addresses. Clears host bits and removes duplicates.
    pub fn parse<'a>(entries: impl IntoIterator<Item = &'a str>) -> Result<Self, Invalid> {
        let mut networks: Vec<IpNet> = Vec::new();
        for entry in entries {
            let network = parse_network(entry).ok_or_else(|| {
                Invalid::new("must be CIDRs or addresses, such as 192.0.2.0/24 or 2001:db8::1")
            })?;
            if !networks.contains(&network) {
                networks.push(network);
            }
            if networks.len() > IP_ALLOWLIST_MAX {
                return Err(Invalid::new(format!("must have at most {IP_ALLOWLIST_MAX} entries")));
            }
        }
        Ok(Self(networks.into()))
    }

    /// Whether it is empty, and so restricts nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a client at this address, or at an unknown one, may present the credential. An IPv4-mapped IPv6 address,
    /// as a dual-stack socket reports it, counts as IPv4.
    pub fn allows(&self, client_ip: Option<IpAddr>) -> bool {
        let inside = |ip: IpAddr| self.0.iter().any(|network| network.contains(&ip.to_canonical()));
        self.is_empty() || client_ip.is_some_and(inside)
    }

    /// Iterates over the CIDRs.
    pub fn iter(&self) -> impl Iterator<Item = &IpNet> {
        self.0.iter()
    }
}

/// Formats the list as the store keeps it: CIDRs separated by commas.
impl fmt::Display for IpAllowlist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, network) in self.0.iter().enumerate() {
            write!(f, "{}{network}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

/// Parses a CIDR or a single address, and clears the host bits. An IPv4-mapped network becomes IPv4, as clients'
/// addresses do. The standard library parses the address, because `ipnet` accepts leading zeros, which other programs
/// read as octal.
fn parse_network(entry: &str) -> Option<IpNet> {
    let (address, length) = match entry.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (entry, None),
    };
    let address = address.parse::<IpAddr>().ok()?;
    let network = match length {
        Some(text) => {
            let length = text.parse::<u8>().ok().filter(|length| length.to_string() == text)?;
            IpNet::new(address, length).ok()?
        }
        None => IpNet::from(address),
    };
    let network = network.trunc();
    let mapped = match network {
        IpNet::V6(wide) => wide.network().to_ipv4_mapped().zip(wide.prefix_len().checked_sub(96)),
        IpNet::V4(_) => None,
    };
    match mapped {
        Some((address, length)) => Ipv4Net::new(address, length).ok().map(IpNet::V4),
        None => Some(network),
    }
}

/// Parses a client's address as a caller or a proxy names it, with or without a port: `203.0.113.7:51234`,
/// `[2001:db8::1]:443`. Drops a zone (RFC 4007), white space and quotes (RFC 7239). An IPv4-mapped IPv6 address becomes
/// IPv4.
pub fn parse_client_ip(text: &str) -> Result<IpAddr, Invalid> {
    text.parse::<IpAddr>()
        .ok()
        .or_else(|| decorated(text))
        .map(|ip| ip.to_canonical())
        .ok_or_else(|| Invalid::new("must be an IPv4 or IPv6 address, with or without a port"))
}

/// Parses an address with a port, a zone, brackets, quotes or white space. A port after an IPv6 address requires
/// brackets.
fn decorated(text: &str) -> Option<IpAddr> {
    let text = text.trim_ascii();
    let quoted = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    let text = quoted.map_or(text, str::trim_ascii);
    let without_zone = |text: &str| -> Option<IpAddr> {
        match text.split_once('%') {
            None => text.parse().ok(),
            Some((address, zone)) if !zone.is_empty() => {
                address.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
            }
            Some(_) => None,
        }
    };
    let is_port = |text: &str| text.parse::<u16>().is_ok_and(|_| !text.starts_with('+'));
    if let Some(rest) = text.strip_prefix('[') {
        let (address, behind) = rest.split_once(']')?;
        let port = behind.is_empty() || behind.strip_prefix(':').is_some_and(is_port);
        return without_zone(address).filter(|ip| port && ip.is_ipv6());
    }
    match text.split_once(':') {
        Some((address, port)) if is_port(port) => address.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        _ => without_zone(text),
    }
}
