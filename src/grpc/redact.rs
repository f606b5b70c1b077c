//! `Debug` of the messages that carry a token: everything but the token. `build.rs` leaves it out of what it generates.

use std::fmt;

use super::envoy::config::core::v3::HeaderValue;
use super::envoy::service::auth::v3::attribute_context::HttpRequest;
use super::pb::{
    CreateCallerResponse, CreateKeyResponse, CreatePatResponse, IntrospectRequest, LeakedToken,
    RevokeRequest, RotateCallerResponse, RotateResponse, revoke_request,
};

const REDACTED: &str = "redacted";

impl fmt::Debug for IntrospectRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IntrospectRequest")
            .field("token", &REDACTED)
            .field("workspace", &self.workspace)
            .field("required_scopes", &self.required_scopes)
            .field("client_ip", &self.client_ip)
            .field("fresh", &self.fresh)
            .field("at_least_revision", &self.at_least_revision)
            .finish()
    }
}

impl fmt::Debug for RevokeRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RevokeRequest")
            .field("credential", &self.credential)
            .field("acting_user", &self.acting_user)
            .field("reason", &self.reason)
            .finish()
    }
}

impl fmt::Debug for revoke_request::Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CredentialId(id) => f.debug_tuple("CredentialId").field(id).finish(),
            Self::Token(_) => f.debug_tuple("Token").field(&REDACTED).finish(),
        }
    }
}

impl fmt::Debug for CreateKeyResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreateKeyResponse")
            .field("credential", &self.credential)
            .field("token", &REDACTED)
            .finish()
    }
}

impl fmt::Debug for CreatePatResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreatePatResponse")
            .field("credential", &self.credential)
            .field("token", &REDACTED)
            .finish()
    }
}

impl fmt::Debug for CreateCallerResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreateCallerResponse")
            .field("caller", &self.caller)
            .field("token", &REDACTED)
            .finish()
    }
}

impl fmt::Debug for RotateResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RotateResponse")
            .field("credential", &self.credential)
            .field("token", &REDACTED)
            .field("predecessor", &self.predecessor)
            .field("end_pending", &self.end_pending)
            .finish()
    }
}

impl fmt::Debug for RotateCallerResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RotateCallerResponse")
            .field("caller", &self.caller)
            .field("token", &REDACTED)
            .field("end_pending", &self.end_pending)
            .finish()
    }
}

impl fmt::Debug for LeakedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeakedToken")
            .field("token", &REDACTED)
            .field("url", &self.url)
            .field("reason", &self.reason)
            .finish()
    }
}

impl fmt::Debug for HttpRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpRequest").field("headers", &REDACTED).finish()
    }
}

impl fmt::Debug for HeaderValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeaderValue")
            .field("key", &self.key)
            .field("value", &REDACTED)
            .finish_non_exhaustive()
    }
}
