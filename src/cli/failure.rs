//! What a command's failure is, in one word for programs and one number for scripts: the table of the README.

use super::attend::Interrupted;
use super::introspect::CouldNotTell;
use super::output::Unprinted;
use super::unshown::Lost;
use super::{NOT_CONFIRMED, Usage};
use crate::server::StartError;
use crate::service::{Kind, Reason, ServiceError, TransferError};
use crate::store::StoreError;

/// Wrong usage: flags, variables, URLs, files that are not there.
const USAGE: u8 = 2;
/// Refused or failed.
const FAILED: u8 = 1;

/// The reason codes that only the command line has, beside those of [`Reason`].
pub(super) mod code {
    /// What was asked cannot be meant: flags, variables, URLs, files that are not there.
    pub(in crate::cli) const USAGE: &str = "USAGE";
    /// There is no store where one was named.
    pub(super) const STORE_MISSING: &str = "STORE_MISSING";
    /// The store's schema is older or newer than this program's.
    pub(super) const SCHEMA_MISMATCH: &str = "SCHEMA_MISMATCH";
    /// The store is there, and cannot be used as it is, or not by this user.
    pub(super) const STORE_UNUSABLE: &str = "STORE_UNUSABLE";
    /// The input can be read, and is not what it was said to be.
    pub(super) const INPUT_INVALID: &str = "INPUT_INVALID";
    /// The output cannot be written.
    pub(super) const OUTPUT_FAILED: &str = "OUTPUT_FAILED";
    /// A new token could not be printed, and is dead.
    pub(super) const TOKEN_NOT_SHOWN: &str = "TOKEN_NOT_SHOWN";
    /// A signal ended it.
    pub(super) const INTERRUPTED: &str = "INTERRUPTED";
    /// The server cannot listen.
    pub(super) const CANNOT_LISTEN: &str = "CANNOT_LISTEN";
    /// The rest: a temporary file, the operating system.
    pub(super) const FAILED: &str = "FAILED";

    /// All of them.
    #[cfg(test)]
    pub(super) const ALL: [&str; 10] = [
        USAGE,
        STORE_MISSING,
        SCHEMA_MISMATCH,
        STORE_UNUSABLE,
        INPUT_INVALID,
        OUTPUT_FAILED,
        TOKEN_NOT_SHOWN,
        INTERRUPTED,
        CANNOT_LISTEN,
        FAILED,
    ];
}

/// The reason code and the exit code of a failure.
pub(super) fn of(error: &anyhow::Error) -> (&'static str, u8) {
    let (reason, exit_code) = cause(error);
    // Exit code 1 of these is an answer, so that no failure may seem to be one.
    (reason, if error.is::<CouldNotTell>() { USAGE } else { exit_code })
}

fn cause(error: &anyhow::Error) -> (&'static str, u8) {
    if let Some(error) = service_error(error) {
        return of_service(error);
    }
    if let Some(error) = store_error(error) {
        return of_store(error);
    }
    if let Some(interrupted) = error.downcast_ref::<Interrupted>() {
        let reason = match interrupted {
            Interrupted::Committed { .. } => Reason::BarrierPending.code(),
            Interrupted::Before(_) => code::INTERRUPTED,
        };
        return (reason, interrupted.exit_code());
    }
    if error.is::<Usage>() {
        return (code::USAGE, USAGE);
    }
    if error.is::<Lost>() {
        return (code::TOKEN_NOT_SHOWN, FAILED);
    }
    if error.is::<Unprinted>() {
        return (code::OUTPUT_FAILED, FAILED);
    }
    match error.downcast_ref() {
        Some(StartError::Listen { .. }) => return (code::CANNOT_LISTEN, FAILED),
        Some(StartError::Tls(_) | StartError::Insecure(_)) => return (code::USAGE, USAGE),
        Some(StartError::Store(_)) | None => {}
    }
    match error.downcast_ref() {
        Some(TransferError::Malformed { .. } | TransferError::Empty) => {
            (code::INPUT_INVALID, FAILED)
        }
        _ => (code::FAILED, FAILED),
    }
}

/// The use case's own error, wherever it is wrapped.
pub(super) fn service_error(error: &anyhow::Error) -> Option<&ServiceError> {
    match error.downcast_ref() {
        Some(TransferError::Service(error)) => Some(error),
        _ => error.downcast_ref(),
    }
}

fn store_error(error: &anyhow::Error) -> Option<&StoreError> {
    if let Some(TransferError::Store(error)) = error.downcast_ref() {
        return Some(error);
    }
    match error.downcast_ref() {
        Some(StartError::Store(error)) => Some(error),
        _ => error.downcast_ref(),
    }
}

fn of_service(error: &ServiceError) -> (&'static str, u8) {
    let exit_code = match error.reason {
        Reason::BarrierPending => NOT_CONFIRMED,
        reason if reason.kind() == Kind::Invalid => USAGE,
        _ => FAILED,
    };
    (error.reason.code(), exit_code)
}

fn of_store(error: &StoreError) -> (&'static str, u8) {
    let reason = match error {
        StoreError::Misnamed(_) => return (code::USAGE, USAGE),
        StoreError::Missing(_) => return (code::STORE_MISSING, USAGE),
        StoreError::SchemaTooOld { .. } | StoreError::SchemaTooNew { .. } => code::SCHEMA_MISMATCH,
        StoreError::Unusable(_) => code::STORE_UNUSABLE,
        StoreError::Unavailable(_) | StoreError::Away(_) | StoreError::Pooler { .. } => {
            Reason::StoreUnavailable.code()
        }
        StoreError::Denied(_) => Reason::StoreDenied.code(),
        StoreError::Full(_) => Reason::StoreFull.code(),
        StoreError::Busy(_) => Reason::StoreBusy.code(),
        StoreError::Lost(_) => Reason::StoreLost.code(),
        StoreError::Conflict(_)
        | StoreError::Corrupt { .. }
        | StoreError::RowsAffected { .. }
        | StoreError::Refused { .. } => Reason::Internal.code(),
    };
    (reason, FAILED)
}

#[cfg(test)]
mod tests {
    use super::code;

    #[test]
    fn the_readme_names_every_code() {
        let readme = include_str!("../../README.md");
        for code in code::ALL {
            assert!(readme.contains(&format!("`{code}`")), "{code}");
        }
    }
}
