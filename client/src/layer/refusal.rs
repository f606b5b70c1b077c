//! Responses to refused requests, as HTTP (RFC 6750 for the challenge, RFC 9457 for the body) and as gRPC.

use std::collections::HashMap;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde_json::json;
use sophic_auth_protocol::headers::{self, WORKSPACE_HEADER};
use sophic_auth_protocol::{Denial, ERROR_DOMAIN};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::Scopes;
use crate::error::Error;
use crate::introspection::Introspection;

/// The protocol of the service behind the layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Face {
    Http,
    Grpc,
}

/// Why a request is refused.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The service denied it.
    Denied(Introspection),
    /// The workspace header is ambiguous.
    BadWorkspaceHeader,
    /// The route requires no scope, so nobody is authorised for it: a mistake of the service behind the layer.
    NoScopeRequired,
    /// The service gave no answer.
    Unavailable {
        /// Delay before a retry, in seconds.
        retry_after: u64,
    },
}

/// Returns the `error_description` of a challenge. It has no escapes (RFC 6750 §3).
fn description(challenge: &str) -> Option<&str> {
    let (_, rest) = challenge.split_once(r#"error_description=""#)?;
    rest.split_once('"').map(|(description, _)| description)
}

/// Returns the denial. `None` for one that this version does not know.
fn denial(answer: &Introspection) -> Option<Denial> {
    Denial::from_proto(answer.denial()?.into())
}

impl Refusal {
    pub(super) fn denied(answer: Introspection) -> Self {
        Self::Denied(answer)
    }

    pub(super) fn bad_workspace_header() -> Self {
        Self::BadWorkspaceHeader
    }

    pub(super) fn no_scope_required() -> Self {
        Self::NoScopeRequired
    }

    pub(super) fn unavailable(error: &Error) -> Self {
        let asked = error.retry_after().unwrap_or_default();
        Self::Unavailable { retry_after: asked.as_millis().div_ceil(1_000).clamp(1, 60) as u64 }
    }

    pub(super) fn status(&self) -> u16 {
        match self {
            Self::Denied(answer) => answer.http_status(),
            Self::BadWorkspaceHeader => 400,
            Self::NoScopeRequired => 500,
            Self::Unavailable { .. } => 503,
        }
    }

    /// Returns the reason for programs.
    fn reason(&self) -> &'static str {
        match self {
            Self::Denied(answer) => denial(answer).map_or("DENIED", Denial::as_str),
            Self::BadWorkspaceHeader => "REQUEST_MALFORMED",
            Self::NoScopeRequired => "NO_SCOPE_REQUIRED",
            Self::Unavailable { .. } => "AUTHORIZATION_UNAVAILABLE",
        }
    }

    /// Returns the reason for people.
    fn detail(&self) -> &str {
        match self {
            Self::Denied(answer) => match denial(answer) {
                // Only the service knows whether the token or the role lacks the scope. It says so here.
                Some(Denial::InsufficientScope) => description(answer.www_authenticate())
                    .unwrap_or(Denial::InsufficientScope.explanation()),
                Some(denial) => denial.explanation(),
                None => "the token may not do this",
            },
            Self::BadWorkspaceHeader => headers::WORKSPACE_MALFORMED,
            Self::NoScopeRequired => {
                "this endpoint requires no scope, so no token is authorised for it"
            }
            Self::Unavailable { .. } => "the authorization service gave no answer: try again",
        }
    }

    /// Returns the `WWW-Authenticate` header, if there is one to send.
    fn challenge(&self) -> Option<HeaderValue> {
        match self {
            Self::Denied(answer) => {
                // The service writes it in ASCII. RFC 9110 §11.6.1 requires one with every 401.
                let value = HeaderValue::from_str(answer.www_authenticate()).ok();
                let bare = Denial::TokenMissing.challenge(None, Scopes::NONE);
                value.filter(|value| !value.is_empty()).or(Some(HeaderValue::from_static(bare)))
            }
            Self::BadWorkspaceHeader => {
                Some(HeaderValue::from_static(headers::WORKSPACE_MALFORMED_CHALLENGE))
            }
            Self::NoScopeRequired | Self::Unavailable { .. } => None,
        }
    }

    /// Returns the response. Its extensions have the denied [`Introspection`], for logging.
    pub(super) fn into_response(self, face: Face) -> Response<Full<Bytes>> {
        let mut response = match face {
            Face::Http => self.to_http(),
            Face::Grpc => self.to_grpc(),
        };
        if let Some(challenge) = self.challenge() {
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        if let Self::Unavailable { retry_after } = self {
            response.headers_mut().insert(RETRY_AFTER, retry_after.into());
        }
        if let Self::Denied(answer) = self {
            response.extensions_mut().insert(answer);
        }
        response
    }

    fn to_http(&self) -> Response<Full<Bytes>> {
        let status = StatusCode::from_u16(self.status()).unwrap_or(StatusCode::FORBIDDEN);
        let mut problem = json!({
            "type": "about:blank",
            "title": status.canonical_reason().unwrap_or_default(),
            "status": status.as_u16(),
            "detail": self.detail(),
        });
        // `denial` is about the client. `reason` is about the service.
        let member = match self {
            Self::Denied(_) | Self::BadWorkspaceHeader => "denial",
            Self::NoScopeRequired | Self::Unavailable { .. } => "reason",
        };
        problem[member] = self.reason().into();
        if let Self::Denied(answer) = self
            && !answer.missing_scopes().is_empty()
        {
            problem["missing_scopes"] = answer.missing_scopes().names().collect();
        }
        let mut response = Response::new(Full::from(problem.to_string()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }

    fn to_grpc(&self) -> Response<Full<Bytes>> {
        let code = match self.status() {
            400 => Code::InvalidArgument,
            401 => Code::Unauthenticated,
            500 => Code::Internal,
            503 => Code::Unavailable,
            _ => Code::PermissionDenied,
        };
        let mut details =
            ErrorDetails::with_error_info(self.reason(), ERROR_DOMAIN, HashMap::new());
        match self {
            Self::Denied(_) | Self::NoScopeRequired => {}
            Self::BadWorkspaceHeader => {
                details.add_bad_request_violation(WORKSPACE_HEADER, self.detail());
            }
            Self::Unavailable { retry_after } => {
                details.set_retry_info(Some(std::time::Duration::from_secs(*retry_after)));
            }
        }
        Status::with_error_details(code, self.detail(), details).into_http()
    }
}
