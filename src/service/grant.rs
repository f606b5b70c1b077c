//! Which permissions let a caller call an RPC. Where that depends on the message, the table of RPCs (`rpcs.rs`) lists the
//! same grants that the use cases ask here.

use super::{Context, Reason, Result, ServiceError, Violations};
use crate::model::Permission::{
    self, CredentialsAdmin, CredentialsRead, CredentialsWrite, Introspect,
};
use crate::model::{PermissionSet, UserId};

/// Who may call an RPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Anybody: health and reflection.
    Open,
    /// A caller with one of these permissions, whatever its message says.
    AnyOf(&'static [Permission]),
    /// A caller with one of these permissions, that holds besides what the call would give away: the permissions that
    /// its message names, or those of the caller whose token it is to be shown.
    AnyOfAndHeld(&'static [Permission]),
    /// It depends on the message. A caller that could not call it with any message is refused before its message is
    /// read; of the others the use case asks the grant of the case.
    ByMessage(&'static [Case]),
}

/// Messages of one kind, and who may send them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case {
    /// What such a message names.
    pub names: &'static str,
    /// Who may send it.
    pub grant: Grant,
}

impl Rule {
    /// The permissions of which a caller must have one to be let in at all.
    pub fn any_of(self) -> PermissionSet {
        match self {
            Self::Open => PermissionSet::default(),
            Self::AnyOf(any) | Self::AnyOfAndHeld(any) => any.iter().copied().collect(),
            Self::ByMessage(cases) => {
                let grants = cases.iter().map(|case| case.grant);
                grants.flat_map(|grant| grant.alone.iter().chain(grant.acting)).copied().collect()
            }
        }
    }
}

/// Who may ask for something: a caller with one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// Where no acting user is named: as the system itself.
    pub alone: &'static [Permission],
    /// On behalf of an acting user. Whether that user may, the policy says.
    pub acting: &'static [Permission],
}

/// To make and change credentials, and to end one by its id.
pub const MANAGE: Grant =
    Grant { alone: &[CredentialsAdmin], acting: &[CredentialsWrite, CredentialsAdmin] };
/// To read them.
pub const READ: Grant = Grant {
    alone: &[CredentialsRead, CredentialsAdmin],
    acting: &[CredentialsRead, CredentialsWrite, CredentialsAdmin],
};
/// To end one by its token: who holds the text may end it, and need say for nobody that they do.
pub const REVOKE_BY_TOKEN: Grant = Grant {
    alone: &[Introspect, CredentialsWrite, CredentialsAdmin],
    acting: &[Introspect, CredentialsWrite, CredentialsAdmin],
};

impl Grant {
    /// On whose behalf; nothing: the system's. Whether there is such a user, the use case asks the store.
    ///
    /// # Errors
    /// [`Reason::ActingUserRequired`] if the requester could ask for it on somebody's behalf only,
    /// [`Reason::PermissionMissing`] if not even that.
    pub(super) fn acting_user(self, context: &Context, id: &str) -> Result<Option<UserId>> {
        let permits = |any: &[Permission]| any.iter().any(|one| context.permits(*one));
        if !permits(if id.is_empty() { self.alone } else { self.acting }) {
            return Err(if permits(self.acting) {
                Reason::ActingUserRequired.into()
            } else {
                permission_missing(self.acting.iter().copied().collect())
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

/// That one of these is needed.
pub fn permission_missing(any: PermissionSet) -> ServiceError {
    let names: Vec<_> = any.iter().map(Permission::as_str).collect();
    ServiceError::from(Reason::PermissionMissing).with("permission", names.join(" or "))
}
