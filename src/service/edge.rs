//! What every face is given: how much and how long, and who is at the other end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::model::CertificateSan;

/// How much, and how long.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Requests under way at once, over all connections; one more is refused, not queued.
    pub requests_max: usize,
    /// The longest that a request may take, whatever deadline it brings.
    pub request_timeout: Duration,
}

/// What the connection knows of its peer.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its network address.
    pub address: SocketAddr,
    /// The subject alternative names of its verified client certificate.
    pub sans: Arc<[CertificateSan]>,
}
