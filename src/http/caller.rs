//! Who is calling over HTTP, and whether it may: a service token by Basic or Bearer, or the client certificate; for
//! forward-auth, where `Authorization` is that of the proxy's client, a header of its own.

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderName};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::time::Instant;
use tracing::Span;
use zeroize::Zeroizing;

use super::form;
use crate::service::{
    Context, Peer, PresentedCaller, Reason, Recorded, Requester, Result, Service,
};
use crate::token::{bearer, credentials};

/// What a proxy identifies itself by: `Bearer sophic_svc_…`.
const CALLER_HEADER: HeaderName = HeaderName::from_static("x-sophic-auth-caller");

/// What a request shows of its caller.
pub(super) struct Presented {
    caller: PresentedCaller,
    /// With Basic: the name that goes with the service token.
    client_id: Option<Zeroizing<String>>,
}

/// The caller in `Authorization`, or else the client certificate.
pub(super) fn in_authorization(headers: &HeaderMap, peer: Option<&Peer>) -> Result<Presented> {
    presented(headers, &AUTHORIZATION, peer, |value| {
        if let Some(token) = bearer(value) { by_bearer(token) } else { by_basic(value) }
    })
}

/// The caller in [`CALLER_HEADER`], or else the client certificate.
pub(super) fn in_header_of_its_own(headers: &HeaderMap, peer: Option<&Peer>) -> Result<Presented> {
    presented(headers, &CALLER_HEADER, peer, |value| {
        by_bearer(bearer(value).ok_or(Reason::CallerMissing)?)
    })
    .map_err(|error| error.with("header", CALLER_HEADER.as_str()))
}

/// Two headers are refused, never the first believed, and a header that is there has to be good (CATALOGUE C93).
fn presented(
    headers: &HeaderMap,
    name: &HeaderName,
    peer: Option<&Peer>,
    read: impl FnOnce(&[u8]) -> Result<Presented>,
) -> Result<Presented> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => {
            let sans = peer.map(|peer| &peer.sans).filter(|sans| !sans.is_empty());
            let sans = sans.ok_or(Reason::CallerMissing)?;
            Ok(Presented { caller: PresentedCaller::Certificate(sans.clone()), client_id: None })
        }
        (Some(value), None) => read(value.as_bytes()),
        (Some(_), Some(_)) => Err(Reason::CallerMissing.into()),
    }
}

fn by_bearer(token: &[u8]) -> Result<Presented> {
    let caller = PresentedCaller::service_token(token).ok_or(Reason::CallerUnknown)?;
    Ok(Presented { caller, client_id: None })
}

/// `client_secret_basic`: name and service token, each encoded as in a form (RFC 6749 §2.3.1).
fn by_basic(value: &[u8]) -> Result<Presented> {
    let encoded = credentials(value, b"basic").ok_or(Reason::CallerMissing)?;
    let decoded = Zeroizing::new(STANDARD.decode(encoded).map_err(|_| Reason::CallerUnknown)?);
    let colon = decoded.iter().position(|byte| *byte == b':').ok_or(Reason::CallerUnknown)?;
    let part = |bytes| form::decode(bytes).map_err(|_| Reason::CallerUnknown);
    let client_id = part(&decoded[..colon])?;
    let secret = part(&decoded[colon + 1..])?;
    let caller = PresentedCaller::service_token(secret.as_bytes()).ok_or(Reason::CallerUnknown)?;
    Ok(Presented { caller, client_id: Some(client_id) })
}

/// Finds the caller.
pub(super) async fn identify(
    service: &Service,
    presented: Presented,
    peer: Option<&Peer>,
    deadline: Instant,
) -> Result<Context> {
    let caller = service.authenticate(&presented.caller, peer).await?;
    if presented.client_id.is_some_and(|name| name.as_str() != caller.name.as_str()) {
        return Err(Reason::CallerUnknown.into());
    }
    Span::current().record("caller", caller.name.as_str());
    Ok(Context {
        requester: Requester::Caller(caller),
        remote_address: peer.map(|peer| peer.address.ip().to_string()),
        deadline: Some(deadline),
        recorded: Recorded::default(),
    })
}
