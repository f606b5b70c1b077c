//! The address of a request's client.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use http::request::Parts;

/// Source of the address of a request's client.
#[derive(Clone)]
pub struct ClientIp(Arc<Find>);

type Find = dyn Fn(&Parts) -> Option<IpAddr> + Send + Sync;

impl ClientIp {
    /// Uses the peer of the connection: a `SocketAddr` in the request's extensions, with the feature `axum` its
    /// `ConnectInfo<SocketAddr>`, or with the feature `tonic-server` its `TcpConnectInfo`. Ignores all headers.
    pub fn connection() -> Self {
        Self::by(connection)
    }

    /// Uses `X-Forwarded-For` behind this many trusted proxies, each of which appends the address of its peer. The
    /// result is the address that the outermost one appended. The client may have sent the entries before it, so they
    /// are ignored. If the header is malformed or too short, the address is unknown.
    pub fn forwarded_for(trusted_proxies: usize) -> Self {
        Self::by(move |parts| match trusted_proxies {
            0 => connection(parts),
            proxies => forwarded(parts, proxies),
        })
    }

    /// Uses this function.
    pub fn by(find: impl Fn(&Parts) -> Option<IpAddr> + Send + Sync + 'static) -> Self {
        Self(Arc::new(find))
    }

    /// Returns the address. An IPv4-mapped IPv6 address becomes IPv4, as in allowlists.
    pub(super) fn resolve(&self, parts: &Parts) -> Option<IpAddr> {
        (self.0)(parts).map(|ip| ip.to_canonical())
    }
}

fn connection(parts: &Parts) -> Option<IpAddr> {
    let address = parts.extensions.get::<SocketAddr>().copied();
    #[cfg(feature = "axum")]
    let address = address.or_else(|| {
        let info = parts.extensions.get::<axum::extract::ConnectInfo<SocketAddr>>();
        info.map(|info| info.0)
    });
    #[cfg(feature = "tonic-server")]
    let address = address.or_else(|| {
        use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};
        let tcp = parts.extensions.get::<TcpConnectInfo>().cloned();
        let tls = || parts.extensions.get::<TlsConnectInfo<TcpConnectInfo>>();
        tcp.or_else(|| tls().map(|tls| tls.get_ref().clone()))?.remote_addr()
    });
    address.map(|address| address.ip())
}

fn forwarded(parts: &Parts, proxies: usize) -> Option<IpAddr> {
    let mut hops = Vec::new();
    for line in parts.headers.get_all("x-forwarded-for") {
        hops.extend(line.to_str().ok()?.split(','));
    }
    let hop = hops.get(hops.len().checked_sub(proxies)?)?.trim();
    let with_port = || hop.parse::<SocketAddr>().ok().map(|address| address.ip());
    // In brackets without a port, or with a zone.
    let bare = || {
        let inner = hop.strip_prefix('[').map_or(Some(hop), |rest| rest.strip_suffix(']'))?;
        inner.split('%').next()?.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
    };
    hop.parse().ok().or_else(with_port).or_else(bare)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(proxies: usize, lines: &[&str]) -> Option<String> {
        let mut request = http::Request::builder();
        for line in lines {
            request = request.header("x-forwarded-for", *line);
        }
        let (mut parts, ()) = request.body(()).expect("a request").into_parts();
        let peer: SocketAddr = "[::ffff:10.0.0.9]:1234".parse().expect("an address");
        parts.extensions.insert(peer);
        ClientIp::forwarded_for(proxies).resolve(&parts).map(|ip| ip.to_string())
    }

    #[test]
    fn only_addresses_that_trusted_proxies_added_are_used() {
        assert_eq!(found(0, &["1.1.1.1"]).as_deref(), Some("10.0.0.9"));
        assert_eq!(found(1, &["6.6.6.6, 1.1.1.1"]).as_deref(), Some("1.1.1.1"));
        assert_eq!(found(2, &["6.6.6.6, 1.1.1.1, 2.2.2.2"]).as_deref(), Some("1.1.1.1"));
        assert_eq!(found(2, &["6.6.6.6", "1.1.1.1", "2.2.2.2"]).as_deref(), Some("1.1.1.1"));
        assert_eq!(found(1, &["[2001:db8::1]:443"]).as_deref(), Some("2001:db8::1"));
        assert_eq!(found(1, &["[2001:db8::1]"]).as_deref(), Some("2001:db8::1"));
        assert_eq!(found(1, &["fe80::1%eth0"]).as_deref(), Some("fe80::1"));
    }

    #[test]
    fn a_malformed_or_short_header_gives_no_address() {
        assert_eq!(found(1, &[]), None);
        assert_eq!(found(2, &["1.1.1.1"]), None);
        assert_eq!(found(1, &["1.1.1.1, "]), None);
        assert_eq!(found(1, &["unknown"]), None);
    }
}
