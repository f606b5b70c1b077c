//! Turns a service error into a gRPC status, with details from `google.rpc` for programs to read.

use std::collections::HashMap;
use std::error::Error as _;
use std::sync::Arc;

use http::{HeaderMap, Response};
use sophic_auth_protocol::ERROR_DOMAIN;
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

use crate::service::{Kind, RETRY_DELAY, Reason, ServiceError};

/// Returns the gRPC code for a kind of error.
pub const fn code(kind: Kind) -> Code {
    match kind {
        Kind::Unauthenticated => Code::Unauthenticated,
        Kind::PermissionDenied => Code::PermissionDenied,
        Kind::Invalid => Code::InvalidArgument,
        Kind::NotFound => Code::NotFound,
        Kind::AlreadyExists => Code::AlreadyExists,
        Kind::Aborted => Code::Aborted,
        Kind::FailedPrecondition | Kind::Misconfigured => Code::FailedPrecondition,
        Kind::OutOfRange => Code::OutOfRange,
        Kind::Unimplemented => Code::Unimplemented,
        Kind::Exhausted => Code::ResourceExhausted,
        Kind::DeadlineExceeded => Code::DeadlineExceeded,
        Kind::Unavailable => Code::Unavailable,
        Kind::Internal => Code::Internal,
    }
}

impl From<ServiceError> for Status {
    fn from(error: ServiceError) -> Self {
        let kind = error.reason.kind();
        let metadata: HashMap<String, String> =
            error.metadata.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        let mut details =
            ErrorDetails::with_error_info(error.reason.code(), ERROR_DOMAIN, metadata);
        if !error.violations.is_empty() {
            let violations = error.violations.iter();
            let violations = violations
                .map(|violation| FieldViolation::new(&violation.field, &violation.description));
            details.set_bad_request(violations.collect::<Vec<_>>());
        }
        if matches!(kind, Kind::Unavailable | Kind::Exhausted) {
            details.set_retry_info(Some(RETRY_DELAY));
        }
        let mut status = Self::with_error_details(code(kind), error.to_string(), details);
        if error.reason == Reason::CompressionUnsupported {
            // The gRPC specification asks for it ("Compression").
            let none = MetadataValue::from_static("identity");
            status.metadata_mut().insert("grpc-accept-encoding", none);
        }
        // The source is not sent. `reason` reads it.
        status.set_source(Arc::new(error));
        status
    }
}

/// Header or trailer with the code of a gRPC status.
const STATUS: &str = "grpc-status";
/// Header or trailer with the details of a gRPC status.
const DETAILS: &str = "grpc-status-details-bin";

/// Replaces a status that tonic made itself by one with a [`Reason`]. `headers` are those of a response, or the trailers
/// of one. A status of ours, or of success, stays as it is.
pub(super) fn replace_status_of_tonic(headers: &mut HeaderMap) {
    let Some(code) = headers.get(STATUS).map(|code| Code::from_bytes(code.as_bytes())) else {
        return;
    };
    if code == Code::Ok || headers.contains_key(DETAILS) {
        return;
    }
    let error = match code {
        // Health: a service without a status. Reflection: a symbol or a file.
        Code::NotFound => Reason::NameNotFound.into(),
        // Reflection is switched off, or the server waits for its store.
        Code::Unimplemented => Reason::MethodUnknown.into(),
        Code::OutOfRange => Reason::MessageTooLarge.into(),
        Code::InvalidArgument => Reason::RequestMalformed.into(),
        code => ServiceError::internal(&format_args!("a status of tonic: {code:?}")),
    };
    // Our texts are always valid in a header.
    let _ = Status::from(error).add_header(headers);
}

/// Returns the reason for which the gate or a use case refused. `None` if the call succeeded or tonic itself refused
/// it. tonic keeps the status in the response's extensions.
pub(super) fn reason<B>(response: &Response<B>) -> Option<Reason> {
    let status = response.extensions().get::<Status>()?;
    Some(status.source()?.downcast_ref::<ServiceError>()?.reason)
}
