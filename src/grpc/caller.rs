//! Reads the caller's identity: the service token in the metadata, or else the client certificate.

use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::service::{Peer, PresentedCaller, Reason, Result};
use crate::token::bearer;

/// Returns the caller's service token or certificate, and removes the header, so that no later code can log it.
///
/// A request with two `authorization` headers is refused, because proxies differ on which of the two counts. A header
/// that is present must be valid, even if there is also a certificate.
pub(super) fn presented_caller(
    headers: &mut HeaderMap,
    peer: Option<&Peer>,
) -> Result<PresentedCaller> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let presented = match (values.next(), values.next()) {
        (None, _) => {
            let sans = peer.map(|peer| &peer.sans).filter(|sans| !sans.is_empty());
            sans.map(|sans| PresentedCaller::Certificate(sans.clone())).ok_or(Reason::CallerMissing)
        }
        (Some(value), None) => service_token(value.as_bytes()),
        (Some(_), Some(_)) => Err(Reason::CallerMissing),
    };
    headers.remove(AUTHORIZATION);
    Ok(presented?)
}

/// Reads a header value that consists of `Bearer ` and a well-formed service token.
fn service_token(value: &[u8]) -> std::result::Result<PresentedCaller, Reason> {
    let token = bearer(value).ok_or(Reason::CallerMissing)?;
    PresentedCaller::service_token(token).ok_or(Reason::CallerUnknown)
}
