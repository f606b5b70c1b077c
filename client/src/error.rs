//! Errors of calls. A bad presented token is not an error but an answer.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// The kind of a failure, by what a caller can do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The client's configuration is wrong.
    Config,
    /// The service does not accept the caller's token or certificate.
    Unauthenticated,
    /// The caller, or the user it acts for, lacks permission.
    PermissionDenied,
    /// The request is invalid. See [`Error::violations`].
    Invalid,
    /// The object does not exist, or is hidden from the caller.
    NotFound,
    /// The object already exists.
    AlreadyExists,
    /// The object is in another state than the call requires, or its etag does not match.
    Conflict,
    /// Too many requests. Try again later.
    Exhausted,
    /// The service did not answer in time. It may have carried out the call.
    Deadline,
    /// The service or its store is unavailable. It may have carried out the call.
    Unavailable,
    /// A bug in the service, or a malformed answer.
    Internal,
}

/// An invalid field of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Path of the field in the request.
    pub field: String,
    /// What is wrong, and what is allowed.
    pub description: String,
}

/// A failed call. It contains no token, neither the caller's nor a presented one.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: String,
    reason: String,
    violations: Vec<Violation>,
    retry_after: Option<Duration>,
}

impl Error {
    pub(crate) fn config(message: impl Into<String>) -> Self {
        Self::plain(ErrorKind::Config, message)
    }

    pub(crate) fn plain(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            reason: String::new(),
            violations: Vec::new(),
            retry_after: None,
        }
    }

    pub(crate) fn deadline() -> Self {
        Self::plain(ErrorKind::Deadline, "the service did not answer in time")
    }

    /// Returns the kind of failure.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Returns the service's reason code (`google.rpc.ErrorInfo.reason`, domain `auth.sophic.so`). Empty if it gave
    /// none.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Returns the invalid fields of the request.
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// Returns the delay after which the service asks for a retry.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Whether the service was unavailable or did not answer in time.
    pub fn is_outage(&self) -> bool {
        matches!(self.kind, ErrorKind::Unavailable | ErrorKind::Deadline)
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        let kind = match status.code() {
            Code::Unauthenticated => ErrorKind::Unauthenticated,
            Code::PermissionDenied => ErrorKind::PermissionDenied,
            Code::InvalidArgument | Code::OutOfRange => ErrorKind::Invalid,
            Code::NotFound => ErrorKind::NotFound,
            Code::AlreadyExists => ErrorKind::AlreadyExists,
            Code::FailedPrecondition | Code::Aborted => ErrorKind::Conflict,
            Code::ResourceExhausted => ErrorKind::Exhausted,
            Code::DeadlineExceeded => ErrorKind::Deadline,
            // tonic reports `Cancelled` when its timer expires, and `Unknown` when a connection breaks during a call.
            Code::Unavailable | Code::Cancelled | Code::Unknown => ErrorKind::Unavailable,
            Code::Ok | Code::Unimplemented | Code::Internal | Code::DataLoss => ErrorKind::Internal,
        };
        let details = status.get_error_details();
        let violations = details.bad_request().map(|bad| bad.field_violations.as_slice());
        let violations = violations.unwrap_or_default().iter().map(|violation| Violation {
            field: violation.field.clone(),
            description: violation.description.clone(),
        });
        Self {
            kind,
            reason: details.error_info().map(|info| info.reason.clone()).unwrap_or_default(),
            violations: violations.collect(),
            retry_after: details.retry_info().and_then(|retry| retry.retry_delay),
            message: format!("{kind:?}: {}", status.message()),
        }
    }
}
