//! What an introspection is decided by, shared with the mirror instead of copied out of it.

use std::sync::Arc;

use super::CredentialFacts;
use super::clock_map::Keyed;
use crate::model::{Digest, Revision, Role, User, UserId, Workspace, WorkspaceId};
use crate::store::{Found, FoundPrincipal, LookedUp};

/// All that an introspection is decided by.
#[derive(Debug, Clone)]
pub struct Facts {
    /// A revision that none of it is older than.
    pub revision: Revision,
    /// What the digest is of, if anything.
    pub found: Option<FoundFacts>,
    /// Whether the store was out of reach, and this is what was last known.
    pub stale: bool,
}

/// A credential and what it is decided by.
#[derive(Debug, Clone)]
pub struct FoundFacts {
    /// The credential.
    pub credential: Arc<CredentialFacts>,
    /// Whose it is, deleted or not.
    pub principal: PrincipalFacts,
    /// For a personal access token: the workspace of the name asked for, if there is one that is not deleted.
    pub named_workspace: Option<Arc<Workspace>>,
}

/// Whose a credential is.
#[derive(Debug, Clone)]
pub enum PrincipalFacts {
    /// A workspace's.
    Workspace(Arc<Workspace>),
    /// A user's.
    User(Arc<UserFacts>),
}

/// A user with all their roles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserFacts {
    /// The user.
    pub user: User,
    /// By workspace, in the order of their ids.
    pub roles: Box<[(WorkspaceId, Role)]>,
}

impl UserFacts {
    /// The user's role in a workspace, if they are a member.
    pub fn role_in(&self, workspace: &WorkspaceId) -> Option<Role> {
        // Few belong to many workspaces, and a search needs no order to be right.
        self.roles.iter().find(|(id, _)| id == workspace).map(|(_, role)| *role)
    }
}

impl Facts {
    /// What was looked up by this digest.
    pub fn of(digest: Digest, looked_up: LookedUp) -> Self {
        let found = looked_up.found.map(|found| FoundFacts::of(digest, found));
        Self { revision: looked_up.revision, found, stale: false }
    }
}

impl FoundFacts {
    fn of(digest: Digest, found: Found) -> Self {
        Self {
            credential: Arc::new(CredentialFacts::new(digest, &found.credential)),
            principal: match found.principal {
                FoundPrincipal::Workspace(workspace) => {
                    PrincipalFacts::Workspace(Arc::new(workspace))
                }
                FoundPrincipal::User(user, roles) => {
                    PrincipalFacts::User(Arc::new(UserFacts { user, roles: roles.into() }))
                }
            },
            named_workspace: found.named_workspace.map(Arc::new),
        }
    }
}

impl Keyed for UserFacts {
    type Key = UserId;

    fn key(&self) -> &UserId {
        &self.user.id
    }
}

impl Keyed for Workspace {
    type Key = WorkspaceId;

    fn key(&self) -> &WorkspaceId {
        &self.id
    }
}
