//! Reads the error details of a refused call.

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// The reason in its `ErrorInfo`, whose domain must be ours.
pub(crate) fn reason(status: &Status) -> String {
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("no reason: {status:?}"));
    assert_eq!(info.domain, "auth.sophic.so");
    info.reason
}

/// The code and the reason.
pub(crate) fn refused<T: std::fmt::Debug>(outcome: Result<T, Status>) -> (Code, String) {
    let status = outcome.expect_err("it is refused");
    (status.code(), reason(&status))
}

/// The invalid fields of an `INVALID_ARGUMENT`.
pub(crate) fn fields<T: std::fmt::Debug>(outcome: Result<T, Status>) -> Vec<String> {
    let status = outcome.expect_err("it is refused");
    assert_eq!((status.code(), &*reason(&status)), (Code::InvalidArgument, "ARGUMENT_INVALID"));
    let request = status.get_details_bad_request().expect("the fields that are wrong");
    for violation in &request.field_violations {
        assert!(!violation.description.is_empty(), "{violation:?}");
    }
    request.field_violations.into_iter().map(|violation| violation.field).collect()
}
