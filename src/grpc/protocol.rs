//! Checks that tonic does not make: whether a request is gRPC at all, and its deadline.

use std::time::Duration;

use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use tonic::body::Body;

use crate::service::{Reason, Result, ServiceError};

/// Returns the refusal of a request that is not gRPC. tonic itself accepts any method and any content type.
pub(super) fn refuse_non_grpc(request: &Request<Incoming>) -> Option<Response<Body>> {
    let mut refusal = Response::new(Body::default());
    if request.method() != Method::POST {
        *refusal.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        refusal.headers_mut().insert(ALLOW, http::HeaderValue::from_static("POST"));
        return Some(refusal);
    }
    let content_type = request.headers().get(CONTENT_TYPE).map(http::HeaderValue::as_bytes);
    let grpc = content_type.and_then(|value| value.strip_prefix(b"application/grpc")).is_some_and(
        |rest| {
            rest.is_empty()
                || rest == b"+proto"
                || rest.starts_with(b";")
                || rest.starts_with(b"+proto;")
        },
    );
    if grpc {
        return None;
    }
    *refusal.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    Some(refusal)
}

/// Reads the `grpc-timeout` header: at most eight digits and a unit.
pub(super) fn grpc_timeout(headers: &HeaderMap) -> Result<Option<Duration>> {
    let Some(value) = headers.get("grpc-timeout") else { return Ok(None) };
    let parsed = value.to_str().ok().and_then(|text| {
        let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let fits =
            (1..=8).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
        let amount: u64 = digits.parse().ok().filter(|_| fits)?;
        Some(match unit {
            "H" => Duration::from_secs(amount * 3_600),
            "M" => Duration::from_secs(amount * 60),
            "S" => Duration::from_secs(amount),
            "m" => Duration::from_millis(amount),
            "u" => Duration::from_micros(amount),
            "n" => Duration::from_nanos(amount),
            _ => return None,
        })
    });
    match parsed {
        Some(timeout) => Ok(Some(timeout)),
        None => Err(ServiceError::from(Reason::RequestMalformed).with("header", "grpc-timeout")),
    }
}
