//! The reason code and the exit code of a failed command. `docs/errors.md` has the tables, made from these.

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

/// A reason that only the command line has, beside those of [`Reason`].
#[derive(Debug, Clone, Copy)]
pub struct CommandReason {
    /// The word for programs.
    pub code: &'static str,
    /// The exit code; none: 128 and the number of the signal.
    pub exit_code: Option<u8>,
    /// What happened.
    pub text: &'static str,
}

impl CommandReason {
    const fn new(code: &'static str, exit_code: u8, text: &'static str) -> Self {
        Self { code, exit_code: Some(exit_code), text }
    }

    fn told(self) -> (&'static str, u8) {
        (self.code, self.exit_code.unwrap_or(FAILED))
    }
}

/// The reasons that only the command line has.
pub(super) mod code {
    use super::{CommandReason, FAILED as FAILURE, USAGE as WRONG_USAGE};

    pub(in crate::cli) const USAGE: CommandReason = CommandReason::new(
        "USAGE",
        WRONG_USAGE,
        "a flag, a variable or a URL has no meaning, or a file that it names is not there",
    );
    pub(super) const STORE_MISSING: CommandReason =
        CommandReason::new("STORE_MISSING", WRONG_USAGE, "there is no store at the database URL");
    pub(super) const SCHEMA_MISMATCH: CommandReason = CommandReason::new(
        "SCHEMA_MISMATCH",
        FAILURE,
        "the schema of the store is older or newer than the schema of this program",
    );
    pub(super) const STORE_UNUSABLE: CommandReason = CommandReason::new(
        "STORE_UNUSABLE",
        FAILURE,
        "the store exists, but it is not in a usable state or this user cannot use it",
    );
    pub(super) const INPUT_INVALID: CommandReason = CommandReason::new(
        "INPUT_INVALID",
        FAILURE,
        "the input can be read but does not have the stated format",
    );
    pub(super) const OUTPUT_FAILED: CommandReason =
        CommandReason::new("OUTPUT_FAILED", FAILURE, "the output cannot be written");
    pub(super) const TOKEN_NOT_SHOWN: CommandReason = CommandReason::new(
        "TOKEN_NOT_SHOWN",
        FAILURE,
        "a new token could not be printed and was revoked again",
    );
    pub(super) const INTERRUPTED: CommandReason = CommandReason {
        code: "INTERRUPTED",
        exit_code: None,
        text: "a signal ended the command before anything is known to be committed",
    };
    pub(super) const CANNOT_LISTEN: CommandReason =
        CommandReason::new("CANNOT_LISTEN", FAILURE, "the server cannot listen on an address");
    pub(super) const FAILED: CommandReason = CommandReason::new(
        "FAILED",
        FAILURE,
        "anything else, such as a temporary file or the operating system",
    );
}

/// All of them.
pub const COMMAND_REASONS: [CommandReason; 10] = [
    code::USAGE,
    code::STORE_MISSING,
    code::SCHEMA_MISMATCH,
    code::STORE_UNUSABLE,
    code::INPUT_INVALID,
    code::OUTPUT_FAILED,
    code::TOKEN_NOT_SHOWN,
    code::INTERRUPTED,
    code::CANNOT_LISTEN,
    code::FAILED,
];

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
            Interrupted::Before(_) => code::INTERRUPTED.code,
        };
        return (reason, interrupted.exit_code());
    }
    if error.is::<Usage>() {
        return code::USAGE.told();
    }
    if error.is::<Lost>() {
        return code::TOKEN_NOT_SHOWN.told();
    }
    if error.is::<Unprinted>() {
        return code::OUTPUT_FAILED.told();
    }
    match error.downcast_ref() {
        Some(StartError::Listen { .. }) => return code::CANNOT_LISTEN.told(),
        Some(StartError::Tls(_) | StartError::Insecure(_)) => return code::USAGE.told(),
        Some(StartError::Store(_)) | None => {}
    }
    match error.downcast_ref() {
        Some(TransferError::Malformed { .. } | TransferError::Empty) => code::INPUT_INVALID.told(),
        _ => code::FAILED.told(),
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
    (error.reason.code(), exit_code(error.reason))
}

/// The exit code of a command that the service refuses for this reason.
pub fn exit_code(reason: Reason) -> u8 {
    match reason {
        Reason::BarrierPending => NOT_CONFIRMED,
        reason if reason.kind() == Kind::Invalid => USAGE,
        _ => FAILED,
    }
}

fn of_store(error: &StoreError) -> (&'static str, u8) {
    let reason = match error {
        StoreError::Misnamed(_) => return code::USAGE.told(),
        StoreError::Missing(_) => return code::STORE_MISSING.told(),
        StoreError::SchemaTooOld { .. } | StoreError::SchemaTooNew { .. } => {
            return code::SCHEMA_MISMATCH.told();
        }
        StoreError::Unusable(_) => return code::STORE_UNUSABLE.told(),
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
