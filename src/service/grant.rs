//! Permissions that an RPC requires of its caller. Where they depend on the message, the table of RPCs (`rpcs.rs`)
//! lists the same grants that the use cases check.

use super::{Context, Reason, Result, ServiceError, Violations};
use crate::model::Permission::{
    self, AuditRead, CredentialsAdmin, CredentialsRead, CredentialsWrite, Introspect,
};
use crate::model::{PermissionSet, UserId};

/// The callers that may call an RPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Anyone, without authentication: health and reflection.
    Open,
    /// A caller with one of these permissions. The message does not matter.
    AnyOf(&'static [Permission]),
    /// A caller with one of these permissions, and with every permission that the call would grant: those that the
    /// message names, or those of the caller whose new token the call returns.
    AnyOfAndHeld(&'static [Permission]),
    /// Depends on the message. A caller that could not send any valid message is refused before its message is read.
    /// For the others, the use case checks the grant of the message's case.
    ByMessage(&'static [Case]),
}

/// One form of an RPC's message, and the callers that may send it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case {
    /// The field that such a message sets. Empty if the RPC has only one form.
    pub names: &'static str,
    /// The callers that may send it.
    pub grant: Grant,
}

impl Rule {
    /// The permissions of which a caller needs at least one for any message.
    pub fn any_of(self) -> PermissionSet {
        match self {
            Self::Open => PermissionSet::default(),
            Self::AnyOf(any) | Self::AnyOfAndHeld(any) => any.iter().copied().collect(),
            Self::ByMessage(cases) => {
                let grants = cases.iter().map(|case| case.grant);
                grants
                    .flat_map(|grant| {
                        grant.without_acting_user.iter().chain(grant.with_acting_user)
                    })
                    .copied()
                    .collect()
            }
        }
    }
}

/// Permissions for an operation, of which a caller needs one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// Without an acting user: the caller acts as the system.
    pub without_acting_user: &'static [Permission],
    /// On behalf of an acting user. The policy decides whether that user may do it.
    pub with_acting_user: &'static [Permission],
}

/// Grant to create and change credentials, and to revoke one by its id.
pub const MANAGE: Grant = Grant {
    without_acting_user: &[CredentialsAdmin],
    with_acting_user: &[CredentialsWrite, CredentialsAdmin],
};
/// Grant to read credentials.
pub const READ: Grant = Grant {
    without_acting_user: &[CredentialsRead, CredentialsAdmin],
    with_acting_user: &[CredentialsRead, CredentialsWrite, CredentialsAdmin],
};
/// Grant to read the audit log.
pub const READ_AUDIT: Grant = Grant {
    without_acting_user: &[AuditRead],
    with_acting_user: &[AuditRead, CredentialsRead, CredentialsWrite, CredentialsAdmin],
};
/// Grant to revoke a credential by its token. Possession of the token suffices, so no acting user is needed.
pub const REVOKE_BY_TOKEN: Grant = Grant {
    without_acting_user: &[Introspect, CredentialsWrite, CredentialsAdmin],
    with_acting_user: &[Introspect, CredentialsWrite, CredentialsAdmin],
};

impl Grant {
    /// Checks the requester's permissions and returns the acting user. `None` means the system. The use case checks in
    /// the store whether the user exists.
    ///
    /// # Errors
    /// [`Reason::ActingUserRequired`] if the requester needs an acting user for this, [`Reason::PermissionMissing`] if
    /// it may not do this at all.
    pub(super) fn acting_user(self, context: &Context, id: &str) -> Result<Option<UserId>> {
        let permits = |any: &[Permission]| any.iter().any(|one| context.permits(*one));
        if !permits(if id.is_empty() { self.without_acting_user } else { self.with_acting_user }) {
            return Err(if permits(self.with_acting_user) {
                Reason::ActingUserRequired.into()
            } else {
                permission_missing(self.with_acting_user.iter().copied().collect())
            });
        }
        if id.is_empty() {
            return Ok(None);
        }
        let mut violations = Violations::default();
        let id = violations.check("acting_user", UserId::parse(id));
        violations.finish().map(|()| id)
    }
}

/// The error of a caller that has none of these permissions.
pub fn permission_missing(any: PermissionSet) -> ServiceError {
    let names: Vec<_> = any.iter().map(Permission::as_str).collect();
    ServiceError::from(Reason::PermissionMissing).with("permission", names.join(" or "))
}
