//! What a refused call says to programs, read out of its details.

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// The reason of its `ErrorInfo`, which must be of our domain.
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

/// The fields that are not as they must be, of an `INVALID_ARGUMENT`.
pub(crate) fn fields<T: std::fmt::Debug>(outcome: Result<T, Status>) -> Vec<String> {
    let status = outcome.expect_err("it is refused");
    assert_eq!((status.code(), &*reason(&status)), (Code::InvalidArgument, "ARGUMENT_INVALID"));
    let request = status.get_details_bad_request().expect("the fields that are wrong");
    for violation in &request.field_violations {
        assert!(!violation.description.is_empty(), "{violation:?}");
    }
    request.field_violations.into_iter().map(|violation| violation.field).collect()
}
