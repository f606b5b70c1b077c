//! What an acting user may do with credentials (DESIGN §5): keys of a workspace belong to its admins and owners,
//! personal access tokens to their own user and nobody else. Pure. What credentials may be like is in `limits.rs`.

mod limits;

#[cfg(test)]
mod tests;

pub use limits::{Contradiction, Limits, Policy, Rules};

use crate::model::{Credential, CredentialKind, Owner, Role, UserId};

/// What an acting user gets to hear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Go ahead.
    Allowed,
    /// They know that it is there, and may not do this.
    Forbidden,
    /// They may not even know that it is there: the same answer as if it were not.
    Hidden,
}

/// Making or listing the keys of a workspace in which the acting user has this role, if any.
pub fn keys_of_workspace(role: Option<Role>) -> Access {
    match role {
        Some(Role::Admin | Role::Owner) => Access::Allowed,
        Some(Role::Viewer | Role::Member) => Access::Forbidden,
        None => Access::Hidden,
    }
}

/// Making or listing the personal access tokens of this user.
pub fn pats_of_user(acting_user: &UserId, owner: &UserId) -> Access {
    if acting_user == owner { Access::Allowed } else { Access::Hidden }
}

/// Seeing, changing or ending this credential; `role` is the acting user's in the key's workspace, if any.
///
/// A credential that they may not manage they may not see either, so it is never [`Access::Forbidden`].
pub fn credential(acting_user: &UserId, credential: &Credential, role: Option<Role>) -> Access {
    let access = match (credential.kind, &credential.owner) {
        (CredentialKind::Key, Owner::Workspace(_)) => keys_of_workspace(role),
        (CredentialKind::Pat, Owner::User { id, .. }) => pats_of_user(acting_user, id),
        // There is no such credential: no store reads one.
        (CredentialKind::Key, Owner::User { .. }) | (CredentialKind::Pat, Owner::Workspace(_)) => {
            Access::Hidden
        }
    };
    if access == Access::Allowed { Access::Allowed } else { Access::Hidden }
}
