//! The one table from a failure to a gRPC status, with the details of `google.rpc` that programs go by.

use std::collections::HashMap;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

use crate::service::{Kind, ServiceError};

/// The domain of every `ErrorInfo`.
const DOMAIN: &str = "auth.sophic.so";
/// When to try again after `UNAVAILABLE` and `RESOURCE_EXHAUSTED`.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A kind of failure as gRPC has it.
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
        let mut details = ErrorDetails::with_error_info(error.reason.code(), DOMAIN, metadata);
        if !error.violations.is_empty() {
            let violations = error.violations.iter();
            let violations = violations
                .map(|violation| FieldViolation::new(&violation.field, &violation.description));
            details.set_bad_request(violations.collect::<Vec<_>>());
        }
        if matches!(kind, Kind::Unavailable | Kind::Exhausted) {
            details.set_retry_info(Some(RETRY_AFTER));
        }
        Self::with_error_details(code(kind), error.to_string(), details)
    }
}
