//! Errors of use cases: one table of reasons, each with its code, kind and text. `grpc/status.rs` and `http/problem.rs`
//! encode them.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::store::{StoreError, Unique};
use crate::token::RandomError;

/// Delay before a retry that the errors of [`Kind::Unavailable`] and [`Kind::Exhausted`] ask for.
pub const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Key of the metadata of [`Reason::RefusalPending`]: the reason code of the refusal.
const REFUSAL: &str = "refusal";

/// Declares each reason once: its code on the wire, its kind, and its text.
macro_rules! reasons {
    ($($variant:ident, $code:literal, $kind:ident, $text:literal;)*) => {
        /// Error code for programs: `google.rpc.ErrorInfo.reason`, domain `auth.sophic.so`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[expect(clippy::doc_markdown, reason = "the texts are read by callers, not only here")]
        pub enum Reason {
            $(#[doc = $text] $variant,)*
        }

        impl Reason {
            /// Every reason.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The code on the wire.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// The kind of error.
            pub const fn kind(self) -> Kind {
                match self { $(Self::$variant => Kind::$kind,)* }
            }

            /// The text for people: what happened, and what to do about it.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

reasons! {
    CallerMissing, "CALLER_MISSING", Unauthenticated,
        "no caller credentials: send 'authorization: Bearer sophic_svc_...' once, or use a client certificate";
    CallerUnknown, "CALLER_UNKNOWN", Unauthenticated,
        "the service token or client certificate does not belong to a caller";
    CallerExpired, "CALLER_EXPIRED", Unauthenticated,
        "the caller has expired: give it a later expiry, or use another caller";
    PermissionMissing, "PERMISSION_MISSING", PermissionDenied,
        "the caller lacks a permission for this call";
    PermissionNotHeld, "PERMISSION_NOT_HELD", PermissionDenied,
        "a caller cannot grant a permission that it does not hold itself";
    LifetimeNotHeld, "LIFETIME_NOT_HELD", PermissionDenied,
        "a caller cannot give, extend or take over access that lasts longer than its own";
    ActingUserRequired, "ACTING_USER_REQUIRED", PermissionDenied,
        "an acting_user is required: without one this caller lacks the permission, which is credentials.admin for most calls, and audit.read for the audit log";
    ActingUserNotActive, "ACTING_USER_NOT_ACTIVE", PermissionDenied,
        "the acting user does not exist or is disabled";
    RoleTooLow, "ROLE_TOO_LOW", PermissionDenied,
        "the role of the acting user in the workspace is too low: keys take an admin or owner, the audit log and the personal access tokens that act there take an owner";
    ArgumentInvalid, "ARGUMENT_INVALID", Invalid,
        "the request has invalid fields";
    RequestMalformed, "REQUEST_MALFORMED", Invalid,
        "the request is not well formed";
    CredentialNotFound, "CREDENTIAL_NOT_FOUND", NotFound,
        "no such credential, or the caller may not see it";
    WorkspaceNotFound, "WORKSPACE_NOT_FOUND", NotFound,
        "no such workspace, or the caller may not see it";
    UserNotFound, "USER_NOT_FOUND", NotFound,
        "no such user, or the caller may not see it";
    MembershipNotFound, "MEMBERSHIP_NOT_FOUND", NotFound,
        "the user is not a member of the workspace";
    CallerNotFound, "CALLER_NOT_FOUND", NotFound,
        "no such caller";
    NameNotFound, "NAME_NOT_FOUND", NotFound,
        "the server has no service, symbol or file of this name";
    SlugTaken, "SLUG_TAKEN", AlreadyExists,
        "the slug is, or was within the last 30 days, another workspace's slug or id";
    WorkspaceIdTaken, "WORKSPACE_ID_TAKEN", AlreadyExists,
        "the id is, or was within the last 30 days, another workspace's slug";
    CallerNameTaken, "CALLER_NAME_TAKEN", AlreadyExists,
        "a caller of this name already exists";
    CallerRevoked, "CALLER_REVOKED", FailedPrecondition,
        "the caller is revoked for good: create another one";
    CallerHasNoToken, "CALLER_HAS_NO_TOKEN", FailedPrecondition,
        "the caller authenticates by certificate, and has no service token to rotate";
    CallerHasNoCertificate, "CALLER_HAS_NO_CERTIFICATE", FailedPrecondition,
        "the caller authenticates by service token, and has no certificate_san to change";
    PermissionsUnknown, "PERMISSIONS_UNKNOWN", FailedPrecondition,
        "the caller has permissions that only a newer server knows, so this one does not replace them: call a newer one";
    CertificateTaken, "CERTIFICATE_TAKEN", AlreadyExists,
        "a caller with this certificate_san already exists";
    RequestReplayed, "REQUEST_REPLAYED", AlreadyExists,
        "the request with this id has succeeded, and its token cannot be shown again: rotate it again";
    EtagMismatch, "ETAG_MISMATCH", Aborted,
        "the credential or caller has changed since its etag was read: read it again";
    CredentialRevoked, "CREDENTIAL_REVOKED", FailedPrecondition,
        "the credential is revoked for good";
    CredentialExpired, "CREDENTIAL_EXPIRED", FailedPrecondition,
        "the credential has expired: create a new one";
    AlreadyRotated, "ALREADY_ROTATED", FailedPrecondition,
        "the credential has a live successor: rotate that one, or revoke it first";
    CredentialsMaxReached, "CREDENTIALS_MAX_REACHED", FailedPrecondition,
        "the policy allows no more live credentials: revoke one first";
    WorkspaceDisabled, "WORKSPACE_DISABLED", FailedPrecondition,
        "the workspace is disabled: enable it first";
    UserNotDeleted, "USER_NOT_DELETED", FailedPrecondition,
        "the user is not deleted: delete them first";
    UserDisabled, "USER_DISABLED", FailedPrecondition,
        "the user is disabled: enable them first";
    ClocksDisagree, "CLOCKS_DISAGREE", FailedPrecondition,
        "this machine's clock and the store disagree on the time, so nothing is deleted: correct the clock";
    ReplicaTooOld, "REPLICA_TOO_OLD", FailedPrecondition,
        "a server of an earlier release, which would ignore this, runs on the same store: upgrade or stop it; if it was killed, it counts until a server of this release gives it up, after its lease (10 s by default) and 7 %: try again then";
    Overloaded, "OVERLOADED", Exhausted,
        "too many requests in flight, from all callers or from this one: try again later";
    DeadlineExceeded, "DEADLINE_EXCEEDED", DeadlineExceeded,
        "the deadline passed before the answer was ready";
    CursorTooOld, "CURSOR_TOO_OLD", OutOfRange,
        "the cursor is too old: drop the cache, and watch from now on, without a cursor";
    AuditLogRestored, "AUDIT_LOG_RESTORED", OutOfRange,
        "the resume_token is ahead of the audit log, which was restored from an older backup: list again without a token, from a start_time before the backup";
    WatcherTooSlow, "WATCHER_TOO_SLOW", OutOfRange,
        "the stream was read too slowly, and its next changes are no longer kept: drop the cache, and watch again";
    MessageTooLarge, "MESSAGE_TOO_LARGE", OutOfRange,
        "the message exceeds the size limit of this call";
    UnknownTokensTooMany, "UNKNOWN_TOKENS_TOO_MANY", Exhausted,
        "too many unknown tokens, or too many workspaces in which one token has no role: for a moment, only tokens in memory are answered";
    UnknownCallersTooMany, "UNKNOWN_CALLERS_TOO_MANY", Exhausted,
        "too many unknown service tokens from this address: for a moment, only tokens in memory are answered";
    Stopping, "STOPPING", Unavailable,
        "the server is stopping: connect again";
    BarrierPending, "BARRIER_PENDING", DeadlineExceeded,
        "committed, or nothing was left to change, but not every replica has confirmed that yet: the same call again waits; it may then answer that the change is made already";
    RefusalPending, "REFUSAL_PENDING", DeadlineExceeded,
        "refused, and this call changed nothing; if it repeats an earlier one, not every replica has confirmed that one yet: the same call again waits";
    StoreUnavailable, "STORE_UNAVAILABLE", Unavailable,
        "the store is unreachable: try again";
    StoreFull, "STORE_FULL", Unavailable,
        "the store's disk is full, so this change was not made, nor the rest of a call that makes many: changes are possible again once there is space";
    StoreBusy, "STORE_BUSY", Unavailable,
        "another change held the store for too long: try again";
    StoreLost, "STORE_LOST", Unavailable,
        "the store is damaged, missing or replaced by another: an operator has to repair it";
    StoreDenied, "STORE_DENIED", Misconfigured,
        "the service's database role lacks a right, or the store is read-only: an operator has to grant the right, or make the store writable";
    RevisionNotReached, "REVISION_NOT_REACHED", Unavailable,
        "at_least_revision is not reached yet: try again";
    RandomUnavailable, "RANDOM_UNAVAILABLE", Unavailable,
        "the machine's random source failed: try again";
    MethodUnknown, "METHOD_UNKNOWN", Unimplemented,
        "the server has no such method";
    CompressionUnsupported, "COMPRESSION_UNSUPPORTED", Unimplemented,
        "the message is compressed: send it uncompressed";
    Internal, "INTERNAL", Internal,
        "internal error: the service's log has details under the same id";
}

/// Kind of error. Each has one gRPC and one HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The caller did not authenticate.
    Unauthenticated,
    /// The caller or its acting user lacks permission.
    PermissionDenied,
    /// The request is invalid. A retry does not help.
    Invalid,
    /// The object does not exist, or the caller may not see it.
    NotFound,
    /// The object already exists.
    AlreadyExists,
    /// The object has changed meanwhile. The caller has to read it again.
    Aborted,
    /// The object is in a state that does not permit the call.
    FailedPrecondition,
    /// The service is misconfigured. The request is valid, but a retry fails until an operator has fixed the service.
    Misconfigured,
    /// The request exceeds a range: data that is no longer kept, or a message that is too large.
    OutOfRange,
    /// A limit is reached. A later retry may succeed.
    Exhausted,
    /// The deadline passed.
    DeadlineExceeded,
    /// The store or the server is temporarily unavailable. A retry may succeed.
    Unavailable,
    /// The server does not offer this. A newer or differently configured one may.
    Unimplemented,
    /// A bug in the service.
    Internal,
}

impl Kind {
    /// Whether the error is a refusal of the request, which the audit log records. Failures of the service, and calls
    /// whose outcome is pending, are not refusals.
    pub const fn is_refusal(self) -> bool {
        match self {
            Self::PermissionDenied
            | Self::Invalid
            | Self::NotFound
            | Self::AlreadyExists
            | Self::Aborted
            | Self::FailedPrecondition => true,
            Self::Unauthenticated
            | Self::Misconfigured
            | Self::Unimplemented
            | Self::OutOfRange
            | Self::Exhausted
            | Self::DeadlineExceeded
            | Self::Unavailable
            | Self::Internal => false,
        }
    }
}

/// An invalid field of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldViolation {
    /// The field's path in the request.
    pub field: String,
    /// What is wrong and what is allowed. Never repeats the value.
    pub description: String,
}

/// Error of a use case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceError {
    /// The error code.
    pub reason: Reason,
    /// All violations in the request. Empty unless the reason is [`Reason::ArgumentInvalid`], or
    /// [`Reason::RefusalPending`] of such a refusal.
    pub violations: Vec<FieldViolation>,
    /// Further details for programs, such as `permission`.
    pub metadata: Vec<(&'static str, String)>,
}

impl ServiceError {
    /// An error for invalid fields.
    pub fn invalid(violations: Vec<FieldViolation>) -> Self {
        Self { violations, ..Reason::ArgumentInvalid.into() }
    }

    /// Adds a detail for programs.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.metadata.push((key, value.into()));
        self
    }

    /// Returns this refusal as one whose wait for replicas ran out of time.
    pub(super) fn into_pending(self) -> Self {
        let refusal = self.reason.code();
        Self { reason: Reason::RefusalPending, ..self }.with(REFUSAL, refusal)
    }

    /// Returns why the call was refused, if the reason is [`Reason::RefusalPending`].
    pub fn refusal(&self) -> Option<Reason> {
        let (_, code) = self.metadata.iter().find(|(key, _)| *key == REFUSAL)?;
        Reason::ALL.iter().copied().find(|reason| reason.code() == code)
    }

    /// An internal error. The text of `fault` goes to the log. The caller receives only an id that finds the log line.
    pub fn internal(fault: &dyn fmt::Display) -> Self {
        static FAULTS: AtomicU64 = AtomicU64::new(1);
        let id = format!("{}-{}", std::process::id(), FAULTS.fetch_add(1, Ordering::Relaxed));
        tracing::error!(id, %fault, "internal error");
        Self::from(Reason::Internal).with("id", id)
    }
}

impl From<Reason> for ServiceError {
    fn from(reason: Reason) -> Self {
        Self { reason, violations: Vec::new(), metadata: Vec::new() }
    }
}

/// Returns the reason for a value that is taken. `None` if no use case can meet it, because it checks the value under a
/// lock or has just drawn it at random.
const fn conflict_reason(unique: Unique) -> Option<Reason> {
    match unique {
        Unique::CallerName => Some(Reason::CallerNameTaken),
        Unique::CallerCertificateSan => Some(Reason::CertificateTaken),
        Unique::WorkspaceId
        | Unique::WorkspaceSlug
        | Unique::UserId
        | Unique::CredentialId
        | Unique::CredentialDigest
        | Unique::CallerId
        | Unique::CallerDigest
        | Unique::CallerPreviousDigest => None,
    }
}

impl From<StoreError> for ServiceError {
    fn from(error: StoreError) -> Self {
        match error {
            // The outage is in the log already. A warning per request would flood it.
            StoreError::Unreachable(_) => {
                tracing::debug!(%error, "store away");
                Reason::StoreUnavailable.into()
            }
            StoreError::Unavailable(_) | StoreError::Pooler { .. } => {
                tracing::warn!(%error, "store unavailable");
                Reason::StoreUnavailable.into()
            }
            StoreError::DiskFull(_) => {
                tracing::error!(%error, "nothing can be written until there is room on the disk");
                Reason::StoreFull.into()
            }
            StoreError::Busy(_) => {
                tracing::warn!(%error, "store busy");
                Reason::StoreBusy.into()
            }
            StoreError::Denied(_) => {
                let why = error.cause();
                if StoreError::is_read_only(&why) {
                    tracing::error!(%error, "nothing can be written");
                } else {
                    tracing::error!(%error, "a right is missing");
                }
                Self::from(Reason::StoreDenied).with("why", why)
            }
            StoreError::Lost(_) => {
                tracing::error!(%error, "store lost");
                Reason::StoreLost.into()
            }
            StoreError::Conflict(unique) => match conflict_reason(unique) {
                Some(reason) => reason.into(),
                None => Self::internal(&error),
            },
            StoreError::Corrupt { .. }
            | StoreError::Missing(_)
            | StoreError::SchemaTooOld { .. }
            | StoreError::SchemaTooNew { .. }
            | StoreError::Unusable(_)
            | StoreError::InvalidLocation(_)
            | StoreError::RowsAffected { .. }
            | StoreError::Refused { .. } => Self::internal(&error),
        }
    }
}

impl From<RandomError> for ServiceError {
    fn from(_: RandomError) -> Self {
        Reason::RandomUnavailable.into()
    }
}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has_text = self.violations.is_empty() || self.reason == Reason::RefusalPending;
        if has_text {
            f.write_str(self.reason.text())?;
        }
        for (i, violation) in self.violations.iter().enumerate() {
            let separator = if i == 0 && !has_text { "" } else { "; " };
            write!(f, "{separator}{}: {}", violation.field, violation.description)?;
        }
        for (key, value) in &self.metadata {
            write!(f, " ({key}: {value})")?;
        }
        Ok(())
    }
}

impl std::error::Error for ServiceError {}

#[cfg(test)]
mod tests {
    use super::Reason;
    use crate::model::limits::SLUG_RESERVATION;

    #[test]
    fn the_texts_state_how_long_a_slug_stays_reserved() {
        let days = format!("within the last {} days", SLUG_RESERVATION.as_secs() / 86_400);
        for reason in [Reason::SlugTaken, Reason::WorkspaceIdTaken] {
            assert!(reason.text().contains(&days), "{reason:?}: {days}");
        }
    }
}
