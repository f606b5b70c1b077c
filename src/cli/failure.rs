//! Reason code and exit code of a failed command. The tables in `docs/errors.md` are generated from these.

use super::UsageError;
use super::introspect::NoAnswer;
use super::monitor::Interrupted;
use super::output::PrintError;
use super::unprinted_token::TokenNotPrinted;
use crate::server::StartError;
use crate::service::{Kind, Reason, ServiceError, TransferError};
use crate::store::StoreError;

/// Exit code of a command that was refused or failed.
pub(super) const EXIT_FAILED: u8 = 1;
/// Exit code of wrong usage: flags, variables, URLs, missing files.
pub(super) const EXIT_USAGE: u8 = 2;
/// Exit code of a committed change that some server may not have applied yet.
pub(super) const EXIT_NOT_CONFIRMED: u8 = 3;
/// Exit code of a command that a signal ended, less the number of the signal, as shells have it.
const EXIT_SIGNAL_BASE: u8 = 128;

/// Returns the exit code of a command that this signal ended.
pub(super) fn exit_code_of_signal(number: i32) -> u8 {
    u8::try_from(i32::from(EXIT_SIGNAL_BASE) + number).unwrap_or(EXIT_FAILED)
}

/// A reason that only the command line has, in addition to those of [`Reason`].
#[derive(Debug, Clone, Copy)]
pub struct CommandReason {
    /// Reason code.
    pub code: &'static str,
    /// Exit code. `None` means 128 plus the number of the signal.
    pub exit_code: Option<u8>,
    /// Description, for the documentation.
    pub text: &'static str,
}

impl CommandReason {
    const fn new(code: &'static str, exit_code: u8, text: &'static str) -> Self {
        Self { code, exit_code: Some(exit_code), text }
    }

    fn reason_and_exit_code(self) -> (&'static str, u8) {
        (self.code, self.exit_code.unwrap_or(EXIT_FAILED))
    }
}

/// The reasons that only the command line has.
pub(super) mod code {
    use super::{CommandReason, EXIT_FAILED, EXIT_USAGE};

    pub(in crate::cli) const USAGE: CommandReason = CommandReason::new(
        "USAGE",
        EXIT_USAGE,
        "a flag, a variable or a URL is invalid, or a file that it names does not exist",
    );
    pub(super) const STORE_MISSING: CommandReason =
        CommandReason::new("STORE_MISSING", EXIT_USAGE, "there is no store at the database URL");
    pub(super) const SCHEMA_MISMATCH: CommandReason = CommandReason::new(
        "SCHEMA_MISMATCH",
        EXIT_FAILED,
        "the schema of the store is older or newer than the schema of this program",
    );
    pub(super) const STORE_UNUSABLE: CommandReason = CommandReason::new(
        "STORE_UNUSABLE",
        EXIT_FAILED,
        "the store exists, but it is not in a usable state or this user cannot use it",
    );
    pub(super) const INPUT_INVALID: CommandReason = CommandReason::new(
        "INPUT_INVALID",
        EXIT_FAILED,
        "the input can be read but does not have the stated format",
    );
    pub(super) const OUTPUT_FAILED: CommandReason =
        CommandReason::new("OUTPUT_FAILED", EXIT_FAILED, "the output cannot be written");
    pub(super) const TOKEN_NOT_SHOWN: CommandReason = CommandReason::new(
        "TOKEN_NOT_SHOWN",
        EXIT_FAILED,
        "a new token could not be printed and was revoked",
    );
    pub(super) const INTERRUPTED: CommandReason = CommandReason {
        code: "INTERRUPTED",
        exit_code: None,
        text: "a signal ended the command before anything is known to be committed, or after it had changed nothing",
    };
    pub(super) const CANNOT_LISTEN: CommandReason =
        CommandReason::new("CANNOT_LISTEN", EXIT_FAILED, "the server cannot listen on an address");
    pub(super) const FAILED: CommandReason = CommandReason::new(
        "FAILED",
        EXIT_FAILED,
        "anything else, such as a temporary file or the operating system",
    );
}

