//! What a caller can do about a failure: one enum, one table. `grpc/status.rs` and `http/problem.rs` put it on the wire.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::store::StoreError;
use crate::token::RandomError;

/// Declares each reason once: its name on the wire, what kind of failure it is, and its text.
macro_rules! reasons {
    ($($variant:ident, $code:literal, $kind:ident, $text:literal;)*) => {
        /// Why a call failed, in a word that programs can go by: `google.rpc.ErrorInfo.reason`, domain `auth.sophic.so`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[expect(clippy::doc_markdown, reason = "the texts are read by callers, not only here")]
        pub enum Reason {
            $(#[doc = $text] $variant,)*
        }

        impl Reason {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The word.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// The kind of failure.
            pub const fn kind(self) -> Kind {
                match self { $(Self::$variant => Kind::$kind,)* }
            }

            /// What happened and what to do about it.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

reasons! {
    CallerMissing, "CALLER_MISSING", Unauthenticated,
        "no caller: send 'authorization: Bearer sophic_svc_...' once, or use a client certificate";
    CallerUnknown, "CALLER_UNKNOWN", Unauthenticated,
        "the service token or client certificate is not that of a caller";
    PermissionMissing, "PERMISSION_MISSING", PermissionDenied,
        "the caller lacks a permission for this call";
    PermissionNotHeld, "PERMISSION_NOT_HELD", PermissionDenied,
        "a caller can grant no permission that it does not hold itself";
    ActingUserRequired, "ACTING_USER_REQUIRED", PermissionDenied,
        "without credentials.admin an acting_user is required";
    ActingUserNotActive, "ACTING_USER_NOT_ACTIVE", PermissionDenied,
        "the acting user does not exist or is disabled";
    RoleTooLow, "ROLE_TOO_LOW", PermissionDenied,
        "the acting user must be an admin or owner of the workspace";
    ArgumentInvalid, "ARGUMENT_INVALID", Invalid,
        "the request has fields that are not as they must be";
    RequestMalformed, "REQUEST_MALFORMED", Invalid,
        "the request is not well formed";
    CredentialNotFound, "CREDENTIAL_NOT_FOUND", NotFound,
        "no such credential, or none that may be seen";
    WorkspaceNotFound, "WORKSPACE_NOT_FOUND", NotFound,
        "no such workspace, or none that may be seen";
    UserNotFound, "USER_NOT_FOUND", NotFound,
        "no such user, or none that may be seen";
    MembershipNotFound, "MEMBERSHIP_NOT_FOUND", NotFound,
        "the user is not a member of the workspace";
    CallerNotFound, "CALLER_NOT_FOUND", NotFound,
        "no such caller";
    SlugTaken, "SLUG_TAKEN", AlreadyExists,
        "the slug is another workspace's slug or id, or was until less than 30 days ago";
    WorkspaceIdTaken, "WORKSPACE_ID_TAKEN", AlreadyExists,
        "the id is another workspace's slug, or was until less than 30 days ago";
    CallerNameTaken, "CALLER_NAME_TAKEN", AlreadyExists,
        "there is a caller of this name";
    CallerRevoked, "CALLER_REVOKED", FailedPrecondition,
        "the caller is revoked for good: make another";
    CallerHasNoToken, "CALLER_HAS_NO_TOKEN", FailedPrecondition,
        "the caller is known by its certificate: there is no service token to rotate";
    CertificateTaken, "CERTIFICATE_TAKEN", AlreadyExists,
        "there is a caller with this certificate_san";
    RequestReplayed, "REQUEST_REPLAYED", AlreadyExists,
        "the request of this id is done, and its token cannot be shown again: rotate it once more";
    EtagMismatch, "ETAG_MISMATCH", Aborted,
        "the credential has changed since its etag was read: read it again";
    CredentialRevoked, "CREDENTIAL_REVOKED", FailedPrecondition,
        "the credential is revoked for good";
    CredentialExpired, "CREDENTIAL_EXPIRED", FailedPrecondition,
        "the credential has expired: make a new one";
    AlreadyRotated, "ALREADY_ROTATED", FailedPrecondition,
        "the credential has a live successor: rotate that one, or revoke it first";
    CredentialsMaxReached, "CREDENTIALS_MAX_REACHED", FailedPrecondition,
        "there are as many live credentials as the policy allows: revoke one first";
    WorkspaceDisabled, "WORKSPACE_DISABLED", FailedPrecondition,
        "the workspace is disabled: enable it first";
    UserDisabled, "USER_DISABLED", FailedPrecondition,
        "the user is disabled: enable them first";
    ClocksDisagree, "CLOCKS_DISAGREE", FailedPrecondition,
        "this machine's clock and the store disagree on the time, so nothing is deleted: put the clock right";
    Overloaded, "OVERLOADED", Exhausted,
        "too many requests are under way, of all callers or of this one: try again later";
    DeadlineExceeded, "DEADLINE_EXCEEDED", DeadlineExceeded,
        "the deadline passed before the answer was there";
    CursorTooOld, "CURSOR_TOO_OLD", OutOfRange,
        "the cursor is of too long ago: drop what is cached, and watch from now on, without a cursor";
    WatcherTooSlow, "WATCHER_TOO_SLOW", OutOfRange,
        "the stream was read too slowly, and what comes next is no longer kept: drop what is cached, and watch anew";
    MessageTooLarge, "MESSAGE_TOO_LARGE", OutOfRange,
        "the message is larger than this call takes";
    UnknownTokensTooMany, "UNKNOWN_TOKENS_TOO_MANY", Exhausted,
        "too many tokens that nobody knows, or with one token too many workspaces where it has no role: what is not in memory is not looked up for a moment";
    UnknownCallersTooMany, "UNKNOWN_CALLERS_TOO_MANY", Exhausted,
        "too many service tokens that nobody knows come from this address: what is not in memory is not looked up for a moment";
    Stopping, "STOPPING", Unavailable,
        "the server is stopping: connect again";
    BarrierPending, "BARRIER_PENDING", DeadlineExceeded,
        "committed, but not every replica has confirmed it yet: ask again to wait on";
    StoreUnavailable, "STORE_UNAVAILABLE", Unavailable,
        "the store is out of reach: try again";
    StoreFull, "STORE_FULL", Unavailable,
        "the store's disk is full, so nothing was changed: it takes changes again once there is room";
    StoreBusy, "STORE_BUSY", Unavailable,
        "another change held the store for too long: try again";
    StoreLost, "STORE_LOST", Unavailable,
        "the store is damaged, gone or another one: an operator has to put it right";
    StoreDenied, "STORE_DENIED", Misconfigured,
        "the store does not let the service do this: an operator has to give its role the right, or let it write";
    RevisionNotReached, "REVISION_NOT_REACHED", Unavailable,
        "at_least_revision is not reached yet: try again";
    RandomUnavailable, "RANDOM_UNAVAILABLE", Unavailable,
        "the machine's random source failed: try again";
    Internal, "INTERNAL", Internal,
        "a fault of the service: its log has more under the same id";
}

/// The kinds of failure, each with its own status on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The caller did not prove who it is.
    Unauthenticated,
    /// The caller, or the user it acts for, may not.
    PermissionDenied,
    /// What was sent is wrong; sending it again is no use.
    Invalid,
    /// It is not there, or may not be seen.
    NotFound,
    /// It is there already.
    AlreadyExists,
    /// It has changed meanwhile; read it again.
    Aborted,
    /// Something else has to be done first.
    FailedPrecondition,
    /// The service has to be put right first; nothing is wrong with the call, and sending it again is no use until then.
    Misconfigured,
    /// What is asked for is no longer kept.
    OutOfRange,
    /// Too much at once; try again later.
    Exhausted,
    /// Too late.
    DeadlineExceeded,
    /// Out of reach for now; try again.
    Unavailable,
    /// A fault of the service.
    Internal,
}

impl Kind {
    /// Whether the call was refused for what it is or asks, which the audit log records; what failed by itself, or is
    /// still under way, was not refused.
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
            | Self::OutOfRange
            | Self::Exhausted
            | Self::DeadlineExceeded
            | Self::Unavailable
            | Self::Internal => false,
        }
    }
}

/// A field that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldViolation {
    /// The field's path in the request.
    pub field: String,
    /// What is wrong and what is allowed. Never repeats the value.
    pub description: String,
}

