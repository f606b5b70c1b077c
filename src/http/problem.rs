//! Turns an error into an HTTP response with a problem body (RFC 9457). The counterpart of `grpc/status.rs`.
//!
//! For OAuth clients the same body also has the members `error` and `error_description` of RFC 6749.

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, Response, StatusCode};
use axum::response::IntoResponse;
use serde_json::{Map, Value, json};

use super::form::Malformed;
use super::oauth2::FORM_BYTES_MAX;
use crate::service::{Kind, RETRY_DELAY, Reason, ServiceError};

/// Why a request failed.
#[derive(Debug)]
pub(super) enum Problem {
    /// A use case failed.
    Service(ServiceError),
    /// The request is not well formed.
    Malformed(&'static str),
    /// The endpoint does not have this method.
    Method,
    /// The body is not a form in UTF-8.
    MediaType,
    /// The body is too large.
    TooLarge,
    /// The body did not arrive in time.
    TooSlow,
}

impl From<ServiceError> for Problem {
    fn from(error: ServiceError) -> Self {
        Self::Service(error)
    }
}

impl From<Reason> for Problem {
    fn from(reason: Reason) -> Self {
        Self::Service(reason.into())
    }
}

impl From<Malformed> for Problem {
    fn from(Malformed(detail): Malformed) -> Self {
        Self::Malformed(detail)
    }
}

/// Returns the HTTP status for a kind of error, and its OAuth error code (RFC 6749 §5.2 and OAuth's registry).
pub const fn status(kind: Kind) -> (StatusCode, &'static str) {
    match kind {
        Kind::Unauthenticated => (StatusCode::UNAUTHORIZED, "invalid_client"),
        Kind::PermissionDenied => (StatusCode::FORBIDDEN, "unauthorized_client"),
        Kind::Unimplemented => (StatusCode::NOT_IMPLEMENTED, "invalid_request"),
        Kind::Invalid | Kind::OutOfRange => (StatusCode::BAD_REQUEST, "invalid_request"),
        Kind::NotFound => (StatusCode::NOT_FOUND, "invalid_request"),
        Kind::AlreadyExists | Kind::Aborted | Kind::FailedPrecondition => {
            (StatusCode::CONFLICT, "invalid_request")
        }
        Kind::Exhausted => (StatusCode::TOO_MANY_REQUESTS, "temporarily_unavailable"),
        Kind::DeadlineExceeded => (StatusCode::GATEWAY_TIMEOUT, "temporarily_unavailable"),
        Kind::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable"),
        Kind::Misconfigured | Kind::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "server_error"),
    }
}

/// Format of the response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// `application/problem+json`.
    Problem,
    /// `application/json`, with the members that OAuth clients expect.
    OAuth,
}

impl Problem {
    fn status(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Service(error) => status(error.reason.kind()),
            Self::Malformed(_) => status(Kind::Invalid),
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, "invalid_request"),
            Self::MediaType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "invalid_request"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "invalid_request"),
            Self::TooSlow => (StatusCode::REQUEST_TIMEOUT, "invalid_request"),
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::Service(error) => error.to_string(),
            Self::Malformed(detail) => (*detail).to_owned(),
            Self::Method => "this endpoint does not have this method".to_owned(),
            Self::MediaType => {
                "the body must be application/x-www-form-urlencoded, in UTF-8".to_owned()
            }
            Self::TooLarge => {
                format!("the body is larger than a form may be: {} KiB", FORM_BYTES_MAX / 1024)
            }
            Self::TooSlow => "the body did not arrive in time".to_owned(),
        }
    }

    /// The error code.
    pub(super) const fn reason(&self) -> Reason {
        match self {
            Self::Service(error) => error.reason,
            Self::Malformed(_) | Self::Method | Self::MediaType | Self::TooSlow => {
                Reason::RequestMalformed
            }
            // The same reason as for a gRPC message.
            Self::TooLarge => Reason::MessageTooLarge,
        }
    }

    /// Builds the response.
    pub(super) fn respond(&self, style: Style) -> Response<Body> {
        let (status, oauth_error) = self.status();
        let mut body = Map::new();
        if style == Style::OAuth {
            body.insert("error".into(), oauth_error.into());
            body.insert("error_description".into(), self.detail().into());
        }
        body.insert("type".into(), "about:blank".into());
        body.insert("title".into(), status.canonical_reason().unwrap_or_default().into());
        body.insert("status".into(), status.as_u16().into());
        body.insert("detail".into(), self.detail().into());
        body.insert("reason".into(), self.reason().code().into());
        if let Self::Service(error) = self {
            let violations = error.violations.iter().map(
                |violation| json!({"field": violation.field, "description": violation.description}),
            );
            let violations: Vec<_> = violations.collect();
            if !violations.is_empty() {
                body.insert("violations".into(), violations.into());
            }
        }
        let media_type = match style {
            Style::Problem => "application/problem+json",
            Style::OAuth => "application/json",
        };
        let mut response = json_response(status, media_type, &Value::Object(body));
        let headers = response.headers_mut();
        if status == StatusCode::UNAUTHORIZED {
            // The challenges are for the caller, never for the client that a proxy asks about. Both schemes are
            // accepted.
            if style == Style::OAuth {
                headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(BASIC_CHALLENGE));
            }
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(BEARER_CHALLENGE));
        }
        if status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from(RETRY_DELAY.as_secs()));
        }
        if matches!(self, Self::TooLarge | Self::TooSlow) {
            // The rest of the body is not read.
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

const BASIC_CHALLENGE: &str = r#"Basic realm="sophic-auth callers", charset="UTF-8""#;
const BEARER_CHALLENGE: &str = r#"Bearer realm="sophic-auth callers""#;

/// Builds a response that must not be cached.
pub(super) fn json_response(
    status: StatusCode,
    media_type: &'static str,
    body: &Value,
) -> Response<Body> {
    let headers = [(CONTENT_TYPE, media_type), (CACHE_CONTROL, "no-store")];
    (status, headers, body.to_string()).into_response()
}

#[cfg(test)]
mod tests {
    use super::{Problem, Style};
    use crate::service::Reason;

    #[test]
    fn every_reason_has_a_response_that_is_not_cached() {
        for reason in Reason::ALL {
            for style in [Style::Problem, Style::OAuth] {
                let response = Problem::from(*reason).respond(style);
                assert!(response.status().as_u16() >= 400, "{reason:?}");
                assert_eq!(response.headers()["cache-control"], "no-store", "{reason:?}");
                let challenged = response.headers().contains_key("www-authenticate");
                assert_eq!(challenged, response.status().as_u16() == 401, "{reason:?}");
            }
        }
    }
}