/// All reasons that only the command line has.
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

/// Returns the reason code and the exit code of a failure.
pub(super) fn classify(error: &anyhow::Error) -> (&'static str, u8) {
    let (reason, exit_code) = classify_cause(error);
    // For these commands exit code 1 is an answer, so a failure must not have it.
    (reason, if error.is::<NoAnswer>() { EXIT_USAGE } else { exit_code })
}

fn classify_cause(error: &anyhow::Error) -> (&'static str, u8) {
    if let Some(error) = service_error(error) {
        return classify_service(error);
    }
    if let Some(error) = store_error(error) {
        return classify_store(error);
    }
    if let Some(interrupted) = error.downcast_ref::<Interrupted>() {
        let reason = match interrupted {
            Interrupted::Committed { .. } | Interrupted::Unfinished { .. } => {
                Reason::BarrierPending.code()
            }
            Interrupted::Unchanged { .. } | Interrupted::Uncommitted(_) => code::INTERRUPTED.code,
        };
        return (reason, interrupted.exit_code());
    }
    if error.is::<UsageError>() {
        return code::USAGE.reason_and_exit_code();
    }
    if error.is::<TokenNotPrinted>() {
        return code::TOKEN_NOT_SHOWN.reason_and_exit_code();
    }
    if error.is::<PrintError>() {
        return code::OUTPUT_FAILED.reason_and_exit_code();
    }
    match error.downcast_ref() {
        Some(StartError::Listen { .. }) => return code::CANNOT_LISTEN.reason_and_exit_code(),
        Some(StartError::Tls(_) | StartError::Insecure(_)) => {
            return code::USAGE.reason_and_exit_code();
        }
        Some(StartError::Store(_)) | None => {}
    }
    match error.downcast_ref() {
        Some(TransferError::Malformed { .. } | TransferError::Empty) => {
            code::INPUT_INVALID.reason_and_exit_code()
        }
        _ => code::FAILED.reason_and_exit_code(),
    }
}

/// Returns the error of the use case, if there is one.
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

fn classify_service(error: &ServiceError) -> (&'static str, u8) {
    (error.reason.code(), exit_code(error.refusal().unwrap_or(error.reason)))
}

/// Returns the exit code of a command that the service refuses for this reason. A [`Reason::RefusalPending`] has that of
/// its refusal.
pub fn exit_code(reason: Reason) -> u8 {
    match reason {
        Reason::BarrierPending => EXIT_NOT_CONFIRMED,
        reason if reason.kind() == Kind::Invalid => EXIT_USAGE,
        _ => EXIT_FAILED,
    }
}

fn classify_store(error: &StoreError) -> (&'static str, u8) {
    let reason = match error {
        StoreError::InvalidLocation(_) => return code::USAGE.reason_and_exit_code(),
        StoreError::Missing(_) => return code::STORE_MISSING.reason_and_exit_code(),
        StoreError::SchemaTooOld { .. } | StoreError::SchemaTooNew { .. } => {
            return code::SCHEMA_MISMATCH.reason_and_exit_code();
        }
        StoreError::Unusable(_) => return code::STORE_UNUSABLE.reason_and_exit_code(),
        StoreError::Unavailable(_) | StoreError::Unreachable(_) | StoreError::Pooler { .. } => {
            Reason::StoreUnavailable.code()
        }
        StoreError::Denied(_) => Reason::StoreDenied.code(),
        StoreError::DiskFull(_) => Reason::StoreFull.code(),
        StoreError::Busy(_) => Reason::StoreBusy.code(),
        StoreError::Lost(_) => Reason::StoreLost.code(),
        StoreError::Conflict(_)
        | StoreError::Corrupt { .. }
        | StoreError::RowsAffected { .. }
        | StoreError::Refused { .. } => Reason::Internal.code(),
    };
    (reason, EXIT_FAILED)
}