/// A failure of a use case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceError {
    /// Why.
    pub reason: Reason,
    /// With [`Reason::ArgumentInvalid`]: all that is wrong with the request.
    pub violations: Vec<FieldViolation>,
    /// More for programs, as `permission`.
    pub metadata: Vec<(&'static str, String)>,
}

impl ServiceError {
    /// Fields that are not as they must be.
    pub fn invalid(violations: Vec<FieldViolation>) -> Self {
        Self { violations, ..Reason::ArgumentInvalid.into() }
    }

    /// The same, with one more thing for programs to know.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.metadata.push((key, value.into()));
        self
    }

    /// A fault of ours: its text goes to the log, and only an id to the caller.
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

impl From<StoreError> for ServiceError {
    fn from(error: StoreError) -> Self {
        match error {
            // Of an outage that is known the log has told, and a line for each request would bury the rest.
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
                tracing::error!(%error, "a right is missing");
                Self::from(Reason::StoreDenied).with("why", error.cause())
            }
            StoreError::Lost(_) => {
                tracing::error!(%error, "store lost");
                Reason::StoreLost.into()
            }
            StoreError::Conflict(_)
            | StoreError::Corrupt { .. }
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
        if self.violations.is_empty() {
            f.write_str(self.reason.text())?;
        }
        for (i, violation) in self.violations.iter().enumerate() {
            let separator = if i == 0 { "" } else { "; " };
            write!(f, "{separator}{}: {}", violation.field, violation.description)?;
        }
        for (key, value) in &self.metadata {
            write!(f, " ({key}: {value})")?;
        }
        Ok(())
    }
}

impl std::error::Error for ServiceError {}
