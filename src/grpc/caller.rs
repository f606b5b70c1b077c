//! Who is calling: the service token in the metadata, or else the client certificate.

use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::service::{Peer, PresentedCaller, Reason, Result};
use crate::token::bearer;

/// What the request shows of its caller. The header is taken out of the request, so that nothing behind can print it.
///
/// Two `authorization` headers are refused, never the first believed: proxies differ on which is the first
/// (CATALOGUE C93). A header that is there has to be good: a certificate beside it does not help.
pub(super) fn presented(headers: &mut HeaderMap, peer: Option<&Peer>) -> Result<PresentedCaller> {
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

/// A well-formed service token behind `Bearer `; nothing before or behind.
fn service_token(value: &[u8]) -> std::result::Result<PresentedCaller, Reason> {
    let token = bearer(value).ok_or(Reason::CallerMissing)?;
    PresentedCaller::service_token(token).ok_or(Reason::CallerUnknown)
}
