//! Authenticates the caller of an HTTP request: a service token by Basic or Bearer, or else the client certificate. For
//! forward-auth the token is in a separate header, since `Authorization` holds the credential of the proxy's client.

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderName};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tracing::Span;
use zeroize::Zeroizing;

use super::form;
use crate::service::{AuthenticatedCaller, Peer, PresentedCaller, Reason, Result, Service};
use crate::token::{after_scheme, bearer};

/// Header with the service token of a proxy: `Bearer sophic_svc_…`.
const CALLER_HEADER: HeaderName = HeaderName::from_static("x-sophic-auth-caller");

/// The credentials of the caller in a request.
pub(super) struct CallerCredentials {
    caller: PresentedCaller,
    /// Name of the caller, which Basic sends with the service token. `None` for Bearer and certificates.
    client_id: Option<Zeroizing<String>>,
}

/// Reads the caller's credentials from `Authorization`, or else from the client certificate.
pub(super) fn from_authorization(
    headers: &HeaderMap,
    peer: Option<&Peer>,
) -> Result<CallerCredentials> {
    read_credentials(headers, &AUTHORIZATION, peer, |value| {
        if let Some(token) = bearer(value) { from_bearer(token) } else { from_basic(value) }
    })
}

/// Reads the caller's credentials from [`CALLER_HEADER`], or else from the client certificate.
pub(super) fn from_caller_header(
    headers: &HeaderMap,
    peer: Option<&Peer>,
) -> Result<CallerCredentials> {
    read_credentials(headers, &CALLER_HEADER, peer, |value| {
        from_bearer(bearer(value).ok_or(Reason::CallerMissing)?)
    })
    .map_err(|error| error.with("header", CALLER_HEADER.as_str()))
}

/// Reads the header with `read`, or else the client certificate. Two headers are refused, because proxies differ on
/// which of the two counts. A header that is present must be valid, even if there is also a certificate.
fn read_credentials(
    headers: &HeaderMap,
    name: &HeaderName,
    peer: Option<&Peer>,
    read: impl FnOnce(&[u8]) -> Result<CallerCredentials>,
) -> Result<CallerCredentials> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => {
            let sans = peer.map(|peer| &peer.sans).filter(|sans| !sans.is_empty());
            let sans = sans.ok_or(Reason::CallerMissing)?;
            Ok(CallerCredentials {
                caller: PresentedCaller::Certificate(sans.clone()),
                client_id: None,
            })
        }
        (Some(value), None) => read(value.as_bytes()),
        (Some(_), Some(_)) => Err(Reason::CallerMissing.into()),
    }
}

fn from_bearer(token: &[u8]) -> Result<CallerCredentials> {
    let caller = PresentedCaller::service_token(token).ok_or(Reason::CallerUnknown)?;
    Ok(CallerCredentials { caller, client_id: None })
}

/// Reads `client_secret_basic`: name and service token, each encoded as in a form (RFC 6749 §2.3.1).
fn from_basic(value: &[u8]) -> Result<CallerCredentials> {
    let encoded = after_scheme(value, b"basic").ok_or(Reason::CallerMissing)?;
    let decoded = Zeroizing::new(STANDARD.decode(encoded).map_err(|_| Reason::CallerUnknown)?);
    let colon = decoded.iter().position(|byte| *byte == b':').ok_or(Reason::CallerUnknown)?;
    let part = |bytes| form::decode(bytes).map_err(|_| Reason::CallerUnknown);
    let client_id = part(&decoded[..colon])?;
    let secret = part(&decoded[colon + 1..])?;
    let caller = PresentedCaller::service_token(secret.as_bytes()).ok_or(Reason::CallerUnknown)?;
    Ok(CallerCredentials { caller, client_id: Some(client_id) })
}

/// Finds the caller by its credentials.
pub(super) async fn authenticate(
    service: &Service,
    credentials: CallerCredentials,
    peer: Option<&Peer>,
) -> Result<AuthenticatedCaller> {
    let authenticated = service.authenticate(credentials.caller, peer).await?;
    let name = authenticated.caller.name.as_str();
    if credentials.client_id.is_some_and(|client_id| client_id.as_str() != name) {
        return Err(Reason::CallerUnknown.into());
    }
    Span::current().record("caller", name);
    Ok(authenticated)
}
