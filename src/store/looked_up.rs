//! What a look-up gives.

use crate::model::{Credential, Revision, Role, User, Workspace, WorkspaceId};

/// All that an introspection is decided by, of one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookedUp {
    /// The revision that all of it is of.
    pub revision: Revision,
    /// What the digest is of, if anything.
    pub found: Option<Found>,
}

/// A credential and what it is decided by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The credential. Its `revoke_time` is its own: what its owner's watermark revokes is not in it.
    pub credential: Credential,
    /// Whose it is, deleted or not.
    pub principal: FoundPrincipal,
    /// For a personal access token: the workspace of the name asked for, if there is one that is not deleted.
    pub named_workspace: Option<Workspace>,
}

/// Whose a credential is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FoundPrincipal {
    /// A workspace's.
    Workspace(Workspace),
    /// A user's, with all their roles, by workspace.
    User(User, Vec<(WorkspaceId, Role)>),
}
