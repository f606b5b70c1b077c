//! What can go wrong with a call. A bad presented token is none of it: that is an answer.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// What a caller can do about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// How the client is set up cannot work.
    Config,
    /// The service does not know this caller: its token or certificate is wrong.
    Unauthenticated,
    /// The caller, or the user it acts for, may not.
    PermissionDenied,
    /// What was sent is wrong; see [`Error::violations`].
    Invalid,
    /// It is not there, or may not be seen.
    NotFound,
    /// It is there already.
    AlreadyExists,
    /// Something else has to be done first, or it has changed meanwhile (an etag that does not fit).
    Conflict,
    /// Too much at once; try again later.
    Exhausted,
    /// The service did not answer in time. What was asked may have happened.
    Deadline,
    /// The service or its store is out of reach. What was asked may have happened.
    Unavailable,
    /// A fault of the service, or an answer that makes no sense.
    Internal,
}

/// A field that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The field's path in the request.
    pub field: String,
    /// What is wrong and what is allowed.
    pub description: String,
}

/// A call that failed. It holds no token: not the caller's, and none that was presented.
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

    /// What to do about it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The service's own word for it (`google.rpc.ErrorInfo.reason`, domain `auth.sophic.so`); empty if it gave none.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// What is wrong with the request.
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// When the service asks to try again.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Whether the service could not be asked, rather than having said no.
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
            // tonic says Cancelled when its own timer has run out, and Unknown when a connection broke under a call.
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
