//! Which credentials an acting user may manage (`docs/api.md`): admins and owners manage the keys of their workspace,
//! users manage their own personal access tokens, and owners bar those of others from their workspace. Pure. The limits on
//! credentials are in `limits.rs`.

mod limits;

#[cfg(test)]
mod tests;

pub use limits::{CredentialLimits, EffectivePolicy, Policy, PolicyConflict};

use crate::model::{Credential, CredentialKind, Owner, Role, UserId};

/// Whether an acting user has access, and what a refusal may reveal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessOutcome {
    /// The user may do this.
    Allowed,
    /// The user may know that the object exists, but may not do this.
    Forbidden,
    /// The user may not know that the object exists. The answer is the same as if it did not.
    Hidden,
}

/// Returns the access to create and list keys of a workspace in which the acting user has this role, if any.
pub fn access_to_workspace_keys(role: Option<Role>) -> AccessOutcome {
    match role {
        Some(Role::Admin | Role::Owner) => AccessOutcome::Allowed,
        Some(Role::Viewer | Role::Member) => AccessOutcome::Forbidden,
        None => AccessOutcome::Hidden,
    }
}

/// Returns the access to read the audit events about a workspace in which the acting user has this role, if any.
pub fn access_to_workspace_audit(role: Option<Role>) -> AccessOutcome {
    access_of_owners(role)
}

/// Returns the access to list and bar the personal access tokens that have acted in a workspace in which the acting user
/// has this role, if any.
pub fn access_to_workspace_pats(role: Option<Role>) -> AccessOutcome {
    access_of_owners(role)
}

/// Returns the access to what only the owners of a workspace may do.
fn access_of_owners(role: Option<Role>) -> AccessOutcome {
    match role {
        Some(Role::Owner) => AccessOutcome::Allowed,
        Some(Role::Viewer | Role::Member | Role::Admin) => AccessOutcome::Forbidden,
        None => AccessOutcome::Hidden,
    }
}

/// Returns the access to create and list personal access tokens of `owner`.
pub fn access_to_user_pats(acting_user: &UserId, owner: &UserId) -> AccessOutcome {
    if acting_user == owner { AccessOutcome::Allowed } else { AccessOutcome::Hidden }
}

/// Returns the access to see, change and revoke this credential. `role` is the acting user's role in the workspace of a
/// key, if any. `generation` is the present one of the owner: the credentials of an earlier owner with the same id are
/// nobody's.
///
/// A credential that a user may not manage is hidden, so the result is never [`AccessOutcome::Forbidden`].
pub fn access_to_credential(
    acting_user: &UserId,
    credential: &Credential,
    role: Option<Role>,
    generation: i64,
) -> AccessOutcome {
    if credential.generation < generation {
        return AccessOutcome::Hidden;
    }
    let access = match (credential.kind, &credential.owner) {
        (CredentialKind::Key, Owner::Workspace(_)) => access_to_workspace_keys(role),
        (CredentialKind::Pat, Owner::User { id, .. }) => access_to_user_pats(acting_user, id),
        // Such a credential cannot exist: the store refuses to read one.
        (CredentialKind::Key, Owner::User { .. }) | (CredentialKind::Pat, Owner::Workspace(_)) => {
            AccessOutcome::Hidden
        }
    };
    if access == AccessOutcome::Allowed { AccessOutcome::Allowed } else { AccessOutcome::Hidden }
}
